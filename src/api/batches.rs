//! `/batches/{provider}/{id}`: one batch of any vendor.

use std::sync::Arc;

use actix_web::http::header::{
    CACHE_CONTROL, CACHE_STATUS, ETAG, Header, HeaderName, HeaderValue, IfNoneMatch, RETRY_AFTER, VARY,
};
use actix_web::{HttpRequest, HttpResponse, ResponseError, delete, post, route, web};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::headers::preferred_wait;
use super::openapi::{
    BatchParams, BatchResponses, EraseProblems, ErasedBatch, ReadParams, ReadProblems, StopProblems,
    StoppedBatch,
};
use super::query::Query;
use crate::auth::Client;
use crate::batch::BatchId;
use crate::cache::Representation;
use crate::error::{Code, Error, whole_seconds};
use crate::gateway::Gateway;
use crate::providers::Provider;
use crate::scope::Scope;
use crate::server::Connection;
use crate::telemetry::{self, RequestContext};

/// Says which of the caller's preferences were followed, RFC 7240 3.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

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
/// `Retry-After` says when to ask again. With `Prefer: wait=30` the answer comes when the batch is done, or after
/// 30 seconds. A completed batch never changes, is kept, and is not asked for at the vendor again. Needs the scope
/// `read`.
#[utoipa::path(
    get,
    operation_id = "get_batch",
    tag = "batches",
    path = "/batches/{provider}/{id}",
    params(BatchParams, ReadParams),
    responses(BatchResponses, ReadProblems),
    security(("gateway_key" = [])),
)]
#[route("/batches/{provider}/{id}", method = "GET", method = "HEAD")]
pub(super) async fn get_batch(
    client: Client,
    path: web::Path<BatchPath>,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    let (provider, id) = asked_for(&request, &client, Scope::Read, &path, &gateway)?;
    let context = RequestContext::of(&request);
    let wait = preferred_wait(request.headers(), gateway.max_wait());
    let (answer, cache) = match wait.filter(|wait| !wait.is_zero()) {
        Some(wait) => {
            let until = wait_is_over(&request, Instant::now() + wait);
            gateway.wait(provider, &id, &client, &context, until).await
        }
        None => gateway.get(provider, &id, &client, &context).await,
    };
    telemetry::learn(&request, |learnt| learnt.cache = Some(cache));
    let mut response = match answer {
        Ok(batch) => render(&batch, is_known(&request, &batch)),
        Err(error) => error.error_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_STATUS, HeaderValue::from_static(cache.header()));
    headers.insert(VARY, HeaderValue::from_static("Prefer"));
    if let Some(applied) =
        wait.and_then(|wait| HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok())
    {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// Stop a batch
///
/// Asks the vendor to stop, and answers with what became of the batch. A batch that has ended already is answered
/// as it is. `GET /providers` says which vendors can stop one. Needs the scope `submit`.
#[utoipa::path(
    post,
    operation_id = "stop_batch",
    tag = "batches",
    path = "/batches/{provider}/{id}/stop",
    params(BatchParams),
    responses(StoppedBatch, StopProblems),
    security(("gateway_key" = [])),
)]
#[post("/batches/{provider}/{id}/stop")]
pub(super) async fn stop_batch(
    client: Client,
    path: web::Path<BatchPath>,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    let (provider, id) = asked_for(&request, &client, Scope::Submit, &path, &gateway)?;
    let batch = gateway.stop(provider, &id, &client, &RequestContext::of(&request)).await?;
    Ok(render(&batch, false))
}

/// Erase a batch
///
/// Erases what the gateway holds of the batch, in memory and in the store, in every replica. It is never asked for
/// at the vendor again: reading it is a 410 from now on. What the vendor holds stays there. Erasing a batch twice,
/// or one that the gateway never saw, is a 204 as well. Needs the scope `erase`.
#[utoipa::path(
    delete,
    operation_id = "erase_batch",
    tag = "batches",
    path = "/batches/{provider}/{id}",
    params(BatchParams),
    responses(ErasedBatch, EraseProblems),
    security(("gateway_key" = [])),
)]
#[delete("/batches/{provider}/{id}")]
pub(super) async fn erase_batch(
    client: Client,
    path: web::Path<BatchPath>,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    let (provider, id) = asked_for(&request, &client, Scope::Erase, &path, &gateway)?;
    gateway.erase(provider.info(), &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The batch of a path, if the client may do with it what `scope` allows. No vendor is called.
fn asked_for<'a>(
    request: &HttpRequest,
    client: &Client,
    scope: Scope,
    path: &BatchPath,
    gateway: &'a Gateway,
) -> Result<(&'a Arc<dyn Provider>, BatchId), Error> {
    client.require_scope(scope)?;
    let id: BatchId = path.id.parse().map_err(|error| {
        Error::invalid_parameter(Code::InvalidBatchId, "id", format!("Not a batch id: {error}."))
    })?;
    let provider = gateway.provider(&path.provider)?;
    let slug = provider.info().slug;
    client.require(slug)?;
    telemetry::learn(request, |learnt| {
        learnt.provider = Some(slug);
        learnt.batch_id = Some(id.clone());
    });
    Query::of(request, &[]).finish()?;
    Ok((provider, id))
}

/// Completes at the deadline, or when the caller closes its side of the connection: one that is gone must hold nothing,
/// and one that still reads gets the batch as it stands.
async fn wait_is_over(request: &HttpRequest, deadline: Instant) {
    match request.conn_data::<Connection>() {
        Some(connection) => drop(timeout_at(deadline, connection.peer_closed()).await),
        None => sleep_until(deadline).await,
    }
}

/// Whether the caller has exactly this document already.
fn is_known(request: &HttpRequest, batch: &Representation) -> bool {
    IfNoneMatch::parse(request).is_ok_and(|tags| match tags {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|tag| batch.etag.trim_matches('"') == tag.tag()),
    })
}

fn render(batch: &Representation, is_known: bool) -> HttpResponse {
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, batch.etag.as_str()));
    response.insert_header((CACHE_CONTROL, "private, no-cache"));
    if !batch.done {
        response.insert_header((RETRY_AFTER, whole_seconds(batch.poll_after)));
    }
    if is_known {
        response.finish()
    } else {
        response.content_type("application/json").body(batch.json.clone())
    }
}
