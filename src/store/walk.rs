//! One state of the database, row by row, each of them verified, and each table at its end.

use std::slice;

use redb::{ReadTransaction, ReadableDatabase as _};

use super::row::{HeadRow, Tally};
use super::{HEAD_KEY, Store, StoreFault, Table, bad_row};

/// A walk over tables of one state. It holds that state's pages, which later commits can't use again meanwhile: so it
/// must not last long.
pub(super) struct Walk {
    pub(super) transaction: ReadTransaction,
    pub(super) head: HeadRow,
    tables: slice::Iter<'static, Table>,
    current: Option<Current>,
    /// Which opening of the database it is of.
    opening: u64,
}

/// The table whose rows come now.
struct Current {
    table: Table,
    rows: redb::Range<'static, &'static [u8], &'static [u8]>,
    tally: Tally,
}

impl Store {
    /// Takes hold of the state of the last commit.
    pub(super) fn begin_walk(&self, tables: &'static [Table]) -> Result<Walk, StoreFault> {
        let guard = self.database();
        let database = guard.as_ref().ok_or_else(|| StoreFault::Storage("it is being reopened".to_string()))?;
        let transaction = database.begin_read()?;
        let head = self.head_row(&transaction)?;
        Ok(Walk { transaction, head, tables: tables.iter(), current: None, opening: self.opening() })
    }

    /// Refused when the database was reopened since the walk began: that waits for the walk's end.
    pub(super) fn expect_current(&self, walk: &Walk) -> Result<(), StoreFault> {
        if walk.opening == self.opening() {
            return Ok(());
        }
        Err(StoreFault::Storage("it was reopened after a fault meanwhile; begin anew".to_string()))
    }

    /// Hands the next row to `take`; `None` when there is none.
    pub(super) fn step<T>(
        &self,
        walk: &mut Walk,
        take: impl FnOnce(Table, &[u8], &[u8]) -> Result<T, StoreFault>,
    ) -> Result<Option<T>, StoreFault> {
        loop {
            let Some(current) = &mut walk.current else {
                let Some(&table) = walk.tables.next() else { return Ok(None) };
                let rows = walk.transaction.open_table(table.definition())?.range::<&[u8]>(..)?;
                walk.current = Some(Current { table, rows, tally: Tally::default() });
                continue;
            };
            let table = current.table;
            let Some(entry) = current.rows.next() else {
                let is_whole = match table {
                    Table::Meta => true,
                    // Each row bears its number and is between the ends, so as many as there must be are all.
                    Table::Audit => current.tally.rows == walk.head.audit.kept(),
                    Table::Agents
                    | Table::Endpoints
                    | Table::Keys
                    | Table::Tokens
                    | Table::Sessions
                    | Table::TagSets
                    | Table::Uses => current.tally.seal(&self.keys, table) == walk.head.seals[table as usize],
                };
                walk.current = None;
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
            if table == Table::Audit && !walk.head.audit.holds(key) {
                return Err(StoreFault::BrokenTable(table));
            }
            current.tally.add(self.keys.element(table, row));
            return take(table, key, row).map(Some);
        }
    }
}
