use serde_json::{Value, json};

use super::*;
use crate::http::ProviderErrorKind::{
    Credentials, CreditsExhausted, Failed, Malformed, RateLimited, Refused,
};
use crate::providers::samples::{SUBMISSION, known, new_batch, ok, order, reply, submission};

const ID: &str = "e3b61122-d6a6-4ea7-b331-9b734682a76a";

fn sent(body: &Value, webhook: Option<&str>) -> Value {
    serde_json::to_value(NewBulk::from(&order(&new_batch(&INFO, body), webhook))).unwrap()
}

fn take(reply: &Reply) -> Result<Batch, ProviderError> {
    let records = json!([{"linkedin_url": "https://www.linkedin.com/in/michael-scott"}]);
    let batch = new_batch(&INFO, &json!({"reference": "crm-42", "records": records}));
    taken(&order(&batch, None), reply)
}

#[test]
fn an_order_is_sent_in_the_newest_names_and_with_nothing_else() {
    let body = json!({
        "reference": "crm-42",
        "records": [
            {"linkedin_url": "https://www.linkedin.com/in/michael-scott", "custom_id": "row-1"},
            {"first_name": "Pam", "last_name": "Beesly", "company_name": "Dunder Mifflin"},
            {
                "linkedin_url": "https://linkedin.com/in/jim", "first_name": "Jim", "last_name": "Halpert",
                "company_name": "Dunder Mifflin", "company_domain": "dundermifflin.com",
            },
        ],
    });
    let expected = json!({
        "searches": [
            {"linkedin_url": "https://www.linkedin.com/in/michael-scott"},
            {"firstname": "Pam", "lastname": "Beesly", "company_name": "Dunder Mifflin"},
            {
                "linkedin_url": "https://linkedin.com/in/jim", "firstname": "Jim", "lastname": "Halpert",
                "company_name": "Dunder Mifflin", "company_domain": "dundermifflin.com",
            },
        ],
        "custom": {"submission_id": SUBMISSION, "reference": "crm-42"},
        "settings": {"webhook": "https://gateway.example/webhooks/enrow/secret"},
    });
    assert_eq!(sent(&body, Some("https://gateway.example/webhooks/enrow/secret")), expected);
}

#[test]
fn what_was_not_ordered_is_not_sent() {
    let body = json!({"records": [{"linkedin_url": "https://www.linkedin.com/in/michael-scott"}]});
    let expected = json!({
        "searches": [{"linkedin_url": "https://www.linkedin.com/in/michael-scott"}],
        "custom": {"submission_id": SUBMISSION},
    });
    assert_eq!(sent(&body, None), expected);
}

#[test]
fn a_batch_that_was_taken_says_what_was_ordered_and_what_it_costs() {
    let body = json!({
        "message": "Bulk search operating", "id": ID, "credits_used": 40, "estimated_duration": 5,
        "credits": {"amount": 40, "source": "sub", "split": {"fromPaygo": 0, "fromSub": 40}},
    });
    let batch = take(&reply(201, &[], &body.to_string())).unwrap();
    let expected = json!({
        "provider": "enrow", "id": ID, "kind": "finding", "status": "running", "done": false,
        "submission_id": SUBMISSION, "reference": "crm-42", "progress": {"requested": 1},
        "cost": {"charged": 40, "unit": "credit"}, "retrieved_at": "2026-11-22T10:00:00Z",
    });
    assert_eq!(serde_json::to_value(batch).unwrap(), expected);
}

#[test]
fn any_success_with_a_usable_id_is_taken() {
    for (status, body, charged) in [
        (200, json!({"id": ID}), None),
        (201, json!({"id": ID, "credits_used": "40"}), Some(40)),
        (202, json!({"id": ID, "credits_used": null, "message": null}), None),
        (201, json!({"id": format!(" {ID} "), "credits_used": {"amount": 40}}), None),
    ] {
        let batch = take(&reply(status, &[], &body.to_string())).unwrap();
        assert_eq!((batch.id.as_str(), batch.status), (ID, Status::Running), "{status} {body}");
        assert_eq!(batch.cost.map(|cost| cost.charged), charged.map(Amount::from_units), "{body}");
    }
    let other = "910f3e13-b2bf-442d-ab0b-4cf44dfrij84fjrt";
    assert_eq!(take(&ok(&json!({"id": other}))).unwrap().id.as_str(), other);
}

#[test]
fn a_success_without_a_usable_id_is_in_doubt() {
    for body in [
        "",
        "{}",
        r#"{"id":null}"#,
        r#"{"id":""}"#,
        r#"{"id":-7}"#,
        r#"{"id":["e3"]}"#,
        r#"{"id":"a/b"}"#,
        "[]",
        r#"["e3",40]"#,
        r#"[["e3"],[]]"#,
        "<html>",
        "\"e3\"",
    ] {
        let reply = reply(201, &[], body);
        assert_eq!(known(&reply, take(&reply)), (true, Malformed, None), "{body}");
    }
}

#[test]
fn each_status_says_whether_the_vendor_may_have_charged() {
    use crate::http::ProviderErrorKind::Unavailable;
    let older = r#"{"error":"Too Many Requests","message":"…","status":429,"retry_after":300}"#;
    let fraction = r#"{"message":"Too Many Requests","retry_after":30.5}"#;
    let text = r#"{"message":"Too Many Requests","retry_after":"30"}"#;
    let reset = ("x-ratelimit-reset", "1795341640");
    for (status, headers, body, expected) in [
        (400, &[][..], r#"{"message":"Missing payload"}"#, (false, Refused, None)),
        (400, &[], "<html>", (false, Refused, None)),
        (401, &[], r#"{"message":"This apikey is not valid"}"#, (false, Credentials, None)),
        (401, &[], "", (true, Failed, None)),
        (402, &[], r#"{"message":"Insufficient credits"}"#, (false, CreditsExhausted, None)),
        (403, &[], r#"{"message":"This apikey is not valid"}"#, (false, Credentials, None)),
        (403, &[], r#"{"reason":"Insufficient credits","success":false}"#, (false, CreditsExhausted, None)),
        (403, &[], "", (true, Failed, None)),
        (403, &[], "<html>", (true, Failed, None)),
        (422, &[], r#"{"message":"Insufficient balance"}"#, (false, CreditsExhausted, None)),
        (429, &[], r#"{"message":"Too Many Requests"}"#, (false, RateLimited, None)),
        (429, &[("retry-after", "2")], older, (false, RateLimited, Some(2))),
        (429, &[], older, (false, RateLimited, Some(300))),
        (429, &[], fraction, (false, RateLimited, Some(31))),
        (429, &[], text, (false, RateLimited, Some(30))),
        (429, &[reset], "", (false, RateLimited, Some(40))),
        (429, &[("x-ratelimit-reset", "1795341640000")], "", (false, RateLimited, Some(40))),
        (429, &[reset], older, (false, RateLimited, Some(300))),
        (429, &[reset, ("retry-after", "2")], older, (false, RateLimited, Some(2))),
        (302, &[], "", (true, Failed, None)),
        (404, &[], "", (false, Failed, None)),
        (405, &[], "", (false, Failed, None)),
        (408, &[], "", (true, Failed, None)),
        (409, &[], "", (true, Failed, None)),
        (413, &[], "<html>", (false, Failed, None)),
        (415, &[], "", (false, Failed, None)),
        (500, &[], r#"{"message":"server error"}"#, (true, Failed, None)),
        (502, &[], "<html>", (true, Failed, None)),
        (503, &[("retry-after", "9")], "", (true, Unavailable, Some(9))),
        (504, &[], "", (true, Failed, None)),
    ] {
        let reply = reply(status, headers, body);
        assert_eq!(known(&reply, take(&reply)), expected, "{status} {body}");
    }
}

#[test]
fn a_401_or_403_is_about_the_key_only_in_the_vendors_own_form() {
    let own = [
        r#"{"message":"This apikey is not valid"}"#,
        r#"{"error":"Unauthorized","message":"This apikey is not valid","status":401}"#,
        r#"{"reason":"This apikey is not valid","success":false}"#,
    ];
    let foreign = [
        "",
        "{}",
        "null",
        "[]",
        "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>",
        r#"{"message":null}"#,
        r#"{"message":""}"#,
        r#"{"message":{"text":"no"}}"#,
        r#"{"reason":"blocked"}"#,
        r#"{"reason":"blocked","success":true}"#,
        r#"{"error":"Forbidden","status":403}"#,
        r#"{"title":"Error 1020: Access denied","status":403,"cloudflare_error":true}"#,
    ];
    for (bodies, kind) in [(&own[..], Credentials), (&foreign, Failed)] {
        for (body, status) in bodies.iter().flat_map(|body| [(body, 401), (body, 403)]) {
            let error = batch(&ID.parse().unwrap(), &reply(status, &[], body)).unwrap_err();
            assert_eq!((error.kind, error.retryable), (kind, false), "{status} {body}");
            assert_eq!(error.detail.contains("own form"), kind == Failed, "{status} {body}");
        }
    }
}

#[test]
fn a_webhook_names_its_batch_in_whatever_words() {
    let id = Some(ID.to_owned());
    for (body, expected) in [
        (json!({"event": "bulk_phone_search_finished", "id": ID}), id.clone()),
        (json!({"event": "bulk_phone_search_finished", "id": ID, "credits": {"cost": 80}}), id.clone()),
        (json!({"event": "bulk_phone_search_failed", "id": ID}), id.clone()),
        (json!({"id": ID}), id),
        (json!({"event": "bulk_phone_search_finished"}), None),
        (json!({"event": "bulk_phone_search_finished", "id": "../../account/info"}), None),
        (json!({"event": "bulk_phone_search_finished", "id": 7}), Some("7".to_owned())),
        (json!({"event": "bulk_phone_search_finished", "id": true}), None),
        (json!([{"id": ID}]), None),
        (json!(ID), None),
    ] {
        let named = ended(body.to_string().as_bytes()).map(|id| id.to_string());
        assert_eq!(named, expected, "{body}");
    }
    for body in [&b""[..], b"\xff\xfe", b"{\"id\":\"a\"", b"id=7"] {
        assert_eq!(ended(body), None);
    }
}

#[test]
fn a_batch_shows_whose_submission_it_is() {
    let read = |custom: Value| {
        let body = json!({"general": {"id": ID, "status": "ongoing", "custom": custom}});
        batch(&ID.parse().unwrap(), &ok(&body)).unwrap()
    };
    let own = json!({"submission_id": SUBMISSION, "reference": "crm-42"});
    let shown = read(own.clone());
    assert_eq!(shown.submission_id, Some(submission()));
    assert_eq!(shown.custom.map(|custom| Value::from(custom.0)), Some(own));
    for foreign in [
        json!({"submission_id": "crm-42"}),
        json!({"submission_id": SUBMISSION.replace('-', "")}),
        json!({"submission_id": 7}),
        json!({"submission_id": null}),
        json!({"submission": SUBMISSION}),
        json!({}),
        json!(SUBMISSION),
    ] {
        assert_eq!(read(foreign.clone()).submission_id, None, "{foreign}");
    }
}
