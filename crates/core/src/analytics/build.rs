//! From rows of the source, in any order, to frames and their manifest.
//!
//! Batches are taken apart by measure and frequency at once, and what belongs together waits as packed frames, a few bytes a
//! row. In the end one measure and frequency after the other is unpacked, sorted and cut into its frames. At its
//! highest, memory holds all rows packed, one batch, and the rows of one measure and frequency unpacked; never all rows.
//!
//! Invariant: the same rows give the same frames and the same manifest, whatever their order and however they were batched.

use std::collections::BTreeMap;

use super::collect::Collector;
use super::column::{Column, FAR_APART, Form, Pick};
use super::cut::{self, Bounds};
use super::frame::{Frame, Hash};
use super::manifest::{Grouped, Manifest, Summary, last};
use super::order;
use super::refused::Refused;
use super::schema::{Field, Schema};
use crate::base::limits;

/// Some rows of the source: one collector per column.
pub struct Batch {
    collectors: Vec<Collector>,
}

impl Batch {
    /// Without rows.
    pub fn new(schema: &Schema) -> Self {
        let collectors = schema.fields().iter().map(|field| Collector::new(&field.name, field.kind));
        Self { collectors: collectors.collect() }
    }

    /// The collector of a column. Every row has a value in each.
    pub fn column(&mut self, at: usize) -> &mut Collector {
        &mut self.collectors[at]
    }

    /// The collectors of all columns.
    pub fn columns(&mut self) -> &mut [Collector] {
        &mut self.collectors
    }

    /// How many rows are complete.
    pub fn rows(&self) -> usize {
        self.collectors.iter().map(Collector::rows).min().unwrap_or(0)
    }

    /// Whether it is time to hand it over.
    pub fn is_full(&self) -> bool {
        let texts: usize = self.collectors.iter().map(Collector::text_bytes).sum();
        let bytes = texts + self.rows() * self.collectors.len() * size_of::<i128>();
        self.rows() >= limits::ANALYTICS_BATCH_ROWS || bytes >= limits::ANALYTICS_BATCH_BYTES
    }
}

/// Measure and frequency; the booleans put NULL last.
type Key = ((bool, Option<String>), (bool, Option<String>));

/// Takes batches.
pub struct Builder {
    schema: Schema,
    bounds: Bounds,
    waiting: BTreeMap<Key, Vec<Vec<u8>>>,
    rows: u64,
    bytes: usize,
}

impl Builder {
    /// For rows of this table.
    pub fn new(schema: Schema) -> Self {
        Self::cutting(schema, Bounds::USUAL)
    }

    /// With frames of other lengths.
    pub(super) fn cutting(schema: Schema, bounds: Bounds) -> Self {
        Self { schema, bounds, waiting: BTreeMap::new(), rows: 0, bytes: 0 }
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes in which they wait.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the rows of a batch. After an error there is nothing to go on with.
    pub fn push(&mut self, batch: Batch) -> Result<(), Refused> {
        let rows = batch.rows();
        if rows > limits::ANALYTICS_BATCH_ROWS || batch.collectors.iter().any(|column| column.rows() != rows)
        {
            return Err(Refused::question("batch", "up to 65536 rows with a value in every column"));
        }
        let columns = batch.collectors.into_iter().map(Collector::finish).collect::<Result<Vec<_>, _>>()?;
        let matches =
            columns.iter().map(Column::kind).eq(self.schema.fields().iter().map(|field| field.kind));
        if !matches {
            return Err(Refused::question("batch", "the columns of the data source"));
        }
        for (key, rows) in self.apart(&columns, rows) {
            let picks: Vec<Pick> = rows.into_iter().map(|row| (0, row)).collect();
            let packed = gather(&self.schema, &columns, &picks)?.seal(&self.schema);
            self.bytes += packed.len();
            self.waiting.entry(key).or_default().push(packed);
            if self.waiting.len() > limits::ANALYTICS_GROUPS {
                let measure = self.schema.roles().measure.or(self.schema.roles().frequency);
                let column = measure.map_or("*", |at| &self.schema.fields()[at].name).to_owned();
                return Err(Refused::Schema {
                    column,
                    because: "there are at most 65536 measures and frequencies",
                });
            }
        }
        self.rows += rows as u64;
        Ok(())
    }

    /// The rows of each measure and frequency.
    fn apart(&self, columns: &[Column], rows: usize) -> BTreeMap<Key, Vec<u32>> {
        let roles = self.schema.roles();
        let (measure, frequency) =
            (roles.measure.map(|at| &columns[at]), roles.frequency.map(|at| &columns[at]));
        // Code 0 is NULL.
        let code = |column: Option<&Column>, row: usize| match column {
            Some(column) if !column.nulls().at(row) => column.integers().at(row) as usize + 1,
            _ => 0,
        };
        let codes =
            |column: Option<&Column>| column.map_or(1, |column| column.integers().most() as usize + 2);
        let width = codes(frequency);
        let mut lists: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for row in 0..rows {
            lists.entry(code(measure, row) * width + code(frequency, row)).or_default().push(row as u32);
        }
        let key = |at: usize| (last(&name(measure, at / width)), last(&name(frequency, at % width)));
        lists.into_iter().map(|(at, rows)| (key(at), rows)).collect()
    }

    /// No more rows: what is left is to fetch the frames.
    pub fn finish(self) -> Frames {
        Frames { schema: self.schema, bounds: self.bounds, waiting: self.waiting, grouped: Vec::new() }
    }
}

/// The text of a code, of which 0 is NULL.
fn name(column: Option<&Column>, code: usize) -> Option<String> {
    let dictionary = match column?.form() {
        Form::Dictionary(dictionary) => dictionary,
        _ => unreachable!("the schema checks that it is a text"),
    };
    let bytes = dictionary.at(code.checked_sub(1)?);
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// These rows of all columns.
fn gather(schema: &Schema, columns: &[Column], picks: &[Pick]) -> Result<Frame, Refused> {
    let gathered = schema.fields().iter().zip(columns).map(|(field, column)| join(field, &[column], picks));
    Ok(Frame::new(gathered.collect::<Result<_, _>>()?))
}

fn join(field: &Field, parts: &[&Column], picks: &[Pick]) -> Result<Column, Refused> {
    Column::gather(field.kind, parts, picks).ok_or_else(|| Refused::value(&field.name, FAR_APART))
}

/// A frame, ready for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub hash: Hash,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Hands out the frames, those of one measure and frequency at a time; then the manifest.
pub struct Frames {
    schema: Schema,
    bounds: Bounds,
    waiting: BTreeMap<Key, Vec<Vec<u8>>>,
    grouped: Vec<Grouped>,
}

impl Iterator for Frames {
    type Item = Result<Vec<Made>, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        let (((_, measure), (_, frequency)), waiting) = self.waiting.pop_first()?;
        let made = self.make(waiting).map(|made| {
            let (frames, summaries) = made.into_iter().unzip();
            self.grouped.push(Grouped { measure, frequency, frames: summaries });
            frames
        });
        if made.is_err() {
            self.waiting.clear();
        }
        Some(made)
    }
}

impl Frames {
    /// The table.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Measures and frequencies whose frames are still to be made.
    pub fn left(&self) -> usize {
        self.waiting.len()
    }

    /// The manifest, once all frames were handed out.
    pub fn manifest(self) -> Result<Manifest, Refused> {
        if !self.waiting.is_empty() {
            return Err(Refused::Corrupt("frames are missing"));
        }
        Ok(Manifest::new(self.schema, &self.grouped))
    }

    fn make(&self, waiting: Vec<Vec<u8>>) -> Result<Vec<(Made, Summary)>, Refused> {
        let columns = self.unpack(waiting)?;
        let rows = columns.first().map_or(0, Column::rows);
        let sorted = self.sorted(&columns, rows);
        let mut made = Vec::new();
        let roles = self.schema.roles();
        let id = |role: Option<usize>, row: u32| role.and_then(|at| columns[at].integer(row as usize));
        let mut from = 0;
        let owners = sorted.iter().map(|row| (id(roles.practice, *row), id(roles.provider, *row)));
        for length in cut::lengths(owners, self.bounds) {
            self.seal(&columns, &sorted[from..from + length], &mut made)?;
            from += length;
        }
        Ok(made)
    }

    /// All waiting rows as one set of columns. What was waiting is given up on the way.
    fn unpack(&self, waiting: Vec<Vec<u8>>) -> Result<Vec<Column>, Refused> {
        let mut frames = Vec::with_capacity(waiting.len());
        for packed in waiting {
            frames.push(Frame::unseal(&packed, &self.schema)?);
        }
        if let [frame] = &frames[..] {
            return Ok(frame.columns().to_vec());
        }
        let picks: Vec<Pick> = (0_u32..)
            .zip(&frames)
            .flat_map(|(part, frame)| (0..frame.rows() as u32).map(move |row| (part, row)))
            .collect();
        let gathered = self.schema.fields().iter().enumerate().map(|(at, field)| {
            let parts: Vec<&Column> = frames.iter().map(|frame| &frame.columns()[at]).collect();
            join(field, &parts, &picks)
        });
        gathered.collect()
    }

    /// All rows by practice, provider, date, and then by everything else.
    fn sorted(&self, columns: &[Column], rows: usize) -> Vec<u32> {
        let roles = self.schema.roles();
        let parts = [roles.practice, roles.provider, roles.date].map(|role| role.map(|at| [&columns[at]]));
        let picks: Vec<Pick> = (0..rows as u32).map(|row| (0, row)).collect();
        let mut sorted = order::order([0, 1, 2].map(|at| parts[at].as_ref().map(|part| &part[..])), &picks);
        let same = |a: &u32, b: &u32| {
            let (a, b) = (*a as usize, *b as usize);
            [roles.practice, roles.provider, roles.date]
                .into_iter()
                .flatten()
                .all(|at| columns[at].compare(a, b).is_eq())
        };
        let others = self.schema.order();
        for run in sorted.chunk_by_mut(same).filter(|run| run.len() > 1) {
            run.sort_unstable_by(|a, b| {
                let compared = others.iter().map(|at| columns[*at].compare(*a as usize, *b as usize));
                compared.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            });
        }
        sorted
    }

    /// Makes a frame of these rows, or two when their texts are too long for one.
    fn seal(&self, columns: &[Column], rows: &[u32], made: &mut Vec<(Made, Summary)>) -> Result<(), Refused> {
        let picks: Vec<Pick> = rows.iter().map(|row| (0, *row)).collect();
        let frame = gather(&self.schema, columns, &picks)?;
        if frame.size() > limits::ANALYTICS_FRAME_TARGET_BYTES && rows.len() > 1 {
            let (first, second) = rows.split_at(rows.len() / 2);
            self.seal(columns, first, made)?;
            return self.seal(columns, second, made);
        }
        let bytes = frame.seal(&self.schema);
        let hash = Hash::of(&bytes);
        let length =
            u32::try_from(bytes.len()).expect("a frame is bounded by its target and the longest row");
        made.push((Made { hash, bytes }, self.summary(&frame, hash, length)));
        Ok(())
    }

    fn summary(&self, frame: &Frame, hash: Hash, bytes: u32) -> Summary {
        let roles = self.schema.roles();
        let id = |role: Option<usize>, row: usize| role.and_then(|at| frame.columns()[at].integer(row));
        let mut runs: Vec<(Option<i64>, Option<i64>, u32)> = Vec::new();
        for row in 0..frame.rows() {
            let (practice, provider) = (id(roles.practice, row), id(roles.provider, row));
            match runs.last_mut() {
                Some(run) if (run.0, run.1) == (practice, provider) => run.2 += 1,
                _ => runs.push((practice, provider, 1)),
            }
        }
        let dates =
            roles.date.map(|at| &frame.columns()[at]).filter(|dates| dates.nulls().count() < frame.rows());
        let dates = dates.map(|dates| (dates.integers().least() as i64, dates.integers().most() as i64));
        Summary { hash, bytes, dates, runs }
    }
}
