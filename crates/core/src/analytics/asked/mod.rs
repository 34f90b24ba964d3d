//! A question as the application asks it: one JSON text, read first without and then with the table it is about.
//!
//! Here names become positions and values become what their column holds. Not what an answer is: that is `query` and
//! `aggregate`, and the source, which all take what is made here.
//!
//! Invariant: nothing is guessed. What is not understood is refused with the field and what is accepted, a list that is
//! empty is empty, and a scope is only left out by whoever may see everything.

mod read;
mod resolve;
#[cfg(test)]
mod tests;

use super::accumulate::{Function, Metric};
use super::aggregate::{self, GroupBy};
use super::calendar::Unit;
use super::filter::Operator;
use super::frame::Frame;
use super::literal::Literal;
use super::manifest::Manifest;
use super::query::{self, Question, Table};
use super::refused::Refused;
use super::schema::Schema;
use super::scope::Visible;
use crate::base::limits;
use crate::rbac::scope::{HandedOn, Scope};
use read::{Given, Object};

/// A question that is well formed, about a table that is not known yet.
#[derive(Clone, Debug)]
pub struct Asked {
    data_source: i64,
    measure: Option<String>,
    frequency: Option<String>,
    visible: Visible,
    /// Whether practices, providers were asked for: the table must then have such columns.
    named: [bool; 2],
    start: Option<String>,
    end: Option<String>,
    conditions: Vec<Condition>,
    wanted: Names,
}

/// A condition whose column is not known yet.
#[derive(Clone, Debug)]
struct Condition {
    field: String,
    operator: Operator,
    operands: Vec<Literal>,
}

/// What is wanted, by name.
#[derive(Clone, Debug)]
enum Names {
    Rows(Option<Vec<String>>),
    Groups { by: Vec<(String, Option<Unit>)>, cut: Option<Unit>, metrics: Vec<Named> },
}

/// A metric whose column is not known yet.
#[derive(Clone, Debug)]
struct Named {
    function: Function,
    column: Option<String>,
    name: String,
}

const FIELDS: &[&str] = &[
    "datasourceId",
    "measure",
    "frequency",
    "practiceUids",
    "providerUids",
    "startDate",
    "endDate",
    "advancedFilters",
    "columns",
    "scope",
    "groupBy",
    "metrics",
    "dateTrunc",
];

impl Asked {
    /// Reads the JSON that `lib/analytics/filters.ts` writes.
    pub fn parse(json: &str) -> Result<Self, Refused> {
        let given = Object::question(json, FIELDS)?;
        let text = |name: &str, most: usize| match given.get(name) {
            Some(text) if !text.is_null() => text.text(most).map(Some),
            _ => Ok(None),
        };
        let ids = |name| given.get(name).map(|ids| ids.ids()).transpose();
        let (practices, providers) = (ids("practiceUids")?, ids("providerUids")?);
        let scope = given.get("scope").map_or(Ok(HandedOn::All), |scope| handed_on(&scope))?;
        Ok(Self {
            data_source: given.need("datasourceId", "a whole number")?.id()?,
            measure: text("measure", limits::ANALYTICS_VALUE_BYTES)?,
            frequency: text("frequency", limits::ANALYTICS_VALUE_BYTES)?,
            visible: Visible::of(&Scope::handed_on(scope), practices.as_deref(), providers.as_deref()),
            named: [practices.is_some(), providers.is_some()],
            start: text("startDate", limits::ANALYTICS_NAME_BYTES)?,
            end: text("endDate", limits::ANALYTICS_NAME_BYTES)?,
            conditions: given.get("advancedFilters").map_or(Ok(Vec::new()), |list| conditions(&list))?,
            wanted: wanted(&given)?,
        })
    }

    /// Which data source is asked.
    pub fn data_source(&self) -> i64 {
        self.data_source
    }

    /// What may be seen. `Visible::NOTHING`: neither store nor source need be asked for data.
    pub fn visible(&self) -> &Visible {
        &self.visible
    }

    /// The answer to somebody who may see nothing, when not even the table is known: no rows and, without its types, no
    /// columns. `None`: there is a row, which has them.
    pub fn of_nothing(&self) -> Option<Table> {
        match &self.wanted {
            Names::Groups { by, .. } if by.is_empty() => None,
            _ => Some(Table { rows: 0, columns: Vec::new() }),
        }
    }
}

/// The scope of `lib/scope.ts`.
fn handed_on(given: &Given<'_>) -> Result<HandedOn, Refused> {
    let scope = given.object(&["kind", "practices", "providers"])?;
    let kind = scope.need("kind", "nothing, rows or all")?;
    match kind.text(limits::ANALYTICS_NAME_BYTES)?.as_str() {
        "nothing" => Ok(HandedOn::Nothing),
        "all" => Ok(HandedOn::All),
        "rows" => {
            let practices = scope.need("practices", "a list of whole numbers")?.ids()?;
            let providers = scope.need("providers", "a list of whole numbers or null")?;
            let providers = if providers.is_null() { None } else { Some(providers.ids()?) };
            Ok(HandedOn::Rows { practices, providers })
        }
        _ => Err(kind.refuse("nothing, rows or all is expected")),
    }
}

fn conditions(given: &Given<'_>) -> Result<Vec<Condition>, Refused> {
    let mut left = limits::ANALYTICS_OPERANDS;
    let list = given.list(limits::ANALYTICS_CONDITIONS)?;
    list.iter()
        .map(|given| {
            let condition = given.object(&["field", "operator", "value"])?;
            let operator = condition.need("operator", &words(&Operator::ALL))?;
            let word = operator.text(limits::ANALYTICS_NAME_BYTES)?;
            let is = Operator::parse(&word)
                .ok_or_else(|| operator.refuse(format!("one of {} is expected", words(&Operator::ALL))))?;
            // Left out by accident it must not turn into another condition.
            let value = condition.need("value", "a value, or null")?;
            let (operands, list) = value.operands(left)?;
            let lists = matches!(is, Operator::In | Operator::NotIn | Operator::Between);
            if lists != list {
                let accepted = if lists { "a list" } else { "one value, not a list," };
                return Err(value.refuse(format!("{accepted} is expected for {word}")));
            }
            left -= operands.len().min(left);
            let field = condition.need("field", "the name of a column")?.name()?;
            Ok(Condition { field, operator: is, operands })
        })
        .collect()
}

fn wanted(given: &Object<'_>) -> Result<Names, Refused> {
    let columns = given.get("columns");
    let (by, metrics, cut) = (given.get("groupBy"), given.get("metrics"), given.get("dateTrunc"));
    if by.is_none() && metrics.is_none() && cut.is_none() {
        let columns = columns.map(|columns| {
            let list = columns.list(limits::ANALYTICS_COLUMNS)?;
            if list.is_empty() {
                return Err(columns.refuse("at least one column is expected; leave it out for all of them"));
            }
            list.iter().map(Given::name).collect()
        });
        return Ok(Names::Rows(columns.transpose()?));
    }
    if let Some(columns) = columns {
        return Err(columns.refuse("the columns of an aggregate are those of groupBy and metrics"));
    }
    let by: Vec<_> = by.map_or(Ok(Vec::new()), |by| {
        by.list(limits::ANALYTICS_METRICS)?.iter().map(group_by).collect::<Result<_, _>>()
    })?;
    let metrics: Vec<_> = metrics.map_or(Ok(Vec::new()), |metrics| {
        metrics.list(limits::ANALYTICS_METRICS)?.iter().map(metric).collect::<Result<_, _>>()
    })?;
    if by.is_empty() && metrics.is_empty() {
        return Err(Refused::question(
            "metrics",
            "at least one metric or one column to group by is expected",
        ));
    }
    let cut = cut.map(|cut| unit(&cut)).transpose()?;
    Ok(Names::Groups { by, cut, metrics })
}

fn group_by(given: &Given<'_>) -> Result<(String, Option<Unit>), Refused> {
    if given.is_text() {
        return Ok((given.name()?, None));
    }
    let by = given.object(&["column", "unit"])?;
    let cut = by.get("unit").map(|cut| unit(&cut)).transpose()?;
    Ok((by.need("column", "the name of a column")?.name()?, cut))
}

fn unit(given: &Given<'_>) -> Result<Unit, Refused> {
    let word = given.text(limits::ANALYTICS_NAME_BYTES)?;
    Unit::parse(&word).ok_or_else(|| given.refuse(format!("one of {} is expected", words(&Unit::ALL))))
}

fn metric(given: &Given<'_>) -> Result<Named, Refused> {
    let metric = given.object(&["function", "column", "as"])?;
    let function = metric.need("function", &words(&Function::ALL))?;
    let word = function.text(limits::ANALYTICS_NAME_BYTES)?;
    let is = Function::parse(&word)
        .ok_or_else(|| function.refuse(format!("one of {} is expected", words(&Function::ALL))))?;
    let column = metric.get("column").map(|column| column.name()).transpose()?;
    if column.is_none() && is != Function::Count {
        return Err(function.refuse(format!("{word} needs a column")));
    }
    let name = match (metric.get("as"), &column) {
        (Some(name), _) => {
            let text = name.name()?;
            if text.is_empty() {
                return Err(name.refuse("a name is expected"));
            }
            text
        }
        (None, Some(column)) => format!("{word}_{column}"),
        (None, None) => word,
    };
    Ok(Named { function: is, column, name })
}

/// `eq, neq, ...`
fn words<T>(all: &[(T, &str)]) -> String {
    all.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

/// A question about one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Which rows.
    pub question: Question,
    /// What of them.
    pub wanted: Wanted,
}

/// What is wanted of the rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The rows themselves.
    Rows {
        /// Columns by position, in this order; `None` = all.
        columns: Option<Vec<usize>>,
    },
    /// Groups of them.
    Groups {
        /// What they are made by.
        by: Vec<GroupBy>,
        /// What is computed of each.
        metrics: Vec<Metric>,
    },
}

impl Wanted {
    /// The answer when there are no rows, with its columns: what SQL answers about an empty table, hence one group of no
    /// rows when there is nothing to group by.
    pub fn of_nothing(&self, schema: &Schema) -> Result<Table, Refused> {
        let manifest = Manifest::new(schema.clone(), &[]);
        let question = Question::nothing();
        let plan = manifest.plan(&question)?;
        let frames: [Frame; 0] = [];
        match self {
            Wanted::Rows { columns } => query::rows(&manifest, &question, &plan, &frames, columns.as_deref()),
            Wanted::Groups { by, metrics } => {
                aggregate::aggregate(&manifest, &question, &plan, &frames, by, metrics)
            }
        }
    }
}
