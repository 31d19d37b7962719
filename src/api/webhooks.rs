//! `/webhooks/{provider}/{token}`: where vendors say that a batch has ended.

use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer;
use super::body::{self, BodyLimits};
use super::openapi::{WebhookParams, WebhookProblems};
use crate::error::Error;
use crate::gateway::Gateway;
use crate::telemetry;

/// Far more than any vendor's call has.
const MAX_BYTES: u64 = 64 * 1024;

/// A path that holds a secret, hence without `Debug`.
#[derive(Deserialize)]
struct WebhookPath {
    provider: String,
    token: String,
}

/// Nothing: the vendor needs to know no more.
#[derive(Serialize, ToSchema)]
struct Heard {}

/// Say that a batch has ended
///
/// For vendors, who are told this address with each batch. Nothing of the body is believed but which batch it speaks
/// of: that batch is then read from the vendor. The token is the secret of `providers.<slug>.webhook_token`; a wrong one
/// is answered as a path that does not exist.
#[utoipa::path(
    post,
    operation_id = "receive_webhook",
    tag = "webhooks",
    path = "/webhooks/{provider}/{token}",
    params(WebhookParams),
    request_body(content = Object, description = "What the vendor says, up to 64 KiB.", content_type = "*/*"),
    responses((status = 200, description = "The vendor was heard.", body = Heard), WebhookProblems),
)]
#[post("/webhooks/{provider}/{token}")]
pub(super) async fn receive_webhook(
    path: web::Path<WebhookPath>,
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<BodyLimits>,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    // Whoever has not the token learns nothing, not even that the body was too large, and takes no room for it.
    let provider = gateway.vendor_calling(&path.provider, &path.token)?;
    telemetry::learn(&request, |learnt| learnt.provider = Some(provider.info().slug));
    let body = body::bytes(&request, payload, &limits.of_webhooks(MAX_BYTES)).await?;
    gateway.notify(provider, body::without_byte_order_mark(&body)).await?;
    Ok(answer(&Heard {}))
}
