//! What the simulators share: the record of calls, faults, and the routes to both.

use std::time::{Duration, Instant};

use phone_gateway::sandbox::API_KEY;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Lab, people};
use crate::helpers::eventually;

#[tokio::test]
async fn admin_shows_calls_and_forgets_them() {
    let lab = Lab::open().await;
    lab.enrow(Method::POST, "/phone/bulk", Some(&people(1))).await;
    lab.enrow(Method::GET, "/phone/bulk?id=x", None).await;
    lab.enrow(Method::GET, "/nowhere", None).await;
    let admin = lab.admin("enrow").await;
    assert_eq!(admin["calls"][0]["method"], "POST");
    assert_eq!(admin["calls"][0]["body"], people(1));
    assert_eq!(admin["calls"][0]["headers"]["x-api-key"], "sandbox");
    assert_eq!(admin["calls"][0]["status"], 201);
    assert_eq!(admin["calls"][1]["path"], "/phone/bulk");
    assert_eq!(admin["calls"][1]["query"], "id=x");
    assert_eq!(admin["calls"][1]["body"], Value::Null);
    assert_eq!(
        admin["counts"],
        json!({"POST /phone/bulk": 1, "GET /phone/bulk": 1, "GET (other)": 1}),
        "{admin}"
    );
    assert_eq!(lab.admin("experian").await["calls"], json!([]));
    let forgotten = lab.call(Method::DELETE, &lab.sandbox.admin_url("enrow"), &[], None).await;
    assert_eq!(forgotten.status, 204);
    let nothing = json!({
        "calls": [], "counts": {}, "charged": 0, "refunded": 0, "credits": 36_000, "batches": 0,
        "rate_limit": 10, "pace_ms": 8_000, "faults": [],
    });
    assert_eq!(lab.admin("enrow").await, nothing);

    for slug in ["enrow", "experian"] {
        let url = lab.sandbox.admin_url(slug) + "/ready-made";
        let list = lab.call(Method::GET, &url, &[], None).await.body;
        assert!(list.as_array().unwrap().len() >= 20);
        assert!(list[0]["id"].is_string() && list[0]["shows"].is_string());
    }
    assert_eq!(lab.call(Method::GET, &lab.sandbox.admin_url("nobody"), &[], None).await.status, 404);
}

#[tokio::test]
async fn delete_brings_everything_back_to_the_start() {
    let lab = Lab::open().await;
    for slug in ["enrow", "experian"] {
        let start = lab.admin(slug).await;
        lab.adjust(slug, json!({"credits": 7, "rate_limit": 3, "pace_ms": 100})).await;
        let fault = json!({"times": 2, "path": "/phone", "method": "get",
            "answer": {"status": 503, "headers": {"retry-after": "3"}, "body": "", "processed": false}});
        lab.fault(slug, fault.clone()).await;
        lab.fault(slug, json!({"delay_ms": 5})).await;
        lab.fault(slug, json!({"cut": true})).await;
        lab.fault(slug, json!({"hang": true})).await;
        let faults = json!([
            fault,
            {"path": "", "delay_ms": 5},
            {"path": "", "cut": true},
            {"path": "", "hang": true},
        ]);
        let adjusted = lab.admin(slug).await;
        let shown = ["credits", "rate_limit", "pace_ms", "faults"].map(|field| adjusted[field].clone());
        assert_eq!(shown, [json!(7), json!(3), json!(100), faults.clone()]);
        let url = lab.sandbox.admin_url(slug);
        assert_eq!(lab.call(Method::GET, &format!("{url}/faults"), &[], None).await.body, faults);

        assert_eq!(lab.call(Method::DELETE, &url, &[], None).await.status, 204);
        assert_eq!(lab.admin(slug).await, start);
    }
    assert_eq!(lab.enrow(Method::GET, "/phone/bulk?id=sandbox-running", None).await.status, 200);
}

#[tokio::test]
async fn wrong_admin_paths_and_methods_are_told_the_right_ones() {
    let lab = Lab::open().await;
    for (method, path, status) in [
        (Method::GET, "enrow/calls", 404),
        (Method::GET, "enrow/faults/1", 404),
        (Method::GET, "", 404),
        (Method::GET, "clock", 405),
        (Method::POST, "enrow", 405),
        (Method::PUT, "enrow/faults", 405),
        (Method::DELETE, "enrow/ready-made", 405),
    ] {
        let reply = lab.call(method, &lab.sandbox.admin_url(path), &[], None).await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.body["message"].as_str().unwrap().contains("POST /admin/clock"), "{path}");
    }
}

#[tokio::test]
async fn the_call_log_is_bounded_and_the_counts_are_exact() {
    let lab = Lab::open().await;
    for _ in 0..1_010 {
        lab.enrow(Method::GET, "/account/info", None).await;
    }
    let admin = lab.admin("enrow").await;
    assert_eq!(admin["calls"].as_array().unwrap().len(), 1_000);
    assert_eq!(admin["calls"][999]["status"], 200);
    assert_eq!(admin["counts"]["GET /account/info"], 1_010);
}

#[tokio::test]
async fn faults_meet_the_calls_that_they_are_meant_for() {
    let lab = Lab::open().await;
    let answer = json!({"times": 1, "path": "/phone", "method": "POST",
        "answer": {"status": 503, "headers": {"Retry-After": "1"}, "body": "down", "content_type": "text/plain"}});
    assert_eq!(lab.fault("enrow", answer).await.status, 204);
    assert_eq!(lab.enrow(Method::GET, "/phone/bulk?id=sandbox-running", None).await.status, 200);
    let down = lab.enrow(Method::POST, "/phone/bulk", Some(&people(1))).await;
    assert_eq!((down.status.as_u16(), down.text.as_str()), (503, "down"));
    assert_eq!(down.headers["retry-after"], "1");
    assert_eq!(down.headers["content-type"], "text/plain");
    let admin = lab.admin("enrow").await;
    assert_eq!((&admin["charged"], &admin["calls"][1]["status"]), (&json!(0), &json!(503)));
    assert_eq!(lab.enrow(Method::POST, "/phone/bulk", Some(&people(1))).await.status, 201);

    let processed = json!({"times": 1, "answer": {"status": 500, "processed": true}});
    assert_eq!(lab.fault("enrow", processed).await.status, 204);
    assert_eq!(lab.enrow(Method::POST, "/phone/bulk", Some(&people(1))).await.status, 500);
    assert_eq!(lab.admin("enrow").await["charged"], 80);

    lab.fault("enrow", json!({"times": 1, "delay_ms": 200})).await;
    let since = Instant::now();
    assert_eq!(lab.enrow(Method::GET, "/account/info", None).await.status, 200);
    assert!(since.elapsed() >= Duration::from_millis(200));

    lab.fault("enrow", json!({"cut": true})).await;
    let url = lab.sandbox.base_url("enrow") + "/account/info";
    for _ in 0..2 {
        let cut = lab.http.get(&url).header("x-api-key", API_KEY).send().await.unwrap();
        assert_eq!(cut.status(), 200);
        assert!(cut.bytes().await.is_err());
    }
    let faults = lab.sandbox.admin_url("enrow") + "/faults";
    assert_eq!(lab.call(Method::DELETE, &faults, &[], None).await.status, 204);
    assert_eq!(lab.enrow(Method::GET, "/account/info", None).await.status, 200);

    lab.fault("enrow", json!({"hang": true})).await;
    let hanging = lab.http.get(&url).header("x-api-key", API_KEY).timeout(Duration::from_millis(200)).send();
    assert!(hanging.await.unwrap_err().is_timeout());
    let calls = lab.admin("enrow").await["calls"].as_array().unwrap().clone();
    assert_eq!(calls.last().unwrap()["status"], Value::Null);
    let hanging = lab.enrow(Method::GET, "/account/info", None);
    let clearing = async {
        let arrived = eventually("the call hangs");
        while !arrived.is(lab.admin("enrow").await["calls"].as_array().unwrap().len() > calls.len()).await {}
        lab.call(Method::DELETE, &faults, &[], None).await
    };
    assert_eq!(tokio::join!(hanging, clearing).0.status, 200);
}

#[tokio::test]
async fn bad_admin_bodies_are_refused_with_the_reason() {
    let lab = Lab::open().await;
    for body in [
        json!({}),
        json!({"cut": true, "hang": true}),
        json!({"times": 0, "cut": true}),
        json!({"answer": {"status": 99}}),
        json!({"answer": {"status": 200, "headers": {"bad header": "x"}}}),
        json!({"cute": true}),
    ] {
        let reply = lab.fault("enrow", body.clone()).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body["message"].as_str().unwrap().len() > 40);
    }
    let clock = lab.sandbox.admin_url("clock");
    assert_eq!(lab.call(Method::POST, &clock, &[], Some(&json!({"advance": 1}))).await.status, 400);
}

#[tokio::test]
async fn data_is_the_same_in_every_sandbox() {
    let (one, other) = (Lab::open().await, Lab::open().await);
    assert_ne!(one.sandbox.address(), other.sandbox.address());
    let path = "/phone/bulk?id=sandbox-completed";
    let text = one.enrow(Method::GET, path, None).await.text;
    assert_eq!(other.enrow(Method::GET, path, None).await.text, text);
    let address = one.sandbox.address();
    one.sandbox.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert_eq!(other.enrow(Method::GET, path, None).await.status, 200);
}
