//! Which ids are asked for: uniformly, or some far more often than others (Zipf).

use super::world::mix;

/// Multiplied with a rank modulo the number of ids it gives each rank an id of its own, far from its neighbours': a prime
/// above every number of ids.
const SCATTER: u64 = 2_654_435_761;

/// Random numbers that a seed repeats.
pub struct Random(u64);

impl Random {
    /// From `seed` on.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next number in `0..1`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept, as many as an f64 holds")]
    fn next_unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Picks ids from 1 to some number.
pub struct Picks {
    ids: u64,
    /// For each rank the sum of the weights up to it; none when all ids weigh the same.
    sums: Vec<f64>,
    random: Random,
}

impl Picks {
    /// All of `1..=ids` equally often.
    #[must_use]
    pub const fn uniform(ids: u64, seed: u64) -> Self {
        Self { ids, sums: Vec::new(), random: Random::new(seed) }
    }

    /// The id of rank r in proportion to r^-theta. Ranks are scattered over the ids.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "ids are far below 2^53")]
    pub fn zipf(ids: u64, theta: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let weigh = |rank: u64| {
            sum += (rank as f64).powf(-theta);
            sum
        };
        Self { ids, sums: (1..=ids).map(weigh).collect(), random: Random::new(seed) }
    }

    /// The next id.
    pub fn pick(&mut self) -> u64 {
        match self.sums.last() {
            None => 1 + self.random.number() % self.ids,
            Some(whole) => {
                let point = self.random.next_unit() * whole;
                let rank = self.sums.partition_point(|sum| *sum <= point) as u64;
                1 + rank.min(self.ids - 1) * SCATTER % self.ids
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DRAWS: u32 = 200_000;

    /// How often each id was drawn, most often first.
    fn counts(mut picks: Picks) -> Vec<(u32, u64)> {
        let mut counts = BTreeMap::new();
        for _ in 0..DRAWS {
            *counts.entry(picks.pick()).or_insert(0) += 1;
        }
        let mut counts: Vec<(u32, u64)> = counts.into_iter().map(|(id, count)| (count, id)).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn uniform_picks_give_each_id_its_share() {
        let counts = counts(Picks::uniform(100, 1));
        assert_eq!(counts.len(), 100);
        // 2,000 expected; six standard deviations are 267.
        assert!(counts.iter().all(|(count, id)| count.abs_diff(2_000) < 267 && (1..=100).contains(id)), "{counts:?}");
    }

    #[test]
    fn zipf_picks_fall_off_with_the_rank_as_theta_says() {
        for theta in [0.5, 0.99, 1.2] {
            let counts = counts(Picks::zipf(1_000, theta, 1));
            let whole: f64 = (1..=1_000).map(|rank| f64::from(rank).powf(-theta)).sum();
            for rank in [1, 2, 5, 20] {
                let expected = f64::from(DRAWS) * f64::from(rank).powf(-theta) / whole;
                let got = f64::from(counts[rank as usize - 1].0);
                assert!((got - expected).abs() < 0.1 * expected, "theta {theta} rank {rank}: {got} not {expected}");
            }
            assert!(counts.iter().all(|(_, id)| (1..=1_000).contains(id)));
        }
    }

    #[test]
    fn zipf_with_theta_0_is_uniform() {
        let counts = counts(Picks::zipf(100, 0.0, 1));
        assert!(counts.len() == 100 && counts.iter().all(|(count, _)| count.abs_diff(2_000) < 267), "{counts:?}");
    }

    #[test]
    fn the_most_frequent_ids_are_no_neighbours() {
        let hot: Vec<u64> = counts(Picks::zipf(100_000, 0.99, 1)).iter().take(20).map(|(_, id)| *id).collect();
        assert!(hot.iter().all(|a| hot.iter().all(|b| a == b || a.abs_diff(*b) > 8)), "{hot:?}");
    }

    #[test]
    fn a_seed_repeats_its_picks() {
        let draw = |seed| {
            let mut picks = Picks::uniform(1_000_000, seed);
            std::array::from_fn::<u64, 8, _>(|_| picks.pick())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
