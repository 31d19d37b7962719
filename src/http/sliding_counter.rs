//! A counter over a sliding window of seconds, in bounded memory.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Number of events in the last seconds, the current one included.
#[derive(Debug)]
pub(super) struct SlidingCounter {
    origin: Instant,
    seconds: u64,
    /// Seconds since the origin in which anything happened, and how often; the oldest first.
    counts: VecDeque<(u64, u32)>,
}

impl SlidingCounter {
    pub(super) const fn new(length: Duration, origin: Instant) -> Self {
        Self { origin, seconds: length.as_secs(), counts: VecDeque::new() }
    }

    pub(super) fn add(&mut self, now: Instant) {
        let second = self.forget(now);
        match self.counts.back_mut() {
            Some((latest, count)) if *latest >= second => *count = count.saturating_add(1),
            _ => self.counts.push_back((second, 1)),
        }
    }

    pub(super) fn sum(&mut self, now: Instant) -> u32 {
        self.forget(now);
        self.counts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    pub(super) fn clear(&mut self) {
        self.counts.clear();
    }

    /// Drops what is too long ago, and says which second this is.
    fn forget(&mut self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.origin).as_secs();
        while self.counts.front().is_some_and(|(past, _)| past + self.seconds <= second) {
            self.counts.pop_front();
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_ago_is_not_counted() {
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let mut sliding_counter = SlidingCounter::new(Duration::from_secs(10), origin);
        for millis in [0, 900, 1_000, 9_999] {
            sliding_counter.add(at(millis));
        }
        let sums =
            [9_999, 10_000, 11_000, 18_999, 19_000, 60_000].map(|millis| sliding_counter.sum(at(millis)));
        assert_eq!(sums, [4, 2, 1, 1, 0, 0]);
    }
}
