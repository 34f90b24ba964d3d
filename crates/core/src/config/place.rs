//! Where the server is and who we are there, out of the three ways to say so.
//!
//! Not a connection. `REDIS_URL`, `REDIS_HOST` with its companions, and the Upstash pair are told
//! apart here and nowhere else.
//!
//! Invariant: two statements of the same origin that differ are an error, never a silent choice;
//! between origins the option wins.

use super::error::ConfigError;
use super::raw::Origin;
use super::secret::Secret;
use super::server_url::ServerUrl;
use super::values::Values;

/// The user of every Upstash database.
const UPSTASH_USER: &str = "default";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The variable that named the host.
    pub(crate) named_by: &'static str,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) tls: bool,
    pub(crate) database: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    At(Place),
    Nowhere,
    /// Named, but with mistakes that are reported already.
    Unusable,
}

pub(crate) fn resolve_place(values: &Values<'_>, errors: &mut Vec<ConfigError>) -> Named {
    let before = errors.len();
    let upstash = upstash_origin(values, errors);
    let url = values.origin("REDIS_URL");
    let host = values.origin("REDIS_HOST");
    // A server named by an option replaces the one of the environment as a whole: mixing the two
    // would send the password of one server to the other.
    let by_option = [url, host, upstash].contains(&Some(Origin::Option));
    let counts = |origin: Option<Origin>| match origin {
        Some(Origin::Environment) => !by_option,
        Some(Origin::Option) => true,
        None => false,
    };
    if counts(url) && counts(host) {
        let hint = "REDIS_HOST names a server as well; remove one of the two.";
        errors.push(values.conflict("REDIS_URL", "either REDIS_URL or REDIS_HOST, not both", hint));
        return Named::Unusable;
    }
    let place = if counts(url) {
        values.server("REDIS_URL").map(|url| from_url(values, url, errors))
    } else if counts(host) {
        values.text("REDIS_HOST").map(|host| from_host(values, host))
    } else if counts(upstash) {
        let host = values.text("UPSTASH_REDIS_REST_URL");
        host.map(|host| from_upstash(values, host, errors))
    } else if errors.len() == before {
        return Named::Nowhere;
    } else {
        None
    };
    match place {
        Some(place) => {
            require_password(values, &place, errors);
            Named::At(place)
        }
        None => Named::Unusable,
    }
}

/// The pair counts as an option when half of it is one.
fn upstash_origin(values: &Values<'_>, errors: &mut Vec<ConfigError>) -> Option<Origin> {
    let (url, token) = ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN");
    match (values.origin(url), values.origin(token)) {
        (Some(Origin::Environment), Some(Origin::Environment)) => Some(Origin::Environment),
        (Some(_), Some(_)) => Some(Origin::Option),
        (None, None) => None,
        (given, _) => {
            let (one, other) = if given.is_some() { (url, token) } else { (token, url) };
            let accepted = format!("only together with {other}");
            errors.push(values.conflict(one, accepted, format!("Set {other} too, or remove {one}.")));
            None
        }
    }
}

fn from_host(values: &Values<'_>, host: &str) -> Place {
    Place {
        named_by: "REDIS_HOST",
        host: host.to_owned(),
        port: values.number("REDIS_PORT"),
        username: values.owned("REDIS_USERNAME"),
        password: values.secret("REDIS_PASSWORD"),
        tls: values.flag("REDIS_TLS"),
        database: 0,
    }
}

fn from_upstash(values: &Values<'_>, host: &str, errors: &mut Vec<ConfigError>) -> Place {
    if values.is_given("REDIS_TLS") && !values.is_unusable("REDIS_TLS") && !values.flag("REDIS_TLS") {
        let hint = "UPSTASH_REDIS_REST_URL names the server; use REDIS_URL for one without TLS.";
        errors.push(values.conflict("REDIS_TLS", "true, because Upstash is reached by TLS only", hint));
    }
    let username = values.owned("REDIS_USERNAME").or_else(|| Some(UPSTASH_USER.to_owned()));
    let token = || values.secret("UPSTASH_REDIS_REST_TOKEN");
    Place {
        named_by: "UPSTASH_REDIS_REST_URL",
        tls: true,
        username,
        password: values.secret("REDIS_PASSWORD").or_else(token),
        ..from_host(values, host)
    }
}

fn from_url(values: &Values<'_>, url: &ServerUrl, errors: &mut Vec<ConfigError>) -> Place {
    let mut agreed = Agreement { values, errors };
    let port = agreed.on("REDIS_PORT", url.port, || Some(values.number("REDIS_PORT")));
    let username = agreed.on("REDIS_USERNAME", url.username.clone(), || values.owned("REDIS_USERNAME"));
    let password = agreed.on("REDIS_PASSWORD", url.password.clone(), || values.secret("REDIS_PASSWORD"));
    let tls = agreed.on("REDIS_TLS", Some(url.tls), || Some(values.flag("REDIS_TLS")));
    Place {
        named_by: "REDIS_URL",
        host: url.host.clone(),
        port: port.unwrap_or_else(|| values.default_number("REDIS_PORT")),
        username,
        password,
        tls: tls.unwrap_or(url.tls),
        database: url.database,
    }
}

/// One rule for everything that both a URL and a variable of its own can say.
struct Agreement<'a, 'b> {
    values: &'a Values<'a>,
    errors: &'b mut Vec<ConfigError>,
}

impl Agreement<'_, '_> {
    fn on<T: PartialEq>(
        &mut self,
        name: &'static str,
        in_url: Option<T>,
        alone: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let values = self.values;
        if !values.is_given(name) || values.is_unusable(name) {
            return in_url;
        }
        let (of_url, of_alone) = (values.origin("REDIS_URL"), values.origin(name));
        // A port belongs to a host: the environment's port is not the one of an option's URL.
        let other_server = name == "REDIS_PORT" && of_url == Some(Origin::Option) && of_alone != of_url;
        if other_server {
            return in_url;
        }
        let alone = alone();
        if in_url.is_none() || in_url == alone {
            return alone;
        }
        if of_url == of_alone {
            let accepted = "the same as in REDIS_URL, or unset";
            let hint = "REDIS_URL says something else; remove one of the two.";
            self.errors.push(values.conflict(name, accepted, hint));
        }
        if of_alone == Some(Origin::Option) { alone } else { in_url }
    }
}

/// A user without a password would silently become the server's default user.
fn require_password(values: &Values<'_>, place: &Place, errors: &mut Vec<ConfigError>) {
    if place.username.is_none() || place.password.is_some() || values.is_unusable("REDIS_PASSWORD") {
        return;
    }
    let name = if values.is_given("REDIS_USERNAME") { "REDIS_USERNAME" } else { place.named_by };
    errors.push(values.conflict(name, "a user together with a password", "Set REDIS_PASSWORD."));
}
