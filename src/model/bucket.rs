//! What a limited credential has left of its rate: one word, moved by each allowed request (GCRA).

use std::sync::atomic::{AtomicU64, Ordering};

use super::Rate;

const NANOS_OF_SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a clock that never goes back, from any beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

/// Whole seconds until the next request is allowed; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryAfter(u32);

impl RetryAfter {
    /// The seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    fn rounded_up(nanos: u64) -> Self {
        Self(u32::try_from(nanos.div_ceil(NANOS_OF_SECOND)).unwrap_or(u32::MAX).max(1))
    }
}

/// The bucket of one credential. It is full at first and refills evenly; what it holds is the rate's number at most, so
/// that 100/s allows 100 requests at once and then one each 10 ms.
///
/// The word is the time at which the bucket will be full again. Requests share the spacing of the rate, rounded up to
/// the nanosecond: the rate is never exceeded, and a client that keeps to that spacing is never refused.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self { rate, full_at: AtomicU64::new(0) }
    }

    /// The rate that it keeps.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one. Callers on several threads may be late with `now`: an earlier time never gives more.
    ///
    /// # Errors
    /// It is empty, and nothing was taken.
    pub fn take(&self, Ticks(now): Ticks) -> Result<(), RetryAfter> {
        let spacing = self.spacing();
        let latest = now + spacing * u64::from(self.rate.number());
        let take = |full_at: u64| Some(full_at.max(now) + spacing).filter(|next| *next <= latest);
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(full_at) => Err(RetryAfter::rounded_up(full_at.max(now) + spacing - latest)),
        }
    }

    /// Nanoseconds that one request takes up; at most a day's.
    fn spacing(&self) -> u64 {
        let period = u64::from(self.rate.period().seconds()) * NANOS_OF_SECOND;
        period.div_ceil(u64::from(self.rate.number()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = NANOS_OF_SECOND;

    fn bucket(rate: &str) -> Bucket {
        Bucket::new(Rate::parse(rate).unwrap())
    }

    /// How many of `asked` requests at this moment are allowed.
    fn taken(bucket: &Bucket, asked: u32, now: u64) -> u32 {
        (0..asked).map(|_| u32::from(bucket.take(Ticks(now)).is_ok())).sum()
    }

    #[test]
    fn a_full_bucket_holds_the_rates_number_and_refills_evenly() {
        let bucket = bucket("100/s");
        assert_eq!(taken(&bucket, 200, 0), 100);
        assert_eq!(taken(&bucket, 200, SECOND / 100 - 1), 0);
        assert_eq!(taken(&bucket, 200, SECOND / 100), 1);
        assert_eq!(taken(&bucket, 200, SECOND / 2), 49);
        assert_eq!(taken(&bucket, 200, 1000 * SECOND), 100, "it holds no more than that, however long it rests");
    }

    #[test]
    fn a_refusal_says_in_whole_seconds_when_to_come_again() {
        for (rate, asked, now, seconds) in [
            ("1/s", 1, 0, 1),
            ("1/s", 1, SECOND - 1, 1),
            ("100/s", 100, 0, 1),
            ("60/m", 60, 0, 1),
            ("6/m", 6, 0, 10),
            ("6/m", 6, SECOND / 2, 10),
            ("6/m", 6, SECOND, 9),
            ("1/d", 1, 0, 86_400),
            ("1000000000/d", 1_000, 0, 0),
        ] {
            let bucket = bucket(rate);
            assert_eq!(taken(&bucket, asked, 0), asked);
            let refused = bucket.take(Ticks(now)).map_err(RetryAfter::seconds);
            assert_eq!(refused, if seconds == 0 { Ok(()) } else { Err(seconds) }, "{rate} at {now}");
        }
    }

    #[test]
    fn a_refused_request_takes_nothing_and_time_that_seems_to_go_back_gives_nothing() {
        let bucket = bucket("1/s");
        assert_eq!(taken(&bucket, 1, 10 * SECOND), 1);
        assert_eq!(taken(&bucket, 1000, 10 * SECOND + 1), 0);
        assert_eq!(taken(&bucket, 1000, 9 * SECOND), 0);
        assert_eq!(taken(&bucket, 1000, 11 * SECOND), 1);
    }

    #[test]
    fn many_threads_get_no_more_together_than_one() {
        let bucket = bucket("1000/d");
        let asked = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| taken(&bucket, 500, 7))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
        });
        assert_eq!(asked, 1000);
    }

    fn rate() -> impl Strategy<Value = Rate> {
        let number = prop_oneof![1..5_u32, 1..200_u32, 1..1_000_000_001_u32];
        (number, prop::sample::select(vec!["s", "m", "h", "d"]))
            .prop_map(|(number, period)| Rate::parse(&format!("{number}/{period}")).unwrap())
    }

    /// Pauses between requests: none, about the rate's spacing, up to two periods.
    fn pauses() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![3 => Just(0.0), 3 => 0.0..2.5_f64, 1 => 0.0..500.0_f64], 1..300)
    }

    proptest! {
        #[test]
        fn in_no_window_more_is_allowed_than_the_burst_and_what_the_rate_gives(rate in rate(), pauses in pauses()) {
            let bucket = Bucket::new(rate);
            let (number, period) = (u128::from(rate.number()), u128::from(rate.period().seconds()) * u128::from(SECOND));
            let spacing = bucket.spacing();
            let (mut now, mut allowed) = (5 * SECOND, Vec::new());
            let mut spaced = true;
            for pause in pauses {
                #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let pause = (spacing as f64 * pause) as u64;
                spaced &= pause >= spacing;
                now += pause;
                match bucket.take(Ticks(now)) {
                    Ok(()) => allowed.push(now),
                    Err(wait) => {
                        prop_assert!(!spaced, "who keeps to the spacing is never refused");
                        let wait = u64::from(wait.seconds()) * SECOND;
                        let at = |now| Bucket { rate, full_at: AtomicU64::new(bucket.full_at.load(Ordering::Relaxed)) }.take(Ticks(now));
                        prop_assert!(at(now + wait).is_ok(), "after the wait one is allowed");
                        prop_assert!(wait == SECOND || at(now + wait - SECOND).is_err(), "a second earlier none is");
                    }
                }
            }
            for (first, from) in allowed.iter().enumerate() {
                for (last, to) in allowed.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u128;
                    prop_assert!((count - number.min(count)) * period <= u128::from(to - from) * number);
                }
            }
        }

        #[test]
        fn it_allows_what_a_plain_count_of_spacings_allows(number in 1..20_u32, steps in prop::collection::vec(0..40_u64, 1..200)) {
            // Counted in whole spacings of a rate that divides its period, a bucket is a number that grows by one each.
            let bucket = Bucket::new(Rate::parse(&format!("{number}/s")).unwrap());
            let spacing = bucket.spacing();
            let (mut left, mut now) = (u64::from(number), 0);
            for step in steps {
                // Long pauses are rare.
                let step = step.saturating_sub(30);
                now += step * spacing;
                left = (left + step).min(u64::from(number));
                let expected = left > 0;
                left -= u64::from(expected);
                prop_assert_eq!(bucket.take(Ticks(now)).is_ok(), expected);
            }
        }
    }
}
