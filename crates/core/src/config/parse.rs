//! From text to a checked value, one kind at a time.
//!
//! Not which values go together: that is `settings`, `store` and `place`.
//!
//! Invariant: pure; a hint never repeats the text it is about.

use super::endpoint::{Endpoint, parse_endpoint, parse_host};
use super::kind::{Bounds, Kind, UrlForm};
use super::ratelimits::{Proxies, parse_proxies};
use super::schema::is_identifier;
use super::server_url::{ServerUrl, check_database_url, parse_rest_url, parse_server_url};

const PREFIX_MAX_BYTES: usize = 64;
const LIST_MAX: usize = 64;
const NAME_MAX_BYTES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
    Nodes(Vec<Endpoint>),
    Server(ServerUrl),
    Proxies(Proxies),
}

/// The error is a hint beyond what `Kind::accepted` says already; often there is none.
pub(crate) fn parse(kind: &Kind, text: &str) -> Result<Value, String> {
    let plain = matches!(kind, Kind::Secret | Kind::Url(_));
    if !plain && text.trim() != text {
        return Err("Remove the white space around it.".into());
    }
    if text.is_empty() && !matches!(kind, Kind::Prefix) {
        return Err("Leave it out instead of giving an empty text.".into());
    }
    match kind {
        Kind::Text | Kind::Secret | Kind::Path => no_controls(text),
        Kind::Host => parse_host(text)
            .map(Value::Text)
            .ok_or_else(|| "The port belongs into REDIS_PORT, a whole URL into REDIS_URL.".into()),
        Kind::Prefix => prefix(text),
        Kind::Bool => flag(text),
        Kind::Enum(words) => words
            .iter()
            .find(|word| word.eq_ignore_ascii_case(text))
            .map(|word| Value::Text((*word).to_owned()))
            .ok_or_else(|| super::suggest::did_you_mean(text, words.iter().copied())),
        Kind::Url(UrlForm::Server) => parse_server_url(text).map(Value::Server),
        Kind::Url(UrlForm::Rest) => parse_rest_url(text).map(Value::Text),
        Kind::Url(UrlForm::Database) => check_database_url(text).map(|()| Value::Text(text.to_owned())),
        Kind::Nodes => nodes(text),
        Kind::Identifiers => list(text, is_identifier),
        Kind::Names => list(text, is_name),
        Kind::Proxies => parse_proxies(text).map(Value::Proxies),
        Kind::Port
        | Kind::Seconds(_)
        | Kind::Milliseconds(_)
        | Kind::Microseconds(_)
        | Kind::Count(_)
        | Kind::Bytes(_) => number(text, kind.bounds()),
    }
}

fn no_controls(text: &str) -> Result<Value, String> {
    if text.chars().any(char::is_control) {
        return Err("It contains a control character, often a line end copied along.".into());
    }
    Ok(Value::Text(text.to_owned()))
}

fn prefix(text: &str) -> Result<Value, String> {
    // Braces would move every key to one cluster slot; the others are wildcards when keys are searched.
    let forbidden = |c: char| !c.is_ascii_graphic() || "{}[]*?\\".contains(c);
    if text.len() > PREFIX_MAX_BYTES {
        return Err(format!("It has {} bytes.", text.len()));
    }
    match text.chars().find(|c| forbidden(*c)) {
        Some(c) => Err(format!("It contains {c:?}.")),
        None => Ok(Value::Text(text.to_owned())),
    }
}

fn flag(text: &str) -> Result<Value, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(Value::Flag(true)),
        "false" | "0" | "no" | "off" => Ok(Value::Flag(false)),
        _ => Err(String::new()),
    }
}

fn number(text: &str, bounds: Option<Bounds>) -> Result<Value, String> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("Write digits only, without sign, fraction or unit.".into());
    }
    // A number too long for 64 bits is out of any bounds as well.
    let inside = |n: &u64| bounds.is_none_or(|b| (b.min..=b.max).contains(n));
    text.parse().ok().filter(inside).map(Value::Number).ok_or_else(String::new)
}

fn nodes(text: &str) -> Result<Value, String> {
    let mut nodes: Vec<Endpoint> = Vec::new();
    for part in parts(text)? {
        let node = parse_endpoint(part).ok_or("Each one needs a host and a port.")?;
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(Value::Nodes(nodes))
}

fn list(text: &str, accepts: fn(&str) -> bool) -> Result<Value, String> {
    let mut names: Vec<String> = Vec::new();
    for (index, part) in parts(text)?.into_iter().enumerate() {
        if !accepts(part) {
            return Err(format!("Entry {} is not one.", index + 1));
        }
        if !names.iter().any(|name| name == part) {
            names.push(part.to_owned());
        }
    }
    Ok(Value::List(names))
}

fn parts(text: &str) -> Result<Vec<&str>, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("An entry is empty.".into());
    }
    if parts.len() > LIST_MAX {
        return Err(format!("At most {LIST_MAX} entries are read."));
    }
    Ok(parts)
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX_BYTES && text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Option<Value> {
        Some(Value::Text(s.to_owned()))
    }

    fn names(list: &[&str]) -> Option<Value> {
        Some(Value::List(list.iter().map(|s| (*s).to_owned()).collect()))
    }

    #[test]
    fn values() {
        let ms = Kind::Milliseconds(Bounds { min: 1, max: 100 });
        let words = Kind::Enum(&["auto", "cluster"]);
        let number = |n| Some(Value::Number(n));
        let cases: Vec<(Kind, &str, Option<Value>)> = vec![
            (Kind::Port, "1", number(1)),
            (Kind::Port, "65535", number(65_535)),
            (Kind::Port, "0", None),
            (Kind::Port, "65536", None),
            (Kind::Port, "99999999999999999999999", None),
            (Kind::Port, "+1", None),
            (Kind::Port, "-1", None),
            (Kind::Port, "1.5", None),
            (Kind::Port, "0x1", None),
            (Kind::Port, "", None),
            (Kind::Port, " 1", None),
            (ms, "100", number(100)),
            (ms, "101", None),
            (ms, "50ms", None),
            (Kind::Bool, "TRUE", Some(Value::Flag(true))),
            (Kind::Bool, "0", Some(Value::Flag(false))),
            (Kind::Bool, "2", None),
            (words, "Cluster", text("cluster")),
            (words, "clusters", None),
            (Kind::Host, "cache", text("cache")),
            (Kind::Host, "cache:1", None),
            (Kind::Text, "app", text("app")),
            (Kind::Text, "app ", None),
            (Kind::Text, "a\tb", None),
            (Kind::Secret, " pw ", text(" pw ")),
            (Kind::Secret, "pw\n", None),
            (Kind::Prefix, "", text("")),
            (Kind::Prefix, "app:prod:", text("app:prod:")),
            (Kind::Prefix, "a b", None),
            (Kind::Prefix, "{a}", None),
            (Kind::Prefix, "a*", None),
            (Kind::Prefix, "a?", None),
            (Kind::Prefix, "[a", None),
            (Kind::Prefix, "a]", None),
            (Kind::Prefix, "a\\", None),
            (Kind::Prefix, "é", None),
            (Kind::Names, "user_id, sub,sub", names(&["user_id", "sub"])),
            (Kind::Names, "https://x/uid", names(&["https://x/uid"])),
            (Kind::Names, "a b", None),
            (Kind::Names, "a,,b", None),
            (Kind::Identifiers, "ih,public", names(&["ih", "public"])),
            (Kind::Identifiers, "ih;drop", None),
            (Kind::Nodes, "a,b:1", None),
        ];
        for (kind, typed, expected) in cases {
            assert_eq!(parse(&kind, typed).ok(), expected, "{kind:?} {typed:?}");
        }
        let longest = "p".repeat(PREFIX_MAX_BYTES);
        assert!(parse(&Kind::Prefix, &longest).is_ok());
        assert!(parse(&Kind::Prefix, &format!("{longest}p")).is_err());
        assert!(parse(&Kind::Names, &vec!["n"; LIST_MAX + 1].join(",")).is_err());
    }
}
