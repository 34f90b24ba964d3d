//! Which rows of a column are NULL: one bit a row, or nothing at all when none is.
//!
//! Invariant: equal columns have equal nulls: no bits where no row is, no bitmap without a set bit.

use super::refused::Refused;
use super::wire::Reader;

/// The NULLs of one column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nulls(Option<Box<[u8]>>);

impl Nulls {
    /// Of `rows` rows, those at which `is_null` says so.
    pub(super) fn collect(rows: usize, is_null: impl Fn(usize) -> bool) -> Self {
        let mut bits = vec![0_u8; rows.div_ceil(8)].into_boxed_slice();
        for row in (0..rows).filter(|row| is_null(*row)) {
            bits[row / 8] |= 1 << (row % 8);
        }
        Self(bits.iter().any(|byte| *byte != 0).then_some(bits))
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.0.is_some()
    }

    /// Whether this row is NULL.
    pub fn at(&self, row: usize) -> bool {
        self.0.as_ref().is_some_and(|bits| bits[row / 8] & 1 << (row % 8) != 0)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.iter().flatten().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |bits| bits.len())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.any()));
        out.extend(self.0.iter().flatten());
    }

    pub(super) fn decode(reader: &mut Reader<'_>, rows: usize) -> Result<Self, Refused> {
        match reader.byte()? {
            0 => Ok(Self(None)),
            1 => {
                let bits = reader.take(rows.div_ceil(8))?;
                let beyond = if rows.is_multiple_of(8) { 0 } else { 0xff << (rows % 8) };
                if bits.iter().all(|byte| *byte == 0) || bits.last().is_some_and(|last| last & beyond != 0) {
                    return Err(Refused::Corrupt("nulls that cannot be"));
                }
                Ok(Self(Some(bits.into())))
            }
            _ => Err(Refused::Corrupt("nulls of another release")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(set in proptest::collection::vec(any::<bool>(), 0..70)) {
            let nulls = Nulls::collect(set.len(), |row| set[row]);
            let mut out = Vec::new();
            nulls.encode(&mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(Nulls::decode(&mut reader, set.len()), Ok(nulls.clone()));
            prop_assert_eq!(reader.end(), Ok(()));
            prop_assert_eq!((0..set.len()).map(|row| nulls.at(row)).collect::<Vec<_>>(), set.clone());
            prop_assert_eq!(nulls.count(), set.iter().filter(|null| **null).count());
            prop_assert_eq!(nulls.any(), nulls.count() > 0);
        }
    }

    #[test]
    fn a_bitmap_that_says_nothing_or_too_much_is_refused() {
        for bytes in [&[1, 0][..], &[1, 0b1000_0000], &[2, 1], &[1], &[]] {
            assert!(Nulls::decode(&mut Reader::new(bytes), 7).is_err(), "{bytes:?}");
        }
    }
}
