use serde_json::{Value, json};

use super::*;
use crate::http::ProviderErrorKind::{
    BatchNotFound, Credentials, CreditsExhausted, Expired, Failed, Integrity, InvalidRequest, Malformed,
    RateLimited, Refused, Unavailable,
};
use crate::providers::samples::{SUBMISSION, known, new_batch, ok, order, reply, submission};

const ID: &str = "7c0a1f3e-2b64-4c58-9d1e-0a6f5be2c913";
const OTHER_ID: &str = "00000000-0000-0000-0000-000000000000";

fn sent(body: &Value) -> Value {
    serde_json::to_value(NewBatch::from(&order(&new_batch(&INFO, body), None))).unwrap()
}

fn create(reply: &Reply) -> Result<Batch, ProviderError> {
    let body = json!({
        "reference": "crm-43", "options": {"country": "GB"}, "records": [{"number": "1206250380"}],
    });
    created(&order(&new_batch(&INFO, &body), None), reply)
}

fn start(reply: &Reply) -> Result<Batch, ProviderError> {
    started(create(&ok(&json!({"result": {"batch_id": ID, "status": "submitted"}}))).unwrap(), reply)
}

#[test]
fn an_order_is_sent_as_the_openapi_document_has_it_and_with_nothing_else() {
    let body = json!({
        "reference": "crm-43",
        "options": {
            "output_format": "plus_e164", "country": "GB", "get_ported_date": true,
            "supplementary_live_status": {"mobile": ["US", "fr"], "landline": ["GB"]},
            "max_processing_time": "PT25M",
        },
        "records": [
            {"number": "+441206250380", "custom_id": "a"},
            {"number": "2026298914", "country": "us"},
        ],
    });
    let expected = json!({
        "defaults": {
            "output_format": "PLUS_E164", "country_iso": "GBR", "get_ported_date": true,
            "supplementary_live_status": {"mobile": ["USA", "FRA"], "landline": ["GBR"]},
            "batch_reference_id": format!("{SUBMISSION} crm-43"),
            "max_processing_time": "PT25M",
        },
        "phones": [{"number": "+441206250380"}, {"number": "2026298914", "country_iso": "USA"}],
    });
    assert_eq!(sent(&body), expected);
}

#[test]
fn what_was_not_ordered_is_not_sent() {
    let expected = json!({
        "defaults": {"batch_reference_id": SUBMISSION},
        "phones": [{"number": "441206250380"}],
    });
    assert_eq!(sent(&json!({"records": [{"number": "441206250380"}]})), expected);
    let body = json!({
        "options": {"get_ported_date": false, "supplementary_live_status": {"landline": ["GB"]}},
        "records": [{"number": "441206250380"}],
    });
    let expected = json!({
        "get_ported_date": false, "supplementary_live_status": {"landline": ["GBR"]},
        "batch_reference_id": SUBMISSION,
    });
    assert_eq!(sent(&body)["defaults"], expected);
}

#[test]
fn every_output_format_is_written_in_the_vendors_words() {
    for (format, expected) in
        [("e164", "E164"), ("plus_e164", "PLUS_E164"), ("national", "NATIONAL"), ("DE", "DEU")]
    {
        let body = json!({"options": {"output_format": format}, "records": [{"number": "441206250380"}]});
        assert_eq!(sent(&body)["defaults"]["output_format"], expected);
    }
}

#[test]
fn the_longest_reference_fits_beside_our_own_id() {
    let body =
        json!({"reference": "a-_/:.,() ".repeat(19) + "0123456789", "records": [{"number": "441206250380"}]});
    let sent = sent(&body);
    let reference = sent["defaults"]["batch_reference_id"].as_str().unwrap();
    assert_eq!(reference.len(), 36 + 1 + 200);
    assert!(reference.len() <= 256);
    assert!(reference.chars().all(|c| c.is_ascii_alphanumeric() || "_-/:.,() ".contains(c)));
}

#[test]
fn a_batch_that_was_created_and_started_says_what_was_ordered() {
    let batch = start(&ok(&json!({"result": {"batch_id": ID, "status": "processing"}}))).unwrap();
    let expected = json!({
        "provider": "experian", "id": ID, "kind": "validation", "status": "running", "done": false,
        "provider_status": "processing", "submission_id": SUBMISSION, "reference": "crm-43",
        "progress": {"requested": 1}, "options": {"country": "GB"}, "retrieved_at": "2026-11-22T10:00:00Z",
    });
    assert_eq!(serde_json::to_value(batch).unwrap(), expected);
}

#[test]
fn any_success_with_a_usable_id_is_created() {
    for (status, body) in [
        (200, json!({"result": {"batch_id": ID, "status": "submitted"}})),
        (201, json!({"result": {"batch_id": ID}, "error": null, "metadata": null})),
        (202, json!({"result": {"batch_id": ID, "status": null, "batch_reference_id": null, "new": 1}})),
    ] {
        let batch = create(&reply(status, &[], &body.to_string())).unwrap();
        assert_eq!((batch.id.as_str(), batch.status), (ID, Status::Queued), "{status} {body}");
    }
}

#[test]
fn a_success_that_cannot_be_used_is_in_doubt() {
    let bodies =
        ["", "{}", "<html>", r#"{"result":null}"#, r#"{"result":{}}"#, r#"{"result":{"batch_id":[7]}}"#];
    let others = [
        r#"{"result":{"batch_id":"a/b","status":"submitted"}}"#,
        r#"{"result":["b1","submitted"]}"#,
        r#"[{"batch_id":"b1","status":"submitted"}]"#,
    ];
    for body in bodies.into_iter().chain(others) {
        let reply = reply(200, &[], body);
        assert_eq!(known(&reply, create(&reply)), (true, Malformed, None), "{body}");
    }
    for (body, kind) in [
        ("", Malformed),
        (&*format!(r#"{{"result":{{"batch_id":"{ID}"}}}}"#), Malformed),
        (&*format!(r#"{{"result":{{"batch_id":"{OTHER_ID}","status":"processing"}}}}"#), Integrity),
    ] {
        let reply = reply(200, &[], body);
        assert_eq!(known(&reply, start(&reply)), (true, kind, None), "{body}");
    }
}

/// An error body of the vendor's own form.
fn error(detail: &str) -> String {
    json!({"error": {"type": null, "title": "No", "detail": detail, "instance": null}}).to_string()
}

#[test]
fn each_status_says_whether_the_vendor_may_have_charged() {
    let token = error("The token is disabled.");
    let credits = error("There are not enough Credits.");
    for (status, headers, body, expected) in [
        (400, &[][..], "", (false, Refused, None)),
        (400, &[], "{}", (false, Refused, None)),
        (401, &[], &*token, (false, Credentials, None)),
        (401, &[], "{}", (true, Failed, None)),
        (402, &[], "", (false, CreditsExhausted, None)),
        (403, &[], &credits, (false, CreditsExhausted, None)),
        (403, &[], r#"{"error":{"title":"NO CREDITS"}}"#, (false, CreditsExhausted, None)),
        (403, &[], &token, (false, Credentials, None)),
        (403, &[], r#"{"error":null}"#, (true, Failed, None)),
        (403, &[], "<html>credits</html>", (true, Failed, None)),
        (422, &[], "", (false, Failed, None)),
        (429, &[], "{}", (false, RateLimited, None)),
        (429, &[("x-rate-limit-reset", "1795341630")], "{}", (false, RateLimited, Some(30))),
        (429, &[("x-rate-limit-reset", "1795341630000")], "{}", (false, RateLimited, Some(30))),
        (429, &[("x-rate-limit-reset", "30")], "{}", (false, RateLimited, Some(30))),
        (429, &[("x-ratelimit-reset", "30")], "{}", (false, RateLimited, None)),
        (
            429,
            &[("x-rate-limit-reset", "1795341630"), ("retry-after", "7")],
            "{}",
            (false, RateLimited, Some(7)),
        ),
        (302, &[], "", (true, Failed, None)),
        (404, &[], "{}", (false, Failed, None)),
        (405, &[], "{}", (false, Failed, None)),
        (406, &[], "{}", (true, Failed, None)),
        (408, &[], "{}", (true, Failed, None)),
        (413, &[], "<html>", (false, Failed, None)),
        (415, &[], "{}", (false, Failed, None)),
        (500, &[], &credits, (true, Failed, None)),
        (503, &[("x-rate-limit-reset", "30")], "", (true, Unavailable, None)),
    ] {
        let reply = reply(status, headers, body);
        assert_eq!(known(&reply, create(&reply)), expected, "create: {status} {body}");
        assert_eq!(known(&reply, start(&reply)), expected, "start: {status} {body}");
    }
}

#[test]
fn a_400_is_told_apart_by_the_words_of_its_detail() {
    let id = ID.parse().unwrap();
    for (detail, read, written) in [
        ("The batch is older than 28 days.", Expired, Refused),
        ("The batch_id belongs to a batch older than 28 days", Expired, Refused),
        ("BATCH EXPIRED", Expired, Refused),
        ("This batch is past its retention period.", Expired, Refused),
        ("The batch_id is invalid or has expired.", BatchNotFound, Refused),
        ("No authentication token was provided.", Credentials, Credentials),
        ("The Auth-Token header is missing.", Credentials, Credentials),
        ("A token is required, and yours has expired.", Credentials, Credentials),
        ("The Reference-Id header is invalid.", InvalidRequest, InvalidRequest),
        ("reference-id must match the pattern", InvalidRequest, InvalidRequest),
        ("The Add-Metadata header must be true or false.", InvalidRequest, InvalidRequest),
        ("The request body was malformed.", InvalidRequest, InvalidRequest),
        ("A non-empty request body is required.", InvalidRequest, InvalidRequest),
        ("Unexpected token '}' at position 7", InvalidRequest, InvalidRequest),
        ("The input is not valid JSON.", InvalidRequest, InvalidRequest),
        ("The batch_id is invalid.", BatchNotFound, Refused),
        ("The batch_id is malformed.", BatchNotFound, Refused),
        ("The batch_id 'token' is invalid.", BatchNotFound, Refused),
        ("The batch_reference_id is not valid.", BatchNotFound, Refused),
        ("The batch has already been started.", BatchNotFound, Refused),
        ("country_iso must be a 3-letter ISO country code.", BatchNotFound, Refused),
        ("", BatchNotFound, Refused),
    ] {
        let body = error(detail);
        let reply = reply(400, &[], &body);
        for (what, result) in [
            ("status", batch(&id, &reply).map(drop)),
            ("stop", stopped(&reply)),
            ("list", submitted_as(&[], &reply).map(drop)),
        ] {
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.retryable), (read, false), "{what}: {detail}");
        }
        for result in [create(&reply), start(&reply)] {
            assert_eq!(known(&reply, result), (false, written, None), "{detail}");
        }
    }
    // Not in the vendor's own form: as if it said nothing.
    for body in ["The batch is older than 28 days.", r#"{"detail":"The batch is older than 28 days."}"#] {
        assert_eq!(batch(&id, &reply(400, &[], body)).unwrap_err().kind, BatchNotFound, "{body}");
    }
}

#[test]
fn a_401_or_403_is_about_the_token_only_in_the_vendors_own_form() {
    let id = ID.parse().unwrap();
    for (status, body, kind) in [
        (403, error("The token is disabled."), Credentials),
        (403, r#"{"error":{"title":null,"detail":null}}"#.to_owned(), Credentials),
        (403, error("There are insufficient credits."), CreditsExhausted),
        (401, error("The token is incorrect."), Credentials),
        (401, r#"{"message":"Unauthorized"}"#.to_owned(), Credentials),
        (401, r#"{"title":"Unauthorized","detail":"The token is incorrect."}"#.to_owned(), Credentials),
        (403, r#"{"message":"Forbidden"}"#.to_owned(), Failed),
        (403, r#"{"title":"Error 1020: Access denied","detail":"no","status":403}"#.to_owned(), Failed),
        (401, r#"{"title":"Error 1020","detail":"no","cloudflare_error":true}"#.to_owned(), Failed),
        (403, r#"{"error":{"code":403,"message":"credits"}}"#.to_owned(), Failed),
        (403, r#"{"error":"token"}"#.to_owned(), Failed),
        (403, r#"{"error":{}}"#.to_owned(), Failed),
        (403, "<html>token</html>".to_owned(), Failed),
        (403, format!("{}{}", error("no"), " ".repeat(100_000)), Failed),
        (403, String::new(), Failed),
        (401, String::new(), Failed),
        (401, "{}".to_owned(), Failed),
        (401, "null".to_owned(), Failed),
    ] {
        let error = batch(&id, &reply(status, &[], &body)).unwrap_err();
        assert_eq!((error.kind, error.retryable), (kind, false), "{status} {body}");
        assert_eq!(error.detail.contains("own form"), kind == Failed, "{status} {body}");
    }
}

#[test]
fn a_read_that_the_vendor_timed_out_may_be_repeated_and_a_wrong_media_type_not() {
    let id = ID.parse().unwrap();
    for (status, retryable, word) in
        [(406, false, "(Accept)"), (415, false, "(Content-Type)"), (408, true, "waiting")]
    {
        let error = batch(&id, &reply(status, &[], "{}")).unwrap_err();
        assert_eq!((error.kind, error.retryable), (Failed, retryable), "{status}");
        assert!(error.detail.contains(word), "{status}: {error}");
    }
}

#[test]
fn stopping_needs_no_more_than_a_success() {
    assert!(stopped(&ok(&json!({"result": {"batch_id": ID, "status": "stopped"}}))).is_ok());
    assert!(stopped(&reply(200, &[], "")).is_ok());
    let token = error("The token is not valid.");
    for (status, body, kind) in [
        (400, "{}", BatchNotFound),
        (404, "{}", BatchNotFound),
        (401, &*token, Credentials),
        (403, &token, Credentials),
        (403, "{}", Failed),
        (429, "{}", RateLimited),
        (500, "{}", Failed),
        (503, "{}", Unavailable),
    ] {
        assert_eq!(stopped(&reply(status, &[], body)).unwrap_err().kind, kind, "{status}");
    }
}

#[test]
fn results_are_withheld_only_while_their_answer_says_that_the_batch_is_queued_or_running() {
    let ended = json!({"result": {"batch_id": ID, "status": "completed", "records": 1}});
    for (status, is_running, is_drift) in [
        (json!("submitted"), true, false),
        (json!("Processing"), true, false),
        (json!("completed"), false, false),
        (json!("stopped"), false, false),
        (json!(null), false, false),
        (json!("finished"), false, true),
        (json!("processing results"), false, true),
        (json!(7), false, true),
    ] {
        let phones = json!([{"number": "441206250380", "confidence": "verified"}]);
        let results = json!({"result": {"batch_id": ID, "status": status, "phones": phones}});
        let batch = batch(&ID.parse().unwrap(), &ok(&ended)).unwrap();
        let read = with_results(batch, &ok(&results)).unwrap();
        assert_eq!((read.awaits_results, read.results.is_none()), (is_running, is_running), "{status}");
        assert_eq!(read.drift.fields().any(|field| field == DriftField::Status), is_drift, "{status}");
    }
}

/// An entry of the list.
fn entry(id: &str, reference: &str, status: &str, day: u8) -> Value {
    json!({
        "batch_id": id, "batch_reference_id": reference, "status": status, "records": 2,
        "records_processed": 0, "date_submitted": format!("2026-11-{day:02}T01:02:03.0040050Z"),
    })
}

fn look_up(batches: &Value) -> Recovered {
    look_up_in(&ok(&json!({"result": {"batches": batches}})))
}

fn look_up_in(reply: &Reply) -> Recovered {
    submitted_as(&[submission()], reply)?.remove(0)
}

#[test]
fn a_submission_is_found_by_our_own_id() {
    let with_reference = format!("{SUBMISSION} crm-43");
    let foreign = entry(OTHER_ID, "crm-43", "processing", 1);
    for reference in [SUBMISSION, &with_reference, &SUBMISSION.to_uppercase()] {
        let found = look_up(&json!([foreign, entry(ID, reference, "submitted", 2)])).unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.status), (ID, Status::Queued), "{reference}");
        assert_eq!(found.submission_id, Some(submission()));
        assert_eq!(found.reference.as_deref(), Some(reference));
        assert_eq!(found.progress, Some(Progress { requested: 2, processed: Some(0) }));
    }
    for reference in
        ["", "crm-43", &format!("crm {SUBMISSION}"), &format!("{SUBMISSION}0"), &SUBMISSION.replace('-', "")]
    {
        assert!(look_up(&json!([entry(ID, reference, "processing", 2)])).unwrap().is_none(), "{reference}");
    }
}

#[test]
fn one_list_answers_for_many_submissions_in_their_order() {
    let others = ["018f6a10-0000-7000-8000-000000000001", "018f6a10-0000-7000-8000-000000000002"];
    let asked = [others[0].parse().unwrap(), submission(), others[1].parse().unwrap()];
    let list = json!([
        entry(OTHER_ID, others[1], "processing", 1),
        entry("a/b", SUBMISSION, "processing", 1),
        entry(ID, "crm-43", "processing", 1),
    ]);
    let answers = submitted_as(&asked, &ok(&json!({"result": {"batches": list}}))).unwrap();
    let [absent, unreadable, there] = answers.try_into().unwrap();
    assert!(absent.unwrap().is_none());
    assert_eq!(unreadable.unwrap_err().kind, Malformed);
    assert_eq!(there.unwrap().unwrap().id.as_str(), OTHER_ID);
}

#[test]
fn of_several_batches_of_a_submission_the_started_one_counts_else_the_last() {
    let id = |batches: &Value| look_up(batches).unwrap().unwrap().id.to_string();
    for status in ["Submitted", "paused"] {
        let [early, late] = [entry(ID, SUBMISSION, "submitted", 2), entry(OTHER_ID, SUBMISSION, status, 3)];
        for batches in [json!([early, late]), json!([late, early])] {
            assert_eq!(id(&batches), OTHER_ID, "{status}");
        }
    }
    for status in ["processing", "completed", "stopped"] {
        for late in ["submitted", "paused"] {
            let started = entry(ID, SUBMISSION, status, 2);
            let late = entry(OTHER_ID, SUBMISSION, late, 3);
            for batches in [json!([late, started]), json!([started, late])] {
                assert_eq!(id(&batches), ID, "{status}");
            }
        }
    }
}

#[test]
fn of_batches_without_a_date_the_last_of_the_list_counts() {
    let without_date = |id: &str| {
        let mut entry = entry(id, SUBMISSION, "submitted", 2);
        entry.as_object_mut().unwrap().remove("date_submitted");
        entry
    };
    for first in [without_date(ID), entry(ID, SUBMISSION, "submitted", 2)] {
        let found = look_up(&json!([first, without_date(OTHER_ID)])).unwrap().unwrap();
        assert_eq!(found.id.as_str(), OTHER_ID);
    }
}

#[test]
fn only_a_list_of_batches_can_be_without_the_batch() {
    let look_up = |result: &Value| look_up_in(&ok(&json!({"result": result})));
    assert!(look_up(&json!({"batches": []})).unwrap().is_none());
    for result in [json!({}), json!({"batches": null})] {
        assert_eq!(look_up(&result).unwrap_err().kind, Malformed, "{result}");
    }
}

/// "The vendor does not have it" leads to a second order: it may only be said of what was really read.
#[test]
fn an_entry_that_cannot_be_read_hides_nothing() {
    let started = entry(ID, SUBMISSION, "processing", 2);
    let created = entry(ID, SUBMISSION, "submitted", 2);
    let unknown = entry(ID, SUBMISSION, "paused", 2);
    let odd_foreign = json!({"batch_id": "a/b", "batch_reference_id": "crm-43", "status": 7});
    assert!(look_up(&json!([odd_foreign])).unwrap().is_none());
    let odd_reference = json!({"batch_id": OTHER_ID, "batch_reference_id": [7], "status": "processing"});
    let numeric_reference = json!({"batch_id": OTHER_ID, "batch_reference_id": 7, "status": "processing"});
    assert!(look_up(&json!([numeric_reference])).unwrap().is_none());
    let foreign_bad_id = entry("a/b", "crm-43", "processing", 1);
    assert!(look_up(&json!([foreign_bad_id])).unwrap().is_none());
    assert!(look_up(&json!([foreign_bad_id, created])).unwrap().is_some());
    let own_bad_id = entry("a/b", SUBMISSION, "processing", 1);
    let own_without_status = json!({"batch_id": ID, "batch_reference_id": SUBMISSION});
    for unreadable in [own_bad_id, own_without_status, odd_reference, json!(7), json!(null)] {
        assert!(look_up(&json!([unreadable, started])).unwrap().is_some(), "{unreadable}");
        for batches in [json!([unreadable]), json!([created, unreadable]), json!([unreadable, unknown])] {
            assert_eq!(look_up(&batches).unwrap_err().kind, Malformed, "{batches}");
        }
    }
    for body in ["", "{}", "<html>", r#"{"result":null}"#, r#"{"result":{"batches":{}}}"#] {
        assert_eq!(look_up_in(&reply(200, &[], body)).unwrap_err().kind, Malformed, "{body}");
    }
    assert_eq!(look_up_in(&reply(503, &[], "")).unwrap_err().kind, Unavailable);
}

#[test]
fn an_entry_that_cannot_be_read_hides_nothing_of_a_later_submission() {
    // The id of the submission says when it was made: 2025-11-24T02:49:41Z.
    for (date, hides) in [
        (json!("2025-10-30T01:02:03"), false),
        (json!("2025-11-23T02:49:00.1234567Z"), false),
        (json!("2025-11-23T02:50:00Z"), true),
        (json!("2025-11-24T05:00:00"), true),
        (json!("0001-01-01T00:00:00"), true),
        (json!("yesterday"), true),
        (json!(7), true),
        (json!(null), true),
    ] {
        let odd = json!({"batch_id": OTHER_ID, "batch_reference_id": {"id": 7}, "date_submitted": date});
        let found = look_up(&json!([odd, entry(OTHER_ID, "crm-43", "processing", 2)]));
        assert_eq!(found.is_err(), hides, "{date}");
        let older = json!({"batch_id": OTHER_ID, "batch_reference_id": true, "date_submitted": "2025-10-30"});
        assert_eq!(look_up(&json!([odd, older])).is_err(), hides, "{date}");
    }
    let own = "b0c1d2e3-5d6e-4f80-9a1b-2c3d4e5f6071".parse().unwrap();
    let odd = json!({"batch_reference_id": [], "date_submitted": "2025-10-30T01:02:03"});
    let list = ok(&json!({"result": {"batches": [odd]}}));
    assert!(submitted_as(&[own], &list).unwrap()[0].is_err(), "this id says nothing about its time");
}

#[test]
fn a_reference_that_is_a_number_is_a_reference() {
    let body = json!({"result": {"batch_id": ID, "batch_reference_id": 4711, "status": "processing"}});
    let batch = batch(&ID.parse().unwrap(), &ok(&body)).unwrap();
    assert_eq!((batch.reference.as_deref(), batch.drift), (Some("4711"), Drift::default()));
}

#[test]
fn a_batch_shows_whose_submission_it_is() {
    let read = |reference: &str| {
        let body = json!({"result": entry(ID, reference, "processing", 2)});
        batch(&ID.parse().unwrap(), &ok(&body)).unwrap()
    };
    for own in [SUBMISSION.to_owned(), format!("{SUBMISSION} crm-43"), format!("{SUBMISSION} ")] {
        let shown = read(&own);
        assert_eq!(shown.submission_id, Some(submission()), "{own}");
        assert_eq!(shown.reference.as_deref(), Some(own.trim()));
    }
    for foreign in
        ["crm-43", &format!("{SUBMISSION}-2"), &format!("{SUBMISSION}/a"), &SUBMISSION.replace('-', "")]
    {
        assert_eq!(read(foreign).submission_id, None, "{foreign}");
    }
}
