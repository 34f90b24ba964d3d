//! The one tokio runtime of the process. It starts with the first engine and lives as long as the
//! process: environments come and go, and its threads hold nothing of them.

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};

use bcos_cache_core::base::error::{Code, Error};

static RUNTIME: OnceCell<Runtime> = OnceCell::new();

/// The runtime, started with `threads` workers if it does not run yet.
pub(crate) fn handle(threads: usize) -> Result<Handle, Error> {
    let runtime = RUNTIME.get_or_try_init(|| {
        Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(4)
            .thread_name("bcos-cache")
            .thread_stack_size(1 << 20)
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| {
                Error::new(Code::Internal, format!("the runtime did not start ({})", error.kind()))
            })
    })?;
    Ok(runtime.handle().clone())
}
