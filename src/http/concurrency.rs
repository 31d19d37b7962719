//! Concurrency limit per vendor: a vendor that hangs delays only its own callers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::http::CallKind;

/// The running of one vendor.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    running: Permits,
    queued: Permits,
    max_wait: Duration,
}

/// A call's permit; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct ConcurrencyPermit {
    _all: OwnedSemaphorePermit,
    _reading: Option<OwnedSemaphorePermit>,
}

/// So many in all, of which reads may take a part: there is always some room for what a caller pays for.
#[derive(Debug)]
struct Permits {
    all: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

impl ConcurrencyLimit {
    pub(super) fn new(in_flight: u32, waiting: u32, max_wait: Duration) -> Self {
        Self { running: Permits::new(in_flight), queued: Permits::new(waiting), max_wait }
    }

    /// Whether a call would be refused without a wait.
    pub(super) fn is_full(&self, kind: CallKind) -> bool {
        self.running.is_exhausted(kind) && self.queued.is_exhausted(kind)
    }

    /// A permit, after a short wait if need be; none if too many wait already or none gets free in time.
    pub(super) async fn acquire(&self, kind: CallKind, deadline: Instant) -> Option<ConcurrencyPermit> {
        if let Some(permit) = self.running.try_take(kind) {
            return Some(permit);
        }
        let _queue_permit = self.queued.try_take(kind)?;
        self.wait(kind, deadline.min(Instant::now() + self.max_wait)).await
    }

    /// A permit as soon as one is free, however many wait; none until the deadline.
    pub(super) async fn wait(&self, kind: CallKind, deadline: Instant) -> Option<ConcurrencyPermit> {
        timeout_at(deadline, self.running.take(kind)).await.ok()?
    }
}

impl Permits {
    fn new(count: u32) -> Self {
        let semaphore = |count| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        Self { all: semaphore(count), reading: semaphore(CallKind::Read.share_of(count)) }
    }

    fn is_exhausted(&self, kind: CallKind) -> bool {
        let for_kind = match kind {
            CallKind::Read => self.reading.available_permits(),
            CallKind::Write => usize::MAX,
        };
        for_kind.min(self.all.available_permits()) == 0
    }

    fn try_take(&self, kind: CallKind) -> Option<ConcurrencyPermit> {
        let reading = match kind {
            CallKind::Read => Some(Arc::clone(&self.reading).try_acquire_owned().ok()?),
            CallKind::Write => None,
        };
        Some(ConcurrencyPermit { _all: Arc::clone(&self.all).try_acquire_owned().ok()?, _reading: reading })
    }

    async fn take(&self, kind: CallKind) -> Option<ConcurrencyPermit> {
        let reading = match kind {
            CallKind::Read => Some(Arc::clone(&self.reading).acquire_owned().await.ok()?),
            CallKind::Write => None,
        };
        Some(ConcurrencyPermit { _all: Arc::clone(&self.all).acquire_owned().await.ok()?, _reading: reading })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn acquire(concurrency: &ConcurrencyLimit, kind: CallKind) -> Option<ConcurrencyPermit> {
        concurrency.acquire(kind, Instant::now() + Duration::from_mins(1)).await
    }

    #[tokio::test(start_paused = true)]
    async fn reads_leave_room_for_submits_and_nobody_waits_long() {
        use CallKind::{Read, Write};
        let concurrency = ConcurrencyLimit::new(5, 5, Duration::from_secs(1));
        let mut running = Vec::new();
        for _ in 0..4 {
            running.push(acquire(&concurrency, Read).await.unwrap());
        }
        assert!(!concurrency.is_full(Read));
        let began = Instant::now();
        assert!(acquire(&concurrency, Read).await.is_none());
        assert_eq!(began.elapsed().as_secs(), 1);
        running.push(acquire(&concurrency, Write).await.unwrap());
        // Four reads may wait, then none; a submit still may.
        let (waiting, at_once) = tokio::join!(
            futures_util::future::join_all([(); 4].map(|()| acquire(&concurrency, Read))),
            async {
                assert!(concurrency.is_full(Read) && !concurrency.is_full(Write));
                let began = Instant::now();
                assert!(acquire(&concurrency, Read).await.is_none());
                let refused = began.elapsed();
                running.pop();
                running.push(acquire(&concurrency, Write).await.unwrap());
                refused
            }
        );
        assert!(waiting.iter().all(Option::is_none));
        assert_eq!(at_once, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_the_place_that_gets_free() {
        let concurrency = ConcurrencyLimit::new(1, 1, Duration::from_secs(1));
        let first = acquire(&concurrency, CallKind::Read).await.unwrap();
        let (second, ()) = tokio::join!(acquire(&concurrency, CallKind::Read), async { drop(first) });
        assert!(second.is_some());
    }
}
