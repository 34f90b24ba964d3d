//! Random values of every type, as plain rows that any test can compare with. For tests only.

use super::collect::Collector;
use super::column::{Column, Value};
use super::decimal::Decimal;
use super::schema::Type;
use super::scope::Visible;
use crate::rbac::scope::Scopes;

/// One value, equal only if it is shown the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cell {
    Bool(bool),
    Int(i64),
    Float(u64),
    Decimal(String),
    Bytes(Vec<u8>),
    Null,
}

pub(crate) const KINDS: [Type; 11] = [
    Type::Int,
    Type::BigInt,
    Type::Float,
    Type::Numeric,
    Type::Text,
    Type::Bool,
    Type::Date,
    Type::Timestamp,
    Type::TimestampTz,
    Type::Uuid,
    Type::Json,
];

const TEXTS: [&str; 16] = [
    "",
    "a",
    "A",
    "b",
    "ab",
    "a|b",
    "a:b",
    "*",
    "a\nb",
    "50%",
    "under_score",
    "back\\slash",
    "é",
    "日本",
    "e\u{301}",
    "a\0b",
];

const FLOATS: [f64; 10] =
    [0.0, -0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 0.1];

const DECIMALS: [&str; 12] = [
    "0",
    "0.00",
    "1.5",
    "1.50",
    "-1.5",
    "100",
    "9223372036854775807.999999999999999999",
    "-9223372036854775808.999999999999999999",
    "0.000000000000000001",
    "33.3333333333333333",
    "9223372036854775807",
    "-0.01",
];

/// A value of `kind`; now and then a repeated, an extreme or no value at all.
pub(crate) fn cell(kind: Type, rng: &mut fastrand::Rng) -> Cell {
    if rng.u8(..8) == 0 {
        return Cell::Null;
    }
    let extreme = rng.u8(..20) == 0;
    let ends = |rng: &mut fastrand::Rng, (least, most): (i128, i128)| {
        if rng.bool() { least as i64 } else { most as i64 }
    };
    match kind {
        Type::Int | Type::BigInt if extreme => Cell::Int(ends(rng, kind.integers())),
        Type::Int => Cell::Int(rng.i64(-3..6)),
        Type::BigInt => Cell::Int(if rng.bool() { rng.i64(-2..3) } else { rng.i64(..) }),
        Type::Float if rng.bool() => Cell::Float(rng.choice(FLOATS).unwrap_or(0.0).to_bits()),
        Type::Float => Cell::Float((f64::from(rng.i32(-300..300)) / 100.0).to_bits()),
        Type::Numeric if rng.u8(..3) == 0 => Cell::Decimal(rng.choice(DECIMALS).unwrap_or("0").to_owned()),
        Type::Numeric => Cell::Decimal(Decimal::new(rng.i128(-500..500), 2, 2).unwrap().to_string()),
        Type::Text => Cell::Bytes(rng.choice(TEXTS).unwrap_or("").as_bytes().to_vec()),
        Type::Bool => Cell::Bool(rng.bool()),
        Type::Date | Type::Timestamp | Type::TimestampTz if extreme => Cell::Int(ends(rng, kind.integers())),
        Type::Date => Cell::Int(rng.i64(8_700..8_830)),
        Type::Timestamp | Type::TimestampTz => {
            Cell::Int(rng.i64(8_700..8_720) * 86_400_000_000 + rng.i64(0..3) * 1_000_001)
        }
        Type::Uuid => Cell::Bytes(vec![rng.u8(..4); 16]),
        Type::Json => Cell::Bytes(format!("{{\"a\": {}}}", rng.u8(..4)).into_bytes()),
    }
}

pub(crate) fn cells(kind: Type, rows: usize, seed: u64) -> Vec<Cell> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..rows).map(|_| cell(kind, &mut rng)).collect()
}

pub(crate) fn push(collector: &mut Collector, kind: Type, cell: &Cell) {
    match cell {
        Cell::Null => {
            collector.null();
            Ok(())
        }
        Cell::Bool(value) => collector.boolean(*value),
        Cell::Int(value) => collector.integer(*value),
        Cell::Float(bits) => collector.float(f64::from_bits(*bits)),
        Cell::Decimal(text) => collector.decimal(Decimal::parse(text).unwrap()),
        Cell::Bytes(bytes) if kind == Type::Uuid => collector.uuid(bytes[..].try_into().unwrap()),
        Cell::Bytes(bytes) => collector.text(std::str::from_utf8(bytes).unwrap()),
    }
    .expect("a value of its type");
}

pub(crate) fn column(kind: Type, cells: &[Cell]) -> Column {
    let mut collector = Collector::new("c", kind);
    for cell in cells {
        push(&mut collector, kind, cell);
    }
    collector.finish().expect("values that fit")
}

pub(crate) fn shown(value: Value<'_>) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(value),
        Value::Int(value) => Cell::Int(value),
        Value::Float(value) => Cell::Float(value.to_bits()),
        Value::Decimal(value) => Cell::Decimal(value.to_string()),
        Value::Bytes(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

pub(crate) fn read(column: &Column) -> Vec<Cell> {
    (0..column.rows()).map(|row| shown(column.value(row))).collect()
}

/// Everything, narrowed to these.
pub(crate) fn visible(practices: Option<&[i64]>, providers: Option<&[i64]>) -> Visible {
    let scope = Scopes::new(true, Vec::new(), None, std::iter::empty()).of("analytics:read");
    Visible::of(&scope, practices, providers)
}
