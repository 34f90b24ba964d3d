//! Conditions on columns, as SQL means them: a row is kept when every condition is true, and a comparison with NULL is not.
//!
//! Numbers compare by value, texts and UUIDs by bytes (`COLLATE "C"`), floats as Postgres orders them (NaN above all).
//! Integers are compared as they are packed; a dictionary is asked once per distinct value.
//!
//! Invariant: for every operator and every value, the answer is that of Postgres.

use std::cmp::Ordering;

use super::column::{Column, Form, compare_floats};
use super::decimal::{AtScale, Decimal};
use super::like::Pattern;
use super::literal::{Literal, Operand};
use super::packed::Packed;
use super::refused::Refused;
use super::schema::{Schema, Type};
use crate::base::limits;

/// What a condition does with its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Eq,
    /// `<>`
    Neq,
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `= ANY`: of an empty list, nothing.
    In,
    /// `<> ALL`: of an empty list, everything, NULL included.
    NotIn,
    /// `LIKE`, with `\` as escape character.
    Like,
    /// `BETWEEN`, both ends included.
    Between,
}

impl Operator {
    /// Every operator with the word that users write.
    pub const ALL: [(Operator, &'static str); 10] = [
        (Operator::Eq, "eq"),
        (Operator::Neq, "neq"),
        (Operator::Gt, "gt"),
        (Operator::Gte, "gte"),
        (Operator::Lt, "lt"),
        (Operator::Lte, "lte"),
        (Operator::In, "in"),
        (Operator::NotIn, "not_in"),
        (Operator::Like, "like"),
        (Operator::Between, "between"),
    ];

    /// By its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(operator, _)| *operator)
    }

    fn allows(self, order: Ordering) -> bool {
        match self {
            Operator::Eq => order == Ordering::Equal,
            Operator::Neq => order != Ordering::Equal,
            Operator::Gt => order == Ordering::Greater,
            Operator::Gte => order != Ordering::Less,
            Operator::Lt => order == Ordering::Less,
            Operator::Lte => order != Ordering::Greater,
            Operator::In | Operator::NotIn | Operator::Like | Operator::Between => false,
        }
    }
}

/// A condition whose column exists and whose operands are values of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    column: usize,
    test: Test,
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// True of everything, NULL included.
    Always,
    /// True of nothing.
    Never,
    /// One comparison.
    Compare(Operator, Operand),
    /// From the first to the second.
    Between(Operand, Operand),
    /// One of these.
    Among(Vec<Operand>),
    /// Not NULL and none of these.
    NotAmong(Vec<Operand>),
    /// Like this.
    Like(Pattern),
}

impl Predicate {
    /// Checks a condition against the table.
    pub fn new(
        schema: &Schema,
        column: &str,
        operator: Operator,
        literals: &[Literal],
    ) -> Result<Self, Refused> {
        let position = schema.position(column)?;
        let field = &schema.fields()[position];
        let wanted = match operator {
            Operator::Between => 2..=2,
            Operator::In | Operator::NotIn => 0..=limits::ANALYTICS_OPERANDS,
            _ => 1..=1,
        };
        if !wanted.contains(&literals.len()) {
            let because = match operator {
                Operator::Between => "between takes two values",
                Operator::In | Operator::NotIn => "a list has at most 100000 values",
                _ => "this operator takes one value",
            };
            return Err(Refused::question(column, because));
        }
        if operator == Operator::Like {
            let test =
                like(field.kind, &literals[0]).map_err(|because| Refused::question(column, because))?;
            return Ok(Self { column: position, test });
        }
        if field.kind == Type::Json && !literals.is_empty() {
            return Err(Refused::question(column, "json cannot be compared; use a column of another type"));
        }
        let operands =
            literals.iter().map(|literal| Operand::read(field, literal)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { column: position, test: Test::new(operator, operands) })
    }

    /// The values of a column from `first` to `last`, as integers of its type.
    pub(super) fn range(column: usize, first: Option<i64>, last: Option<i64>) -> Option<Self> {
        let exact = |at: i64| Operand::Exact(Decimal::whole(at.into()));
        let test = match (first, last) {
            (Some(first), Some(last)) => Test::Between(exact(first), exact(last)),
            (Some(first), None) => Test::Compare(Operator::Gte, exact(first)),
            (None, Some(last)) => Test::Compare(Operator::Lte, exact(last)),
            (None, None) => return None,
        };
        Some(Self { column, test })
    }

    /// Which column is asked.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is asked of it.
    pub fn test(&self) -> &Test {
        &self.test
    }

    /// Keeps the rows of which it is true.
    pub fn keep(&self, column: &Column, rows: &mut Vec<u32>) {
        match &self.test {
            Test::Always => return,
            Test::Never => return rows.clear(),
            _ if column.nulls().any() => rows.retain(|row| !column.nulls().at(*row as usize)),
            _ => {}
        }
        if rows.is_empty() {
            return;
        }
        match column.form() {
            Form::Plain if column.kind() == Type::Float => keep_floats(&self.test, column.integers(), rows),
            Form::Plain => keep_integers(&self.test, column.integers(), 0, rows),
            Form::Decimal { scale, .. } => keep_integers(&self.test, column.integers(), *scale, rows),
            Form::Dictionary(dictionary) => {
                let holds: Vec<bool> = dictionary.iter().map(|entry| self.test.of_bytes(entry)).collect();
                keep_if(column.integers(), rows, |code| holds[code as usize]);
            }
        }
    }
}

fn like(kind: Type, literal: &Literal) -> Result<Test, String> {
    match literal {
        _ if kind != Type::Text => Err(format!("like is for texts, this column is {}", kind.name())),
        Literal::Null => Ok(Test::Never),
        Literal::Text(text) if text.len() > limits::ANALYTICS_PATTERN_BYTES => {
            Err("a pattern has at most 4096 bytes".to_owned())
        }
        Literal::Text(text) => Pattern::new(text, Some('\\'))
            .map(Test::Like)
            .ok_or_else(|| "a pattern must not end with its escape character".to_owned()),
        _ => Err("like takes a text".to_owned()),
    }
}

impl Test {
    /// With as many operands as the operator takes.
    fn new(operator: Operator, mut operands: Vec<Operand>) -> Self {
        let nulls = operands.contains(&Operand::Null);
        match operator {
            Operator::In => {
                // A NULL in the list makes a miss unknown instead of false: the row is kept neither way.
                operands.retain(|operand| *operand != Operand::Null);
                if operands.is_empty() { Test::Never } else { Test::Among(sorted(operands)) }
            }
            Operator::NotIn if operands.is_empty() => Test::Always,
            _ if nulls => Test::Never,
            Operator::NotIn => Test::NotAmong(sorted(operands)),
            Operator::Between => {
                let last = operands.pop().expect("between has two operands");
                Test::Between(operands.pop().expect("between has two operands"), last)
            }
            _ => Test::Compare(operator, operands.pop().expect("a comparison has one operand")),
        }
    }

    /// Of a text or a UUID.
    fn of_bytes(&self, entry: &[u8]) -> bool {
        self.decide(
            |operand| match operand {
                Operand::Bytes(bytes) => entry.cmp(bytes),
                _ => unreachable!("operands are of the column's type"),
            },
            || std::str::from_utf8(entry).unwrap_or_default(),
        )
    }

    /// `compare` orders the value against an operand; `text` is the value, for a pattern.
    fn decide<'a>(&self, compare: impl Fn(&Operand) -> Ordering, text: impl Fn() -> &'a str) -> bool {
        let among = |list: &Vec<Operand>| list.binary_search_by(|operand| compare(operand).reverse()).is_ok();
        match self {
            Test::Always => true,
            Test::Never => false,
            Test::Compare(operator, operand) => operator.allows(compare(operand)),
            Test::Between(first, last) => {
                compare(first) != Ordering::Less && compare(last) != Ordering::Greater
            }
            Test::Among(list) => among(list),
            Test::NotAmong(list) => !among(list),
            Test::Like(pattern) => pattern.matches(text()),
        }
    }
}

/// Ascending, so that a list is searched and not walked.
fn sorted(mut operands: Vec<Operand>) -> Vec<Operand> {
    operands.sort_by(|a, b| match (a, b) {
        (Operand::Exact(a), Operand::Exact(b)) => a.cmp(b),
        (Operand::Float(a), Operand::Float(b)) => compare_floats(*a, *b),
        (Operand::Bytes(a), Operand::Bytes(b)) => a.cmp(b),
        _ => unreachable!("operands are of one type, and not NULL"),
    });
    operands
}

fn keep_floats(test: &Test, bits: &Packed, rows: &mut Vec<u32>) {
    keep_if(bits, rows, |bits| {
        let value = f64::from_bits(bits as u64);
        let compare = |operand: &Operand| match operand {
            Operand::Float(float) => compare_floats(value, *float),
            _ => unreachable!("operands are of the column's type"),
        };
        test.decide(compare, || "")
    });
}

/// Integers that mean `integer / 10^scale`.
fn keep_integers(test: &Test, integers: &Packed, scale: u8, rows: &mut Vec<u32>) {
    let exact = |operand: &Operand| match operand {
        Operand::Exact(decimal) => *decimal,
        _ => unreachable!("operands are of the column's type"),
    };
    let listed = |list: &[Operand]| -> Vec<i128> {
        let at = |operand| match exact(operand).at_scale(scale) {
            AtScale::Exactly(integer) => Some(integer),
            _ => None,
        };
        list.iter().filter_map(at).collect()
    };
    match test {
        Test::Compare(Operator::Neq, operand) => {
            let other = listed(std::slice::from_ref(operand));
            keep_if(integers, rows, |integer| !other.contains(&integer));
        }
        Test::Compare(operator, operand) => match range(*operator, exact(operand).at_scale(scale)) {
            Some((low, high)) => integers.retain_between(rows, low, high),
            None => rows.clear(),
        },
        Test::Between(first, last) => {
            let first = range(Operator::Gte, exact(first).at_scale(scale));
            let last = range(Operator::Lte, exact(last).at_scale(scale));
            match (first, last) {
                (Some((low, _)), Some((_, high))) => integers.retain_between(rows, low, high),
                _ => rows.clear(),
            }
        }
        Test::Among(list) => {
            let list = listed(list);
            keep_if(integers, rows, |integer| list.binary_search(&integer).is_ok());
        }
        Test::NotAmong(list) => {
            let list = listed(list);
            keep_if(integers, rows, |integer| list.binary_search(&integer).is_err());
        }
        Test::Always | Test::Never | Test::Like(_) => unreachable!("decided before"),
    }
}

/// The integers that compare like this with a value; `None` when none does.
fn range(operator: Operator, at: AtScale) -> Option<(i128, i128)> {
    let (below, exactly) = match at {
        AtScale::Exactly(integer) => (integer, true),
        AtScale::After(below) => (below, false),
        AtScale::Outside(side) => {
            let above = side == Ordering::Greater;
            let all = match operator {
                Operator::Lt | Operator::Lte => above,
                Operator::Gt | Operator::Gte => !above,
                _ => false,
            };
            return all.then_some((i128::MIN, i128::MAX));
        }
    };
    match operator {
        Operator::Eq => exactly.then_some((below, below)),
        Operator::Gt => below.checked_add(1).map(|low| (low, i128::MAX)),
        Operator::Gte if exactly => Some((below, i128::MAX)),
        Operator::Gte => below.checked_add(1).map(|low| (low, i128::MAX)),
        Operator::Lt if exactly => below.checked_sub(1).map(|high| (i128::MIN, high)),
        Operator::Lt | Operator::Lte => Some((i128::MIN, below)),
        _ => None,
    }
}

fn keep_if(integers: &Packed, rows: &mut Vec<u32>, holds: impl Fn(i128) -> bool) {
    let mut kept = Vec::with_capacity(rows.len());
    let mut next = rows.iter();
    integers.each(rows.iter().copied(), |integer| {
        let row = next.next().expect("one integer for every row");
        if holds(integer) {
            kept.push(*row);
        }
    });
    *rows = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::schema::{Field, Roles};
    use crate::analytics::testing::{self, Cell};

    fn schema(kind: Type) -> Schema {
        Schema::new(vec![Field { name: "c".to_owned(), kind }], Roles::default()).unwrap()
    }

    fn kept(kind: Type, cells: &[Cell], operator: Operator, literals: &[Literal]) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..cells.len() as u32).collect();
        Predicate::new(&schema(kind), "c", operator, literals)
            .unwrap()
            .keep(&testing::column(kind, cells), &mut rows);
        rows
    }

    fn text(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    #[test]
    fn null_is_never_equal_and_never_different() {
        let cells = [Cell::Int(1), Cell::Null, Cell::Int(2)];
        let one = [Literal::Number(1.0)];
        let null = [Literal::Null];
        let mixed = [Literal::Number(1.0), Literal::Null];
        for (operator, literals, expected) in [
            (Operator::Eq, &one[..], vec![0]),
            (Operator::Neq, &one, vec![2]),
            (Operator::Eq, &null, vec![]),
            (Operator::Neq, &null, vec![]),
            (Operator::In, &mixed, vec![0]),
            (Operator::NotIn, &mixed, vec![]),
            (Operator::NotIn, &one, vec![2]),
            (Operator::In, &[], vec![]),
            (Operator::NotIn, &[], vec![0, 1, 2]),
            (Operator::Between, &mixed, vec![]),
        ] {
            assert_eq!(kept(Type::Int, &cells, operator, literals), expected, "{operator:?} {literals:?}");
        }
    }

    #[test]
    fn an_integer_is_compared_with_a_fraction_as_a_number() {
        let cells = [Cell::Int(-2), Cell::Int(-1), Cell::Int(0), Cell::Int(1)];
        for (operator, literal, expected) in [
            (Operator::Gt, -1.5, vec![1, 2, 3]),
            (Operator::Gte, -1.5, vec![1, 2, 3]),
            (Operator::Lt, -1.5, vec![0]),
            (Operator::Lte, -1.5, vec![0]),
            (Operator::Eq, -1.5, vec![]),
            (Operator::Neq, -1.5, vec![0, 1, 2, 3]),
            (Operator::Lt, 1e30, vec![0, 1, 2, 3]),
            (Operator::Gt, 1e30, vec![]),
            (Operator::Gte, -1e30, vec![0, 1, 2, 3]),
        ] {
            assert_eq!(
                kept(Type::Int, &cells, operator, &[Literal::Number(literal)]),
                expected,
                "{operator:?} {literal}"
            );
        }
    }

    #[test]
    fn numbers_by_value_texts_by_bytes_floats_as_postgres_orders_them() {
        let prices =
            ["1.50", "1.5", "-0.01", "0.000000000000000001"].map(|text| Cell::Decimal(text.to_owned()));
        assert_eq!(kept(Type::Numeric, &prices, Operator::Eq, &[text("1.500")]), [0, 1]);
        assert_eq!(kept(Type::Numeric, &prices, Operator::Lt, &[text("0.0000000000000000011")]), [2, 3]);
        assert_eq!(
            kept(Type::Numeric, &prices, Operator::Between, &[text("1e-18"), Literal::Number(1.5)]),
            [0, 1, 3]
        );

        let names = ["a", "B", "é", "", "a|b"].map(|text| Cell::Bytes(text.as_bytes().to_vec()));
        assert_eq!(
            kept(Type::Text, &names, Operator::Gt, &[text("a")]),
            [2, 4],
            "capitals before small letters"
        );
        assert_eq!(kept(Type::Text, &names, Operator::Like, &[text("_")]), [0, 1, 2]);
        assert_eq!(kept(Type::Text, &names, Operator::In, &[text(""), text("a|b")]), [3, 4]);

        let floats = [f64::NAN, -0.0, 0.0, f64::INFINITY].map(|value| Cell::Float(value.to_bits()));
        assert_eq!(kept(Type::Float, &floats, Operator::Eq, &[Literal::Number(0.0)]), [1, 2]);
        assert_eq!(kept(Type::Float, &floats, Operator::Eq, &[Literal::Number(f64::NAN)]), [0]);
        assert_eq!(kept(Type::Float, &floats, Operator::Gt, &[Literal::Number(f64::INFINITY)]), [0]);
    }

    #[test]
    fn what_sql_would_not_understand_is_refused() {
        let long = "a".repeat(limits::ANALYTICS_PATTERN_BYTES + 1);
        for (kind, column, operator, literals) in [
            (Type::Int, "d", Operator::Eq, vec![Literal::Null]),
            (Type::Int, "c", Operator::Eq, vec![]),
            (Type::Int, "c", Operator::Between, vec![Literal::Null]),
            (Type::Int, "c", Operator::Like, vec![text("1%")]),
            (Type::Text, "c", Operator::Like, vec![text("50\\")]),
            (Type::Text, "c", Operator::Like, vec![text(&long)]),
            (Type::Text, "c", Operator::Like, vec![Literal::Number(1.0)]),
            (Type::Json, "c", Operator::Eq, vec![Literal::Null]),
            (Type::Date, "c", Operator::In, vec![text("2024-01-01"), text("soon")]),
        ] {
            let refused = Predicate::new(&schema(kind), column, operator, &literals);
            assert!(
                matches!(refused, Err(Refused::Question { field, .. }) if field == column),
                "{operator:?}"
            );
        }
        let many = vec![Literal::Null; limits::ANALYTICS_OPERANDS + 1];
        assert!(Predicate::new(&schema(Type::Int), "c", Operator::In, &many).is_err());
    }

    #[test]
    fn every_operator_has_its_word() {
        for (operator, word) in Operator::ALL {
            assert_eq!(Operator::parse(word), Some(operator));
        }
        assert_eq!(Operator::parse("="), None);
    }
}
