//! Holding a gateway still from outside, at one step of its work, by what a database can do: a lock, or a trigger that
//! does not come to its end. The gateway itself knows nothing of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

use super::{TestStore, eventually, has_read_everything};

/// What a gateway is about to write when it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The row of a submission is inserted, not committed.
    Reserving,
    /// The same, and the commit itself is under way; PostgreSQL only.
    Committing,
    /// `reserved` is becoming `sending`.
    Sending,
    /// The vendor's quota counts a call: `sending` is committed and nothing was sent.
    Counting,
    /// The vendor's answer was read and is being written down.
    Accepting,
    /// A completed document is being written.
    Archiving,
}

impl Moment {
    /// When the trigger fires, and for which rows.
    const fn trigger(self) -> (&'static str, &'static str) {
        match self {
            Self::Reserving | Self::Committing => ("AFTER INSERT ON submissions", "NEW.state = 'reserved'"),
            Self::Sending => ("BEFORE UPDATE ON submissions", "NEW.state = 'sending'"),
            Self::Counting => ("AFTER INSERT ON calls", "NEW.called_at > 0"),
            Self::Accepting => ("BEFORE UPDATE ON submissions", "NEW.state = 'accepted'"),
            Self::Archiving => ("BEFORE UPDATE ON batches", "NEW.complete = 1"),
        }
    }
}

/// A trigger in the store that does not come to its end.
pub(crate) struct Standstill<'a> {
    store: &'a TestStore,
    /// Holds the lock that the trigger wants, in PostgreSQL; looks whether somebody writes, in SQLite.
    connection: AnyConnection,
    key: i64,
}

impl<'a> Standstill<'a> {
    pub(crate) async fn at(moment: Moment, store: &'a TestStore) -> Self {
        static KEYS: AtomicI64 = AtomicI64::new(0);
        let mut connection = store.connect().await;
        let key = i64::from(std::process::id()) * 10_000 + KEYS.fetch_add(1, Ordering::Relaxed);
        let (event, condition) = moment.trigger();
        let sql = if store.is_file() {
            assert_ne!(moment, Moment::Committing, "SQLite's commit cannot be held");
            format!(
                "PRAGMA busy_timeout = 5000;
                 CREATE VIEW endless AS WITH RECURSIVE count (n) AS
                     (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 100000000000) SELECT n FROM count;
                 CREATE TRIGGER standstill {event} WHEN {condition} BEGIN SELECT COUNT(*) FROM endless; END;
                 PRAGMA busy_timeout = 0"
            )
        } else {
            let (kind, when) = match moment {
                Moment::Committing => ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED"),
                _ => ("TRIGGER", ""),
            };
            format!(
                "SELECT pg_advisory_lock({key});
                 CREATE FUNCTION standstill() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN PERFORM pg_advisory_xact_lock({key}); RETURN NEW; END $$;
                 CREATE {kind} standstill {event} {when} FOR EACH ROW WHEN ({condition})
                     EXECUTE FUNCTION standstill()"
            )
        };
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Self { store, connection, key }
    }

    /// Waits until a gateway stands there. The store gives an operation two seconds: what comes next must be quick.
    pub(crate) async fn reached(&mut self) {
        if self.store.is_file() {
            return is_written(&mut self.connection).await;
        }
        let waits = format!(
            "SELECT COUNT(*) AS waiting FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
             AND (classid::bigint << 32) + objid::bigint = {}",
            self.key
        );
        let reached = eventually("a gateway waits in the trigger");
        loop {
            let row =
                sqlx::query(AssertSqlSafe(waits.clone())).fetch_one(&mut self.connection).await.unwrap();
            if reached.is(row.get::<i64, _>("waiting") > 0).await {
                return;
            }
        }
    }

    /// Lets go. What a process that was killed had begun comes to its end in PostgreSQL.
    pub(crate) async fn lift(mut self) {
        let sql = if self.store.is_file() {
            "PRAGMA busy_timeout = 5000; DROP TRIGGER standstill; DROP VIEW endless".to_owned()
        } else {
            format!("SELECT pg_advisory_unlock({}); DROP FUNCTION standstill() CASCADE", self.key)
        };
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.unwrap();
        self.connection.close().await.unwrap();
    }
}

/// Waits until somebody has kept SQLite's only right to write for longer than any step takes.
async fn is_written(connection: &mut AnyConnection) {
    const LONG: Duration = Duration::from_millis(400);
    let mut since = Instant::now();
    let reached = eventually("a gateway is in the trigger");
    loop {
        if sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await.is_ok() {
            sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.unwrap();
            since = Instant::now();
        }
        if reached.is(since.elapsed() > LONG).await {
            return;
        }
    }
}

/// A lock that keeps every gateway from writing.
pub(crate) struct Lock {
    connection: AnyConnection,
}

impl Lock {
    pub(crate) async fn hold(store: &TestStore) -> Self {
        let mut connection = store.connect().await;
        let sql = if store.is_file() {
            "BEGIN IMMEDIATE"
        } else {
            "BEGIN; LOCK TABLE submissions, batches, quotas, calls IN EXCLUSIVE MODE"
        };
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        Self { connection }
    }

    /// Waits until the gateway has read the request that will meet the lock.
    pub(crate) async fn reached(&self, gateway: SocketAddr) {
        let read = eventually("the request is read");
        while !read.is(has_read_everything(gateway)).await {}
    }

    pub(crate) async fn lift(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await.unwrap();
        self.connection.close().await.unwrap();
    }
}
