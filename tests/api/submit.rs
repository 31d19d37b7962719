//! Submitting: what the vendor gets and the caller gets back, what is refused before any money moves, and one charge
//! for one key whatever happens.

use std::time::Duration;

use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::helpers::{
    FIREWALL_PAGE, Options, Reply, TestGateway, VENDOR_ERROR, eventually, full_backlog, order, order_of,
    records,
};

#[tokio::test]
async fn an_order_is_taken_once_and_its_results_carry_the_callers_ids() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let reply = gateway.submit(slug, slug, &order(slug)).await;
        let taken = reply.accepted();
        gateway.assert_schema("Batch", taken).await;
        assert_eq!((&taken["provider"], &taken["reference"]), (&json!(slug), &json!("crm-42")));
        assert_eq!((&taken["progress"]["requested"], reply.is_replayed()), (&json!(3), false));
        assert_eq!(gateway.batches(slug).await, 1);
        let posts = gateway.posts(slug).await;
        let calls = gateway.calls(slug).await;

        // The answer is a first reading: it is not asked for again at once.
        let running = gateway.batch(slug, reply.id()).await;
        assert_eq!((running.batch(), running.cache()), (taken, "hit"));
        assert_eq!(gateway.calls(slug).await, calls);

        gateway.advance_seconds(60);
        let done = gateway.batch(slug, reply.id()).await;
        let batch = done.batch();
        gateway.assert_schema("Batch", batch).await;
        assert_eq!((&batch["status"], batch.get("custom")), (&json!("completed"), None));
        assert_eq!(
            (&batch["submission_id"], &batch["reference"]),
            (&json!(reply.submission()), &json!("crm-42"))
        );
        assert!(batch["submitted_at"].is_string());
        let results = batch["results"].as_array().unwrap();
        let ids: Vec<_> = results.iter().map(|result| (&result["index"], result.get("custom_id"))).collect();
        let (first, third) = (json!("row-1"), json!("row-3"));
        assert_eq!(
            ids,
            [(&json!(0), Some(&first)), (&json!(1), None), (&json!(2), Some(&third))],
            "by position, whatever the vendor's order"
        );
        for (result, record) in results.iter().zip(records(slug, 3)) {
            for (name, value) in record.as_object().unwrap() {
                assert_eq!(result["input"][name], *value);
            }
        }
        let charged = batch["cost"]["charged"].as_u64().unwrap();
        assert_eq!((gateway.charged(slug).await, gateway.posts(slug).await), (charged, posts), "once");
        let submission = gateway.submission(reply.submission()).await;
        assert_eq!((&submission["state"], &submission["batch_id"]), (&json!("accepted"), &json!(reply.id())));
        assert_eq!((&submission["client"], &submission["records"]), (&json!("anonymous"), &json!(3)));
        assert_eq!(gateway.metric("submissions_total", &["accepted", slug]).await, 1);
    }
}

#[tokio::test]
async fn results_that_come_out_of_order_carry_the_right_ids() {
    let gateway = TestGateway::start().await;
    let mut order = order_of("enrow", 30);
    for (index, record) in order["records"].as_array_mut().unwrap().iter_mut().enumerate() {
        record["custom_id"] = format!("row {index}").into();
    }
    let reply = gateway.submit("enrow", "order", &order).await;
    reply.accepted();
    gateway.advance_seconds(60);
    let vendors = gateway.vendor("enrow", Method::GET, &format!("/phone/bulk?id={}", reply.id()), None).await;
    let positions: Vec<_> = vendors.body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["index"].as_u64().unwrap())
        .collect();
    assert!(!positions.is_sorted(), "the vendor answers out of order");
    let batch = gateway.batch("enrow", reply.id()).await;
    for (index, result) in batch.batch()["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&result["index"], &result["custom_id"]), (&json!(index), &json!(format!("row {index}"))));
        assert_eq!(result["input"], records("enrow", 30)[index]);
    }
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The headers of a call that every vendor gets, with no others than `own`.
#[track_caller]
fn assert_headers(call: &Value, own: &[&str]) {
    let headers = call["headers"].as_object().unwrap();
    assert_eq!(headers["user-agent"], concat!("phone-gateway/", env!("CARGO_PKG_VERSION")));
    let (trace, caller) = (headers["traceparent"].as_str().unwrap(), TRACE);
    assert!(
        trace[..36] == caller[..36] && trace[36..] != caller[36..],
        "a span of the caller's trace: {trace}"
    );
    let mut names: Vec<_> = headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut expected = vec!["accept", "content-length", "host", "traceparent", "user-agent"];
    expected.extend(own);
    expected.sort_unstable();
    assert_eq!(names, expected);
}

async fn submit_traced(gateway: &TestGateway, slug: &str, order: &Value) -> Reply {
    let request = gateway.submission_of(slug, "exact", order).header("traceparent", TRACE);
    let request = request.header("x-request-id", "request-7").header("cookie", "a=b");
    gateway.send(request.header("user-agent", "caller")).await
}

#[tokio::test]
async fn enrow_gets_exactly_what_is_documented() {
    let token = "t".repeat(32);
    for (webhook, options) in [
        (None, Options::default()),
        // Without a token nobody could call.
        (None, Options::default().set("server.public_url", "https://phones.example.com")),
        (
            Some(format!("https://phones.example.com/base/webhooks/enrow/{token}")),
            Options::default().set("server.public_url", "https://phones.example.com/base/").vendor(
                "enrow",
                "webhook_token",
                &token,
            ),
        ),
    ] {
        let gateway = options.start().await;
        let order = json!({"reference": "crm-42", "records": [
            {"linkedin_url": "https://www.linkedin.com/in/michael-scott", "custom_id": "row-1"},
            {"first_name": "Dwight", "last_name": "Schrute", "company_domain": "dundermifflin.com",
             "company_name": "Dunder Mifflin", "custom_id": "row-2"},
        ]});
        let reply = submit_traced(&gateway, "enrow", &order).await;
        reply.accepted();
        let posts = gateway.calls_with("enrow", "POST").await;
        assert_eq!(posts.len(), 1);
        assert_eq!((&posts[0]["path"], &posts[0]["query"]), (&json!("/phone/bulk"), &json!("")));
        assert_headers(&posts[0], &["content-type", "x-api-key"]);
        let mut expected = json!({
            "searches": [
                {"linkedin_url": "https://www.linkedin.com/in/michael-scott"},
                {"firstname": "Dwight", "lastname": "Schrute", "company_domain": "dundermifflin.com",
                 "company_name": "Dunder Mifflin"},
            ],
            "custom": {"submission_id": reply.submission(), "reference": "crm-42"},
        });
        if let Some(webhook) = webhook {
            expected["settings"] = json!({"webhook": webhook});
        }
        assert_eq!(posts[0]["body"], expected);
        assert_eq!((reply.body["cost"]["charged"].as_u64(), gateway.charged("enrow").await), (Some(80), 80));
    }
}

#[tokio::test]
async fn experian_gets_exactly_what_is_documented() {
    let gateway = TestGateway::start().await;
    let order = json!({
        "reference": "crm-43",
        "options": {
            "output_format": "plus_e164", "country": "GB", "get_ported_date": true,
            "max_processing_time": "PT25M", "supplementary_live_status": {"mobile": ["GB", "de"], "landline": ["FR"]},
        },
        "records": [{"number": "+441206250380", "custom_id": "a"}, {"number": "01206 250381", "country": "ie"}],
    });
    let reply = submit_traced(&gateway, "experian", &order).await;
    let options = &reply.accepted()["options"];
    assert_eq!((&options["country"], &options["max_processing_time"]), (&json!("GB"), &json!("PT25M")));
    let posts = gateway.calls_with("experian", "POST").await;
    let paths: Vec<_> = posts.iter().map(|call| call["path"].as_str().unwrap()).collect();
    let batches = "/phone/bulk/v1/batches";
    assert_eq!(paths, [batches, &format!("{batches}/{}/start", reply.id())]);
    assert_headers(&posts[0], &["auth-token", "content-type", "reference-id"]);
    assert_headers(&posts[1], &["auth-token", "reference-id"]);
    assert_eq!(posts[0]["headers"]["reference-id"], "request-7");
    let expected = json!({
        "defaults": {
            "output_format": "PLUS_E164", "country_iso": "GBR", "get_ported_date": true,
            "max_processing_time": "PT25M",
            "supplementary_live_status": {"mobile": ["GBR", "DEU"], "landline": ["FRA"]},
            "batch_reference_id": format!("{} crm-43", reply.submission()),
        },
        "phones": [{"number": "+441206250380"}, {"number": "01206250381", "country_iso": "IRL"}],
    });
    assert_eq!((&posts[0]["body"], &posts[1]["body"]), (&expected, &Value::Null));
    // In a list too, where the vendor's own id of the batch is our reference.
    assert_eq!(gateway.listed("experian", reply.id()).await.unwrap()["reference"], "crm-43");
}

/// Names, numbers and addresses of the bad orders, none of which may come back.
const PLANTED: [&str; 5] = ["Scarn", "5705551234", "evil.example", "pet-name", "\u{7}"];

/// The pointers of a 422, each with a detail; none of the values.
#[track_caller]
fn pointers(reply: &Reply) -> Vec<&str> {
    reply.assert_problem(422, "invalid_request");
    for planted in PLANTED {
        assert!(!reply.text().contains(planted), "{planted} is in {}", reply.text());
    }
    reply.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_no_vendor_is_called() {
    let gateway = TestGateway::start().await;
    let person = json!({"linkedin_url": "https://linkedin.com/in/x"});
    for (slug, order, expected) in [
        ("enrow", json!(null), vec![""]),
        ("enrow", json!([]), vec![""]),
        ("enrow", json!({}), vec!["/records"]),
        ("enrow", json!({"records": []}), vec!["/records"]),
        ("enrow", json!({"records": {}}), vec!["/records"]),
        ("enrow", order_of("enrow", 3_001), vec!["/records"]),
        ("experian", order_of("experian", 10_001), vec!["/records"]),
        ("enrow", json!({"records": [person], "reference": "Scarn\u{7}"}), vec!["/reference"]),
        ("enrow", json!({"records": [person], "reference": "x".repeat(201)}), vec!["/reference"]),
        ("enrow", json!({"records": [person], "options": {"country": "GB"}}), vec!["/options/country"]),
        ("enrow", json!({"records": [{"number": "+15705551234"}]}), vec!["/records/0/number", "/records/0"]),
        (
            "enrow",
            json!({"reference": 7, "Scarn +15705551234": 1, "records": [
                person,
                {"linkedin_url": "https://evil.example/in/Scarn"},
                {"first_name": "Michael", "last_name": "Scarn"},
                {"first_name": "", "last_name": "Scarn", "company_name": "x"},
                "Scarn",
                {"linkedin_url": "https://linkedin.com/in/x", "custom_id": 7},
                {"linkedin_url": "https://linkedin.com/in/x", "pet": "pet-name"},
            ]}),
            vec![
                "",
                "/reference",
                "/records/1/linkedin_url",
                "/records/2",
                "/records/3/first_name",
                "/records/4",
                "/records/5/custom_id",
                "/records/6/pet",
            ],
        ),
        (
            "experian",
            json!({
                "options": {
                    "output_format": "Scarn", "country": "GBR", "get_ported_date": "yes",
                    "supplementary_live_status": {"mobile": ["XX"], "landline": "GB"}, "max_processing_time": "PT25H",
                },
                "records": [{"number": ""}, {}, {"number": "+15705551234", "country": "Scarn"}, {"number": "pet-name"}],
            }),
            vec![
                "/options/output_format",
                "/options/country",
                "/options/get_ported_date",
                "/options/supplementary_live_status/mobile/0",
                "/options/supplementary_live_status/landline",
                "/options/max_processing_time",
                "/records/0/number",
                "/records/1",
                "/records/2/country",
                "/records/3/number",
            ],
        ),
    ] {
        let reply = gateway.submit(slug, "same-key", &order).await;
        let mut told = pointers(&reply);
        told.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(told, expected, "{slug}: {}", reply.text());
        assert_eq!(gateway.calls(slug).await, 0);
    }
    assert_eq!(gateway.get("/submissions").await.body["submissions"], json!([]), "nothing was written down");
    // None of it stands in the way of the same key with a good order.
    gateway.submit("enrow", "same-key", &order("enrow")).await.accepted();
}

#[tokio::test]
async fn the_same_key_gets_the_same_bytes_and_the_vendor_one_order() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let order = order(slug);
        let first = gateway.submit(slug, slug, &order).await;
        first.accepted();
        let posts = gateway.posts(slug).await;
        let spelled = serde_json::to_string_pretty(&order).unwrap();
        let path = format!("/batches/{slug}");
        for seconds in [0, 0, 60, 29 * 24 * 3_600] {
            gateway.advance_seconds(seconds);
            // After the end too, with the key in quotes, and with the JSON spelled otherwise.
            if seconds == 60 {
                gateway.batch(slug, first.id()).await.batch();
            }
            let request = gateway.request(Method::POST, &path).header("content-type", "application/json");
            let request = request.header("idempotency-key", format!("\"{slug}\"")).body(spelled.clone());
            for again in [gateway.submit(slug, slug, &order).await, gateway.send(request).await] {
                again.accepted();
                assert_eq!((&again.bytes, again.is_replayed()), (&first.bytes, true));
            }
        }
        assert_eq!((gateway.posts(slug).await, gateway.batches(slug).await), (posts, 1));
        // 30 days after its first use the key is free again.
        gateway.advance_seconds(24 * 3_600);
        let new = gateway.submit(slug, slug, &order).await;
        new.accepted();
        assert_ne!((new.id(), new.submission()), (first.id(), first.submission()));
        assert_eq!((gateway.posts(slug).await, new.is_replayed()), (2 * posts, false));
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_order_of_one_vendor() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway.submit(slug, slug, &order(slug)).await.accepted();
        let mut other = order(slug);
        other["reference"] = "crm-43".into();
        let mut ids = order(slug);
        ids["records"][1]["custom_id"] = "row-2".into();
        let calls = gateway.calls(slug).await;
        for other in [other, ids, order_of(slug, 3)] {
            let reply = gateway.submit(slug, slug, &other).await;
            reply.assert_problem(422, "idempotency_key_reused");
        }
        assert_eq!(gateway.calls(slug).await, calls);
        for other in VENDORS.iter().filter(|other| other.info.slug != slug) {
            let (other, before) = (other.info.slug, gateway.calls(other.info.slug).await);
            let reply = gateway.submit(other, slug, &order(other)).await;
            reply.assert_problem(422, "idempotency_key_reused");
            assert_eq!(gateway.calls(other).await, before);
        }
    }
}

#[tokio::test]
async fn another_clients_key_is_another_key() {
    let ((crm, crm_hash), (sales, sales_hash)) = (new_key().unwrap(), new_key().unwrap());
    let options = Options::default().client("crm", &crm_hash, "").client("sales", &sales_hash, "");
    let gateway = options.start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let submit = |key| gateway.send(gateway.submission_of(slug, "same", &order(slug)).bearer_auth(key));
        if vendor.info.slug != VENDORS[0].info.slug {
            // The key was used at the vendor before.
            submit(&crm).await.assert_problem(422, "idempotency_key_reused");
            continue;
        }
        let (first, second) = (submit(&crm).await, submit(&sales).await);
        first.accepted();
        second.accepted();
        assert!(!second.is_replayed() && first.id() != second.id());
        assert_eq!(gateway.batches(slug).await, 2);
    }
}

#[tokio::test]
async fn sixteen_at_once_are_one_order_and_all_get_it() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        // So slow that all of them meet.
        gateway.fault(slug, json!({"method": "POST", "delay_ms": 100})).await;
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let request = gateway.submission_of(slug, slug, &order(slug));
            callers.spawn(async move { Reply::of(request.send().await.unwrap()).await });
        }
        let replies = callers.join_all().await;
        for reply in &replies {
            reply.accepted();
            assert_eq!(reply.bytes, replies[0].bytes);
        }
        let replayed = replies.iter().filter(|reply| reply.is_replayed()).count();
        assert_eq!((replayed, gateway.batches(slug).await), (15, 1));
        gateway.clear_faults(slug).await;
        gateway.advance_seconds(60);
        gateway.batch(slug, replies[0].id()).await.batch();
        let charged = gateway.batch(slug, replies[0].id()).await.body["cost"]["charged"].as_u64();
        assert_eq!(Some(gateway.charged(slug).await), charged);
    }
}

#[tokio::test]
async fn what_waits_for_another_that_was_not_sent_is_not_sent_either() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway.fault(slug, json!({"times": 1, "method": "POST", "answer": {"status": 402}})).await;
        gateway.fault(slug, json!({"method": "POST", "answer": {"status": 402}})).await;
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let request = gateway.submission_of(slug, slug, &order(slug));
            callers.spawn(async move { Reply::of(request.send().await.unwrap()).await });
        }
        for reply in callers.join_all().await {
            assert!([402, 409].contains(&reply.status), "{}", reply.text());
        }
        assert_eq!(gateway.batches(slug).await, 0);
        gateway.clear_faults(slug).await;
        gateway.submit(slug, slug, &order(slug)).await.accepted();
        assert_eq!(gateway.batches(slug).await, 1);
    }
}

/// A submission that was not sent: its error, its state, no charge; and then the same key goes through.
async fn assert_not_sent(gateway: &TestGateway, slug: &str, reply: &Reply, status: u16, code: &str) {
    reply.assert_problem(status, code);
    assert_eq!(reply.body["provider"], slug);
    let submission = gateway.submission(reply.submission()).await;
    assert_eq!((&submission["state"], &submission["code"]), (&json!("not_sent"), &json!(code)), "{slug}");
    assert_eq!((submission.get("batch_id"), gateway.batches(slug).await), (None, 0));
    assert_eq!(gateway.charged(slug).await, 0);
}

#[tokio::test]
async fn a_refusal_of_the_vendor_is_told_and_the_same_key_may_be_sent_again() {
    let credits = json!({"error": {"title": "Forbidden", "detail": "There are not enough Credits."}});
    let no_token = json!({"error": {"title": "Bad Request", "detail": "No token was provided."}});
    let malformed = json!({"error": {"title": "Bad Request", "detail": "The request body was malformed."}});
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let options = Options::default().without_quota().without_credentials_pause();
        let mut gateway = options.clone().start().await;
        gateway.adjust(slug, json!({"rate_limit": 10_000})).await;
        let others = match slug {
            "enrow" => vec![
                (json!({"status": 422}), 402, "provider_credits_exhausted", None),
                (
                    json!({"status": 429, "body": "{\"retry_after\": 7}"}),
                    503,
                    "provider_rate_limited",
                    Some("7"),
                ),
            ],
            _ => vec![
                (json!({"status": 422}), 502, "provider_error", None),
                (
                    json!({"status": 403, "body": credits.to_string()}),
                    402,
                    "provider_credits_exhausted",
                    None,
                ),
                (json!({"status": 400, "body": no_token.to_string()}), 502, "provider_credentials", None),
                (json!({"status": 400, "body": malformed.to_string()}), 502, "provider_error", None),
            ],
        };
        let table = [
            (json!({"status": 400, "body": "Scarn"}), 422, "provider_refused", None),
            (json!({"status": 401, "body": VENDOR_ERROR}), 502, "provider_credentials", None),
            (json!({"status": 402}), 402, "provider_credits_exhausted", None),
            (json!({"status": 403, "body": VENDOR_ERROR}), 502, "provider_credentials", None),
            (json!({"status": 404}), 502, "provider_error", None),
            (json!({"status": 405, "body": FIREWALL_PAGE}), 502, "provider_error", None),
            (json!({"status": 411}), 502, "provider_error", None),
            (json!({"status": 413, "body": FIREWALL_PAGE}), 502, "provider_error", None),
            (json!({"status": 414}), 502, "provider_error", None),
            (json!({"status": 415}), 502, "provider_error", None),
            (json!({"status": 431}), 502, "provider_error", None),
            (json!({"status": 429}), 503, "provider_rate_limited", Some("5")),
            (
                json!({"status": 429, "headers": {"Retry-After": "60"}}),
                503,
                "provider_rate_limited",
                Some("60"),
            ),
        ];
        for (answer, status, code, retry_after) in table.into_iter().chain(others) {
            let key = answer.to_string().replace('"', "'");
            gateway.fault(slug, json!({"times": 1, "method": "POST", "answer": answer})).await;
            let before = gateway.posts(slug).await;
            let reply = gateway.submit(slug, &key, &order(slug)).await;
            assert_not_sent(&gateway, slug, &reply, status, code).await;
            assert_eq!(reply.header("retry-after"), retry_after, "{slug} {answer}");
            assert!(!reply.text().contains("Scarn"));
            assert_eq!(gateway.posts(slug).await, before + 1, "a refusal is not tried again");
            let not_sent = gateway.metric("submissions_total", &["not_sent", slug]).await;
            assert_eq!(not_sent, 1, "of this process");
            // A vendor that asked to wait is not asked again at once, by this process.
            gateway = gateway.restart(options.clone()).await;
            let again = gateway.submit(slug, &key, &order(slug)).await;
            again.accepted();
            assert!(!again.is_replayed());
            assert_eq!((again.submission(), gateway.batches(slug).await), (reply.submission(), 1));
            gateway.forget(slug).await;
            gateway.adjust(slug, json!({"rate_limit": 10_000})).await;
        }
    }
}

#[tokio::test]
async fn a_vendor_account_without_credits_is_402_and_charges_nothing() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        gateway.adjust(slug, json!({"credits": 1})).await;
        let reply = gateway.submit(slug, "poor", &order(slug)).await;
        assert_not_sent(&gateway, slug, &reply, 402, "provider_credits_exhausted").await;
        gateway.adjust(slug, json!({"credits": 1_000})).await;
        gateway.submit(slug, "poor", &order(slug)).await.accepted();
    }
}

#[tokio::test]
async fn a_connection_that_was_never_made_has_sent_nothing() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (full, _listener, _waiting) = full_backlog().await;
    for (address, status, code) in [(closed, 502, "provider_unreachable"), (full, 504, "provider_timeout")] {
        for vendor in VENDORS {
            let slug = vendor.info.slug;
            let options = Options::default().set("http.connect_timeout", "200ms");
            let gateway = options.vendor(slug, "base_url", format!("http://{address}")).start().await;
            let reply = gateway.submit(slug, "k", &order(slug)).await;
            assert_not_sent(&gateway, slug, &reply, status, code).await;
            assert_eq!(reply.body["retryable"], true);
            // The vendor is back; the key is as good as new.
            let gateway = gateway.restart(Options::default()).await;
            let again = gateway.submit(slug, "k", &order(slug)).await;
            again.accepted();
            assert_eq!((again.submission(), gateway.batches(slug).await), (reply.submission(), 1));
        }
    }
}

/// The bytes of a submission, of which the caller sends what it likes.
fn written(slug: &str, key: &str) -> Vec<u8> {
    let body = order(slug).to_string();
    let head = format!(
        "POST /batches/{slug} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n\
         idempotency-key: {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

#[tokio::test]
async fn a_caller_who_hangs_up_after_the_body_has_ordered() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        gateway.fault(slug, json!({"times": 1, "method": "POST", "hang": true})).await;
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&written(slug, "hang-up")).await.unwrap();
        let called = eventually("the vendor is called");
        while !called.is(gateway.posts(slug).await == 1).await {}
        stream.set_zero_linger().unwrap();
        drop(stream);
        let noted = eventually("the caller who hung up is counted");
        while !noted.is(gateway.metric("http_requests_total", &["status=\"499\""]).await == 1).await {}
        gateway.clear_faults(slug).await;
        let reply = gateway.submit(slug, "hang-up", &order(slug)).await;
        reply.accepted();
        assert_eq!((reply.is_replayed(), gateway.batches(slug).await), (true, 1));
        gateway.submission_is(reply.submission(), "accepted").await;
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_within_the_body_has_ordered_nothing() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        let bytes = written(slug, "hang-up");
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
        // Answered by the same worker, which has read all of the above by then.
        assert_eq!(gateway.get("/livez").await.status, 200);
        stream.set_zero_linger().unwrap();
        drop(stream);
        let ended = eventually("the request has ended");
        while !ended.is(gateway.metric("http_requests_total", &["POST"]).await == 1).await {}
        assert_eq!(
            (gateway.calls(slug).await, gateway.get("/submissions").await.body["submissions"].clone()),
            (0, json!([]))
        );
        let reply = gateway.submit(slug, "hang-up", &order(slug)).await;
        reply.accepted();
        assert!(!reply.is_replayed());
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_an_order_that_is_under_way() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        gateway.fault(slug, json!({"times": 1, "method": "POST", "delay_ms": 500})).await;
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&written(slug, "shutdown")).await.unwrap();
        let called = eventually("the vendor is called");
        while !called.is(gateway.posts(slug).await == 1).await {}
        // The caller is gone, and the process is told to stop.
        drop(stream);
        let stopped = tokio::time::timeout(Duration::from_secs(5), gateway.restart(Options::default())).await;
        let gateway = stopped.expect("it stops once the order is through");
        let reply = gateway.submit(slug, "shutdown", &order(slug)).await;
        reply.accepted();
        assert_eq!((reply.is_replayed(), gateway.batches(slug).await), (true, 1));
    }
}

#[tokio::test]
async fn what_is_wrong_beyond_the_listed_parts_is_counted() {
    let gateway = TestGateway::start().await;
    for (count, total) in [(1_000, None), (2_500, Some(2_500))] {
        let body = json!({"records": vec![json!({"number": "ada@example.org"}); count]});
        let reply = gateway.submit("experian", "k", &body).await;
        reply.assert_problem(422, "invalid_request");
        assert_eq!(reply.body["errors"].as_array().unwrap().len(), 1_000);
        assert_eq!(reply.body.get("errors_total").and_then(Value::as_u64), total);
        assert!(reply.body["detail"].as_str().unwrap().starts_with(&count.to_string()));
    }
    assert_eq!(gateway.calls("experian").await, 0);
}
