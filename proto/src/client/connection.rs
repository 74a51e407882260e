//! One blocking connection: frames out, frames in, a new one after a failure.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use zeroize::Zeroizing;

use super::{ClientError, RequestIds};
use crate::frame::{self, Frame, FrameError};

/// Bytes asked for in one read: a few hundred verdicts.
const READ_BYTES: usize = 64 * 1024;

/// When a request may be sent again on a new connection, once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Resend {
    /// When the connection turned out dead: it changes nothing.
    Once,
    /// Only when it is certain that it was not served: it is a change.
    Unserved,
    /// Not at all: it rests on what this connection was sent before.
    Never,
}

impl Resend {
    fn is_due(self, failed: &Failed) -> bool {
        let dead = failed.error.is_dead_connection();
        match self {
            Self::Once => dead,
            // A frame that did not go out whole is not carried out, and one that stood behind a stop is not, either.
            Self::Unserved => dead && (!failed.delivered || failed.error.is_stopping()),
            Self::Never => false,
        }
    }
}

/// A request that got no reply.
struct Failed {
    error: ClientError,
    /// All of it was handed to the system. Otherwise the daemon can't have carried it out.
    delivered: bool,
}

pub(super) struct Connection {
    path: PathBuf,
    bytes_max: usize,
    timeout: Option<Duration>,
    /// Taken out during a call and put back after a success, so that a reply that came too late is never read as the
    /// next one's.
    live: Option<Live>,
    ids: RequestIds,
}

impl Connection {
    pub(super) fn open(path: &Path, bytes_max: usize) -> Result<Self, ClientError> {
        let live = Live::connect(path, bytes_max, None)?;
        Ok(Self { path: path.to_owned(), bytes_max, timeout: None, live: Some(live), ids: RequestIds::default() })
    }

    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        if let Some(live) = &self.live {
            live.set_timeout(timeout).map_err(ClientError::Io)?;
        }
        self.timeout = timeout;
        Ok(())
    }

    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn next_id(&mut self) -> u32 {
        self.ids.next()
    }

    /// Sends `out` and lets `read` take the replies.
    pub(super) fn exchange<R>(
        &mut self,
        out: &[u8],
        resend: Resend,
        read: impl Fn(&mut Live) -> Result<R, ClientError>,
    ) -> Result<R, ClientError> {
        let again = match self.exchange_once(out, &read) {
            Err(failed) if resend.is_due(&failed) => self.exchange_once(out, &read),
            result => result,
        };
        again.map_err(|failed| failed.error)
    }

    fn exchange_once<R>(
        &mut self,
        out: &[u8],
        read: impl Fn(&mut Live) -> Result<R, ClientError>,
    ) -> Result<R, Failed> {
        let mut live = self.take_live().map_err(|error| Failed { error, delivered: false })?;
        let delivered = live.write(out).map_err(|error| Failed { error, delivered: false })?;
        let result = read(&mut live).map_err(|error| Failed { error, delivered })?;
        self.live = Some(live);
        Ok(result)
    }

    /// For several requests in flight: hands out the stream and what their ids are taken from. Nothing is sent again.
    pub(super) fn converse<R, E: From<ClientError>>(
        &mut self,
        talk: impl FnOnce(&mut Live, &mut RequestIds) -> Result<R, E>,
    ) -> Result<R, E> {
        // What was kept may have ended since, as over a restart: nothing was sent yet, so nothing is lost by a new one.
        if self.live.as_mut().is_some_and(Live::has_ended) {
            self.live = None;
        }
        let mut live = self.take_live()?;
        let result = talk(&mut live, &mut self.ids)?;
        self.live = Some(live);
        Ok(result)
    }

    fn take_live(&mut self) -> Result<Live, ClientError> {
        match self.live.take() {
            Some(live) => Ok(live),
            None => Live::connect(&self.path, self.bytes_max, self.timeout),
        }
    }
}

/// A stream, and what was read from it.
pub(super) struct Live {
    stream: UnixStream,
    /// Wiped when dropped: a reply may hold a new code.
    buffer: Zeroizing<Vec<u8>>,
    /// Bytes of `buffer` that are done with.
    taken: usize,
    bytes_max: usize,
}

impl Live {
    fn connect(path: &Path, bytes_max: usize, timeout: Option<Duration>) -> Result<Self, ClientError> {
        let connect_error = |source| ClientError::Connect { path: path.to_owned(), source };
        let stream = open_stream(path, timeout).map_err(connect_error)?;
        let buffer = Zeroizing::new(Vec::with_capacity(READ_BYTES));
        Ok(Self { stream, buffer, taken: 0, bytes_max })
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)?;
        self.stream.set_write_timeout(timeout)
    }

    /// Whether the daemon has ended this connection, on which no reply is due: what lies ready then is the end, or an
    /// error frame before it.
    fn has_ended(&mut self) -> bool {
        let alive = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.taken < self.buffer.len()
            || self.stream.set_nonblocking(true).is_err()
            || !self.stream.read(&mut [0]).is_err_and(alive)
            || self.stream.set_nonblocking(false).is_err()
    }

    /// Whether all of it went out. When not, the daemon has closed: an error frame that says why may lie ready, so go on
    /// and read it, or the end.
    pub(super) fn write(&mut self, out: &[u8]) -> Result<bool, ClientError> {
        match self.stream.write_all(out) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Ok(false)
            }
            Err(error) => Err(ClientError::Io(error)),
        }
    }

    /// Waits for one frame: its request id and what `decode` makes of it.
    pub(super) fn read<R>(&mut self, decode: fn(&Frame<'_>) -> Result<R, FrameError>) -> Result<(u32, R), ClientError> {
        loop {
            let unread = &self.buffer[self.taken..];
            if let Some((frame, used)) = frame::split(unread, self.bytes_max).map_err(ClientError::Protocol)? {
                let reply = decode(&frame).map_err(ClientError::Protocol)?;
                let request_id = frame.header.request_id;
                self.taken += used;
                return Ok((request_id, reply));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let start = self.buffer.len();
        self.buffer.resize(start + READ_BYTES, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(start + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(ClientError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(ClientError::Io(error)),
        }
    }
}

/// Connects with a timeout for that, too: where as many wait to be accepted as may, connecting waits.
fn open_stream(path: &Path, timeout: Option<Duration>) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_read_timeout(timeout)?;
    socket.set_write_timeout(timeout)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}
