//! The only door to vendors: every byte to or from a vendor passes here.
//!
//! What holds for every call: it ends in bounded time (connecting, an attempt with its body, a pause between
//! two reads and the whole read are limited one by one), it reads a bounded number of bytes, it never follows
//! a redirect, it takes no proxy from the environment unless told so, and neither a URL nor a body nor a key
//! gets into an error or a log. What costs money or changes something is sent once; everybody who calls shares the
//! vendor's quota.

mod retry;
#[cfg(test)]
pub(crate) mod scripted;
mod trace;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{NoProxy, RequestBuilder, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::retry::waiting_time;
pub use self::trace::TraceContext;
use crate::batch::SamePosition;
use crate::clock::Clock;
use crate::quota::{CallClass, Quota};
use crate::settings;
use crate::telemetry::Metrics;

/// What happened at a vendor, for branching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// The vendor does not know the batch, or no longer.
    BatchNotFound,
    /// The vendor refuses our key.
    Credentials,
    /// The vendor account has no credits.
    CreditsExhausted,
    /// The vendor answered with an error.
    Failed,
    /// The vendor answered for another batch.
    Integrity,
    /// The vendor's answer could not be understood.
    Malformed,
    /// The vendor throttles us, or would.
    RateLimited,
    /// The vendor refuses the batch as it is.
    Refused,
    /// No whole answer in time.
    Timeout,
    /// The vendor says that it is out of service.
    Unavailable,
    /// No connection, or it broke.
    Unreachable,
    /// The vendor has no such operation.
    Unsupported,
}

impl ProviderErrorKind {
    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BatchNotFound => "batch_not_found",
            Self::Credentials => "credentials",
            Self::CreditsExhausted => "credits_exhausted",
            Self::Failed => "failed",
            Self::Integrity => "integrity",
            Self::Malformed => "malformed",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unreachable => "unreachable",
            Self::Unsupported => "unsupported",
        }
    }
}

/// What happened at a vendor: a kind to branch on, and a sentence for people that can hold nothing of the
/// vendor's, because it is fixed at compile time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ProviderError {
    /// For branching.
    pub kind: ProviderErrorKind,
    /// For people, and ready to follow the vendor's name and a colon.
    pub detail: &'static str,
    /// The vendor's HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long the vendor asks to wait, at most 15 minutes.
    pub retry_after: Option<Duration>,
    /// Whether another try of the same read may mend it.
    pub retryable: bool,
}

impl ProviderError {
    /// An error that another try does not mend, at least not now.
    #[must_use]
    pub const fn permanent(kind: ProviderErrorKind, detail: &'static str) -> Self {
        Self { kind, detail, status: None, retry_after: None, retryable: false }
    }

    /// An error that another try of the same read may mend.
    #[must_use]
    pub const fn temporary(kind: ProviderErrorKind, detail: &'static str) -> Self {
        Self { kind, detail, status: None, retry_after: None, retryable: true }
    }

    /// The vendor's answer could not be understood.
    #[must_use]
    pub const fn malformed(detail: &'static str) -> Self {
        Self::permanent(ProviderErrorKind::Malformed, detail)
    }

    /// The statuses that mean the same at every vendor; what a vendor means differently it classifies first.
    #[must_use]
    pub fn from_status(reply: &Reply) -> Self {
        use ProviderErrorKind::{Credentials, CreditsExhausted, Failed, RateLimited, Unavailable};
        let error = match reply.status {
            401 | 403 => Self::permanent(Credentials, "the vendor refuses the gateway's key"),
            402 => Self::permanent(CreditsExhausted, NO_CREDITS),
            429 => Self::temporary(RateLimited, "the vendor throttles the gateway"),
            503 => Self::temporary(Unavailable, "the vendor says that it is out of service"),
            500..=599 => Self::temporary(Failed, "the vendor answered with a server error"),
            300..=399 => {
                Self::permanent(Failed, "the vendor answered with a redirect, which is never followed")
            }
            _ => Self::permanent(Failed, "the vendor answered with a status that it does not document"),
        };
        Self { status: Some(reply.status), retry_after: reply.retry_after(), ..error }
    }
}

/// What is said of a [`ProviderErrorKind::CreditsExhausted`], whichever status a vendor uses for it.
pub(crate) const NO_CREDITS: &str = "the vendor account has no credits left";

impl From<SamePosition> for ProviderError {
    fn from(_: SamePosition) -> Self {
        Self::malformed("two results claim the same position")
    }
}

/// How a request failed that is sent once only.
#[derive(Clone, Copy, Debug)]
pub enum SubmitError {
    /// Provably nothing was sent, or the vendor refused before it did anything: nothing was charged.
    NotSent(ProviderError),
    /// It was sent, or may have been, and no usable answer came: the vendor may have charged.
    InDoubt(ProviderError),
}

impl SubmitError {
    /// What happened at the vendor.
    #[must_use]
    pub const fn cause(&self) -> &ProviderError {
        match self {
            Self::NotSent(error) | Self::InDoubt(error) => error,
        }
    }

    /// What is known after a whole reply that `error` was made of. These statuses say that the vendor did nothing: it
    /// refused the request (RFC 9110 15.5, RFC 6585 4), and the vendors document them so. Any other one, a success
    /// that cannot be used included, may have been written by somebody who does not know.
    #[must_use]
    pub const fn from_reply(reply: &Reply, error: ProviderError) -> Self {
        match reply.status {
            400..=403 | 422 | 429 => Self::NotSent(error),
            _ => Self::InDoubt(error),
        }
    }
}

/// For whom a vendor is called and until when.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id of the caller's request; vendors that take one are told it.
    pub request_id: Arc<str>,
    /// The caller's trace.
    pub trace: TraceContext,
    /// When the whole read, with all its steps and retries, must be over.
    pub deadline: Instant,
}

/// A vendor's whole answer.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body, complete.
    pub body: Bytes,
    /// When it was here.
    pub received_at: Timestamp,
    headers: HeaderMap,
}

impl Reply {
    /// An answer as it came.
    #[must_use]
    pub const fn new(status: u16, headers: HeaderMap, body: Bytes, received_at: Timestamp) -> Self {
        Self { status, body, received_at, headers }
    }

    /// Whether the vendor says that it did what it was asked, RFC 9110 15.3.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// A header as text; none if it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long `Retry-After` asks to wait, RFC 9110 10.2.3.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after").and_then(|value| waiting_time(value, self.received_at))
    }
}

/// Without the body: it holds data of persons.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What all vendors share: connections and limits.
#[derive(Clone, Debug)]
pub struct Transport {
    reading: reqwest::Client,
    limits: settings::Http,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Transport {
    /// A transport with the given limits.
    ///
    /// # Errors
    /// When the TLS backend or the proxy cannot be set up.
    pub fn new(limits: settings::Http, clock: Clock, metrics: Arc<Metrics>) -> reqwest::Result<Self> {
        let reading = Self::client(&limits)?.build()?;
        Ok(Self { reading, limits, clock, metrics })
    }

    fn client(limits: &settings::Http) -> reqwest::Result<reqwest::ClientBuilder> {
        let client = reqwest::Client::builder()
            .connect_timeout(limits.connect_timeout)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        Ok(match &limits.proxy {
            settings::Proxy::None => client.no_proxy(),
            settings::Proxy::Environment => client,
            settings::Proxy::Url(url) => {
                // What is on this machine is not reached, and no key sent in plain text, by way of another one.
                let direct = NoProxy::from_string("localhost,127.0.0.0/8,::1");
                client.proxy(reqwest::Proxy::all(url.clone())?.no_proxy(direct))
            }
        })
    }

    /// Connections for requests that change something, of which an attempt has at least `attempt`.
    fn writing(&self, attempt: Duration) -> reqwest::Result<reqwest::Client> {
        // Connecting must have failed well before the attempt is given up: only then is it known that nothing was sent.
        let connect_timeout = self.limits.connect_timeout.min(attempt / 2);
        // Each request on a connection of its own: one that was kept open may have been closed by the vendor meanwhile,
        // and nobody could tell whether the request still arrived.
        Self::client(&self.limits)?.connect_timeout(connect_timeout).pool_max_idle_per_host(0).build()
    }

    /// When a read that begins now must be over.
    #[must_use]
    pub fn read_deadline(&self) -> Instant {
        Instant::now() + self.limits.read_deadline
    }

    /// For how long a submission with all its steps may take.
    #[must_use]
    pub fn submit_time(&self) -> Duration {
        self.limits.submit_deadline
    }
}

/// The way to one vendor.
#[derive(Clone, Debug)]
pub struct VendorClient {
    transport: Transport,
    provider: &'static str,
    base_url: String,
    key_header: HeaderName,
    key: HeaderValue,
    timeout: Duration,
    writing: reqwest::Client,
    /// What an attempt of a request that changes something has at least.
    write_time: Duration,
    quota: Quota,
}

/// Why there is no way to a vendor.
#[derive(Debug, thiserror::Error)]
pub enum VendorClientError {
    /// The key.
    #[error("the key cannot stand in an HTTP header")]
    Key(#[from] reqwest::header::InvalidHeaderValue),
    /// The TLS backend or the proxy.
    #[error("connections cannot be set up: {0}")]
    Connections(#[from] reqwest::Error),
}

/// One reading request; safe to send again.
#[derive(Debug)]
pub struct Read {
    operation: &'static str,
    path_and_query: String,
    headers: Vec<(&'static str, String)>,
}

impl Read {
    /// A GET of `path_and_query` below the vendor's base URL; `operation` names it in metrics.
    #[must_use]
    pub const fn new(operation: &'static str, path_and_query: String) -> Self {
        Self { operation, path_and_query, headers: Vec::new() }
    }

    /// The request with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request that changes something at the vendor: a POST, sent once.
pub struct Write {
    operation: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
}

impl Write {
    /// A POST to `path` below the vendor's base URL; `operation` names it in metrics.
    #[must_use]
    pub const fn new(operation: &'static str, path: String) -> Self {
        Self { operation, path, headers: Vec::new(), body: None }
    }

    /// The request with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The request with a JSON body.
    ///
    /// # Errors
    /// Nothing was sent, when the body cannot be written as JSON, which is a defect.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self, SubmitError> {
        const UNWRITABLE: ProviderError =
            ProviderError::permanent(ProviderErrorKind::Refused, "the request cannot be written as JSON");
        let json = serde_json::to_vec(body).map_err(|_| SubmitError::NotSent(UNWRITABLE))?;
        self.body = Some(json.into());
        Ok(self)
    }
}

/// Without the body: it holds data of persons.
impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("operation", &self.operation)
            .field("path", &self.path)
            .field("bytes", &self.body.as_ref().map_or(0, Bytes::len))
            .finish_non_exhaustive()
    }
}

impl VendorClient {
    /// The way to a vendor at `base_url`, to whom `key` is sent in `key_header` as it stands.
    ///
    /// # Errors
    /// When the key cannot stand in an HTTP header, or the TLS backend or the proxy cannot be set up.
    pub fn new(
        transport: Transport,
        provider: &'static str,
        base_url: &str,
        key_header: &'static str,
        key: &SecretString,
        timeout: Duration,
        quota: Quota,
    ) -> Result<Self, VendorClientError> {
        let mut key = HeaderValue::from_str(key.expose_secret())?;
        key.set_sensitive(true);
        let base_url = base_url.trim_end_matches('/').to_owned();
        // Where the deadlines are hardly longer than an attempt, some time is left for what comes before it.
        let limits = &transport.limits;
        let write_time = timeout.min(limits.submit_deadline.min(limits.read_deadline) * 2 / 3);
        let writing = transport.writing(write_time)?;
        Ok(Self {
            transport,
            provider,
            base_url,
            key_header: HeaderName::from_static(key_header),
            key,
            timeout,
            writing,
            write_time,
            quota,
        })
    }

    /// Sends a reading request, again where that may help and time allows, until `decode` is content.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn read<T>(
        &self,
        call: &Call,
        request: &Read,
        decode: impl Fn(&Reply) -> Result<T, ProviderError> + Send,
    ) -> Result<T, ProviderError> {
        let limits = &self.transport.limits;
        let mut attempt = 1;
        loop {
            self.wait_for_quota(CallClass::Read, call.deadline).await?;
            let began = Instant::now();
            let reply = self.attempt(call, || self.get(call, request)).await;
            let result = reply.map_err(|broken| broken.error).and_then(|reply| decode(&reply));
            self.count(request.operation, result.as_ref().err(), began);
            let error = match result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let wait = error.retry_after.unwrap_or_else(|| retry::backoff(attempt));
            if !error.retryable || attempt >= limits.attempts || Instant::now() + wait >= call.deadline {
                return Err(error);
            }
            self.transport.metrics.provider_retry(self.provider, request.operation);
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Sends a request that changes something, at most once, and only while there is time for a whole attempt: one that
    /// is cut short is in doubt.
    ///
    /// # Errors
    /// Whether the vendor may have acted on it; of a whole reply, [`SubmitError::from_reply`] decides.
    pub async fn write<T>(
        &self,
        call: &Call,
        request: &Write,
        decode: impl FnOnce(&Reply) -> Result<T, ProviderError> + Send,
    ) -> Result<T, SubmitError> {
        let latest = call.deadline.checked_sub(self.write_time).unwrap_or(call.deadline);
        self.wait_for_quota(CallClass::Submit, latest).await.map_err(SubmitError::NotSent)?;
        let began = Instant::now();
        if began > latest {
            return Err(SubmitError::NotSent(NO_TIME_LEFT));
        }
        let result = match self.attempt(call, || self.post(call, request)).await {
            Ok(reply) => decode(&reply).map_err(|error| SubmitError::from_reply(&reply, error)),
            Err(Broken { sent: false, error }) => Err(SubmitError::NotSent(error)),
            Err(Broken { sent: true, error }) => Err(SubmitError::InDoubt(error)),
        };
        self.count(request.operation, result.as_ref().err().map(SubmitError::cause), began);
        result
    }

    /// Waits until the vendor's quota has room for one more call, if that is before the deadline.
    async fn wait_for_quota(&self, class: CallClass, deadline: Instant) -> Result<(), ProviderError> {
        let admitted = self.quota.admit(class, deadline).await;
        admitted.map_err(|wait| ProviderError { retry_after: Some(wait), ..OVER_QUOTA })
    }

    fn count(&self, operation: &'static str, error: Option<&ProviderError>, began: Instant) {
        let kind = error.map(|error| error.kind);
        let now = self.transport.clock.now();
        self.transport.metrics.provider_request(self.provider, operation, kind, began.elapsed(), now);
    }

    fn get(&self, call: &Call, request: &Read) -> RequestBuilder {
        let url = format!("{}{}", self.base_url, request.path_and_query);
        self.with_headers(self.transport.reading.get(url), call, &request.headers)
    }

    fn post(&self, call: &Call, request: &Write) -> RequestBuilder {
        let url = format!("{}{}", self.base_url, request.path);
        let builder = self.with_headers(self.writing.post(url), call, &request.headers);
        match &request.body {
            Some(body) => builder.header(CONTENT_TYPE, "application/json").body(body.clone()),
            // Some servers want to be told that there is none.
            None => builder.header(CONTENT_LENGTH, 0),
        }
    }

    fn with_headers(
        &self,
        builder: RequestBuilder,
        call: &Call,
        headers: &[(&'static str, String)],
    ) -> RequestBuilder {
        let common = builder
            .header(ACCEPT, "application/json")
            .header(&self.key_header, &self.key)
            .header(TraceContext::HEADER, call.trace.child().to_string());
        headers.iter().fold(common, |builder, (name, value)| builder.header(*name, value))
    }

    async fn attempt(&self, call: &Call, request: impl FnOnce() -> RequestBuilder) -> Result<Reply, Broken> {
        let deadline = call.deadline.min(Instant::now() + self.timeout);
        // Nobody knows how far a request came that was given up.
        timeout_at(deadline, self.send(request()))
            .await
            .unwrap_or(Err(Broken { sent: true, error: TOO_SLOW }))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, Broken> {
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let mut response = request.send().await.map_err(|error| Broken {
            // Connecting includes looking up the name and shaking hands (TLS): the request goes out after that.
            sent: !(error.is_connect() || error.is_builder()),
            error: transport_error(&error),
        })?;
        let limit = self.transport.limits.max_body_bytes.0;
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(TOO_LARGE.into());
        }
        let mut body = BytesMut::new();
        let stall = self.transport.limits.stall_timeout;
        while let Some(chunk) =
            timeout(stall, response.chunk()).await.map_err(|_| TOO_SLOW)?.map_err(|e| transport_error(&e))?
        {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(TOO_LARGE.into());
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        Ok(Reply::new(status, headers, body.freeze(), self.transport.clock.now()))
    }
}

/// No whole answer.
struct Broken {
    /// Whether the vendor may have got the request.
    sent: bool,
    error: ProviderError,
}

impl From<ProviderError> for Broken {
    fn from(error: ProviderError) -> Self {
        Self { sent: true, error }
    }
}

const OVER_QUOTA: ProviderError = ProviderError::permanent(
    ProviderErrorKind::RateLimited,
    "the gateway has used up what the vendor allows it for now; the vendor was not called",
);
const TOO_SLOW: ProviderError =
    ProviderError::temporary(ProviderErrorKind::Timeout, "no whole answer came in time");
const NO_TIME_LEFT: ProviderError =
    ProviderError::temporary(ProviderErrorKind::Timeout, "no time was left to send the request");
const TOO_LARGE: ProviderError = ProviderError::malformed("the answer is larger than the gateway accepts");

fn transport_error(error: &reqwest::Error) -> ProviderError {
    use ProviderErrorKind::Unreachable;
    if error.is_timeout() {
        TOO_SLOW
    } else if error.is_connect() {
        ProviderError::temporary(Unreachable, "no connection could be made")
    } else if error.is_body() || error.is_decode() {
        ProviderError::temporary(Unreachable, "the connection broke in the middle of the answer")
    } else {
        ProviderError::temporary(Unreachable, "the connection broke before an answer came")
    }
}

#[cfg(test)]
mod tests;
