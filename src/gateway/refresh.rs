//! Asking the vendor for a batch, and keeping what it says.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::publish::{ENDED_TTL, Freshness};
use super::vendor_error::vendor_error;
use super::{Gateway, store_error};
use crate::batch::{Batch, BatchId, Personal, Progress, Record, Status, Warning};
use crate::cache::{Answer, Representation};
use crate::error::{Code, Error};
use crate::http::{Call, ProviderError, ProviderErrorKind};
use crate::providers::{Info, Provider};
use crate::store::{Accepted, Facts, Saved, SavedBatch, StoreError, StoredBatch};
use crate::submission::SubmissionState;
use crate::telemetry;

/// After a poll that failed: how long until the next.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// How long a completed batch with missing or unmatched results is followed, and a stopped or failed batch is fetched
/// for readers; after that it is final as it stands.
pub(super) const INCOMPLETE_FOLLOWED: Duration = Duration::from_hours(24);
/// How often in a row the vendor must not know a batch that was not submitted here before that is believed.
const MISSES: u64 = 4;
/// A batch that its vendor does not know is followed on for this many days where it names no retention.
const PATIENCE_DAYS: u16 = 30;

impl Gateway {
    /// Asks the vendor for a batch and keeps the answer: the only function that moves a batch forward.
    ///
    /// # Errors
    /// What the vendor's failure means to a caller.
    pub async fn refresh(&self, provider: &Arc<dyn Provider>, id: &BatchId, call: &Call) -> Answer {
        use ProviderErrorKind::{BatchNotFound, Expired};
        let info = provider.info();
        match provider.fetch(id, call).await {
            Ok(batch) => self.keep(info, batch, call).await,
            Err(error) if matches!(error.kind, Expired | BatchNotFound) => self.gone(info, id, &error).await,
            Err(error) => Err(self.refuse(info, id, &error, call).await),
        }
    }

    async fn keep(&self, info: &'static Info, mut batch: Batch, call: &Call) -> Answer {
        let key = (info.slug, batch.id.clone());
        let request_id = &*call.request_id;
        // Without them a final batch would stand there for good without its reference and ids.
        let known =
            self.inner.store.batch(info.slug, &batch.id).await.map_err(|error| store_error(&error))?;
        let facts = self.facts(info, &batch).await.map_err(|error| store_error(&error))?;
        let records = self.records(&batch, facts.as_ref()).await.map_err(|error| store_error(&error))?;
        let now = self.now();
        // A clock that was set back must not make the time longer.
        let incomplete_since =
            known.as_ref().and_then(|known| known.incomplete_since).filter(|since| *since <= now);
        let given_up = incomplete_since.is_some_and(|since| now >= later(since, INCOMPLETE_FOLLOWED));
        if batch.awaits_results && given_up {
            batch = batch.into_completed_without_results();
        }
        batch = batch.with_placed_results(records.as_deref());
        put_facts(&mut batch, facts.as_ref());

        // The first word on the end stands: a status never goes backwards.
        let ended = match self.inner.cache.last_known(&key) {
            Some(Ok(ended)) if ended.done => Some(ended),
            _ => known
                .as_ref()
                .filter(|known| known.done)
                .and_then(|known| self.last_known(known))
                .map(Arc::new),
        };
        if let Some(ended) = ended.filter(|_| !batch.done) {
            self.inner.metrics.status_regression(info.slug);
            tracing::warn!(
                request_id,
                provider = info.slug,
                batch_id = key.1.as_str(),
                "a batch that had ended runs again"
            );
            self.release(info, &key.1, (!given_up).then_some(ENDED_TTL)).await;
            return Ok(self.publish(&key, ended, Freshness::Ended));
        }
        for field in batch.drift.fields() {
            self.inner.metrics.schema_drift(info.slug, field);
        }
        if batch.warnings.contains(&Warning::ResultsIncomplete) {
            self.inner.metrics.results_incomplete(info.slug);
            tracing::warn!(
                request_id,
                provider = info.slug,
                batch_id = key.1.as_str(),
                "a batch that has ended lacks results"
            );
        }
        let is_final = batch.is_final() || (given_up && batch.done);
        let first_seen = known.as_ref().map(|known| known.first_seen_at);
        let poll_after = if batch.awaits_missing_results() {
            self.poll_incomplete_after(incomplete_since.unwrap_or(now))
        } else {
            self.poll_after(&batch, first_seen)
        };
        let documents = Documents::of(&batch, poll_after)?;
        let row = self.row(&batch, &documents, facts.as_ref());
        // After all that time it is final as it stands.
        let row = SavedBatch {
            complete: is_final,
            incomplete_since: row.incomplete_since.filter(|_| !is_final),
            next_poll_at: row.next_poll_at.filter(|_| !is_final),
            ..row
        };
        let saved = self.inner.store.save(&row).await;
        let freshness = match Freshness::of(batch.status.word(), batch.done, is_final, Some(poll_after)) {
            // Whoever reads next tries again to save it.
            Freshness::Final | Freshness::UntilPoll(_) if !matches!(saved, Ok(Saved::Kept)) => {
                Freshness::Passing
            }
            freshness => freshness,
        };
        match saved {
            Ok(Saved::Kept) => {}
            Ok(Saved::Erased) => {
                self.publish_erased(&key);
                return Err(Error::batch_erased());
            }
            // What the store has is better: somebody else was first, or had more results.
            Ok(Saved::Complete) => {
                let stored = self.inner.store.batch(info.slug, &batch.id).await.ok().flatten();
                if let Some(answer) = stored.as_ref().and_then(|stored| self.serve(&key, stored)) {
                    return answer;
                }
                if let Some(stored) = stored.as_ref().and_then(|stored| self.last_known(stored)) {
                    return Ok(self.publish(&key, stored, Freshness::Passing));
                }
            }
            // The caller gets what the vendor said.
            Err(error) => drop(store_error(&error)),
        }
        Ok(self.publish(&key, documents.representation, freshness))
    }

    /// The records that the results of a batch belong to; none where there are no results yet, or the submission was
    /// made by version 0.1.
    async fn records(&self, batch: &Batch, facts: Option<&Facts>) -> Result<Option<Vec<Record>>, StoreError> {
        match facts {
            Some(facts) if batch.results.is_some() => {
                match self.inner.store.records(facts.submission).await {
                    // It would be no better at the next read, and the results are paid for.
                    Err(error @ StoreError::Unreadable(_)) => {
                        tracing::error!(submission_id = %facts.submission, %error, "the records of a submission are unreadable; its results have no ids");
                        Ok(None)
                    }
                    records => records,
                }
            }
            _ => Ok(None),
        }
    }

    /// What the store knows of the submission of a batch. A batch that shows the id of a submission whose answer was
    /// lost settles it.
    async fn facts(&self, info: &'static Info, batch: &Batch) -> Result<Option<Facts>, StoreError> {
        // A batch that has not begun may be one that still has to be set to work, which only recovering does.
        let begun = !matches!(batch.status, Status::Queued | Status::Unknown);
        if let Some(submission) = batch.submission_id.filter(|_| begun)
            && let Some(facts) = self.inner.store.unaccepted_submission(info.slug, submission).await?
            && batch.progress.is_none_or(|progress| progress.requested == facts.records)
        {
            let records = self.records(batch, Some(&facts)).await?;
            let mut batch = batch.clone().with_placed_results(records.as_deref());
            put_facts(&mut batch, Some(&facts));
            if let Ok(documents) = Documents::of(&batch, self.floor())
                && let Accepted::As(_) = self
                    .inner
                    .store
                    .accept(submission, &self.row(&batch, &documents, Some(&facts)), &documents.summary)
                    .await?
            {
                self.inner.metrics.submission(info.slug, SubmissionState::Accepted);
                tracing::warn!(submission_id = %submission, provider = info.slug, batch_id = batch.id.as_str(), "a submission whose answer was lost has shown up");
            }
        }
        self.inner.store.facts(info.slug, &batch.id).await
    }

    /// A batch as the store takes it.
    pub(super) fn row<'a>(
        &self,
        batch: &'a Batch,
        documents: &'a Documents,
        facts: Option<&'a Facts>,
    ) -> SavedBatch<'a> {
        let incomplete = batch.awaits_results || (batch.done && !batch.is_final());
        SavedBatch {
            provider: batch.provider,
            id: &batch.id,
            submission: facts.map(|facts| facts.submission),
            client: facts.map(|facts| facts.client.as_str()),
            // PostgreSQL takes no text with a NUL in it.
            reference: batch.reference.as_deref().filter(|reference| !reference.contains('\0')),
            status: batch.status.word(),
            done: batch.done,
            complete: batch.is_final(),
            incomplete_since: incomplete.then(|| self.now()),
            results: batch.matched_results(),
            document: &documents.representation.json,
            summary: &documents.summary,
            charged: batch.cost.map(|cost| cost.charged),
            refunded: batch.cost.and_then(|cost| cost.refunded),
            submitted_at: batch.submitted_at,
            retrieved_at: batch.retrieved_at,
            next_poll_at: (!batch.done || batch.awaits_missing_results())
                .then(|| later(self.now(), documents.representation.poll_after)),
        }
    }

    /// The vendor does not know the batch: what was read is kept, and an expired batch is told apart.
    ///
    /// A batch that was paid for is not gone before the vendor's retention is over: until then callers get the last known
    /// document. Any other batch is followed until the vendor has not known it several times in a row.
    async fn gone(&self, info: &'static Info, id: &BatchId, failure: &ProviderError) -> Answer {
        let key = (info.slug, id.clone());
        let known = self.inner.store.batch(info.slug, id).await.map_err(|error| store_error(&error))?;
        let mut error = vendor_error(info, failure);
        if let Some(known) = known {
            if known.erased {
                self.publish_erased(&key);
                return Err(Error::batch_erased());
            }
            let days = info.retention_days.unwrap_or(PATIENCE_DAYS);
            let since = known.submitted_at.unwrap_or(known.first_seen_at);
            let expired = self.now() > later(since, Duration::from_hours(24 * u64::from(days)));
            let last = self.last_document(info, id, &known).await;
            let followed = !known.done || known.next_poll_at.is_some();
            let says_expired = failure.kind == ProviderErrorKind::Expired;
            let paid = known.submission.is_some();
            let believed = expired || (!paid && (says_expired || known.misses + 1 >= MISSES));
            if followed && !believed {
                let doublings = u32::try_from(known.misses.min(8)).unwrap_or_default();
                self.miss(info, id, AFTER_FAILURE.saturating_mul(1 << doublings)).await;
            } else {
                let gone = self.inner.store.gone(info.slug, id).await;
                drop(gone.map_err(|error| store_error(&error)));
            }
            if let Some(last) = last {
                if last.done {
                    return Ok(self.publish(&key, last, Freshness::Ended));
                }
                if paid && !expired {
                    return Ok(self.publish(&key, last, Freshness::Passing));
                }
            }
            if expired && info.retention_days.is_some() {
                error = expired_error(info, days);
            }
        }
        self.publish_not_found(&key, error.clone());
        Err(error)
    }

    /// The last document of a batch; of one that was submitted here and never read, what the submission says.
    async fn last_document(
        &self,
        info: &'static Info,
        id: &BatchId,
        known: &StoredBatch,
    ) -> Option<Representation> {
        if let Some(last) = self.last_known(known) {
            return Some(last);
        }
        let facts = self.inner.store.facts(info.slug, id).await.ok().flatten()?;
        let mut batch = info.unread_batch(id, facts.records, self.now());
        put_facts(&mut batch, Some(&facts));
        Documents::of(&batch, self.floor()).ok().map(|documents| documents.representation)
    }

    /// Counts that the vendor did not know a batch, and ends the lease of that poll.
    async fn miss(&self, info: &Info, id: &BatchId, poll_after: Duration) {
        // On failure the lease expires.
        if let Err(error) = self.inner.store.miss(info.slug, id, later(self.now(), poll_after)).await {
            store_error(&error);
        }
    }

    /// Ends the lease of a poll that brought nothing to save. Without `poll_after`, the batch is no longer followed.
    async fn release(&self, info: &Info, id: &BatchId, poll_after: Option<Duration>) {
        let next = poll_after.map(|poll_after| later(self.now(), poll_after));
        // Should this fail, the lease runs out.
        if let Err(error) = self.inner.store.release(info.slug, id, next).await {
            store_error(&error);
        }
    }

    async fn refuse(&self, info: &'static Info, id: &BatchId, failure: &ProviderError, call: &Call) -> Error {
        let error = vendor_error(info, failure);
        tracing::warn!(
            request_id = &*call.request_id,
            provider = info.slug,
            batch_id = id.as_str(),
            code = error.code.info().name,
            provider_http_status = failure.status,
            "reading a batch from the vendor failed: {failure}"
        );
        if failure.not_called {
            // It keeps its place among those that are due. On failure the lease expires.
            let returned = self.inner.store.return_unpolled(info.slug, id).await;
            drop(returned.map_err(|error| store_error(&error)));
        } else {
            self.release(info, id, Some(failure.retry_after.unwrap_or(AFTER_FAILURE).max(self.floor())))
                .await;
        }
        error
    }
}

/// A batch as it is served, and as it is listed: without its results.
pub(super) struct Documents {
    pub(super) representation: Representation,
    pub(super) summary: Vec<u8>,
}

impl Documents {
    /// Renders a batch.
    pub(super) fn of(batch: &Batch, poll_after: Duration) -> Result<Self, Error> {
        let documents = Representation::render(batch, poll_after)
            .and_then(|representation| Ok(Self { representation, summary: Representation::summary(batch)? }));
        documents.map_err(|error| unwritable(batch.provider, &error))
    }
}

/// Puts in what only the gateway knows of a batch that was submitted through it.
pub(super) fn put_facts(batch: &mut Batch, facts: Option<&Facts>) {
    let Some(facts) = facts else {
        // Whatever the vendor says of it, it is no submission of ours.
        batch.submission_id = None;
        return;
    };
    batch.submission_id = Some(facts.submission);
    batch.reference.clone_from(&facts.reference);
    batch.custom = None;
    batch.submitted_at = batch.submitted_at.or(Some(facts.sent_at));
    batch.progress = batch.progress.or(Some(Progress { requested: facts.records, processed: None }));
    // Of later submissions the records are known, and their ids are placed with the results.
    let Some(ids) = &facts.custom_ids else { return };
    for result in batch.results.iter_mut().flatten() {
        let index = result.index.and_then(|index| usize::try_from(index).ok());
        let id = index.and_then(|index| ids.get(index)).cloned().flatten();
        result.custom_id = id.map(Personal);
    }
}

fn expired_error(info: &Info, days: u16) -> Error {
    let detail =
        format!("{} keeps batches for {days} days, and this one was not read to its end.", info.name);
    Error { provider: Some(info.slug), ..Error::new(Code::BatchExpired, detail) }
}

/// A moment after another.
pub(super) fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A defect: what was made of a batch cannot be written as JSON.
pub(super) fn unwritable(slug: &'static str, error: &serde_json::Error) -> Error {
    let request_id = telemetry::current_request_id();
    tracing::error!(request_id = request_id.as_deref(), provider = slug, %error, "a batch cannot be written as JSON");
    Error::internal()
}
