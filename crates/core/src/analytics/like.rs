//! `LIKE`: `%` is any text, `_` any one character, the escape character makes the next one plain.
//!
//! Invariant: the time is bounded by the product of both lengths, whatever the pattern.

/// A pattern that can be matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Plain(char),
    One,
    Any,
}

impl Pattern {
    /// `None` when the pattern ends with the escape character, as SQL refuses it. Without one, nothing is escaped.
    pub fn new(pattern: &str, escape: Option<char>) -> Option<Self> {
        let mut parts = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(next) = chars.next() {
            let part = match next {
                _ if Some(next) == escape => Part::Plain(chars.next()?),
                '%' => Part::Any,
                '_' => Part::One,
                plain => Part::Plain(plain),
            };
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Some(Self { parts })
    }

    /// As SQL writes it, with `\` as escape character.
    pub fn to_sql(&self) -> String {
        let mut sql = String::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Any => sql.push('%'),
                Part::One => sql.push('_'),
                Part::Plain(plain) => {
                    if matches!(plain, '%' | '_' | '\\') {
                        sql.push('\\');
                    }
                    sql.push(*plain);
                }
            }
        }
        sql
    }

    /// Whether the whole text is like the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let mut at = 0;
        let mut rest = text.chars();
        // Where to go on when it does not fit: the last `%` takes one character more. Earlier ones need not.
        let mut again: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            let fits = match (self.parts.get(at), rest.next()) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    again = Some((at + 1, before.clone()));
                    rest = before;
                    true
                }
                (Some(Part::One), Some(_)) => true,
                (Some(Part::Plain(wanted)), Some(found)) => *wanted == found,
                _ => false,
            };
            if fits {
                at += 1;
                continue;
            }
            let Some((after, from)) = again.as_mut() else { return false };
            if from.next().is_none() {
                return false;
            }
            (at, rest) = (*after, from.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn like(text: &str, pattern: &str) -> bool {
        Pattern::new(pattern, Some('\\')).unwrap().matches(text)
    }

    /// The definition, word by word, exponential.
    fn naive(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|from| naive(&text[from..], rest)),
            Some(('_', rest)) => !text.is_empty() && naive(&text[1..], rest),
            Some(('\\', rest)) => !text.is_empty() && text[0] == rest[0] && naive(&text[1..], &rest[1..]),
            Some((plain, rest)) => text.first() == Some(plain) && naive(&text[1..], rest),
        }
    }

    #[test]
    fn characters_are_not_bytes_and_case_counts() {
        assert!(like("é", "_") && !like("é", "__"));
        assert!(like("a\nb", "a%b") && like("", "%") && !like("", "_"));
        assert!(!like("Abc", "abc"));
        assert!(like("50%", "50\\%") && !like("500", "50\\%"));
        assert!(Pattern::new("a!%", Some('!')).unwrap().matches("a%"));
        assert!(Pattern::new("a\\%", None).unwrap().matches("a\\bc"));
        assert_eq!(Pattern::new("a\\", Some('\\')), None);
    }

    #[test]
    fn a_hostile_pattern_is_not_slow() {
        let text = "a".repeat(20_000);
        assert!(!like(&text, &format!("{}b", "%a".repeat(200))));
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(text in "[ab%_\\\\é]{0,8}", pattern in "([ab%_é]|\\\\[ab%_\\\\]){0,6}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(like(&text, &pattern), naive(&chars(&text), &chars(&pattern)));
            let written = Pattern::new(&pattern, Some('\\')).unwrap();
            prop_assert_eq!(Pattern::new(&written.to_sql(), Some('\\')), Some(written));
        }
    }
}
