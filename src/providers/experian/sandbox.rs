//! A simulator of Experian Aperture's bulk phone validation, written from its public reference and OpenAPI
//! document (docs.experianaperture.io, Phone Validation, Bulk).
//!
//! Words are in lower case, as in the examples of the OpenAPI document.
//! "Assumed" marks what no public text says; nothing else may depend on it.

mod ready_made;
mod verdict;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::sandbox::{
    Account, Batch, Charges, Phase, Progress, RateLimitStatus, Simulator, SimulatorState, later,
};
use verdict::{Verdict, iso_country};

/// The simulator of `https://api.experianaperture.io`.
pub(super) const SIMULATOR: Simulator = Simulator {
    slug: "experian",
    routes,
    ready_made: ready_made::READY_MADE,
    credits: 1_000_000,
    rate_limit: 150,
    charges,
};

const MOST_PHONES: usize = 10_000;
/// `maxLength` of `max_processing_time` in the OpenAPI document.
const MAX_PROCESSING_TIME_LENGTH: usize = 10;
const RATE_WINDOW: SignedDuration = SignedDuration::from_mins(1);
const READABLE_FOR: SignedDuration = SignedDuration::from_hours(28 * 24);
const TIME_IS_UP: &str = "max_processing_time_reached";
const JSON: &str = "application/json";
const NO_CREDITS: &str = "There are not enough credits for this request.";
const REFERENCE_ID: HeaderName = HeaderName::from_static("reference-id");

fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("")
            .route("/phone/bulk/v1/batches", web::post().to(create))
            .route("/phone/bulk/v1/batches", web::get().to(list))
            .route("/phone/bulk/v1/batches/{batch_id}", web::get().to(status))
            .route("/phone/bulk/v1/batches/{batch_id}/start", web::post().to(start))
            .route("/phone/bulk/v1/batches/{batch_id}/results", web::get().to(results))
            .route("/phone/bulk/v1/batches/{batch_id}/stop", web::post().to(stop))
            .default_service(web::to(no_route))
            .wrap(from_fn(gate)),
    );
}

/// Checks what all operations share, and adds the headers that all answers share.
async fn gate(
    state: Data<SimulatorState>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let reference = request.headers().get(REFERENCE_ID).cloned();
    // Assumed: the windows of the limit are fixed ones, and calls without a good token do not count.
    let rate_limit = account(request.headers()).map(|_| state.admit("account", RATE_WINDOW));
    let admitted = admit(request.request(), rate_limit.as_ref().ok());
    let mut response = match admitted {
        Ok(account) => {
            request.extensions_mut().insert(account);
            next.call(request).await?.map_into_boxed_body()
        }
        Err(refusal) => request.into_response(refusal.error_response()),
    };
    if let Some(reference) = reference.filter(is_reference) {
        response.headers_mut().insert(REFERENCE_ID, reference);
    }
    if let Ok(rate_limit) = rate_limit {
        add_rate_limit(response.headers_mut(), &rate_limit);
    }
    Ok(response)
}

fn admit(request: &HttpRequest, rate_limit: Option<&RateLimitStatus>) -> Result<Account, Refusal> {
    let refuse = |status, detail| Refusal::new(request, status, detail);
    let account = account(request.headers()).map_err(|(status, detail)| refuse(status, detail))?;
    if rate_limit.is_some_and(|rate_limit| !rate_limit.allowed) {
        return Err(throttled(request));
    }
    match account {
        Account::NoPhones | Account::OtherProduct => {
            return Err(refuse(StatusCode::FORBIDDEN, "The token is not valid for this product."));
        }
        Account::Disabled => return Err(refuse(StatusCode::FORBIDDEN, "The token is disabled.")),
        // Assumed: every call, and not only those that cost something.
        Account::NoCredits => return Err(refuse(StatusCode::FORBIDDEN, NO_CREDITS)),
        Account::Good | Account::Unknown => {}
    }
    let headers = request.headers();
    if has_body(headers) && !request.content_type().eq_ignore_ascii_case(JSON) {
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json."));
    }
    if headers.get(REFERENCE_ID).is_some_and(|reference| !is_reference(reference)) {
        return Err(refuse(StatusCode::BAD_REQUEST, "The Reference-Id header is not valid."));
    }
    if headers.get(header::ACCEPT).is_some_and(|accept| !takes_json(accept)) {
        return Err(refuse(StatusCode::NOT_ACCEPTABLE, "Only application/json is available."));
    }
    Ok(account)
}

/// Whether a request carries a body. Assumed: calls that are documented without one refuse other media types too.
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// The account that a token opens. `x-app-key` is documented as an alternative of `Auth-Token`.
fn account(headers: &HeaderMap) -> Result<Account, (StatusCode, &'static str)> {
    let token = headers.get("auth-token").or_else(|| headers.get("x-app-key"));
    let token = token.ok_or((StatusCode::BAD_REQUEST, "The Auth-Token header is missing."))?;
    match token.to_str().map_or(Account::Unknown, Account::of) {
        Account::Unknown => Err((StatusCode::UNAUTHORIZED, "The token is not valid.")),
        account => Ok(account),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBatch {
    defaults: Option<Defaults>,
    phones: Vec<NewPhone>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    output_format: Option<String>,
    country_iso: Option<String>,
    get_ported_date: Option<bool>,
    supplementary_live_status: Option<LiveStatus>,
    #[serde(skip_serializing)]
    batch_reference_id: Option<String>,
    max_processing_time: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LiveStatus {
    mobile: Option<Vec<String>>,
    landline: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPhone {
    number: Option<String>,
    country_iso: Option<String>,
}

/// Submits a batch; it is not started.
async fn create(
    state: Data<SimulatorState>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, Refusal> {
    let refuse = |status, detail: &str| Refusal::new(&request, status, detail);
    let malformed = |_| refuse(StatusCode::BAD_REQUEST, "The request body was malformed.");
    let body: Value = serde_json::from_slice(&body).map_err(malformed)?;
    let order = NewBatch::deserialize(&body).map_err(malformed)?;
    order.check().map_err(|detail| refuse(StatusCode::BAD_REQUEST, detail))?;
    pay(&state, &request, order.phones.len())?;
    let batch = state.submit(body, order.phones.len(), None);
    Ok(brief(&batch, "submitted"))
}

/// Starts a submitted batch.
async fn start(
    state: Data<SimulatorState>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Refusal> {
    if let Some(answer) = ready_made::start(&state, &request, &id) {
        return answer;
    }
    let batch = find(&state, &request, &id)?;
    pay(&state, &request, batch.records)?;
    let limit = order(&batch).defaults().max_processing_time.as_deref().and_then(processing_time);
    let now = state.clock.now();
    state.change(&id, |batch| {
        if batch.progress(now).phase != Phase::Submitted {
            let detail = "The batch has already been started.";
            return Err(Refusal::new(&request, StatusCode::BAD_REQUEST, detail));
        }
        batch.started_at = Some(now);
        batch.stops_at = limit.map(|limit| (later(now, limit), Some(TIME_IS_UP)));
        Ok(())
    })?;
    Ok(brief(&batch, "processing"))
}

/// Stops a batch. Assumed: also one that is not started; one that has ended is refused.
async fn stop(
    state: Data<SimulatorState>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Refusal> {
    if let Some(answer) = ready_made::stop(&state, &request, &id) {
        return answer;
    }
    let batch = find(&state, &request, &id)?;
    let now = state.clock.now();
    state.change(&id, |batch| {
        if batch.progress(now).done() {
            let detail = "The batch is not being processed.";
            return Err(Refusal::new(&request, StatusCode::BAD_REQUEST, detail));
        }
        batch.stops_at = Some((now, None));
        Ok(())
    })?;
    Ok(brief(&batch, "stopped"))
}

/// The status of a batch.
async fn status(
    state: Data<SimulatorState>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Refusal> {
    let add_metadata = add_metadata(&request)?;
    if let Some(answer) = ready_made::status(&state, &request, &id, add_metadata).await {
        return answer;
    }
    let batch = find(&state, &request, &id)?;
    Ok(HttpResponse::Ok().json(status_answer(&batch, &batch.progress(state.clock.now()), add_metadata)))
}

/// The results of a batch; a running one has none yet.
async fn results(
    state: Data<SimulatorState>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Refusal> {
    let add_metadata = add_metadata(&request)?;
    if let Some(answer) = ready_made::results(&state, &request, &id, add_metadata).await {
        return answer;
    }
    let batch = find(&state, &request, &id)?;
    Ok(HttpResponse::Ok().json(results_answer(&batch, &batch.progress(state.clock.now()), add_metadata)))
}

/// All batches that can still be read, in the order of their submission.
async fn list(state: Data<SimulatorState>) -> HttpResponse {
    let now = state.clock.now();
    let batches: Value = state
        .batches()
        .iter()
        .filter(|batch| !is_expired(batch, now))
        .map(|batch| status_result(batch, &batch.progress(now)))
        .collect();
    HttpResponse::Ok().json(json!({"result": {"batches": batches}}))
}

async fn no_route(request: HttpRequest) -> HttpResponse {
    Refusal::new(&request, StatusCode::NOT_FOUND, "The resource was not found.").error_response()
}

/// Assumed: a batch needs a credit for each phone at its creation and at its start; credits are taken
/// when it ends, for the phones that were handled.
fn pay(state: &SimulatorState, request: &HttpRequest, phones: usize) -> Result<(), Refusal> {
    if state.credits() < phones as u64 {
        return Err(Refusal::new(request, StatusCode::FORBIDDEN, NO_CREDITS));
    }
    Ok(())
}

/// Assumed: an unknown id is 404 if it is well-formed, else 400; the documents leave it open.
fn find(state: &SimulatorState, request: &HttpRequest, id: &str) -> Result<Batch, Refusal> {
    let refuse = |status, detail| Refusal::new(request, status, detail);
    if Uuid::parse_str(id).is_err() {
        return Err(refuse(StatusCode::BAD_REQUEST, "The batch_id is not valid."));
    }
    let not_found = || refuse(StatusCode::NOT_FOUND, "The batch was not found.");
    let batch = state.batch(id).ok_or_else(not_found)?;
    if is_expired(&batch, state.clock.now()) {
        return Err(expired(request));
    }
    Ok(batch)
}

fn is_expired(batch: &Batch, now: Timestamp) -> bool {
    now > later(batch.submitted_at, READABLE_FOR)
}

fn expired(request: &HttpRequest) -> Refusal {
    Refusal::new(request, StatusCode::BAD_REQUEST, "The batch is older than 28 days.")
}

fn throttled(request: &HttpRequest) -> Refusal {
    Refusal::new(request, StatusCode::TOO_MANY_REQUESTS, "The account is throttled.")
}

fn brief(batch: &Batch, status: &str) -> HttpResponse {
    let mut result = json!({"batch_id": batch.id, "status": status});
    add_reference(&mut result, batch);
    HttpResponse::Ok().json(json!({"result": result}))
}

fn status_answer(batch: &Batch, progress: &Progress, add_metadata: bool) -> Value {
    let mut answer = json!({"result": status_result(batch, progress)});
    if add_metadata {
        let mut defaults = order(batch).defaults.unwrap_or_default();
        defaults.output_format.get_or_insert_with(|| "E164".to_owned());
        answer["metadata"] = json!({"batch_config": without_nulls(json!(defaults))});
    }
    answer
}

fn status_result(batch: &Batch, progress: &Progress) -> Value {
    let mut result = json!({
        "batch_id": batch.id,
        "status": status_word(progress.phase),
        "reason": progress.reason,
        "records": batch.records,
        "records_processed": progress.processed,
        "date_submitted": date(batch.submitted_at),
        "date_started": batch.started_at.map(date),
        "date_ended": progress.ended_at.map(date),
    });
    add_reference(&mut result, batch);
    without_nulls(result)
}

fn results_answer(batch: &Batch, progress: &Progress, add_metadata: bool) -> Value {
    let verdicts = if progress.done() { verdicts(batch, progress) } else { Vec::new() };
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for verdict in &verdicts {
        match counts.iter_mut().find(|(confidence, _)| *confidence == verdict.confidence) {
            Some((_, count)) => *count += 1,
            None => counts.push((verdict.confidence, 1)),
        }
    }
    let statistics: Value =
        counts.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let phones: Value = verdicts.iter().map(|verdict| without_nulls(verdict.show(add_metadata))).collect();
    let mut result = json!({
        "batch_id": batch.id,
        "credits_charged": if progress.done() { charges(batch, progress).charged } else { 0 },
        "status": status_word(progress.phase),
        "reason": progress.reason,
        "statistics": statistics,
        "phones": phones,
    });
    add_reference(&mut result, batch);
    json!({"result": without_nulls(result)})
}

/// One verdict for each phone, in the order of submission; those after a stop are `unprocessed`.
fn verdicts(batch: &Batch, progress: &Progress) -> Vec<Verdict> {
    let order = order(batch);
    let defaults = order.defaults();
    let format = defaults.output_format.as_deref().unwrap_or("E164");
    let verdict = |(position, phone): (usize, &NewPhone)| {
        let number = phone.number.as_deref().unwrap_or_default();
        if position >= progress.processed {
            return Verdict::unprocessed(number);
        }
        let country = phone.country_iso.as_deref().or(defaults.country_iso.as_deref());
        Verdict::of(number, country, format, defaults.get_ported_date == Some(true))
    };
    order.phones.iter().enumerate().map(verdict).collect()
}

/// Assumed: one credit for each phone that was handled; one more where a ported date was asked for and found, and one
/// more for a supplementary live status where the phone's country and type are asked for.
fn charges(batch: &Batch, progress: &Progress) -> Charges {
    let order = order(batch);
    let defaults = order.defaults();
    let handled = progress.processed as u64;
    let verdicts = verdicts(batch, progress);
    let ported_dates = verdicts.iter().filter(|verdict| verdict.has_ported_date()).count() as u64;
    let live = defaults.supplementary_live_status.as_ref().map_or(0, |live| {
        let asked = |countries: &Option<Vec<String>>, verdict: &Verdict| {
            countries.iter().flatten().any(|country| Some(country.as_str()) == verdict.country_iso())
        };
        let charged = verdicts.iter().filter(|verdict| match verdict.phone_type {
            "mobile" => asked(&live.mobile, verdict),
            "landline" => asked(&live.landline, verdict),
            _ => false,
        });
        charged.count() as u64
    });
    Charges { charged: handled + ported_dates + live, refunded: 0 }
}

impl NewBatch {
    fn defaults(&self) -> &Defaults {
        const NONE: &Defaults = &Defaults {
            output_format: None,
            country_iso: None,
            get_ported_date: None,
            supplementary_live_status: None,
            batch_reference_id: None,
            max_processing_time: None,
        };
        self.defaults.as_ref().unwrap_or(NONE)
    }

    /// The rules of the OpenAPI document. Assumed: unknown countries and formats are refused.
    fn check(&self) -> Result<(), &'static str> {
        let defaults = self.defaults();
        let fits = |text: &Option<String>, most: usize| text.iter().all(|text| text.chars().count() <= most);
        let is_country = |text: &Option<String>| text.iter().all(|text| iso_country(text).is_some());
        let is_format =
            |text: &str| matches!(text, "E164" | "PLUS_E164" | "NATIONAL") || iso_country(text).is_some();
        let valid = [
            ((1..=MOST_PHONES).contains(&self.phones.len()), "phones must have 1 to 10,000 items."),
            (self.phones.iter().all(|phone| fits(&phone.number, 1_000)), "A number is too long."),
            (
                self.phones.iter().all(|phone| is_country(&phone.country_iso))
                    && is_country(&defaults.country_iso),
                "country_iso must be a 3-letter ISO country code.",
            ),
            (defaults.output_format.as_deref().is_none_or(is_format), "output_format is not valid."),
            (
                defaults.batch_reference_id.as_deref().is_none_or(is_reference_text),
                "batch_reference_id is not valid.",
            ),
            (
                defaults.max_processing_time.as_deref().is_none_or(|time| processing_time(time).is_some()),
                "max_processing_time must be PT1M to PT24H, in at most 10 characters.",
            ),
        ];
        valid.into_iter().find(|(valid, _)| !valid).map_or(Ok(()), |(_, detail)| Err(detail))
    }
}

/// The order behind a batch; it was checked when it was created.
fn order(batch: &Batch) -> NewBatch {
    NewBatch::deserialize(&*batch.body).unwrap_or(NewBatch { defaults: None, phones: Vec::new() })
}

/// A duration from one minute to one day, of hours, minutes and seconds.
fn processing_time(text: &str) -> Option<SignedDuration> {
    if text.len() > MAX_PROCESSING_TIME_LENGTH || !text.starts_with("PT") {
        return None;
    }
    let duration = text.parse::<SignedDuration>().ok()?;
    (SignedDuration::from_mins(1)..=SignedDuration::from_hours(24)).contains(&duration).then_some(duration)
}

fn add_metadata(request: &HttpRequest) -> Result<bool, Refusal> {
    let Some(value) = request.headers().get("add-metadata") else { return Ok(false) };
    match value.as_bytes().to_ascii_lowercase().as_slice() {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => {
            let detail = "The Add-Metadata header must be true or false.";
            Err(Refusal::new(request, StatusCode::BAD_REQUEST, detail))
        }
    }
}

fn is_reference(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(is_reference_text)
}

/// At most 256 characters of `^[\w\-\/\:\.\,\(\) ]+$`.
fn is_reference_text(text: &str) -> bool {
    (1..=256).contains(&text.chars().count())
        && text.chars().all(|sign| sign.is_alphanumeric() || "_-/:.,() ".contains(sign))
}

fn takes_json(accept: &HeaderValue) -> bool {
    accept.to_str().is_ok_and(|accept| {
        let mut types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        types.any(|range| matches!(range, "*/*" | "application/*" | "application/json"))
    })
}

fn add_rate_limit(headers: &mut HeaderMap, rate_limit: &RateLimitStatus) {
    let values = [
        ("x-rate-limit-limit", i64::from(rate_limit.limit)),
        ("x-rate-limit-remaining", i64::from(rate_limit.remaining)),
        ("x-rate-limit-reset", epoch_seconds(rate_limit.resets_at)),
    ];
    for (name, value) in values {
        let name = HeaderName::from_static(name);
        // A ready-made answer that shows a limit brings its own.
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from(value));
        }
    }
}

/// Whole seconds, rounded up: nobody may be told to come back too early.
fn epoch_seconds(moment: Timestamp) -> i64 {
    moment.as_second() + i64::from(moment.subsec_nanosecond() > 0)
}

fn status_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Submitted => "submitted",
        Phase::Running => "processing",
        Phase::Completed => "completed",
        Phase::Stopped => "stopped",
    }
}

/// With seven fractional digits, as in the documentation.
fn date(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S.%7fZ").to_string()
}

fn add_reference(result: &mut Value, batch: &Batch) {
    if let Some(reference) = batch.body.pointer("/defaults/batch_reference_id").filter(|id| id.is_string()) {
        result["batch_reference_id"] = reference.clone();
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let present = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(present.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// An error as Experian answers it. Assumed: the texts of `detail`.
#[derive(Debug, thiserror::Error)]
#[error("{status} {detail}")]
struct Refusal {
    status: StatusCode,
    detail: String,
    instance: String,
}

impl Refusal {
    fn new(request: &HttpRequest, status: StatusCode, detail: &str) -> Self {
        let instance = request.path().trim_start_matches('/').trim_start_matches(SIMULATOR.slug).to_owned();
        Self { status, detail: detail.to_owned(), instance }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(json!({
            "error": {
                // Assumed: which page it links to.
                "type": "https://docs.experianaperture.io/more/errors",
                "title": self.status.canonical_reason(),
                "detail": self.detail,
                "instance": self.instance,
            }
        }))
    }
}
