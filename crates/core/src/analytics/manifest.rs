//! The manifest: which frames there are and which rows lie in them, down to every practice and provider. It is the
//! secondary index: what exists, and where rows can be, is answered from it alone.
//!
//! Complete by construction: what it does not list does not exist, which is an answer and not a miss.
//!
//! Invariant: groups ascend by measure and frequency, the runs of a group by practice and provider, all NULLs last; so
//! do the rows in its frames.

use super::frame::Hash;
use super::query::Question;
use super::refused::Refused;
use super::schema::Schema;
use super::scope::holds;

/// What is known of one generation of a data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(super) schema: Schema,
    pub(super) measures: Vec<Option<String>>,
    pub(super) frequencies: Vec<Option<String>>,
    pub(super) practices: Vec<Option<i64>>,
    pub(super) providers: Vec<Option<i64>>,
    pub(super) groups: Vec<Group>,
    pub(super) frames: Vec<Entry>,
    pub(super) runs: Vec<Run>,
    rows: u64,
    entries: u64,
}

/// The frames of one measure and frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) measure: u32,
    pub(super) frequency: u32,
    /// The first frame that is not of this group any more.
    pub(super) end: u32,
}

/// What is known of a frame without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub hash: Hash,
    /// Its size in the store.
    pub bytes: u32,
    /// Its rows.
    pub rows: u32,
    /// The first and the last date in it; `None` when all are NULL.
    pub dates: Option<(i64, i64)>,
    /// The first run that is not of this frame any more.
    pub(super) end: u32,
}

/// Adjacent rows of a frame with one practice and provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) practice: u32,
    pub(super) provider: u32,
    pub(super) rows: u32,
}

/// A frame that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Its name.
    pub(super) hash: Hash,
    /// Its size in the store.
    pub(super) bytes: u32,
    /// The first and the last date in it.
    pub(super) dates: Option<(i64, i64)>,
    /// Practice, provider and number of rows of each of its runs.
    pub(super) runs: Vec<(Option<i64>, Option<i64>, u32)>,
}

/// The frames of one measure and frequency, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grouped {
    /// The measure.
    pub(super) measure: Option<String>,
    /// The frequency.
    pub(super) frequency: Option<String>,
    /// Its frames.
    pub(super) frames: Vec<Summary>,
}

/// What has to be read to answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Frames in the order of their rows.
    pub parts: Vec<Part>,
    /// How many measures and frequencies they are of.
    pub groups: usize,
}

/// One frame, and what of it may be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place among [`Manifest::frames`].
    pub frame: usize,
    pub(super) group: usize,
    pub(super) spans: Vec<Span>,
}

/// Rows of a frame that may be seen, and whose they are by the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u32,
    pub(super) run: Run,
}

impl Plan {
    /// Rows of its frames that may be seen, before dates and conditions.
    pub fn rows(&self) -> u64 {
        self.parts.iter().flat_map(|part| &part.spans).map(|span| u64::from(span.run.rows)).sum()
    }
}

/// `None` after everything, as NULLs are ordered.
pub(super) fn last<T: Clone>(id: &Option<T>) -> (bool, Option<T>) {
    (id.is_none(), id.clone())
}

impl Manifest {
    /// Of groups that ascend by measure and frequency.
    pub(super) fn new(schema: Schema, groups: &[Grouped]) -> Self {
        let runs = || groups.iter().flat_map(|group| &group.frames).flat_map(|frame| &frame.runs);
        let measures = distinct(groups.iter().map(|group| group.measure.clone()));
        let frequencies = distinct(groups.iter().map(|group| group.frequency.clone()));
        let practices = distinct(runs().map(|run| run.0));
        let providers = distinct(runs().map(|run| run.1));
        let mut manifest = Self {
            schema,
            measures,
            frequencies,
            practices,
            providers,
            groups: Vec::with_capacity(groups.len()),
            frames: Vec::new(),
            runs: Vec::with_capacity(runs().count()),
            rows: 0,
            entries: 0,
        };
        for group in groups {
            for frame in &group.frames {
                let mut rows = 0;
                for (practice, provider, count) in &frame.runs {
                    let (practice, provider) =
                        (code(&manifest.practices, practice), code(&manifest.providers, provider));
                    manifest.runs.push(Run { practice, provider, rows: *count });
                    rows += count;
                }
                let end = manifest.runs.len() as u32;
                let Summary { hash, bytes, dates, .. } = *frame;
                manifest.frames.push(Entry { hash, bytes, rows, dates, end });
            }
            manifest.groups.push(Group {
                measure: code(&manifest.measures, &group.measure),
                frequency: code(&manifest.frequencies, &group.frequency),
                end: manifest.frames.len() as u32,
            });
        }
        manifest.count();
        manifest
    }

    /// Sets what follows from everything else.
    pub(super) fn count(&mut self) {
        self.rows = self.frames.iter().map(|frame| u64::from(frame.rows)).sum();
        let of_groups = (0..self.groups.len()).map(|group| {
            let (first, end) = self.frames_of(group);
            let runs = &self.runs[self.runs_of(first).0..self.runs_of(end).0];
            // A run that was cut lies at the end of one frame and at the beginning of the next.
            runs.chunk_by(|a, b| (a.practice, a.provider) == (b.practice, b.provider)).count() as u64
        });
        self.entries = of_groups.sum();
    }

    /// The table.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Every measure, ascending by bytes, NULL last.
    pub fn measures(&self) -> &[Option<String>] {
        &self.measures
    }

    /// Every frequency, ascending by bytes, NULL last.
    pub fn frequencies(&self) -> &[Option<String>] {
        &self.frequencies
    }

    /// Every practice, ascending, NULL last.
    pub fn practices(&self) -> &[Option<i64>] {
        &self.practices
    }

    /// Every provider, ascending, NULL last.
    pub fn providers(&self) -> &[Option<i64>] {
        &self.providers
    }

    /// Every frame.
    pub fn frames(&self) -> &[Entry] {
        &self.frames
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many combinations of practice, provider, measure and frequency have rows.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of all frames in the store.
    pub fn data_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.bytes)).sum()
    }

    /// Bytes in memory, about.
    pub fn size(&self) -> usize {
        let texts = [&self.measures, &self.frequencies].into_iter().flatten().flatten().map(String::len);
        texts.sum::<usize>()
            + (self.practices.len() + self.providers.len()) * size_of::<Option<i64>>()
            + self.groups.len() * size_of::<Group>()
            + self.frames.len() * size_of::<Entry>()
            + self.runs.len() * size_of::<Run>()
    }

    /// The first and the last date of all rows.
    pub fn dates(&self) -> Option<(i64, i64)> {
        let dates = || self.frames.iter().filter_map(|frame| frame.dates);
        Some((dates().map(|dates| dates.0).min()?, dates().map(|dates| dates.1).max()?))
    }

    /// The first and the last date of a group, counted as in [`Manifest::groups`].
    pub(super) fn dates_of(&self, group: usize) -> Option<(i64, i64)> {
        let (first, end) = self.frames_of(group);
        let dates = self.frames[first..end].iter().filter_map(|frame| frame.dates);
        dates.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Every measure and frequency with its rows.
    pub fn groups(&self) -> impl Iterator<Item = (Option<&str>, Option<&str>, u64)> {
        (0..self.groups.len()).map(|group| {
            let (first, end) = self.frames_of(group);
            let (measure, frequency) = self.names(group);
            (measure, frequency, self.frames[first..end].iter().map(|frame| u64::from(frame.rows)).sum())
        })
    }

    /// The frames that can hold rows of the answer, and which of their rows may be seen. Nothing is read for it.
    pub fn plan(&self, question: &Question) -> Result<Plan, Refused> {
        let roles = self.schema.roles();
        for (asked, role, field) in [
            (&question.measure, roles.measure, "measure"),
            (&question.frequency, roles.frequency, "frequency"),
        ] {
            if asked.is_some() && role.is_none() {
                return Err(Refused::question(field, "the data source has no such column"));
            }
        }
        if (question.first, question.last) != (None, None) && roles.date.is_none() {
            return Err(Refused::question("startDate", "the data source has no date column"));
        }
        let mut plan = Plan { parts: Vec::new(), groups: 0 };
        let Some((practices, providers)) = question.visible.lists() else { return Ok(plan) };
        let (practices, providers) = (among(practices, &self.practices), among(providers, &self.providers));
        let named = |asked: &Option<String>, names: &[Option<String>]| match asked {
            None => Some(None),
            Some(_) => names.binary_search_by_key(&last(asked), last).ok().map(|at| Some(at as u32)),
        };
        let (Some(measure), Some(frequency)) =
            (named(&question.measure, &self.measures), named(&question.frequency, &self.frequencies))
        else {
            return Ok(plan);
        };
        for (group, found) in self.groups.iter().enumerate() {
            if measure.is_some_and(|at| at != found.measure)
                || frequency.is_some_and(|at| at != found.frequency)
            {
                continue;
            }
            let before = plan.parts.len();
            let (first, end) = self.frames_of(group);
            for frame in (first..end).filter(|frame| question.may_hold(&self.frames[*frame])) {
                let spans = self.spans(frame, &practices, &providers);
                if !spans.is_empty() {
                    plan.parts.push(Part { frame, group, spans });
                }
            }
            plan.groups += usize::from(plan.parts.len() > before);
        }
        Ok(plan)
    }

    /// The runs of a frame that may be seen.
    fn spans(&self, frame: usize, practices: &[bool], providers: &[bool]) -> Vec<Span> {
        let (first, end) = self.runs_of(frame);
        let mut from = 0;
        let mut spans = Vec::new();
        for run in &self.runs[first..end] {
            if practices[run.practice as usize] && providers[run.provider as usize] {
                spans.push(Span { from, run: *run });
            }
            from += run.rows;
        }
        spans
    }

    /// Measure and frequency of a group.
    pub(super) fn names(&self, group: usize) -> (Option<&str>, Option<&str>) {
        let Group { measure, frequency, .. } = self.groups[group];
        (self.measures[measure as usize].as_deref(), self.frequencies[frequency as usize].as_deref())
    }

    /// The first frame of a group and the first one after it.
    pub(super) fn frames_of(&self, group: usize) -> (usize, usize) {
        let first = if group == 0 { 0 } else { self.groups[group - 1].end };
        (first as usize, self.groups[group].end as usize)
    }

    /// The first run of a frame and the first one after it.
    pub(super) fn runs_of(&self, frame: usize) -> (usize, usize) {
        let first = if frame == 0 { 0 } else { self.frames[frame - 1].end };
        let end = self.frames.get(frame).map_or(first, |frame| frame.end);
        (first as usize, end as usize)
    }
}

/// Ascending and distinct, `None` last.
fn distinct<T: Clone + Ord>(ids: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let mut ids: Vec<Option<T>> = ids.collect();
    ids.sort_unstable_by_key(last);
    ids.dedup();
    ids
}

fn code<T: Clone + Ord>(ids: &[Option<T>], id: &Option<T>) -> u32 {
    let found = ids.binary_search_by_key(&last(id), last);
    found.expect("made of all of them") as u32
}

/// Which of these identifiers are among the asked ones.
fn among(asked: Option<&[i64]>, ids: &[Option<i64>]) -> Vec<bool> {
    ids.iter().map(|id| holds(asked, *id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::schema::{Field, Roles, Type};
    use crate::analytics::testing;

    fn schema() -> Schema {
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let fields = vec![
            field("measure", Type::Text),
            field("frequency", Type::Text),
            field("day", Type::Date),
            field("practice", Type::Int),
            field("provider", Type::Int),
        ];
        let roles = Roles {
            measure: Some(0),
            frequency: Some(1),
            date: Some(2),
            practice: Some(3),
            provider: Some(4),
        };
        Schema::new(fields, roles).unwrap()
    }

    fn summary(name: &str, dates: Option<(i64, i64)>, runs: &[(Option<i64>, Option<i64>, u32)]) -> Summary {
        Summary { hash: Hash::of(name.as_bytes()), bytes: 100, dates, runs: runs.to_vec() }
    }

    fn manifest() -> Manifest {
        let group = |measure: Option<&str>, frames| Grouped {
            measure: measure.map(str::to_owned),
            frequency: Some("Monthly".to_owned()),
            frames,
        };
        Manifest::new(
            schema(),
            &[
                group(
                    Some("charges"),
                    vec![
                        summary(
                            "a",
                            Some((10, 20)),
                            &[(Some(0), Some(0), 3), (Some(0), Some(7), 2), (Some(1), None, 4)],
                        ),
                        summary("b", None, &[(Some(5), Some(7), 1)]),
                    ],
                ),
                group(
                    Some("visits"),
                    vec![
                        summary("c", Some((30, 40)), &[(Some(0), Some(0), 4_096)]),
                        summary("d", Some((40, 50)), &[(Some(0), Some(0), 2), (None, Some(7), 6)]),
                    ],
                ),
                group(None, vec![summary("e", Some((10, 50)), &[(Some(1), Some(7), 1)])]),
            ],
        )
    }

    fn asked(practices: Option<&[i64]>, providers: Option<&[i64]>) -> Question {
        Question { visible: testing::visible(practices, providers), ..Question::nothing() }
    }

    fn frames(question: &Question) -> (Vec<usize>, u64) {
        let plan = manifest().plan(question).unwrap();
        (plan.parts.iter().map(|part| part.frame).collect(), plan.rows())
    }

    #[test]
    fn says_what_exists() {
        let manifest = manifest();
        assert_eq!(manifest.measures(), [Some("charges".to_owned()), Some("visits".to_owned()), None]);
        assert_eq!(manifest.practices(), [Some(0), Some(1), Some(5), None]);
        assert_eq!(manifest.providers(), [Some(0), Some(7), None]);
        assert_eq!((manifest.rows(), manifest.data_bytes(), manifest.dates()), (4_115, 500, Some((10, 50))));
        assert_eq!(manifest.entries(), 4 + 2 + 1, "a run that was cut in two is one combination");
        assert_eq!(manifest.groups().map(|(.., rows)| rows).collect::<Vec<_>>(), [10, 4_104, 1]);
    }

    #[test]
    fn plans_only_what_may_hold_an_answer() {
        let all = || asked(None, None);
        assert_eq!(frames(&all()), (vec![0, 1, 2, 3, 4], 4_115));
        assert_eq!(frames(&Question::nothing()), (vec![], 0));
        assert_eq!(frames(&asked(Some(&[0]), None)), (vec![0, 2, 3], 3 + 2 + 4_096 + 2));
        assert_eq!(frames(&asked(Some(&[0, 1]), Some(&[7]))), (vec![0, 4], 2 + 1));
        assert_eq!(frames(&asked(Some(&[99]), None)), (vec![], 0));
        let measure = Question { measure: Some("visits".to_owned()), ..all() };
        assert_eq!(frames(&measure), (vec![2, 3], 4_104));
        assert_eq!(frames(&Question { measure: Some("nothing".to_owned()), ..all() }), (vec![], 0));
        assert_eq!(frames(&Question { first: Some(41), ..all() }), (vec![3, 4], 9));
        assert_eq!(frames(&Question { first: Some(21), last: Some(29), ..all() }), (vec![4], 1));
        assert_eq!(frames(&Question { last: Some(9), ..all() }), (vec![], 0));
    }

    #[test]
    fn a_table_without_a_measure_has_none_to_ask_for() {
        let field = Field { name: "practice".to_owned(), kind: Type::Int };
        let bare = Schema::new(vec![field], Roles { practice: Some(0), ..Roles::default() }).unwrap();
        let manifest = Manifest::new(bare, &[]);
        assert_eq!(manifest.plan(&asked(None, None)).map(|plan| plan.rows()), Ok(0));
        for question in [
            Question { measure: Some("a".to_owned()), ..Question::nothing() },
            Question { frequency: Some("a".to_owned()), ..Question::nothing() },
            Question { last: Some(1), ..Question::nothing() },
        ] {
            assert!(matches!(manifest.plan(&question), Err(Refused::Question { .. })));
        }
    }
}
