//! Vendors that misbehave on the wire. The answer comes in bounded time, and nothing leaks to anybody.

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;
use serde_json::json;

use crate::helpers::{
    Answer, ChildGateway, Options, Process, Replies, Reply, Simulators, TestGateway, TestStore, full_backlog,
};

/// A gateway whose vendors are all the scripted one, with one try and short limits.
async fn gateway(vendor: &Replies) -> TestGateway {
    options(vendor).start().await
}

fn options(vendor: &Replies) -> Options {
    Options::default().scripted(vendor)
}

/// Reads a batch of every vendor, which all answer alike.
async fn every_vendor(answer: Answer, status: u16, code: &str) -> Vec<Reply> {
    let scripted = Replies::start().await;
    scripted.on("", answer);
    let gateway = gateway(&scripted).await;
    let mut replies = Vec::new();
    for vendor in VENDORS {
        let since = Instant::now();
        let reply = gateway.batch(vendor.info.slug, "x").await;
        reply.assert_problem(status, code);
        assert!(since.elapsed() < Duration::from_secs(3), "{}: {:?}", vendor.info.slug, since.elapsed());
        replies.push(reply);
    }
    replies
}

#[tokio::test]
async fn a_body_that_drips_ends_at_the_limit_of_the_attempt() {
    let mut answer = Answer::new(200, &[("content-type", "application/json")], &[b' '; 10_000]);
    answer.drip = Some(Duration::from_millis(20));
    every_vendor(answer, 504, "provider_timeout").await;
}

#[tokio::test]
async fn a_body_that_stalls_ends_at_the_limit_of_the_pause() {
    let scripted = Replies::start().await;
    // Ends in the middle and keeps the connection open: the answer below is longer than what is sent.
    let stalled = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    let mut answer = Answer::raw(stalled.to_vec());
    answer.then_hang = true;
    scripted.on("", answer);
    let options = options(&scripted).vendor("enrow", "timeout", "20s").set("http.read_deadline", "20s");
    let gateway = options.start().await;
    let since = Instant::now();
    gateway.batch("enrow", "x").await.assert_problem(504, "provider_timeout");
    assert!(since.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn headers_that_never_come_are_a_timeout() {
    let mut answer = Answer::raw(b"".to_vec());
    answer.then_hang = true;
    every_vendor(answer, 504, "provider_timeout").await;
}

#[tokio::test]
async fn the_whole_read_has_a_deadline_of_its_own() {
    let scripted = Replies::start().await;
    let mut answer = Answer::raw(b"".to_vec());
    answer.then_hang = true;
    scripted.on("", answer);
    let options = options(&scripted).set("http.attempts", "100").set("http.read_deadline", "900ms");
    let gateway = options.start().await;
    for vendor in VENDORS {
        let since = Instant::now();
        gateway.batch(vendor.info.slug, "x").await.assert_problem(504, "provider_timeout");
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_vendor_that_cannot_be_reached() {
    for bytes in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"gen",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"gen\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
    ] {
        every_vendor(Answer::raw(bytes), 502, "provider_unreachable").await;
    }
    let huge = format!("HTTP/1.1 200 OK\r\nx-huge: {}\r\ncontent-length: 2\r\n\r\n{{}}", "x".repeat(600_000));
    every_vendor(Answer::raw(huge), 502, "provider_unreachable").await;
}

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

#[tokio::test]
async fn a_compressed_body_is_not_unpacked() {
    // A gzip header and nothing of use: unpacking is where bombs go off.
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    every_vendor(Answer::new(200, &[("content-encoding", "gzip")], gzip), 502, "provider_malformed").await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_other_host_sees_nothing() {
    let elsewhere = Replies::start().await;
    let location = elsewhere.url() + "/phone/bulk";
    for status in [301, 302, 303, 307, 308] {
        every_vendor(Answer::new(status, &[("location", &location)], b""), 502, "provider_error").await;
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_pooled_connection_that_the_vendor_closed_costs_no_answer() {
    let scripted = Replies::start().await;
    let body = json!({"general": {"id": "x", "status": "ongoing"}});
    scripted.on("/phone/bulk", Answer::json(&body).then_close());
    let gateway = options(&scripted).set("http.attempts", "3").start().await;
    for _ in 0..5 {
        gateway.batch("enrow", "x").await.batch();
        gateway.advance_seconds(5);
    }
    assert_eq!(scripted.requests().len(), 5);
}

#[tokio::test]
async fn connections_to_a_vendor_are_used_again() {
    let scripted = Replies::start().await;
    scripted.on("/phone/bulk", Answer::json(&json!({"general": {"id": "x", "status": "ongoing"}})));
    let gateway = gateway(&scripted).await;
    for _ in 0..5 {
        gateway.batch("enrow", "x").await.batch();
        gateway.advance_seconds(5);
    }
    assert_eq!((scripted.requests().len(), scripted.connections()), (5, 1));
}

#[tokio::test]
async fn a_vendors_waiting_time_is_kept_when_it_fits_and_handed_on_when_it_does_not() {
    let scripted = Replies::start().await;
    let wait = |seconds: &str| Answer::new(429, &[("retry-after", seconds)], b"{}");
    let gateway = options(&scripted).set("http.attempts", "2").set("http.read_deadline", "3s").start().await;
    for (seconds, answered, calls) in
        [("0", "1", 2), ("1", "1", 2), ("60", "60", 1), ("1000000000", "900", 1)]
    {
        for vendor in VENDORS {
            scripted.clear();
            scripted.on("", wait(seconds));
            let since = Instant::now();
            let reply = gateway.batch(vendor.info.slug, "x").await;
            reply.assert_problem(503, "provider_rate_limited");
            assert_eq!(reply.header("retry-after"), Some(answered), "{seconds}");
            assert_eq!(scripted.requests().len(), calls, "{seconds}");
            assert!(since.elapsed() >= Duration::from_secs(u64::from(seconds == "1")));
        }
    }
}

#[tokio::test]
async fn a_vendor_that_takes_no_connection_is_a_timeout() {
    let (address, _listener, _waiting) = full_backlog().await;
    let gateway = Options::default()
        .set("http.attempts", "1")
        .set("http.connect_timeout", "200ms")
        .vendor("enrow", "base_url", format!("http://{address}"))
        .start()
        .await;
    gateway.batch("enrow", "x").await.assert_problem(504, "provider_timeout");
}

#[tokio::test]
async fn no_proxy_is_taken_from_the_environment_unless_it_is_said() {
    let proxy = Replies::start().await;
    proxy.on("", Answer::json(&json!({"general": {"id": "x", "status": "ongoing"}})));
    for (setting, expected) in [("none", 0), ("environment", 1)] {
        let (simulators, store) = (Simulators::start().await, TestStore::new().await);
        let mut variables = Options::default().set("http.proxy", setting).variables(&simulators, &store);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            variables.push((name.to_owned(), proxy.url()));
        }
        let gateway = ChildGateway::ready(Process::spawn(&["serve"], &variables), simulators, store).await;
        let reply = gateway.get("/batches/enrow/x").await;
        assert_eq!(reply.status, if expected == 0 { 404 } else { 200 }, "{}", reply.text());
        assert_eq!(proxy.connections(), expected, "http.proxy={setting}");
        assert_eq!(gateway.calls("enrow").await, 1 - expected as u64);
    }
}
