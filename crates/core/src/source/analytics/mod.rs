//! Data sources: what they are, all of their rows in one snapshot, and questions about them as SQL.
//!
//! Not the index: it is built from what `export` hands out, and what is asked here is what it cannot answer. Both ways give the
//! same values, types and order, because they meet in the same decoder and the same collectors.
//!
//! Everything about rows runs on the analytics database, in one read-only transaction each; what a data source is called and
//! which columns it has is read from the application's.
//!
//! Invariant: a name in a statement was checked and is quoted, a value is a bound parameter, and every column is cast to the
//! type it was described with, so that a table which changed meanwhile is an error and never a wrong value.

mod ask;
mod binary;
mod conditions;
mod copy;
mod describe;
mod export;
mod failed;
mod lane;
mod parameter;
#[cfg(test)]
mod server_tests;
mod texts;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::analytics::{Decimal, Schema};
use crate::config::SchemaMapping;

pub(super) use describe::{source_text, sources_text};
pub(super) use lane::Lane;

/// What data sources may be, and how long they may take.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Longest question, waiting for its turn included.
    pub query_ms: u64,
    /// Longest export, waiting for its turn included.
    pub export_ms: u64,
    /// Schemas that tables may lie in.
    pub schemas: Vec<String>,
    /// Columns that may say what is measured; the first one that a table has does.
    pub measure_columns: Vec<String>,
    /// The tables of the application itself: never data sources.
    pub own: SchemaMapping,
}

/// What one data source is.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSource {
    /// As `chart_data_sources` has it.
    pub id: i64,
    /// As `chart_data_sources` has it.
    pub name: String,
    /// Where its table lies.
    pub table_schema: String,
    /// Its table.
    pub table: String,
    /// Its columns, in the order of the table.
    pub schema: Schema,
    /// Of each column, whether the database calls two texts equal only if their bytes are.
    bytewise: Vec<bool>,
}

/// How far an export is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows read so far.
    pub rows: AtomicU64,
    /// Rows there may be, as the database's planner guesses; 0 = it has not been asked yet.
    pub estimated_rows: AtomicU64,
}

/// What was exported, and what SQL says of the same snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Rows that were handed over.
    pub rows: u64,
    /// The snapshot, as `pg_current_snapshot()` writes it.
    pub snapshot: String,
    /// What was guessed before.
    pub estimated_rows: u64,
    /// By measure and frequency.
    pub groups: Vec<Group>,
    /// First and last date of all rows, as the date column counts; `None` = there is none.
    pub dates: Option<(i64, i64)>,
}

/// What SQL says of one measure and frequency.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// `None` = NULL, or there is no such column.
    pub measure: Option<String>,
    /// See `measure`.
    pub frequency: Option<String>,
    /// How many rows.
    pub rows: u64,
    /// Sums of all int, bigint and numeric columns, with their places in the schema. `None` = all are NULL, or it has more than 38
    /// digits.
    pub sums: Vec<(usize, Option<Decimal>)>,
    /// First and last date, as the date column counts.
    pub dates: Option<(i64, i64)>,
}

/// What is remembered of data sources.
#[derive(Default)]
pub(super) struct Described(Mutex<HashMap<i64, Arc<Slot>>>);

/// One data source with the moment until which it is believed. Whoever holds the lock asks the database; the others wait.
type Slot = tokio::sync::Mutex<Option<(u64, Arc<DataSource>)>>;
