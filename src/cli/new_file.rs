//! Files that hold hashes: closed to others, never over one that is there, and under their name only when they are whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::error::CliError;

/// The name that stands for standard output.
const STDOUT: &str = "-";

/// Where something goes that may be long.
pub(super) enum Sink {
    /// A file.
    File(NewFile),
    /// Standard output, of how many bytes so far.
    Stdout(u64),
}

impl Sink {
    /// Opens `path`, `-` being standard output, which must not be a terminal for what is `secret`.
    pub(super) fn open(path: &Path, secret: bool) -> Result<Self, CliError> {
        if path != Path::new(STDOUT) {
            return NewFile::create(path).map(Self::File);
        }
        if secret && io::stdout().is_terminal() {
            let why = "not printed: it holds hashes and standard output is a terminal; name a file, or pipe it on";
            return Err(CliError::Input(why.to_owned()));
        }
        Ok(Self::Stdout(0))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(written) => {
                *written += bytes.len() as u64;
                io::stdout().lock().write_all(bytes).map_err(CliError::Output)
            }
        }
    }

    /// Makes a file durable and gives it its name. Returns how many bytes it has.
    pub(super) fn finish(self) -> Result<u64, CliError> {
        match self {
            Self::File(file) => file.finish(),
            Self::Stdout(written) => io::stdout().lock().flush().map(|()| written).map_err(CliError::Output),
        }
    }
}

/// A file under another name until it is whole; dropped before that it is gone.
pub(super) struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    written: u64,
    finished: bool,
}

impl NewFile {
    fn create(path: &Path) -> Result<Self, CliError> {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".partial-{}", std::process::id()));
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.map_err(|cause| unwritten(path, cause))?;
        Ok(Self { path: path.to_owned(), partial, file: BufWriter::new(file), written: 0, finished: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|cause| unwritten(&self.path, cause))
    }

    fn finish(mut self) -> Result<u64, CliError> {
        let failed = |cause| unwritten(&self.path, cause);
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(failed)?;
        match renameat2(AT_FDCWD, &self.partial, AT_FDCWD, &self.path, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(exists(&self.path)),
            // Not every file system can refuse to replace; it was looked for at the beginning.
            Err(Errno::EINVAL | Errno::ENOSYS) => std::fs::rename(&self.partial, &self.path).map_err(failed)?,
            Err(errno) => return Err(unwritten(&self.path, errno.into())),
        }
        self.finished = true;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(self.written)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            // Whatever became of it, it is not under its name.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

fn exists(path: &Path) -> CliError {
    CliError::Input(format!("not written: {}: it exists and is left as it is; name another file", path.display()))
}

fn unwritten(path: &Path, cause: io::Error) -> CliError {
    CliError::Unwritten { file: path.to_owned(), cause }
}
