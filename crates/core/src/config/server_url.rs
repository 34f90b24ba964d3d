//! The URLs that name servers: `redis://`, an Upstash REST address, `postgres://`.
//!
//! Not a connection string for a client: only what they say is taken out.
//!
//! Invariant: no error text repeats any part of a URL, because any part may be the password.

use url::Url;

use super::endpoint::parse_host;
use super::secret::Secret;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
}

const ENCODE: &str = "Special characters in user and password must be percent-encoded (@ is %40, / is %2F, # is %23, % is %25).";

pub(crate) fn parse_server_url(text: &str) -> Result<ServerUrl, String> {
    let url = parse_url(text)?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err("The scheme must be redis or rediss.".into()),
    };
    if url.query().is_some() {
        return Err(format!("A query (?...) has no meaning here. {ENCODE}"));
    }
    let host = url.host_str().and_then(parse_host).ok_or("It names no usable host.")?;
    if url.port() == Some(0) {
        return Err("Port 0 cannot be connected to.".into());
    }
    let database = match url.path() {
        "" | "/" => 0,
        path => database_number(&path[1..]).ok_or("What follows the host must be a number, as in /0.")?,
    };
    let username = decoded(url.username())?;
    let password = url.password().map(decoded).transpose()?.flatten().map(Secret::new);
    Ok(ServerUrl { tls, host, port: url.port(), username, password, database })
}

/// The host of an Upstash REST address.
pub(crate) fn parse_rest_url(text: &str) -> Result<String, String> {
    let url = parse_url(text)?;
    if url.scheme() != "https" {
        return Err("The scheme must be https; a redis:// address belongs into REDIS_URL.".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("The token belongs into UPSTASH_REDIS_REST_TOKEN.".into());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err("Nothing may follow the host.".into());
    }
    url.host_str().and_then(parse_host).ok_or_else(|| "It names no usable host.".into())
}

/// Only what would otherwise be misread silently; the database driver reads the rest.
pub(crate) fn check_database_url(text: &str) -> Result<(), String> {
    let url = parse_url(text)?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("The scheme must be postgres or postgresql.".into());
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty())
        // A socket directory is named this way.
        || url.query_pairs().any(|(name, value)| matches!(&*name, "host" | "hostaddr") && !value.is_empty());
    if !has_host {
        return Err("It names no host.".into());
    }
    decoded(url.username())?;
    url.password().map(decoded).transpose()?;
    Ok(())
}

fn parse_url(text: &str) -> Result<Url, String> {
    // The URL standard drops tabs and line ends without a word; in a password that is a wrong password.
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("It contains white space.".into());
    }
    if !text.contains("://") {
        return Err("It is not a URL: the scheme and :// are missing.".into());
    }
    let url = Url::parse(text).map_err(|_| format!("It is not a URL. {ENCODE}"))?;
    if url.fragment().is_some() {
        return Err(format!("It contains a #. {ENCODE}"));
    }
    Ok(url)
}

fn database_number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Percent-decoding, strict: a stray `%` is a password typed without encoding it.
fn decoded(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let pair = tail.get(..2).and_then(|pair| Some((hex(pair[0])?, hex(pair[1])?)));
        let (high, low) = pair.ok_or(ENCODE)?;
        bytes.push(high << 4 | low);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map(Some).map_err(|_| "User and password must be UTF-8.".into())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = (bool, &'a str, Option<u16>, Option<&'a str>, Option<&'a str>, u32);

    #[test]
    fn server_urls() {
        let cases: &[(&str, Parts<'_>)] = &[
            ("redis://cache", (false, "cache", None, None, None, 0)),
            ("redis://cache/", (false, "cache", None, None, None, 0)),
            ("REDISS://cache:6380/0", (true, "cache", Some(6380), None, None, 0)),
            ("redis://:pw@cache/3", (false, "cache", None, None, Some("pw"), 3)),
            ("redis://app:p%40s%2F%25%23@[::1]:1", (false, "::1", Some(1), Some("app"), Some("p@s/%#"), 0)),
            ("redis://app:p@ss@cache", (false, "cache", None, Some("app"), Some("p@ss"), 0)),
            ("redis://app:a+b%C3%A9@cache", (false, "cache", None, Some("app"), Some("a+bé"), 0)),
        ];
        for (text, expected) in cases {
            let url = parse_server_url(text).expect("sound");
            let password = url.password.as_ref().map(Secret::expose);
            let parts =
                (url.tls, url.host.as_str(), url.port, url.username.as_deref(), password, url.database);
            assert_eq!(parts, *expected, "{text}");
        }
    }

    #[test]
    fn bad_server_urls_never_repeat_themselves() {
        for text in [
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://:hunter2@",
            "redis://u:hunter2#x@cache",
            "redis://u:hunter2/x@cache",
            "redis://u:1234#x@cache",
            "redis://u:50%hunter2@cache",
            "redis://u:%ff@cache",
            "redis://cache:0",
            "redis://cache:70000",
            "redis://cache/one",
            "redis://cache/1/2",
            "redis://cache/-1",
            "redis://cache?db=1",
            "redis://ca che",
            "redis://cache\n",
            "redis://u:pw@%63ache",
        ] {
            let hint = parse_server_url(text).expect_err("a mistake");
            assert!(hint.ends_with('.') && !hint.contains("hunter2"), "{text}: {hint}");
        }
    }

    #[test]
    fn rest_urls() {
        for (text, expected) in [
            ("https://eu1-x-123.upstash.io", Some("eu1-x-123.upstash.io")),
            ("https://eu1-x-123.upstash.io/", Some("eu1-x-123.upstash.io")),
            ("http://eu1-x-123.upstash.io", None),
            ("https://default:t@eu1.upstash.io", None),
            ("https://eu1.upstash.io/get/x", None),
            ("eu1.upstash.io", None),
        ] {
            assert_eq!(parse_rest_url(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn database_urls() {
        for (text, accepted) in [
            ("postgres://u:p@db:5432/app", true),
            ("postgresql://db/app?sslmode=require", true),
            ("postgres:///app?host=/var/run/postgresql", true),
            ("postgres://%2Fvar%2Frun/app", true),
            ("postgres:///app", false),
            ("mysql://db/app", false),
            ("postgres://u:p#x@db/app", false),
            ("postgres://u:5%@db/app", false),
            ("db/app", false),
        ] {
            assert_eq!(check_database_url(text).is_ok(), accepted, "{text}");
        }
    }
}
