//! Frames byte by byte, for what no client library would send.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "a test that can't go on fails")]

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyward_proto::FrameError;
use keyward_proto::admin::AdminReply;
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX, ErrorCode};
use keyward_proto::query::{Asker, Check, QueryReply, QueryRequest, Target, Who};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::support::Home;

/// A reply that has not come after so long never will.
pub(crate) const REPLY_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const KEY: &str = "key 3:3A7QXW9ZK2M4N6P8R0S1T5V7Y";

/// One agent, one key, one endpoint.
pub(crate) fn world() -> Value {
    json!({
        "agents": [{ "id": 4, "name": "Matthew", "permissions": "*" }],
        "endpoints": [{ "method": "GET", "path": "/api/v2/tickets", "tags": ["tickets.tickets.list"] }],
        "keys": [{ "id": 3, "agent": 4, "code": KEY.split_once(':').unwrap().1, "tags": "*, -*.delete" }],
    })
}

pub(crate) fn asker(credential: &str) -> Asker<'_> {
    Asker { credential: Some(credential.as_bytes()), agent: None, address: None }
}

pub(crate) fn who(request_id: u32, credential: &str) -> Vec<u8> {
    put(&QueryRequest::Who(Who { asker: asker(credential) }), request_id)
}

pub(crate) fn check(request_id: u32, credential: &str, target: Target<'_>) -> Vec<u8> {
    put(&QueryRequest::Check(Check { asker: asker(credential), target }), request_id)
}

pub(crate) fn put(request: &QueryRequest<'_>, request_id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    request.put(&mut out, request_id);
    out
}

/// A frame of any content.
pub(crate) fn frame(version: u16, kind: u16, request_id: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).unwrap();
    let header = [version.to_be_bytes(), kind.to_be_bytes()].concat();
    [&length.to_be_bytes()[..], &header, &request_id.to_be_bytes(), body].concat()
}

/// A connection that sends what it is told to.
pub(crate) struct Wire {
    pub(crate) stream: UnixStream,
    received: Vec<u8>,
}

/// What a connection came to.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard<R> {
    Reply(u32, R),
    /// The daemon closed.
    End,
    /// Nothing came within the time that the stream was given.
    Nothing,
}

impl Wire {
    pub(crate) fn connect(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).unwrap())
    }

    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(REPLY_PATIENCE)).unwrap();
        stream.set_write_timeout(Some(REPLY_PATIENCE)).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn hear<R>(&mut self, decode: impl Fn(&frame::Frame<'_>) -> Result<R, FrameError>) -> Heard<R> {
        loop {
            if let Some((frame, used)) = frame::split(&self.received, ADMIN_FRAME_BYTES_MAX).unwrap() {
                let heard = Heard::Reply(frame.header.request_id, decode(&frame).unwrap());
                self.received.drain(..used);
                return heard;
            }
            let mut room = [0; 4096];
            match self.stream.read(&mut room) {
                Ok(0) => break,
                // The daemon closed before it had read all.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
                Ok(bytes) => self.received.extend_from_slice(&room[..bytes]),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(self.received.is_empty(), "the connection ended within a frame");
        Heard::End
    }

    pub(crate) fn query_reply(&mut self) -> Heard<QueryReply> {
        self.hear(QueryReply::decode)
    }

    pub(crate) fn admin_reply(&mut self) -> Heard<AdminReply> {
        self.hear(AdminReply::decode)
    }

    /// The id and code of the error frame that must come now, on whichever socket.
    pub(crate) fn error(&mut self) -> (u32, FrameError) {
        let heard = self.hear(|frame| {
            assert!([frame::QUERY_ERROR, frame::ADMIN_ERROR].contains(&frame.header.kind), "no error frame came");
            frame::read_error(frame.body)
        });
        match heard {
            Heard::Reply(id, error) => (id, error),
            Heard::End => panic!("the connection ended without an error frame"),
            Heard::Nothing => panic!("no error frame came"),
        }
    }

    /// An error frame that answers no request must come, then the end.
    pub(crate) fn closed_with(&mut self, code: ErrorCode) -> String {
        let (id, error) = self.error();
        assert_eq!((id, error.code), (0, code), "{}", error.message);
        assert_eq!(self.query_reply(), Heard::End);
        error.message
    }

    /// Asks who the key is; the answer must be an allow.
    pub(crate) fn is_answered(&mut self) {
        self.send(&who(77, KEY));
        match self.query_reply() {
            Heard::Reply(77, QueryReply::Verdict(verdict)) => assert!(verdict.is_allowed(), "{verdict:?}"),
            other => panic!("{other:?}"),
        }
    }

    /// Sends requests without reading a reply, until the daemon takes no more. Returns the requests sent.
    pub(crate) fn fill_without_reading(&mut self) -> u32 {
        let mut sent = 0;
        self.stream.set_nonblocking(true).unwrap();
        // A pause in which nothing more fits means that the daemon is stuck on its replies.
        let mut quiet = 0;
        while quiet < 50 {
            match self.stream.write(&who(sent + 1, KEY)) {
                Ok(bytes) => {
                    assert_eq!(bytes, who(1, KEY).len(), "small frames go whole");
                    (sent, quiet) = (sent + 1, 0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    quiet += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        sent
    }

    /// Writes what may be refused because the daemon has closed. False when it has.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Raises the limit on open files of the test itself as far as it may go; says how far.
pub(crate) fn raise_descriptors(wanted: u64) -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let reached = wanted.min(hard).max(soft);
    setrlimit(Resource::RLIMIT_NOFILE, reached, hard).unwrap();
    reached
}

/// What can't be tested here. The harness swallows what `eprintln!` writes.
#[allow(clippy::explicit_write, reason = "see above")]
pub(crate) fn skipped(why: &str) {
    writeln!(io::stderr(), "SKIPPED: {why}").unwrap();
}

/// Whether a program is on the host; says what is left out when not.
pub(crate) fn has_program(program: &str, what: &str) -> bool {
    let has = Command::new(program).arg("--help").output().is_ok();
    if !has {
        skipped(&format!("{what}, because {program} is missing"));
    }
    has
}

/// A field of `/proc/PID/status`, in KiB.
pub(crate) fn memory_kib(pid: i32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Puts words before a command; its output still goes to the log.
pub(crate) fn wrap(home: &Home, command: &mut Command, words: &[&str]) {
    let log = File::options().create(true).append(true).open(home.log()).unwrap();
    let mut wrapped = Command::new(words[0]);
    wrapped.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    wrapped.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    *command = wrapped;
}

/// Puts a command under strace. `-D` lets the daemon keep its place as the test's child.
pub(crate) fn under_strace(home: &Home, command: &mut Command, calls: &str, output: &Path) {
    let calls = format!("trace={calls}");
    let output = output.to_str().unwrap();
    wrap(home, command, &["strace", "-D", "-f", "-qq", "-s", "64", "-e", &calls, "-o", output]);
}
