//! How many of the reads of the last ten minutes went past the store, as arithmetic over one-minute buckets. It does
//! not count and does not read time: it is given totals and the present.
//!
//! Invariant: what was counted is in exactly one bucket, that of the minute in which it was seen first.

use crate::base::limits::{FALLBACK_LEAST_READS, FALLBACK_PERCENT, FALLBACK_WINDOW_MINUTES};

const MINUTE_MS: u64 = 60_000;

/// Reads, and those of them that went past the store. Never more of the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// All.
    pub(super) reads: u64,
    /// Past the store.
    pub(super) past: u64,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Minutes since the clock began; 0 also when nothing was counted yet, which is the same.
    minute: u64,
    counted: Totals,
}

/// The last minutes.
#[derive(Default)]
pub(super) struct Window {
    buckets: [Bucket; FALLBACK_WINDOW_MINUTES],
    /// What was seen up to now.
    seen: Totals,
    raised_ms: Option<u64>,
}

/// What the window says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Share {
    /// Of the present minute and those before it that belong to the window.
    pub(super) counted: Totals,
    /// Since when too many reads go past the store; `None` = they do not.
    pub(in crate::engine) raised_ms: Option<u64>,
}

impl Share {
    /// Between 0 and 1; `None` without a read.
    pub(super) fn ratio(&self) -> Option<f64> {
        let Totals { reads, past } = self.counted;
        (reads > 0).then(|| past as f64 / reads as f64)
    }
}

impl Window {
    /// Takes in what was counted since the last time, and says how much is too much. `total` only grows.
    pub(super) fn observe(&mut self, now_ms: u64, total: Totals) -> Share {
        let minute = now_ms / MINUTE_MS;
        let bucket = &mut self.buckets[minute as usize % FALLBACK_WINDOW_MINUTES];
        if bucket.minute != minute {
            *bucket = Bucket { minute, counted: Totals::default() };
        }
        bucket.counted.reads += total.reads.saturating_sub(self.seen.reads);
        bucket.counted.past += total.past.saturating_sub(self.seen.past);
        self.seen = Totals { reads: total.reads.max(self.seen.reads), past: total.past.max(self.seen.past) };
        let counted = self.within(minute);
        let Totals { reads, past } = counted;
        let too_many = reads >= FALLBACK_LEAST_READS && past * 100 > reads * FALLBACK_PERCENT;
        self.raised_ms = too_many.then(|| self.raised_ms.unwrap_or(now_ms));
        Share { counted, raised_ms: self.raised_ms }
    }

    fn within(&self, minute: u64) -> Totals {
        let oldest = minute.saturating_sub(FALLBACK_WINDOW_MINUTES as u64 - 1);
        let inside = self.buckets.iter().filter(|bucket| (oldest..=minute).contains(&bucket.minute));
        inside.fold(Totals::default(), |sum, Bucket { counted, .. }| Totals {
            reads: sum.reads + counted.reads,
            past: sum.past + counted.past,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(reads: u64, past: u64) -> Totals {
        Totals { reads, past }
    }

    /// The same by keeping everything.
    #[derive(Default)]
    struct Naive {
        seen: Vec<(u64, Totals)>,
        raised_ms: Option<u64>,
    }

    impl Naive {
        fn observe(&mut self, now_ms: u64, more: Totals) -> Share {
            self.seen.push((now_ms / MINUTE_MS, more));
            let inside = |minute: &u64| now_ms / MINUTE_MS - minute < FALLBACK_WINDOW_MINUTES as u64;
            let of = |pick: fn(&Totals) -> u64| {
                self.seen.iter().filter(|(minute, _)| inside(minute)).map(|(_, one)| pick(one)).sum()
            };
            let counted = totals(of(|one| one.reads), of(|one| one.past));
            let share = counted.past as f64 / counted.reads.max(1) as f64;
            let too_many = counted.reads >= FALLBACK_LEAST_READS && share > FALLBACK_PERCENT as f64 / 100.0;
            self.raised_ms = too_many.then(|| self.raised_ms.unwrap_or(now_ms));
            Share { counted, raised_ms: self.raised_ms }
        }
    }

    #[test]
    fn says_what_keeping_everything_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut raised, mut cleared) = (0, 0);
        for _ in 0..2_000 {
            let (mut window, mut naive) = (Window::default(), Naive::default());
            let (mut now_ms, mut total, mut before) = (random.u64(0..10_000_000), Totals::default(), false);
            let (busy, broken) = (random.u64(1..200), random.u64(0..30));
            for _ in 0..60 {
                now_ms += match random.u8(0..10) {
                    0 => 0,
                    1 => random.u64(0..3_600_000),
                    2..=5 => random.u64(0..MINUTE_MS),
                    _ => random.u64(0..1_000),
                };
                let reads = random.u64(0..busy);
                // In and out of an outage, so that the alarm is seen to come and to go.
                let past = if random.bool() { reads.min(random.u64(0..=broken)) } else { 0 };
                let more = totals(reads, past);
                total = totals(total.reads + more.reads, total.past + more.past);
                let share = window.observe(now_ms, total);
                assert_eq!(share, naive.observe(now_ms, more));
                raised += u32::from(share.raised_ms.is_some() && !before);
                cleared += u32::from(share.raised_ms.is_none() && before);
                before = share.raised_ms.is_some();
            }
        }
        assert!(raised > 1_000 && cleared > 1_000, "{raised} {cleared}");
    }

    #[test]
    fn one_of_two_is_no_alarm_and_a_tenth_is_none_either() {
        for (total, expected) in [
            (totals(0, 0), None),
            (totals(2, 1), None),
            (totals(99, 99), None),
            (totals(100, 10), None),
            (totals(100, 11), Some(5)),
            (totals(1_000_000, 100_000), None),
            (totals(1_000_000, 100_001), Some(5)),
        ] {
            assert_eq!(Window::default().observe(5, total).raised_ms, expected, "{total:?}");
        }
    }

    #[test]
    fn an_alarm_begins_once_and_ends_with_its_minutes() {
        let mut window = Window::default();
        let outage = totals(200, 100);
        assert_eq!(window.observe(30_000, outage).raised_ms, Some(30_000));
        for minute in 1..10 {
            let share = window.observe(minute * MINUTE_MS, outage);
            assert_eq!((share.counted, share.raised_ms), (outage, Some(30_000)), "{minute}");
        }
        let after = window.observe(10 * MINUTE_MS, outage);
        assert_eq!((after.counted, after.raised_ms, after.ratio()), (totals(0, 0), None, None));
    }

    #[test]
    fn reads_that_succeed_end_it_earlier() {
        let mut window = Window::default();
        assert!(window.observe(0, totals(200, 100)).raised_ms.is_some());
        assert!(window.observe(MINUTE_MS, totals(999, 100)).raised_ms.is_some());
        assert_eq!(window.observe(MINUTE_MS, totals(1_000, 100)).ratio(), Some(0.1));
        assert_eq!(window.observe(MINUTE_MS, totals(1_000, 100)).raised_ms, None);
    }

    #[test]
    fn a_total_that_is_read_too_early_is_not_counted_twice() {
        let mut window = Window::default();
        window.observe(0, totals(50, 5));
        window.observe(0, totals(49, 4));
        assert_eq!(window.observe(0, totals(50, 5)).counted, totals(50, 5));
    }
}
