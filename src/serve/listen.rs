//! Sockets: made without a moment in which they are open to others, and never over something that is not ours.

use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use tokio::net::{TcpListener, UnixListener};

/// Bytes of a socket's path: `sun_path` has 108, the last is zero (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a socket can't be served. Each says what to do.
#[derive(Debug)]
pub enum BindError {
    /// The path does not fit `sun_path`.
    PathTooLong(PathBuf),
    /// Something that is no socket stands there.
    NotASocket(PathBuf),
    /// Somebody answers there.
    InUse(PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
    /// The system refused an address.
    Address(SocketAddr, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathTooLong(path) => write!(
                f,
                "the socket path {} has {} bytes, at most {SOCKET_PATH_BYTES_MAX} are possible; give a shorter --runtime",
                path.display(),
                path.as_os_str().len()
            ),
            Self::NotASocket(path) => write!(
                f,
                "{} is there and is no socket; it was left as it is; move it away, or give another --runtime",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "another daemon answers on {}; stop that one first, or give another --runtime",
                path.display()
            ),
            Self::Io(path, error) => write!(
                f,
                "cannot listen on {}: {error}; check that the directory exists and belongs to the daemon's user",
                path.display()
            ),
            Self::Address(address, error) if is_shut_in(error) => write!(
                f,
                "cannot listen on {address}: {error}: the unit's sandbox has no network; leave http.listen out, and add \
                 ListenStream={address} to keyward-http.socket (systemctl edit keyward-http.socket)"
            ),
            Self::Address(address, error) => {
                write!(f, "cannot listen on {address}: {error}; free the port, or give another one as http.listen")
            }
        }
    }
}

impl std::error::Error for BindError {}

/// Whether a sandbox forbids it (`RestrictAddressFamilies=`, `PrivateNetwork=`).
fn is_shut_in(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAFNOSUPPORT | Errno::EPERM | Errno::EADDRNOTAVAIL))
}

/// Who may connect to a socket beyond its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody: mode 0600.
    Owner,
    /// A group, by id: mode 0660.
    Group(u32),
}

/// Binds `path`. The process's umask must deny everything to others: the socket is born 0600 or 0700 and only then
/// given to its group.
///
/// # Errors
/// See [`BindError`].
pub fn bind(path: &Path, access: Access) -> Result<UnixListener, BindError> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(BindError::PathTooLong(path.to_path_buf()));
    }
    let io = |error| BindError::Io(path.to_path_buf(), error);
    clear_stale(path)?;
    let listener = StdListener::bind(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse { BindError::InUse(path.to_path_buf()) } else { io(error) }
    })?;
    listener.set_nonblocking(true).map_err(io)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
    if let Access::Group(gid) = access {
        // A service that runs with the group makes the socket with it, and need not be allowed chown(2).
        let is_given =
            std::fs::metadata(path).map_err(io)?.gid() == gid || may_give(chown(path, None, Some(gid))).map_err(io)?;
        if is_given {
            std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(io)?;
        } else {
            tracing::warn!(socket = %path.display(), gid, "this user is not in that group: the socket is open to this user only");
        }
    }
    UnixListener::from_std(listener).map_err(io)
}

/// Only a member of a group, or root, may give it something (chown(2)).
fn may_give(given: io::Result<()>) -> io::Result<bool> {
    match given {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        given => given.map(|()| true),
    }
}

/// Binds a loopback address.
///
/// # Errors
/// See [`BindError`].
pub fn bind_loopback(address: SocketAddr) -> Result<TcpListener, BindError> {
    let io = |error| BindError::Address(address, error);
    if !address.ip().is_loopback() {
        return Err(io(io::Error::other("it is no loopback address")));
    }
    let listener = StdTcpListener::bind(address).map_err(io)?;
    listener.set_nonblocking(true).map_err(io)?;
    TcpListener::from_std(listener).map_err(io)
}

/// Removes the socket that a daemon left behind that did not stop in order. Nothing else is ever removed.
fn clear_stale(path: &Path) -> Result<(), BindError> {
    let io = |error| BindError::Io(path.to_path_buf(), error);
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_path_buf()));
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(io),
        Ok(_) | Err(_) => Err(BindError::InUse(path.to_path_buf())),
    }
}
