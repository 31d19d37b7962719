//! A simulator of Enrow's phone finder, written from its public reference (docs.enrow.io, Phone Finder).
//!
//! "Assumed" marks what no public text says; nothing else may depend on it.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, Data, Query, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError};
use jiff::SignedDuration;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::phones::{self, Mobile, pick, stable_hash};
use crate::sandbox::{Account, Batch, Charges, Progress, ReadyMade, Simulator, SimulatorState, faults};

/// The simulator of `https://api.enrow.io`.
pub(super) const SIMULATOR: Simulator =
    Simulator { slug: "enrow", routes, ready_made: READY_MADE, credits: 36_000, rate_limit: 10, charges };

/// Credits for one search; a miss is given back when the batch ends.
const PRICE: u64 = 40;
const MOST_SEARCHES: usize = 3_000;
const RATE_WINDOW: SignedDuration = SignedDuration::from_secs(1);
const BAD_ID: &str = "Could not retrieve bulk search results";
/// The documented text of the single calls. Assumed: the bulk call says the same.
const NO_CREDITS: &str = "Insufficient credits";
/// Assumed: the bulk call and the single call say the same.
const INVALID_LINKEDIN_URL: &str = "Invalid linkedin_url";

/// The id in the vendor's own examples.
const DOCUMENTED: &str = "e3b61122-d6a6-4ea7-b331-9b734682a76a";
const LIVE: &str = "sandbox-live";

const READY_MADE: &[ReadyMade] = &[
    ReadyMade { id: DOCUMENTED, shows: "the documented example, word for word" },
    ReadyMade {
        id: "sandbox-completed",
        shows: "completed: found and not found, both ways to name a person",
    },
    ReadyMade { id: LIVE, shows: "ongoing from its first reading on, then completed" },
    ReadyMade { id: "sandbox-running", shows: "ongoing for ever" },
    ReadyMade { id: "sandbox-failed", shows: "failed" },
    ReadyMade { id: "sandbox-unknown-status", shows: "a status word that no document has" },
    ReadyMade { id: "sandbox-unknown-outcome", shows: "a qualification word that no document has" },
    ReadyMade {
        id: "sandbox-older-text",
        shows: "completed, in the field names and types of older documents",
    },
    ReadyMade { id: "sandbox-older-running", shows: "ongoing, as HTTP 202 of older documents" },
    ReadyMade { id: "sandbox-older-not-found", shows: "unknown batch, as HTTP 404 of older documents" },
    ReadyMade { id: "sandbox-short-results", shows: "completed with fewer results than searches" },
    ReadyMade { id: "sandbox-not-found", shows: "400: unknown or expired, which Enrow does not tell apart" },
    ReadyMade { id: "sandbox-other-batch", shows: "the answer mentions another batch" },
    ReadyMade { id: "sandbox-error-401", shows: "401: the key is not valid" },
    ReadyMade { id: "sandbox-error-429", shows: "429 with Retry-After: 2" },
    ReadyMade { id: "sandbox-error-500", shows: "500" },
    ReadyMade { id: "sandbox-error-503", shows: "503" },
    ReadyMade { id: "sandbox-error-html", shows: "200 with a web page" },
    ReadyMade { id: "sandbox-error-malformed", shows: "200 with half a JSON object" },
    ReadyMade { id: "sandbox-slow", shows: "completed, but the answer takes 10 seconds" },
    ReadyMade { id: "sandbox-cut", shows: "the connection is closed in the middle of the answer" },
];

fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("")
            .route("/phone/bulk", web::post().to(submit_bulk))
            .route("/phone/bulk", web::get().to(read_bulk))
            .route("/phone/single", web::post().to(submit_single))
            .route("/phone/single", web::get().to(read_single))
            .route("/account/info", web::get().to(account_info))
            .default_service(web::to(no_route))
            .wrap(from_fn(gate)),
    );
}

/// Enrow, Authentication and Rate limits: `x-api-key` on every call, 10 requests a second on each POST.
async fn gate(
    state: Data<SimulatorState>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let key = request.headers().get("x-api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let admitted = match &key {
        None => Err(Refusal::bulk(StatusCode::UNAUTHORIZED, "No apikey found in the x-api-key headers")),
        Some(key) => match Account::of(key) {
            Account::Unknown | Account::OtherProduct | Account::Disabled => Err(wrong_key()),
            Account::NoPhones if request.path().contains("/phone/") => Err(Refusal::bulk(
                StatusCode::UNAUTHORIZED,
                "This account is not allowed to use the phone search feature",
            )),
            account => {
                // Assumed: the windows of the limit are fixed ones.
                let who = format!("{key} {}", request.path());
                let counted = request.method() == Method::POST;
                if counted && !state.admit(&who, RATE_WINDOW).allowed {
                    Err(throttled())
                } else {
                    Ok(account)
                }
            }
        },
    };
    match admitted {
        Ok(account) => {
            request.extensions_mut().insert(account);
            Ok(next.call(request).await?.map_into_boxed_body())
        }
        Err(refusal) => Ok(request.into_response(refusal.error_response())),
    }
}

/// Enrow, Find Bulk Phones.
async fn submit_bulk(
    state: Data<SimulatorState>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, Refusal> {
    let bad = |message: &str| Refusal::bulk(StatusCode::BAD_REQUEST, message);
    let order = parse(&body).map_err(bad)?;
    let searches = check_order(&order).map_err(|message| bad(&message))?.len();
    let cost = PRICE * searches as u64;
    if has_no_credits(&request) || !state.charge(cost) {
        return Err(Refusal::bulk(StatusCode::PAYMENT_REQUIRED, NO_CREDITS));
    }
    let batch = state.submit(order, searches, Some(state.clock.now()));
    if let Some(webhook) = batch.body.pointer("/settings/webhook").and_then(Value::as_str) {
        let event = json!({
            "event": "bulk_phone_search_finished",
            "id": batch.id,
            "credits": {"cost": cost - PRICE * misses(&batch)},
        });
        state.post_at_end(&batch.id, webhook.to_owned(), event);
    }
    Ok(HttpResponse::Created().json(json!({
        "message": "Bulk search operating",
        "id": batch.id,
        "credits_used": cost,
        // Minutes.
        "estimated_duration": 5,
    })))
}

#[derive(Deserialize)]
struct ById {
    id: Option<String>,
}

/// Enrow, Get Bulk Phones Result.
async fn read_bulk(state: Data<SimulatorState>, query: Query<ById>) -> Result<HttpResponse, Refusal> {
    let bad = |message| Refusal::bulk(StatusCode::BAD_REQUEST, message);
    let id = query.into_inner().id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| bad("Missing id in the query params"))?;
    if READY_MADE.iter().any(|ready_made| ready_made.id == id) {
        return ready_made(&state, &id).await;
    }
    let batch = state.batch(&id).filter(|batch| batch.body.get("searches").is_some());
    let batch = batch.ok_or_else(|| bad(BAD_ID))?;
    let progress = batch.progress(state.clock.now());
    let answer = if progress.done() { finished(&batch) } else { ongoing(&batch, progress.processed) };
    Ok(HttpResponse::Ok().json(answer))
}

/// Enrow, Find Single Phone. Assumed: the texts; the field names are those that public clients read.
async fn submit_single(
    state: Data<SimulatorState>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, Refusal> {
    let search = parse(&body).map_err(|message| Refusal::single(StatusCode::BAD_REQUEST, message))?;
    if has_invalid_linkedin_url(&search) {
        return Err(Refusal::single(StatusCode::BAD_REQUEST, INVALID_LINKEDIN_URL));
    }
    if !is_complete(&search) {
        return Err(Refusal::single(StatusCode::BAD_REQUEST, "Missing mandatory property"));
    }
    if has_no_credits(&request) || !state.charge(PRICE) {
        return Err(Refusal::single(StatusCode::PAYMENT_REQUIRED, NO_CREDITS));
    }
    let batch = state.submit(search, 1, Some(state.clock.now()));
    let answer = json!({"message": "Single search operating", "id": batch.id, "credits_used": PRICE});
    Ok(HttpResponse::Created().json(answer))
}

/// Enrow, Get Single Phone Result: 202 while it is searched.
async fn read_single(state: Data<SimulatorState>, query: Query<ById>) -> Result<HttpResponse, Refusal> {
    let bad = |reason| Refusal::single(StatusCode::BAD_REQUEST, reason);
    let id = query.into_inner().id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| bad("Missing id in the query params"))?;
    let batch = state.batch(&id).filter(|batch| batch.body.get("searches").is_none());
    let batch = batch.ok_or_else(|| bad("Could not retrieve single search result"))?;
    if !batch.progress(state.clock.now()).done() {
        return Ok(HttpResponse::Accepted().json(json!({"id": id, "qualification": "ongoing"})));
    }
    let mut answer = match find(&batch.body) {
        Some(mobile) => {
            json!({"qualification": "found", "number": mobile.e164, "country": mobile.country.alpha2})
        }
        None => json!({"qualification": "not_found"}),
    };
    answer["id"] = id.into();
    answer["params"] = (*batch.body).clone();
    Ok(HttpResponse::Ok().json(answer))
}

/// Enrow, Get Account Information.
async fn account_info(state: Data<SimulatorState>, request: HttpRequest) -> HttpResponse {
    let credits = if has_no_credits(&request) { 0 } else { state.credits() };
    HttpResponse::Ok().json(json!({"credits": credits, "webhooks": []}))
}

/// Assumed: no public text says what an unknown path answers.
async fn no_route() -> HttpResponse {
    Refusal::bulk(StatusCode::NOT_FOUND, "Not Found").error_response()
}

fn parse(body: &[u8]) -> Result<Value, &'static str> {
    if body.is_empty() {
        return Err("Missing payload");
    }
    serde_json::from_slice(body).map_err(|_| "Invalid JSON input")
}

/// The searches of an order that has no mistake. Assumed: every text but the first and `Missing …`.
fn check_order(order: &Value) -> Result<&Vec<Value>, String> {
    let searches = order.get("searches").and_then(Value::as_array).filter(|searches| !searches.is_empty());
    let searches = searches.ok_or("At least 1 phone search must be present in the payload")?;
    let count = searches.len();
    if count > MOST_SEARCHES {
        return Err(format!("No more than {MOST_SEARCHES} phone searches can be present in the payload"));
    }
    for (number, search) in (1..).zip(searches) {
        if has_invalid_linkedin_url(search) {
            return Err(INVALID_LINKEDIN_URL.to_owned());
        }
        if !is_complete(search) {
            return Err(format!("Missing mandatory property on search n°{number} of {count}"));
        }
        if search.get("custom").is_some_and(|custom| !custom.is_string()) {
            return Err(format!("Invalid custom property on search n°{number} of {count}"));
        }
    }
    if order.get("custom").is_some_and(|custom| !custom.is_object()) {
        return Err("Invalid custom property".to_owned());
    }
    match order.pointer("/settings/webhook") {
        Some(webhook) if !webhook.as_str().is_some_and(is_webhook) => Err("Invalid webhook URL".to_owned()),
        _ => Ok(searches),
    }
}

/// Whether there is a `linkedin_url` that is none. Assumed: any HTTP address at `linkedin.com` is one, whatever its path.
fn has_invalid_linkedin_url(search: &Value) -> bool {
    let is_linkedin = |url: Url| {
        matches!(url.scheme(), "https" | "http")
            && url.host_str().is_some_and(|host| host == "linkedin.com" || host.ends_with(".linkedin.com"))
    };
    match search.get("linkedin_url") {
        None | Some(Value::Null) => false,
        Some(Value::String(url)) if url.trim().is_empty() => false,
        Some(Value::String(url)) => !Url::parse(url.trim()).is_ok_and(is_linkedin),
        Some(_) => true,
    }
}

/// A `linkedin_url`, or both names and the company.
fn is_complete(search: &Value) -> bool {
    let has = |field| !text(search, field).is_empty();
    has("linkedin_url")
        || ((has("firstname") || has("first_name"))
            && (has("lastname") || has("last_name"))
            && (has("company_name") || has("company_domain")))
}

/// HTTPS as at Enrow; plain HTTP too for loopback addresses, because this is a sandbox.
fn is_webhook(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")),
        _ => false,
    })
}

/// The number of a person: seven of ten are found.
fn find(search: &Value) -> Option<Mobile> {
    let linkedin_url = text(search, "linkedin_url");
    let person = if linkedin_url.is_empty() {
        let first = [text(search, "firstname"), text(search, "first_name")].concat();
        let last = [text(search, "lastname"), text(search, "last_name")].concat();
        let company = [text(search, "company_domain"), text(search, "company_name")].concat();
        format!("{first} {last} {company}")
    } else {
        linkedin_url.trim_end_matches('/').to_owned()
    };
    let hash = stable_hash(&person.to_lowercase());
    (pick(hash, 0, 10) < 7).then(|| phones::mobile(hash))
}

fn text<'a>(search: &'a Value, field: &str) -> &'a str {
    search.get(field).and_then(Value::as_str).unwrap_or_default().trim()
}

fn searches(batch: &Batch) -> &[Value] {
    match batch.body.get("searches") {
        Some(Value::Array(searches)) => searches,
        _ => std::slice::from_ref(&*batch.body),
    }
}

fn misses(batch: &Batch) -> u64 {
    searches(batch).iter().filter(|search| find(search).is_none()).count() as u64
}

/// Misses are given back at the end; all searches were charged at the start.
fn charges(batch: &Batch, _progress: &Progress) -> Charges {
    Charges { charged: 0, refunded: PRICE * misses(batch) }
}

fn ongoing(batch: &Batch, finished: usize) -> Value {
    json!({
        "general": {"id": batch.id, "status": "ongoing"},
        "stats": {"requested": batch.records, "finished": finished},
    })
}

fn finished(batch: &Batch) -> Value {
    let (mut found, mut missed) = (Vec::new(), Vec::new());
    for (index, search) in searches(batch).iter().enumerate() {
        match find(search) {
            Some(mobile) => found.push(json!({
                "country": mobile.country.alpha2,
                "index": index,
                "number": mobile.e164,
                "params": search,
                "qualification": "found",
            })),
            None => missed.push(json!({"index": index, "params": search, "qualification": "not_found"})),
        }
    }
    // Assumed: this order. None is promised, so it is not the order of the searches.
    let results = [&found[..], &missed[..]].concat();
    let mut general = json!({"id": batch.id, "status": "completed"});
    // Only where the request had one.
    if let Some(custom) = batch.body.get("custom") {
        general["custom"] = custom.clone();
    }
    json!({
        "general": general,
        "stats": {
            // Assumed: before the refund.
            "credits_cost": PRICE * batch.records as u64,
            "credits_to_refund": PRICE * missed.len() as u64,
            "found": found.len(),
            "requested": batch.records,
        },
        "results": results,
    })
}

async fn ready_made(state: &SimulatorState, id: &str) -> Result<HttpResponse, Refusal> {
    let ok = |body: Value| Ok(HttpResponse::Ok().json(body));
    let with_status = |status: &str| json!({"general": {"id": id, "status": status}});
    let batch = example(state, id);
    match id {
        DOCUMENTED => ok(documented(id)),
        "sandbox-completed" => ok(finished(&batch)),
        LIVE => {
            let (started_at, takes) = state.first_read(LIVE);
            let progress =
                Batch { started_at: Some(started_at), takes, ..batch.clone() }.progress(state.clock.now());
            ok(if progress.done() { finished(&batch) } else { ongoing(&batch, progress.processed) })
        }
        "sandbox-running" => ok(ongoing(&batch, batch.records / 2)),
        // Assumed: the word is documented, its shape is not.
        "sandbox-failed" => ok(with_status("failed")),
        "sandbox-unknown-status" => ok(with_status("on_hold")),
        "sandbox-unknown-outcome" => {
            let mut answer = finished(&batch);
            answer["results"][0]["qualification"] = "catch_all".into();
            ok(answer)
        }
        "sandbox-older-text" => ok(in_older_text(&batch)),
        "sandbox-older-running" => Ok(HttpResponse::Accepted().json(ongoing(&batch, 0))),
        "sandbox-older-not-found" => Err(Refusal::bulk(StatusCode::NOT_FOUND, "Bulk search not found")),
        "sandbox-short-results" => {
            let mut answer = documented(id);
            answer["results"].as_array_mut().and_then(Vec::pop);
            ok(answer)
        }
        "sandbox-other-batch" => ok(documented(DOCUMENTED)),
        "sandbox-error-401" => Err(wrong_key()),
        "sandbox-error-429" => {
            let mut refused = throttled().error_response();
            refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            Ok(refused)
        }
        "sandbox-error-500" => Err(Refusal::bulk(StatusCode::INTERNAL_SERVER_ERROR, "server error")),
        "sandbox-error-503" => Err(Refusal::bulk(StatusCode::SERVICE_UNAVAILABLE, "server error")),
        "sandbox-error-html" => Ok(faults::html_page()),
        "sandbox-error-malformed" => Ok(faults::malformed_json()),
        "sandbox-slow" => Ok(faults::slow(HttpResponse::Ok().json(finished(&batch))).await),
        "sandbox-cut" => Ok(faults::cut(HttpResponse::Ok().json(finished(&batch))).await),
        _ => Err(Refusal::bulk(StatusCode::BAD_REQUEST, BAD_ID)),
    }
}

/// Enrow, Get Bulk Phones Result: the example of the page.
fn documented(id: &str) -> Value {
    let found = |index: u8, number: &str, linkedin_url: &str| {
        json!({
            "country": "US",
            "index": index,
            "number": number,
            "params": {"linkedin_url": linkedin_url},
            "qualification": "found",
        })
    };
    json!({
        "general": {"id": id, "status": "completed"},
        "results": [
            found(0, "+15705551234", "https://www.linkedin.com/in/michael-scott"),
            found(1, "+15705555678", "https://www.linkedin.com/in/dwight-schrute"),
        ],
        "stats": {"credits_cost": 80, "credits_to_refund": 0, "found": 2, "requested": 2},
    })
}

/// A batch of people who are found in several countries, and one who is not.
fn example(state: &SimulatorState, id: &str) -> Batch {
    let order = json!({
        "custom": {"campaign": "sandbox"},
        "searches": [
            {"linkedin_url": "https://www.linkedin.com/in/ada-lovelace", "custom": "row-1"},
            {"firstname": "Grace", "lastname": "Hopper", "company_domain": "navy.mil", "custom": "row-2"},
            {"firstname": "Alan", "lastname": "Turing", "company_name": "Bletchley Park"},
            {"linkedin_url": "https://www.linkedin.com/in/hedy-lamarr"},
            {"firstname": "Marie", "lastname": "Curie", "company_domain": "sorbonne.fr"},
            {"linkedin_url": "https://www.linkedin.com/in/katherine-johnson"},
        ],
    });
    Batch {
        id: id.to_owned(),
        records: 6,
        body: order.into(),
        submitted_at: state.opened_at,
        started_at: Some(state.opened_at),
        takes: SignedDuration::ZERO,
        stops_at: None,
    }
}

/// The variants of older public texts, all at once.
fn in_older_text(batch: &Batch) -> Value {
    let mut answer = finished(batch);
    let stats = answer["stats"].take();
    let (cost, refunded) = (&stats["credits_cost"], &stats["credits_to_refund"]);
    answer["stats"] = json!({
        "credits_cost": {
            "initial": cost,
            "refunded": refunded,
            "final": cost.as_u64().zip(refunded.as_u64()).map(|(cost, refunded)| cost - refunded),
        },
        "valid": stats["found"],
        "requested": stats["requested"],
        "finished": stats["requested"],
    });
    for result in answer["results"].as_array_mut().into_iter().flatten() {
        result["index"] = result["index"].to_string().into();
        result["raw_params"] = result["params"].take();
        if let Some(country) = result["country"].as_str().map(str::to_lowercase) {
            result["country"] = country.into();
        }
        if let Some(result) = result.as_object_mut() {
            result.retain(|_, value| !value.is_null());
        }
    }
    answer
}

fn has_no_credits(request: &HttpRequest) -> bool {
    request.extensions().get() == Some(&Account::NoCredits)
}

fn wrong_key() -> Refusal {
    Refusal::bulk(StatusCode::UNAUTHORIZED, "This apikey is not valid")
}

fn throttled() -> Refusal {
    Refusal::bulk(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
}

/// An error as Enrow answers it.
#[derive(Debug, thiserror::Error)]
#[error("{status} {body}")]
struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    /// The newest form, `{"message"}`; all calls but the single ones use it.
    fn bulk(status: StatusCode, message: &str) -> Self {
        Self { status, body: json!({"message": message}) }
    }

    /// The form of the single calls.
    fn single(status: StatusCode, reason: &str) -> Self {
        Self { status, body: json!({"reason": reason, "success": false}) }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(&self.body)
    }
}
