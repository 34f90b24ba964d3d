//! Rows for a question: what of the planned frames may be seen, meets the conditions, in which order, which columns.
//!
//! Pure: frames come in decoded, rows go out as columns. Who fetches frames, and what happens when one is missing, is
//! decided elsewhere.
//!
//! Invariant: no row leaves that the scope does not show, whatever the frames hold. The order is that of `Schema::order`,
//! hence the same for every way to the same rows.

use std::borrow::Borrow;

use super::column::{Column, Form, Pick};
use super::filter::Predicate;
use super::frame::Frame;
use super::manifest::{Entry, Manifest, Part, Plan, Run};
use super::order;
use super::refused::Refused;
use super::scope::Visible;

/// What is asked of a data source.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Only this measure; `None` = every one, and those without.
    pub measure: Option<String>,
    /// Only this frequency; `None` = every one, and those without.
    pub frequency: Option<String>,
    /// What may be seen.
    pub visible: Visible,
    /// The first date, as its column counts; `None` = from the beginning.
    pub first: Option<i64>,
    /// The last date, included; `None` = to the end. NULL is neither before nor after a date.
    pub last: Option<i64>,
    /// All must be true.
    pub predicates: Vec<Predicate>,
}

impl Question {
    /// Of which the answer is empty: to be completed by whoever asks.
    pub fn nothing() -> Self {
        Self {
            measure: None,
            frequency: None,
            visible: Visible::NOTHING,
            first: None,
            last: None,
            predicates: Vec::new(),
        }
    }

    /// Whether rows of this frame can have the asked dates.
    pub(super) fn may_hold(&self, frame: &Entry) -> bool {
        match (self.first, self.last) {
            (None, None) => true,
            (first, last) => frame.dates.is_some_and(|(from, to)| {
                first.is_none_or(|first| first <= to) && last.is_none_or(|last| from <= last)
            }),
        }
    }
}

/// Columns of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// How many rows.
    pub rows: usize,
    /// Columns with their names, in the order they were asked for.
    pub columns: Vec<(String, Column)>,
}

/// The rows of each planned frame that belong to the answer, ascending. `frames` are those of the plan.
pub fn select<F: Borrow<Frame>>(
    manifest: &Manifest,
    question: &Question,
    plan: &Plan,
    frames: &[F],
) -> Result<Vec<Vec<u32>>, Refused> {
    if frames.len() != plan.parts.len() {
        return Err(Refused::Corrupt("a frame is missing"));
    }
    let dates = manifest.schema().roles().date;
    let dates = dates.and_then(|column| Predicate::range(column, question.first, question.last));
    let mut selected = Vec::with_capacity(frames.len());
    for (part, frame) in plan.parts.iter().zip(frames) {
        let frame = frame.borrow();
        let mut rows = shown(manifest, &question.visible, part, frame)?;
        for predicate in dates.iter().chain(&question.predicates) {
            predicate.keep(&frame.columns()[predicate.column()], &mut rows);
        }
        selected.push(rows);
    }
    Ok(selected)
}

/// The rows of the planned spans, after a look at whose they really are.
fn shown(manifest: &Manifest, visible: &Visible, part: &Part, frame: &Frame) -> Result<Vec<u32>, Refused> {
    if frame.rows() != manifest.frames()[part.frame].rows as usize {
        return Err(Refused::Corrupt("a frame with other rows than announced"));
    }
    let roles = manifest.schema().roles();
    let column = |role: Option<usize>| role.map(|at| &frame.columns()[at]);
    let (measure, frequency) = manifest.names(part.group);
    if !holds_only(column(roles.measure), measure) || !holds_only(column(roles.frequency), frequency) {
        return Err(Refused::Scope);
    }
    let mut rows = Vec::with_capacity(part.spans.iter().map(|span| span.run.rows as usize).sum());
    for span in &part.spans {
        let Run { practice, provider, rows: count } = span.run;
        let (practice, provider) =
            (manifest.practices()[practice as usize], manifest.providers()[provider as usize]);
        let of_run = span.from..span.from + count;
        let belongs = |role, id| of_one(column(role), of_run.clone(), id);
        if !visible.shows(practice, provider)
            || !belongs(roles.practice, practice)
            || !belongs(roles.provider, provider)
        {
            return Err(Refused::Scope);
        }
        rows.extend(of_run);
    }
    Ok(rows)
}

/// Whether every row of a text column is this one. A column that is not there is NULL.
fn holds_only(column: Option<&Column>, name: Option<&str>) -> bool {
    let Some(column) = column else { return name.is_none() };
    match (column.form(), name) {
        (Form::Dictionary(entries), Some(name)) => {
            !column.nulls().any() && entries.len() == 1 && entries.at(0) == name.as_bytes()
        }
        (Form::Dictionary(entries), None) => entries.is_empty(),
        _ => false,
    }
}

/// Whether all these rows of an integer column are this one.
fn of_one(column: Option<&Column>, rows: std::ops::Range<u32>, id: Option<i64>) -> bool {
    let (Some(column), Some(id)) = (column, id) else {
        return id.is_none()
            && column.is_none_or(|column| rows.into_iter().all(|row| column.nulls().at(row as usize)));
    };
    let there = !column.nulls().any() || rows.clone().all(|row| !column.nulls().at(row as usize));
    there && column.integers().all_are(rows, id.into())
}

/// The rows of the answer, ordered, with these columns of the schema; `None` = all.
pub fn rows<F: Borrow<Frame>>(
    manifest: &Manifest,
    question: &Question,
    plan: &Plan,
    frames: &[F],
    columns: Option<&[usize]>,
) -> Result<Table, Refused> {
    let selected = select(manifest, question, plan, frames)?;
    let picks: Vec<Pick> = selected
        .iter()
        .enumerate()
        .flat_map(|(part, rows)| rows.iter().map(move |row| (part as u32, *row)))
        .collect();
    let parts =
        |at: usize| -> Vec<&Column> { frames.iter().map(|frame| &frame.borrow().columns()[at]).collect() };
    let picks = ordered(manifest, plan, &parts, picks);
    let fields = manifest.schema().fields();
    let all: Vec<usize> = (0..fields.len()).collect();
    let columns = columns.unwrap_or(&all).iter().map(|at| {
        let field =
            fields.get(*at).ok_or_else(|| Refused::question("columns", "columns of the data source"))?;
        let column = Column::gather(field.kind, &parts(*at), &picks);
        Ok((field.name.clone(), column.ok_or_else(|| Refused::Beyond { column: field.name.clone() })?))
    });
    Ok(Table { rows: picks.len(), columns: columns.collect::<Result<_, Refused>>()? })
}

/// Picks in the order of the answer. They come in the order of the manifest.
fn ordered<'a>(
    manifest: &Manifest,
    plan: &Plan,
    parts: &impl Fn(usize) -> Vec<&'a Column>,
    picks: Vec<Pick>,
) -> Vec<Pick> {
    let roles = manifest.schema().roles();
    let column = |role: Option<usize>| role.map(parts);
    let places = if plan.groups > 1 {
        let (date, practice, provider) = (column(roles.date), column(roles.practice), column(roles.provider));
        order::order([date.as_deref(), practice.as_deref(), provider.as_deref()], &picks)
    } else if let Some(date) = column(roles.date) {
        // Rows of one group come by practice and provider already.
        order::order_by(&date, &picks)
    } else {
        return picks;
    };
    places.into_iter().map(|place| picks[place as usize]).collect()
}
