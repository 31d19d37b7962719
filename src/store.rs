//! The store: what must outlive the process, in an SQLite file or in PostgreSQL.
//!
//! It holds submissions, so that no paid order is sent twice; batches, so that nothing that was paid for is asked
//! for twice; and the calls that vendors count. The statements are the same for both databases. Each operation is
//! one transaction, goes on when its caller goes away, and fails after two seconds at most.

mod access;
mod backend;
mod batches;
mod columns;
mod connect;
mod deflate;
mod doubt;
mod due;
mod erase;
mod error;
mod file;
mod follow;
mod list;
mod list_submissions;
mod open;
mod quota;
mod reserve;
mod save;
mod submissions;
#[cfg(test)]
mod tests;
mod usage;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{AnyConnection, AnyPool, Connection};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::access::LIMIT;
use self::backend::Backend;
use self::erase::Together;
use self::file::OpenFile;
use self::open::{Lock, Purpose};
use crate::clock::Clock;
use crate::settings::StoreUrl;

pub use self::batches::{Facts, StoredBatch};
pub use self::doubt::{Doubt, Resolution, Resolved};
pub use self::due::{Due, DueBatch};
pub use self::error::StoreError;
pub use self::list::{Cursor, Filter, Listed};
pub use self::list_submissions::{SubmissionCursor, SubmissionFilter};
pub use self::open::OpenError;
pub use self::quota::CallTime;
pub use self::reserve::{KEY_TTL, NewSubmission, Reserved};
pub use self::save::{Saved, SavedBatch};
pub use self::submissions::Accepted;
pub use self::usage::{Usage, UsageFilter};

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    backend: Backend,
    clock: Clock,
    /// Where operations run, whoever asks for them.
    runtime: Handle,
    /// Turns of those that write.
    writers: Arc<Semaphore>,
    lock: Arc<Mutex<Option<Lock>>>,
    /// The file that a gateway serves from; none in PostgreSQL.
    file: Option<Arc<OpenFile>>,
    keeper: Arc<Mutex<Option<AnyConnection>>>,
    /// Dropping what was erased.
    vacuum: Arc<Together>,
}

/// Without the URL: it may hold a password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.backend).finish()
    }
}

impl Store {
    /// Opens the store to serve from it: creates what is missing, checks it and brings its schema up to date.
    /// An SQLite file is this process's alone. Operations will run on the runtime that this is called on.
    ///
    /// # Errors
    /// The store is damaged, newer, another gateway's or out of reach; the text names `store.url`, never its value.
    pub async fn open(url: &StoreUrl, clock: Clock) -> Result<Self, OpenError> {
        Self::open_for(Purpose::Serve, url, clock).await
    }

    /// Opens the store beside the gateway that serves from it; it must exist and be of this version.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_shared(url: &StoreUrl, clock: Clock) -> Result<Self, OpenError> {
        Self::open_for(Purpose::Share, url, clock).await
    }

    /// Whether the store can be opened, as far as that shows without creating, changing or reading it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn check(url: &StoreUrl) -> Result<(), OpenError> {
        open::check(url).await
    }

    /// Whether the file of an SQLite store is where it was opened; always in PostgreSQL. The database is not asked.
    ///
    /// # Errors
    /// It was deleted or replaced: what is written to it would be lost.
    pub fn check_file(&self) -> Result<(), StoreError> {
        self.file.as_ref().map_or(Ok(()), |file| file.check())
    }

    async fn open_for(purpose: Purpose, url: &StoreUrl, clock: Clock) -> Result<Self, OpenError> {
        let opened = open::open(url, purpose).await?;
        Ok(Self {
            pool: opened.pool,
            backend: opened.backend,
            clock,
            runtime: Handle::current(),
            writers: Arc::new(Semaphore::new(opened.backend.writers())),
            lock: Arc::new(Mutex::new(opened.lock)),
            file: opened.file.map(Arc::new),
            keeper: Arc::new(Mutex::new(opened.keeper)),
            vacuum: Arc::default(),
        })
    }

    /// Ends all connections, after the operations that are under way, and gives the file free.
    pub async fn close(&self) {
        if self.backend == Backend::Sqlite
            && let Err(error) = self.write_back().await
        {
            tracing::warn!(%error, "the store's log could not be written back; the next start does it");
        }
        if timeout(LIMIT, self.pool.close()).await.is_err() {
            tracing::warn!("the store has operations under way that do not end");
        }
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.close().await.map_err(StoreError::from)
        {
            tracing::warn!(%error, "the store was not closed in order; the next start sees to it");
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
