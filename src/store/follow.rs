//! Following batches to their end: who polls a batch, what a poll brought, and when the next one is due.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::columns::{Columns, day, lease_until, millis, no_lease_after, put_off, span};
use super::{Store, StoreError};
use crate::batch::BatchId;

/// The shortest time between two misses that count.
const MISS_INTERVAL: Duration = Duration::from_secs(10);

impl Store {
    /// Takes a batch for one poll, so that no two replicas ask for it at once. False while somebody else has it;
    /// true if the store does not know it: then there is nothing to take.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn lease(
        &self,
        provider: &'static str,
        id: &BatchId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let id = id.clone();
        let now = millis(self.clock.now());
        self.write(move |connection| {
            Box::pin(async move {
                let taken = sqlx::query(
                    "UPDATE batches SET lease_until = $4, hinted = 0
                     WHERE provider = $1 AND id = $2 AND (lease_until <= $3 OR lease_until > $5)",
                )
                .bind(provider)
                .bind(id.as_str())
                .bind(now)
                .bind(lease_until(now, lease))
                .bind(no_lease_after(now))
                .execute(&mut *connection)
                .await?;
                if taken.rows_affected() == 1 {
                    return Ok(true);
                }
                let known = sqlx::query("SELECT id FROM batches WHERE provider = $1 AND id = $2")
                    .bind(provider)
                    .bind(id.as_str())
                    .fetch_optional(connection)
                    .await?;
                Ok(known.is_none())
            })
        })
        .await
    }

    /// Gives a batch back after a poll that brought nothing to save, to be polled again at `next_poll_at` or never.
    /// A batch that nobody follows stays so, and a hint that came meanwhile is heeded.
    ///
    /// # Errors
    /// The store does not answer; the lease ends by itself.
    pub async fn release(
        &self,
        provider: &'static str,
        id: &BatchId,
        next_poll_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (id, now) = (id.clone(), millis(self.clock.now()));
        self.write(move |connection| {
            Box::pin(async move { release(connection, provider, &id, next_poll_at, now).await })
        })
        .await
    }

    /// Like [`Store::release`], after the vendor said that it does not know the batch. That is counted at most every
    /// 10 seconds, so that many readers at once are not many misses.
    ///
    /// # Errors
    /// The store does not answer; the lease ends by itself.
    pub async fn miss(
        &self,
        provider: &'static str,
        id: &BatchId,
        next_poll_at: Timestamp,
    ) -> Result<(), StoreError> {
        let (id, now) = (id.clone(), millis(self.clock.now()));
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE batches SET misses = misses + 1, missed_at = $3
                     WHERE provider = $1 AND id = $2
                           AND (missed_at IS NULL OR missed_at <= $4 OR missed_at > $3)",
                )
                .bind(provider)
                .bind(id.as_str())
                .bind(now)
                .bind(now - span(MISS_INTERVAL))
                .execute(&mut *connection)
                .await?;
                release(connection, provider, &id, Some(next_poll_at), now).await
            })
        })
        .await
    }

    /// Ends the lease of a poll that the vendor was not called for: the batch is due as it was before.
    ///
    /// # Errors
    /// The store does not answer; the lease ends by itself.
    pub async fn return_unpolled(&self, provider: &'static str, id: &BatchId) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query("UPDATE batches SET lease_until = 0 WHERE provider = $1 AND id = $2")
                    .bind(provider)
                    .bind(id.as_str())
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Makes a batch due, because somebody says that it has changed: now, or `pause` after it was read last. One that
    /// the store does not know only if `create`. True if there is something to ask for.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn hint(
        &self,
        provider: &'static str,
        id: &BatchId,
        pause: Duration,
        create: bool,
    ) -> Result<bool, StoreError> {
        let id = id.clone();
        let now = millis(self.clock.now());
        let pause = span(pause);
        self.write(move |connection| {
            Box::pin(async move {
                let known = sqlx::query(
                    "UPDATE batches SET hinted = 1,
                            next_poll_at = CASE WHEN retrieved_at > $4 AND retrieved_at <= $3
                                                THEN retrieved_at + CAST($5 AS BIGINT) ELSE CAST($3 AS BIGINT) END
                     WHERE provider = $1 AND id = $2 AND (done = 0 OR next_poll_at IS NOT NULL) AND erased_at IS NULL",
                )
                .bind(provider)
                .bind(id.as_str())
                .bind(now)
                .bind(now - pause)
                .bind(pause)
                .execute(&mut *connection)
                .await?;
                if known.rows_affected() == 1 || !create {
                    return Ok(known.rows_affected() == 1);
                }
                let created = sqlx::query(
                    "INSERT INTO batches (provider, id, status, done, complete, first_seen_at, sort_at, day,
                                          next_poll_at, hinted, lease_until, polls)
                     VALUES ($1, $2, 'unknown', 0, 0, $3, $3, $4, $3, 0, 0, 0)
                     ON CONFLICT (provider, id) DO NOTHING",
                )
                .bind(provider)
                .bind(id.as_str())
                .bind(now)
                .bind(day(now))
                .execute(connection)
                .await?;
                Ok(created.rows_affected() == 1)
            })
        })
        .await
    }

    /// Says that the vendor does not know a batch. It is no longer followed; what was done stays, what was
    /// submitted here stays as `expired`, and anything else is dropped.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn gone(&self, provider: &'static str, id: &BatchId) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM batches
                     WHERE provider = $1 AND id = $2 AND done = 0 AND submission IS NULL AND erased_at IS NULL",
                )
                .bind(provider)
                .bind(id.as_str())
                .execute(&mut *connection)
                .await?;
                sqlx::query(
                    "UPDATE batches SET next_poll_at = NULL, lease_until = 0, done = 1,
                            status = CASE WHEN done = 0 THEN 'expired' ELSE status END,
                            document = CASE WHEN done = 0 THEN NULL ELSE document END,
                            summary = CASE WHEN done = 0 THEN NULL ELSE summary END
                     WHERE provider = $1 AND id = $2 AND complete = 0 AND erased_at IS NULL",
                )
                .bind(provider)
                .bind(id.as_str())
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// How many batches are followed.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn followed(&self) -> Result<u64, StoreError> {
        self.read(move |connection| {
            Box::pin(async move {
                let row = sqlx::query(
                    "SELECT COUNT(*) AS followed FROM batches
                     WHERE erased_at IS NULL AND next_poll_at IS NOT NULL",
                )
                .fetch_one(connection)
                .await?;
                row.count("followed")
            })
        })
        .await
    }
}

async fn release(
    connection: &mut AnyConnection,
    provider: &str,
    id: &BatchId,
    next_poll_at: Option<Timestamp>,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE batches SET lease_until = 0, polls = polls + 1,
                next_poll_at = CASE WHEN next_poll_at IS NULL OR hinted = 1
                                    THEN next_poll_at ELSE CAST($3 AS BIGINT) END
         WHERE provider = $1 AND id = $2",
    )
    .bind(provider)
    .bind(id.as_str())
    .bind(next_poll_at.map(|next| put_off(now, next)))
    .execute(connection)
    .await?;
    Ok(())
}
