//! Who sends too much is told so, and nobody else feels it.

use futures_util::future::join_all;
use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::helpers::{
    Options, Reply, TestGateway, TestStore, eventually, head, order, raw, read_reply, records,
};

async fn read_with(gateway: &TestGateway, path: &str, key: &str) -> Reply {
    gateway.send(gateway.request(Method::GET, path).bearer_auth(key)).await
}

/// A GET with a key and a header of its own, from this machine.
async fn forwarded(gateway: &TestGateway, key: &str, forwarded: &str) -> Reply {
    let headers = format!("authorization: Bearer {key}\r\n{forwarded}");
    raw(gateway.address, head("GET", "/providers", &headers).as_bytes()).await
}

/// `Retry-After` in seconds.
fn wait(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_over_its_rate_is_refused_and_told_how_it_stands() {
    let ((crm, crm_hash), (sales, sales_hash)) = (new_key().unwrap(), new_key().unwrap());
    let gateway = Options::default()
        .client("crm", &crm_hash, "")
        .set("auth.clients.crm.rate", "4/1h")
        .client("sales", &sales_hash, "")
        .start()
        .await;
    // Whatever the answer is: a batch, one that is unchanged, and two errors.
    let batch = read_with(&gateway, "/batches/enrow/sandbox-completed", &crm).await;
    batch.batch();
    let unchanged = gateway.request(Method::GET, "/batches/enrow/sandbox-completed").bearer_auth(&crm);
    let unchanged = gateway.send(unchanged.header("if-none-match", batch.header("etag").unwrap())).await;
    assert_eq!(unchanged.status, 304);
    let unknown = read_with(&gateway, "/batches/nobody/x", &crm).await;
    unknown.assert_problem(404, "unknown_provider");
    let forbidden = read_with(&gateway, "/usage?client=sales", &crm).await;
    forbidden.assert_problem(403, "forbidden");
    for (reply, left) in [(&batch, 3), (&unchanged, 2), (&unknown, 1), (&forbidden, 0)] {
        assert_eq!(reply.header("ratelimit-policy"), Some("\"client\";q=4;w=3600"));
        let limit = format!("\"client\";r={left};t={}", (4 - left) * 900);
        assert_eq!(reply.header("ratelimit"), Some(&*limit));
    }
    for _ in 0..3 {
        let refused = read_with(&gateway, "/batches/enrow/sandbox-completed", &crm).await;
        refused.assert_problem(429, "rate_limited");
        assert_eq!(refused.header("ratelimit"), Some("\"client\";r=0;t=3600"));
        assert!((890..=900).contains(&wait(&refused)), "{}", wait(&refused));
    }
    // Nobody else feels it, and who has no limit is told of none.
    let other = read_with(&gateway, "/batches/enrow/sandbox-completed", &sales).await;
    other.batch();
    assert!(other.header("ratelimit").is_none() && other.header("ratelimit-policy").is_none());
    assert_eq!(gateway.get("/livez").await.status, 200);
    assert!(gateway.get("/livez").await.header("ratelimit").is_none());
}

#[tokio::test]
async fn what_a_client_used_comes_back() {
    let (key, hash) = new_key().unwrap();
    let options = Options::default().client("crm", &hash, "").set("auth.clients.crm.rate", "2/1s");
    let gateway = options.start().await;
    let ask = async || read_with(&gateway, "/providers", &key).await;
    let refused = eventually("the rate is used up");
    while !refused.is(ask().await.status == 429).await {}
    let back = eventually("a request is allowed again");
    while !back.is(ask().await.status == 200).await {}
}

#[tokio::test]
async fn a_request_over_a_limit_is_refused_before_its_body_is_read() {
    let (key, hash) = new_key().unwrap();
    let gateway = Options::default()
        .client("crm", &hash, "")
        .set("auth.clients.crm.rate", "1/1h")
        .set("auth.wrong_keys", "1/1h")
        .start()
        .await;
    assert_eq!(read_with(&gateway, "/providers", &key).await.status, 200);
    read_with(&gateway, "/providers", "pgw_wrong").await.assert_problem(401, "unauthenticated");
    for key in [key.as_str(), "pgw_wrong"] {
        let announced = format!(
            "authorization: Bearer {key}\r\nidempotency-key: k\r\ncontent-type: application/json\r\n\
             content-length: 1000\r\n"
        );
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        // The body never comes.
        stream.write_all(head("POST", "/batches/enrow", &announced).as_bytes()).await.unwrap();
        read_reply(&mut stream).await.assert_problem(429, "rate_limited");
    }
    assert_eq!(gateway.calls("enrow").await, 0);
}

#[tokio::test]
async fn who_guesses_keys_is_slowed_down_and_a_right_key_is_let_in() {
    let (key, hash) = new_key().unwrap();
    let gateway = Options::default().client("crm", &hash, "").start().await;
    let path = "/batches/enrow/sandbox-completed";
    let wrong = ["pgw_wrong", "x", "\u{e9}", &key[1..], "pgw_expired-long-ago"];
    let mut told = Vec::new();
    for guess in wrong.into_iter().cycle().take(10) {
        let reply = read_with(&gateway, path, guess).await;
        reply.assert_problem(401, "unauthenticated");
        told.push(without_id(&reply));
    }
    assert!(told.iter().all(|body| *body == told[0]), "{told:#?}");
    let mut told = Vec::new();
    for guess in wrong {
        let reply = read_with(&gateway, path, guess).await;
        reply.assert_problem(429, "rate_limited");
        assert!((1..=60).contains(&wait(&reply)));
        told.push(without_id(&reply));
        read_with(&gateway, path, &key).await.batch();
    }
    let nothing = gateway.get(path).await;
    nothing.assert_problem(429, "rate_limited");
    told.push(without_id(&nothing));
    assert!(told.iter().all(|body| *body == told[0]), "{told:#?}");
    assert_eq!(gateway.metric("auth_failures_total", &["code=\"unauthenticated\""]).await, 10);
    assert_eq!(gateway.metric("auth_failures_total", &["code=\"rate_limited\""]).await, 6);
}

/// The bytes of an answer but for the id in it.
fn without_id(reply: &Reply) -> String {
    reply.text().replace(reply.header("x-request-id").unwrap(), "…")
}

#[tokio::test]
async fn a_forged_address_is_not_believed() {
    let (_, hash) = new_key().unwrap();
    let gateway = Options::default().client("crm", &hash, "").set("auth.wrong_keys", "2/1m").start().await;
    for (number, name) in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-For", "CF-Connecting-IP"]
        .iter()
        .enumerate()
    {
        let header = format!("{name}: 198.51.100.{number}\r\n");
        let reply = forwarded(&gateway, "pgw_wrong", &header).await;
        assert_eq!(reply.status, if number < 2 { 401 } else { 429 }, "{header}");
    }
}

#[tokio::test]
async fn behind_a_configured_proxy_each_caller_has_its_own_limit() {
    let (key, hash) = new_key().unwrap();
    let gateway = Options::default()
        .client("crm", &hash, "")
        .set("auth.wrong_keys", "1/1m")
        .set("server.trusted_proxies", "127.0.0.1, 10.0.0.0/8")
        .start()
        .await;
    for (header, status) in [
        ("X-Forwarded-For: 198.51.100.1\r\n", 401),
        ("X-Forwarded-For: 198.51.100.1\r\n", 429),
        ("X-Forwarded-For: 198.51.100.2\r\n", 401),
        // What stands before the last address is the caller's own invention.
        ("X-Forwarded-For: 203.0.113.1, 198.51.100.1\r\n", 429),
        ("X-Forwarded-For: 203.0.113.2\r\nX-Forwarded-For: 198.51.100.2, 10.1.1.1\r\n", 429),
        ("X-Forwarded-For: 2001:db8::1\r\n", 401),
        ("X-Forwarded-For: 2001:db8::ffff\r\n", 429),
        ("X-Forwarded-For: 2001:db8:0:1::1\r\n", 401),
        ("X-Forwarded-For: nonsense\r\n", 401),
        ("", 429),
    ] {
        let reply = forwarded(&gateway, "pgw_wrong", header).await;
        assert_eq!(reply.status, status, "{header:?} {}", reply.text());
        assert_eq!(forwarded(&gateway, &key, header).await.status, 200);
    }
}

#[tokio::test]
async fn who_asks_for_unknown_batches_stops_only_itself() {
    let ((scan, scan_hash), (crm, crm_hash)) = (new_key().unwrap(), new_key().unwrap());
    let gateway =
        Options::default().client("scan", &scan_hash, "").client("crm", &crm_hash, "").start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let submitted = |key: &str, name: &str| {
            let order = json!({"records": records(slug, 1)});
            gateway.submission_of(slug, &format!("{name}-{slug}"), &order).bearer_auth(key)
        };
        let own = gateway.send(submitted(&scan, "before")).await;
        let own = format!("/batches/{slug}/{}", own.accepted()["id"].as_str().unwrap());
        let before = gateway.calls(slug).await;

        // 10,000 of them at all vendors, 50 at a time.
        let mut counts = [0, 0];
        let rounds = 200 / VENDORS.len();
        for round in 0..rounds {
            let paths = (0..50).map(|number| format!("/batches/{slug}/guess-{round}-{number}"));
            let paths: Vec<_> = paths.collect();
            for reply in join_all(paths.iter().map(|path| read_with(&gateway, path, &scan))).await {
                if reply.status == 404 {
                    counts[0] += 1;
                } else {
                    reply.assert_problem(429, "rate_limited");
                    assert!((1..=60).contains(&wait(&reply)));
                    counts[1] += 1;
                }
            }
        }
        assert_eq!(counts, [60, rounds * 50 - 60], "{slug}");
        assert_eq!(gateway.calls(slug).await - before, 60, "{slug}");
        // It stops unknown batches no more than it reads them.
        let stop = gateway.request(Method::POST, &format!("/batches/{slug}/guess/stop")).bearer_auth(&scan);
        let stopped = gateway.send(stop).await;
        assert_eq!(stopped.status, if vendor.info.stops { 429 } else { 501 });
        assert_eq!(gateway.calls(slug).await - before, 60, "{slug}");

        // Its own batch, and one that somebody else has read, it reads on.
        read_with(&gateway, &own, &scan).await.batch();
        let cold = format!("/batches/{slug}/sandbox-completed");
        read_with(&gateway, &cold, &scan).await.assert_problem(429, "rate_limited");
        read_with(&gateway, &cold, &crm).await.batch();
        read_with(&gateway, &cold, &scan).await.batch();
        // What the vendor allows is left for submissions, and for the others' reads.
        gateway.send(submitted(&scan, "after")).await.accepted();
        gateway.send(submitted(&crm, "after")).await.accepted();
        let nobodys = format!("/batches/{slug}/nobodys");
        read_with(&gateway, &nobodys, &crm).await.assert_problem(404, "batch_not_found");
    }
}

#[tokio::test]
async fn asking_for_unknown_batches_is_limited_by_what_reads_may_use() {
    let (key, hash) = new_key().unwrap();
    let options = Options::default().client("crm", &hash, "").set("auth.unknown_batches", "60/1h");
    // Reads may use 8 in an hour.
    let gateway = options.vendor("experian", "quota", "10/1h").start().await;
    let mut statuses = Vec::new();
    for number in 0..6 {
        let path = format!("/batches/experian/guess-{number}");
        statuses.push(read_with(&gateway, &path, &key).await.status);
    }
    assert_eq!(statuses, [404, 404, 404, 404, 429, 429]);
}

#[tokio::test]
async fn who_asked_for_too_many_unknown_batches_may_ask_again_after_a_time() {
    let (key, hash) = new_key().unwrap();
    let options = Options::default().client("crm", &hash, "").set("auth.unknown_batches", "2/2s");
    let (gateway, mut number) = (options.without_quota().start().await, 0);
    for (what, status) in [("the client has asked for too many", 429), ("the time is over", 404)] {
        let expected = eventually(what);
        loop {
            number += 1;
            let reply = read_with(&gateway, &format!("/batches/enrow/guess-{number}"), &key).await;
            if expected.is(reply.status == status).await {
                break;
            }
        }
    }
}

#[tokio::test]
async fn many_reads_at_once_that_find_their_batch_wait_for_their_turn() {
    let (key, hash) = new_key().unwrap();
    let options = Options::default().client("crm", &hash, "").without_quota();
    let gateway = options.set("auth.unknown_batches", "4/1h").start().await;
    gateway.adjust("enrow", json!({"rate_limit": 1_000_000})).await;
    let mut paths = Vec::new();
    for number in 0..12 {
        let order = json!({"records": records("enrow", 1)});
        let own = gateway.submission_of("enrow", &format!("k-{number}"), &order).bearer_auth(&key);
        paths.push(format!("/batches/enrow/{}", gateway.send(own).await.id()));
    }
    // As if somebody else had submitted them.
    let gateway = forgotten(gateway, &hash).await;
    for reply in join_all(paths.iter().map(|path| read_with(&gateway, path, &key))).await {
        reply.batch();
    }
    let unknown: Vec<_> = (0..40).map(|number| format!("/batches/enrow/guess-{number}")).collect();
    let replies = join_all(unknown.iter().map(|path| read_with(&gateway, path, &key))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 404).count(), 4);
    assert_eq!(replies.iter().filter(|reply| reply.status == 429).count(), 36);
}

/// Another gateway at the same vendors, with a store that is new.
async fn forgotten(gateway: TestGateway, hash: &str) -> TestGateway {
    let (simulators, _) = gateway.stop().await;
    let options = Options::default().client("crm", hash, "").without_quota();
    options.set("auth.unknown_batches", "4/1h").start_with(simulators, TestStore::new().await).await
}

#[tokio::test]
async fn reads_that_find_their_batch_are_not_counted() {
    let (key, hash) = new_key().unwrap();
    let options = Options::default().client("crm", &hash, "").set("auth.unknown_batches", "2/1h");
    let gateway = options.without_credentials_pause().start().await;
    let ids = ["sandbox-completed", "sandbox-running", "sandbox-failed", "sandbox-unknown-status"];
    for id in ids {
        read_with(&gateway, &format!("/batches/enrow/{id}"), &key).await.batch();
    }
    // Nor is what went wrong at the vendor, nor the same id again within half a minute.
    for (id, code) in [("sandbox-error-500", 502), ("sandbox-error-401", 502), ("sandbox-error-html", 502)] {
        assert_eq!(read_with(&gateway, &format!("/batches/enrow/{id}"), &key).await.status, code, "{id}");
    }
    for (id, status) in [("x", 404), ("x", 404), ("y", 404), ("x", 404), ("z", 429)] {
        assert_eq!(read_with(&gateway, &format!("/batches/enrow/{id}"), &key).await.status, status, "{id}");
    }
    let submission = gateway.submission_of("enrow", "k", &order("enrow")).bearer_auth(&key);
    gateway.send(submission).await.accepted();
}
