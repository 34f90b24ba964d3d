//! A question as conditions of SQL, with bound parameters.
//!
//! Invariant: a row meets the conditions exactly when the index shows it for the same question. What may not be seen is in no
//! list, so that an empty scope asks for nothing.

use crate::analytics::{Decimal, Operand, Operator, Predicate, Question, Test, Type};

use super::DataSource;
use super::parameter::{self, Kind, Parameter};

/// Conditions, and the values of their parameters in order.
pub(super) struct Conditions<'a> {
    of: &'a DataSource,
    all: Vec<String>,
    parameters: Vec<Parameter>,
}

/// `WHERE ...`, or nothing, and the values of its parameters.
pub(super) fn conditions(of: &DataSource, question: &Question) -> (String, Vec<Parameter>) {
    let mut conditions = Conditions { of, all: Vec::new(), parameters: Vec::new() };
    conditions.question(question);
    let Conditions { all, parameters, .. } = conditions;
    if all.is_empty() {
        (String::new(), parameters)
    } else {
        (format!(" WHERE {}", all.join(" AND ")), parameters)
    }
}

impl Conditions<'_> {
    fn question(&mut self, question: &Question) {
        let roles = *self.of.schema.roles();
        for (name, role) in [(&question.measure, roles.measure), (&question.frequency, roles.frequency)] {
            match (name, role) {
                (None, _) => {}
                (Some(name), Some(at)) if !name.contains('\0') => {
                    let column = self.of.equal(at);
                    self.compare(&column, "=", Parameter::text(name));
                }
                // A column that is not there is NULL, and no text holds a NUL.
                (Some(_), _) => self.never(),
            }
        }
        match question.visible.lists() {
            None => self.never(),
            Some((practices, providers)) => {
                self.among(roles.practice, practices);
                self.among(roles.provider, providers);
            }
        }
        self.dates(roles.date, question.first, question.last);
        for predicate in &question.predicates {
            self.predicate(predicate);
        }
    }

    fn never(&mut self) {
        self.all.push("false".to_owned());
    }

    fn bind(&mut self, parameter: Parameter) -> String {
        self.parameters.push(parameter);
        format!("${}", self.parameters.len())
    }

    fn compare(&mut self, column: &str, operator: &str, parameter: Parameter) {
        let value = self.bind(parameter);
        self.all.push(format!("{column} {operator} {value}"));
    }

    fn among(&mut self, role: Option<usize>, ids: Option<&[i64]>) {
        match (role, ids) {
            (_, None) => {}
            (None, Some(_)) => self.never(),
            (Some(at), Some(ids)) => {
                let list = self.bind(Parameter::ids(ids));
                self.all.push(format!("{} = ANY({list})", self.of.value(at)));
            }
        }
    }

    fn dates(&mut self, role: Option<usize>, first: Option<i64>, last: Option<i64>) {
        for (operator, bound) in [(">=", first), ("<=", last)] {
            let Some(bound) = bound else { continue };
            match role {
                Some(at) => {
                    let (column, value) = (self.of.value(at), moment(self.of.kind(at), bound));
                    self.compare(&column, operator, value);
                }
                None => self.never(),
            }
        }
    }

    fn predicate(&mut self, predicate: &Predicate) {
        let at = predicate.column();
        match predicate.test() {
            Test::Always => {}
            Test::Never => self.never(),
            Test::Compare(operator, operand) => self.one(at, *operator, operand),
            Test::Between(first, last) => {
                self.one(at, Operator::Gte, first);
                self.one(at, Operator::Lte, last);
            }
            Test::Among(list) => match self.list(at, list) {
                Some(list) => self.all.push(format!("{} = ANY({list})", self.of.equal(at))),
                None => self.never(),
            },
            Test::NotAmong(list) => match self.list(at, list) {
                Some(list) => self.all.push(format!("{} <> ALL({list})", self.of.equal(at))),
                None => self.all.push(format!("{} IS NOT NULL", self.of.value(at))),
            },
            Test::Like(pattern) => {
                let pattern = pattern.to_sql();
                if pattern.contains('\0') {
                    return self.never();
                }
                let column = self.of.equal(at);
                self.compare(&column, "LIKE", Parameter::text(&pattern));
            }
        }
    }

    fn one(&mut self, at: usize, operator: Operator, operand: &Operand) {
        let (operator, operand) = match (operator, before_nul(self.of.kind(at), operand)) {
            (_, None) => (operator, operand.clone()),
            // No text of the database holds a NUL, so none equals this one, and those before it end at what precedes the NUL.
            (Operator::Eq, Some(_)) => return self.never(),
            (Operator::Neq, Some(_)) => return self.all.push(format!("{} IS NOT NULL", self.of.value(at))),
            (Operator::Gt | Operator::Gte, Some(before)) => (Operator::Gt, before),
            (_, Some(before)) => (Operator::Lte, before),
        };
        let Some((kind, bytes)) = encode(self.of.kind(at), &operand) else { return self.never() };
        let (column, sign) = match operator {
            Operator::Eq => (self.of.equal(at), "="),
            Operator::Neq => (self.of.equal(at), "<>"),
            Operator::Gt => (self.of.ordered(at), ">"),
            Operator::Gte => (self.of.ordered(at), ">="),
            Operator::Lt => (self.of.ordered(at), "<"),
            _ => (self.of.ordered(at), "<="),
        };
        self.compare(&column, sign, Parameter::value(kind, bytes));
    }

    /// The place of a list of those operands that a value may equal; `None` when it can equal none of them.
    fn list(&mut self, at: usize, operands: &[Operand]) -> Option<String> {
        let kind = self.of.kind(at);
        let possible = operands.iter().filter(|operand| before_nul(kind, operand).is_none());
        let encoded: Vec<(Kind, Vec<u8>)> = possible.filter_map(|operand| encode(kind, operand)).collect();
        // A whole column equals no fraction, and none of the numbers beyond it.
        let whole = matches!(kind, Type::Int | Type::BigInt);
        let fit: Vec<_> =
            encoded.into_iter().filter(|(kind, _)| !whole || *kind == parameter::BIGINT).collect();
        let kind = fit.first()?.0;
        let values: Vec<Vec<u8>> = fit.into_iter().map(|(_, bytes)| bytes).collect();
        Some(self.bind(Parameter::list(kind, &values)))
    }
}

/// What precedes the NUL of a text, if it has one.
fn before_nul(kind: Type, operand: &Operand) -> Option<Operand> {
    match operand {
        Operand::Bytes(bytes) if kind == Type::Text => {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            Some(Operand::Bytes(bytes[..end].to_vec()))
        }
        _ => None,
    }
}

/// A date or timestamp of a column.
fn moment(kind: Type, at: i64) -> Parameter {
    let (kind, bytes) = moment_bytes(kind, at);
    Parameter::value(kind, bytes)
}

fn moment_bytes(kind: Type, at: i64) -> (Kind, Vec<u8>) {
    match kind {
        Type::TimestampTz => (parameter::TIMESTAMPTZ, at.to_be_bytes().to_vec()),
        Type::Timestamp => (parameter::TIMESTAMP, at.to_be_bytes().to_vec()),
        _ => {
            // The ends of time of a date are those of its integers.
            let days = at.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            (parameter::DATE, days.to_be_bytes().to_vec())
        }
    }
}

/// An operand as a parameter that compares with the column; `None` of NULL.
fn encode(kind: Type, operand: &Operand) -> Option<(Kind, Vec<u8>)> {
    match operand {
        Operand::Null => None,
        Operand::Float(value) => Some((parameter::FLOAT, value.to_be_bytes().to_vec())),
        Operand::Bytes(bytes) => {
            Some((if kind == Type::Uuid { parameter::UUID } else { parameter::TEXT }, bytes.clone()))
        }
        Operand::Exact(value) => Some(exact(kind, value)),
    }
}

fn exact(kind: Type, value: &Decimal) -> (Kind, Vec<u8>) {
    let (mantissa, scale) = value.shortest();
    let whole = if scale == 0 { i64::try_from(mantissa).ok() } else { None };
    match (kind, whole) {
        (Type::Bool, _) => (parameter::BOOL, vec![u8::from(mantissa != 0)]),
        (Type::Date | Type::Timestamp | Type::TimestampTz, Some(at)) => moment_bytes(kind, at),
        // An index on the column may serve.
        (Type::Int | Type::BigInt, Some(whole)) => (parameter::BIGINT, whole.to_be_bytes().to_vec()),
        _ => (parameter::NUMERIC, parameter::numeric(value)),
    }
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
pub(super) mod tests;
