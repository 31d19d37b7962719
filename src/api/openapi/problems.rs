//! Which errors each operation can give, out of the code table.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::IntoResponses;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Ref, RefOr};

use super::responses::{header, seconds};
use crate::error::{CODES, Code, CodeInfo, PROBLEM_JSON, RetryAfter};

/// What any operation with a key can give.
const ANY: &[Code] = &[Code::Unauthenticated, Code::Forbidden, Code::RateLimited, Code::InternalError];
/// What any request can be answered with before it is looked at.
const REQUEST: &[Code] =
    &[Code::MalformedRequest, Code::RequestTimeout, Code::UriTooLong, Code::HeadTooLarge, Code::Overloaded];
/// What any operation can give that names a provider.
const PROVIDER: &[Code] = &[Code::UnknownProvider];
/// What any operation can give that asks the store.
const STORE: &[Code] = &[Code::StoreUnavailable];
/// What any operation can give that takes JSON.
const JSON: &[Code] =
    &[Code::InvalidRequest, Code::BodyTooLarge, Code::UnsupportedMediaType, Code::InvalidBody];
/// What any operation can give that asks a vendor.
const VENDOR: &[Code] = &[
    Code::ProviderCreditsExhausted,
    Code::ProviderUnreachable,
    Code::ProviderMalformed,
    Code::ProviderCredentials,
    Code::ProviderError,
    Code::ProviderRateLimited,
    Code::ProviderUnavailable,
    Code::ProviderTimeout,
];
/// What any operation can give that reads a batch from a vendor.
const BATCH: &[Code] = &[
    Code::InvalidBatchId,
    Code::BatchNotFound,
    Code::BatchExpired,
    Code::BatchErased,
    Code::ProviderIntegrity,
];

macro_rules! problems {
    ($($(#[$doc:meta])* $operation:ident: $($codes:expr),+;)+) => {$(
        $(#[$doc])*
        pub(in crate::api) struct $operation;

        impl IntoResponses for $operation {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                problem_responses(&[$($codes),+])
            }
        }
    )+};
}

problems! {
    /// The errors of `POST /batches/{provider}`.
    SubmitProblems: REQUEST, ANY, PROVIDER, STORE, JSON, VENDOR, &[
        Code::IdempotencyKeyMissing,
        Code::IdempotencyKeyInUse,
        Code::IdempotencyKeyReused,
        Code::SubmissionStillInDoubt,
        Code::SubmissionInDoubt,
        Code::BatchNotFound,
        Code::BatchExpired,
        Code::BatchErased,
        Code::ProviderRefused,
        Code::ProviderIntegrity,
    ];
    /// The errors of `GET /batches/{provider}/{id}`.
    ReadProblems: REQUEST, ANY, PROVIDER, STORE, VENDOR, BATCH;
    /// The errors of `POST /batches/{provider}/{id}/stop`.
    StopProblems: REQUEST, ANY, PROVIDER, STORE, VENDOR, BATCH, &[Code::NotSupported, Code::ProviderRefused];
    /// The errors of `DELETE /batches/{provider}/{id}`.
    EraseProblems: REQUEST, ANY, PROVIDER, STORE, &[Code::InvalidBatchId];
    /// The errors of `GET /batches`.
    ListProblems: REQUEST, ANY, PROVIDER, STORE, &[Code::InvalidRequest];
    /// The errors of `GET /providers`.
    ProvidersProblems: REQUEST, ANY, &[Code::InvalidRequest];
    /// The errors of `GET /usage`.
    UsageProblems: REQUEST, ANY, PROVIDER, STORE, &[Code::InvalidRequest];
    /// The errors of `GET /submissions`.
    SubmissionsProblems: REQUEST, ANY, STORE, &[Code::InvalidRequest];
    /// The errors of `GET /submissions/{id}`.
    SubmissionProblems: REQUEST, ANY, STORE, &[Code::InvalidRequest, Code::SubmissionNotFound];
    /// The errors of `POST /submissions/{id}/resolve`.
    ResolveProblems: REQUEST, ANY, STORE, JSON, &[
        Code::SubmissionNotFound,
        Code::SubmissionNotInDoubt,
        Code::SubmissionBusy,
    ];
    /// The errors of `POST /webhooks/{provider}/{token}`, which needs no key.
    WebhookProblems: REQUEST, STORE, &[
        Code::InvalidRequest,
        Code::RouteNotFound,
        Code::BodyTooLarge,
        Code::InternalError,
    ];
    /// The answers of `/readyz` once the gateway is stopping, and while its store's file is lost.
    NotReady: &[Code::ShuttingDown, Code::StoreUnavailable];
}

/// One response for each status of the chosen rows of the code table.
fn problem_responses(chosen: &[&[Code]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<&CodeInfo>>::new();
    for row in CODES.iter().filter(|row| chosen.iter().any(|codes| codes.contains(&row.code))) {
        by_status.entry(row.status).or_default().push(row);
    }
    let response = |rows: &[&CodeInfo]| {
        let list: Vec<_> = rows.iter().map(|row| format!("`{}`: {}", row.name, row.when)).collect();
        ResponseBuilder::new().description(list.join("\n\n")).content(PROBLEM_JSON, problems(rows))
    };
    let with_headers = |status: u16, rows: &[&CodeInfo]| {
        let waits = |row: &&CodeInfo| row.retry_after != RetryAfter::Never;
        let always = |row: &&CodeInfo| matches!(row.retry_after, RetryAfter::Always(_));
        let response = match status {
            401 => response(rows).header("WWW-Authenticate", header("`Bearer`, RFC 6750")),
            _ => response(rows),
        };
        match (rows.iter().any(waits), rows.iter().all(always)) {
            (_, true) => response.header("Retry-After", seconds("Seconds until asking again is useful")),
            (true, false) => {
                let meaning = "Seconds until asking again is useful, where that is known";
                response.header("Retry-After", seconds(meaning))
            }
            (false, false) => response,
        }
    };
    by_status
        .iter()
        .map(|(status, rows)| (status.to_string(), RefOr::T(with_headers(*status, rows).build())))
        .collect()
}

fn problems(rows: &[&CodeInfo]) -> Content {
    let example = |row: &&CodeInfo| {
        let problem = json!({
            "type": format!("urn:phone-gateway:problem:{}", row.name),
            "title": row.title,
            "status": row.status,
            "detail": row.when,
            "instance": "/path/of/the/request",
            "code": row.name,
            "request_id": "01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d",
            "retryable": row.retryable,
        });
        (row.name, ExampleBuilder::new().summary(row.title).value(Some(problem)).build())
    };
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(rows.iter().map(example))
        .build()
}
