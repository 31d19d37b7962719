//! Following per vendor: a vendor delays nobody else's batches, awaited batches come first, and a list stands for many
//! polls.

use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Options, Reply, TestGateway, eventually, order_of};

/// More than are fetched one by one where the vendor has a list.
const MANY: usize = 12;
/// Longer than any test.
const LONG: i64 = 36_000;

/// Batches that were submitted, and that nobody has polled yet: they end `takes_ms` after their submission.
async fn submitted(gateway: &TestGateway, slug: &str, count: usize, takes_ms: i64) -> Vec<String> {
    gateway.adjust(slug, json!({"pace_ms": takes_ms, "rate_limit": 1_000_000})).await;
    let mut ids = Vec::new();
    for nth in 0..count {
        let reply = gateway.submit(slug, &format!("{slug} {takes_ms} {nth}"), &order_of(slug, 1)).await;
        reply.accepted();
        ids.push(reply.id().to_owned());
    }
    ids
}

/// The vendor with a list, and a gateway that follows nothing yet.
async fn with_a_list() -> (&'static str, TestGateway) {
    let slug = VENDORS.iter().find(|vendor| vendor.info.lists).unwrap().info.slug;
    (slug, Options::default().without_quota().start().await)
}

fn following() -> Options {
    Options::default().following().without_quota().without_circuit().set("http.attempts", "1")
}

/// How often the vendor was asked for its list.
async fn lists(gateway: &TestGateway, slug: &str) -> usize {
    let calls = gateway.calls_with(slug, "GET").await;
    calls.iter().filter(|call| call["path"].as_str().unwrap().ends_with("/batches")).count()
}

async fn polls(gateway: &TestGateway, slug: &str) -> usize {
    gateway.calls_with(slug, "GET").await.len() - lists(gateway, slug).await
}

/// The vendor's own list as it stands, to be changed.
async fn list_of(gateway: &TestGateway, slug: &str) -> Vec<Value> {
    let mut list = gateway.vendor(slug, Method::GET, "/phone/bulk/v1/batches", None).await;
    serde_json::from_value(list.body["result"]["batches"].take()).unwrap()
}

#[tokio::test]
async fn a_slow_vendor_with_many_due_batches_delays_no_other_vendor() {
    for slow in VENDORS.iter().map(|vendor| vendor.info.slug) {
        let gateway = Options::default().without_quota().start().await;
        let others = VENDORS.iter().map(|vendor| vendor.info.slug).filter(|slug| *slug != slow);
        submitted(&gateway, slow, 60, 1).await;
        let mut ids = Vec::new();
        for slug in others {
            ids.push((slug, submitted(&gateway, slug, 3, 1).await));
        }
        gateway.fault(slow, json!({"method": "GET", "hang": true})).await;
        let gateway = gateway.restart(following().set("follow.polls", "2")).await;
        gateway.advance_seconds(60);
        for (slug, ids) in &ids {
            for id in ids {
                gateway.has_ended(slug, id).await;
            }
        }
        // None of its calls has come back: they are as many as it has polls, and perhaps a list.
        let called = gateway.metric("provider_in_flight", &[&format!("provider=\"{slow}\"")]).await;
        assert!(called <= 3, "{slow}: {called}");
        gateway.clear_faults(slow).await;
    }
}

#[tokio::test]
async fn batches_that_callers_wait_for_are_polled_first() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().without_quota().start().await;
        let ids = submitted(&gateway, slug, 30, LONG * 1_000).await;
        let last = ids.last().unwrap().clone();
        let gateway = gateway.restart(following().set("follow.polls", "1")).await;
        gateway.follow_for(LONG / 2).await;
        let path = format!("/batches/{slug}/{last}");
        let wait = gateway.request(Method::GET, &path).header("prefer", "wait=60");
        let waiter = tokio::spawn(async move { Reply::of(wait.send().await.unwrap()).await });
        let waits = eventually("the caller waits");
        while !waits.is(gateway.metric("batch_waiters", &[]).await == 1).await {}
        gateway.follow_for(0).await;
        let before = polls(&gateway, slug).await;
        gateway.advance_seconds(LONG);
        assert_eq!(waiter.await.unwrap().batch()["status"], "completed");
        let calls = gateway.calls_with(slug, "GET").await;
        let fetched = calls.iter().filter(|call| !call["path"].as_str().unwrap().ends_with("/batches"));
        let at = |call: &Value| {
            [&call["path"], &call["query"]].iter().any(|place| place.as_str().unwrap().ends_with(&last))
        };
        let first = fetched.skip(before).position(at);
        // A poll may have been chosen before the clock moved.
        assert!(first.is_some_and(|first| first <= 2), "{slug}: {first:?}");
    }
}

#[tokio::test]
async fn many_due_batches_cost_one_list_and_the_fetch_of_each_that_is_done() {
    let (slug, gateway) = with_a_list().await;
    let done = submitted(&gateway, slug, 5, 1).await;
    let running = submitted(&gateway, slug, 3 * MANY, LONG * 1_000).await;
    gateway.advance_seconds(600);
    let gateway = gateway.restart(following()).await;
    gateway.follow_for(0).await;
    for id in &done {
        gateway.has_ended(slug, id).await;
        assert_eq!(gateway.polls(slug, id).await, 1);
    }
    for id in &running {
        assert_eq!(gateway.polls(slug, id).await, 0, "the list says that it runs");
    }
    assert_eq!(lists(&gateway, slug).await, 1);
    // They are due again: the next round is one list again.
    gateway.follow_for(700).await;
    // Those that were done took their status and their results.
    assert_eq!((lists(&gateway, slug).await, polls(&gateway, slug).await), (2, 2 * done.len()));
    // When they are all done, each is fetched.
    gateway.follow_for(LONG).await;
    for id in &running {
        gateway.has_ended(slug, id).await;
    }
    assert_eq!((lists(&gateway, slug).await, gateway.polls(slug, &running[0]).await), (3, 1));
}

#[tokio::test]
async fn a_few_due_batches_are_fetched_without_a_list() {
    let (slug, gateway) = with_a_list().await;
    submitted(&gateway, slug, 3, LONG * 1_000).await;
    gateway.advance_seconds(600);
    let gateway = gateway.restart(following()).await;
    gateway.follow_for(0).await;
    assert_eq!((lists(&gateway, slug).await, polls(&gateway, slug).await), (0, 3));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_replaced_by_single_polls() {
    let whole = |batches: Value| json!({"result": {"batches": batches}}).to_string();
    for (status, body) in [
        (200, whole(json!([]))),
        (200, whole(json!(["", 7, null, {}, {"batch_id": {}, "status": "processing"}]))),
        (200, whole(json!("none"))),
        (200, r#"{"result":{"batches":[{"batch_id":"7c0a1f3e-2b64-4c58-9d1e-0a6f5be2c913","sta"#.to_owned()),
        (404, "{}".to_owned()),
        (500, String::new()),
    ] {
        let (slug, gateway) = with_a_list().await;
        let ids = submitted(&gateway, slug, MANY, 1).await;
        let answer = json!({"status": status, "body": body});
        gateway.fault(slug, json!({"times": 1, "method": "GET", "answer": answer})).await;
        gateway.advance_seconds(600);
        let gateway = gateway.restart(following()).await;
        gateway.follow_for(0).await;
        for id in &ids {
            gateway.has_ended(slug, id).await;
        }
        let asked = (lists(&gateway, slug).await, polls(&gateway, slug).await);
        assert_eq!(asked, (1, 2 * MANY), "{status} {body}");
    }
}

#[tokio::test]
async fn a_list_neither_ends_a_batch_nor_moves_it_backwards() {
    let (slug, gateway) = with_a_list().await;
    let ids = submitted(&gateway, slug, MANY, LONG * 1_000).await;
    let mut list = list_of(&gateway, slug).await;
    assert_eq!(list.len(), MANY);
    // The last two are listed as they are.
    for (entry, wrong) in list.iter_mut().zip([
        json!({"status": "completed"}),
        json!({"status": "stopped"}),
        json!({"status": "submitted"}),
        json!({"status": "paused"}),
        json!({"status": null}),
        json!({"status": 7}),
        json!({"batch_id": null}),
        json!({"batch_id": "another"}),
        json!({"batch_id": ids[0]}),
        json!({"batch_id": ids[1], "status": "completed"}),
    ]) {
        entry.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
    }
    let body = json!({"result": {"batches": list}}).to_string();
    let answer = json!({"times": 1, "method": "GET", "answer": {"status": 200, "body": body}});
    gateway.fault(slug, answer).await;
    gateway.advance_seconds(600);
    let gateway = gateway.restart(following()).await;
    gateway.follow_for(0).await;
    assert_eq!(lists(&gateway, slug).await, 2, "one of them is the test's own");
    for (nth, id) in ids.iter().enumerate() {
        let listed = gateway.listed(slug, id).await.unwrap();
        assert_eq!((&listed["status"], &listed["done"]), (&json!("running"), &json!(false)), "{nth}");
        assert_eq!(gateway.polls(slug, id).await, usize::from(nth < MANY - 2), "{nth}");
    }
    assert_eq!(gateway.metric("provider_status_backwards_total", &[]).await, 0);
}
