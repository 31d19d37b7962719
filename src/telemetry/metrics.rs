//! The metrics, as `OpenMetrics` text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::log::DroppedLines;
use super::panics::PANICS;
use crate::batch::DriftField;
use crate::cache::CacheStatus;
use crate::http::CallKind;
use crate::http::ProviderErrorKind;
use crate::submission::SubmissionState;

/// Upper bounds in seconds: from a cached read to a vendor at its deadline.
const BUCKETS: [f64; 12] = [0.000_25, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 13.0];

/// All metrics of one gateway.
pub struct Metrics {
    registry: Registry,
    http_requests: Family<HttpLabels, Counter>,
    auth_failures: Family<CodeLabels, Counter>,
    http_duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    batch_reads: Family<ReadLabels, Counter>,
    provider_requests: Family<ProviderResultLabels, Counter>,
    provider_duration: Family<ProviderLabels, Histogram, fn() -> Histogram>,
    provider_retries: Family<ProviderLabels, Counter>,
    provider_in_flight: Family<SlugLabels, Gauge>,
    provider_calls_rejected: Family<RefusalLabels, Counter>,
    provider_circuit_open: Family<CallKindLabels, Gauge>,
    provider_circuit_transitions: Family<CallKindLabels, Counter>,
    schema_drift: Family<DriftLabels, Counter>,
    results_incomplete: Family<SlugLabels, Counter>,
    status_regressions: Family<SlugLabels, Counter>,
    connections_closed: Family<ConnectionLabels, Counter>,
    cache_bytes: Gauge,
    submissions: Family<SubmissionLabels, Counter>,
    submissions_in_doubt: Gauge,
    batches_followed: Gauge,
    follower_restarts: Counter,
    waiters: Gauge,
    waiters_woken: Counter,
    last_calls: Mutex<BTreeMap<&'static str, LastCall>>,
}

/// Why the gateway closed a connection without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// Open for too long after the last answer.
    KeepAlive,
    /// Nothing was ever sent on it.
    NoRequest,
    /// The caller did not read its answer.
    WriteTimeout,
}

impl ConnectionEnd {
    const fn word(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep_alive",
            Self::NoRequest => "no_request",
            Self::WriteTimeout => "write_timeout",
        }
    }
}

/// How the last call to a vendor ended.
#[derive(Clone, Copy, Debug)]
pub struct LastCall {
    /// When.
    pub at: Timestamp,
    /// What went wrong, if anything did.
    pub error: Option<ProviderErrorKind>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubmissionLabels {
    provider: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    provider: &'static str,
    cache: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlugLabels {
    provider: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderResultLabels {
    provider: &'static str,
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallKindLabels {
    provider: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    provider: &'static str,
    kind: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabels {
    provider: &'static str,
    field: &'static str,
}

/// Why a vendor was not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has as many calls to answer as it gets.
    Concurrency,
    /// It failed too often.
    Circuit,
    /// It refuses the key, or asked for a wait.
    Backoff,
}

impl RefusalLabels {
    const fn new(provider: &'static str, kind: CallKind, reason: Refusal) -> Self {
        let reason = match reason {
            Refusal::Concurrency => "concurrency",
            Refusal::Circuit => "circuit",
            Refusal::Backoff => "backoff",
        };
        Self { provider, kind: kind.word(), reason }
    }
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let mut metrics = Self {
            registry: Registry::default(),
            http_requests: Family::default(),
            auth_failures: Family::default(),
            http_duration: Family::new_with_constructor(histogram),
            batch_reads: Family::default(),
            provider_requests: Family::default(),
            provider_duration: Family::new_with_constructor(histogram),
            provider_retries: Family::default(),
            provider_in_flight: Family::default(),
            provider_calls_rejected: Family::default(),
            provider_circuit_open: Family::default(),
            provider_circuit_transitions: Family::default(),
            schema_drift: Family::default(),
            results_incomplete: Family::default(),
            status_regressions: Family::default(),
            connections_closed: Family::default(),
            cache_bytes: Gauge::default(),
            submissions: Family::default(),
            submissions_in_doubt: Gauge::default(),
            batches_followed: Gauge::default(),
            follower_restarts: Counter::default(),
            waiters: Gauge::default(),
            waiters_woken: Counter::default(),
            last_calls: Mutex::default(),
        };
        metrics.register_http();
        metrics.register_vendors();
        metrics.register_gate();
        metrics.register_batches();
        metrics
    }

    /// The gateway's own server.
    fn register_http(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests answered", self.http_requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to its response",
            Unit::Seconds,
            self.http_duration.clone(),
        );
        registry.register(
            "auth_failures",
            "Requests without a right key by what they were told; `rate_limited` after too many from one address",
            self.auth_failures.clone(),
        );
        registry.register(
            "http_connections_closed",
            "Connections closed by the gateway without a response",
            self.connections_closed.clone(),
        );
        registry.register("panics", "Panics of this process, wherever they happened", PANICS.clone());
        registry.register_collector(Box::new(DroppedLines));
    }

    /// Calls to vendors and what they answer.
    fn register_vendors(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "provider_requests",
            "Requests sent to a vendor by result; `ok` or the kind of error",
            self.provider_requests.clone(),
        );
        registry.register_with_unit(
            "provider_request_duration",
            "From sending a request to a vendor to its decoded answer",
            Unit::Seconds,
            self.provider_duration.clone(),
        );
        registry.register("provider_retries", "Reads sent again to a vendor", self.provider_retries.clone());
        registry.register(
            "provider_schema_drift",
            "Answers with a field that the schema does not understand",
            self.schema_drift.clone(),
        );
        registry.register(
            "provider_results_incomplete",
            "Reads of ended batches that came with fewer results than were requested",
            self.results_incomplete.clone(),
        );
        registry.register(
            "provider_status_regressions",
            "Answers that called a batch unfinished which had ended; the end was served",
            self.status_regressions.clone(),
        );
    }

    /// Batches and submissions.
    fn register_batches(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "batch_reads",
            "Batch reads by where the answer came from",
            self.batch_reads.clone(),
        );
        registry.register_with_unit(
            "cache_size",
            "Batches held in memory, as their JSON",
            Unit::Bytes,
            self.cache_bytes.clone(),
        );
        registry.register(
            "submissions",
            "Submissions by what became of them; a submission in doubt that is settled later counts twice",
            self.submissions.clone(),
        );
        registry.register(
            "submissions_in_doubt",
            "Submissions of which nobody knows whether the vendor took them, in the whole store",
            self.submissions_in_doubt.clone(),
        );
        registry.register(
            "batches_followed",
            "Batches that are polled to their end, in the whole store",
            self.batches_followed.clone(),
        );
        registry.register(
            "follower_restarts",
            "How often the task that follows batches was started again after a panic",
            self.follower_restarts.clone(),
        );
        registry.register(
            "batch_waiters",
            "Requests in progress that wait for the end of a batch",
            self.waiters.clone(),
        );
        registry.register(
            "batch_waiters_woken",
            "Waits that ended because their batch did",
            self.waiters_woken.clone(),
        );
    }

    /// What stands before the calls to vendors.
    fn register_gate(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "provider_in_flight",
            "Calls to a vendor that are under way",
            self.provider_in_flight.clone(),
        );
        registry.register(
            "provider_calls_rejected",
            "Calls that were not made: open circuit, concurrency limit or backoff",
            self.provider_calls_rejected.clone(),
        );
        registry.register(
            "provider_circuit_open",
            "Whether a vendor that fails is being spared; 1 if so",
            self.provider_circuit_open.clone(),
        );
        registry.register(
            "provider_circuit_transitions",
            "How often a vendor's circuit opened or closed",
            self.provider_circuit_transitions.clone(),
        );
    }

    /// Begins to count what must not happen at a vendor: an alert needs the zero before the first time.
    pub fn provider_on(&self, provider: &'static str) {
        self.results_incomplete.get_or_create(&SlugLabels { provider }).inc_by(0);
        self.status_regressions.get_or_create(&SlugLabels { provider }).inc_by(0);
        self.provider_in_flight.get_or_create(&SlugLabels { provider }).set(0);
        for kind in [CallKind::Read, CallKind::Write] {
            let labels = CallKindLabels { provider, kind: kind.word() };
            self.provider_circuit_open.get_or_create(&labels).set(0);
            self.provider_circuit_transitions.get_or_create(&labels).inc_by(0);
            for reason in [Refusal::Concurrency, Refusal::Circuit, Refusal::Backoff] {
                self.provider_calls_rejected
                    .get_or_create(&RefusalLabels::new(provider, kind, reason))
                    .inc_by(0);
            }
        }
        for state in [SubmissionState::Accepted, SubmissionState::NotSent, SubmissionState::InDoubt] {
            self.submissions.get_or_create(&SubmissionLabels { provider, state: state.word() }).inc_by(0);
        }
        for field in DriftField::ALL.map(DriftField::as_str) {
            self.schema_drift.get_or_create(&DriftLabels { provider, field }).inc_by(0);
        }
    }

    /// A request was answered.
    pub fn http_request(&self, method: &'static str, route: &str, status: u16, elapsed: Duration) {
        let route = route.to_owned();
        self.http_duration
            .get_or_create(&RouteLabels { route: route.clone() })
            .observe(elapsed.as_secs_f64());
        self.http_requests.get_or_create(&HttpLabels { method, route, status }).inc();
    }

    /// A connection was closed without a response.
    pub fn connection_closed(&self, reason: ConnectionEnd) {
        self.connections_closed.get_or_create(&ConnectionLabels { reason: reason.word() }).inc();
    }

    /// A request came without a right key, and was told `code`.
    pub fn auth_failure(&self, code: &'static str) {
        self.auth_failures.get_or_create(&CodeLabels { code }).inc();
    }

    /// A batch was read.
    pub fn batch_read(&self, provider: &'static str, cache: CacheStatus) {
        self.batch_reads.get_or_create(&ReadLabels { provider, cache: cache.word() }).inc();
    }

    /// A submission came to an end, or into doubt.
    pub fn submission(&self, provider: &'static str, state: SubmissionState) {
        self.submissions.get_or_create(&SubmissionLabels { provider, state: state.word() }).inc();
    }

    /// How much of the whole store is open.
    pub fn set_open(&self, in_doubt: u64, followed: u64) {
        self.submissions_in_doubt.set(i64::try_from(in_doubt).unwrap_or(i64::MAX));
        self.batches_followed.set(i64::try_from(followed).unwrap_or(i64::MAX));
    }

    /// A request waits for the end of a batch.
    pub fn waiter_joined(&self) {
        self.waiters.inc();
    }

    /// A wait is over.
    pub fn waiter_left(&self) {
        self.waiters.dec();
    }

    /// A wait was ended by its batch.
    pub fn waiter_woken(&self) {
        self.waiters_woken.inc();
    }

    /// How the last call to a vendor ended, if there was one.
    pub fn last_call(&self, provider: &'static str) -> Option<LastCall> {
        self.last_calls.lock().unwrap_or_else(PoisonError::into_inner).get(provider).copied()
    }

    /// A vendor was called once; the call ended `at`.
    pub fn provider_request(
        &self,
        provider: &'static str,
        operation: &'static str,
        error: Option<ProviderErrorKind>,
        elapsed: Duration,
        at: Timestamp,
    ) {
        let last_call = LastCall { at, error };
        self.last_calls.lock().unwrap_or_else(PoisonError::into_inner).insert(provider, last_call);
        let result = error.map_or("ok", ProviderErrorKind::word);
        self.provider_requests.get_or_create(&ProviderResultLabels { provider, operation, result }).inc();
        self.provider_duration
            .get_or_create(&ProviderLabels { provider, operation })
            .observe(elapsed.as_secs_f64());
    }

    /// A read is sent again.
    pub fn provider_retry(&self, provider: &'static str, operation: &'static str) {
        self.provider_retries.get_or_create(&ProviderLabels { provider, operation }).inc();
    }

    /// A call to a vendor is under way.
    pub fn provider_call_began(&self, provider: &'static str) {
        self.provider_in_flight.get_or_create(&SlugLabels { provider }).inc();
    }

    /// A call to a vendor is over.
    pub fn provider_call_ended(&self, provider: &'static str) {
        self.provider_in_flight.get_or_create(&SlugLabels { provider }).dec();
    }

    /// A vendor was not called.
    pub fn provider_call_rejected(&self, provider: &'static str, kind: CallKind, reason: Refusal) {
        self.provider_calls_rejected.get_or_create(&RefusalLabels::new(provider, kind, reason)).inc();
    }

    /// A vendor's circuit opened or closed.
    pub fn provider_circuit(&self, provider: &'static str, kind: CallKind, open: bool) {
        let labels = CallKindLabels { provider, kind: kind.word() };
        self.provider_circuit_open.get_or_create(&labels).set(i64::from(open));
        self.provider_circuit_transitions.get_or_create(&labels).inc();
    }

    /// A vendor's answer had a field that the schema does not understand.
    pub fn schema_drift(&self, provider: &'static str, field: DriftField) {
        self.schema_drift.get_or_create(&DriftLabels { provider, field: field.as_str() }).inc();
    }

    /// A batch that has ended came with fewer results than were requested.
    pub fn results_incomplete(&self, provider: &'static str) {
        self.results_incomplete.get_or_create(&SlugLabels { provider }).inc();
    }

    /// A batch that had ended was called unfinished.
    pub fn status_regression(&self, provider: &'static str) {
        self.status_regressions.get_or_create(&SlugLabels { provider }).inc();
    }

    /// The follower panicked and starts again.
    pub fn follower_restart(&self) {
        self.follower_restarts.inc();
    }

    /// All metrics as `OpenMetrics` text; the cache holds `cache_bytes` now.
    ///
    /// # Errors
    /// When formatting fails.
    pub fn encode(&self, cache_bytes: u64) -> Result<String, fmt::Error> {
        self.cache_bytes.set(i64::try_from(cache_bytes).unwrap_or(i64::MAX));
        let mut buffer = String::new();
        text::encode(&mut buffer, &self.registry)?;
        Ok(buffer)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
