//! Opening sessions against the disk's own rate, and questions while a hundred thousand expired ones are removed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyward::bench::generator::Measured;
use keyward::bench::world::Sizes;
use keyward_proto::admin::{AdminReply, AdminRequest, CredentialPatch, Patch, Secret};
use keyward_proto::query::Mode;

use crate::Options;
use crate::keyward_server::{Keyward, loaded};
use crate::results::{Table, median};
use crate::server::{Subject, hold_client};
use crate::sizes::plan;
use crate::support::{Home, say, wait_until};
use crate::writes::syncs_per_second;

const KEYS: u64 = 100_000;
const REQUESTS: usize = 100_000;
const EXPIRED: u64 = 100_000;
const CALLERS: [usize; 3] = [1, 16, 100];
/// What is loaded must not expire before the idle run is over.
const LEAD_SECONDS: u64 = 15;

pub fn measure(options: &Options, targets: &mut Table) -> [Table; 2] {
    [opens(options, targets), sweeps(options, targets)]
}

fn opens(options: &Options, targets: &mut Table) -> Table {
    say("opening sessions");
    let home = Home::new();
    let (_, daemon, _) = loaded(&home, Sizes::of_keys(KEYS.min(options.keys)));
    let mut table = Table::new(&["fdatasync/s", "callers", "session open/s", "against fdatasync"]);
    let mut rounds: Vec<(f64, [f64; 3])> = Vec::new();
    for _ in 0..options.repeats {
        let disk = syncs_per_second(&home.data(), options.seconds);
        rounds.push((disk, CALLERS.map(|callers| opens_per_second(&home, callers, options.seconds))));
    }
    daemon.stop();
    for (column, callers) in CALLERS.iter().enumerate() {
        let disk = median(rounds.iter().map(|round| round.0).collect());
        let rate = median(rounds.iter().map(|round| round.1[column]).collect());
        let ratio = median(rounds.iter().map(|round| round.1[column] / round.0).collect());
        table.row(&[&format!("{disk:.0}"), &callers.to_string(), &format!("{rate:.0}"), &format!("{ratio:.2}")]);
        if *callers == 16 {
            targets.row(&["", "session open/s, 16 callers", &format!("{rate:.0}"), "≥ 1,000 sustained"]);
        }
    }
    table
}

fn opens_per_second(home: &Home, callers: usize, seconds: f64) -> f64 {
    let opened = AtomicU64::new(0);
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                let mut client = home.admin();
                while Instant::now() < end {
                    let expires_at = Some(Some(now() + 8 * 3600));
                    let patch =
                        CredentialPatch { agent: Some(1), expires_at, ..CredentialPatch::new(Mode::Session, None) };
                    let reply = client.call(&AdminRequest::Add(Patch::Credential(patch))).unwrap();
                    assert!(matches!(reply, AdminReply::Done(_)));
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    opened.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sessions(home: &Home) -> u64 {
    let reply = home.admin().call(&AdminRequest::Status).unwrap();
    let AdminReply::Status(status) = reply else { unreachable!("the status was asked for") };
    status.sessions
}

fn sweeps(options: &Options, targets: &mut Table) -> Table {
    say(&format!("{EXPIRED} sessions expire"));
    let home = Home::new();
    let (world, daemon, _) = loaded(&home, Sizes::of_keys(KEYS.min(options.keys)));
    daemon.stop();
    let keyward = Keyward::serving_with(&home, world, "workers = 1\nlog = \"warn\"\nkeep_expired = \"0s\"\n");
    let mut subject = keyward.subject(REQUESTS);
    let mut rounds = Vec::new();
    for round in 0..u64::from(options.repeats) {
        rounds.push(one_sweep(&home, &mut subject, round, options.seconds));
    }
    let mut table = Table::new(&["beside", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "sweep of 100,000, s"]);
    for (column, beside) in ["nothing", "the removal of expired sessions"].into_iter().enumerate() {
        let of = |read: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(|(both, _)| read(&both[column])).collect());
        table.row(&[
            beside,
            &format!("{:.0}", of(&Measured::per_second)),
            &format!("{:.1}", of(&|m| latency(m, 0.5))),
            &format!("{:.1}", of(&|m| latency(m, 0.99))),
            &format!("{:.1}", of(&|m| latency(m, 0.999))),
            &if column == 1 { format!("{:.1}", median(rounds.iter().map(|r| r.1).collect())) } else { String::new() },
        ]);
    }
    let ratio = median(rounds.iter().map(|([idle, beside], _)| latency(beside, 0.99) / latency(idle, 0.99)).collect());
    targets.row(&["", "p99 during a sweep of 100,000 against none", &format!("{ratio:.2}"), "no stall"]);
    table
}

fn latency(measured: &Measured, quantile: f64) -> f64 {
    measured.latency.value_at_quantile(quantile) as f64 / 1e3
}

/// Questions before anything expires and while it is removed, and the seconds that the whole removal took.
fn one_sweep(home: &Home, subject: &mut Subject, round: u64, seconds: f64) -> ([Measured; 2], f64) {
    let expires_at = now() + LEAD_SECONDS;
    let patches = (1..=EXPIRED).map(|number| {
        Patch::Credential(CredentialPatch {
            agent: Some(1),
            code: Some(Secret::new(format!("SESSION{number:010}").into_bytes())),
            expires_at: Some(Some(expires_at)),
            ..CredentialPatch::new(Mode::Session, Some(round * EXPIRED + number))
        })
    });
    home.admin().import(patches, false, |part| assert_eq!(part.imported.refused, 0)).unwrap();
    let idle = measured(subject, seconds);
    assert!(now() < expires_at, "loading and the idle run took too long: give fewer --seconds");
    wait_until("the sweep has begun", || sessions(home) < EXPIRED);
    let began = Instant::now();
    let beside = measured(subject, seconds);
    if sessions(home) == 0 {
        say("the sweep was over before the measurement: give fewer --seconds");
    }
    wait_until("the sweep is over", || sessions(home) == 0);
    ([idle, beside], began.elapsed().as_secs_f64())
}

fn measured(subject: &mut Subject, seconds: f64) -> Measured {
    let _held = hold_client(false);
    subject.measure(plan(64, 1, seconds))
}
