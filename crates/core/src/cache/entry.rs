//! What a read finds and what a load brings. Data only.

use bytes::Bytes;

use crate::base::codec::{HEADER, Header, Kind, checksum};
use crate::base::key::Key;
use crate::store::{Reply, StoreResult};
use crate::telemetry::Tier;

/// An answer of any tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// `Kind::Value` or `Kind::Negative`.
    pub kind: Kind,
    /// Version of the entry; 0 when it is not stored anywhere.
    pub etag: u64,
    /// The payload without its header.
    pub payload: Bytes,
    /// Number of the near copy, for the objects that the JS side keeps; 0 when there is none.
    pub serial: u64,
    /// Who answered.
    pub tier: Tier,
    /// How long it still lives in the store, where that was asked.
    pub left: Left,
}

/// How long an entry still lives in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// Nobody asked.
    #[default]
    Unasked,
    /// So many milliseconds.
    Ms(u64),
    /// It is no longer there, or somebody took its end away.
    Gone,
}

impl Left {
    /// What the replies to the questions about one entry say: this is the last of them.
    pub(super) fn of(replies: &[StoreResult]) -> Self {
        match replies.last() {
            Some(Ok(Reply::Left(left))) => left.map_or(Left::Gone, Left::Ms),
            _ => Left::Unasked,
        }
    }
}

/// How old an entry is that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Its time ends in so many milliseconds.
    Current { left_ms: u64 },
    /// Its time ended so many milliseconds ago; it is kept for who takes it all the same.
    Past { ms: u64 },
    /// The store must be asked how long it still lives.
    Unknown,
}

impl Found {
    /// Whether the source said "no such thing".
    pub fn negative(&self) -> bool {
        self.kind == Kind::Negative
    }
}

/// What a loader brings from the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// `Kind::Value` or `Kind::Negative`.
    pub kind: Kind,
    /// What will be stored.
    pub payload: Bytes,
    /// For how long; 0 = answer it, do not store it.
    pub ttl_ms: u64,
}

/// What a namespace says about an entry it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer it.
    Accept,
    /// Outdated: load anew and replace it.
    Stale,
    /// Somebody else's, and valid for them: load anew and leave it.
    Foreign,
}

/// The bytes under a key, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// A value or a denial.
    Entry { kind: Kind, etag: u64, payload: Bytes },
    /// Somebody may fill.
    Lease { token: u64 },
    /// Fills are refused.
    Hold,
    /// An entry whose payload is not the copy's.
    Changed,
    /// Not written by us, or not for this key, or of another schema.
    Corrupt,
}

impl Stored {
    /// Reads what the store returned for `key`.
    pub fn read(key: &Key, schema: u8, bytes: Option<&Bytes>) -> Self {
        let Some(bytes) = bytes else { return Stored::Absent };
        match Header::decode(bytes) {
            Some(header)
                if header.schema == schema && header.checksum == checksum(key.bytes(), &bytes[HEADER..]) =>
            {
                Self::of(&header, bytes.slice(HEADER..))
            }
            _ => Stored::Corrupt,
        }
    }

    /// Reads the header alone, for comparing it with a copy: payload and checksum are the copy's. A header that
    /// does not belong to this payload is another version.
    pub fn head(schema: u8, bytes: Option<&Bytes>, (payload, checksum): (&Bytes, u32)) -> Self {
        let Some(bytes) = bytes else { return Stored::Absent };
        match Header::decode(bytes) {
            Some(header) if header.schema == schema => {
                let same = header.checksum == checksum;
                match Self::of(&header, payload.clone()) {
                    Stored::Entry { .. } if !same => Stored::Changed,
                    stored => stored,
                }
            }
            _ => Stored::Corrupt,
        }
    }

    fn of(header: &Header, payload: Bytes) -> Self {
        match header.kind {
            Kind::Value | Kind::Negative => Stored::Entry { kind: header.kind, etag: header.etag, payload },
            Kind::Lease => Stored::Lease { token: header.etag },
            Kind::Hold => Stored::Hold,
        }
    }
}

/// The bytes of an entry, lease or hold for `key`.
pub fn encode(key: &Key, kind: Kind, schema: u8, etag: u64, payload: &[u8]) -> Bytes {
    Header { kind, schema, checksum: checksum(key.bytes(), payload), etag }.envelope(payload).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Keys, Namespace};

    #[test]
    fn an_entry_is_not_accepted_under_another_key_or_schema() {
        let keys = Keys::new("p:");
        let (mine, other) = (keys.entry(Namespace::UserBasic, "a"), keys.entry(Namespace::UserBasic, "b"));
        let bytes = encode(&mine, Kind::Value, 1, 7, b"{}");
        assert!(matches!(Stored::read(&mine, 1, Some(&bytes)), Stored::Entry { etag: 7, .. }));
        assert_eq!(Stored::read(&other, 1, Some(&bytes)), Stored::Corrupt);
        assert_eq!(Stored::read(&mine, 2, Some(&bytes)), Stored::Corrupt);
        assert_eq!(Stored::read(&mine, 1, Some(&Bytes::from_static(b"x"))), Stored::Corrupt);
        assert_eq!(Stored::read(&mine, 1, None), Stored::Absent);
        let cut = bytes.slice(..bytes.len() - 1);
        assert_eq!(Stored::read(&mine, 1, Some(&cut)), Stored::Corrupt, "an entry that lost its end");
        let head = Some(bytes.slice(..HEADER));
        let copy = |payload: &'static [u8]| {
            let checksum = checksum(mine.bytes(), payload);
            Stored::head(1, head.as_ref(), (&Bytes::from_static(payload), checksum))
        };
        assert!(matches!(copy(b"{}"), Stored::Entry { etag: 7, .. }));
        assert_eq!(copy(b"[]"), Stored::Changed);
    }
}
