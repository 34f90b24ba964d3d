//! The part of a limit that one instance may admit while the store is away.
//!
//! Bound. Through the store at most `L` is admitted in any window, because the ring counts it all. Without the store
//! each of `n` instances admits, its own admissions through the store included, at most its share, and the shares are
//! `S = max(L, n)` together: an instance whose part of a small limit would be nothing admits one, because an outage of
//! the store must not lock people out. In any window, before, across or after an outage, therefore at most `L + S`
//! is admitted, `L` when the window touches no outage, and `S` when it lies inside one.
//!
//! That holds while the instances agree who is there. One that believes in fewer peers takes a larger share: with `n`
//! instances of which each believes in at least `m`, the shares are at most `L * n / m` and one for each instance.
//!
//! Invariant: for any agreed set of instances and any spread, the shares sum up to `most` or, when there are more
//! instances than that, to one each.

/// Which of how many instances this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    live: u32,
    rank: u32,
}

impl Peers {
    /// Nobody else is there.
    pub const ALONE: Peers = Peers { live: 1, rank: 0 };

    /// `all` are the instances that were heard of lately; this one is counted whether it is among them or not.
    pub fn among(own: u64, all: impl IntoIterator<Item = u64>) -> Self {
        let mut all: Vec<u64> = all.into_iter().collect();
        all.push(own);
        all.sort_unstable();
        all.dedup();
        let rank = all.iter().position(|id| *id == own).unwrap_or_default() as u32;
        Self { live: all.len() as u32, rank }
    }

    /// How many instances there are.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// The share of this instance. What does not divide goes to single instances, to others for another `spread`
    /// (the key's fingerprint).
    pub fn share(&self, most: u32, spread: u32) -> u32 {
        let turn = (u64::from(self.rank) + u64::from(spread)) % u64::from(self.live);
        let part = most / self.live + u32::from(turn < u64::from(most % self.live));
        part.max(most.min(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_instance_that_does_not_hear_itself_is_still_there() {
        assert_eq!(Peers::among(5, []), Peers::ALONE);
        assert_eq!(Peers::among(5, [1, 9, 9]), Peers { live: 3, rank: 1 });
        assert_eq!(Peers::among(5, [1, 5, 9]), Peers { live: 3, rank: 1 });
    }

    proptest! {
        #[test]
        fn shares_sum_up_to_the_limit(most: u32, live in 1..40_u32, spread: u32) {
            let shares: Vec<u64> =
                (0..live).map(|rank| u64::from(Peers { live, rank }.share(most, spread))).collect();
            let expected = if most == 0 { 0 } else { u64::from(most.max(live)) };
            prop_assert_eq!(shares.iter().sum::<u64>(), expected);
            let (least, largest) = (shares.iter().min().copied(), shares.iter().max().copied());
            prop_assert!(largest.unwrap_or_default() - least.unwrap_or_default() <= 1, "none is favoured by more than one");
        }

        #[test]
        fn instances_that_believe_in_fewer_exceed_it_by_the_stated_factor(
            most in 0..1_000_000_u32, believed in proptest::collection::vec(1..20_u32, 1..20), spread: u32,
        ) {
            let sum: u64 = believed
                .iter()
                .enumerate()
                .map(|(rank, live)| u64::from(Peers { live: *live, rank: rank as u32 % live }.share(most, spread)))
                .sum();
            let (n, m) = (believed.len() as u64, u64::from(*believed.iter().min().expect("not empty")));
            prop_assert!(sum <= u64::from(most) * n / m + n);
        }
    }
}
