//! A daemon that plays what a test tells it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use keyward_proto::admin::{AdminReply, AdminRequest};
use keyward_proto::frame::{self, ADMIN_FRAME_BYTES_MAX, VERSION};
use keyward_proto::query::QueryReply;
use keyward_proto::{ErrorCode, FrameError};

/// One connection's part in a test.
pub(crate) type Part = Box<dyn FnOnce(Peer) + Send>;

/// The daemon's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// The next request's type, id and body.
    pub(crate) fn request(&mut self) -> (u16, u32, Vec<u8>) {
        loop {
            if let Some((frame, used)) = frame::split(&self.buffer, ADMIN_FRAME_BYTES_MAX).unwrap() {
                let request = (frame.header.kind, frame.header.request_id, frame.body.to_vec());
                self.buffer.drain(..used);
                return request;
            }
            let mut chunk = vec![0; 64 * 1024];
            let read = self.stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the client closed before its request");
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    pub(crate) fn admin_request(&mut self) -> (u32, AdminRequest) {
        let (kind, request_id, body) = self.request();
        let header = frame::Header { version: VERSION, kind, request_id };
        (request_id, AdminRequest::decode(&frame::Frame { header, body: &body }).unwrap())
    }

    pub(crate) fn reply(&mut self, request_id: u32, reply: &QueryReply) {
        let mut out = Vec::new();
        reply.put(&mut out, request_id);
        self.stream.write_all(&out).unwrap();
    }

    pub(crate) fn admin_reply(&mut self, request_id: u32, reply: &AdminReply) {
        let mut out = Vec::new();
        reply.put(&mut out, request_id);
        self.stream.write_all(&out).unwrap();
    }

    /// Until the client closes.
    pub(crate) fn wait_for_end(&mut self) {
        assert_eq!(self.stream.read(&mut [0; 1]).unwrap(), 0, "the client sent more");
    }
}

/// A daemon whose connections play `parts`, one after the other; another connection fails the test.
pub(crate) struct Daemon {
    pub(crate) path: PathBuf,
    played: JoinHandle<()>,
}

impl Daemon {
    pub(crate) fn playing(parts: Vec<Part>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("keyward-{}-{}.sock", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let played = thread::spawn(move || {
            for part in parts {
                let (stream, _) = listener.accept().unwrap();
                part(Peer { stream, buffer: Vec::new() });
            }
            listener.set_nonblocking(true).unwrap();
            let more = listener.accept().map(drop).map_err(|e| e.kind());
            assert_eq!(more, Err(ErrorKind::WouldBlock), "the client connected once more");
        });
        Self { path, played }
    }

    pub(crate) fn end(self) {
        let played = self.played.join();
        std::fs::remove_file(&self.path).unwrap();
        played.unwrap();
    }
}

pub(crate) fn part(play: impl FnOnce(Peer) + Send + 'static) -> Part {
    Box::new(play)
}

/// Reads one request and closes without a reply, as a daemon that is killed does.
pub(crate) fn dies() -> Part {
    part(|mut peer| drop(peer.request()))
}

/// Answers one request with this.
pub(crate) fn answers(reply: QueryReply) -> Part {
    part(move |mut peer| {
        let (_, id, _) = peer.request();
        peer.reply(id, &reply);
    })
}

/// Sends an unasked error frame and closes, before the client has written.
pub(crate) fn turns_away(kind: u16, code: ErrorCode) -> Part {
    part(move |mut peer| {
        let mut out = Vec::new();
        frame::put_error(&mut out, kind, 0, &FrameError::new(code, "go away"));
        peer.stream.write_all(&out).unwrap();
    })
}
