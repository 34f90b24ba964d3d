//! Statements about roles, organizations and contexts. Each is one round trip (two at its first use on a connection) and
//! one snapshot.

use bytes::Bytes;
use sqlx::Row;

use crate::base::error::{Code, Error};

use super::Source;
use super::statements::Statement;

/// Why a user has no context, or a role no permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such row.
    Unknown,
    /// `is_active` is false or NULL.
    Inactive,
    /// `deleted_at` is set.
    Deleted,
}

impl Denied {
    /// The word in entries and errors.
    pub fn name(self) -> &'static str {
        match self {
            Denied::Unknown => "unknown",
            Denied::Inactive => "inactive",
            Denied::Deleted => "deleted",
        }
    }

    /// Reads such a word. Anything else is "unknown": a denial stays a denial.
    pub fn parse(word: &str) -> Self {
        match word {
            "inactive" => Denied::Inactive,
            "deleted" => Denied::Deleted,
            _ => Denied::Unknown,
        }
    }
}

/// What one statement is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Users whose own part is wanted.
    pub users: Vec<String>,
    /// Roles that are wanted.
    pub roles: Vec<String>,
    /// Whether the tree is wanted.
    pub tree: bool,
}

/// JSON of a part, or why there is none.
pub type PartJson = Result<Bytes, Denied>;

/// What it brings, by id; the tree is under an empty id.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Own parts.
    pub users: Vec<(String, PartJson)>,
    /// Roles.
    pub roles: Vec<(String, PartJson)>,
    /// The tree.
    pub tree: Option<Bytes>,
}

/// The whole of one context: its own part, every role in it, every organization it can reach.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Own part.
    pub user: Bytes,
    /// A list of role objects.
    pub roles: Bytes,
    /// A list of organization objects.
    pub tree: Bytes,
}

impl Source {
    /// The parts that are wanted.
    pub async fn rbac_parts(&self, wanted: Wanted) -> Result<Parts, Error> {
        let rows = self
            .read(Statement::RbacParts, move |connection, query| {
                let Wanted { users, roles, tree } = wanted.clone();
                Box::pin(async move { query.bind(users).bind(roles).bind(tree).fetch_all(connection).await })
            })
            .await?;
        let mut parts = Parts::default();
        for row in rows {
            let (kind, id): (String, String) = (column(row.try_get(0))?, column(row.try_get(1))?);
            let denied: Option<String> = column(row.try_get(2))?;
            let json: Option<String> = column(row.try_get(3))?;
            let part = match (denied, json) {
                (None, Some(json)) => Ok(Bytes::from(json)),
                (denied, _) => Err(Denied::parse(denied.as_deref().unwrap_or_default())),
            };
            match (kind.as_str(), part) {
                ("user", part) => parts.users.push((id, part)),
                ("role", part) => parts.roles.push((id, part)),
                (_, part) => parts.tree = part.ok(),
            }
        }
        Ok(parts)
    }

    /// The whole of one context.
    pub async fn rbac_context(&self, user_id: &str) -> Result<Result<Whole, Denied>, Error> {
        let user_id = user_id.to_owned();
        let row = self
            .read(Statement::RbacContext, move |connection, query| {
                let user_id = user_id.clone();
                Box::pin(async move { query.bind(user_id).fetch_one(connection).await })
            })
            .await?;
        let denied: Option<String> = column(row.try_get(0))?;
        let text = |index: usize| -> Result<Option<String>, Error> { column(row.try_get(index)) };
        match (denied, text(1)?, text(2)?, text(3)?) {
            (None, Some(user), Some(roles), Some(tree)) => {
                Ok(Ok(Whole { user: user.into(), roles: roles.into(), tree: tree.into() }))
            }
            (denied, ..) => Ok(Err(Denied::parse(denied.as_deref().unwrap_or_default()))),
        }
    }
}

fn column<T>(read: sqlx::Result<T>) -> Result<T, Error> {
    read.map_err(|_| Error::new(Code::Internal, "a column of a part could not be read"))
}
