//! Experian Aperture bulk phone validation: a phone number in, a verdict out. See `README.md` beside this
//! file.

mod sandbox;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::{Example, Info, Order, Provider, ProviderError, Recovered, RunningBatch, Vendor, next_reply};
use crate::batch::{Batch, BatchId, Kind, Status, SubmissionId};
use crate::http::QuotaScope;
use crate::http::{Call, ProviderErrorKind, Read, SubmitError, VendorClient, Write};
use crate::rate::Rate;
use crate::submission::Accepts;

const INFO: Info = Info {
    slug: "experian",
    name: "Experian Aperture",
    accepts: Accepts {
        kind: Kind::Validation,
        max_records: 10_000,
        options: &[
            "output_format",
            "country",
            "get_ported_date",
            "supplementary_live_status",
            "max_processing_time",
        ],
    },
    stops: true,
    webhooks: false,
    recovers: true,
    lists: true,
    rate: Rate { calls: 150, per: Duration::from_mins(1) },
    counted: QuotaScope::AllCalls,
    retention_days: Some(wire::RETENTION_DAYS),
    documentation: "https://docs.experianaperture.io/phone-validation/",
    base_url: "https://api.experianaperture.io",
    key_header: "auth-token",
    key_prefix: "",
};

/// Experian in the list of vendors.
pub(super) const VENDOR: Vendor = Vendor {
    info: &INFO,
    connect: |client| Arc::new(Experian { client }),
    map: |id, replies| {
        let mut replies = replies.iter();
        let batch = wire::batch(id, next_reply(&mut replies)?)?;
        if batch.done { wire::with_results(batch, next_reply(&mut replies)?) } else { Ok(batch) }
    },
    simulator: sandbox::SIMULATOR,
    examples: &[
        Example { name: "queued", shows: "taken and not begun", json: include_str!("examples/queued.json") },
        Example { name: "running", shows: "at work", json: include_str!("examples/running.json") },
        Example { name: "completed", shows: "completed", json: include_str!("examples/completed.json") },
        Example {
            name: "stopped",
            shows: "stopped at its time limit",
            json: include_str!("examples/stopped.json"),
        },
    ],
};

const BATCHES: &str = "/phone/bulk/v1/batches";

#[derive(Debug)]
struct Experian {
    client: VendorClient,
}

#[async_trait]
impl Provider for Experian {
    fn info(&self) -> &'static Info {
        &INFO
    }

    /// Asks for the status first: while a batch runs, its results are an empty list that looks like success.
    async fn fetch(&self, id: &BatchId, call: &Call) -> Result<Batch, ProviderError> {
        let batch = self.status(id, call).await?;
        if !batch.done {
            return Ok(batch);
        }
        let results =
            read("get_results", format!("{BATCHES}/{id}/results"), call).header(ADD_METADATA, "true");
        self.client.read(call, &results, |reply| wire::with_results(batch.clone(), reply)).await
    }

    /// Creates the batch, then starts it: a batch that was only created waits for ever.
    async fn submit(&self, order: &Order<'_>, call: &Call) -> Result<Batch, SubmitError> {
        let create = write("create", BATCHES.to_owned(), call).json(&wire::NewBatch::from(order))?;
        let created = self.client.write(call, &create, |reply| wire::created(order, reply)).await?;
        match self.start(&created, call).await {
            Err(SubmitError::NotSent(refusal)) if refusal.status == Some(400) => {
                let batch = self.as_it_stands(created, call).await.map_err(SubmitError::InDoubt)?;
                match batch.status {
                    Status::Queued => Err(SubmitError::NotSent(refusal)),
                    // Only a refusal of the batch itself says that it was started before.
                    Status::Unknown if refusal.kind != ProviderErrorKind::Refused => {
                        Err(SubmitError::InDoubt(refusal))
                    }
                    _ => Ok(batch),
                }
            }
            Err(SubmitError::NotSent(cause)) if !is_refusal(&cause) => Err(SubmitError::InDoubt(cause)),
            started => started,
        }
    }

    /// Looks for the batches by our own ids, in one list for all.
    fn recover<'r>(&'r self, submissions: &'r [SubmissionId], call: &'r Call) -> BoxStream<'r, Recovered> {
        let list = async move {
            let list = read("list", BATCHES.to_owned(), call);
            let found = self.client.read(call, &list, |reply| wire::submitted_as(submissions, reply)).await;
            stream::iter(found.unwrap_or_else(|error| submissions.iter().map(|_| Err(error)).collect()))
        };
        stream::once(list).flatten().and_then(move |found| self.set_to_work(found, call)).boxed()
    }

    async fn list_running(&self, call: &Call) -> Result<HashMap<BatchId, RunningBatch>, ProviderError> {
        self.client.read(call, &read("list", BATCHES.to_owned(), call), wire::running).await
    }

    async fn stop(&self, id: &BatchId, call: &Call) -> Result<(), ProviderError> {
        let stop = write("stop", format!("{BATCHES}/{id}/stop"), call);
        self.client.write(call, &stop, wire::stopped).await.map_err(|error| *error.cause())
    }

    fn webhook(&self, _: &[u8]) -> Option<BatchId> {
        None
    }
}

impl Experian {
    /// Makes up for the start of a batch that was found. Experian keeps one that was created and not started. One of which
    /// nobody knows whether it was started is started too: a second start is refused and does no harm.
    async fn set_to_work(&self, found: Option<Batch>, call: &Call) -> Recovered {
        let created = match found {
            Some(batch) if !wire::is_started(&batch) => batch,
            found => return Ok(found.map(at_work)),
        };
        let refusal = match self.start(&created, call).await {
            Err(SubmitError::NotSent(cause)) if is_refusal(&cause) => cause,
            started => return started.map(Some).map_err(|error| *error.cause()),
        };
        let batch = self.as_it_stands(created, call).await?;
        match batch.status {
            // Nothing was charged, and nobody will start it any more: it is as if it were not there.
            Status::Queued => Ok(None),
            // Only a refusal of the batch itself says that it was started before.
            Status::Unknown if refusal.kind != ProviderErrorKind::Refused => Err(refusal),
            _ => Ok(Some(batch)),
        }
    }

    async fn status(&self, id: &BatchId, call: &Call) -> Result<Batch, ProviderError> {
        let status = read("get_status", format!("{BATCHES}/{id}"), call).header(ADD_METADATA, "true");
        self.client.read(call, &status, |reply| wire::batch(id, reply)).await
    }

    /// Starts a batch that was created.
    async fn start(&self, created: &Batch, call: &Call) -> Result<Batch, SubmitError> {
        let start = write("start", format!("{BATCHES}/{}/start", created.id), call).continuation();
        self.client.write(call, &start, |reply| wire::started(created.clone(), reply)).await.map(at_work)
    }

    /// A batch whose start was refused: somebody else may have started it, or it cannot be started.
    async fn as_it_stands(&self, created: Batch, call: &Call) -> Result<Batch, ProviderError> {
        let batch = self.status(&created.id, call).await?;
        Ok(at_work(Batch { submission_id: created.submission_id, reference: created.reference, ..batch }))
    }
}

/// Whether another start would meet the same answer. After any other failed start the vendor holds a batch that
/// [`Provider::recover`] can still start: the submission is in doubt.
const fn is_refusal(cause: &ProviderError) -> bool {
    use ProviderErrorKind::{Credentials, CreditsExhausted, InvalidRequest, Refused};
    matches!(cause.kind, Credentials | CreditsExhausted | InvalidRequest | Refused)
}

/// A batch that was set to work; one that has ended already has its results only after it was read.
fn at_work(batch: Batch) -> Batch {
    if batch.done { batch.into_running() } else { batch }
}

const ADD_METADATA: &str = "add-metadata";
const REFERENCE_ID: &str = "reference-id";

fn read(operation: &'static str, path: String, call: &Call) -> Read {
    Read::new(operation, path).header(REFERENCE_ID, &*call.request_id)
}

fn write(operation: &'static str, path: String, call: &Call) -> Write {
    Write::new(operation, path).header(REFERENCE_ID, &*call.request_id)
}
