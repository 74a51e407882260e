//! HTTP over raw sockets: what is sent is what was written, byte for byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

/// An answer that has not come after so long never will.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

#[derive(Clone)]
pub enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Place {
    pub fn connect(&self) -> Connection {
        let stream: Box<dyn Stream> = match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        };
        Connection { stream, read: Vec::new() }
    }

    /// Sends bytes on a connection of their own and reads one answer.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut connection = self.connect();
        connection.send(request);
        connection.answer().expect("an answer")
    }
}

pub struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl Connection {
    /// False when the other end takes nothing any more; its answer may still be there.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// More bytes; false at the end.
    pub fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer and no end: {error}"),
        }
    }

    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    /// The next answer; `None` when the connection ended instead.
    pub fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                assert!(self.read.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.read));
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        while method != "HEAD" && self.read.len() < length {
            assert!(self.fill(), "the body ended early");
        }
        answer.body = self.read.drain(..if method == "HEAD" { 0 } else { length }).collect();
        Some(answer)
    }

    /// What a proxy says to a request that may be anything: the answer if there is one, and whether the connection can
    /// be used on.
    pub fn any_answer(&mut self, method: &str) -> (Option<Answer>, bool) {
        loop {
            while !self.read.windows(4).any(|w| w == b"\r\n\r\n") {
                if !self.fill() {
                    // HTTP/0.9 has no head, and some refusals are no more than the end.
                    return (None, false);
                }
            }
            if !self.read.starts_with(b"HTTP/1.") {
                while self.fill() {}
                return (None, false);
            }
            let chunked = self.read.to_ascii_lowercase().windows(26).any(|w| w == b"transfer-encoding: chunked");
            let answer = self.answer_to(method).expect("a head is there");
            if answer.status == 100 {
                continue;
            }
            if chunked && method != "HEAD" {
                while !self.read.ends_with(b"0\r\n\r\n") {
                    assert!(self.fill(), "the body ended early");
                }
                self.read.clear();
            }
            let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let framed = chunked || method == "HEAD" || answer.header("content-length").is_some();
            return (Some(answer), framed && !closes);
        }
    }

    /// What was read and not taken as an answer.
    pub fn taken(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Nothing but the end may follow.
    pub fn ends(mut self) -> bool {
        while self.fill() {}
        self.read.is_empty()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let value = found.next();
        assert_eq!(found.next(), None, "{name} stands once");
        value
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status on the line, true status, reason.
    pub fn verdict(&self) -> (u16, &str, &str) {
        (self.status, self.header("x-keyward-status").unwrap(), self.header("x-keyward-reason").unwrap())
    }
}

/// A port that nobody listens on. Below the range that the system gives to outgoing connections, and each once in this
/// process: between here and the listener's start nobody takes it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 64;
        let port = 12_000 + u16::try_from(offset % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A GET of `path` with these header lines.
pub fn get(path: &str, headers: &[&str]) -> Vec<u8> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n").into_bytes();
    for line in headers {
        request.extend_from_slice(line.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}
