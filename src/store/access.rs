//! How every operation reaches the database: in a task of its own, bounded in time.
//!
//! A caller that goes away cancels nothing: a transaction that is given up half-way would leave a connection of
//! the pool in a state that nobody knows. For the same reason a connection that failed is not used again.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{AnyConnection, Connection};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Store, StoreError};
use crate::telemetry::{current_request_id, on_behalf_of};

/// How long a caller waits for an operation.
pub(super) const LIMIT: Duration = Duration::from_secs(2);
/// How long an operation may go on without its caller. The database ends it before that unless it is out of reach.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);

/// What an operation does with its connection.
pub(super) type Work<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

impl Store {
    /// Reads, each statement by itself.
    pub(super) async fn read<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        let store = self.clone();
        self.in_task(async move { store.with_connection(GIVEN_UP_AFTER, work).await }).await
    }

    /// Writes in one transaction: it is committed unless `work` fails or takes longer than the caller waits.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        let begin = self.backend.begin();
        let deadline = Instant::now() + LIMIT;
        self.alone(move |connection| {
            Box::pin(async move {
                let mut transaction = connection.begin_with(begin).await?;
                let value = work(&mut transaction).await?;
                // The caller was told that nothing came of it, and acts on it.
                if Instant::now() >= deadline {
                    return Err(too_slow());
                }
                transaction.commit().await?;
                Ok(value)
            })
        })
        .await
    }

    /// Waits for its turn among those that write, and does what must not be in a transaction.
    pub(super) async fn alone<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        let store = self.clone();
        let deadline = Instant::now() + LIMIT;
        self.in_task(async move {
            let turn = timeout_at(deadline, store.writers.acquire()).await;
            let _turn = turn.map_err(|_| too_slow())?.map_err(|_| closed())?;
            store.check_file()?;
            store.with_connection(GIVEN_UP_AFTER, work).await
        })
        .await
    }

    /// Lends a connection of the pool, and closes it if anything goes wrong with it.
    pub(super) async fn with_connection<T, W>(&self, limit: Duration, work: W) -> Result<T, StoreError>
    where
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T>,
    {
        let mut connection = self.pool.acquire().await?;
        let outcome = timeout(limit, work(&mut connection)).await.unwrap_or_else(|_| Err(too_slow()));
        if outcome.is_err() {
            drop(connection.detach());
        }
        outcome
    }

    async fn in_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match timeout(LIMIT, self.runtime.spawn(on_behalf_of(current_request_id(), work))).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::new("the operation was cut off")),
            Err(_) => Err(too_slow()),
        }
    }
}

fn too_slow() -> StoreError {
    StoreError::new("no answer in time")
}

fn closed() -> StoreError {
    StoreError::new("it is closed")
}
