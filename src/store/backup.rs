//! Backups: one state of the database as a stream of bytes.
//!
//! ```text
//!  file: magic (16) | row … | end
//!  row:  table (1) | bytes of the key (4) | bytes of the row (4) | key | row
//!  end:  0xff (1) | how many rows (8) | MAC (32) of all bytes before it
//! ```
//! Big-endian. The rows are those of the tables, `meta` first, each table in the order of its keys; so a backup holds
//! hashes and never the pepper, and is as old as the database's format. What reads it is `restore`.

use std::slice;

use redb::{ReadTransaction, ReadableDatabase as _};

use super::row::{HeadRow, Tally};
use super::{HEAD_KEY, Store, StoreFault, Table, bad_row};
use crate::model::{Revision, UnixSeconds};

/// What a backup begins with, its version last.
pub(super) const MAGIC: &[u8; 16] = b"keyward backup\n\x01";
/// In a table's place: no row follows.
pub(super) const END: u8 = 0xff;
/// Table, and the lengths of key and row.
pub(super) const ROW_PREFIX_BYTES: usize = 1 + 4 + 4;
/// Count and MAC.
pub(super) const END_BYTES: usize = 8 + 32;

/// A backup that is being taken: holds one state of the database, and with it the pages that later commits free. So it
/// must not be kept for long.
pub struct Backup {
    transaction: ReadTransaction,
    head: HeadRow,
    tables: slice::Iter<'static, Table>,
    current: Option<Current>,
    mac: blake3::Hasher,
    begun: bool,
    rows: u64,
    /// How often the database had been opened when it began.
    opening: u64,
}

/// The table whose rows come now.
struct Current {
    table: Table,
    rows: redb::Range<'static, &'static [u8], &'static [u8]>,
    tally: Tally,
}

/// Some bytes of a backup.
pub struct BackupPart {
    /// To be written behind those before.
    pub bytes: Vec<u8>,
    /// Nothing follows.
    pub last: bool,
}

impl Backup {
    /// The state's revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision(self.head.revision)
    }

    /// When that was committed.
    #[must_use]
    pub const fn committed_at(&self) -> UnixSeconds {
        UnixSeconds(self.head.committed_at)
    }
}

impl Store {
    /// Takes hold of the state of the last commit.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`].
    pub fn begin_backup(&self) -> Result<Backup, StoreFault> {
        let guard = self.database();
        let database = guard.as_ref().ok_or_else(|| StoreFault::Storage("it is being reopened".to_string()))?;
        let transaction = database.begin_read()?;
        let head = self.head_row(&transaction)?;
        Ok(Backup {
            transaction,
            head,
            tables: Table::ALL.iter(),
            current: None,
            mac: self.keys.backup_mac(),
            begun: false,
            rows: 0,
            opening: self.opening(),
        })
    }

    /// The next part, of about `bytes`. Every row must prove itself and every table be that of the last commit: what was
    /// backed up to the end can be restored.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], also when the database was reopened meanwhile, [`StoreFault::BadRow`],
    /// [`StoreFault::BrokenTable`]. The backup is worth nothing then.
    pub fn next_backup_part(&self, backup: &mut Backup, bytes: usize) -> Result<BackupPart, StoreFault> {
        if backup.opening != self.opening() {
            return Err(StoreFault::Storage("it was reopened after a fault; begin the backup anew".to_string()));
        }
        let mut out = Vec::with_capacity(bytes + bytes / 8);
        if !backup.begun {
            out.extend_from_slice(MAGIC);
            backup.begun = true;
        }
        while out.len() < bytes {
            if !self.put_row(backup, &mut out)? {
                out.push(END);
                out.extend_from_slice(&backup.rows.to_be_bytes());
                backup.mac.update(&out);
                out.extend_from_slice(backup.mac.finalize().as_bytes());
                return Ok(BackupPart { bytes: out, last: true });
            }
        }
        backup.mac.update(&out);
        Ok(BackupPart { bytes: out, last: false })
    }

    /// Appends the next row. False when there is none.
    fn put_row(&self, backup: &mut Backup, out: &mut Vec<u8>) -> Result<bool, StoreFault> {
        loop {
            let Some(current) = &mut backup.current else {
                let Some(&table) = backup.tables.next() else { return Ok(false) };
                let rows = backup.transaction.open_table(table.definition())?.range::<&[u8]>(..)?;
                backup.current = Some(Current { table, rows, tally: Tally::default() });
                continue;
            };
            let table = current.table;
            let Some(entry) = current.rows.next() else {
                let is_whole = !Table::TALLIED.contains(&table)
                    || current.tally.seal(&self.keys, table) == backup.head.seals[table as usize];
                backup.current = None;
                if !is_whole {
                    return Err(StoreFault::BrokenTable(table));
                }
                continue;
            };
            let (key, row) = entry?;
            let (key, row) = (key.value(), row.value());
            let is_sealed = table != Table::Meta || key == HEAD_KEY;
            if is_sealed && !self.keys.proves_itself(table, key, row) {
                return Err(bad_row(table, key));
            }
            current.tally.add(self.keys.element(table, row));
            let length = |bytes: &[u8]| {
                u32::try_from(bytes.len()).map_err(|_| bad_row(table, key)).map(|length| length.to_be_bytes())
            };
            out.push(table.number());
            out.extend_from_slice(&length(key)?);
            out.extend_from_slice(&length(row)?);
            out.extend_from_slice(key);
            out.extend_from_slice(row);
            backup.rows += 1;
            return Ok(true);
        }
    }
}
