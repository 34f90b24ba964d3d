//! Settings become parts. The only place that knows both.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::Handle;

use crate::base::clock::Clock;
use crate::base::error::{Code, Error};
use crate::base::key::{Keys, Namespace};
use crate::cache::Cache;
use crate::cache::near::Near;
use crate::cache::policy::{NearMode, Times};
use crate::config::{self, ConnectionMode, Settings, StoreKind, ValkeySettings};
use crate::rbac::epoch_key;
use crate::rbac::subject::new_epoch;
use crate::source::statements::{Names, Statements};
use crate::source::{self, Source};
use crate::store::embedded::Embedded;
use crate::store::valkey::{self, Valkey};
use crate::store::{Store, sim::Sim};
use crate::telemetry::Telemetry;

use super::Core;
use super::analytics::Analytics;
use super::contexts::Rbac;
use super::fallbacks::Fallbacks;
use super::refreshes::Refreshes;
use super::standing::Found;
use super::tail::TailState;
use super::warming::Warming;

pub(super) fn core(settings: Settings, runtime: &Handle) -> Result<Core, Error> {
    let telemetry = Arc::new(Telemetry::new(settings.metrics));
    let clock = Clock::system();
    let store = match &settings.store.kind {
        StoreKind::None => Store::None,
        StoreKind::Embedded { bytes } => Store::Embedded(Embedded::new(*bytes as usize, clock.clone())),
        StoreKind::Valkey(valkey) => {
            Store::Valkey(Box::new(Valkey::new(valkey_options(valkey, &settings)?, telemetry.clone())))
        }
    };
    assemble(settings, store, clock, telemetry, runtime)
}

impl Core {
    /// A core over a simulated store, for tests.
    pub fn simulated(settings: Settings, clock: Clock, runtime: &Handle) -> Result<Self, Error> {
        let store = Sim::new(clock.clone());
        Self::simulated_over(store, settings, clock, runtime)
    }

    /// As `simulated`, over a store that others may use too.
    pub fn simulated_over(
        store: Sim,
        settings: Settings,
        clock: Clock,
        runtime: &Handle,
    ) -> Result<Self, Error> {
        let telemetry = Arc::new(Telemetry::new(settings.metrics));
        assemble(settings, Store::Sim(store), clock, telemetry, runtime)
    }
}

fn assemble(
    settings: Settings,
    store: Store,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    runtime: &Handle,
) -> Result<Core, Error> {
    let times = Times {
        lease_ms: settings.store.lease_ms,
        wait_ms: settings.store.flight_wait_ms,
        connect_ms: settings.store.connect_timeout_ms,
    };
    let keys = Keys::new(&settings.store.key_prefix);
    let cache = Cache::new(
        store,
        Near::new(settings.near.bytes),
        keys.clone(),
        clock.clone(),
        telemetry.clone(),
        times,
        modes(&settings),
    )
    .voiding_on_return(vec![(epoch_key(&keys), new_epoch())]);
    // The pools spawn their tasks where they are made.
    let _inside = runtime.enter();
    let mut statements = Statements::new(&SchemaNames(&settings));
    if let Some(dashboard) = &settings.dashboard {
        statements = statements.with_dashboard(dashboard);
    }
    let source = Source::new(source_options(&settings), statements, clock.clone(), telemetry.clone())?;
    for notice in &settings.notices {
        tracing::warn!(component = "config", "{notice}");
    }
    Ok(Core {
        rbac: Rbac::new(&settings),
        tail: TailState::default(),
        source_found: Found::new(clock.now_ms()),
        fallbacks: Fallbacks::default(),
        warming: Warming::default(),
        analytics: Analytics::new(settings.analytics.near_bytes),
        started_ms: clock.now_ms(),
        cache,
        source,
        settings,
        telemetry,
        leads: parking_lot::Mutex::new(HashMap::default()),
        next_lead: AtomicU64::new(0),
        refreshes: Refreshes::default(),
        waiting: AtomicUsize::new(0),
        closing: AtomicBool::new(false),
        ended: tokio::sync::watch::Sender::new(false),
    })
}

/// Listens for announcements as long as the engine runs.
pub(super) async fn listen(core: &Core) {
    match &core.cache.store {
        Store::Valkey(store) => valkey::subscribe(store, &core.cache.keys.channel(), &core.cache).await,
        Store::None => {}
        // One process, one store: every invalidation is a local one.
        _ => core.cache.alone().await,
    }
}

fn modes(settings: &Settings) -> [NearMode; Namespace::ALL.len()] {
    Namespace::ALL.map(|namespace| {
        let name = match namespace {
            // A generation is kept the way the payloads that depend on it are.
            Namespace::JwtUser => Namespace::JwtPayload.name(),
            Namespace::RbacEpoch => Namespace::UserContext.name(),
            Namespace::DataSourceGeneration => Namespace::DataSource.name(),
            Namespace::ValueGeneration => Namespace::Value.name(),
            other => other.name(),
        };
        match settings.near.mode(name) {
            config::NearMode::Validated => NearMode::Validated,
            config::NearMode::Bounded { max_age_ms } => NearMode::Bounded { max_age_ms },
            config::NearMode::Off => NearMode::Off,
        }
    })
}

fn valkey_options(valkey: &ValkeySettings, settings: &Settings) -> Result<valkey::Options, Error> {
    let tls = match &valkey.tls {
        None => None,
        Some(tls) => Some(valkey::Tls { ca_pem: tls.ca_path.as_deref().map(read_ca).transpose()? }),
    };
    let mut seeds = vec![(valkey.host.clone(), valkey.port)];
    seeds.extend(valkey.seeds.iter().map(|seed| (seed.host.clone(), seed.port)));
    Ok(valkey::Options {
        seeds,
        username: valkey.username.clone(),
        password: valkey.password.as_ref().map(|password| password.expose().to_owned()),
        db: i64::from(valkey.database),
        tls,
        mode: match valkey.mode {
            ConnectionMode::Auto => valkey::Mode::Auto,
            ConnectionMode::Standalone => valkey::Mode::Standalone,
            ConnectionMode::Cluster => valkey::Mode::Cluster,
        },
        deadline_ms: settings.store.deadline_ms,
        connect_timeout_ms: settings.store.connect_timeout_ms,
    })
}

fn read_ca(path: &str) -> Result<Vec<u8>, Error> {
    let refuse = |why: String| Error {
        code: Code::Config,
        message: format!(
            "REDIS_TLS_CA=\"{path}\" is not accepted: the path of a PEM file with certificates. {why}."
        )
        .into(),
        field: Some("REDIS_TLS_CA".into()),
        reason: None,
    };
    let pem = std::fs::read(path).map_err(|error| refuse(format!("It cannot be read ({})", error.kind())))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(refuse("It contains no certificate".into())),
    }
}

fn source_options(settings: &Settings) -> source::Options {
    let source = &settings.source;
    source::Options {
        url: source.url.as_ref().map(|url| url.expose().to_owned()),
        analytics_url: source.analytics_url.as_ref().map(|url| url.expose().to_owned()),
        pool_max: source.pool_max,
        pooled: source.pgbouncer,
        deadline_ms: source.deadline_ms,
        bulkhead: source.bulkhead,
        queue: source.bulkhead_queue,
        analytics: source::analytics::Rules {
            query_ms: settings.analytics.query_timeout_ms,
            export_ms: settings.analytics.export_timeout_ms,
            schemas: settings.analytics.schemas.clone(),
            measure_columns: settings.analytics.measure_columns.clone(),
            own: settings.schema.clone(),
        },
    }
}

/// The SQL of the outbox with the application's names.
pub fn migration_sql(settings: &Settings, remove: bool) -> String {
    source::migration::sql(&SchemaNames(settings), remove)
}

/// Table and column names, checked by the configuration and quoted here.
struct SchemaNames<'a>(&'a Settings);

impl Names for SchemaNames<'_> {
    fn table(&self, table: &str) -> String {
        let (schema, table) = self.0.schema.table(table);
        format!("\"{schema}\".\"{table}\"")
    }

    fn column(&self, table: &str, column: &str) -> String {
        format!("\"{}\"", self.0.schema.column(table, column))
    }
}
