//! Reading every row at start: on all cores, each row's MAC, each table's tally.
//!
//! Reading rows is one thread's work at a time and the lesser part; what follows is not. So each worker takes a stretch
//! of raw rows under a lock, lets go, and judges it. The sum of a tally and the state that is made of the records are
//! the same in whatever order the stretches come.

use std::iter;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};
use rustc_hash::FxHashMap;

use super::row::{BadRow, Element, HeadRow, Labels, SetKey, Tally, read_record, read_set};
use super::{Store, StoreFault, Table, TableDamage, shown_key};
use crate::model::Record;
use crate::tags::TagSet;

/// Rows that a worker takes at a time: some milliseconds' work, and with what is made of them a megabyte or two.
const ROWS_PER_STRETCH: usize = 4 * 1024;
/// With this many bad rows in a table it is still worked out whether the damage is confined to them.
const BAD_ROWS_WORKED_OUT_MAX: usize = 8;

/// Takes records, a stretch at a time.
pub type Take<'t> = dyn FnMut(&[Record]) + Send + 't;

type Rows<'t> = redb::Range<'t, &'static [u8], &'static [u8]>;

/// One reading of the whole database.
pub(super) struct Reading<'s> {
    store: &'s Store,
    transaction: ReadTransaction,
    head_row: &'s HeadRow,
    pub(super) damage: Vec<TableDamage>,
}

/// The sets by what names them, and which of them a record uses.
#[derive(Default)]
pub(super) struct Sets(FxHashMap<SetKey, (Arc<TagSet>, AtomicBool)>);

impl Sets {
    fn of(&self, key: &SetKey) -> Option<Arc<TagSet>> {
        let (set, used) = self.0.get(key)?;
        // Most are marked already: a mark that is only read stays in every core's cache.
        if !used.load(Ordering::Relaxed) {
            used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(set))
    }

    pub(super) fn unused(self) -> Vec<Arc<TagSet>> {
        self.0.into_values().filter(|(_, used)| !used.load(Ordering::Relaxed)).map(|(set, _)| set).collect()
    }
}

/// Raw rows, in one buffer.
#[derive(Default)]
struct Stretch {
    bytes: Vec<u8>,
    /// Where each key and each row ends.
    ends: Vec<(usize, usize)>,
}

impl Stretch {
    /// Takes the next rows. False when there was none left.
    fn fill(&mut self, rows: &mut Rows<'_>) -> Result<bool, StoreFault> {
        self.bytes.clear();
        self.ends.clear();
        for entry in rows.take(ROWS_PER_STRETCH) {
            let (key, row) = entry?;
            self.bytes.extend_from_slice(key.value());
            let key_end = self.bytes.len();
            self.bytes.extend_from_slice(row.value());
            self.ends.push((key_end, self.bytes.len()));
        }
        Ok(!self.ends.is_empty())
    }

    /// Key and row.
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(key_end, end)| {
            let (key, row) = self.bytes[start..end].split_at(key_end - start);
            start = end;
            (key, row)
        })
    }
}

/// A row that does not prove itself.
struct Bad {
    key: Vec<u8>,
    /// Its element if its stored MAC is whole, and if its body is.
    elements: [Element; 2],
}

/// What a worker, or all of them, found in a table.
#[derive(Default)]
struct Found {
    tally: Tally,
    bad: Vec<Bad>,
}

impl Found {
    fn join(mut self, other: Self) -> Self {
        self.tally = self.tally.joined(other.tally);
        self.bad.extend(other.bad);
        self
    }
}

impl<'s> Reading<'s> {
    pub(super) const fn new(store: &'s Store, transaction: ReadTransaction, head_row: &'s HeadRow) -> Self {
        Self { store, transaction, head_row, damage: Vec::new() }
    }

    pub(super) fn sets(&mut self, tally: &mut Tally) -> Result<Sets, StoreFault> {
        let mut sets = Sets::default();
        let keys = &self.store.keys;
        let judge = |key: &[u8], row: &[u8]| {
            let set = read_set(keys, key, row)?;
            Ok((key.try_into().map_err(|_| BadRow)?, (set, AtomicBool::new(false))))
        };
        *tally = self.check(Table::TagSets, judge, &mut |read| sets.0.extend(read.drain(..)))?;
        Ok(sets)
    }

    /// Hands the records of a table to `take`. That a table is broken is known only at its end: then the caller forgets
    /// what it took.
    pub(super) fn records(&mut self, table: Table, sets: &Sets, take: &mut Take<'_>) -> Result<Tally, StoreFault> {
        let keys = &self.store.keys;
        let judge = |key: &[u8], row: &[u8]| {
            read_record(keys, table, key, row, Labels::Left, &mut |key| sets.of(key)).map(|(record, _)| record)
        };
        self.check(table, judge, &mut |records| take(records))
    }

    pub(super) fn uses(&mut self) -> Result<Tally, StoreFault> {
        let store = self.store;
        let judge = |key: &[u8], row: &[u8]| store.open_uses(key, row).map(drop).map_err(|_| BadRow);
        self.check(Table::Uses, judge, &mut |_| {})
    }

    /// Reads every row of a table and its tally; notes rows that `judge` refuses and a tally that is not the last
    /// commit's. What `judge` made of a stretch goes to `take`.
    fn check<M: Send>(
        &mut self,
        table: Table,
        judge: impl Fn(&[u8], &[u8]) -> Result<M, BadRow> + Sync,
        take: &mut (dyn FnMut(&mut Vec<M>) + Send),
    ) -> Result<Tally, StoreFault> {
        let keys = &self.store.keys;
        let rows = self.transaction.open_table(table.definition())?;
        let stretches = usize::try_from(rows.len()?).unwrap_or(usize::MAX).div_ceil(ROWS_PER_STRETCH);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (cursor, take) = (Mutex::new(rows.iter()?), Mutex::new(take));
        let work = || {
            let mut found = Found::default();
            let (mut stretch, mut made) = (Stretch::default(), Vec::new());
            // A poisoned lock is another worker's panic, which is told where it is joined.
            while let Ok(mut rows) = cursor.lock() {
                let more = stretch.fill(&mut rows)?;
                drop(rows);
                if !more {
                    break;
                }
                for (key, row) in stretch.iter() {
                    match judge(key, row) {
                        Ok(sound) => {
                            found.tally.add(keys.element(table, row));
                            made.push(sound);
                        }
                        // One more than matters tells that there are too many.
                        Err(BadRow) if found.bad.len() <= BAD_ROWS_WORKED_OUT_MAX => {
                            let elements = [keys.element(table, row), keys.element_of_body(table, key, row)];
                            found.bad.push(Bad { key: key.to_vec(), elements });
                        }
                        Err(BadRow) => {}
                    }
                }
                if let Ok(mut take) = take.lock() {
                    take(&mut made);
                }
                made.clear();
            }
            Ok::<_, StoreFault>(found)
        };
        let found = thread::scope(|scope| {
            let others: Vec<_> = (1..stretches.min(cores)).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            iter::once(own).chain(others).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(self.judge_table(table, found.into_iter().fold(Found::default(), Found::join)))
    }

    /// Whether the table is that of the last commit, apart from what its bad rows were.
    fn judge_table(&mut self, table: Table, found: Found) -> Tally {
        let Found { tally, mut bad } = found;
        bad.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let expected = self.head_row.seals[table as usize];
        let worked_out = work_out(tally, &bad, |tally| tally.seal(&self.store.keys, table) == expected);
        let broken = worked_out.is_none();
        if broken || !bad.is_empty() {
            let bad_rows = bad.iter().take(BAD_ROWS_WORKED_OUT_MAX).map(|bad| shown_key(&bad.key)).collect();
            self.damage.push(TableDamage { table, bad_rows, broken });
        }
        worked_out.unwrap_or(tally)
    }
}

/// The whole table's tally, when damage to the bad rows alone explains what was found: of each either the stored MAC is
/// whole (its body or key was hit) or its body is (the MAC was hit).
fn work_out(sound: Tally, bad: &[Bad], matches: impl Fn(&Tally) -> bool) -> Option<Tally> {
    if bad.len() > BAD_ROWS_WORKED_OUT_MAX {
        return None;
    }
    (0_u32..1 << bad.len()).find_map(|choice| {
        let mut tally = sound;
        for (i, bad) in bad.iter().enumerate() {
            tally.add(bad.elements[(choice >> i & 1) as usize]);
        }
        matches(&tally).then_some(tally)
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    use redb::ReadableDatabase as _;
    use zeroize::Zeroizing;

    use super::*;
    use crate::model::record::{AgentName, Attributes};
    use crate::model::{Agent, Change, Id, Pepper, UnixSeconds};

    const ROWS: u64 = 4 * ROWS_PER_STRETCH as u64;

    fn filled(directory: &tempfile::TempDir) -> (Store, HeadRow) {
        let pepper = Pepper::new(Zeroizing::new([7; 32]));
        let (store, loaded) = Store::open(directory.path(), &pepper, &mut |_| {}).unwrap();
        let permissions = Arc::new(TagSet::everything());
        let agent = |id| {
            Record::Agent(Agent {
                id: Id::new(id).unwrap(),
                name: AgentName::parse("agent").unwrap(),
                permissions: Arc::clone(&permissions),
                enabled: true,
                removed: false,
                attributes: Attributes::default(),
            })
        };
        let mut transaction = store.begin(&loaded.head).unwrap();
        transaction.put(&Change { records: (1..=ROWS).map(agent).collect(), ..Change::default() }).unwrap();
        let head = transaction.commit(UnixSeconds(1)).unwrap();
        (store, head.row)
    }

    /// Judges every agent's row on as many threads as there are cores.
    fn judged(store: &Store, head: &HeadRow, judge: impl Fn() + Sync) -> Option<u64> {
        let transaction = store.database().as_ref().unwrap().begin_read().unwrap();
        let mut reading = Reading::new(store, transaction, head);
        let mut taken = 0;
        let judge = |_: &[u8], _: &[u8]| {
            judge();
            Ok(())
        };
        let check = || reading.check(Table::Agents, judge, &mut |rows| taken += rows.len() as u64);
        let tally = catch_unwind(AssertUnwindSafe(check)).ok()?.unwrap();
        assert_eq!((tally.rows, reading.damage.len()), (ROWS, 0));
        Some(taken)
    }

    #[test]
    fn every_core_takes_part_and_a_panic_on_any_of_them_is_one_of_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (store, head) = filled(&directory);
        assert_eq!(judged(&store, &head, || {}), Some(ROWS));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let own = thread::current().id();
        // Whoever is not to panic waits with its first row until another thread has one, too.
        for panics_here in [true, false] {
            let others = AtomicU64::new(0);
            let outcome = judged(&store, &head, || {
                let here = thread::current().id() == own;
                if !here {
                    others.fetch_add(1, Ordering::Relaxed);
                }
                let began = Instant::now();
                while cores > 1 && others.load(Ordering::Relaxed) == 0 && began.elapsed() < Duration::from_secs(20) {
                    thread::yield_now();
                }
                assert!(here != panics_here, "the panic that this test is about");
            });
            assert_eq!(outcome, (cores == 1 && !panics_here).then_some(ROWS));
        }
    }
}
