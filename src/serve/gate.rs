//! How many connections there may be at a door, and who was refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyward_proto::frame::{ErrorCode, FrameError};

use super::meters::{REFUSALS_LOGGED, Sampler, Suppressed};

/// TCP peers have no user id and count as one user; this id, `(uid_t) -1`, is nobody's.
pub(super) const TCP_PEERS: u32 = u32::MAX;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In total.
    pub total: usize,
    /// By one user.
    pub per_uid: usize,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// All places are taken.
    Full,
    /// One user has all of its places.
    UserFull,
    /// The peer may not use this door.
    NotPermitted,
}

impl Cause {
    pub(super) const ALL: [Self; 3] = [Self::Full, Self::UserFull, Self::NotPermitted];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::UserFull => "user_full",
            Self::NotPermitted => "not_permitted",
        }
    }
}

/// A connection that was refused: why, and what the peer is told.
pub(super) struct Refused {
    pub(super) cause: Cause,
    pub(super) error: FrameError,
}

/// Counts connections, in total and by user, and those that were refused.
#[derive(Default)]
pub(super) struct Gate {
    open: Mutex<HashMap<u32, usize>>,
    refused: [Refusals; Cause::ALL.len()],
}

#[derive(Default)]
struct Refusals {
    count: AtomicU64,
    sampler: Sampler,
}

/// One connection's place; given back when dropped.
pub(super) struct Place {
    gate: Arc<Gate>,
    pub(super) uid: u32,
}

impl Gate {
    fn counts(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> usize {
        self.counts().values().sum()
    }

    /// A place for one more connection of `uid`.
    pub(super) fn enter(self: &Arc<Self>, uid: u32, limits: ConnectionLimits) -> Result<Place, Refused> {
        let mut counts = self.counts();
        let total: usize = counts.values().sum();
        let own = counts.entry(uid).or_default();
        let ConnectionLimits { total: total_max, per_uid: own_max } = limits;
        let (cause, why) = if total >= total_max {
            let why = format!("all {total_max} connections are taken; raise limits.connections, or close idle ones");
            (Cause::Full, why)
        } else if *own >= own_max {
            let who = if uid == TCP_PEERS { "TCP peers have".to_string() } else { format!("user {uid} has") };
            let what_to_do = "raise limits.connections_per_uid, or close idle ones";
            (Cause::UserFull, format!("{who} {own_max} connections open; {what_to_do}"))
        } else {
            *own += 1;
            return Ok(Place { gate: Arc::clone(self), uid });
        };
        if *own == 0 {
            counts.remove(&uid);
        }
        Err(Refused { cause, error: FrameError::new(ErrorCode::TooManyConnections, why) })
    }

    /// Counts a refused connection. Whether it is to be logged.
    pub(super) fn note_refused(&self, cause: Cause) -> bool {
        let refusals = &self.refused[cause as usize];
        refusals.count.fetch_add(1, Ordering::Relaxed);
        refusals.sampler.admits()
    }

    pub(super) fn refused(&self, cause: Cause) -> u64 {
        self.refused[cause as usize].count.load(Ordering::Relaxed)
    }

    /// Begins another minute of the log.
    pub(super) fn refill(&self) {
        self.refused.iter().for_each(|refusals| refusals.sampler.refill(REFUSALS_LOGGED));
    }

    /// Logs how many refusals were not logged one by one.
    pub(super) fn tell_suppressed(&self, door: &str, told: &mut [Suppressed; Cause::ALL.len()]) {
        for ((cause, refusals), told) in Cause::ALL.into_iter().zip(&self.refused).zip(told) {
            let count = told.since(self.refused(cause), &refusals.sampler);
            if count > 0 {
                tracing::warn!(door, cause = cause.name(), count, "connections refused, not logged one by one");
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        if let Some(own) = counts.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_counts_in_total_and_by_user_and_gives_places_back() {
        let gate = Arc::new(Gate::default());
        let limits = ConnectionLimits { total: 3, per_uid: 2 };
        let enter = |uid| gate.enter(uid, limits).map_err(|refused| refused.cause);
        let first = enter(1).ok();
        let second = enter(1).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(enter(1).err(), Some(Cause::UserFull));
        let third = enter(2).ok();
        assert!(third.is_some());
        assert_eq!(enter(2).err(), Some(Cause::Full));
        drop(second);
        assert_eq!(gate.open(), 2);
        assert!(enter(2).is_ok());
        assert!(gate.enter(1, ConnectionLimits { total: 2, per_uid: 2 }).is_err(), "other limits hold at once");
    }
}
