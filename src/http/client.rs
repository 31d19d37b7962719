//! The way to one vendor: sending, and sending again where that may help.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::body::{Body, BodyError, Coding};
use super::call_limiter::CallLimiter;
use super::circuit::CallOutcome;
use super::transport::{self, TOO_SLOW};
use super::{
    Call, CallKind, ProviderError, ProviderErrorKind, Quota, Read, Reply, SubmitError, Transport, Write,
    retry,
};
use crate::telemetry::TraceContext;

/// An answer beyond this is large. All large ones of a vendor together have as much room as one may have, so that a slow
/// vendor holds up nobody else.
const LARGE: u64 = 1024 * 1024;
/// In what room is counted.
const KIBIBYTE: u64 = 1024;

/// The way to one vendor.
#[derive(Clone, Debug)]
pub struct VendorClient {
    transport: Transport,
    provider: &'static str,
    base_url: String,
    key_header: HeaderName,
    key: HeaderValue,
    timeout: Duration,
    /// Shared by all clones, so that a new one is everybody's.
    read_client: Arc<RwLock<reqwest::Client>>,
    write_client: reqwest::Client,
    /// What an attempt has that is not cut short by the deadline of its caller. What changes something is not sent with
    /// less.
    min_attempt_time: Duration,
    /// Room for large answers, in KiB.
    room: Arc<Semaphore>,
    limiter: Arc<CallLimiter>,
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
        let min_attempt_time = timeout.min(limits.submit_deadline.min(limits.read_deadline) * 2 / 3);
        let write_client = transport.write_client(min_attempt_time)?;
        let read_client = Arc::new(RwLock::new(transport.read_client()?));
        let room = Arc::new(Semaphore::new(kibibytes(limits.max_body_bytes.0) as usize));
        let limiter = Arc::new(CallLimiter::new(provider, limits, quota, Arc::clone(&transport.metrics)));
        Ok(Self {
            transport,
            provider,
            base_url,
            key_header: HeaderName::from_static(key_header),
            key,
            timeout,
            read_client,
            write_client,
            min_attempt_time,
            room,
            limiter,
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
        let mut attempt = 1;
        let mut last = None;
        loop {
            // What the vendor itself said last says more than that it is not asked again.
            let pass = match self.limiter.acquire(CallKind::Read, call.deadline).await {
                Ok(pass) => pass,
                Err(refusal) => return Err(last.unwrap_or(refusal)),
            };
            if attempt == 1 {
                self.limiter.count_request();
            } else {
                self.transport.metrics.provider_retry(self.provider, request.operation);
            }
            let began = Instant::now();
            let result = match self.attempt(call, || self.get(call, request)).await {
                Ok(reply) => decode(&reply).map_err(AttemptError::from),
                Err(broken) => Err(broken),
            };
            self.count(request.operation, result.as_ref().err().map(|broken| &broken.error), began);
            let broken = match result {
                Ok(value) => {
                    pass.end(CallOutcome::Success, None);
                    return Ok(value);
                }
                Err(broken) => broken,
            };
            let outcome = broken.outcome();
            let mut error = broken.error;
            error.retry_after = error.retry_after.or(pass.end(outcome, Some(&error)));
            if error.kind == ProviderErrorKind::Integrity {
                self.reset_pool();
            }
            let wait = error.retry_after.unwrap_or_else(|| retry::backoff(attempt));
            let too_late =
                attempt >= self.transport.limits.attempts || Instant::now() + wait >= call.deadline;
            if !error.retryable || too_late || !self.limiter.may_retry() {
                return Err(error);
            }
            last = Some(error);
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Sends a request that changes something, at most once. A first step goes out only while there is time for a whole
    /// attempt, because one that is cut short is in doubt; a later step is in doubt without being sent, too, and goes out
    /// while there is any time.
    ///
    /// # Errors
    /// Whether the vendor may have acted on it; of a whole reply, [`SubmitError::from_reply`] decides.
    pub async fn write<T>(
        &self,
        call: &Call,
        request: &Write,
        decode: impl FnOnce(&Reply) -> Result<T, ProviderError> + Send,
    ) -> Result<T, SubmitError> {
        let pass = if request.is_continuation {
            self.limiter.acquire_continuation(call.deadline).await
        } else {
            let latest = call.deadline.checked_sub(self.min_attempt_time).unwrap_or(call.deadline);
            self.limiter.acquire(CallKind::Write, latest).await
        };
        let pass = pass.map_err(SubmitError::NotSent)?;
        let began = Instant::now();
        let (outcome, result) = match self.attempt(call, || self.post(call, request)).await {
            Ok(reply) => {
                let decoded = decode(&reply);
                let outcome = CallOutcome::of(decoded.as_ref().err());
                (outcome, decoded.map_err(|error| SubmitError::from_reply(&reply, error)))
            }
            Err(broken) => (broken.outcome(), Err(SubmitError::from(broken))),
        };
        let cause = result.as_ref().err().map(SubmitError::cause);
        self.count(request.operation, cause, began);
        let pause = pass.end(outcome, cause);
        result.map_err(|error| error.with_wait(pause))
    }

    /// Why a reading call that must be over at the deadline would not be made now.
    #[must_use]
    pub fn refusal(&self, deadline: Instant) -> Option<ProviderError> {
        self.limiter.refusal(CallKind::Read, deadline)
    }

    fn count(&self, operation: &'static str, error: Option<&ProviderError>, began: Instant) {
        let kind = error.map(|error| error.kind);
        let now = self.transport.clock.now();
        self.transport.metrics.provider_request(self.provider, operation, kind, began.elapsed(), now);
    }

    fn get(&self, call: &Call, request: &Read) -> RequestBuilder {
        let url = format!("{}{}", self.base_url, request.path_and_query);
        let read_client = self.read_client.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.with_headers(read_client.get(url), call, &request.headers)
    }

    /// Uses none of the open connections again: on one of them, answers may have got out of step with requests.
    fn reset_pool(&self) {
        match self.transport.read_client() {
            Ok(fresh) => *self.read_client.write().unwrap_or_else(PoisonError::into_inner) = fresh,
            // It could be set up when the gateway started.
            Err(error) => {
                tracing::error!(provider = self.provider, error = %error.without_url(), "no new connections can be set up; the old ones stay in use");
            }
        }
    }

    fn post(&self, call: &Call, request: &Write) -> RequestBuilder {
        let url = format!("{}{}", self.base_url, request.path);
        let builder = self.with_headers(self.write_client.post(url), call, &request.headers);
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
        let mut common = builder
            .header(ACCEPT, "application/json")
            .header(&self.key_header, &self.key)
            .header(TraceContext::HEADER, call.trace.child().to_string());
        if let Some(state) = call.trace.state() {
            common = common.header(TraceContext::STATE_HEADER, state);
        }
        headers.iter().fold(common, |builder, (name, value)| builder.header(*name, value))
    }

    async fn attempt(
        &self,
        call: &Call,
        request: impl FnOnce() -> RequestBuilder,
    ) -> Result<Reply, AttemptError> {
        let began = Instant::now();
        let deadline = call.deadline.min(began + self.timeout);
        // Nobody knows how far a request came that was given up.
        let reply = timeout_at(deadline, self.send(request(), deadline)).await;
        let reply = reply.unwrap_or_else(|_| Err(AttemptError::from(TOO_SLOW)));
        // An attempt that got only the rest of its caller's time says nothing of the vendor.
        let cut_short = deadline < began + self.min_attempt_time / 2;
        reply.map_err(|broken| AttemptError { vendor_fault: broken.vendor_fault && !cut_short, ..broken })
    }

    async fn send(&self, request: RequestBuilder, deadline: Instant) -> Result<Reply, AttemptError> {
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let mut response = request.send().await.map_err(|error| AttemptError {
            // Connecting includes looking up the name and shaking hands (TLS): the request goes out after that.
            sent: !(error.is_connect() || error.is_builder()),
            ..AttemptError::from(transport::failure(self.provider, &error))
        })?;
        let limit = self.transport.limits.max_body_bytes.0;
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(TOO_LARGE.into());
        }
        let coding = Coding::of(response.headers());
        let mut body = Body::new(coding, limit);
        // All of it at once: answers that took theirs bit by bit could wait for each other.
        let length = response.content_length().filter(|_| coding == Coding::Identity);
        let mut room = Room::new(kibibytes(length.unwrap_or(limit)));
        let received = self.receive(&mut response, &mut body, &mut room, deadline).await?;
        let body = match received.and_then(|()| body.finish()) {
            Ok(body) => body,
            // The status of an error counts, whatever is wrong with the compression of its body.
            Err(_) if coding != Coding::Identity && !response.status().is_success() => Bytes::new(),
            Err(BodyError::TooLarge) => return Err(TOO_LARGE.into()),
            Err(BodyError::Corrupt) => return Err(CORRUPT.into()),
        };
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        Ok(Reply::new(status, headers, body, self.transport.clock.now()).holding(room.permit))
    }

    /// Reads a body to its end, or to where it turns out not to be readable.
    async fn receive(
        &self,
        response: &mut Response,
        body: &mut Body,
        room: &mut Room,
        deadline: Instant,
    ) -> Result<Result<(), BodyError>, AttemptError> {
        let stall = self.transport.limits.stall_timeout;
        while let Some(chunk) = timeout(stall, response.chunk())
            .await
            .map_err(|_| TOO_SLOW)?
            .map_err(|error| transport::failure(self.provider, &error))?
        {
            let mut rest = &*chunk;
            while !rest.is_empty() {
                rest = match body.write(rest) {
                    Ok(rest) => rest,
                    Err(error) => return Ok(Err(error)),
                };
                if body.len() as u64 > LARGE && room.permit.is_none() {
                    let free = Arc::clone(&self.room).acquire_many_owned(room.needed);
                    let free = timeout_at(deadline, free).await.ok().and_then(Result::ok);
                    room.permit = Some(
                        free.ok_or(AttemptError { vendor_fault: false, ..AttemptError::from(NO_ROOM) })?,
                    );
                }
            }
        }
        Ok(Ok(()))
    }
}

/// What a body needs if it is large.
struct Room {
    /// In KiB.
    needed: u32,
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    const fn new(needed: u32) -> Self {
        Self { needed, permit: None }
    }
}

/// No usable answer.
struct AttemptError {
    /// Whether the vendor may have got the request.
    sent: bool,
    /// Whether it is the vendor who did not deliver.
    vendor_fault: bool,
    error: ProviderError,
}

impl AttemptError {
    const fn outcome(&self) -> CallOutcome {
        if self.vendor_fault { CallOutcome::of(Some(&self.error)) } else { CallOutcome::Neutral }
    }
}

impl From<ProviderError> for AttemptError {
    fn from(error: ProviderError) -> Self {
        Self { sent: true, vendor_fault: true, error }
    }
}

impl From<AttemptError> for SubmitError {
    fn from(broken: AttemptError) -> Self {
        if broken.sent { Self::InDoubt(broken.error) } else { Self::NotSent(broken.error) }
    }
}

const NO_ROOM: ProviderError = ProviderError::temporary(
    ProviderErrorKind::Timeout,
    "the gateway had no room in time for one more large answer",
);
const TOO_LARGE: ProviderError = ProviderError::malformed("the answer is larger than the gateway accepts");
const CORRUPT: ProviderError =
    ProviderError::malformed("the answer is not what its Content-Encoding says, or ends too soon");

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(KIBIBYTE)).unwrap_or(u32::MAX)
}
