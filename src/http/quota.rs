//! How many calls a vendor allows: scope by the store, so that all replicas together stay within it, and in this
//! process, so that it alone stays within it while the store does not answer.
//!
//! A part of it is kept back for submissions: reads and polls, however many, never use up what a paid order needs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use crate::http::{CallKind, PerKind};
use crate::rate::Rate;
use crate::rate::SlidingWindowLog;
use crate::store::{CallTime, Store};

/// Which calls a vendor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaScope {
    /// All of them.
    AllCalls,
    /// Only those that submit or change something.
    Writes,
}

/// The quota of one vendor; clones share it.
#[derive(Clone, Debug)]
pub struct Quota {
    store: Store,
    provider: &'static str,
    rate: Rate,
    scope: QuotaScope,
    local: Arc<Local>,
}

/// A call that was taken.
#[derive(Debug)]
pub struct QuotaPermit {
    here: Instant,
    /// None while the store does not count.
    in_store: Option<CallTime>,
}

/// What this process knows by itself.
#[derive(Debug, Default)]
struct Local {
    log: Mutex<Log>,
    /// Those that read and those that submit, apart: no submission waits behind a read.
    queues: PerKind<Queue>,
}

/// Those who wait for a call.
#[derive(Debug)]
struct Queue {
    /// One at a time: a crowd that asks the store over and over keeps it from everything else.
    turn: AsyncMutex<()>,
    /// When whoever has the turn may get a call.
    free_at: Mutex<Option<Instant>>,
    /// For those who come while everything is used up.
    queued: Semaphore,
}

impl Default for Queue {
    fn default() -> Self {
        Self { turn: AsyncMutex::default(), free_at: Mutex::default(), queued: Semaphore::new(SEATS) }
    }
}

/// The calls of this process.
#[derive(Debug, Default)]
struct Log {
    calls: SlidingWindowLog,
    store_rests_until: Option<Instant>,
}

/// How much longer than the vendor's own window a call is scope: calls may arrive later than they were scope.
const SLACK: Duration = Duration::from_millis(500);
/// Shortest wait before the quota is asked again.
const MIN_WAIT: Duration = Duration::from_millis(20);
/// So many may wait while everything is used up; more of them would wait in vain, and hold what other requests need.
const SEATS: usize = 64;

impl Quota {
    /// The quota of a vendor that allows `rate` and counts `scope`.
    #[must_use]
    pub fn new(store: Store, provider: &'static str, rate: Rate, scope: QuotaScope) -> Self {
        Self { store, provider, rate, scope, local: Arc::default() }
    }

    /// Takes one call, as soon as one is free and all who asked before have theirs; none where the kind is not scope.
    ///
    /// # Errors
    /// How long it takes until one may be free, where that is not before the deadline.
    pub async fn admit(&self, kind: CallKind, deadline: Instant) -> Result<Option<QuotaPermit>, Duration> {
        if kind == CallKind::Read && self.scope == QuotaScope::Writes {
            return Ok(None);
        }
        let (queue, limit) = (self.local.queues.of(kind), self.limit(kind));
        let _seat = match queue.left() {
            Some(left) => Some(queue.queued.try_acquire().map_err(|_| left)?),
            None => None,
        };
        let Ok(_turn) = timeout_at(deadline, queue.turn.lock()).await else {
            return Err((self.rate.per / self.rate.calls.max(1)).max(MIN_WAIT));
        };
        loop {
            let wait = match self.take(limit).await {
                Ok(taken) => return Ok(Some(taken)),
                Err(wait) => wait.max(MIN_WAIT),
            };
            let free_at = Instant::now() + wait;
            if free_at >= deadline {
                return Err(wait);
            }
            *lock(&queue.free_at) = Some(free_at);
            sleep(wait).await;
        }
    }

    /// Gives back a call that was not made.
    pub async fn give_back(&self, taken: QuotaPermit) {
        self.log().calls.give_back(taken.here);
        if let Some(call) = taken.in_store
            && let Err(error) = self.store.give_back(self.provider, call).await
        {
            tracing::warn!(provider = self.provider, %error, "the store counts a call that was not made");
        }
    }

    /// Takes one call; else says how long it takes until one may be free.
    async fn take(&self, limit: u32) -> Result<QuotaPermit, Duration> {
        let window = self.rate.per + SLACK;
        let here = self.log().calls.take(window, limit)?;
        let asked = Instant::now();
        if self.log().store_rests_until.is_some_and(|until| asked < until) {
            return Ok(QuotaPermit { here, in_store: None });
        }
        match self.store.take(self.provider, window, limit).await {
            Ok(Ok(call)) => Ok(QuotaPermit { here, in_store: Some(call) }),
            Ok(Err(wait)) => {
                self.log().calls.give_back(here);
                Err(wait)
            }
            Err(error) => {
                tracing::warn!(provider = self.provider, %error, "the store cannot count a call");
                let mut log = self.log();
                // A store that hangs would hold up everybody, one after the other.
                log.store_rests_until = Some(Instant::now() + asked.elapsed());
                // The call goes out now, and not when the store was asked.
                log.calls.give_back(here);
                log.calls.take(window, limit).map(|here| QuotaPermit { here, in_store: None })
            }
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.local.log)
    }

    /// The rate that the vendor allows.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// How many of the calls of such a time reads may use; none where reads are not scope.
    #[must_use]
    pub fn reads_in(&self, time: Duration) -> Option<u32> {
        let windows = time.as_secs_f64() / self.rate.per.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` stops at the ends")]
        let reads = (f64::from(self.limit(CallKind::Read)) * windows) as u32;
        (self.scope == QuotaScope::AllCalls).then_some(reads)
    }

    /// How many calls a kind may make in the rate's time.
    fn limit(&self, kind: CallKind) -> u32 {
        kind.share_of(self.rate.calls).max(1)
    }

    /// Calls of the running window; none while the store does not answer.
    pub async fn used(&self) -> Option<u32> {
        self.store.taken(self.provider, self.rate.per).await.ok()
    }
}

impl Queue {
    /// How long it takes until a call may be free, while somebody waits for one.
    fn left(&self) -> Option<Duration> {
        let left = (*lock(&self.free_at))?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
