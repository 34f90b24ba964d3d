//! Log records on their way to the application's logger. Bounded: under pressure records are dropped and
//! counted, never queued without end.
//!
//! Invariant: a record holds only what the core put into its fields, and the core puts in no token, no
//! address and no key part.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Once};

use bcos_cache_core::base::clock::Clock;
use bcos_cache_core::config::LogLevel;
use napi::sys;
use parking_lot::{Mutex, RwLock};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::outcome;

/// Records that may wait for one logger.
const WAITING: usize = 1_024;

static LEVEL: AtomicU8 = AtomicU8::new(2);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static SINKS: RwLock<Vec<Arc<Sink>>> = RwLock::new(Vec::new());
static INSTALLED: Once = Once::new();
/// Environments whose end is watched: Node refuses the same hook twice.
static WATCHED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

struct Sink {
    env: usize,
    /// Pushed to by any thread, emptied by the environment's; also guards `tsfn` as in `queue`.
    waiting: Mutex<Waiting>,
    tsfn: usize,
    logger: usize,
}

struct Waiting {
    records: VecDeque<String>,
    scheduled: bool,
    open: bool,
}

/// Records that found no room.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Sets the level and, once per process, starts listening to the core.
pub(crate) fn install(level: LogLevel) {
    let number = match level {
        LogLevel::Off => 0,
        LogLevel::Error => 1,
        LogLevel::Warn => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
        LogLevel::Trace => 5,
    };
    LEVEL.store(number, Ordering::Relaxed);
    INSTALLED.call_once(|| {
        // Fails only when somebody linked into this very file set one before; then theirs stays.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Bridge));
    });
}

/// Sets or removes the logger of `env`.
///
/// # Safety
/// `env` must be current on this thread, and `logger` null or a function of it.
pub(crate) unsafe fn set_logger(env: sys::napi_env, logger: sys::napi_value) -> napi::Result<()> {
    if let Some(old) = close(env as usize) {
        // SAFETY: on the environment's thread; nobody else calls this function any more (`close`).
        unsafe {
            sys::napi_release_threadsafe_function(old.tsfn as _, sys::ThreadsafeFunctionReleaseMode::release);
            sys::napi_delete_reference(env, old.logger as _);
        }
    }
    if logger.is_null() {
        return Ok(());
    }
    let (mut name, mut tsfn, mut reference) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: `env` is current; the out-pointers live through the calls.
    let status = unsafe {
        sys::napi_create_string_utf8(env, c"bcos-cache log".as_ptr(), 14, &mut name);
        sys::napi_create_reference(env, logger, 1, &mut reference);
        sys::napi_create_threadsafe_function(
            env,
            ptr::null_mut(),
            ptr::null_mut(),
            name,
            0,
            1,
            ptr::null_mut(),
            None,
            ptr::null_mut(),
            Some(drain),
            &mut tsfn,
        )
    };
    if status != sys::Status::napi_ok {
        return Err(napi::Error::from_reason("the logger could not be set"));
    }
    // SAFETY: created a moment ago; a logger must not keep the process alive. The hook gets the address
    // as a number and dereferences nothing.
    unsafe {
        sys::napi_unref_threadsafe_function(env, tsfn);
        let mut watched = WATCHED.lock();
        if !watched.contains(&(env as usize)) {
            watched.push(env as usize);
            sys::napi_add_env_cleanup_hook(env, Some(cleanup), env.cast());
        }
    }
    SINKS.write().push(Arc::new(Sink {
        env: env as usize,
        waiting: Mutex::new(Waiting { records: VecDeque::new(), scheduled: false, open: true }),
        tsfn: tsfn as usize,
        logger: reference as usize,
    }));
    Ok(())
}

/// Takes the logger of an environment out of use; after this nobody calls its function.
fn close(env: usize) -> Option<Arc<Sink>> {
    let mut sinks = SINKS.write();
    let at = sinks.iter().position(|sink| sink.env == env)?;
    let sink = sinks.swap_remove(at);
    let mut waiting = sink.waiting.lock();
    waiting.open = false;
    waiting.records.clear();
    drop(waiting);
    Some(sink)
}

unsafe extern "C" fn cleanup(env: *mut c_void) {
    WATCHED.lock().retain(|watched| *watched != env as usize);
    close(env as usize);
}

unsafe extern "C" fn drain(env: sys::napi_env, _: sys::napi_value, _: *mut c_void, _: *mut c_void) {
    let sink = SINKS.read().iter().find(|sink| sink.env == env as usize).cloned();
    let Some(sink) = sink.filter(|_| !env.is_null()) else { return };
    let records = {
        let mut waiting = sink.waiting.lock();
        waiting.scheduled = false;
        std::mem::take(&mut waiting.records)
    };
    // SAFETY: on the environment's thread, in a callback of its own.
    unsafe {
        let (mut scope, mut logger, mut this) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        sys::napi_open_handle_scope(env, &mut scope);
        sys::napi_get_reference_value(env, sink.logger as _, &mut logger);
        sys::napi_get_undefined(env, &mut this);
        for record in records {
            let argument = outcome::text_of(env, record.as_bytes());
            let mut ignored = ptr::null_mut();
            if sys::napi_call_function(env, this, logger, 1, &argument, &mut ignored) != sys::Status::napi_ok
            {
                // A logger that throws must not end the process.
                let mut exception = ptr::null_mut();
                sys::napi_get_and_clear_last_exception(env, &mut exception);
            }
        }
        sys::napi_close_handle_scope(env, scope);
    }
}

struct Bridge;

impl<S: Subscriber> Layer<S> for Bridge {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let number = match *event.metadata().level() {
            Level::ERROR => 1,
            Level::WARN => 2,
            Level::INFO => 3,
            Level::DEBUG => 4,
            Level::TRACE => 5,
        };
        // The libraries below us also emit events, some with statements in them: only ours pass.
        if number > LEVEL.load(Ordering::Relaxed) || !event.metadata().target().starts_with("bcos_cache") {
            return;
        }
        let sinks = SINKS.read();
        if sinks.is_empty() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let record = serde_json::json!({
            "level": event.metadata().level().as_str().to_ascii_lowercase(),
            "message": fields.message,
            "component": fields.component,
            "fields": fields.rest,
            "time": Clock::system().unix_ms(),
        })
        .to_string();
        for sink in sinks.iter() {
            let mut waiting = sink.waiting.lock();
            if !waiting.open || waiting.records.len() >= WAITING {
                DROPPED.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            waiting.records.push_back(record.clone());
            if !waiting.scheduled {
                waiting.scheduled = true;
                // SAFETY: open and locked, so the environment has not been cleaned up.
                unsafe { sys::napi_call_threadsafe_function(sink.tsfn as _, ptr::null_mut(), 0) };
            }
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    component: String,
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            ("message", serde_json::Value::String(text)) => self.message = text,
            ("component", serde_json::Value::String(text)) => self.component = text,
            (name, value) => {
                self.rest.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}
