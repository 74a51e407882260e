//! No question costs an allocation in the steady state: the whole connection runs on this thread, and is counted.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::AllocationInfo;
use keyward::registry::Registry;
use keyward::serve::listen::{Access, bind};
use keyward::serve::{Admins, ConnectionLimits, Control, Deadlines, Doors, Rules};
use keyward_proto::query::{Asker, Check, QueryRequest, Target};
use raw::{KEY, check, put, who};
use serde_json::{Value, json};
use support::Home;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

/// After so many questions all buffers have their size.
const WARM_UP: usize = 50;
const COUNTED: usize = 1000;
const LIMITED: &str = "key 4:a-key-with-much-of-a-rate";
const EXHAUSTED: &str = "key 5:a-key-with-little-of-one";
const TOKEN: &str = "token 6:TOKENTOKENTOKEN";
const TOGETHER: &str = "all of them in one write";

/// The usual one, keys with rates, and a token that was made from a key.
fn world() -> Value {
    let mut world = raw::world();
    for (id, credential, rate) in [(4, LIMITED, "1000000000/s"), (5, EXHAUSTED, "1/d")] {
        let code = credential.split_once(':').unwrap().1;
        world["keys"].as_array_mut().unwrap().push(json!({ "id": id, "agent": 4, "code": code, "rate": rate }));
    }
    let code = TOKEN.split_once(':').unwrap().1;
    world["tokens"] = json!([{ "id": 6, "code": code, "agent": 4, "parent": "key 3" }]);
    world
}

fn get(path: &[u8]) -> Target<'_> {
    Target::Endpoint { method: b"GET", path }
}

/// A question of each outcome that costs its own way through the checks.
fn questions() -> Vec<(&'static str, Vec<u8>)> {
    let from_address = Asker { address: Some(b"10.1.2.3"), ..raw::asker(KEY) };
    let known = Check { asker: from_address, target: get(b"/api/v2/tickets?page=2") };
    vec![
        ("allowed", check(1, KEY, get(b"/api/v2/tickets"))),
        ("allowed, with an address", put(&QueryRequest::Check(known), 2)),
        ("who", who(3, KEY)),
        ("allowed within a rate", check(10, LIMITED, get(b"/api/v2/tickets"))),
        ("beyond a rate", check(11, EXHAUSTED, get(b"/api/v2/tickets"))),
        ("allowed, with a token made from a key", check(12, TOKEN, get(b"/api/v2/tickets"))),
        ("wrong code", check(4, "key 3:WRONGWRONGWRONG", get(b"/api/v2/tickets"))),
        ("unknown id", check(5, "key 77:WRONGWRONGWRONG", get(b"/api/v2/tickets"))),
        ("malformed credential", check(6, "key", get(b"/api/v2/tickets"))),
        ("no such endpoint", check(7, KEY, get(b"/api/v2/nothing/of/this/kind"))),
        ("ambiguous path", check(8, KEY, get(b"/api/v2/../tickets"))),
        ("bad method", check(9, KEY, Target::Endpoint { method: b"get", path: b"/api/v2/tickets" })),
    ]
}

/// A daemon in this process and thread, and a connection to one of its doors.
fn serve(runtime: &Runtime, local: &LocalSet, home: &Home, registry: Registry, door: &str) -> UnixStream {
    let limits = ConnectionLimits { total: 8, per_uid: 8 };
    let rules = Rules {
        connections: limits,
        http_connections: limits,
        deadlines: Deadlines { frame: Duration::from_secs(10), idle: Duration::from_secs(60) },
        admins: Admins::default(),
        session_cookie: "session".to_string(),
        denials_logged: 10,
        stop_deadline: Duration::from_secs(1),
    };
    let _inside = runtime.enter();
    let listen = |name: &str| bind(&home.path().join(name), Access::Owner).unwrap();
    let doors = Doors { query: listen("query"), admin: listen("admin"), http: listen("http"), http_loopback: None };
    local.spawn_local(keyward::serve::serve(Arc::new(registry), doors, Control::new(rules), CancellationToken::new()));
    local.block_on(runtime, UnixStream::connect(home.path().join(door))).unwrap()
}

/// Sends `bytes` and reads `replies` frames, `times` over.
async fn ask(stream: &mut UnixStream, bytes: &[u8], replies: usize, times: usize, buffer: &mut [u8]) {
    for _ in 0..times {
        stream.write_all(bytes).await.unwrap();
        for _ in 0..replies {
            stream.read_exact(&mut buffer[..4]).await.unwrap();
            let length = u32::from_be_bytes(*buffer.first_chunk().unwrap()) as usize;
            stream.read_exact(&mut buffer[..length]).await.unwrap();
        }
    }
}

#[test]
fn a_question_allocates_nothing_in_the_steady_state() {
    let home = Home::new();
    let registry = home.registry(&world());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let mut stream = serve(&runtime, &local, &home, registry, "query");
    let mut buffer = vec![0; 64 * 1024];
    let mut questions = questions();
    let pipelined: Vec<u8> = questions.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let together = questions.len();
    questions.push((TOGETHER, pipelined));
    for (what, bytes) in &questions {
        let replies = if *what == TOGETHER { together } else { 1 };
        local.block_on(&runtime, ask(&mut stream, bytes, replies, WARM_UP, &mut buffer));
        let AllocationInfo { count_total, bytes_total, .. } = allocation_counter::measure(|| {
            local.block_on(&runtime, ask(&mut stream, bytes, replies, COUNTED, &mut buffer));
        });
        assert_eq!(count_total, 0, "{what}: {count_total} allocations of {bytes_total} bytes in {COUNTED} rounds");
    }
}

/// Sends a request without a body and reads an answer without one, `times` over.
async fn ask_http(stream: &mut UnixStream, request: &[u8], status: &str, times: usize, buffer: &mut [u8]) {
    for _ in 0..times {
        stream.write_all(request).await.unwrap();
        let mut read = 0;
        while !buffer[..read].ends_with(b"\r\n\r\n") {
            read += stream.read(&mut buffer[read..]).await.unwrap();
        }
        assert!(buffer.starts_with(status.as_bytes()), "{}", String::from_utf8_lossy(&buffer[..read]));
    }
}

#[test]
fn a_question_over_http_allocates_nothing_in_the_steady_state() {
    let home = Home::new();
    let registry = home.registry(&world());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let mut stream = serve(&runtime, &local, &home, registry, "http");
    let mut buffer = vec![0; 1024];
    let table = [
        (KEY, "X-Original-URI: /api/v2/tickets?page=2", "HTTP/1.1 200"),
        ("key 3:WRONGWRONGWRONG", "X-Original-URI: /api/v2/tickets", "HTTP/1.1 401"),
        (KEY, "X-Original-URI: /api/v2/../tickets", "HTTP/1.1 403"),
        (KEY, "X: no target", "HTTP/1.1 403"),
    ];
    for (credential, target, status) in table {
        let lines = format!("X-Original-Method: GET\r\n{target}\r\nAuthorization: {credential}\r\n");
        let request = format!("GET /auth/nginx HTTP/1.1\r\nHost: x\r\nX-Real-IP: 10.1.2.3\r\n{lines}\r\n");
        local.block_on(&runtime, ask_http(&mut stream, request.as_bytes(), status, WARM_UP, &mut buffer));
        let AllocationInfo { count_total, bytes_total, .. } = allocation_counter::measure(|| {
            local.block_on(&runtime, ask_http(&mut stream, request.as_bytes(), status, COUNTED, &mut buffer));
        });
        assert_eq!(count_total, 0, "{status} {target}: {count_total} allocations of {bytes_total} bytes");
    }
}
