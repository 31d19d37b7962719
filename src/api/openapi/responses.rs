//! The answers that are batches.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::IntoResponses;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr};

use crate::providers::{VENDORS, Vendor};

/// The answers to the reading of a batch.
pub(in crate::api) struct BatchResponses;

impl IntoResponses for BatchResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let found = batch("The batch as it stands. `done` says whether it has come to its end.", |_| true)
            .header("ETag", header("Strong entity tag of exactly this document"))
            .header("Cache-Status", header("Where the answer came from, RFC 9211: hit, miss or collapsed"))
            .header("Preference-Applied", header("`wait=N` as it was applied, if it was asked for"))
            .build();
        let unchanged =
            ResponseBuilder::new().description("The document that you have is the current one.").build();
        BTreeMap::from([("200".to_owned(), RefOr::T(found)), ("304".to_owned(), RefOr::T(unchanged))])
    }
}

/// The answer to a submission.
pub(in crate::api) struct SubmittedBatch;

impl IntoResponses for SubmittedBatch {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let description =
            "The vendor took the batch; this is how it took it. A repetition gets the same answer.";
        let taken = batch(description, |example| example["done"] == false)
            .header("Location", header("Where to read the batch"))
            .header("Idempotent-Replayed", header("`true` on the answer to a repetition"))
            .build();
        BTreeMap::from([("202".to_owned(), RefOr::T(taken))])
    }
}

/// The answer to the stopping of a batch.
pub(in crate::api) struct StoppedBatch;

impl IntoResponses for StoppedBatch {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let stopped = batch("The batch as it stands now; a vendor may need a while.", |_| true)
            .header("ETag", header("Strong entity tag of exactly this document"))
            .build();
        BTreeMap::from([("200".to_owned(), RefOr::T(stopped))])
    }
}

/// The answer to the erasing of a batch.
pub(in crate::api) struct ErasedBatch;

impl IntoResponses for ErasedBatch {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let erased = ResponseBuilder::new().description("The gateway holds nothing of the batch.").build();
        BTreeMap::from([("204".to_owned(), RefOr::T(erased))])
    }
}

fn batch(description: &str, shown: fn(&Value) -> bool) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(description)
        .header("Retry-After", seconds("Seconds until asking again is useful; only while not done"))
        .header("X-Request-Id", header("Id of the request: yours, or a new one"))
        .content("application/json", content(shown))
}

/// A batch, with those of the vendors' examples that fit.
fn content(shown: fn(&Value) -> bool) -> Content {
    let examples = VENDORS.iter().flat_map(|Vendor { info, examples, .. }| {
        examples.iter().filter_map(move |example| {
            let value: Value = serde_json::from_str(example.json).unwrap_or_default();
            let summary = format!("{}: {}", info.name, example.shows);
            let name = format!("{}_{}", info.slug, example.name);
            shown(&value).then(|| (name, ExampleBuilder::new().summary(summary).value(Some(value)).build()))
        })
    });
    ContentBuilder::new().schema(Some(Ref::from_schema_name("Batch"))).examples_from_iter(examples).build()
}

/// A header of a response.
pub(super) fn header(description: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

/// A header of a response that is a number of seconds.
pub(super) fn seconds(description: &str) -> Header {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    HeaderBuilder::new().schema(Some(number)).description(Some(description)).build()
}
