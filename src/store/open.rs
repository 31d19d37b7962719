//! Opening the store: whose file it is, whether it is whole, and its schema.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row};

use super::access::LIMIT;
use super::backend::Backend;
use super::connect::connect;
use super::error::cause;
use super::file::{OpenFile, absolute};
use crate::settings::StoreUrl;

/// Where sqlx writes down which steps of the schema were taken.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// Result codes of SQLite, <https://www.sqlite.org/rescode.html>.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

/// Why the store cannot be used; the text never holds the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The folder of the file does not exist.
    #[error("store.url: there is no folder {}; create it, or correct the path", .0.display())]
    MissingFolder(PathBuf),
    /// SQLite cannot put its files into the folder.
    #[error(
        "store.url: the folder {} cannot be written: {kind}; let the gateway's user write there",
        .folder.display()
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The file does not exist and must.
    #[error(
        "store.url: there is no store at {}; name the gateway's store with --config FILE or \
         PHONE_GATEWAY__STORE__URL",
        .0.display()
    )]
    MissingFile(PathBuf),
    /// The operating system refuses the file.
    #[error("store.url: the file cannot be opened: {0}")]
    File(io::ErrorKind),
    /// Another process serves from the file.
    #[error("store.url: another gateway uses this file; several replicas need PostgreSQL")]
    InUse,
    /// The file is something else.
    #[error("store.url: the file is not a store of phone-gateway; it is left as it is")]
    NotAStore,
    /// The store is not what the gateway wrote.
    #[error("store.url: the store is damaged ({0}); restore it from a copy")]
    Damaged(String),
    /// A later version of the gateway wrote the store.
    #[error("store.url: the store was written by a newer phone-gateway; run that version, or restore a copy")]
    Newer,
    /// The schema is an earlier version's, and only a gateway that serves brings it up to date.
    #[error("store.url: the store was written by an older phone-gateway; start this version's gateway first")]
    Older,
    /// There is no connection to PostgreSQL.
    #[error("store.url: PostgreSQL cannot be reached: {0}")]
    Unreachable(String),
    /// A pooler in front of PostgreSQL lends a connection for a transaction only.
    #[error(
        "store.url: a pooler in front of PostgreSQL changes the session between transactions; use pool_mode = session, \
         or connect to PostgreSQL directly"
    )]
    TransactionPooling,
    /// The database refuses what is asked of it.
    #[error("store.url: the store cannot be used: {0}")]
    Unusable(String),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
        // Codes of PostgreSQL have five digits; the low byte of SQLite's says what kind of error it is.
        match code.filter(|code| *code < 10_000).map(|code| code & 0xff) {
            Some(SQLITE_NOTADB) => Self::NotAStore,
            Some(SQLITE_CORRUPT) => Self::Damaged(cause(&error)),
            _ => Self::Unusable(cause(&error)),
        }
    }
}

impl From<MigrateError> for OpenError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(_) => Self::Newer,
            MigrateError::VersionMismatch(version) => {
                Self::Damaged(format!("step {version} of its schema is another one"))
            }
            MigrateError::Dirty(version) => {
                Self::Damaged(format!("step {version} of its schema is half done"))
            }
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            error => Self::Unusable(error.to_string()),
        }
    }
}

/// Who opens the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The gateway: it creates the store, brings it up to date and has a file for itself.
    Serve,
    /// A command beside the gateway: it finds the store as it is.
    Share,
}

/// An open store.
pub(super) struct Opened {
    pub(super) pool: AnyPool,
    pub(super) backend: Backend,
    pub(super) lock: Option<Lock>,
    /// The file of a gateway that serves from it.
    pub(super) file: Option<OpenFile>,
    /// Keeps SQLite's log and its index in place while no other connection is open: on a full disk they could not be
    /// made again, and reading needs them.
    pub(super) keeper: Option<AnyConnection>,
}

/// Keeps other gateways out, as long as it lives.
pub(super) struct Lock(pub(super) File);

/// Closing the file is not enough: a process that is just being started holds a copy of it until it becomes its program.
impl Drop for Lock {
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

/// Opens the store, checks it and brings its schema up to date.
pub(super) async fn open(url: &StoreUrl, purpose: Purpose) -> Result<Opened, OpenError> {
    install_default_drivers();
    let (backend, options, lock, paths) = match url {
        StoreUrl::Sqlite(given) => {
            let path = existing_file(given, purpose)?;
            let lock = match purpose {
                Purpose::Serve => Some(lock(&path)?),
                Purpose::Share => None,
            };
            (Backend::Sqlite, sqlite_options(&path)?, lock, Some((absolute(given), path)))
        }
        StoreUrl::Postgres(url) => (Backend::Postgres, postgres_options(url)?, None, None),
    };
    let options = quiet(options);
    let mut connection = match backend {
        Backend::Sqlite => options.connect().await?,
        Backend::Postgres => connect(&options).await?,
    };
    connection.execute(backend.setup_for_migration()).await?;
    if backend == Backend::Sqlite {
        check_file(&mut connection).await?;
    }
    let migrator = backend.migrator();
    match purpose {
        Purpose::Serve => {
            connection.execute(backend.setup()).await?;
            connection.execute(backend.setup_for_migration()).await?;
            // Not `run`: its future cannot go to another thread.
            migrator.run_direct(None, &mut connection, false).await?;
        }
        Purpose::Share => check_schema(&mut connection, &migrator).await?,
    }
    // Its log is there by now: the schema was read.
    let file = match paths {
        Some((given, path)) if purpose == Purpose::Serve => {
            Some(OpenFile::new(&given, &path).map_err(|error| OpenError::File(error.kind()))?)
        }
        _ => None,
    };
    let keeper = if backend == Backend::Sqlite && purpose == Purpose::Serve {
        Some(connection)
    } else {
        connection.close().await?;
        None
    };
    Ok(Opened { pool: pool(backend, options), backend, lock, file, keeper })
}

fn pool(backend: Backend, options: AnyConnectOptions) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(backend.connections())
        .acquire_timeout(LIMIT)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(backend.setup()).await.map(drop) })
        })
        .connect_lazy_with(options)
}

/// Statements are not logged: there are many, and what is slow shows in the duration of requests.
fn quiet(options: AnyConnectOptions) -> AnyConnectOptions {
    options.disable_statement_logging()
}

/// The file's real path. A new one can be read by its owner only; so can what SQLite puts beside it.
fn existing_file(path: &Path, purpose: Purpose) -> Result<PathBuf, OpenError> {
    if purpose == Purpose::Serve {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = absolute(path);
                return Err(OpenError::MissingFolder(path.parent().unwrap_or(&path).to_owned()));
            }
            Err(error) => return Err(OpenError::File(error.kind())),
        }
    }
    let path = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::MissingFile(absolute(path)),
        kind => OpenError::File(kind),
    })?;
    if path.is_file() { Ok(path) } else { Err(OpenError::File(io::ErrorKind::IsADirectory)) }
}

/// A lock beside the file: one on the file itself would get into the way of SQLite's own.
fn lock(path: &Path) -> Result<Lock, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(name)
        .map_err(|error| OpenError::File(error.kind()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse),
        Err(TryLockError::Error(error)) => Err(OpenError::File(error.kind())),
    }
}

/// Whether the store can be opened, as far as that shows without creating, changing or reading it.
pub(super) async fn check(url: &StoreUrl) -> Result<(), OpenError> {
    match url {
        StoreUrl::Sqlite(path) => super::file::check(path),
        StoreUrl::Postgres(url) => {
            install_default_drivers();
            Ok(connect(&quiet(postgres_options(url)?)).await?.close().await?)
        }
    }
}

fn postgres_options(url: &SecretString) -> Result<AnyConnectOptions, OpenError> {
    Ok(url.expose_secret().parse()?)
}

fn sqlite_options(path: &Path) -> Result<AnyConnectOptions, OpenError> {
    // For its encoding: sqlx decodes the path and takes what follows a `?` as options.
    let url = Url::from_file_path(path).map_err(|()| OpenError::File(io::ErrorKind::InvalidInput))?;
    Ok(format!("sqlite://{}", url.path()).parse()?)
}

/// Refuses a file that is damaged, or that some other program wrote.
async fn check_file(connection: &mut AnyConnection) -> Result<(), OpenError> {
    let verdict: String = connection.fetch_one("PRAGMA quick_check(1)").await?.try_get(0)?;
    if verdict != "ok" {
        return Err(OpenError::Damaged("its pages do not fit together".to_owned()));
    }
    let tables: i64 = connection.fetch_one("SELECT COUNT(*) FROM sqlite_master").await?.try_get(0)?;
    let known = "SELECT name FROM sqlite_master WHERE name = '_sqlx_migrations'";
    if tables > 0 && connection.fetch_optional(known).await?.is_none() {
        return Err(OpenError::NotAStore);
    }
    Ok(())
}

/// Refuses a schema that is not exactly this version's.
async fn check_schema(connection: &mut AnyConnection, migrator: &Migrator) -> Result<(), OpenError> {
    let applied =
        connection.list_applied_migrations(MIGRATIONS_TABLE).await.map_err(|_| OpenError::NotAStore)?;
    if applied.iter().any(|step| !migrator.version_exists(step.version)) {
        return Err(OpenError::Newer);
    }
    if applied.len() < migrator.iter().len() {
        return Err(OpenError::Older);
    }
    Ok(())
}
