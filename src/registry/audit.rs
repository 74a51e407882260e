//! The audit: what is written of a change, in the change's own transaction, and how it is read and kept.

use std::sync::{Arc, PoisonError};

use serde::{Serialize, Serializer};

use super::plan::{Before, FieldValue, Fields, differing, fields};
use super::writer::{Job, Writer, caught};
use super::{Registry, Shared};
use crate::model::{Binding, Change, Id, Kind, Mode, Record, RecordName, Revision, UnixSeconds};
use crate::store::{AuditCheck, AuditPage, Head, Retention, StoreFault, Transaction};

/// A record of the audit ends behind the change that takes it to so many bytes; what is left goes into the next one. So
/// its row fits the 32 KiB page that redb keeps for it, but for a single change that is longer, and an apply of a million
/// needs no room at once.
const TEXT_BYTES: usize = 30 * 1024;
/// What stands for a code.
const HIDDEN: &str = "(hidden)";

/// Who ordered a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The daemon itself.
    Daemon,
    /// Whoever is at the other end of the socket.
    Peer(Peer),
}

/// The other end of a socket, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The process that connected, where the kernel knows it.
    pub pid: Option<i32>,
}

/// What was done, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Add,
    Set,
    Remove,
    Apply,
    Import,
    Rotate,
    /// All sessions, or tokens, of an agent.
    Close,
    /// Of what expired long ago.
    Sweep,
    /// Another system's hash, to Keyward's own.
    Upgrade,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Set => "set",
            Self::Remove => "remove",
            Self::Apply => "apply",
            Self::Import => "import",
            Self::Rotate => "rotate",
            Self::Close => "close",
            Self::Sweep => "sweep",
            Self::Upgrade => "upgrade",
        }
    }
}

/// What is noted of a change beside what it changed.
#[derive(Clone, Copy)]
pub(super) struct Note {
    pub(super) at: UnixSeconds,
    pub(super) revision: Revision,
    pub(super) origin: Origin,
    pub(super) action: Action,
}

/// What a record's text begins with, in this order.
#[derive(Serialize)]
struct Heading {
    seq: u64,
    at: u64,
    revision: u64,
    uid: Option<u32>,
    gid: Option<u32>,
    pid: Option<i32>,
    action: &'static str,
    part: u32,
    more: bool,
}

impl Note {
    /// Writes what became of a change's records, which were what `before` says, in as many records as that needs.
    pub(super) fn write(
        &self,
        transaction: &mut Transaction<'_>,
        change: &Change,
        before: &[Before],
    ) -> Result<(), StoreFault> {
        let put = change.records.iter().zip(before);
        let put = put.map(|(record, before)| Entry::new(before.as_deref(), record, self.action));
        let mut entries = put.chain(change.removed.iter().map(|(mode, id)| Entry::taken_away(*mode, *id))).peekable();
        let mut changes = String::new();
        let mut part = 1;
        while let Some(entry) = entries.next() {
            if !changes.is_empty() {
                changes.push(',');
            }
            changes.push_str(&json(&entry));
            let more = entries.peek().is_some();
            if changes.len() >= TEXT_BYTES || !more {
                transaction.append_audit(self.at, &self.text(transaction.audit().last + 1, part, more, &changes))?;
                changes.clear();
                part += 1;
            }
        }
        Ok(())
    }

    fn text(&self, seq: u64, part: u32, more: bool, changes: &str) -> String {
        let peer = match self.origin {
            Origin::Daemon => None,
            Origin::Peer(peer) => Some(peer),
        };
        let heading = json(&Heading {
            seq,
            at: self.at.0,
            revision: self.revision.0,
            uid: peer.map(|peer| peer.uid),
            gid: peer.map(|peer| peer.gid),
            pid: peer.and_then(|peer| peer.pid),
            action: self.action.word(),
            part,
            more,
        });
        let open = heading.strip_suffix('}').unwrap_or(&heading);
        format!("{open},\"changes\":[{changes}]}}")
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the forms hold strings, numbers and lists, and string keys only")
}

/// One record's part in a change: the fields that differ, before and after. All of them where one side is nothing.
#[derive(Serialize)]
struct Entry {
    kind: &'static str,
    id: EntryId,
    from: Option<Side>,
    to: Option<Side>,
}

/// A number, but `"GET /path"` for an endpoint, as in the report of an apply.
struct EntryId(RecordName);

struct Side(Fields);

impl Entry {
    fn new(before: Option<&Record>, after: &Record, action: Action) -> Self {
        let gone = after.is_ended() && matches!(after.kind(), Kind::Agent | Kind::Endpoint);
        let (from, to) = match before {
            None if action == Action::Import => (None, Some(told_of_imported(after))),
            None => (None, Some(fields(after))),
            Some(before) if gone => (Some(fields(before)), None),
            Some(before) => {
                let differing = differing(before, after).into_iter();
                let (from, to) = differing.map(|(field, from, to)| ((field, from), (field, to))).unzip();
                (Some(from), Some(to))
            }
        };
        // A new record's fields were nothing, and so was what is nothing now.
        let whole = from.is_none() || to.is_none();
        let side = |mut fields: Fields| {
            fields.retain(|(_, value)| !whole || *value != FieldValue::Null);
            Side(fields)
        };
        Self { kind: after.kind().name(), id: EntryId(after.name()), from: from.map(side), to: to.map(side) }
    }

    /// A row that denied by its expiry and is gone.
    const fn taken_away(mode: Mode, id: Id) -> Self {
        let from = Some(Side(Vec::new()));
        Self { kind: mode.name(), id: EntryId(RecordName::Credential(mode, id)), from, to: None }
    }
}

/// Of the millions that an import may bring: whom they act as and what they may do, where it is not the usual.
fn told_of_imported(record: &Record) -> Fields {
    let Record::Credential(credential) = record else { return fields(record) };
    let mut told = match credential.binding {
        Binding::Agent(id) => vec![("agent", FieldValue::Number(id.get()))],
        Binding::Superuser { default } => {
            let default = default.map(|id| ("default_agent", FieldValue::Number(id.get())));
            [("superuser", FieldValue::Bool(true))].into_iter().chain(default).collect()
        }
    };
    told.extend(credential.parent.map(|(mode, id)| ("parent", FieldValue::Text(format!("{mode} {id}")))));
    let tags = credential.tags.to_string();
    told.extend((tags != "*").then_some(("tags", FieldValue::Text(tags))));
    told.extend((!credential.enabled).then_some(("enabled", FieldValue::Bool(false))));
    told.extend(credential.revoked.then_some(("revoked", FieldValue::Bool(true))));
    told
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            RecordName::Agent(id) | RecordName::Credential(_, id) => serializer.serialize_u64(id.get()),
            RecordName::Endpoint(method, template) => serializer.collect_str(&format_args!("{method} {template}")),
        }
    }
}

impl Serialize for Side {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(field, value)| (field, Value(value))))
    }
}

struct Value<'f>(&'f FieldValue);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            FieldValue::Null => serializer.serialize_unit(),
            FieldValue::Bool(value) => serializer.serialize_bool(*value),
            FieldValue::Number(value) => serializer.serialize_u64(*value),
            FieldValue::Text(value) => serializer.serialize_str(value),
            FieldValue::List(values) => serializer.collect_seq(values),
            FieldValue::Map(pairs) => serializer.collect_map(pairs.iter().map(|(name, value)| (name, value))),
            FieldValue::Hidden => serializer.serialize_str(HIDDEN),
        }
    }
}

impl Shared {
    /// Wakes whoever waits for audit records.
    pub(super) fn tell_audit(&self, head: &Head) {
        let last = head.audit().last;
        self.audited.send_if_modified(|told| std::mem::replace(told, last) != last);
    }

    fn retention(&self) -> Retention {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Reads audit records behind number `after`, none of before `since`. Blocks on the disk.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn audit(&self, after: u64, since: UnixSeconds) -> Result<AuditPage, StoreFault> {
        self.shared.store.audit_page(after, since)
    }

    /// Waits until there is an audit record behind number `after`. Holds nothing of the database meanwhile.
    pub async fn audit_beyond(&self, after: u64) {
        let mut told = self.shared.audited.subscribe();
        // The sender lives as long as the registry.
        let _ = told.wait_for(|last| *last > after).await;
    }

    /// Begins a walk along the whole audit.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn begin_audit_check(&self) -> Result<AuditCheck, StoreFault> {
        self.shared.store.begin_audit_check()
    }

    /// The next part of a walk; false at its end. Blocks on the disk.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn check_audit(&self, check: &mut AuditCheck) -> Result<bool, StoreFault> {
        self.shared.store.check_audit(check)
    }

    /// How long audit records are kept from now on; without this, for ever.
    pub fn set_retention(&self, retention: Retention) {
        *self.shared.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention;
        if let Some(jobs) = &self.jobs {
            // A writer that is gone drops nothing more.
            let _ = jobs.send(Job::DropOldAudit);
        }
    }
}

impl Writer {
    /// Drops some of the audit records that are not to be kept, in a transaction of its own. False when none is left.
    pub(super) fn drop_old_audit(&mut self) -> bool {
        let (mut keep, clock) = (self.shared.retention(), &self.shared.reading.clock);
        if keep == Retention::FOR_EVER {
            return false;
        }
        let until = self.shared.deletion_time.now(clock).unwrap_or_else(|| {
            // Their size alone counts.
            keep.age = Retention::FOR_EVER.age;
            UnixSeconds(0)
        });
        let now = clock.now();
        let shared = Arc::clone(&self.shared);
        let dropped = self.ensure_open().and_then(|()| {
            caught(|| {
                let mut transaction = shared.store.begin(&self.head)?;
                match transaction.drop_old_audit(until, &keep)? {
                    0 => Ok(None),
                    rows => transaction.commit(now).map(|head| Some((rows, head))),
                }
            })
        });
        match dropped {
            Ok(None) => false,
            Ok(Some((rows, head))) => {
                self.head = head;
                let oldest = self.head.audit().before + 1;
                tracing::info!(rows, oldest, "audit records were dropped, being older than is kept");
                true
            }
            Err(fault) => {
                self.note_fault(&fault);
                false
            }
        }
    }
}
