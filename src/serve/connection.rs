//! One connection: buffers, deadlines, orderly end. All doors are built on it; what it says of frames is for the framed
//! ones. A message is a frame, or the head of an HTTP request.
//!
//! Own buffers rather than a codec: all messages that came with one read are answered with one write, which is worth a
//! factor of two (section 8 of the contract), and a buffer never grows for bytes that have not arrived.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;
use std::{io, mem};

use keyward_proto::frame::{self, ErrorCode, Frame, FrameError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes that are read at once, at least.
const READ_BYTES_MIN: usize = 2 * 1024;
/// Bytes that are read at once while a client fills what it gets.
const READ_BYTES_MAX: usize = 64 * 1024;
/// A larger buffer is not kept for the next connection.
const SPARE_BYTES_MAX: usize = 512 * 1024;
/// Replies that gather before they are written although more frames wait.
pub(super) const WRITE_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    /// The buffers of the connection that this thread served last. The next one takes them over: an idle connection holds
    /// none, and a thread works in the same few lines of its cache, however many connections it serves.
    static SPARE: [Cell<Vec<u8>>; 2] = const { [const { Cell::new(Vec::new()) }; 2] };
}
const INPUT: usize = 0;
const OUTPUT: usize = 1;

/// Gives an empty `buffer` the room of this thread's spare one, unless it has room of its own.
fn take_spare(buffer: &mut Vec<u8>, which: usize) {
    if buffer.capacity() == 0 {
        *buffer = SPARE.with(|spare| spare[which].take());
    }
}

/// Leaves an empty `buffer`'s room to the connection that is served next.
fn leave_spare(buffer: &mut Vec<u8>, which: usize) {
    if buffer.is_empty() {
        let left = mem::take(buffer);
        if (1..=SPARE_BYTES_MAX).contains(&left.capacity()) {
            SPARE.with(|spare| spare[which].set(left));
        }
    }
}

/// How long a connection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For the rest of a message whose first byte has come, and for a peer to take its replies.
    pub frame: Duration,
    /// Without any byte.
    pub idle: Duration,
}

/// What a read came to.
pub(super) enum Filled {
    /// There are new bytes.
    More,
    /// The daemon is stopping: what was received is in the buffer, nothing will follow.
    Last,
    /// A message was begun and not finished in time. The peer is still to be told.
    Late,
    /// The peer is gone, or was idle for too long: the connection is over.
    Over,
}

/// A stream that can be tried without waiting.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize>;
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Socket for UnixStream {
    fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        Self::try_read_buf(self, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}

impl Socket for TcpStream {
    fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        Self::try_read_buf(self, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}

pub(super) struct Connection<S = UnixStream> {
    stream: S,
    /// What came in and was not used. Without room while there is nothing, as with `output`.
    input: Vec<u8>,
    output: Vec<u8>,
    message_bytes_max: usize,
    deadlines: Deadlines,
    /// When the first byte of an unfinished message was seen.
    message_began: Option<Instant>,
    last_byte: Instant,
    alarm: Pin<Box<Sleep>>,
    /// Made once: making it for every read would cost two locks.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    read_bytes: usize,
}

impl<S: Socket> Connection<S> {
    pub(super) fn new(stream: S, message_bytes_max: usize, deadlines: Deadlines, stop: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            message_bytes_max,
            deadlines,
            message_began: None,
            last_byte: now,
            alarm: Box::pin(sleep_until(now + deadlines.idle)),
            stopping: Box::pin(stop.cancelled_owned()),
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// Waits for bytes, at most until a deadline.
    pub(super) async fn fill(&mut self) -> Filled {
        loop {
            tokio::select! {
                // In this order: a peer that never pauses can't hold up a stop, and a deadline that passed while the
                // peer's bytes lay ready has not cut it off.
                biased;
                () = self.stopping.as_mut() => return self.take_rest(),
                read = read(&mut self.stream, &mut self.input, self.read_bytes) => return self.note_read(read),
                () = self.alarm.as_mut() => {}
            }
            let deadline = self.deadline();
            if Instant::now() < deadline {
                self.alarm.as_mut().reset(deadline);
                continue;
            }
            return if self.message_began.is_some() { Filled::Late } else { Filled::Over };
        }
    }

    fn deadline(&self) -> Instant {
        match self.message_began {
            Some(began) => began + self.deadlines.frame,
            None => self.last_byte + self.deadlines.idle,
        }
    }

    fn note_read(&mut self, read: io::Result<usize>) -> Filled {
        match read {
            Ok(0) | Err(_) => Filled::Over,
            Ok(bytes) => {
                self.last_byte = Instant::now();
                // A client that fills its room is pipelining: give it more, and less again when it stops.
                if bytes >= self.read_bytes {
                    self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
                } else if bytes < self.read_bytes / 4 {
                    self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
                }
                Filled::More
            }
        }
    }

    /// Takes what the socket holds already: it was received before the stop.
    fn take_rest(&mut self) -> Filled {
        self.last_byte = Instant::now();
        while self.input.len() <= self.message_bytes_max {
            self.input.reserve(READ_BYTES_MAX);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        Filled::Last
    }

    /// Waits for first bytes although the daemon is stopping. Nothing when there were any.
    pub(super) async fn await_first(&mut self, until: Instant) {
        if self.input.is_empty() {
            let _ = timeout_at(until, read(&mut self.stream, &mut self.input, self.read_bytes)).await;
            self.take_rest();
        }
    }

    /// Begins both deadlines anew. For when the daemon was busy with the peer's request, or the peer with its replies: the
    /// peer could not send meanwhile, or had no reason to.
    pub(super) fn restart_deadlines(&mut self) {
        // The alarm rings too early then, and is set anew.
        self.last_byte = Instant::now();
        if let Some(began) = &mut self.message_began {
            *began = self.last_byte;
        }
    }

    /// Hands the input to `answer`, which appends replies and says how many bytes it used and what is next.
    ///
    /// # Errors
    /// When the stream can't be followed further; what came before is answered.
    pub(super) fn answer<N, E>(
        &mut self,
        answer: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(usize, N), E>,
    ) -> Result<N, E> {
        take_spare(&mut self.output, OUTPUT);
        let (used, next) = answer(&self.input, &mut self.output)?;
        self.consume(used);
        Ok(next)
    }

    /// Drops `used` bytes of the input and starts the clock of a message that is left unfinished.
    pub(super) fn consume(&mut self, used: usize) {
        self.input.drain(..used);
        if self.input.is_empty() {
            self.message_began = None;
            leave_spare(&mut self.input, INPUT);
        } else if self.message_began.is_none() || used > 0 {
            self.message_began = Some(self.last_byte);
            let deadline = self.deadline();
            self.alarm.as_mut().reset(deadline);
        }
    }

    /// When the last read came back.
    pub(super) const fn last_read(&self) -> Instant {
        self.last_byte
    }

    /// Where replies are appended.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        take_spare(&mut self.output, OUTPUT);
        &mut self.output
    }

    /// Writes the replies that gathered.
    ///
    /// # Errors
    /// When the peer is gone or does not take them in time.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            leave_spare(&mut self.output, OUTPUT);
            return Ok(());
        }
        let written = match self.stream.try_write(&self.output) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if written < self.output.len() {
            timeout(self.deadlines.frame, self.stream.write_all(&self.output[written..])).await??;
            self.restart_deadlines();
        }
        self.output.clear();
        leave_spare(&mut self.output, OUTPUT);
        Ok(())
    }

    /// The stream, for an end that takes time.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }
}

/// Waits for bytes, which are appended to `input`; at most `bytes_max`, and 0 at the end of the stream. While it waits, an
/// empty `input` takes no room.
async fn read<S: Socket>(stream: &mut S, input: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
    poll_fn(|context| {
        take_spare(input, INPUT);
        input.reserve(bytes_max);
        let read = pin!(stream.take(bytes_max as u64).read_buf(input)).poll(context);
        if read.is_pending() {
            leave_spare(input, INPUT);
        }
        read
    })
    .await
}

/// For the framed doors. Each names the message type of its errors.
impl Connection {
    /// The first whole frame of the input, with the bytes it used; for [`Connection::consume`].
    ///
    /// # Errors
    /// When the stream can't be followed further.
    pub(super) fn next_frame(&mut self) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
        if frame::split(&self.input, self.message_bytes_max)?.is_none() {
            self.consume(0);
            return Ok(None);
        }
        frame::split(&self.input, self.message_bytes_max)
    }

    /// Appends an error frame.
    pub(super) fn refuse(&mut self, error_type: u16, request_id: u32, error: &FrameError) {
        frame::put_error(&mut self.output, error_type, request_id, error);
    }

    /// The last frame of a connection that a stop ends: whoever connected is to come again.
    pub(super) async fn say_stopping(&mut self, error_type: u16) {
        self.refuse(error_type, 0, &FrameError::new(ErrorCode::Stopping, "the daemon is stopping; connect again"));
        let _ = self.flush().await;
    }

    /// The last frame of a connection that was [too slow](Filled::Late).
    pub(super) async fn say_late(&mut self, error_type: u16) {
        let seconds = self.deadlines.frame.as_secs();
        let why = format!("a started frame was not finished within {seconds} s");
        self.refuse(error_type, 0, &FrameError::new(ErrorCode::FrameDeadline, why));
        let _ = self.flush().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Deadlines = Deadlines { frame: Duration::from_secs(10), idle: Duration::from_secs(60) };

    /// A frame of `bytes` in all, its header and body zero.
    fn frame(bytes: usize) -> Vec<u8> {
        let mut frame = vec![0; bytes];
        frame[..4].copy_from_slice(&u32::try_from(bytes - 4).unwrap().to_be_bytes());
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_leaves_the_room_that_a_burst_needed_to_the_next() {
        let (served, mut client) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(served, 256 * 1024, QUIET, CancellationToken::new());
        let burst = frame(100 * 1024);
        client.write_all(&burst).await.unwrap();
        let mut answered = 0;
        while answered == 0 {
            assert!(matches!(connection.fill().await, Filled::More));
            let outcome = connection.answer(|input, out| {
                let whole = input.len() / burst.len();
                answered += whole;
                out.extend_from_slice(&input[..whole * burst.len()]);
                Ok::<_, FrameError>((whole * burst.len(), false))
            });
            assert_eq!(outcome, Ok(false));
        }
        connection.flush().await.unwrap();
        // Time stands still but for waiting.
        assert!(matches!(connection.fill().await, Filled::Over));
        assert_eq!((connection.input.capacity(), connection.output.capacity()), (0, 0));
        let spare = SPARE.with(|spare| [INPUT, OUTPUT].map(|which| spare[which].take().capacity()));
        assert!(spare.iter().all(|room| *room >= burst.len()), "{spare:?}");
    }

    #[tokio::test]
    async fn a_half_message_waits_where_it_came_in_while_other_connections_use_the_same_buffers() {
        let pair = || {
            let (served, client) = UnixStream::pair().unwrap();
            (Connection::new(served, 256 * 1024, QUIET, CancellationToken::new()), client)
        };
        let (mut slow, mut slow_client) = pair();
        let (mut quick, mut quick_client) = pair();
        let echo = |input: &[u8], out: &mut Vec<u8>| {
            let whole = input.len() / 8 * 8;
            out.extend_from_slice(&input[..whole]);
            Ok::<_, FrameError>((whole, ()))
        };
        slow_client.write_all(b"slow").await.unwrap();
        assert!(matches!(slow.fill().await, Filled::More));
        slow.answer(echo).unwrap();
        let others = async {
            for asked in [b"quick--1", b"quick--2"] {
                quick_client.write_all(asked).await.unwrap();
                assert!(matches!(quick.fill().await, Filled::More));
                quick.answer(echo).unwrap();
                assert_eq!(quick.output, asked);
                quick.flush().await.unwrap();
            }
            slow_client.write_all(b"half").await.unwrap();
        };
        // It waits with its half in hand before the others begin.
        let (filled, ()) = tokio::join!(slow.fill(), others);
        assert!(matches!(filled, Filled::More));
        slow.answer(echo).unwrap();
        assert_eq!(slow.output, b"slowhalf");
        assert!(slow.input.is_empty() && quick.input.is_empty() && quick.output.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_does_not_hold_a_frame_beyond_its_deadline() {
        let (served, mut client) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(served, 256 * 1024, QUIET, CancellationToken::new());
        let began = Instant::now();
        let trickle = tokio::spawn(async move {
            for byte in frame(64) {
                tokio::time::sleep(Duration::from_secs(3)).await;
                if client.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
            client
        });
        while matches!(connection.fill().await, Filled::More) {
            let unfinished = |input: &[u8], _: &mut Vec<u8>| {
                frame::split(input, 256).map(|frame| {
                    assert!(frame.is_none());
                    (0, false)
                })
            };
            assert_eq!(connection.answer(unfinished), Ok(false));
        }
        // The first byte came after three seconds.
        assert_eq!(began.elapsed().as_secs(), 13);
        trickle.abort();
    }
}
