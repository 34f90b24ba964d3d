//! The form for large limits: what was admitted in one bucket, a twentieth of the window, shares the stamp of the
//! bucket's end. The same machine as `limit_coarse.lua`, byte for byte.
//!
//! A bucket opens with the first admission after the last one ended, so at most 21 count at a time and a key is at
//! most 274 bytes (at most 538 until a window after a merge). Each bucket holds the sum of all before it too: a decision is two
//! binary searches.
//!
//! Invariant: an admission counts at least for the window, hence never more than `most` in any window. It counts at
//! most [`Limit::slack_ms`] longer, hence nothing is denied that would fit into a window longer by that.

use std::borrow::Cow;

use super::check::{self, Counted, Moment};
use super::layout::{
    self, BUCKET, COARSE, COARSE_HEADER, Found, RING_HEADER, STAMP, packed, search, u16_at, u48,
};
use super::{Action, Applied, BUCKETS, Change, Limit, Run, Verdicts, merge};

/// How long a bucket is open.
pub(super) fn width_ms(window_ms: u64) -> u64 {
    window_ms.div_ceil(BUCKETS)
}

/// When a bucket ends and how much was admitted in it.
pub(super) type Bucket = (u64, u64);

/// Stored bytes, looked at from one moment.
struct Buckets<'a> {
    bytes: Cow<'a, [u8]>,
    size: usize,
    /// Buckets that no longer count.
    dead: usize,
    /// Sum of all that no longer counts.
    before: u64,
    now: u64,
    edge: u64,
    blocked: u64,
    healed: bool,
}

impl Counted for Buckets<'_> {
    fn live(&self) -> u64 {
        self.sum(self.size).saturating_sub(self.before)
    }

    fn stamp(&self, rank: u64) -> u64 {
        let at = search(self.size - self.dead, |at| {
            self.sum(self.dead + at + 1).saturating_sub(self.before) >= rank
        });
        self.end((self.dead + at).min(self.size - 1))
    }
}

impl<'a> Buckets<'a> {
    fn open(value: &'a [u8], limit: &Limit, raw: u64) -> Self {
        let found = layout::look(value, limit, raw);
        let healed = found == Found::Damaged;
        let (bytes, clock, blocked) = match found {
            Found::Readable { clock, blocked } => (Cow::Borrowed(value), clock, blocked),
            Found::Nothing => (Cow::Owned(vec![0; COARSE_HEADER]), 0, 0),
            Found::Other { clock, blocked } => {
                (Cow::Owned(encode(0, 0, &carried_over(value, limit, clock))), clock, blocked)
            }
            Found::Summary { at, count, blocked } => {
                let all = if count > 0 { vec![(at, count)] } else { Vec::new() };
                (Cow::Owned(encode(0, 0, &all)), at, blocked)
            }
            Found::Damaged => (Cow::Owned(vec![0; COARSE_HEADER]), raw, raw + limit.window_ms()),
        };
        Self::of(bytes, raw.max(clock), blocked, healed, limit)
    }

    fn of(bytes: Cow<'a, [u8]>, now: u64, blocked: u64, healed: bool, limit: &Limit) -> Self {
        let size = (bytes.len() - COARSE_HEADER) / BUCKET;
        let edge = now.saturating_sub(limit.window_ms());
        let mut buckets = Self { bytes, size, dead: 0, before: 0, now, edge, blocked, healed };
        buckets.dead = search(size, |at| buckets.end(at) > edge);
        buckets.before = buckets.sum(buckets.dead);
        buckets
    }

    fn end(&self, at: usize) -> u64 {
        u48(&self.bytes, COARSE_HEADER + at * BUCKET)
    }

    /// The sum of the first `count` buckets and of all that were before them.
    fn sum(&self, count: usize) -> u64 {
        u48(&self.bytes, COARSE_HEADER - 6 + count * BUCKET)
    }

    /// Whether the newest bucket is still open.
    fn is_open(&self) -> bool {
        self.size > self.dead && self.end(self.size - 1) >= self.now
    }

    fn moment(&self, limit: &Limit, raw: u64) -> Moment {
        let stamp =
            if self.is_open() { self.end(self.size - 1) } else { self.now + width_ms(limit.window_ms()) - 1 };
        Moment::new(limit, raw, stamp, self.blocked)
    }

    /// The buckets that count.
    fn counted(&self) -> Vec<Bucket> {
        (self.dead..self.size)
            .map(|at| (self.end(at), self.sum(at + 1).saturating_sub(self.sum(at))))
            .collect()
    }

    /// The bytes after `total` more were admitted; sums go on from where they are.
    fn charged(&self, stamp: u64, total: u64) -> Vec<u8> {
        let kept = if self.is_open() && total > 0 { self.size - 1 } else { self.size };
        let from = COARSE_HEADER + self.dead * BUCKET;
        let mut bytes = header(self.now, self.blocked, self.before);
        bytes.extend_from_slice(&self.bytes[from..COARSE_HEADER + kept * BUCKET]);
        if total > 0 {
            bytes.extend_from_slice(&packed(stamp));
            bytes.extend_from_slice(&packed(self.sum(self.size) + total));
        }
        bytes
    }

    /// A rare action: the buckets as they will be, or `None` when nothing changes.
    fn changed(&mut self, limit: &Limit, raw: u64, action: &Action) -> Option<Vec<Bucket>> {
        let mut all = self.counted();
        let changed = match action {
            Action::Reward { cost, stamp_ms } => reward(&mut all, *cost, *stamp_ms),
            Action::Merge(aged) => {
                merge::into_buckets(&mut all, aged, self.now, self.edge, width_ms(limit.window_ms()))
            }
            Action::Block { for_ms } => {
                let before = self.blocked;
                self.blocked = check::block(before, raw, *for_ms);
                self.blocked != before
            }
            Action::Consume(_) | Action::Peek { .. } | Action::Reset => false,
        };
        (changed || self.healed).then_some(all)
    }
}

/// Takes back from the newest bucket on, or only from the one with this end.
fn reward(all: &mut Vec<Bucket>, cost: u32, stamp_ms: Option<u64>) -> bool {
    let mut left = u64::from(cost);
    for (end, count) in all.iter_mut().rev() {
        if stamp_ms.is_none_or(|stamp| stamp == *end) {
            let back = left.min(*count);
            *count -= back;
            left -= back;
        }
    }
    all.retain(|(_, count)| *count > 0);
    left < u64::from(cost)
}

/// What counts of a ring, as buckets that end at multiples of their width: carried over and back again, an admission is
/// put off once and not each time.
fn carried_over(ring: &[u8], limit: &Limit, clock: u64) -> Vec<Bucket> {
    let (size, head) = ((ring.len() - RING_HEADER) / STAMP, u16_at(ring, 16));
    let (edge, width) = (clock.saturating_sub(limit.window_ms()), width_ms(limit.window_ms()));
    let mut all: Vec<Bucket> = Vec::new();
    for at in 0..size {
        let stamp = u48(ring, RING_HEADER + (head + at) % size * STAMP);
        if stamp <= edge {
            continue;
        }
        let end = (stamp / width + 1) * width - 1;
        match all.last_mut() {
            Some((last, count)) if *last == end => *count += 1,
            _ => all.push((end, 1)),
        }
    }
    all
}

fn header(now: u64, blocked: u64, base: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COARSE_HEADER + (BUCKETS as usize + 1) * BUCKET);
    bytes.extend_from_slice(COARSE);
    bytes.extend_from_slice(&packed(now));
    bytes.extend_from_slice(&packed(blocked));
    bytes.extend_from_slice(&packed(base));
    bytes
}

fn encode(now: u64, blocked: u64, all: &[Bucket]) -> Vec<u8> {
    let (mut bytes, mut sum) = (header(now, blocked, 0), 0);
    for (end, count) in all {
        sum += count;
        bytes.extend_from_slice(&packed(*end));
        bytes.extend_from_slice(&packed(sum));
    }
    bytes
}

/// Admits `total` more where that is usual: into the bucket that is open, while all of them count. The same bytes as
/// [`apply`] leaves. How much counts then; `None` = it is not usual, and nothing is done.
pub(super) fn charge(value: &mut [u8], limit: &Limit, total: u64, now: u64) -> Option<u64> {
    let last = value.len().checked_sub(BUCKET).filter(|last| *last >= COARSE_HEADER)?;
    let clock = u48(value, 4);
    if !value.starts_with(COARSE) || value[10..16] != [0; 6] || clock > now {
        return None;
    }
    let (base, oldest, newest, sum) =
        (u48(value, 16), u48(value, COARSE_HEADER), u48(value, last), u48(value, last + 6));
    let edge = now.saturating_sub(limit.window_ms());
    let counts = sum.checked_sub(base)? + total;
    let open = oldest > edge && newest >= now && newest <= clock + limit.window_ms();
    if !open || counts > u64::from(limit.most()) {
        return None;
    }
    value[4..10].copy_from_slice(&packed(now));
    value[last + 6..].copy_from_slice(&packed(sum + total));
    Some(counts)
}

pub(super) fn live(value: &[u8], limit: &Limit, now: u64) -> u64 {
    Buckets::open(value, limit, now).live()
}

pub(super) fn apply(value: &mut Vec<u8>, limit: &Limit, action: &Action, raw: u64) -> Applied {
    let mut buckets = Buckets::open(value, limit, raw);
    let (now, mut moment) = (buckets.now, buckets.moment(limit, raw));
    let mut quota = moment.quota(&buckets);
    let (mut verdicts, mut bytes, mut newest) = (Verdicts::new(), None, 0);
    match action {
        Action::Consume(runs) => {
            let (all, total) = moment.take(&buckets, runs);
            verdicts = all;
            if total > 0 || buckets.healed {
                bytes = Some(buckets.charged(moment.stamp_ms, total));
                newest = if total > 0 { moment.stamp_ms } else { 0 };
            }
        }
        Action::Peek { cost } => {
            verdicts = moment.take(&buckets, &[Run { cost: *cost, count: 1 }]).0;
        }
        rare => {
            if let Some(all) = buckets.changed(limit, raw, rare) {
                let written = encode(now, buckets.blocked, &all);
                newest = all.last().map_or(0, |(end, _)| *end);
                let after = Buckets::of(Cow::Borrowed(&written), now, buckets.blocked, false, limit);
                moment = after.moment(limit, raw);
                quota = moment.quota(&after);
                bytes = Some(written);
            }
        }
    }
    let until = (now.max(newest) + limit.window_ms()).max(buckets.blocked);
    let evaluation = moment.evaluation(quota, verdicts);
    let Some(bytes) = bytes else { return Applied { evaluation, change: Change::Nothing } };
    *value = bytes;
    Applied { evaluation, change: Change::Stored { ttl_ms: until - raw } }
}
