//! Writing what was read of batches, and whose they are.

use std::fmt;

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::columns::{Columns, count, day, millis, put_off};
use super::{Store, StoreError, erase};
use crate::batch::{Amount, BatchId, SubmissionId};

/// A batch as a read or a submission found it.
#[derive(Clone)]
pub struct SavedBatch<'a> {
    /// Slug of the vendor.
    pub provider: &'static str,
    /// The vendor's id.
    pub id: &'a BatchId,
    /// The submission that it is of; kept once it is known.
    pub submission: Option<SubmissionId>,
    /// Name of the client that submitted it; kept once it is known.
    pub client: Option<&'a str>,
    /// The caller's reference; kept once it is known.
    pub reference: Option<&'a str>,
    /// The common word of its status.
    pub status: &'static str,
    /// Whether it has come to its end.
    pub done: bool,
    /// Whether this is final: kept for good, and never asked for again.
    pub complete: bool,
    /// JSON as it is served.
    pub document: &'a [u8],
    /// JSON without results, for lists.
    pub summary: &'a [u8],
    /// How many of its results belong to a record.
    pub results: u64,
    /// What the vendor charged, in its own unit.
    pub charged: Option<Amount>,
    /// What the vendor refunded, in its own unit.
    pub refunded: Option<Amount>,
    /// Since when it has ended without being final; kept as long as that lasts.
    pub incomplete_since: Option<Timestamp>,
    /// When the vendor took it; kept once it is known.
    pub submitted_at: Option<Timestamp>,
    /// When the vendor gave this answer.
    pub retrieved_at: Timestamp,
    /// When to ask again; none if nobody follows it any more.
    pub next_poll_at: Option<Timestamp>,
}

/// Without what the batch holds.
impl fmt::Debug for SavedBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedBatch")
            .field("provider", &self.provider)
            .field("id", &self.id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// What became of a batch that was to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is in the store.
    Kept,
    /// It was erased on request; nothing was kept.
    Erased,
    /// What the store has is final, done where this is not, has more results, or is known to be a submission's where
    /// this is not; it stays.
    Complete,
}

/// A batch as it is written.
pub(super) struct BatchRow {
    pub(super) provider: &'static str,
    pub(super) id: String,
    submission: Option<SubmissionId>,
    client: Option<String>,
    reference: Option<String>,
    status: &'static str,
    done: bool,
    complete: bool,
    document: Vec<u8>,
    summary: Vec<u8>,
    results: i64,
    charged: Option<i64>,
    refunded: Option<i64>,
    incomplete_since: Option<i64>,
    pub(super) submitted_at: Option<i64>,
    retrieved_at: i64,
    next_poll_at: Option<i64>,
    now: i64,
}

impl Store {
    /// Writes what was read of a batch, and ends the lease of who read it. What is final stays, what is done
    /// stays done and keeps its results, and what is a submission's is not replaced by what was read without it.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn save(&self, batch: &SavedBatch<'_>) -> Result<Saved, StoreError> {
        let row = self.row_of(batch, millis(self.clock.now())).await?;
        self.write(move |connection| {
            Box::pin(async move {
                let saved = write(connection, &row).await?;
                // What stays is due again when this says so, unless it still waits for one that has the submission.
                sqlx::query(
                    "UPDATE batches SET polls = polls + 1, misses = 0, missed_at = NULL, lease_until = 0,
                            next_poll_at = CASE WHEN $3 = 1 OR next_poll_at IS NULL
                                                     OR (submission IS NOT NULL AND CAST($4 AS TEXT) IS NULL)
                                                THEN next_poll_at ELSE CAST($5 AS BIGINT) END
                     WHERE provider = $1 AND id = $2",
                )
                .bind(row.provider)
                .bind(&row.id)
                .bind(i64::from(saved == Saved::Kept))
                .bind(row.submission.map(|id| id.to_string()))
                .bind(row.next_poll_at)
                .execute(connection)
                .await?;
                Ok(saved)
            })
        })
        .await
    }

    /// A batch as it is written, at `now`.
    pub(super) async fn row_of(&self, batch: &SavedBatch<'_>, now: i64) -> Result<BatchRow, StoreError> {
        Ok(BatchRow {
            provider: batch.provider,
            id: batch.id.as_str().to_owned(),
            submission: batch.submission,
            client: batch.client.map(str::to_owned),
            reference: batch.reference.map(str::to_owned),
            status: batch.status,
            done: batch.done,
            complete: batch.complete,
            document: self.deflated(batch.document).await?,
            summary: self.deflated(batch.summary).await?,
            results: count(batch.results),
            charged: batch.charged.map(|charged| count(charged.millionths())),
            refunded: batch.refunded.map(|refunded| count(refunded.millionths())),
            incomplete_since: batch.incomplete_since.map(millis),
            submitted_at: batch.submitted_at.map(millis),
            retrieved_at: millis(batch.retrieved_at),
            next_poll_at: batch.next_poll_at.map(|next| put_off(now, next)),
            now,
        })
    }
}

/// Writes a batch and what its submission says of it.
pub(super) async fn write(connection: &mut AnyConnection, row: &BatchRow) -> Result<Saved, StoreError> {
    if let Some(submission) = row.submission {
        link(connection, submission, &row.id, row.submitted_at, row.now).await?;
    }
    if upsert(connection, row).await? {
        return Ok(Saved::Kept);
    }
    let erased = erase::is_erased(connection, row.provider, &row.id).await?;
    Ok(if erased { Saved::Erased } else { Saved::Complete })
}

/// Makes a batch the submission's, with what the submission says of it: that it was submitted when it was sent, unless
/// the vendor says otherwise. The first submission stays.
///
/// What was read before without the submission lacks its reference and ids, even if it is final: it is due once more.
pub(super) async fn link(
    connection: &mut AnyConnection,
    submission: SubmissionId,
    batch: &str,
    submitted_at: Option<i64>,
    now: i64,
) -> Result<(), StoreError> {
    let sent = sqlx::query("SELECT COALESCE(sent_at, created_at) AS sent_at FROM submissions WHERE id = $1")
        .bind(submission.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(sent) = sent else { return Ok(()) };
    let submitted_at = submitted_at.map_or_else(|| sent.number("sent_at"), Ok)?;
    sqlx::query(
        "INSERT INTO batches (provider, id, submission, client, reference, records, status, done, complete,
                              submitted_at, first_seen_at, sort_at, day, hinted, lease_until, polls)
         SELECT provider, CAST($2 AS TEXT), id, client, reference, records, 'unknown', 0, 0,
                CAST($3 AS BIGINT), CAST($5 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS TEXT), 0, 0, 0
         FROM submissions WHERE id = $1
         ON CONFLICT (provider, id) DO UPDATE SET
             submission = excluded.submission,
             client = COALESCE(batches.client, excluded.client),
             reference = CASE WHEN batches.erased_at IS NULL
                              THEN COALESCE(batches.reference, excluded.reference) END,
             records = COALESCE(batches.records, excluded.records),
             complete = 0,
             -- Without the records, every position counted as a match.
             results = 0,
             next_poll_at = CASE WHEN batches.erased_at IS NULL THEN excluded.first_seen_at END,
             submitted_at = COALESCE(batches.submitted_at, excluded.submitted_at),
             sort_at = CASE WHEN batches.submitted_at IS NULL THEN excluded.sort_at ELSE batches.sort_at END,
             day = CASE WHEN batches.submitted_at IS NULL THEN excluded.day ELSE batches.day END
         WHERE batches.submission IS NULL",
    )
    .bind(submission.to_string())
    .bind(batch)
    .bind(submitted_at)
    .bind(day(submitted_at))
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what was read; false if what is there stays.
async fn upsert(connection: &mut AnyConnection, row: &BatchRow) -> Result<bool, StoreError> {
    let sort_at = row.submitted_at.unwrap_or(row.now);
    let changed = sqlx::query(
        "INSERT INTO batches (provider, id, client, reference, status, done, complete, document, summary, results,
                              charged_millionths, refunded_millionths, submitted_at, first_seen_at, sort_at, day,
                              retrieved_at, next_poll_at, incomplete_since, hinted, lease_until, polls)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                 CAST($20 AS BIGINT), 0, 0, 0)
         ON CONFLICT (provider, id) DO UPDATE SET
             client = COALESCE(batches.client, excluded.client),
             reference = COALESCE(batches.reference, excluded.reference),
             status = excluded.status,
             done = excluded.done,
             complete = excluded.complete,
             document = excluded.document,
             summary = excluded.summary,
             results = excluded.results,
             charged_millionths = COALESCE(excluded.charged_millionths, batches.charged_millionths),
             refunded_millionths = COALESCE(excluded.refunded_millionths, batches.refunded_millionths),
             incomplete_since = CASE WHEN excluded.incomplete_since IS NULL THEN NULL
                                     WHEN batches.incomplete_since <= excluded.first_seen_at
                                     THEN batches.incomplete_since
                                     ELSE excluded.incomplete_since END,
             submitted_at = COALESCE(batches.submitted_at, excluded.submitted_at),
             sort_at = CASE WHEN batches.submitted_at IS NULL AND excluded.submitted_at IS NOT NULL
                            THEN excluded.sort_at ELSE batches.sort_at END,
             day = CASE WHEN batches.submitted_at IS NULL AND excluded.submitted_at IS NOT NULL
                        THEN excluded.day ELSE batches.day END,
             retrieved_at = excluded.retrieved_at,
             next_poll_at = CASE WHEN batches.hinted = 1 AND excluded.next_poll_at IS NOT NULL
                                 THEN COALESCE(batches.next_poll_at, excluded.next_poll_at)
                                 ELSE excluded.next_poll_at END
         WHERE batches.erased_at IS NULL AND batches.complete = 0
               AND (batches.submission IS NULL OR CAST($19 AS TEXT) IS NOT NULL)
               AND (batches.done = 0 OR batches.status = 'expired'
                    OR (excluded.done = 1 AND excluded.results >= COALESCE(batches.results, 0)))",
    )
    .bind(row.provider)
    .bind(&row.id)
    .bind(row.client.as_deref())
    .bind(row.reference.as_deref())
    .bind(row.status)
    .bind(i64::from(row.done))
    .bind(i64::from(row.complete))
    .bind(row.document.as_slice())
    .bind(row.summary.as_slice())
    .bind(row.results)
    .bind(row.charged)
    .bind(row.refunded)
    .bind(row.submitted_at)
    .bind(row.now)
    .bind(sort_at)
    .bind(day(sort_at))
    .bind(row.retrieved_at)
    .bind(row.next_poll_at)
    .bind(row.submission.map(|id| id.to_string()))
    .bind(row.incomplete_since)
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}
