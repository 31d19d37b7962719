//! A store of a test's own, and the values that tests put into it.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::SignedDuration;
use sqlx::any::install_default_drivers;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

use crate::batch::{Amount, BatchId, Personal, Record, SubmissionId};
use crate::clock::Clock;
use crate::settings::StoreUrl;
use crate::store::{Due, NewSubmission, Reserved, SavedBatch, Store};

/// The vendor of most tests.
pub(super) const VENDOR: &str = "vendor";
/// A lease that no test lets run out by accident.
pub(super) const LEASE: Duration = Duration::from_mins(1);

/// A store of a test's own, its clock and its place.
#[derive(Clone)]
pub(super) struct World {
    pub(super) store: Store,
    pub(super) clock: Clock,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Schema { server: String, name: String },
}

impl World {
    pub(super) async fn sqlite() -> Self {
        Self::open(Place::Folder(folder())).await
    }

    /// None where there is no server.
    pub(super) async fn postgres() -> Option<Self> {
        Some(Self::schema(std::env::var("PHONE_GATEWAY_TEST_POSTGRES").ok()?).await)
    }

    async fn schema(server: String) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let place = Place::Schema { server, name };
        place.statement("CREATE SCHEMA").await;
        Self::open(place).await
    }

    /// The next due batch of a vendor, claimed.
    pub(super) async fn claim(&self, provider: &'static str) -> Option<BatchId> {
        claim(&self.store, &self.clock, provider).await
    }

    /// An empty store of the same kind.
    pub(super) async fn another(&self) -> Self {
        match &self.place {
            Place::Folder(_) => Self::sqlite().await,
            Place::Schema { server, .. } => Self::schema(server.clone()).await,
        }
    }

    /// A store of the same kind that was written by an earlier version: its schema up to a step, and these rows.
    pub(super) async fn older(&self, step: i64, rows: &str) -> Self {
        let place = match &self.place {
            Place::Folder(_) => Place::Folder(folder()),
            Place::Schema { server, .. } => {
                let name = format!("test_{}", Uuid::now_v7().simple());
                let place = Place::Schema { server: server.clone(), name };
                place.statement("CREATE SCHEMA").await;
                place
            }
        };
        let mut connection = place.connection().await;
        let steps =
            self.store.backend.migrator().iter().filter(|known| known.version <= step).cloned().collect();
        Migrator::with_migrations(steps).run_direct(None, &mut connection, false).await.unwrap();
        connection.execute(AssertSqlSafe(rows.to_owned())).await.unwrap();
        connection.close().await.unwrap();
        Self::open(place).await
    }

    async fn open(place: Place) -> Self {
        let clock = Clock::default();
        let store = Store::open(&place.url(), clock.clone()).await.unwrap();
        Self { store, clock, place }
    }

    /// Runs a test, and leaves nothing behind whatever comes of it.
    pub(super) async fn run(self, test: impl AsyncFnOnce(Self)) {
        let outcome = AssertUnwindSafe(test(self.clone())).catch_unwind().await;
        self.store.close().await;
        match &self.place {
            Place::Folder(folder) => std::fs::remove_dir_all(folder).unwrap(),
            place @ Place::Schema { .. } => place.statement("DROP SCHEMA").await,
        }
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    }

    /// A second process on the same store.
    pub(super) async fn replica(&self) -> Store {
        Store::open_shared(&self.place.url(), self.clock.clone()).await.unwrap()
    }

    /// Another gateway on the same server.
    pub(super) async fn again(&self) -> Store {
        Store::open(&self.place.url(), self.clock.clone()).await.unwrap()
    }

    /// A connection beside the store's.
    pub(super) async fn connection(&self) -> AnyConnection {
        self.place.connection().await
    }

    /// The folder of an SQLite file.
    pub(super) fn folder(&self) -> Option<&PathBuf> {
        match &self.place {
            Place::Folder(folder) => Some(folder),
            Place::Schema { .. } => None,
        }
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(SignedDuration::try_from(by).unwrap());
    }

    /// Writes a submission down that must be new.
    pub(super) async fn ours(&self, key: &str) -> (SubmissionId, i64) {
        match self.store.reserve(order(key), LEASE).await.unwrap() {
            Reserved::Ours { id, attempt, .. } => (id, attempt),
            other => panic!("not ours: {other:?}"),
        }
    }

    /// A submission that is being sent.
    pub(super) async fn sending(&self, key: &str) -> (SubmissionId, i64) {
        let (id, attempt) = self.ours(key).await;
        assert!(self.store.begin_sending(id, attempt, LEASE).await.unwrap().is_some());
        (id, attempt)
    }

    /// A submission in doubt.
    pub(super) async fn doubtful(&self, key: &str) -> SubmissionId {
        let (id, attempt) = self.sending(key).await;
        assert!(self.store.in_doubt(id, attempt, "provider_timeout").await.unwrap());
        id
    }

    /// A running batch that is followed and due now.
    pub(super) fn running<'a>(&self, id: &'a BatchId) -> SavedBatch<'a> {
        SavedBatch {
            provider: VENDOR,
            id,
            submission: None,
            client: None,
            reference: None,
            status: "running",
            done: false,
            complete: false,
            document: br#"{"status":"running"}"#,
            summary: br#"{"status":"running"}"#,
            results: 0,
            charged: None,
            refunded: None,
            incomplete_since: None,
            submitted_at: None,
            retrieved_at: self.clock.now(),
            next_poll_at: Some(self.clock.now()),
        }
    }

    /// A batch that has its results.
    pub(super) fn completed<'a>(&self, id: &'a BatchId) -> SavedBatch<'a> {
        SavedBatch {
            status: "completed",
            done: true,
            complete: true,
            document: br#"{"status":"completed"}"#,
            summary: br#"{"status":"completed"}"#,
            results: 3,
            charged: Some(Amount::from_units(7)),
            next_poll_at: None,
            ..self.running(id)
        }
    }

    /// The caller's ids of the records of a submission as they are stored.
    pub(super) async fn custom_ids(&self, submission: SubmissionId) -> Option<Vec<Option<String>>> {
        let records = self.store.records(submission).await.unwrap()?;
        Some(records.into_iter().map(|record| record.custom_id.map(|id| id.0)).collect())
    }

    /// The status of a batch as it is stored.
    pub(super) async fn status(&self, id: &BatchId) -> Option<String> {
        self.store.batch(VENDOR, id).await.unwrap().map(|batch| batch.status)
    }
}

impl Place {
    async fn connection(&self) -> AnyConnection {
        install_default_drivers();
        let url = match self {
            Self::Folder(folder) => format!("sqlite://{}?mode=rwc", folder.join("store.db").display()),
            Self::Schema { .. } => self.postgres_url(),
        };
        AnyConnection::connect(&url).await.unwrap()
    }

    fn url(&self) -> StoreUrl {
        match self {
            Self::Folder(folder) => StoreUrl::Sqlite(folder.join("store.db")),
            Self::Schema { .. } => StoreUrl::Postgres(self.postgres_url().into()),
        }
    }

    fn postgres_url(&self) -> String {
        let Self::Schema { server, name } = self else { panic!("not PostgreSQL") };
        let separator = if server.contains('?') { '&' } else { '?' };
        format!("{server}{separator}application_name={name}&options=-c%20search_path%3D{name}")
    }

    async fn statement(&self, what: &str) {
        let Self::Schema { server, name } = self else { panic!("not PostgreSQL") };
        install_default_drivers();
        let mut connection = AnyConnection::connect(server).await.unwrap();
        let rest = if what.starts_with("DROP") { " CASCADE" } else { "" };
        connection.execute(AssertSqlSafe(format!("{what} {name}{rest}"))).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A new folder.
pub(super) fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("phone-gateway-{}", Uuid::now_v7().simple()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

pub(super) fn id(text: &str) -> BatchId {
    text.parse().unwrap()
}

/// The caller's ids of [`order`]'s records.
pub(super) const CUSTOM_IDS: [Option<&str>; 3] = [Some("row-1"), None, Some("row-3")];

static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let record =
        |id: Option<&str>| Record { custom_id: id.map(|id| Personal(id.to_owned())), ..Record::default() };
    CUSTOM_IDS.into_iter().map(record).collect()
});

/// A request of three records.
pub(super) fn order(key: &str) -> NewSubmission<'_> {
    NewSubmission {
        client: "crm",
        key,
        provider: VENDOR,
        fingerprint: [7; 32],
        records: &RECORDS,
        reference: None,
    }
}

/// The next due batch of a vendor, claimed at one of several stores.
pub(super) async fn claim(store: &Store, clock: &Clock, provider: &'static str) -> Option<BatchId> {
    let due = Due { ids: None, until: clock.now() };
    store.claim_due(provider, due, 1, LEASE).await.unwrap().pop()
}
