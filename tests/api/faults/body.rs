//! Bodies that cannot be read, or are more than anybody wants to read.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use futures_util::future::join_all;
use phone_gateway::providers::VENDORS;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{every_vendor, options};
use crate::helpers::{Answer, Options, Replies, Reply, order};

#[tokio::test]
async fn a_body_without_a_length_that_is_cut_is_not_taken_for_whole() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"general\":{\"id\":\"x\",\"status\":\"comp";
    every_vendor(Answer::raw(cut), 502, "provider_malformed").await;
}

#[tokio::test]
async fn a_body_beyond_the_cap_is_refused_whether_it_is_announced_or_not() {
    let scripted = Replies::start().await;
    let body = "x".repeat(2_000);
    let announced = Answer::new(200, &[], body.as_bytes());
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk.repeat(1_000));
    let claimed = "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n{}".to_owned();
    let gateway = options(&scripted).set("http.max_body_bytes", "1kB").start().await;
    for answer in [announced, Answer::raw(chunked), Answer::raw(endless), Answer::raw(claimed)] {
        scripted.clear();
        scripted.on("", answer);
        for vendor in VENDORS {
            gateway.batch(vendor.info.slug, "x").await.assert_problem(502, "provider_malformed");
        }
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A body in each coding that is understood.
fn compressed(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(body).unwrap();
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
    raw.write_all(body).unwrap();
    vec![
        ("gzip", gzip(body)),
        ("x-gzip", gzip(body)),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", raw.finish().unwrap()),
        // Some servers say so and do not compress.
        ("gzip", body.to_vec()),
    ]
}

#[tokio::test]
async fn an_answer_that_is_compressed_unasked_is_read_and_an_order_accepted() {
    let body = json!({
        "id": "x",
        "general": {"id": "x", "status": "ongoing"}, "result": {"batch_id": "x", "status": "processing"},
    });
    for (number, (coding, body)) in compressed(body.to_string().as_bytes()).into_iter().enumerate() {
        let scripted = Replies::start().await;
        scripted.on("", Answer::new(200, &[("content-encoding", coding)], &body));
        let gateway = options(&scripted).start().await;
        for vendor in VENDORS {
            let slug = vendor.info.slug;
            assert_eq!(gateway.batch(slug, "x").await.batch()["status"], "running", "{slug} {coding}");
            let key = format!("{slug} {number}");
            let reply = gateway.submit(slug, &key, &order(slug)).await;
            assert_eq!(reply.accepted()["id"], "x", "{slug} {coding}");
        }
    }
}

#[tokio::test]
async fn a_compressed_answer_that_cannot_be_read_is_malformed() {
    let body = json!({"general": {"id": "x", "status": "ongoing"}}).to_string();
    let packed = gzip(body.as_bytes());
    for (coding, body) in [
        ("br", &b"\x8b\x00\x80{}\x03"[..]),
        ("zstd", b"\x28\xb5\x2f\xfd\x20\x02\x11\x00\x00{}"),
        ("gzip, gzip", &packed),
        ("gzip", &packed[..packed.len() - 9]),
        ("deflate", &packed),
    ] {
        every_vendor(Answer::new(200, &[("content-encoding", coding)], body), 502, "provider_malformed")
            .await;
        // What the status says needs no body.
        every_vendor(Answer::new(429, &[("content-encoding", coding)], body), 503, "provider_rate_limited")
            .await;
    }
}

#[tokio::test]
async fn a_compressed_body_is_decompressed_up_to_the_cap_and_no_further() {
    let bomb = gzip(&vec![b' '; 256 * 1024 * 1024]);
    assert!((bomb.len() as u64) < 4 * MIB);
    let scripted = Replies::start().await;
    scripted.on("", Answer::new(200, &[("content-encoding", "gzip")], &bomb));
    let options = VENDORS
        .iter()
        .fold(options(&scripted), |options, vendor| options.vendor(vendor.info.slug, "timeout", "11s"));
    let gateway = options.set("server.workers", "2").spawn().await;
    gateway.get("/providers").await;
    let before = gateway.process.peak_memory();
    for vendor in VENDORS {
        let path = format!("/batches/{}/x", vendor.info.slug);
        gateway.get(&path).await.assert_problem(502, "provider_malformed");
    }
    let request = gateway.http.post(format!("{}/batches/enrow", gateway.url)).header("idempotency-key", "k");
    let request = request.header("content-type", "application/json").body(order("enrow").to_string());
    Reply::of(request.send().await.unwrap()).await.assert_problem(504, "submission_in_doubt");
    let grown = gateway.process.peak_memory() - before;
    assert!(grown <= (32 + 16) * MIB, "one of 32 MiB and no more: {} MiB", grown / MIB);
}

/// A vendor whose every answer never ends, and its address.
async fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.read_buf(&mut Vec::with_capacity(8 * 1024)).await?;
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x1_0000], b"\r\n"].concat();
                loop {
                    stream.write_all(&chunk).await?;
                }
                #[expect(unreachable_code, reason = "says what the errors are")]
                std::io::Result::Ok(())
            });
        }
    });
    url
}

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn answers_without_end_take_no_more_memory_than_two_caps() {
    let url = endless().await;
    let options = Options::default().set("http.attempts", "1").set("server.workers", "2");
    let options = VENDORS.iter().fold(options, |options, vendor| {
        options.vendor(vendor.info.slug, "base_url", &url).vendor(vendor.info.slug, "timeout", "11s")
    });
    let gateway = options.spawn().await;
    gateway.get("/providers").await;
    let before = gateway.process.peak_memory();
    gateway.get("/batches/experian/one").await.assert_problem(502, "provider_malformed");
    let grown = gateway.process.peak_memory() - before;
    assert!(grown <= 48 * MIB, "one of 32 MiB and no more: {} MiB", grown / MIB);
    let mut reads = JoinSet::new();
    for vendor in VENDORS {
        for id in 0..5 {
            let request = gateway.http.get(format!("{}/batches/{}/{id}", gateway.url, vendor.info.slug));
            reads.spawn(async move { Reply::of(request.send().await.unwrap()).await });
        }
    }
    for reply in reads.join_all().await {
        reply.assert_problem(502, "provider_malformed");
    }
    let grown = gateway.process.peak_memory() - before;
    assert!(grown <= (2 * 32 + 16) * MIB, "two of 32 MiB at a time: {} MiB", grown / MIB);
    // The answer to an order is no other.
    let request = gateway.http.post(format!("{}/batches/enrow", gateway.url)).header("idempotency-key", "k");
    let request = request.header("content-type", "application/json").body(order("enrow").to_string());
    Reply::of(request.send().await.unwrap()).await.assert_problem(504, "submission_in_doubt");
    let grown = gateway.process.peak_memory() - before;
    assert!(grown <= (2 * 32 + 16) * MIB, "{} MiB", grown / MIB);
}

#[tokio::test]
async fn large_answers_take_turns_where_there_is_no_room_for_all_and_are_all_read() {
    let (scripted, ids) = (Replies::start().await, [0, 1, 2, 3, 4, 5].map(|number| format!("x{number}")));
    let filler = "x".repeat(3 * 1024 * 1024);
    for id in &ids {
        let result = json!({"batch_id": id, "status": "processing"});
        scripted.on(&format!("/{id}"), Answer::json(&json!({"result": result, "filler": filler})));
    }
    // Room for one at a time.
    let options = options(&scripted).set("http.max_body_bytes", "4MiB");
    let gateway = options.vendor("experian", "timeout", "8s").set("http.stall_timeout", "8s").start().await;
    let paths = ids.map(|id| format!("/batches/experian/{id}"));
    for reply in join_all(paths.iter().map(|path| gateway.get(path))).await {
        assert_eq!(reply.batch()["status"], "running");
    }
    assert_eq!(scripted.requests().len(), 6);
}
