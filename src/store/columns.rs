//! How values stand in columns.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::StoreError;
use crate::batch::{BatchId, SubmissionId};

/// A time as it is kept: milliseconds since 1970.
pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// A stretch of time as it is added to a kept one.
pub(super) fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// No lease is longer. Who works for longer loses it, and each step finds out.
const LONGEST_LEASE: Duration = Duration::from_mins(5);
/// Nothing is put off for longer.
const LONGEST_WAIT: Duration = Duration::from_mins(30);

/// Until when a lease goes that begins `now`.
pub(super) fn lease_until(now: i64, lease: Duration) -> i64 {
    now + span(lease.min(LONGEST_LEASE))
}

/// What is put off until `time`, bounded.
pub(super) fn put_off(now: i64, time: Timestamp) -> i64 {
    millis(time).min(now + span(LONGEST_WAIT))
}

/// Leases that go on until after this are over: they were taken before the clock was set back. Twice what can be, so
/// that clocks of replicas may differ.
pub(super) fn no_lease_after(now: i64) -> i64 {
    now + 2 * span(LONGEST_LEASE)
}

/// What is put off until after this is due, for the same reason.
pub(super) fn no_wait_after(now: i64) -> i64 {
    now + 2 * span(LONGEST_WAIT)
}

/// A count as it is kept.
pub(super) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The UTC day of a time, `YYYY-MM-DD`.
pub(super) fn day(time: i64) -> String {
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%d").to_string()
}

/// Slugs as one text, to be searched for `,slug,`: a statement with a list of its own length could not be prepared.
pub(super) fn listed(slugs: &[&str]) -> String {
    format!(",{},", slugs.join(","))
}

/// Reads columns by name.
pub(super) trait Columns {
    /// A text.
    fn text(&self, column: &str) -> Result<String, StoreError>;
    /// A text that may be absent.
    fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError>;
    /// Bytes that may be absent.
    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// A whole number.
    fn number(&self, column: &str) -> Result<i64, StoreError>;
    /// A whole number that may be absent.
    fn optional_number(&self, column: &str) -> Result<Option<i64>, StoreError>;

    /// A count.
    fn count(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.number(column)?).map_err(|_| StoreError::unreadable(column))
    }

    /// Yes or no.
    fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.number(column)? != 0)
    }

    /// A time.
    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.number(column)?).map_err(|_| StoreError::unreadable(column))
    }

    /// A time that may be absent.
    fn optional_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let time = self.optional_number(column)?.map(Timestamp::from_millisecond);
        time.transpose().map_err(|_| StoreError::unreadable(column))
    }

    /// The id of a submission.
    fn submission_id(&self, column: &str) -> Result<SubmissionId, StoreError> {
        self.text(column)?.parse().map_err(|_| StoreError::unreadable(column))
    }

    /// The id of a batch.
    fn batch_id(&self, column: &str) -> Result<BatchId, StoreError> {
        self.text(column)?.parse().map_err(|_| StoreError::unreadable(column))
    }
}

impl Columns for AnyRow {
    fn text(&self, column: &str) -> Result<String, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn number(&self, column: &str) -> Result<i64, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn optional_number(&self, column: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(column)?)
    }
}
