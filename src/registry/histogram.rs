//! How long things took: counts by duration that many threads add to without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets in nanoseconds: a question takes microseconds, a commit milliseconds, a stuck disk seconds.
pub const BOUNDS_NANOS: [u64; 22] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// One for each bound, and one for what is over the last.
const BUCKETS: usize = BOUNDS_NANOS.len() + 1;

/// Durations, counted.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], nanos: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        // 584 years fit.
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Does `work` and counts how long it took.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let outcome = work();
        self.observe(began.elapsed());
        outcome
    }

    /// What was counted, added to `sum`.
    pub fn add_to(&self, sum: &mut Observed) {
        for (sum, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        sum.nanos += self.nanos.load(Ordering::Relaxed);
    }
}

/// What one or more histograms have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// How many durations were over the bound before and not over the one at this place of [`BOUNDS_NANOS`]; the last:
    /// over all of them.
    pub buckets: [u64; BUCKETS],
    /// All durations together.
    pub nanos: u64,
}

impl Observed {
    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_under_the_first_bound_that_it_is_not_over() {
        let histogram = Histogram::default();
        for (nanos, place) in [(0, 0), (1_000, 0), (1_001, 1), (2_500, 1), (10_000_000_000, 21), (u64::MAX / 2, 22)] {
            let mut before = Observed::default();
            histogram.add_to(&mut before);
            histogram.observe(Duration::from_nanos(nanos));
            let mut after = Observed::default();
            histogram.add_to(&mut after);
            before.buckets[place] += 1;
            before.nanos += nanos;
            assert_eq!(after, before, "{nanos}");
        }
    }
}
