//! An answer of the gateway, and what must hold for every one of them.

use bytes::Bytes;
use phone_gateway::error::{CODES, RetryAfter};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// A whole HTTP response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
    /// The body as JSON; null when it is not.
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn new(status: u16, headers: HeaderMap, bytes: Bytes) -> Self {
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { status, headers, bytes, body }
    }

    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self::new(status, headers, response.bytes().await.unwrap())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Where the answer came from: `hit`, `store`, `miss` or `collapsed`.
    #[track_caller]
    pub(crate) fn cache(&self) -> &'static str {
        match self.header("cache-status") {
            Some("phone-gateway; hit") => "hit",
            Some("phone-gateway; hit; detail=store") => "store",
            Some("phone-gateway; fwd=miss") => "miss",
            Some("phone-gateway; fwd=miss; collapsed") => "collapsed",
            other => panic!("Cache-Status: {other:?}"),
        }
    }

    /// The batch of a 200, with all that holds for every batch.
    #[track_caller]
    pub(crate) fn batch(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.assert_ids();
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("private, no-cache"));
        let tag = self.header("etag").unwrap();
        assert!(tag.len() == 34 && tag.starts_with('"') && tag.ends_with('"'), "not a strong tag: {tag}");
        self.cache();
        let batch = &self.body;
        let done = batch["done"].as_bool().unwrap();
        assert_eq!(done, ["completed", "stopped", "failed"].contains(&batch["status"].as_str().unwrap()));
        assert_eq!(self.header("retry-after").is_some(), !done, "Retry-After says that a batch is not done");
        assert!(done || batch.get("results").is_none(), "a batch that is not done has results");
        assert_ne!(batch.get("results"), Some(&Value::Array(Vec::new())));
        assert!(batch["retrieved_at"].is_string());
        assert_says_something(batch, "");
        batch
    }

    /// Everything that a problem document promises.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        let text = self.text();
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{text}");
        self.assert_ids();
        let row = CODES.iter().find(|row| row.name == code && row.status == status).unwrap();
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.body["type"], format!("urn:phone-gateway:problem:{code}"));
        assert_eq!(self.body["title"], row.title);
        assert_eq!(self.body["status"], status);
        let wait = self.header("retry-after").map(|wait| wait.parse::<u64>().unwrap());
        let waits = match row.retry_after {
            RetryAfter::Never => wait.is_none(),
            RetryAfter::IfKnown => wait != Some(0),
            RetryAfter::Always(_) => wait.is_some_and(|wait| wait > 0),
        };
        assert!(waits, "Retry-After: {wait:?} for {:?}: {text}", row.retry_after);
        assert_eq!(self.body["retryable"], row.retryable || wait.is_some(), "{text}");
        assert_eq!(self.body["request_id"].as_str(), self.header("x-request-id"), "{text}");
        assert!(self.body["instance"].as_str().unwrap().starts_with('/'), "{text}");
        assert!(self.body["detail"].as_str().unwrap().len() > 10, "{text}");
        let about_a_vendor = code.starts_with("provider_")
            || ["batch_not_found", "batch_expired", "not_supported"].contains(&code)
            || (status, code) == (504, "submission_in_doubt");
        assert_eq!(self.body.get("provider").is_some(), about_a_vendor, "{text}");
        assert_eq!(self.header("www-authenticate").is_some(), status == 401);
        assert_says_something(&self.body, "");
    }

    #[track_caller]
    pub(super) fn assert_ids(&self) {
        assert!(!self.header("x-request-id").unwrap().is_empty());
        assert_eq!(self.header("traceparent").unwrap().len(), 55);
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
    }
}

/// Absent is absent: nothing is null or empty, but in what the caller gave the vendor himself.
#[track_caller]
fn assert_says_something(value: &Value, path: &str) {
    match value {
        Value::Null => panic!("{path} is null"),
        Value::String(text) => assert!(!text.is_empty(), "{path} is empty"),
        Value::Array(items) => {
            assert!(!items.is_empty(), "{path} is empty");
            for item in items {
                assert_says_something(item, path);
            }
        }
        Value::Object(fields) => {
            // A pointer to the whole body is empty, RFC 6901.
            let own = ["custom", "pointer"];
            for (name, value) in fields.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
                assert!(
                    name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()),
                    "{name}"
                );
                assert_says_something(value, &format!("{path}.{name}"));
            }
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}
