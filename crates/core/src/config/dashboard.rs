//! The dashboard of the application: a materialized view, and the queries that answer when it cannot.
//!
//! Not SQL: the statements are the source's part. The queries themselves are, and they are the application's own.
//!
//! Invariant: every name is an identifier, the schema is on the allow-list, and queries take a scope key exactly
//! when the view has a column for it, so that a scoped dashboard has no group that forgot its scope.

use serde_json::{Map, Value as Json, json};

use crate::base::limits;

use super::error::ConfigError;
use super::kind::one_of;
use super::raw::type_of;
use super::schema::{identifier, object};
use super::suggest::did_you_mean;

const FIELDS: [&str; 9] = [
    "view",
    "schema",
    "key",
    "ttl",
    "lastRefreshedColumn",
    "maxAgeSeconds",
    "queries",
    "scopeColumn",
    "refreshTimeoutMs",
];
/// What an answer says of itself, beside its groups.
const TAKEN: [&str; 3] = ["performance", "degraded", "degradedReason"];
const KEY: &str = "dashboard:metrics:v3";
const TTL_S: f64 = 60.0;
/// 30 days, as every value of the application.
const TTL_S_MAX: f64 = 2_592_000.0;
const MAX_AGE_S: u64 = 600;
const MAX_AGE_S_MAX: u64 = 30 * 86_400;
const REFRESH_MS: u64 = 60_000;
/// A call may take ten minutes, and the database must be able to say no before that.
const REFRESH_MS_MAX: u64 = 540_000;

#[derive(Debug, Clone, PartialEq)]
pub struct DashboardSettings {
    pub schema: String,
    pub view: String,
    /// Of the entry in the cache.
    pub key: String,
    pub ttl_ms: u64,
    /// The column that says when the view was refreshed.
    pub last_refreshed: String,
    /// An older view is not healthy.
    pub max_age_s: u64,
    /// Name of each group, which is a column of the view, and its query; never empty.
    pub queries: Vec<(String, String)>,
    /// The column that says whose row it is.
    pub scope_column: Option<String>,
    pub refresh_timeout_ms: u64,
}

impl DashboardSettings {
    /// For the TypeScript side.
    pub fn json(&self) -> Json {
        json!({
            "view": format!("{}.{}", self.schema, self.view),
            "key": self.key,
            "ttlMs": self.ttl_ms,
            "maxAgeSeconds": self.max_age_s,
            "scoped": self.scope_column.is_some(),
            "refreshTimeoutMs": self.refresh_timeout_ms,
        })
    }
}

pub(crate) fn resolve_dashboard(
    allow: &[String],
    typed: Option<&Map<String, Json>>,
    errors: &mut Vec<ConfigError>,
) -> Option<DashboardSettings> {
    let mut fields = Fields { typed: typed?, errors };
    let before = fields.errors.len();
    fields.refuse_others();
    let view = fields.name("view", None);
    let schema = fields.name("schema", Some("public"));
    if let Some(schema) = schema.as_ref().filter(|schema| !allow.contains(schema)) {
        let allowed: Vec<&str> = allow.iter().map(String::as_str).collect();
        let hint = "CACHE_SCHEMA_ALLOW says which schemas are allowed.";
        fields.errors.push(ConfigError::option("dashboard.schema", Some(schema), one_of(&allowed), hint));
    }
    let scope_column = fields.typed.contains_key("scopeColumn").then(|| fields.name("scopeColumn", None));
    let settings = DashboardSettings {
        schema: schema.unwrap_or_default(),
        view: view.unwrap_or_default(),
        key: fields.key(),
        ttl_ms: fields.ttl_ms(),
        last_refreshed: fields.name("lastRefreshedColumn", Some("last_refreshed")).unwrap_or_default(),
        max_age_s: fields.whole("maxAgeSeconds", " of seconds", MAX_AGE_S, 1..=MAX_AGE_S_MAX),
        queries: fields.queries(scope_column.is_some()),
        scope_column: scope_column.flatten(),
        refresh_timeout_ms: fields.whole(
            "refreshTimeoutMs",
            " of milliseconds",
            REFRESH_MS,
            100..=REFRESH_MS_MAX,
        ),
    };
    (fields.errors.len() == before).then_some(settings)
}

struct Fields<'a> {
    typed: &'a Map<String, Json>,
    errors: &'a mut Vec<ConfigError>,
}

impl Fields<'_> {
    fn refuse(&mut self, path: String, value: Option<&str>, accepted: String, hint: &str) {
        self.errors.push(ConfigError::option(path, value, accepted, hint));
    }

    fn refuse_others(&mut self) {
        for field in self.typed.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
            let hint = did_you_mean(field, FIELDS);
            self.refuse(format!("dashboard.{field}"), None, one_of(&FIELDS), &hint);
        }
    }

    /// An identifier; without a default it must be there.
    fn name(&mut self, field: &str, default: Option<&str>) -> Option<String> {
        let path = format!("dashboard.{field}");
        match (self.typed.get(field), default) {
            (Some(json), _) => identifier(&path, json, self.errors),
            (None, Some(default)) => Some(default.to_owned()),
            (None, None) => {
                self.refuse(path, None, "the name of a materialized view".into(), "It is missing.");
                None
            }
        }
    }

    fn key(&mut self) -> String {
        let Some(json) = self.typed.get("key") else { return KEY.to_owned() };
        let fits = |text: &&str| (1..=limits::LAYERED_KEY_BYTES).contains(&text.len());
        if let Some(text) = json.as_str().filter(fits) {
            return text.to_owned();
        }
        let accepted = format!("a text of 1 to {} bytes", limits::LAYERED_KEY_BYTES);
        self.refuse("dashboard.key".into(), Some(json.as_str().unwrap_or(type_of(json))), accepted, "");
        String::new()
    }

    fn ttl_ms(&mut self) -> u64 {
        let Some(json) = self.typed.get("ttl") else { return (TTL_S * 1_000.0) as u64 };
        if let Some(seconds) = json.as_f64().filter(|seconds| (0.001..=TTL_S_MAX).contains(seconds)) {
            return (seconds * 1_000.0).round() as u64;
        }
        let accepted = format!("a number of seconds between 0.001 and {TTL_S_MAX}");
        self.refuse("dashboard.ttl".into(), Some(&json.to_string()), accepted, "");
        0
    }

    fn whole(&mut self, field: &str, unit: &str, default: u64, bounds: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(json) = self.typed.get(field) else { return default };
        if let Some(number) = json.as_u64().filter(|number| bounds.contains(number)) {
            return number;
        }
        let accepted = format!("a whole number{unit} between {} and {}", bounds.start(), bounds.end());
        self.refuse(format!("dashboard.{field}"), Some(&json.to_string()), accepted, "");
        default
    }

    fn queries(&mut self, scoped: bool) -> Vec<(String, String)> {
        let path = "dashboard.queries";
        let Some(json) = self.typed.get("queries") else {
            self.refuse(path.into(), None, "an object of a query for each group".into(), "It is missing.");
            return Vec::new();
        };
        let Some(typed) = object(path, json, self.errors) else { return Vec::new() };
        if !(1..=limits::DASHBOARD_GROUPS).contains(&typed.len()) {
            let shown = format!("{} queries", typed.len());
            let accepted = format!("1 to {} queries, one for each group", limits::DASHBOARD_GROUPS);
            self.refuse(path.into(), Some(&shown), accepted, "");
        }
        typed.iter().filter_map(|(group, json)| self.query(group, json, scoped)).collect()
    }

    fn query(&mut self, group: &str, json: &Json, scoped: bool) -> Option<(String, String)> {
        let path = format!("dashboard.queries.{group}");
        // A column of the view has this name.
        identifier(&path, &Json::from(group), self.errors)?;
        if TAKEN.contains(&group) {
            let accepted = format!("a name other than {}", one_of(&TAKEN));
            self.refuse(path, None, accepted, "");
            return None;
        }
        let text =
            json.as_str().map(|text| text.trim_end_matches(|end: char| end == ';' || end.is_whitespace()));
        let fits =
            |text: &&str| (1..=limits::DASHBOARD_QUERY_BYTES).contains(&text.len()) && !text.contains('\0');
        let Some(text) = text.filter(fits) else {
            let accepted = format!("the text of a query, at most {} bytes", limits::DASHBOARD_QUERY_BYTES);
            let shown =
                json.as_str().map_or(type_of(json), |text| if text.is_empty() { "" } else { "a text" });
            self.refuse(path, Some(shown), accepted, "");
            return None;
        };
        if takes_scope(text) != scoped {
            let (accepted, hint) = match scoped {
                true => ("a query that uses $1, the scope key", "With scopeColumn every group needs it."),
                false => ("a query without $1", "Set scopeColumn for a dashboard with one row per scope."),
            };
            self.refuse(path, None, accepted.into(), hint);
            return None;
        }
        Some((group.to_owned(), text.to_owned()))
    }
}

/// Whether `$1` occurs, and not only as the beginning of `$10`.
fn takes_scope(text: &str) -> bool {
    text.split("$1").skip(1).any(|after| !after.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: Json) -> (Option<DashboardSettings>, Vec<String>) {
        let mut errors = Vec::new();
        let allow = ["ih".to_owned(), "public".to_owned()];
        let settings = resolve_dashboard(&allow, typed.as_object(), &mut errors);
        (settings, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        assert_eq!(resolve_dashboard(&[], None, &mut Vec::new()), None);
        let (settings, errors) = read(json!({ "view": "metrics", "queries": { "a": "SELECT 1 AS n ; \n" } }));
        assert_eq!(errors, [""; 0]);
        let settings = settings.expect("no mistake");
        assert_eq!(
            settings,
            DashboardSettings {
                schema: "public".into(),
                view: "metrics".into(),
                key: "dashboard:metrics:v3".into(),
                ttl_ms: 60_000,
                last_refreshed: "last_refreshed".into(),
                max_age_s: 600,
                queries: vec![("a".into(), "SELECT 1 AS n".into())],
                scope_column: None,
                refresh_timeout_ms: 60_000,
            }
        );
        assert_eq!(settings.json()["view"], "public.metrics");
    }

    #[test]
    fn everything_can_be_said() {
        let (settings, errors) = read(json!({
            "view": "v", "schema": "ih", "key": "k", "ttl": 0.5, "lastRefreshedColumn": "at", "maxAgeSeconds": 5,
            "queries": { "a": "SELECT $1::int" }, "scopeColumn": "practice_uid", "refreshTimeoutMs": 540_000,
        }));
        assert_eq!(errors, [""; 0]);
        let settings = settings.expect("no mistake");
        assert_eq!((settings.ttl_ms, settings.max_age_s, settings.refresh_timeout_ms), (500, 5, 540_000));
        assert_eq!(settings.scope_column.as_deref(), Some("practice_uid"));
    }

    #[test]
    fn a_scope_key_is_used_everywhere_or_nowhere() {
        for (text, expected) in
            [("$1", true), ("x=$1::int", true), ("$10", false), ("$10 $1", true), ("$2", false), ("1", false)]
        {
            assert_eq!(takes_scope(text), expected, "{text}");
        }
    }

    #[test]
    fn mistakes() {
        let with = |field: &str, value: Json| {
            let mut typed = json!({ "view": "v", "queries": { "a": "SELECT 1" } });
            typed[field] = value;
            typed
        };
        let identifier = "an SQL identifier (letters, digits, underscore, at most 63, no leading digit)";
        for (typed, expected) in [
            (
                json!({ "queries": { "a": "SELECT 1" } }),
                "option dashboard.view is not accepted: the name of a materialized view. It is missing.".to_owned(),
            ),
            (
                json!({ "view": "v" }),
                "option dashboard.queries is not accepted: an object of a query for each group. It is missing.".into(),
            ),
            (
                with("view", json!("a.b")),
                format!("option dashboard.view=\"a.b\" is not accepted: {identifier}."),
            ),
            (
                with("schema", json!("pg_catalog")),
                "option dashboard.schema=\"pg_catalog\" is not accepted: ih or public. CACHE_SCHEMA_ALLOW says which \
                 schemas are allowed."
                    .into(),
            ),
            (
                with("ttl", json!(0)),
                "option dashboard.ttl=\"0\" is not accepted: a number of seconds between 0.001 and 2592000.".into(),
            ),
            (
                with("maxAgeSeconds", json!(1.5)),
                "option dashboard.maxAgeSeconds=\"1.5\" is not accepted: a whole number of seconds between 1 and 2592000."
                    .into(),
            ),
            (
                with("refreshTimeoutMs", json!(600_000)),
                "option dashboard.refreshTimeoutMs=\"600000\" is not accepted: a whole number of milliseconds between \
                 100 and 540000."
                    .into(),
            ),
            (
                with("key", json!("")),
                "option dashboard.key=\"\" is not accepted: a text of 1 to 896 bytes.".into(),
            ),
            (
                with("queries", json!({})),
                "option dashboard.queries=\"0 queries\" is not accepted: 1 to 50 queries, one for each group.".into(),
            ),
            (
                with("queries", json!({ "a b": "SELECT 1" })),
                format!("option dashboard.queries.a b=\"a b\" is not accepted: {identifier}."),
            ),
            (
                with("queries", json!({ "performance": "SELECT 1" })),
                "option dashboard.queries.performance is not accepted: a name other than performance, degraded or \
                 degradedReason."
                    .into(),
            ),
            (
                with("queries", json!({ "a": " ; " })),
                "option dashboard.queries.a=\"a text\" is not accepted: the text of a query, at most 65536 bytes.".into(),
            ),
            (
                with("queries", json!({ "a": "SELECT $1" })),
                "option dashboard.queries.a is not accepted: a query without $1. Set scopeColumn for a dashboard with \
                 one row per scope."
                    .into(),
            ),
            (
                with("scopeColumn", json!("tenant")),
                "option dashboard.queries.a is not accepted: a query that uses $1, the scope key. With scopeColumn every \
                 group needs it."
                    .into(),
            ),
            (
                with("querys", json!({})),
                format!("option dashboard.querys is not accepted: {}. Did you mean queries?", one_of(&FIELDS)),
            ),
        ] {
            let (settings, errors) = read(typed);
            assert_eq!((settings, errors), (None, vec![expected]));
        }
    }
}
