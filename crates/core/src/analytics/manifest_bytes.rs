//! The bytes of a manifest. Layout: `docs/analytics-format.md`.
//!
//! Invariant: whatever is read is a manifest: every place it names exists, everything that ascends does, and all rows are
//! accounted for. Otherwise it is refused.

use super::frame::Hash;
use super::manifest::{Entry, Group, Manifest, Run, last};
use super::refused::Refused;
use super::schema::Schema;
use super::wire::{self, Reader, Sealed};
use crate::base::limits;

impl Manifest {
    /// Packs and compresses it.
    pub fn seal(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        self.schema.encode(&mut raw);
        for names in [&self.measures, &self.frequencies] {
            put_list(&mut raw, names, |raw, name| wire::put_bytes(raw, name.as_bytes()));
        }
        for ids in [&self.practices, &self.providers] {
            let mut before = 0;
            put_list(&mut raw, ids, |raw, id| {
                wire::put_signed(raw, i128::from(*id) - before);
                before = i128::from(*id);
            });
        }
        wire::put_number(&mut raw, self.groups.len() as u128);
        for (group, Group { measure, frequency, .. }) in self.groups.iter().enumerate() {
            let (first, end) = self.frames_of(group);
            for number in [*measure as usize, *frequency as usize, end - first] {
                wire::put_number(&mut raw, number as u128);
            }
            for frame in first..end {
                self.put_frame(&mut raw, frame);
            }
        }
        // Names look like noise: they stand apart, so that they do not interrupt what repeats from group to group.
        for Entry { hash, bytes, .. } in &self.frames {
            wire::put_number(&mut raw, u128::from(*bytes));
            raw.extend_from_slice(&hash.0);
        }
        wire::seal(Sealed::Manifest, &raw)
    }

    fn put_frame(&self, raw: &mut Vec<u8>, frame: usize) {
        match self.frames[frame].dates {
            None => raw.push(0),
            Some((first, last)) => {
                raw.push(1);
                wire::put_signed(raw, first.into());
                wire::put_signed(raw, last.into());
            }
        }
        let (first, end) = self.runs_of(frame);
        wire::put_number(raw, (end - first) as u128);
        for Run { practice, provider, rows } in &self.runs[first..end] {
            for number in [practice, provider, rows] {
                wire::put_number(raw, u128::from(*number));
            }
        }
    }

    /// Reads a manifest that must have this name.
    pub fn open(sealed: &[u8], name: &Hash) -> Result<Self, Refused> {
        if Hash::of(sealed) != *name {
            return Err(Refused::Corrupt("a manifest under another name"));
        }
        Self::unseal(sealed)
    }

    pub(super) fn unseal(sealed: &[u8]) -> Result<Self, Refused> {
        let raw = wire::open(Sealed::Manifest, sealed, limits::ANALYTICS_MANIFEST_BYTES)?;
        let mut reader = Reader::new(&raw);
        let mut manifest = Self::new(Schema::decode(&mut reader)?, &[]);
        manifest.measures = list(&mut reader, |reader| reader.text().map(str::to_owned))?;
        manifest.frequencies = list(&mut reader, |reader| reader.text().map(str::to_owned))?;
        manifest.practices = ids(&mut reader)?;
        manifest.providers = ids(&mut reader)?;
        for _ in 0..reader.count()? {
            let group = Group { measure: reader.fitting()?, frequency: reader.fitting()?, end: 0 };
            manifest.read_group(&mut reader, group)?;
        }
        for frame in &mut manifest.frames {
            frame.bytes = reader.fitting()?;
            frame.hash.0.copy_from_slice(reader.take(16)?);
        }
        reader.end()?;
        manifest.count();
        Ok(manifest)
    }

    fn read_group(&mut self, reader: &mut Reader<'_>, mut group: Group) -> Result<(), Refused> {
        let key = |group: &Group| (group.measure, group.frequency);
        let known = (group.measure as usize) < self.measures.len()
            && (group.frequency as usize) < self.frequencies.len();
        if !known || self.groups.last().is_some_and(|before| key(before) >= key(&group)) {
            return Err(Refused::Corrupt("groups that do not ascend"));
        }
        let mut before = None;
        for _ in 0..reader.count()? {
            self.read_frame(reader, &mut before)?;
        }
        group.end = place(self.frames.len())?;
        self.groups.push(group);
        Ok(())
    }

    /// `before` is the last run of the same group.
    fn read_frame(
        &mut self,
        reader: &mut Reader<'_>,
        before: &mut Option<(u32, u32)>,
    ) -> Result<(), Refused> {
        let dates = match reader.byte()? {
            0 => None,
            1 => Some((date(reader)?, date(reader)?)),
            _ => return Err(Refused::Corrupt("dates of another release")),
        };
        if dates.is_some_and(|(first, last)| first > last) {
            return Err(Refused::Corrupt("dates that do not ascend"));
        }
        let mut rows = 0_u32;
        for at in 0..reader.count()? {
            let run =
                Run { practice: reader.fitting()?, provider: reader.fitting()?, rows: reader.fitting()? };
            let key = (run.practice, run.provider);
            // Only a run that was cut goes on in the next frame.
            let ascends = before.is_none_or(|before| if at == 0 { before <= key } else { before < key });
            let known = (run.practice as usize) < self.practices.len()
                && (run.provider as usize) < self.providers.len();
            if !ascends || !known || run.rows == 0 {
                return Err(Refused::Corrupt("runs that do not ascend"));
            }
            rows = rows.checked_add(run.rows).ok_or(Refused::Corrupt("a frame with too many rows"))?;
            *before = Some(key);
            self.runs.push(run);
        }
        if rows == 0 || rows as usize > limits::ANALYTICS_BATCH_ROWS {
            return Err(Refused::Corrupt("a frame with no or too many rows"));
        }
        let end = place(self.runs.len())?;
        self.frames.push(Entry { hash: Hash([0; 16]), bytes: 0, rows, dates, end });
        Ok(())
    }
}

fn place(at: usize) -> Result<u32, Refused> {
    u32::try_from(at).map_err(|_| Refused::Corrupt("too many frames"))
}

fn date(reader: &mut Reader<'_>) -> Result<i64, Refused> {
    i64::try_from(reader.signed()?).map_err(|_| Refused::Corrupt("a date that is none"))
}

/// Twice the number of values, plus one when NULL is the last of them.
fn put_list<T>(raw: &mut Vec<u8>, list: &[Option<T>], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    let null = list.last().is_some_and(Option::is_none);
    let known = list.len() - usize::from(null);
    wire::put_number(raw, known as u128 * 2 + u128::from(null));
    list.iter().flatten().for_each(|value| put(raw, value));
}

fn list<T: Clone + Ord>(
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Refused>,
) -> Result<Vec<Option<T>>, Refused> {
    let head: usize = reader.fitting()?;
    if head / 2 > reader.left() {
        return Err(Refused::Corrupt("a list that is longer than its bytes"));
    }
    let mut list = Vec::with_capacity(head / 2 + 1);
    for _ in 0..head / 2 {
        list.push(Some(read(reader)?));
    }
    if head % 2 == 1 {
        list.push(None);
    }
    if !list.is_sorted_by(|a, b| last(a) < last(b)) {
        return Err(Refused::Corrupt("a list that does not ascend"));
    }
    Ok(list)
}

fn ids(reader: &mut Reader<'_>) -> Result<Vec<Option<i64>>, Refused> {
    let mut before = 0_i128;
    list(reader, |reader| {
        before = reader.signed()?.saturating_add(before);
        i64::try_from(before).map_err(|_| Refused::Corrupt("an identifier that is none"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::manifest::{Grouped, Summary};
    use crate::analytics::query::Question;
    use crate::analytics::schema::{Field, Roles, Type};
    use crate::analytics::testing;
    use proptest::prelude::*;

    fn schema() -> Schema {
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let fields =
            vec![field("measure", Type::Text), field("practice", Type::Int), field("day", Type::Date)];
        Schema::new(fields, Roles { measure: Some(0), practice: Some(1), date: Some(2), ..Roles::default() })
            .unwrap()
    }

    /// Some manifest of `groups` measures.
    fn manifest(groups: usize, seed: u64) -> Manifest {
        let mut rng = fastrand::Rng::with_seed(seed);
        let grouped: Vec<Grouped> = (0..groups)
            .map(|at| {
                let mut frames = Vec::new();
                for practice in 0..rng.i64(1..4) {
                    let runs = 0..rng.i64(1..4);
                    let runs = runs.map(|by| (Some(practice * 7), Some(by - 1), rng.u32(1..50))).collect();
                    let first = rng.i64(-10..10);
                    let dates = rng.bool().then_some((first, first + rng.i64(0..9)));
                    let hash = Hash::of(&rng.u64(..).to_be_bytes());
                    frames.push(Summary { hash, bytes: rng.u32(..), dates, runs });
                }
                if rng.bool() {
                    frames.push(Summary { runs: vec![(None, None, 9)], ..frames[0].clone() });
                }
                let measure = (at + 1 < groups || rng.bool()).then(|| format!("m{at:04}|\n:"));
                Grouped { measure, frequency: None, frames }
            })
            .collect();
        Manifest::new(schema(), &grouped)
    }

    fn resealed(sealed: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut raw = wire::open(Sealed::Manifest, sealed, usize::MAX).unwrap();
        change(&mut raw);
        wire::seal(Sealed::Manifest, &raw)
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_read(groups in 0..6_usize, seed: u64) {
            let manifest = manifest(groups, seed);
            let sealed = manifest.seal();
            prop_assert_eq!(Manifest::open(&sealed, &Hash::of(&sealed)), Ok(manifest.clone()));
            prop_assert_eq!(manifest.seal(), sealed);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), groups in 1..4_usize, seed: u64, at: prop::sample::Index, byte: u8) {
            prop_assert!(Manifest::unseal(&[&b"bcm1\x01"[..], &bytes].concat()).is_err());
            let sealed = manifest(groups, seed).seal();
            for mutant in [
                wire::seal(Sealed::Manifest, &bytes),
                resealed(&sealed, |raw| { let at = at.index(raw.len()); raw[at] = byte }),
                resealed(&sealed, |raw| { let at = at.index(raw.len()); raw[at] ^= 1 << (byte % 8) }),
                resealed(&sealed, |raw| raw.truncate(at.index(raw.len() + 1))),
                resealed(&sealed, |raw| { let at = at.index(raw.len()); let _ = raw.remove(at); }),
                resealed(&sealed, |raw| { let at = at.index(raw.len()); raw.splice(at..at, bytes.iter().copied().take(9)); }),
            ] {
                if let Ok(manifest) = Manifest::unseal(&mutant) {
                    // Whatever was read can be asked, and adds up.
                    let all = testing::visible(None, None);
                    let plan = manifest.plan(&Question { visible: all, ..Question::nothing() }).unwrap();
                    prop_assert_eq!(plan.rows(), manifest.rows());
                    prop_assert!(manifest.entries() <= manifest.rows());
                    prop_assert_eq!(Manifest::unseal(&manifest.seal()), Ok(manifest));
                }
            }
        }
    }

    #[test]
    fn a_manifest_is_believed_only_under_its_name() {
        let sealed = manifest(2, 1).seal();
        assert_eq!(
            Manifest::open(&sealed, &Hash::of(b"another")),
            Err(Refused::Corrupt("a manifest under another name"))
        );
    }
}
