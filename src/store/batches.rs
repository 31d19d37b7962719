//! Reading batches, and what is known of those that were submitted here.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::columns::Columns;
use super::deflate::inflate;
use super::submissions::{facts, select_facts};
use super::{Store, StoreError};
use crate::batch::{BatchId, Record, SubmissionId};
use crate::telemetry::blocking_on_behalf_of;

/// A batch as the store has it.
#[derive(Clone)]
pub struct StoredBatch {
    /// JSON as it is served; none if it was never read, is erased or is expired.
    pub document: Option<Bytes>,
    /// The common word of its status; `expired` once the vendor does not know it any more.
    pub status: String,
    /// Whether it has come to its end.
    pub done: bool,
    /// Whether it is final.
    pub complete: bool,
    /// Whether it was erased on request.
    pub erased: bool,
    /// The submission that it is of.
    pub submission: Option<SubmissionId>,
    /// When the vendor gave the document.
    pub retrieved_at: Option<Timestamp>,
    /// When to ask again; none if nobody follows it.
    pub next_poll_at: Option<Timestamp>,
    /// Since when it has ended without being final.
    pub incomplete_since: Option<Timestamp>,
    /// How often in a row the vendor did not know it.
    pub misses: u64,
    /// When the vendor took it.
    pub submitted_at: Option<Timestamp>,
    /// When the gateway saw it first.
    pub first_seen_at: Timestamp,
}

/// Without what the batch holds.
impl fmt::Debug for StoredBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredBatch")
            .field("status", &self.status)
            .field("done", &self.done)
            .field("complete", &self.complete)
            .field("erased", &self.erased)
            .finish_non_exhaustive()
    }
}

/// What the gateway knows of a batch that was submitted here, and the vendor does not say.
#[derive(Clone, PartialEq, Eq)]
pub struct Facts {
    /// The submission.
    pub submission: SubmissionId,
    /// Name of the client that submitted it.
    pub client: String,
    /// The caller's reference.
    pub reference: Option<String>,
    /// Records in the batch.
    pub records: u64,
    /// The caller's own id of each record, where the records themselves are not known: only submissions of version 0.1
    /// have them here.
    pub custom_ids: Option<Vec<Option<String>>>,
    /// When it was sent; when it was written down, if it never was.
    pub sent_at: Timestamp,
}

/// Without what the caller wrote.
impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("submission", &self.submission)
            .field("client", &self.client)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// One batch.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn batch(
        &self,
        provider: &'static str,
        id: &BatchId,
    ) -> Result<Option<StoredBatch>, StoreError> {
        let id = id.clone();
        let found = self
            .read(move |connection| {
                Box::pin(async move {
                    let row = sqlx::query(
                        "SELECT document, status, done, complete, erased_at, submission, retrieved_at,
                                next_poll_at, incomplete_since, misses, submitted_at, first_seen_at
                         FROM batches WHERE provider = $1 AND id = $2",
                    )
                    .bind(provider)
                    .bind(id.as_str())
                    .fetch_optional(connection)
                    .await?;
                    let Some(row) = row else { return Ok(None) };
                    let submission = row.optional_text("submission")?.map(|id| id.parse());
                    let batch = StoredBatch {
                        document: None,
                        status: row.text("status")?,
                        done: row.flag("done")?,
                        complete: row.flag("complete")?,
                        erased: row.optional_number("erased_at")?.is_some(),
                        submission: submission
                            .transpose()
                            .map_err(|_| StoreError::unreadable("submission"))?,
                        retrieved_at: row.optional_time("retrieved_at")?,
                        next_poll_at: row.optional_time("next_poll_at")?,
                        incomplete_since: row.optional_time("incomplete_since")?,
                        misses: row.count("misses")?,
                        submitted_at: row.optional_time("submitted_at")?,
                        first_seen_at: row.time("first_seen_at")?,
                    };
                    Ok(Some((batch, row.bytes("document")?)))
                })
            })
            .await?;
        match found {
            Some((batch, Some(deflated))) => {
                let document = Some(self.inflated(deflated).await?);
                Ok(Some(StoredBatch { document, ..batch }))
            }
            found => Ok(found.map(|(batch, _)| batch)),
        }
    }

    /// The records of a submission; none if they were erased or never kept.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn records(&self, submission: SubmissionId) -> Result<Option<Vec<Record>>, StoreError> {
        let body = self
            .read(move |connection| {
                Box::pin(async move {
                    let row = sqlx::query("SELECT body FROM orders WHERE submission = $1")
                        .bind(submission.to_string())
                        .fetch_optional(connection)
                        .await?;
                    row.map_or(Ok(None), |row| row.bytes("body"))
                })
            })
            .await?;
        let Some(body) = body else { return Ok(None) };
        // Many records take long to read: not where requests are served.
        let records = blocking_on_behalf_of(move || {
            serde_json::from_slice(&inflate(&body)?).map_err(|_| StoreError::unreadable("body"))
        });
        let records = self.runtime.spawn_blocking(records);
        records.await.unwrap_or_else(|_| Err(StoreError::interrupted())).map(Some)
    }

    /// What the gateway knows of a batch that was submitted here.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn facts(&self, provider: &'static str, id: &BatchId) -> Result<Option<Facts>, StoreError> {
        let id = id.clone();
        self.read(move |connection| {
            Box::pin(async move {
                let row = sqlx::query(select_facts!(
                    "WHERE provider = $1 AND batch_id = $2 ORDER BY created_at LIMIT 1"
                ))
                .bind(provider)
                .bind(id.as_str())
                .fetch_optional(connection)
                .await?;
                row.as_ref().map(facts).transpose()
            })
        })
        .await
    }
}
