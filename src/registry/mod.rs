//! Owns store and directory: `view` reads, `order` is the way to the single writer.
//!
//! Promise 2.5 rests on three lines in `writer.rs`: a change is committed (durable), then published (one pointer swap),
//! then acknowledged. A reader takes the published state after it has read its socket, so a question that was sent
//! after an acknowledgement can't be answered from the state before.

mod audit;
mod clock;
mod histogram;
mod marks;
mod plan;
mod priority;
mod proofs;
mod reading;
mod sweep;
mod trust;
mod upgrades;
mod uses;
mod wanted;
mod what_if;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use audit::{Origin, Peer, accept_clock};
pub use histogram::{BOUNDS_NANOS, Histogram, Observed};
pub use plan::{Apply, FieldChange, FieldValue, Import, Imported, Order, Outcome, Refusal, Rotate, Rotation, Sweep};
use proofs::Pool;
pub use proofs::Settled;
pub use reading::{Counts, Reading, View};
pub use wanted::Wanted;
pub use what_if::{Preview, WhatIf};

pub use crate::decide::{
    Asker, BATCH_TARGETS_MAX, Comparison, Difference, Effect, Explanation, Inquiry, ReachPage, Reachable, Step,
    StepResult, Stop, Target, Unreached, Upgrade, WantedProof,
};
use crate::directory::Compiler;
pub use crate::directory::Lookup;
use crate::model::{Kind, Mode, Pepper, Record, RecordName, Revision, UnixSeconds};
pub use crate::store::{
    AuditCheck, AuditFault, AuditPage, Backup, BackupPart, DATABASE_FILE, Export, ExportPart, Listed, OpenError, Page,
    Retention, StoreFault,
};
use crate::store::{Head, Loaded, Store, Take, Watermark};
use marks::Marks;
use sweep::Sweeper;
use trust::DeletionTime;
use writer::{Job, Ordered, Writer};

/// A clock that is set back by a time service moves by less.
const CLOCK_BEHIND_ALARM_SECONDS: u64 = 60;

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is durable.
    Committed,
    /// Every question that is received from now on is answered from it.
    Published,
    /// Whoever ordered it knows.
    Acknowledged,
}

/// Told of each [`Stage`] on the writer's thread; while it runs, the writer waits.
pub type Observer = Box<dyn Fn(Stage) + Send + Sync>;

/// What readers and the writer share.
struct Shared {
    store: Store,
    reading: Reading,
    writable: AtomicBool,
    alarms: Mutex<Vec<String>>,
    /// Beside the others, which are set anew when the database is reopened.
    watermark_alarm: marks::Alarm,
    observer: Observer,
    /// The number of the last audit record whose change was acknowledged.
    audited: watch::Sender<u64>,
    retention: Mutex<Retention>,
    deletion_time: DeletionTime,
    commits: Histogram,
    publishes: Histogram,
}

impl Shared {
    fn observe(&self, stage: Stage) {
        (self.observer)(stage);
    }

    fn publish(&self, compiler: &Compiler, head: &Head) {
        let rows = |mode| head.rows(Kind::Credential(mode));
        let counts = Counts {
            endpoints: compiler.endpoint_count() as u64,
            keys: rows(Mode::Key),
            tokens: rows(Mode::Token),
            sessions: rows(Mode::Session),
            tag_sets: compiler.set_count() as u64,
        };
        self.reading.publish(compiler.directory().clone(), counts);
    }

    fn set_writable(&self, writable: bool) {
        self.writable.store(writable, Ordering::Relaxed);
    }

    fn alarms(&self) -> MutexGuard<'_, Vec<String>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_alarms(&self, alarms: Vec<String>) {
        *self.alarms() = alarms;
    }
}

/// The one owner of the state. Dropping it stores what waits and ends the writer.
pub struct Registry {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    sweeper: Option<Sweeper>,
    pool: Pool,
}

/// A summary of the state for `status`.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Of the last commit.
    pub revision: Revision,
    /// The time that decisions use.
    pub now: UnixSeconds,
    /// How far the system's clock stands behind that, in seconds.
    pub clock_behind: u64,
    /// Agents that were not removed.
    pub agents: u64,
    /// How much there is of the rest.
    pub counts: Counts,
    /// Whether changes are taken.
    pub writable: bool,
    /// What is wrong.
    pub alarms: Vec<String>,
    /// How long commits took.
    pub commits: Observed,
    /// How long it took to show a commit to the questions.
    pub publishes: Observed,
    /// How long ago the oldest use was made that is not stored yet, in seconds.
    pub unflushed_use_age: Option<u64>,
    /// Size of the database's file; `None` when it can't be told.
    pub database_bytes: Option<u64>,
}

impl Registry {
    /// Opens the database in `directory` with `pepper`, reads it whole, and starts the writer.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, pepper: Pepper, observer: Observer) -> Result<Self, OpenError> {
        let mut compiler = Compiler::new(Arc::new(pepper));
        let pepper = compiler.directory().shared_pepper();
        let (store, loaded, watermark) = open_store(directory, &pepper, &mut |records| compiler.load(records))?;
        let shared = Arc::new(Shared {
            store,
            reading: Reading::new(compiler.directory().clone()),
            writable: AtomicBool::new(true),
            alarms: Mutex::default(),
            watermark_alarm: Arc::default(),
            observer,
            audited: watch::Sender::new(0),
            retention: Mutex::new(Retention::FOR_EVER),
            deletion_time: DeletionTime::new(loaded.head.committed_at()),
            commits: Histogram::default(),
            publishes: Histogram::default(),
        });
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            compiler,
            head: loaded.head.clone(),
            marks: Marks { watermark, alarm: Arc::clone(&shared.watermark_alarm) },
            unused_sets: Vec::new(),
            last_group: 1,
            must_reopen: false,
        };
        writer.take_over(loaded);
        let (jobs, received) = channel();
        let path = shared.store.path().to_path_buf();
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    priority::stand_back();
                    run_writer(writer, &received, &shared);
                }
            })
            .map_err(|error| OpenError::Io(path.clone(), error))?;
        let pool = Pool::start(Arc::clone(&shared.reading.proofs)).map_err(|error| OpenError::Io(path, error))?;
        shared.reading.upgrades.connect(Some(jobs.clone()));
        Ok(Self { shared, jobs: Some(jobs), writer: Some(thread), sweeper: None, pool })
    }

    /// From now on takes tokens and sessions away that expired `keep` ago. Without this they stay.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn sweep_expired(&mut self, keep: Duration) -> std::io::Result<()> {
        self.sweeper = match &self.jobs {
            Some(jobs) => Some(Sweeper::start(Arc::clone(&self.shared), jobs.clone(), keep)?),
            None => None,
        };
        Ok(())
    }

    /// The state as published now, for the questions of one read of a socket.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.shared.reading.view()
    }

    /// Has a code tried against another system's slow hash, and waits for the outcome.
    pub async fn settle(&self, wanted: WantedProof) -> Settled {
        self.pool.settle(wanted).await
    }

    /// Hands an order to the writer and waits until it is carried out: durable, audited as `origin`'s, and visible.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn order(&self, order: Order, origin: Origin) -> Result<Outcome, Refusal> {
        self.send(order, origin)?.outcome().await
    }

    /// Hands an order to the writer.
    ///
    /// # Errors
    /// When the writer takes none any more.
    pub fn send(&self, order: Order, origin: Origin) -> Result<Sent, Refusal> {
        let (reply, outcome) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(no_changes)?;
        jobs.send(Job::Order(Box::new(Ordered { order, origin, reply }))).map_err(|_| no_changes())?;
        Ok(Sent(outcome))
    }

    /// Reads one record, tombstones included. Blocks on the disk.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn show(&self, name: &RecordName) -> Result<Option<Listed>, StoreFault> {
        let found = self.shared.store.read(&name.key())?;
        Ok(found.map(|listed| self.with_pending_uses(listed)))
    }

    /// Reads a page of records, tombstones included; see [`Store::page`]. Blocks on the disk.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn page(&self, kind: Kind, after: &[u8], limit: usize) -> Result<Page, StoreFault> {
        let mut page = self.shared.store.page(kind, after, limit)?;
        page.records = page.records.into_iter().map(|listed| self.with_pending_uses(listed)).collect();
        Ok(page)
    }

    /// Takes hold of the state of the last commit; see [`Backup`]. Blocks on the disk, as what follows does.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn begin_backup(&self) -> Result<Backup, StoreFault> {
        self.shared.store.begin_backup()
    }

    /// The next part of a backup; see [`Store::next_backup_part`].
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn next_backup_part(&self, backup: &mut Backup, bytes: usize) -> Result<BackupPart, StoreFault> {
        self.shared.store.next_backup_part(backup, bytes)
    }

    /// The same for an export.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn begin_export(&self) -> Result<Export, StoreFault> {
        self.shared.store.begin_export()
    }

    /// The next part of an export; see [`Store::next_export_part`].
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn next_export_part(&self, export: &mut Export, limit: usize) -> Result<ExportPart, StoreFault> {
        self.shared.store.next_export_part(export, limit)
    }

    /// Adds the uses that are not stored yet.
    fn with_pending_uses(&self, mut listed: Listed) -> Listed {
        if let Record::Credential(credential) = &listed.record {
            let pending = self.shared.reading.uses.pending(credential, self.shared.reading.clock.now());
            listed.uses = pending.merged(listed.uses);
        }
        listed
    }

    /// The database's path.
    #[must_use]
    pub fn database_path(&self) -> &Path {
        self.shared.store.path()
    }

    /// Whether the database is open and changes are taken.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.shared.writable.load(Ordering::Relaxed) && self.shared.store.is_open()
    }

    /// For `status`.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let view = self.view();
        let clock_behind = self.shared.reading.clock.behind();
        let mut alarms = self.shared.alarms().clone();
        alarms.extend(marks::told(&self.shared.watermark_alarm).clone());
        if clock_behind > CLOCK_BEHIND_ALARM_SECONDS {
            alarms.push(format!(
                "the system's clock stands {clock_behind} s behind the last commit: times are judged by the later one \
                 until it has caught up; set the clock"
            ));
        }
        alarms.extend(self.shared.deletion_time.alarm());
        let (mut commits, mut publishes) = (Observed::default(), Observed::default());
        self.shared.commits.add_to(&mut commits);
        self.shared.publishes.add_to(&mut publishes);
        let oldest_use = self.shared.reading.uses.oldest_waiting();
        Summary {
            revision: view.directory().revision(),
            now: view.now(),
            clock_behind,
            agents: view.directory().live_ids(Kind::Agent).len() as u64,
            counts: view.counts(),
            writable: self.is_writable(),
            alarms,
            commits,
            publishes,
            unflushed_use_age: oldest_use.map(|at| view.now().0.saturating_sub(at.0)),
            database_bytes: std::fs::metadata(self.database_path()).ok().map(|metadata| metadata.len()),
        }
    }
}

/// Opens the database, or makes it, and sees to it that it is the state of the last acknowledged change.
fn open_store(directory: &Path, pepper: &Pepper, take: &mut Take<'_>) -> Result<(Store, Loaded, Watermark), OpenError> {
    if !directory.join(DATABASE_FILE).exists() {
        Watermark::expect_none(directory, pepper).map_err(OpenError::Watermark)?;
    }
    // The database's own reasons first: another pepper fits neither.
    let (store, loaded) = Store::open(directory, pepper, take)?;
    let watermark = match Watermark::find(directory, pepper).map_err(OpenError::Watermark)? {
        Some(mut watermark) => {
            watermark.take_over(&store, &loaded.head).map_err(OpenError::Watermark)?;
            watermark
        }
        None => Watermark::make(directory, pepper, &loaded.head).map_err(OpenError::Watermark)?,
    };
    Ok((store, loaded, watermark))
}

fn no_changes() -> Refusal {
    let why = "the daemon takes no changes any more: it is stopping, or must be restarted; see status";
    Refusal::Unavailable(why.to_string())
}

/// An order that the writer has.
pub struct Sent(oneshot::Receiver<Result<Outcome, Refusal>>);

impl Sent {
    /// Waits until it is carried out: durable and visible. To be awaited to its end once only.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn outcome(&mut self) -> Result<Outcome, Refusal> {
        (&mut self.0).await.map_err(|_| no_changes())?
    }
}

/// A writer that ends by a panic leaves questions answered from the last state, and says that changes are over.
fn run_writer(writer: Writer, jobs: &Receiver<Job>, shared: &Shared) {
    if catch_unwind(AssertUnwindSafe(|| writer.run(jobs))).is_err() {
        let alarm = "the writer ended by a fault of its own: changes are refused until the daemon is restarted";
        tracing::error!("{alarm}");
        shared.set_writable(false);
        shared.alarms().push(alarm.to_string());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.reading.upgrades.connect(None);
        // It holds a way to the writer, which serves as long as there is any.
        self.sweeper = None;
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // Its panics are caught and told in its own thread.
            let _ = writer.join();
        }
    }
}
