//! The naive side of `properties` asks a real Postgres: the same random tables and questions, as SQL. For tests only; it needs `psql`
//! and a server of which it may be given everything:
//! `BCOS_PSQL='-h /tmp -U postgres' cargo test -p bcos-cache-core --lib analytics::sql -- --ignored`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::properties::{Asked, Row, Source, Summed, schedules, table_rows};
use super::testing::Cell;
use super::*;
use crate::rbac::scope::Scope;

/// Values of which Postgres may show any of several equal ones, or that it cannot store, become one.
fn plain(kind: Type, cell: &mut Cell) {
    match cell {
        Cell::Float(bits) if f64::from_bits(*bits) == 0.0 => *bits = 0,
        Cell::Decimal(text) => {
            let (mantissa, scale) = Decimal::parse(text).unwrap().shortest();
            *text = Decimal::new(mantissa, scale, 0).unwrap().to_string();
        }
        Cell::Bytes(bytes) if kind == Type::Text => bytes.retain(|byte| *byte != 0),
        _ => {}
    }
}

pub(crate) fn sql_type(kind: Type) -> &'static str {
    if kind == Type::Float { "float8" } else { kind.name() }
}

fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}

/// A constant of that type.
pub(crate) fn constant(kind: Type, cell: &Cell) -> String {
    let text = match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Bool(value) => value.to_string(),
        Cell::Float(bits) => format!("'{}'", f64::from_bits(*bits)).replace("inf", "Infinity"),
        Cell::Decimal(text) => text.clone(),
        Cell::Bytes(bytes) if kind == Type::Uuid => {
            format!("'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Cell::Bytes(bytes) => quoted(std::str::from_utf8(bytes).unwrap()),
        Cell::Int(value) => match kind {
            Type::Int | Type::BigInt => format!("'{value}'"),
            _ if i128::from(*value) == kind.integers().0 => "'-infinity'".to_owned(),
            _ if i128::from(*value) == kind.integers().1 => "'infinity'".to_owned(),
            Type::Date => format!("(date '2000-01-01' + {value})"),
            _ => format!("({} '2000-01-01' + {value} * interval '1 microsecond')", kind.name()),
        },
    };
    format!("{text}::{}", sql_type(kind))
}

/// An expression of that type, as the text that `line` makes of it.
fn shown(kind: Type, expression: &str) -> String {
    match kind {
        Type::Float => format!("encode(float8send({expression}), 'hex')"),
        Type::Bool => format!("({expression})::int"),
        Type::Uuid => format!("replace(({expression})::text, '-', '')"),
        Type::Date => format!(
            "CASE WHEN isfinite({expression}) THEN ({expression} - date '2000-01-01')::text ELSE ({expression})::text END"
        ),
        Type::Timestamp | Type::TimestampTz => format!(
            "CASE WHEN isfinite({expression}) THEN ((extract(epoch FROM {expression}) - 946684800) * 1000000)::bigint::text \
             ELSE ({expression})::text END"
        ),
        _ => format!("({expression})::text"),
    }
}

/// A row as COPY writes it.
fn line(kinds: &[Type], row: &Row) -> String {
    let cells = kinds.iter().zip(row).map(|(kind, cell)| match cell {
        Cell::Null => "\\N".to_owned(),
        Cell::Bool(value) => u8::from(*value).to_string(),
        Cell::Float(bits) => format!("{bits:016x}"),
        Cell::Decimal(text) => text.clone(),
        Cell::Bytes(bytes) if *kind == Type::Uuid => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Cell::Bytes(bytes) => std::str::from_utf8(bytes)
            .unwrap()
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('\t', "\\t"),
        Cell::Int(value) if matches!(kind, Type::Date | Type::Timestamp | Type::TimestampTz) => {
            let (first, last) = kind.integers();
            match i128::from(*value) {
                value if value == first => "-infinity".to_owned(),
                value if value == last => "infinity".to_owned(),
                value => value.to_string(),
            }
        }
        Cell::Int(value) => value.to_string(),
    });
    cells.collect::<Vec<_>>().join("\t")
}

fn condition(source: &Source, (at, operator, operands): &(usize, Operator, Vec<Cell>)) -> String {
    let Field { name, kind } = &source.schema.fields()[*at];
    let constants: Vec<String> = operands.iter().map(|cell| constant(*kind, cell)).collect();
    let list = || format!("ARRAY[{}]::{}[]", constants.join(", "), sql_type(*kind));
    match operator {
        Operator::Eq => format!("{name} = {}", constants[0]),
        Operator::Neq => format!("{name} <> {}", constants[0]),
        Operator::Gt => format!("{name} > {}", constants[0]),
        Operator::Gte => format!("{name} >= {}", constants[0]),
        Operator::Lt => format!("{name} < {}", constants[0]),
        Operator::Lte => format!("{name} <= {}", constants[0]),
        // Without equality for its type, only the empty list makes sense.
        Operator::In if *kind == Type::Json => "false".to_owned(),
        Operator::NotIn if *kind == Type::Json => "true".to_owned(),
        Operator::In => format!("{name} = ANY({})", list()),
        Operator::NotIn => format!("{name} <> ALL({})", list()),
        Operator::Like => format!("{name} LIKE {}", constants[0]),
        Operator::Between => format!("{name} BETWEEN {} AND {}", constants[0], constants[1]),
    }
}

fn wheres(source: &Source, asked: &Asked) -> String {
    let schema = &source.schema;
    let roles = schema.roles();
    let mut conditions = vec!["true".to_owned()];
    let name =
        |role: Option<usize>| role.map_or("NULL::bigint".to_owned(), |at| schema.fields()[at].name.clone());
    for (text, role) in
        [(&asked.question.measure, roles.measure), (&asked.question.frequency, roles.frequency)]
    {
        conditions.extend(text.as_ref().map(|text| format!("{} = {}", name(role), quoted(text))));
    }
    let mut among =
        |role, ids: &[i64]| conditions.push(format!("{} = ANY(ARRAY{ids:?}::bigint[])", name(role)));
    match &asked.scope {
        Scope::Nothing => among(None, &[]),
        Scope::All(_) => {}
        Scope::Rows(rows) => {
            among(roles.practice, rows.practices());
            rows.providers().into_iter().for_each(|ids| among(roles.provider, ids));
        }
    }
    asked.practices.iter().for_each(|ids| among(roles.practice, ids));
    asked.providers.iter().for_each(|ids| among(roles.provider, ids));
    if let Some(at) = roles.date {
        let Field { name, kind } = &schema.fields()[at];
        for (bound, sign) in [(asked.question.first, ">="), (asked.question.last, "<=")] {
            conditions
                .extend(bound.map(|bound| format!("{name} {sign} {}", constant(*kind, &Cell::Int(bound)))));
        }
    }
    conditions.extend(asked.conditions.iter().map(|asked| condition(source, asked)));
    conditions.join(" AND ")
}

fn rows_sql(source: &Source, asked: &Asked) -> String {
    let fields = source.schema.fields();
    let columns: Vec<String> = fields.iter().map(|field| shown(field.kind, &field.name)).collect();
    let order = source.schema.order().into_iter().map(|at| match fields[at].kind {
        Type::Json => format!("{}::text", fields[at].name),
        _ => fields[at].name.clone(),
    });
    let order: Vec<String> = order.collect();
    format!(
        "SELECT {} FROM t WHERE {} ORDER BY {}",
        columns.join(", "),
        wheres(source, asked),
        order.join(", ")
    )
}

/// The statement, and the types of its columns.
fn groups_sql(source: &Source, asked: &Asked, summed: &Summed) -> (String, Vec<Type>) {
    let fields = source.schema.fields();
    let (mut keys, mut columns, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for (at, unit) in &summed.group_by {
        let Field { name, kind } = &fields[*at];
        let word = unit.map(|unit| Unit::ALL.iter().find(|(known, _)| *known == unit).unwrap().1);
        let key = match (word, kind) {
            (None, _) => name.clone(),
            (Some(word), Type::Date) => format!("date_trunc('{word}', {name}::timestamp)::date"),
            (Some(word), _) => format!("date_trunc('{word}', {name})"),
        };
        columns.push(shown(*kind, &key));
        keys.push(key);
        kinds.push(*kind);
    }
    for (function, at) in &summed.metrics {
        let field = at.map(|at| &fields[at]);
        let name = field.map_or("*", |field| &field.name);
        let metric =
            Metric::new(&source.schema, *function, field.map(|field| field.name.as_str()), "m").unwrap();
        let call = match function {
            Function::Distinct => format!("count(DISTINCT {name})"),
            other => format!("{}({name})", Function::ALL.iter().find(|(known, _)| known == other).unwrap().1),
        };
        columns.push(shown(metric.kind(), &call));
        kinds.push(metric.kind());
    }
    let mut sql = format!("SELECT {} FROM t WHERE {}", columns.join(", "), wheres(source, asked));
    if !keys.is_empty() {
        write!(sql, " GROUP BY {0} ORDER BY {0}", keys.join(", ")).unwrap();
    }
    (sql, kinds)
}

/// The script, and what it must print.
fn scripts(tables: u64) -> (String, String) {
    let mut script = "SET timezone = 'UTC';\n".to_owned();
    let mut expected = String::new();
    for seed in 0..tables {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5c1);
        let mut source = Source::random(&mut rng);
        let fields = source.schema.fields();
        let kinds: Vec<Type> = fields.iter().map(|field| field.kind).collect();
        for row in &mut source.rows {
            kinds.iter().zip(row).for_each(|(kind, cell)| plain(*kind, cell));
        }
        let columns: Vec<String> =
            fields.iter().map(|field| format!("{} {}", field.name, sql_type(field.kind))).collect();
        writeln!(script, "BEGIN; CREATE TEMP TABLE t ({}) ON COMMIT DROP;", columns.join(", ")).unwrap();
        for row in &source.rows {
            let cells: Vec<String> =
                kinds.iter().zip(row).map(|(kind, cell)| constant(*kind, cell)).collect();
            writeln!(script, "INSERT INTO t VALUES ({});", cells.join(", ")).unwrap();
        }
        let built = source.build(&source.rows, &mut rng);
        let (manifest, frames) = built.read();
        for number in 0..4 {
            let asked = Asked::random(&source, &mut rng);
            let unspeakable = |(at, _, operands): &(usize, Operator, Vec<Cell>)| {
                kinds[*at] == Type::Text && operands.contains(&Cell::Bytes(b"a\0b".to_vec()))
            };
            if asked.conditions.iter().any(unspeakable) {
                continue;
            }
            let plan = manifest.plan(&asked.question).unwrap();
            let planned = properties::planned(&plan, &frames);
            let table = rows(&manifest, &asked.question, &plan, &planned, None).unwrap();
            writeln!(script, "\\echo rows {seed} {number}\nCOPY ({}) TO STDOUT;", rows_sql(&source, &asked))
                .unwrap();
            writeln!(expected, "rows {seed} {number}").unwrap();
            table_rows(&table).iter().for_each(|row| writeln!(expected, "{}", line(&kinds, row)).unwrap());

            let mut summed = Summed::random(&source, &mut rng);
            summed.group_by.dedup_by_key(|by| by.0);
            let Ok(table) = summed.actual(&built, &asked.question, &frames) else { continue };
            let (sql, kinds) = groups_sql(&source, &asked, &summed);
            writeln!(script, "\\echo groups {seed} {number}\nCOPY ({sql}) TO STDOUT;").unwrap();
            writeln!(expected, "groups {seed} {number}").unwrap();
            table_rows(&table).iter().for_each(|row| writeln!(expected, "{}", line(&kinds, row)).unwrap());
        }
        script.push_str("COMMIT;\n");
    }
    (script, expected)
}

#[test]
#[ignore = "it needs a Postgres server"]
fn every_answer_is_that_of_postgres() {
    let arguments = std::env::var("BCOS_PSQL").expect("BCOS_PSQL holds the arguments of psql");
    let (script, expected) = scripts(schedules(10));
    let mut psql = Command::new("psql")
        .args(arguments.split_whitespace())
        .args(["-q", "-X", "-v", "ON_ERROR_STOP=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql can be started");
    let mut input = psql.stdin.take().expect("it was piped");
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = psql.wait_with_output().expect("psql ends");
    writer.join().expect("no panic").expect("psql reads all of it");
    let got = String::from_utf8(output.stdout).expect("the server speaks UTF-8");
    let mut question = "";
    for (got, expected) in got.lines().zip(expected.lines()) {
        if expected.starts_with("rows ") || expected.starts_with("groups ") {
            question = expected;
        }
        assert_eq!(got, expected, "in the answer to {question}");
    }
    assert_eq!(got.lines().count(), expected.lines().count());
}
