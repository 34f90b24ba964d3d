//! Engines of this process. The default one is created once, whoever asks first: a module that was
//! bundled twice or reloaded finds it again, because this state is in the add-on, not in JavaScript.

use std::sync::{Arc, LazyLock, Weak};

use bcos_cache_core::base::error::{Code, Error};
use bcos_cache_core::config;
use bcos_cache_core::engine::{self, Engine};
use parking_lot::Mutex;

use crate::bridge::{log, queue::JsTicket};
use crate::runtime;

pub(crate) type JsEngine = Engine<JsTicket>;

#[derive(Default)]
struct Registry {
    default: Option<Arc<JsEngine>>,
    /// Options given by `configure`, until the default engine exists.
    options: Option<serde_json::Value>,
    all: Vec<Weak<JsEngine>>,
}

/// Touched by every environment; held only while an engine is looked up or started.
static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

/// Starts an engine of its own.
pub(crate) fn create(env: &[(String, String)], options: &serde_json::Value) -> Result<Arc<JsEngine>, Error> {
    let engine = start(env, options)?;
    remember(&mut REGISTRY.lock(), &engine);
    Ok(engine)
}

/// The default engine, started on first use, and then warmed if that is configured and the caller `warms`.
pub(crate) fn default_engine(env: &[(String, String)], warms: bool) -> Result<Arc<JsEngine>, Error> {
    let mut registry = REGISTRY.lock();
    if let Some(engine) = &registry.default {
        return Ok(engine.clone());
    }
    let options = registry.options.clone().unwrap_or_else(|| serde_json::json!({}));
    let engine = start(env, &options)?;
    registry.default = Some(engine.clone());
    if warms {
        engine.warm_by_itself();
    }
    remember(&mut registry, &engine);
    Ok(engine)
}

/// Sets the options of the default engine; the same options again are no conflict, so that a reloaded
/// module may configure once more.
pub(crate) fn configure(env: &[(String, String)], options: serde_json::Value) -> Result<(), Error> {
    config::load(env, &options).map_err(|errors| config_error(&errors))?;
    let mut registry = REGISTRY.lock();
    if registry.default.is_some() && registry.options.as_ref() != Some(&options) {
        let message =
            "the default engine is in use already: call configure() before the first use, or createEngine()";
        return Err(Error::new(Code::Conflict, message));
    }
    registry.options = Some(options);
    Ok(())
}

/// The SQL of the outbox with the names of this configuration.
pub(crate) fn migration_sql(
    env: &[(String, String)],
    options: &serde_json::Value,
    remove: bool,
) -> Result<String, Error> {
    let settings = config::load(env, options).map_err(|errors| config_error(&errors))?;
    Ok(engine::migration_sql(&settings, remove))
}

/// Whether the default engine exists, without making it.
pub(crate) fn existing() -> Option<Arc<JsEngine>> {
    REGISTRY.lock().default.clone()
}

/// Ends the loads that a gone environment was to run.
pub(crate) fn abandon(env: u64) {
    let engines: Vec<_> = REGISTRY.lock().all.iter().filter_map(Weak::upgrade).collect();
    for engine in engines {
        engine.abandon(env);
    }
}

fn start(env: &[(String, String)], options: &serde_json::Value) -> Result<Arc<JsEngine>, Error> {
    let settings = config::load(env, options).map_err(|errors| config_error(&errors))?;
    log::install(settings.log);
    let runtime = runtime::handle(&settings.runtime)?;
    Ok(Arc::new(Engine::start(settings, &runtime)?))
}

fn remember(registry: &mut Registry, engine: &Arc<JsEngine>) {
    registry.all.retain(|known| known.strong_count() > 0);
    registry.all.push(Arc::downgrade(engine));
}

/// The first mistake names the field: its variable, or the option when there is no variable for it.
fn config_error(errors: &config::ConfigErrors) -> Error {
    let field = errors.0.first().map(|first| match &first.option {
        Some(option) if !config::variable_names().contains(&first.variable.as_str()) => option.clone(),
        _ => first.variable.clone(),
    });
    Error {
        code: Code::Config,
        message: errors.to_string().into(),
        field: field.map(Into::into),
        reason: None,
    }
}
