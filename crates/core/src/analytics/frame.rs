//! A frame: some rows of one measure and frequency, column by column, compressed, named by its own bytes.
//!
//! Not an index: which frame holds which rows is what the manifest knows. Layout: `docs/analytics-format.md`.
//!
//! Invariant: the same rows in the same order under the same schema are the same bytes, hence the same name.

use std::fmt;

use sha2::{Digest, Sha256};

use super::column::Column;
use super::refused::Refused;
use super::schema::Schema;
use super::wire::{self, Reader, Sealed};
use crate::base::limits;

/// The name of a frame or a manifest: the first half of the SHA-256 of its bytes. Whoever could choose bytes to make two
/// of one name (2^64 attempts) could as well have stored them as rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub(super) [u8; 16]);

impl Hash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        Self(hash)
    }
}

impl Hash {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        (Self(hash).to_string() == text).then_some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A frame, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    rows: usize,
    columns: Vec<Column>,
}

impl Frame {
    /// Of columns of equal length that fit the schema.
    pub(super) fn new(columns: Vec<Column>) -> Self {
        let rows = columns.first().map_or(0, Column::rows);
        debug_assert!(columns.iter().all(|column| column.rows() == rows));
        Self { rows, columns }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns, in the order of the schema.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Bytes in memory.
    pub fn size(&self) -> usize {
        self.columns.iter().map(|column| column.size() + size_of::<Column>()).sum()
    }

    /// Packs and compresses it.
    pub(super) fn seal(&self, schema: &Schema) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.size());
        raw.extend_from_slice(&schema.fingerprint().to_be_bytes());
        wire::put_number(&mut raw, self.rows as u128);
        for column in &self.columns {
            column.encode(&mut raw);
        }
        wire::seal(Sealed::Frame, &raw)
    }

    /// Reads a frame that must have this name.
    pub fn open(sealed: &[u8], name: &Hash, schema: &Schema) -> Result<Self, Refused> {
        if Hash::of(sealed) != *name {
            return Err(Refused::Corrupt("a frame under another name"));
        }
        Self::unseal(sealed, schema)
    }

    /// Reads a frame of this schema.
    pub(super) fn unseal(sealed: &[u8], schema: &Schema) -> Result<Self, Refused> {
        let raw = wire::open(Sealed::Frame, sealed, limits::ANALYTICS_FRAME_BYTES)?;
        let mut reader = Reader::new(&raw);
        if reader.take(8)? != schema.fingerprint().to_be_bytes() {
            return Err(Refused::Corrupt("a frame of another schema"));
        }
        let rows: usize = reader.fitting()?;
        if rows > limits::ANALYTICS_BATCH_ROWS {
            return Err(Refused::Corrupt("a frame with too many rows"));
        }
        let columns = schema
            .fields()
            .iter()
            .map(|field| Column::decode(&mut reader, field.kind, rows))
            .collect::<Result<Vec<_>, _>>()?;
        reader.end()?;
        Ok(Self { rows, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::schema::{Field, Roles};
    use crate::analytics::testing;
    use proptest::prelude::*;

    fn schema() -> Schema {
        let field =
            |kind: &crate::analytics::schema::Type| Field { name: kind.name().to_owned(), kind: *kind };
        Schema::new(testing::KINDS.iter().map(field).collect(), Roles::default()).unwrap()
    }

    fn frame(rows: usize, seed: u64) -> Frame {
        let column = |kind: &_| testing::column(*kind, &testing::cells(*kind, rows, seed));
        Frame::new(testing::KINDS.iter().map(column).collect())
    }

    /// As whoever can write to the store would do it: the checksum fits.
    fn resealed(sealed: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut raw = wire::open(Sealed::Frame, sealed, usize::MAX).unwrap();
        change(&mut raw);
        wire::seal(Sealed::Frame, &raw)
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_read(rows in 0..80_usize, seed: u64) {
            let (schema, frame) = (schema(), frame(rows, seed));
            let sealed = frame.seal(&schema);
            prop_assert_eq!(Frame::open(&sealed, &Hash::of(&sealed), &schema), Ok(frame.clone()));
            prop_assert_eq!(frame.seal(&schema), sealed);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 0..40_usize, seed: u64, at: prop::sample::Index, cut: prop::sample::Index, byte: u8) {
            let schema = schema();
            let random = [&b"bcf1\x01"[..], &bytes].concat();
            prop_assert!(Frame::unseal(&random, &schema).is_err());
            prop_assert!(Frame::unseal(&wire::seal(Sealed::Frame, &bytes), &schema).is_err());
            let sealed = frame(rows, seed).seal(&schema);
            for mutant in [
                resealed(&sealed, |raw| { let at = at.index(raw.len()); raw[at] = byte }),
                resealed(&sealed, |raw| { let at = at.index(raw.len()); raw[at] ^= 1 << (byte % 8) }),
                resealed(&sealed, |raw| raw.truncate(cut.index(raw.len() + 1))),
                resealed(&sealed, |raw| { let at = at.index(raw.len()); let _ = raw.remove(at); }),
                resealed(&sealed, |raw| { let at = at.index(raw.len()); raw.splice(at..at, bytes.iter().copied().take(9)); }),
            ] {
                if let Ok(frame) = Frame::unseal(&mutant, &schema) {
                    // Everything in it can be read, and it is not larger than its bytes allow.
                    frame.columns().iter().for_each(|column| drop(testing::read(column)));
                    let raw = wire::open(Sealed::Frame, &mutant, usize::MAX).unwrap();
                    prop_assert!(frame.size() <= 5 * raw.len() + 11 * size_of::<Column>());
                }
            }
        }
    }

    #[test]
    fn a_frame_is_believed_only_under_its_name_and_schema() {
        let (schema, frame) = (schema(), frame(10, 1));
        let sealed = frame.seal(&schema);
        let other = Hash::of(b"another");
        assert_eq!(
            Frame::open(&sealed, &other, &schema),
            Err(Refused::Corrupt("a frame under another name"))
        );
        let renamed = Schema::new(
            schema
                .fields()
                .iter()
                .map(|field| Field { name: format!("{}2", field.name), ..field.clone() })
                .collect(),
            Roles::default(),
        );
        let refused = Frame::open(&sealed, &Hash::of(&sealed), &renamed.unwrap());
        assert_eq!(refused, Err(Refused::Corrupt("a frame of another schema")));
        assert_eq!(Hash::of(b"").to_string(), "e3b0c44298fc1c149afbf4c8996fb924");
    }
}
