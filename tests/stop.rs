//! The orderly stop: what was received is finished, what was acknowledged is there afterwards, nobody holds it up.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "a test")]

#[path = "support/raw.rs"]
mod raw;
mod support;

use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward_proto::admin::{AdminReply, AdminRequest, AgentPatch, CredentialPatch, Patch, Record, Selector, SetText};
use keyward_proto::frame::{self, ErrorCode};
use keyward_proto::query::{Mode, QueryReply};
use nix::sys::signal::Signal::{self, SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM};
use nix::sys::socket::{MsgFlags, recv};
use raw::{Heard, KEY, Wire, who};
use support::{Daemon, Home, wait_until};

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

fn request(request: &AdminRequest, id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    request.put(&mut out, id);
    out
}

fn new_agent(id: Option<u64>) -> AdminRequest {
    AdminRequest::Add(Patch::Agent(AgentPatch {
        id,
        name: Some("A".to_owned()),
        permissions: Some(SetText::Text("*".to_owned())),
        ..AgentPatch::default()
    }))
}

/// Waits for the end that a signal asked for.
fn ended(mut daemon: Daemon<'_>) -> ExitStatus {
    daemon.child.wait().unwrap()
}

/// Stopped by the system, the daemon cannot read: what is written until the signal lies in its sockets then.
fn while_frozen(daemon: &Daemon<'_>, signal: Signal, write: impl FnOnce()) {
    daemon.signal(SIGSTOP);
    let stat = format!("/proc/{}/stat", daemon.pid());
    wait_until("it is stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    write();
    daemon.signal(signal);
    daemon.signal(SIGCONT);
}

#[test]
fn requests_that_were_written_before_the_signal_all_get_their_replies_then_stopping_and_the_end() {
    for signal in [SIGTERM, SIGINT] {
        let home = Home::new();
        let daemon = start(&home, "");
        let mut asking: Vec<Wire> = (0..20).map(|_| query(&home)).collect();
        let mut idle = [query(&home), admin(&home)];
        let mut half = query(&home);
        asking.iter_mut().chain(&mut idle[..1]).for_each(Wire::is_answered);
        half.is_answered();
        idle[1].send(&request(&AdminRequest::Status, 1));
        assert!(matches!(idle[1].admin_reply(), Heard::Reply(1, AdminReply::Status(_))));
        // More than one read takes.
        const REQUESTS: u32 = 300;
        let pipelined: Vec<u8> = (1..=REQUESTS).flat_map(|id| who(id, KEY)).collect();
        while_frozen(&daemon, signal, || {
            asking.iter_mut().for_each(|wire| wire.send(&pipelined));
            half.send(&[&who(1, KEY)[..], &who(2, KEY)[..40]].concat());
        });
        for wire in &mut asking {
            for id in 1..=REQUESTS {
                let Heard::Reply(got, QueryReply::Verdict(verdict)) = wire.query_reply() else { panic!("{id}") };
                assert!(got == id && verdict.is_allowed());
            }
            assert!(wire.closed_with(ErrorCode::Stopping).contains("connect again"));
        }
        assert!(matches!(half.query_reply(), Heard::Reply(1, QueryReply::Verdict(_))), "the whole frame is served");
        half.closed_with(ErrorCode::Stopping);
        for wire in &mut idle {
            wire.closed_with(ErrorCode::Stopping);
        }
        assert_eq!(ended(daemon).code(), Some(0), "{signal}: {}", home.log_text());
        assert!(!home.runtime().join("query.sock").exists() && !home.runtime().join("admin.sock").exists());
        assert!(home.log_text().contains("stopped"));
    }
}

#[test]
fn changes_that_were_written_before_the_signal_are_acknowledged_and_there_after_the_restart() {
    const CHANGES: u64 = 50;
    let home = Home::new();
    let daemon = start(&home, "");
    let mut wire = admin(&home);
    wire.send(&request(&AdminRequest::Status, 1));
    assert!(matches!(wire.admin_reply(), Heard::Reply(1, AdminReply::Status(_))));
    while_frozen(&daemon, SIGTERM, || {
        let changes = (100..100 + CHANGES).flat_map(|id| request(&new_agent(Some(id)), u32::try_from(id).unwrap()));
        wire.send(&changes.collect::<Vec<u8>>());
    });
    for id in 100..100 + CHANGES {
        let Heard::Reply(got, AdminReply::Done(_)) = wire.admin_reply() else { panic!("change {id}") };
        assert_eq!(u64::from(got), id);
    }
    assert_eq!(wire.error().1.code, ErrorCode::Stopping);
    assert!(ended(daemon).success());
    let _daemon = home.start();
    for id in 100..100 + CHANGES {
        home.json(&["agent", "show", &id.to_string()]);
    }
}

#[test]
fn a_change_that_a_stop_meets_is_acknowledged_and_kept_or_it_is_not_acknowledged() {
    let home = Home::new();
    let mut ids: Vec<u64> = Vec::new();
    for _ in 0..5 {
        let daemon = home.start();
        let stopping = AtomicBool::new(false);
        let before = ids.len();
        let acknowledged = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|_| scope.spawn(|| acknowledged_agents(&home, &stopping))).collect();
            let listed = || home.json(&["agent", "list"]).as_array().unwrap().len();
            wait_until("changes are under way", || listed() > before + 20);
            stopping.store(true, Ordering::SeqCst);
            daemon.signal(SIGTERM);
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<u64>>()
        });
        assert!(ended(daemon).success());
        ids.extend(acknowledged);
        let _daemon = home.start();
        let listed = home.json(&["agent", "list"]);
        let listed: Vec<u64> = listed.as_array().unwrap().iter().map(|agent| agent["id"].as_u64().unwrap()).collect();
        for id in &ids {
            assert!(listed.contains(id), "agent {id} was acknowledged");
        }
        // One a writer may have been in flight.
        assert!(listed.len() <= ids.len() + 4, "{} agents, {} acknowledged", listed.len(), ids.len());
        ids = listed;
    }
}

/// Adds agents until the daemon goes; returns those that were acknowledged.
fn acknowledged_agents(home: &Home, stopping: &AtomicBool) -> Vec<u64> {
    let mut admin = home.admin();
    let mut ids = Vec::new();
    loop {
        match admin.call(&new_agent(None)) {
            Ok(AdminReply::Done(done)) => match done.record {
                Some(Record::Agent(agent)) => ids.push(agent.id),
                _ => panic!("not the agent"),
            },
            Ok(AdminReply::Refused(refused)) => panic!("{}", refused.message),
            Ok(_) => panic!("another reply"),
            Err(error) => {
                assert!(stopping.load(Ordering::SeqCst), "{error}");
                return ids;
            }
        }
    }
}

#[test]
fn a_connection_that_never_reads_holds_the_stop_to_its_deadline_and_the_last_uses_are_stored() {
    let home = Home::new();
    let daemon = start(&home, "[limits]\nstop_deadline = '1s'");
    let mut stuck: Vec<Wire> = (0..4).map(|_| query(&home)).collect();
    for wire in &mut stuck {
        wire.fill_without_reading();
    }
    let began = Instant::now();
    daemon.signal(SIGTERM);
    let status = ended(daemon);
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{:?}", status.signal());
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(home.log_text().contains("cut off"), "{}", home.log_text());
    assert!(!home.runtime().join("query.sock").exists());
    let _daemon = home.start();
    assert!(
        home.json(&["key", "show", "3"])["last_used"]["current"]["at"].is_u64(),
        "the use before the stop is stored"
    );
}

#[test]
fn one_that_never_pauses_does_not_hold_up_the_stop() {
    let home = Home::new();
    let daemon = start(&home, "[limits]\nstop_deadline = '1m'");
    let began = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| flood(query(&home)));
        }
        let asked = || home.json(&["status"])["questions"].as_u64().unwrap();
        wait_until("the flood is under way", || asked() > 5_000);
        daemon.signal(SIGTERM);
        Instant::now()
    });
    assert!(ended(daemon).success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(!home.log_text().contains("cut off"), "{}", home.log_text());
}

/// Writes without end, and reads beside it, until the daemon closes.
fn flood(mut wire: Wire) {
    let mut writing = Wire::over(wire.stream.try_clone().unwrap());
    let many: Vec<u8> = (1..=1_000).flat_map(|id| who(id, KEY)).collect();
    std::thread::scope(|scope| {
        scope.spawn(move || while writing.try_send(&many) {});
        let mut stopping = false;
        loop {
            match wire.query_reply() {
                Heard::Reply(0, QueryReply::Error(error)) => stopping = error.code == ErrorCode::Stopping,
                Heard::Reply(_, QueryReply::Verdict(_)) => assert!(!stopping, "nothing comes behind it"),
                Heard::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(stopping, "the reason was said");
    });
}

#[test]
fn a_stop_in_the_instant_in_which_it_can_be_reached_is_an_orderly_one() {
    if !raw::has_program("strace", "delaying a start between its system calls") {
        return;
    }
    let home = Home::new();
    let daemon = home.start_with(|command| {
        // The sockets can be reached, and the start goes on only 0.2 s later.
        let delay = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=listen:delay_exit=200000"];
        raw::wrap(&home, command, &delay);
    });
    daemon.stop();
    assert!(!home.runtime().join("query.sock").exists() && !home.runtime().join("admin.sock").exists());
}

#[test]
fn replies_that_were_sent_can_be_read_also_when_the_daemon_ended_with_requests_unread() {
    for signal in [SIGTERM, SIGKILL] {
        let home = Home::new();
        let daemon = start(&home, "");
        let mut wire = query(&home);
        wire.send(&[who(1, KEY), who(2, KEY)].concat());
        wait_until("both replies have come", || {
            let mut room = [0; 4096];
            let arrived = recv(wire.stream.as_raw_fd(), &mut room, MsgFlags::MSG_PEEK).unwrap();
            let frame = |bytes| frame::split(bytes, arrived).unwrap().map(|(_, used)| used);
            frame(&room[..arrived]).and_then(|first| frame(&room[first..arrived])).is_some()
        });
        while_frozen(&daemon, signal, || wire.send(&who(3, KEY)));
        for id in 1..=2 {
            assert!(matches!(wire.query_reply(), Heard::Reply(got, QueryReply::Verdict(_)) if got == id), "{signal}");
        }
        assert_eq!(ended(daemon).success(), signal == SIGTERM);
    }
}

#[test]
fn whoever_is_told_to_connect_again_does_not_meet_the_same_daemon() {
    if !raw::has_program("strace", "delaying the accepting of connections") {
        return;
    }
    let home = Home::new();
    let daemon = home.start_with(|command| {
        // After one connection the daemon looks for a next: the stop comes within that call.
        let delay = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=accept4:delay_enter=300000"];
        raw::wrap(&home, command, &delay);
    });
    home.apply(&raw::world());
    let mut told = query(&home);
    told.is_answered();
    query(&home).is_answered();
    daemon.signal(SIGTERM);
    told.closed_with(ErrorCode::Stopping);
    let again = UnixStream::connect(home.runtime().join("query.sock")).map_err(|error| error.kind());
    assert!(
        matches!(again, Err(ErrorKind::ConnectionRefused | ErrorKind::NotFound)),
        "nobody listens any more: {again:?}"
    );
    assert!(ended(daemon).success());
}

#[test]
fn at_the_stop_the_last_uses_are_stored() {
    let home = Home::new();
    let daemon = start(&home, "");
    home.json(&["key", "add", "another", "--id", "9", "--agent", "4"]);
    query(&home).is_answered();
    daemon.stop();
    let _daemon = home.start();
    assert!(home.json(&["key", "show", "3"])["last_used"]["current"]["at"].is_u64());
    assert!(home.json(&["key", "show", "9"])["last_used"].is_null());
}

#[test]
fn an_upload_that_a_stop_meets_leaves_nothing() {
    let home = Home::new();
    let daemon = start(&home, "");
    let mut wire = admin(&home);
    let agent = Selector::Agent(4);
    let patches =
        vec![Patch::Credential(CredentialPatch { agent: Some(4), ..CredentialPatch::new(Mode::Key, Some(8)) })];
    let upload = AdminRequest::Upload(keyward_proto::admin::Upload { number: 0, patches });
    wire.send(&[request(&upload, 1), request(&AdminRequest::Show(agent), 2)].concat());
    assert!(matches!(wire.admin_reply(), Heard::Reply(1, AdminReply::Received(0))));
    assert!(matches!(wire.admin_reply(), Heard::Reply(2, AdminReply::Done(_))));
    daemon.stop();
    assert_eq!(wire.error().1.code, ErrorCode::Stopping);
    let _daemon = home.start();
    assert!(!home.run(&["key", "show", "8"]).status.success());
}
