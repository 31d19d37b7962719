//! `GET /providers`: the vendors, what they can do and how they are doing.

use actix_web::{HttpRequest, HttpResponse, route, web};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer;
use super::openapi::ProvidersProblems;
use super::query::Query;
use crate::auth::Client;
use crate::batch::Kind;
use crate::error::{Error, whole_seconds};
use crate::gateway::{Gateway, ProviderState};
use crate::http::ProviderErrorKind;
use crate::rate::Rate;
use crate::scope::Scope;
use crate::telemetry::LastCall;

/// The vendors that the client may use.
#[derive(Serialize, ToSchema)]
pub(super) struct ProviderList {
    /// The vendors, also those that are off.
    providers: Vec<ProviderEntry>,
}

/// A vendor: what it can do and how it is doing.
#[derive(Serialize, ToSchema)]
struct ProviderEntry {
    /// Slug of the vendor, as in paths.
    slug: &'static str,
    /// Name for people.
    name: &'static str,
    /// What the vendor does: it finds numbers, or it validates them.
    kind: Kind,
    /// Whether the vendor can be used now.
    state: ProviderCondition,
    /// Most records in one batch.
    max_records: u32,
    /// Days for which the vendor keeps results; absent where it names no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_days: Option<u16>,
    /// The options that a batch may have; empty where there are none.
    options: &'static [&'static str],
    /// Whether a batch can be stopped.
    stops: bool,
    /// Whether the vendor says when a batch has ended.
    webhooks: bool,
    /// Whether a submission in doubt can be looked up at the vendor.
    recovers: bool,
    /// The vendor's public documentation.
    documentation: &'static str,
    /// How many calls the vendor allows; absent while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<ProviderQuota>,
    /// The last call of this process to the vendor; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_call: Option<ProviderCall>,
}

/// Whether a vendor can be used now. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ProviderCondition {
    /// It has a key here, and nothing speaks against it.
    On,
    /// It has no key here.
    Off,
    /// The last call failed, and not because of the batch that was asked for.
    Failing,
}

/// How many calls a vendor allows, all replicas together.
#[derive(Serialize, ToSchema)]
struct ProviderQuota {
    /// Calls in any stretch of that length.
    calls: u32,
    /// Length of the stretch in seconds.
    per_seconds: u64,
    /// Calls that were counted in the stretch that ends now; absent while the store does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u32>,
}

/// How a call to a vendor ended.
#[derive(Serialize, ToSchema)]
struct ProviderCall {
    /// When it ended, RFC 3339 in UTC.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What went wrong, as in the metric `provider_requests_total`; absent if nothing did. Open enumeration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "timeout")]
    error: Option<&'static str>,
}

/// List the vendors
///
/// What each vendor that the key may use can do, and how it is doing. Needs the scope `read`.
#[utoipa::path(
    get,
    operation_id = "list_providers",
    tag = "providers",
    path = "/providers",
    responses((status = 200, description = "The vendors.", body = ProviderList), ProvidersProblems),
    security(("gateway_key" = [])),
)]
#[route("/providers", method = "GET", method = "HEAD")]
pub(super) async fn list_providers(
    client: Client,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    client.require_scope(Scope::Read)?;
    Query::of(&request, &[]).finish()?;
    let providers = gateway.provider_states(&client).await.into_iter().map(ProviderEntry::from).collect();
    Ok(answer(&ProviderList { providers }))
}

impl From<ProviderState> for ProviderEntry {
    fn from(ProviderState { info, on, quota, last_call }: ProviderState) -> Self {
        Self {
            slug: info.slug,
            name: info.name,
            kind: info.accepts.kind,
            state: ProviderCondition::of(on, last_call.and_then(|call| call.error)),
            max_records: info.accepts.max_records,
            retention_days: info.retention_days,
            options: info.accepts.options,
            stops: info.stops,
            webhooks: info.webhooks,
            recovers: info.recovers,
            documentation: info.documentation,
            quota: quota.map(|(Rate { calls, per }, used)| ProviderQuota {
                calls,
                per_seconds: whole_seconds(per),
                used,
            }),
            last_call: last_call
                .map(|LastCall { at, error }| ProviderCall { at, error: error.map(ProviderErrorKind::word) }),
        }
    }
}

impl ProviderCondition {
    fn of(on: bool, error: Option<ProviderErrorKind>) -> Self {
        match (on, error) {
            (false, _) => Self::Off,
            (true, error) if error.is_some_and(is_the_vendors_fault) => Self::Failing,
            (true, _) => Self::On,
        }
    }
}

/// Whether other batches will probably fare no better.
const fn is_the_vendors_fault(error: ProviderErrorKind) -> bool {
    match error {
        ProviderErrorKind::BatchNotFound
        | ProviderErrorKind::Expired
        | ProviderErrorKind::Refused
        | ProviderErrorKind::Unsupported => false,
        ProviderErrorKind::Credentials
        | ProviderErrorKind::CreditsExhausted
        | ProviderErrorKind::Failed
        | ProviderErrorKind::Integrity
        | ProviderErrorKind::InvalidRequest
        | ProviderErrorKind::Malformed
        | ProviderErrorKind::RateLimited
        | ProviderErrorKind::Timeout
        | ProviderErrorKind::Unavailable
        | ProviderErrorKind::Unreachable => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_fails_only_by_its_own_fault() {
        for (on, error, condition) in [
            (true, None, ProviderCondition::On),
            (true, Some(ProviderErrorKind::BatchNotFound), ProviderCondition::On),
            (true, Some(ProviderErrorKind::Refused), ProviderCondition::On),
            (true, Some(ProviderErrorKind::Timeout), ProviderCondition::Failing),
            (true, Some(ProviderErrorKind::Credentials), ProviderCondition::Failing),
            (false, Some(ProviderErrorKind::Timeout), ProviderCondition::Off),
            (false, None, ProviderCondition::Off),
        ] {
            assert_eq!(ProviderCondition::of(on, error), condition, "{on} {error:?}");
        }
    }
}
