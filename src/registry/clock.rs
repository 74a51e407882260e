//! The time that decisions use: never back while the daemon runs, and at start not before the last commit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::UnixSeconds;

/// See the module's doc.
pub(super) struct Clock {
    latest: AtomicU64,
}

impl Clock {
    /// A clock that is at `not_before` or later.
    #[must_use]
    pub(super) const fn new(not_before: UnixSeconds) -> Self {
        Self { latest: AtomicU64::new(not_before.0) }
    }

    /// The system's time, or the latest that was ever told if that is later.
    pub(super) fn now(&self) -> UnixSeconds {
        let system = system_seconds();
        UnixSeconds(self.latest.fetch_max(system, Ordering::Relaxed).max(system))
    }

    /// Not before `time` from now on.
    pub(super) fn advance(&self, time: UnixSeconds) {
        self.latest.fetch_max(time.0, Ordering::Relaxed);
    }

    /// Seconds that the system's clock stands behind [`Clock::now`].
    pub(super) fn behind(&self) -> u64 {
        self.now().0.saturating_sub(system_seconds())
    }
}

/// What the system's clock shows.
pub(super) fn system_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_never_before_the_last_commit_and_never_goes_back() {
        let future = system_seconds() + 1_000_000;
        let clock = Clock::new(UnixSeconds(future));
        assert_eq!(clock.now(), UnixSeconds(future));
        assert!(clock.behind() > 999_000);
        clock.advance(UnixSeconds(5));
        assert_eq!(clock.now(), UnixSeconds(future));
        assert!(Clock::new(UnixSeconds(0)).now().0 < future);
    }
}
