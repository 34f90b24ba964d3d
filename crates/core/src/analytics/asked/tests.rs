use super::*;
use crate::analytics::testing;
use crate::analytics::{Decimal, Field, Operand, Predicate, Roles, Test, Type};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema_of(date: Type) -> Schema {
    let kinds = [
        ("practice_uid", Type::Int),
        ("provider_uid", Type::Int),
        ("measure", Type::Text),
        ("frequency", Type::Text),
        ("date_index", date),
        ("measure_value", Type::Numeric),
        ("metadata", Type::Json),
        ("big", Type::BigInt),
        ("ratio", Type::Float),
    ];
    let fields = kinds.map(|(name, kind)| Field { name: name.to_owned(), kind }).to_vec();
    let roles =
        Roles { measure: Some(2), frequency: Some(3), date: Some(4), practice: Some(0), provider: Some(1) };
    Schema::new(fields, roles).unwrap()
}

fn schema() -> Schema {
    schema_of(Type::Date)
}

fn resolved(question: &Value) -> Result<Resolved, Refused> {
    Asked::parse(&question.to_string())?.resolve(&schema())
}

/// With the fields that every question has.
fn with(fields: Value) -> Value {
    let mut question = json!({ "datasourceId": 1 });
    question.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    question
}

fn refused(fields: Value) -> (String, String) {
    match resolved(&with(fields.clone())) {
        Err(Refused::Question { field, because }) => (field, because),
        other => panic!("{fields} gave {other:?}"),
    }
}

fn predicates(filters: Value) -> Vec<Predicate> {
    resolved(&with(json!({ "advancedFilters": filters }))).unwrap().question.predicates
}

#[test]
fn everything_that_can_be_asked_is_understood() {
    let asked = Asked::parse(
        &json!({
            "datasourceId": 7, "measure": "Charges", "frequency": "Monthly",
            "practiceUids": [2, 0, { "$bigint": "9223372036854775807" }], "providerUids": [5],
            "startDate": "2000-01-02", "endDate": "2000-01-03T10:00:00Z",
            "advancedFilters": [
                { "field": "measure_value", "operator": "gt", "value": 0.1 },
                { "field": "measure", "operator": "in", "value": ["a", null] },
            ],
            "columns": ["measure_value", "date_index"],
            "scope": { "kind": "rows", "practices": [3, 0, 2], "providers": null },
        })
        .to_string(),
    )
    .unwrap();
    assert_eq!(asked.data_source(), 7);
    assert_eq!(asked.visible().lists(), Some((Some(&[0, 2][..]), Some(&[5][..]))), "a scope, narrowed");
    let Resolved { question, wanted } = asked.resolve(&schema()).unwrap();
    assert_eq!(
        (question.measure.as_deref(), question.frequency.as_deref()),
        (Some("Charges"), Some("Monthly"))
    );
    assert_eq!((question.first, question.last), (Some(1), Some(2)));
    assert_eq!(question.predicates.len(), 2);
    let tenth = Operand::Exact(Decimal::parse("0.1").unwrap());
    assert_eq!(question.predicates[0].test(), &Test::Compare(Operator::Gt, tenth));
    assert_eq!(question.predicates[1].test(), &Test::Among(vec![Operand::Bytes(b"a".to_vec())]));
    assert_eq!(wanted, Wanted::Rows { columns: Some(vec![5, 4]) });
}

#[test]
fn what_is_left_out_is_not_filtered_and_what_is_empty_is_nothing() {
    let whole = resolved(&with(json!({ "measure": null }))).unwrap();
    assert_eq!(whole.wanted, Wanted::Rows { columns: None });
    assert_eq!(whole.question.visible.lists(), Some((None, None)));
    assert_eq!((whole.question.measure, whole.question.first, whole.question.last), (None, None, None));
    for nothing in [
        json!({ "practiceUids": [] }),
        json!({ "providerUids": [] }),
        json!({ "scope": { "kind": "nothing" } }),
        json!({ "scope": { "kind": "nothing", "practices": [1], "providers": null } }),
        json!({ "scope": { "kind": "rows", "practices": [], "providers": null } }),
        json!({ "scope": { "kind": "rows", "practices": [1], "providers": [] } }),
        json!({ "scope": { "kind": "rows", "practices": [1], "providers": null }, "practiceUids": [2] }),
        json!({ "scope": { "kind": "all", "practices": [], "providers": null }, "practiceUids": [] }),
    ] {
        assert_eq!(resolved(&with(nothing.clone())).unwrap().question.visible, Visible::NOTHING, "{nothing}");
    }
}

#[test]
fn a_question_that_is_not_understood_is_refused_with_its_field_and_the_fix() {
    let own = |scope: Value| json!({ "scope": scope });
    let filter = |field: &str, operator: &str, value: Value| json!({ "advancedFilters": [{ "field": field, "operator": operator, "value": value }] });
    for (question, field, because) in [
        (json!({ "mesure": "a" }), "mesure", "there is no such field. Did you mean measure?"),
        (json!({ "measure": 1 }), "measure", "a text is expected"),
        (json!({ "measure": "\u{0}".repeat(300 * 1024) }), "measure", "at most 262144 bytes are expected"),
        (json!({ "datasourceId": "1" }), "datasourceId", "a whole number of at most 64 bits is expected"),
        (json!({ "practiceUids": null }), "practiceUids", "a list is expected"),
        (
            json!({ "practiceUids": [1, "2"] }),
            "practiceUids[1]",
            "a whole number of at most 64 bits is expected",
        ),
        (
            json!({ "practiceUids": [1.5] }),
            "practiceUids[0]",
            "a whole number of at most 64 bits is expected",
        ),
        (
            json!({ "providerUids": [{ "$bigint": "9223372036854775808" }] }),
            "providerUids[0]",
            "a whole number of at most 64 bits is expected",
        ),
        (json!({ "providerUids": vec![1; 100_001] }), "providerUids", "a list of at most 100000 is expected"),
        (
            json!({ "startDate": "2024-02-30" }),
            "startDate",
            "a date as YYYY-MM-DD, or a timestamp, is expected",
        ),
        (json!({ "endDate": "yesterday" }), "endDate", "a date as YYYY-MM-DD, or a timestamp, is expected"),
        (json!({ "endDate": 20240101 }), "endDate", "a text is expected"),
        (own(json!({})), "scope.kind", "it is missing; nothing, rows or all is expected"),
        (own(json!(null)), "scope", "an object is expected"),
        (own(json!({ "kind": "everything" })), "scope.kind", "nothing, rows or all is expected"),
        (
            own(json!({ "kind": "rows", "providers": null })),
            "scope.practices",
            "it is missing; a list of whole numbers is expected",
        ),
        (
            own(json!({ "kind": "rows", "practices": [1] })),
            "scope.providers",
            "it is missing; a list of whole numbers or null is expected",
        ),
        (
            own(json!({ "kind": "rows", "practices": [1], "providers": null, "provider": 1 })),
            "scope.provider",
            "there is no such field. Did you mean providers?",
        ),
        (
            json!({ "columns": [] }),
            "columns",
            "at least one column is expected; leave it out for all of them",
        ),
        (
            json!({ "columns": ["mesure"] }),
            "columns[0]",
            "the data source has no column mesure. Did you mean measure?",
        ),
        (json!({ "columns": ["measure", "measure"] }), "columns", "measure would be in the answer twice"),
        (json!({ "advancedFilters": {} }), "advancedFilters", "a list is expected"),
        (
            json!({ "advancedFilters": vec![json!({}); 65] }),
            "advancedFilters",
            "a list of at most 64 is expected",
        ),
        (
            json!({ "advancedFilters": [{ "field": "big", "operator": "eq" }] }),
            "advancedFilters[0].value",
            "it is missing; a value, or null is expected",
        ),
        (
            filter("nothing", "eq", json!(1)),
            "advancedFilters[0].field",
            "the data source has no column nothing.",
        ),
        (
            filter("big", "equals", json!(1)),
            "advancedFilters[0].operator",
            "one of eq, neq, gt, gte, lt, lte, in, not_in, like, between is expected",
        ),
        (
            filter("big", "eq", json!([1])),
            "advancedFilters[0].value",
            "one value, not a list, is expected for eq",
        ),
        (filter("big", "in", json!(1)), "advancedFilters[0].value", "a list is expected for in"),
        (filter("big", "in", json!([1, [2]])), "advancedFilters[0].value[1]", LITERAL),
        (filter("big", "eq", json!({ "a": 1 })), "advancedFilters[0].value", LITERAL),
        (filter("big", "eq", json!({ "$bigint": "1e3" })), "advancedFilters[0].value", LITERAL),
        (filter("big", "between", json!([1])), "big", "between takes two values"),
        (filter("big", "eq", json!("one")), "big", "bigint takes a number of up to 38 digits"),
        (filter("measure", "eq", json!(1)), "measure", "text takes a text"),
        (
            filter("metadata", "eq", json!("{}")),
            "metadata",
            "json cannot be compared; use a column of another type",
        ),
        (
            json!({ "groupBy": ["measure"], "columns": ["measure"] }),
            "columns",
            "the columns of an aggregate are those of groupBy and metrics",
        ),
        (
            json!({ "groupBy": [], "metrics": [] }),
            "metrics",
            "at least one metric or one column to group by is expected",
        ),
        (json!({ "groupBy": ["nope"] }), "groupBy[0]", "the data source has no column nope."),
        (
            json!({ "groupBy": [{ "column": "measure", "unit": "month" }] }),
            "measure",
            "only dates and timestamps have units of time",
        ),
        (
            json!({ "groupBy": [{ "column": "date_index", "unit": "fortnight" }] }),
            "groupBy[0].unit",
            "one of day, week, month, quarter, year is expected",
        ),
        (
            json!({ "groupBy": ["measure"], "dateTrunc": "month" }),
            "dateTrunc",
            "a date or timestamp column in groupBy is expected with it",
        ),
        (
            json!({ "groupBy": ["measure"], "metrics": [{ "function": "count", "as": "measure" }] }),
            "metrics",
            "measure would be in the answer twice",
        ),
        (
            json!({ "metrics": [{ "function": "median", "column": "big" }] }),
            "metrics[0].function",
            "one of count, distinct, sum, avg, min, max is expected",
        ),
        (json!({ "metrics": [{ "function": "sum" }] }), "metrics[0].function", "sum needs a column"),
        (
            json!({ "metrics": [{ "function": "sum", "column": "measure" }] }),
            "measure",
            "sum and avg are for numbers",
        ),
        (
            json!({ "metrics": [{ "function": "sum", "column": "big", "as": "" }] }),
            "metrics[0].as",
            "a name is expected",
        ),
        (
            json!({ "metrics": [{ "function": "sum", "column": "bigs" }] }),
            "metrics[0].column",
            "the data source has no column bigs. Did you mean big?",
        ),
    ] {
        assert_eq!(refused(question.clone()), (field.to_owned(), because.to_owned()), "{question}");
    }
    for (json, field) in
        [("", "filters"), ("[]", "filters"), ("{", "filters"), ("{}", "datasourceId"), ("null", "filters")]
    {
        let Err(Refused::Question { field: named, .. }) = Asked::parse(json) else { panic!("{json}") };
        assert_eq!(named, field, "{json}");
    }
    let large = format!("{{\"measure\":\"{}\"}}", "a".repeat(limits::ANALYTICS_QUESTION_BYTES));
    assert!(Asked::parse(&large).is_err());
    let lists = json!([{ "field": "big", "operator": "in", "value": vec![1; 60_000] }, { "field": "big", "operator": "in", "value": vec![1; 60_000] }]);
    assert_eq!(
        refused(json!({ "advancedFilters": lists })).0,
        "advancedFilters[1].value",
        "all lists together are bounded"
    );
}

const LITERAL: &str = "a text, a number, a bigint of up to 38 digits, true, false or null is expected";

#[test]
fn numbers_are_the_digits_that_were_written() {
    let exact = |text: &str| Operand::Exact(Decimal::parse(text).unwrap());
    let digits = "99999999999999999999999999999999999999";
    for (value, operand) in [
        (json!(9_007_199_254_740_991_i64), exact("9007199254740991")),
        (json!(0.1), exact("0.1")),
        (json!({ "$bigint": digits }), exact(digits)),
        (json!({ "$bigint": "-5" }), exact("-5")),
        (json!("12.50"), exact("12.5")),
        (json!(null), Operand::Null),
    ] {
        let made = predicates(json!([{ "field": "measure_value", "operator": "eq", "value": value }]));
        let expected =
            if operand == Operand::Null { Test::Never } else { Test::Compare(Operator::Eq, operand) };
        assert_eq!(made[0].test(), &expected, "{value}");
    }
    // A reader of JSON that is off by one unit in the last place would find no row with this value.
    for float in
        [5e-324, 0.1 + 0.2, 123_456_789.123_456_79, f64::MAX, 9_007_199_254_740_993.0, 1.7976931348623155e308]
    {
        let text = format!(
            r#"{{"datasourceId":1,"advancedFilters":[{{"field":"ratio","operator":"eq","value":{float:e}}}]}}"#
        );
        let made = Asked::parse(&text).unwrap().resolve(&schema()).unwrap().question.predicates;
        assert_eq!(made[0].test(), &Test::Compare(Operator::Eq, Operand::Float(float)), "{float}");
    }
}

#[test]
fn a_day_at_the_end_of_timestamps_is_all_of_it() {
    let day = calendar_day();
    for (end, last) in [
        ("2000-01-02", 2 * day - 1),
        ("2000-01-02T00:00:00Z", day),
        ("2000-01-02T00:00:00.000001Z", day + 1),
        ("infinity", i64::MAX),
    ] {
        for kind in [Type::Timestamp, Type::TimestampTz] {
            let asked = Asked::parse(&with(json!({ "startDate": "2000-01-02", "endDate": end })).to_string())
                .unwrap();
            let question = asked.resolve(&schema_of(kind)).unwrap().question;
            assert_eq!((question.first, question.last), (Some(day), Some(last)), "{end}");
        }
    }
    let beyond = Asked::parse(&with(json!({ "endDate": "999999-01-01" })).to_string()).unwrap();
    assert!(beyond.resolve(&schema_of(Type::Timestamp)).is_err());
    assert!(beyond.resolve(&schema()).is_ok());
}

fn calendar_day() -> i64 {
    crate::analytics::calendar::DAY_US
}

#[test]
fn groups_and_metrics_are_named_and_dates_are_cut() {
    let schema = schema();
    let asked = resolved(&with(json!({
        "groupBy": ["practice_uid", "date_index"],
        "dateTrunc": "month",
        "metrics": [
            { "function": "sum", "column": "measure_value" },
            { "function": "count" },
            { "function": "max", "column": "date_index", "as": "latest" },
        ],
    })))
    .unwrap();
    let by = |name: &str, unit| GroupBy::new(&schema, name, unit).unwrap();
    let metric = |function, column, name| Metric::new(&schema, function, column, name).unwrap();
    let expected = Wanted::Groups {
        by: vec![by("practice_uid", None), by("date_index", Some(Unit::Month))],
        metrics: vec![
            metric(Function::Sum, Some("measure_value"), "sum_measure_value"),
            metric(Function::Count, None, "count"),
            metric(Function::Max, Some("date_index"), "latest"),
        ],
    };
    assert_eq!(asked.wanted, expected);
    let own = resolved(&with(
        json!({ "groupBy": [{ "column": "date_index", "unit": "year" }], "dateTrunc": "month" }),
    ))
    .unwrap();
    assert_eq!(
        own.wanted,
        Wanted::Groups { by: vec![by("date_index", Some(Unit::Year))], metrics: Vec::new() }
    );
}

#[test]
fn the_answer_about_nothing_has_the_columns_of_any_other() {
    let schema = schema();
    let of_nothing = |fields: Value| {
        let table = resolved(&with(fields)).unwrap().wanted.of_nothing(&schema).unwrap();
        let columns: Vec<(String, Type)> =
            table.columns.iter().map(|(name, column)| (name.clone(), column.kind())).collect();
        (table.rows, columns, table)
    };
    let (rows, columns, _) = of_nothing(json!({}));
    assert_eq!(
        (rows, columns),
        (0, schema.fields().iter().map(|field| (field.name.clone(), field.kind)).collect())
    );
    let (rows, columns, _) = of_nothing(json!({ "columns": ["date_index"] }));
    assert_eq!((rows, columns), (0, vec![("date_index".to_owned(), Type::Date)]));
    let sum = json!([{ "function": "sum", "column": "measure_value" }, { "function": "count" }]);
    let (rows, columns, _) = of_nothing(json!({ "groupBy": ["measure"], "metrics": sum }));
    let of_metrics = [("sum_measure_value".to_owned(), Type::Numeric), ("count".to_owned(), Type::BigInt)];
    assert_eq!(rows, 0);
    assert_eq!(columns, [&[("measure".to_owned(), Type::Text)], &of_metrics[..]].concat());
    let (rows, columns, table) = of_nothing(json!({ "metrics": sum }));
    assert_eq!((rows, &columns[..]), (1, &of_metrics[..]));
    let cells: Vec<_> = table.columns.iter().map(|(_, column)| testing::read(column)[0].clone()).collect();
    assert_eq!(cells, [testing::Cell::Null, testing::Cell::Int(0)]);
}

/// JSON that resembles a question: right and wrong things in right and wrong places.
fn hostile() -> impl Strategy<Value = Value> {
    let words = proptest::sample::select(
        FIELDS
            .iter()
            .copied()
            .chain([
                "field",
                "operator",
                "value",
                "kind",
                "practices",
                "providers",
                "rows",
                "all",
                "nothing",
                "$bigint",
                "eq",
                "in",
                "between",
                "like",
                "sum",
                "count",
                "function",
                "column",
                "as",
                "unit",
                "month",
                "measure_value",
                "date_index",
                "2024-01-01",
                "infinity",
                "\u{0}",
                "日本",
            ])
            .collect::<Vec<_>>(),
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((words.clone(), inner), 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_questions_never_panic_and_never_see_more(fields in proptest::collection::vec((proptest::sample::select(FIELDS), hostile()), 0..6)) {
        let mut question = with(json!({ "scope": { "kind": "rows", "practices": [1], "providers": null } }));
        question.as_object_mut().unwrap().extend(
            fields.into_iter().filter(|(name, _)| *name != "scope").map(|(name, value)| (name.to_owned(), value)),
        );
        if let Ok(asked) = Asked::parse(&question.to_string()) {
            prop_assert!(!asked.visible().shows(Some(2), Some(1)) && !asked.visible().shows(None, None));
            if let Ok(resolved) = asked.resolve(&schema()) {
                prop_assert!(resolved.wanted.of_nothing(&schema()).is_ok());
            }
        }
    }

    #[test]
    fn hostile_text_never_panics(value in hostile(), at: prop::sample::Index, byte in any::<char>()) {
        let mut text: Vec<char> = with(json!({ "scope": value })).to_string().chars().collect();
        let at = at.index(text.len());
        text[at] = byte;
        let text: String = text.into_iter().collect();
        let _ = Asked::parse(&text);
        let _ = Asked::parse(&text[..text.char_indices().nth(at).map_or(0, |(at, _)| at)]);
    }

    #[test]
    fn a_scope_that_is_not_understood_is_never_everything(scope in hostile()) {
        let scoped = Asked::parse(&with(json!({ "scope": scope })).to_string());
        let everything = scope.get("kind") == Some(&json!("all"));
        if let Ok(asked) = scoped {
            prop_assert!(everything || asked.visible().lists() != Some((None, None)), "{scope}");
        }
    }
}
