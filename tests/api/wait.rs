//! Waiting for the end of a batch in one call, `Prefer: wait=N`.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use phone_gateway::providers::VENDORS;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::helpers::{
    Answer, Options, Replies, Reply, TestGateway, eventually, has_read_everything, head, order, read_reply,
};

/// A gateway that follows, and a batch at work there.
async fn at_work(slug: &str) -> (TestGateway, String) {
    let gateway = Options::default().following().start().await;
    let reply = gateway.submit(slug, "k", &order(slug)).await;
    reply.accepted();
    (gateway, reply.id().to_owned())
}

fn waiting(gateway: &TestGateway, slug: &str, id: &str, prefer: &str) -> RequestBuilder {
    gateway.request(Method::GET, &format!("/batches/{slug}/{id}")).header("prefer", prefer)
}

fn begin(request: RequestBuilder) -> JoinHandle<Reply> {
    tokio::spawn(async move { Reply::of(request.send().await.unwrap()).await })
}

#[tokio::test]
async fn whoever_waits_gets_the_end_as_soon_as_it_is_there() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let (gateway, id) = at_work(slug).await;
        let since = Instant::now();
        let reply = begin(waiting(&gateway, slug, &id, "respond-async, wait=30"));
        gateway.follow_for(3).await;
        assert!(!reply.is_finished(), "the batch is at work");
        gateway.advance_seconds(60);
        let reply = reply.await.unwrap();
        assert_eq!(
            (&reply.batch()["status"], reply.header("preference-applied")),
            (&json!("completed"), Some("wait=30"))
        );
        assert_eq!(reply.header("vary"), Some("Prefer"));
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        // It is the same document as for everybody else.
        assert_eq!(gateway.batch(slug, &id).await.bytes, reply.bytes);
    }
}

#[tokio::test]
async fn when_the_time_is_over_the_batch_is_answered_as_it_is() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let (gateway, id) = at_work(slug).await;
        let since = Instant::now();
        let reply = gateway.send(waiting(&gateway, slug, &id, "wait=1")).await;
        assert!(since.elapsed() >= Duration::from_secs(1));
        assert_eq!(
            (&reply.batch()["done"], reply.header("preference-applied")),
            (&json!(false), Some("wait=1"))
        );
    }
}

#[tokio::test]
async fn what_needs_no_waiting_is_answered_at_once() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let since = Instant::now();
        let done = gateway.send(waiting(&gateway, slug, "sandbox-completed", "wait=60")).await;
        assert_eq!(
            (&done.batch()["done"], done.header("preference-applied")),
            (&json!(true), Some("wait=50"))
        );
        let unknown = gateway.send(waiting(&gateway, slug, "sandbox-not-found", "wait=60")).await;
        unknown.assert_problem(404, "batch_not_found");
        let invalid = gateway.send(waiting(&gateway, slug, "a.b", "wait=60")).await;
        invalid.assert_problem(400, "invalid_batch_id");
        // Malformed, or nothing to wait for.
        for prefer in
            ["wait", "wait=", "wait=-1", "wait=1.5", "wait=x, wait=60", "respond-async", "", "wait=0"]
        {
            let reply = gateway.send(waiting(&gateway, slug, "sandbox-running", prefer)).await;
            let applied = (prefer == "wait=0").then_some("wait=0");
            assert_eq!(
                (&reply.batch()["done"], reply.header("preference-applied")),
                (&json!(false), applied)
            );
        }
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_wait_cost_one_poll_at_a_time() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        gateway.adjust(slug, json!({"pace_ms": 36_000_000})).await;
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        let id = reply.accepted()["id"].as_str().unwrap();
        gateway.follow_for(3_600).await;
        let request = head("GET", &format!("/batches/{slug}/{id}"), "prefer: wait=60\r\n");
        let mut callers = Vec::new();
        for _ in 0..1_000 {
            let mut caller = TcpStream::connect(gateway.address).await.unwrap();
            caller.write_all(request.as_bytes()).await.unwrap();
            callers.push(caller);
        }
        let read = eventually("every request is read");
        while !read.is(has_read_everything(gateway.address)).await {}
        // Who came late may have looked for himself. From here on, each poll is the follower's.
        let mut polls = gateway.polls(slug, id).await;
        for _ in 0..2 {
            gateway.follow_for(700).await;
            polls += 1;
            assert_eq!(gateway.polls(slug, id).await, polls);
        }
        gateway.advance_seconds(36_000);
        let mut replies = Vec::new();
        for mut caller in callers {
            replies.push(read_reply(&mut caller).await);
        }
        for reply in &replies {
            assert_eq!(reply.batch()["done"], true);
            assert_eq!(reply.bytes, replies[0].bytes);
        }
        assert_eq!(gateway.polls(slug, id).await, polls + 1);
    }
}

#[tokio::test]
async fn a_shutdown_lets_go_whoever_waits() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let (gateway, id) = at_work(slug).await;
        let reply = begin(waiting(&gateway, slug, &id, "wait=60"));
        // A round trip later on the same worker: the one that waits has been heard.
        gateway.follow_for(3).await;
        let since = Instant::now();
        let _remains = gateway.stop().await;
        assert_eq!(reply.await.unwrap().batch()["done"], false);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn an_erasure_lets_go_whoever_waits() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let (gateway, id) = at_work(slug).await;
        let reply = begin(waiting(&gateway, slug, &id, "wait=60"));
        gateway.follow_for(3).await;
        assert_eq!(gateway.erase(slug, &id).await.status, 204);
        reply.await.unwrap().assert_problem(410, "batch_erased");
    }
}

/// A request that waits, on a connection of its own that stays open.
async fn open(gateway: &TestGateway, slug: &str, id: &str, headers: &str) -> TcpStream {
    let mut caller = TcpStream::connect(gateway.address).await.unwrap();
    let request =
        format!("GET /batches/{slug}/{id} HTTP/1.1\r\nhost: gateway\r\nprefer: wait=60\r\n{headers}\r\n");
    caller.write_all(request.as_bytes()).await.unwrap();
    caller
}

/// Waits until so many requests wait for the end of a batch.
async fn waiters_are(gateway: &TestGateway, count: u64) {
    let waiting = eventually("so many requests wait");
    while !waiting.is(gateway.metric("batch_waiters", &[]).await == count).await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_wakes_only_its_own_waiters() {
    const WAITERS: usize = 2_000;
    const COLD: usize = 50;
    let slug = "experian";
    let options = Options::default().without_quota().set("auth.unknown_batches", "1000/1s");
    let gateway = options.start().await;
    gateway.adjust(slug, json!({"rate_limit": 1_000_000, "pace_ms": 1})).await;
    let created = |nth| {
        let new = json!({"phones": [{"number": format!("+4412062{nth:05}")}]});
        let gateway = &gateway;
        async move {
            let created = gateway.vendor(slug, Method::POST, "/phone/bulk/v1/batches", Some(&new)).await;
            let id = created.body["result"]["batch_id"].as_str().unwrap().to_owned();
            let start = format!("/phone/bulk/v1/batches/{id}/start");
            assert_eq!(gateway.vendor(slug, Method::POST, &start, None).await.status, 200);
            id
        }
    };
    let cold: Vec<_> = stream::iter(0..COLD).map(created).buffered(8).collect().await;
    gateway.adjust(slug, json!({"pace_ms": 36_000_000})).await;
    gateway.advance_seconds(1);
    let awaited: Vec<_> = stream::iter(COLD..COLD + WAITERS).map(created).buffered(8).collect().await;
    let mut callers = Vec::new();
    // As many at a time as the vendor gets calls.
    for some in awaited.chunks(8) {
        for id in some {
            callers.push(open(&gateway, slug, id, "").await);
        }
        waiters_are(&gateway, callers.len() as u64).await;
    }
    for id in &cold {
        let read = gateway.batch(slug, id).await;
        assert_eq!((&read.batch()["done"], read.cache()), (&json!(true), "miss"));
    }
    assert_eq!(gateway.metric("batch_waiters_woken_total", &[]).await, 0);
    // Two wait for the same one.
    let second = begin(waiting(&gateway, slug, &awaited[0], "wait=60"));
    waiters_are(&gateway, WAITERS as u64 + 1).await;
    assert_eq!(gateway.stop_batch(slug, &awaited[0]).await.body["status"], "stopped");
    assert_eq!(second.await.unwrap().batch()["status"], "stopped");
    waiters_are(&gateway, WAITERS as u64 - 1).await;
    assert_eq!(gateway.metric("batch_waiters_woken_total", &[]).await, 2);
    assert_eq!(gateway.erase(slug, &awaited[1]).await.status, 204);
    waiters_are(&gateway, WAITERS as u64 - 2).await;
    assert_eq!(gateway.metric("batch_waiters_woken_total", &[]).await, 3);
    // Those who leave hold nothing any more.
    drop(callers);
    waiters_are(&gateway, 0).await;
    assert_eq!(gateway.metric("batch_waiters_woken_total", &[]).await, 3);
}

#[tokio::test]
async fn a_caller_who_leaves_waits_no_longer() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for headers in ["", "connection: close\r\n"] {
            let (gateway, id) = at_work(slug).await;
            // Closed, or reset.
            for linger in [None, Some(())] {
                let caller = open(&gateway, slug, &id, headers).await;
                waiters_are(&gateway, 1).await;
                if linger.is_some() {
                    caller.set_zero_linger().unwrap();
                }
                drop(caller);
                waiters_are(&gateway, 0).await;
            }
            // One that only sends no more gets the batch as it stands.
            let mut caller = open(&gateway, slug, &id, headers).await;
            waiters_are(&gateway, 1).await;
            caller.shutdown().await.unwrap();
            assert_eq!(read_reply(&mut caller).await.batch()["done"], false);
        }
    }
}

/// A webhook or a reader may bring the end before the answer to the submission is processed.
#[tokio::test]
async fn an_end_that_comes_before_the_answer_to_the_submission_stays_the_end() {
    let vendor = Replies::start().await;
    let options = Options::default().scripted(&vendor).vendor("enrow", "timeout", "10s");
    let gateway = options.start().await;
    let mut accepted = Answer::json(&json!({"id": "b1", "credits_used": 120, "message": "operating"}));
    accepted.drip = Some(Duration::from_millis(20));
    vendor.on("", accepted);
    let submission = begin(gateway.submission_of("enrow", "k", &order("enrow")));
    let sent = eventually("the vendor has the request");
    while !sent.is(vendor.posts() == 1).await {}
    let body: Value = serde_json::from_slice(&vendor.requests()[0].body).unwrap();
    vendor.clear();
    let rows: Vec<_> = (0..3).map(|index| json!({"index": index, "qualification": "not_found"})).collect();
    vendor.on(
        "",
        Answer::json(&json!({
            "general": {"id": "b1", "status": "completed", "custom": body["custom"]},
            "stats": {"requested": 3, "credits_cost": 120, "credits_to_refund": 120}, "results": rows,
        })),
    );
    let read = gateway.batch("enrow", "b1").await;
    assert_eq!(read.batch()["status"], "completed");
    assert!(!submission.is_finished(), "the answer to the submission is still on its way");
    let submitted = submission.await.unwrap();
    assert_eq!((submitted.status, submitted.id()), (202, "b1"), "{}", submitted.text());
    let calls = vendor.requests().len();
    let again = Reply::of(waiting(&gateway, "enrow", "b1", "wait=8").send().await.unwrap()).await;
    assert_eq!((&again.batch()["status"], again.submission()), (&json!("completed"), submitted.submission()));
    assert_eq!(again.cache(), "hit");
    assert_eq!(vendor.requests().len(), calls);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_settings_allow() {
    let gateway = Options::default().set("server.max_wait", "1s").start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let reply = gateway.send(waiting(&gateway, slug, "sandbox-running", "wait=60")).await;
        assert_eq!(
            (&reply.batch()["done"], reply.header("preference-applied")),
            (&json!(false), Some("wait=1"))
        );
    }
}
