//! From a backup to a database: verified whole before it gets its name.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use redb::{Database, WriteTransaction};

use super::backup::{END, END_BYTES, MAGIC, ROW_PREFIX_BYTES};
use super::open::{self, Stranger};
use super::row::{HeadRow, RowKeys};
use super::{
    FORMAT_KEY, FORMAT_VERSION, HEAD_KEY, Head, Loaded, OpenError, PEPPER_KEY, Setback, Store, StoreFault, Table,
    Watermark,
};
use crate::model::Pepper;

/// A key in a backup is no longer than this: the longest, an endpoint's, has a method and a template of 8 KiB.
const KEY_BYTES_MAX: u32 = 16 * 1024;
/// A row is no longer than this: the largest have 256 KiB.
const ROW_BYTES_MAX: u32 = 1024 * 1024;

/// Why there is no database made of a backup. To be said behind the backup's name.
#[derive(Debug)]
pub enum RestoreError {
    /// It can't be read.
    Unread(io::Error),
    /// It does not begin as one.
    NoBackup,
    /// A later Keyward took it.
    NewerFormat(u32),
    /// An earlier Keyward took it.
    OlderFormat(u32),
    /// It was taken with another pepper.
    WrongPepper,
    /// It ends too early.
    CutOff,
    /// It is not what was written.
    Altered(String),
    /// The database could not be written.
    Unwritten(String),
    /// The database could not be made or read again.
    Database(OpenError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(error) => write!(f, "it can't be read: {error}"),
            Self::NoBackup => f.write_str("it is no backup of Keyward's; name a file that keyward backup wrote"),
            Self::NewerFormat(found) => write!(
                f,
                "its format is {found} and this keyward reads formats up to {FORMAT_VERSION}; install the version that \
                 took it, or a later one"
            ),
            Self::OlderFormat(found) => write!(
                f,
                "its format is {found} and this keyward reads format {FORMAT_VERSION} only; restore it with the version \
                 that took it"
            ),
            Self::WrongPepper => f.write_str(
                "it was taken with another pepper: no code would ever match; put the pepper there that belongs to it \
                 (it is not in backups)",
            ),
            Self::CutOff => f.write_str("it is cut off: its end is missing; copy it again, or take another backup"),
            Self::Altered(what) => {
                write!(f, "it is not what was written: {what}; copy it again, or take another backup")
            }
            Self::Unwritten(why) => write!(f, "the database can't be written: {why}; make room and try again"),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<StoreFault> for RestoreError {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Storage(why) => Self::Unwritten(why),
            StoreFault::BadRow { .. } | StoreFault::BrokenTable(_) | StoreFault::Conflict(_) => {
                Self::Altered(fault.to_string())
            }
        }
    }
}

/// A database that was made of a backup and verified, and has not its name yet. Dropped without [`Restored::install`]
/// it is gone.
pub struct Restored {
    store: Store,
    loaded: Loaded,
    directory: PathBuf,
    new: Unfinished,
    rows: u64,
}

/// The file of a database that may come to nothing.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has its own name by now, or the next restore removes it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Restored {
    /// Makes a database of the backup in `source`, in `directory` under another name than the database's, reads it whole
    /// and verifies it: the MAC of the backup, of every row, and the tally of every table.
    ///
    /// # Errors
    /// See [`RestoreError`]; nothing is left then.
    pub fn read(directory: &Path, pepper: &Pepper, source: impl Read) -> Result<Self, RestoreError> {
        let keys = RowKeys::new(pepper);
        let mut stream = Stream { source, mac: keys.backup_mac(), rows: 0, key: Vec::new(), row: Vec::new() };
        stream.begin()?;
        let (database, path) = open::make_new(directory).map_err(RestoreError::Database)?;
        let new = Unfinished(path);
        let written = write_database(&database, &mut stream, &keys, pepper);
        drop(database);
        written?;
        let store = Store::closed(new.0.clone(), keys);
        let loaded = store.open_and_load(pepper, &mut |_| {}).map_err(RestoreError::Database)?;
        if let Some(damage) = loaded.damage.first() {
            return Err(RestoreError::Altered(damage.to_string()));
        }
        Ok(Self { store, loaded, directory: directory.to_path_buf(), new, rows: stream.rows })
    }

    /// The head of its last commit.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.loaded.head
    }

    /// How many rows it has, of all tables.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// What it would undo, by what a watermark knows.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn undoes(&self, watermark: &Watermark) -> Result<Option<Setback>, StoreFault> {
        watermark.setback(&self.store, self.head())
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn install(self) -> Result<(), OpenError> {
        self.store.close();
        open::install(&self.directory, &self.new.0)
    }
}

fn write_database(
    database: &Database,
    stream: &mut Stream<impl Read>,
    keys: &RowKeys,
    pepper: &Pepper,
) -> Result<(), RestoreError> {
    let mut transaction = database.begin_write().map_err(StoreFault::from)?;
    transaction.set_quick_repair(true);
    write_rows(&transaction, stream, keys, pepper)?;
    stream.expect_end()?;
    transaction.commit().map_err(|error| StoreFault::from(error).into())
}

fn write_rows(
    transaction: &WriteTransaction,
    stream: &mut Stream<impl Read>,
    keys: &RowKeys,
    pepper: &Pepper,
) -> Result<(), RestoreError> {
    let open = |table: Table| transaction.open_table(table.definition()).map_err(StoreFault::from);
    // Also those that have no row.
    for table in Table::ALL {
        open(table)?;
    }
    let mut meta = Meta::default();
    let mut next = stream.next()?;
    while let Some(table) = next {
        if table != Table::Meta {
            meta.judge(keys, pepper)?;
        }
        let mut rows = open(table)?;
        while next == Some(table) {
            if table == Table::Meta {
                meta.note(&stream.key, &stream.row);
            }
            rows.insert(stream.key.as_slice(), stream.row.as_slice()).map_err(StoreFault::from)?;
            next = stream.next()?;
        }
    }
    // Before the MAC, which another pepper makes wrong, too.
    meta.judge(keys, pepper)
}

/// What says whose a backup is.
#[derive(Default)]
struct Meta {
    format: Option<Vec<u8>>,
    pepper: Option<Vec<u8>>,
    head: Option<Vec<u8>>,
}

impl Meta {
    fn note(&mut self, key: &[u8], row: &[u8]) {
        match key {
            FORMAT_KEY => self.format = Some(row.to_vec()),
            PEPPER_KEY => self.pepper = Some(row.to_vec()),
            HEAD_KEY => self.head = Some(row.to_vec()),
            _ => {}
        }
    }

    fn judge(&self, keys: &RowKeys, pepper: &Pepper) -> Result<(), RestoreError> {
        let head = self.head.as_ref().map(|row| keys.open_row::<HeadRow>(Table::Meta, HEAD_KEY, row));
        let head_proves_itself = matches!(head, Some(Ok(_)));
        let altered = |what: &str| RestoreError::Altered(what.to_string());
        if self.pepper.is_none() || self.head.is_none() {
            return Err(altered("it does not say whose it is"));
        }
        match open::judge_identity(self.format.as_deref(), self.pepper.as_deref(), head_proves_itself, pepper) {
            Ok(()) if head_proves_itself => Ok(()),
            Ok(()) => Err(altered("its head is damaged")),
            Err(Stranger::NoFormat) => Err(altered("it has no format version")),
            Err(Stranger::Newer(found)) => Err(RestoreError::NewerFormat(found)),
            Err(Stranger::Older(found)) => Err(RestoreError::OlderFormat(found)),
            Err(Stranger::BadFingerprint) => Err(altered("what tells one pepper from another is damaged")),
            Err(Stranger::WrongPepper) => Err(RestoreError::WrongPepper),
        }
    }
}

/// A backup that is being read.
struct Stream<R> {
    source: R,
    mac: blake3::Hasher,
    rows: u64,
    /// Of the row that was read last.
    key: Vec<u8>,
    row: Vec<u8>,
}

impl<R: Read> Stream<R> {
    fn begin(&mut self) -> Result<(), RestoreError> {
        let mut magic = [0; MAGIC.len()];
        match self.source.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(RestoreError::NoBackup),
            read => read.map_err(RestoreError::Unread)?,
        }
        if magic != *MAGIC {
            return Err(RestoreError::NoBackup);
        }
        self.mac.update(&magic);
        Ok(())
    }

    /// Reads the next row and tells its table; `None` where the rows end.
    fn next(&mut self) -> Result<Option<Table>, RestoreError> {
        let mut number = [0];
        read(&mut self.source, &mut number)?;
        self.mac.update(&number);
        let [number] = number;
        if number == END {
            return Ok(None);
        }
        let table = Table::ALL.into_iter().find(|table| table.number() == number);
        let table = table.ok_or_else(|| RestoreError::Altered("it has a row of an unknown table".to_string()))?;
        let mut lengths = [0; ROW_PREFIX_BYTES - 1];
        read(&mut self.source, &mut lengths)?;
        self.mac.update(&lengths);
        let [k0, k1, k2, k3, r0, r1, r2, r3] = lengths;
        let (key, row) = (u32::from_be_bytes([k0, k1, k2, k3]), u32::from_be_bytes([r0, r1, r2, r3]));
        if key > KEY_BYTES_MAX || row > ROW_BYTES_MAX {
            return Err(RestoreError::Altered("it has a row that is too long".to_string()));
        }
        for (buffer, length) in [(&mut self.key, key), (&mut self.row, row)] {
            buffer.resize(length as usize, 0);
            read(&mut self.source, buffer)?;
            self.mac.update(buffer);
        }
        self.rows += 1;
        Ok(Some(table))
    }

    /// Reads what stands behind the last row: the count, the MAC, and nothing more.
    fn expect_end(&mut self) -> Result<(), RestoreError> {
        let mut end = [0; END_BYTES];
        read(&mut self.source, &mut end)?;
        let (rows, mac) = end.split_at(END_BYTES - blake3::OUT_LEN);
        self.mac.update(rows);
        let altered = |what: &str| Err(RestoreError::Altered(what.to_string()));
        if blake3::Hash::from_slice(mac).is_ok_and(|mac| mac != self.mac.finalize())
            || rows != self.rows.to_be_bytes().as_slice()
        {
            return altered("its seal does not fit");
        }
        match self.source.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => altered("something follows its end"),
            Err(error) => Err(RestoreError::Unread(error)),
        }
    }
}

fn read(source: &mut impl Read, buffer: &mut [u8]) -> Result<(), RestoreError> {
    source.read_exact(buffer).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof { RestoreError::CutOff } else { RestoreError::Unread(error) }
    })
}
