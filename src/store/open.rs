//! Opening: first creation, format and pepper, reading every row, and reopening after a fault.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageError, WriteTransaction};

use super::load::{Reading, Take};
use super::row::{BadRow, ChainEnds, HeadRow, RowKeys, Tally};
use super::watermark::WatermarkError;
use super::{
    CACHE_BYTES, DATABASE_FILE, FORMAT_KEY, FORMAT_VERSION, HEAD_KEY, Head, PEPPER_KEY, Store, StoreFault, Table,
    bad_row,
};
use crate::model::Pepper;
use crate::tags::TagSet;

/// The name that the database has until its first commit is durable: redb's own creation is not crash-safe.
const NEW_FILE: &str = "keyward.redb.new";
/// What is said of a file that redb panics over.
const UNFOLLOWABLE: &str = "its structure can't be followed";
/// Bits of a mode that give others than the owner access.
const OTHERS: u32 = 0o077;

/// Why the database can't be used. Each says what to do.
#[derive(Debug)]
pub enum OpenError {
    /// The file can't be opened, made or read.
    Io(PathBuf, io::Error),
    /// Others than the owner may read or write it.
    NotPrivate(PathBuf, u32),
    /// Another process has it open.
    InUse(PathBuf),
    /// A later Keyward wrote it.
    NewerFormat {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// What this build reads.
        supported: u32,
    },
    /// An earlier Keyward wrote it, in a format that was never released.
    OlderFormat {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// What this build reads.
        supported: u32,
    },
    /// It was made with another pepper.
    WrongPepper(PathBuf),
    /// It is no Keyward database, or damaged beyond single rows.
    Damaged(PathBuf, String),
    /// It is not the state of the last acknowledged change, or that can't be told.
    Watermark(WatermarkError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "cannot open the database {}: {error}; check that the directory exists, belongs to the daemon's user \
                 and has room",
                path.display()
            ),
            Self::NotPrivate(path, mode) => write!(
                f,
                "the database {} is open to others (mode {mode:03o}): it must be 600; run: chmod 600 {}",
                path.display(),
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "the database {} is in use: another keyward serves it; stop that one first, or give another --data",
                path.display()
            ),
            Self::NewerFormat { path, found, supported } => write!(
                f,
                "the database {} has format {found}: this keyward reads formats up to {supported}; install the version \
                 that wrote it, or a later one",
                path.display()
            ),
            Self::OlderFormat { path, found, supported } => write!(
                f,
                "the database {} has format {found}: this keyward reads format {supported} only; serve it with the \
                 version that wrote it, or move it away and apply your records anew",
                path.display()
            ),
            Self::WrongPepper(path) => write!(
                f,
                "the database {} was made with another pepper: no code would ever match; put the pepper back that \
                 belongs to it",
                path.display()
            ),
            Self::Damaged(path, what) => write!(
                f,
                "the database {} is damaged: {what}; restore a backup, and keep the damaged file for examination",
                path.display()
            ),
            Self::Watermark(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// What was found wrong with a table that is otherwise in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDamage {
    /// The table.
    pub table: Table,
    /// Keys of rows that do not prove themselves, at most a few.
    pub bad_rows: Vec<String>,
    /// The rows are not those of the last commit: any of them may be an old one that was put back, so none counts.
    pub broken: bool,
}

impl fmt::Display for TableDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.table.name();
        if self.table == Table::Audit {
            return f.write_str(
                "the audit does not end with the record of the last change: records were altered or removed; \
                 `keyward audit verify` says which; no verdict rests on it",
            );
        }
        if self.broken {
            return write!(
                f,
                "table {name} does not hold the rows of the last commit: what rests on it is answered unavailable; \
                 restore a backup"
            );
        }
        write!(
            f,
            "damaged rows in table {name}: {}; what rests on them is answered unavailable; restore a backup",
            self.bad_rows.join(", ")
        )
    }
}

/// A database that was opened and read whole.
pub struct Loaded {
    /// What the next transaction starts from.
    pub head: Head,
    /// Sets that no loaded record uses.
    pub unused_sets: Vec<Arc<TagSet>>,
    /// What is wrong.
    pub damage: Vec<TableDamage>,
}

impl Store {
    /// Opens the database in `directory`, or makes it, and hands every record to `take` in stretches: agents before
    /// credentials, those of one kind in no promised order, credentials without their labels, which no verdict needs.
    /// The records of a table that turns out broken must be forgotten.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage confined to rows or tables is no error but part of [`Loaded`].
    pub fn open(directory: &Path, pepper: &Pepper, take: &mut Take<'_>) -> Result<(Self, Loaded), OpenError> {
        let path = directory.join(DATABASE_FILE);
        let keys = RowKeys::new(pepper);
        if !path.exists() {
            create(directory, &path, &keys, pepper)?;
        }
        let store = Self::closed(path, keys);
        let loaded = store.open_and_load(pepper, take)?;
        Ok((store, loaded))
    }

    /// The database at `path`, not open yet.
    pub(super) const fn closed(path: PathBuf, keys: RowKeys) -> Self {
        Self { path, keys, database: RwLock::new(None), closings: AtomicU64::new(0) }
    }

    /// After a storage fault: closes the database, opens it again and reads it whole.
    ///
    /// # Errors
    /// As [`Store::open`]; the store stays closed and this may be called again.
    pub fn reopen(&self, pepper: &Pepper, take: &mut Take<'_>) -> Result<Loaded, OpenError> {
        // The old handle must be gone first: it holds the file's lock.
        self.close();
        self.open_and_load(pepper, take)
    }

    /// Lets go of the database. What was committed is durable before; where the file is damaged redb may panic here.
    pub(super) fn close(&self) {
        self.closings.fetch_add(1, Ordering::Relaxed);
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!("{}", OpenError::Damaged(self.path.clone(), UNFOLLOWABLE.to_string()));
        }
    }

    pub(super) fn open_and_load(&self, pepper: &Pepper, take: &mut Take<'_>) -> Result<Loaded, OpenError> {
        let damaged = |what: String| OpenError::Damaged(self.path.clone(), what);
        // redb trusts a file that was closed cleanly and may panic where one was altered since.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = open_database(&self.path)?;
            self.check_identity(&database, pepper)?;
            let loaded = self.load(&database, take).map_err(|fault| damaged(fault.to_string()))?;
            Ok((database, loaded))
        }));
        let (database, loaded) = opened.unwrap_or_else(|_| Err(damaged(UNFOLLOWABLE.to_string())))?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(loaded)
    }

    fn load(&self, database: &Database, take: &mut Take<'_>) -> Result<Loaded, StoreFault> {
        let transaction = database.begin_read()?;
        let head_row = self.head_row(&transaction)?;
        let mut reading = Reading::new(self, transaction, &head_row);
        let mut tallies = [Tally::default(); Table::TALLIED.len()];
        let sets = reading.sets(&mut tallies[Table::TagSets as usize])?;
        for table in Table::RECORDS {
            tallies[table as usize] = reading.records(table, &sets, take)?;
        }
        tallies[Table::Uses as usize] = reading.uses()?;
        let mut damage = reading.damage;
        let broken = damage.iter().filter(|d| d.broken).map(|d| d.table).collect();
        // With damage a set may be used by a row that could not be read.
        let unused_sets = if damage.is_empty() { sets.unused() } else { Vec::new() };
        damage.extend(self.audit_damage(&database.begin_read()?, &head_row.audit)?);
        Ok(Loaded { head: Head { row: head_row, tallies, broken }, unused_sets, damage })
    }

    pub(super) fn head_row(&self, transaction: &ReadTransaction) -> Result<HeadRow, StoreFault> {
        let meta = transaction.open_table(Table::Meta.definition())?;
        let row = meta.get(HEAD_KEY)?.ok_or_else(|| bad_row(Table::Meta, HEAD_KEY))?;
        self.keys.open_row(Table::Meta, HEAD_KEY, row.value()).map_err(|BadRow| bad_row(Table::Meta, HEAD_KEY))
    }

    /// Format first, then pepper, so that each is refused with its own reason.
    fn check_identity(&self, database: &Database, pepper: &Pepper) -> Result<(), OpenError> {
        let damaged = |what: String| OpenError::Damaged(self.path.clone(), what);
        let read = || -> Result<_, StoreFault> {
            let transaction = database.begin_read()?;
            let meta = transaction.open_table(Table::Meta.definition())?;
            let format = meta.get(FORMAT_KEY)?.map(|value| value.value().to_vec());
            let stored = meta.get(PEPPER_KEY)?.map(|value| value.value().to_vec());
            Ok((format, stored, self.head_row(&transaction).is_ok()))
        };
        let (format, stored, head_proves_itself) = read().map_err(|fault| damaged(fault.to_string()))?;
        match judge_identity(format.as_deref(), stored.as_deref(), head_proves_itself, pepper) {
            Ok(()) => Ok(()),
            Err(Stranger::NoFormat) => Err(damaged("it has no format version".to_string())),
            Err(Stranger::Newer(found)) => {
                let path = self.path.clone();
                Err(OpenError::NewerFormat { path, found, supported: FORMAT_VERSION })
            }
            Err(Stranger::Older(found)) => {
                let path = self.path.clone();
                Err(OpenError::OlderFormat { path, found, supported: FORMAT_VERSION })
            }
            Err(Stranger::BadFingerprint) => {
                Err(damaged("the pepper is right, but what tells one pepper from another is not".to_string()))
            }
            Err(Stranger::WrongPepper) => Err(OpenError::WrongPepper(self.path.clone())),
        }
    }
}

/// Why a database, or a backup, is not one that can be used here.
pub(super) enum Stranger {
    NoFormat,
    /// Of this format.
    Newer(u32),
    /// The same.
    Older(u32),
    /// The pepper's fingerprint is damaged.
    BadFingerprint,
    WrongPepper,
}

/// Judges what `meta` holds: the format's row first, then the pepper's, so that each is refused with its own reason.
pub(super) fn judge_identity(
    format: Option<&[u8]>,
    stored: Option<&[u8]>,
    head_proves_itself: bool,
    pepper: &Pepper,
) -> Result<(), Stranger> {
    let format: Option<[u8; 4]> = format.and_then(|bytes| bytes.try_into().ok());
    let found = format.map(u32::from_be_bytes).ok_or(Stranger::NoFormat)?;
    if found > FORMAT_VERSION {
        return Err(Stranger::Newer(found));
    }
    if found < FORMAT_VERSION {
        return Err(Stranger::Older(found));
    }
    if stored == Some(fingerprint(pepper).as_slice()) {
        return Ok(());
    }
    Err(if head_proves_itself { Stranger::BadFingerprint } else { Stranger::WrongPepper })
}

/// Makes the database under another name, durable with its schema, and only then gives it its own.
fn create(directory: &Path, path: &Path, keys: &RowKeys, pepper: &Pepper) -> Result<(), OpenError> {
    let (database, new) = make_new(directory)?;
    write_schema(&database, keys, pepper)
        .map_err(|fault| OpenError::Io(path.to_path_buf(), io::Error::other(fault.to_string())))?;
    drop(database);
    install(directory, &new)
}

/// An empty database under the name that it has until it is durable. One that was left there is of no use.
pub(super) fn make_new(directory: &Path) -> Result<(Database, PathBuf), OpenError> {
    let new = directory.join(NEW_FILE);
    let io = |error| OpenError::Io(directory.join(DATABASE_FILE), error);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new).map_err(io)?;
    let database = open_file(file, &new).inspect_err(|_| {
        // What it came to is of no use, and takes room on a disk that may be full.
        let _ = std::fs::remove_file(&new);
    })?;
    Ok((database, new))
}

/// Makes the new database durable and gives it its name.
pub(super) fn install(directory: &Path, new: &Path) -> Result<(), OpenError> {
    let path = directory.join(DATABASE_FILE);
    let io = |error| OpenError::Io(path.clone(), error);
    File::open(new).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(new, &path).map_err(io)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

fn write_schema(database: &Database, keys: &RowKeys, pepper: &Pepper) -> Result<(), StoreFault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    for table in Table::TALLIED.into_iter().chain([Table::Audit]) {
        transaction.open_table(table.definition())?;
    }
    let mut head = Head {
        row: HeadRow {
            revision: 0,
            committed_at: 0,
            highest_ids: [0; 4],
            swept_through: [0; 3],
            seals: [[0; 32]; Table::TALLIED.len()],
            audit: ChainEnds::default(),
        },
        tallies: [Tally::default(); Table::TALLIED.len()],
        broken: HashSet::new(),
    };
    put_head(&transaction, keys, &mut head)?;
    {
        let mut meta = transaction.open_table(Table::Meta.definition())?;
        meta.insert(FORMAT_KEY, FORMAT_VERSION.to_be_bytes().as_slice())?;
        meta.insert(PEPPER_KEY, fingerprint(pepper).as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Writes the head's row with the seals of its tallies.
pub(super) fn put_head(transaction: &WriteTransaction, keys: &RowKeys, head: &mut Head) -> Result<(), StoreFault> {
    for table in Table::TALLIED {
        // The seal of a broken table stays, so that it is found broken again.
        if !head.broken.contains(&table) {
            head.row.seals[table as usize] = head.tallies[table as usize].seal(keys, table);
        }
    }
    let row = keys.seal_row(Table::Meta, HEAD_KEY, &head.row);
    transaction.open_table(Table::Meta.definition())?.insert(HEAD_KEY, row.as_slice())?;
    Ok(())
}

/// Tells one pepper from another and says nothing else of it.
fn fingerprint(pepper: &Pepper) -> [u8; 32] {
    *pepper.derive("keyward 2026 pepper fingerprint")
}

fn open_database(path: &Path) -> Result<Database, OpenError> {
    let io = |error| OpenError::Io(path.to_path_buf(), error);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode();
    if mode & OTHERS != 0 {
        return Err(OpenError::NotPrivate(path.to_path_buf(), mode & 0o777));
    }
    if metadata.len() == 0 {
        // redb would make a new database of it.
        return Err(OpenError::Damaged(path.to_path_buf(), "it is empty".to_string()));
    }
    open_file(file, path)
}

fn open_file(file: File, path: &Path) -> Result<Database, OpenError> {
    let refused = |error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.to_path_buf()),
        // Content that can't be is reported in the same way as a system call that failed.
        DatabaseError::Storage(StorageError::Io(error)) if is_about_content(&error) => {
            OpenError::Damaged(path.to_path_buf(), error.to_string())
        }
        DatabaseError::Storage(StorageError::Io(error)) => OpenError::Io(path.to_path_buf(), error),
        DatabaseError::UpgradeRequired(_)
        | DatabaseError::LockProtocolMismatch
        | DatabaseError::RepairAborted
        | DatabaseError::TransactionInProgress
        | DatabaseError::Storage(_) => OpenError::Damaged(path.to_path_buf(), error.to_string()),
        other => OpenError::Damaged(path.to_path_buf(), other.to_string()),
    };
    let backend = FileBackend::new(file).map_err(refused)?;
    Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(refused)
}

fn is_about_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
