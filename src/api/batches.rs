//! `/batches/{provider}/{id}`: one batch of any vendor.

use std::sync::Arc;

use actix_web::http::header::{
    CACHE_CONTROL, CACHE_STATUS, ETAG, Header, HeaderValue, IfNoneMatch, RETRY_AFTER,
};
use actix_web::{HttpRequest, HttpResponse, ResponseError, route, web};
use serde::Deserialize;

use super::openapi::{BatchParams, BatchResponses};
use crate::auth::Client;
use crate::batch::BatchId;
use crate::cache::Representation;
use crate::error::{Code, Error, whole_seconds};
use crate::gateway::Gateway;
use crate::telemetry::{self, RequestContext};

/// A path to a batch, not checked yet.
#[derive(Deserialize)]
struct BatchPath {
    provider: String,
    id: String,
}

/// Read a batch
///
/// Answers for every batch that the vendor knows, also one that was not submitted through the gateway. A batch
/// that exists is a 200 whatever its state: `done` says whether it has come to its end, and while it has not,
/// `Retry-After` says when to ask again. A completed batch never changes and is not asked for at the vendor
/// again.
#[utoipa::path(
    get,
    operation_id = "get_batch",
    tag = "batches",
    path = "/batches/{provider}/{id}",
    params(BatchParams),
    responses(BatchResponses),
    security(("gateway_key" = [])),
)]
#[route("/batches/{provider}/{id}", method = "GET", method = "HEAD")]
pub(super) async fn get_batch(
    client: Client,
    path: web::Path<BatchPath>,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    telemetry::learn(&request, |learnt| learnt.client = Some(Arc::clone(&client.name)));
    let id: BatchId = path.id.parse().map_err(|error| {
        Error::invalid_parameter(Code::InvalidBatchId, "id", format!("Not a batch id: {error}."))
    })?;
    let provider = gateway.provider(&path.provider)?;
    client.require(provider.info().slug)?;

    let context = RequestContext::of(&request);
    let (answer, cache) = gateway.get(provider, &id, &context).await;
    telemetry::learn(&request, |learnt| {
        learnt.provider = Some(provider.info().slug);
        learnt.batch_id = Some(id);
        learnt.cache = Some(cache);
    });
    let mut response = match answer {
        Ok(batch) => render(&request, &batch),
        Err(error) => error.error_response(),
    };
    response.headers_mut().insert(CACHE_STATUS, HeaderValue::from_static(cache.header()));
    Ok(response)
}

fn render(request: &HttpRequest, batch: &Representation) -> HttpResponse {
    let unchanged = IfNoneMatch::parse(request).is_ok_and(|tags| match tags {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|tag| batch.etag.trim_matches('"') == tag.tag()),
    });
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, batch.etag.as_str()));
    response.insert_header((CACHE_CONTROL, "private, no-cache"));
    if !batch.done {
        response.insert_header((RETRY_AFTER, whole_seconds(batch.poll_after)));
    }
    if unchanged {
        response.finish()
    } else {
        response.content_type("application/json").body(batch.json.clone())
    }
}
