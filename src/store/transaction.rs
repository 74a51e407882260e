//! The one write transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use redb::{ReadableTable as _, WriteTransaction};

use super::row::{
    BadRow, Labels, RowKey, RowKeys, SealedRows, SetKey, SetKeys, Tally, UseRow, read_record, set_key, set_row,
};
use super::{Head, Store, StoreFault, Stored, Table, bad_row, open, row, use_key};
use crate::model::{Change, Id, Kind, LastUses, Mode, Record, RecordKey, Revision, UnixSeconds};
use crate::tags::TagSet;

/// Rows sealed at a time by the thread that works ahead of the inserts: a fraction of a millisecond's work, and small
/// enough to stay in the cache until they are inserted.
const ROWS_SEALED_TOGETHER: usize = 512;
/// Such pieces that may wait for their inserts.
const PIECES_AHEAD: usize = 4;

type RowTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// The one write transaction: reads see what it has put.
pub struct Transaction<'s> {
    pub(super) store: &'s Store,
    pub(super) transaction: WriteTransaction,
    pub(super) head: Head,
}

/// Reads records within a transaction: each table is opened, and each set read, once. To be dropped before the next put.
pub struct Reader<'t> {
    transaction: &'t Transaction<'t>,
    /// By [`Table`].
    tables: [Option<RowTable<'t>>; Table::TALLIED.len()],
    sets: HashMap<SetKey, Arc<TagSet>>,
}

impl Reader<'_> {
    /// Reads one record.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], [`StoreFault::BadRow`], [`StoreFault::BrokenTable`].
    pub fn get(&mut self, key: &RecordKey) -> Result<Option<Stored>, StoreFault> {
        let table = Table::of_kind(key.kind());
        self.transaction.expect_sound(table)?;
        if key.id().is_some_and(|id| id.get() > self.transaction.highest_id(key.kind())) {
            return Ok(None);
        }
        let bytes = RowKey::of(key);
        self.open(table)?;
        self.open(Table::TagSets)?;
        let (Some(rows), Some(sets)) = (&self.tables[table as usize], &self.tables[Table::TagSets as usize]) else {
            unreachable!("both were opened above");
        };
        let Some(row) = rows.get(bytes.as_slice())? else {
            return Ok(None);
        };
        let store = self.transaction.store;
        let mut set_of = |key: &SetKey| {
            if let Some(set) = self.sets.get(key) {
                return Some(Arc::clone(set));
            }
            let set = store.read_set(sets, key)?;
            self.sets.insert(*key, Arc::clone(&set));
            Some(set)
        };
        let record = read_record(&store.keys, table, bytes.as_slice(), row.value(), Labels::Read, &mut set_of);
        record.map(Some).map_err(|BadRow| bad_row(table, bytes.as_slice()))
    }

    fn open(&mut self, table: Table) -> Result<(), StoreFault> {
        let place = &mut self.tables[table as usize];
        if place.is_none() {
            *place = Some(self.transaction.transaction.open_table(table.definition())?);
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// For reads up to the next put.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { transaction: self, tables: Default::default(), sets: HashMap::new() }
    }

    /// The highest id of its kind that was ever used; 0 for endpoints, which have none.
    #[must_use]
    pub fn highest_id(&self, kind: Kind) -> u64 {
        Head::id_place(kind).map_or(0, |place| self.head.row.highest_ids[place])
    }

    /// The highest id of its mode whose row was taken away; 0 for none.
    #[must_use]
    pub const fn swept_through(&self, mode: Mode) -> u64 {
        self.head.row.swept_through[mode.index()]
    }

    /// Writes a change as the next revision.
    ///
    /// # Errors
    /// [`StoreFault::Conflict`] before anything is written; [`StoreFault::Storage`] and [`StoreFault::BrokenTable`],
    /// after which the transaction must not be committed.
    pub fn put(&mut self, change: &Change) -> Result<Revision, StoreFault> {
        self.expect_revisions(&change.expected)?;
        let revision = Revision(self.head.row.revision + 1);
        self.head.row.revision = revision.0;
        let sets = self.put_sets(&change.records)?;
        for run in change.records.chunk_by(|one, next| one.kind() == next.kind()) {
            self.put_records(run, &sets, revision)?;
        }
        self.remove_credentials(&change.removed)?;
        Ok(revision)
    }

    fn expect_revisions(&self, expected: &[(RecordKey, Revision)]) -> Result<(), StoreFault> {
        let mut reader = self.reader();
        for (key, revision) in expected {
            let found = reader.get(key)?.map_or(Revision(0), |(_, revision)| revision);
            if found != *revision {
                return Err(StoreFault::Conflict(key.clone()));
            }
        }
        Ok(())
    }

    /// Sets that no record uses any more; those that were taken up again since are put back by [`Transaction::put`],
    /// which must come later.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn drop_sets(&mut self, sets: &[Arc<TagSet>]) -> Result<(), StoreFault> {
        let mut rows = self.transaction.open_table(Table::TagSets.definition())?;
        for set in sets {
            if let Some(old) = rows.remove(set_key(set).as_slice())? {
                let element = self.store.keys.element(Table::TagSets, old.value());
                self.head.tallies[Table::TagSets as usize].remove(element);
            }
        }
        Ok(())
    }

    /// Sees to it that every set of the records has its row, and returns what names them.
    fn put_sets(&mut self, records: &[Record]) -> Result<SetKeys, StoreFault> {
        let mut rows = self.transaction.open_table(Table::TagSets.definition())?;
        let mut keys = SetKeys::default();
        for set in records.iter().filter_map(row::set_of_record) {
            if keys.knows(set) {
                continue;
            }
            let (key, row) = set_row(&self.store.keys, set);
            keys.note(set, key);
            let found = rows.get(key.as_slice())?.map(|found| found.value() == row);
            match found {
                Some(true) => {}
                // A damaged row. What stands for it in the tally is what it was: this very row.
                Some(false) => drop(rows.insert(key.as_slice(), row.as_slice())?),
                None => {
                    rows.insert(key.as_slice(), row.as_slice())?;
                    let element = self.store.keys.element(Table::TagSets, &row);
                    self.head.tallies[Table::TagSets as usize].add(element);
                }
            }
        }
        Ok(keys)
    }

    /// Puts records of one kind.
    fn put_records(&mut self, records: &[Record], sets: &SetKeys, revision: Revision) -> Result<(), StoreFault> {
        let Some(kind) = records.first().map(Record::kind) else { return Ok(()) };
        let table = Table::of_kind(kind);
        self.expect_sound(table)?;
        let keys = &self.store.keys;
        let tally = &mut self.head.tallies[table as usize];
        let mut rows = self.transaction.open_table(table.definition())?;
        let seal = |records: &[Record]| SealedRows::seal(keys, records, sets, revision);
        each_ahead(records.chunks(ROWS_SEALED_TOGETHER), seal, |sealed| {
            for (key, row, element) in sealed.iter() {
                if let Some(old) = rows.insert(key, row)? {
                    tally.remove(keys.element(table, old.value()));
                }
                tally.add(element);
            }
            Ok(())
        })?;
        if let (Some(place), Some(id)) = (Head::id_place(kind), records.iter().filter_map(Record::id).max()) {
            let highest = &mut self.head.row.highest_ids[place];
            *highest = (*highest).max(id.get());
        }
        Ok(())
    }

    /// Takes rows away, and the last uses beside them. That they prove themselves was seen with their revisions.
    fn remove_credentials(&mut self, credentials: &[(Mode, Id)]) -> Result<(), StoreFault> {
        for run in credentials.chunk_by(|(one, _), (next, _)| one == next) {
            let mode = run[0].0;
            let table = Table::of_mode(mode);
            self.expect_sound(table)?;
            let mut rows = self.transaction.open_table(table.definition())?;
            for (_, id) in run {
                if let Some(old) = rows.remove(id.get().to_be_bytes().as_slice())? {
                    self.head.tallies[table as usize].remove(self.store.keys.element(table, old.value()));
                }
                let swept_through = &mut self.head.row.swept_through[mode.index()];
                *swept_through = (*swept_through).max(id.get());
            }
        }
        self.remove_uses(credentials)
    }

    fn remove_uses(&mut self, credentials: &[(Mode, Id)]) -> Result<(), StoreFault> {
        if credentials.is_empty() || self.head.broken.contains(&Table::Uses) {
            return Ok(());
        }
        let mut rows = self.transaction.open_table(Table::Uses.definition())?;
        for (mode, id) in credentials {
            let key = use_key(*mode, *id);
            let proven = rows.get(key.as_slice())?.is_some_and(|row| self.store.open_uses(&key, row.value()).is_ok());
            // What stands for a damaged row in the tally is not known: it stays, and the alarm with it.
            if !proven {
                continue;
            }
            if let Some(old) = rows.remove(key.as_slice())? {
                let element = self.store.keys.element(Table::Uses, old.value());
                self.head.tallies[Table::Uses as usize].remove(element);
            }
        }
        Ok(())
    }

    /// Merges last uses into the stored ones. In a broken table nothing is stored: no verdict rests on it.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn put_uses(&mut self, uses: impl IntoIterator<Item = (Mode, Id, LastUses)>) -> Result<(), StoreFault> {
        if self.head.broken.contains(&Table::Uses) {
            return Ok(());
        }
        let mut rows = self.transaction.open_table(Table::Uses.definition())?;
        for (mode, id, newer) in uses {
            let key = use_key(mode, id);
            let older = match rows.get(key.as_slice())?.map(|row| self.store.open_uses(&key, row.value())) {
                Some(Ok(older)) => older,
                None => LastUses::default(),
                // What stands for a damaged row in the tally is not known: it stays, and the alarm with it.
                Some(Err(_)) => continue,
            };
            let merged = newer.merged(older);
            let merged: UseRow<'_> = merged
                .iter()
                .map(|used| (used.code.to_bytes(), used.at.0, used.address.map(|address| address.to_string().into())))
                .collect();
            let row = self.store.keys.seal_row(Table::Uses, &key, &merged);
            let tally = &mut self.head.tallies[Table::Uses as usize];
            put_row(&mut rows, &self.store.keys, (Table::Uses, tally), &key, &row)?;
        }
        Ok(())
    }

    /// Makes all of it durable. Returns the head that the next transaction starts from.
    ///
    /// # Errors
    /// [`StoreFault::Storage`]: whether the changes will be there after the next opening is then not known.
    pub fn commit(mut self, now: UnixSeconds) -> Result<Head, StoreFault> {
        self.head.row.committed_at = self.head.row.committed_at.max(now.0);
        open::put_head(&self.transaction, &self.store.keys, &mut self.head)?;
        self.transaction.commit()?;
        Ok(self.head)
    }

    /// Commits, as a revision of its own, that the time of the last commit is `now`, although that lies before it: the one
    /// way back after the system's clock was ahead by mistake.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn set_clock_back(mut self, now: UnixSeconds) -> Result<Head, StoreFault> {
        self.head.row.revision += 1;
        self.head.row.committed_at = now.0;
        self.commit(now)
    }

    fn expect_sound(&self, table: Table) -> Result<(), StoreFault> {
        if self.head.broken.contains(&table) { Err(StoreFault::BrokenTable(table)) } else { Ok(()) }
    }
}

/// Inserts a row and moves its table's tally.
fn put_row(
    rows: &mut RowTable<'_>,
    keys: &RowKeys,
    (table, tally): (Table, &mut Tally),
    key: &[u8],
    row: &[u8],
) -> Result<(), StoreFault> {
    if let Some(old) = rows.insert(key, row)? {
        tally.remove(keys.element(table, old.value()));
    }
    tally.add(keys.element(table, row));
    Ok(())
}

/// Hands what `make` makes of each item to `take`, in order. With several items another thread makes them ahead.
fn each_ahead<I: Send, M: Send>(
    mut items: impl ExactSizeIterator<Item = I> + Send,
    make: impl Fn(I) -> M + Send,
    mut take: impl FnMut(M) -> Result<(), StoreFault>,
) -> Result<(), StoreFault> {
    if items.len() <= 1 {
        return items.try_for_each(|item| take(make(item)));
    }
    thread::scope(|scope| {
        let (made, next) = sync_channel(PIECES_AHEAD);
        // It ends early when nothing is taken any more.
        scope.spawn(move || items.all(|item| made.send(make(item)).is_ok()));
        next.into_iter().try_for_each(&mut take)
    })
}
