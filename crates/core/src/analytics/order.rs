//! Sorting rows by several columns at once: values become small ranks, ranks become one integer per row.
//!
//! Invariant: the order of `Schema::order`, NULLs last; equal rows keep the order they came in.

use super::column::{Column, Pick};

/// Of NULL: after every other rank.
const LAST: u32 = u32::MAX;

/// For each pick the rank of its value in a plain column. Ranks order as the values do; they are not dense.
fn ranks(parts: &[&Column], picks: &[Pick]) -> Vec<u32> {
    let bounds = |part: &&Column| (part.integers().least(), part.integers().most());
    let (mut least, mut most) = parts.first().map(bounds).unwrap_or_default();
    for (low, high) in parts.iter().map(bounds) {
        (least, most) = (least.min(low), most.max(high));
    }
    let each = |take: &mut dyn FnMut(i128)| {
        for run in picks.chunk_by(|a, b| a.0 == b.0) {
            let rows = run.iter().map(|pick| pick.1);
            parts[run[0].0 as usize].integers().each(rows, &mut *take);
        }
    };
    let mut ranks = Vec::with_capacity(picks.len());
    if most - least < i128::from(LAST) {
        each(&mut |integer| ranks.push((integer - least) as u32));
    } else {
        // Timestamps and wide identifiers: there are fewer different ones than rows, and rows are counted in 32 bits.
        let mut distinct = Vec::with_capacity(picks.len());
        each(&mut |integer| distinct.push(integer));
        distinct.sort_unstable();
        distinct.dedup();
        each(&mut |integer| {
            let rank = distinct.binary_search(&integer).expect("each is among the distinct ones");
            ranks.push(rank as u32);
        });
    }
    if parts.iter().all(|part| !part.nulls().any()) {
        return ranks;
    }
    for (rank, (part, row)) in ranks.iter_mut().zip(picks) {
        if parts[*part as usize].nulls().at(*row as usize) {
            *rank = LAST;
        }
    }
    ranks
}

/// The places of `picks`, ordered by up to three plain columns; without one, its values count as NULL. Each column is given as
/// its parts.
pub(super) fn order(columns: [Option<&[&Column]>; 3], picks: &[Pick]) -> Vec<u32> {
    let mut keys: Vec<u128> = (0..picks.len() as u128).collect();
    for (column, shift) in columns.into_iter().zip([96, 64, 32]) {
        let Some(parts) = column else { continue };
        for (key, rank) in keys.iter_mut().zip(ranks(parts, picks)) {
            *key |= u128::from(rank) << shift;
        }
    }
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

/// The places of `picks`, ordered by one plain column.
pub(super) fn order_by(parts: &[&Column], picks: &[Pick]) -> Vec<u32> {
    let ranks = ranks(parts, picks);
    let highest =
        ranks.iter().copied().filter(|rank| *rank != LAST).max().map_or(0, |rank| rank as usize + 1);
    if highest > 4 * picks.len() + 1_024 {
        return order([Some(parts), None, None], picks);
    }
    // There are few different dates: each is given its room.
    let bucket = |rank: u32| (rank as usize).min(highest);
    let mut from = vec![0_u32; highest + 2];
    for rank in &ranks {
        from[bucket(*rank) + 1] += 1;
    }
    for at in 1..from.len() {
        from[at] += from[at - 1];
    }
    let mut places = vec![0; picks.len()];
    for (place, rank) in ranks.iter().enumerate() {
        let at = &mut from[bucket(*rank)];
        places[*at as usize] = place as u32;
        *at += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::schema::Type;
    use crate::analytics::testing::{self, Cell};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn orders_as_a_stable_sort_of_the_values(kinds in proptest::collection::vec(proptest::sample::select(vec![Type::Int, Type::BigInt, Type::Date, Type::Timestamp]), 3), seed: u64, rows in 0..60_usize) {
            let columns: Vec<Vec<Cell>> =
                kinds.iter().enumerate().map(|(at, kind)| testing::cells(*kind, rows, seed ^ at as u64)).collect();
            let packed: Vec<Column> =
                kinds.iter().zip(&columns).map(|(kind, cells)| testing::column(*kind, cells)).collect();
            let picks: Vec<Pick> = (0..rows as u32).map(|row| (0, row)).collect();
            // Cells order as their values, NULLs last.
            let mut expected: Vec<u32> = (0..rows as u32).collect();
            expected.sort_by_key(|row| columns.iter().map(|cells| cells[*row as usize].clone()).collect::<Vec<_>>());
            let parts = [[&packed[0]], [&packed[1]], [&packed[2]]];
            prop_assert_eq!(order([Some(&parts[0]), Some(&parts[1]), Some(&parts[2])], &picks), expected);

            let mut expected: Vec<u32> = (0..rows as u32).collect();
            expected.sort_by_key(|row| columns[0][*row as usize].clone());
            prop_assert_eq!(order_by(&parts[0], &picks), expected.clone());
            prop_assert_eq!(order([Some(&parts[0]), None, None], &picks), expected);
        }
    }
}
