//! A bare tokio server that answers each piece of a request's size with a piece of a reply's size: what the socket and
//! the runtime cost without anything behind them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use keyward::bench::exchange::{Answer, Exchange, Reply, Requests};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::keyward_server::Sizes;
use crate::server::{Subject, connect, folder, on_server_core, start};

/// The word that makes this program the echo server.
pub const MODE: &str = "serve-echo";
/// One read takes what 64 requests need.
const BUFFER_BYTES: usize = 64 * 1024;

struct Echo {
    socket: PathBuf,
    requests: Requests,
    reply_bytes: usize,
}

impl Exchange for Echo {
    fn open(&self) -> io::Result<File> {
        connect(&self.socket)
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    fn reply(&self, input: &[u8], _number: usize) -> Reply {
        if input.len() < self.reply_bytes {
            return Reply::Incomplete;
        }
        let answer = if input[0] == FILLING { Answer::Allowed } else { Answer::Unexpected };
        Reply::Whole { bytes: self.reply_bytes, answer }
    }
}

const FILLING: u8 = b'r';

pub fn subject(sizes: Sizes, count: usize) -> Subject {
    let folder = folder();
    let socket = folder.path().join("echo.sock");
    let mut command = on_server_core();
    command.arg(std::env::current_exe().unwrap()).arg(MODE).arg(&socket);
    command.args([sizes.request.to_string(), sizes.reply.to_string()]);
    let server = start(&mut command, &socket);
    let mut requests = Requests::default();
    for _ in 0..count {
        requests.push(|out| out.resize(out.len() + sizes.request, b'q'));
    }
    let pid = server.pid();
    Subject::new("echo", Echo { socket, requests, reply_bytes: sizes.reply }, Some(pid), (server, folder))
}

/// What the started process does.
pub fn serve(socket: &Path, request_bytes: usize, reply_bytes: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, request_bytes, reply_bytes));
        }
    });
}

async fn answer(mut stream: UnixStream, request_bytes: usize, reply_bytes: usize) {
    let mut input = vec![0; BUFFER_BYTES];
    let replies = vec![FILLING; (BUFFER_BYTES / request_bytes + 1) * reply_bytes];
    let mut unanswered = 0;
    while let Ok(read @ 1..) = stream.read(&mut input).await {
        unanswered += read;
        let whole = unanswered / request_bytes;
        unanswered %= request_bytes;
        if stream.write_all(&replies[..whole * reply_bytes]).await.is_err() {
            return;
        }
    }
}
