//! What a data source is: its rows in `chart_data_sources` and `chart_data_source_columns`, its table in the catalog of the
//! analytics database, and the schema that both make together.
//!
//! Invariant: what cannot be a data source is an error that names the table or column and the fix; nothing is left out that was
//! described.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::analytics::{Field, Refused, Roles, Schema, Type};
use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::config::is_identifier;

use super::super::Source;
use super::super::statements::{Names, Statement};
use super::failed::Failed;
use super::{DataSource, Rules, Slot, texts};

/// Rows of the application's tables about one data source.
#[derive(Debug, PartialEq)]
struct Listed {
    name: String,
    schema: String,
    table: String,
    /// By name.
    columns: BTreeMap<String, Flags>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Flags {
    active: bool,
    date: bool,
    period: bool,
}

/// A column as the catalog has it.
#[derive(Clone, Debug)]
struct Found {
    name: String,
    sql_type: String,
    bytewise: bool,
}

impl Source {
    /// What a data source is. Remembered for a minute; asked for once, however many want to know.
    pub async fn data_source(&self, id: i64) -> Result<Arc<DataSource>, Error> {
        let slot = self.slot(id);
        let mut known = slot.lock().await;
        if let Some((until, source)) = &*known
            && self.clock.now_ms() < *until
        {
            return Ok(source.clone());
        }
        *known = None;
        let source = Arc::new(self.describe(id).await?);
        *known = Some((self.clock.now_ms() + limits::ANALYTICS_DESCRIBED_MS, source.clone()));
        Ok(source)
    }

    /// Lets the next one who wants to know a data source ask the database: its table is not what was described.
    pub fn forget_data_source(&self, id: i64) {
        self.described.0.lock().remove(&id);
    }

    /// Active data sources by id, with their names.
    pub async fn data_sources(&self) -> Result<Vec<(i64, String)>, Error> {
        let rows = self
            .read(Statement::AnalyticsSources, |connection, query| {
                Box::pin(async move { query.fetch_all(connection).await })
            })
            .await?;
        let read = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(unreadable)
    }

    fn slot(&self, id: i64) -> Arc<Slot> {
        let mut slots = self.described.0.lock();
        if slots.len() >= limits::ANALYTICS_SOURCES && !slots.contains_key(&id) {
            // Ids that are asked for may be made up. Those that somebody waits for stay.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(id).or_default().clone()
    }

    async fn describe(&self, id: i64) -> Result<DataSource, Error> {
        let rows = self
            .read(Statement::AnalyticsSource, move |connection, query| {
                Box::pin(async move { query.bind(id).fetch_all(connection).await })
            })
            .await?;
        let listed = listed(id, &rows)?;
        check(id, &listed, &self.options.analytics)?;
        let (schema, table) = (listed.schema.clone(), listed.table.clone());
        let found = self.short(Statement::AnalyticsColumns, move |connection| {
            Box::pin(async move {
                let query = sqlx::query(texts::CATALOG).persistent(false).bind(schema).bind(table);
                let rows = query.fetch_all(connection).await?;
                rows.iter().map(found).collect::<sqlx::Result<Vec<_>>>().map_err(Failed::Database)
            })
        });
        source_of(id, listed, found.await?, &self.options.analytics)
    }
}

fn listed(id: i64, rows: &[PgRow]) -> Result<Listed, Error> {
    let Some(first) = rows.first() else {
        return Err(Error {
            code: Code::NotFound,
            message: format!("there is no active data source {id}").into(),
            field: Some("datasourceId".into()),
            reason: None,
        });
    };
    let read = || -> sqlx::Result<Listed> {
        let mut columns: BTreeMap<String, Flags> = BTreeMap::new();
        for row in rows {
            let Some(name) = row.try_get::<Option<String>, _>(3)? else { continue };
            let flags = columns.entry(name).or_default();
            flags.active |= row.try_get::<bool, _>(4)?;
            flags.date |= row.try_get::<bool, _>(5)?;
            flags.period |= row.try_get::<bool, _>(6)?;
        }
        Ok(Listed { name: first.try_get(0)?, schema: first.try_get(1)?, table: first.try_get(2)?, columns })
    };
    read().map_err(unreadable)
}

fn found(row: &PgRow) -> sqlx::Result<Found> {
    Ok(Found { name: row.try_get(0)?, sql_type: row.try_get(1)?, bytewise: row.try_get(2)? })
}

fn unreadable(_: sqlx::Error) -> Error {
    Error::new(Code::Internal, "what a data source is could not be read")
}

/// What the application's rows may not be.
fn wrong(id: i64, field: &str, message: String) -> Error {
    Error {
        code: Code::Config,
        message: format!("data source {id}: {message}").into(),
        field: Some(field.to_owned().into()),
        reason: None,
    }
}

const IDENTIFIER: &str = "use letters, digits and underscores, at most 63, without a leading digit";

/// Whether the table may be asked for at all.
fn check(id: i64, listed: &Listed, rules: &Rules) -> Result<(), Error> {
    let Listed { schema, table, .. } = listed;
    for (field, name) in [("schema_name", schema), ("table_name", table)] {
        if !is_identifier(name) {
            return Err(wrong(id, field, format!("{field} is no SQL identifier; {IDENTIFIER}")));
        }
    }
    if !rules.schemas.contains(schema) {
        let allowed = rules.schemas.join(", ");
        let message = format!(
            "its table lies in schema {schema}, allowed are {allowed}; ANALYTICS_SCHEMAS allows others"
        );
        return Err(wrong(id, "schema_name", message));
    }
    if rules.own.is_own(schema, table) {
        let message = format!(
            "{schema}.{table} is a table of the application itself; name one that was made for charts"
        );
        return Err(wrong(id, "table_name", message));
    }
    Ok(())
}

/// Both descriptions together.
fn source_of(id: i64, listed: Listed, found: Vec<Found>, rules: &Rules) -> Result<DataSource, Error> {
    let Listed { name, schema: table_schema, table, columns } = listed;
    if found.is_empty() {
        let message = format!(
            "the table {table_schema}.{table} does not exist in the analytics database, or has no columns"
        );
        return Err(wrong(id, "table_name", message));
    }
    let active = |column: &str| columns.get(column).is_some_and(|flags| flags.active);
    if let Some((column, _)) =
        columns.iter().find(|(name, flags)| flags.active && !found.iter().any(|one| one.name == **name))
    {
        let message = format!(
            "{table_schema}.{table} has no column {column}; set its is_active to false or name another"
        );
        return Err(wrong(id, column, message));
    }
    // What was described as inactive is left out.
    let kept: Vec<Found> =
        found.into_iter().filter(|one| active(&one.name) || !columns.contains_key(&one.name)).collect();
    if let Some(odd) = kept.iter().find(|one| !is_identifier(&one.name)) {
        let message =
            format!("column {:?} is no SQL identifier; {IDENTIFIER}, or describe it as inactive", odd.name);
        return Err(wrong(id, "column_name", message));
    }
    let fields: Vec<Field> =
        kept.iter().map(|one| Field { name: one.name.clone(), kind: Type::of_sql(&one.sql_type) }).collect();
    let roles = roles(&fields, &columns, rules);
    let schema = Schema::new(fields, roles).map_err(|refused| match &refused {
        Refused::Schema { column, because } => wrong(id, column, format!("column {column}: {because}")),
        _ => refused.into(),
    })?;
    let bytewise = kept.iter().map(|one| one.bytewise).collect();
    Ok(DataSource { id, name, table_schema, table, schema, bytewise })
}

fn roles(fields: &[Field], columns: &BTreeMap<String, Flags>, rules: &Rules) -> Roles {
    let named = |name: &str| fields.iter().position(|field| field.name == name);
    // Several may be flagged, as the text that shows a date is; when none fits, the first one is what the error names.
    let flagged = |flag: fn(&Flags) -> bool, fits: fn(Type) -> bool| {
        let has = |field: &&Field| columns.get(&field.name).is_some_and(flag);
        let best = fields.iter().find(|field| has(field) && fits(field.kind));
        best.or_else(|| fields.iter().find(has)).and_then(|field| named(&field.name))
    };
    Roles {
        measure: rules.measure_columns.iter().find_map(|name| named(name)),
        frequency: flagged(|flags| flags.period, |kind| kind == Type::Text),
        date: flagged(
            |flags| flags.date,
            |kind| matches!(kind, Type::Date | Type::Timestamp | Type::TimestampTz),
        ),
        practice: named("practice_uid"),
        provider: named("provider_uid"),
    }
}

/// Ids and names of all active data sources.
pub(in crate::source) fn sources_text(names: &dyn Names) -> String {
    let column = |column: &str| names.column("chart_data_sources", column);
    format!(
        "SELECT {id}::bigint, {name}::text FROM {table} WHERE {active} IS TRUE ORDER BY {id}",
        id = column("data_source_id"),
        name = column("data_source_name"),
        table = names.table("chart_data_sources"),
        active = column("is_active"),
    )
}

/// `$1` an id. The active data source with a row for each of its columns: name, schema, table; column, whether it is active, a
/// date, a time period.
pub(in crate::source) fn source_text(names: &dyn Names) -> String {
    let source = |column: &str| format!("s.{}", names.column("chart_data_sources", column));
    let column = |column: &str| format!("c.{}", names.column("chart_data_source_columns", column));
    format!(
        "SELECT {name}::text, coalesce({schema}::text, 'public'), {table}::text, {column_name}::text, \
         {column_active} IS TRUE, {date} IS TRUE, {period} IS TRUE \
         FROM {sources} s LEFT JOIN {columns} c ON {of} = {id} \
         WHERE {id} = $1::bigint AND {active} IS TRUE",
        name = source("data_source_name"),
        schema = source("schema_name"),
        table = source("table_name"),
        column_name = column("column_name"),
        column_active = column("is_active"),
        date = column("is_date_field"),
        period = column("is_time_period"),
        sources = names.table("chart_data_sources"),
        columns = names.table("chart_data_source_columns"),
        of = column("data_source_id"),
        id = source("data_source_id"),
        active = source("is_active"),
    )
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
