//! Submitting a batch: the one place where money is spent, at most once for each key.
//!
//! No vendor has idempotency. So the submission is a row of the store before anything is sent (`reserved`), the row says
//! `sending` before the request goes out, the request is sent once, and the vendor's id is in the store before the
//! caller hears of it (`accepted`). What was sent and brought no usable answer is `in_doubt` and never sent again: the
//! vendor's own list settles it, or its webhook, or a read that shows our id, or an operator.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};

use super::read::{put_facts, unwritable};
use super::{Gateway, store_error};
use crate::batch::{Batch, BatchId, SubmissionId};
use crate::cache::{Key, Representation};
use crate::error::{Code, Error};
use crate::http::{Call, SubmitError};
use crate::providers::{Order, Provider};
use crate::store::{Facts, NewSubmission, Reserved, StoreError};
use crate::submission::{NewBatch, SubmissionState};
use crate::telemetry::RequestContext;

/// How much longer than the sending itself a submission belongs to who sends it.
const LEASE_SLACK: Duration = Duration::from_secs(5);
/// How often a caller looks whether another call with its key has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often writing down a batch that was paid for is tried, and how long until the next try.
const ACCEPT_TRIES: u32 = 20;
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A batch that the vendor took.
#[derive(Debug)]
pub struct Submitted {
    /// The submission.
    pub submission: SubmissionId,
    /// The vendor's id of the batch.
    pub batch: BatchId,
    /// The batch as the vendor took it, JSON.
    pub json: Bytes,
    /// Whether this is the answer to an earlier request with the same key.
    pub replayed: bool,
}

impl Gateway {
    /// Submits a batch, at most once for each client and key, whatever happens to the caller or to this process.
    ///
    /// A call that finds another one with its key at work waits for that one's end.
    ///
    /// # Errors
    /// What is wrong with the key, what the vendor said, or that nobody knows whether the vendor took the batch.
    pub async fn submit(
        &self,
        provider: &Arc<dyn Provider>,
        client: &Arc<str>,
        key: String,
        batch: NewBatch,
        context: &RequestContext,
    ) -> Result<Submitted, Error> {
        let (gateway, provider, client) = (self.clone(), Arc::clone(provider), Arc::clone(client));
        let (request_id, trace) = (Arc::clone(&context.request_id), context.trace);
        self.run(&context.request_id, async move {
            let deadline = Instant::now() + gateway.inner.transport.submit_time();
            let call = Call { request_id, trace, deadline };
            gateway.submit_once(&provider, &client, &key, &batch, &call).await
        })
        .await
    }

    async fn submit_once(
        &self,
        provider: &Arc<dyn Provider>,
        client: &str,
        key: &str,
        batch: &NewBatch,
        call: &Call,
    ) -> Result<Submitted, Error> {
        let info = provider.info();
        let fingerprint =
            batch.fingerprint(info.slug).map_err(|error| unwritable(info.slug, &error, call))?;
        let custom_ids = batch.custom_ids();
        let new = NewSubmission {
            client,
            key,
            provider: info.slug,
            fingerprint,
            records: batch.records.len() as u64,
            reference: batch.reference.as_ref().map(|reference| reference.0.as_str()),
            custom_ids: custom_ids.as_deref(),
        };
        let mut waited = false;
        loop {
            let reserved = self.inner.store.reserve(new, self.submit_lease()).await;
            match reserved.map_err(|error| store_error(&error))? {
                // The call that this one waited for ended without sending: nobody asked for a second try.
                Reserved::Ours { id, attempt, .. } if waited => {
                    let released =
                        self.inner.store.not_sent(id, attempt, Code::IdempotencyKeyInUse.info().name).await;
                    released.map_err(|error| store_error(&error))?;
                    return Err(in_use(
                        id,
                        "The other request with this key ended without sending anything.",
                    ));
                }
                Reserved::Ours { id, attempt, created_at } => {
                    let facts = Facts {
                        submission: id,
                        client: client.to_owned(),
                        reference: new.reference.map(str::to_owned),
                        records: new.records,
                        custom_ids,
                        created_at,
                    };
                    return self.send(provider, batch, attempt, &facts, call).await;
                }
                Reserved::InUse { id } => {
                    waited = true;
                    self.wait_for_other(id, call.deadline).await?;
                }
                Reserved::Reused { id } => {
                    let detail =
                        "The idempotency key belongs to another request of the last 30 days; use a new one.";
                    return Err(about(id, Code::IdempotencyKeyReused, detail));
                }
                // An operator named the batch, or it was erased.
                Reserved::Accepted { id, batch_id, answer: None } => {
                    let json = self.load(provider, &batch_id, call).await.0?.json.clone();
                    return Ok(Submitted { submission: id, batch: batch_id, json, replayed: true });
                }
                Reserved::Accepted { id, batch_id, answer: Some(json) } => {
                    return Ok(Submitted { submission: id, batch: batch_id, json, replayed: true });
                }
                Reserved::InDoubt { id } => {
                    let detail = "The submission of this key was sent and its answer was lost. It is not sent again: \
                                  it is settled as soon as the vendor shows what became of it, or by an operator.";
                    return Err(about(id, Code::SubmissionStillInDoubt, detail));
                }
            }
        }
    }

    /// Waits until another call with the same key has come to an end.
    async fn wait_for_other(&self, id: SubmissionId, deadline: Instant) -> Result<(), Error> {
        loop {
            if Instant::now() + LOOK_EVERY >= deadline {
                return Err(in_use(
                    id,
                    "A request with this key is still under way; send the same again later.",
                ));
            }
            sleep(LOOK_EVERY).await;
            let other = self.inner.store.submission(id).await.map_err(|error| store_error(&error))?;
            let at_work = |state| matches!(state, SubmissionState::Reserved | SubmissionState::Sending);
            if !other.is_some_and(|other| at_work(other.state)) {
                return Ok(());
            }
        }
    }

    /// Sends a submission that is ours to send.
    async fn send(
        &self,
        provider: &Arc<dyn Provider>,
        batch: &NewBatch,
        attempt: i64,
        facts: &Facts,
        call: &Call,
    ) -> Result<Submitted, Error> {
        let info = provider.info();
        let (id, store) = (facts.submission, &self.inner.store);
        let ours = store.begin_sending(id, attempt, self.submit_lease()).await;
        if !ours.map_err(|error| store_error(&error))? {
            return Err(in_use(id, "Another request with this key took over; send the same again."));
        }
        let webhook = self.inner.vendors.get(info.slug).and_then(|vendor| vendor.webhook_url.as_ref());
        let order = Order { submission: id, batch, webhook: webhook.map(ExposeSecret::expose_secret) };
        let request_id = &*call.request_id;
        match provider.submit(&order, call).await {
            Ok(mut taken) => {
                put_facts(&mut taken, Some(facts));
                tracing::info!(request_id, provider = info.slug, submission_id = %id, batch_id = taken.id.as_str(), records = facts.records, "submitted");
                self.inner.metrics.submission(info.slug, SubmissionState::Accepted);
                self.write_down(&taken, facts, call).await
            }
            Err(SubmitError::NotSent(cause)) => {
                let error = Error::from_provider(info, &cause);
                let code = error.code.info().name;
                tracing::warn!(request_id, provider = info.slug, submission_id = %id, code, provider_http_status = cause.status, "a submission was not sent: {cause}");
                self.inner.metrics.submission(info.slug, SubmissionState::NotSent);
                if let Err(error) = store.not_sent(id, attempt, code).await {
                    store_error(&error);
                }
                Err(Error { submission: Some(id), ..error })
            }
            Err(SubmitError::InDoubt(cause)) => {
                let code = Code::SubmissionInDoubt.info().name;
                tracing::error!(request_id, provider = info.slug, submission_id = %id, code, provider_http_status = cause.status, "a submission is in doubt: {cause}");
                self.inner.metrics.submission(info.slug, SubmissionState::InDoubt);
                // Should this fail, the lease runs out and says the same.
                if let Err(error) = store.in_doubt(id, attempt, code).await {
                    store_error(&error);
                }
                self.inner.due.notify_one();
                let detail = format!(
                    "{}: {}. The request was sent, and the vendor may have charged for it. It is not sent again; \
                     /submissions/{id} shows what becomes of it.",
                    info.name, cause.detail
                );
                let error = about(id, Code::SubmissionInDoubt, detail);
                Err(Error { provider: Some(info.slug), ..error })
            }
        }
    }

    /// Writes down a batch that the vendor took. Nobody hears of it before that.
    async fn write_down(&self, batch: &Batch, facts: &Facts, call: &Call) -> Result<Submitted, Error> {
        let submission = facts.submission;
        for attempt in 1.. {
            match self.accept(submission, batch, facts).await {
                Ok(true) => break,
                Ok(false) => {
                    // An operator, or the vendor's list, named another batch.
                    tracing::error!(submission_id = %submission, batch_id = batch.id.as_str(), "a submission was settled as another batch");
                    break;
                }
                Err(error) if attempt == ACCEPT_TRIES => {
                    tracing::error!(submission_id = %submission, batch_id = batch.id.as_str(), "a batch that was paid for cannot be written down; settle it with `submissions resolve`");
                    return Err(Error { submission: Some(submission), ..store_error(&error) });
                }
                Err(error) => {
                    store_error(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.inner.due.notify_one();
        let json = Representation::render(batch, self.floor())
            .map_err(|error| unwritable(batch.provider, &error, call))?
            .json;
        Ok(Submitted { submission, batch: batch.id.clone(), json, replayed: false })
    }

    /// Writes down which batch a submission became, in one step with the batch. False if it became another one before.
    pub(super) async fn accept(
        &self,
        submission: SubmissionId,
        batch: &Batch,
        facts: &Facts,
    ) -> Result<bool, StoreError> {
        let poll_after = self.poll_after(batch, None);
        let (Ok(representation), Ok(summary)) =
            (Representation::render(batch, poll_after), Representation::summary(batch))
        else {
            return Ok(false);
        };
        let row = self.row(batch, &representation, &summary, Some(facts), poll_after);
        let accepted = self.inner.store.accept(submission, &row, &representation.json).await?;
        if accepted {
            let key: Key = (batch.provider, batch.id.clone());
            self.inner.cache.insert(key, Ok(Arc::new(representation)), Some(self.inner.running_ttl));
        }
        Ok(accepted)
    }

    fn submit_lease(&self) -> Duration {
        self.inner.transport.submit_time() + LEASE_SLACK
    }
}

fn about(id: SubmissionId, code: Code, detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error { submission: Some(id), ..Error::new(code, detail) }
}

fn in_use(id: SubmissionId, detail: &'static str) -> Error {
    Error { retry_after: Some(Duration::from_secs(1)), ..about(id, Code::IdempotencyKeyInUse, detail) }
}
