//! What an export costs. For tests only.

#![allow(clippy::print_stdout, reason = "its only purpose is to print")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use super::*;

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
