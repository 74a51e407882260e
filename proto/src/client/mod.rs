//! Clients for both sockets.
//!
//! [`QueryClient`] and [`AdminClient`] block; with the feature `tokio` there is also an [`AsyncQueryClient`]. Each keeps
//! one connection and opens a new one when a call failed. Questions and readings are sent a second time, once, when the
//! connection turned out to be dead (a restarted daemon closes them all). A change is only when it is certain that it was
//! not carried out; one whose reply was lost may have been made.
//!
//! No client waits for a daemon that is away: connecting fails at once where nobody listens. Where the service manager
//! keeps the sockets somebody always does, and a call waits until the next daemon answers: set a timeout, or put one
//! around the call.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::admin::Refused;
use crate::frame::{ErrorCode, FrameError};

mod admin;
#[cfg(feature = "tokio")]
mod asynchronous;
mod connection;
mod query;

pub use admin::{AdminClient, ApplyOutcome, ImportedPart};
#[cfg(feature = "tokio")]
pub use asynchronous::AsyncQueryClient;
pub use query::QueryClient;

/// Why a call gave no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The socket could not be opened.
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Reading or writing failed, or took longer than the timeout.
    Io(io::Error),
    /// The daemon closed the connection before it replied.
    Closed,
    /// The reply could not be read: daemon and client don't speak the same protocol.
    Protocol(FrameError),
    /// The daemon answered with an error frame.
    Refused(FrameError),
    /// The daemon did not take a part of an upload or an import, or gave up a backup.
    UploadRefused(Refused),
    /// The request is over the socket's frame maximum and was not sent.
    RequestTooLarge {
        /// What the frame would take.
        bytes: usize,
        /// What a frame may take.
        bytes_max: usize,
    },
    /// A reply of another type, or to another request, than the one that was sent.
    UnexpectedReply {
        /// What was waited for.
        wanted: String,
        /// What came.
        got: String,
    },
}

impl ClientError {
    /// The connection was gone, through nothing that the request did.
    fn is_dead_connection(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::NotConnected
            ),
            Self::Refused(_) => self.is_stopping(),
            Self::Connect { .. }
            | Self::Protocol(_)
            | Self::UploadRefused(_)
            | Self::RequestTooLarge { .. }
            | Self::UnexpectedReply { .. } => false,
        }
    }

    /// The daemon said that it is stopping: what was sent behind its last reply is not served.
    fn is_stopping(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code == ErrorCode::Stopping)
    }

    fn wrong_id(wanted: u32, got: u32) -> Self {
        Self::UnexpectedReply { wanted: format!("a reply to request {wanted}"), got: format!("one to request {got}") }
    }

    fn wrong_type(wanted: &str, got: &str) -> Self {
        Self::UnexpectedReply { wanted: wanted.to_owned(), got: got.to_owned() }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { path, source } => {
                write!(f, "cannot reach the daemon at {}: {source}; {}", path.display(), connect_advice(source))
            }
            Self::Io(error) if is_timeout(error) => {
                f.write_str("the daemon did not answer in time: the timeout passed; look at its log, or wait longer")
            }
            Self::Io(error) => write!(f, "cannot speak with the daemon: {error}; try again"),
            Self::Closed => f.write_str(
                "no reply: the daemon closed the connection; a change may or may not have been made, so look before \
                 you try again",
            ),
            Self::Protocol(error) => write!(
                f,
                "cannot read the daemon's reply: {}; use a client and a daemon of the same version",
                error.message
            ),
            Self::Refused(error) => {
                write!(f, "the daemon refused to serve: {}; {}", error.message, refused_advice(error.code))
            }
            Self::UploadRefused(refused) => write!(f, "it was not carried out: {}", refused.message),
            Self::RequestTooLarge { bytes, bytes_max } => write!(
                f,
                "the request was not sent: it takes {bytes} bytes and a frame on this socket holds {bytes_max}; \
                 split it"
            ),
            Self::UnexpectedReply { wanted, got } => write!(
                f,
                "the daemon's reply does not fit: waited for {wanted}, got {got}; use a client and a daemon of the \
                 same version"
            ),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Io(source) => Some(source),
            Self::Protocol(error) | Self::Refused(error) => Some(error),
            Self::Closed | Self::UploadRefused(_) | Self::RequestTooLarge { .. } | Self::UnexpectedReply { .. } => None,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn connect_advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "run it as a user who may open this socket"
    } else if error.kind() == io::ErrorKind::WouldBlock {
        // connect(2): as many wait to be accepted as the listener lets.
        "too many connections wait for it already: try again, or look at its log"
    } else {
        "start the daemon, or name its runtime directory"
    }
}

fn refused_advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnsupportedVersion
        | ErrorCode::UnknownType
        | ErrorCode::MalformedBody
        | ErrorCode::TrailingBytes
        | ErrorCode::FrameTooShort => "use a client and a daemon of the same version",
        ErrorCode::FrameTooLarge => "send less in one request",
        ErrorCode::TooManyConnections => "close connections that are not used, or raise the daemon's limit",
        ErrorCode::NotPermitted => "run it as a user whom the daemon's configuration lists",
        ErrorCode::FrameDeadline | ErrorCode::Stopping => "try again",
    }
}

/// Refuses to send what the daemon would close the connection for.
fn judge_request(bytes: usize, bytes_max: usize) -> Result<(), ClientError> {
    if bytes > bytes_max { Err(ClientError::RequestTooLarge { bytes, bytes_max }) } else { Ok(()) }
}

/// The request ids of one connection: 1, 2, 3, …; never 0, which an error frame carries that answers no request.
#[derive(Default)]
struct RequestIds(u32);

impl RequestIds {
    fn next(&mut self) -> u32 {
        self.0 = self.0.checked_add(1).unwrap_or(1);
        self.0
    }
}
