//! What the writer notes beside the database: the watermark, and through it which older state would undo what.

use super::plan::Refusal;
use super::writer::{Writer, Written};
use crate::directory::{Directory, HotCredential, Lookup};
use crate::model::{Agent, CodeHash, Credential, Foreign, Record, RecordKey};
use crate::store::{Fate, Watermark};

/// The watermark while it is written, and whether it was said that it can't be.
pub(super) struct Marks {
    pub(super) watermark: Watermark,
    pub(super) failing: bool,
}

impl Writer {
    /// Notes a commit that is durable and not shown yet: the directory still has what was before it.
    pub(super) fn note_commit(&mut self, results: &[Result<Written, Refusal>]) {
        let directory = self.compiler.directory();
        let changes = results.iter().flatten().filter_map(|written| written.change.as_ref());
        let records = changes.flat_map(|(change, _)| &change.records);
        let fates: Vec<(RecordKey, Fate)> =
            records.flat_map(|record| fates(directory, record).map(|fate| (record.key(), fate))).collect();
        match self.marks.watermark.note(&self.head, &fates) {
            Ok(()) => self.marks.failing = false,
            Err(error) if !self.marks.failing => {
                self.marks.failing = true;
                let path = self.marks.watermark.path().display();
                let alarm = format!(
                    "the watermark {path} can't be written: {error}; an older database would not be told from the last \
                     one; make room or restart"
                );
                tracing::error!("{alarm}");
                self.shared.alarms().push(alarm);
            }
            Err(_) => {}
        }
    }

    /// At the stop.
    pub(super) fn sync_watermark(&self) {
        if let Err(error) = self.marks.watermark.sync() {
            tracing::warn!(%error, "the watermark may be behind after a loss of power");
        }
    }
}

/// What a record's new form undoes of the one before.
fn fates(directory: &Directory, record: &Record) -> impl Iterator<Item = Fate> {
    let [state, code] = match record {
        Record::Agent(agent) => [agent_fate(directory, agent), None],
        Record::Credential(credential) => credential_fates(directory, credential),
        Record::Endpoint(_) => [None, None],
    };
    state.into_iter().chain(code)
}

fn agent_fate(directory: &Directory, agent: &Agent) -> Option<Fate> {
    match directory.agent(agent.id.get()) {
        Lookup::Found(before) => switched(agent.removed, before.enabled, agent.enabled),
        Lookup::Absent | Lookup::Damaged => None,
    }
}

fn credential_fates(directory: &Directory, credential: &Credential) -> [Option<Fate>; 2] {
    match directory.credential(credential.mode, credential.id.get()) {
        Lookup::Found(before) => [
            switched(credential.revoked, before.is_enabled(), credential.enabled),
            ends_a_code(before, credential).then_some(Fate::Recoded),
        ],
        Lookup::Absent | Lookup::Damaged => [None, None],
    }
}

/// Whether a code that was accepted is accepted no more, or only for a time. Where Keyward's own hash takes the place of
/// another system's, the code stays.
fn ends_a_code(before: &HotCredential, credential: &Credential) -> bool {
    let codes = &credential.codes;
    let is_upgraded = |hash: CodeHash| match &credential.foreign {
        Some(Foreign::Proven { own, by }) => *own == codes.current.mark() && *by == hash.mark(),
        Some(Foreign::Slow(_)) | None => false,
    };
    let stays = |hash| {
        hash == codes.current || codes.retiring.is_some_and(|retiring| retiring.hash == hash) || is_upgraded(hash)
    };
    let retires = codes.retiring.is_some_and(|retiring| retiring.hash == *before.hash());
    let ends = before.retiring().is_some_and(|retiring| !stays(retiring.hash));
    retires || ends || !stays(*before.hash())
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
