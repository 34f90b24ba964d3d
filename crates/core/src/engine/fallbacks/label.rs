//! What an application may call an operation or a reason. A word, so that no sentence with a name, an address or an id
//! in it ends up in metrics and log records.
//!
//! Invariant: the result is a word of bounded length, whatever was given.

use crate::base::limits::FALLBACK_WORD_BYTES;

/// Stands for everything that is not such a word, and for whatever finds no room.
pub(super) const OTHER: &str = "other";

/// Longer than any name a person gives to a function; shorter than the parts of a token.
const PART_BYTES: usize = 32;
/// More digits than a version or an HTTP status has: an id, an address, a telephone number.
const DIGITS: usize = 4;

/// The word, cut to its longest form; `other` for what is none.
pub(super) fn word(given: &str) -> &str {
    let end = (0..=FALLBACK_WORD_BYTES.min(given.len())).rev().find(|at| given.is_char_boundary(*at));
    let cut = &given[..end.unwrap_or(0)];
    // A cut may leave the sign in front of what was cut off.
    let cut = if cut.len() < given.len() { cut.trim_end_matches(is_joint) } else { cut };
    let digits = cut.bytes().filter(u8::is_ascii_digit).count();
    let starts = cut.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
    let part = |part: &str| {
        (1..=PART_BYTES).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if starts && digits <= DIGITS && cut.split(is_joint).all(part) { cut } else { OTHER }
}

/// Only between letters and digits.
fn is_joint(sign: char) -> bool {
    matches!(sign, '_' | '.' | ':' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_stay_and_everything_else_is_other() {
        for kept in ["getUser", "redis_timeout", "ECONNREFUSED", "http.503", "a", "data-source:query", "v2"] {
            assert_eq!(word(kept), kept);
        }
        for given in [
            "",
            " ",
            "Redis timeout",
            "ada@example.org",
            "user 17 not found",
            "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "f2504e04-4f89-11d3-9a0c-0305e82c3301",
            "203.0.113.77",
            "fe80::1",
            "tel-4930123",
            "_a",
            "a_",
            "a..b",
            "a\n",
            "größe",
            "a\"b",
            "a{b=\"c\"}",
            "\u{0}",
            "eyJhbGciOiJIUzIxNiIsInRijCIkpXVCJ.eyJqdGkiOiJhYmMifQ.abc",
        ] {
            assert_eq!(word(given), OTHER, "{given}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let part = "x".repeat(PART_BYTES);
        let long = format!("{part}_{part}");
        assert_eq!(word(&long), &long[..FALLBACK_WORD_BYTES]);
        assert_eq!(
            word(&format!("{}_{part}", &long[..FALLBACK_WORD_BYTES - 1])),
            &long[..FALLBACK_WORD_BYTES - 1]
        );
        assert_eq!(word(&format!("{}é", &long[..FALLBACK_WORD_BYTES - 1])), &long[..FALLBACK_WORD_BYTES - 1]);
        assert_eq!(word(&"x".repeat(PART_BYTES + 1)), OTHER);
    }

    proptest! {
        #[test]
        fn nothing_gets_past(given in "\\PC{0,90}|[a-z0-9_.:@ -]{0,90}") {
            let word = word(&given);
            prop_assert!(!word.is_empty() && word.len() <= FALLBACK_WORD_BYTES);
            prop_assert!(word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte)));
        }
    }
}
