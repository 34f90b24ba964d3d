//! Patterns over keys, as the server's own: `*` any text, `?` one character, `[abc]`, `[a-z]`, `[^a]` one of them,
//! `\` takes the next character literally. Keys are compared as the application wrote them, not as they are stored.
//!
//! Invariant: matching takes at most pattern times key steps, whatever they contain.

/// A pattern, taken apart.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Exactly(char),
    AnyOne,
    AnyText,
    Among { ranges: Vec<(char, char)>, inverted: bool },
}

impl Pattern {
    /// Never fails: a bracket that is not closed reaches to the end, as on the server.
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(sign) = rest.next() {
            parts.push(match sign {
                '*' if parts.last() == Some(&Part::AnyText) => continue,
                '*' => Part::AnyText,
                '?' => Part::AnyOne,
                '[' => among(&mut rest),
                '\\' => Part::Exactly(rest.next().unwrap_or('\\')),
                sign => Part::Exactly(sign),
            });
        }
        Self(parts)
    }

    /// What every key that fits begins with.
    pub fn beginning(&self) -> String {
        self.0
            .iter()
            .map_while(|part| if let Part::Exactly(sign) = part { Some(*sign) } else { None })
            .collect()
    }

    /// Whether a key fits.
    pub fn fits(&self, key: &str) -> bool {
        let key: Vec<char> = key.chars().collect();
        let (mut at, mut part) = (0, 0);
        // Where to go on when the rest does not fit: the last `*`, taking one character more than before.
        let mut back: Option<(usize, usize)> = None;
        while at < key.len() {
            match self.0.get(part) {
                Some(Part::AnyText) => {
                    back = Some((part, at));
                    part += 1;
                }
                Some(one) if one.is(key[at]) => (at, part) = (at + 1, part + 1),
                _ => match &mut back {
                    Some((star, from)) => {
                        *from += 1;
                        (at, part) = (*from, *star + 1);
                    }
                    None => return false,
                },
            }
        }
        self.0[part..].iter().all(|part| *part == Part::AnyText)
    }
}

impl Part {
    fn is(&self, sign: char) -> bool {
        match self {
            Part::Exactly(one) => *one == sign,
            Part::AnyOne | Part::AnyText => true,
            Part::Among { ranges, inverted } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&sign)) != *inverted
            }
        }
    }
}

fn among(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Part {
    let inverted = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while let Some(sign) = rest.next() {
        let from = match sign {
            ']' => break,
            '\\' => rest.next().unwrap_or('\\'),
            sign => sign,
        };
        let mut ahead = rest.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                *rest = ahead;
                to
            }
            _ => from,
        };
        ranges.push((from.min(to), from.max(to)));
    }
    Part::Among { ranges, inverted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_fit_as_on_the_server() {
        let fits = |pattern: &str, key: &str| Pattern::new(pattern).fits(key);
        for (pattern, key) in [
            ("fleet:*", "fleet:stats"),
            ("fleet:*", "fleet:"),
            ("*", ""),
            ("*", "a:b*?"),
            ("a*b*c", "aXbbYc"),
            ("?é?", "aéb"),
            ("h[ae]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("h[^e]llo", "hallo"),
            ("a\\*b", "a*b"),
            ("[\\]]", "]"),
            ("[a-]", "-"),
            ("a**b", "ab"),
        ] {
            assert!(fits(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("fleet:*", "fleet"),
            ("fleet:*", "xfleet:a"),
            ("", "a"),
            ("?", ""),
            ("?", "ab"),
            ("h[^e]llo", "hello"),
            ("a\\*b", "aXb"),
            ("a*b", "abc"),
            ("[]", "a"),
        ] {
            assert!(!fits(pattern, key), "{pattern} {key}");
        }
        assert_eq!(Pattern::new("fleet:a*").beginning(), "fleet:a");
        assert_eq!(Pattern::new("\\*x?").beginning(), "*x");
        assert_eq!(Pattern::new("plain").beginning(), "plain");
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!Pattern::new(&format!("{}x", "*a".repeat(200))).fits(&"a".repeat(1_000)));
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_what_it_begins(text in ".{0,20}", more in ".{0,10}") {
            let literal: String = text.chars().flat_map(|sign| ['\\', sign]).collect();
            prop_assert!(Pattern::new(&literal).fits(&text));
            let open = format!("{literal}*");
            let joined = format!("{text}{more}");
            prop_assert!(Pattern::new(&open).fits(&joined));
            prop_assert_eq!(Pattern::new(&open).beginning(), text);
        }

        #[test]
        fn whatever_fits_begins_as_promised(pattern in "[a-b*?\\[\\]^-]{0,10}", key in "[a-b]{0,10}") {
            let pattern = Pattern::new(&pattern);
            if pattern.fits(&key) {
                prop_assert!(key.starts_with(&pattern.beginning()));
            }
        }
    }
}
