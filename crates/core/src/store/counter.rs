//! Adding to a number that is stored as an entry: the same arithmetic as `scripts/count.lua`, for the embedded store.
//! Not a counter of this process.
//!
//! Invariant: what is not a whole number, or would leave the numbers that JavaScript tells apart, stays as it is.

use bytes::Bytes;

use crate::base::codec::{HEADER, Header, Kind, checksum};
use crate::base::key::Key;

/// The largest whole number that JavaScript tells from its neighbour.
const MOST: i64 = 9_007_199_254_740_991;
/// Longer values are no numbers.
const LONGEST: usize = 65_536;
/// What follows a number: the tags of its value.
const TAGS: u8 = 31;
/// Version of the payload's shape.
const SCHEMA: u8 = 1;

/// What adding leads to.
#[derive(Debug, PartialEq)]
pub(super) struct Counted {
    /// The sum.
    pub(super) number: i64,
    /// The entry that holds it.
    pub(super) entry: Bytes,
    /// Whether a number was there before: it keeps its end.
    pub(super) goes_on: bool,
}

/// Adds `delta` to what `current` holds, or to 0 when it is no value; `None` = not possible.
pub(super) fn count(key: &Key, current: Option<&Bytes>, delta: i64, etag: u64) -> Option<Counted> {
    let before = current.and_then(|bytes| value(key, bytes));
    let (number, tags) = match &before {
        Some(payload) => split(payload)?,
        None => (0, &b""[..]),
    };
    let number = number.checked_add(delta).filter(|sum| (-MOST..=MOST).contains(sum))?;
    let mut payload = number.to_string().into_bytes();
    payload.extend_from_slice(tags);
    let header =
        Header { kind: Kind::Value, schema: SCHEMA, checksum: checksum(key.bytes(), &payload), etag };
    Some(Counted { number, entry: header.envelope(&payload).into(), goes_on: before.is_some() })
}

/// The payload of a value of ours. A lease, or what is damaged, is none.
fn value(key: &Key, bytes: &Bytes) -> Option<Bytes> {
    let header = Header::decode(bytes)?;
    let payload = bytes.slice(HEADER..);
    (header.kind == Kind::Value && header.checksum == checksum(key.bytes(), &payload)).then_some(payload)
}

fn split(payload: &Bytes) -> Option<(i64, &[u8])> {
    if payload.len() > LONGEST {
        return None;
    }
    let end = payload.iter().position(|byte| *byte == TAGS).unwrap_or(payload.len());
    let digits = std::str::from_utf8(&payload[..end]).ok()?;
    let plain = digits.strip_prefix('-').unwrap_or(digits).bytes().all(|byte| byte.is_ascii_digit());
    if !plain || digits.len() > 17 {
        return None;
    }
    Some((digits.parse().ok()?, &payload[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Keys, Namespace};

    fn key() -> Key {
        Keys::new("").entry(Namespace::Value, "n")
    }

    fn entry(kind: Kind, payload: &[u8]) -> Bytes {
        Header { kind, schema: SCHEMA, checksum: checksum(key().bytes(), payload), etag: 1 }
            .envelope(payload)
            .into()
    }

    #[test]
    fn numbers_are_added_to_and_keep_their_tags() {
        let of = |payload: &[u8], delta| count(&key(), Some(&entry(Kind::Value, payload)), delta, 7);
        for (before, delta, after) in
            [("0", 1, "1"), ("41", 1, "42"), ("-3", -4, "-7"), ("5\u{1f}a\u{1f}", -5, "0\u{1f}a\u{1f}")]
        {
            let counted = of(before.as_bytes(), delta).expect("a number");
            assert!(counted.goes_on);
            assert_eq!(counted.entry, {
                let payload = after.as_bytes();
                let sum = checksum(key().bytes(), payload);
                Header { kind: Kind::Value, schema: SCHEMA, checksum: sum, etag: 7 }.envelope(payload)
            });
        }
        for refused in ["1.5", "\"1\"", "", "-", "1e3", "{}", "12345678901234567890", " 1", "+1"] {
            assert_eq!(of(refused.as_bytes(), 1), None, "{refused:?}");
        }
        assert_eq!(of(MOST.to_string().as_bytes(), 1), None);
        assert_eq!(of(MOST.to_string().as_bytes(), i64::MAX), None);
        assert_eq!(of(b"1", i64::MIN), None);
    }

    #[test]
    fn what_is_no_value_begins_at_nothing() {
        for current in [None, Some(entry(Kind::Lease, b"")), Some(Bytes::from_static(b"7"))] {
            let counted = count(&key(), current.as_ref(), 3, 1).expect("a number");
            assert_eq!((counted.number, counted.goes_on), (3, false));
        }
    }
}
