//! The use cases: all the rules that hold whichever vendor is behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::batch::{Batch, BatchId, Status, Warning};
use crate::cache::{Answer, Cache, CacheStatus, Key, Representation};
use crate::error::{Code, Error};
use crate::http::{Call, ProviderError, ProviderErrorKind, Transport, VendorClient};
use crate::providers::{Info, Provider, VENDORS};
use crate::quota::Quota;
use crate::settings;
use crate::telemetry::{self, Metrics, RequestContext};

/// For how long an ended but not completed batch is served without asking again.
const ENDED_TTL: Duration = Duration::from_mins(1);
/// For how long the vendor's "unknown batch" is believed.
const NOT_FOUND_TTL: Duration = Duration::from_secs(30);

/// The gateway to all vendors that are on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    providers: BTreeMap<&'static str, Arc<dyn Provider>>,
    cache: Cache,
    running_ttl: Duration,
    flights: Mutex<HashMap<Key, Flight>>,
    transport: Transport,
    runtime: Handle,
    metrics: Arc<Metrics>,
}

/// A read of one batch that is under way; everybody who wants the batch waits for the same one.
type Flight = Shared<BoxFuture<'static, Answer>>;

impl Gateway {
    /// A gateway to the vendors that have a key. Vendor calls run on `runtime`.
    ///
    /// # Errors
    /// The slug of the vendor whose key cannot stand in an HTTP header.
    pub fn new(
        providers: &BTreeMap<String, settings::Provider>,
        running_ttl: Duration,
        cache: Cache,
        transport: Transport,
        runtime: Handle,
        metrics: Arc<Metrics>,
    ) -> Result<Self, &'static str> {
        let mut on = BTreeMap::new();
        for vendor in VENDORS {
            let info = vendor.info;
            let Some(provider) = providers.get(info.slug) else { continue };
            let Some(key) = &provider.api_key else { continue };
            let client = VendorClient::new(
                transport.clone(),
                info.slug,
                provider.base_url.as_ref().map_or(info.base_url, |url| url.0.as_str()),
                info.key_header,
                &SecretString::from(format!("{}{}", info.key_prefix, key.expose_secret())),
                provider.timeout.unwrap_or(settings::Provider::DEFAULT_TIMEOUT),
                Quota::new(crate::store::Store, info.slug, provider.quota.unwrap_or(info.rate), info.counted),
            )
            .map_err(|_| info.slug)?;
            metrics.provider_on(info.slug);
            on.insert(info.slug, (vendor.connect)(client));
        }
        let flights = Mutex::default();
        let inner = Inner { providers: on, cache, running_ttl, flights, transport, runtime, metrics };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether no vendor is on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.providers.is_empty()
    }

    /// The vendor of a slug.
    ///
    /// # Errors
    /// `unknown_provider`, with those that are on.
    pub fn provider(&self, slug: &str) -> Result<&Arc<dyn Provider>, Error> {
        self.inner.providers.get(slug).ok_or_else(|| {
            let on: Vec<_> = self.inner.providers.keys().copied().collect();
            let detail = format!("No such provider is switched on here; there are: {}.", on.join(", "));
            Error::invalid_parameter(Code::UnknownProvider, "provider", detail)
        })
    }

    /// The soonest time after which a batch that is not done can have news.
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        self.inner.running_ttl
    }

    /// Bytes of the batches in memory.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.inner.cache.bytes()
    }

    /// A batch as it stands: from memory, else from the vendor, with one call for all who ask at a time.
    ///
    /// The vendor call belongs to no caller: it goes on when every caller has hung up, and its answer is kept.
    pub async fn get(
        &self,
        provider: &Arc<dyn Provider>,
        id: &BatchId,
        context: &RequestContext,
    ) -> (Answer, CacheStatus) {
        let slug = provider.info().slug;
        let key = (slug, id.clone());
        let boarded = match self.inner.cache.get(&key) {
            Some(answer) => Boarded::Answer(answer),
            None => self.board(provider, key, context),
        };
        let status = match boarded {
            Boarded::Answer(_) => CacheStatus::Hit,
            Boarded::Flight(_, status) => status,
        };
        // Counted before the wait: the caller may hang up.
        self.inner.metrics.batch_read(slug, status);
        match boarded {
            Boarded::Answer(answer) => (answer, status),
            Boarded::Flight(flight, _) => (flight.await, status),
        }
    }

    /// Joins the flight for a batch, or starts one.
    fn board(&self, provider: &Arc<dyn Provider>, key: Key, context: &RequestContext) -> Boarded {
        let (landed, flight) = {
            let mut flights = self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(flight) = flights.get(&key) {
                return Boarded::Flight(flight.clone(), CacheStatus::Collapsed);
            }
            // A flight that landed since the first look has left its answer before it left the map.
            if let Some(answer) = self.inner.cache.get(&key) {
                return Boarded::Answer(answer);
            }
            let (landed, landing) = oneshot::channel();
            // Nothing is sent when the read panics, or when the gateway is shutting down.
            let flight =
                landing.map(|answer| answer.unwrap_or_else(|_| Err(Error::internal()))).boxed().shared();
            flights.insert(key.clone(), flight.clone());
            (landed, flight)
        };
        self.take_off(Arc::clone(provider), key, landed, context);
        Boarded::Flight(flight, CacheStatus::Miss)
    }

    /// Reads a batch in a task of its own, which no caller can interrupt.
    fn take_off(
        &self,
        provider: Arc<dyn Provider>,
        key: Key,
        landed: oneshot::Sender<Answer>,
        context: &RequestContext,
    ) {
        let call = Call {
            request_id: Arc::clone(&context.request_id),
            trace: context.trace,
            deadline: self.inner.transport.read_deadline(),
        };
        let gateway = self.clone();
        let landing = Landing { inner: Arc::clone(&self.inner), key };
        let read = async move {
            let answer = gateway.refresh(&provider, &landing.key.1, &call).await;
            drop(landing);
            // Everybody may have hung up.
            let _ = landed.send(answer);
        };
        self.inner.runtime.spawn(telemetry::on_behalf_of(Arc::clone(&context.request_id), read));
    }

    /// Asks the vendor for a batch and keeps the answer: the only function that moves a batch forward.
    ///
    /// # Errors
    /// What the vendor's failure means to a caller.
    pub async fn refresh(&self, provider: &Arc<dyn Provider>, id: &BatchId, call: &Call) -> Answer {
        let info = provider.info();
        match provider.fetch(id, call).await {
            Ok(batch) => self.keep(info, id, &batch, call),
            Err(error) => Err(self.refuse(info, id, &error, call)),
        }
    }

    fn keep(&self, info: &Info, id: &BatchId, batch: &Batch, call: &Call) -> Answer {
        let request_id = &*call.request_id;
        let key = (info.slug, id.clone());
        // The first word on the end stands: a status never goes backwards.
        if let Some(ended) = self.inner.cache.last_known(&key).filter(|known| known.done && !batch.done) {
            self.inner.metrics.status_backwards(info.slug);
            tracing::warn!(
                request_id,
                provider = info.slug,
                batch_id = id.as_str(),
                "a batch that had ended runs again"
            );
            self.inner.cache.insert(key, Ok(Arc::clone(&ended)), Some(ENDED_TTL));
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
                batch_id = id.as_str(),
                "a batch that has ended lacks results"
            );
        }
        let representation = Representation::render(batch).map(Arc::new).map_err(|error| {
            tracing::error!(request_id, provider = info.slug, %error, "a batch cannot be written as JSON");
            Error::internal()
        })?;
        let ttl = match batch.status {
            _ if batch.is_final() => None,
            Status::Stopped | Status::Failed => Some(ENDED_TTL),
            Status::Queued | Status::Running | Status::Completed | Status::Unknown => {
                Some(self.inner.running_ttl)
            }
        };
        self.inner.cache.insert(key, Ok(Arc::clone(&representation)), ttl);
        Ok(representation)
    }

    fn refuse(&self, info: &Info, id: &BatchId, failure: &ProviderError, call: &Call) -> Error {
        let error = Error::from_provider(info, failure);
        if failure.kind == ProviderErrorKind::BatchNotFound {
            self.inner.cache.insert((info.slug, id.clone()), Err(error.clone()), Some(NOT_FOUND_TTL));
        } else {
            tracing::warn!(
                request_id = &*call.request_id,
                provider = info.slug,
                batch_id = id.as_str(),
                code = error.code.info().name,
                provider_http_status = failure.status,
                "reading a batch from the vendor failed: {failure}"
            );
        }
        error
    }
}

enum Boarded {
    Answer(Answer),
    Flight(Flight, CacheStatus),
}

/// Takes a flight off the map however it ends, a panic included.
struct Landing {
    inner: Arc<Inner>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
