//! The batches of a vendor that are due for a poll.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::columns::{Columns, lease_until, millis, no_lease_after, no_wait_after, put_off};
use super::{Store, StoreError};
use crate::batch::BatchId;

/// Which of a vendor's due batches are claimed. They are due since `until` or before.
#[derive(Clone, Debug)]
pub struct Due {
    /// The batches; all when none.
    pub ids: Option<Vec<BatchId>>,
    /// When they became due, at the latest.
    pub until: Timestamp,
}

/// A followed batch that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueBatch {
    /// The vendor's id.
    pub id: BatchId,
    /// Since when it is due.
    pub next_poll_at: Timestamp,
    /// The common word of its status.
    pub status: String,
    /// Whether it is done: then its results are incomplete.
    pub done: bool,
    /// When the gateway saw it first.
    pub first_seen_at: Timestamp,
}

impl Store {
    /// At most `limit` of a vendor's due batches, ours for `lease`; the longest due first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn claim_due(
        &self,
        provider: &'static str,
        due: Due,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<BatchId>, StoreError> {
        let now = millis(self.clock.now());
        let asked = due.clone();
        // Most of the time nothing is due, and finding that out keeps no writer waiting.
        let some =
            self.read(move |connection| Box::pin(find_due(connection, provider, asked, 1, now, ""))).await?;
        if some.is_empty() {
            return Ok(some);
        }
        let lock_rows = self.backend.lock_rows();
        self.write(move |connection| {
            Box::pin(async move {
                let found = find_due(&mut *connection, provider, due, limit, now, lock_rows).await?;
                for id in &found {
                    sqlx::query(
                        "UPDATE batches SET lease_until = $3, hinted = 0 WHERE provider = $1 AND id = $2",
                    )
                    .bind(provider)
                    .bind(id.as_str())
                    .bind(lease_until(now, lease))
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(found)
            })
        })
        .await
    }

    /// At most `limit` of a vendor's due batches that nobody polls, the longest due first: those that became due at the
    /// first time, and are listed after that batch, up to those that became due at `until`.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn due_batches(
        &self,
        provider: &'static str,
        (since, after): (Timestamp, Option<BatchId>),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueBatch>, StoreError> {
        let now = millis(self.clock.now());
        self.read(move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT id, next_poll_at, status, done, first_seen_at FROM batches
                     WHERE provider = $1 AND next_poll_at >= $2 AND next_poll_at <= $4
                           AND (next_poll_at > $2 OR id > $3)
                           AND erased_at IS NULL AND (lease_until <= $5 OR lease_until > $6)
                     ORDER BY next_poll_at, id LIMIT $7",
                )
                .bind(provider)
                .bind(millis(since))
                .bind(after.as_ref().map_or("", BatchId::as_str))
                .bind(millis(until))
                .bind(now)
                .bind(no_lease_after(now))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await?;
                let due = rows.iter().map(|row| {
                    Ok(DueBatch {
                        id: row.batch_id("id")?,
                        next_poll_at: row.time("next_poll_at")?,
                        status: row.text("status")?,
                        done: row.flag("done")?,
                        first_seen_at: row.time("first_seen_at")?,
                    })
                });
                due.collect()
            })
        })
        .await
    }

    /// Puts off the polls that a list made unnecessary: each batch is due again at its time, unless it was hinted, polled or done in the
    /// meantime.
    ///
    /// # Errors
    /// The store does not answer; they stay due then.
    pub async fn postpone(
        &self,
        provider: &'static str,
        polls: Vec<(BatchId, Timestamp)>,
    ) -> Result<(), StoreError> {
        let now = millis(self.clock.now());
        self.write(move |connection| {
            Box::pin(async move {
                for (id, next_poll_at) in polls {
                    sqlx::query(
                        "UPDATE batches SET next_poll_at = $3, polls = polls + 1, misses = 0, missed_at = NULL
                         WHERE provider = $1 AND id = $2 AND done = 0 AND hinted = 0 AND erased_at IS NULL
                               AND next_poll_at <= $4 AND (lease_until <= $4 OR lease_until > $5)",
                    )
                    .bind(provider)
                    .bind(id.as_str())
                    .bind(put_off(now, next_poll_at))
                    .bind(now)
                    .bind(no_lease_after(now))
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// At most `limit` of a vendor's due batches that nobody polls, the longest due first.
async fn find_due(
    connection: &mut AnyConnection,
    provider: &str,
    due: Due,
    limit: usize,
    now: i64,
    lock_rows: &str,
) -> Result<Vec<BatchId>, StoreError> {
    // What is due in the far future was put off before the clock was set back. Two seeks: one condition for both would look
    // at everything in between.
    let seeks = [("<=", millis(due.until)), (">", no_wait_after(now))];
    let mut found = Vec::new();
    let only: Vec<_> = due.ids.map_or_else(|| vec![None], |ids| ids.into_iter().map(Some).collect());
    for only in &only {
        for (compared, time) in seeks {
            let left = limit.saturating_sub(found.len());
            let one = only.as_ref().map_or("", |_| "AND id = $6");
            let sql = format!(
                "SELECT id FROM batches
                 WHERE provider = $1 AND next_poll_at {compared} $2 {one}
                       AND erased_at IS NULL AND (lease_until <= $3 OR lease_until > $4)
                 ORDER BY next_poll_at, id LIMIT $5{lock_rows}"
            );
            let query = sqlx::query(AssertSqlSafe(sql))
                .bind(provider)
                .bind(time)
                .bind(now)
                .bind(no_lease_after(now))
                .bind(i64::try_from(left).unwrap_or(i64::MAX));
            let query = match only {
                Some(id) => query.bind(id.as_str()),
                None => query,
            };
            for row in query.fetch_all(&mut *connection).await? {
                found.push(row.batch_id("id")?);
            }
        }
    }
    Ok(found)
}
