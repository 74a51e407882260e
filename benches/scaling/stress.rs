//! A million keys while a writer commits without pause, among idle and slow connections, and with wrong codes.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keyward::bench::generator::Measured;
use keyward::bench::process::resident_bytes;
use keyward::bench::questions::Mix;
use keyward::bench::world::Sizes;
use keyward_proto::admin::{AdminReply, AdminRequest, CredentialPatch, Patch};
use keyward_proto::query::Mode;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Options;
use crate::keyward_server::Keyward;
use crate::results::{Table, median};
use crate::server::{Subject, hold_client};
use crate::sizes::plan;
use crate::support::{Home, say, wait_until};

const KEYS: u64 = 1_000_000;
const REQUESTS: usize = 1_000_000;
const IDLE: usize = 10_000;
const SLOW: usize = 1_000;
/// A slow connection sends a byte so often.
const TRICKLE: Duration = Duration::from_secs(1);
/// What it sends first: the length of a frame that it will not finish before its deadline.
const SLOW_FRAME: [u8; 4] = [0, 0, 0, 200];
/// Descriptors of the crowd and of all else here.
const DESCRIPTORS: u64 = 12_000;

const WRONG_CODES: Mix = Mix { allowed: 10, refused: 0, wrong_code: 90, unknown: 0 };

/// What the questions run beside.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Writer,
    Crowd,
    WrongCodes,
}

impl Beside {
    const ALL: [Self; 4] = [Self::Nothing, Self::Writer, Self::Crowd, Self::WrongCodes];

    const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Writer => "a writer that commits without pause",
            Self::Crowd => "10,000 idle connections and 1,000 that send a byte a second",
            Self::WrongCodes => "nothing, but 90 % wrong codes",
        }
    }
}

pub fn measure(options: &Options, targets: &mut Table) -> Table {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard).unwrap();
    let keys = KEYS.min(options.keys);
    say(&format!("{keys} keys under stress"));
    let home = Home::new();
    let keyward = Keyward::start(&home, Sizes::of_keys(keys));
    let idle_bytes = idle_connection_bytes(&keyward);
    targets.row(&["10", "resident bytes an idle connection", &format!("{idle_bytes:.0} B"), "≤ 8192 B"]);
    let mut right = keyward.subject(REQUESTS);
    let mut wrong = keyward.subject_of(WRONG_CODES, REQUESTS);
    let mut table =
        Table::new(&["beside", "connections x depth", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "commits/s"]);
    for (depth, row) in [(1, "9"), (16, "8")] {
        let rounds: Vec<[(Measured, f64); 4]> = (0..options.repeats)
            .map(|_| Beside::ALL.map(|beside| one(beside, &keyward, &mut right, &mut wrong, depth, options.seconds)))
            .collect();
        add_rows(&rounds, depth, &mut table);
        add_targets(&rounds, depth, row, targets);
    }
    table
}

fn one(
    beside: Beside,
    keyward: &Keyward<'_>,
    right: &mut Subject,
    wrong: &mut Subject,
    depth: usize,
    seconds: f64,
) -> (Measured, f64) {
    let plan = plan(64, depth, seconds);
    match beside {
        Beside::Nothing => {
            let _held = hold_client(false);
            (right.measure(plan), 0.0)
        }
        Beside::WrongCodes => {
            let _held = hold_client(false);
            (wrong.measure(plan), 0.0)
        }
        Beside::Writer => beside_a_writer(keyward.home(), || {
            let _held = hold_client(false);
            right.measure(plan)
        }),
        Beside::Crowd => {
            let measured = in_a_crowd(keyward.home(), || {
                let _held = hold_client(false);
                right.measure(plan)
            });
            (measured, 0.0)
        }
    }
}

/// Sets labels one after the other as long as `work` runs; with it the commits a second.
fn beside_a_writer(home: &Home, work: impl FnOnce() -> Measured) -> (Measured, f64) {
    let (over, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut admin = home.admin();
            while !over.load(Ordering::Relaxed) {
                let number = commits.fetch_add(1, Ordering::Relaxed);
                let patch = CredentialPatch {
                    label: Some(format!("label {number}")),
                    ..CredentialPatch::new(Mode::Key, Some(1 + number % 997))
                };
                let reply = admin.call(&AdminRequest::Set(Patch::Credential(patch))).unwrap();
                assert!(matches!(reply, AdminReply::Done(_)));
            }
        });
        let before = commits.load(Ordering::Relaxed);
        let began = std::time::Instant::now();
        let measured = work();
        let per_second = (commits.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        (measured, per_second)
    })
}

fn connections(socket: &Path, count: usize) -> Vec<UnixStream> {
    (0..count).map(|_| UnixStream::connect(socket).unwrap()).collect()
}

fn open_connections(home: &Home) -> u64 {
    let reply = home.admin().call(&AdminRequest::Status).unwrap();
    let AdminReply::Status(status) = reply else { unreachable!("the status was asked for") };
    status.query_connections
}

/// With idle and slow connections open as long as `work` runs. A slow one that the daemon has closed comes again.
fn in_a_crowd(home: &Home, work: impl FnOnce() -> Measured) -> Measured {
    let socket = home.runtime().join("query.sock");
    let idle = connections(&socket, IDLE);
    let slow = connections(&socket, SLOW);
    wait_until("all have been let in", || open_connections(home) >= (IDLE + SLOW) as u64);
    let over = AtomicBool::new(false);
    let measured = std::thread::scope(|scope| {
        scope.spawn(|| trickle(&socket, slow, &over));
        let measured = work();
        over.store(true, Ordering::Relaxed);
        measured
    });
    drop(idle);
    // Their going is not to be measured with what follows.
    wait_until("all have gone", || open_connections(home) < SLOW as u64);
    measured
}

fn trickle(socket: &Path, mut slow: Vec<UnixStream>, over: &AtomicBool) {
    // All of a second's bytes at once would be a burst, no trickle.
    let pause = TRICKLE / u32::try_from(SLOW).unwrap();
    let mut sent = vec![0; SLOW];
    for at in (0..SLOW).cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let byte = SLOW_FRAME.get(sent[at]).copied().unwrap_or(0);
        sent[at] += 1;
        if slow[at].write_all(&[byte]).is_err() {
            slow[at] = UnixStream::connect(socket).unwrap();
            sent[at] = 0;
        }
        std::thread::sleep(pause);
    }
}

fn idle_connection_bytes(keyward: &Keyward<'_>) -> f64 {
    let socket = keyward.home().runtime().join("query.sock");
    let resident = || resident_bytes(keyward.pid()).unwrap();
    let before = resident();
    let idle = connections(&socket, IDLE);
    wait_until("all have been let in", || open_connections(keyward.home()) >= IDLE as u64);
    let grown = resident().saturating_sub(before);
    drop(idle);
    wait_until("all have gone", || open_connections(keyward.home()) == 0);
    grown as f64 / IDLE as f64
}

fn medians(rounds: &[[(Measured, f64); 4]], column: usize, of: impl Fn(&Measured) -> f64) -> f64 {
    median(rounds.iter().map(|round| of(&round[column].0)).collect())
}

fn latency(measured: &Measured, quantile: f64) -> f64 {
    measured.latency.value_at_quantile(quantile) as f64 / 1e3
}

fn add_rows(rounds: &[[(Measured, f64); 4]], depth: usize, table: &mut Table) {
    for (column, beside) in Beside::ALL.into_iter().enumerate() {
        let commits = median(rounds.iter().map(|round| round[column].1).collect());
        table.row(&[
            beside.words(),
            &format!("64x{depth}"),
            &format!("{:.0}", medians(rounds, column, Measured::per_second)),
            &format!("{:.1}", medians(rounds, column, |m| latency(m, 0.5))),
            &format!("{:.1}", medians(rounds, column, |m| latency(m, 0.99))),
            &format!("{:.1}", medians(rounds, column, |m| latency(m, 0.999))),
            &format!("{commits:.0}"),
        ]);
    }
}

/// The median of the rounds' ratios to the first column.
fn ratio(rounds: &[[(Measured, f64); 4]], column: usize, of: impl Fn(&Measured) -> f64) -> String {
    format!("{:.2}", median(rounds.iter().map(|round| of(&round[column].0) / of(&round[0].0)).collect()))
}

fn add_targets(rounds: &[[(Measured, f64); 4]], depth: usize, row: &str, targets: &mut Table) {
    let words = |what: &str| format!("{what}, 64x{depth}");
    let bound = |ours: &str, bound: &'static str| if row == ours { bound } else { "" };
    let rate = ratio(rounds, 1, Measured::per_second);
    targets.row(&[bound("8", "8"), &words("requests/s beside a writer against none"), &rate, bound("8", "≥ 0.9")]);
    let crowd = ratio(rounds, 2, |m| latency(m, 0.99));
    targets.row(&[bound("9", "9"), &words("p99 in a crowd against none"), &crowd, bound("9", "≤ 1.3")]);
    let wrong = ratio(rounds, 3, |m| latency(m, 0.99));
    targets.row(&[bound("9", "9"), &words("p99 with 90 % wrong codes against none"), &wrong, bound("9", "≤ 1.1")]);
}
