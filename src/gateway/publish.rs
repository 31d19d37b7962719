//! Publishing what is known of a batch: into memory, for as long as it counts, and to those who wait for its end.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::follow::INCOMPLETE_POLL_MAX_INTERVAL;
use super::refresh::{AFTER_FAILURE, later};
use crate::batch::Status;
use crate::cache::{Key, Representation};
use crate::error::Error;

/// How long a stopped or failed batch is served without asking again.
pub(super) const ENDED_TTL: Duration = Duration::from_mins(1);
/// How long a `not found` from the vendor is cached.
const NOT_FOUND_TTL: Duration = Duration::from_secs(30);

/// What decides how long a document is served before the vendor is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Final and saved: never fetched again.
    Final,
    /// Completed, and results may still come: they are fetched by the next poll, however many read.
    UntilPoll(Duration),
    /// Stopped or failed: the vendor may still correct it.
    Ended,
    /// Done, and served because the vendor fails.
    AfterFailure,
    /// Not done, or done and not saved.
    Passing,
}

impl Freshness {
    /// Of a batch that is saved, with the time to its next poll.
    pub(super) fn of(status: &str, done: bool, is_final: bool, next_poll: Option<Duration>) -> Self {
        match (is_final, status == Status::Completed.word(), next_poll) {
            (true, ..) | (false, true, None) => Self::Final,
            (false, true, Some(next_poll)) => Self::UntilPoll(next_poll),
            (false, false, _) if done => Self::Ended,
            (false, false, _) => Self::Passing,
        }
    }
}

impl Gateway {
    /// How long a document is served; none if it is never fetched again.
    pub(super) fn ttl(&self, freshness: Freshness) -> Option<Duration> {
        match freshness {
            Freshness::Final => None,
            Freshness::UntilPoll(next_poll) => Some(next_poll.min(INCOMPLETE_POLL_MAX_INTERVAL)),
            Freshness::Ended => Some(ENDED_TTL),
            Freshness::AfterFailure => Some(AFTER_FAILURE),
            Freshness::Passing => Some(self.inner.running_ttl),
        }
    }

    /// Publishes a document that was just fetched.
    pub(super) fn publish(
        &self,
        key: &Key,
        document: impl Into<Arc<Representation>>,
        freshness: Freshness,
    ) -> Arc<Representation> {
        self.publish_for(key, document.into(), self.ttl(freshness))
    }

    /// Publishes a document for the rest of its time.
    pub(super) fn publish_for(
        &self,
        key: &Key,
        document: Arc<Representation>,
        ttl: Option<Duration>,
    ) -> Arc<Representation> {
        self.inner.cache.insert(key.clone(), Ok(Arc::clone(&document)), ttl);
        if document.done {
            self.wake_waiters(key);
        } else if let Some(vendor) = self.inner.vendors.get(key.0) {
            vendor.waiters.set_next_poll(&key.1, later(self.now(), document.poll_after));
        }
        document
    }

    /// Publishes that a batch was erased.
    pub(super) fn publish_erased(&self, key: &Key) {
        self.inner.cache.erase(key.clone());
        self.wake_waiters(key);
    }

    /// Publishes that the vendor does not know a batch.
    pub(super) fn publish_not_found(&self, key: &Key, error: Error) {
        self.inner.cache.insert(key.clone(), Err(error), Some(NOT_FOUND_TTL));
        self.wake_waiters(key);
    }

    fn wake_waiters(&self, key: &Key) {
        if let Some(vendor) = self.inner.vendors.get(key.0) {
            vendor.waiters.wake(&key.1);
        }
    }
}
