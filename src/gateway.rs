//! The use cases: all the rules that hold whichever vendor is behind.
//!
//! Reading ([`Gateway::get`], [`Gateway::wait`]), asking a vendor ([`Gateway::refresh`]), submitting
//! ([`Gateway::submit`]) and following each have a file; what is no more than a question to the store or to a vendor is
//! here.

mod follow;
mod follower;
mod poll;
mod publish;
mod read;
mod refresh;
mod submit;
mod unknown;
mod vendor_error;
mod waiters;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::poll::Polls;
use self::read::SharedFetch;
pub use self::submit::Submitted;
use self::unknown::Unknown;
use self::vendor_error::vendor_error;
use self::waiters::Waiters;
use crate::auth::Client;
use crate::batch::{BatchId, SubmissionId};
use crate::cache::{Answer, Cache, Key};
use crate::clock::Clock;
use crate::error::{Code, Error, InvalidPart};
use crate::http::{
    Call, ProviderError, ProviderErrorKind, Quota, Transport, VendorClient, VendorClientError,
};
use crate::providers::{Info, Provider, VENDORS};
use crate::settings::{self, Settings};
use crate::store::{
    Cursor, Filter, Listed, Resolution, Resolved, Store, StoreError, SubmissionCursor, SubmissionFilter,
    Usage, UsageFilter,
};
use crate::submission::{Submission, SubmissionState};
use crate::telemetry::{self, Metrics, RequestContext, TraceContext};

/// The vendor does not stop a batch that it has.
const NOT_STOPPED: ProviderError =
    ProviderError::permanent(ProviderErrorKind::Failed, "the vendor refuses to stop the batch");
/// How long after a batch was read a webhook may have it polled again, however often the webhook is repeated.
const HINT_PAUSE: Duration = Duration::from_secs(2);

/// The gateway to all vendors that are on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    vendors: BTreeMap<&'static str, VendorHandle>,
    cache: Cache,
    store: Store,
    running_ttl: Duration,
    /// The fetches that readers share.
    in_flight: Mutex<HashMap<Key, SharedFetch>>,
    max_wait: Duration,
    unknown: Unknown,
    /// Wakes the poller before its time.
    poller_wake: Notify,
    /// What must not be cut off by a shutdown: submissions and what the follower has begun.
    work: TaskTracker,
    stopping: CancellationToken,
    transport: Transport,
    clock: Clock,
    runtime: Handle,
    metrics: Arc<Metrics>,
}

/// A vendor that is on.
#[derive(Debug)]
struct VendorHandle {
    provider: Arc<dyn Provider>,
    client: VendorClient,
    quota: Quota,
    /// Callers of this process who wait for the end of its batches.
    waiters: Arc<Waiters>,
    /// The polls of its due batches.
    polls: Polls,
    /// Whoever looks up its submissions in doubt: one list is for all of them.
    settling: Arc<Semaphore>,
    webhook_token: Option<SecretString>,
    /// Where the vendor is told to call; it holds the token.
    webhook_url: Option<SecretString>,
}

/// A vendor and how it is doing, as `GET /providers` shows it.
#[derive(Debug)]
pub struct ProviderState {
    /// What is known of the vendor.
    pub info: &'static Info,
    /// Whether it is on here.
    pub on: bool,
    /// Calls that it allows, in how much time, and how many of them were made.
    pub quota: Option<(crate::rate::Rate, Option<u32>)>,
    /// How the last call ended.
    pub last_call: Option<telemetry::LastCall>,
}

impl Gateway {
    /// A gateway to the vendors that have a key. Vendor calls run on `runtime`.
    ///
    /// # Errors
    /// The slug of the vendor to which there is no way, and why.
    pub fn new(
        settings: &Settings,
        store: Store,
        cache: Cache,
        transport: Transport,
        clock: Clock,
        runtime: Handle,
        metrics: Arc<Metrics>,
    ) -> Result<Self, (&'static str, VendorClientError)> {
        let mut vendors = BTreeMap::new();
        for vendor in VENDORS {
            let info = vendor.info;
            let Some(provider) = settings.providers.get(info.slug) else { continue };
            let Some(key) = &provider.api_key else { continue };
            let rate = provider.quota.unwrap_or(info.rate);
            let quota = Quota::new(store.clone(), info.slug, rate, info.counted);
            let client = VendorClient::new(
                transport.clone(),
                info.slug,
                provider.base_url.as_ref().map_or(info.base_url, |url| url.0.as_str()),
                info.key_header,
                &SecretString::from(format!("{}{}", info.key_prefix, key.expose_secret())),
                provider.timeout.unwrap_or(settings::Provider::DEFAULT_TIMEOUT),
                quota.clone(),
            )
            .map_err(|error| (info.slug, error))?;
            metrics.provider_on(info.slug);
            let webhook_token = provider.webhook_token.clone().filter(|_| info.webhooks);
            let webhook_url =
                webhook_token.as_ref().zip(settings.server.public_url.as_ref()).map(|(token, url)| {
                    let url = url.0.as_str().trim_end_matches('/');
                    SecretString::from(format!("{url}/webhooks/{}/{}", info.slug, token.expose_secret()))
                });
            let provider = (vendor.connect)(client.clone());
            let waiters = Arc::new(Waiters::new(Arc::clone(&metrics)));
            // One look at a time, unless other replicas do all that.
            let settling = Arc::new(Semaphore::new(settings.follow.polls.min(1)));
            vendors.insert(
                info.slug,
                VendorHandle {
                    provider,
                    client,
                    quota,
                    waiters,
                    polls: Polls::new(settings.follow.polls),
                    settling,
                    webhook_token,
                    webhook_url,
                },
            );
        }
        let inner = Inner {
            vendors,
            cache,
            store,
            running_ttl: settings.cache.running_ttl.0,
            in_flight: Mutex::default(),
            max_wait: settings.server.max_wait,
            unknown: Unknown::new(settings.auth.unknown_batches),
            poller_wake: Notify::new(),
            work: TaskTracker::new(),
            stopping: CancellationToken::new(),
            transport,
            clock,
            runtime,
            metrics,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The longest that a caller may wait for the end of a batch.
    #[must_use]
    pub fn max_wait(&self) -> Duration {
        self.inner.max_wait
    }

    /// The vendor of a slug.
    ///
    /// # Errors
    /// `unknown_provider`, with those that are on.
    pub fn provider(&self, slug: &str) -> Result<&Arc<dyn Provider>, Error> {
        self.inner.vendors.get(slug).map(|vendor| &vendor.provider).ok_or_else(|| {
            let on: Vec<_> = self.inner.vendors.keys().copied().collect();
            let detail = format!("No such provider is switched on here; there are: {}.", on.join(", "));
            Error::invalid_parameter(Code::UnknownProvider, "provider", detail)
        })
    }

    /// Slugs of the vendors that are on and that the client may use.
    #[must_use]
    pub fn providers_of(&self, client: &Client) -> Vec<&'static str> {
        self.inner.vendors.keys().copied().filter(|slug| client.require(slug).is_ok()).collect()
    }

    /// Every vendor that the client may use, and how it is doing.
    pub async fn provider_states(&self, client: &Client) -> Vec<ProviderState> {
        let mut states = Vec::new();
        for info in VENDORS.iter().map(|vendor| vendor.info).filter(|info| client.require(info.slug).is_ok())
        {
            let connected = self.inner.vendors.get(info.slug);
            let quota = match connected {
                Some(connected) => Some((connected.quota.rate(), connected.quota.used().await)),
                None => None,
            };
            let last_call = self.inner.metrics.last_call(info.slug);
            states.push(ProviderState { info, on: connected.is_some(), quota, last_call });
        }
        states
    }

    /// Bytes of the batches in memory.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.inner.cache.bytes()
    }

    /// Asks the vendor to stop a batch, and reads what became of it.
    ///
    /// A batch that has ended already is answered as it is.
    ///
    /// # Errors
    /// `not_supported`, `rate_limited`, or what happened at the vendor.
    pub async fn stop(
        &self,
        provider: &Arc<dyn Provider>,
        id: &BatchId,
        client: &Client,
        context: &RequestContext,
    ) -> Answer {
        let info = provider.info();
        if !info.stops {
            let detail = format!("{} cannot stop a batch.", info.name);
            return Err(Error { provider: Some(info.slug), ..Error::new(Code::NotSupported, detail) });
        }
        let asking = self.may_ask(client, info, id).await?;
        let (gateway, provider, id) = (self.clone(), Arc::clone(provider), id.clone());
        let call = self.call(&context.request_id, context.trace.clone());
        self.run(Some(Arc::clone(&context.request_id)), async move {
            let (known, status) = gateway.load(&provider, &id, &call).await;
            if let Some(asking) = asking {
                asking.ended(&known, status);
            }
            let known = known?;
            if known.done {
                return Ok(known);
            }
            let stopped = provider.stop(&id, &call).await;
            let answer = gateway.refresh(&provider, &id, &call).await;
            match stopped {
                Ok(()) => answer,
                // Whatever the vendor said: a batch that has ended needs no stop.
                Err(_) if answer.as_ref().is_ok_and(|batch| batch.done) => answer,
                // "Not found" says nothing of a batch that was just read.
                Err(error) if answer.is_ok() && error.kind == ProviderErrorKind::BatchNotFound => {
                    Err(vendor_error(info, &NOT_STOPPED))
                }
                Err(error) => Err(vendor_error(info, &error)),
            }
        })
        .await
    }

    /// Erases what the gateway holds of a batch, here and in every replica; it is never asked for again.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn erase(&self, info: &Info, id: &BatchId) -> Result<(), Error> {
        let (gateway, slug, id) = (self.clone(), info.slug, id.clone());
        // In a task: a caller that disconnects must not leave it erased in the store and served from memory.
        self.run(telemetry::current_request_id(), async move {
            gateway.inner.store.erase(slug, &id).await.map_err(|error| store_error(&error))?;
            gateway.publish_erased(&(slug, id));
            Ok(())
        })
        .await
    }

    /// Forgets every batch of a vendor that was not submitted through the gateway, also that it was erased: the vendor
    /// is a simulator that was reset. What the store does not do is logged.
    pub async fn forget_read_batches(&self, slug: &'static str) {
        let gateway = self.clone();
        let forgotten = self.run(None, async move {
            let forgotten = gateway.inner.store.forget_read_batches(slug).await;
            gateway.inner.cache.forget_vendor(slug);
            forgotten.map_err(|error| store_error(&error))
        });
        drop(forgotten.await);
    }

    /// Whether the file of an SQLite store is in its place. The database is not asked.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub fn check_store_file(&self) -> Result<(), Error> {
        // The check logs each change; probes would repeat it.
        self.inner.store.check_file().map_err(|_| Error::store_unavailable())
    }

    /// Batches that the store knows, newest first.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Listed>, Error> {
        self.inner.store.list(filter, after, limit).await.map_err(|error| store_error(&error))
    }

    /// What was charged, by day, client and vendor.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn usage(&self, filter: &UsageFilter<'_>) -> Result<Vec<Usage>, Error> {
        self.inner.store.usage(filter).await.map_err(|error| store_error(&error))
    }

    /// A submission.
    ///
    /// # Errors
    /// `submission_not_found`, `store_unavailable`.
    pub async fn submission(&self, id: SubmissionId) -> Result<Submission, Error> {
        let submission = self.inner.store.submission(id).await.map_err(|error| store_error(&error))?;
        submission.ok_or_else(Error::submission_not_found)
    }

    /// Submissions, newest first.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn submissions(
        &self,
        filter: &SubmissionFilter,
        after: Option<SubmissionCursor>,
        limit: u32,
    ) -> Result<Vec<Submission>, Error> {
        self.inner.store.submissions(filter, after, limit).await.map_err(|error| store_error(&error))
    }

    /// Writes down what an operator found out about a submission in doubt.
    ///
    /// # Errors
    /// `submission_not_found`, `submission_not_in_doubt`, `submission_busy`, `store_unavailable`.
    pub async fn resolve(
        &self,
        id: SubmissionId,
        resolution: Resolution,
        by: &str,
    ) -> Result<Submission, Error> {
        let wrong = |detail| Err(Error::invalid_body(vec![InvalidPart::pointer("/batch_id", detail)]));
        if let Resolution::Sent(batch) = &resolution {
            let submission = self.submission(id).await?;
            // A batch that nobody has would stand there for good; a vendor that does not answer proves nothing.
            if submission.state == SubmissionState::InDoubt
                && let Ok(provider) = self.provider(&submission.provider)
                && let (Err(error), _) = self.load(provider, batch, &self.own_call()).await
                && error.code == Code::BatchNotFound
            {
                return wrong("the vendor has no such batch");
            }
        }
        let resolved =
            self.inner.store.resolve(id, resolution, by).await.map_err(|error| store_error(&error))?;
        match resolved {
            Resolved::BatchOfAnother(_) => wrong("is the batch of another submission"),
            Resolved::BeingLookedUp(_) => {
                let detail = "The submission is being looked up at the vendor; try again in some seconds.";
                Err(Error { submission: Some(id), ..Error::new(Code::SubmissionBusy, detail) })
            }
            Resolved::Done(submission) => {
                tracing::warn!(submission_id = %id, by, state = submission.state.word(), "an operator settled a submission");
                // It may be here without what is now known of it; should this read fail, the follower does it.
                if let Some(batch) = &submission.batch_id
                    && let Ok(provider) = self.provider(&submission.provider)
                {
                    self.inner.cache.forget(&(provider.info().slug, batch.clone()));
                    drop(self.refresh(provider, batch, &self.own_call()).await);
                }
                self.inner.poller_wake.notify_one();
                Ok(submission)
            }
            Resolved::NotInDoubt(submission) => {
                let detail = format!(
                    "The submission is `{}`; only one in doubt can be decided on.",
                    submission.state.word()
                );
                Err(Error { submission: Some(id), ..Error::new(Code::SubmissionNotInDoubt, detail) })
            }
            Resolved::Unknown => Err(Error::submission_not_found()),
        }
    }

    /// The vendor that calls the webhook with this token.
    ///
    /// # Errors
    /// `route_not_found` where there is no such vendor, it is off or has another token.
    pub fn vendor_calling(&self, slug: &str, token: &str) -> Result<&Arc<dyn Provider>, Error> {
        let is_its =
            |known: &SecretString| bool::from(known.expose_secret().as_bytes().ct_eq(token.as_bytes()));
        let vendor = self.inner.vendors.get(slug);
        let vendor = vendor.filter(|vendor| vendor.webhook_token.as_ref().is_some_and(is_its));
        vendor.map(|vendor| &vendor.provider).ok_or_else(Error::route_not_found)
    }

    /// Hears what a vendor's webhook says: the batch it speaks of is read soon, and nothing else of it is believed.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn notify(&self, provider: &Arc<dyn Provider>, body: &[u8]) -> Result<(), Error> {
        let slug = provider.info().slug;
        let Some(id) = provider.webhook(body) else {
            tracing::warn!(provider = slug, "a webhook names no batch");
            return Ok(());
        };
        // The vendor was just asked, and does not know it.
        let known = self.inner.cache.get(&(slug, id.clone()));
        if known.is_some_and(|known| known.is_err_and(|error| error.code == Code::BatchNotFound)) {
            return Ok(());
        }
        let store = &self.inner.store;
        // A batch that nobody knows is looked at only while a submission waits for its answer: it may be that one.
        let waited_for = store.may_have_sent(slug).await.map_err(|error| store_error(&error))?;
        let due = store.hint(slug, &id, HINT_PAUSE, waited_for).await;
        if due.map_err(|error| store_error(&error))? {
            if let Some(vendor) = self.inner.vendors.get(slug) {
                vendor.waiters.set_next_poll(&id, self.now());
            }
            self.inner.poller_wake.notify_one();
        }
        Ok(())
    }

    /// Lets go whoever waits for a batch, and polls nothing more.
    pub fn begin_stop(&self) {
        self.inner.stopping.cancel();
    }

    /// Waits until what must not be cut off has come to its end.
    pub async fn finish(&self) {
        self.begin_stop();
        self.inner.work.close();
        self.inner.work.wait().await;
        self.inner.store.close().await;
    }

    fn call(&self, request_id: &Arc<str>, trace: TraceContext) -> Call {
        Call { request_id: Arc::clone(request_id), trace, deadline: self.inner.transport.read_deadline() }
    }

    /// Runs `work` in a task of its own, which no caller can interrupt and no shutdown cuts off.
    async fn run<T: Send + 'static>(
        &self,
        request_id: Option<Arc<str>>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let work = telemetry::on_behalf_of(request_id, work);
        let task = self.inner.work.spawn_on(work, &self.inner.runtime);
        task.await.unwrap_or_else(|_| Err(Error::internal()))
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }
}

/// The store's failure as the caller is told; its cause goes into the log.
fn store_error(error: &StoreError) -> Error {
    tracing::error!(request_id = telemetry::current_request_id().as_deref(), %error, "the store failed");
    Error::store_unavailable()
}

#[cfg(test)]
mod tests;
