//! Reading a batch: from memory, else from the store, else from the vendor, with one call for all who ask at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::unknown::Asking;
use super::{Gateway, store_error};
use crate::auth::Client;
use crate::batch::{Batch, BatchId, Personal, Status, Warning};
use crate::cache::{Answer, CacheStatus, Key, Representation};
use crate::error::{Code, Error};
use crate::http::{Call, ProviderError, ProviderErrorKind};
use crate::providers::{Info, Provider};
use crate::store::{Facts, Saved, SavedBatch, StoreError, StoredBatch};
use crate::submission::SubmissionState;
use crate::telemetry::{self, RequestContext};

/// For how long an ended but not completed batch is served without asking again.
const ENDED_TTL: Duration = Duration::from_mins(1);
/// For how long the vendor's "unknown batch" is believed.
const NOT_FOUND_TTL: Duration = Duration::from_secs(30);
/// How much longer than the work itself a batch or a submission belongs to who works on it.
pub(super) const LEASE_SLACK: Duration = Duration::from_secs(5);
/// How often the store is asked whether another replica's poll has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For how long another replica's poll is waited for.
const OTHERS_POLL: Duration = Duration::from_secs(2);
/// After a poll that failed: how long until the next.
const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// For how long after it was read a batch that its vendor does not know any more is asked for all the same.
const LATELY: Duration = Duration::from_hours(1);
/// A batch that its vendor does not know is followed on for this many days where it names no retention.
const PATIENCE_DAYS: u16 = 30;

/// A read of one batch that is under way; everybody who wants the batch waits for the same one.
///
/// None when the read was cut off: it panicked, or the gateway is shutting down.
pub(super) type Flight = Shared<BoxFuture<'static, Option<(Answer, CacheStatus)>>>;

impl Gateway {
    /// A batch as it stands: from memory, else from the store, else from the vendor.
    ///
    /// The vendor call belongs to no caller: it goes on when every caller has hung up, and its answer is kept.
    pub async fn get(
        &self,
        provider: &Arc<dyn Provider>,
        id: &BatchId,
        client: &Client,
        context: &RequestContext,
    ) -> (Answer, CacheStatus) {
        let slug = provider.info().slug;
        let key = (slug, id.clone());
        let boarded = match self.inner.cache.get(&key) {
            Some(answer) => Boarded::Answer(answer),
            // Whoever joins has nobody asked.
            None if self.is_in_flight(&key) => self.board(provider, key, context, None),
            None => match self.may_ask(client, provider.info(), id).await {
                Ok(asking) => self.board(provider, key, context, asking),
                Err(error) => return (Err(error), CacheStatus::Miss),
            },
        };
        let landed = match boarded {
            Boarded::Answer(answer) => {
                self.inner.metrics.batch_read(slug, CacheStatus::Hit);
                return (answer, CacheStatus::Hit);
            }
            // Whoever started the flight is counted by the flight: the caller may hang up.
            Boarded::Started(flight) => flight.await,
            Boarded::Joined(flight) => {
                self.inner.metrics.batch_read(slug, CacheStatus::Collapsed);
                match flight.await {
                    Some((answer, CacheStatus::Miss)) => Some((answer, CacheStatus::Collapsed)),
                    Some(landed) => Some(landed),
                    // What cut off another caller's read need not cut off this one's.
                    None => match self.board(provider, (slug, id.clone()), context, None) {
                        Boarded::Answer(answer) => Some((answer, CacheStatus::Hit)),
                        Boarded::Started(flight) | Boarded::Joined(flight) => flight.await,
                    },
                }
            }
        };
        landed.unwrap_or_else(|| (Err(Error::internal()), CacheStatus::Miss))
    }

    /// Like [`Gateway::get`], but does not answer before the batch has come to its end or `until` is over.
    ///
    /// Waiting costs no vendor call: the follower asks, and whoever waits is told.
    pub async fn wait(
        &self,
        provider: &Arc<dyn Provider>,
        id: &BatchId,
        client: &Client,
        context: &RequestContext,
        until: Instant,
    ) -> (Answer, CacheStatus) {
        let first = self.get(provider, id, client, context).await;
        if !first.0.as_ref().is_ok_and(|batch| !batch.done) {
            return first;
        }
        let key = (provider.info().slug, id.clone());
        let _awaiting = Awaiting::begin(self, key.clone());
        loop {
            let ended = self.inner.ended.notified();
            tokio::pin!(ended);
            // From here on no end is missed.
            ended.as_mut().enable();
            match self.inner.cache.last_known(&key) {
                Some(Ok(batch)) if !batch.done => {}
                // An error of another time.
                Some(Err(_)) if self.inner.cache.get(&key).is_none() => {}
                None => {}
                Some(answer) => return (answer, CacheStatus::Hit),
            }
            tokio::select! {
                () = ended => {}
                () = self.inner.stopping.cancelled() => break,
                () = sleep_until(until) => break,
            }
        }
        self.get(provider, id, client, context).await
    }

    /// Whether anybody waits for a batch in this process.
    pub(super) fn is_awaited(&self) -> bool {
        !self.inner.awaited.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether anybody waits for this batch.
    pub(super) fn awaits(&self, key: &Key) -> bool {
        self.inner.awaited.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    fn is_in_flight(&self, key: &Key) -> bool {
        self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Joins the flight for a batch, or starts one.
    fn board(
        &self,
        provider: &Arc<dyn Provider>,
        key: Key,
        context: &RequestContext,
        asking: Option<Asking>,
    ) -> Boarded {
        let (landed, flight) = {
            let mut flights = self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(flight) = flights.get(&key) {
                return Boarded::Joined(flight.clone());
            }
            // A flight that landed since the first look has left its answer before it left the map.
            if let Some(answer) = self.inner.cache.get(&key) {
                return Boarded::Answer(answer);
            }
            let (landed, landing) = oneshot::channel();
            // Nothing is sent when the read panics, or when the gateway is shutting down.
            let flight = landing.map(Result::ok).boxed().shared();
            flights.insert(key.clone(), flight.clone());
            (landed, flight)
        };
        self.take_off(Arc::clone(provider), key, landed, context, asking);
        Boarded::Started(flight)
    }

    /// Reads a batch in a task of its own, which no caller can interrupt.
    fn take_off(
        &self,
        provider: Arc<dyn Provider>,
        key: Key,
        landed: oneshot::Sender<(Answer, CacheStatus)>,
        context: &RequestContext,
        asking: Option<Asking>,
    ) {
        let call = self.call(&context.request_id, context.trace);
        let gateway = self.clone();
        let landing = Landing { gateway: self.clone(), key };
        let read = async move {
            let (answer, status) = gateway.load(&provider, &landing.key.1, &call).await;
            gateway.inner.metrics.batch_read(landing.key.0, status);
            if let Some(asking) = asking {
                asking.ended(&answer, status);
            }
            drop(landing);
            // Everybody may have hung up.
            let _ = landed.send((answer, status));
        };
        self.inner.runtime.spawn(telemetry::on_behalf_of(Arc::clone(&context.request_id), read));
    }

    /// Looks into the store, then asks the vendor, unless another replica is just asking.
    pub(super) async fn load(
        &self,
        provider: &Arc<dyn Provider>,
        id: &BatchId,
        call: &Call,
    ) -> (Answer, CacheStatus) {
        let slug = provider.info().slug;
        let key = (slug, id.clone());
        let patient_until = (Instant::now() + OTHERS_POLL).min(call.deadline);
        let answer = loop {
            let known = match self.inner.store.batch(slug, id).await {
                Ok(known) => known,
                // It may have been erased: nobody else can tell.
                Err(error) => return (Err(store_error(&error)), CacheStatus::Miss),
            };
            if let Some(answer) = known.as_ref().and_then(|known| self.serve(&key, known)) {
                return (answer, CacheStatus::Store);
            }
            // Nothing is written down for a call that would not be made.
            if let Some(refusal) = self.refusal(slug, call.deadline) {
                break Err(Error::from_provider(provider.info(), &refusal));
            }
            match self.inner.store.lease(slug, id, self.lease()).await {
                Ok(true) => break self.refresh(provider, id, call).await,
                Ok(false) if Instant::now() < patient_until => sleep(LOOK_EVERY).await,
                // Whoever polls takes long, or died of it: what is known will do, if anything is.
                Ok(false) => match known.and_then(|known| self.last_known(&known)) {
                    Some(known) => return (Ok(Arc::new(known)), CacheStatus::Store),
                    None => break self.refresh(provider, id, call).await,
                },
                Err(error) => {
                    // Reading goes on: a store that is full can still be read.
                    store_error(&error);
                    break self.refresh(provider, id, call).await;
                }
            }
        };
        if let Err(error) = &answer
            && error.code == Code::ProviderRateLimited
            && let Ok(Some(known)) = self.inner.store.batch(slug, id).await
            && !known.erased
            && let Some(known) = self.last_known(&known)
        {
            // Out of quota, or asked to wait: what was known last, and the time to come back.
            let poll_after = error.retry_after.unwrap_or(AFTER_FAILURE);
            return (Ok(Arc::new(Representation { poll_after, ..known })), CacheStatus::Store);
        }
        (answer, CacheStatus::Miss)
    }

    /// Why the vendor would not be asked now.
    pub(super) fn refusal(&self, slug: &'static str, deadline: Instant) -> Option<ProviderError> {
        self.inner.vendors.get(slug).and_then(|vendor| vendor.client.refusal(deadline))
    }

    /// What the store holds of a batch, if that still counts.
    pub(super) fn serve(&self, key: &Key, known: &StoredBatch) -> Option<Answer> {
        if known.erased {
            self.inner.cache.erase(key.clone());
            return Some(Err(Error::batch_erased()));
        }
        let representation = Arc::new(self.last_known(known)?);
        let ttl = match known {
            StoredBatch { complete: true, .. } => None,
            known if known.done && known.status != Status::Completed.word() => Some(ENDED_TTL),
            _ => Some(self.inner.running_ttl),
        };
        let left = match ttl {
            None => None,
            Some(ttl) => {
                let age = self.now().duration_since(known.retrieved_at?);
                // A clock that was set back must not make a passing state last.
                let age = Duration::try_from(age).ok()?;
                Some(ttl.checked_sub(age).filter(|left| !left.is_zero())?)
            }
        };
        self.inner.cache.insert(key.clone(), Ok(Arc::clone(&representation)), left);
        if representation.done {
            self.inner.ended.notify_waiters();
        }
        Some(Ok(representation))
    }

    /// Tells those who wait for a batch that it has come to its end, though a reader would have the vendor asked again.
    pub(super) fn tell_end(&self, key: Key, known: &StoredBatch) {
        if let Some(ended) = self.last_known(known).filter(|last| last.done) {
            self.insert_ended(key, ended, self.inner.running_ttl);
        }
    }

    /// Keeps a batch that has come to its end for a while, and tells those who wait for it.
    fn insert_ended(&self, key: Key, ended: Representation, ttl: Duration) -> Arc<Representation> {
        let ended = Arc::new(ended);
        self.inner.cache.insert(key, Ok(Arc::clone(&ended)), Some(ttl));
        self.inner.ended.notify_waiters();
        ended
    }

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

    /// The last document that the store holds.
    fn last_known(&self, known: &StoredBatch) -> Option<Representation> {
        let wait = known.next_poll_at.map(|next| next.duration_since(self.now()));
        let wait = wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
        Some(Representation::from_json(known.document.clone()?, known.done, wait.max(self.floor())))
    }

    /// For how long a replica keeps the others from polling a batch.
    pub(super) fn lease(&self) -> Duration {
        self.inner.transport.read_deadline().saturating_duration_since(Instant::now()) + LEASE_SLACK
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

enum Boarded {
    Answer(Answer),
    Started(Flight),
    Joined(Flight),
}

/// Takes a flight off the map however it ends, a panic included.
struct Landing {
    gateway: Gateway,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.gateway.inner.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// A caller who waits for the end of a batch.
struct Awaiting {
    gateway: Gateway,
    key: Key,
}

impl Awaiting {
    fn begin(gateway: &Gateway, key: Key) -> Self {
        let awaiting = Self { gateway: gateway.clone(), key };
        awaiting.change(|count| count + 1);
        awaiting
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut awaited = self.gateway.inner.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let count = change(awaited.get(&self.key).copied().unwrap_or_default());
        if count == 0 {
            awaited.remove(&self.key);
        } else {
            HashMap::insert(&mut awaited, self.key.clone(), count);
        }
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.change(|count| count.saturating_sub(1));
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
