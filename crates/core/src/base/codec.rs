//! The envelope of an entry: a header of fixed length in printable ASCII, then the payload.
//!
//! ```text
//! b1vx01.1a2b3c4d0123456789abcdef {"user_id":...}
//! ^ ^^^  ^       ^
//! | |||  |       etag (value, negative) or token (lease, hold), 16 hex digits
//! | |||  checksum of key and payload, 8 hex digits
//! | ||schema, 2 hex digits
//! | |codec: `-` plain
//! | kind: v value, n negative, l lease, h hold
//! format
//! ```
//!
//! The checksum makes a reply that got under the wrong key, or lost its end, a miss instead of a foreign or a
//! broken row.
//!
//! Invariant: `decode` never panics, and no entry is accepted whose checksum does not fit.

use bytes::Bytes;

/// Length of the header in bytes.
pub const HEADER: usize = 32;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of the source.
    Value,
    /// The source was asked and said no: unknown, deactivated, deleted.
    Negative,
    /// Somebody is loading and holds the right to fill.
    Lease,
    /// Fills are refused until this expires.
    Hold,
}

/// Content of an entry that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `Value` or `Negative`.
    pub kind: Kind,
    /// Random version of this entry.
    pub etag: u64,
    /// Everything after the header.
    pub payload: Bytes,
}

/// The header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the entry is.
    pub kind: Kind,
    /// Version of the payload's shape.
    pub schema: u8,
    /// CRC-32 of the key it was written for and of the payload.
    pub checksum: u32,
    /// Etag or token.
    pub etag: u64,
}

impl Header {
    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [b' '; HEADER];
        out[..2].copy_from_slice(b"b1");
        out[2] = match self.kind {
            Kind::Value => b'v',
            Kind::Negative => b'n',
            Kind::Lease => b'l',
            Kind::Hold => b'h',
        };
        out[3] = b'-';
        hex(u64::from(self.schema), &mut out[4..6]);
        out[6] = b'.';
        hex(u64::from(self.checksum), &mut out[7..15]);
        hex(self.etag, &mut out[15..31]);
        out
    }

    /// Reads a header; `None` for anything that was not written by this format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        if &bytes[..2] != b"b1" || bytes[3] != b'-' || bytes[6] != b'.' || bytes[31] != b' ' {
            return None;
        }
        let kind = match bytes[2] {
            b'v' => Kind::Value,
            b'n' => Kind::Negative,
            b'l' => Kind::Lease,
            b'h' => Kind::Hold,
            _ => return None,
        };
        Some(Self {
            kind,
            schema: u8::try_from(unhex(&bytes[4..6])?).ok()?,
            checksum: u32::try_from(unhex(&bytes[7..15])?).ok()?,
            etag: unhex(&bytes[15..31])?,
        })
    }

    /// The header followed by `payload`.
    pub fn envelope(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + payload.len());
        out.extend_from_slice(&self.encode());
        out.extend_from_slice(payload);
        out
    }
}

/// The checksum of an entry.
pub fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(payload);
    crc.finalize()
}

fn hex(mut value: u64, out: &mut [u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in out.iter_mut().rev() {
        *byte = HEX[(value & 15) as usize];
        value >>= 4;
    }
}

fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = Header> {
        (0..4_usize, any::<u8>(), any::<u32>(), any::<u64>()).prop_map(|(kind, schema, checksum, etag)| {
            Header {
                kind: [Kind::Value, Kind::Negative, Kind::Lease, Kind::Hold][kind],
                schema,
                checksum,
                etag,
            }
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(header in any_header(), payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = header.envelope(&payload);
            prop_assert!(bytes[..HEADER].iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
            prop_assert_eq!(Header::decode(&bytes), Some(header));
            prop_assert_eq!(&bytes[HEADER..], &payload[..]);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::decode(&bytes);
        }

        #[test]
        fn one_changed_structural_byte_is_refused(header in any_header(), at in prop_oneof![Just(0_usize), Just(1), Just(3), Just(6), Just(31)]) {
            let mut bytes = header.encode();
            bytes[at] ^= 0x15;
            prop_assert_eq!(Header::decode(&bytes), None);
        }
    }
}
