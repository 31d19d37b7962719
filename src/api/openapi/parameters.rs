//! The parameters of each operation.

use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};

use crate::api::headers::IDEMPOTENCY_KEY;
use crate::api::list::MAX_REFERENCE;
use crate::batch::Status;
use crate::providers::{VENDORS, Vendor};
use crate::submission::{IdempotencyKey, SubmissionState};

/// The path of a batch, with the vendors and the ids that the sandbox has ready.
pub(in crate::api) struct BatchParams;

impl IntoParams for BatchParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let ready_made = VENDORS.iter().flat_map(|vendor| {
            vendor.simulator.ready_made.iter().map(move |batch| {
                let summary = format!("{}: {}", vendor.info.slug, batch.shows);
                (format!("{} {}", vendor.info.slug, batch.id), summary, batch.id.to_owned())
            })
        });
        let id = text().pattern(Some("^[A-Za-z0-9_-]{1,64}$"));
        vec![
            provider_in_path(),
            path("id", "The vendor's own id of the batch. The examples exist in the sandbox.", id)
                .extensions(Some(examples(ready_made)))
                .build(),
        ]
    }
}

/// How a batch is read.
pub(in crate::api) struct ReadParams;

impl IntoParams for ReadParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let wait = "`wait=N` answers when the batch is done, at the latest after N seconds, up to `server.max_wait`, 50 \
             unless set (RFC 7240). Waiting costs no vendor call.";
        vec![
            header(
                "If-None-Match",
                "Entity tag of the document that you have; 304 if it is the current one.",
            )
            .schema(Some(text().pattern(Some(r#"^(?:\*|(?:W/)?"[!#-~]*"(?:\s*,\s*(?:W/)?"[!#-~]*")*)$"#))))
            .build(),
            header("Prefer", wait).example(Some(json!("wait=30"))).build(),
        ]
    }
}

/// The vendor and the key of a submission.
pub(in crate::api) struct SubmitParams;

impl IntoParams for SubmitParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let keys = VENDORS.iter().map(|vendor| {
            let slug = vendor.info.slug;
            (slug.to_owned(), format!("for the example of {slug}"), format!("try-{slug}-1"))
        });
        let description = "Makes repeating safe: the same key and the same body are one submission, for 30 days. 1 to \
                           255 printable ASCII characters, bare or in double quotes; a UUID is a good one. Change the \
                           key of the example to submit once more.";
        let key = header(IDEMPOTENCY_KEY, description)
            .required(Required::True)
            .schema(Some(idempotency_key()))
            .extensions(Some(examples(keys)));
        vec![provider_in_path(), key.build()]
    }
}

/// The filters and the page of a list of batches.
pub(in crate::api) struct ListParams;

impl IntoParams for ListParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let statuses = text().enum_values(Some(Status::ALL.map(Status::word)));
        let time = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        let reference = text()
            .min_length(Some(1))
            .max_length(Some(MAX_REFERENCE))
            .pattern(Some(r"^[^\x00-\x1F\x7F-\x9F]+$"));
        vec![
            query("provider", "Slug of a vendor.", slugs()),
            query("status", "Status of the batch as it was last known.", statuses),
            query("reference", "The caller's reference of the batch, exactly.", reference),
            query("submitted_after", "Submitted after this time, RFC 3339.", time()),
            query("submitted_before", "Submitted before this time, RFC 3339.", time()),
            query("limit", "Batches on one page.", limit()),
            query("cursor", "The `next_cursor` of the page before.", cursor()),
        ]
    }
}

/// The filters of the usage.
pub(in crate::api) struct UsageParams;

impl IntoParams for UsageParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let day = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)));
        let client = text().pattern(Some("^[a-z0-9_]{1,64}$"));
        vec![
            query("client", "Name of a client; another one than the own needs the scope `operate`.", client),
            query("provider", "Slug of a vendor.", slugs()),
            query("from", "The first day, in UTC.", day()),
            query("to", "The last day, in UTC.", day()),
        ]
    }
}

/// The path of a submission.
pub(in crate::api) struct SubmissionParams;

impl IntoParams for SubmissionParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = text().format(Some(SchemaFormat::Custom("uuid".to_owned())));
        let description = "The gateway's id of the submission: `submission_id` of the batch or of the error.";
        vec![path("id", description, id).build()]
    }
}

/// The filters of a list of submissions.
pub(in crate::api) struct SubmissionsParams;

impl IntoParams for SubmissionsParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let states = text().enum_values(Some(SubmissionState::ALL.map(SubmissionState::word)));
        vec![
            query("state", "State of the submission.", states),
            query(
                "idempotency_key",
                "The idempotency key of the submission, as in its header. A key belongs to its client, for 30 days.",
                idempotency_key(),
            ),
            query("limit", "Submissions on one page.", limit()),
            query("cursor", "The `next_cursor` of the page before.", cursor()),
        ]
    }
}

/// The path of a webhook.
pub(in crate::api) struct WebhookParams;

impl IntoParams for WebhookParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let token = text().pattern(Some("^[A-Za-z0-9_-]{32,256}$"));
        vec![
            path("provider", "Slug of the vendor.", slugs()).build(),
            path("token", "The secret that only this vendor knows.", token).build(),
        ]
    }
}

fn provider_in_path() -> Parameter {
    let vendors: Vec<_> = VENDORS
        .iter()
        .map(|Vendor { info, .. }| {
            let kept = info.retention_days.map(|days| format!(", kept for {days} days")).unwrap_or_default();
            let (slug, name, documentation) = (info.slug, info.name, info.documentation);
            format!(
                "* `{slug}`: [{name}]({documentation}), up to {} records a batch{kept}",
                info.accepts.max_records
            )
        })
        .collect();
    path("provider", &format!("Slug of the vendor:\n{}", vendors.join("\n")), slugs()).build()
}

fn path(name: &str, description: &str, schema: ObjectBuilder) -> ParameterBuilder {
    parameter(name, ParameterIn::Path, description, schema).required(Required::True)
}

fn query(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(name, ParameterIn::Query, description, schema).build()
}

fn header(name: &str, description: &str) -> ParameterBuilder {
    parameter(name, ParameterIn::Header, description, text())
}

fn parameter(name: &str, place: ParameterIn, description: &str, schema: ObjectBuilder) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(Object::from(schema)))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A key bare, or in double quotes with each of its own quotes and backslashes escaped.
fn idempotency_key() -> ObjectBuilder {
    let most = IdempotencyKey::MAX_LENGTH;
    let pattern =
        format!(r#"^(?:[!#-~](?:[ -~]{{0,{}}}[!-~])?|"(?:[ !#-\[\]-~]|\\["\\]){{1,{most}}}")$"#, most - 2);
    text().min_length(Some(1)).max_length(Some(2 * most + 2)).pattern(Some(pattern))
}

/// Base64url (RFC 4648).
fn cursor() -> ObjectBuilder {
    text().min_length(Some(1)).max_length(Some(256)).pattern(Some("^[A-Za-z0-9_-]+$"))
}

fn slugs() -> ObjectBuilder {
    text().enum_values(Some(VENDORS.iter().map(|vendor| vendor.info.slug)))
}

fn limit() -> ObjectBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    number.minimum(Some(1)).maximum(Some(100)).default(Some(json!(20)))
}

/// Examples by name, each with its summary and its value. utoipa's parameters know a single `example` only.
fn examples(examples: impl Iterator<Item = (String, String, String)>) -> Extensions {
    let examples = examples.map(|(name, summary, value)| (name, json!({"summary": summary, "value": value})));
    Extensions::from_iter([("examples", Value::Object(examples.collect()))])
}
