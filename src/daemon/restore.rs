//! `keyward restore`: a database from a backup, in a directory that has none.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::files::{self, DirectoryError, DirectoryLock};
use super::pepper::{self, PepperError};
use super::process;
use crate::registry::{DATABASE_FILE, OpenError};
use crate::store::{self, RestoreError, Setback, Undone, Watermark, WatermarkError, Way};

/// Why nothing was restored. Each says what failed, why, and what to do.
#[derive(Debug)]
pub enum RestoreFailure {
    /// The directory can't be used.
    Directory(DirectoryError),
    /// It belongs to another user, who could not use what this one makes in it.
    NotOwner(PathBuf, u32),
    /// There is a database.
    Exists(PathBuf),
    /// The pepper can't be used.
    Pepper(PepperError),
    /// The backup can't be opened.
    Unopened(PathBuf, io::Error),
    /// There is no database made of it.
    Backup(PathBuf, RestoreError),
    /// The last acknowledged change is not in it.
    SetBack(PathBuf, Box<Setback>),
    /// The watermark can't be used.
    Watermark(WatermarkError),
    /// The system refused something else.
    System(&'static str, io::Error),
}

impl RestoreFailure {
    /// Whether trying again without another input is of no use.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::NotOwner(..) | Self::Exists(_) | Self::Unopened(..) | Self::SetBack(..) => true,
            Self::Backup(_, error) => match error {
                RestoreError::NoBackup
                | RestoreError::NewerFormat(_)
                | RestoreError::OlderFormat(_)
                | RestoreError::WrongPepper
                | RestoreError::CutOff
                | RestoreError::Altered(_) => true,
                RestoreError::Unread(_) | RestoreError::Unwritten(_) | RestoreError::Database(_) => false,
            },
            Self::Watermark(error) => matches!(error, WatermarkError::Damaged(_)),
            Self::Directory(_) | Self::Pepper(_) | Self::System(..) => false,
        }
    }
}

impl fmt::Display for RestoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(error) => error.fmt(f),
            Self::NotOwner(path, uid) => write!(
                f,
                "nothing was restored: the directory {} belongs to user {uid}, who could not use what is made in it by \
                 another; run it as that user (runuser -u USER -- keyward restore …)",
                path.display()
            ),
            Self::Exists(path) => write!(
                f,
                "nothing was restored: there is a database {}, which is left as it is; move it away first, or name another \
                 --data",
                path.display()
            ),
            Self::Pepper(error) => error.fmt(f),
            Self::Unopened(path, error) => write!(
                f,
                "nothing was restored: the backup {} can't be opened: {error}; name one that this user may read",
                path.display()
            ),
            Self::Backup(_, error @ (RestoreError::Unwritten(_) | RestoreError::Database(_))) => {
                write!(f, "nothing was restored: {error}")
            }
            Self::Backup(path, error) => {
                write!(f, "nothing was restored: the backup {}: {error}", path.display())
            }
            Self::SetBack(backup, setback) => {
                let Setback { way, found, acknowledged, undone } = &**setback;
                let (backup, found, acknowledged) = (backup.display(), found.0, acknowledged.0);
                match way {
                    Way::Older => write!(
                        f,
                        "nothing was restored: the backup {backup} has revision {found}, and {acknowledged} was \
                         acknowledged; restore a newer one, or accept with --accept-rollback what it undoes; {undone}"
                    ),
                    Way::Another => write!(
                        f,
                        "nothing was restored: the backup {backup} is not a continuation of the last state: it has \
                         revision {found}, but its audit has not the change that was acknowledged as revision \
                         {acknowledged}; restore one that was taken after that change, or accept with --accept-rollback \
                         what it undoes; {undone}"
                    ),
                }
            }
            Self::Watermark(error @ WatermarkError::Damaged(_)) => {
                write!(f, "nothing was restored: {error}; here --accept-rollback does that")
            }
            Self::Watermark(error) => error.fmt(f),
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for RestoreFailure {}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The database.
    pub database: PathBuf,
    /// Its revision.
    pub revision: u64,
    /// When that was committed, in unix seconds.
    pub committed_at: u64,
    /// Its rows.
    pub rows: u64,
    /// The last acknowledged revision, if that is not in it.
    pub rolled_back_from: Option<u64>,
    /// What is in force again for that.
    pub undone: Undone,
}

/// Makes a database of the backup `file` in `data`, which must have none.
///
/// # Errors
/// See [`RestoreFailure`]; nothing was made then.
pub fn restore(data: &Path, file: &Path, accept_rollback: bool) -> Result<Restored, RestoreFailure> {
    process::harden().map_err(|error| RestoreFailure::System("protect the process's memory", error))?;
    let source = File::open(file).map_err(|error| RestoreFailure::Unopened(file.to_path_buf(), error))?;
    files::data_directory(data).map_err(RestoreFailure::Directory)?;
    expect_owner(data)?;
    let _lock = DirectoryLock::take(data).map_err(RestoreFailure::Directory)?;
    let database = data.join(DATABASE_FILE);
    if database.symlink_metadata().is_ok() {
        return Err(RestoreFailure::Exists(database));
    }
    let pepper = pepper::load_for_backup(data).map_err(RestoreFailure::Pepper)?;
    let in_backup = |error| RestoreFailure::Backup(file.to_path_buf(), error);
    let restored = store::Restored::read(data, &pepper, BufReader::new(source)).map_err(in_backup)?;
    let found = Watermark::find(data, &pepper);
    let has_watermark = !matches!(found, Ok(None));
    let (rolled_back_from, undone) = match found {
        Ok(None) => (None, Undone::default()),
        Ok(Some(watermark)) => match restored.undoes(&watermark).map_err(|fault| in_backup(fault.into()))? {
            Some(setback) if !accept_rollback => {
                return Err(RestoreFailure::SetBack(file.to_path_buf(), Box::new(setback)));
            }
            Some(setback) => (Some(setback.acknowledged.0), setback.undone),
            None => (None, Undone::default()),
        },
        // What came last is not known.
        Err(WatermarkError::Damaged(_)) if accept_rollback => (None, Undone::unknown()),
        Err(error) => return Err(RestoreFailure::Watermark(error)),
    };
    let (revision, committed_at) = (restored.head().revision().0, restored.head().committed_at().0);
    if !has_watermark || rolled_back_from.is_some() || !undone.incomplete.is_empty() {
        // Before the database has its name: a start between the two would be refused for no reason.
        Watermark::make(data, &pepper, restored.head()).map_err(RestoreFailure::Watermark)?;
    }
    let rows = restored.rows();
    restored.install().map_err(|error: OpenError| in_backup(RestoreError::Database(error)))?;
    Ok(Restored { database, revision, committed_at, rows, rolled_back_from, undone })
}

/// What root makes in another user's directory that user's daemon could not open.
fn expect_owner(data: &Path) -> Result<(), RestoreFailure> {
    let owner = std::fs::metadata(data).map_err(|error| RestoreFailure::System("look at the data directory", error))?;
    if owner.uid() == Uid::effective().as_raw() {
        return Ok(());
    }
    Err(RestoreFailure::NotOwner(data.to_path_buf(), owner.uid()))
}
