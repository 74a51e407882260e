//! Redis: GET of 64 bytes among as many keys.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use keyward::bench::exchange::{Answer, Exchange, Reply, Requests};
use keyward::bench::picks::Picks;

use crate::server::{Subject, connect, folder, must, on_server_core, program, read_exactly, start};

/// What the issue compares with: about what a hash with its terms takes.
const VALUE_BYTES: usize = 64;
/// Commands sent together when it is filled.
const FILL_COMMANDS: u64 = 1_000;

struct Redis {
    socket: PathBuf,
    requests: Requests,
}

impl Exchange for Redis {
    fn open(&self) -> io::Result<File> {
        connect(&self.socket)
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    fn reply(&self, input: &[u8], _number: usize) -> Reply {
        const HEAD: &[u8] = b"$64\r\n";
        const WHOLE_BYTES: usize = HEAD.len() + VALUE_BYTES + 2;
        match input {
            _ if input.len() >= WHOLE_BYTES && input.starts_with(HEAD) => {
                Reply::Whole { bytes: WHOLE_BYTES, answer: Answer::Allowed }
            }
            _ if HEAD.starts_with(&input[..input.len().min(HEAD.len())]) => Reply::Incomplete,
            _ => Reply::Broken,
        }
    }
}

pub fn version() -> Option<String> {
    let redis = program("redis-server")?;
    let text = must(std::process::Command::new(redis).arg("--version"), b"");
    Some(text.split("v=").nth(1)?.split(' ').next()?.to_owned())
}

/// As Debian configures it, without persistence and without TCP.
pub fn subject(keys: u64, count: usize) -> Subject {
    let folder = folder();
    let socket = folder.path().join("redis.sock");
    let mut command = on_server_core();
    command.arg(program("redis-server").expect("it was looked for")).arg("--dir").arg(folder.path());
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    let server = start(&mut command, &socket);
    fill(&mut connect(&socket).unwrap(), keys);
    let mut requests = Requests::default();
    let mut picks = Picks::uniform(keys, 1);
    for _ in 0..count {
        let key = format!("key:{}", picks.pick());
        requests.push(|out| write!(out, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).unwrap());
    }
    let pid = server.pid();
    Subject::new("Redis", Redis { socket, requests }, Some(pid), (server, folder))
}

fn fill(stream: &mut File, keys: u64) {
    let mut id = 1;
    while id <= keys {
        let end = (id + FILL_COMMANDS).min(keys + 1);
        let mut commands = String::new();
        for id in id..end {
            let key = format!("key:{id}");
            write!(commands, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$64\r\n{id:064}\r\n", key.len()).unwrap();
        }
        stream.write_all(commands.as_bytes()).unwrap();
        let replies = read_exactly(stream, b"+OK\r\n".len() * usize::try_from(end - id).unwrap()).unwrap();
        assert!(replies.starts_with(b"+OK\r\n"));
        id = end;
    }
}
