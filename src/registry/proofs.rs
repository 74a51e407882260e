//! Trying codes against slow hashes: a bounded pool of threads of its own, and what is known of codes that were tried.
//!
//! Ids are public, so anybody can send wrong codes for one: of each credential one code is tried at a time, a few wait for
//! their turn, each behind what other credentials wait for, and the others, or what finds the queue full, go untried.
//! Whoever asks for the same code meanwhile waits for the same outcome.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::decide::{Proof, ProofKey, WantedProof};
use crate::model::Mode;

/// Each may need all the memory that a hash may ask for, and takes a core from those who answer.
const THREADS_MAX: usize = 4;
/// What waits behind the threads. At a tenth of a second each, the usual cost, four threads have done them in a second.
const QUEUE_MAX: usize = 32;
/// Codes of one credential that wait for their turn: so one client that sends wrong codes one after the other does not keep
/// the right one out.
const TURNS_MAX: usize = 4;
/// How long an answer waits for its proof: as long as a web server would.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Outcomes that are remembered, a hundred bytes each. A right one is needed until the hash is replaced, milliseconds
/// later; wrong ones spare the pool a client that goes on with an old code.
const REMEMBERED_MAX: usize = 4096;

/// What became of a proof, for the question that wanted it.
pub struct Settled {
    pub(super) key: ProofKey,
    pub(super) proof: Proof,
}

/// Outcomes of late, the oldest forgotten first.
#[derive(Default)]
pub(super) struct Memory {
    known: HashMap<ProofKey, bool>,
    order: VecDeque<ProofKey>,
}

impl Memory {
    fn note(&mut self, key: ProofKey, right: bool) {
        if self.known.insert(key, right).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Those who want to know.
type Asking = Vec<oneshot::Sender<Proof>>;

/// A code that is being tried, or waits in the queue, and what of the same credential comes after it.
struct Trial {
    key: ProofKey,
    asking: Asking,
    turns: VecDeque<(WantedProof, Asking)>,
}

impl Trial {
    /// Waits for the outcome of this code, now or in its turn; false where too many do.
    fn join(&mut self, wanted: WantedProof, asking: oneshot::Sender<Proof>) -> bool {
        if self.key == wanted.key {
            self.asking.push(asking);
        } else if let Some((_, all)) = self.turns.iter_mut().find(|(turn, _)| turn.key == wanted.key) {
            all.push(asking);
        } else if self.turns.len() < TURNS_MAX {
            self.turns.push_back((wanted, vec![asking]));
        } else {
            return false;
        }
        true
    }
}

/// What the readers, the doors and the pool share.
#[derive(Default)]
pub(super) struct Proofs {
    memory: Mutex<Memory>,
    trials: Mutex<HashMap<(Mode, u64), Trial>>,
    /// To the threads, as long as there are any. Taken under the lock of the trials.
    queue: Mutex<Option<SyncSender<WantedProof>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proofs {
    /// What is known of a code.
    pub(super) fn recall(&self, key: &ProofKey) -> Option<Proof> {
        let right = *locked(&self.memory).known.get(key)?;
        Some(if right { Proof::Right } else { Proof::Wrong })
    }

    /// Tries a code and tells who asked. A trial that fails of itself, or lacks memory, leaves the code untried.
    fn try_code(&self, wanted: &WantedProof) {
        let right = catch_unwind(AssertUnwindSafe(|| wanted.slow.verify(wanted.code.presented()))).ok().flatten();
        let proof = match right {
            Some(true) => Proof::Right,
            Some(false) => Proof::Wrong,
            None => Proof::Untried,
        };
        // Noted before the trial is over: whoever comes between finds the one or the other.
        if let Some(right) = right {
            locked(&self.memory).note(wanted.key, right);
        }
        self.end_trial(wanted.credential, proof);
    }

    fn end_trial(&self, credential: (Mode, u64), proof: Proof) {
        let mut trials = locked(&self.trials);
        let Some(Trial { asking, mut turns, .. }) = trials.remove(&credential) else { return };
        if let Some((next, waiting)) = turns.pop_front() {
            // Where there is no room those who wait are told by the drop of what they wait for.
            self.begin_trial(&mut trials, next, waiting, turns);
        }
        drop(trials);
        for asking in asking {
            // Whoever asked may be gone.
            let _ = asking.send(proof);
        }
    }

    /// Puts a code in the queue, behind those of other credentials; false where that is full.
    fn begin_trial(
        &self,
        trials: &mut HashMap<(Mode, u64), Trial>,
        wanted: WantedProof,
        asking: Asking,
        turns: VecDeque<(WantedProof, Asking)>,
    ) -> bool {
        let (credential, key) = (wanted.credential, wanted.key);
        let sent = locked(&self.queue).as_ref().is_some_and(|queue| queue.try_send(wanted).is_ok());
        if sent {
            trials.insert(credential, Trial { key, asking, turns });
        }
        sent
    }
}

/// The threads. Dropping it ends them, after the code that each is trying.
pub(super) struct Pool {
    proofs: Arc<Proofs>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(proofs: Arc<Proofs>) -> std::io::Result<Self> {
        // Half of the cores: the others answer questions.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2).min(THREADS_MAX);
        let (queue, received) = sync_channel(QUEUE_MAX);
        *locked(&proofs.queue) = Some(queue);
        let received = Arc::new(Mutex::new(received));
        let spawn = |_| {
            let (proofs, received) = (Arc::clone(&proofs), Arc::clone(&received));
            std::thread::Builder::new().name("slow-hashes".into()).spawn(move || work(&proofs, &received))
        };
        let threads = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { proofs, threads })
    }

    /// Has a code tried, and waits for the outcome.
    pub(super) async fn settle(&self, wanted: WantedProof) -> Settled {
        let key = wanted.key;
        let proof = match self.ask(wanted) {
            Ok(outcome) => match tokio::time::timeout(WAIT_MAX, outcome).await {
                Ok(Ok(proof)) => proof,
                Ok(Err(_)) | Err(_) => Proof::Untried,
            },
            Err(proof) => proof,
        };
        Settled { key, proof }
    }

    /// Where the outcome will be told, or what is known already.
    fn ask(&self, wanted: WantedProof) -> Result<oneshot::Receiver<Proof>, Proof> {
        let (asking, outcome) = oneshot::channel();
        let (credential, key) = (wanted.credential, wanted.key);
        let mut trials = locked(&self.proofs.trials);
        if let Some(trial) = trials.get_mut(&credential) {
            return if trial.join(wanted, asking) { Ok(outcome) } else { Err(Proof::Untried) };
        }
        if let Some(proof) = self.proofs.recall(&key) {
            return Err(proof);
        }
        let begun = self.proofs.begin_trial(&mut trials, wanted, vec![asking], VecDeque::new());
        if begun { Ok(outcome) } else { Err(Proof::Untried) }
    }
}

fn work(proofs: &Proofs, received: &Mutex<Receiver<WantedProof>>) {
    loop {
        // Waiting under the lock: the other threads wait for the same.
        let next = locked(received).recv();
        let Ok(wanted) = next else { return };
        // At a stop nobody waits any more, and what is queued could take half a minute.
        let is_waited_for = locked(&proofs.trials).get(&wanted.credential).is_some_and(|trial| trial.key == wanted.key);
        if is_waited_for {
            proofs.try_code(&wanted);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Those who wait are told by the drop of what they wait for.
        locked(&self.proofs.trials).clear();
        *locked(&self.proofs.queue) = None;
        for thread in self.threads.drain(..) {
            // Its panics are caught in it.
            let _ = thread.join();
        }
    }
}
