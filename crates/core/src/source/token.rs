//! Statements about revoked tokens.

use sqlx::Row;

use crate::base::error::Error;

use super::Source;
use super::statements::Statement;

/// A row of `token_blacklist`, as the caller gives it; checked before it comes here.
#[derive(Clone, Debug, Default)]
pub struct Revocation {
    /// Token id.
    pub jti: String,
    /// Whose token, a uuid.
    pub user_id: String,
    /// `access`, `refresh`, ...
    pub token_type: String,
    /// Unix milliseconds.
    pub expires_at_ms: f64,
    /// Why.
    pub reason: String,
    /// By whom, a uuid.
    pub blacklisted_by: Option<String>,
    /// From where.
    pub ip_address: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
}

impl Source {
    /// Whether there is a row for `jti`, whatever its `expires_at` says.
    pub async fn token_is_blacklisted(&self, jti: &str) -> Result<bool, Error> {
        let jti = jti.to_owned();
        self.read(Statement::TokenIsBlacklisted, move |connection, query| {
            let jti = jti.clone();
            Box::pin(async move { query.bind(jti).fetch_one(connection).await?.try_get(0) })
        })
        .await
    }

    /// Inserts a revocation; false when the token was revoked before.
    pub async fn blacklist_token(&self, row: Revocation) -> Result<bool, Error> {
        self.run(Statement::BlacklistToken, move |connection, query| {
            Box::pin(async move {
                let done = query
                    .bind(row.jti)
                    .bind(row.user_id)
                    .bind(row.token_type)
                    .bind(row.expires_at_ms)
                    .bind(row.reason)
                    .bind(row.blacklisted_by)
                    .bind(row.ip_address)
                    .bind(row.user_agent)
                    .execute(connection)
                    .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }
}
