use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::http::scripted::{Scripted, limits, vendor};
use crate::providers::samples::{SUBMISSION, new_batch, order, submission};
use crate::telemetry::TraceContext;

const ID: &str = "7c0a1f3e-2b64-4c58-9d1e-0a6f5be2c913";
const LIST: &str = "GET /phone/bulk/v1/batches";
const START: &str = "POST /phone/bulk/v1/batches/7c0a1f3e-2b64-4c58-9d1e-0a6f5be2c913/start";
const STATUS: &str = "GET /phone/bulk/v1/batches/7c0a1f3e-2b64-4c58-9d1e-0a6f5be2c913";
const NO_CREDITS: &str = r#"{"error":{"detail":"There are not enough credits."}}"#;
const TOKEN: &str = r#"{"error":{"detail":"The token is not valid."}}"#;
const MALFORMED: &str = r#"{"error":{"detail":"The request body was malformed."}}"#;
const CREATE: &str = "POST /phone/bulk/v1/batches";

fn batch(status: &str) -> Value {
    json!({"batch_id": ID, "batch_reference_id": SUBMISSION, "status": status})
}

fn list(status: &str) -> (&'static str, u16, String) {
    (LIST, 200, json!({"result": {"batches": [batch(status)]}}).to_string())
}

fn status(status: &str) -> (&'static str, u16, String) {
    (STATUS, 200, json!({"result": batch(status)}).to_string())
}

fn start(status: u16, body: &str) -> (&'static str, u16, String) {
    (START, status, body.to_owned())
}

/// The status of the batch that was found, after exactly these calls.
async fn recover<const N: usize>(
    steps: [(&'static str, u16, String); N],
) -> Result<Option<Status>, ProviderErrorKind> {
    let server = Scripted::start(steps).await;
    let (client, _folder) = vendor(&server.url(), Duration::from_secs(2), INFO.rate, limits()).await;
    let deadline = Instant::now() + Duration::from_secs(12);
    let call = Call { request_id: "r".into(), trace: TraceContext::start(), deadline };
    let recovered = Experian { client }.recover(&[submission()], &call).next().await.unwrap();
    assert_eq!(server.left(), 0, "calls are missing: {recovered:?}");
    recovered.map(|batch| batch.map(|batch| batch.status)).map_err(|error| error.kind)
}

#[tokio::test]
async fn a_batch_is_started_unless_it_is_known_to_be() {
    for word in ["submitted", "paused"] {
        let started = start(200, &json!({"result": batch("processing")}).to_string());
        assert_eq!(recover([list(word), started]).await, Ok(Some(Status::Running)), "{word}");
    }
    for word in ["processing", "completed", "stopped"] {
        assert_eq!(recover([list(word)]).await, Ok(Some(Status::Running)), "{word}");
    }
}

#[tokio::test]
async fn a_refused_start_means_not_there_only_of_a_batch_that_is_still_unstarted() {
    use ProviderErrorKind::{Credentials, CreditsExhausted, InvalidRequest};
    for (code, body) in [
        (400, "{}"),
        (400, TOKEN),
        (400, MALFORMED),
        (401, TOKEN),
        (402, "{}"),
        (403, TOKEN),
        (403, NO_CREDITS),
    ] {
        let refused = || start(code, body);
        let unstarted = recover([list("submitted"), refused(), status("submitted")]).await;
        assert_eq!(unstarted, Ok(None), "{code} {body}");
        for word in ["processing", "completed", "stopped"] {
            let started = recover([list("submitted"), refused(), status(word)]).await;
            assert_eq!(started, Ok(Some(Status::Running)), "{code} {body} {word}");
        }
        let unknown = match (code, body) {
            (400, "{}") => Ok(Some(Status::Unknown)),
            (400, MALFORMED) => Err(InvalidRequest),
            (402, _) | (_, NO_CREDITS) => Err(CreditsExhausted),
            _ => Err(Credentials),
        };
        assert_eq!(recover([list("paused"), refused(), status("paused")]).await, unknown, "{code} {body}");
    }
}

#[tokio::test]
async fn a_start_that_says_nothing_leaves_the_submission_in_doubt() {
    use ProviderErrorKind::{Failed, RateLimited, Unavailable};
    // The batch is there, whatever these statuses say of the request.
    let others = [401, 403, 404, 405, 408, 411, 413, 414, 415, 431, 500].map(|code| (code, Failed));
    for (code, kind) in [(429, RateLimited), (503, Unavailable)].into_iter().chain(others) {
        assert_eq!(recover([list("submitted"), start(code, "{}")]).await, Err(kind));
    }
    let unreadable = (STATUS, 500, String::new());
    assert_eq!(recover([list("submitted"), start(401, TOKEN), unreadable]).await, Err(Failed));
}

/// What becomes of an order, after exactly these calls: the status of the batch, or whether it is in doubt and why.
async fn submit<const N: usize>(
    steps: [(&'static str, u16, String); N],
) -> Result<Status, (bool, ProviderErrorKind)> {
    let created = (CREATE, 200, json!({"result": {"batch_id": ID, "status": "submitted"}}).to_string());
    let server = Scripted::start([created].into_iter().chain(steps)).await;
    let (client, _folder) = vendor(&server.url(), Duration::from_secs(2), INFO.rate, limits()).await;
    let deadline = Instant::now() + Duration::from_secs(12);
    let call = Call { request_id: "r".into(), trace: TraceContext::start(), deadline };
    let batch = new_batch(&INFO, &json!({"records": [{"number": "+441206250380"}]}));
    let submitted = Experian { client }.submit(&order(&batch, None), &call).await;
    assert_eq!(server.left(), 0, "calls are missing: {submitted:?}");
    submitted.map(|batch| batch.status).map_err(|error| match error {
        SubmitError::InDoubt(cause) => (true, cause.kind),
        SubmitError::NotSent(cause) => (false, cause.kind),
    })
}

#[tokio::test]
async fn a_start_that_is_refused_with_a_400_is_looked_into() {
    use ProviderErrorKind::{Credentials, Failed, InvalidRequest, Refused};
    for (body, kind) in [("{}", Refused), (TOKEN, Credentials), (MALFORMED, InvalidRequest)] {
        let refused = || start(400, body);
        assert_eq!(submit([refused(), status("submitted")]).await, Err((false, kind)), "{body}");
        assert_eq!(submit([refused(), status("processing")]).await, Ok(Status::Running), "{body}");
        let unknown = if kind == Refused { Ok(Status::Unknown) } else { Err((true, kind)) };
        assert_eq!(submit([refused(), status("paused")]).await, unknown, "{body}");
        assert_eq!(submit([refused(), (STATUS, 500, String::new())]).await, Err((true, Failed)), "{body}");
    }
}

#[tokio::test]
async fn a_start_that_is_refused_in_the_vendors_own_form_was_not_sent_and_any_other_is_in_doubt() {
    use ProviderErrorKind::{Credentials, CreditsExhausted, Failed, RateLimited};
    for (code, body, in_doubt, kind) in [
        (401, TOKEN, false, Credentials),
        (403, TOKEN, false, Credentials),
        (403, NO_CREDITS, false, CreditsExhausted),
        (402, "", false, CreditsExhausted),
        (401, "<html>", true, Failed),
        (403, "<html>", true, Failed),
        (404, "{}", true, Failed),
        (413, "", true, Failed),
        (415, "", true, Failed),
        (422, "", true, Failed),
        (429, "", true, RateLimited),
        (500, "", true, Failed),
    ] {
        assert_eq!(submit([start(code, body)]).await, Err((in_doubt, kind)), "{code} {body}");
    }
}
