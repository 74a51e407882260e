//! The clients in Python against a daemon that restarts, refuses, mixes up and stays silent.
#![expect(clippy::unwrap_used, reason = "tests")]

mod daemon;
mod python;

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use daemon::{Daemon, Part, answers, dies, part, turns_away};
use keyward_proto::admin::{AdminReply, Done};
use keyward_proto::frame::{self, ADMIN_ERROR, QUERY_ERROR};
use keyward_proto::query::{QueryReply, Reason, Verdict};
use keyward_proto::{ErrorCode, FrameError};
use python::{has_python, run_python};

/// What each script begins with.
const ASKING: &str = r#"
import sys, os, time, keyward as kw
auth = kw.Keyward(sys.argv[1], timeout=30)
def ask(): return auth.check("GET", "/api/v2/tickets", credential="key 2:YWK2PGCS8CNW62SR8TBTBKWMY")
def fails(with_what, words):
    try: answer = ask()
    except with_what as error: assert words in str(error), error
    else: raise AssertionError(f"{answer} instead of {words}")
"#;

const CHANGING: &str = r#"
import sys, keyward_admin
admin = keyward_admin.Admin(sys.argv[1])
def fails(with_what, words):
    try: admin.close(7)
    except with_what as error: assert words in str(error), error
    else: raise AssertionError(f"it was closed instead of {words}")
"#;

fn verdict(reason: Reason, status: u16) -> QueryReply {
    QueryReply::Verdict(Verdict { reason: reason.number(), status, retry_after: 0, identity: None, route: None })
}

fn allow() -> QueryReply {
    verdict(Reason::Ok, 200)
}

/// Answers, and says behind it, in the same write, that the daemon is stopping.
fn answers_and_stops() -> Part {
    part(|mut peer| {
        let (_, id, _) = peer.request();
        let mut out = Vec::new();
        allow().put(&mut out, id);
        frame::put_error(&mut out, QUERY_ERROR, 0, &FrameError::new(ErrorCode::Stopping, "connect again"));
        peer.stream.write_all(&out).unwrap();
    })
}

/// Lets a script speak with a daemon that plays these parts, no more and no fewer.
fn play(begin: &str, parts: Vec<Part>, script: &str) {
    if !has_python() {
        return;
    }
    let daemon = Daemon::playing(parts);
    run_python(&format!("{begin}{script}"), &[daemon.path.as_os_str()]);
    daemon.end();
}

#[test]
fn a_question_is_asked_once_more_on_a_dead_connection_and_no_third_time() {
    let stopping = || turns_away(QUERY_ERROR, ErrorCode::Stopping);
    play(ASKING, vec![dies(), answers(allow())], "assert ask()");
    play(ASKING, vec![stopping(), answers(allow())], "assert ask()");
    play(ASKING, vec![answers_and_stops(), answers(allow())], "assert ask() and ask()");
    play(ASKING, vec![dies(), dies()], "fails(kw.Unavailable, 'no verdict, twice')");
    play(ASKING, vec![stopping(), dies(), answers(allow())], "fails(kw.Unavailable, 'twice')\nassert ask()");
}

#[test]
fn a_client_that_is_turned_away_learns_why_and_does_not_come_back() {
    for (code, number) in [(ErrorCode::NotPermitted, 8), (ErrorCode::TooManyConnections, 7)] {
        let script =
            format!("fails(kw.Refused, 'go away')\ntry: ask()\nexcept kw.Refused as e: assert e.code == {number}");
        play(ASKING, vec![turns_away(QUERY_ERROR, code), turns_away(QUERY_ERROR, code)], &script);
    }
}

#[test]
fn a_silent_daemon_runs_into_the_timeout_and_its_late_reply_is_never_read() {
    let silent = part(|mut peer| {
        peer.request();
        peer.wait_for_end();
    });
    let script = r#"
auth.timeout, began = 0.2, time.monotonic()
fails(kw.Unavailable, "in time")
assert 0.2 <= time.monotonic() - began < 10
auth.timeout = 30
assert ask().reason == "revoked"
"#;
    play(ASKING, vec![silent, answers(verdict(Reason::Revoked, 401))], script);
}

#[test]
fn a_reply_to_another_request_or_one_that_cannot_be_read_is_no_verdict_and_ends_the_connection() {
    let mixed_up = part(|mut peer| {
        let (_, id, _) = peer.request();
        peer.reply(id + 1, &allow());
        peer.wait_for_end();
    });
    let huge = part(|mut peer| {
        peer.request();
        peer.stream.write_all(&[0x7f, 0xff, 0xff, 0xff]).unwrap();
        peer.wait_for_end();
    });
    let newer = part(|mut peer| {
        peer.request();
        peer.stream.write_all(&[0, 0, 0, 8, 0, 2, 2, 1, 0, 0, 0, 3]).unwrap();
        peer.wait_for_end();
    });
    let script = "for _ in range(3): fails(kw.Unavailable, \"can't be read\")\nassert ask()";
    play(ASKING, vec![mixed_up, huge, newer, answers(allow())], script);
}

#[test]
fn what_does_not_fit_into_a_frame_is_not_sent_and_a_daemon_that_is_not_there_is_named() {
    let script = r#"
try: auth.check("GET", "/" * 300_000)
except kw.TooLarge: pass
else: raise AssertionError("it was sent")
assert ask()
auth.close()
auth.path = "/nonexistent/query.sock"
fails(kw.Unavailable, "/nonexistent/query.sock")
"#;
    play(ASKING, vec![answers(allow())], script);
}

#[test]
fn after_a_fork_each_process_has_a_connection_of_its_own() {
    let (kept, done) = mpsc::channel();
    let parent = part(move |mut peer| {
        let (_, id, _) = peer.request();
        peer.reply(id, &allow());
        thread::spawn(move || {
            let (_, id, _) = peer.request();
            peer.reply(id, &allow());
            kept.send(()).unwrap();
        });
    });
    let script = r#"
assert ask()
auth._lock.acquire()  # as a thread that does not live on in the child may have
child = os.fork()
if child == 0: os._exit(0 if ask().reason == "revoked" else 1)
assert os.waitpid(child, 0)[1] == 0
auth._lock.release()
assert ask()
"#;
    play(ASKING, vec![parent, answers(verdict(Reason::Revoked, 401))], script);
    if has_python() {
        done.recv().unwrap();
    }
}

#[test]
fn threads_that_share_a_client_each_get_their_own_reply() {
    let echo = part(|mut peer| {
        for _ in 0..400 {
            let (_, id, body) = peer.request();
            // The path's last four digits come back as the status.
            let digits = std::str::from_utf8(&body[body.len() - 4..]).unwrap();
            peer.reply(id, &verdict(Reason::NoRoute, digits.parse().unwrap()));
        }
    });
    let script = r#"
import threading
wrong = []
def many(first):
    for number in range(first, first + 100):
        if auth.check("GET", f"/{number}").status != number: wrong.append(number)
threads = [threading.Thread(target=many, args=(first,)) for first in (1000, 2000, 3000, 4000)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong, wrong
"#;
    play(ASKING, vec![echo], script);
}

fn carries_out() -> Part {
    part(|mut peer| {
        let (id, _) = peer.admin_request();
        peer.admin_reply(id, &AdminReply::Done(Done { record: None, credential: None }));
    })
}

#[test]
fn a_change_is_sent_once_more_only_when_it_was_certainly_not_carried_out() {
    let stopping = || turns_away(ADMIN_ERROR, ErrorCode::Stopping);
    play(CHANGING, vec![stopping(), carries_out()], "admin.close(7)");
    play(CHANGING, vec![stopping(), stopping()], "fails(keyward_admin.NotServed, 'go away')");
    // Ended without a word, while nothing was asked: the connection is closed before the second change is written.
    play(CHANGING, vec![carries_out(), carries_out()], "admin.close(7)\nadmin.socket.recv(1)\nadmin.close(7)");
    let lost = "fails(keyward_admin.Unknown, 'closed the connection')\nadmin.close(7)";
    play(CHANGING, vec![dies(), carries_out()], lost);
    play(CHANGING, vec![turns_away(ADMIN_ERROR, ErrorCode::NotPermitted)], "fails(OSError, 'go away')");
}
