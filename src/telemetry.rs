//! What the platform team sees: one log line a request, and the metrics.
//!
//! Logs and metrics hold identifiers only: no body, no key, no phone number, no name, no raw path (an unknown
//! path may hold anything) and no raw query.

mod exposition;
mod log;
mod metrics;
mod panics;
mod trace;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::{Error, HttpMessage};
use tracing::{Level, Span};
use tracing_actix_web::RootSpanBuilder;
use uuid::Uuid;

pub use self::exposition::Exposition;
pub use self::log::{LogGuard, init, write_in_time};
pub use self::metrics::{ConnectionEnd, LastCall, Metrics, Refusal};
pub use self::panics::{blocking_on_behalf_of, current_request_id, on_behalf_of};
pub use self::trace::TraceContext;
use crate::batch::{BatchId, SubmissionId};
use crate::cache::CacheStatus;

/// Targets of the lines of requests in the log: of probes that succeed, and of all others.
const PROBES: &str = "phone_gateway::probes";
const REQUESTS: &str = "phone_gateway::requests";
/// Routes that the platform asks all the time.
const PROBE_ROUTES: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Codes of refusals that concern money: an account without credits, and submissions that cannot be sent again.
const MONEY_CODES: [&str; 4] =
    ["provider_credits_exhausted", "idempotency_key_in_use", "submission_in_doubt", "idempotency_key_reused"];

/// Name of the header that carries the id of a request, in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// What is known of a request from its head on, for everybody who has to name it.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The caller's `X-Request-Id` if it is a sane one, else a new UUID.
    pub request_id: Arc<str>,
    /// The caller's trace, or a new one.
    pub trace: TraceContext,
    /// When the head was here.
    pub began: Instant,
}

impl RequestContext {
    fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // What is no text becomes what is not valid in either header.
        let all = |name: &str| -> Vec<&str> {
            headers.get_all(name).map(|value| value.to_str().unwrap_or("=")).collect()
        };
        Self {
            request_id: text(REQUEST_ID).filter(|id| is_sane(id)).map_or_else(new_request_id, Arc::from),
            trace: TraceContext::of_request(&all(TraceContext::HEADER), &all(TraceContext::STATE_HEADER)),
            began: Instant::now(),
        }
    }

    /// The context of what never became a request.
    #[must_use]
    pub fn unread(began: Instant) -> Self {
        Self { began, ..Self::from_headers(&HeaderMap::new()) }
    }

    /// The context that the outermost layer put into the request.
    #[must_use]
    pub fn of(request: &impl HttpMessage) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self::from_headers(&HeaderMap::new()))
    }
}

/// An id that is safe in every log and header, ours and the vendors'.
fn is_sane(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(allowed)
}

fn new_request_id() -> Arc<str> {
    Uuid::now_v7().to_string().into()
}

/// What a handler learnt of a request, for its log line.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// Name of the client.
    pub client: Option<Arc<str>>,
    /// Address of a caller without a right key.
    pub client_address: Option<IpAddr>,
    /// Slug of the provider.
    pub provider: Option<&'static str>,
    /// Id of the batch, checked.
    pub batch_id: Option<BatchId>,
    /// Id of the submission.
    pub submission_id: Option<SubmissionId>,
    /// Where the answer came from.
    pub cache: Option<CacheStatus>,
}

/// What is learnt of a request on its way. It outlives the request: the log line is written even if the caller hangs up
/// or the handler panics.
pub type Learning = Rc<RefCell<Learnt>>;

/// Notes what a handler learnt of its request.
pub fn learn(request: &impl HttpMessage, note: impl FnOnce(&mut Learnt)) {
    if let Some(learning) = request.extensions().get::<Learning>() {
        note(&mut learning.borrow_mut());
    }
}

/// The root span of a request, without fields: the one that tracing-actix-web makes by default records the path,
/// the query and the caller's address, and each line names its request itself.
#[derive(Debug)]
pub struct GatewaySpan;

impl RootSpanBuilder for GatewaySpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let context = RequestContext::from_headers(request.headers());
        request.extensions_mut().insert(context);
        tracing::info_span!("request")
    }

    /// The line is written by [`request_completed`], which also knows the responses to panics.
    fn on_request_end<B: MessageBody>(_: Span, _: &Result<ServiceResponse<B>, Error>) {}
}

/// Writes the one log line of a request and counts it; there is no `method` where it could not be read.
pub fn request_completed(
    metrics: &Metrics,
    method: Option<&actix_web::http::Method>,
    route: Option<&str>,
    status: u16,
    code: Option<&'static str>,
    context: &RequestContext,
    learnt: &Learnt,
) {
    let elapsed = context.began.elapsed();
    let (method, route) = (method.map_or("other", method_label), route.unwrap_or("unmatched"));
    metrics.http_request(method, route, status, elapsed);
    // The level and the target of an event are constants.
    macro_rules! write_line {
        ($target:expr, $level:expr) => {
            tracing::event!(
                target: $target,
                $level,
                request_id = &*context.request_id,
                trace_id = context.trace.trace_id(),
                method,
                route,
                status,
                code,
                duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                client = learnt.client.as_deref(),
                client_address = learnt.client_address.map(tracing::field::display),
                provider = learnt.provider,
                batch_id = learnt.batch_id.as_ref().map(BatchId::as_str),
                submission_id = learnt.submission_id.map(tracing::field::display),
                cache = learnt.cache.map(CacheStatus::word),
                "request completed"
            )
        };
    }
    match request_level(status, code) {
        Level::ERROR => write_line!(REQUESTS, Level::ERROR),
        Level::WARN => write_line!(REQUESTS, Level::WARN),
        _ if status < 400 && PROBE_ROUTES.contains(&route) => write_line!(PROBES, Level::INFO),
        _ => write_line!(REQUESTS, Level::INFO),
    }
}

/// The level of the line of a request: failures of the gateway and of vendors, and refusals that concern money, stand
/// out.
fn request_level(status: u16, code: Option<&'static str>) -> Level {
    match (status, code) {
        // Expected while the gateway stops.
        (_, Some("shutting_down")) => Level::INFO,
        (500.., _) => Level::ERROR,
        (_, Some(code)) if MONEY_CODES.contains(&code) => Level::WARN,
        _ => Level::INFO,
    }
}

/// The method, if it is a standard one: a caller may send any word.
fn method_label(method: &actix_web::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
