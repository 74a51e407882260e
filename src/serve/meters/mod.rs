//! What the doors count: verdicts, how long answers took, connections.
//!
//! The hot path counts into a [`Notes`] of its own and adds that once per read to one of several [`Shard`]s, so that
//! connections on different threads seldom meet on a cache line. Whoever wants to know adds the shards up.
//!
//! | part | what is in it |
//! |---|---|
//! | here | counting |
//! | `denials` | which denials and refusals are logged, and the sum of those that are not |
//! | `exposition` | `/metrics` |

mod denials;
mod exposition;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use denials::DenialLog;
pub(super) use denials::{REFUSALS_LOGGED, Sampler, Suppressed};
pub(super) use exposition::{CONTENT_TYPE, Exposition, exposed};
use keyward_proto::query::Reason;

use crate::registry::{Histogram, Inquiry, Observed, Target};

/// Reasons of the contract.
const REASONS: usize = Reason::ALL.len();
/// More than threads that answer at once on most hosts; each costs half a KiB a door.
const SHARDS: usize = 16;
/// How often the count of questions is noted for the recent rate.
pub(super) const MARK_INTERVAL: Duration = Duration::from_secs(5);

/// A door that answers questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskDoor {
    /// `query.sock`
    Query,
    /// `http.sock` and the loopback listener.
    Http,
}

impl AskDoor {
    pub(super) const ALL: [Self; 2] = [Self::Query, Self::Http];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Http => "http",
        }
    }
}

/// The verdicts of one read of a socket, and the log of those that are denials.
pub struct Notes<'m> {
    counts: [u32; REASONS],
    /// A bit for each reason that was counted.
    seen: u32,
    door: AskDoor,
    log: &'m DenialLog,
}

impl<'m> Notes<'m> {
    /// Nothing is counted yet.
    #[must_use]
    pub const fn new(door: AskDoor, log: &'m DenialLog) -> Self {
        Self { counts: [0; REASONS], seen: 0, door, log }
    }

    /// Counts a verdict by its number on the wire.
    #[inline]
    pub fn note(&mut self, reason: u16, inquiry: &mut Inquiry<'_, '_>, target: &Target<'_>) {
        self.count(reason);
        if reason != Reason::Ok.number() && self.log.admits(reason) {
            denials::write(self.door, reason, inquiry, target);
        }
    }

    /// Counts a verdict that nothing more is known of.
    pub(super) const fn count(&mut self, reason: u16) {
        let place = reason as usize;
        if place < REASONS {
            self.counts[place] += 1;
            self.seen |= 1 << reason;
        }
    }
}

/// A share of a door's counts.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    verdicts: [AtomicU64; REASONS],
    answers: Histogram,
}

/// The counts of one door.
#[derive(Default)]
pub(super) struct DoorMeter {
    shards: [Shard; SHARDS],
    next_shard: AtomicUsize,
}

impl DoorMeter {
    /// A connection's share, in turn.
    pub(super) fn share(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    /// Adds what one read came to, and how long its answers took to make.
    pub(super) fn add(&self, share: usize, notes: &Notes<'_>, took: Duration) {
        let shard = &self.shards[share];
        let mut seen = notes.seen;
        while seen != 0 {
            let place = seen.trailing_zeros() as usize;
            shard.verdicts[place].fetch_add(u64::from(notes.counts[place]), Ordering::Relaxed);
            seen &= seen - 1;
        }
        shard.answers.observe(took);
    }

    pub(super) fn verdicts(&self) -> [u64; REASONS] {
        std::array::from_fn(|reason| {
            self.shards.iter().map(|shard| shard.verdicts[reason].load(Ordering::Relaxed)).sum()
        })
    }

    fn answers(&self) -> Observed {
        let mut sum = Observed::default();
        self.shards.iter().for_each(|shard| shard.answers.add_to(&mut sum));
        sum
    }
}

/// Everything that the doors count.
#[derive(Default)]
pub(super) struct Meters {
    doors: [DoorMeter; 2],
    pub(super) denials: DenialLog,
    /// Admits nothing.
    pub(super) unlogged: DenialLog,
    recent: Recent,
}

impl Meters {
    pub(super) const fn of(&self, door: AskDoor) -> &DoorMeter {
        &self.doors[door as usize]
    }

    /// By door, then by the reason's number.
    pub(super) fn verdicts(&self) -> [[u64; REASONS]; 2] {
        AskDoor::ALL.map(|door| self.of(door).verdicts())
    }

    /// By reason, over both doors.
    pub(super) fn verdicts_by_reason(&self) -> [u64; REASONS] {
        let [query, http] = self.verdicts();
        std::array::from_fn(|reason| query[reason] + http[reason])
    }

    /// Targets judged, over both doors.
    pub(super) fn questions(&self) -> u64 {
        self.verdicts_by_reason().iter().sum()
    }

    /// To be called every [`MARK_INTERVAL`].
    pub(super) fn mark(&self) {
        self.recent.mark(self.questions());
    }

    /// How many questions were answered lately, and in how long.
    pub(super) fn recent(&self) -> (u64, Duration) {
        self.recent.since(self.questions())
    }
}

/// The count of questions at the last two marks: so the recent rate is of one to two intervals.
struct Recent(Mutex<[(Instant, u64); 2]>);

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new([(Instant::now(), 0); 2]))
    }
}

impl Recent {
    fn marks(&self) -> MutexGuard<'_, [(Instant, u64); 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, questions: u64) {
        let mut marks = self.marks();
        *marks = [marks[1], (Instant::now(), questions)];
    }

    fn since(&self, questions: u64) -> (u64, Duration) {
        let [(at, before), _] = *self.marks();
        (questions.saturating_sub(before), at.elapsed())
    }
}
