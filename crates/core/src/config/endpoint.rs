//! Hosts and `host:port` pairs.
//!
//! Not name resolution: nothing here asks the network.
//!
//! Invariant: a host kept here has no scheme, no port and no brackets.

use std::fmt;
use std::net::Ipv6Addr;

/// The longest name DNS carries.
const HOST_MAX_BYTES: usize = 253;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A name, an IPv4 address, or an IPv6 address with or without brackets.
pub(crate) fn parse_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Some(bare.to_owned());
    }
    let name_is_sound = bare.len() == text.len()
        && bare.len() <= HOST_MAX_BYTES
        && bare.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !bare.contains("..")
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    // Container networks hand out names with underscores, so those pass although DNS forbids them.
    name_is_sound.then(|| bare.to_owned())
}

pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port > 0)
}

/// `host:port`; an IPv6 address needs its brackets.
pub(crate) fn parse_endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    if host.contains(':') && !host.starts_with('[') {
        return None;
    }
    Some(Endpoint { host: parse_host(host)?, port: parse_port(port)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("localhost", Some("localhost")),
            ("my-cache.abc.use1.cache.amazonaws.com", Some("my-cache.abc.use1.cache.amazonaws.com")),
            ("redis_1", Some("redis_1")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("::1", Some("::1")),
            ("[fe80::1]", Some("fe80::1")),
            ("", None),
            ("cache:6379", None),
            ("redis://cache", None),
            ("[cache]", None),
            ("[::1", None),
            ("a b", None),
            ("-cache", None),
            ("a..b", None),
            ("user@cache", None),
            ("caché", None),
        ] {
            assert_eq!(parse_host(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("a:1", Some("a:1")),
            ("[::1]:7000", Some("[::1]:7000")),
            ("::1:7000", None),
            ("a", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:+1", None),
            (":7000", None),
        ] {
            assert_eq!(parse_endpoint(text).map(|e| e.to_string()).as_deref(), expected, "{text}");
        }
    }
}
