//! Rows of an answer brought together in groups.
//!
//! Groups are numbered as they appear, a column at a time; metrics only see numbers. Rows never become values.
//!
//! Invariant: groups and results are those of `SELECT ... GROUP BY ...`, ordered by the group's columns, NULLs last.
//! Without columns to group by there is one group, with no rows too.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;

use super::accumulate::{Accumulator, Metric};
use super::calendar::Unit;
use super::codes::Codes;
use super::column::{Column, Form};
use super::frame::Frame;
use super::manifest::{Manifest, Plan};
use super::query::{Question, Table, select};
use super::refused::Refused;
use super::schema::{Schema, Type};
use crate::base::limits;

/// A column by which rows are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupBy {
    column: usize,
    unit: Option<Unit>,
}

impl GroupBy {
    /// With a unit, dates and timestamps are cut to it first, in UTC.
    pub fn new(schema: &Schema, column: &str, unit: Option<Unit>) -> Result<Self, Refused> {
        let at = schema.position(column)?;
        match schema.fields()[at].kind {
            Type::Json => {
                Err(Refused::question(column, "json cannot be compared; use a column of another type"))
            }
            Type::Date | Type::Timestamp | Type::TimestampTz => Ok(Self { column: at, unit }),
            _ if unit.is_some() => {
                Err(Refused::question(column, "only dates and timestamps have units of time"))
            }
            _ => Ok(Self { column: at, unit }),
        }
    }

    /// Which column.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What its dates are cut to.
    pub fn unit(&self) -> Option<Unit> {
        self.unit
    }
}

/// Groups, numbered.
struct Groups {
    columns: Vec<By>,
    /// For every column after the first: the group so far and the value's number, and what they become.
    pairs: Vec<Pairs>,
}

/// What is known of one of the columns.
struct By {
    column: usize,
    codes: Codes,
    /// Digits after the point that each group's number shows at most: equal numbers are one group, however they are shown.
    display: Vec<u16>,
}

#[derive(Default)]
struct Pairs {
    places: HashMap<(u32, u32), u32, ahash::RandomState>,
    pairs: Vec<(u32, u32)>,
}

impl Pairs {
    fn place(&mut self, pair: (u32, u32)) -> u32 {
        let next = self.pairs.len() as u32;
        *self.places.entry(pair).or_insert_with(|| {
            self.pairs.push(pair);
            next
        })
    }
}

impl Groups {
    fn new(group_by: &[GroupBy]) -> Self {
        let by = |by: &GroupBy| By { column: by.column, codes: Codes::new(by.unit), display: Vec::new() };
        let columns = group_by.iter().map(by).collect();
        Self { columns, pairs: group_by.iter().skip(1).map(|_| Pairs::default()).collect() }
    }

    /// The group of each row.
    fn of(&mut self, frame: &[Column], rows: &[u32]) -> Vec<u32> {
        let mut columns = self.columns.iter_mut();
        let Some(first) = columns.next() else { return vec![0; rows.len()] };
        let mut groups = first.codes.of(&frame[first.column], rows);
        for (by, pairs) in columns.zip(&mut self.pairs) {
            let mut last = None;
            for (group, code) in groups.iter_mut().zip(by.codes.of(&frame[by.column], rows)) {
                let pair = (*group, code);
                // Rows lie sorted, so that neighbours are often of one group.
                *group = match last {
                    Some((known, place)) if known == pair => place,
                    _ => pairs.place(pair),
                };
                last = Some((pair, *group));
            }
        }
        self.show(frame, rows, &groups);
        groups
    }

    fn show(&mut self, frame: &[Column], rows: &[u32], groups: &[u32]) {
        let all = self.len();
        for by in &mut self.columns {
            let Form::Decimal { display, .. } = frame[by.column].form() else { continue };
            by.display.resize(all, 0);
            for (row, group) in rows.iter().zip(groups) {
                let shown = &mut by.display[*group as usize];
                *shown = display.at(*row as usize).max(i128::from(*shown)) as u16;
            }
        }
    }

    fn len(&self) -> usize {
        match (self.pairs.last(), self.columns.first()) {
            (Some(pairs), _) => pairs.pairs.len(),
            (None, Some(by)) => by.codes.len(),
            (None, None) => 1,
        }
    }

    /// The columns of all groups.
    fn columns(&self, schema: &Schema) -> Result<Vec<(String, Column)>, Refused> {
        let mut at: Vec<u32> = (0..self.len() as u32).collect();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (level, by) in self.columns.iter().enumerate().rev() {
            let of_column: Vec<u32> = match level.checked_sub(1) {
                None => at.clone(),
                Some(before) => {
                    let pairs = &self.pairs[before].pairs;
                    let codes = at.iter().map(|group| pairs[*group as usize].1).collect();
                    at.iter_mut().for_each(|group| *group = pairs[*group as usize].0);
                    codes
                }
            };
            let field = &schema.fields()[by.column];
            let beyond = |_| Refused::Beyond { column: field.name.clone() };
            columns
                .push((field.name.clone(), by.codes.column(field, &of_column, &by.display).map_err(beyond)?));
        }
        columns.reverse();
        Ok(columns)
    }
}

/// The groups of the answer: first the columns they were made by, then the metrics.
pub fn aggregate<F: Borrow<Frame>>(
    manifest: &Manifest,
    question: &Question,
    plan: &Plan,
    frames: &[F],
    group_by: &[GroupBy],
    metrics: &[Metric],
) -> Result<Table, Refused> {
    let schema = manifest.schema();
    let mut groups = Groups::new(group_by);
    let kind = |metric: &Metric| metric.column().map(|at| schema.fields()[at].kind);
    let mut accumulators: Vec<Accumulator<'_>> =
        metrics.iter().map(|metric| Accumulator::new(metric, kind(metric))).collect();
    for (rows, frame) in select(manifest, question, plan, frames)?.iter().zip(frames) {
        let columns = frame.borrow().columns();
        let of_rows = groups.of(columns, rows);
        if groups.len() > limits::ANALYTICS_ANSWER_GROUPS {
            return Err(Refused::question("groupBy", "columns of at most 1000000 groups"));
        }
        for accumulator in &mut accumulators {
            accumulator.take(columns, rows, &of_rows, groups.len())?;
        }
    }
    let all = groups.len();
    let by = groups.columns(schema)?;
    let mut order: Vec<u32> = (0..all as u32).collect();
    order.sort_unstable_by(|a, b| {
        let compared = by.iter().map(|(_, column)| column.compare(*a as usize, *b as usize));
        compared.fold(Ordering::Equal, Ordering::then)
    });
    let picks: Vec<(u32, u32)> = order.iter().map(|group| (0, *group)).collect();
    let mut columns = Vec::with_capacity(by.len() + metrics.len());
    for (name, column) in &by {
        let ordered = Column::gather(column.kind(), &[column], &picks);
        columns.push((name.clone(), ordered.expect("one column is of one scale")));
    }
    for accumulator in accumulators {
        columns.push(accumulator.finish(&order, all)?);
    }
    Ok(Table { rows: all, columns })
}
