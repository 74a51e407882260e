//! The cost of a decision in process, bytes in and bytes out: `cargo bench --bench decision [KEYS…]`.
//!
//! Every figure is of what the query socket's connection does with the bytes of one read: split, decode, parse, look up,
//! hash, compare, route, check tags, note the use, encode. The worlds and the hash that they are measured in take turns,
//! so that a busy host slows them alike; of the rounds the median counts, and what to look at are the ratios.

#[path = "support/world.rs"]
mod world;

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use keyward::model::Revision;
use keyward::registry::{Counts, Reading};
use keyward::serve::query::answer_all;
use keyward::serve::{AskDoor, DenialLog, Notes};
use keyward_proto::query::{Asker, Batch, QueryRequest, Target};
use world::{PEPPER, QUESTIONS, Random, Size, World, code, path};

/// Targets of a batch.
const BATCH_TARGETS: usize = 100;
/// Batches asked of each world in a round.
const BATCHES: usize = 64;
/// Changes of one key that are published in a round.
const CHANGES: usize = 20;
const ROUNDS: usize = 21;
/// Questions that come with one read of a pipelining client.
const PIPELINED: usize = 16;

/// Nanoseconds a read.
fn time(reading: &Reading, (bytes, ends): (&[u8], &[usize]), out: &mut Vec<u8>) -> f64 {
    let mut begin = 0;
    let log = DenialLog::default();
    let start = Instant::now();
    for end in ends {
        out.clear();
        let mut notes = Notes::new(AskDoor::Query, &log);
        let view = reading.view();
        assert_eq!(answer_all(&view, black_box(&bytes[begin..*end]), out, &mut notes), Ok((end - begin, false)));
        black_box(&notes);
        black_box(&out);
        begin = *end;
    }
    start.elapsed().as_nanos() as f64 / ends.len() as f64
}

/// A question about many targets, appended to `out`.
fn put_batch(world: &World, random: &mut Random, out: &mut Vec<u8>) {
    let id = random.below(world.size.keys) + 1;
    let credential = format!("key {id}:{}", code(id));
    let paths: Vec<String> = (0..BATCH_TARGETS).map(|_| path(random.below(world.size.endpoints), id)).collect();
    let targets = paths.iter().map(|path| Target::Endpoint { method: b"GET", path: path.as_bytes() }).collect();
    let asker = Asker { credential: Some(credential.as_bytes()), agent: None, address: Some(b"10.1.2.3") };
    QueryRequest::Batch(Batch { asker, targets }).put(out, 7);
}

fn time_hashes() -> f64 {
    let input = [b'A'; 25];
    let start = Instant::now();
    for _ in 0..QUESTIONS {
        black_box(blake3::keyed_hash(black_box(&PEPPER), black_box(&input)));
    }
    start.elapsed().as_nanos() as f64 / QUESTIONS as f64
}

/// Microseconds from a committed change of one key to the moment that every new question sees it.
fn time_publish(world: &mut World, reading: &Reading, random: &mut Random) -> f64 {
    let record = world.key(random.below(world.size.keys) + 1);
    let start = Instant::now();
    drop(world.compiler.apply(&[record], Revision(2)));
    reading.publish(world.compiler.directory().clone(), Counts::default());
    start.elapsed().as_nanos() as f64 / 1e3
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What was measured of one world, each figure once a round.
#[derive(Default)]
struct Times {
    single: Vec<f64>,
    pipelined: Vec<f64>,
    batch: Vec<f64>,
    publish: Vec<f64>,
}

fn measure(world: &mut World, reading: &Reading, random: &mut Random, times: &mut Times) {
    let mut replies = Vec::new();
    for (depth, times) in [(1, &mut times.single), (PIPELINED, &mut times.pipelined)] {
        // Fresh ones each round: what was asked before is no longer in the cache.
        let (bytes, ends) = world.questions(depth, random);
        times.push(time(reading, (&bytes, &ends), &mut replies) / depth as f64);
    }
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        put_batch(world, random, &mut bytes);
        ends.push(bytes.len());
    }
    times.batch.push(time(reading, (&bytes, &ends), &mut replies));
    times.publish.extend((0..CHANGES).map(|_| time_publish(world, reading, random)));
}

fn main() {
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes the result");
    let keys: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let keys = if keys.is_empty() { vec![1_000, 1_000_000, 10_000_000] } else { keys };
    let many_endpoints = keys.last().map(|keys| Size::of(*keys, 10_000));
    let sizes = keys.iter().map(|keys| Size::of(*keys, 1_000)).chain(many_endpoints);
    let mut worlds: Vec<(World, Reading, Times)> = sizes
        .map(|size| {
            let world = World::new(size);
            let reading = Reading::new(world.compiler.directory().clone());
            (world, reading, Times::default())
        })
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut hashes = Vec::new();
    for _ in 0..ROUNDS {
        hashes.push(time_hashes());
        for (world, reading, times) in &mut worlds {
            measure(world, reading, &mut random, times);
        }
    }
    let hash = median(&mut hashes);
    say(format!("keyed BLAKE3 of 25 bytes: {hash:.0} ns; medians of {ROUNDS} rounds, ns a question (in hashes)"));
    say(format!(
        "{:>10} {:>10} {:>15} {:>15} {:>22} {:>11}",
        "keys",
        "endpoints",
        "one a read",
        format!("{PIPELINED} a read"),
        format!("batch of {BATCH_TARGETS} (in q.)"),
        "publish µs"
    ));
    for (world, _, times) in &mut worlds {
        let Times { single, pipelined, batch, publish } = times;
        let [single, pipelined, batch, publish] = [single, pipelined, batch, publish].map(|times| median(times));
        say(format!(
            "{:>10} {:>10} {single:>8.0} ({:>4.1}) {pipelined:>8.0} ({:>4.1}) {batch:>13.0} ({:>5.1}) {publish:>11.1}",
            world.size.keys,
            world.size.endpoints,
            single / hash,
            pipelined / hash,
            batch / single
        ));
    }
}
