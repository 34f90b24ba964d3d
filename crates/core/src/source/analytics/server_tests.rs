//! Export and questions against a real Postgres: random tables go out as COPY and come back as frames, and every random question
//! is answered from both. It needs a server of which it may be given everything:
//! `BCOS_POSTGRES_URL=postgres://... cargo test -p bcos-cache-core --lib source::analytics::server_tests -- --ignored`.
//!
//! Invariant: a table of the source is the table of the index, down to its packed bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::analytics::properties::{self, Asked, Summed, planned, schedules};
use crate::analytics::testing::{self, Cell};
use crate::analytics::{
    self, Batch, Builder, Column, Frame, Function, GroupBy, Made, Manifest, Metric, Table, Type, sql,
};
use crate::base::clock::Clock;
use crate::base::error::{Code, Error};
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

/// Texts lie under collations that order them differently than their bytes, or do not even tell all of them apart.
async fn make(pool: &PgPool, of: &DataSource, rows: &[properties::Row]) {
    let fields = of.schema.fields();
    let columns: Vec<String> = fields
        .iter()
        .zip(&of.bytewise)
        .map(|(field, bytewise)| match (field.kind, bytewise) {
            (Type::Text, true) => format!("{} text COLLATE \"und-x-icu\"", field.name),
            (Type::Text, false) => format!("{} text COLLATE {}.ignoring", field.name, of.table_schema),
            (kind, _) => format!("{} {}", field.name, sql::sql_type(kind)),
        })
        .collect();
    let name = of.from();
    let mut script = format!("CREATE TABLE {name} ({});", columns.join(", "));
    for row in rows {
        let cells: Vec<String> =
            fields.iter().zip(row).map(|(field, cell)| sql::constant(field.kind, cell)).collect();
        script.push_str(&format!("INSERT INTO {name} VALUES ({});", cells.join(", ")));
    }
    execute(pool, &script).await;
}

/// What Postgres cannot store.
fn storable(made: &mut properties::Source) {
    let kinds: Vec<Type> = made.schema.fields().iter().map(|field| field.kind).collect();
    for row in &mut made.rows {
        for (cell, kind) in row.iter_mut().zip(&kinds) {
            if let (Cell::Bytes(bytes), Type::Text) = (cell, kind) {
                bytes.retain(|byte| *byte != 0);
            }
        }
    }
}

fn equal_as_sql(a: &Column, b: &Column) -> bool {
    let value = |column: &Column, row| match column.value(row) {
        analytics::Value::Float(value) => format!("{:?}", value + 0.0),
        analytics::Value::Decimal(value) => format!("{:?}", value.shortest()),
        other => format!("{other:?}"),
    };
    a.rows() == b.rows() && (0..a.rows()).all(|row| value(a, row) == value(b, row))
}

/// Except where the database may show any of several equal values, columns are the same down to their bytes.
fn compare(actual: &Table, expected: &Table, metrics: &[Metric], about: &str) {
    assert_eq!((actual.rows, actual.columns.len()), (expected.rows, expected.columns.len()), "{about}");
    let by = actual.columns.len() - metrics.len();
    for (at, ((name, actual), (expected_name, expected))) in
        actual.columns.iter().zip(&expected.columns).enumerate()
    {
        assert_eq!(name, expected_name, "{about}");
        let metric = at.checked_sub(by).map(|at| &metrics[at]);
        let any = metric.is_some_and(|metric| matches!(metric.function(), Function::Min | Function::Max))
            && matches!(actual.kind(), Type::Numeric | Type::Float);
        let same = if any { equal_as_sql(actual, expected) } else { actual == expected };
        assert!(
            same,
            "{about}, column {name}: {:?} is not {:?}",
            testing::read(actual),
            testing::read(expected)
        );
    }
}

/// Figures of the same snapshot are those of the rows.
fn check_figures(export: &Export, of: &DataSource, manifest: &Manifest, frames: &[Arc<Frame>]) {
    assert_eq!(export.rows, export.groups.iter().map(|group| group.rows).sum::<u64>());
    let question = everything();
    let plan = manifest.plan(&question).unwrap();
    let roles = of.schema.roles();
    let name = |at: usize| of.schema.fields()[at].name.as_str();
    let by: Vec<GroupBy> = [roles.measure, roles.frequency]
        .into_iter()
        .flatten()
        .map(|at| GroupBy::new(&of.schema, name(at), None).unwrap())
        .collect();
    let summed: Vec<usize> = texts::summed(&of.schema).collect();
    let mut metrics = vec![Metric::new(&of.schema, Function::Count, None, "rows").unwrap()];
    metrics.extend(
        summed.iter().map(|at| Metric::new(&of.schema, Function::Sum, Some(name(*at)), "sum").unwrap()),
    );
    let Ok(table) = analytics::aggregate(manifest, &question, &plan, &planned(&plan, frames), &by, &metrics)
    else {
        return;
    };
    let rows = properties::table_rows(&table);
    let shown = |text: &Option<String>| {
        text.as_ref().map_or(Cell::Null, |text| Cell::Bytes(text.clone().into_bytes()))
    };
    for group in &export.groups {
        let mut key = Vec::new();
        key.extend(roles.measure.map(|_| shown(&group.measure)));
        key.extend(roles.frequency.map(|_| shown(&group.frequency)));
        let row =
            rows.iter().find(|row| row.starts_with(&key)).expect("every group of SQL is one of the index");
        let row = &row[key.len()..];
        assert_eq!(row[0], Cell::Int(group.rows as i64));
        for ((at, sum), cell) in group.sums.iter().zip(&row[1..]) {
            let shown = match cell {
                Cell::Null => None,
                Cell::Int(value) => Some(Decimal::whole((*value).into())),
                Cell::Decimal(text) => Decimal::parse(text),
                other => panic!("{other:?}"),
            };
            assert_eq!(*sum, shown, "{}", name(*at));
        }
    }
    let filled = export.groups.iter().filter(|group| group.rows > 0).count();
    assert!(rows.len() == filled || by.is_empty(), "{rows:?} {:?}", export.groups);
}

fn everything() -> analytics::Question {
    let visible = testing::visible(None, None);
    analytics::Question { visible, ..analytics::Question::nothing() }
}

#[test]
#[ignore = "it needs a Postgres server"]
fn what_is_exported_and_what_is_asked_are_one() {
    run(inside("random", |pool, schema| async move {
        execute(&pool, &format!("CREATE COLLATION {schema}.{IGNORING}")).await;
        let source = [false, true].map(|pooled| source(pooled, &In(schema.clone()), rules(&[&schema])));
        let mut compared = [0; 2];
        for seed in 0..schedules(20) {
            let mut rng = fastrand::Rng::with_seed(seed ^ 0xa11);
            let mut made = properties::Source::random(&mut rng);
            storable(&mut made);
            let of = DataSource {
                id: seed as i64,
                name: "random".to_owned(),
                table_schema: schema.clone(),
                table: format!("t{seed}"),
                schema: made.schema.clone(),
                bytewise: vec![rng.bool(); made.schema.fields().len()],
            };
            make(&pool, &of, &made.rows).await;
            let source = &source[rng.usize(..2)];
            let (export, batches) = exported(source, &of).await.expect("an export");
            assert_eq!(export.rows, made.rows.len() as u64);
            let (manifest, frames) = index(&of, batches);
            check_figures(&export, &of, &manifest, &frames);
            for _ in 0..4 {
                let asked = Asked::random(&made, &mut rng);
                let about = format!("seed {seed}: {:?} of {:?}", asked.question, of.schema);
                let plan = manifest.plan(&asked.question).unwrap();
                let parts = planned(&plan, &frames);
                let some: Vec<usize> = (0..of.schema.fields().len()).filter(|_| rng.bool()).collect();
                let columns = [None, Some(&some[..])][rng.usize(..2)];
                let expected = analytics::rows(&manifest, &asked.question, &plan, &parts, columns).unwrap();
                let actual = source.analytics_rows(&of, &asked.question, columns).await;
                compare(&actual.unwrap_or_else(|error| panic!("{error} {about}")), &expected, &[], &about);
                compared[0] += 1;

                let summed = Summed::random(&made, &mut rng);
                let about = format!("{about} by {:?}: {:?}", summed.group_by, summed.metrics);
                let name = |at: usize| of.schema.fields()[at].name.as_str();
                let by: Vec<GroupBy> = summed
                    .group_by
                    .iter()
                    .map(|(at, unit)| GroupBy::new(&of.schema, name(*at), *unit).unwrap())
                    .collect();
                let metrics: Vec<Metric> = summed
                    .metrics
                    .iter()
                    .map(|(function, at)| Metric::new(&of.schema, *function, at.map(name), "m").unwrap())
                    .collect();
                let Ok(expected) =
                    analytics::aggregate(&manifest, &asked.question, &plan, &parts, &by, &metrics)
                else {
                    continue;
                };
                let actual = source.analytics_groups(&of, &asked.question, &by, &metrics).await;
                compare(
                    &actual.unwrap_or_else(|error| panic!("{error} {about}")),
                    &expected,
                    &metrics,
                    &about,
                );
                compared[1] += 1;
            }
            execute(&pool, &format!("DROP TABLE {schema}.t{seed}")).await;
        }
        assert!(compared[1] * 10 > compared[0] * 9, "{compared:?}");
    }));
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

#[test]
#[ignore = "it needs a Postgres server"]
fn types_that_are_not_ours_are_cast() {
    run(inside("types", |pool, schema| async move {
        let source = source(false, &In(schema.clone()), rules(&[&schema]));
        execute(
            &pool,
            &format!(
                "SET search_path = {schema}; CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN id AS int CHECK (VALUE >= 0); \
                 CREATE DOMAIN own_id AS id; CREATE DOMAIN price AS numeric(10, 2); \
                 CREATE COLLATION {IGNORING}; \
                 CREATE TABLE odd (practice_uid own_id, small smallint, ratio real, code char(5), name varchar(20), m mood, \
                   cost price, more jsonb, raw json, bytes bytea, host inet, list int[], span interval, measure text COLLATE ignoring, \
                   at timestamptz, \"Mixed\" text); \
                 INSERT INTO odd VALUES (1, -3, 0.1, 'ab', 'x', 'glad', 1.5, '{{\"b\": 1, \"a\": 2}}', '{{\"b\":  1}}', '\\x00ff', \
                   '10.0.0.1', '{{1,2}}', '1 day 2 hours', 'A', '2024-03-10 12:00:00+02', 'm'), \
                   (2, 3, 'NaN', 'b', '', 'sad', NULL, 'null', NULL, NULL, NULL, NULL, NULL, 'a', 'infinity', NULL); \
                 RESET search_path"
            ),
        )
        .await;
        let of = described(&source, &pool, &schema, 1, "odd", &["at"]).await;
        let kinds: Vec<&str> = of.schema.fields().iter().map(|field| field.kind.name()).collect();
        assert_eq!(
            kinds,
            [
                "int",
                "int",
                "float",
                "text",
                "text",
                "text",
                "numeric",
                "json",
                "json",
                "text",
                "text",
                "text",
                "text",
                "text",
                "timestamptz",
                "text"
            ]
        );
        let (export, batches) = exported(&source, &of).await.unwrap();
        let (manifest, frames) = index(&of, batches);
        check_figures(&export, &of, &manifest, &frames);
        let shown = properties::table_rows(&source.analytics_rows(&of, &everything(), None).await.unwrap());
        let bytes = |text: &str| Cell::Bytes(text.as_bytes().to_vec());
        assert_eq!(
            shown[0],
            [
                Cell::Int(1),
                Cell::Int(-3),
                Cell::Float(f64::from(0.1_f32).to_bits()),
                bytes("ab"),
                bytes("x"),
                bytes("glad"),
                Cell::Decimal("1.50".to_owned()),
                bytes("{\"a\": 2, \"b\": 1}"),
                bytes("{\"b\":  1}"),
                bytes("\\x00ff"),
                bytes("10.0.0.1/32"),
                bytes("{1,2}"),
                bytes("1 day 02:00:00"),
                bytes("A"),
                Cell::Int(763_380_000_000_000),
                bytes("m"),
            ]
        );
        // By bytes, whatever the column's own collation calls equal.
        for (measure, found) in [("a", 1), ("A", 1), ("b", 0)] {
            let question = analytics::Question { measure: Some(measure.to_owned()), ..everything() };
            let plan = manifest.plan(&question).unwrap();
            let expected =
                analytics::rows(&manifest, &question, &plan, &planned(&plan, &frames), None).unwrap();
            let actual = source.analytics_rows(&of, &question, None).await.unwrap();
            assert_eq!((actual.rows, &actual), (found, &expected), "{measure}");
        }
    }));
}

#[test]
#[ignore = "it needs a Postgres server"]
fn a_data_source_is_described_once_a_minute() {
    run(inside("described", |pool, schema| async move {
        let source = Arc::new(source(false, &In(schema.clone()), rules(&[&schema])));
        execute(&pool, &format!("CREATE TABLE {schema}.t (practice_uid int, at date)")).await;
        list(&pool, &schema, 1, "t", &["at"]).await;
        list(&pool, &schema, 2, "nowhere", &[]).await;
        list(&pool, &schema, 3, "users", &[]).await;
        execute(
            &pool,
            &format!("UPDATE {schema}.chart_data_sources SET is_active = NULL WHERE data_source_id = 3"),
        )
        .await;
        let asked = (0..20).map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.data_source(1).await.map(|of| of.name.clone()) })
        });
        for name in futures_util::future::join_all(asked).await {
            assert_eq!(name.unwrap().unwrap(), "Source 1");
        }
        assert_eq!((count(&source, "analytics_source"), count(&source, "analytics_columns")), (1, 1));
        assert_eq!(
            source.data_sources().await.unwrap(),
            [(1, "Source 1".to_owned()), (2, "Source 2".to_owned())]
        );
        let refused = |error: Error| (error.code, error.field.unwrap_or_default().into_owned());
        assert_eq!(
            refused(source.data_source(2).await.unwrap_err()),
            (Code::Config, "table_name".to_owned())
        );
        for unknown in [3, 4, i64::MAX] {
            let error = source.data_source(unknown).await.unwrap_err();
            assert_eq!(refused(error), (Code::NotFound, "datasourceId".to_owned()));
        }

        // A table that changes meanwhile is an error, and then described anew.
        let of = source.data_source(1).await.unwrap();
        execute(&pool, &format!("ALTER TABLE {schema}.t ALTER practice_uid TYPE bigint USING 5000000000"))
            .await;
        assert_eq!(source.analytics_rows(&of, &everything(), None).await.unwrap().rows, 0);
        execute(&pool, &format!("INSERT INTO {schema}.t VALUES (5000000000)")).await;
        assert_eq!(
            source.analytics_rows(&of, &everything(), None).await.unwrap_err().code,
            Code::SourceUnavailable
        );
        execute(&pool, &format!("ALTER TABLE {schema}.t DROP practice_uid")).await;
        let error = source.analytics_rows(&of, &everything(), None).await.unwrap_err();
        assert_eq!(error.code, Code::Config, "{error}");
        assert_eq!(source.data_source(1).await.unwrap().schema.fields().len(), 1);
        execute(&pool, &format!("DROP TABLE {schema}.t")).await;
        let error = exported(&source, &of).await.map(|_| ()).unwrap_err();
        assert!(error.code == Code::Config && error.message.contains("does not exist"), "{error}");
    }));
}

#[test]
#[ignore = "it needs a Postgres server"]
fn an_export_is_one_snapshot_and_waits_for_whoever_takes_it() {
    run(inside("snapshot", |pool, schema| async move {
        let source = Arc::new(source(false, &In(schema.clone()), rules(&[&schema])));
        let rows = 5 * limits::ANALYTICS_BATCH_ROWS as u64 + 7;
        let table = format!(
            "CREATE TABLE {schema}.t AS SELECT g AS practice_uid, date '2024-01-01' + g % 100 AS at, g * 0.01 AS value \
             FROM generate_series(1, {rows}) g; ANALYZE {schema}.t"
        );
        execute(&pool, &table).await;
        let of = described(&source, &pool, &schema, 1, "t", &["at"]).await;
        let progress = Arc::new(Progress::default());
        let (take, mut taken) = mpsc::channel(1);
        let (_stop, stop) = watch::channel(false);
        let export = tokio::spawn({
            let (source, of, progress) = (source.clone(), of.clone(), progress.clone());
            async move { source.export_analytics(&of, progress, stop, take).await }
        });
        let first = taken.recv().await.expect("a batch");
        assert_eq!(first.rows(), limits::ANALYTICS_BATCH_ROWS);
        execute(&pool, &format!("INSERT INTO {schema}.t VALUES (0, '1999-01-01', 1e9); DELETE FROM {schema}.t WHERE practice_uid > 7")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let ahead = progress.rows.load(Relaxed);
        assert!(
            ahead <= 3 * limits::ANALYTICS_BATCH_ROWS as u64,
            "{ahead} rows were read ahead of the first batch"
        );
        let mut left = 0;
        while let Some(batch) = taken.recv().await {
            left += batch.rows() as u64;
        }
        let export = export.await.unwrap().unwrap();
        assert_eq!((export.rows, left), (rows, rows - limits::ANALYTICS_BATCH_ROWS as u64));
        assert_eq!(progress.rows.load(Relaxed), rows);
        assert_eq!((export.estimated_rows, progress.estimated_rows.load(Relaxed)), (rows, rows));
        let day = analytics::calendar::parse_date("2024-01-01").unwrap();
        assert_eq!(export.dates, Some((day, day + 99)));
        assert_eq!((export.groups.len(), export.groups[0].rows), (1, rows));
        let cents = i128::from(rows) * (i128::from(rows) + 1) / 2;
        assert_eq!(export.groups[0].sums, [(0, Some(Decimal::whole(cents))), (2, Decimal::new(cents, 2, 2))]);
        assert!(export.snapshot.matches(':').count() == 2, "{}", export.snapshot);
    }));
}

#[test]
#[ignore = "it needs a Postgres server"]
fn an_export_ends_when_it_is_told_to_or_late_or_cannot_be_kept() {
    run(inside("ends", |pool, schema| async move {
        let limits = Rules { export_ms: 700, ..rules(&[&schema]) };
        let source = Arc::new(source(false, &In(schema.clone()), limits));
        let table = format!(
            "CREATE TABLE {schema}.t AS SELECT g AS practice_uid, 1.5 AS value FROM generate_series(1, 500000) g; \
             CREATE TABLE {schema}.odd AS SELECT 1 AS practice_uid, 'NaN'::numeric AS price"
        );
        execute(&pool, &table).await;
        let of = described(&source, &pool, &schema, 1, "t", &[]).await;
        let odd = described(&source, &pool, &schema, 2, "odd", &[]).await;
        let begin = |stop: watch::Receiver<bool>| {
            let (take, taken) = mpsc::channel(1);
            let (source, of) = (source.clone(), of.clone());
            (
                tokio::spawn(async move { source.export_analytics(&of, Arc::default(), stop, take).await }),
                taken,
            )
        };
        let (stop, stopping) = watch::channel(false);
        let (export, taken) = begin(stopping.clone());
        // The second one waits for its turn and is stopped before it comes.
        let (waiting, _taken) = begin(stopping);
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.send(true).unwrap();
        assert_eq!(export.await.unwrap().unwrap_err().code, Code::Closed);
        assert_eq!(waiting.await.unwrap().unwrap_err().code, Code::Closed);
        drop(taken);

        let (_stop, stopping) = watch::channel(false);
        let (export, taken) = begin(stopping.clone());
        drop(taken);
        assert_eq!(export.await.unwrap().unwrap_err().code, Code::Closed, "nobody takes it");

        let begun = Instant::now();
        let (export, _taken) = begin(stopping);
        let error = export.await.unwrap().unwrap_err();
        assert_eq!(error.code, Code::SourceUnavailable, "{error}");
        assert!(
            begun.elapsed() >= Duration::from_millis(650) && begun.elapsed() < Duration::from_millis(2_000)
        );

        // What was given up is not met by the next one, once its time is over.
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        let error = exported(&source, &odd).await.map(|_| ()).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (Code::Config, Some("price")), "{error}");
        let error = source.analytics_rows(&odd, &everything(), None).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (Code::Config, Some("price")), "{error}");
        assert_eq!(exported(&source, &of).await.unwrap().0.rows, 500_000);
        for _ in 0..8 {
            source.ping().await.unwrap();
        }
    }));
}

#[test]
#[ignore = "it needs a Postgres server"]
fn closing_waits_for_no_export() {
    run(inside("closing", |pool, schema| async move {
        let source = Arc::new(source(false, &In(schema.clone()), rules(&[&schema])));
        execute(&pool, &format!("CREATE TABLE {schema}.t AS SELECT g FROM generate_series(1, 500000) g"))
            .await;
        let of = described(&source, &pool, &schema, 1, "t", &[]).await;
        let (take, mut taken) = mpsc::channel(1);
        let (_stop, stop) = watch::channel(false);
        let export = tokio::spawn({
            let source = source.clone();
            async move { source.export_analytics(&of, Arc::default(), stop, take).await }
        });
        taken.recv().await.expect("a batch");
        let closed = tokio::time::timeout(Duration::from_secs(2), source.close()).await;
        assert!(closed.is_ok(), "the connection was given up");
        assert_eq!(export.await.unwrap().unwrap_err().code, Code::Closed);
    }));
}

#[test]
#[ignore = "it needs a Postgres server"]
fn slow_questions_end_and_keep_nobody_else_waiting() {
    run(inside("slow", |pool, schema| async move {
        let limits = Rules { query_ms: 800, ..rules(&[&schema]) };
        let source = Arc::new(source(false, &In(schema.clone()), limits));
        execute(
            &pool,
            &format!("CREATE VIEW {schema}.slow AS SELECT g AS practice_uid, pg_sleep(0.01)::text AS c FROM generate_series(1, 1000) g"),
        )
        .await;
        let of = described(&source, &pool, &schema, 1, "slow", &[]).await;
        let begun = Instant::now();
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let (source, of) = (source.clone(), of.clone());
                tokio::spawn(async move {
                    source.analytics_rows(&of, &everything(), None).await.map(|table| table.rows)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..4 {
            let pinged = Instant::now();
            source.ping().await.unwrap();
            assert!(
                pinged.elapsed() < Duration::from_millis(300),
                "a read waited for charts: {:?}",
                pinged.elapsed()
            );
        }
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.unwrap().unwrap_err().code, Code::SourceUnavailable);
        }
        assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
        assert!(source.reachable(), "slow questions say nothing about the database of authorization");
    }));
}

/// Prints what the export of a table costs: `BCOS_EXPORTED=ih.agg_app_measures`.
#[test]
#[ignore = "it measures"]
fn measure_an_export() {
    let name = std::env::var("BCOS_EXPORTED").expect("BCOS_EXPORTED names a table");
    let (schema, table) = name.split_once('.').expect("schema.table");
    run(async {
        let source = source(false, &In("public".to_owned()), rules(&[schema]));
        let ids = source.data_sources().await.unwrap();
        for (id, _) in ids {
            let of = source.data_source(id).await.unwrap();
            if of.table != table {
                continue;
            }
            for round in 0..3 {
                let begun = Instant::now();
                let (export, batches) = exported(&source, &of).await.unwrap();
                let read = begun.elapsed();
                let begun = Instant::now();
                let frames = index(&of, batches).1.len();
                let seconds = read.as_secs_f64();
                println!(
                    "round {round}: {} rows in {seconds:.2} s, {:.0} rows/s; {frames} frames in {:?}; {} groups",
                    export.rows,
                    export.rows as f64 / seconds,
                    begun.elapsed(),
                    export.groups.len(),
                );
            }
        }
    });
}
