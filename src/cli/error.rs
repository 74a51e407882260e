//! Why a command was not carried out, in the words and the exit status that say so.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use keyward_proto::ErrorCode;
use keyward_proto::admin::{Kind, RefusalKind, Refused};
use keyward_proto::client::ClientError;

use super::input::without_codes;
use super::tables::escape;

/// Exit statuses of the contract's section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or allowed.
    Done,
    /// Denied.
    Denied,
    /// Wrong usage or refused input.
    Refused,
    /// The daemon can't be reached.
    Unreachable,
    /// A fault, or `unavailable`.
    Fault,
}

impl Exit {
    /// What the process returns.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Denied => 1,
            Self::Refused => 2,
            Self::Unreachable => 3,
            Self::Fault => 4,
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug)]
pub enum CliError {
    /// What was typed, or a file that was named, is refused here.
    Input(String),
    /// The daemon understood and refused.
    Refused(Refused),
    /// The socket could not be opened.
    Unreachable {
        /// Its path.
        socket: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// There was no answer, or none that can be read.
    Client(ClientError),
    /// The daemon answered something else than was asked.
    OtherReply,
    /// A file of ours could not be written.
    Unwritten {
        /// Which.
        file: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// An old backup could not be removed after a new one was made.
    Unremoved {
        /// Which, or the directory.
        file: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Standard output took no more.
    Output(io::Error),
    /// An audit is no chain.
    BrokenAudit(String),
    /// The bench came to no figures.
    Unmeasured(String),
    /// A new code was made and could not be printed.
    CodeLost(io::Error),
}

impl CliError {
    /// The exit status that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Input(_) => Exit::Refused,
            Self::Refused(refused) => refusal_exit(refused),
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Client(error) => client_exit(error),
            Self::Unwritten { .. } => Exit::Refused,
            Self::Unremoved { .. }
            | Self::OtherReply
            | Self::Output(_)
            | Self::BrokenAudit(_)
            | Self::Unmeasured(_)
            | Self::CodeLost(_) => Exit::Fault,
        }
    }
}

fn refusal_exit(refused: &Refused) -> Exit {
    match refused.kind {
        RefusalKind::Invalid => Exit::Refused,
        RefusalKind::Unavailable => Exit::Fault,
    }
}

fn client_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Connect { .. } => Exit::Unreachable,
        ClientError::RequestTooLarge { .. } => Exit::Refused,
        ClientError::UploadRefused(refused) => refusal_exit(refused),
        ClientError::Refused(error) => match error.code {
            ErrorCode::NotPermitted => Exit::Unreachable,
            ErrorCode::FrameTooLarge => Exit::Refused,
            ErrorCode::UnsupportedVersion
            | ErrorCode::UnknownType
            | ErrorCode::MalformedBody
            | ErrorCode::TrailingBytes
            | ErrorCode::FrameTooShort
            | ErrorCode::TooManyConnections
            | ErrorCode::FrameDeadline
            | ErrorCode::Stopping => Exit::Fault,
        },
        ClientError::Io(_) | ClientError::Closed | ClientError::Protocol(_) | ClientError::UnexpectedReply { .. } => {
            Exit::Fault
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect { path, source } => Self::Unreachable { socket: path, cause: source },
            ClientError::UploadRefused(refused) => Self::Refused(refused),
            ClientError::Io(_)
            | ClientError::Closed
            | ClientError::Protocol(_)
            | ClientError::Refused(_)
            | ClientError::RequestTooLarge { .. }
            | ClientError::UnexpectedReply { .. } => Self::Client(error),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(message) => f.write_str(&escape(&without_codes(message))),
            Self::BrokenAudit(faults) => write!(f, "the audit is broken: {}", escape(faults)),
            Self::Unmeasured(message) => f.write_str(&escape(message)),
            Self::Refused(refused) => write_refused(f, refused),
            Self::Unreachable { socket, cause } => write_unreachable(f, socket, cause),
            Self::Client(error) => f.write_str(&escape(&error.to_string())),
            Self::OtherReply => f.write_str(
                "the daemon's reply does not fit the request: they are of different versions; use the same for both",
            ),
            Self::Unwritten { file, cause } => {
                write!(
                    f,
                    "not written: {}: {cause}; name a place that can be written and has room",
                    escape(&file.to_string_lossy())
                )
            }
            Self::Unremoved { file, cause } => write!(
                f,
                "old backup not removed: {}: {cause}; the new one is complete, so remove the old one by hand",
                escape(&file.to_string_lossy())
            ),
            Self::Output(cause) => {
                write!(f, "result not printed: standard output: {cause}; the command itself was done")
            }
            Self::CodeLost(cause) => write!(
                f,
                "the new code is lost: standard output: {cause}; it is stored all the same, so revoke the record and add another, \
                 or rotate a key or token again, which ends its old code at once"
            ),
        }
    }
}

impl std::error::Error for CliError {}

fn write_refused(f: &mut fmt::Formatter<'_>, refused: &Refused) -> fmt::Result {
    if let Some((kind, index)) = refused.place {
        write!(f, "{}[{index}]: ", section(kind))?;
    }
    f.write_str(&escape(&without_codes(&refused.message)))
}

/// The name of a kind's section in an apply file.
pub(super) const fn section(kind: Kind) -> &'static str {
    match kind {
        Kind::Agent => "agents",
        Kind::Endpoint => "endpoints",
        Kind::Key => "keys",
        Kind::Token => "tokens",
        Kind::Session => "sessions",
    }
}

fn write_unreachable(f: &mut fmt::Formatter<'_>, socket: &Path, cause: &io::Error) -> fmt::Result {
    write!(f, "daemon not reached: {}: {cause}; ", escape(&socket.to_string_lossy()))?;
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return f.write_str("is keyward running? start it with: systemctl start keyward, or keyward serve (another directory: --runtime DIR)");
    }
    if socket.ends_with(super::ADMIN_SOCKET) {
        f.write_str(
            "root (sudo), the daemon's own user and the users and groups that its configuration names under [admin] may use \
             it, as far as the socket's mode lets them (SocketGroup= of keyward-admin.socket)",
        )
    } else {
        f.write_str("members of the daemon's group (keyward) may ask; root may in any case")
    }
}

#[cfg(test)]
mod tests {
    use keyward_proto::FrameError;

    use super::*;

    fn refused(kind: RefusalKind, place: Option<(Kind, u64)>) -> Refused {
        Refused { kind, place, message: "agent 9 is unknown\u{1b}".into() }
    }

    #[test]
    fn every_failure_has_the_exit_status_of_the_contract() {
        let connect = |kind: io::ErrorKind| ClientError::Connect { path: "/r/admin.sock".into(), source: kind.into() };
        let frame = |code| ClientError::Refused(FrameError::new(code, "no"));
        for (error, status) in [
            (CliError::Input("x".into()), 2),
            (CliError::Refused(refused(RefusalKind::Invalid, None)), 2),
            (CliError::Refused(refused(RefusalKind::Unavailable, None)), 4),
            (ClientError::UploadRefused(refused(RefusalKind::Invalid, None)).into(), 2),
            (ClientError::UploadRefused(refused(RefusalKind::Unavailable, None)).into(), 4),
            (connect(io::ErrorKind::NotFound).into(), 3),
            (connect(io::ErrorKind::ConnectionRefused).into(), 3),
            (connect(io::ErrorKind::PermissionDenied).into(), 3),
            (frame(ErrorCode::NotPermitted).into(), 3),
            (frame(ErrorCode::FrameTooLarge).into(), 2),
            (frame(ErrorCode::TooManyConnections).into(), 4),
            (frame(ErrorCode::Stopping).into(), 4),
            (ClientError::RequestTooLarge { bytes: 2, bytes_max: 1 }.into(), 2),
            (ClientError::Closed.into(), 4),
            (ClientError::Io(io::ErrorKind::TimedOut.into()).into(), 4),
            (CliError::OtherReply, 4),
            (CliError::Unremoved { file: "/b".into(), cause: io::ErrorKind::PermissionDenied.into() }, 4),
            (CliError::BrokenAudit("x".into()), 4),
            (CliError::Unmeasured("x".into()), 4),
        ] {
            assert_eq!(error.exit().status(), status, "{error}");
        }
    }

    #[test]
    fn a_refusal_names_its_place_in_the_file_and_is_escaped() {
        let shown = CliError::Refused(refused(RefusalKind::Invalid, Some((Kind::Key, 3)))).to_string();
        assert_eq!(shown, "keys[3]: agent 9 is unknown\\u{1b}");
    }

    #[test]
    fn an_unreachable_daemon_is_named_with_its_socket_and_what_to_do() {
        let shown = |path: &str, kind: io::ErrorKind| {
            CliError::Unreachable { socket: path.into(), cause: kind.into() }.to_string()
        };
        assert!(shown("/r/query.sock", io::ErrorKind::NotFound).contains("/r/query.sock"));
        assert!(shown("/r/query.sock", io::ErrorKind::NotFound).contains("keyward serve"));
        assert!(shown("/r/query.sock", io::ErrorKind::PermissionDenied).contains("group"));
        assert!(shown("/r/admin.sock", io::ErrorKind::PermissionDenied).contains("root"));
    }
}
