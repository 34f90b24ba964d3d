//! What conditions look like. What they mean is compared with a server in `server_tests`.

use super::*;
use crate::analytics::{Field, Literal, Roles, Schema, testing};

pub(in crate::source::analytics) fn measures() -> DataSource {
    let fields = [
        ("practice_uid", Type::Int),
        ("provider_uid", Type::BigInt),
        ("measure", Type::Text),
        ("frequency", Type::Text),
        ("at", Type::Date),
        ("value", Type::Numeric),
        ("share", Type::Float),
        ("seen", Type::TimestampTz),
        ("id", Type::Uuid),
        ("open", Type::Bool),
        ("more", Type::Json),
    ];
    let roles =
        Roles { practice: Some(0), provider: Some(1), measure: Some(2), frequency: Some(3), date: Some(4) };
    let fields: Vec<Field> =
        fields.iter().map(|(name, kind)| Field { name: (*name).to_owned(), kind: *kind }).collect();
    let bytewise = vec![true; fields.len()];
    DataSource {
        id: 1,
        name: "Measures".to_owned(),
        table_schema: "ih".to_owned(),
        table: "measures".to_owned(),
        schema: Schema::new(fields, roles).unwrap(),
        bytewise,
    }
}

pub(in crate::source::analytics) fn everything() -> Question {
    Question { visible: testing::visible(None, None), ..Question::nothing() }
}

fn of(question: &Question) -> (String, usize) {
    let (sql, parameters) = conditions(&measures(), question);
    (sql.strip_prefix(" WHERE ").unwrap_or_default().to_owned(), parameters.len())
}

fn text(text: &str) -> Literal {
    Literal::Text(text.to_owned())
}

#[test]
fn scopes_and_roles() {
    assert_eq!(of(&everything()), (String::new(), 0));
    assert_eq!(of(&Question::nothing()).0, "false", "of nothing there is nothing");
    let visible = testing::visible(Some(&[3, 1]), Some(&[0]));
    let question =
        Question { measure: Some("a".into()), first: Some(1), last: Some(2), visible, ..everything() };
    assert_eq!(
        of(&question),
        (
            "\"measure\"::text = $1 AND \"practice_uid\"::int4 = ANY($2) AND \"provider_uid\"::int8 = ANY($3) \
             AND \"at\"::date >= $4 AND \"at\"::date <= $5"
                .to_owned(),
            5
        )
    );
    let mut plain = measures();
    plain.schema = Schema::new(plain.schema.fields().to_vec(), Roles::default()).unwrap();
    let (sql, parameters) = conditions(&plain, &question);
    assert_eq!(
        sql, " WHERE false AND false AND false AND false AND false",
        "a column that is not there is NULL"
    );
    assert!(parameters.is_empty());
    assert_eq!(of(&Question { measure: Some("a\0".into()), ..everything() }).0, "false");
}

#[test]
fn every_operator() {
    let of_column = |column: &str, operator: &str, literals: &[Literal]| {
        let operator = Operator::parse(operator).unwrap();
        let predicate = Predicate::new(&measures().schema, column, operator, literals).unwrap();
        of(&Question { predicates: vec![predicate], ..everything() }).0
    };
    let number = Literal::Number;
    for (column, operator, literals, expected) in [
        ("measure", "eq", vec![text("a")], "\"measure\"::text = $1"),
        ("measure", "neq", vec![text("a")], "\"measure\"::text <> $1"),
        ("measure", "gt", vec![text("a")], "(\"measure\"::text) COLLATE \"C\" > $1"),
        ("measure", "eq", vec![text("a\0b")], "false"),
        ("measure", "neq", vec![text("a\0b")], "\"measure\"::text IS NOT NULL"),
        ("measure", "gte", vec![text("a\0b")], "(\"measure\"::text) COLLATE \"C\" > $1"),
        ("measure", "lt", vec![text("a\0b")], "(\"measure\"::text) COLLATE \"C\" <= $1"),
        ("measure", "in", vec![text("a\0b")], "false"),
        ("measure", "not_in", vec![text("a\0b")], "\"measure\"::text IS NOT NULL"),
        ("measure", "like", vec![text("a%")], "\"measure\"::text LIKE $1"),
        ("measure", "like", vec![text("a\0%")], "false"),
        ("measure", "eq", vec![Literal::Null], "false"),
        ("practice_uid", "in", vec![number(1.0), number(0.5)], "\"practice_uid\"::int4 = ANY($1)"),
        ("practice_uid", "in", vec![number(0.5)], "false"),
        ("practice_uid", "not_in", vec![number(0.5)], "\"practice_uid\"::int4 IS NOT NULL"),
        ("practice_uid", "in", vec![], "false"),
        ("practice_uid", "not_in", vec![], ""),
        ("practice_uid", "not_in", vec![number(1.0), Literal::Null], "false"),
        (
            "value",
            "between",
            vec![number(1.0), number(2.5)],
            "\"value\"::numeric >= $1 AND \"value\"::numeric <= $2",
        ),
        ("share", "lte", vec![number(f64::NAN)], "\"share\"::float8 <= $1"),
        ("seen", "lt", vec![text("2024-01-01")], "\"seen\"::timestamptz < $1"),
        ("id", "eq", vec![text("00000000-0000-0000-0000-000000000000")], "\"id\"::uuid = $1"),
        ("open", "eq", vec![Literal::Bool(true)], "\"open\"::bool = $1"),
        ("more", "not_in", vec![], ""),
    ] {
        assert_eq!(of_column(column, operator, &literals), expected, "{column} {operator} {literals:?}");
    }
}

#[test]
fn texts_whose_equality_is_not_that_of_their_bytes_are_compared_by_bytes() {
    let mut of = measures();
    of.bytewise = vec![false; 11];
    let (sql, _) = conditions(&of, &Question { measure: Some("a".into()), ..everything() });
    assert_eq!(sql, " WHERE (\"measure\"::text) COLLATE \"C\" = $1");
}

#[test]
fn a_value_is_never_part_of_the_text() {
    let hostile = "x'; DROP TABLE users; --";
    let predicate = Predicate::new(&measures().schema, "measure", Operator::Like, &[text(hostile)]).unwrap();
    let question = Question {
        measure: Some(hostile.into()),
        frequency: Some(hostile.into()),
        predicates: vec![predicate],
        ..everything()
    };
    let (sql, parameters) = conditions(&measures(), &question);
    assert!(!sql.contains("DROP"), "{sql}");
    assert_eq!(parameters.len(), 3);
}
