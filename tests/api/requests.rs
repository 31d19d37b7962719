//! What is refused before anything is sent or written down: bodies, keys, queries, scopes and webhooks.

use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::helpers::{Options, Reply, TestGateway, head, order, raw};

fn submission(gateway: &TestGateway, slug: &str) -> RequestBuilder {
    gateway.request(Method::POST, &format!("/batches/{slug}")).header("content-type", "application/json")
}

/// What was said to be wrong: parameters and pointers.
fn wrong(reply: &Reply) -> Vec<String> {
    let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
    let place = |error: &Value| {
        assert!(error["detail"].as_str().unwrap().len() > 5, "{error}");
        error.get("parameter").or(error.get("pointer")).and_then(Value::as_str).unwrap_or("?").to_owned()
    };
    errors.iter().map(place).collect()
}

async fn assert_nothing_was_sent(gateway: &TestGateway) {
    for vendor in VENDORS {
        assert_eq!(gateway.calls(vendor.info.slug).await, 0, "{}", vendor.info.slug);
    }
}

#[tokio::test]
async fn a_submission_needs_one_good_key() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let reply = gateway.send(submission(&gateway, slug).body(order(slug).to_string())).await;
        reply.assert_problem(400, "idempotency_key_missing");
        assert_eq!(wrong(&reply), ["Idempotency-Key"]);
        for key in ["", "\"", "\"secret", "\"secret\" x", &"secret".repeat(43)] {
            let request = submission(&gateway, slug).header("idempotency-key", key);
            let reply = gateway.send(request.body(order(slug).to_string())).await;
            reply.assert_problem(400, "invalid_request");
            assert_eq!(wrong(&reply), ["Idempotency-Key"], "{key}");
            assert!(!reply.text().contains("secret"));
        }
        let twice = submission(&gateway, slug).header("idempotency-key", "a").header("idempotency-key", "a");
        let reply = gateway.send(twice.body(order(slug).to_string())).await;
        reply.assert_problem(400, "invalid_request");
    }
    assert_nothing_was_sent(&gateway).await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway.submit(slug, &slug.repeat(255)[..255], &order(slug)).await.accepted();
    }
}

#[tokio::test]
async fn a_body_is_json_within_the_limit() {
    let gateway = Options::default().set("server.max_body_bytes", "1000").start().await;
    let post = |content_type: &str| {
        let request = gateway.request(Method::POST, "/batches/enrow").header("idempotency-key", "k");
        request.header("content-type", content_type)
    };
    let body = order("enrow").to_string();
    for content_type in ["text/plain", "application/ld+json", "application/x-www-form-urlencoded", ""] {
        let reply = gateway.send(post(content_type).body(body.clone())).await;
        reply.assert_problem(415, "unsupported_media_type");
    }
    let zipped = post("application/json").header("content-encoding", "gzip").body(body.clone());
    gateway.send(zipped).await.assert_problem(415, "unsupported_media_type");
    let deep = "[".repeat(1_000);
    for (broken, place) in [
        (&b""[..], "line 1, column 0"),
        (b"{\"secret\":\n 5701234567x}", "line 2, column 12"),
        (b"{\"secret\":\"\xff\"}", "line 1, column 12"),
        (deep.as_bytes(), "line 1, column 128"),
    ] {
        let reply = gateway.send(post("application/json; charset=utf-8").body(broken.to_vec())).await;
        reply.assert_problem(400, "invalid_request");
        assert!(reply.body["detail"].as_str().unwrap().contains(place), "{}", reply.text());
        assert!(!reply.text().contains("5701234567") && !reply.text().contains("secret"));
    }
    let reply = gateway.send(post("application/json").body(" ".repeat(1_001))).await;
    reply.assert_problem(413, "body_too_large");

    let headers = "content-type: application/json\r\nidempotency-key: k\r\n";
    // At once: the body never comes.
    let announced = head("POST", "/batches/enrow", &format!("{headers}content-length: 1001\r\n"));
    raw(gateway.address, announced.as_bytes()).await.assert_problem(413, "body_too_large");
    let chunked = head("POST", "/batches/enrow", &format!("{headers}transfer-encoding: chunked\r\n"));
    let chunk = format!("1f4\r\n{}\r\n", " ".repeat(500)).repeat(3);
    let reply = raw(gateway.address, (chunked + &chunk + "0\r\n\r\n").as_bytes()).await;
    reply.assert_problem(413, "body_too_large");
    assert_nothing_was_sent(&gateway).await;
}

#[tokio::test]
async fn a_query_says_only_what_it_may() {
    let gateway = TestGateway::start().await;
    for (path, told) in [
        ("/batches?limit=0&status=x&page=1", &["page", "status", "limit"][..]),
        ("/batches?cursor=bm9ib2R5&submitted_after=1", &["submitted_after", "cursor"]),
        ("/batches?status=running&status=running", &["status"]),
        ("/batches?%2B15705551234=1", &["?"]),
        ("/usage?from=2026-02-30&to=x&limit=1", &["limit", "from", "to"]),
        ("/submissions?state=done&limit=101&client=x", &["client", "state", "limit"]),
    ] {
        let reply = gateway.get(path).await;
        reply.assert_problem(400, "invalid_request");
        assert_eq!(wrong(&reply), told, "{path}");
        assert!(!reply.text().contains("5705551234"));
    }
    for path in ["/batches?provider=nobody", "/usage?provider=nobody"] {
        gateway.get(path).await.assert_problem(404, "unknown_provider");
    }
    for path in ["/submissions/x", "/submissions/%ff", "/submissions/01932f6e"] {
        gateway.get(path).await.assert_problem(404, "submission_not_found");
    }
}

#[tokio::test]
async fn a_resolution_is_read_strictly() {
    let gateway = TestGateway::start().await;
    let path = "/submissions/01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d/resolve";
    for (body, told) in [
        (json!({}), &["/as"][..]),
        (json!({"as": "sent"}), &["/batch_id"]),
        (json!({"as": "not_sent", "batch_id": "x", "why": 1}), &["/why", "/batch_id"]),
    ] {
        let request = gateway.request(Method::POST, path).header("content-type", "application/json");
        let reply = gateway.send(request.body(body.to_string())).await;
        reply.assert_problem(422, "invalid_request");
        assert_eq!(wrong(&reply), told, "{body}");
    }
    let request = gateway.request(Method::POST, path).body("{}");
    gateway.send(request).await.assert_problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn every_operation_asks_for_its_scope() {
    const ID: &str = "01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d";
    let operations = [
        ("POST", "/batches/enrow".to_owned(), &["submit"][..]),
        ("GET", "/batches/enrow/x".to_owned(), &["read"]),
        ("DELETE", "/batches/enrow/x".to_owned(), &["erase"]),
        ("POST", "/batches/enrow/x/stop".to_owned(), &["submit"]),
        ("GET", "/batches".to_owned(), &["read"]),
        ("GET", "/providers".to_owned(), &["read"]),
        ("GET", "/usage".to_owned(), &["read", "operate"]),
        ("GET", format!("/submissions/{ID}"), &["read", "submit", "operate"]),
        ("GET", "/submissions".to_owned(), &["read", "submit", "operate"]),
        ("POST", format!("/submissions/{ID}/resolve"), &["operate"]),
    ];
    for scope in ["read", "submit", "erase", "operate"] {
        let (key, hash) = new_key().unwrap();
        let options = Options::default().client("crm", &hash, "").set("auth.clients.crm.scopes", scope);
        let gateway = options.start().await;
        for (method, path, scopes) in &operations {
            let method: Method = method.parse().unwrap();
            let request = gateway.request(method.clone(), path);
            gateway.send(request).await.assert_problem(401, "unauthenticated");
            if !scopes.contains(&scope) {
                let reply = gateway.send(gateway.request(method, path).bearer_auth(&key)).await;
                reply.assert_problem(403, "forbidden");
                assert!(reply.body["detail"].as_str().unwrap().contains(scopes[0]), "{path}");
            }
        }
        assert_nothing_was_sent(&gateway).await;
    }
}

#[tokio::test]
async fn a_client_asks_only_about_itself_and_its_providers() {
    let (key, hash) = new_key().unwrap();
    let gateway = Options::default().client("crm", &hash, "enrow").start().await;
    for path in ["/batches?provider=experian", "/usage?client=sales"] {
        let reply = gateway.send(gateway.request(Method::GET, path).bearer_auth(&key)).await;
        reply.assert_problem(403, "forbidden");
    }
    let other = gateway.request(Method::POST, "/batches/experian").bearer_auth(&key);
    gateway.send(other).await.assert_problem(403, "forbidden");
}

#[tokio::test]
async fn a_wrong_webhook_is_a_path_that_does_not_exist() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    for configured in [false, true] {
        let mut options = Options::default();
        if configured {
            options = options.set("server.public_url", "https://phones.example.com").vendor(
                "enrow",
                "webhook_token",
                TOKEN,
            );
        }
        let gateway = options.start().await;
        let post = async |path: &str, size: usize| {
            let reply = gateway.send(gateway.request(Method::POST, path).body("x".repeat(size))).await;
            reply.assert_problem(404, "route_not_found");
            assert!(!reply.text().contains("secret") && !reply.text().contains(TOKEN), "{}", reply.text());
            let mut body = reply.body;
            body.as_object_mut().unwrap().remove("request_id");
            body
        };
        let nowhere = post("/webhooks/enrow/secret/x", 1).await;
        for path in ["/webhooks/enrow/secret", "/webhooks/nobody/secret", "/webhooks/secret"] {
            for size in [0, 10, 70_000] {
                assert_eq!(post(path, size).await, nowhere, "{path}");
            }
        }
        assert_eq!(post(&format!("/webhooks/experian/{TOKEN}"), 2).await, nowhere);
        assert_eq!(post(&format!("/webhooks/enrow/{TOKEN}x"), 2).await, nowhere);
        let read = gateway.get(&format!("/webhooks/enrow/{TOKEN}")).await;
        read.assert_problem(405, "method_not_allowed");
        assert!(!read.text().contains(TOKEN));
        let metrics = gateway.get("/metrics").await.text();
        assert!(metrics.contains("/webhooks/{provider}/{token}") && !metrics.contains("secret"));
    }
}

#[tokio::test]
async fn the_vendors_are_told_with_what_they_can_do() {
    let gateway = Options::default().vendor("experian", "api_key", "").start().await;
    let reply = gateway.get("/providers").await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
    let providers = reply.body["providers"].as_array().unwrap();
    assert_eq!(providers.len(), VENDORS.len());
    for (told, vendor) in providers.iter().zip(VENDORS) {
        let info = vendor.info;
        let state = if info.slug == "experian" { "off" } else { "on" };
        assert_eq!((&told["slug"], &told["state"]), (&json!(info.slug), &json!(state)));
        assert_eq!(told["max_records"], info.accepts.max_records);
        assert_eq!(told["options"], json!(info.accepts.options));
        assert_eq!(told.get("retention_days").is_some(), info.retention_days.is_some());
        assert_eq!(told.get("quota").is_some(), state == "on");
        assert!(told.get("last_call").is_none());
    }
    let quota = &providers[0]["quota"];
    assert_eq!((&quota["calls"], &quota["per_seconds"]), (&json!(10), &json!(1)));
}
