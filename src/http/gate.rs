//! Whether a vendor is called now: a vendor that fails, throttles, hangs or refuses the key is spared, and its callers
//! are told at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::budget::RetryBudget;
use super::bulkhead::{Bulkhead, Place};
use super::circuit::{Change, Circuit, Outcome, Policy, Ticket};
use super::pause::{KeyRejection, Pause, Pauses};
use super::{ProviderError, ProviderErrorKind};
use crate::class::{CallClass, PerClass};
use crate::quota::{Quota, Taken};
use crate::settings;
use crate::telemetry::{Metrics, Refusal};

/// How soon a call that found no place had better come back.
const COME_BACK: Duration = Duration::from_secs(1);
/// By how much a circuit's pauses differ at most from their plain length.
const JITTER: f64 = 0.2;

/// What stands before every call to one vendor.
#[derive(Debug)]
pub(super) struct Gate {
    provider: &'static str,
    pauses: Mutex<Pauses>,
    circuits: PerClass<Mutex<Circuit>>,
    bulkhead: Bulkhead,
    retries: Mutex<RetryBudget>,
    quota: Quota,
    credentials_pause: Duration,
    metrics: Arc<Metrics>,
}

/// A call that is being made.
#[derive(Debug)]
pub(super) struct Pass {
    turn: Turn,
    began: Instant,
    _place: Place,
}

/// A call that the circuit lets through. If it is dropped without an end, it says nothing of the vendor.
#[derive(Debug)]
struct Turn {
    gate: Arc<Gate>,
    class: CallClass,
    ticket: Option<Ticket>,
}

impl Gate {
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
            circuits: PerClass { read: circuit(), submit: circuit() },
            bulkhead: Bulkhead::new(limits.max_in_flight, limits.max_waiting, limits.max_wait),
            retries: Mutex::new(retries),
            quota,
            credentials_pause: limits.credentials_pause,
            metrics,
        }
    }

    /// Why a call that must begin before the deadline is not made, if that is known already.
    pub(super) fn refusal(&self, class: CallClass, deadline: Instant) -> Option<ProviderError> {
        if let Err(refusal) = self.pause(class, deadline) {
            return Some(refusal);
        }
        let open = lock(self.circuits.of(class)).refusal(Instant::now());
        match open {
            Some(left) => Some(self.refuse(class, OPEN, left, Refusal::Circuit)),
            None if self.bulkhead.is_full(class) => Some(self.no_place(class)),
            None => None,
        }
    }

    /// Waits until a call may be made, if that is before the deadline and no more than all who wait.
    ///
    /// # Errors
    /// Why it is not made, and when to come back; the vendor was not called.
    pub(super) async fn enter(
        self: &Arc<Self>,
        class: CallClass,
        deadline: Instant,
    ) -> Result<Pass, ProviderError> {
        loop {
            if let Some(refusal) = self.refusal(class, deadline) {
                return Err(refusal);
            }
            self.outlast_pause(class, deadline).await?;
            in_time(deadline)?;
            // Before the quota: of all who find a circuit that may be tried, one goes on and takes a call.
            let turn = self.turn(class)?;
            let taken = self.take(class, deadline).await?;
            let pass = self.pass(turn, deadline).await;
            if let Ok(Some(pass)) = pass {
                return Ok(pass);
            }
            self.give_back(taken).await;
            pass?;
        }
    }

    /// Like [`Gate::enter`], for a later step of a submission that the vendor has begun: left out because others wait or
    /// fail, it would leave in doubt what was paid for.
    pub(super) async fn go_on(self: &Arc<Self>, deadline: Instant) -> Result<Pass, ProviderError> {
        let class = CallClass::Submit;
        self.outlast_pause(class, deadline).await?;
        in_time(deadline)?;
        let ticket = lock(self.circuits.of(class)).admit(Instant::now()).ok();
        let turn = Turn { gate: Arc::clone(self), class, ticket };
        let taken = self.take(class, deadline).await?;
        match self.bulkhead.wait(class, deadline).await {
            Some(place) if in_time(deadline).is_ok() => Ok(self.begin(turn, place)),
            place => {
                drop(place);
                self.give_back(taken).await;
                Err(self.no_place(class))
            }
        }
    }

    /// A place for a call that has its part of the quota, if nothing speaks against it by now: others came to an end
    /// meanwhile. None if the vendor asked for a pause that there is time for.
    async fn pass(
        self: &Arc<Self>,
        mut turn: Turn,
        deadline: Instant,
    ) -> Result<Option<Pass>, ProviderError> {
        let class = turn.class;
        let place = self.bulkhead.enter(class, deadline).await.ok_or_else(|| self.no_place(class))?;
        if self.pause(class, deadline)?.is_some() {
            return Ok(None);
        }
        if !turn.is_current() {
            turn = self.turn(class)?;
        }
        in_time(deadline)?;
        Ok(Some(self.begin(turn, place)))
    }

    fn begin(&self, turn: Turn, place: Place) -> Pass {
        self.metrics.provider_call_began(self.provider);
        Pass { turn, began: Instant::now(), _place: place }
    }

    /// How long the vendor is left alone for now.
    ///
    /// # Errors
    /// The pause is not over before the deadline, or the key has to be changed first.
    fn pause(&self, class: CallClass, deadline: Instant) -> Result<Option<Duration>, ProviderError> {
        let now = Instant::now();
        let pause = lock(&self.pauses).left(class, now);
        match pause {
            Some(Pause::KeyRejected(left)) => Err(self.refuse(class, KEY_REJECTED, left, Refusal::Pause)),
            Some(Pause::Throttled(left)) if now + left >= deadline => {
                Err(self.refuse(class, THROTTLED, left, Refusal::Pause))
            }
            Some(Pause::Throttled(left)) => Ok(Some(left)),
            None => Ok(None),
        }
    }

    async fn outlast_pause(&self, class: CallClass, deadline: Instant) -> Result<(), ProviderError> {
        while let Some(left) = self.pause(class, deadline)? {
            sleep(left).await;
        }
        Ok(())
    }

    /// Takes one call of the quota; none where it is not counted.
    async fn take(&self, class: CallClass, deadline: Instant) -> Result<Option<Taken>, ProviderError> {
        let taken = self.quota.admit(class, deadline).await;
        taken.map_err(|wait| ProviderError { retry_after: Some(wait), ..OVER_QUOTA })
    }

    /// Gives back a call that is not made: else those who wait while a vendor fails use up what is needed when it is back.
    async fn give_back(&self, taken: Option<Taken>) {
        if let Some(taken) = taken {
            self.quota.give_back(taken).await;
        }
    }

    fn turn(self: &Arc<Self>, class: CallClass) -> Result<Turn, ProviderError> {
        let admitted = lock(self.circuits.of(class)).admit(Instant::now());
        match admitted {
            Ok(ticket) => Ok(Turn { gate: Arc::clone(self), class, ticket: Some(ticket) }),
            Err(left) => Err(self.refuse(class, OPEN, left, Refusal::Circuit)),
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

    fn no_place(&self, class: CallClass) -> ProviderError {
        self.refuse(class, NO_PLACE, COME_BACK, Refusal::Bulkhead)
    }

    fn refuse(&self, class: CallClass, error: ProviderError, wait: Duration, why: Refusal) -> ProviderError {
        self.metrics.provider_refusal(self.provider, class, why);
        ProviderError { retry_after: Some(wait), ..error }
    }
}

impl Pass {
    /// Ends the call: what came of it decides about the next ones. Returns how long there are none because the vendor
    /// rejects the key.
    pub(super) fn end(mut self, outcome: Outcome, error: Option<&ProviderError>) -> Option<Duration> {
        self.turn.end(outcome);
        let (gate, now) = (&*self.turn.gate, Instant::now());
        let provider = gate.provider;
        let Some(error) = error else {
            lock(&gate.pauses).accept_key();
            return None;
        };
        match (error.kind, error.status, error.retry_after) {
            // Of a 400 only the text speaks of the key, and it may repeat what a caller wrote.
            (ProviderErrorKind::Credentials, Some(401 | 403), _) => {
                let pause = gate.credentials_pause;
                let (rejection, left) = {
                    let mut pauses = lock(&gate.pauses);
                    (pauses.reject_key(self.began, now, pause), pauses.left(self.turn.class, Instant::now()))
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
                lock(&gate.pauses).throttle(self.turn.class, now, wait);
            }
            _ => {}
        }
        None
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.turn.gate.metrics.provider_call_ended(self.turn.gate.provider);
    }
}

impl Turn {
    fn is_current(&self) -> bool {
        let circuit = lock(self.gate.circuits.of(self.class));
        self.ticket.as_ref().is_some_and(|ticket| circuit.is_current(ticket))
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(ticket) = self.ticket.take() else { return };
        let (gate, class) = (&*self.gate, self.class);
        let jitter = 1.0 - JITTER + 2.0 * JITTER * fastrand::f64();
        let change = lock(gate.circuits.of(class)).end(&ticket, outcome, Instant::now(), jitter);
        let (provider, word) = (gate.provider, class.word());
        match change {
            Some(Change::Opened) => {
                gate.metrics.provider_circuit(provider, class, true);
                tracing::warn!(
                    provider,
                    class = word,
                    "the vendor fails: its circuit is open, and it is called now and then only"
                );
            }
            Some(Change::Closed) => {
                gate.metrics.provider_circuit(provider, class, false);
                tracing::info!(provider, class = word, "the vendor is back: its circuit is closed");
            }
            None => {}
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end(Outcome::Neutral);
    }
}

/// A call that begins too late would be cut off.
fn in_time(deadline: Instant) -> Result<(), ProviderError> {
    if Instant::now() > deadline { Err(NO_TIME_LEFT) } else { Ok(()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const KEY_REJECTED: ProviderError = ProviderError::permanent(
    ProviderErrorKind::Credentials,
    "the vendor rejected the gateway's key a moment ago; the vendor was not called",
);
const THROTTLED: ProviderError = ProviderError::permanent(
    ProviderErrorKind::RateLimited,
    "the vendor asked the gateway to wait; the vendor was not called",
);
const OPEN: ProviderError = ProviderError::permanent(
    ProviderErrorKind::Unavailable,
    "the vendor failed too often lately; the vendor was not called",
);
const NO_PLACE: ProviderError = ProviderError::permanent(
    ProviderErrorKind::Unavailable,
    "the vendor has as many calls of the gateway to answer as it gets; the vendor was not called",
);
pub(super) const NO_TIME_LEFT: ProviderError =
    ProviderError::temporary(ProviderErrorKind::Timeout, "no time was left to send the request");
const OVER_QUOTA: ProviderError = ProviderError::permanent(
    ProviderErrorKind::RateLimited,
    "the gateway has used up what the vendor allows it for now; the vendor was not called",
);
