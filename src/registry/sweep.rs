//! Tokens and sessions that expired long ago are taken away, a few rows a transaction. Keys stay.
//!
//! Who is to go is found by a thread of its own that walks the published directory, in slices of a millisecond with pauses
//! between: no index is kept for it, and ten million sessions are walked in seconds. What it finds it orders of the writer
//! in small orders, each waited for, with a pause as long as each took: changes wait for one such transaction at most, and
//! questions for none.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Shared, priority};
use super::audit::Origin;
use super::plan::{Order, Refusal, Sweep};
use super::writer::{Job, Ordered};
use crate::directory::Directory;
use crate::model::{Id, Kind, Mode, UnixSeconds};

/// Rows that one transaction takes away, at most: some milliseconds' work, for which changes wait.
const ROWS_TOGETHER: usize = 256;
/// From the end of a round to the next, with a long keeping; with a shorter one as long as that is.
const ROUND_PAUSE_MAX: Duration = Duration::from_secs(600);
/// A round of nothing costs next to nothing.
const ROUND_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The walk goes on for so long without a pause.
const SLICE: Duration = Duration::from_millis(1);
/// And pauses for so long: it takes a tenth of a core.
const SLICE_PAUSE: Duration = Duration::from_millis(9);
/// Records between two looks at the time: some microseconds' work.
const RECORDS_PER_LOOK: u32 = 1024;

/// The sweeping thread; dropping it ends it.
pub(super) struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Takes away what expired `keep` ago, from now on.
    pub(super) fn start(shared: Arc<Shared>, jobs: Sender<Job>, keep: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let round = Round { shared, jobs, keep, stopped };
        let thread = std::thread::Builder::new().name("sweeper".into()).spawn(move || {
            priority::stand_back();
            round.repeat();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of its own ends the sweeping and nothing else.
            let _ = thread.join();
        }
    }
}

/// Why a round ended before its end.
enum Ended {
    Stopping,
    /// The writer did not carry an order out.
    Refused(Refusal),
}

struct Round {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    keep: Duration,
    stopped: Receiver<()>,
}

impl Round {
    fn repeat(&self) {
        let pause = self.keep.clamp(ROUND_PAUSE_MIN, ROUND_PAUSE_MAX);
        while self.pause(pause).is_ok() {
            match self.sweep() {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "tokens and sessions that expired long ago were removed"),
                Err(Ended::Stopping) => return,
                Err(Ended::Refused(refusal)) => {
                    tracing::warn!(
                        ?refusal,
                        "expired tokens and sessions were not removed; the next round tries again"
                    );
                }
            }
        }
    }

    /// Waits, unless the registry stops.
    fn pause(&self, length: Duration) -> Result<(), Ended> {
        match self.stopped.recv_timeout(length) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Ended::Stopping),
        }
    }

    /// One walk over all. Tokens that were made from others go before these, so that none is left without its parent.
    fn sweep(&self) -> Result<usize, Ended> {
        let Some(now) = self.shared.deletion_time.now(&self.shared.reading.clock) else { return Ok(0) };
        let directory = self.shared.reading.state();
        let until = UnixSeconds(now.0.saturating_sub(self.keep.as_secs()));
        let mut swept = 0;
        for delegated in [true, false] {
            swept += self.walk(&directory, delegated, until)?;
        }
        Ok(swept)
    }

    fn walk(&self, directory: &Directory, delegated: bool, until: UnixSeconds) -> Result<usize, Ended> {
        let (mut found, mut swept, mut seen, mut slice) = (Vec::new(), 0, 0_u32, Instant::now());
        for (mode, id, credential) in directory.tokens_and_sessions() {
            let is_over = credential.parent().is_some() == delegated
                && directory.is_over(mode, credential.expires_at(), credential.parent(), until)
                // What isn't found among damaged rows is answered so: nothing more is to be missing there.
                && !directory.is_damaged(Kind::Credential(mode));
            if is_over {
                found.extend(Id::new(id).map(|id| (mode, id)));
            }
            if found.len() == ROWS_TOGETHER {
                swept += self.remove(std::mem::take(&mut found), until)?;
                slice = Instant::now();
            }
            seen += 1;
            if seen.is_multiple_of(RECORDS_PER_LOOK) && slice.elapsed() >= SLICE {
                self.pause(SLICE_PAUSE)?;
                slice = Instant::now();
            }
        }
        Ok(swept + self.remove(found, until)?)
    }

    /// Orders the rows' removal, waits for it, and then for as long again.
    fn remove(&self, credentials: Vec<(Mode, Id)>, until: UnixSeconds) -> Result<usize, Ended> {
        if credentials.is_empty() {
            return Ok(0);
        }
        let began = Instant::now();
        let (reply, outcome) = oneshot::channel();
        let order = Order::Sweep(Sweep { credentials, until });
        let ordered = Ordered { order, origin: Origin::Daemon, reply };
        self.jobs.send(Job::Order(Box::new(ordered))).map_err(|_| Ended::Stopping)?;
        let outcome = outcome.blocking_recv().map_err(|_| Ended::Stopping)?.map_err(Ended::Refused)?;
        self.pause(began.elapsed())?;
        Ok(outcome.removed.len())
    }
}
