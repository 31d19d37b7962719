//! Writing a submission down before anything is sent, once for each key of a client.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::columns::{Columns, count, lease_until, millis, no_lease_after, span};
use super::{Store, StoreError};
use crate::batch::{BatchId, Record, SubmissionId};
use crate::submission::SubmissionState;

/// For how long a key stands for its request; a submission that may be under way keeps its key for longer.
pub const KEY_TTL: Duration = Duration::from_hours(30 * 24);

/// A statement that gives keys free whose submissions were settled at $1 or before. What became no batch cannot be
/// erased with it, so nothing of the request is kept for longer than its key.
macro_rules! free_keys {
    ($rest:literal) => {
        concat!(
            "UPDATE submissions SET key_hash = NULL,
                    reference = CASE WHEN batch_id IS NULL THEN NULL ELSE reference END,
                    custom_ids = CASE WHEN batch_id IS NULL THEN NULL ELSE custom_ids END,
                    fingerprint = CASE WHEN batch_id IS NULL THEN '' ELSE fingerprint END
             WHERE key_hash IS NOT NULL AND state_since <= $1 AND state IN ('accepted', 'not_sent') ",
            $rest
        )
    };
}
pub(super) use free_keys;

/// A statement that drops the records of the submissions whose keys [`free_keys!`] is about to free.
macro_rules! drop_records {
    ($rest:literal) => {
        concat!(
            "DELETE FROM orders WHERE submission IN (
                 SELECT id FROM submissions
                 WHERE key_hash IS NOT NULL AND state_since <= $1 AND state = 'not_sent' AND batch_id IS NULL ",
            $rest,
            ")"
        )
    };
}
pub(super) use drop_records;

/// A submission to be written down.
#[derive(Clone, Copy)]
pub struct NewSubmission<'a> {
    /// Name of the client that submits.
    pub client: &'a str,
    /// Its idempotency key; only a hash of it is kept.
    pub key: &'a str,
    /// Slug of the vendor.
    pub provider: &'static str,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// The records of the batch.
    pub records: &'a [Record],
    /// The caller's reference of the batch.
    pub reference: Option<&'a str>,
}

/// Without the key and what the caller wrote.
impl fmt::Debug for NewSubmission<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSubmission")
            .field("client", &self.client)
            .field("provider", &self.provider)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// What became of a submission that was to be written down.
#[derive(Clone, PartialEq, Eq)]
pub enum Reserved {
    /// Ours to send: a new one, or one that was provably not sent.
    Ours {
        /// The submission.
        id: SubmissionId,
        /// What every later step must show.
        attempt: i64,
    },
    /// Another call with this key is at work.
    InUse {
        /// The submission.
        id: SubmissionId,
    },
    /// The key was used for another request.
    Reused {
        /// The submission of that request.
        id: SubmissionId,
    },
    /// Accepted before.
    Accepted {
        /// The submission.
        id: SubmissionId,
        /// The vendor's id of the batch.
        batch_id: BatchId,
        /// The stored answer; none once it was erased, and where an operator decided.
        answer: Option<Bytes>,
    },
    /// Sent, and nobody knows what came of it.
    InDoubt {
        /// The submission.
        id: SubmissionId,
    },
}

/// Without the answer.
impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours { id, attempt } => {
                f.debug_struct("Ours").field("id", id).field("attempt", attempt).finish()
            }
            Self::InUse { id } => f.debug_struct("InUse").field("id", id).finish(),
            Self::Reused { id } => f.debug_struct("Reused").field("id", id).finish(),
            Self::Accepted { id, batch_id, .. } => {
                let mut shown = f.debug_struct("Accepted");
                shown.field("id", id).field("batch_id", batch_id).finish_non_exhaustive()
            }
            Self::InDoubt { id } => f.debug_struct("InDoubt").field("id", id).finish(),
        }
    }
}

/// A new submission as it is written.
struct Row {
    id: SubmissionId,
    client: String,
    key_hash: String,
    provider: &'static str,
    fingerprint: String,
    records: i64,
    reference: Option<String>,
    order: Vec<u8>,
    now: i64,
    lease_until: i64,
}

impl Store {
    /// Writes a submission down, or finds the one that has its key. What was provably not sent, and what was
    /// only reserved by somebody whose lease is over, is taken over; what was being sent then is in doubt.
    ///
    /// # Errors
    /// The store does not answer; nothing may be sent then.
    pub async fn reserve(&self, new: NewSubmission<'_>, lease: Duration) -> Result<Reserved, StoreError> {
        let now = millis(self.clock.now());
        let order =
            serde_json::to_vec(new.records).map_err(|_| StoreError::new("records cannot be written"))?;
        let row = Row {
            id: SubmissionId::new(),
            client: new.client.to_owned(),
            key_hash: hashed(new.key),
            provider: new.provider,
            fingerprint: base16ct::lower::encode_string(&new.fingerprint),
            records: count(new.records.len() as u64),
            reference: new.reference.map(str::to_owned),
            order: self.deflated(&order).await?,
            now,
            lease_until: lease_until(now, lease),
        };
        let reserved = self.write(move |connection| Box::pin(reserve(connection, row))).await?;
        let Reserved::Accepted { id, batch_id, answer: Some(deflated) } = reserved else {
            return Ok(reserved);
        };
        let answer = Some(self.inflated(deflated.into()).await?);
        Ok(Reserved::Accepted { id, batch_id, answer })
    }
}

async fn reserve(connection: &mut AnyConnection, row: Row) -> Result<Reserved, StoreError> {
    free_old_key(connection, &row).await?;
    let found = insert_or_find(connection, &row).await?;
    let id = found.submission_id("id")?;
    let attempt = found.number("attempt")?;
    if id == row.id {
        write_order(connection, id, &row).await?;
        return Ok(Reserved::Ours { id, attempt });
    }
    // What was erased has no fingerprint any more.
    let fingerprint = found.text("fingerprint")?;
    let same_request = fingerprint.is_empty() || fingerprint == row.fingerprint;
    if !same_request || found.text("provider")? != row.provider {
        return Ok(Reserved::Reused { id });
    }
    let lease_until = found.number("lease_until")?;
    let lease_is_over = lease_until <= row.now || lease_until > no_lease_after(row.now);
    match SubmissionState::from_word(&found.text("state")?) {
        Some(SubmissionState::Accepted) => Ok(Reserved::Accepted {
            id,
            batch_id: found.batch_id("batch_id")?,
            answer: found.bytes("answer")?.map(Bytes::from),
        }),
        Some(SubmissionState::InDoubt) => Ok(Reserved::InDoubt { id }),
        Some(SubmissionState::Reserved | SubmissionState::Sending) if !lease_is_over => {
            Ok(Reserved::InUse { id })
        }
        Some(SubmissionState::Sending) => {
            set_in_doubt(connection, id, row.now).await?;
            Ok(Reserved::InDoubt { id })
        }
        Some(SubmissionState::Reserved | SubmissionState::NotSent) => {
            let attempt = attempt + 1;
            take_over(connection, id, attempt, &row).await?;
            write_order(connection, id, &row).await?;
            Ok(Reserved::Ours { id, attempt })
        }
        None => Err(StoreError::unreadable("state")),
    }
}

async fn free_old_key(connection: &mut AnyConnection, row: &Row) -> Result<(), StoreError> {
    let statements =
        [drop_records!("AND client = $2 AND key_hash = $3"), free_keys!("AND client = $2 AND key_hash = $3")];
    for statement in statements {
        sqlx::query(statement)
            .bind(row.now - span(KEY_TTL))
            .bind(&row.client)
            .bind(&row.key_hash)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Keeps the records beside the submission: a doubt that is settled late needs them, too.
async fn write_order(connection: &mut AnyConnection, id: SubmissionId, row: &Row) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO orders (submission, body) VALUES ($1, $2)
         ON CONFLICT (submission) DO UPDATE SET body = excluded.body",
    )
    .bind(id.to_string())
    .bind(row.order.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_or_find(connection: &mut AnyConnection, row: &Row) -> Result<AnyRow, StoreError> {
    // Updating nothing locks the row that is there, and returns it.
    let row = sqlx::query(
        "INSERT INTO submissions (id, client, key_hash, provider, fingerprint, records, reference, state, attempt,
                                  lease_until, created_at, state_since, looks, misses, next_look_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'reserved', 1, $8, $9, $9, 0, 0, 0)
         ON CONFLICT (client, key_hash) DO UPDATE SET client = excluded.client
         RETURNING id, provider, fingerprint, state, attempt, lease_until, batch_id, answer",
    )
    .bind(row.id.to_string())
    .bind(&row.client)
    .bind(&row.key_hash)
    .bind(row.provider)
    .bind(&row.fingerprint)
    .bind(row.records)
    .bind(row.reference.as_deref())
    .bind(row.lease_until)
    .bind(row.now)
    .fetch_one(connection)
    .await?;
    Ok(row)
}

async fn take_over(
    connection: &mut AnyConnection,
    id: SubmissionId,
    attempt: i64,
    row: &Row,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE submissions SET state = 'reserved', attempt = $2, lease_until = $3, code = NULL,
                                sent_at = NULL, state_since = $4
         WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(attempt)
    .bind(row.lease_until)
    .bind(row.now)
    .execute(connection)
    .await?;
    Ok(())
}

async fn set_in_doubt(connection: &mut AnyConnection, id: SubmissionId, now: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE submissions SET state = 'in_doubt', state_since = $2, lease_until = 0, looks = 0, misses = 0,
                                next_look_at = $2
         WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// An idempotency key as it is kept: its SHA-256.
pub(super) fn hashed(key: &str) -> String {
    base16ct::lower::encode_string(&Sha256::digest(key))
}
