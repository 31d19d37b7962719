//! How many calls each vendor was sent of late: a log that all replicas share.

use std::time::Duration;

use sqlx::AnyConnection;

use super::columns::{Columns, millis, span};
use super::{Store, StoreError};

/// When a call was taken, by which it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTime(i64);

impl Store {
    /// Takes one call of a vendor's quota, a sliding log of the calls of the last `window`; `limit` is how far
    /// the asker may fill it. Else returns how long it takes until one is free.
    ///
    /// Exact whoever asks at the same time.
    ///
    /// # Errors
    /// The store does not answer; nothing was taken then.
    pub async fn take(
        &self,
        provider: &'static str,
        window: Duration,
        limit: u32,
    ) -> Result<Result<CallTime, Duration>, StoreError> {
        if limit == 0 {
            return Ok(Err(window));
        }
        let now = millis(self.clock.now());
        let (since, until) = (now - span(window), now + span(window));
        self.write(move |connection| {
            Box::pin(async move {
                lock(connection, provider).await?;
                // A call far ahead was counted before the clock was set back, and would never leave the window.
                sqlx::query("DELETE FROM calls WHERE provider = $1 AND (called_at <= $2 OR called_at > $3)")
                    .bind(provider)
                    .bind(since)
                    .bind(until)
                    .execute(&mut *connection)
                    .await?;
                // The newest call that must leave the window before there is room for one more.
                let blocking = sqlx::query(
                    "SELECT called_at FROM calls WHERE provider = $1
                     ORDER BY called_at DESC LIMIT 1 OFFSET $2",
                )
                .bind(provider)
                .bind(i64::from(limit) - 1)
                .fetch_optional(&mut *connection)
                .await?;
                if let Some(call) = blocking {
                    let wait = call.number("called_at")?.saturating_sub(since).max(1);
                    return Ok(Err(Duration::from_millis(wait.unsigned_abs()).min(window)));
                }
                insert(connection, provider, now).await?;
                Ok(Ok(CallTime(now)))
            })
        })
        .await
    }

    /// Gives a call back that was taken and not made.
    ///
    /// # Errors
    /// The store does not answer; the call counts until its time is over.
    pub async fn give_back(&self, provider: &'static str, call: CallTime) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                lock(connection, provider).await?;
                let same = sqlx::query("DELETE FROM calls WHERE provider = $1 AND called_at = $2")
                    .bind(provider)
                    .bind(call.0)
                    .execute(&mut *connection)
                    .await?;
                // Others of the same millisecond stay.
                for _ in 1..same.rows_affected() {
                    insert(connection, provider, call.0).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// How many calls of a vendor's quota were taken in the last `window`.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn taken(&self, provider: &'static str, window: Duration) -> Result<u32, StoreError> {
        let now = millis(self.clock.now());
        let (since, until) = (now - span(window), now + span(window));
        self.read(move |connection| {
            Box::pin(async move {
                let row = sqlx::query(
                    "SELECT COUNT(*) AS taken FROM calls
                     WHERE provider = $1 AND called_at > $2 AND called_at <= $3",
                )
                .bind(provider)
                .bind(since)
                .bind(until)
                .fetch_one(connection)
                .await?;
                Ok(u32::try_from(row.number("taken")?).unwrap_or(u32::MAX))
            })
        })
        .await
    }
}

/// Locks the row of the vendor until the end: who asks at the same time waits here.
async fn lock(connection: &mut AnyConnection, provider: &'static str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO quotas (provider) VALUES ($1)
         ON CONFLICT (provider) DO UPDATE SET provider = excluded.provider",
    )
    .bind(provider)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert(
    connection: &mut AnyConnection,
    provider: &'static str,
    called_at: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO calls (provider, called_at) VALUES ($1, $2)")
        .bind(provider)
        .bind(called_at)
        .execute(connection)
        .await?;
    Ok(())
}
