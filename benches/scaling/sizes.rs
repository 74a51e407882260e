//! By number of keys: import, memory, start, and questions a second.

use std::time::{Duration, Instant};

use keyward::bench::generator::Plan;
use keyward::bench::process;
use keyward::bench::world::Sizes;
use keyward_proto::client::QueryClient;
use keyward_proto::query::{Asker, Target};
use nix::unistd::Pid;

use crate::Options;
use crate::keyward_server::{Keyward, loaded};
use crate::results::{Table, median};
use crate::server::{Subject, hold_client};
use crate::support::{Daemon, Home, say};

/// The numbers of keys that are compared, as far as the options go.
const KEYS: [u64; 4] = [1_000, 100_000, 1_000_000, 10_000_000];
/// Requests made beforehand, the same number for all sizes.
const REQUESTS: usize = 1_000_000;
/// So long nothing answers.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// What one size came to, but for the questions.
struct Size {
    keys: u64,
    import_seconds: f64,
    resident: u64,
    start: f64,
    restart: f64,
}

pub fn measure(options: &Options, targets: &mut Table) -> Table {
    let homes: Vec<(u64, Home)> =
        KEYS.into_iter().filter(|keys| *keys <= options.keys).map(|keys| (keys, Home::new())).collect();
    let (empty_start, empty_resident) = empty(options.repeats);
    let mut sizes = Vec::new();
    let mut running = Vec::new();
    for (keys, home) in &homes {
        say(&format!("{keys} keys: import, starts"));
        let (size, keyward) = one_size(home, *keys, options.repeats);
        running.push(keyward);
        sizes.push(size);
    }
    say("questions, by number of keys");
    let rates = questions(&running, options);
    targets.row(&["11", "start to first answer, empty", &milliseconds(empty_start), "≤ 50 ms"]);
    add_targets(&sizes, &rates, empty_resident, targets);
    let mut table = Table::new(&[
        "keys",
        "64x1 requests/s",
        "64x16 requests/s",
        "import s",
        "import keys/s",
        "start s",
        "after kill -9 s",
        "resident MiB",
    ]);
    for (size, rates) in sizes.iter().zip(&rates) {
        table.row(&[
            &size.keys.to_string(),
            &format!("{:.0}", rates[0]),
            &format!("{:.0}", rates[1]),
            &format!("{:.2}", size.import_seconds),
            &format!("{:.0}", size.keys as f64 / size.import_seconds),
            &format!("{:.3}", size.start),
            &format!("{:.3}", size.restart),
            &(size.resident / (1024 * 1024)).to_string(),
        ]);
    }
    table
}

fn add_targets(sizes: &[Size], rates: &[[f64; 2]], empty_resident: u64, targets: &mut Table) {
    if let (Some(small), Some(large)) = (rates.first(), rates.last()) {
        let keys = sizes[sizes.len() - 1].keys;
        let words = format!("requests/s at {keys} keys against 1000, 64x16");
        targets.row(&["7", &words, &format!("{:.2}", large[1] / small[1]), "≥ 0.7"]);
    }
    // Both have the same agents, endpoints and sets, so that the difference is the keys'.
    for (less, more) in sizes.iter().zip(&sizes[1..]).filter(|(less, _)| less.keys >= 100_000) {
        let bytes = more.resident.saturating_sub(less.resident) as f64 / (more.keys - less.keys) as f64;
        let words = format!("resident bytes of each key between {} and {}", less.keys, more.keys);
        targets.row(&["", &words, &format!("{bytes:.0} B"), ""]);
    }
    for size in sizes.iter().filter(|size| size.keys >= 1_000_000) {
        let bytes = size.resident.saturating_sub(empty_resident) as f64 / size.keys as f64;
        let words = format!(
            "resident bytes over an empty daemon by keys, {} keys; 100,000 agents and 10,000 endpoints included",
            size.keys
        );
        targets.row(&["10", &words, &format!("{bytes:.0} B"), "≤ 128 B"]);
        let (start, import) =
            if size.keys == 1_000_000 { ("≤ 0.8 s; ≤ 0.4 s", "≤ 5 s") } else { ("≤ 8 s; ≤ 4 s", "≤ 60 s") };
        let words = format!("start to first answer, {} keys", size.keys);
        targets.row(&["11", &words, &format!("{:.2} s", size.start), start]);
        let words = format!("the same after kill -9, against an ordinary start, {} keys", size.keys);
        targets.row(&["11", &words, &format!("{:.2}", size.restart / size.start), "≤ 1.2"]);
        let words = format!("import of {} keys", size.keys);
        targets.row(&["13", &words, &format!("{:.1} s", size.import_seconds), import]);
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

/// Start and resident memory of a daemon that holds nothing.
fn empty(repeats: u32) -> (f64, u64) {
    let home = Home::new();
    // The first start makes the database.
    home.start().stop();
    let mut resident = 0;
    let times = (0..repeats).map(|_| {
        let (daemon, seconds) = timed_start(&home, None);
        resident = resident_of(&daemon);
        daemon.stop();
        seconds
    });
    (median(times.collect()), resident)
}

fn resident_of(daemon: &Daemon<'_>) -> u64 {
    process::resident_bytes(Pid::from_raw(daemon.pid())).unwrap()
}

/// Fills a daemon, starts it again some times after a stop and after a crash, and leaves it running on the server's core.
fn one_size(home: &Home, keys: u64, repeats: u32) -> (Size, Keyward<'_>) {
    let (world, daemon, import) = loaded(home, Sizes::of_keys(keys));
    let question = world.allowed(keys, 1);
    let credential = format!("key {keys}:{}", str::from_utf8(&world.code(keys)).unwrap());
    let asked = Some((credential.as_str(), question.method, question.path.as_str()));
    let mut daemon = daemon;
    let (mut starts, mut restarts, mut resident) = (Vec::new(), Vec::new(), 0);
    for _ in 0..repeats {
        daemon.stop();
        let (started, seconds) = timed_start(home, asked);
        resident = resident_of(&started);
        starts.push(seconds);
        started.kill();
        let (started, seconds) = timed_start(home, asked);
        restarts.push(seconds);
        daemon = started;
    }
    daemon.stop();
    let size = Size { keys, import_seconds: import, resident, start: median(starts), restart: median(restarts) };
    (size, Keyward::serving(home, world))
}

/// Seconds from the start of the process to its first answer, which must be an allow where a question is given.
fn timed_start<'h>(home: &'h Home, asked: Option<(&str, &str, &str)>) -> (Daemon<'h>, f64) {
    let mut command = home.serve_command();
    let began = Instant::now();
    let mut daemon = Daemon { home, child: command.spawn().unwrap() };
    let socket = home.runtime().join("query.sock");
    let (credential, method, path) = asked.unwrap_or(("key 1:AAAAAAAA", "GET", "/"));
    let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
    let target = Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() };
    loop {
        let answer = QueryClient::connect(&socket).and_then(|mut client| client.check(asker, target.clone()));
        if let Ok(verdict) = answer {
            assert_eq!(verdict.is_allowed(), asked.is_some(), "{verdict:?}");
            return (daemon, began.elapsed().as_secs_f64());
        }
        assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended: {}", home.log_text());
        assert!(began.elapsed() < START_PATIENCE, "the daemon does not answer");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Requests a second at 64x1 and at 64x16, for each daemon.
fn questions(running: &[Keyward<'_>], options: &Options) -> Vec<[f64; 2]> {
    let mut subjects: Vec<Subject> = running.iter().map(|keyward| keyward.subject(REQUESTS)).collect();
    let mut rates: Vec<[Vec<f64>; 2]> = subjects.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    let _held = hold_client(false);
    for _ in 0..options.repeats {
        for (column, depth) in [1, 16].into_iter().enumerate() {
            for (subject, rates) in subjects.iter_mut().zip(&mut rates) {
                rates[column].push(subject.measure(plan(64, depth, options.seconds)).per_second());
            }
        }
    }
    rates.into_iter().map(|columns| columns.map(median)).collect()
}

/// A closed loop.
pub fn plan(connections: usize, depth: usize, seconds: f64) -> Plan {
    let duration = Duration::from_secs_f64(seconds);
    Plan { connections, depth, warm_up: duration / 4, duration, rate: None, first: 0 }
}
