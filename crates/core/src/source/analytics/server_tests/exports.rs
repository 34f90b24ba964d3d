//! How exports and questions begin, wait and end.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::base::error::Code;

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
