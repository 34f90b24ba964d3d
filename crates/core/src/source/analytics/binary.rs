//! Values in the binary form of Postgres, as COPY and the extended protocol send them.
//!
//! Invariant: a value is read exactly or refused; bytes that are no value of the type are an error, never a guess.

use crate::analytics::{Collector, Decimal, Type};

use super::failed::Failed;

/// Puts a value into its column. The column says which type was asked for.
pub(super) fn put(collector: &mut Collector, kind: Type, bytes: Option<&[u8]>) -> Result<(), Failed> {
    let Some(bytes) = bytes else {
        collector.null();
        return Ok(());
    };
    let taken = match kind {
        Type::Int | Type::Date => collector.integer(i32::from_be_bytes(exactly(bytes)?).into()),
        Type::BigInt | Type::Timestamp | Type::TimestampTz => {
            collector.integer(i64::from_be_bytes(exactly(bytes)?))
        }
        Type::Float => collector.float(f64::from_be_bytes(exactly(bytes)?)),
        Type::Numeric => match numeric(bytes)? {
            Number::Exact(value) => collector.decimal(value),
            Number::Wide => collector.unfit("numbers of up to 38 digits"),
            Number::Endless => collector.unfit("finite numbers, neither NaN nor Infinity"),
        },
        Type::Bool => match exactly(bytes)? {
            [is @ (0 | 1)] => collector.boolean(is == 1),
            _ => return Err(Failed::Unreadable("a boolean that is none")),
        },
        Type::Uuid => collector.uuid(&exactly(bytes)?),
        Type::Text | Type::Json => collector.text(text(bytes)?),
    };
    Ok(taken?)
}

/// A text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Failed> {
    std::str::from_utf8(bytes).map_err(|_| Failed::Unreadable("a text that is not UTF-8"))
}

/// A 64-bit integer.
pub(super) fn bigint(bytes: &[u8]) -> Result<i64, Failed> {
    Ok(i64::from_be_bytes(exactly(bytes)?))
}

/// A date's days, or a timestamp's microseconds.
pub(super) fn moment(bytes: &[u8]) -> Result<i64, Failed> {
    if bytes.len() == 4 { Ok(i32::from_be_bytes(exactly(bytes)?).into()) } else { bigint(bytes) }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Failed> {
    bytes.try_into().map_err(|_| Failed::Unreadable("a value of another length"))
}

/// What a numeric may be.
#[derive(Debug, PartialEq)]
pub(super) enum Number {
    Exact(Decimal),
    /// Of more digits than are kept.
    Wide,
    /// NaN and the infinities.
    Endless,
}

const HEAD: usize = 8;
const NEGATIVE: u16 = 0x4000;
const BASE: i128 = 10_000;

/// A numeric: how many digits of base 10,000, the power of the first one, the sign, how many decimals it shows, the digits.
pub(super) fn numeric(bytes: &[u8]) -> Result<Number, Failed> {
    let broken = || Failed::Unreadable("a numeric that is none");
    let (head, digits) = bytes.split_at_checked(HEAD).ok_or_else(broken)?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, display) = (usize::from(word(0)), word(2) as i16, word(4), word(6));
    if digits.len() != 2 * count || display > 0x3fff {
        return Err(broken());
    }
    match sign {
        0 | NEGATIVE => {}
        0xc000 | 0xd000 | 0xf000 => return Ok(Number::Endless),
        _ => return Err(broken()),
    }
    let digit = |at: usize| i128::from(u16::from_be_bytes([digits[2 * at], digits[2 * at + 1]]));
    if (0..count).any(|at| digit(at) >= BASE) {
        return Err(broken());
    }
    let exact = mantissa(digit, count, weight.into()).and_then(|(mantissa, scale)| {
        let signed = if sign == NEGATIVE { -mantissa } else { mantissa };
        Decimal::new(signed, u8::try_from(scale).ok()?, display)
    });
    Ok(exact.map_or(Number::Wide, Number::Exact))
}

/// The digits as `mantissa / 10^scale`, without zeros at the end of a fraction: they may be what does not fit.
fn mantissa(digit: impl Fn(usize) -> i128, count: usize, weight: i32) -> Option<(i128, u32)> {
    let Some(last_at) = (0..count).rev().find(|at| digit(*at) != 0) else { return Some((0, 0)) };
    // Groups of digits after the point.
    let after = last_at as i32 - weight;
    let (mut last, mut unit, mut scale) = (digit(last_at), BASE, 4 * after.max(0).unsigned_abs());
    while after > 0 && last % 10 == 0 {
        (last, unit, scale) = (last / 10, unit / 10, scale - 1);
    }
    let mut mantissa = 0_i128;
    for at in 0..last_at {
        mantissa = mantissa.checked_mul(BASE)?.checked_add(digit(at))?;
    }
    mantissa = mantissa.checked_mul(unit)?.checked_add(last)?;
    if after < 0 {
        mantissa = mantissa.checked_mul(BASE.checked_pow(after.unsigned_abs())?)?;
    }
    Some((mantissa, scale))
}

#[cfg(test)]
#[path = "binary_tests.rs"]
mod tests;
