//! Admission of vendor calls: backoff, circuit breaker, quota and concurrency limit. Calls to an unhealthy vendor fail
//! fast.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::budget::RetryBudget;
use super::circuit::{CallOutcome, Change, Circuit, CircuitPermit, Policy};
use super::concurrency::{ConcurrencyLimit, ConcurrencyPermit};
use super::pause::{KeyRejection, Pause, Pauses};
use super::quota::{Quota, QuotaPermit};
use super::{ProviderError, ProviderErrorKind};
use crate::http::{CallKind, PerKind};
use crate::settings;
use crate::telemetry::{Metrics, Refusal};

/// `Retry-After` of a call that found no permit.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// By how much a circuit's pauses differ at most from their plain length.
const JITTER: f64 = 0.2;

/// Admits the calls to one vendor.
#[derive(Debug)]
pub(super) struct CallLimiter {
    provider: &'static str,
    pauses: Mutex<Pauses>,
    circuits: PerKind<Mutex<Circuit>>,
    concurrency: ConcurrencyLimit,
    retries: Mutex<RetryBudget>,
    quota: Quota,
    credentials_pause: Duration,
    metrics: Arc<Metrics>,
}

/// The right to make a call. Dropping it ends the call.
#[derive(Debug)]
pub(super) struct CallPermit {
    guard: CircuitGuard,
    began: Instant,
    _permit: ConcurrencyPermit,
}

/// A call that the circuit admitted. Dropping it without an outcome does not change the circuit.
#[derive(Debug)]
struct CircuitGuard {
    limiter: Arc<CallLimiter>,
    kind: CallKind,
    permit: Option<CircuitPermit>,
}

impl CallLimiter {
    pub(super) fn new(
        provider: &'static str,
        limits: &settings::Http,
        quota: Quota,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = Instant::now();
        let policy = Policy {
            failures: limits.circuit_failures,
            pause: limits.circuit_pause,
            max_pause: limits.circuit_max_pause,
        };
        let circuit = || Mutex::new(Circuit::new(policy, now));
        let retries = RetryBudget::new(limits.retry_budget, limits.attempts.saturating_sub(1), now);
        Self {
            provider,
            pauses: Mutex::default(),
            circuits: PerKind { read: circuit(), write: circuit() },
            concurrency: ConcurrencyLimit::new(limits.max_in_flight, limits.max_waiting, limits.max_wait),
            retries: Mutex::new(retries),
            quota,
            credentials_pause: limits.credentials_pause,
            metrics,
        }
    }

    /// Why a call that must begin before the deadline is not made, if that is known already.
    pub(super) fn refusal(&self, kind: CallKind, deadline: Instant) -> Option<ProviderError> {
        if let Err(refusal) = self.pause(kind, deadline) {
            return Some(refusal);
        }
        let open = lock(self.circuits.of(kind)).refusal(Instant::now());
        match open {
            Some(left) => Some(self.refuse(kind, OPEN, left, Refusal::Circuit)),
            None if self.concurrency.is_full(kind) => Some(self.busy(kind)),
            None => None,
        }
    }

    /// Waits until a call may be made, if that is before the deadline and no more than all who wait.
    ///
    /// # Errors
    /// Why it is not made, and when to come back; the vendor was not called.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        kind: CallKind,
        deadline: Instant,
    ) -> Result<CallPermit, ProviderError> {
        loop {
            if let Some(refusal) = self.refusal(kind, deadline) {
                return Err(refusal);
            }
            self.wait_for_backoff(kind, deadline).await?;
            in_time(deadline)?;
            // Before the quota: of all who find a circuit that may be tried, one goes on and takes a call.
            let guard = self.guard(kind)?;
            let taken = self.take(kind, deadline).await?;
            let pass = self.pass(guard, deadline).await;
            if let Ok(Some(pass)) = pass {
                return Ok(pass);
            }
            self.give_back(taken).await;
            pass?;
        }
    }

    /// Like [`CallLimiter::enter`], for a later step of a submission that the vendor has begun: left out because others wait or
    /// fail, it would leave in doubt what was paid for.
    pub(super) async fn acquire_continuation(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<CallPermit, ProviderError> {
        let kind = CallKind::Write;
        self.wait_for_backoff(kind, deadline).await?;
        in_time(deadline)?;
        let permit = lock(self.circuits.of(kind)).admit(Instant::now()).ok();
        let guard = CircuitGuard { limiter: Arc::clone(self), kind, permit };
        let taken = self.take(kind, deadline).await?;
        match self.concurrency.wait(kind, deadline).await {
            Some(permit) if in_time(deadline).is_ok() => Ok(self.begin(guard, permit)),
            permit => {
                drop(permit);
                self.give_back(taken).await;
                Err(self.busy(kind))
            }
        }
    }

    /// A permit for a call that has its part of the quota, if nothing speaks against it by now: others came to an end
    /// meanwhile. None if the vendor asked for a pause that there is time for.
    async fn pass(
        self: &Arc<Self>,
        mut guard: CircuitGuard,
        deadline: Instant,
    ) -> Result<Option<CallPermit>, ProviderError> {
        let kind = guard.kind;
        let permit = self.concurrency.acquire(kind, deadline).await.ok_or_else(|| self.busy(kind))?;
        if self.pause(kind, deadline)?.is_some() {
            return Ok(None);
        }
        if !guard.is_current() {
            guard = self.guard(kind)?;
        }
        in_time(deadline)?;
        Ok(Some(self.begin(guard, permit)))
    }

    fn begin(&self, guard: CircuitGuard, permit: ConcurrencyPermit) -> CallPermit {
        self.metrics.provider_call_began(self.provider);
        CallPermit { guard, began: Instant::now(), _permit: permit }
    }

    /// How long the vendor is left alone for now.
    ///
    /// # Errors
    /// The pause is not over before the deadline, or the key has to be changed first.
    fn pause(&self, kind: CallKind, deadline: Instant) -> Result<Option<Duration>, ProviderError> {
        let now = Instant::now();
        let pause = lock(&self.pauses).left(kind, now);
        match pause {
            Some(Pause::KeyRejected(left)) => Err(self.refuse(kind, KEY_REJECTED, left, Refusal::Backoff)),
            Some(Pause::Throttled(left)) if now + left >= deadline => {
                Err(self.refuse(kind, THROTTLED, left, Refusal::Backoff))
            }
            Some(Pause::Throttled(left)) => Ok(Some(left)),
            None => Ok(None),
        }
    }

    async fn wait_for_backoff(&self, kind: CallKind, deadline: Instant) -> Result<(), ProviderError> {
        while let Some(left) = self.pause(kind, deadline)? {
            sleep(left).await;
        }
        Ok(())
    }

    /// Takes one call of the quota; none where it is not counted.
    async fn take(&self, kind: CallKind, deadline: Instant) -> Result<Option<QuotaPermit>, ProviderError> {
        let taken = self.quota.admit(kind, deadline).await;
        taken.map_err(|wait| ProviderError { retry_after: Some(wait), ..OVER_QUOTA })
    }

    /// Gives back a call that is not made: else those who wait while a vendor fails use up what is needed when it is back.
    async fn give_back(&self, taken: Option<QuotaPermit>) {
        if let Some(taken) = taken {
            self.quota.give_back(taken).await;
        }
    }

    fn guard(self: &Arc<Self>, kind: CallKind) -> Result<CircuitGuard, ProviderError> {
        let admitted = lock(self.circuits.of(kind)).admit(Instant::now());
        match admitted {
            Ok(permit) => Ok(CircuitGuard { limiter: Arc::clone(self), kind, permit: Some(permit) }),
            Err(left) => Err(self.refuse(kind, OPEN, left, Refusal::Circuit)),
        }
    }

    /// A request is about to be sent for the first time.
    pub(super) fn count_request(&self) {
        lock(&self.retries).request(Instant::now());
    }

    /// Takes one repetition, if the vendor is not asked to bear too many already.
    pub(super) fn may_retry(&self) -> bool {
        lock(&self.retries).retry(Instant::now())
    }

    fn busy(&self, kind: CallKind) -> ProviderError {
        self.refuse(kind, BUSY, BUSY_RETRY_AFTER, Refusal::Concurrency)
    }

    fn refuse(&self, kind: CallKind, error: ProviderError, wait: Duration, why: Refusal) -> ProviderError {
        self.metrics.provider_call_rejected(self.provider, kind, why);
        ProviderError { retry_after: Some(wait), ..error }
    }
}

impl CallPermit {
    /// Ends the call: what came of it decides about the next ones. Returns how long there are none because the vendor
    /// rejects the key.
    pub(super) fn end(mut self, outcome: CallOutcome, error: Option<&ProviderError>) -> Option<Duration> {
        self.guard.end(outcome);
        let (limiter, now) = (&*self.guard.limiter, Instant::now());
        let provider = limiter.provider;
        let Some(error) = error else {
            lock(&limiter.pauses).accept_key();
            return None;
        };
        match (error.kind, error.status, error.retry_after) {
            // Of a 400 only the text speaks of the key, and it may repeat what a caller wrote.
            (ProviderErrorKind::Credentials, Some(401 | 403), _) => {
                let pause = limiter.credentials_pause;
                let (rejection, left) = {
                    let mut pauses = lock(&limiter.pauses);
                    (pauses.reject_key(self.began, now, pause), pauses.left(self.guard.kind, Instant::now()))
                };
                if rejection == KeyRejection::Confirmed {
                    tracing::error!(
                        provider,
                        provider_http_status = error.status,
                        "the vendor rejects the gateway's key: check providers.{provider}.api_key; the vendor is not called for {pause:?}"
                    );
                }
                return match left {
                    Some(Pause::KeyRejected(left)) => Some(left),
                    Some(Pause::Throttled(_)) | None => None,
                };
            }
            (ProviderErrorKind::InvalidRequest, ..) => tracing::error!(
                provider,
                provider_http_status = error.status,
                "the vendor rejects the form of a request, which is a defect of the gateway: {error}"
            ),
            (ProviderErrorKind::RateLimited, _, Some(wait)) => {
                lock(&limiter.pauses).throttle(self.guard.kind, now, wait);
            }
            _ => {}
        }
        None
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.guard.limiter.metrics.provider_call_ended(self.guard.limiter.provider);
    }
}

impl CircuitGuard {
    fn is_current(&self) -> bool {
        let circuit = lock(self.limiter.circuits.of(self.kind));
        self.permit.as_ref().is_some_and(|permit| circuit.is_current(permit))
    }

    fn end(&mut self, outcome: CallOutcome) {
        let Some(permit) = self.permit.take() else { return };
        let (limiter, kind) = (&*self.limiter, self.kind);
        let jitter = 1.0 - JITTER + 2.0 * JITTER * fastrand::f64();
        let change = lock(limiter.circuits.of(kind)).end(&permit, outcome, Instant::now(), jitter);
        let (provider, word) = (limiter.provider, kind.word());
        match change {
            Some(Change::Opened) => {
                limiter.metrics.provider_circuit(provider, kind, true);
                tracing::warn!(provider, kind = word, "circuit opened; only probe requests are sent");
            }
            Some(Change::Closed) => {
                limiter.metrics.provider_circuit(provider, kind, false);
                tracing::info!(provider, kind = word, "circuit closed");
            }
            None => {}
        }
    }
}

impl Drop for CircuitGuard {
    fn drop(&mut self) {
        self.end(CallOutcome::Neutral);
    }
}

/// A call that begins too late would be cut off.
fn in_time(deadline: Instant) -> Result<(), ProviderError> {
    if Instant::now() > deadline { Err(NO_TIME_LEFT) } else { Ok(()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const KEY_REJECTED: ProviderError = ProviderError::not_called(
    ProviderErrorKind::Credentials,
    "the vendor rejected the gateway's key a moment ago; the vendor was not called",
);
const THROTTLED: ProviderError = ProviderError::not_called(
    ProviderErrorKind::RateLimited,
    "the vendor asked the gateway to wait; the vendor was not called",
);
const OPEN: ProviderError = ProviderError::not_called(
    ProviderErrorKind::Unavailable,
    "the vendor failed too often lately; the vendor was not called",
);
const BUSY: ProviderError = ProviderError::not_called(
    ProviderErrorKind::Unavailable,
    "the vendor has as many calls of the gateway to answer as it gets; the vendor was not called",
);
pub(super) const NO_TIME_LEFT: ProviderError = ProviderError {
    retryable: true,
    ..ProviderError::not_called(ProviderErrorKind::Timeout, "no time was left to send the request")
};
const OVER_QUOTA: ProviderError = ProviderError::not_called(
    ProviderErrorKind::RateLimited,
    "the gateway has used up what the vendor allows it for now; the vendor was not called",
);
