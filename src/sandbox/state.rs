//! The state of one simulator: its clock, its account and its batches.
//!
//! A batch's progress is computed from the clock whenever somebody looks; nothing runs in the background.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::calls::Calls;
use super::faults::Faults;
use super::{Simulator, webhook};
use crate::clock::Clock;

/// The state of one simulator; clones share it.
#[derive(Clone, Debug)]
pub struct SimulatorState {
    /// The only source of time.
    pub clock: Clock,
    /// When the sandbox was started; ready-made batches are dated relative to it.
    pub opened_at: Timestamp,
    simulator: Simulator,
    batch_duration: SignedDuration,
    inner: Arc<Mutex<Inner>>,
}

/// A batch that was submitted to a simulator.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The vendor's batch id.
    pub id: String,
    /// The body as it was submitted.
    pub body: Arc<Value>,
    /// How many records it has.
    pub records: usize,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When the work began, if it has.
    pub started_at: Option<Timestamp>,
    /// How long the work takes.
    pub takes: SignedDuration,
    /// When it stops before it is complete, and the vendor's reason if there is one.
    pub stops_at: Option<(Timestamp, Option<&'static str>)>,
}

/// Where a batch is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Submitted, not started.
    Submitted,
    /// Under way.
    Running,
    /// All records are done.
    Completed,
    /// Ended before all records were done.
    Stopped,
}

/// How far a batch is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it is.
    pub phase: Phase,
    /// How many records are done: always the first ones.
    pub processed: usize,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Why it was stopped, if the vendor gives a reason.
    pub reason: Option<&'static str>,
}

/// Credits charged and refunded at the end of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// Taken from the account.
    pub charged: u64,
    /// Given back to it.
    pub refunded: u64,
}

/// The state of a rate limit after a call was counted.
#[derive(Clone, Copy, Debug)]
pub struct RateLimitStatus {
    /// Whether the call is within the limit.
    pub allowed: bool,
    /// Calls allowed in a window.
    pub limit: u32,
    /// Calls left in this window.
    pub remaining: u32,
    /// When the next window opens.
    pub resets_at: Timestamp,
}

/// Everything that changes; the admin routes look into it.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) calls: Calls,
    pub(super) faults: Faults,
    pub(super) credits: u64,
    pub(super) charged: u64,
    pub(super) refunded: u64,
    pub(super) rate_limit: u32,
    pub(super) batch_duration: SignedDuration,
    batches: Vec<Batch>,
    by_id: HashMap<String, usize>,
    unbilled: Vec<usize>,
    windows: HashMap<String, Window>,
    live: HashMap<&'static str, Timestamp>,
}

#[derive(Debug)]
struct Window {
    resets_at: Timestamp,
    used: u32,
}

impl SimulatorState {
    pub(super) fn new(simulator: Simulator, clock: Clock, batch_duration: Duration) -> Self {
        let batch_duration = SignedDuration::try_from(batch_duration).unwrap_or(SignedDuration::MAX);
        let inner = Inner {
            calls: Calls::default(),
            faults: Faults::default(),
            credits: simulator.credits,
            charged: 0,
            refunded: 0,
            rate_limit: simulator.rate_limit,
            batch_duration,
            batches: Vec::new(),
            by_id: HashMap::new(),
            unbilled: Vec::new(),
            windows: HashMap::new(),
            live: HashMap::new(),
        };
        Self { opened_at: clock.now(), clock, simulator, batch_duration, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Keeps a new batch of `records` records under a new id.
    #[must_use]
    pub fn submit(&self, body: Value, records: usize, started_at: Option<Timestamp>) -> Batch {
        let mut inner = self.lock();
        let batch = Batch {
            id: Uuid::new_v4().to_string(),
            body: Arc::new(body),
            records,
            submitted_at: self.clock.now(),
            started_at,
            takes: inner.batch_duration,
            stops_at: None,
        };
        let position = inner.batches.len();
        inner.by_id.insert(batch.id.clone(), position);
        inner.unbilled.push(position);
        inner.batches.push(batch.clone());
        batch
    }

    /// Changes a batch if it is there, and if `change` agrees with the state that it finds.
    ///
    /// # Errors
    /// What `change` returned; the batch is then as it was.
    pub fn change<E>(&self, id: &str, change: impl FnOnce(&mut Batch) -> Result<(), E>) -> Result<(), E> {
        let mut inner = self.lock();
        let position = inner.by_id.get(id).copied();
        match position.and_then(|position| inner.batches.get_mut(position)) {
            Some(batch) => change(batch),
            None => Ok(()),
        }
    }

    /// One batch.
    #[must_use]
    pub fn batch(&self, id: &str) -> Option<Batch> {
        let inner = self.lock();
        inner.by_id.get(id).and_then(|position| inner.batches.get(*position)).cloned()
    }

    /// All batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> Vec<Batch> {
        self.lock().batches.clone()
    }

    /// When a ready-made batch was first read, which starts it, and how long it takes.
    #[must_use]
    pub fn first_read(&self, id: &'static str) -> (Timestamp, SignedDuration) {
        let mut inner = self.lock();
        let first_read_at = *inner.live.entry(id).or_insert_with(|| self.clock.now());
        (first_read_at, inner.batch_duration)
    }

    /// Credits on the account now.
    #[must_use]
    pub fn credits(&self) -> u64 {
        self.settled().credits
    }

    /// Takes credits from the account; `false`, and nothing is taken, when there are too few.
    #[must_use]
    pub fn charge(&self, credits: u64) -> bool {
        let mut inner = self.settled();
        let Some(left) = inner.credits.checked_sub(credits) else { return false };
        inner.credits = left;
        inner.charged += credits;
        true
    }

    /// Counts one call against the limit of `who` in fixed windows, the first of which opens with it.
    #[must_use]
    pub fn admit(&self, who: &str, window: SignedDuration) -> RateLimitStatus {
        let now = self.clock.now();
        let mut inner = self.lock();
        let limit = inner.rate_limit;
        let current = inner
            .windows
            .entry(who.to_owned())
            .or_insert_with(|| Window { resets_at: later(now, window), used: 0 });
        if now >= current.resets_at {
            *current = Window { resets_at: later(now, window), used: 0 };
        }
        let allowed = current.used < limit;
        current.used = current.used.saturating_add(1);
        RateLimitStatus {
            allowed,
            limit,
            remaining: limit.saturating_sub(current.used),
            resets_at: current.resets_at,
        }
    }

    /// Posts `body` to `url` once the batch has ended.
    pub fn post_at_end(&self, id: &str, url: String, body: Value) {
        webhook::post_at_end(self.clone(), id.to_owned(), url, body);
    }

    pub(super) fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state after every batch that has ended was billed.
    pub(super) fn settled(&self) -> MutexGuard<'_, Inner> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let now = self.clock.now();
        let mut total = Charges::default();
        inner.unbilled.retain(|position| {
            let Some(batch) = inner.batches.get(*position) else { return false };
            let progress = batch.progress(now);
            if !progress.done() {
                return true;
            }
            let charges = (self.simulator.charges)(batch, &progress);
            total.charged += charges.charged;
            total.refunded += charges.refunded;
            false
        });
        inner.charged += total.charged;
        inner.refunded += total.refunded;
        inner.credits = (inner.credits + total.refunded).saturating_sub(total.charged);
        guard
    }

    /// Back to the start, but for the clock: hanging calls are let go, and answered as they are.
    pub(super) fn reset(&self) {
        let mut inner = self.lock();
        inner.calls = Calls::default();
        inner.faults.clear();
        inner.rate_limit = self.simulator.rate_limit;
        inner.batch_duration = self.batch_duration;
        inner.credits = self.simulator.credits;
        inner.charged = 0;
        inner.refunded = 0;
        inner.batches.clear();
        inner.by_id.clear();
        inner.unbilled.clear();
        inner.windows.clear();
        inner.live.clear();
    }
}

impl Inner {
    pub(super) fn batch_count(&self) -> usize {
        self.batches.len()
    }
}

impl Batch {
    /// How far the batch is at `now`.
    #[must_use]
    pub fn progress(&self, now: Timestamp) -> Progress {
        let stop = self.stops_at.filter(|(at, _)| now >= *at);
        let Some(started_at) = self.started_at else {
            return match stop {
                Some((at, reason)) => Progress::stopped(0, at, reason),
                None => Progress { phase: Phase::Submitted, processed: 0, ended_at: None, reason: None },
            };
        };
        let ends_at = later(started_at, self.takes);
        match stop {
            Some((at, reason)) if at < ends_at => {
                Progress::stopped(self.processed(started_at, at), at, reason)
            }
            _ if now >= ends_at => Progress {
                phase: Phase::Completed,
                processed: self.records,
                ended_at: Some(ends_at),
                reason: None,
            },
            _ => Progress {
                phase: Phase::Running,
                processed: self.processed(started_at, now),
                ended_at: None,
                reason: None,
            },
        }
    }

    fn processed(&self, started_at: Timestamp, now: Timestamp) -> usize {
        let elapsed = now.duration_since(started_at).as_millis().max(0).unsigned_abs();
        let takes = self.takes.as_millis().max(1).unsigned_abs();
        let processed = elapsed.saturating_mul(self.records as u128) / takes;
        usize::try_from(processed).unwrap_or(usize::MAX).min(self.records)
    }
}

impl Progress {
    /// Whether the batch has ended, in one way or the other.
    #[must_use]
    pub fn done(&self) -> bool {
        self.ended_at.is_some()
    }

    fn stopped(processed: usize, at: Timestamp, reason: Option<&'static str>) -> Self {
        Self { phase: Phase::Stopped, processed, ended_at: Some(at), reason }
    }
}

/// A moment after another, at most the end of time.
#[must_use]
pub fn later(moment: Timestamp, by: SignedDuration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}
