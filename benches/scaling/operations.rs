//! A million keys while an operator works: a backup, and an import of another million.
//!
//! Questions come at a fixed rate, as they do on a host, and their latency counts from when they were due. Windows that
//! the operation filled whole are compared with windows of the same run in which there was none.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward::bench::generator::{Measured, Plan};
use keyward::bench::picks::Picks;
use keyward::bench::questions::{Mix, Questions};
use keyward::bench::world::Sizes;
use nix::unistd::Pid;

use crate::Options;
use crate::keyward_server::loaded;
use crate::results::{Table, median};
use crate::server::Subject;
use crate::support::{Home, KEYWARD, say};

const KEYS: u64 = 1_000_000;
const REQUESTS: u32 = 1_000_000;
/// What a busy host asks, well below what one core answers.
const RATE: f64 = 5_000.0;
const CONNECTIONS: usize = 8;
/// Of one measurement: short, so that several fit into an operation.
const WINDOW: Duration = Duration::from_millis(500);
const IDLE_WINDOWS: u32 = 8;

pub fn measure(options: &Options, targets: &mut Table) -> Table {
    let keys = KEYS.min(options.keys);
    say(&format!("{keys} keys while an operator works"));
    let home = Home::new();
    let (world, daemon, _) = loaded(&home, Sizes::of_keys(keys));
    daemon.stop();
    let config = home.config("log = \"warn\"\n");
    let daemon = home.start_with(|command| {
        command.arg("--config").arg(&config).env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    });
    let socket = home.runtime().join("query.sock");
    let questions = Questions::new(&socket, &world, Mix::ALLOWED, Picks::uniform(keys, 1), REQUESTS);
    let mut subject = Subject::new("Keyward", questions, Some(Pid::from_raw(daemon.pid())), ());
    let mut table = Table::new(&["beside", "windows", "p50 µs", "p99 µs", "p99 against idle"]);

    let (mut idle, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        idle.extend(windows(&mut subject, |done| done < IDLE_WINDOWS));
        beside.extend(backup(&home, &mut subject));
    }
    report(&mut table, "nothing", &idle, &idle);
    targets.row(&["", "p99 during a backup against none", &report(&mut table, "a backup", &idle, &beside), "no stall"]);
    let idle = windows(&mut subject, |done| done < IDLE_WINDOWS);
    let (import, seconds) = import(&home, keys, &mut subject);
    let ratio = report(&mut table, &format!("an import of {keys} keys"), &idle, &import);
    targets.row(&["", "p99 during an import against none", &ratio, "no stall"]);
    targets.row(&[
        "",
        "key import of a CSV file beside questions",
        &format!("{:.0} rows/s", keys as f64 / seconds),
        "",
    ]);
    drop(subject);
    daemon.stop();
    table
}

/// Measures windows while `more` says so.
fn windows(subject: &mut Subject, mut more: impl FnMut(u32) -> bool) -> Vec<Measured> {
    let plan = Plan {
        connections: CONNECTIONS,
        depth: 1,
        warm_up: Duration::ZERO,
        duration: WINDOW,
        rate: Some(RATE),
        first: 0,
    };
    let mut measured = Vec::new();
    while more(u32::try_from(measured.len()).unwrap()) {
        measured.push(subject.measure(plan));
    }
    measured
}

/// Measures as long as `running` says so; the last window, which outlasted it, does not count.
fn windows_beside(subject: &mut Subject, mut running: impl FnMut() -> bool) -> Vec<Measured> {
    let mut measured = windows(subject, |_| running());
    if measured.len() > 1 {
        measured.pop();
    }
    measured
}

/// Adds a row; with it the ratio of the p99s.
fn report(table: &mut Table, words: &str, idle: &[Measured], beside: &[Measured]) -> String {
    let quantile = |windows: &[Measured], quantile: f64| {
        median(windows.iter().map(|m| m.latency.value_at_quantile(quantile) as f64 / 1e3).collect())
    };
    let ratio = format!("{:.2}", quantile(beside, 0.99) / quantile(idle, 0.99));
    table.row(&[
        words,
        &beside.len().to_string(),
        &format!("{:.1}", quantile(beside, 0.5)),
        &format!("{:.1}", quantile(beside, 0.99)),
        &ratio,
    ]);
    ratio
}

fn keyward(home: &Home, args: &[&str]) -> Child {
    let mut command = Command::new(KEYWARD);
    command.args(args).env("KEYWARD_RUNTIME", home.runtime()).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn is_running(child: &mut Child) -> bool {
    match child.try_wait().unwrap() {
        None => true,
        Some(status) => {
            assert!(status.success(), "{status}");
            false
        }
    }
}

fn backup(home: &Home, subject: &mut Subject) -> Vec<Measured> {
    let file = home.path().join("backup");
    let mut child = keyward(home, &["backup", file.to_str().unwrap()]);
    let measured = windows_beside(subject, || is_running(&mut child));
    std::fs::remove_file(file).unwrap();
    measured
}

fn import(home: &Home, keys: u64, subject: &mut Subject) -> (Vec<Measured>, f64) {
    let file = home.path().join("keys.csv");
    let mut text = String::from("id,label,code,agent,tags\n");
    for id in keys + 1..=2 * keys {
        writeln!(text, "{id},imported,{id:020}ABCDE,1,tickets.*").unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let began = Instant::now();
    let mut child = keyward(home, &["key", "import", file.to_str().unwrap()]);
    let mut ended = None;
    let measured = windows_beside(subject, || {
        let running = is_running(&mut child);
        if !running {
            ended = Some(began.elapsed());
        }
        running
    });
    (measured, ended.expect("it ran to its end").as_secs_f64())
}
