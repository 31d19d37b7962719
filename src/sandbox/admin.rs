//! The admin routes: tests look at calls and money, move the clock and break things through them.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpResponse, Resource, ResponseError};
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::World;
use super::faults::NewFault;
use crate::clock::Clock;

/// Adds `/admin/…` for all simulators.
pub(super) fn routes(config: &mut ServiceConfig, worlds: &[World], clock: &Clock) {
    let worlds: Arc<[World]> = worlds.into();
    config.service(
        web::scope("/admin")
            .app_data(Data::from(worlds))
            .app_data(Data::new(clock.clone()))
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
type Worlds = Data<[World]>;

async fn move_clock(clock: Data<Clock>, body: Bytes) -> Answer {
    let Advance { advance_ms } = read(&body)?;
    clock.advance(SignedDuration::from_millis(advance_ms));
    Ok(HttpResponse::Ok().json(json!({"now": clock.now().to_string()})))
}

async fn show(worlds: Worlds, slug: Path<String>) -> Answer {
    let state = find(&worlds, &slug)?.settled();
    Ok(HttpResponse::Ok().json(json!({
        "calls": state.calls.show(),
        "counts": state.calls.counts(),
        "charged": state.charged,
        "refunded": state.refunded,
        "credits": state.credits,
        "batches": state.batch_count(),
        "rate_limit": state.rate_limit,
        "pace_ms": i64::try_from(state.pace.as_millis()).unwrap_or(i64::MAX),
        "faults": state.faults.show(),
    })))
}

async fn adjust(worlds: Worlds, slug: Path<String>, body: Bytes) -> Answer {
    let world = find(&worlds, &slug)?;
    let adjustment: Adjustment = read(&body)?;
    let mut state = world.settled();
    state.credits = adjustment.credits.unwrap_or(state.credits);
    state.rate_limit = adjustment.rate_limit.unwrap_or(state.rate_limit);
    state.pace = adjustment.pace_ms.map_or(state.pace, SignedDuration::from_millis);
    Ok(done())
}

async fn reset(worlds: Worlds, slug: Path<String>) -> Answer {
    find(&worlds, &slug)?.reset();
    Ok(done())
}

async fn faults(worlds: Worlds, slug: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(find(&worlds, &slug)?.state().faults.show()))
}

async fn add_fault(worlds: Worlds, slug: Path<String>, body: Bytes) -> Answer {
    let world = find(&worlds, &slug)?;
    let fault: NewFault = read(&body)?;
    world.state().faults.push(fault).map_err(Refusal::BadBody)?;
    Ok(done())
}

async fn clear_faults(worlds: Worlds, slug: Path<String>) -> Answer {
    find(&worlds, &slug)?.state().faults.clear();
    Ok(done())
}

async fn ready_made(worlds: Worlds, slug: Path<String>) -> Answer {
    let ready_made = find(&worlds, &slug)?.simulator().ready_made;
    let list: Value = ready_made.iter().map(|batch| json!({"id": batch.id, "shows": batch.shows})).collect();
    Ok(HttpResponse::Ok().json(list))
}

fn find<'a>(worlds: &'a Worlds, slug: &str) -> Result<&'a World, Refusal> {
    worlds.iter().find(|world| world.simulator().slug == slug).ok_or(Refusal::UnknownSlug)
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
