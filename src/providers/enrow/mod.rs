//! Enrow phone finder: a person in, a phone number out. See `README.md` beside this file.

mod sandbox;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

use super::{
    Example, Info, Order, Provider, ProviderError, Recovered, RunningBatch, UNSUPPORTED, Vendor, next_reply,
};
use crate::batch::{Batch, BatchId, Kind, SubmissionId};
use crate::http::QuotaScope;
use crate::http::{Call, Read, SubmitError, VendorClient, Write};
use crate::rate::Rate;
use crate::submission::Accepts;

const INFO: Info = Info {
    slug: "enrow",
    name: "Enrow",
    accepts: Accepts { kind: Kind::Finding, max_records: 3_000, options: &[] },
    stops: false,
    webhooks: true,
    recovers: false,
    lists: false,
    rate: Rate { calls: 10, per: Duration::from_secs(1) },
    counted: QuotaScope::Writes,
    retention_days: None,
    documentation: "https://docs.enrow.io/api-reference/phone/find-bulk",
    base_url: "https://api.enrow.io",
    key_header: "x-api-key",
    key_prefix: "",
};

/// Enrow in the list of vendors.
pub(super) const VENDOR: Vendor = Vendor {
    info: &INFO,
    connect: |client| Arc::new(Enrow { client }),
    map: |id, replies| wire::batch(id, next_reply(&mut replies.iter())?),
    simulator: sandbox::SIMULATOR,
    examples: &[
        Example { name: "running", shows: "at work", json: include_str!("examples/running.json") },
        Example { name: "completed", shows: "completed", json: include_str!("examples/completed.json") },
        Example {
            name: "completed_incomplete",
            shows: "completed with fewer results than requested",
            json: include_str!("examples/completed_incomplete.json"),
        },
        Example { name: "failed", shows: "failed", json: include_str!("examples/failed.json") },
        Example {
            name: "unknown",
            shows: "a word that the schema does not know",
            json: include_str!("examples/unknown.json"),
        },
    ],
};

#[derive(Debug)]
struct Enrow {
    client: VendorClient,
}

#[async_trait]
impl Provider for Enrow {
    fn info(&self) -> &'static Info {
        &INFO
    }

    async fn fetch(&self, id: &BatchId, call: &Call) -> Result<Batch, ProviderError> {
        let request = Read::new("get_bulk", format!("/phone/bulk?id={id}"));
        self.client.read(call, &request, |reply| wire::batch(id, reply)).await
    }

    async fn submit(&self, order: &Order<'_>, call: &Call) -> Result<Batch, SubmitError> {
        let request =
            Write::new("submit_bulk", "/phone/bulk".to_owned()).json(&wire::NewBulk::from(order))?;
        self.client.write(call, &request, |reply| wire::taken(order, reply)).await
    }

    fn recover<'r>(&'r self, submissions: &'r [SubmissionId], _: &'r Call) -> BoxStream<'r, Recovered> {
        stream::iter(submissions.iter().map(|_| Err(UNSUPPORTED))).boxed()
    }

    async fn list_running(&self, _: &Call) -> Result<HashMap<BatchId, RunningBatch>, ProviderError> {
        Err(UNSUPPORTED)
    }

    async fn stop(&self, _: &BatchId, _: &Call) -> Result<(), ProviderError> {
        Err(UNSUPPORTED)
    }

    fn webhook(&self, body: &[u8]) -> Option<BatchId> {
        wire::ended(body)
    }
}
