//! The audit's rows: a chain that is written with the changes it tells of, and checked without the tallies.
//!
//! The head's row holds both ends of the chain: number and hash of the last record, and of the one before the oldest
//! that is kept. So dropping the oldest leaves the rest as verifiable as before, and a tail or a head that somebody cuts
//! off is missed.

use std::ops::Bound;
use std::time::Duration;

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};

use super::row::{AuditRow, BadRow, ChainEnds};
use super::{Head, Store, StoreFault, Table, TableDamage, Transaction, bad_row, shown_key};
use crate::chain::{self, ChainHash};
use crate::model::UnixSeconds;

/// Records in one page.
const PAGE_ROWS_MAX: usize = 1_000;
/// A page ends behind the record that takes it to so many bytes: well within a frame.
const PAGE_BYTES: usize = 1024 * 1024;
/// Rows that are checked in one read transaction: some milliseconds.
const ROWS_CHECKED_TOGETHER: usize = 1_000;
/// Faults that are told one by one before they are only counted.
const FAULTS_LISTED_MAX: usize = 100;
/// Rows that retention drops in one transaction: no change waits long behind it.
const ROWS_DROPPED_TOGETHER: usize = 500;

/// Both ends of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The last record's number; 0 when there was none yet.
    pub last: u64,
    /// The last record's hash.
    pub hash: ChainHash,
    /// The number of the record before the oldest that is kept.
    pub before: u64,
    /// That one's hash.
    pub before_hash: ChainHash,
    /// What the rows that are kept take.
    pub bytes: u64,
}

impl From<ChainEnds> for AuditHead {
    fn from(ends: ChainEnds) -> Self {
        Self {
            last: ends.last,
            hash: ChainHash::from_bytes(ends.last_hash),
            before: ends.before,
            before_hash: ChainHash::from_bytes(ends.before_hash),
            bytes: ends.bytes,
        }
    }
}

impl Head {
    /// Where the audit stands.
    #[must_use]
    pub fn audit(&self) -> AuditHead {
        self.row.audit.into()
    }
}

/// How long audit records are kept. The newest is never dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older ones are dropped.
    pub age: Duration,
    /// The oldest are dropped while all together take more bytes than this.
    pub bytes: u64,
}

impl Retention {
    /// Nothing is dropped.
    pub const FOR_EVER: Self = Self { age: Duration::MAX, bytes: u64::MAX };
}

/// Some records, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// See [`chain::line`].
    pub lines: Vec<String>,
    /// The number behind which to go on: the last one's, or what was asked for.
    pub last: u64,
    /// Whether more follow already.
    pub more: bool,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    /// Its number.
    pub number: u64,
    /// In words.
    pub what: String,
}

/// A walk along the whole chain, as far as it has come.
#[derive(Clone, Debug)]
pub struct AuditCheck {
    /// The oldest record's number.
    pub first: u64,
    /// The number of the record that the walk has come to; at its end the last one's.
    pub last: u64,
    /// That one's hash; `None` behind one that can't be read.
    pub hash: Option<ChainHash>,
    /// Records that were read and are sound.
    pub records: u64,
    /// What is wrong, the first of it one by one.
    pub faults: Vec<AuditFault>,
    /// How much is wrong in all.
    pub fault_count: u64,
    /// Where the walk ends: the chain's end when it began.
    end: AuditHead,
}

impl AuditCheck {
    fn fault(&mut self, number: u64, what: impl Into<String>) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_LISTED_MAX {
            self.faults.push(AuditFault { number, what: what.into() });
        }
    }

    /// Notes the records behind the last one up to `next`, exclusive, as missing.
    fn missing_up_to(&mut self, next: u64) {
        let first = self.last + 1;
        if first == next {
            return;
        }
        let what = if next - first == 1 {
            "it is missing".into()
        } else {
            format!("it and all up to {} are missing", next - 1)
        };
        self.fault(first, what);
        (self.last, self.hash) = (next - 1, None);
    }

    fn take(&mut self, number: u64, row: Result<AuditRow<'_>, BadRow>) {
        self.missing_up_to(number);
        self.last = number;
        let Ok((_, prev, text)) = row else {
            self.hash = None;
            return self.fault(number, "it was altered: its row does not prove itself");
        };
        let prev = ChainHash::from_bytes(prev);
        if self.hash.is_some_and(|hash| hash != prev) {
            self.fault(number, "it does not stand on the record before it: one of the two was altered");
        } else if chain::number_of(text) != Some(number) {
            self.fault(number, "it bears another number: it was put in the place of another");
        } else {
            self.records += 1;
        }
        self.hash = Some(prev.then(text));
    }
}

fn audit_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

type Rows = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl Store {
    fn open_audit_row<'r>(&self, key: &[u8], row: &'r [u8]) -> Result<AuditRow<'r>, BadRow> {
        self.keys.open_row(Table::Audit, key, row)
    }

    /// Time and hash of one record.
    fn audit_record(&self, rows: &Rows, number: u64) -> Result<(UnixSeconds, ChainHash), StoreFault> {
        let key = audit_key(number);
        let bad = || bad_row(Table::Audit, &key);
        let row = rows.get(key.as_slice())?.ok_or_else(bad)?;
        let (at, prev, text) = self.open_audit_row(&key, row.value()).map_err(|BadRow| bad())?;
        Ok((UnixSeconds(at), ChainHash::from_bytes(prev).then(text)))
    }

    /// Hash of one record; `None` where there is none that proves itself.
    pub(super) fn audit_hash(&self, number: u64) -> Result<Option<ChainHash>, StoreFault> {
        let rows = self.begin_read()?.open_table(Table::Audit.definition())?;
        match self.audit_record(&rows, number) {
            Ok((_, hash)) => Ok(Some(hash)),
            Err(StoreFault::BadRow { .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whether both ends are where the head says and as many rows between them as there must be. Every row is looked at
    /// by [`Store::check_audit`] only: a start would wait for millions.
    pub(super) fn audit_damage(
        &self,
        reading: &ReadTransaction,
        ends: &ChainEnds,
    ) -> Result<Option<TableDamage>, StoreFault> {
        let rows = reading.open_table(Table::Audit.definition())?;
        let first = rows.first()?.and_then(|(key, _)| number(key.value()));
        let last = rows.last()?.and_then(|(key, _)| number(key.value()));
        let kept = ends.kept();
        let expected = if kept == 0 { (None, None) } else { (Some(ends.before + 1), Some(ends.last)) };
        let last_is_sound = || match self.audit_record(&rows, ends.last) {
            Ok((_, hash)) => Ok(hash == ChainHash::from_bytes(ends.last_hash)),
            Err(StoreFault::BadRow { .. }) => Ok(false),
            Err(fault) => Err(fault),
        };
        let sound = rows.len()? == kept && (first, last) == expected && (kept == 0 || last_is_sound()?);
        Ok((!sound).then(|| TableDamage { table: Table::Audit, bad_rows: Vec::new(), broken: true }))
    }

    /// Reads records behind number `after`, none of before `since`.
    ///
    /// # Errors
    /// [`StoreFault::Storage`]; [`StoreFault::BadRow`] when the first record of the page does not prove itself.
    pub fn audit_page(&self, after: u64, since: UnixSeconds) -> Result<AuditPage, StoreFault> {
        let reading = self.begin_read()?;
        let ends = self.head_row(&reading)?.audit;
        let rows = reading.open_table(Table::Audit.definition())?;
        let start = after.max(ends.before).saturating_add(1).max(self.first_since(&rows, &ends, since)?);
        let mut page = AuditPage { lines: Vec::new(), last: after, more: false };
        let mut bytes = 0;
        for entry in rows.range::<&[u8]>(audit_key(start).as_slice()..)? {
            let (key, row) = entry?;
            let Some(found) = number(key.value()).filter(|found| *found <= ends.last) else { break };
            page.more = page.lines.len() >= PAGE_ROWS_MAX || bytes >= PAGE_BYTES;
            if page.more {
                break;
            }
            let Ok((at, prev, text)) = self.open_audit_row(key.value(), row.value()) else {
                if page.lines.is_empty() {
                    return Err(bad_row(Table::Audit, key.value()));
                }
                // The next page begins with it and says so.
                page.more = true;
                break;
            };
            if UnixSeconds(at) < since {
                continue;
            }
            bytes += text.len();
            page.lines.push(chain::line(text, ChainHash::from_bytes(prev)));
            page.last = found;
        }
        if !page.more {
            // Those of before `since` are behind it, too.
            page.last = after.max(ends.last);
        }
        Ok(page)
    }

    /// The number of the first record of `since` or later, or of one before it: times never go back from one record to the
    /// next, but one that does not prove itself has none.
    fn first_since(&self, rows: &Rows, ends: &ChainEnds, since: UnixSeconds) -> Result<u64, StoreFault> {
        let (mut low, mut high) = (ends.before + 1, ends.last + 1);
        while since > UnixSeconds(0) && low < high {
            let middle = low + (high - low) / 2;
            match self.audit_record(rows, middle) {
                Ok((at, _)) if at < since => low = middle + 1,
                Ok(_) | Err(StoreFault::BadRow { .. }) => high = middle,
                Err(fault) => return Err(fault),
            }
        }
        Ok(low)
    }

    /// Begins a walk along the whole chain.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn begin_audit_check(&self) -> Result<AuditCheck, StoreFault> {
        let end: AuditHead = self.head_row(&self.begin_read()?)?.audit.into();
        Ok(AuditCheck {
            first: end.before + 1,
            last: end.before,
            hash: Some(end.before_hash),
            records: 0,
            faults: Vec::new(),
            fault_count: 0,
            end,
        })
    }

    /// The next part of a walk, in a read transaction of its own. False when it is at its end.
    ///
    /// # Errors
    /// [`StoreFault::Storage`].
    pub fn check_audit(&self, check: &mut AuditCheck) -> Result<bool, StoreFault> {
        let reading = self.begin_read()?;
        let ends = self.head_row(&reading)?.audit;
        let rows = reading.open_table(Table::Audit.definition())?;
        if ends.before > check.last {
            // Retention came past: the rest is checked from where it left off.
            (check.last, check.hash) = (ends.before, Some(ChainHash::from_bytes(ends.before_hash)));
        }
        let (from, to) = (audit_key(check.last), audit_key(check.end.last));
        let mut taken = 0;
        if from < to {
            let bounds = (Bound::Excluded(from.as_slice()), Bound::Included(to.as_slice()));
            for entry in rows.range::<&[u8]>(bounds)?.take(ROWS_CHECKED_TOGETHER) {
                let (key, row) = entry?;
                taken += 1;
                match number(key.value()) {
                    Some(number) => check.take(number, self.open_audit_row(key.value(), row.value())),
                    None => check.fault(check.last, format!("a row {} follows that is none", shown_key(key.value()))),
                }
            }
        }
        if taken == ROWS_CHECKED_TOGETHER {
            return Ok(true);
        }
        self.end_check(check, &rows, &ends).map(|()| false)
    }

    /// Judges what only the end of a walk shows.
    fn end_check(&self, check: &mut AuditCheck, rows: &Rows, ends: &ChainEnds) -> Result<(), StoreFault> {
        let end = check.end;
        if check.last < end.last {
            check.missing_up_to(end.last + 1);
        } else if check.last == end.last && check.hash.is_some_and(|hash| hash != end.hash) {
            check.fault(end.last, "it is not the one that the last commit left: it was altered");
        }
        let oldest = rows.first()?.and_then(|(key, _)| number(key.value()));
        if let Some(oldest) = oldest.filter(|oldest| *oldest <= ends.before) {
            check.fault(oldest, "it was dropped long ago, and put back");
        }
        let newest = rows.last()?.and_then(|(key, _)| number(key.value()));
        if let Some(newest) = newest.filter(|newest| *newest > ends.last) {
            check.fault(newest, "it was never written: it was put behind the last record");
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// Where the audit stands, what this transaction wrote included.
    #[must_use]
    pub fn audit(&self) -> AuditHead {
        self.head.audit()
    }

    /// Appends a record, whose text begins with the number behind the last.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], after which the transaction must not be committed.
    pub fn append_audit(&mut self, at: UnixSeconds, text: &str) -> Result<(), StoreFault> {
        let ends = &mut self.head.row.audit;
        let key = audit_key(ends.last + 1);
        let body: AuditRow<'_> = (at.0, ends.last_hash, text);
        let row = self.store.keys.seal_row(Table::Audit, &key, &body);
        self.transaction.open_table(Table::Audit.definition())?.insert(key.as_slice(), row.as_slice())?;
        ends.last += 1;
        ends.last_hash = ChainHash::from_bytes(ends.last_hash).then(text).to_bytes();
        ends.bytes += row.len() as u64;
        Ok(())
    }

    /// Drops the oldest records that are not to be kept, at most some hundred, and says how many those were.
    /// A damaged one goes with those behind it.
    ///
    /// # Errors
    /// [`StoreFault::Storage`], after which the transaction must not be committed.
    pub fn drop_old_audit(&mut self, now: UnixSeconds, keep: &Retention) -> Result<usize, StoreFault> {
        let mut rows = self.transaction.open_table(Table::Audit.definition())?;
        let ends = self.head.row.audit;
        let born_before = now.0.checked_sub(keep.age.as_secs());
        let (mut left, mut dropped) = (ends, Vec::new());
        let (mut passed, mut passed_bytes) = (Vec::new(), 0);
        for entry in rows.range::<&[u8]>(..audit_key(ends.last).as_slice())?.take(ROWS_DROPPED_TOGETHER) {
            let (key, row) = entry?;
            passed.push(key.value().to_vec());
            passed_bytes += row.value().len() as u64;
            let record = self.store.open_audit_row(key.value(), row.value());
            let (Ok((at, prev, text)), Some(number)) = (record, number(key.value())) else {
                continue;
            };
            let due = born_before.is_some_and(|limit| at <= limit) || left.bytes > keep.bytes;
            if !due {
                break;
            }
            left.before = number;
            left.before_hash = ChainHash::from_bytes(prev).then(text).to_bytes();
            left.bytes = left.bytes.saturating_sub(std::mem::take(&mut passed_bytes));
            dropped.append(&mut passed);
        }
        for key in &dropped {
            rows.remove(key.as_slice())?;
        }
        drop(rows);
        self.head.row.audit = left;
        Ok(dropped.len())
    }
}

#[cfg(test)]
mod tests;
