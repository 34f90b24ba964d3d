//! What statements look like. What they mean is compared with a server in `server_tests`.

use super::*;
use crate::analytics::Unit;
use crate::source::analytics::conditions::tests::{everything, measures};

#[test]
fn rows_come_in_the_order_of_the_index() {
    let sql = rows(&measures(), &everything(), &[4, 5]).sql;
    assert_eq!(
        sql,
        "SELECT \"at\"::date, \"value\"::numeric FROM \"ih\".\"measures\" ORDER BY \"at\"::date NULLS LAST, \
         \"practice_uid\"::int4 NULLS LAST, \"provider_uid\"::int8 NULLS LAST, \
         (\"measure\"::text) COLLATE \"C\" NULLS LAST, (\"frequency\"::text) COLLATE \"C\" NULLS LAST, \
         \"value\"::numeric NULLS LAST, scale(\"value\"::numeric), \
         \"share\"::float8 NULLS LAST, float8send(\"share\"::float8), \
         \"seen\"::timestamptz NULLS LAST, \"id\"::uuid NULLS LAST, \"open\"::bool NULLS LAST, \
         (\"more\"::text) COLLATE \"C\" NULLS LAST"
    );
}

#[test]
fn groups_are_made_by_what_sql_calls_equal() {
    let of = measures();
    let by = |column, unit| GroupBy::new(&of.schema, column, unit).unwrap();
    let metric = |function, column| Metric::new(&of.schema, function, column, "m").unwrap();
    let metrics = [metric(Function::Distinct, Some("measure")), metric(Function::Max, Some("measure"))];
    let sql = groups(&of, &everything(), &[by("at", Some(Unit::Month)), by("value", None)], &metrics).sql;
    let month = "date_trunc('month', \"at\"::date::timestamp)::date";
    let value = "\"value\"::numeric";
    assert_eq!(
        sql,
        format!(
            "SELECT {month}, coalesce(round({value}, max(scale({value}))), {value}), \
             count(DISTINCT \"measure\"::text), max((\"measure\"::text) COLLATE \"C\") FROM \"ih\".\"measures\" \
             GROUP BY {month}, {value} ORDER BY {month} NULLS LAST, {value} NULLS LAST"
        )
    );
    let sql = groups(&of, &everything(), &[by("seen", Some(Unit::Day)), by("share", None)], &[]).sql;
    assert!(sql.starts_with(
        "SELECT date_trunc('day', \"seen\"::timestamptz, 'UTC'), (\"share\"::float8 + 0::float8)"
    ));
    let sql = groups(&of, &everything(), &[], &[metric(Function::Count, None)]).sql;
    assert_eq!(sql, "SELECT count(*) FROM \"ih\".\"measures\"");
}

#[test]
fn nothing_is_asked_for_nothing() {
    let of = measures();
    let metric = |function, column| Metric::new(&of.schema, function, column, "m").unwrap();
    let metrics = [metric(Function::Count, None), metric(Function::Sum, Some("value"))];
    let whole = groups_of_nothing(&of, &[], &metrics).unwrap();
    assert_eq!((whole.rows, whole.columns[0].1.integer(0)), (1, Some(0)));
    assert!(whole.columns[1].1.nulls().at(0));
    let by = [GroupBy::new(&of.schema, "measure", None).unwrap()];
    let grouped = groups_of_nothing(&of, &by, &metrics).unwrap();
    let names: Vec<&str> = grouped.columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((grouped.rows, names), (0, vec!["measure", "m", "m"]));
}
