//! The keys under a tag as bytes, for the embedded store: what a sorted set is to the server. Pure.
//!
//! ```text
//! (stamp, 8 bytes | length, 4 bytes | key)*
//! ```
//!
//! Invariant: a key is under a tag once, and what has ended is dropped with the next one that comes.

use bytes::Bytes;

/// A key with its stamp: when it ends in ms, times [`FINER`], plus a random part.
pub type Member = (Bytes, u64);

/// Stamps per millisecond.
pub const FINER: u64 = 4_096;

pub(super) fn all(bytes: Option<&Bytes>) -> Vec<Member> {
    let mut members = Vec::new();
    let mut rest = bytes.cloned().unwrap_or_default();
    while rest.len() >= 12 {
        let head = rest.split_to(12);
        let stamp = u64::from_be_bytes(head[..8].try_into().unwrap_or_default());
        let length = u32::from_be_bytes(head[8..].try_into().unwrap_or_default()) as usize;
        if length > rest.len() {
            break;
        }
        members.push((rest.split_to(length), stamp));
    }
    members
}

pub(super) fn pack(members: &[Member]) -> Bytes {
    let mut out = Vec::with_capacity(members.iter().map(|(key, _)| 12 + key.len()).sum());
    for (key, stamp) in members {
        out.extend_from_slice(&stamp.to_be_bytes());
        out.extend_from_slice(&(key.len() as u32).to_be_bytes());
        out.extend_from_slice(key);
    }
    out.into()
}

/// With `member`, without what has ended.
pub(super) fn with(mut members: Vec<Member>, member: Member, now_ms: u64) -> Vec<Member> {
    members.retain(|(key, stamp)| *stamp > now_ms * FINER && *key != member.0);
    members.push(member);
    members
}

/// Without those that still have the stamp they were seen with.
pub(super) fn without(mut members: Vec<Member>, seen: &[Member]) -> Vec<Member> {
    members.retain(|member| !seen.contains(member));
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(key: &str, stamp: u64) -> Member {
        (Bytes::copy_from_slice(key.as_bytes()), stamp)
    }

    #[test]
    fn a_key_is_there_once_and_not_for_ever() {
        let first = with(with(Vec::new(), member("a", 5 * FINER), 0), member("b", 9 * FINER), 0);
        let again = with(first.clone(), member("a", 7 * FINER + 1), 0);
        assert_eq!(again, [member("b", 9 * FINER), member("a", 7 * FINER + 1)]);
        assert_eq!(with(again.clone(), member("c", 20 * FINER), 8).len(), 2, "what has ended is gone");
        assert_eq!(without(again.clone(), &first), [member("a", 7 * FINER + 1)], "put there again: it stays");
        assert_eq!(all(Some(&pack(&again))), again);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_few_members(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(all(Some(&bytes.into())).len() <= 9);
        }
    }
}
