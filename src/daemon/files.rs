//! The two directories, and the locks that keep a second daemon out of them.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held while a daemon uses the directory; its content means nothing.
const LOCK_FILE: &str = "keyward.lock";
const OTHERS_WRITE: u32 = 0o002;

/// Why a directory can't be used.
#[derive(Debug)]
pub enum DirectoryError {
    /// It can't be made, opened or read.
    Io(PathBuf, io::Error),
    /// It is something else.
    NotADirectory(PathBuf),
    /// Anybody may write in it.
    WorldWritable(PathBuf),
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
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(DirectoryError::WorldWritable(path.to_path_buf()));
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
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        // Made by root, as by `doctor`, it must not keep the directory's owner out.
        if let (Ok(lock), Ok(home)) = (file.metadata(), std::fs::metadata(directory))
            && lock.uid() != home.uid()
        {
            let _ = fchown(&file, Some(home.uid()), Some(home.gid()));
        }
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(DirectoryError::InUse(directory.to_path_buf())),
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}
