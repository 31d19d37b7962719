//! A vendor's webhook: a hint that costs at most one more poll, and never data.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::json;

use crate::helpers::{Options, Reply, TestGateway, eventually, head, order, raw, relay};

const TOKEN: &str = "0123456789abcdefTOKEN0123456789abcdef";

/// Every vendor that calls gets a token of its own.
fn options(public_url: &str) -> Options {
    let options = Options::default().following().set("server.public_url", public_url);
    let calling = VENDORS.iter().filter(|vendor| vendor.info.webhooks).map(|vendor| vendor.info.slug);
    calling.fold(options, |options, slug| options.vendor(slug, "webhook_token", TOKEN))
}

#[tokio::test]
async fn who_has_not_the_token_is_refused_before_the_body_is_read() {
    let gateway = options("https://gateway.example").start().await;
    for slug in ["enrow", "experian", "nobody"] {
        let since = Instant::now();
        let unsent = head("POST", &format!("/webhooks/{slug}/wrong"), "content-length: 60000\r\n");
        raw(gateway.address, unsent.as_bytes()).await.assert_problem(404, "route_not_found");
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
}

async fn call(gateway: &TestGateway, slug: &str, body: impl Into<reqwest::Body>) {
    let reply =
        gateway.send(gateway.request(Method::POST, &format!("/webhooks/{slug}/{TOKEN}")).body(body)).await;
    assert_eq!((reply.status, reply.body), (200, json!({})));
}

fn calling() -> impl Iterator<Item = &'static str> {
    VENDORS.iter().filter(|vendor| vendor.info.webhooks).map(|vendor| vendor.info.slug)
}

#[tokio::test]
async fn the_vendors_own_call_finishes_a_batch_that_nobody_polls() {
    for slug in calling() {
        let (url, to) = relay().await;
        // The first poll is minutes away.
        let gateway = options(&url).set("cache.running_ttl", "10m").start().await;
        to.set(gateway.address).unwrap();
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        gateway.advance_seconds(60);
        assert_eq!(gateway.has_ended(slug, reply.id()).await["status"], "completed");
        assert_eq!(gateway.polls(slug, reply.id()).await, 1);
        let counted = eventually("the call is answered");
        let labels = ["/webhooks/{provider}/{token}", "200"];
        while !counted.is(gateway.metric("http_requests_total", &labels).await == 1).await {}
    }
}

#[tokio::test]
async fn a_call_that_is_repeated_costs_one_poll() {
    for slug in calling() {
        let gateway = options("https://phones.example.com").start().await;
        gateway.adjust(slug, json!({"pace_ms": 36_000_000})).await;
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        gateway.follow_for(3_600).await;
        let polls = gateway.polls(slug, reply.id()).await;
        // Not due for ten minutes; whatever the call says, the batch itself says that it runs.
        let body = json!({"event": "x", "id": reply.id(), "status": "completed", "results": [{"number": "+15705551234"}]});
        gateway.advance_seconds(60);
        let since = Instant::now();
        for _ in 0..20 {
            call(&gateway, slug, body.to_string()).await;
            gateway.store.is_followed_up(&gateway.clock).await;
        }
        // At most one in two seconds.
        let most = 1 + usize::try_from(since.elapsed().as_secs()).unwrap() / 2;
        let asked = gateway.polls(slug, reply.id()).await - polls;
        assert!((1..=most).contains(&asked), "{slug}: {asked}");
        assert_eq!(gateway.batch(slug, reply.id()).await.batch()["status"], "running");
        // Those that came too early are heeded by one poll, and then there is no more to heed.
        gateway.follow_for(3).await;
        let asked = gateway.polls(slug, reply.id()).await;
        gateway.follow_for(60).await;
        assert_eq!(gateway.polls(slug, reply.id()).await, asked);
    }
}

#[tokio::test]
async fn a_call_about_a_batch_that_nobody_waits_for_costs_nothing() {
    for slug in calling() {
        let gateway = options("https://phones.example.com").start().await;
        gateway.batch(slug, "sandbox-completed").await.batch();
        gateway.erase(slug, "sandbox-failed").await;
        let calls = gateway.calls(slug).await;
        for body in [
            json!({"id": "sandbox-completed"}).to_string(),
            json!({"id": "sandbox-failed"}).to_string(),
            json!({"id": "sandbox-running"}).to_string(),
            json!({"id": "../../admin"}).to_string(),
            json!({"id": 7}).to_string(),
            json!({"id": null}).to_string(),
            json!([]).to_string(),
            "null".to_owned(),
            String::new(),
            "<html>".to_owned(),
            "[".repeat(60_000),
        ] {
            call(&gateway, slug, body).await;
        }
        call(&gateway, slug, b"\xff\xfe\x00".to_vec()).await;
        let path = format!("/webhooks/{slug}/{TOKEN}");
        let large = gateway.send(gateway.request(Method::POST, &path).body(vec![b' '; 64 * 1024 + 1])).await;
        large.assert_problem(413, "body_too_large");
        assert!(!large.text().contains(TOKEN));
        gateway.follow_for(60).await;
        assert_eq!(gateway.calls(slug).await, calls);
        assert_eq!(gateway.listed(slug, "sandbox-running").await, None);
        gateway.batch(slug, "sandbox-failed").await.assert_problem(410, "batch_erased");
    }
}

#[tokio::test]
async fn a_forged_id_costs_one_poll_while_a_submission_is_in_doubt_and_settles_nothing() {
    for slug in calling() {
        let gateway = options("https://phones.example.com").start().await;
        gateway.fault(slug, json!({"times": 1, "method": "POST", "answer": {"status": 500}})).await;
        let lost = gateway.submit(slug, "k", &order(slug)).await;
        lost.assert_problem(504, "submission_in_doubt");
        for _ in 0..5 {
            for id in ["forged", "sandbox-completed"] {
                call(&gateway, slug, json!({"id": id}).to_string()).await;
                gateway.store.is_followed_up(&gateway.clock).await;
            }
        }
        for id in ["forged", "sandbox-completed"] {
            assert_eq!(gateway.polls(slug, id).await, 1, "{id}");
        }
        assert_eq!(gateway.submission(lost.submission()).await["state"], "in_doubt");
        assert_eq!(gateway.posts(slug).await, 1);
        // What was only looked at is nobody's.
        gateway.batch(slug, "forged").await.assert_problem(404, "batch_not_found");
        let shown = gateway.batch(slug, "sandbox-completed").await;
        assert_eq!(shown.batch().get("submission_id"), None);
    }
}

#[tokio::test]
async fn the_token_is_in_no_log_no_metric_and_no_answer() {
    let options = options("https://phones.example.com").set("log.filter", "debug,hyper=off");
    let mut gateway = options.spawn().await;
    let mut statuses = BTreeMap::new();
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let submit = gateway.http.post(format!("{}/batches/{slug}", gateway.url));
        let submit = submit.header("idempotency-key", slug).header("content-type", "application/json");
        let reply = Reply::of(submit.body(order(slug).to_string()).send().await.unwrap()).await;
        assert!(!reply.text().contains(TOKEN));
        let id = reply.id();
        for path in [
            format!("/webhooks/{slug}/{TOKEN}"),
            format!("/webhooks/{slug}/{TOKEN}/"),
            format!("/webhooks/{slug}/{TOKEN}?x={TOKEN}"),
            format!("/webhooks/nobody/{TOKEN}"),
            format!("/Webhooks/{slug}/{TOKEN}"),
        ] {
            for method in [Method::POST, Method::GET, Method::DELETE] {
                let request = gateway.http.request(method, format!("{}{path}", gateway.url));
                let reply =
                    Reply::of(request.body(json!({"id": id}).to_string()).send().await.unwrap()).await;
                assert!(!reply.text().contains(TOKEN), "{path}: {}", reply.text());
                *statuses.entry(reply.status).or_insert(0) += 1;
            }
        }
    }
    assert!(statuses[&200] > 0 && statuses[&404] > 0 && statuses[&405] > 0, "{statuses:?}");
    let metrics = gateway.get("/metrics").await.text();
    gateway.process.terminate();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    let lines = gateway.process.lines();
    assert!(lines.iter().any(|line| line.contains("/webhooks/{provider}/{token}")));
    for line in lines.iter().chain([&metrics]) {
        assert!(!line.contains("TOKEN"), "{line}");
    }
}
