//! The one tokio runtime of the process. It starts with the first engine and lives as long as the
//! process: environments come and go, and its threads hold nothing of them.

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};

use bcos_cache_core::base::error::{Code, Error};
use bcos_cache_core::config::RuntimeSettings;

/// With the number of its workers.
static RUNTIME: OnceCell<(Runtime, usize)> = OnceCell::new();

/// The runtime, started with the configured number of workers if it does not run yet: the first engine decides.
pub(crate) fn handle(settings: &RuntimeSettings) -> Result<Handle, Error> {
    let asked = settings.worker_threads;
    let (runtime, threads) = RUNTIME.get_or_try_init(|| {
        Builder::new_multi_thread()
            .worker_threads(asked)
            .max_blocking_threads(4)
            .thread_name("bcos-cache")
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
