//! Erasing a batch for good, and housekeeping.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{AnyConnection, Executor};

use super::backend::Backend;
use super::columns::{Columns, day, millis, span};
use super::reserve::{KEY_TTL, drop_records, free_keys};
use super::{Store, StoreError};
use crate::batch::BatchId;

/// How long PostgreSQL may take to drop what was erased.
const VACUUM_LIMIT: Duration = Duration::from_mins(10);
/// Longer than any vendor's quota looks back.
const CALLS_KEPT: Duration = Duration::from_hours(48);

/// Work that one task does for all who ask for it, and does again for those who ask meanwhile.
#[derive(Debug, Default)]
pub(super) struct Together(AtomicUsize);

impl Together {
    /// Asks for the work; true if it is the asker's to begin.
    fn ask(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// How often it was asked for.
    fn asked(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends the work, unless it was asked for again.
    fn is_done(&self, asked: usize) -> bool {
        self.0.compare_exchange(asked, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Store {
    /// Erases what a batch holds of persons and what its submitter wrote, also of one that the store does not
    /// know, and keeps it from being read again. Costs, status, client and day stay for usage.
    ///
    /// Nothing of it is left in an SQLite file. PostgreSQL is asked to drop the old rows; its logs and copies are
    /// the operator's.
    ///
    /// # Errors
    /// The store does not answer; nothing was erased then.
    pub async fn erase(&self, provider: &'static str, id: &BatchId) -> Result<(), StoreError> {
        let id = id.clone();
        let now = millis(self.clock.now());
        self.write(move |connection| {
            Box::pin(async move {
                // First of all: who accepts a submission as this batch waits here, or has ended by then.
                sqlx::query(
                    "INSERT INTO batches (provider, id, status, done, complete, first_seen_at, sort_at, day, hinted,
                                          lease_until, polls, erased_at)
                     VALUES ($1, $2, 'unknown', 0, 0, $3, $3, $4, 0, 0, 0, $3)
                     ON CONFLICT (provider, id) DO UPDATE SET
                         document = NULL, summary = NULL, reference = NULL, next_poll_at = NULL, lease_until = 0,
                         erased_at = COALESCE(batches.erased_at, excluded.erased_at)",
                )
                .bind(provider)
                .bind(id.as_str())
                .bind(now)
                .bind(day(now))
                .execute(&mut *connection)
                .await?;
                forget_submission(connection, provider, id.as_str()).await
            })
        })
        .await?;
        self.drop_erased().await;
        Ok(())
    }

    /// Forgets every batch of a vendor that was not submitted here, also that it was erased.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn forget_read_batches(&self, provider: &'static str) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM batches WHERE provider = $1 AND submission IS NULL")
                    .bind(provider)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// The batches that were erased at `since` or later: vendor and id.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn erased_since(&self, since: Timestamp) -> Result<Vec<(String, BatchId)>, StoreError> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows =
                    sqlx::query("SELECT provider, id FROM batches WHERE erased_at >= $1 ORDER BY erased_at")
                        .bind(millis(since))
                        .fetch_all(connection)
                        .await?;
                rows.iter().map(|row| Ok((row.text("provider")?, row.batch_id("id")?))).collect()
            })
        })
        .await
    }

    /// The batches that came to their end at `since` or later: vendor and id.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn ended_since(&self, since: Timestamp) -> Result<Vec<(String, BatchId)>, StoreError> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT provider, id FROM batches
                     WHERE done = 1 AND retrieved_at >= $1 AND erased_at IS NULL",
                )
                .bind(millis(since))
                .fetch_all(connection)
                .await?;
                rows.iter().map(|row| Ok((row.text("provider")?, row.batch_id("id")?))).collect()
            })
        })
        .await
    }

    /// Housekeeping: gives keys free that have had their time, and drops calls that no quota looks back to, or that
    /// were counted before the clock was set back.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let now = millis(self.clock.now());
        self.write(move |connection| {
            Box::pin(async move {
                for statement in [drop_records!(""), free_keys!("")] {
                    sqlx::query(statement).bind(now - span(KEY_TTL)).execute(&mut *connection).await?;
                }
                sqlx::query("DELETE FROM calls WHERE called_at <= $1 OR called_at > $2")
                    .bind(now - span(CALLS_KEPT))
                    .bind(now + span(CALLS_KEPT))
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await?;
        if self.backend == Backend::Sqlite { self.write_back().await } else { Ok(()) }
    }

    /// Gets what was erased out of the files. It cannot be read any more, so a failure is not the caller's.
    async fn drop_erased(&self) {
        match self.backend {
            Backend::Sqlite => {
                if let Err(error) = self.write_back().await {
                    tracing::warn!(%error, "the store's log still holds what was erased; housekeeping tries again");
                }
            }
            Backend::Postgres => {
                if !self.vacuum.ask() {
                    return;
                }
                let store = self.clone();
                self.runtime.spawn(async move {
                    loop {
                        let asked = store.vacuum.asked();
                        if let Err(error) = store.vacuum().await {
                            tracing::warn!(%error, "PostgreSQL could not drop old rows now; its autovacuum will");
                        }
                        if store.vacuum.is_done(asked) {
                            return;
                        }
                    }
                });
            }
        }
    }

    /// Moves SQLite's log into the file and empties it: what is deleted in the file is overwritten.
    pub(super) async fn write_back(&self) -> Result<(), StoreError> {
        self.alone(move |connection| {
            Box::pin(async move {
                let row = connection.fetch_one("PRAGMA wal_checkpoint(TRUNCATE)").await?;
                if row.flag("busy")? { Err(StoreError::new("a reader is at work")) } else { Ok(()) }
            })
        })
        .await
    }

    async fn vacuum(&self) -> Result<(), StoreError> {
        self.with_connection(VACUUM_LIMIT, |connection| {
            Box::pin(async move {
                // One by one: several statements in one text are a transaction, which VACUUM does not allow.
                connection.execute("SET statement_timeout = '10min'").await?;
                connection.execute("VACUUM (SKIP_LOCKED) batches, orders, submissions").await?;
                connection.execute(Backend::Postgres.setup()).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Empties what the submission of a batch holds of its request. Without a fingerprint any request with its key is
/// the same one: a hash of few phone numbers could be turned back into them.
pub(super) async fn forget_submission(
    connection: &mut AnyConnection,
    provider: &str,
    batch: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM orders WHERE submission IN (
             SELECT id FROM submissions WHERE provider = $1 AND batch_id = $2
             UNION SELECT submission FROM batches WHERE provider = $1 AND id = $2)",
    )
    .bind(provider)
    .bind(batch)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE submissions SET reference = NULL, custom_ids = NULL, answer = NULL, fingerprint = ''
         WHERE provider = $1
               AND (batch_id = $2 OR id IN (SELECT submission FROM batches WHERE provider = $1 AND id = $2))",
    )
    .bind(provider)
    .bind(batch)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a batch was erased.
pub(super) async fn is_erased(
    connection: &mut AnyConnection,
    provider: &str,
    batch: &str,
) -> Result<bool, StoreError> {
    let erased =
        sqlx::query("SELECT id FROM batches WHERE provider = $1 AND id = $2 AND erased_at IS NOT NULL")
            .bind(provider)
            .bind(batch)
            .fetch_optional(connection)
            .await?;
    Ok(erased.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_works_for_all_and_again_for_those_who_ask_meanwhile() {
        let work = Together::default();
        assert!(work.ask());
        assert!(!work.ask());
        let asked = work.asked();
        assert!(!work.ask());
        assert!(!work.is_done(asked));
        assert!(work.is_done(work.asked()));
        assert!(work.ask());
    }
}
