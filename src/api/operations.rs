//! What the platform asks: health, readiness, metrics and version. Nothing here calls a vendor or needs a key.

use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::header::{Accept, CONTENT_TYPE, Header, VARY};
use actix_web::{HttpRequest, HttpResponse, route, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::NotReady;
use crate::error::{Code, Error};
use crate::gateway::Gateway;
use crate::telemetry::{Exposition, Metrics};

/// Whether the gateway takes traffic: from the start until a shutdown begins.
#[derive(Debug)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// Ready.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    /// Not ready any more: load balancers should send nothing new, and every connection ends with its next answer.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the gateway takes traffic.
    pub(super) fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// State of the process.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Is the process alive?
///
/// Answers as long as the process serves requests at all.
#[utoipa::path(
    get,
    operation_id = "get_livez",
    tag = "operations",
    path = "/livez",
    responses((status = 200, description = "The process answers.", body = Health)),
)]
#[route("/livez", method = "GET", method = "HEAD")]
pub(super) async fn get_livez() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Does the gateway take traffic?
///
/// Local only: a vendor that is down does not make the gateway unready. An SQLite file that was deleted or replaced does.
#[utoipa::path(
    get,
    operation_id = "get_readyz",
    tag = "operations",
    path = "/readyz",
    responses((status = 200, description = "Send requests.", body = Health), NotReady),
)]
#[route("/readyz", method = "GET", method = "HEAD")]
pub(super) async fn get_readyz(
    readiness: web::Data<Readiness>,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    if !readiness.is_ready() {
        return Err(Error::new(Code::ShuttingDown, "This process is stopping; send nothing new."));
    }
    gateway.check_store_file()?;
    Ok(HttpResponse::Ok().json(Health { status: "ok" }))
}

/// Metrics for Prometheus
///
/// Requests, batch reads, vendor calls and what vendors did wrong; no personal data. In the Prometheus text format 0.0.4,
/// or in the `OpenMetrics` text format 1.0 where `Accept` prefers it.
#[utoipa::path(
    get,
    operation_id = "get_metrics",
    tag = "operations",
    path = "/metrics",
    responses((
        status = 200,
        description = "All metrics.",
        content((String = "text/plain"), (String = "application/openmetrics-text")),
    )),
)]
#[route("/metrics", method = "GET", method = "HEAD")]
pub(super) async fn get_metrics(
    request: HttpRequest,
    metrics: web::Data<Metrics>,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    let text = metrics.encode(gateway.cache_bytes()).map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written");
        Error::internal()
    })?;
    let format = Exposition::preferred(Accept::parse(&request).ok().as_ref());
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, format.content_type())).insert_header((VARY, "Accept"));
    Ok(response.body(format.render(text)))
}

/// Which build this is.
#[derive(Serialize, ToSchema)]
pub(super) struct Build {
    /// Name of the product.
    #[schema(example = "phone-gateway")]
    name: &'static str,
    /// Version of the product.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Commit that was built, if the build was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'static str>,
}

/// Which build is this?
///
/// Name, version and commit, for support and for deployments.
#[utoipa::path(
    get,
    operation_id = "get_version",
    tag = "operations",
    path = "/version",
    responses((status = 200, description = "The build.", body = Build)),
)]
#[route("/version", method = "GET", method = "HEAD")]
pub(super) async fn get_version() -> HttpResponse {
    HttpResponse::Ok().json(Build {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("PHONE_GATEWAY_COMMIT").filter(|commit| !commit.is_empty()),
    })
}
