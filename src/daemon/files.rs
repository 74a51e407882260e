//! The two directories, and the locks that keep a second daemon out of them.

use std::fmt;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::Uid;

/// Held while a daemon uses the directory; its content means nothing.
const LOCK_FILE: &str = "keyward.lock";
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;

/// Why a directory can't be used.
#[derive(Debug)]
pub enum DirectoryError {
    /// It can't be made, opened or read.
    Io(PathBuf, io::Error),
    /// It is something else.
    NotADirectory(PathBuf),
    /// Anybody may write in it.
    WorldWritable(PathBuf),
    /// Its group may write in it.
    GroupWritable(PathBuf),
    /// It belongs to a user who is neither this one nor root.
    NotOurs(PathBuf, u32),
    /// What stands in the lock's place was not made by a daemon.
    NoLock(PathBuf),
    /// Another daemon uses it.
    InUse(PathBuf),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "cannot use the directory {}: {error}; make it, give it to the daemon's user, or name another with \
                 --data or --runtime",
                path.display()
            ),
            Self::NotADirectory(path) => {
                write!(f, "{} is no directory; name another with --data or --runtime", path.display())
            }
            Self::WorldWritable(path) => write!(
                f,
                "anybody may write in {}, and so put another database or socket there; run: chmod o-w {}",
                path.display(),
                path.display()
            ),
            Self::GroupWritable(path) => write!(
                f,
                "the group of {} may write in it, and so put another database or socket there; run: chmod g-w {}",
                path.display(),
                path.display()
            ),
            Self::NotOurs(path, uid) => write!(
                f,
                "{} belongs to user {uid}, who may put another database or socket there; run it as that user, or give the \
                 directory to the daemon's user",
                path.display()
            ),
            Self::NoLock(path) => write!(
                f,
                "{} is no plain file with that one name; it was left as it is; find out who put it there, and remove it",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "another keyward uses {}; stop that one first, or name other directories with --data and --runtime",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// The data directory: made 0700 when it is missing and its parent is there.
pub(super) fn data_directory(path: &Path) -> Result<(), DirectoryError> {
    ensure(path, 0o700)
}

/// The runtime directory: made 0755 when it is missing, for web workers must reach the sockets in it.
pub(super) fn runtime_directory(path: &Path) -> Result<(), DirectoryError> {
    ensure(path, 0o755)
}

fn ensure(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    let io = |error| DirectoryError::Io(path.to_path_buf(), error);
    match DirBuilder::new().mode(mode).create(path) {
        // The umask took bits away from `mode`.
        Ok(()) => return std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io(error)),
    }
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_dir() {
        return Err(DirectoryError::NotADirectory(path.to_path_buf()));
    }
    judge_writers(path, &metadata)?;
    let owner = metadata.uid();
    if owner != 0 && owner != Uid::effective().as_raw() {
        return Err(DirectoryError::NotOurs(path.to_path_buf(), owner));
    }
    Ok(())
}

/// Whether nobody but its owner may put things into a directory.
pub(super) fn judge_writers(path: &Path, metadata: &Metadata) -> Result<(), DirectoryError> {
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(DirectoryError::WorldWritable(path.to_path_buf()));
    }
    // The group `keyward` is that of the web workers, who may ask and nothing else.
    if metadata.mode() & GROUP_WRITES != 0 {
        return Err(DirectoryError::GroupWritable(path.to_path_buf()));
    }
    Ok(())
}

/// A lock on a directory. The system takes it back when the process ends, however that happens.
pub(super) struct DirectoryLock {
    _file: Flock<File>,
}

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<Self, DirectoryError> {
        let io = |error| DirectoryError::Io(directory.to_path_buf(), error);
        let path = directory.join(LOCK_FILE);
        let file = open_lock(directory, &path)?;
        let (lock, home) = (file.metadata().map_err(io)?, std::fs::metadata(directory).map_err(io)?);
        if !lock.is_file() || lock.nlink() != 1 {
            return Err(DirectoryError::NoLock(path));
        }
        // Made by root, as by `doctor`, it must not keep the directory's owner out. What holds something is none of ours.
        if lock.uid() != home.uid() && lock.len() == 0 {
            let _ = fchown(&file, Some(home.uid()), Some(home.gid()));
        }
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(DirectoryError::InUse(directory.to_path_buf())),
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

/// Never through a link, nor by waiting for a pipe's reader: root opens it, as for `doctor`, in a directory of another
/// user, to whom it then gives what it opened.
fn open_lock(directory: &Path, path: &Path) -> Result<File, DirectoryError> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path);
    opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP | Errno::ENXIO | Errno::EISDIR) => DirectoryError::NoLock(path.to_path_buf()),
        Some(_) | None => DirectoryError::Io(directory.to_path_buf(), error),
    })
}
