//! Questions per second and latency over the real socket of the real binary: `cargo bench --bench socket`.
//!
//! Closed loop: each connection sends `depth` questions in one write, waits for all their verdicts, and begins again. The
//! figures hold for this machine and this run; compare them with each other, not with another day's.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a measurement that can't go on ends, and its numbers are small"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use keyward_proto::admin::{AgentPatch, Apply, CredentialPatch, EndpointPatch, Kind, Patch, Secret, SetText};
use keyward_proto::frame::{QUERY_FRAME_BYTES_MAX, split};
use keyward_proto::query::{Asker, Check, Mode, QueryReply, QueryRequest, Target};

const KEYS: u64 = 100_000;
const SECONDS: u64 = 3;
const ROUNDS: usize = 3;

fn main() {
    let home = support::Home::new();
    let daemon = home.start();
    load(&home);
    println!(
        "{KEYS} keys, uniform; {ROUNDS} rounds of {SECONDS} s each; the client shares the machine with the daemon"
    );
    println!(
        "{:>12} {:>6} {:>12} {:>10} {:>10} {:>14}",
        "connections", "depth", "questions/s", "p50 µs", "p99 µs", "server µs/q"
    );
    for (connections, depth) in [(1, 1), (8, 1), (16, 16), (64, 16)] {
        let mut rounds: Vec<Figures> = (0..ROUNDS)
            .map(|_| measure(&home.runtime().join("query.sock"), daemon.pid(), connections, depth))
            .collect();
        rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let f = &rounds[ROUNDS / 2];
        println!(
            "{connections:>12} {depth:>6} {:>12.0} {:>10.1} {:>10.1} {:>14.2}",
            f.per_second, f.p50, f.p99, f.server_cpu
        );
    }
    daemon.stop();
}

/// Medians are taken over rounds by `per_second`; latencies are of one write of `depth` questions, in microseconds.
struct Figures {
    per_second: f64,
    p50: f64,
    p99: f64,
    server_cpu: f64,
}

fn code(id: u64) -> String {
    format!("CODE{id:021}")
}

fn load(home: &support::Home) {
    let mut admin = home.admin();
    let agent = AgentPatch {
        id: Some(1),
        name: Some("Admin".into()),
        permissions: Some(SetText::Text("*".into())),
        ..AgentPatch::default()
    };
    let mut patches = vec![Patch::Agent(agent)];
    patches.extend((0..1000).map(|n| {
        Patch::Endpoint(EndpointPatch {
            method: "GET".into(),
            path: format!("/api/v2/resource{n}/{{id}}"),
            tags: Some(vec![format!("group{}.resource{n}.get", n % 20)]),
            modes: None,
        })
    }));
    patches.extend((1..=KEYS).map(|id| {
        Patch::Credential(CredentialPatch {
            code: Some(Secret::new(code(id).into_bytes())),
            agent: Some(1),
            tags: Some(SetText::Text(format!("group{}.*, *.get, -*.delete", id % 20))),
            ..CredentialPatch::new(Mode::Key, Some(id))
        })
    }));
    let began = Instant::now();
    let parts = admin.upload(patches).unwrap();
    let sections = vec![Kind::Agent, Kind::Endpoint, Kind::Key];
    admin.apply(&Apply { parts, sections, prune: false, dry_run: false }).unwrap();
    println!("applied {KEYS} keys and 1000 endpoints in {:.2} s", began.elapsed().as_secs_f64());
}

fn measure(socket: &Path, pid: i32, connections: usize, depth: usize) -> Figures {
    let cpu_before = cpu_seconds(pid);
    let deadline = Instant::now() + Duration::from_secs(SECONDS);
    let began = Instant::now();
    let mut latencies: Vec<f64> = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..connections).map(|n| scope.spawn(move || client(socket, n as u64, depth, deadline))).collect();
        for thread in threads {
            latencies.extend(thread.join().unwrap());
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let questions = (latencies.len() * depth) as f64;
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] * 1e6;
    Figures {
        per_second: questions / seconds,
        p50: at(0.5),
        p99: at(0.99),
        server_cpu: (cpu_seconds(pid) - cpu_before) * 1e6 / questions,
    }
}

/// Seconds that each write of `depth` questions took to be answered.
fn client(socket: &Path, seed: u64, depth: usize, deadline: Instant) -> Vec<f64> {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut latencies = Vec::new();
    let (mut out, mut input) = (Vec::new(), Vec::new());
    while Instant::now() < deadline {
        out.clear();
        for request in 0..depth {
            // xorshift64: uniform enough, and cheap beside what is measured.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let id = random % KEYS + 1;
            let credential = format!("key {id}:{}", code(id));
            let path = format!("/api/v2/resource{}/{id}", random % 1000);
            let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
            let target = Target::Endpoint { method: b"GET", path: path.as_bytes() };
            QueryRequest::Check(Check { asker, target }).put(&mut out, request as u32);
        }
        let began = Instant::now();
        stream.write_all(&out).unwrap();
        read_verdicts(&mut stream, &mut input, depth);
        latencies.push(began.elapsed().as_secs_f64());
    }
    latencies
}

fn read_verdicts(stream: &mut UnixStream, input: &mut Vec<u8>, mut missing: usize) {
    let mut chunk = [0; 64 * 1024];
    while missing > 0 {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the daemon closed the connection");
        input.extend_from_slice(&chunk[..read]);
        let mut used = 0;
        while let Some((frame, bytes)) = split(&input[used..], QUERY_FRAME_BYTES_MAX).unwrap() {
            let QueryReply::Verdict(verdict) = QueryReply::decode(&frame).unwrap() else {
                unreachable!("each question gets a verdict");
            };
            assert!(verdict.is_allowed(), "{verdict:?}");
            used += bytes;
            missing -= 1;
        }
        input.drain(..used);
    }
}

/// User and system time of the daemon so far: fields 14 and 15 of `/proc/PID/stat` (proc(5)), 100 ticks a second.
fn cpu_seconds(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
