//! Statements about users.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::base::error::Error;

use super::Source;
use super::statements::Statement;

/// The user object as it is stored and handed out: dates are ISO-8601 texts on every path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Uuid, lower case.
    pub user_id: String,
    /// As the source has it.
    pub email: String,
    /// As the source has it.
    pub first_name: String,
    /// As the source has it.
    pub last_name: String,
    /// Always true for a user that is handed out.
    pub is_active: bool,
    /// NULL stays null.
    pub email_verified: Option<bool>,
    /// NULL stays null.
    pub provider_uid: Option<i32>,
    /// ISO-8601, UTC, milliseconds.
    pub created_at: Option<String>,
    /// ISO-8601, UTC, milliseconds.
    pub updated_at: Option<String>,
}

impl Source {
    /// The user, or `None` when unknown, deactivated (`is_active` false or NULL) or deleted.
    pub async fn user_by_id(&self, user_id: &str) -> Result<Option<User>, Error> {
        self.user(Statement::UserById, user_id).await
    }

    /// As [`Source::user_by_id`], by the exact address.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, Error> {
        self.user(Statement::UserByEmail, email).await
    }

    async fn user(&self, statement: Statement, argument: &str) -> Result<Option<User>, Error> {
        let argument = argument.to_owned();
        self.read(statement, move |connection, query| {
            let argument = argument.clone();
            Box::pin(async move {
                let row = query.bind(argument).fetch_optional(connection).await?;
                row.as_ref().map(read).transpose().map(Option::flatten)
            })
        })
        .await
    }
}

fn read(row: &PgRow) -> sqlx::Result<Option<User>> {
    let active = row.try_get::<Option<bool>, _>(4)?.unwrap_or(false);
    let deleted: bool = row.try_get(9)?;
    if !active || deleted {
        return Ok(None);
    }
    Ok(Some(User {
        user_id: row.try_get(0)?,
        email: row.try_get(1)?,
        first_name: row.try_get(2)?,
        last_name: row.try_get(3)?,
        is_active: true,
        email_verified: row.try_get(5)?,
        provider_uid: row.try_get(6)?,
        created_at: row.try_get(7)?,
        updated_at: row.try_get(8)?,
    }))
}
