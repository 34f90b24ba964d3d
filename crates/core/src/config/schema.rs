//! What an application calls the tables and columns that are read.
//!
//! Not SQL: quoting is the source's part.
//!
//! Invariant: every name that leaves this module is an identifier, and every configured schema is
//! on the allow-list.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::error::ConfigError;
use super::kind::one_of;
use super::raw::type_of;
use super::suggest::did_you_mean;

/// Postgres cuts longer names without a word, and the rest may name another table.
const IDENTIFIER_MAX_BYTES: usize = 63;
const DEFAULT_SCHEMA: &str = "public";
const IDENTIFIER: &str = "an SQL identifier (letters, digits, underscore, at most 63, no leading digit)";

type Table = (&'static str, &'static [&'static str]);

/// The tables with fixed names. Data source tables are named by rows of `chart_data_sources`.
#[rustfmt::skip] // a table is read as a table
const TABLES: &[Table] = &[
    ("token_blacklist", &["jti", "user_id", "token_type", "blacklisted_at", "expires_at", "reason",
        "blacklisted_by", "ip_address", "user_agent"]),
    ("users", &["user_id", "email", "first_name", "last_name", "email_verified", "is_active",
        "provider_uid", "created_at", "updated_at", "deleted_at"]),
    ("organizations", &["organization_id", "name", "slug", "parent_organization_id",
        "practice_uids", "is_active", "created_at", "updated_at", "deleted_at"]),
    ("roles", &["role_id", "name", "description", "organization_id", "is_system_role", "is_active",
        "created_at", "updated_at", "deleted_at"]),
    ("permissions", &["permission_id", "name", "description", "resource", "action", "scope",
        "is_active", "created_at", "updated_at"]),
    ("role_permissions", &["role_permission_id", "role_id", "permission_id"]),
    ("user_roles", &["user_role_id", "user_id", "role_id", "organization_id", "granted_by",
        "granted_at", "expires_at", "is_active"]),
    ("user_organizations", &["user_organization_id", "user_id", "organization_id", "is_active",
        "joined_at"]),
    ("chart_data_sources", &["data_source_id", "data_source_name", "table_name", "schema_name",
        "data_source_type", "is_active"]),
    ("chart_data_source_columns", &["column_id", "data_source_id", "column_name", "display_name",
        "data_type", "is_filterable", "is_groupable", "is_measure", "is_dimension",
        "is_date_field", "is_measure_type", "is_time_period", "is_active"]),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMapping {
    pub schema: String,
    pub table: String,
    /// Only the columns that are called differently.
    pub columns: BTreeMap<&'static str, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaMapping {
    /// The schemas a configured name may lie in.
    pub allow: Vec<String>,
    /// Only the tables that were mapped.
    pub tables: BTreeMap<&'static str, TableMapping>,
}

impl SchemaMapping {
    /// Schema and name of a table of the product.
    pub fn table<'a>(&'a self, table: &'a str) -> (&'a str, &'a str) {
        self.tables
            .get(table)
            .map_or((DEFAULT_SCHEMA, table), |mapped| (mapped.schema.as_str(), mapped.table.as_str()))
    }

    /// Name of a column of such a table.
    pub fn column<'a>(&'a self, table: &str, column: &'a str) -> &'a str {
        self.tables.get(table).and_then(|mapped| mapped.columns.get(column)).map_or(column, String::as_str)
    }

    /// Whether this is a table that the product itself reads, such as that of users: never a data source.
    pub fn is_own(&self, schema: &str, table: &str) -> bool {
        TABLES.iter().any(|(own, _)| self.table(own) == (schema, table))
    }

    pub fn allows(&self, schema: &str) -> bool {
        self.allow.iter().any(|allowed| allowed == schema)
    }
}

/// `^[A-Za-z_][A-Za-z0-9_]*$`, not longer than Postgres keeps.
pub fn is_identifier(text: &str) -> bool {
    text.len() <= IDENTIFIER_MAX_BYTES
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(crate) fn resolve_schema(
    allow: Vec<String>,
    typed: &Map<String, Json>,
    errors: &mut Vec<ConfigError>,
) -> SchemaMapping {
    let mut mapping = SchemaMapping { allow, tables: BTreeMap::new() };
    for (name, json) in typed {
        let path = format!("schema.{name}");
        let Some((table, columns)) = TABLES.iter().find(|(table, _)| *table == name) else {
            let hint = did_you_mean(name, TABLES.iter().map(|(table, _)| *table));
            errors.push(ConfigError::option(path, None, "the name of a table that is read", hint));
            continue;
        };
        let Some(fields) = object(&path, json, errors) else {
            continue;
        };
        let mapped = resolve_table(&path, table, columns, fields, &mapping, errors);
        mapping.tables.insert(*table, mapped);
    }
    mapping
}

fn resolve_table(
    path: &str,
    table: &'static str,
    known: &'static [&'static str],
    fields: &Map<String, Json>,
    mapping: &SchemaMapping,
    errors: &mut Vec<ConfigError>,
) -> TableMapping {
    let mut mapped =
        TableMapping { schema: DEFAULT_SCHEMA.to_owned(), table: table.to_owned(), columns: BTreeMap::new() };
    for (field, json) in fields {
        let path = format!("{path}.{field}");
        match field.as_str() {
            "schema" => {
                if let Some(name) = identifier(&path, json, errors) {
                    if !mapping.allows(&name) {
                        let allowed: Vec<&str> = mapping.allow.iter().map(String::as_str).collect();
                        let hint = "CACHE_SCHEMA_ALLOW says which schemas are allowed.";
                        errors.push(ConfigError::option(path, Some(&name), one_of(&allowed), hint));
                    }
                    mapped.schema = name;
                }
            }
            "table" => {
                if let Some(name) = identifier(&path, json, errors) {
                    mapped.table = name;
                }
            }
            "columns" => mapped.columns = resolve_columns(&path, known, json, errors),
            _ => {
                let hint = did_you_mean(field, ["schema", "table", "columns"]);
                errors.push(ConfigError::option(path, None, "schema, table or columns", hint));
            }
        }
    }
    mapped
}

fn resolve_columns(
    path: &str,
    known: &'static [&'static str],
    json: &Json,
    errors: &mut Vec<ConfigError>,
) -> BTreeMap<&'static str, String> {
    let mut columns = BTreeMap::new();
    let Some(fields) = object(path, json, errors) else {
        return columns;
    };
    for (column, json) in fields {
        let path = format!("{path}.{column}");
        match known.iter().find(|known| *known == column) {
            Some(known) => {
                if let Some(name) = identifier(&path, json, errors) {
                    columns.insert(*known, name);
                }
            }
            None => {
                let hint = did_you_mean(column, known.iter().copied());
                errors.push(ConfigError::option(path, None, one_of(known), hint));
            }
        }
    }
    columns
}

pub(super) fn object<'a>(
    path: &str,
    json: &'a Json,
    errors: &mut Vec<ConfigError>,
) -> Option<&'a Map<String, Json>> {
    if json.is_object() {
        return json.as_object();
    }
    errors.push(ConfigError::option(path, Some(type_of(json)), "an object", ""));
    None
}

pub(super) fn identifier(path: &str, json: &Json, errors: &mut Vec<ConfigError>) -> Option<String> {
    if let Some(name) = json.as_str().filter(|name| is_identifier(name)) {
        return Some(name.to_owned());
    }
    let shown = json.as_str().unwrap_or(type_of(json));
    errors.push(ConfigError::option(path, Some(shown), IDENTIFIER, ""));
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(typed: Json) -> (SchemaMapping, Vec<String>) {
        let mut errors = Vec::new();
        let allow = vec!["ih".to_owned(), "public".to_owned()];
        let mapping = resolve_schema(allow, typed.as_object().expect("a case is an object"), &mut errors);
        (mapping, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn identifiers() {
        for (text, expected) in [
            ("users", true),
            ("_Users9", true),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
            ("", false),
            ("9users", false),
            ("a-b", false),
            ("a.b", false),
            ("a\"b", false),
            ("usérs", false),
        ] {
            assert_eq!(is_identifier(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_mapped() {
        let (mapping, errors) = read(json!({
            "token_blacklist": { "schema": "ih", "columns": { "jti": "token_id" } },
            "users": { "table": "accounts" },
        }));
        assert_eq!(errors, [""; 0]);
        for (table, expected) in [
            ("token_blacklist", ("ih", "token_blacklist")),
            ("users", ("public", "accounts")),
            ("roles", ("public", "roles")),
        ] {
            assert_eq!(mapping.table(table), expected);
        }
        assert_eq!(mapping.column("token_blacklist", "jti"), "token_id");
        assert_eq!(mapping.column("token_blacklist", "reason"), "reason");
        assert_eq!(mapping.column("users", "email"), "email");
        assert!(mapping.allows("ih") && !mapping.allows("pg_catalog"));
        assert!(mapping.is_own("public", "accounts") && mapping.is_own("ih", "token_blacklist"));
        assert!(!mapping.is_own("public", "users") && !mapping.is_own("ih", "agg_app_measures"));
    }

    #[test]
    fn mistakes() {
        for (typed, expected) in [
            (json!({ "user": {} }), "option schema.user is not accepted: the name of a table that is read. Did you mean users?".to_owned()),
            (json!({ "users": [] }), "option schema.users=\"an array\" is not accepted: an object.".into()),
            (json!({ "users": { "name": "x" } }), "option schema.users.name is not accepted: schema, table or columns.".into()),
            (json!({ "users": { "table": "a; drop" } }), format!("option schema.users.table=\"a; drop\" is not accepted: {IDENTIFIER}.")),
            (json!({ "users": { "table": 1 } }), format!("option schema.users.table=\"a number\" is not accepted: {IDENTIFIER}.")),
            (
                json!({ "users": { "schema": "pg_catalog" } }),
                "option schema.users.schema=\"pg_catalog\" is not accepted: ih or public. CACHE_SCHEMA_ALLOW says which schemas are allowed.".into(),
            ),
            (
                json!({ "role_permissions": { "columns": { "roleId": "x" } } }),
                "option schema.role_permissions.columns.roleId is not accepted: role_permission_id, role_id or permission_id. Did you mean role_id?".into(),
            ),
            (
                json!({ "users": { "columns": { "email": "e-mail" } } }),
                format!("option schema.users.columns.email=\"e-mail\" is not accepted: {IDENTIFIER}."),
            ),
        ] {
            assert_eq!(read(typed).1, [expected]);
        }
    }
}
