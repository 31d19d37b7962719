//! Panics: each one is counted, and logged under the id of the request that was being worked on.

use std::panic;
use std::sync::{Arc, LazyLock};

use prometheus_client::metrics::counter::Counter;

/// Panics of this process.
pub(super) static PANICS: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Counts and logs every panic of this process from now on, whoever catches it.
pub(super) fn set_hook() {
    // The default hook prints the panic's text, which may hold anything.
    panic::set_hook(Box::new(|panic| {
        PANICS.inc();
        let location = panic.location().map(ToString::to_string);
        // Only a text that was fixed at compile time is a `&'static str`; one with data in it is a `String`.
        let text = panic.payload().downcast_ref::<&'static str>().copied();
        tracing::error!(request_id = current_request_id().as_deref(), location, text, "panic");
    }));
}

tokio::task_local! {
    static REQUEST_IN_WORK: Option<Arc<str>>;
}

/// Does `work` on behalf of a request, if of any, so that a panic in it is logged under the request's id.
pub fn on_behalf_of<F: Future>(
    request_id: impl Into<Option<Arc<str>>>,
    work: F,
) -> impl Future<Output = F::Output> {
    REQUEST_IN_WORK.scope(request_id.into(), work)
}

/// `work` for another thread, on behalf of the request that is being worked on here.
pub fn blocking_on_behalf_of<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let request_id = current_request_id();
    move || REQUEST_IN_WORK.sync_scope(request_id, work)
}

/// Id of the request that is being worked on, as [`on_behalf_of`] was told.
#[must_use]
pub fn current_request_id() -> Option<Arc<str>> {
    REQUEST_IN_WORK.try_with(Clone::clone).ok().flatten()
}
