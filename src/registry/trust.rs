//! How far deletions may trust the system's clock. A verdict by a wrong time is put right with the clock; what was deleted
//! by one is gone for good.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::CLOCK_BEHIND_ALARM_SECONDS;
use super::clock::{Clock, system_seconds};
use crate::model::UnixSeconds;

/// The system's clock may go forward by so much more than time has passed: a time service that corrects a clock does less.
const LEAP_SECONDS_MAX: u64 = 3600;
/// From the last commit to the start; few hosts are off, or ask nothing, for longer.
const PAUSE_SECONDS_MAX: u64 = 30 * 86_400;
/// A time further ahead counts once it has held for so long: who sees the alarm can set the clock before.
const LEAP_HOLDS: Duration = Duration::from_secs(6 * 3600);

/// What the system's clock showed, and how much time had passed since the start, told by a clock that nobody sets.
#[derive(Clone, Copy)]
struct Glance {
    system: UnixSeconds,
    elapsed: Duration,
}

impl Glance {
    /// What the system's clock would show at `elapsed`, had it gone on evenly.
    fn expected(self, elapsed: Duration) -> u64 {
        self.system.0.saturating_add(elapsed.saturating_sub(self.elapsed).as_secs())
    }
}

/// Whether the system's clock is right, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// What was over at this time may go.
    Right(UnixSeconds),
    /// It stands behind the time of decisions: one of the two is wrong.
    Behind,
    /// It went forward by so many seconds more than time has passed.
    Ahead(u64),
}

struct Trust {
    /// A time that counted as right.
    right: Glance,
    /// How far ahead of that the clock may be, in seconds.
    ahead_max: u64,
    /// The first glance at a time that is further ahead, and has held since.
    leap: Option<Glance>,
}

impl Trust {
    /// At the start. A database without a commit has nothing to lose.
    const fn new(last_commit: UnixSeconds, system: UnixSeconds) -> Self {
        let (system, ahead_max) =
            if last_commit.0 == 0 { (system, LEAP_SECONDS_MAX) } else { (last_commit, PAUSE_SECONDS_MAX) };
        Self { right: Glance { system, elapsed: Duration::ZERO }, ahead_max, leap: None }
    }

    /// Judges a glance, while decisions are made by `decisions`.
    fn judge(&mut self, now: Glance, decisions: UnixSeconds) -> Judgement {
        if decisions.0.saturating_sub(now.system.0) > CLOCK_BEHIND_ALARM_SECONDS {
            self.leap = None;
            return Judgement::Behind;
        }
        let ahead = now.system.0.saturating_sub(self.right.expected(now.elapsed));
        if ahead > self.ahead_max {
            let held = |leap: &Glance| leap.expected(now.elapsed).abs_diff(now.system.0) <= LEAP_SECONDS_MAX;
            let since = self.leap.filter(held).unwrap_or(now);
            self.leap = Some(since);
            if now.elapsed.saturating_sub(since.elapsed) < LEAP_HOLDS {
                return Judgement::Ahead(ahead);
            }
        }
        *self = Self { right: now, ahead_max: LEAP_SECONDS_MAX, leap: None };
        Judgement::Right(now.system.min(decisions))
    }
}

/// The time that deletions use, for all of them.
pub(super) struct DeletionTime {
    began: Instant,
    state: Mutex<(Trust, Judgement)>,
}

impl DeletionTime {
    /// At the start, with the time of the last commit.
    pub(super) fn new(last_commit: UnixSeconds) -> Self {
        let system = UnixSeconds(system_seconds());
        Self {
            began: Instant::now(),
            state: Mutex::new((Trust::new(last_commit, system), Judgement::Right(UnixSeconds(0)))),
        }
    }

    /// What was over at this time may go; `None` while nothing may.
    pub(super) fn now(&self, clock: &Clock) -> Option<UnixSeconds> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (trust, before) = &mut *state;
        let decisions = clock.now();
        let glance = Glance { system: UnixSeconds(system_seconds()), elapsed: self.began.elapsed() };
        let judgement = trust.judge(glance, decisions);
        let before = std::mem::replace(before, judgement);
        match (before, judgement) {
            (Judgement::Right(_), Judgement::Right(_))
            | (Judgement::Behind, Judgement::Behind)
            | (Judgement::Ahead(_), Judgement::Ahead(_)) => {}
            (Judgement::Behind | Judgement::Ahead(_), Judgement::Right(_)) => {
                tracing::info!("what is over is deleted again: the system's clock counts as right");
            }
            (Judgement::Right(_) | Judgement::Ahead(_), Judgement::Behind) => tracing::warn!(
                "the system's clock stands behind the last commit: nothing is deleted for its age until it has caught up"
            ),
            (Judgement::Right(_) | Judgement::Behind, Judgement::Ahead(seconds)) => {
                tracing::warn!("{}", ahead(seconds))
            }
        }
        match judgement {
            Judgement::Right(time) => Some(time),
            Judgement::Behind | Judgement::Ahead(_) => None,
        }
    }

    /// What is wrong, beside a clock that stands behind.
    pub(super) fn alarm(&self) -> Option<String> {
        match self.state.lock().unwrap_or_else(PoisonError::into_inner).1 {
            Judgement::Ahead(seconds) => Some(ahead(seconds)),
            Judgement::Right(_) | Judgement::Behind => None,
        }
    }
}

fn ahead(seconds: u64) -> String {
    format!(
        "the system's clock went {seconds} s further than time has passed since it was known to be right: nothing is deleted \
         for its age until it has stood so for {} h; if it is wrong, set it",
        LEAP_HOLDS.as_secs() / 3600
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    /// A glance: seconds since the start, what the system's clock shows beyond what is right, the same of the decisions.
    type Seen = (u64, u64, u64);
    /// What happens, the time of the last commit, how far ahead the system's clock is at the start, glances, judgements.
    type Case<'c> = (&'c str, u64, u64, &'c [Seen], &'c [Judgement]);

    fn judged(last_commit: u64, at_start: u64, glances: &[Seen]) -> Vec<Judgement> {
        let mut trust = Trust::new(UnixSeconds(last_commit), UnixSeconds(START + at_start));
        let judge = |(elapsed, system, decisions): &Seen| {
            let glance =
                Glance { system: UnixSeconds(START + elapsed + system), elapsed: Duration::from_secs(*elapsed) };
            trust.judge(glance, UnixSeconds(START + elapsed + decisions))
        };
        glances.iter().map(judge).collect()
    }

    #[test]
    fn deletions_trust_the_clock_as_far_as_it_goes_evenly_or_has_stood_for_hours() {
        let right = |elapsed: u64| Judgement::Right(UnixSeconds(START + elapsed));
        let (behind, ahead) = (Judgement::Behind, Judgement::Ahead);
        let hold = LEAP_HOLDS.as_secs();
        #[rustfmt::skip]
        let cases: &[Case<'_>] = &[
            ("an even clock", START - HOUR, 0, &[(1, 0, 0), (DAY, 0, 0), (90 * DAY, 0, 0)],
                &[right(1), right(DAY), right(90 * DAY)]),
            ("a start some days after the last commit", START - 5 * DAY, 0, &[(1, 0, 0)], &[right(1)]),
            ("a start after the longest pause", START - 30 * DAY, 0, &[(1, 0, 0)], &[right(1)]),
            ("a start after a longer one", START - 31 * DAY, 0, &[(1, 0, 0), (hold, 0, 0), (hold + 1, 0, 0), (hold + 2, 0, 0)],
                &[ahead(31 * DAY), ahead(31 * DAY), right(hold + 1), right(hold + 2)]),
            ("a new database", 0, 0, &[(1, 0, 0)], &[right(1)]),
            ("a start at a wrong time that is put right, and has no time to pass for one", START - HOUR, 400 * DAY,
                &[(1, 400 * DAY, 400 * DAY), (2, 0, 400 * DAY), (hold + 5, 0, 400 * DAY)],
                &[ahead(400 * DAY + HOUR), behind, behind]),
            ("a correction", START, 0, &[(1, 0, 0), (2, HOUR, HOUR), (3, 2 * HOUR, 2 * HOUR)],
                &[right(1), right(2 + HOUR), right(3 + 2 * HOUR)]),
            ("a glance ahead that only decisions saw", START, 0, &[(1, 0, 0), (60, 0, DAY), (2 * DAY, 0, 0)],
                &[right(1), behind, right(2 * DAY)]),
            ("decisions that are a little ahead", START, 0, &[(1, 0, 60), (2, 0, 61)], &[right(1), behind]),
            ("decisions that read the clock before a leap", START, 0, &[(1, 0, 0), (2, HOUR, 0)], &[right(1), right(2)]),
            ("a leap that holds", START, 0,
                &[(1, 0, 0), (60, DAY, DAY), (60 + hold - 1, DAY, DAY), (60 + hold, DAY, DAY), (61 + hold, DAY, DAY)],
                &[right(1), ahead(DAY), ahead(DAY), right(60 + hold + DAY), right(61 + hold + DAY)]),
            ("a leap that is taken back and comes again begins anew", START, 0,
                &[(1, 0, 0), (60, DAY, DAY), (HOUR, 0, DAY), (hold, DAY, DAY), (2 * hold - 1, DAY, DAY), (2 * hold, DAY, DAY)],
                &[right(1), ahead(DAY), behind, ahead(DAY), ahead(DAY), right(2 * hold + DAY)]),
            ("a leap upon a leap begins anew", START, 0,
                &[(1, 0, 0), (60, DAY, DAY), (hold, 9 * DAY, 9 * DAY), (2 * hold - 1, 9 * DAY, 9 * DAY), (2 * hold, 9 * DAY, 9 * DAY)],
                &[right(1), ahead(DAY), ahead(9 * DAY), ahead(9 * DAY), right(2 * hold + 9 * DAY)]),
        ];
        for (what, last_commit, at_start, glances, expected) in cases {
            assert_eq!(judged(*last_commit, *at_start, glances), *expected, "{what}");
        }
    }
}
