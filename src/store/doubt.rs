//! Submissions that nobody knows the end of, and how they are settled.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::columns::{Columns, count, lease_until, millis, no_lease_after, no_wait_after, span};
use super::submissions::{is_of_another, select_submissions, submission};
use super::{Store, StoreError, erase, save};
use crate::batch::{BatchId, SubmissionId};
use crate::submission::{Submission, SubmissionState};

/// Wait after the first look at the vendor; each look doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait between two looks.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// A submission in doubt that is ours to look up at the vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The submission.
    pub id: SubmissionId,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// What the end of the look must show.
    pub attempt: i64,
    /// How many looks were made before this one.
    pub looks: u64,
    /// How many of them the vendor answered, and did not have it.
    pub misses: u64,
}

/// What an operator found out about a submission in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The vendor has it as this batch.
    Sent(BatchId),
    /// The vendor does not have it, and charged nothing.
    NotSent,
}

/// What became of an operator's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It is written down; this is the submission now.
    Done(Submission),
    /// The submission is not in doubt; it stays as it is.
    NotInDoubt(Submission),
    /// The vendor is being asked for it at this moment; it stays as it is until that has ended.
    BeingLookedUp(Submission),
    /// The batch is another submission's; everything stays as it is.
    BatchOfAnother(Submission),
    /// There is no such submission.
    Unknown,
}

impl Store {
    /// Puts what was left lying in the state that it is in: sending becomes in doubt, reserved becomes not sent,
    /// where the lease is over, or `everything` at the start of the only process, which then takes over what was being
    /// polled and looked up. Returns what became in doubt.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn expire_leases(&self, everything: bool) -> Result<Vec<SubmissionId>, StoreError> {
        let now = millis(self.clock.now());
        let (until, after) = if everything { (i64::MAX, i64::MAX) } else { (now, no_lease_after(now)) };
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE submissions SET state = 'not_sent', state_since = $1, lease_until = 0
                     WHERE state = 'reserved' AND (lease_until <= $2 OR lease_until > $3)",
                )
                .bind(now)
                .bind(until)
                .bind(after)
                .execute(&mut *connection)
                .await?;
                if everything {
                    // Nobody is at work on them, and nobody must wait for the dead.
                    sqlx::query("UPDATE batches SET lease_until = 0 WHERE lease_until > 0")
                        .execute(&mut *connection)
                        .await?;
                    sqlx::query(
                        "UPDATE submissions SET lease_until = 0, next_look_at = $1
                         WHERE state = 'in_doubt' AND lease_until > 0",
                    )
                    .bind(now)
                    .execute(&mut *connection)
                    .await?;
                }
                let rows = sqlx::query(
                    "UPDATE submissions SET state = 'in_doubt', state_since = $1, lease_until = 0, looks = 0,
                                            misses = 0, next_look_at = $1
                     WHERE state = 'sending' AND (lease_until <= $2 OR lease_until > $3)
                     RETURNING id",
                )
                .bind(now)
                .bind(until)
                .bind(after)
                .fetch_all(connection)
                .await?;
                rows.iter().map(|row| row.submission_id("id")).collect()
            })
        })
        .await
    }

    /// The submissions in doubt of a vendor that are to be looked up, at most so many: ours for `lease`, and none of them
    /// due again before its wait is over, which doubles with each look. [`Store::end_look`] gives one back.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn claim_doubts(
        &self,
        provider: &'static str,
        most: u32,
        lease: Duration,
    ) -> Result<Vec<Doubt>, StoreError> {
        let now = millis(self.clock.now());
        let lease_until = lease_until(now, lease);
        // Most of the time nothing is in doubt, and finding that out keeps no writer waiting.
        if self.read(move |connection| Box::pin(due_doubts(connection, provider, 1, now))).await?.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |connection| {
            Box::pin(async move {
                let mut claimed = Vec::new();
                for doubt in due_doubts(&mut *connection, provider, most, now).await? {
                    let done = sqlx::query(
                        "UPDATE submissions SET looks = looks + 1, next_look_at = $4, lease_until = $5
                         WHERE id = $1 AND attempt = $2 AND looks = $3 AND state = 'in_doubt'",
                    )
                    .bind(doubt.id.to_string())
                    .bind(doubt.attempt)
                    .bind(count(doubt.looks))
                    .bind(lease_until.max(now + wait_after(doubt.looks)))
                    .bind(lease_until)
                    .execute(&mut *connection)
                    .await?;
                    // Else somebody was faster.
                    if done.rows_affected() == 1 {
                        claimed.push(doubt);
                    }
                }
                Ok(claimed)
            })
        })
        .await
    }

    /// Says that a look has ended and settled nothing: an operator may decide again. `missed` says that the vendor
    /// answered and did not have it. One that outlived its lease has nothing to say: another look may be under way.
    ///
    /// # Errors
    /// The store does not answer; the lease ends by itself.
    pub async fn end_look(&self, doubt: &Doubt, missed: bool) -> Result<(), StoreError> {
        let Doubt { id, attempt, looks, .. } = *doubt;
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE submissions SET lease_until = 0, misses = misses + $4
                     WHERE id = $1 AND attempt = $2 AND looks = $3 AND state = 'in_doubt'",
                )
                .bind(id.to_string())
                .bind(attempt)
                .bind(count(looks + 1))
                .bind(i64::from(missed))
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Says that the vendor's own list does not have what was sent. False if the submission is settled or was sent again,
    /// or the look outlived its lease: another one may have seen more.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn found_not_sent(&self, doubt: &Doubt) -> Result<bool, StoreError> {
        let Doubt { id, attempt, looks, .. } = *doubt;
        let now = millis(self.clock.now());
        self.write(move |connection| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE submissions SET state = 'not_sent', state_since = $4, lease_until = 0
                     WHERE id = $1 AND attempt = $2 AND looks = $3 AND state = 'in_doubt'",
                )
                .bind(id.to_string())
                .bind(attempt)
                .bind(count(looks + 1))
                .bind(now)
                .execute(connection)
                .await?;
                Ok(changed.rows_affected() == 1)
            })
        })
        .await
    }

    /// Writes down what an operator, `by`, found out about a submission in doubt. The batch of one that was sent
    /// is followed from now on. Nothing is decided while the vendor is being asked: its word would come too late.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn resolve(&self, id: SubmissionId, as_: Resolution, by: &str) -> Result<Resolved, StoreError> {
        let now = millis(self.clock.now());
        let by = by.to_owned();
        self.write(move |connection| {
            Box::pin(async move {
                let row = sqlx::query(select_submissions!("WHERE id = $1"))
                    .bind(id.to_string())
                    .fetch_optional(&mut *connection)
                    .await?;
                let Some(row) = row else { return Ok(Resolved::Unknown) };
                let taken = match &as_ {
                    Resolution::Sent(batch) => {
                        is_of_another(connection, &row.text("provider")?, batch.as_str(), id).await?
                    }
                    Resolution::NotSent => false,
                };
                let done = match as_ {
                    _ if taken => false,
                    Resolution::NotSent => settle_as_not_sent(connection, id, &by, now).await?,
                    Resolution::Sent(batch) => settle_as_sent(connection, id, &batch, &by, now).await?,
                };
                let row = sqlx::query(select_submissions!("WHERE id = $1"))
                    .bind(id.to_string())
                    .fetch_optional(connection)
                    .await?;
                Ok(match row {
                    Some(row) if done => Resolved::Done(submission(&row)?),
                    Some(row) => match submission(&row)? {
                        open @ Submission { state: SubmissionState::InDoubt, .. } if taken => {
                            Resolved::BatchOfAnother(open)
                        }
                        busy @ Submission { state: SubmissionState::InDoubt, .. } => {
                            Resolved::BeingLookedUp(busy)
                        }
                        settled => Resolved::NotInDoubt(settled),
                    },
                    None => Resolved::Unknown,
                })
            })
        })
        .await
    }

    /// How many submissions are in doubt.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn doubt_count(&self) -> Result<u64, StoreError> {
        self.read(move |connection| {
            Box::pin(async move {
                let row = sqlx::query("SELECT COUNT(*) AS doubts FROM submissions WHERE state = $1")
                    .bind(SubmissionState::InDoubt.word())
                    .fetch_one(connection)
                    .await?;
                row.count("doubts")
            })
        })
        .await
    }
}

/// The submissions in doubt that have been due for longest.
async fn due_doubts(
    connection: &mut AnyConnection,
    provider: &'static str,
    most: u32,
    now: i64,
) -> Result<Vec<Doubt>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, attempt, looks, misses, COALESCE(sent_at, created_at) AS sent_at
         FROM submissions
         WHERE provider = $1 AND state = 'in_doubt' AND (next_look_at <= $2 OR next_look_at > $3)
               AND (lease_until <= $2 OR lease_until > $4)
         ORDER BY next_look_at, id LIMIT $5",
    )
    .bind(provider)
    .bind(now)
    .bind(no_wait_after(now))
    .bind(no_lease_after(now))
    .bind(i64::from(most))
    .fetch_all(connection)
    .await?;
    let doubt = |row: &AnyRow| {
        Ok(Doubt {
            id: row.submission_id("id")?,
            sent_at: row.time("sent_at")?,
            attempt: row.number("attempt")?,
            looks: row.count("looks")?,
            misses: row.count("misses")?,
        })
    };
    rows.iter().map(doubt).collect()
}

/// How long not to look again after so many looks, in milliseconds.
fn wait_after(looks: u64) -> i64 {
    let doublings = u32::try_from(looks).unwrap_or(u32::MAX).min(16);
    span(FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_PAUSE))
}

async fn settle_as_not_sent(
    connection: &mut AnyConnection,
    id: SubmissionId,
    by: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let changed = sqlx::query(
        "UPDATE submissions SET state = 'not_sent', state_since = $2, resolved_by = $3
         WHERE id = $1 AND state = 'in_doubt' AND (lease_until <= $2 OR lease_until > $4)",
    )
    .bind(id.to_string())
    .bind(now)
    .bind(by)
    .bind(no_lease_after(now))
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}

async fn settle_as_sent(
    connection: &mut AnyConnection,
    id: SubmissionId,
    batch: &BatchId,
    by: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let settled = sqlx::query(
        "UPDATE submissions SET state = 'accepted', batch_id = $2, code = NULL, state_since = $3,
                                resolved_by = $4
         WHERE id = $1 AND state = 'in_doubt' AND (lease_until <= $3 OR lease_until > $5)
         RETURNING provider",
    )
    .bind(id.to_string())
    .bind(batch.as_str())
    .bind(now)
    .bind(by)
    .bind(no_lease_after(now))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = settled else { return Ok(false) };
    let provider = row.text("provider")?;
    save::link(connection, id, batch.as_str(), None, now).await?;
    let followed = sqlx::query(
        "UPDATE batches SET next_poll_at = $3, hinted = 1
         WHERE provider = $1 AND id = $2 AND done = 0 AND erased_at IS NULL",
    )
    .bind(&provider)
    .bind(batch.as_str())
    .bind(now)
    .execute(&mut *connection)
    .await?;
    if followed.rows_affected() == 0 && erase::is_erased(connection, &provider, batch.as_str()).await? {
        erase::forget_submission(connection, &provider, batch.as_str()).await?;
    }
    Ok(true)
}
