//! The distinct integers of a column: so that what is made of each, a date or a piece of JSON, is made once.
//!
//! Invariant: strictly ascending, and every one is that of some row.

use crate::analytics::{Column, Packed};

/// Distinct integers.
pub(super) struct Distinct {
    values: Vec<i128>,
    least: i128,
    /// By the distance from the smallest; none when that would be a large table for few values.
    places: Vec<u32>,
}

impl Distinct {
    /// Of every row that is not NULL.
    pub(super) fn of(column: &Column) -> Self {
        match narrow(column.integers(), 4 * column.rows() as u128 + 1_024) {
            Some(span) => Self::by_table(column, span),
            None => Self::by_search(column),
        }
    }

    /// Only when there are so few possible ones that looking is cheaper than making something of every row.
    pub(super) fn of_few(column: &Column) -> Option<Self> {
        narrow(column.integers(), column.rows() as u128 / 4).map(|span| Self::by_table(column, span))
    }

    /// Strictly ascending.
    pub(super) fn values(&self) -> &[i128] {
        &self.values
    }

    /// Which one this is; that of a row which is NULL is one of them too.
    pub(super) fn place(&self, value: i128) -> u32 {
        match self.places.get(value.wrapping_sub(self.least) as usize) {
            Some(place) => *place,
            None => self.values.binary_search(&value).unwrap_or_default() as u32,
        }
    }

    fn by_table(column: &Column, span: usize) -> Self {
        const ABSENT: u32 = u32::MAX;
        let least = column.integers().least();
        let mut places = vec![ABSENT; span + 1];
        // In the place of a NULL is the smallest integer, which another row has, unless there is none.
        if column.nulls().count() < column.rows() {
            column
                .integers()
                .each(0..column.rows() as u32, |value| places[value.wrapping_sub(least) as usize] = 0);
        }
        let mut values = Vec::new();
        for (place, distance) in places.iter_mut().zip(0..) {
            if *place != ABSENT {
                *place = values.len() as u32;
                values.push(least.wrapping_add(distance));
            }
        }
        Self { values, least, places }
    }

    fn by_search(column: &Column) -> Self {
        let mut values = column.integers().map(|value| value);
        values.sort_unstable();
        values.dedup();
        Self { values, least: 0, places: Vec::new() }
    }
}

/// How far the largest is from the smallest, when that is no further than `most`.
fn narrow(integers: &Packed, most: u128) -> Option<usize> {
    let span = integers.most().wrapping_sub(integers.least()) as u128;
    (span <= most).then_some(span as usize)
}
