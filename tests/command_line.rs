//! The command line against a scripted daemon, for what a real one does not do on demand: faults of the protocol, and
//! reasons that need a fault or a rate. All else is in `tests/cli`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use keyward_proto::admin::{AdminReply, AdminRequest, Done, RefusalKind, Refused};
use keyward_proto::frame::{self, ErrorCode, FrameError};
use keyward_proto::query::{Asker, Check, QueryRequest, Reason, Target, VerdictRef, Who};
use tempfile::TempDir;

/// Runs `keyward` with `stdin` against a daemon that answers the admin requests with `replies`, one each; returns what
/// it printed and what it sent.
fn with_admin(words: &[&str], stdin: &str, replies: Vec<AdminReply>) -> (Output, Vec<AdminRequest>) {
    let runtime = TempDir::new().unwrap();
    let listener = UnixListener::bind(runtime.path().join("admin.sock")).unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut seen, mut replies, mut buffer) = (Vec::new(), replies.into_iter(), Vec::new());
        loop {
            let split = frame::split(&buffer, frame::ADMIN_FRAME_BYTES_MAX).unwrap();
            let Some((request, used)) = split else {
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => return seen,
                    Ok(read) => buffer.extend_from_slice(&chunk[..read]),
                }
                continue;
            };
            seen.push(AdminRequest::decode(&request).unwrap());
            let mut out = Vec::new();
            replies.next().expect("a reply for each request").put(&mut out, request.header.request_id);
            stream.write_all(&out).unwrap();
            buffer.drain(..used);
        }
    });
    let output = run(runtime.path(), words, stdin);
    // Wakes the daemon when the command ended without connecting.
    drop(std::os::unix::net::UnixStream::connect(runtime.path().join("admin.sock")));
    (output, daemon.join().unwrap())
}

fn run(runtime: &Path, words: &[&str], stdin: &str) -> Output {
    let mut child =
        command(runtime, words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that reads no input may be gone already.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    child.wait_with_output().unwrap()
}

fn command(runtime: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(words).env("KEYWARD_RUNTIME", runtime);
    command
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Runs `check` against a daemon that expects one question and answers with `reason`.
fn with_query(words: &[&str], stdin: &str, wanted: &QueryRequest<'_>, reason: Reason) -> Output {
    let runtime = TempDir::new().unwrap();
    let listener = UnixListener::bind(runtime.path().join("query.sock")).unwrap();
    let mut wanted_bytes = Vec::new();
    wanted.put(&mut wanted_bytes, 1);
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; wanted_bytes.len()];
        stream.read_exact(&mut request).unwrap();
        let mut out = Vec::new();
        let status = if reason == Reason::Ok { 200 } else { 403 };
        VerdictRef { reason: reason.number(), status, retry_after: 0, identity: None, route: None }.put(&mut out, 1);
        stream.write_all(&out).unwrap();
        request == wanted_bytes
    });
    let output = run(runtime.path(), words, stdin);
    assert!(daemon.join().unwrap(), "{words:?} asked something else");
    output
}

#[test]
fn check_asks_as_typed_and_exits_by_the_verdict() {
    let nobody = Asker::default();
    let key = Asker { credential: Some(b"key 2:AAAAAAAA"), ..nobody };
    let odd = Asker { credential: Some(b""), agent: Some(b" +4"), address: Some(b"-") };
    let endpoint = || Target::Endpoint { method: b"get", path: b"/a//b?c" };
    let tags = || Target::Tags(vec![b"a.b", b"NO TAG"]);
    let check = |asker, target| QueryRequest::Check(Check { asker, target });
    for (words, stdin, wanted, reason, status) in [
        (&["check"][..], "", QueryRequest::Who(Who { asker: nobody }), Reason::MissingCredential, 1),
        (&["check", "--credential", "key 2:AAAAAAAA"], "", QueryRequest::Who(Who { asker: key }), Reason::Ok, 0),
        (
            &["check", "--credential", "-", "get", "/a//b?c"],
            "key 2:AAAAAAAA\n",
            check(key, endpoint()),
            Reason::BadRequest,
            1,
        ),
        (
            &["check", "--credential", "-", "--tag", "a.b", "--tag", "NO TAG"],
            "key 2:AAAAAAAA",
            check(key, tags()),
            Reason::Unavailable,
            4,
        ),
        (
            &["check", "--credential", "", "--agent", " +4", "--ip", "-", "get", "/a//b?c"],
            "",
            check(odd, endpoint()),
            Reason::RateLimited,
            1,
        ),
    ] {
        let output = with_query(words, stdin, &wanted, reason);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", stderr(&output));
        assert!(
            stdout(&output).contains(reason.name()) && !stdout(&output).contains("AAAAAAAA"),
            "{}",
            stdout(&output)
        );
    }
}

#[test]
fn an_unreachable_daemon_is_exit_status_3_and_named_by_its_socket() {
    let runtime = TempDir::new().unwrap();
    for (words, socket) in
        [(&["check", "--json"][..], "query.sock"), (&["status"], "admin.sock"), (&["key", "list"], "admin.sock")]
    {
        let output = run(runtime.path(), words, "");
        assert_eq!((output.status.code(), stdout(&output)), (Some(3), ""), "{words:?}");
        let path = runtime.path().join(socket);
        assert!(
            stderr(&output).contains(path.to_str().unwrap()) && stderr(&output).contains("keyward serve"),
            "{words:?}"
        );
    }
}

#[test]
fn where_nobody_answers_a_command_says_so_and_waits_on() {
    for (socket, words) in [("admin.sock", &["status"][..]), ("query.sock", &["check"])] {
        let runtime = TempDir::new().unwrap();
        let _listener = UnixListener::bind(runtime.path().join(socket)).unwrap();
        let mut child = command(runtime.path(), words).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("no answer yet") && line.contains("systemctl status keyward"), "{line:?}");
        assert!(child.try_wait().unwrap().is_none(), "it waits on");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_daemon_that_hangs_up_is_exit_status_4() {
    let runtime = TempDir::new().unwrap();
    let listener = UnixListener::bind(runtime.path().join("admin.sock")).unwrap();
    // Once the whole request has come it may have been carried out, so it is not sent again.
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while frame::split(&request, frame::ADMIN_FRAME_BYTES_MAX).unwrap().is_none() {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).unwrap();
            request.extend_from_slice(&chunk[..read]);
        }
    });
    let output = run(runtime.path(), &["key", "revoke", "1"], "");
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
}

#[test]
fn a_reply_that_is_no_answer_is_exit_status_4() {
    let refused =
        |kind| AdminReply::Refused(Refused { kind, place: None, message: "not done: no; try\u{1b} again".into() });
    let error = |code| AdminReply::Error(FrameError::new(code, "no"));
    for (reply, status) in [
        (refused(RefusalKind::Invalid), 2),
        (refused(RefusalKind::Unavailable), 4),
        (error(ErrorCode::TooManyConnections), 4),
        (error(ErrorCode::UnknownType), 4),
        (error(ErrorCode::NotPermitted), 3),
        (AdminReply::Received(0), 4),
        (AdminReply::Done(Done { record: None, credential: None }), 4),
    ] {
        // A change, for it is never sent twice.
        let (output, seen) = with_admin(&["agent", "disable", "4"], "", vec![reply]);
        assert_eq!(seen.len(), 1);
        assert_eq!((output.status.code(), stdout(&output)), (Some(status), ""), "{}", stderr(&output));
        assert!(stderr(&output).starts_with("keyward: ") && !stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
    }
}

#[test]
fn input_that_is_refused_here_never_reaches_the_daemon() {
    for words in [
        &["agent", "set", "4"][..],
        &["key", "set", "4"],
        &["agent", "add", "A", "--permissions", "[1]"],
        &["agent", "add", "A", "--permissions", "*", "--attribute", "a"],
        &["agent", "set", "4", "--attribute", "none", "--attribute", "a=b"],
        &["key", "set", "4", "--allow-ip", "any", "--allow-ip", "::1"],
        &["apply", "/nonexistent/world.json"],
        &["apply", "-"],
    ] {
        let (output, seen) = with_admin(words, "{\"keys\": 5}", vec![]);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(seen.is_empty() && stdout(&output).is_empty() && stderr(&output).starts_with("keyward: "), "{words:?}");
    }
}

#[test]
fn tags_are_tested_offline() {
    let nowhere = Path::new("/nonexistent");
    for (words, status, json) in [
        (&["tags", "test", "-a,*", "b", "--json"][..], 0, "{\"outcome\":\"ok\",\"pattern\":\"*\"}\n"),
        (
            &["tags", "test", "--json", "-*.delete, *", "b", "x.delete"],
            1,
            "{\"outcome\":\"tag_denied\",\"pattern\":\"-*.delete\"}\n",
        ),
        (&["tags", "test", "--json", "[\"a.*\"]", "b"], 1, "{\"outcome\":\"tag_not_granted\",\"pattern\":null}\n"),
        (&["tags", "test", "--json", "-a", "b"], 2, ""),
        (&["tags", "test", "--json", "tick*", "b"], 2, ""),
        (&["tags", "test", "--json", "*", "B"], 2, ""),
    ] {
        let output = run(nowhere, words, "");
        assert_eq!((output.status.code(), stdout(&output)), (Some(status), json), "{words:?}: {}", stderr(&output));
    }
}
