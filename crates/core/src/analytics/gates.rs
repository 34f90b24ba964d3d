//! What a new generation has to pass before it is served: it is what SQL says of the same snapshot, or an error; and it is
//! plausible next to the generation of before, or a person is asked.
//!
//! Pure. What is done with the outcome is decided elsewhere.
//!
//! Invariant: a generation that differs from the source in a row, a date or an exact sum does not pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::calendar;
use super::column::Form;
use super::decimal::{self, Decimal, SCALE_MOST};
use super::frame::Frame;
use super::manifest::Manifest;
use super::schema::{Schema, Type};

/// Rows of the generation before, in percent, that are left at least.
const ROWS_LEFT_PERCENT: u64 = 80;
/// Names that are listed; of more there is only a number.
const NAMES: usize = 5;
/// The beginning of a name that is enough to know it.
const NAME_CHARS: usize = 64;

/// What SQL says of the snapshot that was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Rows that were handed over.
    pub rows: u64,
    /// What it says of each measure and frequency.
    pub groups: Vec<Figures>,
}

/// Figures of one measure and frequency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// `None` = NULL, or there is no such column.
    pub measure: Option<String>,
    /// See `measure`.
    pub frequency: Option<String>,
    /// How many rows.
    pub rows: u64,
    /// Sums with the places of their columns. `None` = all are NULL, or more digits than are kept.
    pub sums: Vec<(usize, Option<Decimal>)>,
    /// The first and the last date.
    pub dates: Option<(i64, i64)>,
}

/// Sums of one measure and frequency, of frames as they are stored.
#[derive(Clone, Debug)]
pub struct Tally(Vec<Total>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Total {
    /// Only NULLs so far.
    #[default]
    Nothing,
    Exactly {
        mantissa: i128,
        scale: u8,
    },
    /// More than is counted here.
    Beyond,
}

impl Tally {
    /// Of nothing yet.
    pub fn new(schema: &Schema) -> Self {
        Self(vec![Total::Nothing; schema.fields().len()])
    }

    /// Counts the rows of a frame in.
    pub fn add(&mut self, frame: &Frame) {
        for (total, column) in self.0.iter_mut().zip(frame.columns()) {
            let scale = match column.form() {
                Form::Decimal { scale, .. } => *scale,
                Form::Plain if matches!(column.kind(), Type::Int | Type::BigInt) => 0,
                Form::Plain | Form::Dictionary(_) => continue,
            };
            let rows = (0..column.rows() as u32).filter(|row| !column.nulls().at(*row as usize));
            if column.nulls().count() == column.rows() {
                continue;
            }
            let mut sum = Some(0_i128);
            column.integers().each(rows, |value| sum = sum.and_then(|sum| sum.checked_add(value)));
            *total = sum.map_or(Total::Beyond, |mantissa| total.plus(mantissa, scale));
        }
    }
}

impl Total {
    fn plus(self, mantissa: i128, scale: u8) -> Self {
        let added = match self {
            Total::Nothing => Some((mantissa, scale)),
            Total::Beyond => None,
            Total::Exactly { mantissa: own, scale: own_scale } => {
                let common = scale.max(own_scale);
                let at = |mantissa: i128, scale: u8| mantissa.checked_mul(decimal::ten(common - scale));
                let sum = at(own, own_scale).zip(at(mantissa, scale)).and_then(|(a, b)| a.checked_add(b));
                sum.map(|sum| (sum, common))
            }
        };
        added.map_or(Total::Beyond, |(mantissa, scale)| Total::Exactly { mantissa, scale })
    }

    /// Whether SQL's sum is the same. What only one side can hold is not compared.
    fn is(self, said: Option<Decimal>) -> bool {
        match (self, said) {
            (Total::Nothing, None) | (Total::Beyond, _) => true,
            (Total::Exactly { mantissa, .. }, None) => mantissa.unsigned_abs() >= HELD.unsigned_abs(),
            (Total::Exactly { mantissa, scale }, Some(said)) => {
                Decimal::new(mantissa, scale, 0) == Some(said)
            }
            (Total::Nothing, Some(_)) => false,
        }
    }
}

/// From here on a sum may have too many digits to be handed over.
const HELD: i128 = 10_i128.pow(SCALE_MOST as u32 - 1);

impl Display for Total {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Total::Nothing => out.write_str("NULL"),
            Total::Beyond => out.write_str("more than is kept"),
            Total::Exactly { mantissa, scale } => match Decimal::new(*mantissa, *scale, 0) {
                Some(sum) => Display::fmt(&sum, out),
                None => out.write_str("more than is kept"),
            },
        }
    }
}

type Name<'a> = (Option<&'a str>, Option<&'a str>);

/// Whether these frames hold what SQL says; `Err` names the first difference. `tallies` are in the order of the
/// manifest's groups.
pub fn consistent(manifest: &Manifest, tallies: &[Tally], said: &Said) -> Result<(), String> {
    let counted: u64 = said.groups.iter().map(|group| group.rows).sum();
    if said.rows != counted || said.rows != manifest.rows() {
        return Err(format!(
            "count(*) says {counted} rows, {} were exported, {} were indexed",
            said.rows,
            manifest.rows()
        ));
    }
    // Without columns to group by SQL speaks of one group even when it is empty.
    let groups = said.groups.iter().filter(|group| group.rows > 0);
    let mut expected: BTreeMap<Name<'_>, &Figures> =
        groups.map(|group| ((group.measure.as_deref(), group.frequency.as_deref()), group)).collect();
    for (at, (measure, frequency, rows)) in manifest.groups().enumerate() {
        let name = || format!("measure {}, frequency {}", shown(measure), shown(frequency));
        let Some(figures) = expected.remove(&(measure, frequency)) else {
            return Err(format!("{}: SQL knows no rows, {rows} were indexed", name()));
        };
        if figures.rows != rows {
            return Err(format!("{}: count(*) says {} rows, {rows} were indexed", name(), figures.rows));
        }
        let dates = manifest.dates_of(at);
        if figures.dates != dates {
            let said = range(manifest, figures.dates);
            return Err(format!(
                "{}: dates are {said} by SQL, {} were indexed",
                name(),
                range(manifest, dates)
            ));
        }
        let tally = tallies.get(at).map_or(&[][..], |tally| &tally.0);
        for (column, sum) in &figures.sums {
            let total = tally.get(*column).copied().unwrap_or_default();
            if !total.is(*sum) {
                let column = &manifest.schema().fields()[*column].name;
                let sum = sum.map_or_else(|| "NULL".to_owned(), |sum| sum.to_string());
                return Err(format!("{}: sum({column}) is {sum} by SQL, {total} was indexed", name()));
            }
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some((measure, frequency)) => Err(format!(
            "measure {}, frequency {}: SQL has rows, none was indexed",
            shown(*measure),
            shown(*frequency)
        )),
    }
}

/// What is known of the generation before.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Its rows.
    pub rows: u64,
    /// The rest, unless that is lost.
    pub manifest: Option<&'a Manifest>,
}

/// What about the next generation is not plausible, in words; nothing = it may be served.
pub fn doubts(before: Before<'_>, next: &Manifest) -> Vec<String> {
    let mut doubts = Vec::new();
    if next.rows() == 0 && before.rows > 0 {
        // Everything else follows from it.
        return vec![format!("the table is empty, it had {} rows", before.rows)];
    }
    if u128::from(next.rows()) * 100 < u128::from(before.rows) * u128::from(ROWS_LEFT_PERCENT) {
        doubts.push(format!(
            "{} rows, it had {}: less than {ROWS_LEFT_PERCENT} percent are left",
            next.rows(),
            before.rows
        ));
    }
    let Some(before) = before.manifest else { return doubts };
    vanished("measure", before.measures(), next.measures(), &mut doubts);
    vanished("frequency", before.frequencies(), next.frequencies(), &mut doubts);
    // Of what is gone altogether the pairs are gone too.
    let left = |(measure, frequency): &Name<'_>| {
        next.measures().iter().any(|name| name.as_deref() == *measure)
            && next.frequencies().iter().any(|name| name.as_deref() == *frequency)
    };
    let names = |manifest: &'_ Manifest| -> BTreeSet<String> {
        let named = manifest.groups().map(|(measure, frequency, _)| (measure, frequency)).filter(left);
        named.map(|(measure, frequency)| format!("{} {}", shown(measure), shown(frequency))).collect()
    };
    missing("measure and frequency", names(before).difference(&names(next)), &mut doubts);
    if let (Some(last), Some(kind)) = (before.dates().map(|dates| dates.1), dates_kind(before))
        && dates_kind(next) == Some(kind)
        && next.dates().is_none_or(|dates| dates.1 < last)
    {
        let now = next.dates().map_or_else(|| "none".to_owned(), |dates| date(kind, dates.1));
        doubts.push(format!("the newest date is {now}, it was {}", date(kind, last)));
    }
    doubts
}

fn vanished(what: &str, before: &[Option<String>], next: &[Option<String>], doubts: &mut Vec<String>) {
    let gone = before.iter().filter(|name| !next.contains(name)).map(|name| shown(name.as_deref()));
    missing(what, gone.collect::<Vec<_>>().iter(), doubts);
}

fn missing<'a>(what: &str, names: impl Iterator<Item = &'a String>, doubts: &mut Vec<String>) {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return;
    }
    let first: Vec<&str> = names.by_ref().take(NAMES).map(String::as_str).collect();
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    doubts.push(format!("no rows any more of {what}: {}{more}", first.join(", ")));
}

/// A name of the source in a sentence: escaped, and not longer than somebody reads.
fn shown(name: Option<&str>) -> String {
    name.map_or_else(
        || "NULL".to_owned(),
        |name| format!("{:?}", name.chars().take(NAME_CHARS).collect::<String>()),
    )
}

fn dates_kind(manifest: &Manifest) -> Option<Type> {
    manifest.schema().roles().date.map(|at| manifest.schema().fields()[at].kind)
}

fn range(manifest: &Manifest, dates: Option<(i64, i64)>) -> String {
    match (dates, dates_kind(manifest)) {
        (Some((first, last)), Some(kind)) => format!("{} to {}", date(kind, first), date(kind, last)),
        _ => "none".to_owned(),
    }
}

/// A date, or the day of a timestamp.
fn date(kind: Type, at: i64) -> String {
    let (least, most) = kind.integers();
    if i128::from(at) == least || i128::from(at) == most {
        return if at < 0 { "-infinity".to_owned() } else { "infinity".to_owned() };
    }
    let day = if kind == Type::Date { at } else { at.div_euclid(calendar::DAY_US) };
    let (year, month, day) = calendar::civil(day);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::build::{Batch, Builder};
    use crate::analytics::schema::{Field, Roles};

    type Row<'a> = (Option<&'a str>, Option<&'a str>, Option<i64>, i64, Option<&'a str>);

    fn schema() -> Schema {
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let fields = vec![
            field("measure", Type::Text),
            field("frequency", Type::Text),
            field("day", Type::Date),
            field("practice", Type::Int),
            field("value", Type::Numeric),
        ];
        let roles =
            Roles { measure: Some(0), frequency: Some(1), date: Some(2), practice: Some(3), provider: None };
        Schema::new(fields, roles).unwrap()
    }

    /// Built, with its tallies.
    fn built(rows: &[Row<'_>]) -> (Manifest, Vec<Tally>) {
        let schema = schema();
        let mut batch = Batch::new(&schema);
        for (measure, frequency, day, practice, value) in rows {
            for (at, text) in [measure, frequency].into_iter().enumerate() {
                match text {
                    Some(text) => batch.column(at).text(text).unwrap(),
                    None => batch.column(at).null(),
                }
            }
            match day {
                Some(day) => batch.column(2).integer(*day).unwrap(),
                None => batch.column(2).null(),
            }
            batch.column(3).integer(*practice).unwrap();
            match value {
                Some(value) => batch.column(4).decimal(Decimal::parse(value).unwrap()).unwrap(),
                None => batch.column(4).null(),
            }
        }
        let mut builder = Builder::new(schema.clone());
        builder.push(batch).unwrap();
        let mut frames = builder.finish();
        let mut tallies = Vec::new();
        for made in frames.by_ref() {
            let mut tally = Tally::new(&schema);
            made.unwrap()
                .iter()
                .for_each(|made| tally.add(&Frame::open(&made.bytes, &made.hash, &schema).unwrap()));
            tallies.push(tally);
        }
        (frames.manifest().unwrap(), tallies)
    }

    fn figures(
        measure: Option<&str>,
        rows: u64,
        practices: i128,
        sum: Option<&str>,
        dates: Option<(i64, i64)>,
    ) -> Figures {
        let sums = vec![(3, Some(Decimal::whole(practices))), (4, sum.and_then(Decimal::parse))];
        Figures {
            measure: measure.map(str::to_owned),
            frequency: Some("Monthly".to_owned()),
            rows,
            sums,
            dates,
        }
    }

    const ROWS: [Row<'static>; 5] = [
        (Some("a|b"), Some("Monthly"), Some(10), 1, Some("0.10")),
        (Some("a|b"), Some("Monthly"), Some(12), 2, Some("-7")),
        (Some("a|b"), Some("Monthly"), None, 2, None),
        (None, Some("Monthly"), None, 5, None),
        (None, Some("Monthly"), None, 6, None),
    ];

    fn said() -> Said {
        let groups =
            vec![figures(None, 2, 11, None, None), figures(Some("a|b"), 3, 5, Some("-6.9"), Some((10, 12)))];
        Said { rows: 5, groups }
    }

    #[test]
    fn what_sql_says_is_what_was_indexed() {
        let (manifest, tallies) = built(&ROWS);
        assert_eq!(consistent(&manifest, &tallies, &said()), Ok(()));
        type Change = fn(&mut Said);
        let changes: [(Change, &str); 9] = [
            (|said| said.rows = 4, "count(*) says 5 rows, 4 were exported, 5 were indexed"),
            (
                |said| (said.rows, said.groups[0].rows) = (6, 3),
                "count(*) says 6 rows, 6 were exported, 5 were indexed",
            ),
            (
                |said| (said.groups[0].rows, said.groups[1].rows) = (3, 2),
                "measure \"a|b\", frequency \"Monthly\": count(*) says 2 rows, 3 were indexed",
            ),
            (
                |said| said.groups[1].measure = Some("c".to_owned()),
                "measure \"a|b\", frequency \"Monthly\": SQL knows no rows, 3 were indexed",
            ),
            (
                |said| said.groups[1].sums[1].1 = Decimal::parse("-6.91"),
                "measure \"a|b\", frequency \"Monthly\": sum(value) is -6.91 by SQL, -6.9 was indexed",
            ),
            (
                |said| said.groups[1].sums[1].1 = None,
                "measure \"a|b\", frequency \"Monthly\": sum(value) is NULL by SQL, -6.9 was indexed",
            ),
            (
                |said| said.groups[0].sums[1].1 = Decimal::parse("0"),
                "measure NULL, frequency \"Monthly\": sum(value) is 0 by SQL, NULL was indexed",
            ),
            (
                |said| said.groups[0].sums[0].1 = Decimal::parse("12"),
                "measure NULL, frequency \"Monthly\": sum(practice) is 12 by SQL, 11 was indexed",
            ),
            (
                |said| said.groups[1].dates = Some((10, 13)),
                "measure \"a|b\", frequency \"Monthly\": dates are 2000-01-11 to 2000-01-14 by SQL, \
                 2000-01-11 to 2000-01-13 were indexed",
            ),
        ];
        for (change, because) in changes {
            let mut other = said();
            change(&mut other);
            assert_eq!(consistent(&manifest, &tallies, &other), Err(because.to_owned()));
        }
        let (fewer, tallies) = built(&ROWS[..3]);
        let mut other = said();
        (other.rows, other.groups[1].rows) = (3, 1);
        assert!(consistent(&fewer, &tallies, &other).is_err(), "a group that is not there");
    }

    #[test]
    fn nothing_is_consistent_with_nothing() {
        let (manifest, tallies) = built(&[]);
        assert_eq!(consistent(&manifest, &tallies, &Said { rows: 0, groups: Vec::new() }), Ok(()));
        let empty = Figures { frequency: None, ..figures(None, 0, 0, None, None) };
        assert_eq!(consistent(&manifest, &tallies, &Said { rows: 0, groups: vec![empty] }), Ok(()));
    }

    #[test]
    fn sums_are_exact_across_scales_or_not_compared() {
        let sum = |values: &[(i128, u8)]| {
            values.iter().fold(Total::Nothing, |total, (mantissa, scale)| total.plus(*mantissa, *scale))
        };
        let small = sum(&[(1, 0), (5, 1), (25, 3), (-1, 38)]);
        assert!(
            !small.is(Decimal::parse("1.525"))
                && small.is(Decimal::parse("1.52499999999999999999999999999999999999"))
        );
        assert_eq!(sum(&[(i128::MAX, 0), (1, 0)]), Total::Beyond);
        assert_eq!(sum(&[(HELD, 0), (1, 38)]), Total::Beyond);
        assert!(Total::Beyond.is(None) && Total::Beyond.is(Decimal::parse("1")));
        assert!(sum(&[(HELD, 0)]).is(None) && !sum(&[(HELD / 10, 0)]).is(None));
        assert!(Total::Nothing.is(None) && !Total::Nothing.is(Decimal::parse("0")));
    }

    fn months(
        measures: &[&'static str],
        frequencies: &[&'static str],
        days: std::ops::Range<i64>,
    ) -> Manifest {
        let rows = measures.iter().flat_map(|measure| {
            let days = days.clone();
            frequencies.iter().flat_map(move |frequency| {
                days.clone().map(move |day| (Some(*measure), Some(*frequency), Some(day), 1, Some("1")))
            })
        });
        built(&rows.collect::<Vec<Row<'_>>>()).0
    }

    #[test]
    fn what_is_not_plausible_is_told() {
        let before = months(&["a", "b"], &["m", "w"], 0..10);
        let check = |next: &Manifest| doubts(Before { rows: before.rows(), manifest: Some(&before) }, next);
        assert_eq!(check(&before), Vec::<String>::new());
        assert_eq!(
            check(&months(&["a", "b"], &["m", "w"], 2..10)),
            Vec::<String>::new(),
            "80 percent are enough"
        );
        assert_eq!(check(&months(&["a", "b", "c"], &["m", "w", "y"], 5..20)), Vec::<String>::new());
        let tables: [(Manifest, &[&str]); 6] = [
            (months(&["a", "b"], &["m", "w"], 3..10), &["28 rows, it had 40: less than 80 percent are left"]),
            (months(&["a", "c"], &["m", "w"], 0..10), &["no rows any more of measure: \"b\""]),
            (months(&["a", "b"], &["m", "x"], 0..10), &["no rows any more of frequency: \"w\""]),
            (months(&["a", "b"], &["m", "w"], -1..9), &["the newest date is 2000-01-09, it was 2000-01-10"]),
            (months(&[], &[], 0..0), &["the table is empty, it had 40 rows"]),
            (
                built(
                    &(0..40)
                        .map(|day| {
                            (
                                Some(["a", "b"][day as usize % 2]),
                                Some(["m", "w"][day as usize % 2]),
                                Some(day),
                                1,
                                None,
                            )
                        })
                        .collect::<Vec<Row<'_>>>(),
                )
                .0,
                &["no rows any more of measure and frequency: \"a\" \"w\", \"b\" \"m\""],
            ),
        ];
        for (next, expected) in &tables {
            assert_eq!(check(next), *expected);
        }
        let lost = Before { rows: 40, manifest: None };
        assert_eq!(doubts(lost, &months(&["x"], &["y"], 0..40)), Vec::<String>::new());
        assert_eq!(doubts(lost, &months(&["x"], &["y"], 0..31)).len(), 1);
        let empty = months(&[], &[], 0..0);
        assert_eq!(doubts(Before { rows: 0, manifest: Some(&empty) }, &empty), Vec::<String>::new());
    }

    #[test]
    fn a_list_of_names_ends_and_shows_no_line_break() {
        let long = "x".repeat(1_000);
        let names: Vec<Option<String>> =
            (0..9).map(|at| Some(format!("{at}\n{long}"))).chain([None]).collect();
        let mut doubts = Vec::new();
        vanished("measure", &names, &[], &mut doubts);
        assert!(
            doubts[0].ends_with(" and 5 more") && doubts[0].len() < 500 && !doubts[0].contains('\n'),
            "{}",
            doubts[0]
        );
        vanished("measure", &names, &names, &mut doubts);
        assert_eq!(doubts.len(), 1);
    }

    #[test]
    fn dates_are_shown_as_days() {
        for (kind, at, expected) in [
            (Type::Date, -1, "1999-12-31"),
            (Type::Timestamp, -1, "1999-12-31"),
            (Type::TimestampTz, calendar::DAY_US, "2000-01-02"),
            (Type::TimestampTz, i64::MAX, "infinity"),
            (Type::Timestamp, i64::MIN, "-infinity"),
        ] {
            assert_eq!(date(kind, at), expected);
        }
    }
}
