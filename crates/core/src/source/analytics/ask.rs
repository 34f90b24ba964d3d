//! Questions about a data source, answered by the database: what the index answers, when it cannot.
//!
//! Invariant: the table is the one that `analytics::rows` and `analytics::aggregate` give for the same rows: columns, types,
//! values, order. Where the database may show any of several equal values, and only there, it may be another of them: the zeros
//! at the end of a smallest or largest numeric, and the last digits of sums of floats.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _, ValueRef as _};

use crate::analytics::{self, Field, Frame, Function, GroupBy, Metric, Pile, Question, Refused, Table, Type};
use crate::base::error::Error;
use crate::base::limits;

use super::super::Source;
use super::super::statements::Statement;
use super::conditions::conditions;
use super::failed::Failed;
use super::lane::Errand;
use super::parameter::Parameter;
use super::{DataSource, binary};

/// A statement and what comes back.
struct Asked {
    statement: Statement,
    sql: String,
    parameters: Vec<Parameter>,
    fields: Vec<Field>,
    /// More rows are an error.
    most_rows: usize,
}

impl Source {
    /// The rows of the answer, ordered, with these columns of the schema; `None` = all.
    pub async fn analytics_rows(
        &self,
        of: &DataSource,
        question: &Question,
        columns: Option<&[usize]>,
    ) -> Result<Table, Error> {
        let all: Vec<usize> = (0..of.schema.fields().len()).collect();
        let columns = columns.unwrap_or(&all);
        if columns.iter().any(|at| *at >= all.len()) {
            return Err(Refused::Question {
                field: "columns".into(),
                because: "columns of the data source".into(),
            }
            .into());
        }
        // Rows without columns are counted by any of them.
        let asked = rows(of, question, if columns.is_empty() { &all[..1] } else { columns });
        if question.visible.lists().is_none() {
            return Ok(keep(Pile::new(asked.fields).finish()?, columns.len()));
        }
        Ok(keep(self.asked(of, asked).await?, columns.len()))
    }

    /// The groups of the answer: first the columns they were made by, then the metrics.
    pub async fn analytics_groups(
        &self,
        of: &DataSource,
        question: &Question,
        by: &[GroupBy],
        metrics: &[Metric],
    ) -> Result<Table, Error> {
        if question.visible.lists().is_none() || by.is_empty() && metrics.is_empty() {
            return Ok(groups_of_nothing(of, by, metrics)?);
        }
        self.asked(of, groups(of, question, by, metrics)).await
    }

    async fn asked(&self, of: &DataSource, asked: Asked) -> Result<Table, Error> {
        let errand =
            Errand { statement: asked.statement, within_ms: self.options.analytics.query_ms, export: false };
        let nobody = std::future::pending();
        let answer = self.transact(errand, nobody, |connection| Box::pin(read(connection, asked))).await;
        answer.map_err(|failure| self.error_about(of, failure))
    }
}

/// The first columns of a table.
fn keep(mut table: Table, columns: usize) -> Table {
    table.columns.truncate(columns);
    table
}

/// What the index answers when no row may be seen.
fn groups_of_nothing(of: &DataSource, by: &[GroupBy], metrics: &[Metric]) -> Result<Table, Refused> {
    let manifest = analytics::Builder::new(of.schema.clone()).finish().manifest()?;
    let question = Question::nothing();
    let plan = manifest.plan(&question)?;
    analytics::aggregate::<Arc<Frame>>(&manifest, &question, &plan, &[], by, metrics)
}

fn rows(of: &DataSource, question: &Question, columns: &[usize]) -> Asked {
    let fields = of.schema.fields();
    let values: Vec<String> = columns.iter().map(|at| of.value(*at)).collect();
    let (wheres, parameters) = conditions(of, question);
    Asked {
        statement: Statement::AnalyticsRows,
        sql: format!("SELECT {} FROM {}{wheres} ORDER BY {}", values.join(", "), of.from(), of.order()),
        parameters,
        fields: columns.iter().map(|at| fields[*at].clone()).collect(),
        most_rows: limits::ANALYTICS_ANSWER_ROWS,
    }
}

fn groups(of: &DataSource, question: &Question, by: &[GroupBy], metrics: &[Metric]) -> Asked {
    let mut fields: Vec<Field> = by.iter().map(|by| of.schema.fields()[by.column()].clone()).collect();
    fields.extend(metrics.iter().map(|metric| metric.field().clone()));
    let keys: Vec<String> = by.iter().map(|by| of.key(by.column(), by.unit())).collect();
    let shown = by.iter().zip(&keys).map(|(by, key)| match of.kind(by.column()) {
        // Equal numbers are one group, which shows as many zeros as any of them. NaN stays what it is, to be refused.
        Type::Numeric => format!("coalesce(round({key}, max(scale({key}))), {key})"),
        _ => key.clone(),
    });
    let values: Vec<String> = shown.chain(metrics.iter().map(|metric| call(of, metric))).collect();
    let (wheres, parameters) = conditions(of, question);
    let mut sql = format!("SELECT {} FROM {}{wheres}", values.join(", "), of.from());
    if !keys.is_empty() {
        let order: Vec<String> = keys.iter().map(|key| format!("{key} NULLS LAST")).collect();
        sql.push_str(&format!(" GROUP BY {} ORDER BY {}", keys.join(", "), order.join(", ")));
    }
    Asked {
        statement: Statement::AnalyticsGroups,
        sql,
        parameters,
        fields,
        most_rows: limits::ANALYTICS_ANSWER_GROUPS,
    }
}

fn call(of: &DataSource, metric: &Metric) -> String {
    let Some(at) = metric.column() else { return "count(*)".to_owned() };
    match metric.function() {
        Function::Count => format!("count({})", of.value(at)),
        Function::Distinct => format!("count(DISTINCT {})", of.equal(at)),
        Function::Sum => format!("sum({})", of.value(at)),
        Function::Avg => format!("avg({})", of.value(at)),
        Function::Min => format!("min({})", of.ordered(at)),
        Function::Max => format!("max({})", of.ordered(at)),
    }
}

async fn read(connection: &mut PgConnection, asked: Asked) -> Result<Table, Failed> {
    let Asked { sql, parameters, fields, most_rows, .. } = asked;
    let kinds: Vec<Type> = fields.iter().map(|field| field.kind).collect();
    let mut pile = Pile::new(fields);
    // Planned for its values each time: a plan for any list of practices serves none of them well.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for parameter in parameters {
        query = query.bind(parameter);
    }
    let mut rows = query.fetch(connection);
    while let Some(row) = rows.try_next().await? {
        if row.len() != kinds.len() {
            return Err(Failed::Unreadable("a row with other columns"));
        }
        for (at, (collector, kind)) in pile.columns().iter_mut().zip(&kinds).enumerate() {
            let value = row.try_get_raw(at)?;
            let bytes = if value.is_null() { None } else { Some(value.as_bytes().map_err(|_| NO_BYTES)?) };
            binary::put(collector, *kind, bytes)?;
        }
        pile.settle()?;
        if pile.rows() > most_rows {
            return Err(too_many(most_rows).into());
        }
    }
    Ok(pile.finish()?)
}

const NO_BYTES: Failed = Failed::Unreadable("a value without bytes");

fn too_many(most_rows: usize) -> Refused {
    let field = if most_rows == limits::ANALYTICS_ANSWER_GROUPS { "groupBy" } else { "columns" };
    Refused::Question { field: field.into(), because: format!("what gives at most {most_rows} rows") }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
