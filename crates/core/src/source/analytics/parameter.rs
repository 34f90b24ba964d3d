//! Bound parameters in the binary form of Postgres, of the types that columns of data sources have.
//!
//! Invariant: a parameter has the type that its condition was written for; nothing is left to the server to guess.

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, Postgres};

use crate::analytics::Decimal;

/// A type with its numbers in every Postgres: that of a value and that of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    value: u32,
    list: u32,
}

pub(super) const BOOL: Kind = Kind { value: 16, list: 1000 };
pub(super) const BIGINT: Kind = Kind { value: 20, list: 1016 };
pub(super) const TEXT: Kind = Kind { value: 25, list: 1009 };
pub(super) const FLOAT: Kind = Kind { value: 701, list: 1022 };
pub(super) const DATE: Kind = Kind { value: 1082, list: 1182 };
pub(super) const TIMESTAMP: Kind = Kind { value: 1114, list: 1115 };
pub(super) const TIMESTAMPTZ: Kind = Kind { value: 1184, list: 1185 };
pub(super) const NUMERIC: Kind = Kind { value: 1700, list: 1231 };
pub(super) const UUID: Kind = Kind { value: 2950, list: 2951 };

/// A value or a list of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    type_number: u32,
    bytes: Vec<u8>,
}

impl Parameter {
    pub(super) fn value(kind: Kind, bytes: Vec<u8>) -> Self {
        Self { type_number: kind.value, bytes }
    }

    pub(super) fn list(kind: Kind, values: &[Vec<u8>]) -> Self {
        let mut bytes = Vec::with_capacity(20 + values.iter().map(|value| value.len() + 4).sum::<usize>());
        let mut put = |number: u32| bytes.extend_from_slice(&number.to_be_bytes());
        // Dimensions, no NULLs, the type; then the length and the first place of the only dimension.
        put(u32::from(!values.is_empty()));
        put(0);
        put(kind.value);
        if !values.is_empty() {
            put(values.len() as u32);
            put(1);
        }
        for value in values {
            bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        Self { type_number: kind.list, bytes }
    }

    /// Identifiers.
    pub(super) fn ids(ids: &[i64]) -> Self {
        Self::list(BIGINT, &ids.iter().map(|id| id.to_be_bytes().to_vec()).collect::<Vec<_>>())
    }

    pub(super) fn text(text: &str) -> Self {
        Self::value(TEXT, text.as_bytes().to_vec())
    }
}

impl sqlx::Type<Postgres> for Parameter {
    /// Of no parameter: each says its own type.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(TEXT.value))
    }
}

impl Encode<'_, Postgres> for Parameter {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.type_number)))
    }
}

/// A decimal as Postgres keeps it: digits of base 10,000 around the point.
pub(super) fn numeric(value: &Decimal) -> Vec<u8> {
    let (mantissa, scale) = value.shortest();
    let groups_after = usize::from(scale).div_ceil(4);
    // So that the point lies between two groups.
    let fill = 4 * groups_after - usize::from(scale);
    let text = format!("{}{}", mantissa.unsigned_abs(), "0".repeat(fill));
    let text = format!("{}{text}", "0".repeat((4 - text.len() % 4) % 4));
    let digits: Vec<u16> = text
        .as_bytes()
        .chunks(4)
        .map(|group| group.iter().fold(0, |digit, byte| digit * 10 + u16::from(byte - b'0')))
        .collect();
    let weight = digits.len() as i32 - groups_after as i32 - 1;
    let sign: u16 = if mantissa < 0 { 0x4000 } else { 0 };
    let mut bytes = Vec::with_capacity(8 + 2 * digits.len());
    for word in [digits.len() as u16, weight as i16 as u16, sign, scale.into()].into_iter().chain(digits) {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::analytics::binary::{Number, numeric as read};
    use proptest::prelude::*;

    #[test]
    fn a_list_is_one_dimension_or_none() {
        let list = Parameter::ids(&[1]);
        assert_eq!(list.type_number, 1016);
        let expected = [
            [0, 0, 0, 1],
            [0; 4],
            [0, 0, 0, 20],
            [0, 0, 0, 1],
            [0, 0, 0, 1],
            [0, 0, 0, 8],
            [0; 4],
            [0, 0, 0, 1],
        ];
        assert_eq!(list.bytes, expected.concat());
        assert_eq!(Parameter::ids(&[]).bytes, [[0; 4], [0; 4], [0, 0, 0, 20]].concat());
    }

    proptest! {
        #[test]
        fn a_decimal_is_read_back(mantissa: i128, scale in 0..=38_u8) {
            let value = Decimal::new(mantissa, scale, 0).unwrap();
            let back = read(&numeric(&value)).unwrap();
            prop_assert_eq!(back, Number::Exact(value));
        }
    }
}
