//! Tokens, users, JWT payloads: what their entries mean, how long they live, and how they are loaded.
//! Not how they are cached: that is `cache`, the same for all.
//!
//! Invariant: no answer of this folder is a guess. What cannot be known is an error.

pub mod jwt;
pub mod token;
pub mod user;

use crate::base::error::Error;

/// A uuid in lower case, so that one user has one key; anything else is refused.
pub fn uuid(field: &'static str, text: &str) -> Result<String, Error> {
    let shape = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if shape {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Error::argument(field, "a uuid such as 3f2504e0-4f89-11d3-9a0c-0305e82c3301"))
    }
}

/// A non-empty text of at most `max` characters without NUL, which Postgres cannot hold.
pub fn text(field: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.is_empty() || text.chars().count() > max || text.contains('\0') {
        return Err(Error::argument(field, &format!("a text of 1 to {max} characters without NUL")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_has_one_spelling() {
        let upper = "3F2504E0-4F89-11D3-9A0C-0305E82C3301";
        assert_eq!(uuid("userId", upper), Ok(upper.to_lowercase()));
        for bad in [
            "",
            "x",
            "3f2504e04f8911d39a0c0305e82c3301",
            "3f2504e0-4f89-11d3-9a0c-0305e82c330g",
            "{f2504e0-4f89-11d3-9a0c-0305e82c3301",
        ] {
            let error = uuid("userId", bad).expect_err(bad);
            assert_eq!(error.field.as_deref(), Some("userId"));
        }
    }
}
