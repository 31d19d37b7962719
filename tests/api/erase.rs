//! Erasing a batch: for good, everywhere, and against whatever is under way.

use phone_gateway::providers::VENDORS;
use serde_json::{Value, json};
use sqlx::{Connection, Row};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::helpers::{Lock, Options, Reply, TestGateway, eventually, head, info, order};

/// Everything that could bring an erased batch back is a 410 and costs no call.
async fn assert_erased(gateway: &TestGateway, slug: &str, id: &str) {
    let (polls, posts) = (gateway.polls(slug, id).await, gateway.posts(slug).await);
    for seconds in [0, 30, 3_600] {
        gateway.follow_for(seconds).await;
        gateway.batch(slug, id).await.assert_problem(410, "batch_erased");
    }
    gateway.stop_batch(slug, id).await.assert_problem(
        if info(slug).stops { 410 } else { 501 },
        if info(slug).stops { "batch_erased" } else { "not_supported" },
    );
    assert_eq!(gateway.listed(slug, id).await, None);
    let asked = (gateway.polls(slug, id).await, gateway.posts(slug).await);
    assert_eq!(asked, (polls, posts), "the vendor is not asked again");
}

#[tokio::test]
async fn an_erased_batch_is_gone_for_good() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        let (running, done) = (order(slug), order(slug));
        let done = gateway.submit(slug, "done", &done).await;
        gateway.advance_seconds(60);
        gateway.has_ended(slug, done.id()).await;
        gateway.batch(slug, done.id()).await.batch();
        let running = gateway.submit(slug, "running", &running).await;
        let usage = async |gateway: &TestGateway| gateway.get("/usage").await.body["usage"].clone();
        let before = usage(&gateway).await;
        for reply in [&done, &running] {
            for _ in 0..2 {
                let erased = gateway.erase(slug, reply.id()).await;
                assert_eq!((erased.status, erased.bytes.len()), (204, 0), "{}", erased.text());
            }
        }
        for reply in [&done, &running] {
            assert_erased(&gateway, slug, reply.id()).await;
        }
        assert_eq!(usage(&gateway).await, before, "what was paid is still counted");
        let posts = gateway.posts(slug).await;
        for (key, reply) in [("done", &done), ("running", &running)] {
            gateway.submit(slug, key, &order(slug)).await.assert_problem(410, "batch_erased");
            let submission = gateway.submission(reply.submission()).await;
            assert_eq!((&submission["state"], submission.get("reference")), (&json!("accepted"), None));
        }
        let gateway = gateway.restart(Options::default().following()).await;
        for reply in [&done, &running] {
            assert_erased(&gateway, slug, reply.id()).await;
        }
        gateway.submit(slug, "done", &order(slug)).await.assert_problem(410, "batch_erased");
        assert_eq!((gateway.posts(slug).await, usage(&gateway).await), (posts, before));
    }
}

#[tokio::test]
async fn a_batch_that_was_never_seen_can_be_erased_as_well() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        assert_eq!(gateway.erase(slug, "sandbox-completed").await.status, 204);
        assert_erased(&gateway, slug, "sandbox-completed").await;
        gateway.erase(slug, "a.b").await.assert_problem(400, "invalid_batch_id");
        gateway.erase("nobody", "x").await.assert_problem(404, "unknown_provider");
        assert_eq!(gateway.calls(slug).await, 0);
        assert_eq!(gateway.get("/usage").await.body["usage"], json!([]), "nothing is known of it");
    }
}

#[tokio::test]
async fn an_erasure_wins_against_a_read_that_is_under_way() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for id in ["sandbox-completed", "sandbox-running"] {
            let gateway = TestGateway::start().await;
            gateway.fault(slug, json!({"hang": true, "times": 1})).await;
            let request = gateway.request(reqwest::Method::GET, &format!("/batches/{slug}/{id}"));
            let read = tokio::spawn(async move { Reply::of(request.send().await.unwrap()).await });
            let called = eventually("the vendor is called");
            while !called.is(gateway.calls(slug).await == 1).await {}
            assert_eq!(gateway.erase(slug, id).await.status, 204);
            gateway.clear_faults(slug).await;
            read.await.unwrap().assert_problem(410, "batch_erased");
            assert_erased(&gateway, slug, id).await;
            let mut connection = gateway.store.connect().await;
            let kept = "SELECT CAST(COUNT(*) AS BIGINT) FROM batches WHERE document IS NOT NULL OR summary IS NOT NULL";
            let kept: (i64,) = sqlx::query_as(kept).fetch_one(&mut connection).await.unwrap();
            assert_eq!(kept.0, 0);
        }
    }
}

/// What the rows of a batch and of its submission hold that came from the caller or from the vendor.
async fn held(gateway: &TestGateway, id: &str) -> Vec<Vec<u8>> {
    let mut connection = gateway.store.connect().await;
    let mut held = Vec::new();
    for select in [
        "SELECT document FROM batches WHERE id = $1",
        "SELECT summary FROM batches WHERE id = $1",
        "SELECT answer FROM submissions WHERE batch_id = $1",
        "SELECT body FROM orders JOIN submissions ON submissions.id = orders.submission WHERE batch_id = $1",
    ] {
        let row = sqlx::query(select).bind(id).fetch_one(&mut connection).await.unwrap();
        held.push(row.get::<Vec<u8>, _>(0));
    }
    connection.close().await.unwrap();
    held
}

#[tokio::test]
async fn nothing_of_an_erased_batch_is_left_in_the_files() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        if !gateway.store.is_file() {
            return;
        }
        let mut order = order(slug);
        order["reference"] = "planted-reference".into();
        order["records"][0]["custom_id"] = "planted-id".into();
        let reply = gateway.submit(slug, "planted-key", &order).await;
        gateway.advance_seconds(60);
        gateway.batch(slug, reply.id()).await.batch();
        let mut planted = vec![b"planted-reference".to_vec()];
        for blob in held(&gateway, reply.id()).await {
            // The documents are deflated: pieces of just these bytes, wherever a page may have cut them.
            let pieces = blob.chunks(16).filter(|piece| piece.len() == 16);
            // The ids stay.
            let stays = |piece: &&[u8]| {
                let text = str::from_utf8(piece).unwrap_or("no text");
                reply.id().contains(text) || reply.submission().contains(text)
            };
            planted.extend(pieces.filter(|piece| !stays(piece)).map(<[u8]>::to_vec));
        }
        assert!(planted.len() > 10);
        assert!(planted.iter().filter(|piece| gateway.store.holds(piece)).count() > planted.len() / 2);
        assert_eq!(gateway.erase(slug, reply.id()).await.status, 204);
        for piece in &planted {
            assert!(!gateway.store.holds(piece), "{slug}: {}", String::from_utf8_lossy(piece));
        }
        assert!(!gateway.store.holds(b"planted"), "the key is never there");
        let gone: Value = gateway.submission(reply.submission()).await;
        assert_eq!((gone.get("reference"), &gone["batch_id"]), (None, &json!(reply.id())));
    }
}

/// A caller that disconnects while the store is at work leaves nothing in memory that the store has not.
#[tokio::test]
async fn an_erasure_whose_caller_disconnects_is_carried_through() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        let id = reply.accepted()["id"].as_str().unwrap();
        gateway.advance_seconds(3_600);
        assert_eq!(gateway.batch(slug, id).await.batch()["done"], true);
        let lock = Lock::hold(&gateway.store).await;
        let mut caller = TcpStream::connect(gateway.address).await.unwrap();
        let request = head("DELETE", &format!("/batches/{slug}/{id}"), "");
        caller.write_all(request.as_bytes()).await.unwrap();
        lock.reached(gateway.address).await;
        // A reset: the server drops the handler, which it does not when the connection is merely closed.
        caller.set_zero_linger().unwrap();
        drop(caller);
        let noted = eventually("the gateway notices that the caller is gone");
        while !noted.is(gateway.metric("http_requests_total", &["status=\"499\""]).await == 1).await {}
        lock.lift().await;
        let erased = eventually("the batch is erased");
        while !erased.is(gateway.batch(slug, id).await.status == 410).await {}
        let after = gateway.restart(Options::default()).await;
        after.batch(slug, id).await.assert_problem(410, "batch_erased");
    }
}
