//! Descriptions that fit, and every way in which they do not.

use super::*;

fn rules() -> Rules {
    Rules {
        query_ms: 1,
        export_ms: 1,
        schemas: vec!["ih".to_owned(), "public".to_owned()],
        measure_columns: vec!["metric".to_owned(), "measure".to_owned()],
        own: crate::config::SchemaMapping { allow: Vec::new(), tables: BTreeMap::new() },
    }
}

const ACTIVE: Flags = Flags { active: true, date: false, period: false };

fn described(columns: &[(&str, Flags)]) -> Listed {
    Listed {
        name: "Measures".to_owned(),
        schema: "ih".to_owned(),
        table: "agg".to_owned(),
        columns: columns.iter().map(|(name, flags)| ((*name).to_owned(), *flags)).collect(),
    }
}

fn table(columns: &[(&str, &str)]) -> Vec<Found> {
    let found = |(name, sql_type): &(&str, &str)| Found {
        name: (*name).into(),
        sql_type: (*sql_type).into(),
        bytewise: true,
    };
    columns.iter().map(found).collect()
}

const TABLE: [(&str, &str); 6] = [
    ("practice_uid", "integer"),
    ("measure", "character varying"),
    ("time_period", "text"),
    ("shown", "text"),
    ("day", "date"),
    ("price", "numeric"),
];

#[test]
fn roles_come_from_flags_and_names() {
    let listed = described(&[
        ("measure", ACTIVE),
        ("time_period", Flags { period: true, ..ACTIVE }),
        // The text that shows the date is flagged as well.
        ("shown", Flags { date: true, ..ACTIVE }),
        ("day", Flags { date: true, ..ACTIVE }),
        ("price", Flags { active: false, ..ACTIVE }),
        ("gone", Flags { active: false, ..ACTIVE }),
    ]);
    let source = source_of(7, listed, table(&TABLE), &rules()).unwrap();
    let names: Vec<&str> = source.schema.fields().iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["practice_uid", "measure", "time_period", "shown", "day"], "without what is inactive");
    let roles =
        Roles { measure: Some(1), frequency: Some(2), date: Some(4), practice: Some(0), provider: None };
    assert_eq!(*source.schema.roles(), roles);
    assert_eq!((source.id, &*source.name, &*source.from()), (7, "Measures", "\"ih\".\"agg\""));
}

#[test]
fn the_first_measure_column_that_is_there_counts() {
    let both = table(&[("measure", "text"), ("metric", "text")]);
    let roles = |found| *source_of(1, described(&[]), found, &rules()).unwrap().schema.roles();
    assert_eq!(roles(both).measure, Some(1));
    assert_eq!(roles(table(&[("measure", "text")])).measure, Some(0));
    assert_eq!(roles(table(&[("a", "text")])), Roles::default());
}

#[test]
fn what_cannot_be_a_data_source_names_the_fix() {
    let refused = |listed: Listed, found: Vec<Found>| {
        let made = check(7, &listed, &rules()).and_then(|()| source_of(7, listed, found, &rules()));
        let error = made.expect_err("it is wrong");
        assert_eq!(error.code, Code::Config);
        (error.field.unwrap_or_default().into_owned(), error.message.to_string())
    };
    let with = |change: fn(&mut Listed)| {
        let mut listed = described(&[("measure", ACTIVE)]);
        change(&mut listed);
        refused(listed, table(&TABLE))
    };
    let (field, message) = with(|listed| listed.table = "agg\"; DROP TABLE users; --".into());
    assert_eq!(field, "table_name");
    assert!(message.starts_with("data source 7: table_name is no SQL identifier; use letters"), "{message}");
    assert!(!message.contains("DROP"));
    let (field, message) = with(|listed| listed.schema = "pg_catalog".into());
    assert_eq!(field, "schema_name");
    assert_eq!(
        message,
        "data source 7: its table lies in schema pg_catalog, allowed are ih, public; ANALYTICS_SCHEMAS allows others"
    );
    let (field, message) = with(|listed| (listed.schema, listed.table) = ("public".into(), "users".into()));
    assert_eq!(field, "table_name");
    assert!(message.contains("public.users is a table of the application itself"), "{message}");
    let (field, message) = with(|listed| listed.columns.extend([("cost".into(), ACTIVE)]));
    assert_eq!(field, "cost");
    assert_eq!(
        message,
        "data source 7: ih.agg has no column cost; set its is_active to false or name another"
    );
    let (field, message) = refused(described(&[]), Vec::new());
    assert_eq!(field, "table_name");
    assert!(message.contains("ih.agg does not exist in the analytics database"), "{message}");
    let (field, message) = refused(described(&[]), table(&[("a \"b", "text")]));
    assert_eq!(field, "column_name");
    assert!(message.contains("describe it as inactive"), "{message}");
    let (field, message) = refused(described(&[]), table(&[("practice_uid", "text")]));
    assert_eq!(field, "practice_uid");
    assert_eq!(message, "data source 7: column practice_uid: the practice is an int or bigint column");
    let day = Flags { date: true, ..ACTIVE };
    let (field, message) = refused(described(&[("shown", day)]), table(&[("shown", "text")]));
    assert_eq!(field, "shown");
    assert!(message.ends_with("the date is a date or timestamp column"), "{message}");
}

#[test]
fn an_odd_name_that_is_described_as_inactive_is_left_out() {
    let listed = described(&[("a b", Flags::default())]);
    let source = source_of(1, listed, table(&[("a b", "text"), ("c", "text")]), &rules()).unwrap();
    assert_eq!(source.schema.fields().len(), 1);
}
