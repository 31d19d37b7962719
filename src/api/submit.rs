//! `POST /batches/{provider}`: the one request that costs money.

use actix_web::http::header::{CACHE_CONTROL, LOCATION, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Deserialize;

use super::body::{self, BodyLimits};
use super::headers::idempotency_key;
use super::openapi::{SubmitParams, SubmitProblems, SubmittedBatch};
use super::query::Query;
use crate::auth::Client;
use crate::error::{Error, whole_seconds};
use crate::gateway::Gateway;
use crate::scope::Scope;
use crate::submission::NewBatch;
use crate::telemetry::{self, RequestContext};

/// A path to a vendor, not checked yet.
#[derive(Deserialize)]
struct SubmitPath {
    provider: String,
}

/// Submit a batch
///
/// Everything is checked before anything is sent: `errors` lists all that is wrong, each with its place. The same
/// request with the same `Idempotency-Key` is sent to the vendor at most once, whatever happens: repeat it until there
/// is an answer. The answer is the batch as the vendor took it; `Location` is where to read it. Costs money at the
/// vendor. Needs the scope `submit`.
#[utoipa::path(
    post,
    operation_id = "submit_batch",
    tag = "batches",
    path = "/batches/{provider}",
    params(SubmitParams),
    // Its examples are put in from the list of vendors, see `openapi`.
    request_body(content = NewBatch, description = "The batch: the same schema for every vendor."),
    responses(SubmittedBatch, SubmitProblems),
    security(("gateway_key" = [])),
)]
#[post("/batches/{provider}")]
pub(super) async fn submit_batch(
    client: Client,
    path: web::Path<SubmitPath>,
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<BodyLimits>,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    client.require_scope(Scope::Submit)?;
    let provider = gateway.provider(&path.provider)?;
    let info = provider.info();
    client.require(info.slug)?;
    telemetry::learn(&request, |learnt| learnt.provider = Some(info.slug));
    Query::of(&request, &[]).finish()?;

    let key = idempotency_key(request.headers())?;
    let body = body::json(&request, payload, &limits).await?;
    let batch = NewBatch::from_json(&body, &info.accepts).map_err(Error::invalid_body)?;
    drop(body);
    let context = RequestContext::of(&request);
    let submitted = gateway.submit(provider, &client.name, key, batch, &context).await;
    telemetry::learn(&request, |learnt| match &submitted {
        Ok(submitted) => {
            learnt.submission_id = Some(submitted.submission);
            learnt.batch_id = Some(submitted.batch.clone());
        }
        Err(error) => learnt.submission_id = error.submission,
    });
    let submitted = submitted?;
    let mut response = HttpResponse::Accepted();
    response
        .insert_header((LOCATION, format!("/batches/{}/{}", info.slug, submitted.batch)))
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("application/json");
    if !submitted.is_done() {
        response.insert_header((RETRY_AFTER, whole_seconds(gateway.floor())));
    }
    if submitted.replayed {
        response.insert_header(("Idempotent-Replayed", "true"));
    }
    Ok(response.body(submitted.json))
}
