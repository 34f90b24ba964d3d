//! The bytes of a stored limit, as the scripts see them: what is ours, what can be read, what it says at least.
//!
//! ```text
//! ring    blr1 | clock u48 | blocked u48 | head u16 | stamp u48 ...           oldest at head, 0 = empty
//! coarse  blc1 | clock u48 | blocked u48 | base u48 | (end u48, sum u48) ...  sum = base + all up to this bucket
//! ```
//! Big-endian milliseconds. `clock` is the newest time at which something was stored: the key's own monotone clock.
//!
//! Invariant: whatever the bytes are, reading them does not panic, and what is read counts at least as much as what
//! was written.

use super::{BLOCK_MS, Form, Limit};

pub(super) const RING: &[u8; 4] = b"blr1";
pub(super) const COARSE: &[u8; 4] = b"blc1";
/// What every format of ours begins with, later ones included.
const OURS: &[u8; 2] = b"bl";

pub(super) const RING_HEADER: usize = 18;
pub(super) const COARSE_HEADER: usize = 22;
pub(super) const STAMP: usize = 6;
pub(super) const BUCKET: usize = 12;
/// The head is a u16.
const SLOTS: usize = u16::MAX as usize;

/// What is stored under a key.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Nothing, or something that cannot be ours.
    Nothing,
    /// Of the form that was asked for.
    Readable { clock: u64, blocked: u64 },
    /// Of the other form: its admissions are to be carried over.
    Other { clock: u64, blocked: u64 },
    /// With times that cannot be right: at most `count` was admitted, no later than `at`.
    Summary { at: u64, count: u64, blocked: u64 },
    /// Ours, and not to be understood: whatever was admitted is over after one window.
    Damaged,
}

/// Structure of a value that can be read.
struct Shape {
    form: Form,
    count: u64,
    newest: u64,
}

pub(super) fn u48(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

pub(super) fn packed(ms: u64) -> [u8; 6] {
    let [_, _, low @ ..] = ms.to_be_bytes();
    low
}

/// The first of `len` places at which `there` is true, if it stays true from there on. The scripts search in the same
/// steps, so that even nonsense is read alike.
pub(super) fn search(len: usize, there: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = (low + high) / 2;
        if there(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

fn shape(value: &[u8]) -> Option<Shape> {
    if value.starts_with(RING) && value.len() >= RING_HEADER {
        let (body, head) = (&value[RING_HEADER..], u16_at(value, 16));
        let size = body.len() / STAMP;
        if body.len() % STAMP != 0 || size > SLOTS || head >= size.max(1) {
            return None;
        }
        let newest = if size == 0 { 0 } else { u48(body, (head + size - 1) % size * STAMP) };
        return Some(Shape { form: Form::Ring, count: size as u64, newest });
    }
    if value.starts_with(COARSE) && value.len() >= COARSE_HEADER {
        let (body, base) = (&value[COARSE_HEADER..], u48(value, 16));
        if body.len() % BUCKET != 0 {
            return None;
        }
        let last = body.len().checked_sub(BUCKET);
        let sum = last.map_or(base, |last| u48(body, last + 6));
        let newest = last.map_or(0, |last| u48(body, last));
        return sum.checked_sub(base).map(|count| Shape { form: Form::Coarse, count, newest });
    }
    None
}

/// What `value` says, for a limit of this form and window at `raw`.
pub(super) fn look(value: &[u8], limit: &Limit, raw: u64) -> Found {
    if !value.starts_with(OURS) {
        return Found::Nothing;
    }
    let Some(Shape { form, count, newest }) = shape(value) else { return Found::Damaged };
    let (clock, blocked) = (u48(value, 4), u48(value, 10));
    if clock > raw + limit.window_ms() {
        // The clock went back by more than a window. To wait for it could take for ever.
        let left = blocked.saturating_sub(clock).min(BLOCK_MS);
        return Found::Summary { at: raw, count, blocked: if left > 0 { raw + left } else { 0 } };
    }
    // A bucket may end later than now, but not by a window.
    let ahead = if form == Form::Coarse { limit.window_ms() } else { 0 };
    if newest > clock + ahead {
        return Found::Summary { at: clock, count, blocked };
    }
    if form != limit.form() { Found::Other { clock, blocked } } else { Found::Readable { clock, blocked } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_ours_is_nothing_and_what_could_be_is_damaged() {
        let limit = Limit::new(5, 1_000).expect("a limit");
        for nothing in [&b""[..], b"b", b"foreign", b"\0\0\0\0"] {
            assert_eq!(look(nothing, &limit, 1), Found::Nothing);
        }
        let mut ring = [&RING[..], &packed(5), &packed(0), &[0, 0], &packed(5)].concat();
        assert_eq!(look(&ring, &limit, 1), Found::Readable { clock: 5, blocked: 0 });
        for length in 2..ring.len() {
            if length != RING_HEADER {
                assert_eq!(look(&ring[..length], &limit, 1), Found::Damaged, "{length}");
            }
        }
        ring[17] = 1;
        assert_eq!(look(&ring, &limit, 1), Found::Damaged, "no such slot");
        assert_eq!(look(b"blr2 of a later release", &limit, 1), Found::Damaged);
    }

    proptest! {
        #[test]
        fn nothing_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), ours in 0..3, raw in 1..u64::MAX >> 17) {
            let mark = [&b""[..], RING, COARSE][ours as usize];
            bytes.splice(..0, mark.iter().copied());
            for most in [10, 2_000] {
                look(&bytes, &Limit::new(most, 1_000).expect("a limit"), raw);
            }
        }
    }
}
