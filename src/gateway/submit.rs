//! Submitting a batch: the one place where money is spent, at most once for each key.
//!
//! No vendor has idempotency. So the submission is a row of the store before anything is sent (`reserved`), the row says
//! `sending` before the request goes out, the request is sent once, and the vendor's id is in the store before the
//! caller hears of it (`accepted`). What was sent and brought no usable answer is `in_doubt` and never sent again: the
//! vendor's own list settles it, or its webhook, or a read that shows our id, or an operator.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::publish::Freshness;
use super::read::LEASE_SLACK;
use super::refresh::{Documents, put_facts, unwritable};
use super::vendor_error::vendor_error;
use super::{Gateway, store_error};
use crate::batch::{Batch, BatchId, SubmissionId};
use crate::cache::Representation;
use crate::error::{Code, Error};
use crate::http::{Call, SubmitError};
use crate::providers::{Info, Order, Provider};
use crate::store::{Accepted, Facts, NewSubmission, Reserved, Saved, StoreError};
use crate::submission::{IdempotencyKey, NewBatch, SubmissionState};
use crate::telemetry::{self, RequestContext};

/// How soon a caller looks whether another call with its key has ended; each look doubles the pause.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// How long a caller waits for the store to take what the vendor said.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// How soon the store is tried again, and at longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A batch that the vendor took.
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

/// Without the document: it holds data of persons.
impl fmt::Debug for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted")
            .field("submission", &self.submission)
            .field("batch", &self.batch)
            .field("replayed", &self.replayed)
            .finish_non_exhaustive()
    }
}

impl Submitted {
    /// Whether the batch had come to its end already, which a doubt that was settled late may find.
    #[must_use]
    pub fn is_done(&self) -> bool {
        #[derive(Deserialize)]
        struct End {
            done: bool,
        }
        serde_json::from_slice(&self.json).is_ok_and(|End { done }| done)
    }
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
        key: IdempotencyKey,
        batch: NewBatch,
        context: &RequestContext,
    ) -> Result<Submitted, Error> {
        let (gateway, provider, client) = (self.clone(), Arc::clone(provider), Arc::clone(client));
        let (request_id, trace) = (Arc::clone(&context.request_id), context.trace.clone());
        self.run(Some(Arc::clone(&context.request_id)), async move {
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
        key: &IdempotencyKey,
        batch: &NewBatch,
        call: &Call,
    ) -> Result<Submitted, Error> {
        let info = provider.info();
        let fingerprint = batch.fingerprint(info.slug).map_err(|error| unwritable(info.slug, &error))?;
        let records = batch.records_with_country();
        let new = NewSubmission {
            client,
            key: key.as_str(),
            provider: info.slug,
            fingerprint,
            records: &records,
            reference: batch.reference.as_ref().map(|reference| reference.0.as_str()),
        };
        let mut waited = false;
        loop {
            let reserved = self.inner.store.reserve(new, self.submit_lease()).await;
            match reserved.map_err(|error| store_error(&error))? {
                // The call that this one waited for ended without sending: nobody asked for a second try.
                Reserved::Ours { id, attempt } if waited => {
                    self.give_back(id, attempt, Code::IdempotencyKeyInUse).await;
                    return Err(in_use(
                        id,
                        "The other request with this key ended without sending anything.",
                    ));
                }
                Reserved::Ours { id, attempt } => {
                    return self.send(provider, client, batch, id, attempt, call).await;
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
                Reserved::Accepted { id, answer: None, .. } => return self.replay(provider, id, call).await,
                Reserved::Accepted { id, batch_id, answer: Some(json) } => {
                    return Ok(Submitted { submission: id, batch: batch_id, json, replayed: true });
                }
                Reserved::InDoubt { id } => {
                    let detail = "The submission of this key was sent and got no usable answer: the vendor may have \
                                  charged for it. It is not sent again: it is settled as soon as the vendor shows what \
                                  became of it, or by an operator.";
                    return Err(about(id, Code::SubmissionStillInDoubt, detail));
                }
            }
        }
    }

    /// Waits until another call with the same key has come to an end.
    async fn wait_for_other(&self, id: SubmissionId, deadline: Instant) -> Result<(), Error> {
        let mut pause = FIRST_LOOK;
        loop {
            if Instant::now() + pause >= deadline {
                return Err(in_use(
                    id,
                    "A request with this key is still under way; send the same again later.",
                ));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
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
        client: &str,
        batch: &NewBatch,
        id: SubmissionId,
        attempt: i64,
        call: &Call,
    ) -> Result<Submitted, Error> {
        let info = provider.info();
        let sent_at = match self.inner.store.begin_sending(id, attempt, self.submit_lease()).await {
            Ok(Some(sent_at)) => sent_at,
            Ok(None) => {
                return Err(in_use(id, "Another request with this key took over; send the same again."));
            }
            Err(error) => {
                // It may have been written down all the same, and nothing is sent.
                self.give_back(id, attempt, Code::StoreUnavailable).await;
                return Err(Error { submission: Some(id), ..store_error(&error) });
            }
        };
        let facts = Facts {
            submission: id,
            client: client.to_owned(),
            reference: batch.reference.as_ref().map(|reference| reference.0.clone()),
            records: batch.records.len() as u64,
            custom_ids: None,
            sent_at,
        };
        let webhook = self.inner.vendors.get(info.slug).and_then(|vendor| vendor.webhook_url.as_ref());
        let order = Order { submission: id, batch, webhook: webhook.map(ExposeSecret::expose_secret) };
        let request_id = &*call.request_id;
        match provider.submit(&order, call).await {
            Ok(mut taken) => {
                put_facts(&mut taken, Some(&facts));
                self.accept(provider, taken, facts, attempt, call).await
            }
            Err(SubmitError::NotSent(cause)) => {
                let error = vendor_error(info, &cause);
                let code = error.code.info().name;
                tracing::warn!(request_id, provider = info.slug, submission_id = %id, code, provider_http_status = cause.status, "a submission was not sent: {cause}");
                self.inner.metrics.submission(info.slug, SubmissionState::NotSent);
                self.give_back(id, attempt, error.code).await;
                Err(Error { submission: Some(id), ..error })
            }
            Err(SubmitError::InDoubt(cause)) => {
                let code = Code::SubmissionInDoubt.info().name;
                tracing::error!(request_id, provider = info.slug, submission_id = %id, code, provider_http_status = cause.status, "a submission is in doubt: {cause}");
                self.inner.metrics.submission(info.slug, SubmissionState::InDoubt);
                // Should this fail, the lease runs out and says the same.
                if let Err(error) = self.inner.store.in_doubt(id, attempt, code).await {
                    store_error(&error);
                }
                self.inner.poller_wake.notify_one();
                Err(in_doubt(info, id, cause.detail))
            }
        }
    }

    /// Writes down which batch a submission became, in one step with the batch. Nobody hears of it before that, the log
    /// included.
    async fn accept(
        &self,
        provider: &Arc<dyn Provider>,
        batch: Batch,
        facts: Facts,
        attempt: i64,
        call: &Call,
    ) -> Result<Submitted, Error> {
        let (info, submission) = (provider.info(), facts.submission);
        let documents = Documents::of(&batch, self.floor())?;
        let json = documents.representation.json.clone();
        let taken = Arc::new((self.clone(), batch, documents, facts));
        let writing = Arc::clone(&taken);
        let accepted = self.write_down(move || {
            let taken = Arc::clone(&writing);
            async move {
                let (gateway, batch, documents, facts) = &*taken;
                let row = gateway.row(batch, documents, Some(facts));
                let accepted =
                    gateway.inner.store.accept(facts.submission, &row, &documents.summary).await?;
                if let Accepted::As(_) = accepted {
                    gateway.inner.metrics.submission(batch.provider, SubmissionState::Accepted);
                    let request_id = telemetry::current_request_id();
                    tracing::info!(request_id = request_id.as_deref(), provider = batch.provider, submission_id = %facts.submission, batch_id = batch.id.as_str(), records = facts.records, "submitted");
                }
                Ok(accepted)
            }
            .boxed()
        });
        let accepted = accepted.await;
        self.inner.poller_wake.notify_one();
        let (_, batch, documents, _) = &*taken;
        let batch_id = batch.id.clone();
        match accepted {
            Some(Accepted::As(Saved::Kept)) => {
                let representation =
                    Representation::from_json(json.clone(), batch.done, documents.representation.poll_after);
                self.publish(&(info.slug, batch_id.clone()), representation, Freshness::Passing);
                Ok(Submitted { submission, batch: batch_id, json, replayed: false })
            }
            // A read was faster, and knows more.
            Some(Accepted::As(Saved::Complete)) => {
                // Memory may hold it without its submission.
                let key = (info.slug, batch_id.clone());
                self.inner.cache.forget(&key);
                if let Ok(Some(known)) = self.inner.store.batch(info.slug, &batch_id).await {
                    self.serve(&key, &known);
                }
                Ok(Submitted { submission, batch: batch_id, json, replayed: false })
            }
            Some(Accepted::As(Saved::Erased)) => {
                Err(Error { submission: Some(submission), ..Error::batch_erased() })
            }
            // Two paid submissions cannot be one batch: which of them it is, the vendor alone can tell.
            Some(Accepted::BatchOfAnother) => {
                let code = Code::ProviderIntegrity.info().name;
                tracing::error!(submission_id = %submission, provider = info.slug, batch_id = batch_id.as_str(), code, "a submission is in doubt: the vendor answered with the batch of another one");
                self.inner.metrics.submission(info.slug, SubmissionState::InDoubt);
                let store = self.inner.store.clone();
                self.write_down(move || {
                    let store = store.clone();
                    async move { store.in_doubt(submission, attempt, code).await }.boxed()
                })
                .await;
                let what = "the vendor answered with the batch of another submission";
                Err(Error { code: Code::ProviderIntegrity, ..in_doubt(info, submission, what) })
            }
            Some(Accepted::AsAnother) => {
                tracing::error!(submission_id = %submission, provider = info.slug, batch_id = batch_id.as_str(), "a submission was settled as another batch before; this one may have been charged as well");
                // It is read and kept like any batch that was not submitted here.
                let (store, slug) = (self.inner.store.clone(), info.slug);
                self.write_down(move || {
                    let (store, id) = (store.clone(), batch_id.clone());
                    async move { store.hint(slug, &id, Duration::ZERO, true).await }.boxed()
                })
                .await;
                self.inner.poller_wake.notify_one();
                self.replay(provider, submission, call).await
            }
            // The task that writes it down goes on.
            None => Err(in_doubt(
                info,
                submission,
                "the vendor took the batch, and the gateway's store does not answer",
            )),
        }
    }

    /// The answer to a submission that was accepted before.
    async fn replay(
        &self,
        provider: &Arc<dyn Provider>,
        id: SubmissionId,
        call: &Call,
    ) -> Result<Submitted, Error> {
        let submission = self.submission(id).await?;
        let batch = submission.batch_id.ok_or_else(Error::internal)?;
        let (answer, _) = self.load(provider, &batch, call).await;
        let json = answer.map_err(|error| Error { submission: Some(id), ..error })?.json.clone();
        Ok(Submitted { submission: id, batch, json, replayed: true })
    }

    /// Writes down that nothing was sent after all.
    async fn give_back(&self, id: SubmissionId, attempt: i64, code: Code) {
        let store = self.inner.store.clone();
        let code = code.info().name;
        self.write_down(move || {
            let store = store.clone();
            async move { store.not_sent(id, attempt, code).await }.boxed()
        })
        .await;
    }

    /// Writes down what only this process knows: in a task of its own, again and again until the store has it. None if
    /// that takes longer than a caller waits.
    async fn write_down<T: Send + 'static>(
        &self,
        write: impl Fn() -> BoxFuture<'static, Result<T, StoreError>> + Send + 'static,
    ) -> Option<T> {
        let task = async move {
            let mut pause = FIRST_PAUSE;
            loop {
                match write().await {
                    Ok(written) => return written,
                    Err(error) => drop(store_error(&error)),
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let task = telemetry::on_behalf_of(telemetry::current_request_id(), task);
        let task = self.inner.work.spawn_on(task, &self.inner.runtime);
        timeout(WRITE_PATIENCE, task).await.ok()?.ok()
    }

    fn submit_lease(&self) -> Duration {
        self.inner.transport.submit_time() + LEASE_SLACK
    }
}

fn in_doubt(info: &Info, id: SubmissionId, what: &'static str) -> Error {
    let detail = format!(
        "{}: {what}. The request was sent, and the vendor may have charged for it. It is not sent again; \
         /submissions/{id} shows what becomes of it.",
        info.name
    );
    Error { provider: Some(info.slug), ..about(id, Code::SubmissionInDoubt, detail) }
}

fn about(id: SubmissionId, code: Code, detail: impl Into<Cow<'static, str>>) -> Error {
    Error { submission: Some(id), ..Error::new(code, detail) }
}

fn in_use(id: SubmissionId, detail: &'static str) -> Error {
    about(id, Code::IdempotencyKeyInUse, detail)
}
