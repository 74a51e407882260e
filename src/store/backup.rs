//! Backups: one state of the database as a stream of bytes.
//!
//! ```text
//!  file: magic (16) | row … | end
//!  row:  table (1) | bytes of the key (4) | bytes of the row (4) | key | row
//!  end:  0xff (1) | how many rows (8) | MAC (32) of all bytes before it
//! ```
//! Big-endian. The rows are those of the tables, `meta` first, each table in the order of its keys; so a backup holds
//! hashes and never the pepper, and is of the database's format. What reads it is `restore`.

use super::walk::Walk;
use super::{Store, StoreFault, Table, bad_row};
use crate::model::Revision;

/// What a backup begins with, its version last.
pub(super) const MAGIC: &[u8; 16] = b"keyward backup\n\x01";
/// In a table's place: no row follows.
pub(super) const END: u8 = 0xff;
/// Table, and the lengths of key and row.
pub(super) const ROW_PREFIX_BYTES: usize = 1 + 4 + 4;
/// Count and MAC.
pub(super) const END_BYTES: usize = 8 + 32;

/// A backup that is being taken. It holds one state of the database and must not be kept for long.
pub struct Backup {
    walk: Walk,
    mac: blake3::Hasher,
    begun: bool,
    rows: u64,
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
        Revision(self.walk.head.revision)
    }
}

impl Store {
    /// Takes hold of the state of the last commit.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`].
    pub fn begin_backup(&self) -> Result<Backup, StoreFault> {
        let walk = self.begin_walk(&Table::ALL)?;
        Ok(Backup { walk, mac: self.keys.backup_mac(), begun: false, rows: 0 })
    }

    /// The next part, of about `bytes`. Every row must prove itself and every table be that of the last commit: what was
    /// backed up to the end can be restored.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], also when the database was reopened meanwhile, [`StoreFault::BadRow`],
    /// [`StoreFault::BrokenTable`]. The backup is worth nothing then.
    pub fn next_backup_part(&self, backup: &mut Backup, bytes: usize) -> Result<BackupPart, StoreFault> {
        self.expect_current(&backup.walk)?;
        let mut out = Vec::with_capacity(bytes + bytes / 8);
        if !backup.begun {
            out.extend_from_slice(MAGIC);
            backup.begun = true;
        }
        while out.len() < bytes {
            if self.step(&mut backup.walk, |table, key, row| put_row(&mut out, table, key, row))?.is_none() {
                out.push(END);
                out.extend_from_slice(&backup.rows.to_be_bytes());
                backup.mac.update(&out);
                out.extend_from_slice(backup.mac.finalize().as_bytes());
                return Ok(BackupPart { bytes: out, last: true });
            }
            backup.rows += 1;
        }
        backup.mac.update(&out);
        Ok(BackupPart { bytes: out, last: false })
    }
}

fn put_row(out: &mut Vec<u8>, table: Table, key: &[u8], row: &[u8]) -> Result<(), StoreFault> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map(u32::to_be_bytes).map_err(|_| bad_row(table, key));
    out.push(table.number());
    out.extend_from_slice(&length(key)?);
    out.extend_from_slice(&length(row)?);
    out.extend_from_slice(key);
    out.extend_from_slice(row);
    Ok(())
}
