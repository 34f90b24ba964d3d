//! Charging what was admitted elsewhere: by an instance while the store was away, or by force as a penalty. It is told
//! by age, so clocks of different machines are never compared.
//!
//! Invariant: what is merged counts at least until a window after it was admitted. The way of the message only makes
//! it younger. News that are sent again are counted once where the store can note their mark, see `store::Op::Tell`; elsewhere twice,
//! which may deny, never admit.

use super::coarse::Bucket;
use super::layout::{STAMP, packed, search, u48};

/// Admissions of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aged {
    /// How long ago.
    pub age_ms: u64,
    /// The sum of their costs.
    pub count: u32,
}

/// Oldest first, as both machines read them.
pub(super) fn oldest_first(aged: &[Aged]) -> Vec<Aged> {
    let mut aged = aged.to_vec();
    aged.sort_by_key(|one| std::cmp::Reverse(one.age_ms));
    aged
}

/// What of `aged` still counts: its stamp and count, oldest first.
fn counting(aged: &[Aged], now: u64, edge: u64) -> impl Iterator<Item = (u64, u32)> {
    oldest_first(aged)
        .into_iter()
        .map(move |one| (now.saturating_sub(one.age_ms), one.count))
        .filter(move |(stamp, count)| *stamp > edge && *count > 0)
}

/// Ordered stamps with `aged` among them, the newest `keep` of them; `None` when nothing of it counts.
pub(super) fn into_stamps(stamps: &[u8], aged: &[Aged], now: u64, edge: u64, keep: usize) -> Option<Vec<u8>> {
    let live = stamps.len() / STAMP;
    let (mut merged, mut from, mut any) = (Vec::with_capacity(stamps.len()), 0, false);
    for (stamp, count) in counting(aged, now, edge) {
        let until = search(live, |at| u48(stamps, at * STAMP) > stamp).max(from);
        merged.extend_from_slice(&stamps[from * STAMP..until * STAMP]);
        // More of one moment than is kept at all need not be written down.
        merged.extend(packed(stamp).repeat((count as usize).min(keep)));
        (from, any) = (until, true);
    }
    merged.extend_from_slice(&stamps[from * STAMP..]);
    let superfluous = merged.len().saturating_sub(keep * STAMP);
    merged.drain(..superfluous);
    any.then_some(merged)
}

/// Puts `aged` into the bucket that ends within a width after it, or into a new one that ends a width after it.
/// Whether anything of it counts.
pub(super) fn into_buckets(all: &mut Vec<Bucket>, aged: &[Aged], now: u64, edge: u64, width: u64) -> bool {
    let mut any = false;
    for (stamp, count) in counting(aged, now, edge) {
        let at = search(all.len(), |at| all[at].0 >= stamp);
        match all.get_mut(at).filter(|(end, _)| end - stamp < width) {
            Some((_, sum)) => *sum += u64::from(count),
            None => all.insert(at, (stamp + width - 1, u64::from(count))),
        }
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(all: &[u64]) -> Vec<u8> {
        all.iter().flat_map(|stamp| packed(*stamp)).collect()
    }

    #[test]
    fn stamps_end_up_in_order_and_the_newest_are_kept() {
        let aged =
            [Aged { age_ms: 1, count: 1 }, Aged { age_ms: 50, count: 2 }, Aged { age_ms: 100, count: 9 }];
        let merged = into_stamps(&stamps(&[30, 50, 90]), &aged, 100, 0, 10);
        assert_eq!(merged, Some(stamps(&[30, 50, 50, 50, 90, 99])), "what is a window old no longer counts");
        let merged = into_stamps(&stamps(&[30, 50, 90]), &aged, 100, 0, 4);
        assert_eq!(merged, Some(stamps(&[50, 50, 90, 99])));
        assert_eq!(into_stamps(&stamps(&[30]), &aged[2..], 100, 0, 4), None);
        let flood = [Aged { age_ms: 0, count: u32::MAX }];
        assert_eq!(into_stamps(&stamps(&[30]), &flood, 100, 0, 2), Some(stamps(&[100, 100])));
    }

    #[test]
    fn buckets_take_what_is_just_before_their_end_and_stay_few() {
        let mut all = vec![(50, 7), (90, 1)];
        let aged = [41, 40, 51, 91].map(|stamp| Aged { age_ms: 100 - stamp, count: 1 });
        assert!(into_buckets(&mut all, &aged, 100, 0, 10));
        assert_eq!(all, [(49, 2), (50, 7), (60, 1), (90, 1), (100, 1)]);
        let every_ms: Vec<_> = (0..100).map(|age_ms| Aged { age_ms, count: 1 }).collect();
        for _ in 0..20 {
            into_buckets(&mut all, &every_ms, 100, 0, 10);
            assert!(all.is_sorted() && all.len() <= 5 + 11, "{all:?}");
        }
    }
}
