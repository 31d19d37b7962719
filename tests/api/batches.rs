//! Reading one batch: what each vendor is asked, and what the caller is told.

use std::collections::BTreeSet;

use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Answer, Options, Replies, TestGateway};

const ENROW_ID: &str = "e3b61122-d6a6-4ea7-b331-9b734682a76a";
const EXPERIAN_ID: &str = "7c0a1f3e-2b64-4c58-9d1e-0a6f5be2c913";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn enrow_is_asked_exactly_as_its_documents_say() {
    let vendor = Replies::start().await;
    vendor.on(
        "/phone/bulk",
        Answer::json(&json!({"general": {"id": ENROW_ID, "status": "ongoing"}, "stats": {"requested": 1, "finished": 0}})),
    );
    let options =
        Options::default().vendor("enrow", "base_url", vendor.url()).vendor("enrow", "api_key", "key-1");
    let gateway = options.start().await;
    let request = gateway.request(Method::GET, &format!("/batches/enrow/{ENROW_ID}"));
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let reply =
        gateway.send(request.header("traceparent", &traceparent).header("x-request-id", "call-7")).await;
    assert_eq!(reply.batch()["status"], "running");

    let requests = vendor.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("GET", &*format!("/phone/bulk?id={ENROW_ID}"))
    );
    assert_eq!(request.header("x-api-key"), Some("key-1"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("host"), Some(&*vendor.address.to_string()));
    assert!(request.body.is_empty());
    assert_names(request, &["accept", "host", "traceparent", "user-agent", "x-api-key"]);
    let sent = request.header("traceparent").unwrap();
    assert!(
        sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01") && sent != traceparent,
        "{sent}"
    );
}

#[tokio::test]
async fn a_vendor_gets_the_state_of_the_trace_if_its_parent_is_valid() {
    let vendor = Replies::start().await;
    let gateway = Options::default().vendor("enrow", "base_url", vendor.url()).start().await;
    let valid = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for (number, (parent, sent)) in [(&*valid, Some("b=2,a=1")), ("00-x-y-01", None)].into_iter().enumerate()
    {
        let request = gateway.request(Method::GET, &format!("/batches/enrow/{number}"));
        let request = request.header("traceparent", parent).header("tracestate", "b=2");
        gateway.send(request.header("tracestate", " a=1 ")).await;
        assert_eq!(vendor.requests().last().unwrap().header("tracestate"), sent, "{parent}");
    }
}

#[tokio::test]
async fn experian_is_asked_for_the_status_and_then_for_the_results() {
    let vendor = Replies::start().await;
    let status = json!({"result": {"batch_id": EXPERIAN_ID, "status": "completed", "records": 1}});
    let results = json!({"result": {"batch_id": EXPERIAN_ID, "status": "completed", "credits_charged": 1,
        "phones": [{"number": "12269724276", "validated_phone_number": "12269724276", "confidence": "verified"}]}});
    vendor.on(EXPERIAN_ID, Answer::json(&status));
    vendor.on("/results", Answer::json(&results));
    let base_url = vendor.url() + "/";
    let options =
        Options::default().vendor("experian", "base_url", base_url).vendor("experian", "api_key", "key-2");
    let gateway = options.start().await;
    let request = gateway.request(Method::GET, &format!("/batches/experian/{EXPERIAN_ID}"));
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    let request = request.header("traceparent", &traceparent).header("x-request-id", "call-8");
    let reply = gateway.send(request).await;
    assert_eq!(reply.batch()["results"][0]["phone"]["e164"], "+12269724276");
    assert_eq!(reply.header("x-request-id"), Some("call-8"));

    let requests = vendor.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target.clone()).collect();
    let path = format!("/phone/bulk/v1/batches/{EXPERIAN_ID}");
    assert_eq!(targets, [path.clone(), format!("{path}/results")]);
    let mut spans = BTreeSet::new();
    for request in &requests {
        assert_eq!(request.method, "GET");
        assert_eq!(request.header("auth-token"), Some("key-2"));
        assert_eq!(request.header("add-metadata"), Some("true"));
        assert_eq!(request.header("reference-id"), Some("call-8"));
        assert!(request.body.is_empty());
        let names =
            ["accept", "add-metadata", "auth-token", "host", "reference-id", "traceparent", "user-agent"];
        assert_names(request, &names);
        let sent = request.header("traceparent").unwrap();
        assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"), "{sent}");
        spans.insert(sent.to_owned());
    }
    assert_eq!(spans.len(), 2, "each call is a span of its own");
}

#[tokio::test]
async fn a_batch_that_runs_at_experian_is_not_asked_for_results() {
    let vendor = Replies::start().await;
    let status = json!({"result": {"batch_id": EXPERIAN_ID, "status": "processing", "records": 3}});
    vendor.on(EXPERIAN_ID, Answer::json(&status));
    let gateway = Options::default().vendor("experian", "base_url", vendor.url()).start().await;
    let reply = gateway.batch("experian", EXPERIAN_ID).await;
    assert_eq!(reply.batch()["status"], "running");
    assert_eq!(vendor.requests().len(), 1);
}

#[tokio::test]
async fn a_base_url_may_have_a_path_and_a_slash_at_its_end() {
    let vendor = Replies::start().await;
    let gateway = Options::default().vendor("enrow", "base_url", vendor.url() + "/a/b/").start().await;
    gateway.batch("enrow", "x").await;
    assert_eq!(vendor.requests()[0].target, "/a/b/phone/bulk?id=x");
}

#[track_caller]
fn assert_names(request: &crate::helpers::Request, expected: &[&str]) {
    let mut names: Vec<_> = request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort_unstable();
    assert_eq!(names, expected, "neither accept-encoding nor anything else that is not needed");
}

#[tokio::test]
async fn the_batch_in_the_vendors_own_documents_is_read_in_the_common_schema() {
    let gateway = TestGateway::start().await;
    let reply = gateway.batch("enrow", ENROW_ID).await;
    let mut batch = reply.batch().clone();
    let retrieved_at: jiff::Timestamp =
        batch.as_object_mut().unwrap().remove("retrieved_at").unwrap().as_str().unwrap().parse().unwrap();
    assert!(gateway.clock.now().duration_since(retrieved_at).as_secs() < 20);
    let expected = json!({
        "provider": "enrow", "id": ENROW_ID, "kind": "finding",
        "status": "completed", "done": true, "provider_status": "completed",
        "progress": {"requested": 2, "processed": 2},
        "outcomes": {"found": 2},
        "cost": {"charged": 80, "refunded": 0, "unit": "credit"},
        "results": [{"index": 0, "outcome": "found", "provider_outcome": "found",
            "phone": {"e164": "+15705551234", "country": "US"},
            "input": {"linkedin_url": "https://www.linkedin.com/in/michael-scott"}},
            {"index": 1, "outcome": "found", "provider_outcome": "found",
            "phone": {"e164": "+15705555678", "country": "US"},
            "input": {"linkedin_url": "https://www.linkedin.com/in/dwight-schrute"}}],
    });
    assert_eq!(batch, expected);
}

#[tokio::test]
async fn an_enrow_batch_is_seen_running_and_then_completed() {
    let gateway = TestGateway::start().await;
    let people: Vec<_> =
        (0..10).map(|n| json!({"linkedin_url": format!("https://www.linkedin.com/in/p{n}")})).collect();
    let order = json!({"searches": people, "custom": {"campaign": 7}});
    let created = gateway.vendor("enrow", Method::POST, "/phone/bulk", Some(&order)).await;
    let id = created.body["id"].as_str().unwrap();

    let running = gateway.batch("enrow", id).await;
    assert_eq!(running.batch()["status"], "running");
    assert_eq!(running.body["progress"]["requested"], 10);
    gateway.advance_seconds(10);
    let reply = gateway.batch("enrow", id).await;
    let batch = reply.batch();
    assert_eq!((&batch["status"], &batch["custom"]), (&json!("completed"), &json!({"campaign": 7})));
    let results = batch["results"].as_array().unwrap();
    let positions: Vec<_> = results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
    assert_eq!(positions, (0..10).collect::<Vec<_>>(), "in the order of submission");
    for (result, person) in results.iter().zip(&people) {
        assert_eq!(result["input"], *person);
        let found = result["outcome"] == "found";
        assert_eq!(result.get("phone").is_some(), found, "{result}");
    }
    let found = results.iter().filter(|result| result["outcome"] == "found").count();
    assert_eq!(batch["outcomes"], json!({"found": found, "not_found": 10 - found}));
    assert_eq!(batch["cost"], json!({"charged": 400, "refunded": 40 * (10 - found), "unit": "credit"}));
    let admin = gateway.admin("enrow").await;
    assert_eq!((&admin["charged"], &admin["refunded"]), (&json!(400), &batch["cost"]["refunded"]));
}

#[tokio::test]
async fn an_experian_batch_is_seen_queued_and_running_and_completed() {
    const BATCHES: &str = "/phone/bulk/v1/batches";
    let gateway = TestGateway::start().await;
    let phones: Vec<_> = (0..20).map(|n| json!({"number": format!("4474001200{n:02}")})).collect();
    let order = json!({"phones": phones, "defaults": {"batch_reference_id": "crm/42", "country_iso": "GBR"}});
    let created = gateway.vendor("experian", Method::POST, BATCHES, Some(&order)).await;
    let id = created.body["result"]["batch_id"].as_str().unwrap().to_owned();
    let read = async || gateway.batch("experian", &id).await;

    let queued = read().await;
    assert_eq!(queued.batch()["status"], "queued");
    assert_eq!(queued.body["reference"], "crm/42");
    assert_eq!(queued.body["options"], json!({"output_format": "e164", "country": "GB"}));
    gateway.vendor("experian", Method::POST, &format!("{BATCHES}/{id}/start"), None).await;
    gateway.advance_seconds(4);
    let running = read().await;
    assert_eq!(
        (&running.batch()["status"], &running.body["provider_status"]),
        (&json!("running"), &json!("processing"))
    );
    assert!(running.body["progress"]["processed"].as_u64().unwrap() >= 10);
    gateway.advance_seconds(10);
    let reply = read().await;
    let batch = reply.batch();
    assert_eq!(batch["status"], "completed");
    let results = batch["results"].as_array().unwrap();
    assert_eq!(results.len(), 20);
    for (position, result) in results.iter().enumerate() {
        assert_eq!(result["index"], position);
        assert_eq!(result["input"], json!({"number": phones[position]["number"]}));
        assert_eq!(result["phone"]["e164"], format!("+4474001200{position:02}"));
        assert_eq!(result["phone"]["country"], "GB");
    }
    let counted: u64 = batch["outcomes"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(counted, 20);
    for date in ["submitted_at", "started_at", "ended_at", "results_expire_at"] {
        batch[date].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    assert_eq!(batch["cost"]["charged"], gateway.admin("experian").await["charged"]);
}

#[tokio::test]
async fn what_a_reading_costs_at_the_vendor_is_nothing() {
    let gateway = Options::default().set("http.attempts", "1").start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for batch in vendor.simulator.ready_made.iter().filter(|batch| !batch.id.contains("slow")) {
            gateway.batch(slug, batch.id).await;
        }
        let admin = gateway.admin(slug).await;
        assert_eq!((&admin["charged"], &admin["refunded"]), (&json!(0), &json!(0)), "{slug}");
        for call in admin["calls"].as_array().unwrap() {
            assert_eq!(call["method"], "GET", "{slug}");
        }
    }
}
