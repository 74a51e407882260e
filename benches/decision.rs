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

use keyward::registry::Reading;
use keyward::serve::query::answer_all;
use keyward_proto::query::{Asker, Batch, QueryRequest, Target};
use world::{PEPPER, QUESTIONS, Random, World, code, path};

/// Targets of a batch.
const BATCH_TARGETS: usize = 100;
/// Batches asked of each world in a round.
const BATCHES: usize = 64;
const ROUNDS: usize = 21;
/// Questions that come with one read of a pipelining client.
const PIPELINED: usize = 16;

/// Nanoseconds a read.
fn time(reading: &Reading, (bytes, ends): (&[u8], &[usize]), out: &mut Vec<u8>) -> f64 {
    let mut begin = 0;
    let start = Instant::now();
    for end in ends {
        out.clear();
        let view = reading.view();
        assert_eq!(answer_all(&view, black_box(&bytes[begin..*end]), out), Ok((end - begin, false)));
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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut out = std::io::stdout().lock();
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 1_000_000, 10_000_000] } else { sizes };
    let worlds: Vec<(World, Reading)> = sizes
        .iter()
        .map(|keys| {
            let world = World::new(*keys);
            let reading = Reading::new(world.compiler.directory().clone());
            (world, reading)
        })
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut replies = Vec::new();
    let mut hashes = Vec::new();
    let mut times = vec![[const { Vec::new() }; 3]; worlds.len()];
    for _ in 0..ROUNDS {
        hashes.push(time_hashes());
        for ((world, reading), times) in worlds.iter().zip(&mut times) {
            for (depth, times) in [1, PIPELINED].into_iter().zip(times.iter_mut()) {
                // Fresh ones each round: what was asked before is no longer in the cache.
                let (bytes, ends) = world.questions(depth, &mut random);
                times.push(time(reading, (&bytes, &ends), &mut replies) / depth as f64);
            }
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for _ in 0..BATCHES {
                put_batch(world, &mut random, &mut bytes);
                ends.push(bytes.len());
            }
            times[2].push(time(reading, (&bytes, &ends), &mut replies));
        }
    }
    let hash = median(&mut hashes);
    writeln!(out, "keyed BLAKE3 of 25 bytes: {hash:.0} ns").expect("standard output takes the result");
    for ((world, _), times) in worlds.iter().zip(&mut times) {
        let [single, pipelined, batch] = times.each_mut().map(|times| median(times));
        writeln!(
            out,
            "{:>9} keys: one a read {single:>5.0} ns ({:.2} hashes), {PIPELINED} a read {pipelined:>5.0} ns ({:.2} hashes), \
             batch of {BATCH_TARGETS}: {batch:>6.0} ns ({:.1} questions)",
            world.size.keys,
            single / hash,
            pipelined / hash,
            batch / single
        )
        .expect("standard output takes the result");
    }
}
