//! Keyward beside what people use today, in one run: `benches/compare` installs what is missing and calls this.
//!
//! All systems are started once, each holds as many keys, and they take turns round by round, so that a busy host slows
//! them alike. Servers run on one core, the client on another, unless a row says otherwise. The client is the same for
//! all: requests are made beforehand, replies are checked.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    unreachable_pub,
    reason = "a measurement that can't go on ends, and its numbers are small"
)]

mod echo;
mod keyward_server;
mod nginx;
mod postgres;
mod redis;
mod report;
mod results;
mod saslauthd;
mod server;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use keyward::bench::generator::Plan;
use keyward::bench::world::Sizes;
use keyward_server::Keyward;
use report::{Cell, Figure, Report};
use server::{Subject, hold_client};
use support::{Home, say};

/// As many as a large API has; `scale` asks among ten times as many.
pub const ENDPOINTS: u64 = 1_000;
/// Requests made beforehand for each system, at most: they last longer than a round.
const REQUESTS_MAX: usize = 1_000_000;
const REQUESTS_MIN: usize = 65_536;

#[derive(Parser)]
#[command(
    name = "benches/compare",
    about = "Keyward beside a bare echo, Redis, PostgreSQL, saslauthd, and behind nginx"
)]
struct Options {
    /// Systems to compare, separated by commas [default: all that can run here]
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Keys that each system holds
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Rounds; the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Length of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where the tables are written to, as Markdown; a dash for nowhere
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md"))]
    output: PathBuf,
    /// 10,000 keys and moments instead of seconds: only whether every system runs and answers rightly. Writes nothing
    #[arg(long)]
    smoke: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Echo,
    Redis,
    Keyward,
    Postgres,
    Saslauthd,
    Nginx,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [echo::MODE, socket, request, reply] => {
            return echo::serve(Path::new(socket), request.parse().unwrap(), reply.parse().unwrap());
        }
        [nginx::MODE, socket] => return nginx::serve(Path::new(socket)),
        _ => {}
    }
    let mut options = Options::parse();
    if options.smoke {
        (options.keys, options.repeats, options.seconds) = (10_000, 1, 0.1);
    }
    let report = compare(&options);
    if options.smoke {
        return say("every system answered rightly; figures of so short a run would mean nothing");
    }
    say(&report.text());
    if options.output != Path::new("-") {
        report.write(&options.output);
        say(&format!("written to {}", options.output.display()));
    }
}

/// Systems that are measured at the same points.
struct Group {
    subjects: Vec<Subject>,
    cells: Vec<Cell>,
}

fn compare(options: &Options) -> Report {
    let mut report = Report::new(options.keys, options.repeats, options.seconds);
    let home = Home::new();
    // The others need its world and its frame sizes, so it is always there.
    let keyward = Keyward::start(&home, Sizes { endpoints: ENDPOINTS, ..Sizes::of_keys(options.keys) });
    let mut groups = groups(options, &keyward);
    for round in 1..=options.repeats {
        say(&format!("round {round} of {}", options.repeats));
        for Group { subjects, cells } in &mut groups {
            for cell in cells {
                for subject in &mut *subjects {
                    report.add(subject.name, *cell, measure(subject, *cell, options.seconds));
                }
            }
        }
    }
    report
}

fn measure(subject: &mut Subject, cell: Cell, seconds: f64) -> Figure {
    let _held = hold_client(cell.same_core);
    let measured = subject.measure(Plan {
        connections: cell.connections,
        depth: cell.depth,
        // A quarter of the time more, until queues and caches are as they stay.
        warm_up: Duration::from_secs_f64(seconds / 4.0),
        duration: Duration::from_secs_f64(seconds),
        rate: None,
        first: 0,
    });
    Figure::new(&measured)
}

fn groups(options: &Options, keyward: &Keyward<'_>) -> Vec<Group> {
    let wanted = |name| options.only.is_empty() || options.only.contains(&name);
    let possible = |name: Name, found: bool, what: &str| {
        if wanted(name) && !found {
            say(&format!("SKIPPED: {what}"));
        }
        wanted(name) && found
    };
    let count = usize::try_from(options.keys).unwrap().clamp(REQUESTS_MIN, REQUESTS_MAX);
    let mut fast = Vec::new();
    if wanted(Name::Echo) {
        fast.push(echo::subject(keyward.frame_sizes(), count));
    }
    if possible(Name::Redis, redis::version().is_some(), "Redis: redis-server is missing") {
        fast.push(redis::subject(options.keys, count));
    }
    let mut slow = Vec::new();
    if possible(Name::Postgres, postgres::version().is_some(), "PostgreSQL: its server is missing") {
        slow.push(postgres::subject(options.keys, count));
    }
    if possible(Name::Saslauthd, saslauthd::is_possible(), "saslauthd: it is missing, or this is not root") {
        slow.push(saslauthd::subject(count));
    }
    let mut proxies = Vec::new();
    if possible(Name::Nginx, nginx::version().is_some(), "nginx is missing") {
        proxies = nginx::subjects(keyward, count);
    }
    fast.push(keyward.subject(count));
    vec![
        Group { subjects: fast, cells: Cell::FAST.to_vec() },
        Group { subjects: slow, cells: Cell::SLOW.to_vec() },
        Group { subjects: proxies, cells: Cell::PROXIES.to_vec() },
    ]
}
