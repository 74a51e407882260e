//! The single writer: gathers what waits, one transaction for all of it, then publish, then acknowledge.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

use super::plan::{self, Order, Outcome, Refusal, Stop};
use super::uses::Place;
use super::{Shared, Stage};
use crate::directory::{Compiler, Lookup};
use crate::model::{Change, Record, Revision};
use crate::store::{Head, Loaded, StoreFault};
use crate::tags::TagSet;

/// Orders that share one transaction, at most: a bound on how long the first of them waits.
const GROUP_ORDERS_MAX: usize = 1024;
/// How long a group waits for as many orders as the one before it had. Callers that were acknowledged together order again
/// together, within a few wake-ups; without this the first of them has a commit for itself, which the others wait out.
const GATHER_MAX: Duration = Duration::from_micros(300);
/// How often last uses are stored.
const USES_FLUSH_INTERVAL: Duration = Duration::from_secs(60);
/// How long a stop waits for last uses to be stored; a million take less.
const STOP_FLUSH_MAX: Duration = Duration::from_secs(20);

/// An order and where its outcome goes.
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// The state that only the writer's thread touches.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) compiler: Compiler,
    pub(super) head: Head,
    /// Sets that no record uses; their rows go with the next commit.
    pub(super) unused_sets: Vec<Arc<TagSet>>,
    /// How many orders the last group had.
    pub(super) last_group: usize,
    /// A storage fault came up: the database must be reopened before the next commit.
    pub(super) must_reopen: bool,
}

/// An order that was carried out, and the change it came to.
struct Written {
    outcome: Outcome,
    change: Option<(Change, Revision)>,
}

impl Writer {
    /// Serves until every sender is gone, then stores the last uses.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut next_round = Instant::now() + USES_FLUSH_INTERVAL;
        let mut round: Option<Place> = None;
        let mut held: Option<Job> = None;
        loop {
            // Between the parts of a round nothing is waited for.
            let until = if round.is_some() { Instant::now() } else { next_round };
            let first = match held.take() {
                Some(job) => Ok(job),
                None => jobs.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(job) => held = self.serve_group(job, jobs),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next_round {
                round = round.or_else(|| Some(Place::default()));
                next_round = Instant::now() + USES_FLUSH_INTERVAL;
            }
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
    }

    /// Carries out `first` and what waits behind it. Returns an order that must stand alone, to be next.
    fn serve_group(&mut self, first: Job, jobs: &Receiver<Job>) -> Option<Job> {
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
                    Some(job) if job.order.stands_alone() => {
                        held = Some(job);
                        break;
                    }
                    Some(job) => group.push(job),
                    None => break,
                }
            }
        }
        self.last_group = group.len();
        self.commit_group(group);
        held
    }

    fn commit_group(&mut self, group: Vec<Job>) {
        let (orders, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|job| (job.order, job.reply)).unzip();
        let upgraded: Vec<_> = orders.iter().filter_map(Order::upgraded).collect();
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

    /// Plans every order, writes those that are not refused, and commits.
    fn write(&mut self, orders: Vec<Order>) -> Result<Vec<Result<Written, Refusal>>, StoreFault> {
        let shared = Arc::clone(&self.shared);
        let mut transaction = shared.store.begin(&self.head)?;
        if !self.unused_sets.is_empty() {
            transaction.drop_sets(&self.unused_sets)?;
        }
        let mut results = Vec::with_capacity(orders.len());
        let mut anything = false;
        for order in orders {
            let dry_run = order.is_dry_run();
            results.push(match plan::plan(&transaction, &self.compiler, order) {
                Ok(plan) if dry_run || plan.change.records.is_empty() => {
                    Ok(Written { outcome: plan.outcome, change: None })
                }
                Ok(plan) => {
                    let revision = transaction.put(&plan.change)?;
                    anything = true;
                    Ok(Written { outcome: plan.outcome, change: Some((plan.change, revision)) })
                }
                Err(Stop::Refused(refusal)) => Err(refusal),
                Err(Stop::Fault(fault @ StoreFault::Storage(_))) => return Err(fault),
                Err(Stop::Fault(fault)) => Err(Refusal::Unavailable(fault.to_string())),
            });
        }
        if anything {
            self.head = transaction.commit(self.shared.reading.clock.now())?;
            self.unused_sets.clear();
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
        // Together as far as no record comes twice: keys that were added one after the other share a leaf.
        let (mut together, mut keys) = (Vec::new(), FxHashSet::default());
        for record in changes.iter().flat_map(|(change, _)| &change.records) {
            if changes.len() > 1 && !keys.insert(record.key()) {
                self.unused_sets.extend(self.compiler.apply(together.drain(..), self.head.revision()));
                keys = FxHashSet::from_iter([record.key()]);
            }
            together.push(record);
        }
        self.unused_sets.extend(self.compiler.apply(together, self.head.revision()));
        // What one change of the group left another may have taken up.
        let compiler = &self.compiler;
        self.unused_sets.retain(|set| !compiler.uses_set(set));
        self.shared.publish(&self.compiler, &self.head);
        self.shared.observe(Stage::Published);
    }

    fn note_fault(&mut self, fault: &StoreFault) {
        tracing::error!(%fault, "a change was not stored; the database is reopened before the next one");
        self.must_reopen = true;
        self.shared.set_writable(false);
    }

    /// After a storage fault: reopens the database and takes its state over, for a commit that failed may be there.
    fn ensure_open(&mut self) -> Result<(), StoreFault> {
        if !self.must_reopen {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let directory = self.compiler.directory();
        let mut compiler = Compiler::new(directory.shared_pepper());
        let loaded = shared
            .store
            .reopen(directory.pepper(), &mut |records| compiler.load(records))
            .map_err(|error| StoreFault::Storage(error.to_string()))?;
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
    }

    /// Stores the next part of the last uses that wait. False when none is left, or it can't be stored and waits on.
    fn store_uses(&mut self, place: &mut Place) -> bool {
        let shared = Arc::clone(&self.shared);
        let (uses, now) = (&shared.reading.uses, shared.reading.clock.now());
        let directory = self.compiler.directory();
        let current = |mode, id| match directory.credential(mode, id) {
            Lookup::Found(credential) => Some(credential.hash().mark()),
            Lookup::Absent | Lookup::Damaged => None,
        };
        let Some(part) = uses.next_part(place, now, current) else {
            return false;
        };
        let stored = self.ensure_open().and_then(|()| {
            caught(|| {
                let mut transaction = shared.store.begin(&self.head)?;
                transaction.put_uses(part.uses.iter().copied())?;
                transaction.commit(now)
            })
        });
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

fn log((change, revision): &(Change, Revision)) {
    let first = change.records.first().map(Record::key);
    let first = first.map(|key| key.to_string()).unwrap_or_default();
    tracing::info!(revision = revision.0, records = change.records.len(), first, "changed");
}

/// redb may panic over a file that was damaged: a fault as others, after which the database is reopened. The writer's
/// own state moves only after a commit.
fn caught<T>(write: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
        let what = "its structure can't be followed; restore a backup, and keep the damaged file for examination";
        Err(StoreFault::Storage(what.to_string()))
    })
}
