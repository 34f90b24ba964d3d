//! The optional SQL that makes every committed write visible: triggers and the outbox they write. Templates with
//! the application's own names put in.
//!
//! Invariant: a name in a template is replaced by a checked and quoted one; nothing else varies.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::base::error::{Code, Error};

use super::Source;
use super::statements::{Names, Statement};

const INSTALL: &str = include_str!("migration/install.sql");
const REMOVE: &str = include_str!("migration/remove.sql");

/// Longest time for waiting for locks and doing it.
const LIMIT_MS: u64 = 60_000;

/// The SQL that installs the outbox, or removes it.
pub fn sql(names: &dyn Names, remove: bool) -> String {
    fill(if remove { REMOVE } else { INSTALL }, names)
}

/// Puts names into a template: `{table}` and `{table.column}`.
pub(super) fn fill(template: &str, names: &dyn Names) -> String {
    let mut rest = template;
    let mut out = String::with_capacity(template.len() * 2);
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else { break };
        match name.split_once('.') {
            Some((table, column)) => out.push_str(&names.column(table, column)),
            None => out.push_str(&names.table(name)),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

impl Source {
    /// Runs such a text. Nothing of it stays when a part fails.
    pub async fn migrate(&self, text: String) -> Result<(), Error> {
        let Some(pool) = self.application.clone() else {
            return Err(super::unavailable("no database is configured: set DATABASE_URL"));
        };
        let mut connection = pool.acquire().await.map_err(|error| self.failed(&error))?.detach();
        self.telemetry.statements.up();
        self.counts[Statement::Migrate as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let run = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection);
        // The connection is not given back: after a failure it is inside a transaction that failed.
        match tokio::time::timeout(Duration::from_millis(LIMIT_MS), run).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(sqlx::Error::Database(error))) => {
                let code = error.code().unwrap_or_default().into_owned();
                let message =
                    format!("the database refused the migration: {} (SQLSTATE {code})", error.message());
                Err(Error::new(Code::SourceUnavailable, message))
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(super::unavailable("the migration took longer than a minute; nothing was changed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;
    impl Names for Plain {
        fn table(&self, table: &str) -> String {
            format!("\"public\".\"{table}\"")
        }
        fn column(&self, _: &str, column: &str) -> String {
            format!("\"{column}\"")
        }
    }

    #[test]
    fn every_name_is_put_in() {
        for remove in [false, true] {
            let sql = sql(&Plain, remove);
            assert!(!sql.contains(['{', '}']), "{sql}");
            assert!(sql.contains("bcos_cache") && sql.contains("COMMIT"), "{sql}");
        }
        assert!(super::sql(&Plain, false).contains("\"public\".\"user_roles\""));
    }
}
