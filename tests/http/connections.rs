//! Connections of the HTTP door: heads, bounds, deadlines, the stop.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use keyward_proto::admin::{AdminReply, AdminRequest};
use nix::sys::signal::Signal;

use crate::support::http::{Connection, PATIENCE, Place, get};
use crate::support::{Home, wait_until};
use crate::{KEY_2, me_question, start};

#[test]
fn connections_are_kept_and_closed_as_http_says() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let table = [
        ("HTTP/1.1", "X: y", None),
        ("HTTP/1.1", "Connection: close", Some("close")),
        ("HTTP/1.1", "Connection: keep-alive", None),
        ("HTTP/1.0", "X: y", Some("close")),
        ("HTTP/1.0", "Connection: keep-alive", Some("keep-alive")),
    ];
    for place in &places {
        for (version, header, told) in table {
            let mut connection = place.connect();
            let request = format!("GET /healthz {version}\r\nHost: x\r\n{header}\r\n\r\n");
            connection.send(&request);
            let answer = connection.answer().unwrap();
            assert_eq!((answer.status, answer.header("connection")), (200, told), "{version} {header}");
            assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")), "{version} {header}");
            if told == Some("close") {
                assert!(connection.ends(), "{version} {header}");
            } else {
                connection.send(&request);
                assert_eq!(connection.answer().unwrap().status, 200, "{version} {header}");
            }
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let key = format!("Authorization: {KEY_2}");
    let mut requests = Vec::new();
    for number in 0..100 {
        let agent = format!("X-DeskPRO-Agent-ID: {}", [1, 4, 5, 99][number % 4]);
        requests.extend(me_question("/auth/forward", &[&key, &agent]));
    }
    for place in &places {
        let mut connection = place.connect();
        // Cut where a head is half: the pieces come in reads of their own.
        for piece in requests.chunks(701) {
            connection.send(piece);
        }
        for number in 0..100 {
            let answer = connection.answer().unwrap();
            let expected = ["1", "4", "5", ""][number % 4];
            assert_eq!(answer.header("x-keyward-agent-id"), Some(expected), "answer {number}");
        }
    }
}

/// Heads that two parsers could read in two ways, and what is no HTTP/1 at all.
const REFUSED_HEADS: &[(&str, u16)] = &[
    ("GET /healthz\r\n\r\n", 400),
    ("GET /healthz \r\n\r\n", 400),
    ("GET /healthz HTTP/0.9\r\n\r\n", 400),
    ("GET /healthz HTTP/1.2\r\n\r\n", 400),
    ("GET /healthz HTTP/2.0\r\n\r\n", 400),
    ("GET /healthz http/1.1\r\n\r\n", 400),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("GET  /healthz HTTP/1.1\r\n\r\n", 400),
    ("GET /heal thz HTTP/1.1\r\n\r\n", 400),
    (" GET /healthz HTTP/1.1\r\n\r\n", 400),
    ("GET\t/healthz\tHTTP/1.1\r\n\r\n", 400),
    ("\r\nGET /healthz HTTP/1.1\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\nHost: x\n\n", 400),
    ("GET /healthz HTTP/1.1\r\nHost: x\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nHost: x\r\n\n", 400),
    ("GET /healthz HTTP/1.1\r\nA: b\rC: d\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\n\tA: b\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nA : b\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\n: b\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nA(: b\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nA: \0\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nA: \x0b\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nA: \x7f\r\n\r\n", 400),
    ("GET /healthz\0 HTTP/1.1\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 4\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: +3\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: 0x3\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length:\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    ("POST /healthz HTTP/1.1\r\nTransfer-Encoding\r\n: chunked\r\n\r\n", 400),
    ("POST /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\n", 400),
    ("\n", 400),
];

#[test]
fn heads_that_two_parsers_could_read_in_two_ways_are_refused_and_the_connection_ends() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    for place in &places {
        for (head, status) in REFUSED_HEADS {
            let mut connection = place.connect();
            // A whole request before it is answered, one behind it never.
            connection.send(get("/healthz", &[]));
            connection.send([head.as_bytes(), &get("/me", &[])].concat());
            assert_eq!(connection.answer().unwrap().status, 200, "before {head:?}");
            assert_eq!(connection.answer().unwrap().status, *status, "{head:?}");
            assert!(connection.ends(), "{head:?}");
        }
    }
    for (head, status) in REFUSED_HEADS {
        assert_eq!(places[0].ask(head).status, *status, "{head:?}");
    }
}

#[test]
fn a_head_is_taken_up_to_its_bounds() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "");
    let padded = |bytes: usize| {
        let bare = get("/healthz", &["A: "]).len();
        get("/healthz", &[&format!("A: {}", "x".repeat(bytes - bare))])
    };
    let lines = |count: usize| {
        let lines: Vec<String> = (1..count).map(|number| format!("A{number}: b")).collect();
        get("/healthz", &lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let table = [
        (padded(32 * 1024), 200),
        (padded(32 * 1024 + 1), 431),
        (padded(1024 * 1024), 431),
        (lines(100), 200),
        (lines(101), 431),
    ];
    for place in &places {
        for (number, (head, status)) in table.iter().enumerate() {
            let mut connection = place.connect();
            connection.send(head);
            assert_eq!(connection.answer().unwrap().status, *status, "row {number}");
            if *status == 431 {
                assert!(connection.ends(), "row {number}");
            }
        }
        // A head without an end is refused as soon as it is too long.
        let mut connection = place.connect();
        connection.send(vec![b'A'; 40 * 1024]);
        assert_eq!(connection.answer().unwrap().status, 431);
    }
}

#[test]
fn a_slow_head_is_cut_off_and_an_idle_connection_is_kept_longer() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "[limits]\nframe_deadline = '1s'\nidle_timeout = '5s'\n");
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| slow_and_idle(place));
        }
    });
}

fn slow_and_idle(place: &Place) {
    let mut idle = place.connect();
    idle.send(get("/healthz", &[]));
    assert_eq!(idle.answer().unwrap().status, 200);

    let began = Instant::now();
    let mut slow = place.connect();
    // The beginning of the second head comes with the end of the first.
    slow.send([&get("/healthz", &[])[..], b"GET /heal"].concat());
    assert_eq!(slow.answer().unwrap().status, 200);
    // Each byte comes well in time, the head does not; it ends before the drops do.
    let dropped = (0..60).take_while(|_| {
        std::thread::sleep(Duration::from_millis(80));
        slow.send("x")
    });
    assert!(dropped.count() < 60, "a head may not take for ever");
    assert_eq!(slow.answer().unwrap().status, 408);
    assert!(slow.ends());
    assert!(began.elapsed() >= Duration::from_secs(1));

    // Idle for longer than a head may take.
    idle.send(get("/healthz", &[]));
    assert_eq!(idle.answer().unwrap().status, 200, "an idle connection outlives a head's deadline");
    let began = Instant::now();
    assert!(idle.ends());
    assert!((4..12).contains(&began.elapsed().as_secs()), "idle for {:?}", began.elapsed());
}

#[test]
fn hostile_clients_leave_the_door_answering() {
    let home = Home::new();
    let (daemon, places) = start(&home, "");
    let mut held = Vec::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..300 {
        let place = &places[round % 2];
        let mut connection = place.connect();
        let garbage: Vec<u8> = (0..round)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_le_bytes()[0]
            })
            .collect();
        connection.send(match round % 5 {
            0 => garbage,
            1 => get("/me", &[])[..20].to_vec(),
            2 => [b"GET /auth/nginx HTTP/1.1\r\nA: ".to_vec(), garbage].concat(),
            3 => get("/healthz", &[]).repeat(50),
            _ => Vec::new(),
        });
        // Some leave at once, some stay and never read.
        if round % 3 == 0 {
            held.push(connection);
        }
    }
    for place in &places {
        assert_eq!(place.ask(get("/healthz", &[])).body, b"ok\n");
    }
    drop(held);
    assert!(!home.log_text().contains("panic"), "{}", home.log_text());
    daemon.stop();
}

#[test]
fn a_client_that_never_reads_is_let_go_and_its_memory_is_bounded() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "[limits]\nframe_deadline = '1s'\n");
    let Place::Unix(path) = &places[0] else { unreachable!() };
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let requests = get("/healthz", &[]).repeat(1000);
    // The daemon stops reading when its answers are not taken, and ends the connection.
    let error = loop {
        if let Err(error) = stream.write_all(&requests) {
            break error;
        }
    };
    assert!(
        matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset),
        "the daemon ended it: {error}"
    );
    assert_eq!(places[0].ask(get("/healthz", &[])).status, 200);
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_the_other_doors_have_places_of_their_own() {
    let home = Home::new();
    let (_daemon, places) = start(&home, "[limits]\nconnections = 24\nconnections_per_uid = 4\n");
    let mut held: Vec<Connection> = Vec::new();
    for place in &places {
        let mut taken = 0;
        loop {
            let mut connection = place.connect();
            connection.send(get("/healthz", &[]));
            let answer = connection.answer().unwrap();
            if answer.status != 200 {
                assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
                assert!(connection.ends());
                break;
            }
            taken += 1;
            held.push(connection);
        }
        // The door has a quarter of 24. TCP peers count as one user, and share the total with the socket's.
        assert_eq!(taken, if held.len() == 4 { 4 } else { 2 });
    }
    assert_eq!(held.len(), 6);
    let verdict = home.query().who(keyward_proto::query::Asker::default());
    assert!(verdict.is_ok(), "the query socket is not full");
    drop(held.pop());
    wait_until("a place is free again", || {
        let mut connection = places[1].connect();
        connection.send(get("/healthz", &[]));
        connection.answer().unwrap().status == 200
    });
}

#[test]
fn who_has_just_connected_when_the_stop_comes_is_answered() {
    // The host may be too slow now and then for the time that such a one is given.
    let answered = (0..10).any(|_| {
        let home = Home::new();
        let (mut daemon, places) = start(&home, "");
        let mut admin = home.admin();
        let mut connected = || {
            let reply = admin.call(&AdminRequest::Status).unwrap();
            matches!(reply, AdminReply::Status(status) if status.http_connections == 2)
        };
        let mut both = places.map(|place| place.connect());
        wait_until("both are accepted", &mut connected);
        daemon.signal(Signal::SIGTERM);
        wait_until("the stop has begun", || home.log_text().contains("stopping"));
        let sent = both.each_mut().map(|connection| connection.send(get("/healthz", &[])));
        let answers = both.each_mut().map(|connection| connection.answer().map(|answer| answer.status));
        assert!(daemon.child.wait().unwrap().success());
        assert!(both.into_iter().all(Connection::ends));
        sent == [true; 2] && answers == [Some(200); 2]
    });
    assert!(answered);
}

#[test]
fn a_stop_answers_what_was_received_and_closes_idle_connections() {
    let home = Home::new();
    let (daemon, places) = start(&home, "");
    let mut idle = places.clone().map(|place| place.connect());
    for connection in &mut idle {
        connection.send(get("/healthz", &[]));
        assert_eq!(connection.answer().unwrap().status, 200);
    }
    let mut half = places[0].connect();
    half.send(b"GET /healthz HTTP/1.1\r\n");
    let began = Instant::now();
    daemon.stop();
    assert!(began.elapsed() < Duration::from_secs(8), "a stop does not wait for the idle: {:?}", began.elapsed());
    for connection in idle {
        assert!(connection.ends());
    }
    assert!(half.answer().is_none_or(|answer| answer.status == 408));
    assert!(!home.runtime().join("http.sock").exists(), "the socket is gone");
}
