//! Where sorted rows of one measure and frequency are cut into frames.
//!
//! Cuts lie between practices; one with more rows than a frame holds is cut between its providers, and a provider with more by
//! number. Whether a cut may lie before a practice is a property of its identifier, not of the rows before it:
//! when a practice gets or loses rows, the frames after the next such place stay what they were.
//!
//! Invariant: no frame has more rows than [`Bounds::most`], and a practice that fits into a frame lies in one.

/// How long frames are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Rows from which on a frame may end.
    pub(super) enough: usize,
    /// The most rows of a frame.
    pub(super) most: usize,
}

impl Bounds {
    /// About a thousand rows. Longer ones pack no better by more than some percent, and more of them change with one practice.
    pub(super) const USUAL: Self = Self { enough: 512, most: 4_096 };
}

type Id = Option<i64>;

/// Rows that should stay together, and the identifier that says whether a frame may begin with them.
struct Unit {
    id: u64,
    rows: usize,
}

/// The lengths of the frames of rows that are sorted by practice and provider.
pub(super) fn lengths(rows: impl Iterator<Item = (Id, Id)>, bounds: Bounds) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut length = 0;
    for unit in units(rows, bounds.most) {
        let full = length + unit.rows > bounds.most;
        if length > 0 && (full || length >= bounds.enough && may_begin(unit.id)) {
            lengths.push(length);
            length = 0;
        }
        length += unit.rows;
    }
    if length > 0 {
        lengths.push(length);
    }
    lengths
}

fn units(rows: impl Iterator<Item = (Id, Id)>, most: usize) -> Vec<Unit> {
    let mut practices: Vec<(Id, Vec<(Id, usize)>)> = Vec::new();
    for (practice, provider) in rows {
        if practices.last().is_none_or(|last| last.0 != practice) {
            practices.push((practice, Vec::new()));
        }
        let providers = &mut practices.last_mut().expect("just pushed").1;
        match providers.last_mut() {
            Some(last) if last.0 == provider => last.1 += 1,
            _ => providers.push((provider, 1)),
        }
    }
    let mut units = Vec::new();
    for (practice, providers) in practices {
        let rows = providers.iter().map(|provider| provider.1).sum();
        if rows <= most {
            units.push(Unit { id: mix(0, practice), rows });
            continue;
        }
        for (provider, rows) in providers {
            let id = mix(mix(0, practice), provider);
            units.extend((0..rows).step_by(most).map(|from| Unit { id, rows: most.min(rows - from) }));
        }
    }
    units
}

/// True of every other identifier.
fn may_begin(id: u64) -> bool {
    id & 1 == 1
}

/// Neighbouring identifiers have nothing in common afterwards.
fn mix(seed: u64, id: Id) -> u64 {
    let mut mixed = seed ^ id.map_or(u64::MAX / 3, |id| id as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ mixed >> 30).wrapping_mul(factor);
    }
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(practices: &[(i64, usize)]) -> impl Iterator<Item = (Id, Id)> {
        practices
            .iter()
            .flat_map(|(practice, rows)| (0..*rows).map(|row| (Some(*practice), Some(row as i64 / 24))))
    }

    proptest! {
        #[test]
        fn every_row_is_in_a_frame_and_small_practices_in_one(sizes in proptest::collection::vec(prop_oneof![1..300_usize, 1..10_000_usize], 0..60)) {
            let practices: Vec<(i64, usize)> = sizes.iter().enumerate().map(|(at, rows)| (at as i64, *rows)).collect();
            let lengths = lengths(rows(&practices), Bounds::USUAL);
            prop_assert_eq!(lengths.iter().sum::<usize>(), sizes.iter().sum::<usize>());
            prop_assert!(lengths.iter().all(|length| (1..=4_096).contains(length)));
            let mut ends = std::collections::HashSet::new();
            lengths.iter().fold(0, |end, length| { ends.insert(end + length); end + length });
            let mut from = 0;
            for rows in sizes {
                prop_assert!(rows > 4_096 || (from + 1..from + rows).all(|row| !ends.contains(&row)));
                from += rows;
            }
        }
    }

    #[test]
    fn a_changed_practice_moves_few_cuts() {
        let mut practices: Vec<(i64, usize)> = (0..1_000).map(|practice| (practice, 192)).collect();
        let ends = |practices: &[(i64, usize)]| {
            let all = practices.iter().map(|practice| practice.1).sum::<usize>();
            // Counted from the end, so that what comes after the change can be compared.
            lengths(rows(practices), Bounds::USUAL)
                .iter()
                .fold((0, Vec::new()), |(end, mut ends), length| {
                    ends.push(all - end - length);
                    (end + length, ends)
                })
                .1
        };
        let before = ends(&practices);
        assert!((700..900).contains(&(192_000 / before.len())), "{} frames", before.len());
        practices[500].1 += 1;
        let moved = ends(&practices).iter().filter(|end| **end < 192 * 499 && !before.contains(end)).count();
        assert!(moved <= 8, "{moved} of {}", before.len());
    }
}
