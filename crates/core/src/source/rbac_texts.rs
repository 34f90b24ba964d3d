//! The SQL of contexts and their parts. Objects are made by the database, in the order in which they cross to
//! JavaScript, so that nothing is parsed here that is only passed on.
//!
//! Invariant: every condition is `IS TRUE`: an unset flag is not active. `rbac_parts` and `rbac_context` make
//! their objects by the same functions of this file, so both say the same.

use super::statements::Names;

struct Sql<'a>(&'a dyn Names);

impl Sql<'_> {
    fn column(&self, alias: &str, table: &str, column: &str) -> String {
        format!("{alias}.{}", self.0.column(table, column))
    }

    /// `json_build_object` of the columns of a row. Times become ISO-8601, infinite ones null.
    fn object(&self, alias: &str, table: &str, columns: &[&str], more: &[(&str, &str)]) -> String {
        let mut parts: Vec<String> = columns
            .iter()
            .map(|name| {
                let column = self.column(alias, table, name);
                let value = if name.ends_with("_at") { iso(&column) } else { column };
                format!("'{name}', {value}")
            })
            .collect();
        parts.extend(more.iter().map(|(name, value)| format!("'{name}', {value}")));
        format!("json_build_object({})", parts.join(", "))
    }

    fn live(&self, alias: &str, table: &str) -> String {
        format!(
            "{} IS TRUE AND {} IS NULL",
            self.column(alias, table, "is_active"),
            self.column(alias, table, "deleted_at")
        )
    }

    /// Why a row of an outer join is no answer; NULL = it is one.
    fn denied(&self, alias: &str, table: &str, id: &str) -> String {
        format!(
            "CASE WHEN {} IS NULL THEN 'unknown' WHEN {} IS NOT NULL THEN 'deleted' \
             WHEN {} IS NOT TRUE THEN 'inactive' END",
            self.column(alias, table, id),
            self.column(alias, table, "deleted_at"),
            self.column(alias, table, "is_active"),
        )
    }

    /// The own part of user `u`.
    fn user_part(&self) -> String {
        let user = self.object(
            "u",
            "users",
            &[
                "user_id",
                "email",
                "first_name",
                "last_name",
                "is_active",
                "email_verified",
                "provider_uid",
                "created_at",
                "updated_at",
            ],
            &[],
        );
        let expires = self.column("a", "user_roles", "expires_at");
        let ms = format!(
            "CASE WHEN isfinite({expires}) THEN (extract(epoch FROM {expires}) * 1000)::double precision END"
        );
        let assigned = self.object(
            "a",
            "user_roles",
            &[
                "user_role_id",
                "user_id",
                "role_id",
                "organization_id",
                "granted_by",
                "granted_at",
                "expires_at",
                "is_active",
            ],
            &[("expires_ms", &ms)],
        );
        let member = self.object(
            "m",
            "user_organizations",
            &["user_organization_id", "user_id", "organization_id", "is_active", "joined_at"],
            &[],
        );
        let id = self.column("u", "users", "user_id");
        format!(
            "json_build_object('user', {user}, \
             'user_roles', COALESCE((SELECT json_agg({assigned} ORDER BY {} NULLS LAST, {}) FROM {} a WHERE {} = {id} AND {}), '[]'::json), \
             'user_organizations', COALESCE((SELECT json_agg({member} ORDER BY {} NULLS LAST, {}) FROM {} m WHERE {} = {id} AND {} IS TRUE), '[]'::json))",
            self.column("a", "user_roles", "granted_at"),
            self.column("a", "user_roles", "user_role_id"),
            self.0.table("user_roles"),
            self.column("a", "user_roles", "user_id"),
            self.assigned("a"),
            self.column("m", "user_organizations", "joined_at"),
            self.column("m", "user_organizations", "user_organization_id"),
            self.0.table("user_organizations"),
            self.column("m", "user_organizations", "user_id"),
            self.column("m", "user_organizations", "is_active"),
        )
    }

    /// Whether an assignment is active and has not expired.
    fn assigned(&self, alias: &str) -> String {
        let expires = self.column(alias, "user_roles", "expires_at");
        format!(
            "{} IS TRUE AND ({expires} IS NULL OR {expires} > now())",
            self.column(alias, "user_roles", "is_active")
        )
    }

    /// The object of role `r` with its permissions.
    fn role(&self) -> String {
        let permission = self.object(
            "p",
            "permissions",
            &[
                "permission_id",
                "name",
                "description",
                "resource",
                "action",
                "scope",
                "is_active",
                "created_at",
                "updated_at",
            ],
            &[],
        );
        let permissions = format!(
            "COALESCE((SELECT json_agg({permission} ORDER BY {} COLLATE \"C\", {}) FROM {} p WHERE {} IS TRUE \
             AND {} IN (SELECT {} FROM {} g WHERE {} = {})), '[]'::json)",
            self.column("p", "permissions", "name"),
            self.column("p", "permissions", "permission_id"),
            self.0.table("permissions"),
            self.column("p", "permissions", "is_active"),
            self.column("p", "permissions", "permission_id"),
            self.column("g", "role_permissions", "permission_id"),
            self.0.table("role_permissions"),
            self.column("g", "role_permissions", "role_id"),
            self.column("r", "roles", "role_id"),
        );
        self.object(
            "r",
            "roles",
            &[
                "role_id",
                "name",
                "description",
                "organization_id",
                "is_system_role",
                "is_active",
                "created_at",
                "updated_at",
                "deleted_at",
            ],
            &[("permissions", &permissions)],
        )
    }

    /// A list of organizations `o`, in the order of names.
    fn organizations(&self, condition: &str) -> String {
        let practices = format!("COALESCE({}, '{{}}')", self.column("o", "organizations", "practice_uids"));
        let mut parts = vec![
            self.object(
                "o",
                "organizations",
                &["organization_id", "name", "slug", "parent_organization_id"],
                &[("practice_uids", &practices)],
            ),
            self.object("o", "organizations", &["is_active", "created_at", "updated_at", "deleted_at"], &[]),
        ];
        // One object, with the practices where the specification has them.
        let tail = parts.pop().unwrap_or_default();
        let head = parts.pop().unwrap_or_default();
        let object = format!(
            "{}, {}",
            head.strip_suffix(')').unwrap_or(&head),
            tail.strip_prefix("json_build_object(").unwrap_or(&tail)
        );
        format!(
            "SELECT json_agg({object} ORDER BY {} COLLATE \"C\", {}) FROM {} o WHERE {} {condition}",
            self.column("o", "organizations", "name"),
            self.column("o", "organizations", "organization_id"),
            self.0.table("organizations"),
            self.live("o", "organizations"),
        )
    }
}

/// `$1` ids of users, `$2` ids of roles, `$3` whether the tree is wanted. Rows of (kind, id, why not, JSON).
pub(super) fn parts(names: &dyn Names) -> String {
    let sql = Sql(names);
    let rows = |kind: &str, parameter: &str, alias: &str, table: &str, id: &str, json: &str| {
        let denied = sql.denied(alias, table, id);
        format!(
            "SELECT '{kind}', w.id::text, {denied}, CASE WHEN {} THEN ({json})::text END \
             FROM unnest({parameter}::text[]::uuid[]) AS w(id) LEFT JOIN {} {alias} ON {} = w.id",
            sql.live(alias, table),
            names.table(table),
            sql.column(alias, table, id),
        )
    };
    format!(
        "{} UNION ALL {} UNION ALL SELECT 'tree', '', NULL, COALESCE(({}), '[]'::json)::text WHERE $3",
        rows("user", "$1", "u", "users", "user_id", &sql.user_part()),
        rows("role", "$2", "r", "roles", "role_id", &sql.role()),
        sql.organizations(""),
    )
}

/// `$1` a user. One row: why not, own part, roles, organizations within reach.
pub(super) fn context(names: &dyn Names) -> String {
    let sql = Sql(names);
    let c = |alias: &str, table: &str, column: &str| sql.column(alias, table, column);
    let id = c("o", "organizations", "organization_id");
    // UNION, not UNION ALL: a cycle ends when it brings nothing new.
    format!(
        "WITH RECURSIVE held AS (SELECT DISTINCT {role_id} AS role_id, {assigned_in} AS organization_id FROM {user_roles} a WHERE {assigned_to} = $1::uuid AND {assigned}), \
         reach AS (SELECT {id} AS id FROM {organizations} o JOIN {user_organizations} m ON {member_of} = {id} \
                   WHERE {member} = $1::uuid AND {member_active} IS TRUE AND {live} \
                   UNION SELECT {id} FROM {organizations} o JOIN reach ON {parent} = reach.id WHERE {live}), \
         named AS (SELECT id FROM reach UNION SELECT organization_id FROM held \
                   UNION SELECT {role_organization} FROM {roles} r JOIN held ON held.role_id = {role}) \
         SELECT {denied}, CASE WHEN {user_live} THEN ({user_part})::text END, \
         COALESCE((SELECT json_agg({role_json} ORDER BY {role}) FROM {roles} r WHERE {role_live} AND {role} IN (SELECT role_id FROM held)), '[]'::json)::text, \
         COALESCE(({tree}), '[]'::json)::text \
         FROM (SELECT $1::uuid AS id) w LEFT JOIN {users} u ON {user} = w.id",
        role_id = c("a", "user_roles", "role_id"),
        assigned_in = c("a", "user_roles", "organization_id"),
        assigned_to = c("a", "user_roles", "user_id"),
        assigned = sql.assigned("a"),
        user_roles = names.table("user_roles"),
        organizations = names.table("organizations"),
        user_organizations = names.table("user_organizations"),
        member_of = c("m", "user_organizations", "organization_id"),
        member = c("m", "user_organizations", "user_id"),
        member_active = c("m", "user_organizations", "is_active"),
        live = sql.live("o", "organizations"),
        parent = c("o", "organizations", "parent_organization_id"),
        role_organization = c("r", "roles", "organization_id"),
        roles = names.table("roles"),
        role = c("r", "roles", "role_id"),
        denied = sql.denied("u", "users", "user_id"),
        user_live = sql.live("u", "users"),
        user_part = sql.user_part(),
        role_json = sql.role(),
        role_live = sql.live("r", "roles"),
        tree = sql.organizations(&format!("AND {id} IN (SELECT id FROM named)")),
        users = names.table("users"),
        user = c("u", "users", "user_id"),
    )
}

fn iso(column: &str) -> String {
    format!(
        "CASE WHEN isfinite({column}) THEN to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') END"
    )
}
