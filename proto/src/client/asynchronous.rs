//! The asynchronous client of `query.sock`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};
use zeroize::Zeroizing;

use super::{ClientError, RequestIds, judge_request};
use crate::frame::{self, ErrorCode, FrameError, QUERY_FRAME_BYTES_MAX};
use crate::query::{Asker, Batch, BatchVerdicts, Check, QueryReply, QueryRequest, Target, Verdict, Who};

/// Between two tries to get into a listener's full queue (`EAGAIN` of connect(2)).
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Asks questions, one connection, one call at a time. A call may be dropped before it is done, as by a timeout around
/// it: the next one opens a new connection.
pub struct AsyncQueryClient {
    path: PathBuf,
    /// Taken out during a call and put back after a success, so that a reply that came too late, or to a call that was
    /// dropped, is never read as the next one's.
    live: Option<Live>,
    ids: RequestIds,
}

impl AsyncQueryClient {
    /// Connects to the query socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let live = Live::connect(path).await?;
        Ok(Self { path: path.to_owned(), live: Some(live), ids: RequestIds::default() })
    }

    /// May `asker` do this?
    ///
    /// # Errors
    /// When there is no verdict; treat it as a fault, never as an allow.
    pub async fn check(&mut self, asker: Asker<'_>, target: Target<'_>) -> Result<Verdict, ClientError> {
        self.ask(&QueryRequest::Check(Check { asker, target })).await?.into_verdict()
    }

    /// Who is `asker`?
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn who(&mut self, asker: Asker<'_>) -> Result<Verdict, ClientError> {
        self.ask(&QueryRequest::Who(Who { asker })).await?.into_verdict()
    }

    /// May `asker` do each of these? 1 to 1024 targets, judged on one state.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn batch(&mut self, asker: Asker<'_>, targets: &[Target<'_>]) -> Result<BatchVerdicts, ClientError> {
        let reply = self.ask(&QueryRequest::Batch(Batch { asker, targets: targets.to_vec() })).await?;
        reply.into_batch(targets.len())
    }

    async fn ask(&mut self, request: &QueryRequest<'_>) -> Result<QueryReply, ClientError> {
        let id = self.ids.next();
        let mut out = Zeroizing::new(Vec::new());
        request.put(&mut out, id);
        judge_request(out.len(), QUERY_FRAME_BYTES_MAX)?;
        match self.ask_once(&out, id).await {
            Err(error) if error.is_dead_connection() => self.ask_once(&out, id).await,
            result => result,
        }
    }

    async fn ask_once(&mut self, out: &[u8], id: u32) -> Result<QueryReply, ClientError> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => Live::connect(&self.path).await?,
        };
        live.write(out).await?;
        let (got, reply) = live.read().await?;
        let reply = reply.answering(id, got)?;
        self.live = Some(live);
        Ok(reply)
    }
}

struct Live {
    stream: UnixStream,
    codec: LengthDelimitedCodec,
    buffer: BytesMut,
}

impl Live {
    async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = loop {
            match UnixStream::connect(path).await {
                // As many wait to be accepted as the listener lets. A blocking connect would wait, too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(FULL_PAUSE).await,
                connected => {
                    break connected.map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
                }
            }
        };
        let codec = LengthDelimitedCodec::builder().max_frame_length(QUERY_FRAME_BYTES_MAX).new_codec();
        Ok(Self { stream, codec, buffer: BytesMut::new() })
    }

    async fn write(&mut self, out: &[u8]) -> Result<(), ClientError> {
        match self.stream.write_all(out).await {
            // The daemon has closed. An error frame that says why may lie ready, so go on and read it, or the end.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            result => result.map_err(ClientError::Io),
        }
    }

    async fn read(&mut self) -> Result<(u32, QueryReply), ClientError> {
        loop {
            let frame = self.codec.decode(&mut self.buffer).map_err(|_| too_large())?;
            if let Some(frame) = frame {
                let frame = frame::parse(&frame).map_err(ClientError::Protocol)?;
                let reply = QueryReply::decode(&frame).map_err(ClientError::Protocol)?;
                return Ok((frame.header.request_id, reply));
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(ClientError::Io)? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }
}

/// The codec's only error.
fn too_large() -> ClientError {
    let message = format!("a reply is over this socket's {QUERY_FRAME_BYTES_MAX} bytes");
    ClientError::Protocol(FrameError::new(ErrorCode::FrameTooLarge, message))
}
