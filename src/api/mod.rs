//! The HTTP API: paths, their handlers and the OpenAPI document made from both.

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

use actix_web::http::header::CACHE_CONTROL;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde::Serialize;
use tracing_actix_web::TracingLogger;
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

pub use self::body::BodyLimit;
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
    /// The most bytes that a request body may have.
    pub body_limit: web::Data<BodyLimit>,
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
        .service(operations::get_livez)
        .service(operations::get_readyz)
        .service(operations::get_metrics)
        .service(operations::get_version)
        .service(openapi::get_openapi);
}

/// The application that each server thread runs.
pub fn application(
    state: State,
) -> actix_web::App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let (app, _) = actix_web::App::new().into_utoipa_app().configure(routes).split_for_parts();
    app.app_data(state.auth)
        .app_data(state.gateway)
        .app_data(state.body_limit)
        .app_data(state.readiness)
        .app_data(state.document)
        .app_data(web::Data::from(state.metrics))
        .configure(openapi::swagger_ui)
        .default_service(web::to(no_such_route))
        .wrap(from_fn(edge::edge))
        .wrap(TracingLogger::<GatewaySpan>::new())
}

/// An answer that is made for one caller at one moment.
fn answer(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body)
}

/// Tells an unknown path from a known one with another method.
async fn no_such_route(request: HttpRequest, document: web::Data<Document>) -> HttpResponse {
    let error = match document.allowed_methods(request.path()) {
        Some(allow) => Error {
            allow: Some(allow.as_str().into()),
            ..Error::new(Code::MethodNotAllowed, format!("This path has the methods: {allow}."))
        },
        None => Error::route_not_found(),
    };
    error.error_response()
}
