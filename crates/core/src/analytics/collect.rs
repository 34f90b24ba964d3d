//! Values of the source, one after the other, until they are a column.
//!
//! Invariant: a value is taken exactly or refused with the name of its column.

use std::collections::HashMap;
use std::sync::Arc;

use super::column::{Column, FAR_APART};
use super::decimal::{self, Decimal};
use super::dictionary::Dictionary;
use super::nulls::Nulls;
use super::packed::Packed;
use super::refused::Refused;
use super::schema::Type;
use crate::base::limits;

/// A column in the making.
pub struct Collector {
    name: String,
    kind: Type,
    values: Vec<i128>,
    nulls: Vec<bool>,
    decimals: Decimals,
    texts: Texts,
}

/// What decimals have beside their mantissas.
#[derive(Default)]
struct Decimals {
    scales: Vec<u8>,
    displays: Vec<i128>,
}

/// Distinct texts, in the order of their first appearance.
#[derive(Default)]
struct Texts {
    places: HashMap<Arc<[u8]>, u32, ahash::RandomState>,
    distinct: Vec<Arc<[u8]>>,
    /// Rows of a table often repeat the text of the row before.
    last: u32,
    bytes: usize,
}

impl Texts {
    fn place(&mut self, text: &[u8]) -> u32 {
        if self.distinct.get(self.last as usize).is_some_and(|last| **last == *text) {
            return self.last;
        }
        self.last = match self.places.get(text) {
            Some(known) => *known,
            None => self.add(text),
        };
        self.last
    }

    fn add(&mut self, text: &[u8]) -> u32 {
        let place = u32::try_from(self.distinct.len()).expect("bounded by the rows of a batch");
        let text: Arc<[u8]> = text.into();
        self.bytes += text.len();
        self.distinct.push(Arc::clone(&text));
        self.places.insert(text, place);
        place
    }

    /// The dictionary, and for each place its code.
    fn dictionary(self) -> (Dictionary, Vec<u32>) {
        let mut ascending: Vec<usize> = (0..self.distinct.len()).collect();
        ascending.sort_unstable_by_key(|place| &self.distinct[*place]);
        let mut codes = vec![0; ascending.len()];
        for (code, place) in ascending.iter().enumerate() {
            codes[*place] = code as u32;
        }
        (Dictionary::of(ascending.iter().map(|place| &*self.distinct[*place])), codes)
    }
}

impl Collector {
    /// For the column of that name.
    pub fn new(name: &str, kind: Type) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            values: Vec::new(),
            nulls: Vec::new(),
            decimals: Decimals::default(),
            texts: Texts::default(),
        }
    }

    /// How many values.
    pub fn rows(&self) -> usize {
        self.values.len()
    }

    /// Bytes of the distinct texts.
    pub fn text_bytes(&self) -> usize {
        self.texts.bytes
    }

    /// NULL.
    pub fn null(&mut self) {
        self.push(0, true);
    }

    /// A number, days or microseconds since 2000-01-01; see [`Type`].
    pub fn integer(&mut self, value: i64) -> Result<(), Refused> {
        let (least, most) = self.kind.integers();
        let plain =
            matches!(self.kind, Type::Int | Type::BigInt | Type::Date | Type::Timestamp | Type::TimestampTz);
        self.check(plain && (least..=most).contains(&value.into()), "an integer of its type")?;
        self.push(value.into(), false);
        Ok(())
    }

    /// True or false.
    pub fn boolean(&mut self, value: bool) -> Result<(), Refused> {
        self.check(self.kind == Type::Bool, "a value of its type")?;
        self.push(value.into(), false);
        Ok(())
    }

    /// A double.
    pub fn float(&mut self, value: f64) -> Result<(), Refused> {
        self.check(self.kind == Type::Float, "a value of its type")?;
        self.push(value.to_bits().into(), false);
        Ok(())
    }

    /// An exact number.
    pub fn decimal(&mut self, value: Decimal) -> Result<(), Refused> {
        self.check(self.kind == Type::Numeric, "a value of its type")?;
        let (mantissa, scale) = value.shortest();
        self.push(mantissa, false);
        let last = self.values.len() - 1;
        self.decimals.scales[last] = scale;
        self.decimals.displays[last] = value.display().into();
        Ok(())
    }

    /// A text, or JSON as Postgres writes it.
    pub fn text(&mut self, value: &str) -> Result<(), Refused> {
        self.check(matches!(self.kind, Type::Text | Type::Json), "a value of its type")?;
        self.check(value.len() <= limits::ANALYTICS_VALUE_BYTES, "texts of up to 256 KiB")?;
        self.bytes(value.as_bytes());
        Ok(())
    }

    /// A UUID.
    pub fn uuid(&mut self, value: &[u8; 16]) -> Result<(), Refused> {
        self.check(self.kind == Type::Uuid, "a value of its type")?;
        self.bytes(value);
        Ok(())
    }

    /// A value that is beyond what its type holds here; the error says what is kept.
    pub fn unfit(&self, because: &'static str) -> Result<(), Refused> {
        Err(Refused::value(&self.name, because))
    }

    /// All values as a column.
    pub fn finish(mut self) -> Result<Column, Refused> {
        let nulls = Nulls::collect(self.nulls.len(), |row| self.nulls[row]);
        if self.kind.has_dictionary() {
            let (dictionary, codes) = self.texts.dictionary();
            let places = self.values.iter().zip(&self.nulls);
            let codes = places.map(|(place, null)| if *null { 0 } else { codes[*place as usize] }).collect();
            return Ok(Column::coded(self.kind, codes, nulls, dictionary));
        }
        if self.kind == Type::Numeric {
            let scale = self.decimals.scales.iter().copied().max().unwrap_or(0);
            for (value, own) in self.values.iter_mut().zip(&self.decimals.scales) {
                let wider = value.checked_mul(decimal::ten(scale - own));
                *value = wider.ok_or_else(|| Refused::value(&self.name, FAR_APART))?;
            }
            let display = Packed::pack(&self.decimals.displays);
            return Ok(Column::decimals(Packed::pack(&self.values), scale, display, nulls));
        }
        Ok(Column::plain(self.kind, Packed::pack(&self.values), nulls))
    }

    /// An entry of a dictionary that was checked before.
    pub(super) fn bytes(&mut self, value: &[u8]) {
        let place = self.texts.place(value);
        self.push(place.into(), false);
    }

    fn push(&mut self, value: i128, null: bool) {
        self.values.push(value);
        self.nulls.push(null);
        if self.kind == Type::Numeric {
            self.decimals.scales.push(0);
            self.decimals.displays.push(0);
        }
    }

    fn check(&self, holds: bool, because: &'static str) -> Result<(), Refused> {
        if holds { Ok(()) } else { Err(Refused::value(&self.name, because)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_value_exactly_or_refuses_it() {
        let mut int = Collector::new("n", Type::Int);
        assert_eq!(int.integer(i32::MAX.into()), Ok(()));
        assert_eq!(int.integer(i64::from(i32::MAX) + 1), Err(Refused::value("n", "an integer of its type")));
        assert_eq!(int.float(1.0), Err(Refused::value("n", "a value of its type")));
        int.null();
        assert_eq!(int.rows(), 2);

        let mut text = Collector::new("t", Type::Text);
        let long = "x".repeat(limits::ANALYTICS_VALUE_BYTES + 1);
        assert_eq!(text.text(&long), Err(Refused::value("t", "texts of up to 256 KiB")));
        assert!(text.uuid(&[0; 16]).is_err() && text.integer(1).is_err() && text.boolean(true).is_err());
        for value in ["b", "b", "a", "b"] {
            text.text(value).unwrap();
        }
        assert_eq!(text.text_bytes(), 2, "distinct ones are kept once");
        let column = text.finish().unwrap();
        assert_eq!((0..4).map(|row| column.integers().at(row)).collect::<Vec<_>>(), [1, 1, 0, 1]);
    }
}
