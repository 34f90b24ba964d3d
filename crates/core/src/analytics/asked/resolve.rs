//! Names to positions, values to what their column holds.
//!
//! Invariant: a name that the table does not have is refused, also where ignoring it would give an answer.

use super::{Asked, Condition, Names, Resolved, Wanted, read};
use crate::analytics::accumulate::Metric;
use crate::analytics::aggregate::GroupBy;
use crate::analytics::calendar::{self, DAY_US, Unit};
use crate::analytics::filter::Predicate;
use crate::analytics::query::Question;
use crate::analytics::refused::Refused;
use crate::analytics::schema::{Schema, Type};
use crate::config::suggest::did_you_mean;

impl Asked {
    /// Checks names and values against the table.
    pub fn resolve(&self, schema: &Schema) -> Result<Resolved, Refused> {
        let roles = schema.roles();
        for (asked, there, field, what) in [
            (self.measure.is_some(), roles.measure.is_some(), "measure", "measure"),
            (self.frequency.is_some(), roles.frequency.is_some(), "frequency", "frequency"),
            (self.named[0], roles.practice.is_some(), "practiceUids", "practice"),
            (self.named[1], roles.provider.is_some(), "providerUids", "provider"),
        ] {
            if asked && !there {
                return Err(Refused::question(field, format!("the data source has no {what} column")));
            }
        }
        let conditions = self.conditions.iter().enumerate();
        let question = Question {
            measure: self.measure.clone(),
            frequency: self.frequency.clone(),
            visible: self.visible.clone(),
            first: self.start.as_deref().map(|text| date(schema, "startDate", text)).transpose()?,
            last: self.end.as_deref().map(|text| date(schema, "endDate", text)).transpose()?,
            predicates: conditions.map(|(at, one)| predicate(schema, at, one)).collect::<Result<_, _>>()?,
        };
        Ok(Resolved { question, wanted: wanted(schema, &self.wanted)? })
    }
}

/// The place of a column; `field` is where its name stands.
fn position(schema: &Schema, field: impl FnOnce() -> String, name: &str) -> Result<usize, Refused> {
    let names = || schema.fields().iter().map(|field| field.name.as_str());
    names().position(|known| known == name).ok_or_else(|| {
        let because = format!(
            "the data source has no column {}. {}",
            read::shortened(name),
            did_you_mean(&read::shortened(name), names())
        );
        Refused::question(field(), because.trim_end())
    })
}

fn predicate(schema: &Schema, at: usize, asked: &Condition) -> Result<Predicate, Refused> {
    position(schema, || format!("advancedFilters[{at}].field"), &asked.field)?;
    Predicate::new(schema, &asked.field, asked.operator, &asked.operands)
}

/// A first or last date as its column counts. A day names all of it: as the end of timestamps it is its last microsecond.
fn date(schema: &Schema, field: &str, text: &str) -> Result<i64, Refused> {
    let Some(at) = schema.roles().date else {
        return Err(Refused::question(field, "the data source has no date column"));
    };
    let kind = schema.fields()[at].kind;
    let read = match (kind, calendar::parse_date(text)) {
        (Type::Date, day) => day,
        (_, Some(day)) if field == "endDate" && text.bytes().all(|c| c == b'-' || c.is_ascii_digit()) => {
            day.checked_add(1).and_then(|next| next.checked_mul(DAY_US)).map(|next_us| next_us - 1)
        }
        _ => calendar::parse_timestamp(text, kind == Type::TimestampTz),
    };
    read.ok_or_else(|| Refused::question(field, "a date as YYYY-MM-DD, or a timestamp, is expected"))
}

fn wanted(schema: &Schema, names: &Names) -> Result<Wanted, Refused> {
    match names {
        Names::Rows(None) => Ok(Wanted::Rows { columns: None }),
        Names::Rows(Some(names)) => {
            let named = names.iter().enumerate();
            let columns = named.map(|(at, name)| position(schema, || format!("columns[{at}]"), name));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            distinct("columns", names.iter().map(String::as_str))?;
            Ok(Wanted::Rows { columns: Some(columns) })
        }
        Names::Groups { by, cut, metrics } => {
            distinct(
                "metrics",
                by.iter().map(|by| by.0.as_str()).chain(metrics.iter().map(|one| one.name.as_str())),
            )?;
            let by = groups(schema, by, *cut)?;
            let metrics = metrics.iter().enumerate().map(|(at, one)| {
                if let Some(column) = &one.column {
                    position(schema, || format!("metrics[{at}].column"), column)?;
                }
                Metric::new(schema, one.function, one.column.as_deref(), &one.name)
            });
            Ok(Wanted::Groups { by, metrics: metrics.collect::<Result<_, _>>()? })
        }
    }
}

/// `cut` is for the dates that have no unit of their own.
fn groups(
    schema: &Schema,
    named: &[(String, Option<Unit>)],
    cut: Option<Unit>,
) -> Result<Vec<GroupBy>, Refused> {
    let mut was_cut = cut.is_none();
    let mut by = Vec::with_capacity(named.len());
    for (at, (name, own)) in named.iter().enumerate() {
        let kind = schema.fields()[position(schema, || format!("groupBy[{at}]"), name)?].kind;
        let of_time = matches!(kind, Type::Date | Type::Timestamp | Type::TimestampTz);
        was_cut |= of_time;
        by.push(GroupBy::new(schema, name, own.or(cut.filter(|_| of_time)))?);
    }
    if was_cut {
        Ok(by)
    } else {
        Err(Refused::question("dateTrunc", "a date or timestamp column in groupBy is expected with it"))
    }
}

/// Every name of the answer is there once: rows are objects.
fn distinct<'a>(field: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Refused> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            let because = format!("{} would be in the answer twice", read::shortened(name));
            return Err(Refused::question(field, because));
        }
    }
    Ok(())
}
