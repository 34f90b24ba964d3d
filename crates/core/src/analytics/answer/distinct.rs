//! The distinct integers of a column: so that what is made of each, a date or a piece of JSON, is made once.
//!
//! Invariant: strictly ascending, and every one is that of some row.

use crate::analytics::{Column, Packed};

/// Distinct integers, and for every row the place of its own.
pub(super) struct Distinct {
    /// Strictly ascending.
    pub(super) values: Vec<i128>,
    /// That of a NULL is the number of values.
    pub(super) codes: Vec<u32>,
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

    fn by_table(column: &Column, span: usize) -> Self {
        const ABSENT: u32 = u32::MAX;
        let least = column.integers().least();
        let mut places = vec![ABSENT; span + 1];
        each(column, |value| {
            if let Some(value) = value {
                places[value.wrapping_sub(least) as usize] = 0;
            }
        });
        let mut values = Vec::new();
        for (place, distance) in places.iter_mut().zip(0..) {
            if *place != ABSENT {
                *place = values.len() as u32;
                values.push(least.wrapping_add(distance));
            }
        }
        let null = values.len() as u32;
        let mut codes = Vec::with_capacity(column.rows());
        each(column, |value| {
            codes.push(value.map_or(null, |value| places[value.wrapping_sub(least) as usize]));
        });
        Self { values, codes }
    }

    fn by_search(column: &Column) -> Self {
        let mut values = Vec::with_capacity(column.rows());
        each(column, |value| values.extend(value));
        values.sort_unstable();
        values.dedup();
        let null = values.len() as u32;
        let mut codes = Vec::with_capacity(column.rows());
        each(column, |value| {
            let place = |value| values.binary_search(&value).expect("the value of some row") as u32;
            codes.push(value.map_or(null, place));
        });
        Self { values, codes }
    }
}

/// How far the largest is from the smallest, when that is no further than `most`.
fn narrow(integers: &Packed, most: u128) -> Option<usize> {
    let span = integers.most().wrapping_sub(integers.least()) as u128;
    (span <= most).then_some(span as usize)
}

/// The integer of every row; `None` for NULL.
pub(super) fn each(column: &Column, mut take: impl FnMut(Option<i128>)) {
    let (nulls, rows) = (column.nulls(), 0..column.rows() as u32);
    if !nulls.any() {
        return column.integers().each(rows, |integer| take(Some(integer)));
    }
    let mut row = 0;
    column.integers().each(rows, |integer| {
        take((!nulls.at(row)).then_some(integer));
        row += 1;
    });
}
