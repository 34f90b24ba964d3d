//! Every SQL text, with the application's own table and column names put in. Values never are: they
//! are bound parameters.
//!
//! Invariant: an identifier in a text was checked by the configuration and is quoted here.

use std::sync::Arc;

use super::{analytics, migration, outbox, rbac_texts, warm};

/// The statements of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Does the database answer.
    Ping,
    /// Is there a row for this token id.
    TokenIsBlacklisted,
    /// Insert a revocation, once.
    BlacklistToken,
    /// One user by id.
    UserById,
    /// One user by address.
    UserByEmail,
    /// Own parts of users, roles, the tree of organizations.
    RbacParts,
    /// One whole context.
    RbacContext,
    /// What was committed since the last look.
    TailPoll,
    /// What is kept of users and tokens.
    TailKept,
    /// Removes what everybody has seen.
    TailPrune,
    /// Installs or removes the outbox.
    Migrate,
    /// The row of the dashboard's view.
    DashboardView,
    /// All of the dashboard's queries.
    DashboardQueries,
    /// Computes the dashboard's view anew.
    DashboardRefresh,
    /// What kind of relation the dashboard's view is.
    DashboardHealth,
    /// How old it is.
    DashboardAge,
    /// Ids of what is worth warming.
    WarmIds,
    /// Active data sources.
    AnalyticsSources,
    /// What the application says of one data source.
    AnalyticsSource,
    /// What the catalog says of its table.
    AnalyticsColumns,
    /// All of its rows.
    AnalyticsExport,
    /// Rows for a question.
    AnalyticsRows,
    /// Groups for a question.
    AnalyticsGroups,
}

impl Statement {
    /// All statements, in the order of their counters.
    pub const ALL: [Statement; 23] = [
        Statement::Ping,
        Statement::TokenIsBlacklisted,
        Statement::BlacklistToken,
        Statement::UserById,
        Statement::UserByEmail,
        Statement::RbacParts,
        Statement::RbacContext,
        Statement::TailPoll,
        Statement::TailKept,
        Statement::TailPrune,
        Statement::Migrate,
        Statement::DashboardView,
        Statement::DashboardQueries,
        Statement::DashboardRefresh,
        Statement::DashboardHealth,
        Statement::DashboardAge,
        Statement::WarmIds,
        Statement::AnalyticsSources,
        Statement::AnalyticsSource,
        Statement::AnalyticsColumns,
        Statement::AnalyticsExport,
        Statement::AnalyticsRows,
        Statement::AnalyticsGroups,
    ];

    /// The name users see in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Statement::Ping => "ping",
            Statement::TokenIsBlacklisted => "token_is_blacklisted",
            Statement::BlacklistToken => "blacklist_token",
            Statement::UserById => "user_by_id",
            Statement::UserByEmail => "user_by_email",
            Statement::RbacParts => "rbac_parts",
            Statement::RbacContext => "rbac_context",
            Statement::TailPoll => "tail_poll",
            Statement::TailKept => "tail_kept",
            Statement::TailPrune => "tail_prune",
            Statement::Migrate => "migrate",
            Statement::DashboardView => "dashboard_view",
            Statement::DashboardQueries => "dashboard_queries",
            Statement::DashboardRefresh => "dashboard_refresh",
            Statement::DashboardHealth => "dashboard_health",
            Statement::DashboardAge => "dashboard_age",
            Statement::WarmIds => "warm_ids",
            Statement::AnalyticsSources => "analytics_sources",
            Statement::AnalyticsSource => "analytics_source",
            Statement::AnalyticsColumns => "analytics_columns",
            Statement::AnalyticsExport => "analytics_export",
            Statement::AnalyticsRows => "analytics_rows",
            Statement::AnalyticsGroups => "analytics_groups",
        }
    }
}

/// The names a statement needs.
pub trait Names {
    /// `"schema"."table"` for a table of the specification.
    fn table(&self, table: &str) -> String;
    /// `"column"` for a column of a table of the specification.
    fn column(&self, table: &str, column: &str) -> String;
}

/// The texts, built once.
pub struct Statements {
    texts: [Arc<str>; Statement::ALL.len()],
}

impl Statements {
    /// Puts the names into the texts.
    pub fn new(names: &dyn Names) -> Self {
        Self { texts: Statement::ALL.map(|statement| text(statement, names).into()) }
    }

    pub(super) fn put(&mut self, statement: Statement, text: String) {
        self.texts[statement as usize] = text.into();
    }

    pub(super) fn text(&self, statement: Statement) -> Arc<str> {
        self.texts[statement as usize].clone()
    }
}

fn text(statement: Statement, names: &dyn Names) -> String {
    let token = |column| names.column("token_blacklist", column);
    match statement {
        Statement::Ping => "SELECT 1".into(),
        Statement::TokenIsBlacklisted => {
            format!(
                "SELECT EXISTS (SELECT 1 FROM {} WHERE {} = $1)",
                names.table("token_blacklist"),
                token("jti")
            )
        }
        Statement::BlacklistToken => {
            let columns = [
                "jti",
                "user_id",
                "token_type",
                "blacklisted_at",
                "expires_at",
                "reason",
                "blacklisted_by",
                "ip_address",
                "user_agent",
            ];
            format!(
                "INSERT INTO {} ({}) VALUES ($1, $2::uuid, $3, now(), to_timestamp($4::double precision / 1000), $5, $6::uuid, $7, $8) \
                 ON CONFLICT ({}) DO NOTHING",
                names.table("token_blacklist"),
                columns.map(token).join(", "),
                token("jti"),
            )
        }
        Statement::UserById => user(names, &format!("{} = $1::uuid", names.column("users", "user_id"))),
        Statement::UserByEmail => user(names, &format!("{} = $1", names.column("users", "email"))),
        Statement::RbacParts => rbac_texts::parts(names),
        Statement::RbacContext => rbac_texts::context(names),
        Statement::TailPoll => migration::fill(outbox::POLL, names),
        Statement::TailKept => outbox::KEPT.into(),
        Statement::TailPrune => outbox::PRUNE.into(),
        // Many statements; see `migration`.
        Statement::Migrate => String::new(),
        // Of a configured dashboard: `Statements::with_dashboard`.
        Statement::DashboardView
        | Statement::DashboardQueries
        | Statement::DashboardRefresh
        | Statement::DashboardHealth
        | Statement::DashboardAge => String::new(),
        Statement::WarmIds => warm::ids(names),
        Statement::AnalyticsSources => analytics::sources_text(names),
        Statement::AnalyticsSource => analytics::source_text(names),
        // Of a data source; see `analytics`.
        Statement::AnalyticsColumns
        | Statement::AnalyticsExport
        | Statement::AnalyticsRows
        | Statement::AnalyticsGroups => String::new(),
    }
}

/// A user row; `password_hash` is not among the columns, so it cannot reach the store.
fn user(names: &dyn Names, condition: &str) -> String {
    let column = |column: &str| names.column("users", column);
    let iso = |name: &str| {
        format!(r#"to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#, column(name))
    };
    format!(
        "SELECT {}::text, {}, {}, {}, {}, {}, {}, {}, {}, {} IS NOT NULL FROM {} WHERE {condition}",
        column("user_id"),
        column("email"),
        column("first_name"),
        column("last_name"),
        column("is_active"),
        column("email_verified"),
        column("provider_uid"),
        iso("created_at"),
        iso("updated_at"),
        column("deleted_at"),
        names.table("users"),
    )
}
