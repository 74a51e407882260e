//! The database: the only module that names redb. Tables, open, commit, short reads.
//!
//! | table | key | row |
//! |---|---|---|
//! | `meta` | `format`, `pepper`, `head` | format version; the pepper's fingerprint; revision, ids, seals |
//! | `agents`, `keys`, `tokens`, `sessions` | id, 8 bytes big-endian | the record |
//! | `endpoints` | method, blank, shape of the template | the record |
//! | `tag_sets` | 16 bytes of the hash of its text | the text |
//! | `uses` | mode, id | last use of each of a credential's codes |
//! | `audit` | number, 8 bytes big-endian | time, hash of the record before, the record's text |
//!
//! What redb was found to do, and what follows, is section 6 of the contract: plain insert, get, remove and range only;
//! quick repair on every commit; first creation under another name; every row with its own MAC; short reads.

mod audit;
mod backup;
mod export;
mod load;
mod open;
mod restore;
mod row;
mod transaction;
mod walk;
mod watermark;

use std::collections::HashSet;
use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

pub use audit::{AuditCheck, AuditFault, AuditHead, AuditPage, Retention};
pub use backup::{Backup, BackupPart};
pub use export::{Export, ExportPart};
pub use load::Take;
pub use open::{Loaded, OpenError, TableDamage};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
pub use restore::{RestoreError, Restored};
use row::{BadRow, HeadRow, Labels, RowKey, RowKeys, Tally, UseRow};
pub use transaction::{Reader, Transaction};
pub use watermark::{Fate, Half, NEW_WATERMARK_FILE, Setback, Undone, WATERMARK_FILE, Watermark, WatermarkError, Way};

use crate::model::{
    CodeMark, Id, Kind, LastUse, LastUses, Mode, Record, RecordKey, Revision, UnixSeconds, client_address,
};
use crate::tags::TagSet;

/// The database's name in its directory.
pub const DATABASE_FILE: &str = "keyward.redb";
/// A page of records ends with the one that takes it to so many bytes: it fits a frame of 16 MiB with any one more.
const PAGE_BYTES: usize = 12 * 1024 * 1024;
/// redb's own cache, whose default grows to 1 GiB. Answers come from memory, and inner pages of ten million rows fit.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// The version of the whole file's format.
const FORMAT_VERSION: u32 = 2;
/// The format's row in `meta`; not MACed, so that a newer format can be told from a wrong pepper.
const FORMAT_KEY: &[u8] = b"format";
const PEPPER_KEY: &[u8] = b"pepper";
const HEAD_KEY: &[u8] = b"head";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Agents.
    Agents,
    /// Endpoints.
    Endpoints,
    /// Keys.
    Keys,
    /// Tokens.
    Tokens,
    /// Sessions.
    Sessions,
    /// Distinct tag sets.
    TagSets,
    /// Last uses.
    Uses,
    /// Format, fingerprint, head.
    Meta,
    /// Every change, in a chain.
    Audit,
}

impl Table {
    /// Every table, in the order of a backup: what says whose it is comes first.
    const ALL: [Self; 9] = [
        Self::Meta,
        Self::Agents,
        Self::Endpoints,
        Self::Keys,
        Self::Tokens,
        Self::Sessions,
        Self::TagSets,
        Self::Uses,
        Self::Audit,
    ];
    /// All but [`Table::Meta`], whose rows stand alone, and [`Table::Audit`], whose rows are a chain.
    const TALLIED: [Self; 7] =
        [Self::Agents, Self::Endpoints, Self::Keys, Self::Tokens, Self::Sessions, Self::TagSets, Self::Uses];
    /// The tables of records, in the order they are loaded: agents before the credentials that name them.
    const RECORDS: [Self; 5] = [Self::Agents, Self::Endpoints, Self::Keys, Self::Tokens, Self::Sessions];

    /// The table's name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Endpoints => "endpoints",
            Self::Keys => "keys",
            Self::Tokens => "tokens",
            Self::Sessions => "sessions",
            Self::TagSets => "tag_sets",
            Self::Uses => "uses",
            Self::Meta => "meta",
            Self::Audit => "audit",
        }
    }

    const fn number(self) -> u8 {
        self as u8
    }

    const fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }

    const fn of_mode(mode: Mode) -> Self {
        match mode {
            Mode::Key => Self::Keys,
            Mode::Token => Self::Tokens,
            Mode::Session => Self::Sessions,
        }
    }

    const fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Agent => Self::Agents,
            Kind::Endpoint => Self::Endpoints,
            Kind::Credential(mode) => Self::of_mode(mode),
        }
    }

    /// The kind of the records in it.
    #[must_use]
    pub const fn kind(self) -> Option<Kind> {
        match self {
            Self::Agents => Some(Kind::Agent),
            Self::Endpoints => Some(Kind::Endpoint),
            Self::Keys => Some(Kind::Credential(Mode::Key)),
            Self::Tokens => Some(Kind::Credential(Mode::Token)),
            Self::Sessions => Some(Kind::Credential(Mode::Session)),
            Self::TagSets | Self::Uses | Self::Meta | Self::Audit => None,
        }
    }
}

/// Why the database did not do what it was asked. Never a "no": whoever asked is told `unavailable`.
#[derive(Debug)]
pub enum StoreFault {
    /// The storage below failed; writes are refused until the database was reopened.
    Storage(String),
    /// A row does not prove itself.
    BadRow {
        /// Its table.
        table: Table,
        /// What names it.
        key: String,
    },
    /// The table's rows are not those of the last commit; nothing in it may be changed.
    BrokenTable(Table),
    /// A row is not of the revision that a change expects.
    Conflict(RecordKey),
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(what) => write!(f, "the database could not be read or written: {what}"),
            Self::BadRow { table, key } => {
                write!(f, "the row {key} of table {} is damaged; restore a backup", table.name())
            }
            Self::BrokenTable(table) => {
                write!(f, "table {} does not hold the rows of the last commit; restore a backup", table.name())
            }
            Self::Conflict(key) => write!(f, "{key} has changed meanwhile; try again"),
        }
    }
}

impl std::error::Error for StoreFault {}

macro_rules! storage_fault_from {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreFault {
            fn from(error: $error) -> Self {
                Self::Storage(error.to_string())
            }
        }
    )*};
}
storage_fault_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError
);

/// An open database.
pub struct Store {
    path: PathBuf,
    keys: RowKeys,
    /// `None` between a storage fault and the reopening.
    database: RwLock<Option<Database>>,
    /// How often it was closed: a backup that began before must not go on.
    closings: AtomicU64,
}

/// The writer's knowledge of the last commit: what the next one starts from.
#[derive(Clone)]
pub struct Head {
    row: HeadRow,
    tallies: [Tally; Table::TALLIED.len()],
    broken: HashSet<Table>,
}

impl Head {
    /// The last commit's revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision(self.row.revision)
    }

    /// The last commit's time.
    #[must_use]
    pub const fn committed_at(&self) -> UnixSeconds {
        UnixSeconds(self.row.committed_at)
    }

    /// How many rows the records of `kind` have, tombstones included.
    #[must_use]
    pub const fn rows(&self, kind: Kind) -> u64 {
        self.tallies[Table::of_kind(kind) as usize].rows
    }

    /// Place of the highest id ever used; endpoints have none.
    const fn id_place(kind: Kind) -> Option<usize> {
        match kind {
            Kind::Agent => Some(0),
            Kind::Credential(mode) => Some(1 + mode.index()),
            Kind::Endpoint => None,
        }
    }
}

/// A record as read, with the revision that wrote it.
pub type Stored = (Record, Revision);

/// A record with what is stored aside of it.
pub struct Listed {
    /// The record.
    pub record: Record,
    /// A credential's last uses.
    pub uses: LastUses,
}

/// A part of a table.
pub struct Page {
    /// In order of the key.
    pub records: Vec<Listed>,
    /// The key of the last, when there are more.
    pub next: Option<Vec<u8>>,
}

impl Store {
    /// The database's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the database is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.database().is_some()
    }

    /// Tells one opening of the database from another.
    fn opening(&self) -> u64 {
        self.closings.load(Ordering::Relaxed)
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the one write transaction, on top of `head`.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn begin(&self, head: &Head) -> Result<Transaction<'_>, StoreFault> {
        let guard = self.database();
        let database = guard.as_ref().ok_or_else(|| StoreFault::Storage("it is being reopened".to_string()))?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        Ok(Transaction { store: self, transaction, head: head.clone() })
    }

    /// Reads one record in a short transaction.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`].
    pub fn read(&self, key: &RecordKey) -> Result<Option<Listed>, StoreFault> {
        let reading = self.begin_read()?;
        let (table, bytes) = (Table::of_kind(key.kind()), RowKey::of(key));
        let rows = reading.open_table(table.definition())?;
        let Some(row) = rows.get(bytes.as_slice())? else {
            return Ok(None);
        };
        let sets = reading.open_table(Table::TagSets.definition())?;
        let uses = reading.open_table(Table::Uses.definition())?;
        let (record, _) = self.decode(table, bytes.as_slice(), row.value(), &sets)?;
        self.listed(record, &uses).map(Some)
    }

    /// Reads up to `limit` records, or as many as fit a frame, of a kind behind `after` (a key as returned here; empty for the first), and the key
    /// of the last when there are more. Tombstones are among them.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`].
    pub fn page(&self, kind: Kind, after: &[u8], limit: usize) -> Result<Page, StoreFault> {
        let reading = self.begin_read()?;
        let table = Table::of_kind(kind);
        let rows = reading.open_table(table.definition())?;
        let sets = reading.open_table(Table::TagSets.definition())?;
        let uses = reading.open_table(Table::Uses.definition())?;
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let mut page = Page { records: Vec::new(), next: None };
        let (mut last, mut bytes) = (Vec::new(), 0);
        for entry in rows.range::<&[u8]>((start, Bound::Unbounded))? {
            if page.records.len() == limit || bytes >= PAGE_BYTES {
                page.next = Some(last);
                break;
            }
            let (key, row) = entry?;
            let (record, _) = self.decode(table, key.value(), row.value(), &sets)?;
            bytes += row::page_bytes(&record);
            page.records.push(self.listed(record, &uses)?);
            last = key.value().to_vec();
        }
        Ok(page)
    }

    /// Of these last uses those that tell of a code of which none is stored.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn without_stored(&self, uses: Vec<(Mode, Id, LastUses)>) -> Result<Vec<(Mode, Id, LastUses)>, StoreFault> {
        let reading = self.begin_read()?;
        let rows = reading.open_table(Table::Uses.definition())?;
        let is_first = |(mode, id, uses): &(Mode, Id, LastUses)| -> Result<bool, StoreFault> {
            let key = use_key(*mode, *id);
            let stored = match rows.get(key.as_slice())?.map(|row| self.open_uses(&key, row.value())) {
                None => LastUses::default(),
                Some(Ok(stored)) => stored,
                // It stays as it is, whatever is put.
                Some(Err(_)) => return Ok(false),
            };
            Ok(uses.iter().any(|used| !stored.knows(used.code, UnixSeconds(0))))
        };
        let mut first = Vec::new();
        for used in uses {
            if is_first(&used)? {
                first.push(used);
            }
        }
        Ok(first)
    }

    fn listed(
        &self,
        record: Record,
        uses: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<Listed, StoreFault> {
        let mut listed = Listed { record, uses: LastUses::default() };
        if let Record::Credential(credential) = &listed.record {
            let key = use_key(credential.mode, credential.id);
            if let Some(row) = uses.get(key.as_slice())? {
                // No verdict rests on it: a damaged row of uses tells nothing, and is an alarm at start.
                listed.uses = self.open_uses(&key, row.value()).unwrap_or_default();
            }
        }
        Ok(listed)
    }

    fn begin_read(&self) -> Result<redb::ReadTransaction, StoreFault> {
        let guard = self.database();
        let database = guard.as_ref().ok_or_else(|| StoreFault::Storage("it is being reopened".to_string()))?;
        Ok(database.begin_read()?)
    }

    /// Decodes a row, reading the set that it names.
    fn decode(
        &self,
        table: Table,
        key: &[u8],
        row: &[u8],
        sets: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<Stored, StoreFault> {
        let mut set_of = |set_key: &row::SetKey| self.read_set(sets, set_key);
        row::read_record(&self.keys, table, key, row, Labels::Read, &mut set_of).map_err(|BadRow| bad_row(table, key))
    }

    fn read_set(
        &self,
        sets: &impl ReadableTable<&'static [u8], &'static [u8]>,
        key: &row::SetKey,
    ) -> Option<Arc<TagSet>> {
        let row = sets.get(key.as_slice()).ok()??;
        row::read_set(&self.keys, key, row.value()).ok()
    }

    fn open_uses(&self, key: &[u8], row: &[u8]) -> Result<LastUses, StoreFault> {
        let row: UseRow<'_> = self.keys.open_row(Table::Uses, key, row).map_err(|BadRow| bad_row(Table::Uses, key))?;
        let mut uses = LastUses::default();
        for (code, at, address) in row {
            let address = address.and_then(|text| client_address(text.as_bytes()));
            uses.note(LastUse { code: CodeMark::from_bytes(code), at: UnixSeconds(at), address });
        }
        Ok(uses)
    }
}

fn use_key(mode: Mode, id: Id) -> [u8; 9] {
    let mut key = [mode.number(); 9];
    key[1..].copy_from_slice(&id.get().to_be_bytes());
    key
}

fn bad_row(table: Table, key: &[u8]) -> StoreFault {
    StoreFault::BadRow { table, key: shown_key(key) }
}

fn shown_key(key: &[u8]) -> String {
    match <[u8; 8]>::try_from(key) {
        Ok(id) => u64::from_be_bytes(id).to_string(),
        Err(_) => format!("\"{}\"", key.escape_ascii()),
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
