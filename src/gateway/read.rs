//! Reading a batch: from memory, else from the store, else from the vendor, with one call for all who ask at a time.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jiff::SignedDuration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::publish::Freshness;
use super::refresh::{AFTER_FAILURE, later};
use super::unknown::Asking;
use super::vendor_error::vendor_error;
use super::{Gateway, store_error};
use crate::auth::Client;
use crate::batch::BatchId;
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

/// A single-flight fetch: concurrent readers of a batch share one vendor call.
///
/// None when the fetch was cut off: it panicked, or the gateway is shutting down.
pub(super) type SharedFetch = Shared<BoxFuture<'static, Option<(Answer, CacheStatus)>>>;

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
        let lookup = match self.inner.cache.get(&key) {
            Some(answer) => Lookup::Cached(answer),
            // A waiter causes no vendor call.
            None if self.is_in_flight(&key) => self.join_or_start(provider, key, context, None),
            None => match self.may_ask(client, provider.info(), id).await {
                Ok(asking) => self.join_or_start(provider, key, context, asking),
                Err(error) => return (Err(error), CacheStatus::Miss),
            },
        };
        let fetched = match lookup {
            Lookup::Cached(answer) => {
                self.inner.metrics.batch_read(slug, CacheStatus::Hit);
                return (answer, CacheStatus::Hit);
            }
            // The fetch counts its leader: that caller may disconnect.
            Lookup::Leader(fetch) => fetch.await,
            Lookup::Waiter(fetch) => {
                self.inner.metrics.batch_read(slug, CacheStatus::Collapsed);
                match fetch.await {
                    Some((answer, CacheStatus::Miss)) => Some((answer, CacheStatus::Collapsed)),
                    Some(fetched) => Some(fetched),
                    // What cut off another caller's fetch need not cut off this one's.
                    None => match self.join_or_start(provider, (slug, id.clone()), context, None) {
                        Lookup::Cached(answer) => Some((answer, CacheStatus::Hit)),
                        Lookup::Leader(fetch) | Lookup::Waiter(fetch) => fetch.await,
                    },
                }
            }
        };
        fetched.unwrap_or_else(|| (Err(Error::internal()), CacheStatus::Miss))
    }

    /// Like [`Gateway::get`], but answers when the batch is done, or when `until` completes.
    ///
    /// Waiting costs no vendor call: the poller fetches the batch, and its end wakes the waiters.
    pub async fn wait(
        &self,
        provider: &Arc<dyn Provider>,
        id: &BatchId,
        client: &Client,
        context: &RequestContext,
        until: impl Future<Output = ()>,
    ) -> (Answer, CacheStatus) {
        let first = self.get(provider, id, client, context).await;
        let next_poll_at = match &first.0 {
            Ok(batch) if !batch.done => later(self.now(), batch.poll_after),
            _ => return first,
        };
        let key = (provider.info().slug, id.clone());
        if let Some(vendor) = self.inner.vendors.get(key.0) {
            let waiter = vendor.waiters.join(id.clone(), next_poll_at);
            let batch_done = waiter.batch_done();
            tokio::pin!(batch_done);
            // From here on no end is missed.
            batch_done.as_mut().enable();
            if let Some(answer) = self.end_in_memory(&key) {
                return (answer, CacheStatus::Hit);
            }
            tokio::select! {
                () = batch_done => {
                    waiter.woken();
                    if let Some(answer) = self.end_in_memory(&key) {
                        return (answer, CacheStatus::Hit);
                    }
                }
                () = self.inner.stopping.cancelled() => {}
                () = until => {}
            }
        }
        self.get(provider, id, client, context).await
    }

    /// What ends a wait, if it is in memory: a batch that is done, or an error that still counts.
    fn end_in_memory(&self, key: &Key) -> Option<Answer> {
        match self.inner.cache.last_known(key)? {
            Ok(batch) => batch.done.then_some(Ok(batch)),
            Err(_) => self.inner.cache.get(key).filter(Result::is_err),
        }
    }

    fn is_in_flight(&self, key: &Key) -> bool {
        self.inner.in_flight.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Joins the fetch of a batch, or starts one.
    fn join_or_start(
        &self,
        provider: &Arc<dyn Provider>,
        key: Key,
        context: &RequestContext,
        asking: Option<Asking>,
    ) -> Lookup {
        let (result_tx, fetch) = {
            let mut in_flight = self.inner.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(fetch) = in_flight.get(&key) {
                return Lookup::Waiter(fetch.clone());
            }
            // A fetch that finished since the first look has left its answer before it left the map.
            if let Some(answer) = self.inner.cache.get(&key) {
                return Lookup::Cached(answer);
            }
            let (result_tx, result_rx) = oneshot::channel();
            // Nothing is sent when the fetch panics, or when the gateway is shutting down.
            let fetch = result_rx.map(Result::ok).boxed().shared();
            in_flight.insert(key.clone(), fetch.clone());
            (result_tx, fetch)
        };
        self.spawn_fetch(Arc::clone(provider), key, result_tx, context, asking);
        Lookup::Leader(fetch)
    }

    /// Fetches a batch in a task of its own, which no caller can interrupt.
    fn spawn_fetch(
        &self,
        provider: Arc<dyn Provider>,
        key: Key,
        result_tx: oneshot::Sender<(Answer, CacheStatus)>,
        context: &RequestContext,
        asking: Option<Asking>,
    ) {
        let call = self.call(&context.request_id, context.trace.clone());
        let gateway = self.clone();
        let in_flight = InFlightGuard { gateway: self.clone(), key };
        let fetch = async move {
            let (answer, status) = gateway.load(&provider, &in_flight.key.1, &call).await;
            gateway.inner.metrics.batch_read(in_flight.key.0, status);
            if let Some(asking) = asking {
                asking.ended(&answer, status);
            }
            drop(in_flight);
            // Every caller may have disconnected.
            let _ = result_tx.send((answer, status));
        };
        self.inner.runtime.spawn(telemetry::on_behalf_of(Arc::clone(&context.request_id), fetch));
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
            let last =
                if known.done { self.publish(&key, last, Freshness::AfterFailure) } else { Arc::new(last) };
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
            self.publish_erased(&key.clone());
            return Some(Err(Error::batch_erased()));
        }
        let document = Arc::new(self.last_known(known)?);
        let now = self.now();
        // Zero once the poll is due.
        let next_poll = known.next_poll_at.map(|next| positive(next.duration_since(now)).unwrap_or_default());
        let freshness = Freshness::of(&known.status, known.done, known.complete, next_poll);
        let ttl = self.ttl(freshness);
        let left = match freshness {
            Freshness::Final | Freshness::UntilPoll(_) => ttl,
            _ => {
                // A clock that was set back must not make a passing state last.
                let age = Duration::try_from(now.duration_since(known.retrieved_at?)).ok()?;
                Some(ttl?.saturating_sub(age))
            }
        };
        if left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        Some(Ok(self.publish_for(key, document, left)))
    }

    /// Publishes that a batch is done for those who wait for it, though a reader would have the vendor asked again.
    pub(super) fn publish_done(&self, key: &Key, known: &StoredBatch) {
        if let Some(done) = self.last_known(known).filter(|last| last.done) {
            self.publish(key, done, Freshness::Passing);
        }
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

/// How a read gets its answer.
enum Lookup {
    /// From memory.
    Cached(Answer),
    /// From the fetch that it started.
    Leader(SharedFetch),
    /// From a fetch that another read started.
    Waiter(SharedFetch),
}

/// Removes a fetch from the map however it ends, a panic included.
struct InFlightGuard {
    gateway: Gateway,
    key: Key,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.gateway.inner.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
