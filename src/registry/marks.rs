//! What the writer notes beside the database: the watermark, and through it which older state would undo what.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use super::plan::Refusal;
use super::writer::{Writer, Written};
use crate::directory::{Directory, Lookup};
use crate::model::{Change, CodeHash, Credential, Foreign, Record, RecordKey};
use crate::store::{Fate, Head, Watermark};

/// What is wrong with the watermark, as long as it is.
pub(super) type Alarm = Arc<Mutex<Option<String>>>;

pub(super) fn told(alarm: &Alarm) -> MutexGuard<'_, Option<String>> {
    alarm.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The watermark while it is written.
pub(super) struct Marks {
    pub(super) watermark: Watermark,
    pub(super) alarm: Alarm,
}

impl Marks {
    fn note(&mut self, head: &Head, fates: &[(RecordKey, Fate)]) {
        let noted = self.watermark.note(head, fates);
        let mut alarm = told(&self.alarm);
        match noted {
            Ok(()) => *alarm = None,
            Err(error) if alarm.is_none() => {
                let path = self.watermark.path().display();
                let words = format!(
                    "the watermark {path} can't be written: {error}; an older database would not be told from the last \
                     one; make room or restart"
                );
                tracing::error!("{words}");
                *alarm = Some(words);
            }
            Err(_) => {}
        }
    }
}

impl Writer {
    /// Notes a commit that is durable and not shown yet: the directory still has what was before it.
    pub(super) fn note_commit(&mut self, results: &[Result<Written, Refusal>]) {
        let changes = results.iter().flatten().filter_map(|written| Some(&written.change.as_ref()?.0));
        let fates = fates_of(self.compiler.directory(), &changes.collect::<Vec<_>>());
        self.marks.note(&self.head, &fates);
    }

    /// At the stop.
    pub(super) fn sync_watermark(&self) {
        if let Err(error) = self.marks.watermark.sync() {
            tracing::warn!(%error, "the watermark may be behind after a loss of power");
        }
    }
}

/// What a record was before a change, as far as a change may undo it.
#[derive(Clone, Copy)]
struct Before {
    enabled: bool,
    /// The current code's and the retiring one's; an agent has none.
    codes: [Option<CodeHash>; 2],
}

impl Before {
    fn of(record: &Record) -> Self {
        match record {
            Record::Agent(agent) => Self { enabled: agent.enabled, codes: [None; 2] },
            Record::Credential(Credential { enabled, codes, .. }) => {
                let retiring = codes.retiring.map(|retiring| retiring.hash);
                Self { enabled: *enabled, codes: [Some(codes.current), retiring] }
            }
            Record::Endpoint(_) => Self { enabled: true, codes: [None; 2] },
        }
    }

    fn shown(directory: &Directory, key: &RecordKey) -> Option<Self> {
        match key {
            RecordKey::Agent(id) => match directory.agent(id.get()) {
                Lookup::Found(agent) => Some(Self { enabled: agent.enabled, codes: [None; 2] }),
                Lookup::Absent | Lookup::Damaged => None,
            },
            RecordKey::Credential(mode, id) => match directory.credential(*mode, id.get()) {
                Lookup::Found(found) => {
                    let retiring = found.retiring().map(|retiring| retiring.hash);
                    Some(Self { enabled: found.is_enabled(), codes: [Some(*found.hash()), retiring] })
                }
                Lookup::Absent | Lookup::Damaged => None,
            },
            RecordKey::Endpoint(..) => None,
        }
    }
}

/// What the changes of a group undo of what the directory shows, and each of those before it.
fn fates_of(directory: &Directory, group: &[&Change]) -> Vec<(RecordKey, Fate)> {
    let mut changed: FxHashMap<RecordKey, Before> = FxHashMap::default();
    let mut noted = Vec::new();
    for record in group.iter().flat_map(|change| &change.records) {
        let key = record.key();
        // No change has a record twice, and one alone may have a million.
        let earlier = if group.len() > 1 { changed.insert(key.clone(), Before::of(record)) } else { None };
        if let Some(before) = earlier.or_else(|| Before::shown(directory, &key)) {
            noted.extend(fates(&before, record).map(|fate| (key.clone(), fate)));
        }
    }
    noted
}

/// What a record's new form undoes of the one before.
fn fates(before: &Before, record: &Record) -> impl Iterator<Item = Fate> {
    let [state, code] = match record {
        Record::Agent(agent) => [switched(agent.removed, before.enabled, agent.enabled), None],
        Record::Credential(credential) => [
            switched(credential.revoked, before.enabled, credential.enabled),
            ends_a_code(before, credential).then_some(Fate::Recoded),
        ],
        Record::Endpoint(_) => [None, None],
    };
    state.into_iter().chain(code)
}

/// Whether a code that was accepted is accepted no more, or only for a time. Where Keyward's own hash takes the place of
/// another system's, the code stays.
fn ends_a_code(before: &Before, credential: &Credential) -> bool {
    let codes = &credential.codes;
    let is_upgraded = |hash: CodeHash| match &credential.foreign {
        Some(Foreign::Proven { own, by }) => *own == codes.current.mark() && *by == hash.mark(),
        Some(Foreign::Slow(_)) | None => false,
    };
    let stays = |hash| {
        hash == codes.current || codes.retiring.is_some_and(|retiring| retiring.hash == hash) || is_upgraded(hash)
    };
    let [current, _] = before.codes;
    let retires = current.is_some() && codes.retiring.map(|retiring| retiring.hash) == current;
    retires || before.codes.into_iter().flatten().any(|hash| !stays(hash))
}

/// What is ended can't be changed again, so it was not before.
fn switched(ended: bool, was_enabled: bool, is_enabled: bool) -> Option<Fate> {
    match (ended, was_enabled, is_enabled) {
        (true, _, _) => Some(Fate::Ended),
        (false, true, false) => Some(Fate::Disabled),
        (false, false, true) => Some(Fate::Enabled),
        (false, _, _) => None,
    }
}

#[cfg(test)]
mod tests;
