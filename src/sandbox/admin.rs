//! The admin routes: tests look at calls and money, move the clock and break things through them.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpResponse, Resource, ResponseError};
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::NewFault;
use super::{OnReset, SimulatorState};
use crate::clock::Clock;

/// Adds `/admin/…` for all simulators.
pub(super) fn routes(
    config: &mut ServiceConfig,
    states: &[SimulatorState],
    clock: &Clock,
    on_reset: &OnReset,
) {
    let states: Arc<[SimulatorState]> = states.into();
    config.service(
        web::scope("/admin")
            .app_data(Data::from(states))
            .app_data(Data::new(clock.clone()))
            .app_data(Data::new(on_reset.clone()))
            .service(at("/clock").post(move_clock))
            .service(at("/{slug}").get(show).patch(adjust).delete(reset))
            .service(at("/{slug}/faults").get(faults).post(add_fault).delete(clear_faults))
            .service(at("/{slug}/ready-made").get(ready_made))
            .default_service(web::to(async || Answer::Err(Refusal::NoRoute))),
    );
}

/// A path of its own, which refuses all other methods.
fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::to(async || Answer::Err(Refusal::WrongMethod)))
}

/// Body of `POST /admin/clock`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: i64,
}

/// Body of `PATCH /admin/{slug}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adjustment {
    credits: Option<u64>,
    rate_limit: Option<u32>,
    pace_ms: Option<i64>,
}

/// Why an admin call was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no simulator has this name")]
    UnknownSlug,
    #[error("the body is not what this route takes: {0}")]
    BadBody(String),
    #[error("no such path; there are {ROUTES}")]
    NoRoute,
    #[error("the path does not take this method; there are {ROUTES}")]
    WrongMethod,
}

const ROUTES: &str = "POST /admin/clock; GET, PATCH and DELETE /admin/{slug}; \
    GET, POST and DELETE /admin/{slug}/faults; GET /admin/{slug}/ready-made";

type Answer = Result<HttpResponse, Refusal>;
type States = Data<[SimulatorState]>;

async fn move_clock(clock: Data<Clock>, body: Bytes) -> Answer {
    let Advance { advance_ms } = read(&body)?;
    clock.advance(SignedDuration::from_millis(advance_ms));
    Ok(HttpResponse::Ok().json(json!({"now": clock.now().to_string()})))
}

async fn show(states: States, slug: Path<String>) -> Answer {
    let inner = find(&states, &slug)?.settled();
    Ok(HttpResponse::Ok().json(json!({
        "calls": inner.calls.show(),
        "counts": inner.calls.counts(),
        "charged": inner.charged,
        "refunded": inner.refunded,
        "credits": inner.credits,
        "batches": inner.batch_count(),
        "rate_limit": inner.rate_limit,
        "pace_ms": i64::try_from(inner.batch_duration.as_millis()).unwrap_or(i64::MAX),
        "faults": inner.faults.show(),
    })))
}

async fn adjust(states: States, slug: Path<String>, body: Bytes) -> Answer {
    let state = find(&states, &slug)?;
    let adjustment: Adjustment = read(&body)?;
    let mut inner = state.settled();
    inner.credits = adjustment.credits.unwrap_or(inner.credits);
    inner.rate_limit = adjustment.rate_limit.unwrap_or(inner.rate_limit);
    inner.batch_duration = adjustment.pace_ms.map_or(inner.batch_duration, SignedDuration::from_millis);
    Ok(done())
}

async fn reset(states: States, slug: Path<String>, on_reset: Data<OnReset>) -> Answer {
    let state = find(&states, &slug)?;
    state.reset();
    on_reset.call(state.simulator().slug).await;
    Ok(done())
}

async fn faults(states: States, slug: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(find(&states, &slug)?.lock().faults.show()))
}

async fn add_fault(states: States, slug: Path<String>, body: Bytes) -> Answer {
    let state = find(&states, &slug)?;
    let fault: NewFault = read(&body)?;
    state.lock().faults.push(fault).map_err(Refusal::BadBody)?;
    Ok(done())
}

async fn clear_faults(states: States, slug: Path<String>) -> Answer {
    find(&states, &slug)?.lock().faults.clear();
    Ok(done())
}

async fn ready_made(states: States, slug: Path<String>) -> Answer {
    let ready_made = find(&states, &slug)?.simulator().ready_made;
    let list: Value = ready_made.iter().map(|batch| json!({"id": batch.id, "shows": batch.shows})).collect();
    Ok(HttpResponse::Ok().json(list))
}

fn find<'a>(states: &'a States, slug: &str) -> Result<&'a SimulatorState, Refusal> {
    states.iter().find(|state| state.simulator().slug == slug).ok_or(Refusal::UnknownSlug)
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::BadBody(error.to_string()))
}

fn done() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::UnknownSlug | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadBody(_) => StatusCode::BAD_REQUEST,
        }
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code()).json(json!({"message": self.to_string()}))
    }
}
