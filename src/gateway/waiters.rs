//! Callers who wait for the end of a batch: one notification channel per batch.
//!
//! A batch that ends wakes its own waiters and nobody else. The poller takes the batches that callers wait for from here,
//! before it looks for others in the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::batch::BatchId;
use crate::telemetry::Metrics;

/// The waiters of one vendor's batches in this process.
#[derive(Debug)]
pub(super) struct Waiters {
    awaited: Mutex<Awaited>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Awaited {
    batches: HashMap<BatchId, Waiting>,
    /// The same batches by their next polls.
    polls: BTreeSet<(Timestamp, BatchId)>,
}

#[derive(Debug)]
struct Waiting {
    batch_done: Arc<Notify>,
    callers: usize,
    next_poll_at: Timestamp,
}

impl Waiters {
    /// No waiters.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { awaited: Mutex::default(), metrics }
    }

    /// Adds a caller who waits for the end of a batch, until the guard is dropped.
    pub(super) fn join(self: &Arc<Self>, id: BatchId, next_poll_at: Timestamp) -> WaiterGuard {
        let mut awaited = self.lock();
        let Awaited { batches, polls } = &mut *awaited;
        let waiting = batches.entry(id.clone()).or_insert_with(|| {
            polls.insert((next_poll_at, id.clone()));
            Waiting { batch_done: Arc::default(), callers: 0, next_poll_at }
        });
        waiting.callers += 1;
        self.metrics.waiter_joined();
        WaiterGuard { waiters: Arc::clone(self), id, batch_done: Arc::clone(&waiting.batch_done) }
    }

    /// Wakes those who wait for a batch.
    pub(super) fn wake(&self, id: &BatchId) {
        if let Some(waiting) = self.lock().batches.get(id) {
            waiting.batch_done.notify_waiters();
        }
    }

    /// Says when a batch is to be polled next; nothing happens if nobody waits for it.
    pub(super) fn set_next_poll(&self, id: &BatchId, next_poll_at: Timestamp) {
        let mut awaited = self.lock();
        let Awaited { batches, polls } = &mut *awaited;
        if let Some(waiting) = batches.get_mut(id) {
            polls.remove(&(waiting.next_poll_at, id.clone()));
            polls.insert((next_poll_at, id.clone()));
            waiting.next_poll_at = next_poll_at;
        }
    }

    /// At most `limit` batches whose next poll is due `now`, the longest due first. Each is due again at `retry_at`, unless
    /// a poll says otherwise before.
    pub(super) fn take_due(&self, now: Timestamp, retry_at: Timestamp, limit: usize) -> Vec<BatchId> {
        let awaited = self.lock();
        let due = awaited.polls.iter().take_while(|(at, _)| *at <= now).take(limit);
        let due: Vec<_> = due.map(|(_, id)| id.clone()).collect();
        drop(awaited);
        for id in &due {
            self.set_next_poll(id, retry_at);
        }
        due
    }

    /// How many awaited batches are due, counted up to `limit`.
    pub(super) fn count_due(&self, now: Timestamp, limit: usize) -> usize {
        self.lock().polls.iter().take_while(|(at, _)| *at <= now).take(limit).count()
    }

    /// Whether anybody waits for any batch.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().batches.is_empty()
    }

    /// Whether anybody waits for this batch.
    pub(super) fn contains(&self, id: &BatchId) -> bool {
        self.lock().batches.contains_key(id)
    }

    fn leave(&self, id: &BatchId) {
        let mut awaited = self.lock();
        let Awaited { batches, polls } = &mut *awaited;
        if let Some(waiting) = batches.get_mut(id) {
            waiting.callers -= 1;
            if waiting.callers == 0 {
                polls.remove(&(waiting.next_poll_at, id.clone()));
                batches.remove(id);
            }
        }
        self.metrics.waiter_left();
    }

    fn lock(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> BatchId {
        text.parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn awaited_batches_are_taken_when_they_are_due_the_longest_due_first() {
        let waiters = Arc::new(Waiters::new(Arc::default()));
        let guards = [("a", 30), ("b", 10), ("c", 20), ("b", 99)].map(|(b, s)| waiters.join(id(b), at(s)));
        assert_eq!(waiters.take_due(at(9), at(50), 8), []);
        assert_eq!(waiters.take_due(at(40), at(50), 2), [id("b"), id("c")]);
        assert_eq!(waiters.take_due(at(40), at(50), 2), [id("a")]);
        assert_eq!(waiters.take_due(at(49), at(60), 8), []);
        waiters.set_next_poll(&id("c"), at(45));
        waiters.set_next_poll(&id("nobody"), at(1));
        assert_eq!(waiters.take_due(at(49), at(60), 8), [id("c")]);
        let [a, b, c, also_b] = guards;
        drop((a, b, c));
        assert_eq!((waiters.contains(&id("a")), waiters.contains(&id("b"))), (false, true));
        assert_eq!(waiters.take_due(at(99), at(100), 8), [id("b")]);
        drop(also_b);
        assert!(waiters.is_empty());
        assert_eq!(waiters.take_due(at(999), at(999), 8), []);
    }
}
