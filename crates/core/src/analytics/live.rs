//! The live pointer of a data source: which generation is served, which one was before, which one waits for approval. The one
//! mutable thing of the index; everything it names is immutable.
//!
//! Pure: bytes in, bytes out. It is text that an operator reads in the store: `ax1`, a checksum, JSON.
//!
//! Invariant: a generation number never goes down and never names two contents: every change that readers can see, a rollback
//! included, takes the next one.

use serde::{Deserialize, Serialize};

use super::frame::Hash;
use super::manifest::Manifest;
use super::refused::Refused;
use crate::base::limits;

const FORMAT: &str = "ax1";

/// Whether the data source is answered from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was published yet.
    Cold,
    /// A generation is served.
    Live,
    /// A frame held what its manifest did not announce: nothing is served until the next generation.
    Quarantined,
}

/// One complete version of a data source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// The name of its manifest.
    manifest: String,
    /// Rows of the table.
    pub rows: u64,
    /// Combinations of practice, provider, measure and frequency.
    pub entries: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes of all frames in the store.
    pub data_bytes: u64,
    /// Bytes of the manifest in the store.
    pub index_bytes: u64,
    /// Distinct measures.
    pub measures: u64,
    /// Distinct practices.
    pub practices: u64,
    /// Distinct providers.
    pub providers: u64,
    /// The frequencies, as many of them as an operator would read.
    pub frequencies: Vec<String>,
    /// Names the columns, types and roles of the table.
    pub fingerprint: String,
    /// The snapshot of the source that it shows.
    pub snapshot: String,
    /// When it was published, by the clock of who published it.
    pub warmed_unix_ms: u64,
    /// How long the warm took.
    pub took_ms: u64,
}

/// More of them are no list for a person.
const FREQUENCIES_SHOWN: usize = 64;

impl Generation {
    /// What `manifest` says of itself. When and how it came about is for the warm to say.
    pub fn of(manifest: &Manifest, name: Hash, index_bytes: u64) -> Self {
        let there = |ids: &[Option<i64>]| ids.iter().flatten().count() as u64;
        let frequencies = manifest.frequencies().iter().flatten();
        Self {
            number: 0,
            manifest: name.to_string(),
            rows: manifest.rows(),
            entries: manifest.entries(),
            frames: manifest.frames().len() as u64,
            data_bytes: manifest.data_bytes(),
            index_bytes,
            measures: manifest.measures().iter().flatten().count() as u64,
            practices: there(manifest.practices()),
            providers: there(manifest.providers()),
            frequencies: frequencies
                .take(FREQUENCIES_SHOWN)
                .map(|name| name.chars().take(64).collect())
                .collect(),
            fingerprint: format!("{:016x}", manifest.schema().fingerprint()),
            snapshot: String::new(),
            warmed_unix_ms: 0,
            took_ms: 0,
        }
    }

    /// The name of its manifest.
    pub fn manifest(&self) -> Option<Hash> {
        Hash::parse(&self.manifest)
    }
}

/// A generation that was not published because something about it is not plausible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What would be served.
    pub generation: Generation,
    /// What is not plausible, in words.
    pub because: Vec<String>,
}

/// The pointer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Whether it is served.
    pub state: State,
    /// Who warms, or was the last to: a random number. Publishing compares the whole pointer, so whoever was overtaken by
    /// another warm finds it changed.
    pub claim: u64,
    /// The highest number that was ever served.
    pub number: u64,
    /// What is served, in state `Live`.
    pub current: Option<Generation>,
    /// What was served before.
    pub previous: Option<Generation>,
    /// What waits for approval.
    pub held: Option<Held>,
}

impl Live {
    /// Before the first generation.
    pub fn cold(claim: u64) -> Self {
        Self { state: State::Cold, claim, number: 0, current: None, previous: None, held: None }
    }

    /// What is served.
    pub fn served(&self) -> Option<&Generation> {
        self.current.as_ref().filter(|_| self.state == State::Live)
    }

    /// The same, claimed by somebody who warms.
    #[must_use]
    pub fn claimed(&self, claim: u64) -> Self {
        Self { claim, ..self.clone() }
    }

    /// With another generation in service. Numbers follow the clock, so that they go on where they were when the pointer
    /// was lost or deleted.
    #[must_use]
    pub fn published(&self, generation: Generation, now_unix_ms: u64) -> Self {
        let number = (self.number + 1).max(now_unix_ms);
        let before = if self.state == State::Quarantined { &self.previous } else { &self.current };
        Self {
            state: State::Live,
            claim: self.claim,
            number,
            current: Some(Generation { number, ..generation }),
            previous: before.clone(),
            held: None,
        }
    }

    /// With a generation that waits; what is served stays.
    #[must_use]
    pub fn holding(&self, generation: Generation, because: Vec<String>) -> Self {
        Self { held: Some(Held { generation, because }), ..self.clone() }
    }

    /// With the generation of before in service, and the present one as the one of before.
    pub fn rolled_back(&self, now_unix_ms: u64) -> Option<Self> {
        let previous = self.previous.clone()?;
        let bad = self.state == State::Quarantined;
        let back = self.published(previous, now_unix_ms);
        Some(Self { previous: if bad { None } else { back.previous.clone() }, ..back })
    }

    /// Out of service.
    #[must_use]
    pub fn quarantined(&self) -> Self {
        Self { state: State::Quarantined, ..self.clone() }
    }

    /// Every manifest that must stay in the store.
    pub fn manifests(&self) -> impl Iterator<Item = Hash> {
        let held = self.held.as_ref().map(|held| &held.generation);
        [self.current.as_ref(), self.previous.as_ref(), held]
            .into_iter()
            .flatten()
            .filter_map(Generation::manifest)
    }

    /// As it is stored.
    pub fn seal(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("texts and numbers are JSON");
        format!("{FORMAT} {:08x} {json}", crc32fast::hash(json.as_bytes())).into_bytes()
    }

    /// What was stored.
    pub fn open(bytes: &[u8]) -> Result<Self, Refused> {
        let unreadable = || Refused::Corrupt("a live pointer that is none");
        if bytes.len() > limits::ANALYTICS_LIVE_BYTES {
            return Err(unreadable());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable())?;
        let mut parts = text.splitn(3, ' ');
        let (format, sum, json) = (parts.next(), parts.next(), parts.next());
        let (Some(FORMAT), Some(sum), Some(json)) = (format, sum, json) else { return Err(unreadable()) };
        if u32::from_str_radix(sum, 16) != Ok(crc32fast::hash(json.as_bytes())) {
            return Err(unreadable());
        }
        let live: Self = serde_json::from_str(json).map_err(|_| unreadable())?;
        let named = |generation: &Generation| generation.manifest().is_some();
        let whole = [&live.current, &live.previous].into_iter().flatten().all(named)
            && live.held.as_ref().is_none_or(|held| named(&held.generation))
            && (live.state != State::Live || live.current.is_some());
        if whole { Ok(live) } else { Err(unreadable()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn generation(seed: u64) -> Generation {
        Generation {
            number: 0,
            manifest: Hash::of(&seed.to_be_bytes()).to_string(),
            rows: seed,
            entries: seed,
            frames: 1,
            data_bytes: 10,
            index_bytes: 1,
            measures: 1,
            practices: 1,
            providers: 1,
            frequencies: vec!["Monthly\n\"".to_owned()],
            fingerprint: String::new(),
            snapshot: "1:1:".to_owned(),
            warmed_unix_ms: 5,
            took_ms: 6,
        }
    }

    #[test]
    fn a_generation_is_published_held_and_rolled_back() {
        let cold = Live::cold(7);
        assert_eq!((cold.served(), cold.rolled_back(1)), (None, None));
        let first = cold.published(generation(1), 1_000);
        assert_eq!(first.served().map(|served| (served.number, served.rows)), Some((1_000, 1)));
        let second = first.published(generation(2), 900);
        assert_eq!(
            second.served().map(|served| (served.number, served.rows)),
            Some((1_001, 2)),
            "a clock that stepped back"
        );
        let held = second.holding(generation(3), vec!["fewer rows".to_owned()]);
        assert_eq!(held.served(), second.served());
        assert_eq!(held.manifests().count(), 3);
        let back = held.rolled_back(2_000).unwrap();
        assert_eq!(
            back.served().map(|served| (served.number, served.rows)),
            Some((2_000, 1)),
            "with a number of its own"
        );
        assert_eq!(back.previous.as_ref().map(|one| one.rows), Some(2));
        assert_eq!(back.held, None);
        let again = back.rolled_back(2_000).unwrap();
        assert_eq!(again.served().map(|served| served.rows), Some(2));
    }

    #[test]
    fn what_is_quarantined_never_comes_back() {
        let live = Live::cold(7).published(generation(1), 1).published(generation(2), 2).quarantined();
        assert_eq!(live.served(), None);
        let back = live.rolled_back(3).unwrap();
        assert_eq!(back.served().map(|served| served.rows), Some(1));
        assert_eq!(back.rolled_back(4), None);
        let next = live.published(generation(3), 3);
        assert_eq!(next.rolled_back(4).unwrap().served().map(|served| served.rows), Some(1));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(seed: u64, number: u64, claim: u64) {
            let live = Live { number, ..Live::cold(claim).published(generation(seed), 3).holding(generation(claim), vec!["é\n".to_owned()]) };
            prop_assert_eq!(Live::open(&live.seal()), Ok(live));
        }

        #[test]
        fn hostile_bytes_are_refused(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let live = Live::cold(1).published(generation(1), 3);
            let bytes = live.seal();
            let mut changed = bytes.clone();
            let at = at.index(bytes.len());
            changed[at] = byte;
            if changed != bytes {
                // The checksum may be written in capitals.
                prop_assert!(Live::open(&changed).map_or(true, |read| read == live));
            }
            prop_assert!(Live::open(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn a_name_is_read_back() {
        let name = Hash::of(b"a");
        assert_eq!(Hash::parse(&name.to_string()), Some(name));
        for wrong in [
            "",
            "g0000000000000000000000000000000",
            "+0000000000000000000000000000000",
            "ABCDEF00000000000000000000000000",
        ] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }
}
