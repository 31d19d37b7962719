//! Callers who wait for the end of a batch: one notification channel per batch.
//!
//! A batch that ends wakes its own waiters and nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::batch::BatchId;
use crate::telemetry::Metrics;

/// The waiters of one vendor's batches in this process.
#[derive(Debug)]
pub(super) struct Waiters {
    batches: Mutex<HashMap<BatchId, Waiting>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Waiting {
    batch_done: Arc<Notify>,
    callers: usize,
}

impl Waiters {
    /// No waiters.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { batches: Mutex::default(), metrics }
    }

    /// Adds a caller who waits for the end of a batch, until the guard is dropped.
    pub(super) fn join(self: &Arc<Self>, id: BatchId) -> WaiterGuard {
        let mut batches = self.lock();
        let waiting = batches.entry(id.clone()).or_default();
        waiting.callers += 1;
        let batch_done = Arc::clone(&waiting.batch_done);
        self.metrics.waiter_joined();
        WaiterGuard { waiters: Arc::clone(self), id, batch_done }
    }

    /// Wakes those who wait for a batch.
    pub(super) fn wake(&self, id: &BatchId) {
        if let Some(waiting) = self.lock().get(id) {
            waiting.batch_done.notify_waiters();
        }
    }

    /// Whether anybody waits for any batch.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether anybody waits for this batch.
    pub(super) fn contains(&self, id: &BatchId) -> bool {
        self.lock().contains_key(id)
    }

    fn leave(&self, id: &BatchId) {
        let mut batches = self.lock();
        if let Some(waiting) = batches.get_mut(id) {
            waiting.callers -= 1;
            if waiting.callers == 0 {
                batches.remove(id);
            }
        }
        self.metrics.waiter_left();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BatchId, Waiting>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller who waits for the end of a batch.
#[derive(Debug)]
pub(super) struct WaiterGuard {
    waiters: Arc<Waiters>,
    id: BatchId,
    batch_done: Arc<Notify>,
}

impl WaiterGuard {
    /// Completes when the batch is done or erased, or when the vendor does not know it. Enable it before looking at the
    /// batch, so that no end is missed.
    pub(super) fn batch_done(&self) -> Notified<'_> {
        self.batch_done.notified()
    }

    /// Counts that the caller was woken.
    pub(super) fn woken(&self) {
        self.waiters.metrics.waiter_woken();
    }
}

impl Drop for WaiterGuard {
    fn drop(&mut self) {
        self.waiters.leave(&self.id);
    }
}
