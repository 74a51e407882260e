//! Owns store and directory: `view` reads, `order` is the way to the single writer.
//!
//! Promise 2.5 rests on three lines in `writer.rs`: a change is committed (durable), then published (one pointer swap),
//! then acknowledged. A reader takes the published state after it has read its socket, so a question that was sent
//! after an acknowledgement can't be answered from the state before.

mod clock;
mod plan;
mod proofs;
mod reading;
mod upgrades;
mod uses;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use plan::{Apply, FieldChange, FieldValue, Import, Imported, Order, Outcome, Refusal};
use proofs::Pool;
pub use proofs::Settled;
pub use reading::{Counts, Reading, View};

pub use crate::decide::{
    Asker, BATCH_TARGETS_MAX, Explanation, Inquiry, ReachPage, Reachable, Step, StepResult, Target, Unreached, Upgrade,
    Wanted,
};
use crate::directory::Compiler;
use crate::model::{Kind, Mode, Pepper, Record, RecordName, Revision, UnixSeconds};
pub use crate::store::{DATABASE_FILE, Listed, OpenError, Page, StoreFault};
use crate::store::{Head, Store};
use writer::{Job, Writer};

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
    observer: Observer,
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
    /// Targets judged since the start.
    pub questions: u64,
    /// Whether changes are taken.
    pub writable: bool,
    /// What is wrong.
    pub alarms: Vec<String>,
}

impl Registry {
    /// Opens the database in `directory` with `pepper`, reads it whole, and starts the writer.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, pepper: Pepper, observer: Observer) -> Result<Self, OpenError> {
        let mut compiler = Compiler::new(Arc::new(pepper));
        let pepper = compiler.directory().shared_pepper();
        let (store, loaded) = Store::open(directory, &pepper, &mut |records| compiler.load(records))?;
        let shared = Arc::new(Shared {
            store,
            reading: Reading::new(compiler.directory().clone()),
            writable: AtomicBool::new(true),
            alarms: Mutex::default(),
            observer,
        });
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            compiler,
            head: loaded.head.clone(),
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
                move || run_writer(writer, &received, &shared)
            })
            .map_err(|error| OpenError::Io(path.clone(), error))?;
        let pool = Pool::start(Arc::clone(&shared.reading.proofs)).map_err(|error| OpenError::Io(path, error))?;
        shared.reading.upgrades.connect(Some(jobs.clone()));
        Ok(Self { shared, jobs: Some(jobs), writer: Some(thread), pool })
    }

    /// The state as published now, for the questions of one read of a socket.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.shared.reading.view()
    }

    /// Has a code tried against another system's slow hash, and waits for the outcome.
    pub async fn settle(&self, wanted: Wanted) -> Settled {
        self.pool.settle(wanted).await
    }

    /// Hands an order to the writer and waits until it is carried out: durable and visible.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn order(&self, order: Order) -> Result<Outcome, Refusal> {
        self.send(order)?.outcome().await
    }

    /// Hands an order to the writer.
    ///
    /// # Errors
    /// When the writer takes none any more.
    pub fn send(&self, order: Order) -> Result<Sent, Refusal> {
        let (reply, outcome) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(no_changes)?;
        jobs.send(Job { order, reply }).map_err(|_| no_changes())?;
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
        if clock_behind > CLOCK_BEHIND_ALARM_SECONDS {
            alarms.push(format!(
                "the system's clock stands {clock_behind} s behind the last commit: times are judged by the later one \
                 until it has caught up; set the clock"
            ));
        }
        Summary {
            revision: view.directory().revision(),
            now: view.now(),
            clock_behind,
            agents: view.directory().live_ids(Kind::Agent).len() as u64,
            counts: view.counts(),
            questions: self.shared.reading.questions(),
            writable: self.is_writable(),
            alarms,
        }
    }
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
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // Its panics are caught and told in its own thread.
            let _ = writer.join();
        }
    }
}
