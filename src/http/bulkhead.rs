//! How many calls of one vendor are under way and wait: a vendor that hangs holds up its own callers only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::class::CallClass;

/// The places of one vendor.
#[derive(Debug)]
pub(super) struct Bulkhead {
    places: Places,
    seats: Places,
    max_wait: Duration,
}

/// A call's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _reading: Option<OwnedSemaphorePermit>,
}

/// So many in all, of which reads may take a part: there is always some room for what a caller pays for.
#[derive(Debug)]
struct Places {
    all: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

impl Bulkhead {
    pub(super) fn new(in_flight: u32, waiting: u32, max_wait: Duration) -> Self {
        Self { places: Places::new(in_flight), seats: Places::new(waiting), max_wait }
    }

    /// Whether a call would be refused without a wait.
    pub(super) fn is_full(&self, class: CallClass) -> bool {
        self.places.are_taken(class) && self.seats.are_taken(class)
    }

    /// A place, after a short wait if need be; none if too many wait already or none gets free in time.
    pub(super) async fn enter(&self, class: CallClass, deadline: Instant) -> Option<Place> {
        if let Some(place) = self.places.try_take(class) {
            return Some(place);
        }
        let _seat = self.seats.try_take(class)?;
        self.wait(class, deadline.min(Instant::now() + self.max_wait)).await
    }

    /// A place as soon as one is free, however many wait; none until the deadline.
    pub(super) async fn wait(&self, class: CallClass, deadline: Instant) -> Option<Place> {
        timeout_at(deadline, self.places.take(class)).await.ok()?
    }
}

impl Places {
    fn new(count: u32) -> Self {
        let semaphore = |count| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        Self { all: semaphore(count), reading: semaphore(CallClass::Read.share_of(count)) }
    }

    fn are_taken(&self, class: CallClass) -> bool {
        let for_class = match class {
            CallClass::Read => self.reading.available_permits(),
            CallClass::Submit => usize::MAX,
        };
        for_class.min(self.all.available_permits()) == 0
    }

    fn try_take(&self, class: CallClass) -> Option<Place> {
        let reading = match class {
            CallClass::Read => Some(Arc::clone(&self.reading).try_acquire_owned().ok()?),
            CallClass::Submit => None,
        };
        Some(Place { _all: Arc::clone(&self.all).try_acquire_owned().ok()?, _reading: reading })
    }

    async fn take(&self, class: CallClass) -> Option<Place> {
        let reading = match class {
            CallClass::Read => Some(Arc::clone(&self.reading).acquire_owned().await.ok()?),
            CallClass::Submit => None,
        };
        Some(Place { _all: Arc::clone(&self.all).acquire_owned().await.ok()?, _reading: reading })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn enter(bulkhead: &Bulkhead, class: CallClass) -> Option<Place> {
        bulkhead.enter(class, Instant::now() + Duration::from_mins(1)).await
    }

    #[tokio::test(start_paused = true)]
    async fn reads_leave_room_for_submits_and_nobody_waits_long() {
        use CallClass::{Read, Submit};
        let bulkhead = Bulkhead::new(5, 5, Duration::from_secs(1));
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(enter(&bulkhead, Read).await.unwrap());
        }
        assert!(!bulkhead.is_full(Read));
        let began = Instant::now();
        assert!(enter(&bulkhead, Read).await.is_none());
        assert_eq!(began.elapsed().as_secs(), 1);
        places.push(enter(&bulkhead, Submit).await.unwrap());
        // Four reads may wait, then none; a submit still may.
        let (waiting, at_once) =
            tokio::join!(futures_util::future::join_all([(); 4].map(|()| enter(&bulkhead, Read))), async {
                assert!(bulkhead.is_full(Read) && !bulkhead.is_full(Submit));
                let began = Instant::now();
                assert!(enter(&bulkhead, Read).await.is_none());
                let refused = began.elapsed();
                places.pop();
                places.push(enter(&bulkhead, Submit).await.unwrap());
                refused
            });
        assert!(waiting.iter().all(Option::is_none));
        assert_eq!(at_once, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_the_place_that_gets_free() {
        let bulkhead = Bulkhead::new(1, 1, Duration::from_secs(1));
        let first = enter(&bulkhead, CallClass::Read).await.unwrap();
        let (second, ()) = tokio::join!(enter(&bulkhead, CallClass::Read), async { drop(first) });
        assert!(second.is_some());
    }
}
