//! Circuit breaker. Pure: time and jitter are parameters.

use std::time::Duration;

use tokio::time::Instant;

use super::sliding_counter::SlidingCounter;
use super::{ProviderError, ProviderErrorKind};

/// The stretch in which calls are held against each other, and how many it takes.
const FAILURE_WINDOW: Duration = Duration::from_secs(30);
const MIN_SAMPLES: u32 = 10;
/// The part of an outage's age after which it is looked at again: whoever waited through it waits little longer.
const BACKOFF_DIVISOR: u32 = 20;
/// The shortest time from one opening to the next. A vendor that comes and goes is better served by trying again: a
/// circuit that came and went with it would refuse what would have succeeded.
const MIN_REOPEN_INTERVAL: Duration = Duration::from_secs(20);

/// When a circuit opens and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// So many failures in a row open it; 0 leaves it closed for good.
    pub(super) failures: u32,
    /// It stays open at least about so long.
    pub(super) pause: Duration,
    /// It stays open at most so long.
    pub(super) max_pause: Duration,
}

/// What a call says of the vendor as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    /// It is there and knows what it says, be it a refusal.
    Success,
    /// It is not there, or not itself.
    Failure,
    /// Nothing.
    Neutral,
}

impl CallOutcome {
    /// What the end of a call says of the vendor.
    pub(super) const fn of(error: Option<&ProviderError>) -> Self {
        use ProviderErrorKind as Kind;
        let Some(error) = error else { return Self::Success };
        match (error.kind, error.status) {
            (Kind::Timeout | Kind::Unavailable | Kind::Unreachable, _) | (Kind::Failed, Some(500..)) => {
                Self::Failure
            }
            (
                Kind::BatchNotFound
                | Kind::Credentials
                | Kind::CreditsExhausted
                | Kind::Expired
                | Kind::InvalidRequest
                | Kind::Refused
                | Kind::Unsupported,
                _,
            ) => Self::Success,
            // One odd batch, asked for over and over, must not shut out all others; nor is an answer that makes no
            // sense a sign of health. Throttling has a pause of its own.
            (Kind::Failed | Kind::Integrity | Kind::Malformed | Kind::RateLimited, _) => Self::Neutral,
        }
    }
}

/// The right to make one call; its end must be told.
#[derive(Debug)]
pub(super) struct CircuitPermit {
    epoch: u64,
}

/// What became of the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Calls are refused from now on.
    Opened,
    /// Calls are made again.
    Closed,
}

/// The circuit of one vendor and kind of calls.
#[derive(Debug)]
pub(super) struct Circuit {
    policy: Policy,
    state: State,
    /// Counts the changes: the end of a call that began before one says nothing of the time after.
    epoch: u64,
    last_opened: Option<Instant>,
    in_a_row: u32,
    succeeded: SlidingCounter,
    failed: SlidingCounter,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open {
        since: Instant,
        until: Instant,
    },
    /// One call is under way that decides.
    Probing {
        since: Instant,
    },
}

impl Circuit {
    pub(super) const fn new(policy: Policy, now: Instant) -> Self {
        Self {
            policy,
            state: State::Closed,
            epoch: 0,
            last_opened: None,
            in_a_row: 0,
            succeeded: SlidingCounter::new(FAILURE_WINDOW, now),
            failed: SlidingCounter::new(FAILURE_WINDOW, now),
        }
    }

    /// How long a call that is refused now had better wait; none if it would be let through.
    pub(super) fn refusal(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until, .. } => {
                Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
            }
            State::Probing { since } => Some(self.pause(since, now)),
        }
    }

    /// Lets a call through, the only one if the circuit is not closed.
    ///
    /// # Errors
    /// How long the call had better wait.
    pub(super) fn admit(&mut self, now: Instant) -> Result<CircuitPermit, Duration> {
        if let Some(wait) = self.refusal(now) {
            return Err(wait);
        }
        if let State::Open { since, .. } = self.state {
            self.enter(State::Probing { since });
        }
        Ok(CircuitPermit { epoch: self.epoch })
    }

    /// Whether the circuit is as it was when the call was let through.
    pub(super) const fn is_current(&self, permit: &CircuitPermit) -> bool {
        permit.epoch == self.epoch
    }

    /// Takes note of the end of a call; `jitter` is about 1 and keeps replicas from asking all at once.
    pub(super) fn end(
        &mut self,
        permit: &CircuitPermit,
        outcome: CallOutcome,
        now: Instant,
        jitter: f64,
    ) -> Option<Change> {
        if !self.is_current(permit) {
            return None;
        }
        match (self.state, outcome) {
            // Given back: the next call may try.
            (State::Probing { since }, CallOutcome::Neutral) => {
                self.enter(State::Open { since, until: now });
                None
            }
            (State::Probing { since }, CallOutcome::Failure) => {
                self.open(since, now, jitter);
                None
            }
            (State::Probing { .. }, CallOutcome::Success) => {
                self.enter(State::Closed);
                self.in_a_row = 0;
                self.succeeded.clear();
                self.failed.clear();
                Some(Change::Closed)
            }
            (State::Closed, CallOutcome::Success) => {
                self.in_a_row = 0;
                self.succeeded.add(now);
                None
            }
            (State::Closed, CallOutcome::Failure) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.failed.add(now);
                let open = self.is_bad(now);
                if open {
                    self.last_opened = Some(now);
                    self.open(now, now, jitter);
                }
                open.then_some(Change::Opened)
            }
            (State::Closed | State::Open { .. }, _) => None,
        }
    }

    fn is_bad(&mut self, now: Instant) -> bool {
        let (succeeded, failed) = (self.succeeded.sum(now), self.failed.sum(now));
        let mostly_failed = succeeded + failed >= MIN_SAMPLES && succeeded < failed;
        let too_soon = self.last_opened.is_some_and(|last| now < last + MIN_REOPEN_INTERVAL);
        self.policy.failures > 0 && !too_soon && (self.in_a_row >= self.policy.failures || mostly_failed)
    }

    fn open(&mut self, since: Instant, now: Instant, jitter: f64) {
        let pause = self.pause(since, now).mul_f64(jitter).min(self.policy.max_pause);
        self.enter(State::Open { since, until: now + pause });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }

    /// How long an outage that began at `since` is left alone.
    fn pause(&self, since: Instant, now: Instant) -> Duration {
        let age = now.saturating_duration_since(since);
        (age / BACKOFF_DIVISOR).max(self.policy.pause).min(self.policy.max_pause)
    }
}

#[cfg(test)]
mod tests;
