//! How many calls a vendor allows: counted by the store, so that all replicas together stay within it, and in this
//! process, so that it alone stays within it while the store does not answer.
//!
//! A part of it is kept back for submissions: reads and polls, however many, never use up what a paid order needs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::store::Store;

/// So many calls in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls.
    pub calls: u32,
    /// Any stretch of this length.
    pub per: Duration,
}

/// Which calls a vendor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All of them.
    Everything,
    /// Only those that submit or change something.
    Submits,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallClass {
    /// Reading a state; it may use four fifths of the quota.
    Read,
    /// Submitting or changing something; it may use all of it.
    Submit,
}

/// The quota of one vendor; clones share it.
#[derive(Clone, Debug)]
pub struct Quota {
    store: Store,
    provider: &'static str,
    rate: Rate,
    counted: Counted,
    local: Arc<Local>,
}

/// What this process knows by itself.
#[derive(Debug, Default)]
struct Local {
    log: Mutex<Log>,
    /// Turns of those that read and of those that submit, apart: no submission waits behind a read.
    reading: tokio::sync::Mutex<()>,
    submitting: tokio::sync::Mutex<()>,
}

/// The calls of this process, the oldest first.
#[derive(Debug, Default)]
struct Log {
    calls: VecDeque<Instant>,
    store_rests_until: Option<Instant>,
}

/// How much longer than the vendor's own window a call is counted: calls may arrive later than they were counted.
const SLACK: Duration = Duration::from_millis(500);
/// Shortest wait before the quota is asked again.
const MIN_WAIT: Duration = Duration::from_millis(20);

impl Quota {
    /// The quota of a vendor that allows `rate` and counts `counted`.
    #[must_use]
    pub fn new(store: Store, provider: &'static str, rate: Rate, counted: Counted) -> Self {
        Self { store, provider, rate, counted, local: Arc::default() }
    }

    /// Takes one call, as soon as one is free and all who asked before have theirs.
    ///
    /// # Errors
    /// How long it takes until one may be free, where that is not before the deadline.
    pub async fn admit(&self, class: CallClass, deadline: Instant) -> Result<(), Duration> {
        if class == CallClass::Read && self.counted == Counted::Submits {
            return Ok(());
        }
        let (turn, limit) = match class {
            CallClass::Read => (&self.local.reading, self.read_limit()),
            CallClass::Submit => (&self.local.submitting, self.rate.calls),
        };
        // One at a time: a crowd that asks the store over and over keeps it from everything else.
        let Ok(_turn) = timeout_at(deadline, turn.lock()).await else {
            return Err((self.rate.per / self.rate.calls.max(1)).max(MIN_WAIT));
        };
        while let Err(wait) = self.take(limit).await {
            let wait = wait.max(MIN_WAIT);
            if Instant::now() + wait >= deadline {
                return Err(wait);
            }
            sleep(wait).await;
        }
        Ok(())
    }

    /// Takes one call; else says how long it takes until one may be free.
    async fn take(&self, limit: u32) -> Result<(), Duration> {
        let window = self.rate.per + SLACK;
        let call = self.log().take(window, limit)?;
        let asked = Instant::now();
        if self.log().store_rests_until.is_some_and(|until| asked < until) {
            return Ok(());
        }
        match self.store.take(self.provider, window, limit).await {
            Ok(None) => Ok(()),
            Ok(Some(wait)) => {
                self.log().give_back(call);
                Err(wait)
            }
            Err(error) => {
                tracing::warn!(provider = self.provider, %error, "the store cannot count a call");
                let mut log = self.log();
                // A store that hangs would hold up everybody, one after the other.
                log.store_rests_until = Some(Instant::now() + asked.elapsed());
                // The call goes out now, and not when the store was asked.
                log.give_back(call);
                log.take(window, limit).map(drop)
            }
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.local.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rate that the vendor allows.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Calls of the running window; none while the store does not answer.
    pub async fn used(&self) -> Option<u32> {
        self.store.taken(self.provider, self.rate.per).await.ok()
    }

    /// Where only submissions are counted, there is nobody to keep a part back from.
    const fn read_limit(&self) -> u32 {
        let kept_back = self.rate.calls.div_ceil(5);
        let limit = self.rate.calls.saturating_sub(kept_back);
        if limit == 0 { 1 } else { limit }
    }
}

impl Log {
    /// Takes one call of a sliding log of the last `window`, of which `limit` may be filled.
    fn take(&mut self, window: Duration, limit: u32) -> Result<Instant, Duration> {
        let now = Instant::now();
        while self.calls.front().is_some_and(|call| *call + window <= now) {
            self.calls.pop_front();
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // The newest call that must leave the window before there is room for one more.
        if let Some(call) = self.calls.len().checked_sub(limit).and_then(|index| self.calls.get(index)) {
            return Err(*call + window - now);
        }
        self.calls.push_back(now);
        Ok(now)
    }

    /// Gives a call back that is not made.
    fn give_back(&mut self, call: Instant) {
        if let Some(index) = self.calls.iter().rposition(|taken| *taken == call) {
            self.calls.remove(index);
        }
    }
}

#[cfg(test)]
mod tests;
