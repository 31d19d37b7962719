//! Batches that nobody knows: a client that asks for many of them may not use up what its vendor allows all clients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Gateway, VendorHandle, store_error};
use crate::auth::Client;
use crate::batch::BatchId;
use crate::cache::{Answer, CacheStatus};
use crate::error::{Code, Error};
use crate::providers::Info;
use crate::rate::Rate;
use crate::rate::SlidingWindowLog;

/// For how long a read waits for its turn, and how soon there may be one after that.
const TURN: Duration = Duration::from_secs(1);

/// So many reads of a client wait for their turn; more of them would find out too late that there is none.
const WAITING: usize = 64;

/// How often each client had each vendor asked in vain, and how many such reads are under way.
#[derive(Debug)]
pub(super) struct Unknown {
    allowed: Rate,
    by_client: Mutex<HashMap<Who, Asked>>,
}

/// Name of the client, and slug of the vendor. Both are configured: there are never many.
type Who = (Arc<str>, &'static str);

#[derive(Debug, Default)]
struct Asked {
    in_vain: SlidingWindowLog,
    under_way: usize,
    waiting: usize,
    /// Told to one when there may be a turn, and to all when there will be none.
    moved: Arc<Notify>,
}

/// Why a read cannot begin.
enum NotNow {
    /// The client has asked in vain too often, for so long.
    TooMany(Duration),
    /// Those under way may all be in vain: who wins is not known yet.
    Wait,
}

impl Unknown {
    /// Nobody has asked.
    pub(super) fn new(allowed: Rate) -> Self {
        Self { allowed, by_client: Mutex::default() }
    }

    /// How many the client may ask for: at most half of what all reads may use, so that others get through.
    fn limit(&self, vendor: &VendorHandle) -> u32 {
        let half = vendor.quota.reads_in(self.allowed.per).map_or(u32::MAX, |reads| reads / 2);
        self.allowed.calls.min(half).max(1)
    }

    /// Begins a read whose end nobody knows.
    fn begin(&self, who: &Who, limit: u32) -> Result<(), NotNow> {
        let mut by_client = self.lock();
        let asked = by_client.entry(who.clone()).or_default();
        if let Some(wait) = asked.in_vain.wait(self.allowed.per, limit) {
            return Err(NotNow::TooMany(wait));
        }
        if asked.in_vain.len() + asked.under_way >= limit as usize {
            return Err(NotNow::Wait);
        }
        asked.under_way += 1;
        Ok(())
    }

    /// A place among those who wait for a turn, if one is free.
    fn queue(&self, who: &Who) -> Option<Queued<'_>> {
        let mut by_client = self.lock();
        let asked = by_client.entry(who.clone()).or_default();
        let free = asked.waiting < WAITING;
        asked.waiting += usize::from(free);
        free.then(|| Queued { unknown: self, who: who.clone() })
    }

    fn end(&self, asking: &Asking) {
        let mut by_client = self.lock();
        let Some(asked) = by_client.get_mut(&asking.who) else { return };
        asked.under_way = asked.under_way.saturating_sub(1);
        if !asking.in_vain {
            asked.moved.notify_one();
            return;
        }
        asked.in_vain.note();
        if asked.in_vain.wait(self.allowed.per, asking.limit).is_some() {
            asked.moved.notify_waiters();
        }
    }

    fn moved(&self, who: &Who) -> Arc<Notify> {
        Arc::clone(&self.lock().entry(who.clone()).or_default().moved)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Asked>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that waits for its turn.
struct Queued<'u> {
    unknown: &'u Unknown,
    who: Who,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if let Some(asked) = self.unknown.lock().get_mut(&self.who) {
            asked.waiting -= 1;
        }
    }
}

/// A read under way of a batch that may be unknown to everybody.
pub(super) struct Asking {
    gateway: Gateway,
    who: Who,
    limit: u32,
    in_vain: bool,
}

impl Asking {
    /// Ends it with what it brought.
    pub(super) fn ended(mut self, answer: &Answer, status: CacheStatus) {
        let is_unknown = |error: &Error| matches!(error.code, Code::BatchNotFound | Code::BatchExpired);
        let unknown = answer.as_ref().is_err_and(is_unknown);
        self.in_vain = unknown && status == CacheStatus::Miss;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.gateway.inner.unknown.end(self);
    }
}

impl Gateway {
    /// Whether a client may have a vendor asked for a batch that is not in memory. None when nothing has to be counted:
    /// the batch is known.
    ///
    /// # Errors
    /// `rate_limited` when nobody here knows the batch and the client has asked in vain too often; `store_unavailable`.
    pub(super) async fn may_ask(
        &self,
        client: &Client,
        info: &Info,
        id: &BatchId,
    ) -> Result<Option<Asking>, Error> {
        let Some(vendor) = self.inner.vendors.get(info.slug) else { return Ok(None) };
        let who = (Arc::clone(&client.name), info.slug);
        let (unknown, limit) = (&self.inner.unknown, self.inner.unknown.limit(vendor));
        let (moved, until) = (unknown.moved(&who), Instant::now() + TURN);
        let (mut looked, mut queued) = (false, None);
        loop {
            let turn = moved.notified();
            tokio::pin!(turn);
            // From here on no move is missed.
            turn.as_mut().enable();
            let (wait, detail) = match unknown.begin(&who, limit) {
                Ok(()) => return Ok(Some(Asking { gateway: self.clone(), who, limit, in_vain: false })),
                Err(_) if !looked && self.knows(info, id).await? => return Ok(None),
                Err(NotNow::TooMany(wait)) => {
                    (wait, "This client asked for too many batches that the vendor does not know.")
                }
                Err(NotNow::Wait) => {
                    looked = true;
                    queued = queued.or_else(|| unknown.queue(&who));
                    if queued.is_some() && timeout_at(until, turn).await.is_ok() {
                        continue;
                    }
                    (TURN, "This client asks for too many batches at once that the gateway does not know.")
                }
            };
            return Err(Error { retry_after: Some(wait), ..Error::new(Code::RateLimited, detail) });
        }
    }

    async fn knows(&self, info: &Info, id: &BatchId) -> Result<bool, Error> {
        let known = self.inner.store.batch(info.slug, id).await.map_err(|error| store_error(&error))?;
        // A row alone may be no more than a webhook's word.
        Ok(known.is_some_and(|known| known.erased || known.document.is_some() || known.submission.is_some()))
    }
}
