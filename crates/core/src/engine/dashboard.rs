//! Requests about values of several layers and about the configured dashboard. The layers are asked by JavaScript; two
//! of them, the view and the queries, ask back here.

use crate::base::error::{Code, Error};
use crate::cache::Invalidation;
use crate::config::DashboardSettings;
use crate::dashboard::{self, Whose};

use super::{Core, Outcome};

/// What is asked of the dashboard's view and queries.
#[derive(Clone, Debug)]
pub enum DashboardAsk {
    /// The row of the view.
    View { scope: Option<String> },
    /// All queries.
    Queries { scope: Option<String> },
    /// The view computed anew.
    Refresh,
    /// How the view is.
    Health,
}

impl Core {
    pub(super) async fn invalidate_layered(&self, key: &str, whose: &Whose) -> Result<Invalidation, Error> {
        self.cache.invalidate(vec![dashboard::void(&self.cache.keys, key, whose)?]).await
    }

    pub(super) async fn dashboard(&self, ask: DashboardAsk) -> Result<Outcome, Error> {
        let Some(settings) = &self.settings.dashboard else {
            return Err(Error {
                code: Code::Config,
                message: NOT_CONFIGURED.into(),
                field: Some("dashboard".into()),
                reason: None,
            });
        };
        Ok(match ask {
            DashboardAsk::View { scope } => {
                let scope = of_one(settings, scope)?;
                let row = self.source.dashboard_view(settings, scope).await?;
                row.map_or(Outcome::Nothing, Outcome::Json)
            }
            DashboardAsk::Queries { scope } => {
                Outcome::Json(self.source.dashboard_queries(of_one(settings, scope)?).await?)
            }
            DashboardAsk::Refresh => {
                self.source.refresh_dashboard(settings).await?;
                Outcome::Nothing
            }
            DashboardAsk::Health => Outcome::Json(self.source.dashboard_health(settings).await?.to_string()),
        })
    }
}

const NOT_CONFIGURED: &str =
    "no dashboard is configured: set the option dashboard, { view, queries: { [group]: sql } }";

/// The scope exactly when there is a column for it: without one everybody would get the same row.
fn of_one(settings: &DashboardSettings, scope: Option<String>) -> Result<Option<String>, Error> {
    match (&settings.scope_column, scope) {
        (Some(_), None) => Err(Error {
            code: Code::Scope,
            message: "this dashboard has one row per scope, and no scopeKey was given".into(),
            field: Some("scopeKey".into()),
            reason: None,
        }),
        (None, Some(_)) => {
            Err(Error::argument("scopeKey", "none, as this dashboard is the same for everybody"))
        }
        (_, scope) => Ok(scope),
    }
}
