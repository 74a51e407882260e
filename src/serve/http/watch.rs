//! The stream under hyper: reads along with [`HeadReader`], and keeps the deadlines.
//!
//! Hyper's own deadline for a head begins with the silence before it, so a kept connection could not be idle for longer
//! than a head may take. Here the two are told apart.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::head::{HeadReader, Progress, Refusal};
use crate::serve::Deadlines;

/// Of a body that nobody reads, so much is taken before the connection is closed, so that the client sees the answer
/// and not a reset.
const LINGER_BYTES_MAX: u64 = 64 * 1024;
/// And for so long.
const LINGER: Duration = Duration::from_secs(1);

/// Who has just connected is about to ask, and can't know that a stop came between: it is waited for, for so long after
/// the connection was made. A proxy that opens a connection for a request counts it as failed when it ends without an answer,
/// while of one that it kept it knows that it may have ended.
const FIRST_REQUEST: Duration = Duration::from_millis(100);

pub(super) struct Watched<S> {
    stream: S,
    reader: HeadReader,
    refusal: Option<Refusal>,
    deadlines: Deadlines,
    /// Until the first byte.
    is_new: bool,
    head_began: Instant,
    last_byte: Instant,
    /// Fires no later than the deadline of the read that waits.
    read_alarm: Pin<Box<Sleep>>,
    /// Set while a write waits.
    write_alarm: Option<Pin<Box<Sleep>>>,
    stop: CancellationToken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    pub(super) fn new(stream: S, deadlines: Deadlines, stop: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            stream,
            reader: HeadReader::new(),
            refusal: None,
            deadlines,
            is_new: true,
            head_began: now,
            last_byte: now,
            read_alarm: Box::pin(sleep_until(now + deadlines.idle)),
            write_alarm: None,
            stop,
        }
    }

    /// Ends the connection: says why when that was not said, and lets the client read what it was sent.
    pub(super) async fn close(mut self) {
        if let Some(refusal) = self.refusal {
            let _ = timeout(LINGER, self.stream.write_all(refusal.answer())).await;
        } else if self.reader.progress() != Progress::Body {
            return;
        }
        let _ = timeout(LINGER, async {
            self.stream.shutdown().await?;
            tokio::io::copy(&mut (&mut self.stream).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
        })
        .await;
    }

    /// Notes the bytes of a read, which lie in `buffer` from `start` on. Those of whole heads go on to hyper before the
    /// refusal of what follows them.
    fn note_read(&mut self, buffer: &mut ReadBuf<'_>, start: usize) -> io::Result<()> {
        self.last_byte = Instant::now();
        self.is_new = false;
        let bytes = &buffer.filled()[start..];
        let outcome = self.reader.take(bytes);
        if self.reader.head_bytes() <= bytes.len() {
            // All there is of this head came with this read.
            self.head_began = self.last_byte;
        }
        if let Err((whole, refusal)) = outcome {
            self.refusal = Some(refusal);
            buffer.set_filled(start + whole);
            return if whole == 0 { Err(Self::refused()) } else { Ok(()) };
        }
        Ok(())
    }

    fn refused() -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "the head was refused")
    }

    /// Nothing to read: waits on, until the deadline or the stop.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stopping = self.stop.is_cancelled();
        if stopping && !self.is_new {
            // What was received is answered; nothing will follow.
            return Poll::Ready(Ok(()));
        }
        let in_head = self.reader.progress() == Progress::Head;
        let deadline = if in_head {
            self.head_began + self.deadlines.frame
        } else {
            self.last_byte + if stopping { FIRST_REQUEST } else { self.deadlines.idle }
        };
        // Left alone while it is early enough: most requests come whole, and setting it costs a lock.
        if deadline < self.read_alarm.deadline() {
            self.read_alarm.as_mut().reset(deadline);
        }
        while self.read_alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                if in_head {
                    self.refusal = Some(Refusal::TooSlow);
                }
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.read_alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refusal.is_some() {
            return Poll::Ready(Err(Self::refused()));
        }
        let start = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                read?;
                Poll::Ready(this.note_read(buffer, start))
            }
            Poll::Pending => this.wait(context),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(written) = Pin::new(&mut this.stream).poll_write(context, bytes) {
            this.write_alarm = None;
            return Poll::Ready(written);
        }
        // A client that does not take its answers.
        let frame = this.deadlines.frame;
        let alarm = this.write_alarm.get_or_insert_with(|| Box::pin(sleep(frame)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
