//! A latency histogram with a fixed number of buckets. Not exact: a quantile is off by at most 1/8.

use std::sync::atomic::{AtomicU64, Ordering};

const STEPS: usize = 8;
const BUCKETS: usize = 26 * STEPS;

/// Microseconds, in buckets that grow by an eighth of a power of two.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one observation of `us` microseconds.
    pub fn record(&self, us: u64) {
        self.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(us, Ordering::Relaxed);
        self.max.fetch_max(us, Ordering::Relaxed);
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Sum of all observations in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// The largest observation in microseconds.
    pub fn max_us(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// The value that a share `q` of the observations does not exceed; 0 without observations.
    pub fn quantile_us(&self, q: f64) -> u64 {
        let total = self.count();
        let mut left = (total as f64 * q).ceil() as u64;
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Ordering::Relaxed);
            if count >= left && total > 0 {
                return upper(index).min(self.max_us());
            }
            left = left.saturating_sub(count);
        }
        0
    }

    /// Cumulative counts at `bounds_us`, for Prometheus.
    pub fn cumulative(&self, bounds_us: &[u64]) -> Vec<u64> {
        bounds_us
            .iter()
            .map(|bound| {
                self.buckets
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| upper(*index) <= *bound)
                    .map(|(_, bucket)| bucket.load(Ordering::Relaxed))
                    .sum()
            })
            .collect()
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let power = 63 - us.leading_zeros() as usize;
    let step = (us >> (power - 3)) as usize & (STEPS - 1);
    ((power - 2) * STEPS + step).min(BUCKETS - 1)
}

fn upper(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let power = index / STEPS + 2;
    let step = (index % STEPS) as u64;
    (((STEPS as u64 + step + 1) << (power - 3)) - 1).max(index as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = Histogram::default();
        for us in 1..=10_000 {
            histogram.record(us);
        }
        assert_eq!(histogram.count(), 10_000);
        assert_eq!(histogram.max_us(), 10_000);
        for q in [0.5, 0.9, 0.99] {
            let exact = 10_000.0 * q;
            let got = histogram.quantile_us(q) as f64;
            assert!((got - exact).abs() <= exact / 8.0, "{q}: {got}");
        }
        assert_eq!(Histogram::default().quantile_us(0.5), 0);
    }

    #[test]
    fn every_value_falls_under_its_upper_bound() {
        for us in (0..5_000).chain([1 << 20, 1 << 26]) {
            assert!(upper(bucket(us)) >= us || bucket(us) == BUCKETS - 1, "{us}");
        }
    }
}
