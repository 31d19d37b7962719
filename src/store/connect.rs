//! Connecting to PostgreSQL: why it fails, and whether each connection has a session of its own.

use std::io;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::error::DatabaseError;
use sqlx::{AnyConnection, ConnectOptions, Connection, Executor, Row};
use tokio::time::timeout;

use super::error::cause;
use super::open::OpenError;

/// How long connecting may take, the check of the sessions included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often the sessions are checked: other clients of a pooler may hide it once.
const POOLING_CHECKS: u32 = 5;

/// Connects, and refuses a pooler that lends its connections for single transactions.
pub(super) async fn connect(options: &AnyConnectOptions) -> Result<AnyConnection, OpenError> {
    let connecting = async {
        let mut connection = options.connect().await.map_err(|error| unreachable(&error))?;
        let mut second = options.connect().await.map_err(|error| unreachable(&error))?;
        let shared = shares_sessions(&mut connection, &mut second).await?;
        second.close().await?;
        if shared { Err(OpenError::TransactionPooling) } else { Ok(connection) }
    };
    let too_slow =
        || OpenError::Unreachable("no answer within 5 seconds; check host, port and firewall".into());
    timeout(CONNECT_LIMIT, connecting).await.map_err(|_| too_slow())?
}

/// Whether the server's sessions change hands: prepared statements and settings would be lost, or another client's.
///
/// While the second connection holds a session in a transaction, the first one must have its own and keep it.
async fn shares_sessions(first: &mut AnyConnection, second: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    for _ in 0..POOLING_CHECKS {
        let before = session(first).await?;
        let mut transaction = second.begin().await?;
        let held = session(&mut transaction).await?;
        // Where the session is the same one, the first connection would wait for it.
        let shared = held == before || session(first).await? != before;
        transaction.rollback().await?;
        if shared {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The server's process behind a connection. The statement is not prepared.
async fn session(connection: &mut AnyConnection) -> Result<i32, sqlx::Error> {
    connection.fetch_one("SELECT pg_backend_pid()").await?.try_get(0)
}

/// Why there is no connection. PostgreSQL's own words may quote the URL's user and database.
fn unreachable(error: &sqlx::Error) -> OpenError {
    let code = error.as_database_error().and_then(DatabaseError::code);
    let reason = match (error, code.as_deref()) {
        (sqlx::Error::Io(error), _) => match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "the connection is refused; start PostgreSQL, or correct host and port".to_owned()
            }
            io::ErrorKind::NotFound => {
                "there is no such Unix socket; start PostgreSQL, or correct the folder".to_owned()
            }
            _ if error.to_string().contains("lookup") => {
                "the host's name cannot be resolved; correct it, or check DNS".to_owned()
            }
            _ => format!("no connection: {error}"),
        },
        (_, Some("28000" | "28P01")) => {
            "authentication failed; correct user and password, or pg_hba.conf".to_owned()
        }
        (_, Some("3D000")) => "there is no such database; create it, or correct its name".to_owned(),
        // PgBouncer's own words for a parameter that it does not pass on.
        (error, Some("08P01")) if cause(error).contains("startup parameter") => {
            format!(
                "{}; a pooler must accept it, as PgBouncer's ignore_startup_parameters says",
                cause(error)
            )
        }
        (error, _) => cause(error),
    };
    OpenError::Unreachable(reason)
}
