//! Export and questions against a real Postgres. They need a server of which they may be given everything, and use a
//! transaction pooler in front of it where there is one (`BCOS_PGBOUNCER_URL`):
//! `BCOS_POSTGRES_URL=postgres://... cargo test -p bcos-cache-core --lib source::analytics::server_tests -- --ignored`.
//!
//! Here is what they share; the tests are in the files.

mod answers;
mod described;
mod exports;
mod measure;

use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::analytics::testing;
use crate::analytics::{self, Batch, Builder, Frame, Made, Manifest};
use crate::base::clock::Clock;
use crate::base::error::Error;
use crate::base::limits;
use crate::source::statements::{Names, Statements};
use crate::source::{Options, Source};

/// Tables of the product in a schema of their own.
struct In(String);

impl Names for In {
    fn table(&self, table: &str) -> String {
        format!("\"{}\".\"{table}\"", self.0)
    }
    fn column(&self, _: &str, column: &str) -> String {
        format!("\"{column}\"")
    }
}

/// Letters in upper and lower case are equal.
const IGNORING: &str = "ignoring (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

fn url() -> String {
    std::env::var("BCOS_POSTGRES_URL").expect("BCOS_POSTGRES_URL names a server for tests")
}

/// The same database, through a transaction pooler where there is one.
fn pooled_url() -> String {
    std::env::var("BCOS_PGBOUNCER_URL").unwrap_or_else(|_| url())
}

fn rules(schemas: &[&str]) -> Rules {
    Rules {
        query_ms: 10_000,
        export_ms: 60_000,
        schemas: schemas.iter().map(|schema| (*schema).to_owned()).collect(),
        measure_columns: vec!["measure".to_owned()],
        own: SchemaMapping { allow: Vec::new(), tables: Default::default() },
    }
}

fn source(pooled: bool, names: &In, rules: Rules) -> Source {
    let options = Options {
        url: Some(if pooled { pooled_url() } else { url() }),
        analytics_url: None,
        pool_max: 4,
        pooled,
        deadline_ms: 5_000,
        bulkhead: 4,
        queue: 100,
        analytics: rules,
    };
    Source::new(options, Statements::new(names), Clock::system(), Arc::default()).expect("a URL")
}

/// As the product's: one worker.
fn run<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime").block_on(test)
}

/// A schema of its own, gone at the end.
async fn inside<T, F: Future<Output = T>>(name: &str, test: impl FnOnce(PgPool, String) -> F) -> T {
    let pool = PgPool::connect(&url()).await.expect("a server");
    let schema = format!("bcos_{name}_{}", std::process::id());
    execute(&pool, &format!("CREATE SCHEMA {schema}")).await;
    let result = test(pool.clone(), schema.clone()).await;
    execute(&pool, &format!("DROP SCHEMA {schema} CASCADE")).await;
    result
}

async fn execute(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
}

/// Exports everything, with what was handed over.
async fn exported(source: &Source, of: &DataSource) -> Result<(Export, Vec<Batch>), Error> {
    let (take, mut taken) = mpsc::channel(limits::ANALYTICS_BATCHES_AHEAD);
    let (_stop, stop) = watch::channel(false);
    let mut batches = Vec::new();
    let collect = async {
        while let Some(batch) = taken.recv().await {
            batches.push(batch);
        }
    };
    let (export, ()) = tokio::join!(source.export_analytics(of, Arc::default(), stop, take), collect);
    export.map(|export| (export, batches))
}

fn index(of: &DataSource, batches: Vec<Batch>) -> (Manifest, Vec<Arc<Frame>>) {
    let mut builder = Builder::new(of.schema.clone());
    for batch in batches {
        builder.push(batch).expect("what was exported can be built");
    }
    let mut frames = builder.finish();
    let made: Vec<Made> = frames.by_ref().flat_map(|made| made.expect("frames")).collect();
    let open = |made: &Made| Arc::new(Frame::open(&made.bytes, &made.hash, &of.schema).expect("a frame"));
    (frames.manifest().expect("a manifest"), made.iter().map(open).collect())
}

fn everything() -> analytics::Question {
    let visible = testing::visible(None, None);
    analytics::Question { visible, ..analytics::Question::nothing() }
}

/// A data source of all columns of a table, as it would be described.
async fn described(
    source: &Source,
    pool: &PgPool,
    schema: &str,
    id: i64,
    table: &str,
    dates: &[&str],
) -> Arc<DataSource> {
    list(pool, schema, id, table, dates).await;
    source.data_source(id).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn list(pool: &PgPool, schema: &str, id: i64, table: &str, dates: &[&str]) {
    let tables = format!(
        "CREATE TABLE IF NOT EXISTS {schema}.chart_data_sources (data_source_id int PRIMARY KEY, data_source_name text, \
           table_name text, schema_name text, is_active bool); \
         CREATE TABLE IF NOT EXISTS {schema}.chart_data_source_columns (column_id int GENERATED ALWAYS AS IDENTITY, \
           data_source_id int, column_name text, is_active bool, is_date_field bool, is_time_period bool); \
         INSERT INTO {schema}.chart_data_sources VALUES ({id}, 'Source {id}', '{table}', '{schema}', true)"
    );
    execute(pool, &tables).await;
    for date in dates {
        let column = format!(
            "INSERT INTO {schema}.chart_data_source_columns (data_source_id, column_name, is_active, is_date_field) \
             VALUES ({id}, '{date}', true, true)"
        );
        execute(pool, &column).await;
    }
}

fn count(source: &Source, name: &str) -> usize {
    source.counts().find(|(known, _)| *known == name).expect("a statement").1
}
