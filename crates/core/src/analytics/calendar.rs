//! Dates and timestamps as Postgres keeps them: days, and microseconds in UTC, since 2000-01-01, on the Gregorian
//! calendar of all times. Their first and last integer mean `-infinity` and `infinity`.
//!
//! Not a clock, and no time zones: a timestamp with a zone is a moment, shown in UTC.
//!
//! Invariant: integers order as the moments do, so that nothing but parsing and truncation has to know about calendars.

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// The date before all others.
pub const DATE_FIRST: i64 = i32::MIN as i64;
/// The date after all others.
pub const DATE_LAST: i64 = i32::MAX as i64;

/// From 0000-03-01, where a year ends with its leap day, to 2000-01-01.
const MARCH_ZERO: i64 = 730_425;
const DAYS_400: i64 = 146_097;

/// What `date_trunc` cuts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Midnight.
    Day,
    /// Monday.
    Week,
    /// The first of the month.
    Month,
    /// The first of January, April, July or October.
    Quarter,
    /// The first of January.
    Year,
}

impl Unit {
    /// Every unit with the word that users write.
    pub const ALL: [(Unit, &'static str); 5] = [
        (Unit::Day, "day"),
        (Unit::Week, "week"),
        (Unit::Month, "month"),
        (Unit::Quarter, "quarter"),
        (Unit::Year, "year"),
    ];

    /// By its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(unit, _)| *unit)
    }
}

/// The day number of a date; the month is 1 to 12.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, which puts the leap day at the end.
    let march = (month + 9) % 12;
    let year = year - i64::from(month <= 2);
    let of_cycle = year.rem_euclid(400);
    let of_year = (153 * march + 2) / 5 + day - 1;
    year.div_euclid(400) * DAYS_400 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - MARCH_ZERO
}

/// Year, month and day of a day number.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + MARCH_ZERO;
    let (cycle, of_cycle) = (days.div_euclid(DAYS_400), days.rem_euclid(DAYS_400));
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = (march + 2) % 12 + 1;
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

/// A date cut to the unit it lies in. The ends of time stay what they are.
pub fn truncate_date(date: i64, unit: Unit) -> i64 {
    if date == DATE_FIRST || date == DATE_LAST {
        return date;
    }
    truncate_day(date, unit)
}

/// A timestamp cut to the unit it lies in, in UTC. The ends of time stay what they are.
pub fn truncate_timestamp(at_us: i64, unit: Unit) -> i64 {
    if at_us == i64::MIN || at_us == i64::MAX {
        return at_us;
    }
    truncate_day(at_us.div_euclid(DAY_US), unit).saturating_mul(DAY_US)
}

fn truncate_day(day: i64, unit: Unit) -> i64 {
    let (year, month, _) = civil(day);
    match unit {
        Unit::Day => day,
        // 1999-12-27, five days before day 0, was a Monday.
        Unit::Week => (day + 5).div_euclid(7) * 7 - 5,
        Unit::Month => days(year, month, 1),
        Unit::Quarter => days(year, (month - 1) / 3 * 3 + 1, 1),
        Unit::Year => days(year, 1, 1),
    }
}

/// Reads `2024-02-29`, or the date of a timestamp, or `infinity`.
pub fn parse_date(text: &str) -> Option<i64> {
    match text {
        "infinity" => return Some(DATE_LAST),
        "-infinity" => return Some(DATE_FIRST),
        _ => {}
    }
    let (day, rest) = date(text)?;
    (rest.is_empty() || time(rest).is_some()).then_some(day)
}

/// Reads `2024-02-29T12:30:00.5+02:00`, with `T` or a space; without a time it is midnight, without a zone UTC.
/// `zoned` says whether a zone counts: SQL ignores it for a timestamp without one.
pub fn parse_timestamp(text: &str, zoned: bool) -> Option<i64> {
    match text {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (day, rest) = date(text)?;
    let (of_day_us, zone_us) = if rest.is_empty() { (0, 0) } else { time(rest)? };
    let at_us = day.checked_mul(DAY_US)?.checked_add(of_day_us)?;
    if zoned { at_us.checked_sub(zone_us) } else { Some(at_us) }
}

/// The leading date and what follows it.
fn date(text: &str) -> Option<(i64, &str)> {
    let (year, rest) = text.split_once('-')?;
    let year = number(year, 4..=6)?;
    let (month, rest) = (number(rest.get(..2)?, 2..=2)?, rest.get(2..)?.strip_prefix('-')?);
    let (day, rest) = (number(rest.get(..2)?, 2..=2)?, rest.get(2..)?);
    // The calendar itself knows how long a month is.
    let at = days(year, month, day);
    ((1..=12).contains(&month) && year > 0 && civil(at) == (year, month, day)).then_some((at, rest))
}

/// Microseconds of the day, and those by which the zone is ahead of UTC.
fn time(text: &str) -> Option<(i64, i64)> {
    let text = text.strip_prefix(['T', 't', ' '])?;
    let at = text.find(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at(at);
    let mut parts = clock.trim_end().splitn(3, ':');
    let hours = number(parts.next()?, 2..=2)?;
    let minutes = number(parts.next()?, 2..=2)?;
    let (seconds, fraction) = parts.next().map_or(Some((0, 0)), |text| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let scale = 10_i64.checked_pow(6_u32.checked_sub(u32::try_from(fraction.len()).ok()?)?)?;
        Some((number(whole, 2..=2)?, number(fraction, 1..=6)? * scale))
    })?;
    // 24:00 is the end of a day and 60 a leap second, but nothing after them.
    let of_day_us = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    (minutes < 60 && seconds <= 60 && of_day_us <= DAY_US).then_some((of_day_us, zone_us(zone)?))
}

fn zone_us(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first() {
        None | Some(b'Z' | b'z') if text.len() <= 1 => return Some(0),
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (rest, "00"),
        4 if rest.is_ascii() => rest.split_at(2),
        _ => rest.split_once(':')?,
    };
    let (hours, minutes) = (number(hours, 2..=2)?, number(minutes, 2..=2)?);
    (hours < 16 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

fn number(digits: &str, length: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let plain = length.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_calendar_agrees_with_a_walk_through_it() {
        let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut month, mut day) = (1_583_i64, 1_i64, 1_i64);
        let mut at = days(year, month, day);
        while year < 2_600 {
            assert_eq!((days(year, month, day), civil(at)), (at, (year, month, day)));
            let length = match month {
                2 => 28 + i64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (day, at) = (day + 1, at + 1);
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        assert_eq!(days(2000, 1, 1), 0);
        assert_eq!(days(1970, 1, 1), -10_957);
    }

    #[test]
    fn truncates_as_sql_does() {
        let at = |text| parse_date(text).unwrap();
        for (unit, from, to) in [
            ("week", "2000-01-01", "1999-12-27"),
            ("week", "2024-01-01", "2024-01-01"),
            ("week", "2023-12-31", "2023-12-25"),
            ("month", "2024-02-29", "2024-02-01"),
            ("quarter", "2024-06-30", "2024-04-01"),
            ("quarter", "2024-12-31", "2024-10-01"),
            ("year", "1999-12-31", "1999-01-01"),
            ("day", "1999-12-31", "1999-12-31"),
            ("year", "infinity", "infinity"),
            ("week", "-infinity", "-infinity"),
        ] {
            let unit = Unit::parse(unit).unwrap();
            assert_eq!(truncate_date(at(from), unit), at(to), "{from}");
            if !from.ends_with("infinity") {
                let noon = at(from) * DAY_US + DAY_US / 2;
                assert_eq!(truncate_timestamp(noon, unit), at(to) * DAY_US, "{from}");
            }
        }
        assert_eq!(truncate_timestamp(i64::MAX, Unit::Week), i64::MAX);
        assert_eq!(Unit::parse("hour"), None);
    }

    #[test]
    fn reads_what_iso_8601_and_postgres_write() {
        for (text, expected) in [
            ("2000-01-01", Some(0)),
            ("2024-02-29", Some(8_825)),
            ("2023-02-29", None),
            ("2000-01-02T23:59:59.999Z", Some(1)),
            ("2000-01-02 00:00:00+02", Some(1)),
            ("10000-01-01", Some(days(10_000, 1, 1))),
            ("2024-1-1", None),
            ("2024-13-01", None),
            ("0000-01-01", None),
            ("24-01-01", None),
            ("2024-01-01x", None),
            ("2024-01-01T", None),
            ("", None),
            ("2024-01-0é", None),
        ] {
            assert_eq!(parse_date(text), expected, "{text}");
        }
        for (text, expected) in [
            ("2000-01-01", Some(0)),
            ("2000-01-01T00:00:01Z", Some(1_000_000)),
            ("2000-01-01 02:00:00.000001+02:00", Some(1)),
            ("2000-01-01 00:00-0130", Some(5_400_000_000)),
            ("2000-01-01T24:00:00Z", Some(DAY_US)),
            ("2000-01-01T24:00:01Z", None),
            ("2000-01-01T12:60Z", None),
            ("2000-01-01T12:00:00.1234567Z", None),
            ("2000-01-01T12:00Zulu", None),
            ("2000-01-01T12:00+é0", None),
            ("999999-01-01", None),
            ("infinity", Some(i64::MAX)),
        ] {
            assert_eq!(parse_timestamp(text, true), expected, "{text}");
        }
        assert_eq!(parse_timestamp("2000-01-01T02:00+02", false), Some(7_200_000_000));
    }

    proptest! {
        #[test]
        fn every_day_has_one_name(day in -3_000_000_i64..2_147_000_000) {
            let (year, month, of_month) = civil(day);
            prop_assert_eq!(days(year, month, of_month), day);
            for (unit, _) in Unit::ALL {
                let cut = truncate_date(day, unit);
                prop_assert!(cut <= day && cut > day - 367);
                prop_assert_eq!(truncate_date(cut, unit), cut);
            }
        }

        #[test]
        fn reading_never_panics(text in "[-+:.TZ 0-9é]{0,40}") {
            let _ = (parse_date(&text), parse_timestamp(&text, true));
        }
    }
}
