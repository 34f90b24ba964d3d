//! Values as texts. Written digit by digit: the machinery of `format!` takes ten times as long, and there are millions.
//!
//! Invariant: what is written is what Postgres shows, except for timestamps, which are those of JavaScript.

use crate::analytics::calendar::{DATE_FIRST, DATE_LAST, DAY_US, civil};

/// Milliseconds from 1970-01-01 to 2000-01-01.
pub(super) const EPOCH_MS: i64 = 946_684_800_000;

/// `2024-02-29`; years before the first as `0044-03-15 BC`.
pub(super) fn put_date(out: &mut Vec<u8>, day: i64) {
    match day {
        DATE_LAST => return out.extend_from_slice(b"infinity"),
        DATE_FIRST => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let (year, month, of_month) = civil(day);
    put_padded(out, if year > 0 { year } else { 1 - year }.unsigned_abs(), 4);
    put_month_and_day(out, month, of_month);
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// `2024-02-29T12:30:00.000Z`, as `Date.toISOString` does; what is less than a millisecond is left out.
pub(super) fn put_timestamp(out: &mut Vec<u8>, at_us: i64) {
    match at_us {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let (day, of_day_ms) = (at_us.div_euclid(DAY_US), at_us.rem_euclid(DAY_US).unsigned_abs() / 1_000);
    let (year, month, of_month) = civil(day);
    if (0..=9_999).contains(&year) {
        put_padded(out, year.unsigned_abs(), 4);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        put_padded(out, year.unsigned_abs(), 6);
    }
    put_month_and_day(out, month, of_month);
    out.push(b'T');
    put_padded(out, of_day_ms / 3_600_000, 2);
    out.push(b':');
    put_padded(out, of_day_ms / 60_000 % 60, 2);
    out.push(b':');
    put_padded(out, of_day_ms / 1_000 % 60, 2);
    out.push(b'.');
    put_padded(out, of_day_ms % 1_000, 3);
    out.push(b'Z');
}

/// Milliseconds since 1970-01-01, as a `Date` of JavaScript has them.
pub(super) fn unix_ms(at_us: i64) -> f64 {
    match at_us {
        i64::MAX => f64::INFINITY,
        i64::MIN => f64::NEG_INFINITY,
        _ => (at_us.div_euclid(1_000) + EPOCH_MS) as f64,
    }
}

fn put_month_and_day(out: &mut Vec<u8>, month: i64, day: i64) {
    out.push(b'-');
    put_padded(out, month.unsigned_abs(), 2);
    out.push(b'-');
    put_padded(out, day.unsigned_abs(), 2);
}

/// 16 bytes as `00112233-4455-6677-8899-aabbccddeeff`.
pub(super) fn put_uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// A whole number.
pub(super) fn put_whole(out: &mut Vec<u8>, value: i128) {
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(Digits::of(value.unsigned_abs()).all());
}

/// `mantissa / 10^scale` with as many digits after the point as it needs, and `display` at least.
pub(super) fn put_decimal(out: &mut Vec<u8>, mantissa: i128, scale: u8, display: usize) {
    if mantissa < 0 {
        out.push(b'-');
    }
    let digits = Digits::of(mantissa.unsigned_abs());
    let (digits, scale) = (digits.all(), usize::from(scale));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    let zeros = scale - fraction.len();
    let needed = scale - fraction.iter().rev().take_while(|digit| **digit == b'0').count();
    // All zeros: none of them is needed.
    let needed = if mantissa == 0 { 0 } else { needed };
    if needed.max(display) == 0 {
        return;
    }
    out.push(b'.');
    let start = out.len();
    out.resize(start + zeros.min(needed), b'0');
    out.extend_from_slice(&fraction[..needed.saturating_sub(zeros)]);
    out.resize(start + needed.max(display), b'0');
}

/// The digits of a number, without leading zeros; those of 0 are one.
struct Digits {
    bytes: [u8; 39],
    from: usize,
}

impl Digits {
    fn of(value: u128) -> Self {
        let mut digits = Self { bytes: [b'0'; 39], from: 39 };
        let mut high = value;
        // Division of 128 bits is slow and rarely needed.
        while u64::try_from(high).is_err() {
            digits.push((high % 10) as u8);
            high /= 10;
        }
        let mut low = high as u64;
        loop {
            digits.push((low % 10) as u8);
            low /= 10;
            if low == 0 {
                return digits;
            }
        }
    }

    fn push(&mut self, digit: u8) {
        self.from -= 1;
        self.bytes[self.from] = b'0' + digit;
    }

    fn all(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

fn put_padded(out: &mut Vec<u8>, value: u64, digits: usize) {
    let written = Digits::of(value.into());
    out.resize(out.len() + digits.saturating_sub(written.all().len()), b'0');
    out.extend_from_slice(written.all());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::Decimal;
    use crate::analytics::calendar::{days, parse_date, parse_timestamp};
    use proptest::prelude::*;

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn decimals_are_what_their_display_is(mantissa: i128, small in -2_000..2_000_i128, scale in 0..=38_u8, display in 0..60_u16) {
            for mantissa in [mantissa, small, 0] {
                let decimal = Decimal::new(mantissa, scale, display).unwrap();
                prop_assert_eq!(written(|out| put_decimal(out, mantissa, scale, display.into())), decimal.to_string());
                prop_assert_eq!(written(|out| put_whole(out, mantissa)), mantissa.to_string());
            }
        }

        #[test]
        fn dates_are_read_as_they_were_written(day in -700_000..2_921_000_i64, of_day_ms in 0..86_400_000_i64) {
            prop_assert_eq!(parse_date(&written(|out| put_date(out, day))), Some(day));
            let at_us = day * DAY_US + of_day_ms * 1_000;
            prop_assert_eq!(parse_timestamp(&written(|out| put_timestamp(out, at_us)), true), Some(at_us));
            prop_assert_eq!(unix_ms(at_us + 999), (day * 86_400_000 + of_day_ms + EPOCH_MS) as f64);
            prop_assert_eq!(written(|out| put_timestamp(out, at_us)), written(|out| put_timestamp(out, at_us + 999)));
        }
    }

    #[test]
    fn far_dates_and_the_ends_of_time() {
        // As `date::text` of Postgres and `new Date(ms).toISOString()` of JavaScript show them.
        for (year, date, timestamp) in [
            (0, "0001-12-31 BC", "0000-12-31T00:00:00.000Z"),
            (-1, "0002-12-31 BC", "-000001-12-31T00:00:00.000Z"),
            (9_999, "9999-12-31", "9999-12-31T00:00:00.000Z"),
            (10_000, "10000-12-31", "+010000-12-31T00:00:00.000Z"),
        ] {
            let day = days(year, 12, 31);
            assert_eq!(written(|out| put_date(out, day)), date);
            assert_eq!(written(|out| put_timestamp(out, day * DAY_US)), timestamp);
        }
        assert_eq!(written(|out| put_date(out, DATE_LAST)), "infinity");
        assert_eq!(written(|out| put_date(out, DATE_FIRST)), "-infinity");
        assert_eq!(written(|out| put_timestamp(out, i64::MAX)), "infinity");
        assert_eq!(written(|out| put_timestamp(out, i64::MIN)), "-infinity");
        assert_eq!((unix_ms(i64::MAX), unix_ms(i64::MIN)), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!(written(|out| put_timestamp(out, -1)), "1999-12-31T23:59:59.999Z");
        assert_eq!(unix_ms(-1), 946_684_799_999.0);
        let uuid =
            [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(written(|out| put_uuid(out, &uuid)), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
