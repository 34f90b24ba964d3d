//! The exact form: a ring of the stamps of what was admitted, in the bytes of `layout`. The same machine as
//! `limit_ring.lua`, byte for byte.
//!
//! Slots grow with what counts, not with the limit: a light user of a large limit stays small. Stamps are in order
//! from the head on; a slot is overwritten only when its stamp no longer counts.
//!
//! Invariants
//! - What is admitted is stamped with the key's own clock, which never goes back, and takes the place only of what is
//!   a whole window older. Any `most + 1` admissions in a row therefore span at least a window.
//! - Nothing that counts is dropped, except by a reward, by a reset, or when more was merged than the limit can tell
//!   apart.

use std::borrow::Cow;

use super::check::{self, Counted, Moment};
use super::layout::{
    self, BUCKET, COARSE_HEADER, Found, RING, RING_HEADER, STAMP, packed, search, u16_at, u48,
};
use super::{Action, Applied, Change, Evaluation, Limit, Run, Verdicts, merge};

/// So many stamps are written anew every time, without room for more: one command instead of three, and no byte too many.
const SMALL: usize = 128;
/// Stamps for which a growing ring takes memory at a time.
const ROOM: usize = 8;

/// Stored bytes, looked at from one moment.
struct Ring<'a> {
    bytes: Cow<'a, [u8]>,
    head: usize,
    size: usize,
    /// Slots from the head on that no longer count.
    dead: usize,
    now: u64,
    edge: u64,
    blocked: u64,
    /// The bytes are those that are stored.
    stored: bool,
    /// The block is not stored yet and has to be.
    healed: bool,
}

/// What is to become of the stored bytes.
enum Write {
    Nothing,
    /// So many slots are overwritten.
    InPlace(usize),
    /// All of them: these stamps.
    Whole(Vec<u8>),
}

impl Counted for Ring<'_> {
    fn live(&self) -> u64 {
        (self.size - self.dead) as u64
    }

    fn stamp(&self, rank: u64) -> u64 {
        self.slot(self.dead + rank as usize - 1)
    }
}

impl<'a> Ring<'a> {
    fn open(value: &'a [u8], limit: &Limit, raw: u64) -> Self {
        let (found, mut healed, stored) = (layout::look(value, limit, raw), false, false);
        let (bytes, clock, blocked, stored) = match found {
            Found::Readable { clock, blocked } => (Cow::Borrowed(value), clock, blocked, true),
            Found::Nothing => (Cow::Owned(vec![0; RING_HEADER]), 0, 0, stored),
            Found::Other { clock, blocked } => {
                let (bytes, newest) = carried_over(value, limit.most());
                (Cow::Owned(bytes), clock.max(newest), blocked, stored)
            }
            Found::Summary { at, count, blocked } => {
                let count = count.min(u64::from(limit.most())) as usize;
                let mut bytes = vec![0; RING_HEADER];
                bytes.extend(packed(at).repeat(count));
                (Cow::Owned(bytes), at, blocked, stored)
            }
            Found::Damaged => {
                healed = true;
                (Cow::Owned(vec![0; RING_HEADER]), raw, raw + limit.window_ms(), stored)
            }
        };
        let now = raw.max(clock);
        let (head, size) = (u16_at(&bytes, 16), (bytes.len() - RING_HEADER) / STAMP);
        let edge = now.saturating_sub(limit.window_ms());
        let mut ring = Self { bytes, head, size, dead: 0, now, edge, blocked, stored, healed };
        // When the oldest counts, all of them do.
        if size > 0 && ring.slot(0) <= edge {
            ring.dead = search(size, |at| ring.slot(at) > edge);
        }
        ring
    }

    /// The stamp in the slot that is `at` after the head.
    fn slot(&self, at: usize) -> u64 {
        u48(&self.bytes, RING_HEADER + (self.head + at) % self.size * STAMP)
    }

    /// The stamps that count, oldest first.
    fn counted(&self) -> Vec<u8> {
        let live = self.size - self.dead;
        if live == 0 {
            return Vec::new();
        }
        let slots = &self.bytes[RING_HEADER..];
        let from = (self.head + self.dead) % self.size;
        let until = (from + live).min(self.size);
        let mut stamps = slots[from * STAMP..until * STAMP].to_vec();
        stamps.extend_from_slice(&slots[..(from + live - until) * STAMP]);
        stamps
    }

    fn moment(&self, limit: &Limit, raw: u64) -> Moment {
        Moment::new(limit, raw, self.now, self.blocked)
    }

    fn consume(&self, limit: &Limit, raw: u64, runs: &[Run]) -> (Evaluation, Write) {
        let moment = self.moment(limit, raw);
        let quota = moment.quota(self);
        let (verdicts, total) = moment.take(self, runs);
        let total = total as usize;
        let need = self.size - self.dead + total;
        let write = if total == 0 && !self.healed {
            Write::Nothing
        } else if self.stored && total <= self.dead && need > SMALL && need * 4 >= self.size {
            Write::InPlace(total)
        } else {
            let mut stamps = self.counted();
            stamps.extend(packed(self.now).repeat(total));
            Write::Whole(stamps)
        };
        (moment.evaluation(quota, verdicts), write)
    }

    /// The stamps after a reward; `None` = there was nothing to take back.
    fn rewarded(&self, cost: u32, stamp_ms: Option<u64>) -> Option<Vec<u8>> {
        let mut stamps = self.counted();
        let live = stamps.len() / STAMP;
        let (from, until) = match stamp_ms {
            None => (0, live),
            Some(stamp) => (
                search(live, |at| u48(&stamps, at * STAMP) >= stamp),
                search(live, |at| u48(&stamps, at * STAMP) > stamp),
            ),
        };
        let from = from.max(until.saturating_sub(cost as usize));
        if from >= until {
            return None;
        }
        stamps.drain(from * STAMP..until * STAMP);
        Some(stamps)
    }

    /// A rare action: the stamps as they will be, or `None` when nothing changes.
    fn changed(&mut self, limit: &Limit, raw: u64, action: &Action) -> Option<Vec<u8>> {
        let most = limit.most() as usize;
        let stamps = match action {
            Action::Reward { cost, stamp_ms } => self.rewarded(*cost, *stamp_ms),
            Action::Merge(aged) => {
                let keep = most.max(self.size - self.dead);
                merge::into_stamps(&self.counted(), aged, self.now, self.edge, keep)
            }
            Action::Block { for_ms } => {
                let before = self.blocked;
                self.blocked = check::block(before, raw, *for_ms);
                (self.blocked != before).then(|| self.counted())
            }
            Action::Consume(_) | Action::Peek { .. } | Action::Reset => None,
        };
        stamps.or_else(|| self.healed.then(|| self.counted()))
    }

    /// The bytes for these stamps: before many of them some room, all of it zero.
    fn bytes_of(&self, stamps: &[u8], limit: &Limit) -> Vec<u8> {
        let need = stamps.len() / STAMP;
        let roomy = need + need / 4 + 1;
        let size = if need > SMALL { need.max(roomy.min(limit.most() as usize)) } else { need };
        let mut bytes = Vec::with_capacity(RING_HEADER + size * STAMP);
        bytes.extend_from_slice(RING);
        bytes.extend_from_slice(&packed(self.now));
        bytes.extend_from_slice(&packed(self.blocked));
        bytes.resize(RING_HEADER + (size - need) * STAMP, 0);
        bytes.extend_from_slice(stamps);
        bytes
    }
}

pub(super) fn live(value: &[u8], limit: &Limit, now: u64) -> u64 {
    Ring::open(value, limit, now).live()
}

/// Admits `count` more where that is usual: nothing is blocked, they fit, and either the ring is small and in order or what
/// is over makes room for them. The same bytes as [`apply`] leaves, without another allocation. How much counts then;
/// `None` = it is not usual, and nothing is done.
pub(super) fn charge(value: &mut Vec<u8>, limit: &Limit, count: usize, now: u64) -> Option<u64> {
    let most = limit.most() as usize;
    if value.is_empty() {
        if count > most.min(SMALL) {
            return None;
        }
        value.reserve_exact(RING_HEADER + count.max(ROOM) * STAMP);
        value.extend_from_slice(RING);
        value.extend_from_slice(&[0; RING_HEADER - RING.len()]);
    }
    let size = value.len().checked_sub(RING_HEADER)? / STAMP;
    let (clock, head) = (u48(value, 4), u16_at(value, 16));
    if !value.starts_with(RING) || u48(value, 10) > 0 || clock > now || head >= size.max(1) {
        return None;
    }
    let stamp = |at: usize| u48(value, RING_HEADER + (head + at) % size * STAMP);
    let edge = now.saturating_sub(limit.window_ms());
    let dead = if size > 0 && stamp(0) <= edge { search(size, |at| stamp(at) > edge) } else { 0 };
    let need = size - dead + count;
    if need > most || (size > 0 && stamp(size - 1) > clock) {
        return None;
    }
    if need > SMALL {
        let in_place = count <= dead && need * 4 >= size;
        return in_place.then(|| overwrite(value, head, size, count, now)).map(|()| need as u64);
    }
    if head > 0 {
        return None;
    }
    value.drain(RING_HEADER..RING_HEADER + dead * STAMP);
    value[4..10].copy_from_slice(&packed(now));
    if value.capacity() - value.len() < count * STAMP {
        value.reserve_exact(count.max(ROOM) * STAMP);
    }
    (0..count).for_each(|_| value.extend_from_slice(&packed(now)));
    Some(need as u64)
}

pub(super) fn apply(value: &mut Vec<u8>, limit: &Limit, action: &Action, raw: u64) -> Applied {
    let mut ring = Ring::open(value, limit, raw);
    let (evaluation, write) = match action {
        Action::Consume(runs) => ring.consume(limit, raw, runs),
        Action::Peek { cost } => {
            let moment = ring.moment(limit, raw);
            let (verdicts, _) = moment.take(&ring, &[Run { cost: *cost, count: 1 }]);
            (moment.evaluation(moment.quota(&ring), verdicts), Write::Nothing)
        }
        rare => match ring.changed(limit, raw, rare) {
            Some(stamps) => {
                let bytes = ring.bytes_of(&stamps, limit);
                let size = (bytes.len() - RING_HEADER) / STAMP;
                let dead = size - stamps.len() / STAMP;
                ring = Ring { bytes: Cow::Owned(bytes), head: 0, size, dead, ..ring };
                let moment = ring.moment(limit, raw);
                (moment.evaluation(moment.quota(&ring), Verdicts::new()), Write::Whole(stamps))
            }
            None => {
                let moment = ring.moment(limit, raw);
                (moment.evaluation(moment.quota(&ring), Verdicts::new()), Write::Nothing)
            }
        },
    };
    let until = (ring.now + limit.window_ms()).max(ring.blocked);
    let Ring { now, head, size, .. } = ring;
    match write {
        Write::Nothing => return Applied { evaluation, change: Change::Nothing },
        Write::Whole(stamps) => *value = ring.bytes_of(&stamps, limit),
        Write::InPlace(count) => {
            drop(ring);
            overwrite(value, head, size, count, now);
        }
    }
    Applied { evaluation, change: Change::Stored { ttl_ms: until - raw } }
}

/// The newest `most` admissions of buckets as a ring, each at the end of its bucket, and the newest of these ends: the
/// key's clock may not stay behind it.
fn carried_over(coarse: &[u8], most: u32) -> (Vec<u8>, u64) {
    let buckets = (coarse.len() - COARSE_HEADER) / BUCKET;
    let (mut left, mut parts, mut newest) = (u64::from(most), Vec::new(), 0);
    for at in (0..buckets).rev() {
        let place = COARSE_HEADER + at * BUCKET;
        let (end, sum, before) = (u48(coarse, place), u48(coarse, place + 6), u48(coarse, place - 6));
        let count = left.min(sum.saturating_sub(before));
        (left, newest) = (left - count, if at + 1 == buckets { end } else { newest });
        parts.push(packed(end).repeat(count as usize));
    }
    let mut bytes = vec![0; RING_HEADER];
    parts.iter().rev().for_each(|part| bytes.extend_from_slice(part));
    (bytes, newest)
}

fn overwrite(value: &mut [u8], head: usize, size: usize, count: usize, now: u64) {
    for at in head..head + count {
        let place = RING_HEADER + at % size * STAMP;
        value[place..place + STAMP].copy_from_slice(&packed(now));
    }
    value[4..10].copy_from_slice(&packed(now));
    let head = ((head + count) % size) as u16;
    value[16..18].copy_from_slice(&head.to_be_bytes());
}
