//! Tables go out as COPY and come back as frames, and every question is answered from both.
//!
//! Invariant: a table of the source is the table of the index, down to its packed bytes.

use super::*;
use crate::analytics::properties::{self, Asked, Summed, planned, schedules};
use crate::analytics::testing::Cell;
use crate::analytics::{Column, Function, GroupBy, Metric, Table, Type, sql};

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
