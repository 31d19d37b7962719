//! Experian Aperture bulk phone validation: a phone number in, a verdict out. See `README.md` beside this
//! file.

mod sandbox;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Example, Info, Order, Provider, ProviderError, UNSUPPORTED, Vendor, next_reply};
use crate::batch::{Batch, BatchId, Kind, SubmissionId};
use crate::http::{Call, Read, SubmitError, VendorClient};
use crate::quota::{Counted, Rate};

const INFO: Info = Info {
    slug: "experian",
    name: "Experian Aperture",
    kind: Kind::Validation,
    max_records: 10_000,
    options: &[
        "output_format",
        "country",
        "get_ported_date",
        "supplementary_live_status",
        "max_processing_time",
    ],
    stops: true,
    webhooks: false,
    recovers: true,
    rate: Rate { calls: 150, per: Duration::from_mins(1) },
    counted: Counted::Everything,
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
    decode: |id, replies| {
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
        let read = |operation, path: String| {
            Read::new(operation, path)
                .header("add-metadata", "true")
                .header("reference-id", &*call.request_id)
        };
        let status = read("get_status", format!("/phone/bulk/v1/batches/{id}"));
        let batch = self.client.read(call, &status, |reply| wire::batch(id, reply)).await?;
        if !batch.done {
            return Ok(batch);
        }
        let results = read("get_results", format!("/phone/bulk/v1/batches/{id}/results"));
        self.client.read(call, &results, |reply| wire::with_results(batch.clone(), reply)).await
    }

    async fn submit(&self, _: &Order<'_>, _: &Call) -> Result<Batch, SubmitError> {
        Err(SubmitError::NotSent(UNSUPPORTED))
    }

    async fn recover(&self, _: SubmissionId, _: &Call) -> Result<Option<Batch>, ProviderError> {
        Err(UNSUPPORTED)
    }

    async fn stop(&self, _: &BatchId, _: &Call) -> Result<(), ProviderError> {
        Err(UNSUPPORTED)
    }

    fn webhook(&self, _: &[u8]) -> Option<BatchId> {
        None
    }
}
