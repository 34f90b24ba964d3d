//! The distinct values of a column of texts, ascending by bytes: a code is a place in it, so that codes compare as the
//! texts do under `COLLATE "C"`.
//!
//! Invariant: strictly ascending, and every entry is used by some row.

use super::refused::Refused;
use super::wire::{self, Reader};

/// Distinct values, ascending by bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dictionary {
    /// Where each entry ends.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Dictionary {
    /// Of entries that ascend.
    pub(super) fn of<'a>(ascending: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut dictionary = Self::default();
        for entry in ascending {
            dictionary.bytes.extend_from_slice(entry);
            dictionary
                .ends
                .push(u32::try_from(dictionary.bytes.len()).expect("bounded by the bytes of a batch"));
        }
        dictionary
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The entry of a code.
    pub fn at(&self, code: usize) -> &[u8] {
        let from = if code == 0 { 0 } else { self.ends[code - 1] as usize };
        &self.bytes[from..self.ends[code] as usize]
    }

    /// All entries, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|code| self.at(code))
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + size_of_val(&self.ends[..])
    }

    /// One dictionary of the used entries of several, and for each of them what its codes become.
    pub(super) fn merge(parts: &[(&Dictionary, Vec<bool>)]) -> (Self, Vec<Vec<u32>>) {
        let mut entries: Vec<(&[u8], usize, usize)> = Vec::new();
        for (part, (dictionary, used)) in parts.iter().enumerate() {
            let used = used.iter().enumerate().filter(|(_, used)| **used);
            entries.extend(used.map(|(code, _)| (dictionary.at(code), part, code)));
        }
        if parts.len() > 1 {
            entries.sort_unstable();
        }
        let mut codes: Vec<Vec<u32>> =
            parts.iter().map(|(dictionary, _)| vec![0; dictionary.len()]).collect();
        let mut merged = Self::default();
        for (at, (entry, part, code)) in entries.iter().enumerate() {
            if at == 0 || entries[at - 1].0 != *entry {
                merged.bytes.extend_from_slice(entry);
                merged
                    .ends
                    .push(u32::try_from(merged.bytes.len()).expect("bounded by the bytes of its parts"));
            }
            codes[*part][*code] = merged.ends.len() as u32 - 1;
        }
        (merged, codes)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        wire::put_number(out, self.len() as u128);
        for entry in self.iter() {
            wire::put_number(out, entry.len() as u128);
        }
        out.extend_from_slice(&self.bytes);
    }

    /// `fits` says whether the bytes of an entry are a value of the column's type.
    pub(super) fn decode(reader: &mut Reader<'_>, fits: impl Fn(&[u8]) -> bool) -> Result<Self, Refused> {
        let count = reader.count()?;
        let mut ends = Vec::with_capacity(count);
        let mut end = 0_u32;
        for _ in 0..count {
            let length: u32 = reader.fitting()?;
            end = end.checked_add(length).ok_or(Refused::Corrupt("a dictionary that is too long"))?;
            ends.push(end);
        }
        let dictionary = Self { bytes: reader.take(end as usize)?.to_vec(), ends };
        if !dictionary.iter().is_sorted_by(|a, b| a < b) || !dictionary.iter().all(fits) {
            return Err(Refused::Corrupt("a dictionary that is none"));
        }
        Ok(dictionary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(entries: &BTreeSet<Vec<u8>>) -> Dictionary {
        Dictionary::of(entries.iter().map(|entry| &entry[..]))
    }

    fn sets() -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
        proptest::collection::btree_set(proptest::collection::vec(0..3_u8, 0..4), 0..12)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries in sets()) {
            let dictionary = of(&entries);
            let mut out = Vec::new();
            dictionary.encode(&mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(Dictionary::decode(&mut reader, |_| true), Ok(dictionary.clone()));
            prop_assert_eq!(reader.end(), Ok(()));
            prop_assert!(dictionary.iter().eq(entries.iter().map(|entry| &entry[..])));
            let refuse = Dictionary::decode(&mut Reader::new(&out), |_| false);
            prop_assert_eq!(refuse.is_err(), !entries.is_empty());
        }

        #[test]
        fn merging_keeps_the_used_entries_and_their_order(sets in proptest::collection::vec((sets(), any::<u16>()), 1..5)) {
            let dictionaries: Vec<Dictionary> = sets.iter().map(|(set, _)| of(set)).collect();
            let parts: Vec<(&Dictionary, Vec<bool>)> = dictionaries
                .iter()
                .zip(&sets)
                .map(|(dictionary, (_, used))| (dictionary, (0..dictionary.len()).map(|code| used >> code & 1 == 1).collect()))
                .collect();
            let (merged, codes) = Dictionary::merge(&parts);
            let mut expected = BTreeSet::new();
            for (part, (dictionary, used)) in parts.iter().enumerate() {
                for code in (0..dictionary.len()).filter(|code| used[*code]) {
                    prop_assert_eq!(merged.at(codes[part][code] as usize), dictionary.at(code));
                    expected.insert(dictionary.at(code).to_vec());
                }
            }
            prop_assert_eq!(merged, of(&expected));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(dictionary) = Dictionary::decode(&mut Reader::new(&bytes), |_| true) {
                prop_assert!(dictionary.size() <= 5 * bytes.len());
            }
        }
    }
}
