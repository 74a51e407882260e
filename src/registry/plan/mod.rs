//! From an order to a [`Change`]: reads what is there, merges, checks the rules that need more than one record.
//!
//! A plan reads through the open transaction, so it sees the changes that went before it in the same group, and writes
//! nothing: an order that is refused leaves no trace.

mod checks;
mod codes;
mod difference;
mod ended;
mod import;
mod merge;
mod pending;
mod rotate;
mod upgrade;

pub use difference::{FieldChange, FieldValue};
pub(super) use difference::{Fields, differing, fields};
pub use ended::Sweep;
pub use import::{Import, Imported};
pub(super) use pending::Before;
use pending::Pending;
pub use rotate::{Rotate, Rotation};
use rustc_hash::FxHashMap;

use super::audit::Action;
use super::what_if::{Preview, WhatIf};
use crate::decide::Upgrade;
use crate::directory::Compiler;
use crate::model::{
    Change, Code, CredentialEdit, Edit, Id, Kind, Mode, Record, RecordKey, RecordName, Revision, UnixSeconds,
};
use crate::store::{Reader, StoreFault, Transaction};

/// What an operator orders.
pub enum Order {
    /// A record that must be new.
    Add(Edit),
    /// Changes to a record that must be there.
    Set(Edit),
    /// Removes an agent or endpoint; revokes a credential.
    Remove(RecordName),
    /// Makes the records be as given, all or none.
    Apply(Apply),
    /// Makes the credentials be as given, each by itself.
    Import(Import),
    /// Says what a change would come to, and makes none.
    WhatIf(WhatIf),
    /// Changes a credential's codes.
    Rotate(Rotate),
    /// Revokes those of the credentials that are not revoked yet.
    End(Vec<(Mode, Id)>),
    /// Nobody's but the daemon's own: takes away rows of what expired long ago.
    Sweep(Sweep),
    /// Puts Keyward's own hash in the place of another system's; nobody gave it, a code that proved right did.
    Upgrade(Upgrade),
}

/// A whole file.
pub struct Apply {
    /// The records, in the file's order; each names itself.
    pub edits: Vec<Edit>,
    /// The kinds that the file has a section for.
    pub sections: Vec<Kind>,
    /// Revoke and remove what the sections don't list.
    pub prune: bool,
    /// Plan, and change nothing.
    pub dry_run: bool,
}

impl Order {
    /// The audit's word for it.
    pub(super) const fn action(&self) -> Action {
        match self {
            Self::Add(_) => Action::Add,
            // A dry run writes nothing, nor an audit.
            Self::Set(_) | Self::WhatIf(_) => Action::Set,
            Self::Remove(_) => Action::Remove,
            Self::Apply(_) => Action::Apply,
            Self::Import(_) => Action::Import,
            Self::Rotate(_) => Action::Rotate,
            Self::End(_) => Action::Close,
            Self::Sweep(_) => Action::Sweep,
            Self::Upgrade(_) => Action::Upgrade,
        }
    }

    /// Whether it is judged by more than the rows it names, so that it must not share a transaction: the directory it
    /// reads would lack what went before.
    pub(super) const fn stands_alone(&self) -> bool {
        match self {
            Self::Add(_) | Self::Set(_) | Self::Rotate(_) | Self::End(_) | Self::Upgrade(_) => false,
            Self::Remove(name) => matches!(name, RecordName::Agent(_)),
            Self::Apply(_) | Self::Import(_) | Self::WhatIf(_) | Self::Sweep(_) => true,
        }
    }

    /// For an upgrade: whose.
    pub(super) const fn upgraded(&self) -> Option<(Mode, u64)> {
        match self {
            Self::Upgrade(upgrade) => Some((upgrade.mode, upgrade.id)),
            Self::Add(_)
            | Self::Set(_)
            | Self::Remove(_)
            | Self::Apply(_)
            | Self::Import(_)
            | Self::WhatIf(_)
            | Self::Rotate(_)
            | Self::End(_)
            | Self::Sweep(_) => None,
        }
    }

    /// Whether it is planned only.
    pub(super) const fn is_dry_run(&self) -> bool {
        match self {
            Self::Add(_)
            | Self::Set(_)
            | Self::Remove(_)
            | Self::Rotate(_)
            | Self::End(_)
            | Self::Sweep(_)
            | Self::Upgrade(_) => false,
            Self::Apply(apply) => apply.dry_run,
            Self::Import(import) => import.dry_run,
            Self::WhatIf(_) => true,
        }
    }
}

/// Why an order was not carried out.
#[derive(Debug)]
pub enum Refusal {
    /// It is not acceptable.
    Invalid {
        /// For an apply: the index of the edit at fault.
        index: Option<usize>,
        /// What failed, why, what to do.
        message: String,
    },
    /// A fault of the storage; whether the change was made is not known.
    Unavailable(String),
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { index: None, message: message.into() }
    }
}

fn unavailable(why: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::Unavailable(why.into()))
}

/// What an order came to.
#[derive(Default)]
pub struct Outcome {
    /// For add, set and a revocation: the record as it stands.
    pub record: Option<Record>,
    /// A code that was made for it.
    pub new_code: Option<Code>,
    /// New records.
    pub added: Vec<RecordName>,
    /// Fields of existing ones.
    pub changed: Vec<FieldChange>,
    /// What is gone.
    pub removed: Vec<RecordName>,
    /// For an import, in place of these.
    pub imported: Imported,
    /// For a what-if: what its consequences are worked out from.
    pub preview: Option<Preview>,
}

/// A change that may be written, and what it comes to.
pub(super) struct Plan {
    pub(super) change: Change,
    /// What each of its records was.
    pub(super) before: Vec<Before>,
    pub(super) outcome: Outcome,
}

/// What an edit expects to find.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    New,
    Existing,
    Either,
}

/// Plans one order, given at `now`.
pub(super) fn plan(
    transaction: &Transaction<'_>,
    compiler: &Compiler,
    order: Order,
    now: UnixSeconds,
) -> Result<Plan, Stop> {
    let mut planner = Planner {
        transaction,
        reader: transaction.reader(),
        compiler,
        now,
        pending: Pending::default(),
        places: FxHashMap::default(),
        outcome: Outcome::default(),
    };
    match order {
        Order::Add(edit) => planner.single(edit, Rule::New)?,
        Order::Set(edit) => planner.single(edit, Rule::Existing)?,
        Order::Remove(name) => planner.remove(&name)?,
        Order::Apply(apply) => planner.apply(apply)?,
        Order::Import(import) => planner.import(import)?,
        Order::WhatIf(what_if) => planner.what_if(what_if)?,
        Order::Rotate(rotate) => planner.rotate(rotate)?,
        Order::End(credentials) => planner.end_all(&credentials)?,
        Order::Sweep(sweep) => {
            let change = planner.sweep(sweep)?;
            return Ok(Plan { change, before: Vec::new(), outcome: planner.outcome });
        }
        Order::Upgrade(upgrade) => planner.upgrade(&upgrade)?,
    }
    let (change, before) = planner.pending.finish();
    Ok(Plan { change, before, outcome: planner.outcome })
}

/// Why there is no plan.
pub(super) enum Stop {
    /// This order is not carried out.
    Refused(Refusal),
    /// The database did not answer.
    Fault(StoreFault),
}

impl From<StoreFault> for Stop {
    fn from(fault: StoreFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Refused(Refusal::invalid(message))
    }
}

struct Merged {
    old: Option<Record>,
    new: Record,
    read_at: Revision,
}

struct Planner<'p, 's> {
    transaction: &'p Transaction<'s>,
    reader: Reader<'p>,
    compiler: &'p Compiler,
    now: UnixSeconds,
    pending: Pending,
    /// Index of the edit that each record of an apply was given by.
    places: FxHashMap<RecordKey, usize>,
    outcome: Outcome,
}

impl Planner<'_, '_> {
    fn single(&mut self, edit: Edit, rule: Rule) -> Result<(), Stop> {
        let key = self.edit(edit, rule)?;
        self.check_references()?;
        self.check_parents()?;
        self.outcome.record = self.read(&key)?.0;
        Ok(())
    }

    fn what_if(&mut self, what_if: WhatIf) -> Result<(), Stop> {
        match what_if {
            WhatIf::Set(edit) => self.single(edit, Rule::Existing)?,
            WhatIf::Remove(name) => self.remove(&name)?,
        }
        self.outcome.preview = Some(Preview::new(self.compiler, self.pending.records()));
        Ok(())
    }

    fn apply(&mut self, apply: Apply) -> Result<(), Stop> {
        for (index, edit) in apply.edits.into_iter().enumerate() {
            let place = |stop| match stop {
                Stop::Refused(Refusal::Invalid { index: None, message }) => {
                    Stop::Refused(Refusal::Invalid { index: Some(index), message })
                }
                other @ (Stop::Refused(_) | Stop::Fault(_)) => other,
            };
            let key = edit_key(&edit).ok_or_else(|| place("it needs an id".to_string().into()))?;
            if self.places.insert(key.clone(), index).is_some() {
                return Err(place(format!("{key} is listed twice").into()));
            }
            if !self.was_swept(&edit).map_err(place)? {
                self.edit(edit, Rule::Either).map_err(place)?;
            }
        }
        if apply.prune {
            for kind in apply.sections {
                self.prune(kind)?;
            }
        }
        self.check_references()?;
        self.check_parents()?;
        self.check_removed_agents()
    }

    /// Merges one edit with what is there and puts it among the pending records if it changes anything.
    fn edit(&mut self, edit: Edit, rule: Rule) -> Result<RecordKey, Stop> {
        let key = match edit_key(&edit) {
            Some(key) => key,
            None if rule == Rule::New => self.next_key(&edit)?,
            None => return Err("an id is needed".to_string().into()),
        };
        let Merged { old, new, read_at } = self.merged(&key, edit, rule)?;
        match &old {
            None => self.outcome.added.push(new.name()),
            Some(old) if *old == new => return Ok(key),
            Some(old) => self.outcome.changed.extend(difference::difference(old, &new)),
        }
        self.pending.put(key.clone(), old, new, read_at);
        Ok(key)
    }

    /// What is there, and what becomes of it.
    fn merged(&mut self, key: &RecordKey, edit: Edit, rule: Rule) -> Result<Merged, Stop> {
        let (old, read_at) = self.read(key)?;
        let old = old.filter(|old| !matches!(old, Record::Endpoint(endpoint) if endpoint.removed));
        expect(key, old.as_ref(), &edit, rule)?;
        if old.is_none() {
            self.expect_never_used(key)?;
        }
        let new = self.merge(key, old.as_ref(), edit, rule)?;
        if old.as_ref().is_some_and(|old| old.is_ended() && *old != new) {
            return Err(format!("{key} is revoked, for ever: nothing of it can be changed").into());
        }
        Ok(Merged { old, new, read_at })
    }

    /// The rows of expired tokens and sessions are taken away, and their ids are used up all the same.
    fn expect_never_used(&self, key: &RecordKey) -> Result<(), Stop> {
        match key {
            RecordKey::Credential(mode, id) if id.get() <= self.transaction.swept_through(*mode) => Err(format!(
                "{key} may have been used before: expired {mode}s up to {} were removed, and no id is used again; give a \
                 higher id, or take it out of the file",
                self.transaction.swept_through(*mode)
            )
            .into()),
            RecordKey::Credential(..) | RecordKey::Agent(_) | RecordKey::Endpoint(..) => Ok(()),
        }
    }

    fn merge(&mut self, key: &RecordKey, old: Option<&Record>, edit: Edit, rule: Rule) -> Result<Record, Stop> {
        let merged = match (edit, old, key) {
            (Edit::Agent(edit), old, RecordKey::Agent(id)) => {
                let old = old.and_then(|old| if let Record::Agent(agent) = old { Some(agent) } else { None });
                merge::agent(old, edit, *id).map(Record::Agent)
            }
            (Edit::Endpoint(edit), old, _) => {
                let old = old.and_then(|old| if let Record::Endpoint(endpoint) = old { Some(endpoint) } else { None });
                merge::endpoint(old, edit).map(Record::Endpoint)
            }
            (Edit::Credential(edit), old, RecordKey::Credential(_, id)) => {
                let old = old.and_then(|old| if let Record::Credential(c) = old { Some(c) } else { None });
                let made = self.make_code(*id, &edit, old.is_none() && rule == Rule::New)?;
                let pepper = self.compiler.directory().pepper();
                merge::credential(old, edit, *id, pepper, made).map(Record::Credential)
            }
            (Edit::Agent(_) | Edit::Credential(_), _, _) => Err("an id is needed".to_string()),
        };
        merged.map_err(|why| format!("{key}: {why}").into())
    }

    fn remove(&mut self, name: &RecordName) -> Result<(), Stop> {
        let key = name.key();
        let (old, read_at) = self.read(&key)?;
        let Some(old) = old else {
            return Err(missing(&name.to_string()).into());
        };
        if let (RecordName::Credential(..), true) = (name, old.is_ended()) {
            // Revoked is what was asked for.
            self.outcome.record = Some(old);
            return Ok(());
        }
        if old.is_ended() {
            return Err(missing(&name.to_string()).into());
        }
        self.end(key, old, read_at);
        self.check_removed_agents()
    }

    /// Puts a record's tombstone among the pending records.
    fn end(&mut self, key: RecordKey, record: Record, read_at: Revision) {
        self.outcome.removed.push(record.name());
        let before = Some(record.clone());
        let record = match record {
            Record::Agent(agent) => Record::Agent(crate::model::Agent { removed: true, ..agent }),
            Record::Endpoint(endpoint) => Record::Endpoint(crate::model::Endpoint { removed: true, ..endpoint }),
            Record::Credential(credential) => {
                let revoked = Record::Credential(crate::model::Credential { revoked: true, ..credential });
                self.outcome.record = Some(revoked.clone());
                revoked
            }
        };
        self.pending.put(key, before, record, read_at);
    }

    fn prune(&mut self, kind: Kind) -> Result<(), Stop> {
        let directory = self.compiler.directory();
        if directory.is_damaged(kind) {
            let why = format!("rows of {}s are damaged: what is not listed can't be told", kind.name());
            return Err(unavailable(why));
        }
        let live: Vec<RecordKey> = match kind {
            Kind::Endpoint => self.compiler.endpoint_keys().cloned().collect(),
            Kind::Agent => directory.live_ids(kind).into_iter().filter_map(Id::new).map(RecordKey::Agent).collect(),
            Kind::Credential(mode) => {
                let ids = directory.live_ids(kind).into_iter().filter_map(Id::new);
                ids.map(|id| RecordKey::Credential(mode, id)).collect()
            }
        };
        for key in live {
            if self.places.contains_key(&key) {
                continue;
            }
            if let (Some(old), read_at) = self.read(&key)? {
                self.end(key, old, read_at);
            }
        }
        Ok(())
    }

    fn read(&mut self, key: &RecordKey) -> Result<(Option<Record>, Revision), Stop> {
        if let Some((record, read_at)) = self.pending.get(key) {
            return Ok((Some(record.clone()), read_at));
        }
        match self.reader.get(key)? {
            Some((record, revision)) => Ok((Some(record), revision)),
            None if self.may_be_lost(key) => {
                let kind = key.kind().name();
                let why = "can't be found: rows are damaged, and its own may be among them; restore a backup";
                Err(unavailable(format!("{key} {why}, or give the {kind} another name or id")))
            }
            None => Ok((None, Revision(0))),
        }
    }

    /// Whether a record that was not found may have been there: the state in memory knows it, or rows of its kind are
    /// damaged, and its id is none that was never reached.
    fn may_be_lost(&self, key: &RecordKey) -> bool {
        let kind = key.kind();
        let may_be_old = key.id().is_none_or(|id| id.get() <= self.transaction.highest_id(kind));
        self.compiler.has(key) || may_be_old && self.compiler.directory().is_damaged(kind)
    }

    /// 1 + the highest id ever used of the kind.
    fn next_key(&self, edit: &Edit) -> Result<RecordKey, Stop> {
        let (kind, key): (Kind, fn(Mode, Id) -> RecordKey) = match edit {
            Edit::Agent(_) => (Kind::Agent, |_, id| RecordKey::Agent(id)),
            Edit::Credential(edit) => (Kind::Credential(edit.mode), RecordKey::Credential),
            Edit::Endpoint(_) => return Err("an endpoint is named by method and path".to_string().into()),
        };
        let mode = if let Edit::Credential(edit) = edit { edit.mode } else { Mode::Key };
        let next = Id::new(self.transaction.highest_id(kind) + 1);
        let name = kind.name();
        let next = next.ok_or_else(|| {
            format!("no {name} id is left: the highest possible one was used; give one that was never used with --id")
        })?;
        Ok(key(mode, next))
    }
}

/// What names the record of an edit; `None` when the id was left out.
fn edit_key(edit: &Edit) -> Option<RecordKey> {
    match edit {
        Edit::Agent(edit) => edit.id.map(RecordKey::Agent),
        Edit::Endpoint(edit) => Some(RecordKey::Endpoint(edit.method.clone(), edit.template.shape().to_string())),
        Edit::Credential(edit) => edit.id.map(|id| RecordKey::Credential(edit.mode, id)),
    }
}

/// Whether what is there is what the edit expects.
fn expect(key: &RecordKey, old: Option<&Record>, edit: &Edit, rule: Rule) -> Result<(), Stop> {
    let Some(old) = old else {
        return if rule == Rule::Existing { Err(missing(&key.to_string()).into()) } else { Ok(()) };
    };
    let why = match (old, rule) {
        (Record::Agent(agent), _) if agent.removed => {
            format!("{key} was removed: its id is never used again; give another")
        }
        (Record::Credential(credential), Rule::New) if credential.revoked => {
            format!("{key} was revoked: its id is never used again; give another")
        }
        (Record::Credential(credential), Rule::Existing) if credential.revoked => {
            format!("{key} is revoked, for ever: it can't be changed")
        }
        (Record::Credential(credential), Rule::Either) if credential.revoked && !keeps_revoked(edit) => {
            format!("{key} is revoked, for ever: say so with \"revoked\": true, or take it out of the file")
        }
        (_, Rule::New) => format!("{key} is there already: change it with set, or give another id"),
        (_, Rule::Existing | Rule::Either) => return Ok(()),
    };
    Err(why.into())
}

const fn keeps_revoked(edit: &Edit) -> bool {
    matches!(edit, Edit::Credential(CredentialEdit { revoked: Some(true), .. }))
}

fn missing(what: &str) -> String {
    format!("there is no {what}")
}
