//! The values a question compares with, read as the type of their column: as Postgres reads a parameter of that type.
//!
//! Invariant: a literal that is not a value of the type is refused, never converted into one that compares differently.

use super::calendar;
use super::decimal::Decimal;
use super::refused::Refused;
use super::schema::{Field, Type};

/// A value as it was typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// SQL's NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// A JavaScript number: for exact columns the shortest decimal that means it.
    Number(f64),
    /// A whole number of up to 38 digits.
    Whole(i128),
    /// Text: for every type but json.
    Text(String),
}

/// A value as the column keeps it.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// NULL: no comparison with it is true.
    Null,
    /// For integers, exact numbers, booleans (0 and 1), dates and timestamps (days, microseconds since 2000-01-01).
    Exact(Decimal),
    /// For floats.
    Float(f64),
    /// For texts and UUIDs.
    Bytes(Vec<u8>),
}

impl Operand {
    /// Reads `literal` for a column.
    pub fn read(field: &Field, literal: &Literal) -> Result<Self, Refused> {
        if *literal == Literal::Null {
            return Ok(Operand::Null);
        }
        let (read, accepted) = match field.kind {
            Type::Int | Type::BigInt | Type::Numeric => {
                (exact(literal).map(Operand::Exact), "a number of up to 38 digits")
            }
            Type::Float => (float(literal).map(Operand::Float), "a number"),
            Type::Text => (text(literal).map(|text| Operand::Bytes(text.as_bytes().to_vec())), "a text"),
            Type::Bool => (boolean(literal).map(|is| whole(is.into())), "true or false"),
            Type::Date => (text(literal).and_then(calendar::parse_date).map(whole), "a date as YYYY-MM-DD"),
            Type::Timestamp | Type::TimestampTz => {
                let zoned = field.kind == Type::TimestampTz;
                let at = text(literal).and_then(|text| calendar::parse_timestamp(text, zoned));
                (at.map(whole), "a timestamp as YYYY-MM-DDTHH:MM:SSZ")
            }
            Type::Uuid => (text(literal).and_then(uuid).map(Operand::Bytes), "a UUID"),
            Type::Json => (None, "json cannot be compared; use a column of another type"),
        };
        read.ok_or_else(|| Refused::question(&field.name, format!("{} takes {accepted}", field.kind.name())))
    }
}

fn whole(value: i64) -> Operand {
    Operand::Exact(Decimal::whole(value.into()))
}

fn text(literal: &Literal) -> Option<&str> {
    match literal {
        Literal::Text(text) => Some(text),
        _ => None,
    }
}

fn exact(literal: &Literal) -> Option<Decimal> {
    match literal {
        Literal::Number(number) if number.is_finite() => Decimal::parse(&number.to_string()),
        Literal::Whole(whole) => Some(Decimal::whole(*whole)),
        Literal::Text(text) => Decimal::parse(text.trim()),
        _ => None,
    }
}

fn float(literal: &Literal) -> Option<f64> {
    match literal {
        Literal::Number(number) => Some(*number),
        Literal::Whole(whole) => Some(*whole as f64),
        Literal::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn boolean(literal: &Literal) -> Option<bool> {
    match literal {
        Literal::Bool(is) => Some(*is),
        Literal::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn uuid(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    let plain = bytes.len() == 36 && hyphens.iter().all(|at| bytes[*at] == b'-');
    let digits: Vec<u32> = bytes
        .iter()
        .enumerate()
        .filter(|(at, _)| bytes.len() == 32 || !hyphens.contains(at))
        .map(|(_, digit)| char::from(*digit).to_digit(16))
        .collect::<Option<_>>()?;
    (plain || bytes.len() == 32)
        .then(|| digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;

    fn read(kind: Type, literal: Literal) -> Result<Operand, Refused> {
        Operand::read(&Field { name: "c".to_owned(), kind }, &literal)
    }

    fn typed(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    #[test]
    fn a_literal_is_read_as_the_type_of_its_column() {
        let exact = |text: &str| Operand::Exact(Decimal::parse(text).unwrap());
        for (kind, literal, expected) in [
            (Type::Int, Literal::Number(3.0), exact("3")),
            (Type::Int, Literal::Number(0.5), exact("0.5")),
            (Type::BigInt, Literal::Whole(i64::MAX.into()), exact("9223372036854775807")),
            (Type::BigInt, typed("9223372036854775808"), exact("9223372036854775808")),
            (Type::Numeric, Literal::Number(0.1), exact("0.1")),
            (Type::Numeric, typed(" 12.50 "), exact("12.5")),
            (Type::Float, typed("1e-3"), Operand::Float(0.001)),
            (Type::Bool, Literal::Bool(true), exact("1")),
            (Type::Bool, typed("F"), exact("0")),
            (Type::Date, typed("2000-01-02"), exact("1")),
            (Type::TimestampTz, typed("2000-01-01T01:00+01:00"), exact("0")),
            (Type::Timestamp, typed("2000-01-01T01:00+01:00"), exact("3600000000")),
            (Type::Text, typed("a"), Operand::Bytes(b"a".to_vec())),
            (
                Type::Uuid,
                typed("00112233-4455-6677-8899-AABBCCDDEEFF"),
                Operand::Bytes(vec![
                    0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
                    0xff,
                ]),
            ),
            (Type::Json, Literal::Null, Operand::Null),
        ] {
            assert_eq!(read(kind, literal.clone()), Ok(expected), "{kind:?} {literal:?}");
        }
    }

    #[test]
    fn what_is_no_value_of_the_type_is_refused_with_the_field_and_the_fix() {
        for (kind, literal) in [
            (Type::Int, Literal::Number(f64::NAN)),
            (Type::Int, Literal::Number(1e300)),
            (Type::Int, Literal::Bool(true)),
            (Type::Numeric, typed("12,5")),
            (Type::Float, typed("one")),
            (Type::Text, Literal::Number(1.0)),
            (Type::Bool, Literal::Number(1.0)),
            (Type::Date, Literal::Number(0.0)),
            (Type::Date, typed("2024-02-30")),
            (Type::Timestamp, typed("today")),
            (Type::Uuid, typed("00112233445566778899aabbccddeefg")),
            (Type::Uuid, typed("0011-22334455-6677-8899-aabbccddeeff")),
            (Type::Json, typed("{}")),
        ] {
            assert!(read(kind, literal.clone()).is_err(), "{kind:?} {literal:?}");
        }
        let error: Error = read(Type::Date, typed("soon")).unwrap_err().into();
        assert_eq!(&*error.message, "c is not accepted: date takes a date as YYYY-MM-DD");
    }
}
