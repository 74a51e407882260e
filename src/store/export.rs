//! Every record of one state, for an export.

use std::collections::HashMap;
use std::sync::Arc;

use super::row::{self, BadRow, Labels, SetKey};
use super::walk::Walk;
use super::{PAGE_BYTES, Store, StoreFault, Table, bad_row};
use crate::model::Record;
use crate::tags::TagSet;

/// An export that is being taken. It holds one state of the database and must not be kept for long.
pub struct Export {
    walk: Walk,
    sets: HashMap<SetKey, Arc<TagSet>>,
}

/// Some records of an export.
pub struct ExportPart {
    /// Agents, endpoints, keys, tokens, sessions, each in the order of the key; tombstones are among them.
    pub records: Vec<Record>,
    /// Nothing follows.
    pub last: bool,
}

impl Store {
    /// Takes hold of the state of the last commit.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`].
    pub fn begin_export(&self) -> Result<Export, StoreFault> {
        Ok(Export { walk: self.begin_walk(&Table::RECORDS)?, sets: HashMap::new() })
    }

    /// The next part, of at most `limit` records, or as many as fit a frame.
    ///
    /// # Errors
    /// As [`Store::next_backup_part`].
    pub fn next_export_part(&self, export: &mut Export, limit: usize) -> Result<ExportPart, StoreFault> {
        let Export { walk, sets } = export;
        self.expect_current(walk)?;
        let set_rows = walk.transaction.open_table(Table::TagSets.definition())?;
        let mut set_of = |key: &SetKey| {
            if let Some(set) = sets.get(key) {
                return Some(Arc::clone(set));
            }
            let set = self.read_set(&set_rows, key)?;
            sets.insert(*key, Arc::clone(&set));
            Some(set)
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < limit && bytes < PAGE_BYTES {
            let read = self.step(walk, |table, key, row| {
                row::read_record(&self.keys, table, key, row, Labels::Read, &mut set_of)
                    .map_err(|BadRow| bad_row(table, key))
            })?;
            let Some((record, _)) = read else { return Ok(ExportPart { records, last: true }) };
            bytes += row::page_bytes(&record);
            records.push(record);
        }
        Ok(ExportPart { records, last: false })
    }
}
