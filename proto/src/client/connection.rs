//! One blocking connection: frames out, frames in, a new one after a failure.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{ClientError, RequestIds};
use crate::frame::{self, Frame, FrameError};

/// Bytes asked for in one read: a few hundred verdicts.
const READ_BYTES: usize = 64 * 1024;

/// Whether a request may be sent again when the connection turned out dead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Resend {
    /// It changes nothing.
    Once,
    /// It may have been carried out.
    Never,
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
        match self.exchange_once(out, &read) {
            Err(error) if resend == Resend::Once && error.is_dead_connection() => self.exchange_once(out, &read),
            result => result,
        }
    }

    fn exchange_once<R>(
        &mut self,
        out: &[u8],
        read: impl Fn(&mut Live) -> Result<R, ClientError>,
    ) -> Result<R, ClientError> {
        let mut live = self.take_live()?;
        live.write(out)?;
        let result = read(&mut live)?;
        self.live = Some(live);
        Ok(result)
    }

    /// For several requests in flight: hands out the stream and what their ids are taken from. Nothing is sent again.
    pub(super) fn converse<R, E: From<ClientError>>(
        &mut self,
        talk: impl FnOnce(&mut Live, &mut RequestIds) -> Result<R, E>,
    ) -> Result<R, E> {
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
        let stream = UnixStream::connect(path).map_err(connect_error)?;
        let buffer = Zeroizing::new(Vec::with_capacity(READ_BYTES));
        let live = Self { stream, buffer, taken: 0, bytes_max };
        live.set_timeout(timeout).map_err(connect_error)?;
        Ok(live)
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)?;
        self.stream.set_write_timeout(timeout)
    }

    pub(super) fn write(&mut self, out: &[u8]) -> Result<(), ClientError> {
        match self.stream.write_all(out) {
            // The daemon has closed. An error frame that says why may lie ready, so go on and read it, or the end.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            result => result.map_err(ClientError::Io),
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
