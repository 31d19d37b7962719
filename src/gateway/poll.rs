//! Polling: the batches that are due are fetched from their vendors, each vendor for itself.
//!
//! Every vendor has its own permits, its own queue and its own backoff: one that is slow, out of quota or far behind
//! delays nobody else's batches. Batches that callers wait for come first. Where a vendor has a list of its batches, many
//! due batches are looked up in one call, and only those that the list does not show as running are fetched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::refresh::later;
use super::vendor_error::vendor_error;
use super::{Gateway, VendorHandle, store_error};
use crate::batch::BatchId;
use crate::error::{Code, Error};
use crate::providers::RunningBatch;
use crate::store::{Due, DueBatch, StoreError};
use crate::telemetry;

/// How long a vendor is not polled that rejects calls and names no time.
const DEFAULT_BACKOFF: Duration = Duration::from_secs(5);
/// The longest that it is not polled, whatever it names.
const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// How soon an awaited batch is looked for again that was not due in the store, or whose poll brought nothing.
const AWAITED_RETRY: Duration = Duration::from_secs(1);
/// The list is asked for once this many batches are due that it was not asked for yet; fewer are fetched one by one.
const LIST_MIN_BATCHES: usize = 10;
/// The shortest time between two lists, which can be long, and between a list that failed and the next.
const LIST_INTERVAL: Duration = Duration::from_secs(5);
const LIST_RETRY_INTERVAL: Duration = Duration::from_mins(5);
/// How many batches are put off in one transaction.
const LIST_CHUNK: usize = 500;

/// The polling of one vendor.
#[derive(Debug)]
pub(super) struct Polls {
    permits: Arc<Semaphore>,
    /// One list at a time.
    list_permit: Arc<Semaphore>,
    schedule: Mutex<Schedule>,
}

#[derive(Debug, Default)]
struct Schedule {
    backoff_until: Option<Instant>,
    /// Batches that became due until then were looked up in a list: those that are still due are fetched.
    listed_until: Option<Timestamp>,
    /// When the list was last asked for, and how soon it may be asked for again.
    last_list: Option<(Timestamp, Duration)>,
}

impl Polls {
    /// At most `max_concurrent` polls at a time.
    pub(super) fn new(max_concurrent: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max_concurrent)),
            list_permit: Arc::new(Semaphore::new(1)),
            schedule: Mutex::default(),
        }
    }

    /// Whether the vendor may be polled now.
    pub(super) fn is_open(&self) -> bool {
        self.schedule().backoff_until.is_none_or(|until| until <= Instant::now())
    }

    fn back_off(&self, backoff: Duration) {
        // As long as the vendor is not called for a reader either.
        self.schedule().backoff_until = Some(Instant::now() + backoff.min(MAX_BACKOFF));
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    fn may_list(&self, now: Timestamp) -> bool {
        // A clock that was set back must not make the interval longer.
        self.last_list.is_none_or(|(last, interval)| now < last || now >= later(last, interval))
    }
}

impl Gateway {
    /// Starts the polls of a vendor's due batches, as many as it has permits.
    pub(super) async fn poll_due(&self, slug: &'static str, vendor: &VendorHandle) -> Result<(), StoreError> {
        let polls = &vendor.polls;
        if !polls.is_open() || polls.permits.available_permits() == 0 {
            return Ok(());
        }
        let now = self.now();
        let until = self.fetch_until(slug, vendor, now).await?;
        // A few callers wait for no list.
        let few = vendor.waiters.count_due(now, LIST_MIN_BATCHES) < LIST_MIN_BATCHES;
        let awaited_until = if few { now } else { until };
        loop {
            let free = polls.permits.available_permits();
            let awaited = vendor.waiters.take_due(now, later(now, AWAITED_RETRY), free);
            if awaited.is_empty() {
                break;
            }
            self.claim_and_poll(slug, vendor, Due { ids: Some(awaited), until: awaited_until }).await?;
        }
        self.claim_and_poll(slug, vendor, Due { ids: None, until }).await
    }

    /// Until when batches must have become due to be fetched now; those that are due since then wait for the next list.
    async fn fetch_until(
        &self,
        slug: &'static str,
        vendor: &VendorHandle,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        if !vendor.provider.info().lists {
            return Ok(now);
        }
        let (listed_until, may_list) = {
            let schedule = vendor.polls.schedule();
            (schedule.listed_until.filter(|until| *until <= now), schedule.may_list(now))
        };
        let since = not_before(listed_until);
        let new = self.inner.store.due_batches(slug, (since, None), now, LIST_MIN_BATCHES).await?;
        if new.len() < LIST_MIN_BATCHES {
            return Ok(now);
        }
        if may_list && let Ok(permit) = Arc::clone(&vendor.polls.list_permit).try_acquire_owned() {
            let gateway = self.clone();
            let list = async move {
                let _permit = permit;
                gateway.poll_list(slug, since, now).await;
                gateway.inner.poller_wake.notify_one();
            };
            self.inner.work.spawn_on(list, &self.inner.runtime);
        }
        Ok(listed_until.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Looks up all batches in the vendor's list that became due in this time, and puts off those that are running.
    async fn poll_list(&self, slug: &'static str, since: Timestamp, until: Timestamp) {
        let Some(vendor) = self.inner.vendors.get(slug) else { return };
        let call = self.own_call();
        let listed = vendor.provider.list_running(&call);
        let listed = telemetry::on_behalf_of(Arc::clone(&call.request_id), listed).await;
        let interval = match listed {
            Ok(running) => {
                if let Err(error) = self.put_off_running(slug, vendor, &running, (since, until)).await {
                    store_error(&error);
                }
                LIST_INTERVAL
            }
            Err(error) => {
                tracing::warn!(
                    provider = slug,
                    provider_http_status = error.status,
                    "listing batches failed: {error}"
                );
                self.back_off(vendor, &vendor_error(vendor.provider.info(), &error));
                if error.not_called {
                    return;
                }
                LIST_RETRY_INTERVAL
            }
        };
        let mut schedule = vendor.polls.schedule();
        schedule.last_list = Some((until, interval));
        schedule.listed_until = Some(until);
    }

    /// Puts off the due batches that are running as they were, as long as a poll that says the same would.
    async fn put_off_running(
        &self,
        slug: &'static str,
        vendor: &VendorHandle,
        running: &HashMap<BatchId, RunningBatch>,
        (since, until): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let mut after = (since, None);
        loop {
            let due = self.inner.store.due_batches(slug, after, until, LIST_CHUNK).await?;
            let Some(last) = due.last() else { return Ok(()) };
            after = (last.next_poll_at, Some(last.id.clone()));
            let put_off =
                due.iter().filter_map(|batch| Some((batch.id.clone(), self.put_off(batch, running)?)));
            let put_off: Vec<_> = put_off.collect();
            for (id, next_poll_at) in &put_off {
                vendor.waiters.set_next_poll(id, *next_poll_at);
            }
            self.inner.store.postpone(slug, put_off).await?;
        }
    }

    /// When a due batch is to be polled next; none if it has to be fetched now.
    fn put_off(&self, due: &DueBatch, running: &HashMap<BatchId, RunningBatch>) -> Option<Timestamp> {
        let batch = running.get(&due.id).filter(|batch| !due.done && batch.status.word() == due.status)?;
        let interval = self.poll_interval(batch.since.or(Some(due.first_seen_at)), batch.progress);
        Some(later(self.now(), interval))
    }

    async fn claim_and_poll(
        &self,
        slug: &'static str,
        vendor: &VendorHandle,
        due: Due,
    ) -> Result<(), StoreError> {
        let permits = &vendor.polls.permits;
        let free = permits.available_permits();
        if free == 0 {
            return Ok(());
        }
        for id in self.inner.store.claim_due(slug, due, free, self.lease()).await? {
            // Nobody else takes permits.
            let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { return Ok(()) };
            self.spawn_poll(slug, id, permit);
        }
        Ok(())
    }

    fn spawn_poll(&self, slug: &'static str, id: BatchId, permit: OwnedSemaphorePermit) {
        let gateway = self.clone();
        let poll = async move {
            let _permit = permit;
            gateway.poll(slug, &id).await;
            gateway.inner.poller_wake.notify_one();
        };
        self.inner.work.spawn_on(poll, &self.inner.runtime);
    }

    async fn poll(&self, slug: &'static str, id: &BatchId) {
        let Some(vendor) = self.inner.vendors.get(slug) else { return };
        let call = self.own_call();
        let refresh = self.refresh(&vendor.provider, id, &call);
        let answer = telemetry::on_behalf_of(Arc::clone(&call.request_id), refresh).await;
        if let Err(error) = answer {
            self.back_off(vendor, &error);
        }
    }

    /// Stops polling a vendor for a while where its error is about all calls.
    fn back_off(&self, vendor: &VendorHandle, error: &Error) {
        let is_about_all = match error.code {
            // One rejected call says nothing about the key: the next one may be accepted.
            Code::ProviderCredentials => error.retry_after.is_some(),
            code => matches!(code, Code::ProviderRateLimited | Code::ProviderUnavailable),
        };
        if is_about_all {
            vendor.polls.back_off(error.retry_after.unwrap_or(DEFAULT_BACKOFF).max(self.floor()));
        }
    }
}

/// The first moment after those that were looked up, in the store's milliseconds.
fn not_before(listed_until: Option<Timestamp>) -> Timestamp {
    listed_until.map_or(Timestamp::UNIX_EPOCH, |until| later(until, Duration::from_millis(1)))
}
