//! A list of integers in as few bytes each as their range needs: the smallest, then the distance of each from it.
//!
//! The one encoding of the index. Dates, identifiers, codes of dictionaries, mantissas and bits of floats are all
//! integers. On the wire the distances lie byte by byte (all lowest bytes, then all next ones ...), so that lz4 finds
//! what repeats; in memory they lie in the next machine type.
//!
//! Invariant: equal lists have equal bytes. Reading allocates at most twice what it was given.

use super::column::Pick;
use super::nulls::Nulls;
use super::refused::Refused;
use super::wire::{self, Reader};

/// Integers, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    rows: usize,
    least: i128,
    /// Of the largest from the smallest.
    span: u128,
    distances: Distances,
}

/// Distances from the smallest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distances {
    /// All are 0.
    None,
    /// One byte each.
    U8(Vec<u8>),
    /// Two bytes each.
    U16(Vec<u16>),
    /// Three or four on the wire.
    U32(Vec<u32>),
    /// Five to eight on the wire.
    U64(Vec<u64>),
    /// More than eight on the wire.
    U128(Vec<u128>),
}

/// Runs `$some` with the list of distances, whatever its type, or `$none` without one.
macro_rules! with_distances {
    ($distances:expr, $list:ident => $some:expr, $none:expr) => {
        match $distances {
            Distances::None => $none,
            Distances::U8($list) => $some,
            Distances::U16($list) => $some,
            Distances::U32($list) => $some,
            Distances::U64($list) => $some,
            Distances::U128($list) => $some,
        }
    };
}

/// The machine types of distances.
trait Unsigned: Copy + Ord + Default {
    const MOST: u128;
    /// Cut off, not checked.
    fn of(value: u128) -> Self;
    fn wide(self) -> u128;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn byte(self, plane: usize) -> u8;
    fn with(self, plane: usize, byte: u8) -> Self;
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl Unsigned for $type {
            const MOST: u128 = <$type>::MAX as u128;
            fn of(value: u128) -> Self {
                value as $type
            }
            fn wide(self) -> u128 {
                u128::from(self)
            }
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            fn byte(self, plane: usize) -> u8 {
                (self >> (8 * plane)) as u8
            }
            fn with(self, plane: usize, byte: u8) -> Self {
                self | (<$type>::from(byte) << (8 * plane))
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64, u128);

impl Packed {
    /// Packs `values`.
    pub fn pack(values: &[i128]) -> Self {
        let least = values.iter().copied().min().unwrap_or(0);
        let most = values.iter().copied().max().unwrap_or(0);
        let distance = |value: &i128| value.wrapping_sub(least) as u128;
        Self::of(values.len(), least, distance(&most), || values.iter().map(distance))
    }

    /// Packs codes; those in the place of a NULL do not matter.
    pub(super) fn pack_codes(codes: Vec<u32>, nulls: &Nulls) -> Self {
        let rows = codes.len();
        Self { rows, least: 0, span: u32::MAX.into(), distances: Distances::U32(codes) }.settle(nulls)
    }

    /// The picked integers, not yet in as few bytes as they could be.
    pub(super) fn gather(parts: &[&Packed], picks: &[Pick]) -> Self {
        let least = parts.iter().map(|part| part.least).min().unwrap_or(0);
        let most = parts.iter().map(|part| part.most()).max().unwrap_or(0);
        let span = most.wrapping_sub(least) as u128;
        let distances = match width(span) {
            0 => Distances::None,
            1 => Distances::U8(gathered(parts, picks, least)),
            2 => Distances::U16(gathered(parts, picks, least)),
            3..=4 => Distances::U32(gathered(parts, picks, least)),
            5..=8 => Distances::U64(gathered(parts, picks, least)),
            _ => Distances::U128(gathered(parts, picks, least)),
        };
        Self { rows: picks.len(), least, span, distances }
    }

    /// In as few bytes as they can be, with the smallest in the place of every NULL, so that what stands there
    /// neither costs nor differs.
    pub(super) fn settle(self, nulls: &Nulls) -> Self {
        let least = self.least;
        with_distances!(self.distances, list => settled(list, least, nulls), {
            let least = if nulls.count() < self.rows { least } else { 0 };
            Self { rows: self.rows, least, span: 0, distances: Distances::None }
        })
    }

    /// A tenth of each, when all are whole.
    pub(super) fn tenth(&self) -> Option<Self> {
        fn whole<T: Unsigned>(list: &[T]) -> bool {
            // Division of 128 bits is slow and rarely needed.
            list.iter().all(|distance| match u64::try_from(distance.wide()) {
                Ok(small) => small % 10 == 0,
                Err(_) => distance.wide() % 10 == 0,
            })
        }
        if self.least % 10 != 0 || !with_distances!(&self.distances, list => whole(list), true) {
            return None;
        }
        let (rows, least, span) = (self.rows, self.least / 10, self.span / 10);
        Some(with_distances!(
            &self.distances,
            list => Self::of(rows, least, span, || list.iter().map(|distance| distance.wide() / 10)),
            Self { rows, least, span: 0, distances: Distances::None }
        ))
    }

    /// Of distances, the largest of which is `span`.
    fn of<I: Iterator<Item = u128>>(rows: usize, least: i128, span: u128, distances: impl Fn() -> I) -> Self {
        let distances = match width(span) {
            0 => Distances::None,
            1 => Distances::U8(distances().map(Unsigned::of).collect()),
            2 => Distances::U16(distances().map(Unsigned::of).collect()),
            3..=4 => Distances::U32(distances().map(Unsigned::of).collect()),
            5..=8 => Distances::U64(distances().map(Unsigned::of).collect()),
            _ => Distances::U128(distances().collect()),
        };
        Self { rows, least, span, distances }
    }

    /// How many.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The smallest; 0 without any.
    pub fn least(&self) -> i128 {
        self.least
    }

    /// The largest; 0 without any.
    pub fn most(&self) -> i128 {
        self.least.wrapping_add(self.span as i128)
    }

    /// How far each is from the smallest.
    pub fn distances(&self) -> &Distances {
        &self.distances
    }

    /// One of them.
    pub fn at(&self, row: usize) -> i128 {
        let distance = with_distances!(&self.distances, list => list[row].wide(), 0);
        self.least.wrapping_add(distance as i128)
    }

    /// These of them, in this order.
    pub fn each(&self, rows: impl Iterator<Item = u32>, mut take: impl FnMut(i128)) {
        let least = self.least;
        with_distances!(
            &self.distances,
            list => rows.for_each(|row| take(least.wrapping_add(list[row as usize].wide() as i128))),
            rows.for_each(|_| take(least))
        );
    }

    /// Something of each of them.
    pub(super) fn map<T: Clone>(&self, mut of: impl FnMut(i128) -> T) -> Vec<T> {
        let least = self.least;
        // Not through `each`: without a row to look up, the loop is made of vector instructions.
        with_distances!(
            &self.distances,
            list => list.iter().map(|distance| of(least.wrapping_add(distance.wide() as i128))).collect(),
            if self.rows == 0 { Vec::new() } else { vec![of(least); self.rows] }
        )
    }

    /// Whether all of these adjacent ones are `value`.
    pub fn all_are(&self, rows: std::ops::Range<u32>, value: i128) -> bool {
        fn all<T: Unsigned>(list: &[T], distance: u128) -> bool {
            list.is_empty() || distance <= T::MOST && list.iter().all(|other| *other == T::of(distance))
        }
        let distance = value.wrapping_sub(self.least) as u128;
        let rows = rows.start as usize..rows.end as usize;
        with_distances!(&self.distances, list => all(&list[rows], distance), rows.is_empty() || distance == 0)
    }

    /// Keeps the rows whose value lies between the two, both included.
    pub fn retain_between(&self, rows: &mut Vec<u32>, low: i128, high: i128) {
        if low <= self.least && self.most() <= high {
            return;
        }
        if high < self.least || self.most() < low || high < low {
            return rows.clear();
        }
        let low = if low <= self.least { 0 } else { low.wrapping_sub(self.least) as u128 };
        let high = high.wrapping_sub(self.least) as u128;
        with_distances!(&self.distances, list => retain_in(list, rows, low, high), ());
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        with_distances!(&self.distances, list => size_of_val(&list[..]), 0)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        wire::put_signed(out, self.least);
        let width = width(self.span);
        out.push(width as u8);
        with_distances!(
            &self.distances,
            list => for plane in 0..width {
                out.extend(list.iter().map(|distance| distance.byte(plane)));
            },
            ()
        );
    }

    pub(super) fn decode(reader: &mut Reader<'_>, rows: usize) -> Result<Self, Refused> {
        let least = reader.signed()?;
        let width = usize::from(reader.byte()?);
        if width > 16 {
            return Err(Refused::Corrupt("integers that are too wide"));
        }
        let planes = reader.take(width.checked_mul(rows).ok_or(Refused::Corrupt("too many rows"))?)?;
        let distances = match width {
            0 => Distances::None,
            1 => Distances::U8(planes.to_vec()),
            2 => Distances::U16(unplane(planes, rows)),
            3..=4 => Distances::U32(unplane(planes, rows)),
            5..=8 => Distances::U64(unplane(planes, rows)),
            _ => Distances::U128(unplane(planes, rows)),
        };
        let span = with_distances!(&distances, list => list.iter().max().map_or(0, |most| most.wide()), 0);
        if self::width(span) != width || least.checked_add_unsigned(span).is_none() {
            return Err(Refused::Corrupt("integers that are not packed"));
        }
        Ok(Self { rows, least, span, distances })
    }
}

fn gathered<T: Unsigned>(parts: &[&Packed], picks: &[Pick], least: i128) -> Vec<T> {
    let mut list = Vec::with_capacity(picks.len());
    // Picks of one part mostly follow each other: the type of its distances is looked at once for all of them.
    for run in picks.chunk_by(|a, b| a.0 == b.0) {
        let part = parts[run[0].0 as usize];
        let ahead = T::of(part.least.wrapping_sub(least) as u128);
        with_distances!(
            &part.distances,
            distances => list.extend(run.iter().map(|pick| T::of(distances[pick.1 as usize].wide()).plus(ahead))),
            list.extend(run.iter().map(|_| ahead))
        );
    }
    list
}

fn settled<T: Unsigned>(mut list: Vec<T>, least: i128, nulls: &Nulls) -> Packed {
    let there = |row: &usize| !nulls.any() || !nulls.at(*row);
    let mut bounds: Option<(T, T)> = None;
    for row in (0..list.len()).filter(there) {
        let value = list[row];
        bounds = bounds.map_or(Some((value, value)), |(low, high)| Some((low.min(value), high.max(value))));
    }
    let Some((low, high)) = bounds else {
        return Packed { rows: list.len(), least: 0, span: 0, distances: Distances::None };
    };
    if nulls.any() {
        (0..list.len()).filter(|row| nulls.at(*row)).for_each(|row| list[row] = low);
    }
    let span = high.minus(low).wide();
    let least = least.wrapping_add(low.wide() as i128);
    Packed::of(list.len(), least, span, || list.iter().map(|value| value.minus(low).wide()))
}

/// Bytes that a distance needs.
fn width(span: u128) -> usize {
    (u128::BITS - span.leading_zeros()).div_ceil(8) as usize
}

fn unplane<T: Unsigned>(planes: &[u8], rows: usize) -> Vec<T> {
    let mut list = vec![T::default(); rows];
    if rows > 0 {
        for (plane, bytes) in planes.chunks_exact(rows).enumerate() {
            for (distance, byte) in list.iter_mut().zip(bytes) {
                *distance = distance.with(plane, *byte);
            }
        }
    }
    list
}

fn retain_in<T: Unsigned>(list: &[T], rows: &mut Vec<u32>, low: u128, high: u128) {
    if low > T::MOST {
        return rows.clear();
    }
    let (low, high) = (T::of(low), T::of(high.min(T::MOST)));
    rows.retain(|row| (low..=high).contains(&list[*row as usize]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lists() -> impl Strategy<Value = Vec<i128>> {
        (0..=127_u32, any::<i128>()).prop_flat_map(|(bits, base)| {
            proptest::collection::vec(any::<u128>(), 0..40).prop_map(move |list| {
                list.into_iter()
                    .map(|value| base.saturating_add((value >> (128 - bits.max(1))) as i128))
                    .collect()
            })
        })
    }

    fn encoded(packed: &Packed) -> Vec<u8> {
        let mut out = Vec::new();
        packed.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read(list in lists()) {
            let packed = Packed::pack(&list);
            let bytes = encoded(&packed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Packed::decode(&mut reader, list.len()), Ok(packed.clone()));
            prop_assert_eq!(reader.end(), Ok(()));
            let mut read = Vec::new();
            packed.each(0..list.len() as u32, |value| read.push(value));
            prop_assert_eq!(&read, &list);
            prop_assert_eq!(&packed.map(|value| value), &list);
            prop_assert!((0..list.len()).all(|row| packed.at(row) == list[row]));
            prop_assert_eq!(packed.least(), list.iter().min().copied().unwrap_or(0));
            prop_assert_eq!(packed.most(), list.iter().max().copied().unwrap_or(0));
        }

        #[test]
        fn picked_integers_are_packed_as_if_they_had_been_packed_alone(
            lists in proptest::collection::vec(lists(), 1..4),
            picked in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 0..40),
        ) {
            let picks: Vec<(Pick, bool)> = picked
                .iter()
                .map(|(part, row, null)| (part.index(lists.len()), row, *null))
                .filter(|(part, ..)| !lists[*part].is_empty())
                .map(|(part, row, null)| ((part as u32, row.index(lists[part].len()) as u32), null))
                .collect();
            let packed: Vec<Packed> = lists.iter().map(|list| Packed::pack(list)).collect();
            let parts: Vec<&Packed> = packed.iter().collect();
            let nulls = Nulls::collect(picks.len(), |at| picks[at].1);
            let values: Vec<i128> = picks.iter().map(|((part, row), _)| lists[*part as usize][*row as usize]).collect();
            let least = values.iter().zip(&picks).filter(|(_, pick)| !pick.1).map(|(value, _)| *value).min().unwrap_or(0);
            let settled: Vec<i128> =
                values.iter().zip(&picks).map(|(value, pick)| if pick.1 { least } else { *value }).collect();
            let picks: Vec<Pick> = picks.into_iter().map(|pick| pick.0).collect();
            // The range of all parts may be wider than 128 bits only in this test.
            let bounds = packed.iter().map(|part| (part.least, part.most()));
            let fits = bounds.clone().map(|bounds| bounds.1).max().unwrap().checked_sub(bounds.map(|bounds| bounds.0).min().unwrap());
            if fits.is_some() {
                prop_assert_eq!(Packed::gather(&parts, &picks).settle(&nulls), Packed::pack(&settled));
            }
        }

        #[test]
        fn a_tenth_is_exact_or_none(list in lists(), whole: bool) {
            let list: Vec<i128> = list.into_iter().map(|value| if whole { value / 10 * 10 } else { value }).collect();
            let tenth = list.iter().all(|value| value % 10 == 0)
                .then(|| Packed::pack(&list.iter().map(|value| value / 10).collect::<Vec<_>>()));
            prop_assert_eq!(Packed::pack(&list).tenth(), tenth);
        }

        #[test]
        fn adjacent_ones_are_compared(list in lists(), from in 0..40_u32, to in 0..40_u32, at: prop::sample::Index, other: i128) {
            let to = to.min(list.len() as u32);
            let rows = from.min(to)..to;
            let near = if list.is_empty() { 0 } else { list[at.index(list.len())] };
            for value in [near, other, near.wrapping_add(1 << 64)] {
                let expected = list[rows.start as usize..rows.end as usize].iter().all(|one| *one == value);
                prop_assert_eq!(Packed::pack(&list).all_are(rows.clone(), value), expected);
            }
        }

        #[test]
        fn a_range_keeps_what_lies_in_it(list in lists(), bounds in (any::<i128>(), any::<i128>()), near in any::<[u8; 2]>()) {
            let packed = Packed::pack(&list);
            let close = |byte: u8| list.get(usize::from(byte) % list.len().max(1)).copied().unwrap_or(0);
            for (low, high) in [bounds, (close(near[0]), close(near[1])), (close(near[0]), i128::MAX), (i128::MIN, i128::MAX)] {
                let mut rows: Vec<u32> = (0..list.len() as u32).collect();
                packed.retain_between(&mut rows, low, high);
                let expected: Vec<u32> =
                    (0..list.len() as u32).filter(|row| (low..=high).contains(&list[*row as usize])).collect();
                prop_assert_eq!(rows, expected);
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), rows in 0..20_usize) {
            if let Ok(packed) = Packed::decode(&mut Reader::new(&bytes), rows) {
                prop_assert!(packed.size() <= 2 * bytes.len());
                let read: Vec<i128> = (0..rows).map(|row| packed.at(row)).collect();
                prop_assert!(read.iter().all(|value| (packed.least()..=packed.most()).contains(value)));
            }
        }
    }

    #[test]
    fn takes_no_more_bytes_than_the_range_needs() {
        for (list, bytes) in [
            (vec![7; 1_000], 0),
            (vec![1_000_000, 1_000_255], 2),
            ((0..1_000).collect(), 2_000),
            (vec![0, 2_000_000], 6),
            (vec![i128::from(i64::MIN), i128::from(i64::MAX)], 16),
            (vec![i128::MIN, i128::MAX], 32),
        ] {
            let packed = Packed::pack(&list);
            assert!(encoded(&packed).len() <= bytes + 20, "{bytes}");
            assert!(encoded(&packed).len() >= bytes + 2, "{bytes}");
        }
    }
}
