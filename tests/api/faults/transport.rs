//! Connections that are not made, break, stall or lead elsewhere.

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;
use serde_json::json;

use super::{every_vendor, gateway, options};
use crate::helpers::{
    Answer, ChildGateway, Options, Process, Replies, Simulators, TestStore, full_backlog, order,
};

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

#[tokio::test]
async fn an_answer_that_is_reset_or_cut_once_is_asked_for_again() {
    let cut = |end: &str| Answer::raw(format!("HTTP/1.1 200 OK\r\n{end}"));
    let mut reset = cut("content-length: 100\r\n\r\n{");
    reset.then_reset = true;
    for broken in
        [reset, cut("content-length: 100\r\n\r\n{"), cut("transfer-encoding: chunked\r\n\r\n5\r\n{\"gen\r\n")]
    {
        let scripted = Replies::start().await;
        scripted.in_turn("/phone/bulk", &[broken, super::running()]);
        let gateway = options(&scripted).set("http.attempts", "3").start().await;
        gateway.batch("enrow", "x").await.batch();
        assert_eq!(scripted.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_after_the_request_was_read_is_tried_once_more_by_reads_only() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let scripted = Replies::start().await;
        // Open first, so that there is a connection that was used before.
        scripted.in_turn("", &[Answer::new(404, &[], b"{}"), Answer::raw("")]);
        let gateway = options(&scripted).set("http.attempts", "3").start().await;
        gateway.batch(slug, "a").await.assert_problem(404, "batch_not_found");
        gateway.batch(slug, "b").await.assert_problem(404, "batch_not_found");
        assert_eq!(scripted.requests().len(), 3, "{slug}: once, closed, once more");
        let lost = gateway.submit(slug, "k", &order(slug)).await;
        lost.assert_problem(504, "submission_in_doubt");
        gateway.submit(slug, "k", &order(slug)).await.assert_problem(409, "submission_in_doubt");
        assert_eq!(scripted.posts(), 1, "{slug}");
    }
}
