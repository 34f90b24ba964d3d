//! JSON of a question, a field at a time, so that every refusal names the field it is about.
//!
//! Not what a field means. Numbers are read from their digits: what stands in the text is what is compared with.
//!
//! Invariant: no text makes it panic, and no list is longer than its limit.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::analytics::{Literal, Refused};
use crate::base::limits;
use crate::config::suggest::did_you_mean;

/// An object of which every field is known.
pub(super) struct Object<'a> {
    /// With a point behind it, unless it is the question itself.
    path: String,
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Object<'a> {
    /// The question itself.
    pub(super) fn question(json: &'a str, known: &[&str]) -> Result<Self, Refused> {
        if json.len() > limits::ANALYTICS_QUESTION_BYTES {
            return Err(Refused::question("filters", "a question of at most 8 MB"));
        }
        Self::read("filters", String::new(), json, known)
    }

    fn read(field: &str, path: String, json: &'a str, known: &[&str]) -> Result<Self, Refused> {
        let fields: BTreeMap<String, &'a RawValue> =
            serde_json::from_str(json).map_err(|_| Refused::question(field, "an object is expected"))?;
        for name in fields.keys() {
            if !known.contains(&name.as_str()) {
                let because =
                    format!("there is no such field. {}", did_you_mean(name, known.iter().copied()));
                return Err(Refused::question(format!("{path}{}", shortened(name)), because.trim_end()));
            }
        }
        Ok(Self { path, fields })
    }

    /// A field, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Given<'a>> {
        let raw = self.fields.get(name)?;
        Some(Given { field: format!("{}{name}", self.path), raw: raw.get() })
    }

    /// A field that must be there.
    pub(super) fn need(&self, name: &str, accepted: &str) -> Result<Given<'a>, Refused> {
        self.get(name).ok_or_else(|| {
            Refused::question(
                format!("{}{name}", self.path),
                format!("it is missing; {accepted} is expected"),
            )
        })
    }
}

/// What stands in a field.
pub(super) struct Given<'a> {
    field: String,
    raw: &'a str,
}

/// How whole numbers cross that a number of JavaScript does not hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BigInt<'a> {
    #[serde(rename = "$bigint")]
    digits: &'a str,
}

impl<'a> Given<'a> {
    /// Not this, but what is accepted.
    pub(super) fn refuse(&self, accepted: impl Into<String>) -> Refused {
        Refused::question(&self.field, accepted)
    }

    pub(super) fn is_null(&self) -> bool {
        self.raw == "null"
    }

    pub(super) fn is_text(&self) -> bool {
        self.raw.starts_with('"')
    }

    /// A text of up to `most` bytes.
    pub(super) fn text(&self, most: usize) -> Result<String, Refused> {
        let text: String = serde_json::from_str(self.raw).map_err(|_| self.refuse("a text is expected"))?;
        if text.len() > most {
            return Err(self.refuse(format!("at most {most} bytes are expected")));
        }
        Ok(text)
    }

    /// The name of a column or a result.
    pub(super) fn name(&self) -> Result<String, Refused> {
        self.text(limits::ANALYTICS_NAME_BYTES)
    }

    pub(super) fn object(&self, known: &[&str]) -> Result<Object<'a>, Refused> {
        Object::read(&self.field, format!("{}.", self.field), self.raw, known)
    }

    /// A list of up to `most`.
    pub(super) fn list(&self, most: usize) -> Result<Vec<Given<'a>>, Refused> {
        let items = self.items(most)?.into_iter().enumerate();
        Ok(items.map(|(at, item)| self.item(at, item)).collect())
    }

    fn items(&self, most: usize) -> Result<Vec<&'a RawValue>, Refused> {
        let items: Vec<&'a RawValue> =
            serde_json::from_str(self.raw).map_err(|_| self.refuse("a list is expected"))?;
        if items.len() > most {
            return Err(self.refuse(format!("a list of at most {most} is expected")));
        }
        Ok(items)
    }

    fn item(&self, at: usize, raw: &'a RawValue) -> Given<'a> {
        Given { field: format!("{}[{at}]", self.field), raw: raw.get() }
    }

    /// A list of practices or providers.
    pub(super) fn ids(&self) -> Result<Vec<i64>, Refused> {
        let items = self.items(limits::ANALYTICS_OPERANDS)?.into_iter().enumerate();
        items.map(|(at, item)| whole(item.get()).ok_or_else(|| self.item(at, item).refuse(ID))).collect()
    }

    /// An identifier.
    pub(super) fn id(&self) -> Result<i64, Refused> {
        whole(self.raw).ok_or_else(|| self.refuse(ID))
    }

    /// What a column is compared with: one value, or a list of up to `most`. `true` says that it was a list.
    pub(super) fn operands(&self, most: usize) -> Result<(Vec<Literal>, bool), Refused> {
        if !self.raw.starts_with('[') {
            return Ok((vec![literal(self.raw).ok_or_else(|| self.refuse(LITERAL))?], false));
        }
        let items = self.items(most)?.into_iter().enumerate();
        let read = |(at, item): (usize, &'a RawValue)| {
            literal(item.get()).ok_or_else(|| self.item(at, item).refuse(LITERAL))
        };
        Ok((items.map(read).collect::<Result<_, _>>()?, true))
    }
}

const ID: &str = "a whole number of at most 64 bits is expected";
const LITERAL: &str = "a text, a number, a bigint of up to 38 digits, true, false or null is expected";

/// A whole number, however it crossed.
fn whole(raw: &str) -> Option<i64> {
    serde_json::from_str(raw).ok().or_else(|| big(raw).and_then(|whole| whole.try_into().ok()))
}

fn big(raw: &str) -> Option<i128> {
    let BigInt { digits } = serde_json::from_str(raw).ok()?;
    let plain = digits.strip_prefix('-').unwrap_or(digits);
    let sound = !plain.is_empty() && plain.len() <= 38 && plain.bytes().all(|digit| digit.is_ascii_digit());
    sound.then(|| digits.parse().ok()).flatten()
}

fn literal(raw: &str) -> Option<Literal> {
    match *raw.as_bytes().first()? {
        b'n' => Some(Literal::Null),
        b't' => Some(Literal::Bool(true)),
        b'f' => Some(Literal::Bool(false)),
        b'"' => {
            let text: String = serde_json::from_str(raw).ok()?;
            (text.len() <= limits::ANALYTICS_VALUE_BYTES).then_some(Literal::Text(text))
        }
        b'{' => big(raw).map(Literal::Whole),
        b'[' => None,
        // Not by the JSON reader, which may be off by one unit in the last place.
        _ => raw.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Number),
    }
}

/// A name as it may stand in a message.
pub(super) fn shortened(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(64).collect()
}
