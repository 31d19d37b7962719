//! How many calls a vendor allows: counted by the store, so that all replicas together stay within it, and in this
//! process, so that it alone stays within it while the store does not answer.
//!
//! A part of it is kept back for submissions: reads and polls, however many, never use up what a paid order needs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::store::{CallTime, Store};
use crate::window::Window;

/// So many calls in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls.
    pub calls: u32,
    /// Any stretch of this length.
    pub per: Duration,
}

/// As it stands in the settings.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.calls, self.per)
    }
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

impl CallClass {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
        }
    }

    /// How much of what a vendor has for all calls those of this class may use: reads leave some to submits.
    #[must_use]
    pub const fn share_of(self, all: u32) -> u32 {
        match self {
            Self::Submit => all,
            Self::Read if all <= 1 => all,
            Self::Read => all - all.div_ceil(5),
        }
    }
}

/// Something that each class has for itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerClass<T> {
    /// That of reads.
    pub read: T,
    /// That of submits.
    pub submit: T,
}

impl<T> PerClass<T> {
    /// What the class has.
    pub const fn of(&self, class: CallClass) -> &T {
        match class {
            CallClass::Read => &self.read,
            CallClass::Submit => &self.submit,
        }
    }

    /// What the class has, to be changed.
    pub const fn of_mut(&mut self, class: CallClass) -> &mut T {
        match class {
            CallClass::Read => &mut self.read,
            CallClass::Submit => &mut self.submit,
        }
    }
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

/// A call that was taken.
#[derive(Debug)]
pub struct Taken {
    here: Instant,
    /// None while the store does not count.
    in_store: Option<CallTime>,
}

/// What this process knows by itself.
#[derive(Debug, Default)]
struct Local {
    log: Mutex<Log>,
    /// Turns of those that read and of those that submit, apart: no submission waits behind a read.
    turns: PerClass<tokio::sync::Mutex<()>>,
}

/// The calls of this process.
#[derive(Debug, Default)]
struct Log {
    calls: Window,
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

    /// Takes one call, as soon as one is free and all who asked before have theirs; none where the class is not counted.
    ///
    /// # Errors
    /// How long it takes until one may be free, where that is not before the deadline.
    pub async fn admit(&self, class: CallClass, deadline: Instant) -> Result<Option<Taken>, Duration> {
        if class == CallClass::Read && self.counted == Counted::Submits {
            return Ok(None);
        }
        let (turn, limit) = (self.local.turns.of(class), self.limit(class));
        // One at a time: a crowd that asks the store over and over keeps it from everything else.
        let Ok(_turn) = timeout_at(deadline, turn.lock()).await else {
            return Err((self.rate.per / self.rate.calls.max(1)).max(MIN_WAIT));
        };
        loop {
            let wait = match self.take(limit).await {
                Ok(taken) => return Ok(Some(taken)),
                Err(wait) => wait.max(MIN_WAIT),
            };
            if Instant::now() + wait >= deadline {
                return Err(wait);
            }
            sleep(wait).await;
        }
    }

    /// Gives back a call that was not made.
    pub async fn give_back(&self, taken: Taken) {
        self.log().calls.give_back(taken.here);
        if let Some(call) = taken.in_store
            && let Err(error) = self.store.give_back(self.provider, call).await
        {
            tracing::warn!(provider = self.provider, %error, "the store counts a call that was not made");
        }
    }

    /// Takes one call; else says how long it takes until one may be free.
    async fn take(&self, limit: u32) -> Result<Taken, Duration> {
        let window = self.rate.per + SLACK;
        let here = self.log().calls.take(window, limit)?;
        let asked = Instant::now();
        if self.log().store_rests_until.is_some_and(|until| asked < until) {
            return Ok(Taken { here, in_store: None });
        }
        match self.store.take(self.provider, window, limit).await {
            Ok(Ok(call)) => Ok(Taken { here, in_store: Some(call) }),
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
                log.calls.take(window, limit).map(|here| Taken { here, in_store: None })
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

    /// How many of the calls of such a time reads may use; none where reads are not counted.
    #[must_use]
    pub fn reads_in(&self, time: Duration) -> Option<u32> {
        let windows = time.as_secs_f64() / self.rate.per.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` stops at the ends")]
        let reads = (f64::from(self.limit(CallClass::Read)) * windows) as u32;
        (self.counted == Counted::Everything).then_some(reads)
    }

    /// How many calls a class may make in the rate's time.
    fn limit(&self, class: CallClass) -> u32 {
        class.share_of(self.rate.calls).max(1)
    }

    /// Calls of the running window; none while the store does not answer.
    pub async fn used(&self) -> Option<u32> {
        self.store.taken(self.provider, self.rate.per).await.ok()
    }
}

#[cfg(test)]
mod tests;
