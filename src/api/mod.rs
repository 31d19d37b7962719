//! The HTTP API: paths, their handlers and the OpenAPI document made from both.

mod admission;
mod answer;
mod batches;
mod body;
mod edge;
mod headers;
mod list;
mod openapi;
mod operations;
mod providers;
mod query;
mod submissions;
mod submit;
mod usage;
mod webhooks;

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, CACHE_CONTROL};
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde::Serialize;
use tracing_actix_web::TracingLogger;
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

use self::admission::ALWAYS;
pub use self::admission::Admission;
pub use self::body::BodyLimits;
pub use self::openapi::Document;
pub use self::operations::Readiness;
use crate::auth::Auth;
use crate::error::{Code, Error};
use crate::gateway::Gateway;
use crate::telemetry::{GatewaySpan, Metrics};

/// All that handlers work with. Cheap to clone: each server thread has its own copy.
#[derive(Clone, Debug)]
pub struct State {
    /// Who may call.
    pub auth: web::Data<Auth>,
    /// The use cases.
    pub gateway: web::Data<Gateway>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What is taken on at a time.
    pub admission: web::Data<Admission>,
    /// The limits of request bodies.
    pub body_limits: web::Data<BodyLimits>,
    /// Whether the gateway takes traffic.
    pub readiness: web::Data<Readiness>,
    /// The OpenAPI document.
    pub document: web::Data<Document>,
}

/// Every path with its handler.
fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(submit::submit_batch)
        .service(batches::get_batch)
        .service(batches::stop_batch)
        .service(batches::erase_batch)
        .service(list::list_batches)
        .service(submissions::get_submission)
        .service(submissions::list_submissions)
        .service(submissions::resolve_submission)
        .service(providers::list_providers)
        .service(usage::get_usage)
        .service(webhooks::receive_webhook)
        .service(openapi::get_openapi)
        .configure(operations);
}

/// The paths that need no key and no vendor.
fn operations(config: &mut ServiceConfig<'_>) {
    config
        .service(operations::get_livez)
        .service(operations::get_readyz)
        .service(operations::get_metrics)
        .service(operations::get_version);
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// The whole API.
    All,
    /// Health, metrics and version.
    Operations,
}

/// The application that each server thread runs.
pub fn application(
    state: State,
    paths: Paths,
) -> actix_web::App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let app = actix_web::App::new().into_utoipa_app();
    let (app, elsewhere) = match paths {
        Paths::All => (app.configure(routes), web::to(no_such_route)),
        Paths::Operations => (app.configure(operations), web::to(no_such_operation)),
    };
    let (app, _) = app.split_for_parts();
    let app = if paths == Paths::All { app.configure(openapi::swagger_ui) } else { app };
    app.app_data(state.auth)
        .app_data(state.gateway)
        .app_data(state.admission)
        .app_data(state.body_limits)
        .app_data(state.readiness)
        .app_data(state.document)
        .app_data(web::Data::from(state.metrics))
        .default_service(elsewhere)
        .wrap(from_fn(edge::edge))
        .wrap(TracingLogger::<GatewaySpan>::new())
}

/// An answer that is made for one caller at one moment.
fn answer(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body)
}

/// What no handler takes: `OPTIONS`, which needs no key, an unknown path, or a known one with another method.
async fn no_such_route(request: HttpRequest, document: web::Data<Document>) -> HttpResponse {
    match document.allowed_methods(request.path()) {
        Some(allow) if request.method() == Method::OPTIONS => options(allow),
        Some(allow) => {
            let detail = format!("This path has the methods: {allow}.");
            let error = Error { allow: Some(allow.into()), ..Error::new(Code::MethodNotAllowed, detail) };
            error.error_response()
        }
        None => Error::route_not_found().error_response(),
    }
}

/// The same for the platform's own listener; a health check without a path of its own asks `OPTIONS /`.
async fn no_such_operation(request: HttpRequest) -> HttpResponse {
    let path = request.path();
    if request.method() == Method::OPTIONS && (matches!(path, "/" | "*") || ALWAYS.contains(&path)) {
        return options("GET, HEAD, OPTIONS");
    }
    Error::route_not_found().error_response()
}

fn options(allow: &str) -> HttpResponse {
    HttpResponse::NoContent().insert_header((ALLOW, allow)).finish()
}
