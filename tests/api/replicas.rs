//! Several gateways on one store: one paid order for one key, one poll of a batch at a time, one quota.
//!
//! They share PostgreSQL. An SQLite file is one gateway's alone: there the same is asked of one process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::Row;

use crate::helpers::{Options, Replica, Reply, Site, Witness, eventually, numbered_order, path_of};

const CALLERS: usize = 64;
const BATCHES: usize = 200;
/// As many calls as the vendor allows, and in how much time.
const QUOTA: usize = 300;
const WINDOW: Duration = Duration::from_secs(1);

/// So many gateways, or the one that a file allows.
async fn start(site: &Site, count: usize) -> Vec<Replica> {
    let count = if site.store.is_file() { 1 } else { count };
    join_all((0..count).map(|_| site.start())).await
}

#[tokio::test]
async fn sixty_four_callers_with_one_key_pay_once() {
    join_all(["enrow", "experian"].map(|slug| async move {
        let site = Site::new(Options::default().set("server.workers", "2")).await;
        let replicas = start(&site, 2).await;
        // All of them are there before the vendor has answered the first.
        site.fault(slug, json!({"method": "POST", "times": 1, "delay_ms": 500})).await;
        let requests =
            replicas.iter().cycle().map(|replica| replica.submission(slug, "key", &numbered_order(slug, 1)));
        let calls = requests.take(CALLERS).map(|request| tokio::spawn(request.send()));
        let mut ids = Vec::new();
        let mut firsts = 0;
        for call in calls.collect::<Vec<_>>() {
            let reply = Reply::of(call.await.unwrap().unwrap()).await;
            assert_eq!(reply.status, 202, "{}", reply.text());
            firsts += usize::from(reply.header("idempotent-replayed").is_none());
            ids.push((path_of(&reply), reply.bytes));
        }
        assert_eq!((ids.len(), firsts), (CALLERS, 1));
        assert!(ids.iter().all(|id| *id == ids[0]), "all get the same batch");
        assert_eq!(site.taken(slug).await, 1);
        assert!(site.paid_calls(slug).await.iter().all(|(_, calls)| *calls == 1));
    }))
    .await;
}

#[tokio::test]
async fn a_key_means_one_order_whoever_comes_first() {
    let site = Site::new(Options::default()).await;
    let replicas = start(&site, 2).await;
    site.fault("enrow", json!({"method": "POST", "times": 1, "delay_ms": 300})).await;
    let calls = replicas.iter().cycle().take(10).enumerate();
    let calls = calls.map(|(nth, replica)| async move {
        (nth % 2, replica.submit("enrow", "key", &numbered_order("enrow", nth % 2)).await)
    });
    let replies = join_all(calls).await;
    let taken = replies.iter().find(|(_, reply)| reply.status == 202).expect("one is taken").0;
    for (which, reply) in replies {
        if which == taken {
            assert_eq!(reply.status, 202, "{}", reply.text());
        } else {
            reply.assert_problem(422, "idempotency_key_reused");
        }
    }
    assert_eq!(site.taken("enrow").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_follow_two_hundred_batches_within_the_quota_and_one_at_a_time() {
    let options = Options::default()
        .following()
        .set("cache.running_ttl", "0s")
        .set("log.filter", "warn,phone_gateway::app=info")
        // All are read at once, by one client that nobody knows to have them, and wait for the quota.
        .set("auth.unknown_batches", "1000/1m")
        .vendor("experian", "quota", format!("{QUOTA}/{}s", WINDOW.as_secs()));
    let site = Site::new(options).await;
    site.adjust("experian", json!({"rate_limit": 1_000_000, "pace_ms": 3_000})).await;
    let witness = Witness::start(&site.sandbox.base_url("experian"), Duration::from_millis(10)).await;
    let count = if site.store.is_file() { 1 } else { 3 };
    let replicas = join_all((0..count).map(|_| {
        let url = witness.url.clone();
        site.start_with(|options| options.clone().vendor("experian", "base_url", url))
    }))
    .await;
    // Batches that somebody else submitted.
    let ids = running_batches(&site).await;
    // Each is read once, by one of the gateways; from then on nobody asks.
    let reads = ids.iter().zip(replicas.iter().cycle());
    let replies = join_all(
        reads.map(|(id, replica)| async move { replica.get(&format!("/batches/experian/{id}")).await }),
    )
    .await;
    assert!(replies.iter().all(|reply| reply.batch()["provider"] == "experian"));

    let finished = eventually("every batch is finished");
    while !finished.is(complete(&site).await == BATCHES).await {}
    let calls = witness.calls();
    for (id, replica) in ids.iter().zip(replicas.iter().rev().cycle()) {
        let reply = replica.get(&format!("/batches/experian/{id}")).await;
        assert_eq!(reply.batch()["status"], "completed");
    }
    assert_eq!(witness.calls().len(), calls.len(), "what is finished is not asked for again");
    let statuses = &site.admin("experian").await["calls"];
    assert!(statuses.as_array().unwrap().iter().all(|call| call["status"] != 429));

    // No stretch of the window's length has more calls than the quota.
    let busiest = (0..calls.len())
        .map(|first| {
            calls[first..].iter().take_while(|call| call.began < calls[first].began + WINDOW).count()
        })
        .max()
        .unwrap();
    assert!(busiest <= QUOTA, "{busiest} calls within {WINDOW:?}");
    assert!(busiest > QUOTA / 4, "the quota was never near: {busiest} calls within {WINDOW:?}");

    // No two calls for one batch overlap.
    let mut last: HashMap<&str, Instant> = HashMap::new();
    for call in &calls {
        assert_eq!(call.method, "GET");
        // A list is about all of them.
        let Some(id) = call.target.split('/').find(|part| ids.iter().any(|id| id == part)) else {
            assert!(call.target.ends_with("/batches"), "{}", call.target);
            continue;
        };
        let ended = call.ended.expect("an answer to every call");
        let before = last.insert(id, ended);
        assert!(before.is_none_or(|before| before <= call.began), "{id} was asked for by two at once");
    }
    assert_eq!(last.len(), BATCHES);
}

/// Batches that were started at the vendor.
async fn running_batches(site: &Site) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..BATCHES {
        let new = json!({"phones": [{"number": format!("+4412062{number:05}")}]});
        let created = site.vendor("experian", Method::POST, "/phone/bulk/v1/batches", Some(&new)).await;
        ids.push(created.body["result"]["batch_id"].as_str().expect("an id").to_owned());
    }
    for id in &ids {
        let start = format!("/phone/bulk/v1/batches/{id}/start");
        assert_eq!(site.vendor("experian", Method::POST, &start, None).await.status, 200);
    }
    ids
}

/// How many batches the store has for good.
async fn complete(site: &Site) -> usize {
    let row = sqlx::query("SELECT COUNT(*) AS complete FROM batches WHERE complete = 1")
        .fetch_one(&mut site.store.connect().await)
        .await
        .unwrap();
    usize::try_from(row.get::<i64, _>("complete")).unwrap()
}

#[tokio::test]
async fn who_waits_at_one_gateway_learns_of_the_end_that_another_read() {
    // A short list of results is no final answer; its end is one for those who wait, however short a state is kept.
    for short in [false, true] {
        let site = Site::new(Options::default().set("cache.running_ttl", "0s")).await;
        let waiting = Witness::start(&site.sandbox.base_url("enrow"), Duration::ZERO).await;
        let url = waiting.url.clone();
        let is_alone = site.store.is_file();
        let here = site.start_with(|options| {
            let options = options.clone().vendor("enrow", "base_url", url);
            if is_alone { options.following() } else { options }
        });
        let here = here.await;
        let mut there = None;
        if !is_alone {
            there = Some(site.start_with(|options| options.clone().following()).await);
        }
        let two = json!({"records": [
            {"linkedin_url": "https://www.linkedin.com/in/ada"},
            {"linkedin_url": "https://www.linkedin.com/in/grace"}
        ]});
        let submitted = here.submit("enrow", "key", &two).await;
        assert_eq!(submitted.status, 202, "{}", submitted.text());
        let wait = here.request(Method::GET, &path_of(&submitted)).header("prefer", "wait=30");
        let waiter = tokio::spawn(async move { Reply::of(wait.send().await.unwrap()).await });
        let asked = eventually("the caller waits");
        while !asked.is(waiting.calls().iter().any(|call| call.method == "GET")).await {}
        let before = waiting.calls().len();
        let ended = Instant::now();
        if short {
            let id = submitted.body["id"].as_str().unwrap();
            let result =
                json!({"index": 0, "number": "+15705551234", "country": "US", "qualification": "found"});
            let answer = json!({
                "general": {"id": id, "status": "completed"},
                "stats": {"requested": 2, "found": 2},
                "results": [result],
            });
            site.fault("enrow", json!({"answer": {"status": 200, "body": answer.to_string()}})).await;
        } else {
            site.advance_seconds(60);
        }
        let reply = waiter.await.unwrap();
        assert_eq!(reply.batch()["status"], "completed");
        assert_eq!(reply.body.get("warnings").is_some(), short);
        assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
        if there.is_some() {
            assert_eq!(waiting.calls().len(), before, "the other one asked");
        }
    }
}
