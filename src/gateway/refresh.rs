//! Asking the vendor for a batch, and keeping what it says.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Gateway, store_error};
use crate::batch::{Batch, BatchId, Personal, Status, Warning};
use crate::cache::{Answer, Representation};
use crate::error::{Code, Error};
use crate::http::{Call, ProviderError, ProviderErrorKind};
use crate::providers::{Info, Provider};
use crate::store::{Facts, Saved, SavedBatch, StoreError};
use crate::submission::SubmissionState;
use crate::telemetry;

/// For how long an ended but not completed batch is served without asking again.
pub(super) const ENDED_TTL: Duration = Duration::from_mins(1);
/// For how long the vendor's "unknown batch" is believed.
const NOT_FOUND_TTL: Duration = Duration::from_secs(30);
/// After a poll that failed: how long until the next.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// For how long after it was read a batch that its vendor does not know any more is asked for all the same.
const LATELY: Duration = Duration::from_hours(1);
/// A batch that its vendor does not know is followed on for this many days where it names no retention.
const PATIENCE_DAYS: u16 = 30;

impl Gateway {
    /// Asks the vendor for a batch and keeps the answer: the only function that moves a batch forward.
    ///
    /// # Errors
    /// What the vendor's failure means to a caller.
    pub async fn refresh(&self, provider: &Arc<dyn Provider>, id: &BatchId, call: &Call) -> Answer {
        let info = provider.info();
        match provider.fetch(id, call).await {
            Ok(batch) => self.keep(info, batch, call).await,
            Err(error) if error.kind == ProviderErrorKind::BatchNotFound => self.gone(info, id, &error).await,
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
            self.inner.metrics.status_backwards(info.slug);
            tracing::warn!(
                request_id,
                provider = info.slug,
                batch_id = key.1.as_str(),
                "a batch that had ended runs again"
            );
            self.release(info, &key.1, ENDED_TTL).await;
            self.inner.cache.insert(key, Ok(Arc::clone(&ended)), Some(ENDED_TTL));
            self.inner.ended.notify_waiters();
            return Ok(ended);
        }
        for field in batch.unknown_words() {
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
        let first_seen = known.as_ref().map(|known| known.first_seen_at);
        let poll_after = self.poll_after(&batch, first_seen);
        let documents = Documents::of(&batch, poll_after)?;
        let saved = self.inner.store.save(&self.row(&batch, &documents, facts.as_ref())).await;
        let representation = Arc::new(documents.representation);
        let ttl = match (&saved, batch.status) {
            (Ok(Saved::Kept), _) if batch.is_final() => None,
            (_, Status::Stopped | Status::Failed) => Some(ENDED_TTL),
            _ => Some(self.inner.running_ttl),
        };
        match saved {
            Ok(Saved::Kept) => {}
            Ok(Saved::Erased) => {
                self.inner.cache.erase(key);
                return Err(Error::batch_erased());
            }
            // What the store has is better: somebody else was first, or had more results.
            Ok(Saved::Complete) => {
                let stored = self.inner.store.batch(info.slug, &batch.id).await.ok().flatten();
                if let Some(stored) = stored.as_ref().and_then(|stored| self.last_known(stored)) {
                    return Ok(self.insert_ended(key, stored, self.inner.running_ttl));
                }
            }
            // The caller gets what the vendor said; whoever reads next tries again to write it down.
            Err(error) => drop(store_error(&error)),
        }
        self.inner.cache.insert(key, Ok(Arc::clone(&representation)), ttl);
        if representation.done {
            self.inner.ended.notify_waiters();
        }
        Ok(representation)
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
            let mut batch = batch.clone();
            put_facts(&mut batch, Some(&facts));
            if let Ok(documents) = Documents::of(&batch, self.floor())
                && self
                    .inner
                    .store
                    .accept(submission, &self.row(&batch, &documents, Some(&facts)), &documents.summary)
                    .await?
                    .is_some()
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
            results: batch.results.as_ref().map_or(0, Vec::len) as u64,
            document: &documents.representation.json,
            summary: &documents.summary,
            charged: batch.cost.map(|cost| cost.charged),
            refunded: batch.cost.and_then(|cost| cost.refunded),
            submitted_at: batch.submitted_at,
            retrieved_at: batch.retrieved_at,
            next_poll_at: (!batch.done).then(|| later(self.now(), documents.representation.poll_after)),
        }
    }

    /// The vendor does not know the batch: an end that was read is kept, an expired one is told apart.
    async fn gone(&self, info: &'static Info, id: &BatchId, failure: &ProviderError) -> Answer {
        let key = (info.slug, id.clone());
        let known = self.inner.store.batch(info.slug, id).await.map_err(|error| store_error(&error))?;
        let mut error = Error::from_provider(info, failure);
        if let Some(known) = known {
            if known.erased {
                self.inner.cache.erase(key);
                return Err(Error::batch_erased());
            }
            if let Some(last) = self.last_known(&known).filter(|last| last.done) {
                let gone = self.inner.store.gone(info.slug, id).await;
                drop(gone.map_err(|error| store_error(&error)));
                return Ok(self.insert_ended(key, last, ENDED_TTL));
            }
            let days = info.retention_days.unwrap_or(PATIENCE_DAYS);
            let since = known.submitted_at.unwrap_or(known.first_seen_at);
            let expired = self.now() > later(since, Duration::from_hours(24 * u64::from(days)));
            // It was paid for here; or it was there a moment ago.
            let lately = known.retrieved_at.is_some_and(|at| self.now() < later(at, LATELY));
            if !expired && (known.submission.is_some() || lately) {
                self.release(info, id, AFTER_FAILURE.saturating_mul(1 << known.polls.min(8))).await;
            } else {
                let gone = self.inner.store.gone(info.slug, id).await;
                drop(gone.map_err(|error| store_error(&error)));
            }
            if expired && info.retention_days.is_some() {
                let detail = format!(
                    "{} keeps batches for {days} days, and this one was not read to its end.",
                    info.name
                );
                error = Error { provider: Some(info.slug), ..Error::new(Code::BatchExpired, detail) };
            }
        }
        self.inner.cache.insert(key, Err(error.clone()), Some(NOT_FOUND_TTL));
        Err(error)
    }

    /// Ends the lease of a poll that brought nothing to save.
    async fn release(&self, info: &Info, id: &BatchId, poll_after: Duration) {
        let next = later(self.now(), poll_after);
        // Should this fail, the lease runs out.
        if let Err(error) = self.inner.store.release(info.slug, id, next).await {
            store_error(&error);
        }
    }

    async fn refuse(&self, info: &'static Info, id: &BatchId, failure: &ProviderError, call: &Call) -> Error {
        let error = Error::from_provider(info, failure);
        tracing::warn!(
            request_id = &*call.request_id,
            provider = info.slug,
            batch_id = id.as_str(),
            code = error.code.info().name,
            provider_http_status = failure.status,
            "reading a batch from the vendor failed: {failure}"
        );
        self.release(info, id, failure.retry_after.unwrap_or(AFTER_FAILURE)).await;
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
    let Some(ids) = &facts.custom_ids else { return };
    for result in batch.results.iter_mut().flatten() {
        let id = usize::try_from(result.index).ok().and_then(|index| ids.get(index)).cloned().flatten();
        result.custom_id = id.map(Personal);
    }
}

/// A moment after another.
fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A defect: what was made of a batch cannot be written as JSON.
pub(super) fn unwritable(slug: &'static str, error: &serde_json::Error) -> Error {
    let request_id = telemetry::current_request_id();
    tracing::error!(request_id = request_id.as_deref(), provider = slug, %error, "a batch cannot be written as JSON");
    Error::internal()
}
