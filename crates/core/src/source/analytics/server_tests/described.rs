//! What is believed of a data source, for how long, and what happens when its table changes.

use super::*;
use crate::base::error::Code;

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
