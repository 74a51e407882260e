//! The single writer: gathers what waits, one transaction for all of it, then publish, then acknowledge.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

use super::audit::{Note, Origin};
use super::marks::Marks;
use super::plan::{self, Order, Outcome, Refusal, Stop};
use super::uses::Place;
use super::{Reading, Shared, Stage};
use crate::directory::{Compiler, Directory, Lookup};
use crate::model::{Change, CodeMark, Credential, Id, LastUses, Mode, Record, Revision, UnixSeconds};
use crate::store::{Head, Loaded, StoreFault};
use crate::tags::TagSet;

/// Orders that share one transaction, at most: a bound on how long the first of them waits.
const GROUP_ORDERS_MAX: usize = 1024;
/// How long a group waits for as many orders as the one before it had. Callers that were acknowledged together order again
/// together, within a few wake-ups; without this the first of them has a commit for itself, which the others wait out.
const GATHER_MAX: Duration = Duration::from_micros(300);
/// How often last uses are stored.
const USES_FLUSH_INTERVAL: Duration = Duration::from_secs(60);
/// How often first uses of codes are stored, so that who has made a key soon sees it used.
const FIRST_USES_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stop waits for last uses to be stored; a million take less.
const STOP_FLUSH_MAX: Duration = Duration::from_secs(20);

/// What the writer is asked for.
pub(super) enum Job {
    /// A change.
    Order(Box<Ordered>),
    /// To drop the audit records that are not to be kept any more.
    DropOldAudit,
}

/// An order, whose it is, and where its outcome goes.
pub(super) struct Ordered {
    pub(super) order: Order,
    pub(super) origin: Origin,
    pub(super) reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// The state that only the writer's thread touches.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) compiler: Compiler,
    pub(super) head: Head,
    pub(super) marks: Marks,
    /// Sets that no record uses; their rows go with the next commit.
    pub(super) unused_sets: Vec<Arc<TagSet>>,
    /// How many orders the last group had.
    pub(super) last_group: usize,
    /// A storage fault came up: the database must be reopened before the next commit.
    pub(super) must_reopen: bool,
}

/// An order that was carried out, and the change it came to.
pub(super) struct Written {
    outcome: Outcome,
    pub(super) change: Option<(Change, Revision)>,
}

impl Writer {
    /// Serves until every sender is gone, then stores the last uses.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut next_round = Instant::now() + USES_FLUSH_INTERVAL;
        let mut next_first = Instant::now() + FIRST_USES_INTERVAL;
        let mut round: Option<Place> = None;
        let mut held: Option<Job> = None;
        let mut audit_is_old = false;
        loop {
            // Between the parts of a round nothing is waited for.
            let is_busy = round.is_some() || audit_is_old;
            let until = if is_busy { Instant::now() } else { next_round.min(next_first) };
            let first = match held.take() {
                Some(job) => Ok(job),
                None => jobs.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(Job::Order(first)) => held = self.serve_group(*first, jobs),
                Ok(Job::DropOldAudit) => audit_is_old = true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next_first {
                self.store_first_uses();
                next_first = Instant::now() + FIRST_USES_INTERVAL;
            }
            if Instant::now() >= next_round {
                round = round.or_else(|| Some(Place::default()));
                next_round = Instant::now() + USES_FLUSH_INTERVAL;
                audit_is_old = true;
            }
            audit_is_old = audit_is_old && self.drop_old_audit();
            if let Some(place) = &mut round
                && !self.store_uses(place)
            {
                round = None;
            }
        }
        let (mut place, stop_at) = (Place::default(), Instant::now() + STOP_FLUSH_MAX);
        while self.store_uses(&mut place) {
            if Instant::now() >= stop_at {
                tracing::warn!("the stop came before all last uses were stored: some credentials' are of a minute ago");
                break;
            }
        }
        self.sync_watermark();
    }

    /// Carries out `first` and what waits behind it. Returns an order that must stand alone, to be next.
    fn serve_group(&mut self, first: Ordered, jobs: &Receiver<Job>) -> Option<Job> {
        let mut group = vec![first];
        let mut held = None;
        if !group[0].order.stands_alone() {
            let gathered = Instant::now() + GATHER_MAX;
            while group.len() < GROUP_ORDERS_MAX {
                let next = if group.len() < self.last_group {
                    jobs.recv_timeout(gathered.saturating_duration_since(Instant::now())).ok()
                } else {
                    jobs.try_recv().ok()
                };
                match next {
                    Some(Job::Order(next)) if !next.order.stands_alone() => group.push(*next),
                    Some(other) => {
                        held = Some(other);
                        break;
                    }
                    None => break,
                }
            }
        }
        self.last_group = group.len();
        self.commit_group(group);
        held
    }

    fn commit_group(&mut self, group: Vec<Ordered>) {
        let (orders, replies): (Vec<_>, Vec<_>) =
            group.into_iter().map(|ordered| ((ordered.order, ordered.origin), ordered.reply)).unzip();
        let upgraded: Vec<_> = orders.iter().filter_map(|(order, _)| order.upgraded()).collect();
        let results =
            self.ensure_open().and_then(|()| caught(|| self.write(orders)).inspect_err(|fault| self.note_fault(fault)));
        match results {
            Ok(results) => {
                self.publish(&results);
                let mut changes = Vec::new();
                for (reply, result) in replies.into_iter().zip(results) {
                    // Whoever asked may be gone; the change stands.
                    let _ = reply.send(result.map(|written| {
                        changes.extend(written.change);
                        written.outcome
                    }));
                }
                self.shared.observe(Stage::Acknowledged);
                self.shared.tell_audit(&self.head);
                self.shared.reading.upgrades.done(upgraded.into_iter());
                // Nobody waits for the log.
                changes.iter().for_each(log);
            }
            Err(fault) => {
                for reply in replies {
                    let _ = reply.send(Err(Refusal::Unavailable(fault.to_string())));
                }
            }
        }
    }

    /// Plans every order, writes those that are not refused with their audit records, and commits.
    fn write(&mut self, orders: Vec<(Order, Origin)>) -> Result<Vec<Result<Written, Refusal>>, StoreFault> {
        let shared = Arc::clone(&self.shared);
        let now = shared.reading.clock.now();
        let mut transaction = shared.store.begin(&self.head)?;
        if !self.unused_sets.is_empty() {
            transaction.drop_sets(&self.unused_sets)?;
        }
        let mut results = Vec::with_capacity(orders.len());
        let mut anything = false;
        for (order, origin) in orders {
            let (action, dry_run) = (order.action(), order.is_dry_run());
            results.push(match plan::plan(&transaction, &self.compiler, order, now) {
                Ok(plan) if dry_run || plan.change.is_empty() => Ok(Written { outcome: plan.outcome, change: None }),
                Ok(plan) => {
                    let revision = transaction.put(&plan.change)?;
                    let note = Note { at: now, revision, origin, action };
                    note.write(&mut transaction, &plan.change, &plan.before)?;
                    anything = true;
                    Ok(Written { outcome: plan.outcome, change: Some((plan.change, revision)) })
                }
                Err(Stop::Refused(refusal)) => Err(refusal),
                Err(Stop::Fault(fault @ StoreFault::Storage(_))) => return Err(fault),
                Err(Stop::Fault(fault)) => Err(Refusal::Unavailable(fault.to_string())),
            });
        }
        if anything {
            self.head = self.shared.commits.time(|| transaction.commit(now))?;
            self.unused_sets.clear();
            self.note_commit(&results);
            self.shared.observe(Stage::Committed);
        }
        Ok(results)
    }

    /// Shows the committed changes to every question that is received from now on.
    fn publish(&mut self, results: &[Result<Written, Refusal>]) {
        let changes: Vec<_> = results.iter().flatten().filter_map(|written| written.change.as_ref()).collect();
        if changes.is_empty() {
            return;
        }
        let began = Instant::now();
        let records = || changes.iter().flat_map(|(change, _)| &change.records);
        let directory = self.compiler.directory();
        let replaced: Vec<_> = records().filter_map(|record| replaced_code(directory, record)).collect();
        // Together as far as no record comes twice: keys that were added one after the other share a leaf.
        let (mut together, mut keys) = (Vec::new(), FxHashSet::default());
        for record in records() {
            if changes.len() > 1 && !keys.insert(record.key()) {
                self.unused_sets.extend(self.compiler.apply(together.drain(..), self.head.revision()));
                keys = FxHashSet::from_iter([record.key()]);
            }
            together.push(record);
        }
        self.unused_sets.extend(self.compiler.apply(together, self.head.revision()));
        // An order that takes rows away stands alone.
        for (change, _) in changes.iter().filter(|(change, _)| !change.removed.is_empty()) {
            self.unused_sets.extend(self.compiler.remove(&change.removed, self.head.revision()));
        }
        // What one change of the group left another may have taken up.
        let compiler = &self.compiler;
        self.unused_sets.retain(|set| !compiler.uses_set(set));
        self.shared.publish(&self.compiler, &self.head);
        self.shared.publishes.observe(began.elapsed());
        let Reading { uses, clock, .. } = &self.shared.reading;
        for (mode, id, code) in replaced {
            uses.set_aside((mode, id), code, clock.now());
        }
        self.shared.observe(Stage::Published);
    }

    pub(super) fn note_fault(&mut self, fault: &StoreFault) {
        tracing::error!(%fault, "a change was not stored; the database is reopened before the next one");
        self.must_reopen = true;
        self.shared.set_writable(false);
    }

    /// After a storage fault: reopens the database and takes its state over, for a commit that failed may be there.
    pub(super) fn ensure_open(&mut self) -> Result<(), StoreFault> {
        if !self.must_reopen {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let directory = self.compiler.directory();
        let mut compiler = Compiler::in_place_of(directory);
        let loaded = shared
            .store
            .reopen(directory.pepper(), &mut |records| compiler.load(records))
            .map_err(|error| StoreFault::Storage(error.to_string()))?;
        let taken = self.marks.watermark.take_over(&shared.store, &loaded.head);
        taken.map_err(|error| StoreFault::Storage(error.to_string()))?;
        tracing::info!(revision = loaded.head.revision().0, "the database was reopened");
        self.compiler = compiler;
        self.take_over(loaded);
        self.must_reopen = false;
        self.shared.set_writable(true);
        Ok(())
    }

    /// Shows the state that was loaded into the compiler.
    pub(super) fn take_over(&mut self, loaded: Loaded) {
        let Loaded { head, unused_sets, damage } = loaded;
        for damage in &damage {
            tracing::error!("{damage}");
            match damage.table.kind() {
                Some(kind) if damage.broken => self.compiler.forget(kind),
                Some(kind) => self.compiler.mark_damaged(kind),
                None => {}
            }
        }
        self.compiler.finish_load(head.revision());
        self.shared.set_alarms(damage.iter().map(ToString::to_string).collect());
        self.shared.reading.clock.advance(head.committed_at());
        self.head = head;
        self.unused_sets = unused_sets;
        self.shared.publish(&self.compiler, &self.head);
        self.shared.tell_audit(&self.head);
    }

    /// Stores the uses of codes that were never used before. What can't be stored waits for the round.
    fn store_first_uses(&mut self) {
        if self.must_reopen {
            return;
        }
        let (shared, now) = (Arc::clone(&self.shared), self.shared.reading.clock.now());
        let uses = shared.reading.uses.take_first(now, current_code(self.compiler.directory()));
        if uses.is_empty() {
            return;
        }
        let stored = caught(|| {
            let first = shared.store.without_stored(uses)?;
            if first.is_empty() {
                return Ok(None);
            }
            self.commit_uses(first, now).map(Some)
        });
        match stored {
            Ok(Some(head)) => self.head = head,
            Ok(None) => {}
            Err(fault) => self.note_fault(&fault),
        }
    }

    /// Commits last uses. What was swept meanwhile gets no row again.
    fn commit_uses(
        &self,
        uses: impl IntoIterator<Item = (Mode, Id, LastUses)>,
        now: UnixSeconds,
    ) -> Result<Head, StoreFault> {
        let directory = self.compiler.directory();
        let known = |mode, id: Id| !matches!(directory.credential(mode, id.get()), Lookup::Absent);
        let mut transaction = self.shared.store.begin(&self.head)?;
        transaction.put_uses(uses.into_iter().filter(|(mode, id, _)| known(*mode, *id)))?;
        self.shared.commits.time(|| transaction.commit(now))
    }

    /// Stores the next part of the last uses that wait. False when none is left, or it can't be stored and waits on.
    fn store_uses(&mut self, place: &mut Place) -> bool {
        let shared = Arc::clone(&self.shared);
        let (uses, now) = (&shared.reading.uses, shared.reading.clock.now());
        let Some(part) = uses.next_part(place, now, current_code(self.compiler.directory())) else {
            return false;
        };
        let stored = self.ensure_open().and_then(|()| caught(|| self.commit_uses(part.uses.iter().copied(), now)));
        match stored {
            Ok(head) => {
                self.head = head;
                uses.stored(&part);
                true
            }
            Err(fault) => {
                uses.put_back(part);
                self.note_fault(&fault);
                false
            }
        }
    }
}

/// Tells the current code of a credential.
fn current_code(directory: &Directory) -> impl Fn(Mode, u64) -> Option<CodeMark> {
    |mode, id| match directory.credential(mode, id) {
        Lookup::Found(credential) => Some(credential.hash().mark()),
        Lookup::Absent | Lookup::Damaged => None,
    }
}

/// The credential and its current code until now, when another code takes its place with this record.
fn replaced_code(directory: &Directory, record: &Record) -> Option<(Mode, Id, CodeMark)> {
    let Record::Credential(Credential { mode, id, codes, .. }) = record else { return None };
    match directory.credential(*mode, id.get()) {
        Lookup::Found(known) if *known.hash() != codes.current => Some((*mode, *id, known.hash().mark())),
        Lookup::Found(_) | Lookup::Absent | Lookup::Damaged => None,
    }
}

fn log((change, revision): &(Change, Revision)) {
    if !change.removed.is_empty() {
        // Whoever sweeps says how many in all.
        tracing::debug!(revision = revision.0, removed = change.removed.len(), "expired rows were removed");
        return;
    }
    let first = change.records.first().map(Record::key);
    let first = first.map(|key| key.to_string()).unwrap_or_default();
    tracing::info!(revision = revision.0, records = change.records.len(), first, "changed");
}

/// redb may panic over a file that was damaged: a fault as others, after which the database is reopened. The writer's
/// own state moves only after a commit.
pub(super) fn caught<T>(write: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
        let what = "its structure can't be followed; restore a backup, and keep the damaged file for examination";
        Err(StoreFault::Storage(what.to_string()))
    })
}
