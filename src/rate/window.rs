//! Exact rate limiting with a sliding-window log.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The times of the events in the window, oldest first.
#[derive(Debug, Default)]
pub(crate) struct SlidingWindowLog {
    moments: VecDeque<Instant>,
}

impl SlidingWindowLog {
    /// Takes note of one more moment, now.
    ///
    /// # Errors
    /// How long it takes until there is room, when `limit` of the last `length` are there.
    pub(crate) fn take(&mut self, length: Duration, limit: u32) -> Result<Instant, Duration> {
        match self.wait(length, limit) {
            Some(wait) => Err(wait),
            None => Ok(self.note()),
        }
    }

    /// Takes note of a moment, now, whether there is room or not.
    pub(crate) fn note(&mut self) -> Instant {
        let now = Instant::now();
        self.moments.push_back(now);
        now
    }

    /// How long it takes until there is room for one more; none if there is.
    pub(crate) fn wait(&mut self, length: Duration, limit: u32) -> Option<Duration> {
        let now = Instant::now();
        while self.moments.front().is_some_and(|moment| *moment + length <= now) {
            self.moments.pop_front();
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // The newest moment that must leave the window before there is room for one more.
        let blocking = self.moments.len().checked_sub(limit).and_then(|index| self.moments.get(index));
        blocking.map(|moment| *moment + length - now)
    }

    /// Forgets a moment: what it was taken for did not happen.
    pub(crate) fn give_back(&mut self, moment: Instant) {
        if let Some(index) = self.moments.iter().rposition(|taken| *taken == moment) {
            self.moments.remove(index);
        }
    }

    /// How many moments are noted.
    pub(crate) fn len(&self) -> usize {
        self.moments.len()
    }
}
