//! The one tokio runtime of the process. It starts with the first engine and lives as long as the
//! process: environments come and go, and its threads hold nothing of them.

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};

use bcos_cache_core::base::error::{Code, Error};
use bcos_cache_core::config::RuntimeSettings;

/// What its threads are called.
const THREADS: &str = "bcos-cache";

/// With the number of its workers.
static RUNTIME: OnceCell<(Runtime, usize)> = OnceCell::new();

/// The runtime, started with the configured number of workers if it does not run yet: the first engine decides.
pub(crate) fn handle(settings: &RuntimeSettings) -> Result<Handle, Error> {
    let asked = settings.worker_threads;
    let (runtime, threads) = RUNTIME.get_or_try_init(|| {
        report_panics();
        Builder::new_multi_thread()
            .worker_threads(asked)
            .max_blocking_threads(4)
            .thread_name(THREADS)
            .thread_stack_size(1 << 20)
            .enable_io()
            .enable_time()
            .build()
            .map(|runtime| (runtime, asked))
            .map_err(|error| {
                Error::new(Code::Internal, format!("the runtime did not start ({})", error.kind()))
            })
    })?;
    if settings.worker_threads_given && asked != *threads {
        tracing::warn!(
            component = "config",
            asked,
            running = *threads,
            "CACHE_WORKER_THREADS is ignored: the threads are the process's, and its first engine started them"
        );
    }
    Ok(runtime.handle().clone())
}

/// A task that panics fails the call it worked for; of the panic the log gets the place, not the words, which may hold
/// values, and the terminal of the application nothing.
fn report_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(THREADS) {
            return others(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(component = "runtime", place, "a task panicked; the call it worked for fails");
    }));
}
