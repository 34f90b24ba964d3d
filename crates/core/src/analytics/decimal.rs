//! Exact decimals of up to 38 digits: `mantissa / 10^scale`, with the number of digits that Postgres would show.
//!
//! Not a type to calculate with: sums are integers, quotients are made by [`Decimal::quotient`].
//!
//! Invariant: nothing is ever rounded except a quotient, which is rounded as Postgres rounds it. What does not fit is
//! `None`.

use std::cmp::Ordering;
use std::fmt;

/// The most digits after the point.
pub(super) const SCALE_MOST: u8 = 38;

const TENS: [i128; SCALE_MOST as usize + 1] = {
    let mut tens = [1_i128; SCALE_MOST as usize + 1];
    let mut power = 1;
    while power < tens.len() {
        tens[power] = tens[power - 1] * 10;
        power += 1;
    }
    tens
};

/// `10^power`, up to [`SCALE_MOST`].
pub(super) fn ten(power: u8) -> i128 {
    TENS[usize::from(power)]
}

/// An exact decimal. Two of them are equal when their values are, however many zeros they show.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    mantissa: i128,
    scale: u8,
    display: u16,
}

impl Decimal {
    /// `mantissa / 10^scale`, shown with `display` digits after the point or as many as it has.
    pub fn new(mantissa: i128, scale: u8, display: u16) -> Option<Self> {
        (scale <= SCALE_MOST).then_some(Self { mantissa, scale, display })
    }

    /// A whole number.
    pub fn whole(value: i128) -> Self {
        Self { mantissa: value, scale: 0, display: 0 }
    }

    /// Reads `-12.50`, `.5`, `1e-7`; `None` for anything else and for what does not fit.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok().filter(|e| e.abs() <= 1_000)?),
            None => (text, 0),
        };
        let (negative, digits) = match digits.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, digits.strip_prefix('+').unwrap_or(digits)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.len() + fraction.len() == 0 {
            return None;
        }
        let mut mantissa = 0_i128;
        let mut zeros = 0_u32;
        let mut kept = 0_i32;
        for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
            if !digit.is_ascii_digit() {
                return None;
            }
            // Zeros at the end are held back: they cost digits and say nothing.
            if digit == b'0' {
                zeros += u32::from(mantissa != 0);
                continue;
            }
            mantissa = mantissa
                .checked_mul(10_i128.checked_pow(zeros + 1)?)?
                .checked_add(i128::from(digit - b'0'))?;
            zeros = 0;
            kept = i32::try_from(at + 1).ok()? - i32::try_from(whole.len()).ok()?;
        }
        // `kept` digits after the point (fewer than none when the whole part ends in zeros).
        let shift = if mantissa == 0 { 0 } else { kept - exponent };
        if shift < 0 {
            mantissa = mantissa.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?)?;
        }
        let scale = u8::try_from(shift.max(0)).ok()?;
        let display = u16::try_from((i32::try_from(fraction.len()).ok()? - exponent).max(0)).ok()?;
        Self::new(if negative { -mantissa } else { mantissa }, scale, display)
    }

    /// The integer over `10^scale`.
    pub fn mantissa(&self) -> i128 {
        self.mantissa
    }

    /// See [`Decimal::mantissa`].
    pub fn scale(&self) -> u8 {
        self.scale
    }

    /// Digits after the point that Postgres would show.
    pub fn display(&self) -> u16 {
        self.display
    }

    /// The double nearest to it, as reading its text would give.
    pub fn nearest(&self) -> f64 {
        let (mantissa, scale) = self.shortest();
        // Both are doubles without an error, so that one division rounds once.
        if mantissa.unsigned_abs() <= 1 << 53 && scale <= 22 {
            return mantissa as f64 / ten(scale) as f64;
        }
        self.to_string().parse().expect("digits and a point")
    }

    /// The same value without zeros at the end: equal decimals become the same pair.
    pub fn shortest(&self) -> (i128, u8) {
        let (mut mantissa, mut scale) = (self.mantissa, self.scale);
        // Division of 128 bits is slow and rarely needed.
        if let Ok(mut small) = i64::try_from(mantissa) {
            while scale > 0 && small % 10 == 0 {
                (small, scale) = (small / 10, scale - 1);
            }
            return (i128::from(small), scale);
        }
        while scale > 0 && mantissa % 10 == 0 {
            (mantissa, scale) = (mantissa / 10, scale - 1);
        }
        (mantissa, scale)
    }

    /// The mantissa at exactly this scale; `Err` says on which side of zero it would not fit, or the integers that
    /// the value lies between.
    pub(super) fn at_scale(&self, scale: u8) -> AtScale {
        if scale >= self.scale {
            return match self.mantissa.checked_mul(ten(scale - self.scale)) {
                Some(mantissa) => AtScale::Exactly(mantissa),
                None => AtScale::Outside(if self.mantissa < 0 { Ordering::Less } else { Ordering::Greater }),
            };
        }
        let unit = ten(self.scale - scale);
        let below = self.mantissa.div_euclid(unit);
        if self.mantissa % unit == 0 { AtScale::Exactly(below) } else { AtScale::After(below) }
    }

    /// `sum / count`, rounded half away from zero to as many digits as Postgres gives: 16 significant ones at least,
    /// and no fewer than `sum` shows.
    pub fn quotient(sum: &Decimal, count: u64) -> Option<Self> {
        let count = i128::from(count);
        if count == 0 {
            return None;
        }
        let (first, weight) = lead(sum);
        let (count_first, count_weight) = lead(&Decimal::whole(count));
        let quotient_weight = weight - count_weight - i32::from(first <= count_first);
        let digits = (16 - 4 * quotient_weight).max(i32::from(sum.display)).clamp(0, 1_000);
        let display = u16::try_from(digits).ok()?;
        let (mut mantissa, scale) = sum.shortest();
        let mut left = mantissa % count;
        mantissa /= count;
        let mut at = scale;
        // Digit by digit: the remainder stays small, so that nothing overflows on the way.
        while i32::from(at) < digits && left != 0 {
            left = left.checked_mul(10)?;
            mantissa = mantissa.checked_mul(10)?.checked_add(left / count)?;
            (left, at) = (left % count, at.checked_add(1).filter(|at| *at <= SCALE_MOST)?);
        }
        if (left * 2).unsigned_abs() >= count.unsigned_abs() {
            mantissa = mantissa.checked_add(left.signum())?;
        }
        Self::new(mantissa, at, display)
    }
}

/// Where a value lies among the integers of a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtScale {
    /// On this one.
    Exactly(i128),
    /// Between this one and the next.
    After(i128),
    /// Below or above all of them.
    Outside(Ordering),
}

/// First digit and weight in base 10,000, in which Postgres keeps numbers; both 0 for zero.
fn lead(value: &Decimal) -> (i32, i32) {
    let (mantissa, scale) = value.shortest();
    let magnitude = mantissa.unsigned_abs();
    if magnitude == 0 {
        return (0, 0);
    }
    let digits = magnitude.ilog10() as i32 + 1;
    // Position of the first decimal digit relative to the point, then of its group of four.
    let position = digits - i32::from(scale) - 1;
    let weight = position.div_euclid(4);
    let wanted = position - 4 * weight + 1;
    let first = if digits >= wanted {
        magnitude / 10_u128.pow((digits - wanted) as u32)
    } else {
        magnitude * 10_u128.pow((wanted - digits) as u32)
    };
    (first as i32, weight)
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.at_scale(other.scale) {
            AtScale::Exactly(mantissa) => mantissa.cmp(&other.mantissa),
            AtScale::After(below) => {
                if below < other.mantissa {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            AtScale::Outside(side) => side,
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mantissa, scale) = self.shortest();
        let (scale, display) = (usize::from(scale), usize::from(self.display));
        let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if mantissa < 0 { "-" } else { "" };
        let shown = display.max(scale);
        if shown == 0 {
            return write!(out, "{sign}{whole}");
        }
        write!(out, "{sign}{whole}.{fraction:0<shown$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn is_shown_as_it_was_written() {
        for text in ["0", "0.00", "1.50", "-1.50", "100", "-0.001", "12345678901234567890123456789012345678"]
        {
            assert_eq!(decimal(text).to_string(), text);
        }
        assert_eq!(decimal("1e3").to_string(), "1000");
        assert_eq!(decimal("-1.5e-7").to_string(), "-0.00000015");
        assert_eq!(decimal("+.5").to_string(), "0.5");
        assert_eq!(decimal(&format!("0.{}", "0".repeat(200))).to_string(), format!("0.{}", "0".repeat(200)));
        assert_eq!(decimal("100000000000000000000.00000000000000000000000000").display(), 26);
    }

    #[test]
    fn what_is_no_decimal_or_does_not_fit_is_refused() {
        for text in ["", ".", "-", "1,5", "1.2.3", "NaN", "Infinity", "0x1", "1e", "1e9999", " 1", "١"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(Decimal::parse("999999999999999999999999999999999999999"), None, "39 digits");
        assert_eq!(Decimal::parse(&format!("0.{}1", "0".repeat(38))), None, "39 digits after the point");
    }

    #[test]
    fn a_quotient_has_the_digits_of_postgres() {
        // From a server: select (sum)::numeric / (count)::numeric.
        for (sum, count, expected) in [
            ("10", 4, "2.5000000000000000"),
            ("1", 3, "0.33333333333333333333"),
            ("2", 3, "0.66666666666666666667"),
            ("-2", 3, "-0.66666666666666666667"),
            ("100", 3, "33.3333333333333333"),
            ("20000", 3, "6666.6666666666666667"),
            ("100000", 3, "33333.333333333333"),
            ("0", 5, "0.00000000000000000000"),
            ("0.00", 5, "0.00000000000000000000"),
            ("7.50", 2, "3.7500000000000000"),
            ("0.0001", 3, "0.000033333333333333333333"),
            ("1", 20000, "0.000050000000000000000000"),
            ("123456789012345678901234567890", 7, "17636684144620811271604938270"),
            ("1.000000000000000000000001", 1, "1.000000000000000000000001"),
        ] {
            assert_eq!(
                Decimal::quotient(&decimal(sum), count).expect("fits").to_string(),
                expected,
                "{sum} / {count}"
            );
        }
        assert_eq!(Decimal::quotient(&decimal("1"), 0), None);
    }

    proptest! {
        #[test]
        fn compares_by_value(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000, x in 0..12_u8, y in 0..12_u8) {
            let (left, right) = (Decimal::new(a.into(), x, 0).unwrap(), Decimal::new(b.into(), y, 0).unwrap());
            let exact = (i128::from(a) * ten(y)).cmp(&(i128::from(b) * ten(x)));
            prop_assert_eq!(left.cmp(&right), exact);
            prop_assert_eq!(exact == Ordering::Equal, left.shortest() == right.shortest());
        }

        #[test]
        fn extremes_compare_without_overflow(a: i128, b: i128, x in 0..=SCALE_MOST, y in 0..=SCALE_MOST) {
            let (left, right) = (Decimal::new(a, x, 0).unwrap(), Decimal::new(b, y, 0).unwrap());
            prop_assert_eq!(left.cmp(&right), right.cmp(&left).reverse());
            prop_assert_eq!(left.to_string().starts_with('-'), a < 0);
        }

        #[test]
        fn is_read_as_it_is_shown(mantissa: i64, scale in 0..=18_u8, more in 0..4_u16) {
            let value = Decimal::new(mantissa.into(), scale, u16::from(scale) + more).unwrap();
            let read = decimal(&value.to_string());
            prop_assert_eq!((read, read.display()), (value, value.display()));
            prop_assert_eq!(value.nearest(), value.to_string().parse::<f64>().unwrap());
        }

        #[test]
        fn reading_never_panics(text in "[-+.eE0-9]{0,60}") {
            let _ = Decimal::parse(&text);
        }
    }
}
