//! Following: every batch that was submitted or read is polled to its end without anyone asking, and every submission
//! in doubt that its vendor can look up is settled.
//!
//! What is due, and who polls it, stands in the store: replicas share the work by leases, and a restart resumes it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::refresh::{Documents, INCOMPLETE_FOLLOWED, put_facts};
use super::{Gateway, store_error};
use crate::batch::{Batch, Progress, SubmissionId};
use crate::http::Call;
use crate::providers::Provider;
use crate::settings::Ttl;
use crate::store::{Accepted, Doubt, StoreError};
use crate::submission::SubmissionState;
use crate::telemetry::{self, TraceContext};

/// How often the store is asked what is due, unless somebody says that something is.
const TICK: Duration = Duration::from_millis(500);
/// How often it is asked what other replicas did, whose leases ran out, and what is too old.
const OTHERS: Duration = Duration::from_secs(1);
const LEASES: Duration = Duration::from_secs(2);
const TIDY: Duration = Duration::from_mins(1);
/// The longest time between two polls of one batch.
const LONGEST: Duration = Ttl::LONGEST;
/// The longest time between two polls of a completed batch without all of its results.
pub(super) const INCOMPLETE_POLL_MAX_INTERVAL: Duration = Duration::from_mins(30);
/// The shortest, whatever `cache.running_ttl` says.
const SHORTEST: Duration = Duration::from_secs(1);
/// A submission that the vendor's list does not show after this time did not arrive: far longer than a request lives.
const NOT_ARRIVED: SignedDuration = SignedDuration::from_secs(60);
/// How far the clocks of two replicas may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(30);
/// Most submissions in doubt that are looked up in one list: each may need a start as well.
const MOST_DOUBTS: u32 = 100;
/// How often the vendor's list must not show a submission before that is believed; the looks are seconds apart by
/// their leases, so that a clock that jumps cannot make them.
const MISSES: u64 = 4;

impl Gateway {
    /// Follows until the gateway stops. What other replicas did is known up to `seen_until`.
    pub(super) async fn follow(&self, alone: bool, seen_until: &mut Timestamp) {
        let (mut others, mut leases, mut tidy) = (Every::new(OTHERS), Every::new(LEASES), Every::new(TIDY));
        loop {
            tokio::select! {
                () = self.inner.stopping.cancelled() => return,
                () = self.inner.poller_wake.notified() => {}
                () = sleep(TICK) => {}
            }
            if !alone && others.is_due() {
                let now = self.now();
                if let Err(error) = self.look_at_others(*seen_until).await {
                    store_error(&error);
                } else {
                    *seen_until = now;
                }
            }
            if leases.is_due() {
                self.expire_leases(false).await;
            }
            if tidy.is_due() {
                drop(self.inner.store.tidy().await.map_err(|error| store_error(&error)));
            }
            self.settle_due().await;
            self.poll_all_due().await;
        }
    }

    /// Learns what other replicas did since: what they erased, and the ends of batches that callers wait for here.
    async fn look_at_others(&self, since: Timestamp) -> Result<(), StoreError> {
        let since = since.checked_sub(SKEW).unwrap_or(Timestamp::MIN);
        for (slug, id) in self.inner.store.erased_since(since).await? {
            if let Some(slug) = self.slug(&slug) {
                self.publish_erased(&(slug, id));
            }
        }
        if self.inner.vendors.values().all(|vendor| vendor.waiters.is_empty()) {
            return Ok(());
        }
        for (slug, id) in self.inner.store.ended_since(since).await? {
            let Some((slug, vendor)) = self.inner.vendors.get_key_value(&*slug) else { continue };
            let key = (*slug, id);
            let known = self.inner.cache.last_known(&key);
            if vendor.waiters.contains(&key.1)
                && !known.is_some_and(|known| known.is_ok_and(|batch| batch.done))
                && let Some(known) = self.inner.store.batch(slug, &key.1).await?
                && self.serve(&key, &known).is_none()
            {
                self.publish_done(&key, &known);
            }
        }
        Ok(())
    }

    pub(super) async fn expire_leases(&self, alone: bool) {
        match self.inner.store.expire_leases(alone).await {
            Ok(doubtful) => {
                for id in doubtful {
                    tracing::error!(submission_id = %id, "a submission is in doubt: the process that sent it is gone");
                }
            }
            Err(error) => drop(store_error(&error)),
        }
        if let (Ok(doubts), Ok(followed)) =
            (self.inner.store.doubt_count().await, self.inner.store.followed().await)
        {
            self.inner.metrics.set_open(doubts, followed);
        }
    }

    /// Polls what is due at each vendor.
    async fn poll_all_due(&self) {
        for (slug, vendor) in &self.inner.vendors {
            if let Err(error) = self.poll_due(slug, vendor).await {
                store_error(&error);
            }
        }
    }

    /// Asks the vendors what became of submissions in doubt.
    async fn settle_due(&self) {
        for (&slug, vendor) in &self.inner.vendors {
            if !vendor.provider.info().recovers || !vendor.polls.is_open() {
                continue;
            }
            // Beside all polls: what may have been paid for waits behind no state.
            let Ok(permit) = Arc::clone(&vendor.settling).try_acquire_owned() else { continue };
            let doubts = match self.inner.store.claim_doubts(slug, MOST_DOUBTS, self.lease()).await {
                Ok(doubts) if doubts.is_empty() => continue,
                Ok(doubts) => doubts,
                Err(error) => return drop(store_error(&error)),
            };
            let gateway = self.clone();
            let call = self.own_call();
            let request_id = Arc::clone(&call.request_id);
            let settle = async move {
                let _permit = permit;
                gateway.settle(slug, &doubts, &call).await;
            };
            self.inner.work.spawn_on(telemetry::on_behalf_of(request_id, settle), &self.inner.runtime);
        }
    }

    /// Asks a vendor for submissions in doubt, and writes down what is known of each before the next one is made up for.
    async fn settle(&self, slug: &'static str, doubts: &[Doubt], call: &Call) {
        let Ok(provider) = self.provider(slug) else { return };
        let ids: Vec<_> = doubts.iter().map(|doubt| doubt.id).collect();
        let mut recovered = provider.recover(&ids, call);
        let mut failures = Vec::new();
        for doubt in doubts {
            let Some(recovered) = recovered.next().await else { break };
            let missed = matches!(recovered, Ok(None));
            match recovered {
                Ok(Some(batch)) => self.settle_as(provider, doubt.id, batch).await,
                Ok(None) => self.settle_as_not_sent(slug, doubt).await,
                Err(error) => failures.push(error),
            }
            // Should this fail, the lease runs out.
            if let Err(error) = self.inner.store.end_look(doubt, missed).await {
                store_error(&error);
            }
        }
        if let Some(error) = failures.first() {
            let (status, submissions) = (error.status, failures.len());
            tracing::warn!(
                provider = slug,
                provider_http_status = status,
                submissions,
                "looking for submissions in doubt failed: {error}"
            );
        }
    }

    /// The vendor does not show a submission: believed once it has been so for long and at several looks.
    async fn settle_as_not_sent(&self, slug: &'static str, doubt: &Doubt) {
        if doubt.misses + 1 < MISSES || self.now().duration_since(doubt.sent_at) <= NOT_ARRIVED {
            return;
        }
        match self.inner.store.found_not_sent(doubt).await {
            Ok(true) => {
                self.inner.metrics.submission(slug, SubmissionState::NotSent);
                tracing::warn!(submission_id = %doubt.id, provider = slug, "a submission in doubt did not reach the vendor");
            }
            Ok(false) => {}
            Err(error) => drop(store_error(&error)),
        }
    }

    async fn settle_as(&self, provider: &Arc<dyn Provider>, submission: SubmissionId, mut batch: Batch) {
        let slug = provider.info().slug;
        let facts = match self.inner.store.unaccepted_submission(slug, submission).await {
            Ok(Some(facts)) => facts,
            // Settled meanwhile.
            Ok(None) => return,
            Err(error) => return drop(store_error(&error)),
        };
        put_facts(&mut batch, Some(&facts));
        let Ok(documents) = Documents::of(&batch, self.floor()) else { return };
        let row = self.row(&batch, &documents, Some(&facts));
        match self.inner.store.accept(submission, &row, &documents.summary).await {
            Ok(Accepted::As(_)) => {
                self.inner.metrics.submission(slug, SubmissionState::Accepted);
                tracing::warn!(submission_id = %submission, provider = slug, batch_id = batch.id.as_str(), "a submission in doubt was found at the vendor");
                self.inner.poller_wake.notify_one();
            }
            // It stays in doubt, and the batch stays the other one's.
            Ok(Accepted::BatchOfAnother) => {
                tracing::error!(submission_id = %submission, provider = slug, batch_id = batch.id.as_str(), "the vendor shows the batch of another submission for a submission in doubt");
            }
            Ok(Accepted::AsAnother) => {}
            Err(error) => drop(store_error(&error)),
        }
    }

    /// How long until a batch is worth another poll.
    pub(super) fn poll_after(&self, batch: &Batch, first_seen: Option<Timestamp>) -> Duration {
        self.poll_interval(batch.started_at.or(batch.submitted_at).or(first_seen), batch.progress)
    }

    /// How long until a batch that began at that time is worth another poll: a third of the time that it still needs at the
    /// pace so far; where no pace is known, a quarter of its age.
    pub(super) fn poll_interval(&self, since: Option<Timestamp>, progress: Option<Progress>) -> Duration {
        let now = self.now();
        let age = Duration::try_from(now.duration_since(since.unwrap_or(now))).unwrap_or_default();
        let progress = progress.and_then(|progress| Some((progress.requested, progress.processed?)));
        let wait = match progress {
            Some((requested, processed)) if processed > 0 && processed < requested => {
                #[expect(clippy::cast_precision_loss, reason = "a waiting time needs no precision")]
                let left = (requested - processed) as f64 / processed as f64;
                age.mul_f64((left / 3.0).min(1.0))
            }
            _ => age / 4,
        };
        wait.clamp(self.floor(), LONGEST)
    }

    /// How long until a completed batch without all of its results is polled again: as long as that has lasted, so that
    /// the polls become rare, but at most half an hour, and in time to end it.
    pub(super) fn poll_incomplete_after(&self, since: Timestamp) -> Duration {
        let age = Duration::try_from(self.now().duration_since(since)).unwrap_or_default();
        let left = INCOMPLETE_FOLLOWED.saturating_sub(age);
        age.min(left).min(INCOMPLETE_POLL_MAX_INTERVAL).max(self.floor())
    }

    /// The shortest time between two polls of one batch.
    #[must_use]
    pub fn floor(&self) -> Duration {
        self.inner.running_ttl.max(SHORTEST)
    }

    /// A call that no request asked for.
    pub(super) fn own_call(&self) -> Call {
        let request_id: Arc<str> = Uuid::now_v7().to_string().into();
        self.call(&request_id, TraceContext::start())
    }

    /// The vendor of a row, if it is on here.
    fn slug(&self, slug: &str) -> Option<&'static str> {
        self.inner.vendors.get_key_value(slug).map(|(slug, _)| *slug)
    }
}

/// Work that is done now and then.
struct Every {
    period: Duration,
    last: Option<Instant>,
}

impl Every {
    const fn new(period: Duration) -> Self {
        Self { period, last: None }
    }

    /// Whether it is time again.
    fn is_due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.period);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}
