//! A result as it is stored: a head of fixed length in printable ASCII, then its JSON. Not the entry's own header, which
//! stands before it.
//!
//! ```text
//! <generation, 16 hex> <- or z> <ms kept beyond its time, 8 hex> <ms its query took, 8 hex> <body>
//! ```
//!
//! The body is JSON (`-`), or JSON as an lz4 block behind its length (`z`).
//!
//! Invariant: hostile bytes are no result; reading a head never unpacks.

use bytes::Bytes;

/// Smaller ones are not worth it: they travel in one packet either way.
pub(super) const COMPRESS_BYTES: usize = 4 * 1_024;
/// What is larger than this once unpacked was not written by us.
const UNPACKED_BYTES: usize = 256 << 20;
const HEAD: usize = 16 + 1 + 1 + 1 + 8 + 1 + 8 + 1;

/// What is known of a result without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of its source, when its query began.
    pub generation: u64,
    /// How long it is kept beyond its time, in milliseconds.
    pub kept_ms: u32,
    /// How long its query took, in milliseconds.
    pub took_ms: u32,
}

impl Head {
    /// Reads the head; `None` when the payload cannot be a result.
    pub fn read(payload: &Bytes) -> Option<Self> {
        let head = std::str::from_utf8(payload.get(..HEAD)?).ok()?;
        let packed = matches!(head.as_bytes()[17], b'-' | b'z');
        let spaced = [16, 18, 27, 36].iter().all(|at| head.as_bytes()[*at] == b' ');
        // `from_str_radix` would take a sign as well.
        let digits = head.bytes().all(|byte| byte != b'+');
        let number = |from, to| u32::from_str_radix(head.get(from..to)?, 16).ok();
        (packed && spaced && digits).then_some(())?;
        Some(Self {
            generation: u64::from_str_radix(head.get(..16)?, 16).ok()?,
            kept_ms: number(19, 27)?,
            took_ms: number(28, 36)?,
        })
    }
}

/// A result as it is stored.
pub fn pack(json: &[u8], head: Head) -> Bytes {
    let compress = json.len() >= COMPRESS_BYTES;
    let Head { generation, kept_ms, took_ms } = head;
    let codec = if compress { 'z' } else { '-' };
    let head = format!("{generation:016x} {codec} {kept_ms:08x} {took_ms:08x} ");
    let body;
    let body = if compress {
        body = lz4_flex::compress_prepend_size(json);
        &body[..]
    } else {
        json
    };
    let mut payload = Vec::with_capacity(HEAD + body.len());
    payload.extend_from_slice(head.as_bytes());
    payload.extend_from_slice(body);
    payload.into()
}

/// The JSON of a stored result; `None` when it cannot be one.
pub fn unpack(payload: &Bytes) -> Option<Bytes> {
    let body = payload.get(HEAD..)?;
    match payload[17] {
        b'-' => Some(payload.slice(HEAD..)),
        b'z' => {
            let length = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
            if length > UNPACKED_BYTES {
                return None;
            }
            lz4_flex::decompress_size_prepended(body).ok().map(Bytes::from)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_is_read(
            generation: u64,
            kept_ms: u32,
            took_ms: u32,
            text in "[a-z\u{e9}]{0,40}",
            times in 1_usize..300,
        ) {
            let head = Head { generation, kept_ms, took_ms };
            let json = text.repeat(times);
            let payload = pack(json.as_bytes(), head);
            prop_assert_eq!(Head::read(&payload), Some(head));
            prop_assert!(payload[..HEAD].iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
            prop_assert_eq!(unpack(&payload), Some(Bytes::from(json)));
        }

        #[test]
        fn hostile_bytes_are_no_result(bytes in proptest::collection::vec(any::<u8>(), 0..200), mark: bool) {
            let mut bytes = bytes;
            if mark && bytes.len() > HEAD + 4 {
                bytes[17] = b'z';
                bytes[HEAD + 3] = 0;
            }
            let payload = Bytes::from(bytes);
            unpack(&payload);
            prop_assert_eq!(Head::read(&payload), None);
        }

        #[test]
        fn a_head_with_one_wrong_byte_is_none_or_another(at in 0..HEAD, byte: u8) {
            let head = Head { generation: 7, kept_ms: 1, took_ms: 2 };
            let mut bytes = pack(b"{}", head).to_vec();
            let before = std::mem::replace(&mut bytes[at], byte);
            let read = Head::read(&Bytes::from(bytes));
            let same_digit = byte.eq_ignore_ascii_case(&before);
            prop_assert!(same_digit || at == 17 || read != Some(head), "{read:?}");
        }
    }
}
