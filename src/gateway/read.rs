//! Reading a batch: from memory, else from the store, else from the vendor, with one call for all who ask at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jiff::SignedDuration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::follow::INCOMPLETE_POLL_MAX_INTERVAL;
use super::refresh::{AFTER_FAILURE, ENDED_TTL};
use super::unknown::Asking;
use super::vendor_error::vendor_error;
use super::{Gateway, store_error};
use crate::auth::Client;
use crate::batch::{BatchId, Status};
use crate::cache::{Answer, CacheStatus, Key, Representation};
use crate::error::{Code, Error};
use crate::http::{Call, ProviderError};
use crate::providers::Provider;
use crate::store::StoredBatch;
use crate::telemetry::{self, RequestContext};

/// How much longer than the work itself a batch or a submission belongs to who works on it.
pub(super) const LEASE_SLACK: Duration = Duration::from_secs(5);
/// How often the store is asked whether another replica's poll has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For how long another replica's poll is waited for.
const OTHERS_POLL: Duration = Duration::from_secs(2);

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
                break Err(vendor_error(provider.info(), &refusal));
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
        // Out of quota, or asked to wait: what was known last, and the time to come back. A batch that has ended is
        // served whatever the vendor's failure.
        if let Err(error) = &answer
            && let Ok(Some(known)) = self.inner.store.batch(slug, id).await
            && !known.erased
            && (known.done || error.code == Code::ProviderRateLimited)
            && let Some(last) = self.last_known(&known)
        {
            let poll_after = error.retry_after.unwrap_or(AFTER_FAILURE).max(self.floor());
            let last = Representation { poll_after, ..last };
            let last = if known.done { self.insert_ended(key, last, AFTER_FAILURE) } else { Arc::new(last) };
            return (Ok(last), CacheStatus::Store);
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
        let left = match (known.status == Status::Completed.word(), known.next_poll_at) {
            _ if known.complete => None,
            // What may still come is fetched by the follower at its own pace, however many read.
            (true, Some(next)) => {
                Some(positive(next.duration_since(self.now()))?.min(INCOMPLETE_POLL_MAX_INTERVAL))
            }
            (true, None) => None,
            (false, _) => {
                let ttl = if known.done { ENDED_TTL } else { self.inner.running_ttl };
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
    pub(super) fn insert_ended(&self, key: Key, ended: Representation, ttl: Duration) -> Arc<Representation> {
        let ended = Arc::new(ended);
        self.inner.cache.insert(key, Ok(Arc::clone(&ended)), Some(ttl));
        self.inner.ended.notify_waiters();
        ended
    }

    /// The last document that the store holds.
    pub(super) fn last_known(&self, known: &StoredBatch) -> Option<Representation> {
        let wait = known.next_poll_at.map(|next| next.duration_since(self.now()));
        let wait = wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
        Some(Representation::from_json(known.document.clone()?, known.done, wait.max(self.floor())))
    }

    /// For how long a replica keeps the others from polling a batch.
    pub(super) fn lease(&self) -> Duration {
        self.inner.transport.read_deadline().saturating_duration_since(Instant::now()) + LEASE_SLACK
    }
}

/// A time that is left; none once it is over.
fn positive(left: SignedDuration) -> Option<Duration> {
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
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
