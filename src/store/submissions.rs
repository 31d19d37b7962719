//! The steps of a submission that is written down, from sending to the vendor's word.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::batches::Facts;
use super::columns::{Columns, lease_until, millis, span};
use super::deflate::inflate;
use super::reserve::KEY_TTL;
use super::save::{self, BatchRow, Saved, SavedBatch};
use super::{Store, StoreError, erase};
use crate::batch::{Personal, SubmissionId};
use crate::error::Code;
use crate::submission::{Submission, SubmissionState};

/// A statement that reads whole submissions.
macro_rules! select_submissions {
    () => {
        select_submissions!("")
    };
    ($rest:literal) => {
        concat!(
            "SELECT id, client, provider, state, records, reference, batch_id, code, created_at, sent_at,
                    state_since, resolved_by
             FROM submissions ",
            $rest
        )
    };
}
pub(super) use select_submissions;

/// A statement that reads what submissions say of their batches.
macro_rules! select_facts {
    ($rest:literal) => {
        concat!(
            "SELECT id, client, reference, records, custom_ids, COALESCE(sent_at, created_at) AS sent_at
             FROM submissions ",
            $rest
        )
    };
}
pub(super) use select_facts;

/// What came of a batch that the vendor shows as a submission's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The submission is accepted as this batch, now or before.
    As(Saved),
    /// The submission was accepted as another batch before.
    AsAnother,
    /// The batch is another submission's, so that this one is not accepted.
    BatchOfAnother,
}

impl Store {
    /// Says that the request is about to go out, and returns when that is. None if the submission is no longer this
    /// attempt's: then nothing may be sent.
    ///
    /// When the database was too slow, the row may say that it is being sent all the same; the lease makes it in doubt.
    ///
    /// # Errors
    /// The store does not answer; nothing may be sent then.
    pub async fn begin_sending(
        &self,
        id: SubmissionId,
        attempt: i64,
        lease: Duration,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sent_at = self.clock.now();
        let now = millis(sent_at);
        let lease_until = lease_until(now, lease);
        self.write(move |connection| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE submissions SET state = 'sending', sent_at = $3, state_since = $3, lease_until = $4
                     WHERE id = $1 AND attempt = $2 AND state = 'reserved'",
                )
                .bind(id.to_string())
                .bind(attempt)
                .bind(now)
                .bind(lease_until)
                .execute(connection)
                .await?;
                Ok((changed.rows_affected() == 1).then_some(sent_at))
            })
        })
        .await
    }

    /// Says that provably nothing was sent, or that the vendor refused it before it did anything; `code` is that
    /// of the error. False if the submission is no longer this attempt's.
    ///
    /// # Errors
    /// The store does not answer; the submission will be in doubt, or free, once its lease is over.
    pub async fn not_sent(
        &self,
        id: SubmissionId,
        attempt: i64,
        code: &'static str,
    ) -> Result<bool, StoreError> {
        let now = millis(self.clock.now());
        self.write(move |connection| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE submissions SET state = 'not_sent', code = $3, state_since = $4, lease_until = 0
                     WHERE id = $1 AND attempt = $2 AND state IN ('reserved', 'sending')",
                )
                .bind(id.to_string())
                .bind(attempt)
                .bind(code)
                .bind(now)
                .execute(connection)
                .await?;
                Ok(changed.rows_affected() == 1)
            })
        })
        .await
    }

    /// Says that it was sent and that no usable answer came; `code` is that of the error. False if the
    /// submission is no longer this attempt's.
    ///
    /// # Errors
    /// The store does not answer; the submission will be in doubt once its lease is over.
    pub async fn in_doubt(
        &self,
        id: SubmissionId,
        attempt: i64,
        code: &'static str,
    ) -> Result<bool, StoreError> {
        let now = millis(self.clock.now());
        self.write(move |connection| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE submissions SET state = 'in_doubt', code = $3, state_since = $4, lease_until = 0,
                                            looks = 0, misses = 0, next_look_at = $4
                     WHERE id = $1 AND attempt = $2 AND state = 'sending'",
                )
                .bind(id.to_string())
                .bind(attempt)
                .bind(code)
                .bind(now)
                .execute(connection)
                .await?;
                Ok(changed.rows_affected() == 1)
            })
        })
        .await
    }

    /// Says that the vendor accepted the batch, whichever attempt it was that sent it: what the vendor shows decides.
    /// The batch is written with it, as the submission's. `answer` is what the caller gets, now and whenever
    /// the key is used again.
    ///
    /// # Errors
    /// The store does not answer; the submission will be in doubt once its lease is over.
    pub async fn accept(
        &self,
        id: SubmissionId,
        batch: &SavedBatch<'_>,
        answer: &[u8],
    ) -> Result<Accepted, StoreError> {
        let now = millis(self.clock.now());
        let batch = SavedBatch { submission: Some(id), ..batch.clone() };
        let row = self.row_of(&batch, now).await?;
        let answer = self.deflated(answer).await?;
        self.write(move |connection| {
            Box::pin(async move {
                if is_of_another(connection, row.provider, &row.id, id).await? {
                    return Ok(Accepted::BatchOfAnother);
                }
                let changed = sqlx::query(
                    "UPDATE submissions SET state = 'accepted', batch_id = $2, answer = $3, code = NULL,
                                            state_since = $4, lease_until = 0
                     WHERE id = $1 AND provider = $5 AND state <> 'accepted'",
                )
                .bind(id.to_string())
                .bind(&row.id)
                .bind(answer)
                .bind(now)
                .bind(row.provider)
                .execute(&mut *connection)
                .await?;
                if changed.rows_affected() == 0 {
                    return accepted_before(connection, id, &row).await;
                }
                save::link(connection, id, &row.id, row.submitted_at, now).await?;
                // Another submission may have been accepted as this batch at the same time; linking waits for it.
                if is_of_another(connection, row.provider, &row.id, id).await? {
                    set_in_doubt(connection, id, Code::ProviderIntegrity.info().name, now).await?;
                    return Ok(Accepted::BatchOfAnother);
                }
                let saved = save::write(connection, &row).await?;
                if saved == Saved::Erased {
                    erase::forget_submission(connection, row.provider, &row.id).await?;
                }
                Ok(Accepted::As(saved))
            })
        })
        .await
    }

    /// One submission.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn submission(&self, id: SubmissionId) -> Result<Option<Submission>, StoreError> {
        self.read(move |connection| {
            Box::pin(async move {
                let row = sqlx::query(select_submissions!("WHERE id = $1"))
                    .bind(id.to_string())
                    .fetch_optional(connection)
                    .await?;
                row.as_ref().map(submission).transpose()
            })
        })
        .await
    }

    /// A submission to this vendor that is not accepted: a batch that shows its id is its batch, even if it was
    /// believed not to have been sent.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn unaccepted_submission(
        &self,
        provider: &'static str,
        id: SubmissionId,
    ) -> Result<Option<Facts>, StoreError> {
        self.read(move |connection| {
            Box::pin(async move {
                let row =
                    sqlx::query(select_facts!("WHERE id = $1 AND provider = $2 AND state <> 'accepted'"))
                        .bind(id.to_string())
                        .bind(provider)
                        .fetch_optional(connection)
                        .await?;
                row.as_ref().map(facts).transpose()
            })
        })
        .await
    }

    /// Whether the vendor may have taken any submission of the last 30 days that is not accepted; also one that is
    /// believed not to have been sent.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn may_have_sent(&self, provider: &'static str) -> Result<bool, StoreError> {
        let since = millis(self.clock.now()) - span(KEY_TTL);
        self.read(move |connection| {
            Box::pin(async move {
                let row = sqlx::query(
                    "SELECT id FROM submissions
                     WHERE provider = $1 AND state <> 'accepted' AND sent_at IS NOT NULL AND state_since > $2
                     LIMIT 1",
                )
                .bind(provider)
                .bind(since)
                .fetch_optional(connection)
                .await?;
                Ok(row.is_some())
            })
        })
        .await
    }
}

/// Whether a batch is known as another submission's.
pub(super) async fn is_of_another(
    connection: &mut AnyConnection,
    provider: &str,
    batch: &str,
    submission: SubmissionId,
) -> Result<bool, StoreError> {
    let other = sqlx::query("SELECT id FROM batches WHERE provider = $1 AND id = $2 AND submission <> $3")
        .bind(provider)
        .bind(batch)
        .bind(submission.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(other.is_some())
}

async fn accepted_before(
    connection: &mut AnyConnection,
    id: SubmissionId,
    row: &BatchRow,
) -> Result<Accepted, StoreError> {
    let same = sqlx::query(
        "SELECT id FROM submissions
         WHERE id = $1 AND provider = $3 AND state = 'accepted' AND batch_id = $2",
    )
    .bind(id.to_string())
    .bind(&row.id)
    .bind(row.provider)
    .fetch_optional(&mut *connection)
    .await?;
    if same.is_none() {
        return Ok(Accepted::AsAnother);
    }
    let erased = erase::is_erased(connection, row.provider, &row.id).await?;
    // Whoever accepted it may have read more of the batch by now.
    Ok(Accepted::As(if erased { Saved::Erased } else { Saved::Complete }))
}

async fn set_in_doubt(
    connection: &mut AnyConnection,
    id: SubmissionId,
    code: &str,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE submissions SET state = 'in_doubt', batch_id = NULL, answer = NULL, code = $2, state_since = $3,
                                lease_until = 0, looks = 0, misses = 0, next_look_at = $3
         WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(code)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// A row of [`select_submissions`].
pub(super) fn submission(row: &AnyRow) -> Result<Submission, StoreError> {
    let batch_id = row.optional_text("batch_id")?.map(|id| id.parse());
    Ok(Submission {
        id: row.submission_id("id")?,
        client: row.text("client")?,
        provider: row.text("provider")?,
        state: SubmissionState::from_word(&row.text("state")?)
            .ok_or_else(|| StoreError::unreadable("state"))?,
        records: row.count("records")?,
        reference: row.optional_text("reference")?.map(Personal),
        batch_id: batch_id.transpose().map_err(|_| StoreError::unreadable("batch_id"))?,
        code: row.optional_text("code")?,
        created_at: row.time("created_at")?,
        sent_at: row.optional_time("sent_at")?,
        state_since: row.time("state_since")?,
        resolved_by: row.optional_text("resolved_by")?,
    })
}

/// A row of [`select_facts`].
pub(super) fn facts(row: &AnyRow) -> Result<Facts, StoreError> {
    let custom_ids = row.bytes("custom_ids")?.map(|deflated| {
        let json = inflate(&deflated)?;
        serde_json::from_slice(&json).map_err(|_| StoreError::unreadable("custom_ids"))
    });
    Ok(Facts {
        submission: row.submission_id("id")?,
        client: row.text("client")?,
        reference: row.optional_text("reference")?,
        records: row.count("records")?,
        custom_ids: custom_ids.transpose()?,
        sent_at: row.time("sent_at")?,
    })
}
