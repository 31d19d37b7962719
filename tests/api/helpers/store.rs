//! A store for one test: a file in a directory of its own, or a schema of its own in the PostgreSQL server that
//! `PHONE_GATEWAY_TEST_POSTGRES` names. The whole suite runs on either.

use std::sync::atomic::{AtomicU64, Ordering};

use phone_gateway::clock::Clock;
use phone_gateway::settings::StoreUrl;
use phone_gateway::store::Store;
use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tempfile::TempDir;

use super::eventually;

const POSTGRES: &str = "PHONE_GATEWAY_TEST_POSTGRES";

/// A store that nobody else uses; a file is gone with this.
pub(crate) struct TestStore {
    url: String,
    directory: Option<TempDir>,
}

impl TestStore {
    pub(crate) async fn new() -> Self {
        static SCHEMAS: AtomicU64 = AtomicU64::new(0);
        let Some(server) = Self::server() else {
            let directory = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", directory.path().join("store.db").display());
            return Self { url, directory: Some(directory) };
        };
        let schema = format!("api_{}_{}", std::process::id(), SCHEMAS.fetch_add(1, Ordering::Relaxed));
        install_default_drivers();
        let mut connection = AnyConnection::connect(&server).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let separator = if server.contains('?') { '&' } else { '?' };
        Self { url: format!("{server}{separator}options=-c%20search_path%3D{schema}"), directory: None }
    }

    /// The PostgreSQL server that the suite runs on, if it does.
    pub(crate) fn server() -> Option<String> {
        std::env::var(POSTGRES).ok()
    }

    /// What `store.url` is set to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The directory of the file; none in PostgreSQL.
    pub(crate) fn directory(&self) -> Option<&std::path::Path> {
        self.directory.as_ref().map(TempDir::path)
    }

    /// Whether it is an SQLite file.
    pub(crate) fn is_file(&self) -> bool {
        self.directory.is_some()
    }

    /// Whether any of its files has these bytes.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        let files = std::fs::read_dir(self.directory().unwrap()).unwrap();
        let mut files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.any(|file| file.windows(bytes.len()).any(|window| window == bytes))
    }

    /// The store itself, as a gateway in this process opens it.
    pub(crate) async fn open(&self, clock: Clock) -> Store {
        let url = match self.url.strip_prefix("sqlite://") {
            Some(path) => StoreUrl::Sqlite(path.into()),
            None => StoreUrl::Postgres(self.url.as_str().into()),
        };
        Store::open(&url, clock).await.unwrap()
    }

    /// Forgets every batch, as a new store would.
    pub(crate) async fn forget_batches(&self) {
        sqlx::raw_sql("DELETE FROM batches").execute(&mut self.connect().await).await.unwrap();
    }

    /// Waits until the follower has asked for every batch that is due at this moment of the clock.
    pub(crate) async fn is_followed_up(&self, clock: &Clock) {
        let due = "SELECT CAST(COUNT(*) AS BIGINT) FROM batches
                   WHERE erased_at IS NULL AND next_poll_at <= $1";
        let mut connection = self.connect().await;
        let followed_up = eventually("nothing is due");
        loop {
            let now = clock.now().as_millisecond();
            let due: (i64,) = sqlx::query_as(due).bind(now).fetch_one(&mut connection).await.unwrap();
            if followed_up.is(due.0 == 0).await {
                return connection.close().await.unwrap();
            }
        }
    }

    /// A connection beside the gateway's, to look at rows or to get into its way.
    pub(crate) async fn connect(&self) -> AnyConnection {
        install_default_drivers();
        AnyConnection::connect(&self.url).await.unwrap()
    }
}
