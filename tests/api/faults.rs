//! Vendors that misbehave. The answer comes in bounded time, nothing leaks to anybody, and what was paid for is neither
//! lost nor paid twice.

mod body;
mod defaults;
mod names;
mod paused;
mod protocol;
mod spared;
mod tls;
mod transport;

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;

use crate::helpers::{Answer, Options, Replies, Reply, TestGateway, order};

fn options(vendor: &Replies) -> Options {
    Options::default().scripted(vendor)
}

/// A gateway whose vendors are all the scripted one, with one try and short limits.
async fn gateway(vendor: &Replies) -> TestGateway {
    options(vendor).start().await
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

/// A batch of Enrow's that runs.
fn running() -> Answer {
    Answer::json(&serde_json::json!({"general": {"id": "x", "status": "ongoing"}}))
}

/// Submits, and nothing is sent: that is told and written down, and the key is as good as new.
async fn assert_unsent(gateway: &TestGateway, slug: &str, key: &str, status: u16, code: &str) -> Reply {
    let reply = gateway.submit(slug, key, &order(slug)).await;
    reply.assert_problem(status, code);
    assert_eq!(gateway.submission(reply.submission()).await["state"], "not_sent");
    let again = gateway.submit(slug, key, &order(slug)).await;
    again.assert_problem(status, code);
    assert_eq!(again.submission(), reply.submission());
    reply
}
