//! Every error that a caller can see: one type, one table of codes, one rendering (RFC 9457).
//!
//! An error has two readers. Programs branch on `code`, which never changes its meaning; people read
//! `title` and `detail`, which may be reworded at any time. Nothing that a vendor sent, no key, no phone
//! number and no internal cause is ever put into either.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::batch::SubmissionId;

/// Media type of every error, RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What a problem has as its `instance` in place of a path that is none of the gateway's.
pub(crate) const UNKNOWN_PATH: &str = "/*";

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The id in the path cannot be a batch id.
    InvalidBatchId,
    /// The request is not one that the gateway understands.
    InvalidRequest,
    /// What came is not HTTP.
    MalformedRequest,
    /// A submission without an idempotency key.
    IdempotencyKeyMissing,
    /// No valid gateway key.
    Unauthenticated,
    /// The vendor account has no credits left.
    ProviderCreditsExhausted,
    /// A valid gateway key that may not do this.
    Forbidden,
    /// No such provider here.
    UnknownProvider,
    /// The vendor does not know the batch.
    BatchNotFound,
    /// No such submission, or another client's.
    SubmissionNotFound,
    /// No such path.
    RouteNotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The request did not come in time.
    RequestTimeout,
    /// The same submission is under way.
    IdempotencyKeyInUse,
    /// A submission in doubt, asked for again.
    SubmissionStillInDoubt,
    /// An operator decided on a submission that is being looked up.
    SubmissionBusy,
    /// An operator decided on a submission that is not in doubt.
    SubmissionNotInDoubt,
    /// The batch is past the vendor's retention and not in the store.
    BatchExpired,
    /// The batch was erased here on request.
    BatchErased,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// Path and query are longer than allowed.
    UriTooLong,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The body can be read and is not what is allowed.
    InvalidBody,
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused,
    /// The vendor refuses the batch.
    ProviderRefused,
    /// The client, or who guesses keys, sends too much.
    RateLimited,
    /// The headers are larger than allowed.
    HeadTooLarge,
    /// A defect of the gateway.
    InternalError,
    /// The vendor has no such operation.
    NotSupported,
    /// The vendor could not be reached.
    ProviderUnreachable,
    /// The vendor's answer could not be understood.
    ProviderMalformed,
    /// The vendor's answer contradicts the question.
    ProviderIntegrity,
    /// The vendor rejects the gateway's key.
    ProviderCredentials,
    /// The vendor failed.
    ProviderError,
    /// The vendor throttles the gateway.
    ProviderRateLimited,
    /// The vendor says that it is down.
    ProviderUnavailable,
    /// The gateway has too much to do.
    Overloaded,
    /// The store does not answer.
    StoreUnavailable,
    /// The gateway is stopping.
    ShuttingDown,
    /// The vendor did not answer in time.
    ProviderTimeout,
    /// A submission was sent and no usable answer came.
    SubmissionInDoubt,
}

/// One row of the code table.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The code.
    pub code: Code,
    /// The code as it stands in the JSON.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Short text for people, the same for every occurrence.
    pub title: &'static str,
    /// Whether the same request may succeed later. One that carries `Retry-After` always may.
    pub retryable: bool,
    /// Whether it carries `Retry-After`.
    pub retry_after: RetryAfter,
    /// When it occurs.
    pub when: &'static str,
}

/// Whether an error carries `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Never: time changes nothing, or nobody knows how much of it.
    Never,
    /// Where a time is known: the vendor named one, or the gateway does not call it for so long.
    IfKnown,
    /// Always; so many seconds where nothing better is known.
    Always(u64),
}

/// The code table: the source of the HTTP mapping, of the OpenAPI document and of docs/errors.md.
#[rustfmt::skip]
pub const CODES: &[CodeInfo] = &[
    row(Code::InvalidBatchId, "invalid_batch_id", 400, "Invalid batch id", false,
        "The id is not 1 to 64 letters, digits, `_` or `-`. No vendor was called."),
    row(Code::InvalidRequest, "invalid_request", 400, "Invalid request", false,
        "A parameter, a header or the JSON of the request is not understood. No vendor was called."),
    row(Code::MalformedRequest, "malformed_request", 400, "Malformed request", false,
        "What came is not an HTTP request, or can be read in two ways. The connection is closed."),
    row(Code::IdempotencyKeyMissing, "idempotency_key_missing", 400, "Idempotency key needed", false,
        "A submission needs an `Idempotency-Key` of 1 to 255 printable ASCII characters. Nothing was sent."),
    row(Code::Unauthenticated, "unauthenticated", 401, "Gateway key needed", false,
        "The `Authorization` header carries no valid gateway key."),
    row(Code::ProviderCreditsExhausted, "provider_credits_exhausted", 402, "Vendor account has no credits", false,
        "The vendor account behind the gateway has no credits left."),
    row(Code::Forbidden, "forbidden", 403, "Not allowed for this key", false,
        "The gateway key is valid and lacks this provider or the scope of this operation."),
    row(Code::UnknownProvider, "unknown_provider", 404, "Unknown provider", false,
        "No such provider, or it is not switched on here. The detail lists those that are."),
    row(Code::BatchNotFound, "batch_not_found", 404, "Batch not found", false,
        "The vendor does not know the batch, or no longer; where it cannot tell, the detail says so."),
    row(Code::SubmissionNotFound, "submission_not_found", 404, "Submission not found", false,
        "There is no such submission, or it is another client's."),
    row(Code::RouteNotFound, "route_not_found", 404, "No such path", false,
        "The path is not part of this API. See `/docs/`."),
    row(Code::MethodNotAllowed, "method_not_allowed", 405, "Method not allowed", false,
        "The path exists, the method does not. `Allow` lists those that do."),
    row(Code::RequestTimeout, "request_timeout", 408, "Request too slow", true,
        "The head or the body of the request did not come in time. Nothing was sent; the connection is closed."),
    row(Code::IdempotencyKeyInUse, "idempotency_key_in_use", 409, "Submission under way", true,
        "A submission with this key is under way and took longer than this request could wait. Send the same again.").waits(1),
    row(Code::SubmissionStillInDoubt, "submission_in_doubt", 409, "Submission in doubt", true,
        "An earlier request with this key was sent and got no usable answer. It is not sent again; the same request gets the batch once the doubt is settled, see `/submissions/{id}`.").waits(60),
    row(Code::SubmissionBusy, "submission_busy", 409, "Submission being looked up", true,
        "The gateway is asking the vendor for this submission right now; decide after that.").waits(5),
    row(Code::SubmissionNotInDoubt, "submission_not_in_doubt", 409, "Submission not in doubt", false,
        "Only a submission in doubt can be decided on."),
    row(Code::BatchExpired, "batch_expired", 410, "Batch expired", false,
        "The vendor's retention period has passed and the gateway has no final result."),
    row(Code::BatchErased, "batch_erased", 410, "Batch erased", false,
        "The batch was erased here on request. It is not asked for at the vendor again."),
    row(Code::BodyTooLarge, "body_too_large", 413, "Body too large", false,
        "The body has more bytes than `server.max_body_bytes`, or a webhook's more than 64 KiB."),
    row(Code::UriTooLong, "uri_too_long", 414, "Path or query too long", false,
        "Path and query together have more bytes than `server.max_uri_bytes`."),
    row(Code::UnsupportedMediaType, "unsupported_media_type", 415, "JSON needed", false,
        "The body must be `application/json`, not compressed."),
    row(Code::InvalidBody, "invalid_request", 422, "Invalid request", false,
        "The body can be read, and something in it is not allowed: `errors` lists all of it. Nothing was sent."),
    row(Code::IdempotencyKeyReused, "idempotency_key_reused", 422, "Idempotency key reused", false,
        "The key belongs to another request of the last 30 days. Nothing was sent."),
    row(Code::ProviderRefused, "provider_refused", 422, "Vendor refuses the batch", false,
        "The vendor refuses the batch as it is. Nothing was charged."),
    row(Code::RateLimited, "rate_limited", 429, "Too many requests", true,
        "Too many requests of this client, wrong keys from this address, or reads of unknown batches; see `Retry-After`.").waits(5),
    row(Code::HeadTooLarge, "head_too_large", 431, "Headers too large", false,
        "The headers together have more bytes than `server.max_header_bytes`, or there are more than 96."),
    row(Code::InternalError, "internal_error", 500, "Internal error", true,
        "A defect of the gateway; the log has the cause under the same `request_id`."),
    row(Code::NotSupported, "not_supported", 501, "Not supported by the vendor", false,
        "The vendor has no such operation; `GET /providers` says what it has."),
    row(Code::ProviderUnreachable, "provider_unreachable", 502, "Vendor unreachable", true,
        "No connection to the vendor, or it broke before a whole answer was there.").waits_if_known(),
    row(Code::ProviderMalformed, "provider_malformed", 502, "Vendor answer not understood", true,
        "The vendor's answer is not what its documents promise.").waits_if_known(),
    row(Code::ProviderIntegrity, "provider_integrity", 502, "Vendor answered for another batch", true,
        "The vendor's answer carries another batch's id. Nothing of it was kept.").waits_if_known(),
    row(Code::ProviderCredentials, "provider_credentials", 502, "Vendor rejects the gateway's key", false,
        "The vendor rejects the gateway's API key: it is wrong or lacks a permission. After a second rejection in a row the vendor is not called for `http.credentials_pause`; so long `retryable` is true.").waits_if_known(),
    row(Code::ProviderError, "provider_error", 502, "Vendor failed", true,
        "The vendor answered with an error or an undocumented status, rejected the form of the gateway's request, or something in front of the vendor refused the call.").waits_if_known(),
    row(Code::ProviderRateLimited, "provider_rate_limited", 503, "Vendor throttles", true,
        "The vendor throttles the gateway; `Retry-After` says when to come back.").waits(5),
    row(Code::ProviderUnavailable, "provider_unavailable", 503, "Vendor unavailable", true,
        "The vendor is out of service, failed too often lately or has too many calls under way; `Retry-After` says when to come back.").waits(5),
    row(Code::Overloaded, "overloaded", 503, "Gateway has too much to do", true,
        "More requests are in progress, or more bodies in memory, than the gateway takes on. Nothing was sent.").waits(1),
    row(Code::StoreUnavailable, "store_unavailable", 503, "Store unavailable", true,
        "The gateway's store does not answer. This request sent nothing that costs money.").waits(5),
    row(Code::ShuttingDown, "shutting_down", 503, "Gateway is stopping", true,
        "Only from `/readyz`: this process is stopping and should be sent nothing new.").waits(5),
    row(Code::ProviderTimeout, "provider_timeout", 504, "Vendor too slow", true,
        "The vendor gave no whole answer in time.").waits_if_known(),
    row(Code::SubmissionInDoubt, "submission_in_doubt", 504, "Submission in doubt", false,
        "This request was sent and got no usable answer: the vendor may have charged. It is not sent again, see `/submissions/{id}`."),
];

#[rustfmt::skip]
const fn row(
    code: Code, name: &'static str, status: u16, title: &'static str, retryable: bool, when: &'static str,
) -> CodeInfo {
    CodeInfo { code, name, status, title, retryable, retry_after: RetryAfter::Never, when }
}

impl CodeInfo {
    const fn waits_if_known(self) -> Self {
        Self { retry_after: RetryAfter::IfKnown, ..self }
    }

    const fn waits(self, seconds: u64) -> Self {
        Self { retry_after: RetryAfter::Always(seconds), ..self }
    }
}

impl Code {
    /// The row of the table.
    #[must_use]
    pub const fn info(self) -> &'static CodeInfo {
        // The table is in the order of the enumeration; a test holds it to that.
        &CODES[self as usize]
    }
}

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub struct Error {
    /// What went wrong, for programs.
    pub code: Code,
    /// What went wrong, for people.
    pub detail: Cow<'static, str>,
    /// The vendor, where the error comes of dealing with one.
    pub provider: Option<&'static str>,
    /// How long to wait before the next try.
    pub retry_after: Option<Duration>,
    /// What is wrong with which part of the request.
    pub errors: Vec<InvalidPart>,
    /// How many more parts are wrong than `errors` lists.
    pub errors_unlisted: u32,
    /// Methods that the path has, for `Allow`.
    pub allow: Option<Box<str>>,
    /// The submission that it is about.
    pub submission: Option<SubmissionId>,
}

impl Error {
    /// An error without further facts.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            provider: None,
            retry_after: None,
            errors: Vec::new(),
            errors_unlisted: 0,
            allow: None,
            submission: None,
        }
    }

    /// The request cannot be carried out because of one of its parameters.
    pub fn invalid_parameter(
        code: Code,
        parameter: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let detail = detail.into();
        let errors = vec![InvalidPart::parameter(parameter, detail.clone())];
        Self { errors, ..Self::new(code, detail) }
    }

    /// The request cannot be carried out because of some of its parameters.
    #[must_use]
    pub fn invalid_parameters(errors: Vec<InvalidPart>) -> Self {
        let detail = match errors.as_slice() {
            [InvalidPart { parameter: Some(name), detail, .. }] => {
                format!("The parameter `{name}` {detail}.")
            }
            [_] => "One parameter is not allowed; `errors` says why.".to_owned(),
            _ => format!("{} parameters are not allowed; `errors` lists them.", errors.len()),
        };
        Self { errors, ..Self::new(Code::InvalidRequest, detail) }
    }

    /// No such submission, or not one that the caller may know of.
    #[must_use]
    pub fn submission_not_found() -> Self {
        Self::new(Code::SubmissionNotFound, "There is no such submission, or it is another client's.")
    }

    /// No such path.
    #[must_use]
    pub fn route_not_found() -> Self {
        Self::new(Code::RouteNotFound, "There is no such path; /docs/ shows those that there are.")
    }

    /// The batch was erased here.
    #[must_use]
    pub fn batch_erased() -> Self {
        Self::new(
            Code::BatchErased,
            "The batch was erased here on request; it is not asked for at the vendor again.",
        )
    }

    /// The store does not answer; the cause belongs into the log, not here.
    #[must_use]
    pub fn store_unavailable() -> Self {
        Self::new(Code::StoreUnavailable, "The gateway's store does not answer; its log has the cause.")
    }

    /// More to do than the gateway takes on.
    #[must_use]
    pub fn overloaded(detail: &'static str) -> Self {
        Self::new(Code::Overloaded, detail)
    }

    /// What is wrong with the body.
    #[must_use]
    pub fn invalid_body(errors: impl Into<InvalidParts>) -> Self {
        let InvalidParts { listed: errors, total } = errors.into();
        let detail = match total {
            1 => "One part of the body is not allowed; nothing was done.".to_owned(),
            count => format!("{count} parts of the body are not allowed; nothing was done."),
        };
        let errors_unlisted = u32::try_from(total - errors.len()).unwrap_or(u32::MAX);
        Self { errors, errors_unlisted, ..Self::new(Code::InvalidBody, detail) }
    }

    /// A defect of the gateway; the cause belongs into the log, not here.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(Code::InternalError, "The gateway failed; its log has the cause under this request_id.")
    }

    /// The error as an HTTP response.
    #[must_use]
    pub fn render(&self, request_id: &str, instance: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(wait) = self.wait() {
            response.insert_header((header::RETRY_AFTER, whole_seconds(wait)));
        }
        if self.code == Code::Unauthenticated {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"phone-gateway\""));
        }
        if let Some(allow) = self.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            response.insert_header((header::ALLOW, allow));
        }
        response.json(self.problem(request_id, instance))
    }

    /// What `Retry-After` says.
    fn wait(&self) -> Option<Duration> {
        match self.code.info().retry_after {
            RetryAfter::Never => None,
            RetryAfter::IfKnown => self.retry_after,
            RetryAfter::Always(seconds) => Some(self.retry_after.unwrap_or(Duration::from_secs(seconds))),
        }
    }

    /// The error as its document.
    #[must_use]
    pub fn problem<'a>(&'a self, request_id: &'a str, instance: &'a str) -> Problem<'a> {
        let info = self.code.info();
        Problem {
            r#type: format!("urn:phone-gateway:problem:{}", info.name),
            title: info.title,
            status: info.status,
            detail: &self.detail,
            instance,
            code: info.name,
            request_id,
            provider: self.provider,
            retryable: info.retryable || self.wait().is_some(),
            submission_id: self.submission,
            errors: &self.errors,
            errors_total: (self.errors_unlisted > 0)
                .then(|| self.errors.len() as u64 + u64::from(self.errors_unlisted)),
        }
    }
}

/// A waiting time as `Retry-After` writes it: whole seconds, rounded up, at least 1.
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.info().name, self.detail)
    }
}

impl std::error::Error for Error {}

/// The response carries the error in its extensions; the outermost layer, which knows the request, renders it.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.info().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        response.extensions_mut().insert(self.clone());
        response
    }
}

/// What is wrong with one part of a request: a parameter, or a part of the body.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InvalidPart {
    /// Name of the path or query parameter or of the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "id")]
    pub parameter: Option<Cow<'static, str>>,
    /// Where in the body, as a JSON pointer (RFC 6901); empty for the body itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/records/0/number")]
    pub pointer: Option<String>,
    /// What is allowed there.
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
}

impl InvalidPart {
    /// What is wrong with a parameter or a header.
    #[must_use]
    pub const fn parameter(name: &'static str, detail: Cow<'static, str>) -> Self {
        Self { parameter: Some(Cow::Borrowed(name)), pointer: None, detail }
    }

    /// What is wrong with a parameter that nobody foresaw.
    #[must_use]
    pub fn unknown_parameter(name: &str, detail: Cow<'static, str>) -> Self {
        let name = Self::is_harmless(name).then(|| name.to_owned().into());
        Self { parameter: name, pointer: None, detail }
    }

    /// Whether a name that nobody foresaw may be repeated: it may hold anything.
    #[must_use]
    pub fn is_harmless(name: &str) -> bool {
        name.len() <= 40 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    }

    /// What is wrong with a part of the body.
    pub fn pointer(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { parameter: None, pointer: Some(pointer.into()), detail: detail.into() }
    }
}

/// What is wrong with a body.
#[derive(Clone, Debug)]
pub struct InvalidParts {
    /// The first of them.
    pub listed: Vec<InvalidPart>,
    /// How many there are.
    pub total: usize,
}

impl From<Vec<InvalidPart>> for InvalidParts {
    fn from(listed: Vec<InvalidPart>) -> Self {
        Self { total: listed.len(), listed }
    }
}

/// An error as `application/problem+json`, RFC 9457.
#[derive(Serialize, ToSchema)]
pub struct Problem<'a> {
    /// URN of the kind of problem.
    #[schema(example = "urn:phone-gateway:problem:batch_not_found")]
    pub r#type: String,
    /// The kind of problem, for people.
    pub title: &'a str,
    /// HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// This occurrence, for people. May be reworded at any time.
    pub detail: &'a str,
    /// Path of the request.
    pub instance: &'a str,
    /// The kind of problem, for programs: never changes its meaning. Open enumeration.
    pub code: &'a str,
    /// Id of the request, also in `X-Request-Id` and in the gateway's log.
    pub request_id: &'a str,
    /// Slug of the vendor, where the error comes of dealing with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub provider: Option<&'a str>,
    /// Whether the same request may succeed later; true whenever there is a `Retry-After`.
    pub retryable: bool,
    /// The submission that it is about: `/submissions/{submission_id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub submission_id: Option<SubmissionId>,
    /// What is wrong with which part of the request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Option<Vec<InvalidPart>>)]
    pub errors: &'a [InvalidPart],
    /// How many parts are wrong, where `errors` lists only the first 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1001)]
    pub errors_total: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enumeration() {
        for (position, row) in CODES.iter().enumerate() {
            assert_eq!(row.code as usize, position, "{}", row.name);
            assert_eq!(row.code.info().name, row.name);
        }
    }

    #[test]
    fn every_error_waits_as_the_table_says_and_is_retryable_where_it_waits() {
        for row in CODES {
            for known in [None, Some(Duration::from_millis(6_001))] {
                let error = Error { retry_after: known, ..Error::new(row.code, "a detail") };
                let response = error.render("an-id", "/a/path");
                let wait = response.headers().get(header::RETRY_AFTER).map(|wait| wait.to_str().unwrap());
                let expected = match (row.retry_after, known) {
                    (RetryAfter::Never, _) | (RetryAfter::IfKnown, None) => None,
                    (RetryAfter::Always(seconds), None) => Some(seconds.to_string()),
                    (RetryAfter::IfKnown | RetryAfter::Always(_), Some(_)) => Some("7".to_owned()),
                };
                assert_eq!(wait, expected.as_deref(), "{}", row.name);
                assert_eq!(response.status().as_u16(), row.status);
                let retryable = error.problem("an-id", "/a/path").retryable;
                assert_eq!(retryable, row.retryable || wait.is_some(), "{}", row.name);
            }
            let passes = matches!(row.retry_after, RetryAfter::Always(_));
            assert!(row.retryable || !passes, "{} always names a time", row.name);
            // RFC 9110 10.2.3 and RFC 6585 4: who is to come back is told when.
            assert!(passes || ![429, 503].contains(&row.status), "{}", row.name);
        }
    }
}
