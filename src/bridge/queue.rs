//! The two queues of one environment. Requests of one turn of its event loop are handed over together, in a
//! microtask after the last of them, so that they share a round trip and wake the worker once. Promises
//! are created on its thread, settled in batches by one threadsafe function: the library's own promises cost one
//! each, four to six times as much.
//!
//! Invariants
//! - `tsfn` is called only under the lock of `items` and only while `open`: the environment's cleanup
//!   takes the same lock, so the function is never called after the environment is gone.
//! - While promises are pending the function is referenced, so that Node waits for them; otherwise not,
//!   so that a process exits by itself.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bcos_cache_core::base::error::{Code, Error};
use bcos_cache_core::base::limits::BATCH_REQUESTS;
use bcos_cache_core::engine::{Outcome, Request, Submission, Ticket};
use napi::sys;
use parking_lot::Mutex;

use super::outcome;
use crate::registry::{self, JsEngine};

static NEXT_ENV: AtomicU64 = AtomicU64::new(1);

/// The queue of one environment.
pub(crate) struct Queue {
    id: u64,
    /// Pushed to by any thread, emptied by the environment's.
    items: Mutex<Items>,
    /// A `napi_threadsafe_function`; see the first invariant.
    tsfn: usize,
    /// The function `(code, message, field) => Error`; a `napi_ref`, used on the environment's thread only.
    factory: usize,
    /// Promises not settled yet. Changed on the environment's thread only.
    pending: AtomicUsize,
    /// Requests of this turn. Used on the environment's thread only, hence never contended.
    turn: Mutex<Vec<(Arc<JsEngine>, Submission<JsTicket>)>>,
    /// `queueMicrotask`, and the function it is given; `napi_ref`s, used on the environment's thread only.
    microtask: usize,
    flush: AtomicUsize,
}

#[derive(Default)]
struct Items {
    settled: Vec<(usize, Outcome)>,
    scheduled: bool,
    open: bool,
}

thread_local! {
    /// A reloaded add-on gets another environment on the same thread, hence a list.
    static QUEUES: RefCell<Vec<(usize, Arc<Queue>)>> = const { RefCell::new(Vec::new()) };
}

/// One promise.
pub(crate) struct JsTicket {
    queue: Arc<Queue>,
    deferred: usize,
}

impl Queue {
    /// Prepares `env`; `factory` makes its errors. Once per environment.
    ///
    /// # Safety
    /// `env` must be current on this thread and `factory` a function of it.
    pub(crate) unsafe fn install(env: sys::napi_env, factory: sys::napi_value) -> napi::Result<()> {
        let known = QUEUES.with(|queues| queues.borrow().iter().any(|(known, _)| *known == env as usize));
        if known {
            return Ok(());
        }
        let (mut name, mut tsfn, mut reference) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let (mut global, mut microtask, mut microtask_reference) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: `env` is current; the strings and out-pointers live through the calls.
        let status = unsafe {
            sys::napi_create_string_utf8(env, c"bcos-cache".as_ptr(), 10, &mut name);
            sys::napi_create_reference(env, factory, 1, &mut reference);
            sys::napi_get_global(env, &mut global);
            sys::napi_get_named_property(env, global, c"queueMicrotask".as_ptr(), &mut microtask);
            sys::napi_create_reference(env, microtask, 1, &mut microtask_reference);
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
            return Err(napi::Error::from_reason("the completion queue could not be created"));
        }
        let queue = Arc::new(Queue {
            id: NEXT_ENV.fetch_add(1, Ordering::Relaxed),
            items: Mutex::new(Items { open: true, ..Items::default() }),
            tsfn: tsfn as usize,
            factory: reference as usize,
            pending: AtomicUsize::new(0),
            turn: Mutex::default(),
            microtask: microtask_reference as usize,
            flush: AtomicUsize::new(0),
        });
        let held = Arc::into_raw(queue.clone()) as *mut c_void;
        let (mut flush, mut flush_reference) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the hook gets back exactly the pointer that `into_raw` gave, once; the function looks its
        // queue up and holds nothing.
        unsafe {
            sys::napi_create_function(
                env,
                c"handOver".as_ptr(),
                -1,
                Some(hand_over),
                ptr::null_mut(),
                &mut flush,
            );
            sys::napi_create_reference(env, flush, 1, &mut flush_reference);
            queue.flush.store(flush_reference as usize, Ordering::Relaxed);
            sys::napi_unref_threadsafe_function(env, tsfn);
            sys::napi_add_env_cleanup_hook(env, Some(cleanup), held);
        }
        QUEUES.with(|queues| queues.borrow_mut().push((env as usize, queue)));
        Ok(())
    }

    /// The queue of `env`.
    pub(crate) fn of(env: sys::napi_env) -> napi::Result<Arc<Self>> {
        QUEUES.with(|queues| {
            let queues = queues.borrow();
            let found = queues.iter().rev().find(|(known, _)| *known == env as usize);
            found
                .map(|(_, queue)| queue.clone())
                .ok_or_else(|| napi::Error::from_reason("install() was not called"))
        })
    }

    /// A number that is this environment's alone.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// A promise and its ticket.
    ///
    /// # Safety
    /// `env` must be current on this thread and be this queue's.
    pub(crate) unsafe fn promise(self: &Arc<Self>, env: sys::napi_env) -> (JsTicket, sys::napi_value) {
        let (mut deferred, mut promise) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the caller's promise.
        unsafe { sys::napi_create_promise(env, &mut deferred, &mut promise) };
        if self.pending.fetch_add(1, Ordering::Relaxed) == 0 {
            // SAFETY: on the environment's thread, which is alive while it runs this call.
            unsafe { sys::napi_ref_threadsafe_function(env, self.tsfn as _) };
        }
        (JsTicket { queue: self.clone(), deferred: deferred as usize }, promise)
    }

    /// Takes a request into this turn.
    ///
    /// # Safety
    /// `env` must be current on this thread and be this queue's.
    pub(crate) unsafe fn submit(
        self: &Arc<Self>,
        env: sys::napi_env,
        engine: &Arc<JsEngine>,
        request: Request,
        deadline_ms: u64,
    ) -> sys::napi_value {
        // SAFETY: the caller's promise.
        let (ticket, promise) = unsafe { self.promise(env) };
        let submission = engine.prepare(request, deadline_ms, ticket);
        let waiting = {
            let mut turn = self.turn.lock();
            turn.push((engine.clone(), submission));
            turn.len()
        };
        // SAFETY: the caller's promise; both references live as long as the environment.
        if waiting >= BATCH_REQUESTS || waiting == 1 && !unsafe { self.schedule(env) } {
            // A whole batch need not wait for more; neither may one that nobody will hand over.
            self.hand_over();
        }
        promise
    }

    /// Asks for `hand_over` after the code that runs now and the continuations that wait already.
    ///
    /// # Safety
    /// As [`Queue::submit`].
    unsafe fn schedule(&self, env: sys::napi_env) -> bool {
        let (mut microtask, mut flush, mut this, mut ignored) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: the caller's promise.
        unsafe {
            sys::napi_get_reference_value(env, self.microtask as _, &mut microtask);
            sys::napi_get_reference_value(env, self.flush.load(Ordering::Relaxed) as _, &mut flush);
            sys::napi_get_undefined(env, &mut this);
            sys::napi_call_function(env, this, microtask, 1, &flush, &mut ignored) == sys::Status::napi_ok
        }
    }

    /// Hands over what this turn asked for, each engine's together.
    fn hand_over(&self) {
        let mut turn = std::mem::take(&mut *self.turn.lock()).into_iter().peekable();
        while let Some((engine, first)) = turn.next() {
            let mut together = Vec::with_capacity(turn.len() + 1);
            together.push(first);
            while let Some((_, next)) = turn.next_if(|(other, _)| Arc::ptr_eq(other, &engine)) {
                together.push(next);
            }
            engine.submit(together);
        }
    }

    fn push(&self, settled: impl IntoIterator<Item = (usize, Outcome)>) {
        let mut items = self.items.lock();
        if !items.open {
            return;
        }
        items.settled.extend(settled);
        if !items.scheduled {
            items.scheduled = true;
            // SAFETY: open and locked, so the environment has not been cleaned up.
            unsafe { sys::napi_call_threadsafe_function(self.tsfn as _, ptr::null_mut(), 0) };
        }
    }
}

impl Ticket for JsTicket {
    fn settle(mut self, outcome: Outcome) {
        let deferred = std::mem::take(&mut self.deferred);
        self.queue.push([(deferred, outcome)]);
    }

    fn settle_many(settled: Vec<(Self, Outcome)>) {
        let mut rest = settled.into_iter().peekable();
        while let Some((first, outcome)) = rest.next() {
            let queue = first.queue.clone();
            let mut batch = Vec::with_capacity(rest.len() + 1);
            let mut next = Some((first, outcome));
            while let Some((mut ticket, outcome)) = next.take() {
                batch.push((std::mem::take(&mut ticket.deferred), outcome));
                next = rest.next_if(|(ticket, _)| Arc::ptr_eq(&ticket.queue, &queue));
            }
            queue.push(batch);
        }
    }
}

impl Drop for JsTicket {
    /// A ticket that was never settled: the promise must not hang.
    fn drop(&mut self) {
        if self.deferred != 0 {
            let error = Error::new(Code::Closed, "the engine was closed before this call was answered");
            self.queue.push([(self.deferred, Outcome::Failed(error))]);
        }
    }
}

/// The microtask at the end of a turn's calls.
unsafe extern "C" fn hand_over(env: sys::napi_env, _: sys::napi_callback_info) -> sys::napi_value {
    // A panic must not unwind into Node; the tickets it drops are settled as they go.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Ok(queue) = Queue::of(env) {
            queue.hand_over();
        }
    }));
    ptr::null_mut()
}

unsafe extern "C" fn drain(env: sys::napi_env, _: sys::napi_value, _: *mut c_void, _: *mut c_void) {
    // Node calls this with a null environment while it tears the function down.
    let Some(queue) = (!env.is_null()).then(|| Queue::of(env).ok()).flatten() else { return };
    let settled = {
        let mut items = queue.items.lock();
        items.scheduled = false;
        std::mem::take(&mut items.settled)
    };
    let count = settled.len();
    let mut scope = ptr::null_mut();
    // SAFETY: on the environment's thread, in a callback of its own; scopes are opened and closed in pairs.
    unsafe {
        sys::napi_open_handle_scope(env, &mut scope);
        for (index, (deferred, outcome)) in settled.into_iter().enumerate() {
            if index % 64 == 63 {
                sys::napi_close_handle_scope(env, scope);
                sys::napi_open_handle_scope(env, &mut scope);
            }
            match &outcome {
                Outcome::Failed(error) => {
                    sys::napi_reject_deferred(env, deferred as _, queue.error(env, error))
                }
                outcome => sys::napi_resolve_deferred(env, deferred as _, outcome::to_js(env, outcome)),
            };
        }
        sys::napi_close_handle_scope(env, scope);
        if queue.pending.fetch_sub(count, Ordering::Relaxed) == count {
            sys::napi_unref_threadsafe_function(env, queue.tsfn as _);
        }
    }
}

impl Queue {
    /// # Safety
    /// On the environment's thread, inside a handle scope.
    pub(crate) unsafe fn error(&self, env: sys::napi_env, error: &Error) -> sys::napi_value {
        let (mut factory, mut this, mut made) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: the caller's promise; the reference lives as long as the environment.
        unsafe {
            let parts = outcome::error_parts(env, error);
            sys::napi_get_undefined(env, &mut this);
            sys::napi_get_reference_value(env, self.factory as _, &mut factory);
            if sys::napi_call_function(env, this, factory, parts.len() as _, parts.as_ptr(), &mut made)
                != sys::Status::napi_ok
            {
                let mut pending = ptr::null_mut();
                sys::napi_get_and_clear_last_exception(env, &mut pending);
                sys::napi_create_error(env, parts[0], parts[1], &mut made);
            }
        }
        made
    }
}

unsafe extern "C" fn cleanup(held: *mut c_void) {
    // SAFETY: `held` came from `Arc::into_raw` in `install` and comes here once.
    let queue = unsafe { Arc::from_raw(held as *const Queue) };
    {
        let mut items = queue.items.lock();
        items.open = false;
        items.settled.clear();
    }
    queue.turn.lock().clear();
    let _ = QUEUES.try_with(|queues| queues.borrow_mut().retain(|(_, known)| known.id != queue.id));
    registry::abandon(queue.id);
}
