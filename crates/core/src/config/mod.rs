//! Configuration in two steps: `raw` keeps what was typed, `settings` says what it means.
//!
//! Not here: reading the process environment or files. The caller hands over the variables named by
//! [`variable_names`] and an options object, so the result depends on nothing else.
//!
//! Invariant: every variable is defined once, in `variables`; names, parsing, error texts and the
//! reference are derived from that table. No secret reaches a `Debug`, a `Display` or an error.

mod dashboard;
mod endpoint;
mod error;
mod kind;
mod near;
mod parse;
mod place;
mod ratelimits;
mod raw;
mod reference;
mod schema;
mod secret;
mod server_url;
mod settings;
mod store;
pub(crate) mod suggest;
#[cfg(test)]
mod testing;
mod values;
mod variables;

pub use dashboard::DashboardSettings;
pub use endpoint::Endpoint;
pub use error::{ConfigError, ConfigErrors};
pub use kind::{Bounds, Kind, UrlForm};
pub use near::{NEAR_NAMESPACES, NearMode, NearSettings};
pub use raw::{Origin, Raw, Typed};
pub use reference::reference;
pub use schema::{SchemaMapping, TableMapping, is_identifier};
pub use secret::Secret;
pub use settings::{
    AnalyticsSettings, JwtSettings, LogLevel, RbacSettings, RuntimeSettings, Settings, SourceSettings,
    TailSettings, WarmingLevel, WarmingSettings, resolve,
};
pub use store::{ConnectionMode, StoreKind, StoreSettings, TlsSettings, ValkeySettings};
pub use variables::{OptionOnly, VARIABLES, Variable, option_only, variable_names};

/// Both steps at once. Unlike calling them one after the other, it reports the mistakes of both.
pub fn load(env: &[(String, String)], options: &serde_json::Value) -> Result<Settings, ConfigErrors> {
    let (raw, errors) = Raw::read(env, options);
    settings::resolve_after(&raw, errors)
}
