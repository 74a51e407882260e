//! The blocking client of `query.sock`.

use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::connection::{Connection, Live, Resend};
use super::{ClientError, judge_request};
use crate::frame::QUERY_FRAME_BYTES_MAX;
use crate::query::{Asker, Batch, BatchVerdicts, Check, QueryReply, QueryRequest, Target, Verdict, Who};

/// Requests written together before their replies are read. They fit into the socket's own buffer several times over:
/// were it full, and the daemon's too, each side would wait for the other to read.
const WINDOW_BYTES: usize = 32 * 1024;

/// Most requests fit, credential and path included, so that growing leaves no copy of a code behind.
const REQUEST_CAPACITY: usize = 4 * 1024;

/// Asks questions, one connection, one call at a time.
///
/// ```no_run
/// use keyward_proto::client::QueryClient;
/// use keyward_proto::query::{Asker, Target};
///
/// let mut client = QueryClient::connect("/run/keyward/query.sock".as_ref())?;
/// let asker = Asker { credential: Some(b"key 2:YWK2PGCS8CNW62SR8TBTBKWMY"), ..Asker::default() };
/// let verdict = client.check(asker, Target::Endpoint { method: b"GET", path: b"/api/v2/tickets" })?;
/// assert!(verdict.is_allowed());
/// # Ok::<(), keyward_proto::client::ClientError>(())
/// ```
pub struct QueryClient {
    connection: Connection,
    /// Wiped when dropped: requests hold credentials.
    out: Zeroizing<Vec<u8>>,
}

impl QueryClient {
    /// Connects to the query socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let connection = Connection::open(path, QUERY_FRAME_BYTES_MAX)?;
        Ok(Self { connection, out: Zeroizing::new(Vec::with_capacity(REQUEST_CAPACITY)) })
    }

    /// How long each read and write, and opening another connection, may take; `None`, the default, waits for ever.
    ///
    /// # Errors
    /// [`ClientError::Io`] when the system does not take it, as for a duration of zero.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.connection.set_timeout(timeout)
    }

    /// May `asker` do this?
    ///
    /// # Errors
    /// When there is no verdict; treat it as a fault, never as an allow.
    pub fn check(&mut self, asker: Asker<'_>, target: Target<'_>) -> Result<Verdict, ClientError> {
        self.ask(&QueryRequest::Check(Check { asker, target }))?.into_verdict()
    }

    /// Who is `asker`?
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn who(&mut self, asker: Asker<'_>) -> Result<Verdict, ClientError> {
        self.ask(&QueryRequest::Who(Who { asker }))?.into_verdict()
    }

    /// May `asker` do each of these? 1 to 1024 targets, judged on one state.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn batch(&mut self, asker: Asker<'_>, targets: &[Target<'_>]) -> Result<BatchVerdicts, ClientError> {
        let reply = self.ask(&QueryRequest::Batch(Batch { asker, targets: targets.to_vec() }))?;
        reply.into_batch(targets.len())
    }

    /// Many requests written together: one reply a request, in the order of `requests`. An error frame that answers one
    /// of them is its reply.
    ///
    /// When the connection turns out dead, requests may be asked a second time and then take from the rate bucket twice.
    ///
    /// # Errors
    /// When not every request was answered.
    pub fn check_all(&mut self, requests: &[QueryRequest<'_>]) -> Result<Vec<QueryReply>, ClientError> {
        let mut replies = Vec::with_capacity(requests.len());
        let mut waiting = Vec::new();
        self.out.clear();
        for request in requests {
            let start = self.out.len();
            let id = self.connection.next_id();
            request.put(&mut self.out, id);
            judge_request(self.out.len() - start, self.connection.bytes_max())?;
            if start > 0 && self.out.len() > WINDOW_BYTES {
                self.exchange_window(start, &waiting, &mut replies)?;
                self.out.drain(..start);
                waiting.clear();
            }
            waiting.push(id);
        }
        self.exchange_window(self.out.len(), &waiting, &mut replies)?;
        Ok(replies)
    }

    /// Sends the first `bytes` of `out`, which hold the requests `ids`, and appends their replies.
    fn exchange_window(&mut self, bytes: usize, ids: &[u32], replies: &mut Vec<QueryReply>) -> Result<(), ClientError> {
        if ids.is_empty() {
            return Ok(());
        }
        let window = self.connection.exchange(&self.out[..bytes], Resend::Once, |live| read_window(live, ids))?;
        replies.extend(window);
        Ok(())
    }

    fn ask(&mut self, request: &QueryRequest<'_>) -> Result<QueryReply, ClientError> {
        let id = self.connection.next_id();
        self.out.clear();
        request.put(&mut self.out, id);
        judge_request(self.out.len(), self.connection.bytes_max())?;
        self.connection.exchange(&self.out, Resend::Once, |live| {
            let (got, reply) = live.read(QueryReply::decode)?;
            reply.answering(id, got)
        })
    }
}

/// Reads a reply to each of `ids`, in whatever order they come.
fn read_window(live: &mut Live, ids: &[u32]) -> Result<Vec<QueryReply>, ClientError> {
    let mut replies: Vec<Option<QueryReply>> = vec![None; ids.len()];
    for next in 0..ids.len() {
        let (got, reply) = live.read(QueryReply::decode)?;
        if let (0, QueryReply::Error(error)) = (got, &reply) {
            return Err(ClientError::Refused(error.clone()));
        }
        // The daemon replies in order, so the first try is right.
        let place = if ids[next] == got { Some(next) } else { ids.iter().position(|id| *id == got) };
        match place.map(|place| &mut replies[place]) {
            Some(free @ None) => *free = Some(reply),
            Some(Some(_)) | None => return Err(ClientError::wrong_id(ids[next], got)),
        }
    }
    Ok(replies.into_iter().flatten().collect())
}

impl QueryReply {
    /// The reply itself when it answers request `wanted`. Error frames, and those that answer no request, are errors.
    pub(super) fn answering(self, wanted: u32, got: u32) -> Result<Self, ClientError> {
        match self {
            Self::Error(error) if got == wanted || got == 0 => Err(ClientError::Refused(error)),
            Self::Verdict(_) | Self::Batch(_) if got == wanted => Ok(self),
            Self::Error(_) | Self::Verdict(_) | Self::Batch(_) => Err(ClientError::wrong_id(wanted, got)),
        }
    }

    pub(super) fn into_verdict(self) -> Result<Verdict, ClientError> {
        match self {
            Self::Verdict(verdict) => Ok(verdict),
            Self::Batch(_) => Err(ClientError::wrong_type("a verdict", "the verdicts of a batch")),
            Self::Error(error) => Err(ClientError::Refused(error)),
        }
    }

    /// A batch that was judged has a verdict for each of its `targets`; one that was refused as a whole has none.
    pub(super) fn into_batch(self, targets: usize) -> Result<BatchVerdicts, ClientError> {
        match self {
            Self::Batch(batch) if batch.verdicts.is_empty() || batch.verdicts.len() == targets => Ok(batch),
            Self::Batch(batch) => Err(ClientError::UnexpectedReply {
                wanted: format!("{targets} verdicts"),
                got: format!("{}", batch.verdicts.len()),
            }),
            Self::Verdict(_) => Err(ClientError::wrong_type("the verdicts of a batch", "one verdict")),
            Self::Error(error) => Err(ClientError::Refused(error)),
        }
    }
}
