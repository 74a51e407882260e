//! What one peer can make the daemon do: bounds, deadlines and numbers, on the real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::time::{Duration, Instant};

use keyward_proto::admin::{
    AdminReply, AdminRequest, Apply, CredentialPatch, Kind, Patch, RefusalKind, Secret, Selector, Upload,
};
use keyward_proto::frame::{ADMIN_FRAME_BYTES_MAX, ErrorCode, QUERY_FRAME_BYTES_MAX};
use keyward_proto::query::{Batch, Mode, QueryReply, QueryRequest, Reason, Target};
use raw::{Heard, KEY, Wire, asker, frame, has_program, memory_kib, put, raise_descriptors, skipped, who};
use support::{Daemon, Home, wait_until};

const TICKETS: Target<'static> = Target::Endpoint { method: b"GET", path: b"/api/v2/tickets" };

/// A home whose daemon has the configuration, and the world applied.
fn start<'h>(home: &'h Home, config: &str) -> Daemon<'h> {
    let config = home.config(config);
    let daemon = home.start_with(|command| {
        command.arg("--config").arg(config);
    });
    home.apply(&raw::world());
    daemon
}

fn query(home: &Home) -> Wire {
    Wire::connect(&home.runtime().join("query.sock"))
}

fn admin(home: &Home) -> Wire {
    Wire::connect(&home.runtime().join("admin.sock"))
}

fn open_query_connections(home: &Home) -> u64 {
    match home.admin().call(&AdminRequest::Status).unwrap() {
        AdminReply::Status(status) => status.query_connections,
        _ => panic!("no status report"),
    }
}

fn reason(heard: Heard<QueryReply>) -> (u32, u16) {
    match heard {
        Heard::Reply(id, QueryReply::Verdict(verdict)) => (id, verdict.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_frame_of_exactly_the_maximum_is_served_and_one_byte_more_closes_the_connection() {
    let home = Home::new();
    let _daemon = start(&home, "");
    let overhead = who(1, "").len() - 4;
    let longest = who(1, &"A".repeat(QUERY_FRAME_BYTES_MAX - overhead));
    assert_eq!(longest.len() - 4, QUERY_FRAME_BYTES_MAX);
    let mut wire = query(&home);
    wire.send(&longest);
    assert_eq!(reason(wire.query_reply()), (1, Reason::MalformedCredential.number()));
    wire.is_answered();
    // The rest of the frame needn't come, and mostly can't: the daemon has closed.
    wire.try_send(&who(2, &"A".repeat(QUERY_FRAME_BYTES_MAX - overhead + 1)));
    let message = wire.closed_with(ErrorCode::FrameTooLarge);
    assert!(message.contains("262145") && message.contains("262144"), "{message}");

    let show = |bytes: usize| {
        let selector = |path: &str| Selector::Endpoint { method: "GET".to_owned(), path: path.to_owned() };
        let mut out = Vec::new();
        AdminRequest::Show(selector("")).put(&mut out, 3);
        let path = "/".repeat(bytes + 4 - out.len());
        out.clear();
        AdminRequest::Show(selector(&path)).put(&mut out, 3);
        assert_eq!(out.len() - 4, bytes);
        out
    };
    let mut wire = admin(&home);
    wire.send(&show(ADMIN_FRAME_BYTES_MAX));
    let Heard::Reply(3, AdminReply::Refused(refused)) = wire.admin_reply() else { panic!("no refusal") };
    assert_eq!(refused.kind, RefusalKind::Invalid);
    assert!(refused.message.len() < 10_000, "a refusal does not hold the whole of what it refuses");
    wire.try_send(&show(ADMIN_FRAME_BYTES_MAX + 1));
    wire.closed_with(ErrorCode::FrameTooLarge);
}

#[test]
fn a_length_that_is_no_frames_closes_with_its_number_before_anything_else_arrives() {
    let home = Home::new();
    let _daemon = start(&home, "");
    let too_large = [u32::MAX, 1 << 31, 16 * 1024 * 1024 + 1].map(|length| (length, ErrorCode::FrameTooLarge));
    let too_short = [0, 1, 7].map(|length| (length, ErrorCode::FrameTooShort));
    for (length, code) in too_large.into_iter().chain(too_short) {
        for mut wire in [query(&home), admin(&home)] {
            wire.send(&length.to_be_bytes());
            wire.closed_with(code);
        }
    }
    let mut wire = query(&home);
    wire.send(&(256 * 1024_u32 + 1).to_be_bytes());
    wire.closed_with(ErrorCode::FrameTooLarge);
}

#[test]
fn what_was_answered_before_a_broken_length_is_still_answered() {
    let home = Home::new();
    let _daemon = start(&home, "");
    let mut wire = query(&home);
    wire.send(&[who(1, KEY), who(2, KEY), vec![0, 0, 0, 7], who(3, KEY)].concat());
    assert_eq!(reason(wire.query_reply()), (1, 0));
    assert_eq!(reason(wire.query_reply()), (2, 0));
    wire.closed_with(ErrorCode::FrameTooShort);
}

#[test]
fn a_frame_that_is_no_request_gets_its_numbered_error_and_the_connection_stays() {
    let home = Home::new();
    let _daemon = start(&home, "");
    let body = &who(0, KEY)[12..];
    let longer = [body, &[0]].concat();
    let huge_list = [&[0, 0, 0, 1 << 4, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let on_query: &[(u16, u16, &[u8], ErrorCode)] = &[
        (0, 0x0103, body, ErrorCode::UnsupportedVersion),
        (2, 0x0103, body, ErrorCode::UnsupportedVersion),
        (u16::MAX, 0xffff, b"", ErrorCode::UnsupportedVersion),
        (1, 0x0104, body, ErrorCode::UnknownType),
        (1, 0x0201, body, ErrorCode::UnknownType),
        (1, 0x0307, b"", ErrorCode::UnknownType),
        (1, 0, b"", ErrorCode::UnknownType),
        (1, 0x0103, b"", ErrorCode::MalformedBody),
        (1, 0x0103, &body[..body.len() - 1], ErrorCode::MalformedBody),
        (1, 0x0103, &[2], ErrorCode::MalformedBody),
        (1, 0x0102, &huge_list, ErrorCode::MalformedBody),
        (1, 0x0103, &longer, ErrorCode::TrailingBytes),
    ];
    let mut wire = query(&home);
    for (id, (version, kind, body, code)) in (100..).zip(on_query) {
        wire.send(&frame(*version, *kind, id, body));
        let (got, error) = wire.error();
        assert_eq!((got, error.code), (id, *code), "version {version} type {kind:#06x}: {error}");
        assert!(!error.message.contains("3A7Q"), "an error holds no value of the request");
        wire.is_answered();
    }
    let on_admin: &[(u16, u16, &[u8], ErrorCode)] = &[
        (2, 0x0307, b"", ErrorCode::UnsupportedVersion),
        (1, 0x0103, body, ErrorCode::UnknownType),
        (1, 0x0401, b"", ErrorCode::UnknownType),
        (1, 0x0305, b"\0\0\0\x09", ErrorCode::MalformedBody),
        (1, 0x0308, &[0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0], ErrorCode::MalformedBody),
        (1, 0x0307, b"\0", ErrorCode::TrailingBytes),
    ];
    let mut wire = admin(&home);
    for (id, (version, kind, body, code)) in (200..).zip(on_admin) {
        wire.send(&frame(*version, *kind, id, body));
        let (got, error) = wire.error();
        assert_eq!((got, error.code), (id, *code), "version {version} type {kind:#06x}: {error}");
        wire.send(&frame(1, 0x0307, 9, b""));
        assert!(matches!(wire.admin_reply(), Heard::Reply(9, AdminReply::Status(_))));
    }
}

#[test]
fn a_claimed_length_costs_no_memory_before_its_bytes_arrive() {
    const CONNECTIONS: u64 = 1_000;
    /// A quarter of what is allowed; a connection with its task takes some 6 KiB.
    const RESIDENT_KIB_EACH: u64 = 16;
    /// Reserved memory that was not touched yet counts too.
    const ADDRESS_KIB_EACH: u64 = 64;
    let home = Home::new();
    let daemon = start(&home, "");
    raise_descriptors(4_096);
    // Threads with their arenas are there before the measuring begins.
    let mut warm: Vec<Wire> = (0..64).map(|_| query(&home)).collect();
    warm.iter_mut().for_each(Wire::is_answered);
    let before = (memory_kib(daemon.pid(), "VmRSS"), memory_kib(daemon.pid(), "VmSize"));
    let claim = u32::try_from(QUERY_FRAME_BYTES_MAX).unwrap().to_be_bytes();
    let _claiming: Vec<Wire> = (0..CONNECTIONS)
        .map(|index| {
            let mut wire = query(&home);
            // Every second one says its header too.
            let header = frame(1, 0x0102, 1, b"");
            wire.send(&claim);
            wire.send(if index % 2 == 0 { b"" } else { &header[4..] });
            wire
        })
        .collect();
    // Frames of a few bytes that claim lists of 2^60 items.
    for count in [1_u64 << 60, 1 << 40, 1 << 31, 100_000] {
        let mut body = vec![0, 0, 0];
        body.extend_from_slice(&count.to_be_bytes());
        warm[0].send(&frame(1, 0x0102, 1, &body));
        assert_eq!(warm[0].error().1.code, ErrorCode::MalformedBody);
    }
    wait_until("all are accepted", || open_query_connections(&home) >= CONNECTIONS + 64);
    warm.iter_mut().for_each(Wire::is_answered);
    let resident = memory_kib(daemon.pid(), "VmHWM").saturating_sub(before.0) / CONNECTIONS;
    let address = memory_kib(daemon.pid(), "VmSize").saturating_sub(before.1) / CONNECTIONS;
    assert!(resident < RESIDENT_KIB_EACH, "{resident} KiB a connection");
    assert!(address < ADDRESS_KIB_EACH, "{address} KiB of addresses a connection");
}

#[test]
fn a_thousand_half_frames_and_five_thousand_idle_connections_leave_questions_answered() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nframe_deadline = '1s'");
    let (mut idle, mut half) = (5_000, 1_000);
    let descriptors = raise_descriptors(8_192);
    if descriptors < 8_192 {
        (idle, half) = (descriptors / 2, descriptors / 8);
        skipped(&format!("more than {idle} idle connections, because only {descriptors} files may be open"));
    }
    let mut idle: Vec<Wire> = (0..idle).map(|_| query(&home)).collect();
    let began = Instant::now();
    let mut half: Vec<Wire> = (0..half)
        .map(|_| {
            let mut wire = query(&home);
            wire.send(&who(1, KEY)[..30]);
            wire
        })
        .collect();
    let mut asking = query(&home);
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let asked = Instant::now();
        asking.is_answered();
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "a question took {slowest:?}");
    for wire in &mut half {
        wire.closed_with(ErrorCode::FrameDeadline);
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "no half-frame is cut off before its deadline");
    for wire in idle.iter_mut().step_by(100) {
        wire.is_answered();
    }
}

#[test]
fn a_frame_that_trickles_is_closed_at_its_deadline_however_it_trickles() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nframe_deadline = '1s'");
    let question = who(1, KEY);
    let table: [(&str, Vec<u8>, Duration); 3] = [
        ("a byte now and then", Vec::new(), Duration::from_millis(100)),
        ("behind a whole frame", question.clone(), Duration::from_millis(30)),
        ("as fast as it goes", Vec::new(), Duration::ZERO),
    ];
    for (name, first, pause) in table {
        let mut wire = admin(&home);
        let is_query = pause != Duration::ZERO;
        if is_query {
            wire = query(&home);
        }
        wire.send(&first);
        if !first.is_empty() {
            assert_eq!(reason(wire.query_reply()), (1, 0));
        }
        // Longer than all that can trickle meanwhile.
        let length = if is_query { 256 * 1024_u32 } else { 16 * 1024 * 1024 };
        wire.send(&length.to_be_bytes());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) && wire.try_send(b"\0") {
            std::thread::sleep(pause);
        }
        let took = began.elapsed();
        wire.closed_with(ErrorCode::FrameDeadline);
        assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "{name}: {took:?}");
    }
}

#[test]
fn frames_that_come_in_pieces_within_the_deadline_are_served_however_long_the_connection_lives() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nframe_deadline = '1s'");
    let mut wire = query(&home);
    let question = who(1, KEY);
    let (front, back) = question.split_at(20);
    let mut piece = front.to_vec();
    let began = Instant::now();
    // There is always an unfinished frame on the connection, none of them for a second.
    while began.elapsed() < Duration::from_millis(2_500) {
        wire.send(&piece);
        std::thread::sleep(Duration::from_millis(400));
        piece = [back, front].concat();
        wire.send(&piece);
        assert_eq!(reason(wire.query_reply()), (1, 0));
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_frame_and_a_used_one_is_not() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nidle_timeout = '1s'");
    let (mut idle, mut idle_admin, mut used) = (query(&home), admin(&home), query(&home));
    let mut once = query(&home);
    let began = Instant::now();
    once.is_answered();
    used.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    while began.elapsed() < Duration::from_millis(2_500) {
        used.is_answered();
        assert_eq!(used.query_reply(), Heard::Nothing, "a connection in use stays");
    }
    let began = Instant::now();
    assert_eq!(idle.query_reply(), Heard::End);
    assert_eq!(once.query_reply(), Heard::End);
    assert!(matches!(idle_admin.admin_reply(), Heard::End));
    assert!(began.elapsed() < Duration::from_secs(1), "they were closed long before");
    let mut late = query(&home);
    let began = Instant::now();
    assert_eq!(late.query_reply(), Heard::End);
    assert!(began.elapsed() >= Duration::from_millis(900), "not before its time");
}

#[test]
fn over_one_users_share_or_over_all_a_connection_is_refused_in_words_and_admin_still_answers() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nconnections = 3\nconnections_per_uid = 2");
    let mut first = query(&home);
    let mut second = query(&home);
    first.is_answered();
    second.is_answered();
    let message = query(&home).closed_with(ErrorCode::TooManyConnections);
    assert!(message.contains("limits.connections_per_uid") && message.contains("has 2"), "{message}");
    assert!(home.run(&["status"]).status.success(), "the admin socket is not counted");
    drop(first);
    wait_until("the place is given back", || open_query_connections(&home) == 1);
    query(&home).is_answered();
}

#[test]
fn over_all_connections_the_query_socket_refuses_in_words_while_admin_answers_and_places_come_back() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nconnections = 2\nconnections_per_uid = 2");
    let mut held = [query(&home), query(&home)];
    held.iter_mut().for_each(Wire::is_answered);
    for _ in 0..20 {
        let message = query(&home).closed_with(ErrorCode::TooManyConnections);
        assert!(message.contains("all 2") && message.contains("limits.connections"), "{message}");
        assert_eq!(open_query_connections(&home), 2);
    }
    held.iter_mut().for_each(Wire::is_answered);
    drop(held);
    wait_until("the places are given back", || open_query_connections(&home) == 0);
    query(&home).is_answered();
}

#[test]
fn the_admin_socket_has_a_limit_of_its_own() {
    let home = Home::new();
    let _daemon = start(&home, "");
    let mut open: Vec<Wire> = (0..128).map(|_| admin(&home)).collect();
    for wire in &mut open {
        wire.send(&frame(1, 0x0307, 1, b""));
        assert!(matches!(wire.admin_reply(), Heard::Reply(1, AdminReply::Status(_))));
    }
    admin(&home).closed_with(ErrorCode::TooManyConnections);
    query(&home).is_answered();
    drop(open);
    wait_until("a place is given back", || home.run(&["status"]).status.success());
}

#[test]
fn a_reader_that_never_takes_its_replies_is_closed_and_stops_nobody() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nframe_deadline = '1s'");
    let mut slow: Vec<Wire> = (0..8).map(|_| query(&home)).collect();
    for wire in &mut slow {
        assert!(wire.fill_without_reading() > 500);
    }
    let mut asking = query(&home);
    for _ in 0..50 {
        let asked = Instant::now();
        asking.is_answered();
        assert!(asked.elapsed() < Duration::from_millis(800));
    }
    wait_until("the slow ones are closed", || open_query_connections(&home) == 1);
    asking.is_answered();
}

#[test]
fn one_that_reads_slowly_gets_every_reply() {
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nframe_deadline = '2s'\nidle_timeout = '1s'");
    let mut wire = query(&home);
    let sent = wire.fill_without_reading();
    // Over the idle timeout, under the deadline for taking replies.
    std::thread::sleep(Duration::from_millis(1_200));
    for id in 1..=sent {
        assert_eq!(reason(wire.query_reply()), (id, 0));
    }
    wire.is_answered();
}

#[test]
fn a_thousand_requests_in_one_write_get_a_thousand_replies_in_order() {
    let home = Home::new();
    let _daemon = start(&home, "");
    let mut wire = query(&home);
    pipeline(&mut wire);
}

fn pipeline(wire: &mut Wire) {
    let ask = |id: u32| match id % 3 {
        0 => who(id, KEY),
        1 => raw::check(id, KEY, TICKETS),
        _ => who(id, "key 3:WRONGWRONGWRONG"),
    };
    wire.send(&(1..=1_000).flat_map(ask).collect::<Vec<u8>>());
    for id in 1..=1_000 {
        let expected = if id % 3 == 2 { Reason::BadCredential } else { Reason::Ok };
        assert_eq!(reason(wire.query_reply()), (id, expected.number()));
    }
}

#[test]
fn all_frames_of_one_read_are_answered_with_one_write() {
    if !has_program("strace", "counting the writes of pipelined replies") {
        return;
    }
    let home = Home::new();
    let trace = home.path().join("trace");
    let daemon = home.start_with(|command| raw::under_strace(&home, command, "write,writev,sendto,sendmsg", &trace));
    home.apply(&raw::world());
    let mut wire = query(&home);
    wire.is_answered();
    let writes = || {
        let text = std::fs::read_to_string(&trace).unwrap();
        // A reply's length prefix, `\0\0\0…`, and no wake-up of an event loop.
        text.lines().filter(|line| line.contains(", \"\\0\\0\\0")).count()
    };
    let before = writes();
    assert!(before > 0, "the trace shows the first reply");
    pipeline(&mut wire);
    daemon.stop();
    let counted = writes() - before;
    assert!((1..=100).contains(&counted), "{counted} writes for a thousand replies");
}

#[test]
fn a_batch_of_1024_targets_is_answered_in_one_frame_and_a_bad_target_spoils_only_its_own() {
    let home = Home::new();
    let _daemon = start(&home, "");
    let mut wire = query(&home);
    let mut batch = |targets: Vec<Target<'_>>| {
        wire.send(&put(&QueryRequest::Batch(Batch { asker: asker(KEY), targets }), 5));
        match wire.query_reply() {
            Heard::Reply(5, QueryReply::Batch(verdicts)) => verdicts,
            other => panic!("{other:?}"),
        }
    };
    let long_path = [b"/".to_vec(), vec![b'a'; 8 * 1024]].concat();
    let bad: [(usize, Target<'_>, Reason); 8] = [
        (0, Target::Tags(vec![b"Upper"]), Reason::BadRequest),
        (1, Target::Tags(vec![]), Reason::BadRequest),
        (2, Target::Tags(vec![b"a"; 17]), Reason::BadRequest),
        (511, Target::Endpoint { method: b"get", path: b"/api/v2/tickets" }, Reason::BadRequest),
        (512, Target::Endpoint { method: b"GET", path: &long_path }, Reason::BadRequest),
        (513, Target::Endpoint { method: b"GET", path: b"/api//v2" }, Reason::AmbiguousPath),
        (1_022, Target::Endpoint { method: b"GET", path: b"/nowhere" }, Reason::NoRoute),
        (1_023, Target::Tags(vec![b"tickets.delete"]), Reason::TagDenied),
    ];
    let mut targets = vec![TICKETS; 1_024];
    let mut expected = vec![Reason::Ok.number(); 1_024];
    for (place, target, reason) in bad {
        targets[place] = target;
        expected[place] = reason.number();
    }
    let answered = batch(targets);
    assert_eq!((answered.reason, answered.status), (0, 200));
    assert_eq!(answered.identity.unwrap().agent_id, 4);
    assert_eq!(answered.verdicts.iter().map(|verdict| verdict.reason).collect::<Vec<_>>(), expected);
    for count in [0, 1_025, 5_000] {
        let refused = batch(vec![TICKETS; count]);
        assert_eq!((refused.reason, refused.status), (1, 400), "{count} targets");
        assert!(refused.identity.is_none() && refused.verdicts.is_empty(), "{count} targets");
    }
    wire.is_answered();
}

/// The daemon with at most so many open files.
fn start_with_descriptors(home: &Home, descriptors: u32) -> Daemon<'_> {
    let daemon = home.start_with(|command| {
        raw::wrap(home, command, &["sh", "-c", &format!("ulimit -n {descriptors} && exec \"$@\""), "sh"]);
    });
    home.apply(&raw::world());
    daemon
}

#[test]
fn with_few_descriptors_connections_beyond_are_refused_in_words_and_it_recovers() {
    let home = Home::new();
    let _daemon = start_with_descriptors(&home, 264);
    assert!(home.log_text().contains("fewer connections than configured"), "{}", home.log_text());
    let mut open = Vec::new();
    let message = loop {
        let mut wire = query(&home);
        wire.send(&who(1, KEY));
        match wire.query_reply() {
            Heard::Reply(1, QueryReply::Verdict(_)) => open.push(wire),
            Heard::Reply(0, QueryReply::Error(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(message.code, ErrorCode::TooManyConnections);
    assert!((40..264).contains(&open.len()), "{} connections", open.len());
    assert!(home.run(&["status"]).status.success(), "the operator gets in");
    open.iter_mut().for_each(Wire::is_answered);
    drop(open);
    wait_until("the places are given back", || open_query_connections(&home) == 0);
    query(&home).is_answered();
}

#[test]
fn with_no_descriptor_left_it_waits_and_recovers() {
    let home = Home::new();
    let daemon = start_with_descriptors(&home, 30);
    // The admin socket's own limit is higher than what is left.
    let held: Vec<Wire> = (0..40).map(|_| admin(&home)).collect();
    wait_until("accepting fails", || home.log_text().contains("no connection can be accepted"));
    let mut waiting = query(&home);
    waiting.send(&who(1, KEY));
    drop(held);
    assert_eq!(reason(waiting.query_reply()), (1, 0), "who waited is served");
    daemon.stop();
}

#[test]
fn a_change_that_takes_long_does_not_cost_its_connection_the_deadlines() {
    const TOKENS: u64 = 100_000;
    let home = Home::new();
    let _daemon = start(&home, "[limits]\nframe_deadline = '1s'\nidle_timeout = '1s'");
    let mut wire = admin(&home);
    let mut tokens: Vec<Patch> = (1..=TOKENS).map(|id| token(id, 4)).collect();
    tokens.push(token(TOKENS + 1, 999));
    let mut parts = 0;
    for patches in tokens.chunks(8_000) {
        wire.send(&request(AdminRequest::Upload(Upload { number: parts, patches: patches.to_vec() }), 1));
        assert!(matches!(wire.admin_reply(), Heard::Reply(1, AdminReply::Received(number)) if number == parts));
        parts += 1;
    }
    // Behind the change that takes long, in the same write, half of the next request.
    let apply = Apply { parts, sections: vec![Kind::Token], prune: false, dry_run: false };
    let status = request(AdminRequest::Status, 3);
    let began = Instant::now();
    wire.send(&[&request(AdminRequest::Apply(apply), 2), &status[..7]].concat());
    // Refused at its end: a short reply, which is taken at once.
    assert!(matches!(wire.admin_reply(), Heard::Reply(2, AdminReply::Refused(_))));
    if began.elapsed() < Duration::from_millis(1_100) {
        skipped("a change that takes longer than a deadline, because this host is too fast for it");
    }
    // Under the deadline that begins when the daemon is done.
    std::thread::sleep(Duration::from_millis(300));
    wire.send(&status[7..]);
    assert!(matches!(wire.admin_reply(), Heard::Reply(3, AdminReply::Status(_))));
}

fn request(request: AdminRequest, id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    request.put(&mut out, id);
    out
}

fn token(id: u64, agent: u64) -> Patch {
    let code = Some(Secret::new(format!("CODE{id:021}").into_bytes()));
    Patch::Credential(CredentialPatch { agent: Some(agent), code, ..CredentialPatch::new(Mode::Token, Some(id)) })
}
