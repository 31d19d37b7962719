//! `/submissions`: what became of what was ordered.

use actix_web::{HttpRequest, HttpResponse, post, route, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::answer;
use super::body::{self, BodyLimits};
use super::openapi::{
    ResolveProblems, SubmissionParams, SubmissionProblems, SubmissionsParams, SubmissionsProblems,
};
use super::query::Query;
use crate::auth::Client;
use crate::batch::{BatchId, SubmissionId};
use crate::error::{Error, InvalidPart};
use crate::gateway::Gateway;
use crate::scope::Scope;
use crate::store::{Resolution, SubmissionCursor, SubmissionFilter};
use crate::submission::{IdempotencyKey, Submission, SubmissionState};
use crate::telemetry;

/// A path to a submission, not checked yet.
#[derive(Deserialize)]
struct SubmissionPath {
    id: String,
}

/// Any of these sees the client's own submissions.
const SEES_OWN: [Scope; 3] = [Scope::Read, Scope::Submit, Scope::Operate];

/// The parameters of the query.
const PARAMETERS: [&str; 4] = ["state", "idempotency_key", "limit", "cursor"];

/// One page of submissions, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct SubmissionList {
    /// The submissions.
    submissions: Vec<Submission>,
    /// Where the next page begins: send it as `cursor`, with the same filters. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What an operator found out about a submission in doubt.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is read by hand, so that all that is wrong is told; this is its schema")]
pub(super) struct NewResolution {
    #[schema(inline)]
    r#as: ResolvedAs,
    /// The vendor's id of the batch; with `sent` only.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    batch_id: Option<BatchId>,
}

/// `sent`: the vendor has the batch, and `batch_id` says which it is. `not_sent`: the vendor has it not and never will;
/// the same key may be sent again.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "a schema")]
enum ResolvedAs {
    Sent,
    NotSent,
}

/// List submissions
///
/// The submissions of the own client, newest first; the scope `operate` sees those of all. Whoever knows no more than
/// its idempotency key finds a submission by `idempotency_key`. Needs the scope `read`, `submit` or `operate`.
#[utoipa::path(
    get,
    operation_id = "list_submissions",
    tag = "submissions",
    path = "/submissions",
    params(SubmissionsParams),
    responses((status = 200, description = "One page of submissions.", body = SubmissionList), SubmissionsProblems),
    security(("gateway_key" = [])),
)]
#[route("/submissions", method = "GET", method = "HEAD")]
pub(super) async fn list_submissions(
    client: Client,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    client.require_one_of(&SEES_OWN)?;
    let mut query = Query::of(&request, &PARAMETERS);
    let state = query.read(
        "state",
        "must be reserved, sending, accepted, not_sent or in_doubt",
        SubmissionState::from_word,
    );
    let key = query.read(
        "idempotency_key",
        "must be 1 to 255 printable ASCII characters, as in the header",
        |key| IdempotencyKey::try_from(key.as_bytes()).ok(),
    );
    let limit = query.limit();
    let after = query.read("cursor", "must be the `next_cursor` of an answer", decoded);
    query.finish()?;
    let filter = SubmissionFilter { client: client.sees_only().map(str::to_owned), state, key };
    // One more says whether there is another page.
    let mut submissions = gateway.submissions(&filter, after, limit + 1).await?;
    let more = submissions.len() > limit as usize;
    submissions.truncate(limit as usize);
    let last = submissions.last().filter(|_| more);
    let next_cursor = last.map(|last| encoded(SubmissionCursor::after(last)));
    Ok(answer(&SubmissionList { submissions, next_cursor }))
}

/// A position in the list, for the caller to give back.
fn encoded(SubmissionCursor { at, id }: SubmissionCursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{at} {id}"))
}

/// A position that [`encoded`] wrote; none for anything else.
fn decoded(text: &str) -> Option<SubmissionCursor> {
    let position = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (at, id) = position.split_once(' ')?;
    let cursor = SubmissionCursor { at: at.parse().ok()?, id: id.parse().ok()? };
    // There is one spelling of each position.
    (encoded(cursor) == text).then_some(cursor)
}

/// Read a submission
///
/// What is known about the one request that costs money. A client sees its own submissions; the scope `operate` sees
/// all. Needs the scope `read`, `submit` or `operate`.
#[utoipa::path(
    get,
    operation_id = "get_submission",
    tag = "submissions",
    path = "/submissions/{id}",
    params(SubmissionParams),
    responses((status = 200, description = "The submission.", body = Submission), SubmissionProblems),
    security(("gateway_key" = [])),
)]
#[route("/submissions/{id}", method = "GET", method = "HEAD")]
pub(super) async fn get_submission(
    client: Client,
    path: web::Path<SubmissionPath>,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    client.require_one_of(&SEES_OWN)?;
    Query::of(&request, &[]).finish()?;
    let submission = gateway.submission(submission_id(&request, &path.id)?).await?;
    if client.sees_only().is_some_and(|own| own != submission.client) {
        return Err(Error::submission_not_found());
    }
    Ok(answer(&submission))
}

/// Settle a submission in doubt
///
/// For an operator who asked the vendor what became of it. What is decided is recorded with the name of the client, and
/// is not asked again. Needs the scope `operate`.
#[utoipa::path(
    post,
    operation_id = "resolve_submission",
    tag = "submissions",
    path = "/submissions/{id}/resolve",
    params(SubmissionParams),
    request_body(
        content = NewResolution,
        description = "What became of it.",
        examples(
            ("sent" = (summary = "The vendor has it", value = json!({"as": "sent", "batch_id": "the-vendors-id"}))),
            ("not_sent" = (summary = "The vendor does not have it", value = json!({"as": "not_sent"}))),
        ),
    ),
    responses((status = 200, description = "The submission as it is now.", body = Submission), ResolveProblems),
    security(("gateway_key" = [])),
)]
#[post("/submissions/{id}/resolve")]
pub(super) async fn resolve_submission(
    client: Client,
    path: web::Path<SubmissionPath>,
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<BodyLimits>,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    client.require_scope(Scope::Operate)?;
    Query::of(&request, &[]).finish()?;
    let id = submission_id(&request, &path.id)?;
    let body = body::json(&request, payload, &limits).await?;
    let resolution = resolution(&body).map_err(Error::invalid_body)?;
    let submission = gateway.resolve(id, resolution, &client.name).await?;
    Ok(answer(&submission))
}

/// The submission of a path: what cannot be an id is no submission.
fn submission_id(request: &HttpRequest, id: &str) -> Result<SubmissionId, Error> {
    let id = id.parse().map_err(|_| Error::submission_not_found())?;
    telemetry::learn(request, |learnt| learnt.submission_id = Some(id));
    Ok(id)
}

/// Reads what an operator decided, and finds all that is wrong with it.
fn resolution(body: &Value) -> Result<Resolution, Vec<InvalidPart>> {
    const FIELDS: [&str; 2] = ["as", "batch_id"];
    let Some(fields) = body.as_object() else {
        return Err(vec![InvalidPart::pointer("", "must be an object")]);
    };
    let mut errors = Vec::new();
    for name in fields.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        let pointer = if InvalidPart::is_harmless(name) { format!("/{name}") } else { String::new() };
        let detail = format!("unknown field; allowed: {}", FIELDS.join(", "));
        errors.push(InvalidPart::pointer(pointer, detail));
    }
    let resolution = match (fields.get("as").and_then(Value::as_str), fields.get("batch_id")) {
        (Some("sent"), Some(id)) => {
            let id = id.as_str().and_then(|id| id.parse().ok());
            let detail = "must be the vendor's id of the batch: 1 to 64 letters, digits, `_` or `-`";
            id.map(Resolution::Sent).ok_or_else(|| InvalidPart::pointer("/batch_id", detail))
        }
        (Some("sent"), None) => {
            Err(InvalidPart::pointer("/batch_id", "is missing: the vendor's id of the batch that was sent"))
        }
        (Some("not_sent"), None) => Ok(Resolution::NotSent),
        (Some("not_sent"), Some(_)) => {
            Err(InvalidPart::pointer("/batch_id", "must be absent: what was not sent is no batch"))
        }
        _ => Err(InvalidPart::pointer("/as", "must be `sent` or `not_sent`")),
    };
    match resolution {
        Ok(resolution) if errors.is_empty() => Ok(resolution),
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_nothing_else_is_one() {
        let id: SubmissionId = "01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d".parse().unwrap();
        for at in [0, -1, i64::MAX, i64::MIN] {
            let cursor = SubmissionCursor { at, id };
            assert_eq!(decoded(&encoded(cursor)), Some(cursor));
        }
        let upper = id.to_string().to_uppercase();
        for position in [
            String::new(),
            "1".to_owned(),
            "1 x".to_owned(),
            format!("x {id}"),
            format!("01 {id}"),
            format!("+1 {id}"),
            format!("1  {id}"),
            format!("1 {id} "),
            format!("1 {upper}"),
            format!("9223372036854775808 {id}"),
        ] {
            assert_eq!(decoded(&URL_SAFE_NO_PAD.encode(&position)), None, "{position}");
        }
        for text in ["", "%", "bm9ib2R5", "\u{e9}"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    #[test]
    fn a_resolution_is_one_of_two() {
        let sent = resolution(&json!({"as": "sent", "batch_id": "A-1_b"}));
        assert!(matches!(sent, Ok(Resolution::Sent(id)) if id.as_str() == "A-1_b"));
        assert!(matches!(resolution(&json!({"as": "not_sent"})), Ok(Resolution::NotSent)));
        for (body, pointers) in [
            (json!(null), &[""][..]),
            (json!("sent"), &[""]),
            (json!([{"as": "not_sent"}]), &[""]),
            (json!({}), &["/as"]),
            (json!({"as": "Sent", "batch_id": "x"}), &["/as"]),
            (json!({"as": "in_doubt"}), &["/as"]),
            (json!({"as": null}), &["/as"]),
            (json!({"as": ["not_sent"]}), &["/as"]),
            (json!({"as": "sent"}), &["/batch_id"]),
            (json!({"as": "sent", "batch_id": ""}), &["/batch_id"]),
            (json!({"as": "sent", "batch_id": "a b"}), &["/batch_id"]),
            (json!({"as": "sent", "batch_id": "../x"}), &["/batch_id"]),
            (json!({"as": "sent", "batch_id": 7}), &["/batch_id"]),
            (json!({"as": "sent", "batch_id": null}), &["/batch_id"]),
            (json!({"as": "not_sent", "batch_id": "x"}), &["/batch_id"]),
            (json!({"as": "not_sent", "batch_id": null}), &["/batch_id"]),
            (json!({"as": "not_sent", "by": "me", "+15705551234": 1}), &["/by", ""]),
            (json!({"as": "sent", "by": "me"}), &["/by", "/batch_id"]),
        ] {
            let errors = resolution(&body).unwrap_err();
            let told: Vec<_> = errors.iter().map(|error| error.pointer.as_deref().unwrap()).collect();
            assert_eq!(told, pointers, "{body}");
            assert!(!format!("{errors:?}").contains("5705551234"));
        }
    }
}
