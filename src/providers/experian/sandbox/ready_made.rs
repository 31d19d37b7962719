//! The batches that exist from the start, one for each state and error.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Refusal, TIME_IS_UP, brief, epoch_seconds, expired, results_answer, status_answer, throttled};
use crate::sandbox::{Batch, Phase, ReadyMade, SimulatorState, faults, later};

/// The id in the vendor's own examples.
const DOCUMENTED: &str = "00000000-0000-0000-0000-000000000000";

const ALL_OPTIONS: &str = "sandbox-all-options";
const LIVE: &str = "sandbox-live";

pub(super) const READY_MADE: &[ReadyMade] = &[
    ReadyMade { id: DOCUMENTED, shows: "completed: the documented result of 12269724276" },
    ReadyMade { id: "sandbox-completed", shows: "completed: every confidence and phone type" },
    ReadyMade { id: ALL_OPTIONS, shows: "processing: every option of the documented status" },
    ReadyMade { id: LIVE, shows: "submitted at its first reading, then processing, then completed" },
    ReadyMade { id: "sandbox-submitted", shows: "submitted, never started" },
    ReadyMade { id: "sandbox-running", shows: "processing for ever" },
    ReadyMade { id: "sandbox-stopped", shows: "stopped by the caller, half of it unprocessed" },
    ReadyMade { id: "sandbox-stopped-by-limit", shows: "stopped with reason max_processing_time_reached" },
    ReadyMade { id: "sandbox-unknown-status", shows: "a status word that no document has" },
    ReadyMade { id: "sandbox-unknown-outcome", shows: "a confidence and a phone type that no document has" },
    ReadyMade { id: "sandbox-results-pending", shows: "completed, but its results are not there yet" },
    ReadyMade { id: "sandbox-short-results", shows: "completed with fewer results than numbers" },
    ReadyMade { id: "sandbox-expired", shows: "400: older than 28 days" },
    ReadyMade { id: "sandbox-not-found", shows: "404" },
    ReadyMade { id: "sandbox-other-batch", shows: "the answer mentions another batch" },
    ReadyMade { id: "sandbox-error-401", shows: "401: the token is not valid" },
    ReadyMade { id: "sandbox-error-403", shows: "403: the token is disabled" },
    ReadyMade { id: "sandbox-error-429", shows: "429, the limit is reset in 2 seconds" },
    ReadyMade { id: "sandbox-error-500", shows: "500" },
    ReadyMade { id: "sandbox-error-503", shows: "503" },
    ReadyMade { id: "sandbox-error-html", shows: "200 with a web page" },
    ReadyMade { id: "sandbox-error-malformed", shows: "200 with half a JSON object" },
    ReadyMade { id: "sandbox-slow", shows: "completed, but each answer takes 10 seconds" },
    ReadyMade { id: "sandbox-cut", shows: "the connection is closed in the middle of the answer" },
];

/// Numbers whose verdicts show every confidence and every phone type between them.
const NUMBERS: &[&str] = &[
    "+61491572112",
    "+918123451266",
    "+34612345991",
    "+14165559920",
    "+14165559720",
    "+12025550149",
    "+18002345699",
    "+449012345699",
    "+49180123499",
    "+33912345697",
    "+447012345699",
    "+447640129956",
    "+445512345695",
    "+3933101297501",
    "+49177991234017",
    "+4912",
];

type Answer = Result<HttpResponse, Refusal>;

/// The answer of `start`, if the id is a ready-made one; nothing changes.
pub(super) fn start(state: &SimulatorState, request: &HttpRequest, id: &str) -> Option<Answer> {
    let batch = example(state, id)?;
    Some(match batch.progress(state.clock.now()).phase {
        Phase::Submitted => Ok(brief(&batch, "processing")),
        Phase::Running | Phase::Completed | Phase::Stopped => {
            let detail = "The batch has already been started.";
            Err(Refusal::new(request, StatusCode::BAD_REQUEST, detail))
        }
    })
}

/// The answer of `stop`, if the id is a ready-made one; nothing changes.
pub(super) fn stop(state: &SimulatorState, request: &HttpRequest, id: &str) -> Option<Answer> {
    let batch = example(state, id)?;
    Some(match batch.progress(state.clock.now()).phase {
        Phase::Submitted | Phase::Running => Ok(brief(&batch, "stopped")),
        Phase::Completed | Phase::Stopped => {
            let detail = "The batch is not being processed.";
            Err(Refusal::new(request, StatusCode::BAD_REQUEST, detail))
        }
    })
}

/// The status, if the id is a ready-made one.
pub(super) async fn status(
    state: &SimulatorState,
    request: &HttpRequest,
    id: &str,
    add_metadata: bool,
) -> Option<Answer> {
    let batch = example(state, id)?;
    let mut answer = status_answer(&batch, &batch.progress(state.clock.now()), add_metadata);
    if id == "sandbox-unknown-status" {
        answer["result"]["status"] = "paused".into();
    }
    Some(show(state, request, id, answer).await)
}

/// The results, if the id is a ready-made one.
pub(super) async fn results(
    state: &SimulatorState,
    request: &HttpRequest,
    id: &str,
    add_metadata: bool,
) -> Option<Answer> {
    let batch = example(state, id)?;
    let mut answer = results_answer(&batch, &batch.progress(state.clock.now()), add_metadata);
    let result = &mut answer["result"];
    match id {
        DOCUMENTED => *result = documented_results(add_metadata),
        "sandbox-unknown-status" => result["status"] = "paused".into(),
        "sandbox-unknown-outcome" => {
            result["phones"][0]["confidence"] = "recycled".into();
            result["phones"][0]["phone_type"] = "satellite".into();
        }
        "sandbox-results-pending" => {
            result["phones"] = json!([]);
            result["statistics"] = json!([]);
            result["credits_charged"] = 0.into();
        }
        "sandbox-short-results" => drop(result["phones"].as_array_mut().and_then(Vec::pop)),
        _ => {}
    }
    Some(show(state, request, id, answer).await)
}

/// The answer, or what the id shows in its place.
async fn show(state: &SimulatorState, request: &HttpRequest, id: &str, mut answer: Value) -> Answer {
    let refuse = |status, detail| Err(Refusal::new(request, status, detail));
    match id {
        "sandbox-expired" => Err(expired(request)),
        "sandbox-not-found" => refuse(StatusCode::NOT_FOUND, "The batch was not found."),
        "sandbox-error-401" => refuse(StatusCode::UNAUTHORIZED, "The token is not valid."),
        "sandbox-error-403" => refuse(StatusCode::FORBIDDEN, "The token is disabled."),
        "sandbox-error-429" => Ok(limit_reached(state, request)),
        "sandbox-error-500" => refuse(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred."),
        "sandbox-error-503" => refuse(StatusCode::SERVICE_UNAVAILABLE, "The service is unavailable."),
        "sandbox-error-html" => Ok(faults::html_page()),
        "sandbox-error-malformed" => Ok(faults::malformed_json()),
        "sandbox-slow" => Ok(faults::slow(HttpResponse::Ok().json(answer)).await),
        "sandbox-cut" => Ok(faults::cut(HttpResponse::Ok().json(answer)).await),
        "sandbox-other-batch" => {
            answer["result"]["batch_id"] = DOCUMENTED.into();
            Ok(HttpResponse::Ok().json(answer))
        }
        _ => Ok(HttpResponse::Ok().json(answer)),
    }
}

fn limit_reached(state: &SimulatorState, request: &HttpRequest) -> HttpResponse {
    let resets_at = later(state.clock.now(), SignedDuration::from_secs(2));
    let mut response = throttled(request).error_response();
    let values = [("x-rate-limit-remaining", 0), ("x-rate-limit-reset", epoch_seconds(resets_at))];
    for (name, value) in values {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    response
}

/// The batch behind a ready-made id, submitted an hour before the sandbox was opened.
fn example(state: &SimulatorState, id: &str) -> Option<Batch> {
    let id = READY_MADE.iter().find(|ready_made| ready_made.id == id)?.id;
    let minute = SignedDuration::from_mins(1);
    let now = state.clock.now();
    let an_hour_before = later(state.opened_at, SignedDuration::from_hours(-1));
    let (submitted_at, duration) =
        if id == LIVE { state.first_read(LIVE) } else { (an_hour_before, SignedDuration::ZERO) };
    let (started_at, takes) = match id {
        // It waits for a quarter of its duration.
        LIVE => (Some(later(submitted_at, duration / 4)).filter(|at| now >= *at), duration - duration / 4),
        "sandbox-submitted" => (None, minute),
        // Half of it is done, whenever somebody looks.
        "sandbox-running" | "sandbox-unknown-status" | ALL_OPTIONS => {
            let started_at = later(state.opened_at, -minute);
            (Some(started_at), now.duration_since(started_at) * 2)
        }
        _ => (Some(submitted_at), minute * 2),
    };
    let reason = match id {
        "sandbox-stopped" => Some(None),
        "sandbox-stopped-by-limit" => Some(Some(TIME_IS_UP)),
        _ => None,
    };
    let phones: Vec<_> = NUMBERS.iter().map(|number| json!({"number": number})).collect();
    let body = match id {
        DOCUMENTED => json!({"defaults": {"output_format": "E164"}, "phones": [{"number": "12269724276"}]}),
        ALL_OPTIONS => json!({
            "defaults": {
                "output_format": "E164",
                "country_iso": "GBR",
                "get_ported_date": true,
                "supplementary_live_status": {"landline": ["GBR"]},
            },
            "phones": phones,
        }),
        _ => json!({"defaults": {"output_format": "PLUS_E164", "get_ported_date": true}, "phones": phones}),
    };
    Some(Batch {
        id: id.to_owned(),
        records: body["phones"].as_array().map_or(0, Vec::len),
        body: body.into(),
        submitted_at,
        started_at,
        takes,
        stops_at: reason.map(|reason| (later(submitted_at, minute), reason)),
    })
}

/// The results that the OpenAPI document shows as those of a completed batch.
fn documented_results(add_metadata: bool) -> Value {
    let mut phone = json!({
        "number": "12269724276",
        "validated_phone_number": "12269724276",
        "formatted_phone_number": "12269724276",
        "phone_type": "mobile",
        "confidence": "verified",
        "ported_date": "not applicable",
        "disposable_number": "unknown",
    });
    if add_metadata {
        phone["metadata"] = json!({
            "original_operator_name": "Bell Mobility",
            "original_network_status": "available",
            "original_home_network_identity": "302610",
            "original_country_prefix": "1",
            "original_country_name": "Canada",
            "original_country_iso": "CAN",
            "operator_name": "Rogers Wireless",
            "network_status": "available",
            "home_network_identity": "302720",
            "country_prefix": "1",
            "country_name": "Canada",
            "country_iso": "CAN",
            "is_ported": "no",
            "email_to_sms_address": "2269724276@sms.rogers.com",
        });
    }
    json!({
        "batch_id": DOCUMENTED,
        "credits_charged": 1,
        "status": "completed",
        "statistics": [{"name": "verified", "value": 1}],
        "phones": [phone],
    })
}
