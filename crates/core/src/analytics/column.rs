//! One column of some rows: packed integers, which rows are NULL, and what turns an integer into a value: nothing, a
//! dictionary, or a scale.
//!
//! Invariant: equal values give equal bytes, wherever they were before. A row that is NULL has the smallest integer
//! of the column, a dictionary holds what is used, a scale is no larger than some value needs.

use std::cmp::Ordering;

use super::decimal::{self, Decimal, SCALE_MOST};
use super::dictionary::Dictionary;
use super::nulls::Nulls;
use super::packed::Packed;
use super::refused::Refused;
use super::schema::Type;
use super::wire::Reader;

/// One column of some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    kind: Type,
    nulls: Nulls,
    integers: Packed,
    form: Form,
}

/// What the integers of a column stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Themselves: numbers, days, microseconds, 0 and 1, the bits of a float.
    Plain,
    /// Places in a dictionary.
    Dictionary(Dictionary),
    /// Mantissas.
    Decimal {
        /// Over `10^scale`.
        scale: u8,
        /// Digits after the point that Postgres would show, for each row.
        display: Packed,
    },
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// A number, days or microseconds.
    Int(i64),
    /// A double.
    Float(f64),
    /// An exact number.
    Decimal(Decimal),
    /// A text, JSON, or the 16 bytes of a UUID.
    Bytes(&'a [u8]),
}

/// A row of one of several columns: which column, which row.
pub(super) type Pick = (u32, u32);

/// How Postgres orders doubles: NaN equals itself and is above all others, zeros are equal.
pub(super) fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Column {
    /// A column of numbers, dates, timestamps, booleans or bits of floats. What stands in the place of a NULL does not
    /// matter.
    pub(super) fn plain(kind: Type, integers: Packed, nulls: Nulls) -> Self {
        Self { kind, integers: integers.settle(&nulls), nulls, form: Form::Plain }
    }

    /// A column of codes. Every entry of the dictionary must be used.
    pub(super) fn coded(kind: Type, codes: Vec<u32>, nulls: Nulls, dictionary: Dictionary) -> Self {
        Self { kind, integers: Packed::pack_codes(codes, &nulls), nulls, form: Form::Dictionary(dictionary) }
    }

    /// A column of mantissas at `scale`, which is made as small as it can be.
    pub(super) fn decimals(integers: Packed, mut scale: u8, display: Packed, nulls: Nulls) -> Self {
        let mut integers = integers.settle(&nulls);
        while scale > 0
            && let Some(tenth) = integers.tenth()
        {
            (integers, scale) = (tenth, scale - 1);
        }
        let form = Form::Decimal { scale, display: display.settle(&nulls) };
        Self { kind: Type::Numeric, integers, nulls, form }
    }

    /// A column without rows.
    pub(super) fn empty(kind: Type) -> Self {
        match kind {
            Type::Numeric => Self::decimals(Packed::pack(&[]), 0, Packed::pack(&[]), Nulls::default()),
            _ if kind.has_dictionary() => {
                Self::coded(kind, Vec::new(), Nulls::default(), Dictionary::default())
            }
            _ => Self::plain(kind, Packed::pack(&[]), Nulls::default()),
        }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.integers.rows()
    }

    /// The type of its values.
    pub fn kind(&self) -> Type {
        self.kind
    }

    /// Which rows are NULL.
    pub fn nulls(&self) -> &Nulls {
        &self.nulls
    }

    /// The integers of all rows. That of a NULL means nothing.
    pub fn integers(&self) -> &Packed {
        &self.integers
    }

    /// What the integers stand for.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Bytes in memory.
    pub fn size(&self) -> usize {
        let form = match &self.form {
            Form::Plain => 0,
            Form::Dictionary(dictionary) => dictionary.size(),
            Form::Decimal { display, .. } => display.size(),
        };
        self.nulls.size() + self.integers.size() + form
    }

    /// The integer of a row of a plain column; `None` when it is NULL.
    pub fn integer(&self, row: usize) -> Option<i64> {
        // Whatever is plain and not a float fits: decoding checks it.
        (!self.nulls.at(row)).then(|| self.integers.at(row) as i64)
    }

    /// The value of a row.
    pub fn value(&self, row: usize) -> Value<'_> {
        if self.nulls.at(row) {
            return Value::Null;
        }
        let integer = self.integers.at(row);
        match (&self.form, self.kind) {
            (Form::Dictionary(dictionary), _) => Value::Bytes(dictionary.at(integer as usize)),
            (Form::Decimal { scale, display }, _) => Value::Decimal(
                Decimal::new(integer, *scale, display.at(row) as u16)
                    .expect("a scale is checked when it is read"),
            ),
            (Form::Plain, Type::Float) => Value::Float(f64::from_bits(integer as u64)),
            (Form::Plain, Type::Bool) => Value::Bool(integer != 0),
            (Form::Plain, _) => Value::Int(integer as i64),
        }
    }

    /// Orders two rows of this column, NULLs last, and tells all values apart: equal numbers by the zeros they show,
    /// floats that SQL calls equal by their bits.
    pub(super) fn compare(&self, a: usize, b: usize) -> Ordering {
        match (self.nulls.at(a), self.nulls.at(b)) {
            (false, false) => {}
            (a, b) => return a.cmp(&b),
        }
        let (left, right) = (self.integers.at(a), self.integers.at(b));
        match &self.form {
            Form::Plain if self.kind == Type::Float => {
                let floats = compare_floats(f64::from_bits(left as u64), f64::from_bits(right as u64));
                floats.then(left.cmp(&right))
            }
            Form::Decimal { display, .. } => left.cmp(&right).then(display.at(a).cmp(&display.at(b))),
            Form::Plain | Form::Dictionary(_) => left.cmp(&right),
        }
    }

    /// These rows of these columns, all of one type, in this order. `None` when decimals so far apart meet that 38 digits do
    /// not hold both.
    pub(super) fn gather(kind: Type, parts: &[&Column], picks: &[Pick]) -> Option<Self> {
        if parts.is_empty() || picks.is_empty() {
            return Some(Self::empty(kind));
        }
        let nulls = if parts.iter().any(|part| part.nulls.any()) {
            Nulls::collect(picks.len(), |at| parts[picks[at].0 as usize].nulls.at(picks[at].1 as usize))
        } else {
            Nulls::default()
        };
        if kind.has_dictionary() {
            let (codes, dictionary) = recode(parts, picks, &nulls);
            return Some(Self::coded(kind, codes, nulls, dictionary));
        }
        if kind == Type::Numeric {
            let (integers, scale, display) = rescale(parts, picks, &nulls)?;
            return Some(Self::decimals(integers, scale, display, nulls));
        }
        let integers: Vec<&Packed> = parts.iter().map(|part| &part.integers).collect();
        Some(Self::plain(kind, Packed::gather(&integers, picks), nulls))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.kind.encode(out);
        self.nulls.encode(out);
        match &self.form {
            Form::Plain => {}
            Form::Dictionary(dictionary) => dictionary.encode(out),
            Form::Decimal { scale, display } => {
                out.push(*scale);
                display.encode(out);
            }
        }
        self.integers.encode(out);
    }

    /// Reads a column that must be of this type.
    pub(super) fn decode(reader: &mut Reader<'_>, kind: Type, rows: usize) -> Result<Self, Refused> {
        if Type::decode(reader)? != kind {
            return Err(Refused::Corrupt("a column of another type"));
        }
        let nulls = Nulls::decode(reader, rows)?;
        let mut range = kind.integers();
        let form = if kind.has_dictionary() {
            let dictionary = Dictionary::decode(reader, |entry| fits(kind, entry))?;
            range.1 = (dictionary.len() as i128 - 1).max(0);
            if dictionary.is_empty() && nulls.count() < rows {
                return Err(Refused::Corrupt("codes without a dictionary"));
            }
            Form::Dictionary(dictionary)
        } else if kind == Type::Numeric {
            let scale = reader.byte()?;
            let display = Packed::decode(reader, rows)?;
            if scale > SCALE_MOST || display.least() < 0 || display.most() > u16::MAX.into() {
                return Err(Refused::Corrupt("a scale that is none"));
            }
            Form::Decimal { scale, display }
        } else {
            Form::Plain
        };
        let integers = Packed::decode(reader, rows)?;
        if rows > 0 && (integers.least() < range.0 || integers.most() > range.1) {
            return Err(Refused::Corrupt("values beyond their type"));
        }
        Ok(Self { kind, nulls, integers, form })
    }
}

/// Whether these bytes are a value of that type.
fn fits(kind: Type, entry: &[u8]) -> bool {
    if kind == Type::Uuid { entry.len() == 16 } else { std::str::from_utf8(entry).is_ok() }
}

/// Codes of the picks in one dictionary that holds what is picked.
fn recode(parts: &[&Column], picks: &[Pick], nulls: &Nulls) -> (Vec<u32>, Dictionary) {
    let mut used: Vec<(&Dictionary, Vec<bool>)> = parts
        .iter()
        .map(|part| match &part.form {
            Form::Dictionary(dictionary) => (dictionary, vec![false; dictionary.len()]),
            _ => unreachable!("columns of one type have one form"),
        })
        .collect();
    each_code(parts, picks, nulls, |part, code| {
        if let Some(code) = code {
            used[part].1[code] = true;
        }
    });
    let (dictionary, places) = Dictionary::merge(&used);
    let mut codes = Vec::with_capacity(picks.len());
    each_code(parts, picks, nulls, |part, code| codes.push(code.map_or(0, |code| places[part][code])));
    (codes, dictionary)
}

/// The part of each pick and its code there; `None` for NULL.
fn each_code(parts: &[&Column], picks: &[Pick], nulls: &Nulls, mut take: impl FnMut(usize, Option<usize>)) {
    let mut at = 0;
    for run in picks.chunk_by(|a, b| a.0 == b.0) {
        let part = run[0].0 as usize;
        parts[part].integers.each(run.iter().map(|pick| pick.1), |code| {
            take(part, (!nulls.at(at)).then_some(code as usize));
            at += 1;
        });
    }
}

/// Mantissas of the picks at one scale, and the digits that each shows.
fn rescale(parts: &[&Column], picks: &[Pick], nulls: &Nulls) -> Option<(Packed, u8, Packed)> {
    let decimals: Vec<(u8, &Packed)> = parts
        .iter()
        .map(|part| match &part.form {
            Form::Decimal { scale, display } => (*scale, display),
            _ => unreachable!("columns of one type have one form"),
        })
        .collect();
    let displays: Vec<&Packed> = decimals.iter().map(|(_, display)| *display).collect();
    let display = Packed::gather(&displays, picks);
    let scale = decimals.iter().map(|(scale, _)| *scale).max().unwrap_or(0);
    if decimals.iter().all(|(own, _)| *own == scale) {
        let integers: Vec<&Packed> = parts.iter().map(|part| &part.integers).collect();
        return Some((Packed::gather(&integers, picks), scale, display));
    }
    let mut values = Vec::with_capacity(picks.len());
    for (at, (part, row)) in picks.iter().enumerate() {
        let part = *part as usize;
        let wider =
            || parts[part].integers.at(*row as usize).checked_mul(decimal::ten(scale - decimals[part].0));
        values.push(if nulls.at(at) { 0 } else { wider()? });
    }
    Some((Packed::pack(&values), scale, display))
}

/// Why decimals are refused that each fit.
pub(super) const FAR_APART: &str = "38 digits hold the smallest and the largest number of a measure";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::collect::Collector;
    use crate::analytics::testing;
    use proptest::prelude::*;

    fn encoded(column: &Column) -> Vec<u8> {
        let mut out = Vec::new();
        column.encode(&mut out);
        out
    }

    fn kinds() -> impl Strategy<Value = Type> {
        proptest::sample::select(testing::KINDS.to_vec())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_equal_values_have_equal_bytes(kind in kinds(), seed: u64, rows in 0..60_usize) {
            let cells = testing::cells(kind, rows, seed);
            let column = testing::column(kind, &cells);
            let bytes = encoded(&column);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Column::decode(&mut reader, kind, rows), Ok(column.clone()));
            prop_assert_eq!(reader.end(), Ok(()));
            prop_assert_eq!(testing::read(&column), cells.clone());

            // The same values by a detour: spread over two columns with others, and gathered.
            let others = testing::cells(kind, 40, seed ^ 1);
            let (mut even, mut odd) = (others.clone(), Vec::new());
            let mut picks = Vec::new();
            for (at, cell) in cells.iter().enumerate() {
                let part: &mut Vec<_> = if at % 3 == 0 { &mut odd } else { &mut even };
                part.push(cell.clone());
                picks.push((u32::from(at % 3 == 0), part.len() as u32 - 1));
            }
            odd.extend(others);
            let (even, odd) = (testing::column(kind, &even), testing::column(kind, &odd));
            prop_assert_eq!(encoded(&Column::gather(kind, &[&even, &odd], &picks).unwrap()), bytes);
        }

        #[test]
        fn orders_all_values_apart(kind in kinds(), seed: u64) {
            let cells = testing::cells(kind, 30, seed);
            let column = testing::column(kind, &cells);
            for a in 0..cells.len() {
                for b in 0..cells.len() {
                    prop_assert_eq!(column.compare(a, b), column.compare(b, a).reverse());
                    prop_assert_eq!(column.compare(a, b) == Ordering::Equal, cells[a] == cells[b], "{:?}", (&cells[a], &cells[b]));
                }
            }
        }

        #[test]
        fn hostile_bytes_never_panic(kind in kinds(), seed: u64, rows in 0..20_usize, at: prop::sample::Index, byte: u8, declared in 0..22_usize) {
            let mut bytes = encoded(&testing::column(kind, &testing::cells(kind, rows, seed)));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(column) = Column::decode(&mut Reader::new(&bytes), kind, declared) {
                let _ = testing::read(&column);
                prop_assert!(column.size() <= 5 * bytes.len());
            }
        }
    }

    #[test]
    fn decimals_widen_and_refuse_but_never_round() {
        let column = |texts: &[&str]| {
            let mut collector = Collector::new("v", Type::Numeric);
            for text in texts {
                collector.decimal(Decimal::parse(text).unwrap())?;
            }
            collector.finish()
        };
        let money = column(&["1.50", "2.00", "300"]).unwrap();
        assert!(matches!(money.form(), Form::Decimal { scale: 1, .. }), "{:?}", money.form());
        let wide = column(&["99999999999999999999.5", "0.000000000001"]).unwrap();
        assert!(wide.integers().most() > i64::MAX.into());
        let shown: Vec<String> = (0..2)
            .map(|row| match wide.value(row) {
                Value::Decimal(decimal) => decimal.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, ["99999999999999999999.5", "0.000000000001"]);
        assert_eq!(column(&["1e30", "1e-20"]), Err(Refused::value("v", FAR_APART)));

        let (large, small) = (column(&["1e30"]).unwrap(), column(&["1e-20"]).unwrap());
        assert_eq!(Column::gather(Type::Numeric, &[&large, &small], &[(0, 0), (1, 0)]), None);
    }

    #[test]
    fn a_null_costs_a_bit() {
        let mut collector = Collector::new("v", Type::BigInt);
        for row in 0..1_000 {
            if row % 2 == 0 { collector.null() } else { collector.integer(5_000_000_000).unwrap() }
        }
        assert!(encoded(&collector.finish().unwrap()).len() < 150);
    }
}
