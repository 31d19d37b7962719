//! The only source of the time of day, so that tests move it instead of sleeping.
//!
//! Deadlines of requests use tokio's monotonic timers and are not affected by this clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// The time of day, plus an offset that all clones share.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The current time, UTC, in whole milliseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let offset = self.offset_ms.load(Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let now = Timestamp::now().as_millisecond().saturating_add(offset);
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX)
    }

    /// Moves this clock and all its clones forward (or back, when negative).
    pub fn advance(&self, by: SignedDuration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.fetch_add(by, Ordering::Relaxed);
    }
}
