//! How many calls a vendor allows: counted by the store, so that all replicas together stay within it.
//!
//! A part of it is kept back for submissions: reads and polls, however many, never use up what a paid order needs.

use std::time::Duration;

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

/// The quota of one vendor.
#[derive(Clone, Debug)]
pub struct Quota {
    store: Store,
    provider: &'static str,
    rate: Rate,
    counted: Counted,
}

/// How much longer than the vendor's own window a call is counted: calls may arrive later than they were counted.
const SLACK: Duration = Duration::from_millis(500);
/// Shortest wait before the quota is asked again.
const MIN_WAIT: Duration = Duration::from_millis(20);

impl Quota {
    /// The quota of a vendor that allows `rate` and counts `counted`.
    #[must_use]
    pub const fn new(store: Store, provider: &'static str, rate: Rate, counted: Counted) -> Self {
        Self { store, provider, rate, counted }
    }

    /// Takes one call; else says how long it takes until one may be free.
    ///
    /// While the store does not answer, calls are not counted: reads go on, and a submission has just written to it.
    pub async fn take(&self, class: CallClass) -> Option<Duration> {
        if class == CallClass::Read && self.counted == Counted::Submits {
            return None;
        }
        let limit = match class {
            CallClass::Read => self.read_limit(),
            CallClass::Submit => self.rate.calls,
        };
        match self.store.take(self.provider, self.rate.per + SLACK, limit).await {
            Ok(wait) => wait.map(|wait| wait.max(MIN_WAIT)),
            Err(error) => {
                tracing::warn!(provider = self.provider, %error, "the store cannot count a call");
                None
            }
        }
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
