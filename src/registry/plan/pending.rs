//! The records that an order puts, while it is planned.

use rustc_hash::FxHashMap;

use crate::model::{Change, Record, RecordKey, Revision};

/// A record as it was before a change; `None` for one that is new.
pub(in crate::registry) type Before = Option<Box<Record>>;

/// A change that grows.
#[derive(Default)]
pub(super) struct Pending {
    change: Change,
    /// What each record was.
    before: Vec<Before>,
    /// Where each record stands in the change.
    index: FxHashMap<RecordKey, usize>,
}

impl Pending {
    pub(super) fn get(&self, key: &RecordKey) -> Option<(&Record, Revision)> {
        let place = *self.index.get(key)?;
        Some((&self.change.records[place], self.change.expected[place].1))
    }

    /// Puts a record. Of one that was put before the later form counts, what it was at first, and the revision it was
    /// first read at.
    pub(super) fn put(&mut self, key: RecordKey, before: Option<Record>, record: Record, read_at: Revision) {
        let Change { expected, records, removed: _ } = &mut self.change;
        let place = *self.index.entry(key.clone()).or_insert(records.len());
        match records.get_mut(place) {
            Some(known) => *known = record,
            None => {
                expected.push((key, read_at));
                records.push(record);
                self.before.push(before.map(Box::new));
            }
        }
    }

    /// Those that were not there before.
    pub(super) fn iter_new(&self) -> impl Iterator<Item = (&RecordKey, &Record)> {
        let both = self.change.expected.iter().zip(&self.change.records);
        both.filter(|((_, read_at), _)| *read_at == Revision(0)).map(|((key, _), record)| (key, record))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RecordKey, &Record)> {
        self.change.expected.iter().map(|(key, _)| key).zip(&self.change.records)
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.change.records
    }

    /// The change in the order of its keys, in which the database takes it fastest, and what each record was.
    pub(super) fn finish(self) -> (Change, Vec<Before>) {
        let Change { expected, records, removed } = self.change;
        if expected.is_sorted_by(|(one, _), (next, _)| one <= next) {
            return (Change { expected, records, removed }, self.before);
        }
        let mut all: Vec<_> = expected.into_iter().zip(records.into_iter().zip(self.before)).collect();
        all.sort_unstable_by(|((one, _), _), ((other, _), _)| one.cmp(other));
        let (expected, (records, before)) = all.into_iter().unzip();
        (Change { expected, records, removed }, before)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::record::{AgentName, Attributes};
    use crate::model::{Agent, Id};
    use crate::tags::TagSet;

    fn agent(id: u64, name: &str) -> Record {
        Record::Agent(Agent {
            id: Id::new(id).unwrap(),
            name: AgentName::parse(name).unwrap(),
            permissions: Arc::new(TagSet::everything()),
            enabled: true,
            removed: false,
            attributes: Attributes::default(),
        })
    }

    #[test]
    fn a_change_is_sorted_and_holds_the_last_form_of_each_record_with_the_revision_it_was_first_read_at() {
        for order in [[1, 2, 3], [3, 1, 2]] {
            let mut pending = Pending::default();
            for id in order {
                let record = agent(id, "first");
                pending.put(record.key(), (id == 2).then(|| agent(2, "before")), record, Revision(id));
            }
            let last = agent(2, "last");
            pending.put(last.key(), Some(agent(2, "first")), last.clone(), Revision(9));
            assert!(
                pending.get(&last.key()).is_some_and(|(record, read_at)| *record == last && read_at == Revision(2))
            );
            let (change, before) = pending.finish();
            let before: Vec<_> = before.into_iter().map(|record| record.map(|record| *record)).collect();
            assert!(before == [None, Some(agent(2, "before")), None], "{order:?}");
            let expected: Vec<_> = change.expected.iter().map(|(key, at)| (key.id().unwrap().get(), at.0)).collect();
            assert_eq!(expected, [(1, 1), (2, 2), (3, 3)]);
            assert!(change.records == [agent(1, "first"), last, agent(3, "first")], "{order:?}");
        }
    }
}
