//! What the fuzz targets share.

#[path = "../../tests/api/helpers/invariants.rs"]
mod invariants;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use phone_gateway::batch::BatchId;
use phone_gateway::http::Reply;
use phone_gateway::providers::VENDORS;
use serde_json::Value;

/// Asked for where the input names no batch.
const SOME_ID: &str = "00000000-0000-0000-0000-000000000000";

/// 2026-11-22T10:00:00Z
pub fn now() -> Timestamp {
    Timestamp::constant(1_795_341_600, 0)
}

/// Decodes replies of a vendor: a file of `tests/fixtures`, or any bytes as the body of every reply.
///
/// # Panics
/// When what is decoded is not what every batch must be.
pub fn decode(slug: &str, input: &[u8]) {
    let vendor = VENDORS.iter().find(|vendor| vendor.info.slug == slug).expect("a vendor");
    let (id, replies) = fixture(input).unwrap_or_else(|| {
        let reply = || Reply::new(200, HeaderMap::new(), input.to_vec().into(), now());
        (SOME_ID.parse().expect("an id"), vec![reply(), reply()])
    });
    if let Ok(batch) = vendor.decode(&id, None, &replies) {
        assert_eq!(batch.id, id);
        let json = serde_json::to_value(&batch).expect("JSON");
        let faults = invariants::faults(&json);
        assert!(faults.is_empty(), "{faults:?}");
    }
}

fn fixture(input: &[u8]) -> Option<(BatchId, Vec<Reply>)> {
    let fixture: Value = serde_json::from_slice(input).ok()?;
    let replies = fixture.get("replies")?.as_array()?;
    Some((fixture.get("id")?.as_str()?.parse().ok()?, replies.iter().filter_map(reply).collect()))
}

fn reply(call: &Value) -> Option<Reply> {
    let header = |(name, value): (&String, &Value)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.as_str()?).ok()?))
    };
    let headers = call.get("headers").and_then(Value::as_object).into_iter().flatten().filter_map(header);
    let body = match (call.get("text"), call.get("body")) {
        (Some(text), _) => text.as_str()?.to_owned(),
        (None, Some(body)) => body.to_string(),
        (None, None) => String::new(),
    };
    let status = call.get("status")?.as_u64()?.try_into().ok()?;
    Some(Reply::new(status, headers.collect(), body.into(), now()))
}
