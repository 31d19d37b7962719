//! What the tests of all vendors' mappings are made of.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{Info, Order, ProviderError};
use crate::batch::SubmissionId;
use crate::http::{ProviderErrorKind, Reply, SubmitError};
use crate::submission::NewBatch;

/// Our own id of a submission.
pub(super) const SUBMISSION: &str = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071";

/// 2026-11-22T10:00:00Z
pub(super) const NOW: i64 = 1_795_341_600;

pub(super) fn submission() -> SubmissionId {
    SUBMISSION.parse().unwrap()
}

/// The order that a body amounts to.
pub(super) fn new_batch(info: &Info, body: &Value) -> NewBatch {
    NewBatch::from_json(body, &info.accepts).unwrap()
}

pub(super) fn order<'a>(batch: &'a NewBatch, webhook: Option<&'a str>) -> Order<'a> {
    Order { submission: submission(), batch, webhook }
}

/// A reply of 2026-11-22T10:00:00Z.
pub(super) fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Reply {
    let header = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let headers: HeaderMap = headers.iter().map(header).collect();
    Reply::new(status, headers, body.to_owned().into(), jiff::Timestamp::from_second(NOW).unwrap())
}

/// A reply with status 200.
pub(super) fn ok(body: &Value) -> Reply {
    reply(200, &[], &body.to_string())
}

/// What is known after a reply that could not be used: whether the submission is in doubt, why, and for how many
/// seconds to wait.
pub(super) fn known<T>(
    reply: &Reply,
    result: Result<T, ProviderError>,
) -> (bool, ProviderErrorKind, Option<u64>) {
    let error = SubmitError::from_reply(reply, result.err().unwrap());
    let cause = error.cause();
    assert!(cause.detail.starts_with("the "), "{cause} is to follow the vendor's name and a colon");
    let in_doubt = matches!(error, SubmitError::InDoubt(_));
    (in_doubt, cause.kind, cause.retry_after.map(|wait| wait.as_secs()))
}
