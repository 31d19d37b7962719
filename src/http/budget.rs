//! Retry budget per vendor: retries are limited to a percentage of the requests.

use std::time::Duration;

use tokio::time::Instant;

use super::sliding_counter::SlidingCounter;

/// The stretch in which repetitions are held against requests.
const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// The repetitions that one vendor is asked to bear.
#[derive(Debug)]
pub(super) struct RetryBudget {
    percent: u32,
    /// So many are always free: a single read of a vendor that is hardly used gets all its attempts.
    floor: u32,
    requests: SlidingCounter,
    retries: SlidingCounter,
}

impl RetryBudget {
    pub(super) const fn new(percent: u32, floor: u32, now: Instant) -> Self {
        Self {
            percent,
            floor,
            requests: SlidingCounter::new(RETRY_WINDOW, now),
            retries: SlidingCounter::new(RETRY_WINDOW, now),
        }
    }

    /// A request is sent for the first time.
    pub(super) fn request(&mut self, now: Instant) {
        self.requests.add(now);
    }

    /// Takes one repetition, if one is left.
    pub(super) fn retry(&mut self, now: Instant) -> bool {
        let share = u64::from(self.requests.sum(now)) * u64::from(self.percent) / 100;
        let free = u64::from(self.retries.sum(now)) < share.max(u64::from(self.floor));
        if free {
            self.retries.add(now);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_is_repeated_and_a_quiet_vendor_s_read_twice() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(20, 2, now);
        budget.request(now);
        assert_eq!([(); 4].map(|()| budget.retry(now)), [true, true, false, false]);
        for _ in 0..99 {
            budget.request(now);
        }
        assert_eq!((0..100).filter(|_| budget.retry(now)).count(), 18);
        // What is long ago counts on neither side.
        let later = now + RETRY_WINDOW;
        assert_eq!([(); 3].map(|()| budget.retry(later)), [true, true, false]);
    }
}
