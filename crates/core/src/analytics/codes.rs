//! The distinct values of one column over many frames, numbered as they appear: what groups and counts of distinct values
//! are made of.
//!
//! Each frame is looked at once per distinct value where that is cheaper than once per row.
//!
//! Invariant: two values have one number exactly when SQL calls them equal, and two NULLs have one too.

use std::collections::HashMap;

use super::calendar::{self, Unit};
use super::collect::Collector;
use super::column::{Column, Value};
use super::decimal::Decimal;
use super::refused::Refused;
use super::schema::{Field, Type};

/// A value by which rows are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Null,
    Bool(bool),
    Int(i64),
    Float(u64),
    Decimal(i128, u8),
    Bytes(Box<[u8]>),
}

/// Distinct values of a column, perhaps cut to a unit of time.
pub(super) struct Codes {
    unit: Option<Unit>,
    places: HashMap<Key, u32, ahash::RandomState>,
    keys: Vec<Key>,
}

impl Codes {
    pub(super) fn new(unit: Option<Unit>) -> Self {
        Self { unit, places: HashMap::default(), keys: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_null(&self, code: u32) -> bool {
        self.keys[code as usize] == Key::Null
    }

    /// The number of the value of each of these rows.
    pub(super) fn of(&mut self, column: &Column, rows: &[u32]) -> Vec<u32> {
        let span = column.integers().most().wrapping_sub(column.integers().least()) as u128;
        // With a table of all integers in the range, each distinct one is looked at once.
        if !column.nulls().any() && span <= 4 * rows.len() as u128 + 256 {
            return self.of_range(column, rows, span as usize + 1);
        }
        rows.iter().map(|row| self.place(column.value(*row as usize), column.kind())).collect()
    }

    fn of_range(&mut self, column: &Column, rows: &[u32], range: usize) -> Vec<u32> {
        const UNKNOWN: u32 = u32::MAX;
        let least = column.integers().least();
        let mut table = vec![UNKNOWN; range];
        let mut codes = Vec::with_capacity(rows.len());
        let mut next = rows.iter();
        column.integers().each(rows.iter().copied(), |integer| {
            let row = *next.next().expect("one integer for every row");
            let code = &mut table[integer.wrapping_sub(least) as usize];
            if *code == UNKNOWN {
                *code = self.place(column.value(row as usize), column.kind());
            }
            codes.push(*code);
        });
        codes
    }

    fn place(&mut self, value: Value<'_>, kind: Type) -> u32 {
        let key = match value {
            Value::Null => Key::Null,
            Value::Bool(value) => Key::Bool(value),
            Value::Int(value) => Key::Int(self.unit.map_or(value, |unit| truncate(value, unit, kind))),
            // Zeros are equal, and so are all that are no number.
            Value::Float(0.0) => Key::Float(0.0_f64.to_bits()),
            Value::Float(value) if value.is_nan() => Key::Float(f64::NAN.to_bits()),
            Value::Float(value) => Key::Float(value.to_bits()),
            Value::Decimal(value) => {
                let (mantissa, scale) = value.shortest();
                Key::Decimal(mantissa, scale)
            }
            Value::Bytes(bytes) => Key::Bytes(bytes.into()),
        };
        let next = self.keys.len() as u32;
        *self.places.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            next
        })
    }

    /// The values of these numbers, as a column. `display` says how many digits each shows after the point.
    pub(super) fn column(&self, field: &Field, codes: &[u32], display: &[u16]) -> Result<Column, Refused> {
        let mut collector = Collector::new(&field.name, field.kind);
        for (at, code) in codes.iter().enumerate() {
            match &self.keys[*code as usize] {
                Key::Null => collector.null(),
                Key::Bool(value) => collector.boolean(*value)?,
                Key::Int(value) => collector.integer(*value)?,
                Key::Float(bits) => collector.float(f64::from_bits(*bits))?,
                Key::Decimal(mantissa, scale) => {
                    let value = Decimal::new(*mantissa, *scale, display.get(at).copied().unwrap_or(0));
                    collector.decimal(value.expect("a scale that was read"))?;
                }
                Key::Bytes(bytes) => collector.bytes(bytes),
            }
        }
        collector.finish()
    }
}

fn truncate(value: i64, unit: Unit, kind: Type) -> i64 {
    if kind == Type::Date {
        calendar::truncate_date(value, unit)
    } else {
        calendar::truncate_timestamp(value, unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::testing::{self, Cell};

    #[test]
    fn equal_values_have_one_number_in_all_frames() {
        let texts =
            |list: &[&str]| list.iter().map(|text| Cell::Decimal((*text).to_owned())).collect::<Vec<_>>();
        let mut codes = Codes::new(None);
        let mut of = |cells: &[Cell], kind| {
            let column = testing::column(kind, cells);
            codes.of(&column, &(0..cells.len() as u32).collect::<Vec<_>>())
        };
        assert_eq!(of(&texts(&["1.5", "1.50", "2"]), Type::Numeric), [0, 0, 1]);
        assert_eq!(of(&texts(&["2.000", "7"]), Type::Numeric), [1, 2]);
        assert_eq!(of(&[Cell::Null, Cell::Decimal("2".to_owned()), Cell::Null], Type::Numeric), [3, 1, 3]);
        assert!(codes.is_null(3) && codes.len() == 4);
        let field = Field { name: "v".to_owned(), kind: Type::Numeric };
        let shown = testing::read(&codes.column(&field, &[0, 1, 2, 3], &[2, 0, 1]).unwrap());
        assert_eq!(shown, [texts(&["1.50", "2", "7.0"]), vec![Cell::Null]].concat());

        let floats = [0.0, -0.0, f64::NAN, -f64::NAN, 1.0].map(|value| Cell::Float(value.to_bits()));
        let column = testing::column(Type::Float, &floats);
        assert_eq!(Codes::new(None).of(&column, &[0, 1, 2, 3, 4]), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn dates_are_one_when_their_unit_is() {
        let days = ["2024-01-31", "2024-02-01", "2024-02-29", "infinity"];
        let cells: Vec<Cell> = days.iter().map(|day| Cell::Int(calendar::parse_date(day).unwrap())).collect();
        let column = testing::column(Type::Date, &cells);
        assert_eq!(Codes::new(Some(Unit::Month)).of(&column, &[0, 1, 2, 3]), [0, 1, 1, 2]);
        assert_eq!(
            Codes::new(Some(Unit::Quarter)).of(&column, &[2, 1]),
            [0, 0],
            "only the rows that are asked for"
        );
    }
}
