//! What is kept and for how long, and how many callers share one call to a vendor.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::SignedDuration;
use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::helpers::{
    ChildGateway, Options, Reply, TestGateway, eventually, has_read_everything, head, read_reply,
};

#[tokio::test]
async fn a_tag_that_is_known_is_answered_with_304_and_no_body() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let path = format!("/batches/{slug}/sandbox-completed");
        let first = gateway.get(&path).await;
        first.batch();
        let tag = first.header("etag").unwrap().to_owned();
        let again = gateway.get(&path).await;
        assert_eq!(
            (again.header("etag"), &again.bytes),
            (Some(tag.as_str()), &first.bytes),
            "the same bytes"
        );
        for (tags, status) in [
            (tag.clone(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"other\", {tag}"), 304),
            (format!("\"other\",W/\"another\" , W/{tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (tag.trim_matches('"').to_owned(), 200),
            (String::new(), 200),
        ] {
            let reply =
                gateway.send(gateway.request(Method::GET, &path).header("if-none-match", &tags)).await;
            assert_eq!(reply.status, status, "{tags}");
            assert_eq!(reply.header("etag"), Some(tag.as_str()));
            assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
            assert_eq!(reply.cache(), "hit");
            assert!(reply.header("x-request-id").is_some() && reply.header("traceparent").is_some());
            if status == 304 {
                assert!(reply.bytes.is_empty());
                assert_eq!(reply.header("content-type"), None);
            } else {
                assert_eq!(reply.bytes, first.bytes);
            }
        }
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        for id in ["sandbox-completed", "sandbox-running", "sandbox-not-found"] {
            let path = format!("/batches/{}/{id}", vendor.info.slug);
            let get = gateway.get(&path).await;
            let head = gateway.send(gateway.request(Method::HEAD, &path)).await;
            assert_eq!((head.status, head.bytes.len()), (get.status, 0), "{path}");
            let length = head.header("content-length").expect("a length, as GET has it");
            assert!(length == get.header("content-length").unwrap() || get.status == 404, "{path}");
            for name in ["content-type", "etag", "cache-control", "retry-after"] {
                assert_eq!(head.header(name), get.header(name), "{path} {name}");
            }
        }
    }
}

/// Lets the first vendor give these answers for a batch, in this order.
async fn script(gateway: &TestGateway, id: &str, answers: &[(&str, Value)]) {
    for (status, rest) in answers {
        let mut answer = rest.clone();
        answer["general"] = json!({"id": id, "status": status});
        gateway
            .fault("enrow", json!({"times": 1, "answer": {"status": 200, "body": answer.to_string()}}))
            .await;
    }
}

fn one_found(stats: &Value) -> Value {
    let result = json!({"index": 0, "number": "+15705551234", "country": "US", "qualification": "found"});
    json!({"results": [result], "stats": stats})
}

#[tokio::test]
async fn without_a_lifetime_every_read_of_a_running_batch_asks_the_vendor() {
    let gateway = Options::default().set("cache.running_ttl", "0s").start().await;
    for calls in 1..=3 {
        let reply = gateway.batch("enrow", "sandbox-running").await;
        assert_eq!((reply.cache(), reply.header("retry-after")), ("miss", Some("1")));
        assert_eq!(gateway.calls("enrow").await, calls);
    }
}

#[tokio::test]
async fn a_batch_that_has_ended_never_runs_again() {
    let gateway = TestGateway::start().await;
    let short = one_found(&json!({"requested": 2, "found": 2}));
    script(&gateway, "x", &[("completed", short), ("ongoing", json!({})), ("ongoing", json!({}))]).await;
    let ended = gateway.batch("enrow", "x").await;
    assert_eq!(ended.batch()["status"], "completed");
    for backwards in [1, 2] {
        gateway.clock.advance(SignedDuration::from_secs(61));
        let again = gateway.batch("enrow", "x").await;
        assert_eq!((again.cache(), &again.bytes), ("miss", &ended.bytes));
        let counted = gateway.metric("provider_status_regressions_total", &["provider=\"enrow\""]).await;
        assert_eq!(counted, backwards);
    }
}

#[tokio::test]
async fn a_list_of_unknown_length_is_not_kept_for_good() {
    let gateway = TestGateway::start().await;
    let (unknown, known) = (one_found(&json!({})), one_found(&json!({"requested": 1})));
    script(&gateway, "x", &[("completed", unknown), ("completed", known)]).await;
    assert_eq!(gateway.batch("enrow", "x").await.batch()["progress"], Value::Null);
    gateway.clock.advance(SignedDuration::from_secs(3));
    assert_eq!(gateway.batch("enrow", "x").await.batch()["progress"]["requested"], 1);
    gateway.clock.advance(SignedDuration::from_hours(24));
    assert_eq!(gateway.batch("enrow", "x").await.cache(), "hit");
    assert_eq!(gateway.calls("enrow").await, 2);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_make_a_passing_state_last() {
    let gateway = TestGateway::start().await;
    for id in ["sandbox-running", "sandbox-not-found"] {
        gateway.batch("enrow", id).await;
        assert_eq!(gateway.batch("enrow", id).await.header("cache-status"), Some("phone-gateway; hit"));
        gateway.clock.advance(SignedDuration::from_hours(-1));
        let again = gateway.batch("enrow", id).await;
        assert_eq!(again.header("cache-status"), Some("phone-gateway; fwd=miss"), "{id}");
    }
}

#[tokio::test]
async fn the_tag_changes_with_the_batch() {
    let gateway = TestGateway::start().await;
    let order = json!({"searches": [{"linkedin_url": "https://www.linkedin.com/in/ada"}]});
    let created = gateway.vendor("enrow", Method::POST, "/phone/bulk", Some(&order)).await;
    let id = created.body["id"].as_str().unwrap();
    let running = gateway.batch("enrow", id).await;
    gateway.advance_seconds(60);
    let request = gateway.request(Method::GET, &format!("/batches/enrow/{id}"));
    let completed = gateway.send(request.header("if-none-match", running.header("etag").unwrap())).await;
    assert_eq!(completed.batch()["status"], "completed");
    assert_ne!(completed.header("etag"), running.header("etag"));
}

#[tokio::test]
async fn batches_leave_memory_when_there_is_no_room_and_come_back_from_the_store() {
    let gateway = Options::default().set("cache.max_bytes", "1").start().await;
    for cache in ["miss", "store", "store"] {
        let reply = gateway.batch("enrow", "sandbox-completed").await;
        assert_eq!((reply.status, reply.cache()), (200, cache));
        assert_eq!(gateway.calls("enrow").await, 1);
        // The size is what is left after pending evictions.
        assert_eq!(gateway.metric("cache_size_bytes", &[]).await, 0);
    }
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_call() {
    for vendor in VENDORS {
        let gateway = TestGateway::start().await;
        let slug = vendor.info.slug;
        gateway.fault(slug, json!({"times": 1, "hang": true})).await;
        let path = format!("/batches/{slug}/sandbox-completed");
        let mut readers = JoinSet::new();
        for _ in 0..20 {
            readers.spawn(gateway.request(Method::GET, &path).send());
        }
        let called = eventually("the vendor is called");
        while !called.is(gateway.calls(slug).await >= 1).await {}
        gateway.clear_faults(slug).await;
        let mut bodies = Vec::new();
        for response in readers.join_all().await {
            let reply = Reply::of(response.unwrap()).await;
            reply.batch();
            bodies.push((reply.cache(), reply.bytes));
        }
        assert!(bodies.iter().all(|(_, body)| *body == bodies[0].1));
        assert_eq!(bodies.iter().filter(|(cache, _)| *cache == "miss").count(), 1, "{slug}");
        let alone = TestGateway::start().await;
        alone.batch(slug, "sandbox-completed").await;
        assert_eq!(gateway.calls(slug).await, alone.calls(slug).await, "as many calls as one caller causes");
    }
}

/// Ten thousand connections need most of this process's file descriptors: one crowd at a time.
static CROWD: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(Default::default);
const CALLERS: usize = 10_000;
/// Fits into the gateway's queue of connections that wait to be accepted.
const WAVE: usize = 500;
const PATH: &str = "/batches/enrow/sandbox-completed";

/// A gateway of its own process whose only vendor call hangs until the test lets it go.
async fn with_a_hanging_vendor() -> ChildGateway {
    let options = Options::default()
        .set("log.filter", "phone_gateway::app=info,warn")
        .set("server.workers", "2")
        // Replies are read until their connections close.
        .set("server.keep_alive", "5s")
        .set("http.read_deadline", "60s")
        .set("http.stall_timeout", "60s")
        .vendor("enrow", "timeout", "60s");
    let gateway = options.spawn().await;
    gateway.fault("enrow", json!({"times": 1, "hang": true})).await;
    gateway
}

/// One caller that has sent its request and waits.
async fn caller(address: SocketAddr, request: String) -> TcpStream {
    let refused = eventually("a connection is accepted");
    let mut stream = loop {
        let connected = TcpStream::connect(address).await;
        if refused.is(connected.is_ok()).await {
            break connected.unwrap();
        }
    };
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The first caller, whose request has reached the vendor, and all the others, none of them answered yet. So
/// many of the first ones will leave.
async fn crowd(gateway: &ChildGateway, leaving: usize) -> Vec<TcpStream> {
    let request = |nth| if nth < leaving { impatient(PATH) } else { head("GET", PATH, "") };
    let mut callers = vec![caller(gateway.address, request(0)).await];
    let called = eventually("the vendor is called");
    while !called.is(gateway.calls("enrow").await == 1).await {}
    while callers.len() < CALLERS {
        let mut wave = JoinSet::new();
        for nth in callers.len()..CALLERS.min(callers.len() + WAVE) {
            wave.spawn(caller(gateway.address, request(nth)));
        }
        callers.extend(wave.join_all().await);
    }
    let read = eventually("every request is read");
    while !read.is(has_read_everything(gateway.address)).await {}
    callers
}

/// A request on a connection that is to stay open: only while it listens for the next one does the server notice
/// that a caller has left.
fn impatient(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n")
}

/// Resets the connection: the server drops the handler, which it does not when the connection is merely closed.
fn hang_up(caller: TcpStream) {
    caller.set_zero_linger().unwrap();
    drop(caller);
}

async fn answers(callers: Vec<TcpStream>) -> Vec<Reply> {
    let mut readers = JoinSet::new();
    for mut caller in callers {
        readers.spawn(async move {
            tokio::time::timeout(Duration::from_mins(1), read_reply(&mut caller)).await.expect("an answer")
        });
    }
    readers.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_of_one_cold_batch_are_one_vendor_call() {
    let _alone = CROWD.lock().await;
    let gateway = with_a_hanging_vendor().await;
    let callers = crowd(&gateway, 0).await;
    assert_eq!(callers.len(), CALLERS);
    gateway.clear_faults("enrow").await;
    let replies = answers(callers).await;
    for reply in &replies {
        reply.batch();
        assert_eq!(reply.bytes, replies[0].bytes);
    }
    let count = |cache: &str| replies.iter().filter(|reply| reply.cache() == cache).count();
    let (misses, collapsed, hits) = (count("miss"), count("collapsed"), count("hit"));
    assert_eq!((misses, collapsed + hits), (1, CALLERS - 1));
    assert!(collapsed > CALLERS - 10, "they waited for the call of the first: {collapsed}");
    assert_eq!(gateway.calls("enrow").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_call_goes_on_when_its_caller_and_most_others_hang_up() {
    let _alone = CROWD.lock().await;
    let gateway = with_a_hanging_vendor().await;
    // The first, who caused the call, is among those that leave.
    let leaving = CALLERS * 8 / 10;
    let mut callers = crowd(&gateway, leaving).await;
    let stay = callers.split_off(leaving);
    callers.into_iter().for_each(hang_up);
    // The gateway answers others meanwhile, and it has noticed some who left.
    assert_eq!(gateway.get("/livez").await.status, 200);
    gateway.clear_faults("enrow").await;
    let replies = answers(stay).await;
    assert_eq!(replies.len(), CALLERS - leaving);
    for reply in &replies {
        reply.batch();
    }
    assert_eq!(gateway.calls("enrow").await, 1);
    let later = gateway.get(PATH).await;
    assert_eq!((later.status, later.cache()), (200, "hit"));
    assert_eq!(gateway.calls("enrow").await, 1);
}

#[tokio::test]
async fn the_answer_is_kept_when_everybody_has_hung_up() {
    for vendor in VENDORS {
        let gateway = TestGateway::start().await;
        let slug = vendor.info.slug;
        gateway.fault(slug, json!({"times": 1, "hang": true})).await;
        let path = format!("/batches/{slug}/sandbox-completed");
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(impatient(&path).as_bytes()).await.unwrap();
        let called = eventually("the vendor is called");
        while !called.is(gateway.calls(slug).await == 1).await {}
        hang_up(stream);
        // A round trip on the same worker: the hanging up was seen before it.
        assert_eq!(gateway.get("/livez").await.status, 200);
        let noted = eventually("the caller who hung up is counted");
        while !noted.is(gateway.metric("http_requests_total", &["status=\"499\""]).await == 1).await {}
        gateway.clear_faults(slug).await;
        let kept = eventually("the batch is in memory");
        while !kept.is(gateway.metric("cache_size_bytes", &[]).await > 0).await {}
        let counted = eventually("the read is counted");
        let reads = ["cache=\"miss\"", &format!("provider=\"{slug}\"")];
        while !counted.is(gateway.metric("batch_reads_total", &reads).await == 1).await {}
        let calls = gateway.calls(slug).await;
        let reply = gateway.get(&path).await;
        assert_eq!((reply.status, reply.cache()), (200, "hit"), "{slug}");
        assert_eq!(gateway.calls(slug).await, calls);
    }
}
