//! When a result is refreshed while it is still answered. Pure: age and chance are given.
//!
//! Invariant: without the wish of its caller nothing is answered past its time, and nothing is refreshed.

use crate::cache::Age;

use super::body::Head;

/// What a caller accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wish {
    /// How long past its time a result may be answered, in milliseconds; 0 = not at all.
    pub stale_ms: u64,
    /// How eagerly it is refreshed before its time ends; 0 = not at all, 1 = as XFetch has it.
    pub beta: f64,
}

impl Wish {
    /// Whether anything depends on the age.
    pub fn asks_age(&self) -> bool {
        self.stale_ms > 0 || self.beta > 0.0
    }
}

/// What a caller is told who gets an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// It is past its time.
    pub stale: bool,
    /// Somebody should run its query.
    pub refresh: bool,
}

/// What follows from the age of an entry that is answered; `random` is uniform in (0, 1].
pub(super) fn advise(wish: Wish, head: Head, age: Age, random: f64) -> Advice {
    match age {
        Age::Past { .. } => Advice { stale: true, refresh: true },
        Age::Current { left_ms } => {
            Advice { stale: false, refresh: early(0, left_ms, u64::from(head.took_ms), wish.beta, random) }
        }
        Age::Unknown => Advice::default(),
    }
}

/// XFetch: whether one who reads at `now_ms` what ends at `expires_ms` refreshes it already. That happens with
/// probability `exp(-left / (beta * took))`, `left` being the time between: nearly never long before the end, always at
/// the end, and the earlier the longer the query takes. Optimal among rules that know no rate (Vattani, Chierichetti,
/// Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015).
pub fn early(now_ms: u64, expires_ms: u64, took_ms: u64, beta: f64, random: f64) -> bool {
    let left = expires_ms.saturating_sub(now_ms) as f64;
    beta > 0.0 && -(beta * took_ms as f64) * random.ln() >= left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rng() -> fastrand::Rng {
        fastrand::Rng::with_seed(20_264)
    }

    /// How often of `rounds` times.
    fn share(rng: &mut fastrand::Rng, rounds: u32, left: u64, took: u64, beta: f64) -> f64 {
        let often = (0..rounds).filter(|_| early(500, 500 + left, took, beta, 1.0 - rng.f64())).count();
        often as f64 / f64::from(rounds)
    }

    #[test]
    fn its_probability_is_the_one_of_the_paper() {
        let mut rng = rng();
        let rounds = 20_000;
        for beta in [0.5, 1.0, 3.0] {
            for took in [1, 40, 2_500] {
                for spans in [0.1, 0.5, 1.0, 2.0, 4.0] {
                    let left = (spans * beta * took as f64).round() as u64;
                    let expected = (-(left as f64) / (beta * took as f64)).exp();
                    let seen = share(&mut rng, rounds, left, took, beta);
                    // Four standard deviations.
                    let most = 4.0 * (expected * (1.0 - expected) / f64::from(rounds)).sqrt() + 1e-9;
                    assert!(
                        (seen - expected).abs() <= most,
                        "beta {beta} took {took} left {left}: {seen} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn it_grows_towards_the_end_and_with_the_cost() {
        let mut rng = rng();
        let towards: Vec<f64> = [4_000, 2_000, 1_000, 500, 100, 0]
            .into_iter()
            .map(|left| share(&mut rng, 5_000, left, 1_000, 1.0))
            .collect();
        assert!(towards.windows(2).all(|pair| pair[0] < pair[1]), "{towards:?}");
        assert_eq!(towards.last(), Some(&1.0), "at its end always");
        let dearer: Vec<f64> = [10, 100, 1_000, 10_000]
            .into_iter()
            .map(|took| share(&mut rng, 5_000, 1_000, took, 1.0))
            .collect();
        assert!(dearer.windows(2).all(|pair| pair[0] < pair[1]), "{dearer:?}");
    }

    proptest! {
        #[test]
        fn off_is_off(now: u64, expires: u64, took: u64, random in 0.0_f64..=1.0) {
            for beta in [0.0, -1.0, f64::NAN] {
                prop_assert!(!early(now, expires, took, beta, random));
            }
        }

        #[test]
        fn one_who_refreshes_would_also_later_and_with_more_eagerness(
            left in 0_u64..100_000,
            sooner in 0_u64..1_000,
            took in 0_u64..10_000,
            beta in 0.01_f64..100.0,
            random in 1e-12_f64..=1.0,
        ) {
            if early(0, left + sooner, took, beta, random) {
                prop_assert!(early(0, left, took, beta, random));
                prop_assert!(early(sooner, left + sooner, took, beta, random));
                prop_assert!(early(0, left + sooner, took + 1, beta, random));
                prop_assert!(early(0, left + sooner, took, beta * 1.5, random));
            }
        }

        #[test]
        fn only_what_is_past_its_time_is_called_stale(left in 0_u64..1_000_000, past: u64, random in 1e-12_f64..=1.0) {
            let head = Head { generation: 1, kept_ms: 5, took_ms: 100 };
            for beta in [0.0, 1.0] {
                let wish = Wish { stale_ms: 5, beta };
                let current = advise(wish, head, Age::Current { left_ms: left }, random);
                prop_assert!(!current.stale);
                prop_assert_eq!(current.refresh, early(0, left, 100, beta, random));
                let stale = advise(wish, head, Age::Past { ms: past }, random);
                prop_assert_eq!(stale, Advice { stale: true, refresh: true });
            }
        }
    }
}
