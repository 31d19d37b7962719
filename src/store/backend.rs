//! What differs between the two databases.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

/// The schema's steps in order: version, description and statements. A step that was released never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "store", include_str!("migrations/0001_store.sql")),
    (2, "records", include_str!("migrations/0002_records.sql")),
    (3, "submission lists", include_str!("migrations/0003_submission_lists.sql")),
    (4, "follow", include_str!("migrations/0004_follow.sql")),
];

/// Which database holds the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// A file of one gateway.
    Sqlite,
    /// A server that several gateways share.
    Postgres,
}

impl Backend {
    /// What each connection begins with.
    pub(super) const fn setup(self) -> &'static str {
        match self {
            // The first line is before the others because they may have to wait.
            Self::Sqlite => {
                "PRAGMA busy_timeout = 1500;
                 PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA secure_delete = ON"
            }
            Self::Postgres => {
                "SET synchronous_commit = on;
                 SET statement_timeout = '2s';
                 SET lock_timeout = '2s';
                 SET idle_in_transaction_session_timeout = '5s';
                 SET client_min_messages = warning"
            }
        }
    }

    /// What a connection that migrates begins with: it may have to wait for another gateway that does the same.
    pub(super) const fn setup_for_migration(self) -> &'static str {
        match self {
            Self::Sqlite => "PRAGMA busy_timeout = 10000",
            Self::Postgres => "SET statement_timeout = '60s'; SET lock_timeout = '60s'",
        }
    }

    /// How a transaction that writes begins.
    pub(super) const fn begin(self) -> &'static str {
        match self {
            // A deferred transaction fails when it turns to writing while another one writes.
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// How a `SELECT` in a transaction that writes takes its rows, and leaves out those that another one has. SQLite has
    /// one writer.
    pub(super) const fn lock_rows(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    pub(super) const fn connections(self) -> u32 {
        match self {
            Self::Sqlite => 4,
            Self::Postgres => 8,
        }
    }

    /// How many may write at once. SQLite has one writer, and its own way to wait for it is not fair.
    pub(super) const fn writers(self) -> usize {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => 8,
        }
    }

    /// The schema's steps in this database's words.
    pub(super) fn migrator(self) -> Migrator {
        let migrations = MIGRATIONS.iter().map(|&(version, description, sql)| {
            let sql = match self {
                Self::Sqlite => AssertSqlSafe(sql.replace("BYTEA", "BLOB")).into_sql_str(),
                Self::Postgres => sql.into_sql_str(),
            };
            Migration::new(version, description.into(), MigrationType::Simple, sql, false)
        });
        Migrator::with_migrations(migrations.collect())
    }
}
