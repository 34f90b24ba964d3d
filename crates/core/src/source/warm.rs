//! What is worth having in the cache before anybody asks: ids only, in one statement. Not the reading of what they
//! name, which goes the way of every other read.

use sqlx::Row;

use crate::base::error::{Code, Error};
use crate::base::limits;

use super::Source;
use super::statements::{Names, Statement};

/// Ids by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarmIds {
    /// Active system roles.
    pub roles: Vec<String>,
    /// Active users, the most recently changed first. (S1: a login changes `updated_at`.)
    pub users: Vec<String>,
}

impl Source {
    /// System roles and the `users` most recently active users.
    pub async fn warm_ids(&self, users: u32) -> Result<WarmIds, Error> {
        let (users, roles) = (i64::from(users), limits::WARM_ROLES as i64);
        let rows = self
            .run(Statement::WarmIds, move |connection, query| {
                Box::pin(async move { query.bind(users).bind(roles).fetch_all(connection).await })
            })
            .await?;
        let mut ids = WarmIds::default();
        for row in rows {
            let read = || -> sqlx::Result<(bool, String)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
            match read() {
                Ok((true, id)) => ids.roles.push(id),
                Ok((false, id)) => ids.users.push(id),
                Err(_) => return Err(Error::new(Code::Internal, "an id could not be read")),
            }
        }
        Ok(ids)
    }
}

/// `$1` how many users, `$2` how many roles at most. Rows of (is it a role, id), each kind in its order.
pub(super) fn ids(names: &dyn Names) -> String {
    let role = |column: &str| format!("r.{}", names.column("roles", column));
    let user = |column: &str| format!("u.{}", names.column("users", column));
    format!(
        "(SELECT true, {role_id}::text FROM {roles} r \
          WHERE {is_system} IS TRUE AND {role_active} IS TRUE AND {role_deleted} IS NULL \
          ORDER BY {role_id} LIMIT $2) \
         UNION ALL \
         (SELECT false, {user_id}::text FROM {users} u WHERE {user_active} IS TRUE AND {user_deleted} IS NULL \
          ORDER BY {updated} DESC NULLS LAST, {user_id} LIMIT $1)",
        role_id = role("role_id"),
        roles = names.table("roles"),
        is_system = role("is_system_role"),
        role_active = role("is_active"),
        role_deleted = role("deleted_at"),
        user_id = user("user_id"),
        users = names.table("users"),
        user_active = user("is_active"),
        user_deleted = user("deleted_at"),
        updated = user("updated_at"),
    )
}
