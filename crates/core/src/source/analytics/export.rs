//! All rows of a data source in one snapshot, and what SQL says of the same snapshot.
//!
//! Rows come as binary COPY and are handed over in batches. Whoever takes them slows the database down by not taking them: at no
//! time is more in memory than the batches that wait and the one that is being filled.
//!
//! Invariant: rows and figures are of one snapshot; an export that did not come to its end is an error.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::{mpsc, watch};

use crate::analytics::{Batch, Decimal, Refused, Schema, Type};
use crate::base::error::Error;
use crate::base::limits;

use super::super::Source;
use super::super::statements::Statement;
use super::binary::{self, Number};
use super::copy::{Copy, Tuple};
use super::failed::Failed;
use super::lane::{Errand, told};
use super::{DataSource, Export, Group, Progress, texts};

/// How often the number of rows is told.
const TOLD_ROWS: u64 = 1_024;

impl Source {
    /// Hands over every row in batches, in any order, and says what SQL says of them. `stop` ends it with `E_CLOSED`, as does a
    /// receiver that is gone.
    pub async fn export_analytics(
        &self,
        of: &DataSource,
        progress: Arc<Progress>,
        stop: watch::Receiver<bool>,
        take: mpsc::Sender<Batch>,
    ) -> Result<Export, Error> {
        let within_ms = self.options.analytics.export_ms;
        let errand = Errand { statement: Statement::AnalyticsExport, within_ms, export: true };
        let source = of.clone();
        let exported = self
            .transact(errand, told(stop), move |connection| {
                Box::pin(async move { export(connection, &source, &progress, take).await })
            })
            .await;
        exported.map_err(|failure| self.error_about(of, failure))
    }
}

async fn export(
    connection: &mut PgConnection,
    of: &DataSource,
    progress: &Progress,
    take: mpsc::Sender<Batch>,
) -> Result<Export, Failed> {
    let snapshot = snapshot(connection).await?;
    let estimated_rows = estimate(connection, of).await?;
    progress.estimated_rows.store(estimated_rows, Ordering::Relaxed);
    let rows = rows(connection, of, progress, take).await?;
    let groups = figures(connection, of).await?;
    let dates = groups.iter().filter_map(|group| group.dates).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    Ok(Export { rows, snapshot, estimated_rows, groups, dates })
}

async fn snapshot(connection: &mut PgConnection) -> Result<String, Failed> {
    let row =
        sqlx::query("SELECT pg_current_snapshot()::text").persistent(false).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// What the planner expects: unlike what the catalog holds, it knows how large the table is now, and it has an opinion about
/// views.
async fn estimate(connection: &mut PgConnection, of: &DataSource) -> Result<u64, Failed> {
    let sql = format!("EXPLAIN (FORMAT json) SELECT 1 FROM {}", of.from());
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?;
    let plan = rows.first().and_then(|row| row.try_get_raw(0).ok());
    let text = plan.as_ref().and_then(|plan| plan.as_str().ok()).unwrap_or_default();
    Ok(planned_rows(text).unwrap_or(0))
}

fn planned_rows(plan: &str) -> Option<u64> {
    let plan: serde_json::Value = serde_json::from_str(plan).ok()?;
    let rows = plan.get(0)?.get("Plan")?.get("Plan Rows")?;
    rows.as_f64().map(|rows| rows as u64)
}

async fn rows(
    connection: &mut PgConnection,
    of: &DataSource,
    progress: &Progress,
    take: mpsc::Sender<Batch>,
) -> Result<u64, Failed> {
    let kinds: Vec<Type> = of.schema.fields().iter().map(|field| field.kind).collect();
    let sql = texts::copied(&of.all_rows());
    let mut chunks = connection.copy_out_raw(&sql).await?;
    let mut copy = Copy::new(kinds.len());
    let mut batch = Batch::new(&of.schema);
    let mut rows = 0;
    while let Some(chunk) = chunks.try_next().await? {
        copy.push(&chunk);
        while let Some(tuple) = copy.next()? {
            fill(&mut batch, &kinds, tuple)?;
            rows += 1;
            if rows % TOLD_ROWS == 0 {
                progress.rows.store(rows, Ordering::Relaxed);
            }
            if batch.is_full() {
                hand_over(&take, &of.schema, &mut batch).await?;
            }
        }
    }
    copy.end()?;
    if batch.rows() > 0 {
        hand_over(&take, &of.schema, &mut batch).await?;
    }
    progress.rows.store(rows, Ordering::Relaxed);
    Ok(rows)
}

fn fill(batch: &mut Batch, kinds: &[Type], tuple: Tuple<'_>) -> Result<(), Failed> {
    let columns = batch.columns().iter_mut().zip(kinds);
    for ((collector, kind), bytes) in columns.zip(tuple) {
        binary::put(collector, *kind, bytes)?;
    }
    Ok(())
}

async fn hand_over(take: &mpsc::Sender<Batch>, schema: &Schema, batch: &mut Batch) -> Result<(), Failed> {
    let full = std::mem::replace(batch, Batch::new(schema));
    take.send(full).await.map_err(|_| Failed::Stopped)
}

/// What SQL says of the rows, by measure and frequency.
async fn figures(connection: &mut PgConnection, of: &DataSource) -> Result<Vec<Group>, Failed> {
    let summed: Vec<usize> = texts::summed(&of.schema).collect();
    let sql = texts::copied(&of.figures());
    let mut chunks = connection.copy_out_raw(&sql).await?;
    let mut copy = Copy::new(5 + summed.len());
    let mut groups = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        copy.push(&chunk);
        while let Some(tuple) = copy.next()? {
            groups.push(group(tuple, &summed)?);
            if groups.len() > limits::ANALYTICS_GROUPS {
                return Err(Failed::Refused(Refused::Schema {
                    column: "*".to_owned(),
                    because: "there are at most 65536 measures and frequencies",
                }));
            }
        }
    }
    copy.end()?;
    Ok(groups)
}

fn group(mut tuple: Tuple<'_>, summed: &[usize]) -> Result<Group, Failed> {
    let mut next = || tuple.next().ok_or(Failed::Unreadable("a row with other columns"));
    let name = |bytes: Option<&[u8]>| bytes.map(|bytes| binary::text(bytes).map(str::to_owned)).transpose();
    let (measure, frequency) = (name(next()?)?, name(next()?)?);
    let rows = binary::bigint(next()?.unwrap_or_default())?;
    let first = next()?.map(binary::moment).transpose()?;
    let last = next()?.map(binary::moment).transpose()?;
    let mut sums = Vec::with_capacity(summed.len());
    for at in summed {
        sums.push((*at, next()?.map(sum).transpose()?.flatten()));
    }
    Ok(Group { measure, frequency, rows: rows.unsigned_abs(), sums, dates: first.zip(last) })
}

fn sum(bytes: &[u8]) -> Result<Option<Decimal>, Failed> {
    match binary::numeric(bytes)? {
        Number::Exact(value) => Ok(Some(value)),
        Number::Wide | Number::Endless => Ok(None),
    }
}
