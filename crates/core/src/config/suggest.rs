//! The nearest known name to one that is not known.
//!
//! Invariant: nothing is suggested that is further away than a slip of the hand.

/// Case and underscores do not count, so `REDIS_HOST` typed as an option finds `redisHost`.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The table below is quadratic and the name is the caller's: no known name is nearly that long.
    if typed.len() > 64 {
        return None;
    }
    let wanted = folded(typed);
    let limit = (wanted.len() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|name| (distance(&wanted, &folded(name)), name))
        .filter(|(far, _)| *far <= limit)
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

/// The sentence for an error, empty when nothing is near.
pub(crate) fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known).map_or_else(String::new, |name| format!("Did you mean {name}?"))
}

fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Edit distance in which two swapped neighbours are one edit.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn names_within_a_slip_are_found() {
        let known = ["redisHost", "redisPort", "redisUrl", "cacheTtl", "near"];
        for (typed, expected) in [
            ("redisHots", Some("redisHost")),
            ("REDIS_HOST", Some("redisHost")),
            ("redis_port", Some("redisPort")),
            ("redisURL", Some("redisUrl")),
            ("cacheTTL", Some("cacheTtl")),
            ("neer", Some("near")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), expected, "{typed}");
        }
        assert_eq!(nearest(&"redisHost".repeat(1000), known), None);
    }
}
