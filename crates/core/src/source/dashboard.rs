//! Statements about the configured dashboard: the row of its materialized view, all of its queries at once, the
//! refresh of the view, and how the view is.
//!
//! Views and queries only read, so that a connection that has ended meanwhile costs nobody the answer.
//!
//! Invariant: an answer is one row and one snapshot. A view with several rows for one caller is refused: the first of
//! them would be somebody's, and nobody could say whose.

use std::time::Duration;

use serde_json::{Value as Json, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row};

use crate::base::error::{Code, Error};
use crate::config::DashboardSettings;

use super::statements::{Statement, Statements};
use super::{ENDING_MS, Source, unavailable};

/// One row; a second one is a mistake that must be seen.
const ROWS: usize = 2;

/// What the database says of a relation: its kind, whether it was ever populated, and whether a refresh can go on
/// while others read.
const HEALTH: &str = "SELECT c.relkind::text, c.relispopulated, EXISTS (SELECT 1 FROM pg_catalog.pg_index i \
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate \
    AND i.indpred IS NULL AND 0 <> ALL (i.indkey::int2[])) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = $1 AND c.relname = $2";

impl Statements {
    /// Adds the statements of a dashboard.
    #[must_use]
    pub fn with_dashboard(mut self, dashboard: &DashboardSettings) -> Self {
        let text = Text(dashboard);
        for (statement, text) in [
            (Statement::DashboardView, text.view()),
            (Statement::DashboardQueries, text.queries()),
            (Statement::DashboardRefresh, text.refresh(true)),
            (Statement::DashboardHealth, HEALTH.to_owned()),
            (Statement::DashboardAge, text.age()),
        ] {
            self.put(statement, text);
        }
        self
    }
}

/// The texts of one dashboard. Names were checked by the configuration and are quoted here.
struct Text<'a>(&'a DashboardSettings);

impl Text<'_> {
    fn name(&self) -> String {
        format!("\"{}\".\"{}\"", self.0.schema, self.0.view)
    }

    fn object(parts: impl Iterator<Item = String>) -> String {
        format!("json_build_object({})", parts.collect::<Vec<_>>().join(", "))
    }

    fn answer(metrics: &str, at: &str) -> String {
        format!("SELECT json_build_object('metrics', {metrics}, 'lastUpdated', {})::text", iso(at))
    }

    fn view(&self) -> String {
        let metrics =
            Self::object(self.0.queries.iter().map(|(group, _)| format!("'{group}', v.\"{group}\"")));
        let at = format!("v.\"{}\"", self.0.last_refreshed);
        let condition = match &self.0.scope_column {
            Some(column) => format!(" WHERE v.\"{column}\"::text = $1"),
            None => String::new(),
        };
        format!("{} FROM {} v{condition} LIMIT {ROWS}", Self::answer(&metrics, &at), self.name())
    }

    /// On lines of their own, so that a comment at the end of one ends there.
    fn queries(&self) -> String {
        let group = |(group, sql): &(String, String)| {
            format!("'{group}', (SELECT to_json(bcos_row) FROM (\n{sql}\n) AS bcos_row LIMIT 1)")
        };
        Self::answer(&Self::object(self.0.queries.iter().map(group)), "now()")
    }

    fn refresh(&self, concurrently: bool) -> String {
        let how = if concurrently { "CONCURRENTLY " } else { "" };
        format!("REFRESH MATERIALIZED VIEW {how}{}", self.name())
    }

    /// The oldest row counts. The age is taken by the clock that wrote the time.
    fn age(&self) -> String {
        let at = format!("min(v.\"{}\"::timestamptz)", self.0.last_refreshed);
        format!(
            "SELECT {}, CASE WHEN isfinite({at}) THEN extract(epoch FROM clock_timestamp() - {at})::float8 END FROM {} v",
            iso(&at),
            self.name()
        )
    }
}

/// ISO-8601, UTC, milliseconds; infinite times are null.
fn iso(time: &str) -> String {
    format!(
        "CASE WHEN isfinite({time}) THEN to_char({time}::timestamptz AT TIME ZONE 'UTC', \
         'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') END"
    )
}

/// What the database has against a statement, when that says something about the dashboard.
struct Refusal {
    sqlstate: String,
    /// Of class 42 it is about names and syntax, and holds no data.
    message: String,
}

/// Such a refusal is an answer of a database that works.
fn answered<T>(result: sqlx::Result<T>) -> sqlx::Result<Result<T, Refusal>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(sqlx::Error::Database(error)) => {
            let sqlstate = error.code().unwrap_or_default().into_owned();
            if sqlstate.starts_with("42") || ["3F000", "55000", "0A000"].contains(&sqlstate.as_str()) {
                return Ok(Err(Refusal { sqlstate, message: error.message().to_owned() }));
            }
            Err(sqlx::Error::Database(error))
        }
        Err(error) => Err(error),
    }
}

impl Source {
    /// `{ metrics, lastUpdated }` of the view, or of its row for `scope`; `None` = there is no such row.
    pub async fn dashboard_view(
        &self,
        dashboard: &DashboardSettings,
        scope: Option<String>,
    ) -> Result<Option<String>, Error> {
        let rows = self.dashboard_rows(Statement::DashboardView, scope).await?;
        let rows = rows.map_err(|refusal| self.refused(about_view(dashboard, &refusal)))?;
        match &rows[..] {
            [] => Ok(None),
            [row] => row.try_get(0).map(Some).map_err(unreadable),
            _ => Err(self.refused(about_rows(dashboard))),
        }
    }

    /// `{ metrics, lastUpdated }` of all queries.
    pub async fn dashboard_queries(&self, scope: Option<String>) -> Result<String, Error> {
        let rows = self.dashboard_rows(Statement::DashboardQueries, scope).await?;
        let refused = |Refusal { sqlstate, message }: Refusal| {
            let message = format!("the database refused the queries: {message} (SQLSTATE {sqlstate})");
            self.refused(config("dashboard.queries", message))
        };
        let rows = rows.map_err(refused)?;
        let row = rows.first().ok_or_else(|| Error::new(Code::Internal, "a statement without its row"))?;
        row.try_get(0).map_err(unreadable)
    }

    /// Told as well when a next layer answers instead: something is not as it was configured.
    fn refused(&self, error: Error) -> Error {
        self.telemetry.source_errors.up();
        tracing::warn!(component = "dashboard", "{}", error.message);
        error
    }

    async fn dashboard_rows(
        &self,
        statement: Statement,
        scope: Option<String>,
    ) -> Result<Result<Vec<PgRow>, Refusal>, Error> {
        self.read(statement, move |connection, query| {
            let scope = scope.clone();
            Box::pin(async move {
                let query = match scope {
                    Some(scope) => query.bind(scope),
                    None => query,
                };
                answered(query.fetch_all(connection).await)
            })
        })
        .await
    }

    /// How the view is: `{ exists, populated, uniqueIndex, lastRefreshed, ageSeconds, error }`.
    pub async fn dashboard_health(&self, dashboard: &DashboardSettings) -> Result<Json, Error> {
        let (schema, view) = (dashboard.schema.clone(), dashboard.view.clone());
        let row = self
            .read(Statement::DashboardHealth, move |connection, query| {
                let (schema, view) = (schema.clone(), view.clone());
                Box::pin(async move { query.bind(schema).bind(view).fetch_optional(connection).await })
            })
            .await?;
        let Some(row) = row else {
            return Ok(json!({ "exists": false, "populated": false, "uniqueIndex": false }));
        };
        let kind: String = row.try_get(0).map_err(unreadable)?;
        let populated: bool = row.try_get(1).map_err(unreadable)?;
        let unique: bool = row.try_get(2).map_err(unreadable)?;
        let mut health = json!({ "exists": kind == "m", "populated": populated, "uniqueIndex": unique });
        if kind == "m" && populated {
            let age = self
                .read(Statement::DashboardAge, |connection, query| {
                    Box::pin(async move { answered(query.fetch_one(connection).await) })
                })
                .await?;
            match age {
                Ok(row) => {
                    health["lastRefreshed"] = json!(row.try_get::<Option<String>, _>(0).map_err(unreadable)?);
                    health["ageSeconds"] = json!(row.try_get::<Option<f64>, _>(1).map_err(unreadable)?);
                }
                Err(refusal) => health["error"] = json!(about_view(dashboard, &refusal).message.as_ref()),
            }
        }
        Ok(health)
    }

    /// Computes the view anew while others go on reading it; what was committed before this call is in it.
    pub async fn refresh_dashboard(&self, dashboard: &DashboardSettings) -> Result<(), Error> {
        let Some(pool) = self.application.clone() else {
            return Err(unavailable("no database is configured: set DATABASE_URL"));
        };
        if !self.gate.lock().enter(self.clock.now_ms()) {
            return Err(unavailable("the database did not answer a moment ago"));
        }
        // Not one of the pool's any more: a minute of it would be missed by those who read.
        let connection = pool.acquire().await.map_err(|error| self.failed(&error))?.detach();
        let longest = Duration::from_millis(dashboard.refresh_timeout_ms + ENDING_MS);
        let result = match tokio::time::timeout(longest, self.refresh_on(connection, dashboard)).await {
            Ok(result) => result,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        };
        match result {
            Ok(Ok(())) => {
                self.gate.lock().answered(self.clock.now_ms());
                Ok(())
            }
            Ok(Err(refusal)) => {
                self.gate.lock().answered(self.clock.now_ms());
                Err(self.refused(about_refresh(dashboard, &refusal)))
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("57014") => {
                self.gate.lock().answered(self.clock.now_ms());
                Err(late(dashboard))
            }
            Err(sqlx::Error::PoolTimedOut) => Err(late(dashboard)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// In a transaction, which is where its time limit holds, also behind a pooler; the one of the pool is far shorter.
    async fn refresh_on(
        &self,
        mut connection: PgConnection,
        dashboard: &DashboardSettings,
    ) -> sqlx::Result<Result<(), Refusal>> {
        let ms = dashboard.refresh_timeout_ms;
        let begin = format!(
            "BEGIN; SET LOCAL statement_timeout = {ms}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            ms + ENDING_MS
        );
        let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
        self.counted(Statement::DashboardHealth);
        let populated: Option<bool> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT populated FROM ({HEALTH}) AS known (kind, populated, indexed)"
        )))
        .persistent(false)
        .bind(&dashboard.schema)
        .bind(&dashboard.view)
        .fetch_optional(&mut *transaction)
        .await?;
        // Nobody can read what was never populated, and only then it cannot be done concurrently.
        let text = Text(dashboard).refresh(populated != Some(false));
        self.counted(Statement::DashboardRefresh);
        let refresh = sqlx::query(AssertSqlSafe(text)).persistent(false);
        let done = answered(refresh.execute(&mut *transaction).await)?;
        if let Err(refusal) = done {
            transaction.rollback().await?;
            return Ok(Err(refusal));
        }
        transaction.commit().await?;
        // It is committed; how the connection ends does not matter any more.
        let _ = connection.close().await;
        Ok(Ok(()))
    }
}

fn config(field: &'static str, message: String) -> Error {
    Error { code: Code::Config, message: message.into(), field: Some(field.into()), reason: None }
}

fn late(dashboard: &DashboardSettings) -> Error {
    let ms = dashboard.refresh_timeout_ms;
    Error::new(Code::Deadline, format!("the refresh took longer than dashboard.refreshTimeoutMs ({ms} ms)"))
}

fn about_view(dashboard: &DashboardSettings, refusal: &Refusal) -> Error {
    let (name, Refusal { sqlstate, message }) = (Text(dashboard).name(), refusal);
    match sqlstate.as_str() {
        "42P01" | "3F000" => config("dashboard.view", format!("there is no view {name}: create it")),
        "42501" => {
            config("dashboard.view", format!("the user of DATABASE_URL may not read {name}: grant it SELECT"))
        }
        "55000" => unavailable(&format!("{name} was never populated: call refreshDashboardMetrics()")),
        _ => {
            let wanted =
                "it needs a column for each group of dashboard.queries and the one of lastRefreshedColumn";
            config(
                "dashboard.view",
                format!("{name} cannot be read: {message} (SQLSTATE {sqlstate}); {wanted}"),
            )
        }
    }
}

fn about_rows(dashboard: &DashboardSettings) -> Error {
    let name = Text(dashboard).name();
    let message = match &dashboard.scope_column {
        Some(column) => format!("the view {name} has several rows of one scope: make {column} unique"),
        None => format!(
            "the view {name} has several rows: set dashboard.scopeColumn when there is one for each scope"
        ),
    };
    config("dashboard.view", message)
}

fn about_refresh(dashboard: &DashboardSettings, refusal: &Refusal) -> Error {
    let (name, Refusal { sqlstate, message }) = (Text(dashboard).name(), refusal);
    let why = match sqlstate.as_str() {
        "42P01" | "3F000" => format!("there is no view {name}: create it"),
        "42501" => format!(
            "the user of DATABASE_URL may not refresh {name}: it must be the owner, or be granted MAINTAIN"
        ),
        "55000" => format!(
            "{name} cannot be refreshed while it is read: create a unique index on it, of columns and without WHERE \
             (CREATE UNIQUE INDEX ON {name} (...))"
        ),
        _ => format!("{name} cannot be refreshed: {message} (SQLSTATE {sqlstate})"),
    };
    config("dashboard.view", why)
}

fn unreadable(_: sqlx::Error) -> Error {
    Error::new(Code::Internal, "a row of the dashboard could not be read")
}
