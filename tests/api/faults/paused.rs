//! Vendors that refuse the gateway's key or ask it to wait: they are left alone for a while.

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;
use serde_json::json;

use super::{assert_unsent, options, running};
use crate::helpers::{Answer, Replies, Reply, eventually, order};

#[tokio::test]
async fn a_vendor_that_refuses_the_key_is_left_alone_and_the_log_says_once_what_to_do() {
    for (status, vendor) in [401, 403].into_iter().zip(VENDORS) {
        let slug = vendor.info.slug;
        let scripted = Replies::start().await;
        scripted.on("", Answer::new(status, &[], b"{}"));
        let gateway = options(&scripted).set("http.credentials_pause", "5s").spawn().await;
        let began = Instant::now();
        for id in ["a", "b", "c"] {
            let reply = gateway.get(&format!("/batches/{slug}/{id}")).await;
            reply.assert_problem(502, "provider_credentials");
            // The vendor itself named no time; the gateway knows when it will try again.
            let wait = reply.header("retry-after");
            assert!(
                wait.map_or(id == "a", |wait| ["1", "2", "3", "4", "5"].contains(&wait)),
                "{id}: {wait:?}"
            );
        }
        let submit = gateway.http.post(format!("{}/batches/{slug}", gateway.url));
        let submit = submit.header("idempotency-key", "k").header("content-type", "application/json");
        let submit = submit.body(order(slug).to_string());
        let reply = Reply::of(submit.try_clone().unwrap().send().await.unwrap()).await;
        reply.assert_problem(502, "provider_credentials");
        let submission = gateway.get(&format!("/submissions/{}", reply.submission())).await;
        assert_eq!(submission.body["state"], "not_sent");
        assert!(began.elapsed() < Duration::from_secs(5), "the pause is over too soon to be seen");
        assert_eq!(scripted.requests().len(), 1, "{slug}: both classes are left alone");
        let lines = gateway.process.log();
        let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let message = errors[0]["message"].as_str().unwrap();
        assert!(message.contains(&format!("providers.{slug}.api_key")), "{message}");
        assert_eq!(errors[0]["provider_http_status"], status);

        // The key is good again: it is tried as soon as the pause is over, and not before.
        scripted.clear();
        scripted.on("", Answer::new(404, &[], b"{}"));
        let tried = eventually("the vendor is called again");
        while !tried.is(gateway.get(&format!("/batches/{slug}/d")).await.status == 404).await {}
        assert!(began.elapsed() >= Duration::from_secs(5));
        assert_eq!(scripted.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_vendors_waiting_time_is_kept_when_it_fits_and_handed_on_when_it_does_not() {
    for (value, answered, calls) in [
        ("0", "1", 2),
        ("1", "1", 2),
        ("60", "60", 1),
        ("1000000000", "900", 1),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "1", 2),
        ("Sat, 06 Nov 2094 08:49:37 GMT", "900", 1),
        ("soon", "5", 2),
        ("-1", "5", 2),
    ] {
        for vendor in VENDORS {
            let (slug, scripted) = (vendor.info.slug, Replies::start().await);
            scripted.on("", Answer::new(429, &[("retry-after", value)], b"{}"));
            let options = options(&scripted).set("http.attempts", "2").set("http.read_deadline", "3s");
            let gateway = options.start().await;
            let since = Instant::now();
            let reply = gateway.batch(slug, "x").await;
            reply.assert_problem(503, "provider_rate_limited");
            assert_eq!(reply.header("retry-after"), Some(answered), "{value}");
            assert_eq!(scripted.requests().len(), calls, "{value}");
            assert!(since.elapsed() >= Duration::from_secs(u64::from(value == "1")));
            // An order is refused alike, and sent once for each time that it is asked for.
            let reply = gateway.submit(slug, "k", &order(slug)).await;
            reply.assert_problem(503, "provider_rate_limited");
            assert_eq!(reply.header("retry-after"), Some(answered), "{value}");
            assert_eq!(gateway.submission(reply.submission()).await["state"], "not_sent");
            assert_eq!(scripted.posts(), 1, "{value}");
        }
    }
}

#[tokio::test]
async fn while_a_vendor_asks_to_wait_it_is_not_called_and_the_other_class_goes_on() {
    let scripted = Replies::start().await;
    let gateway = options(&scripted).start().await;
    scripted.on("", Answer::new(429, &[("retry-after", "900")], b"{}"));
    let first = gateway.batch("enrow", "a").await;
    first.assert_problem(503, "provider_rate_limited");
    assert_eq!(first.header("retry-after"), Some("900"));
    for id in ["a", "b"] {
        let reply = gateway.batch("enrow", id).await;
        reply.assert_problem(503, "provider_rate_limited");
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((50..=60).contains(&wait), "a vendor is left alone for a minute at most: {wait}");
    }
    assert_eq!(scripted.requests().len(), 1);
    scripted.clear();
    scripted.on("", Answer::new(201, &[], b"{\"id\":\"x\"}"));
    gateway.submit("enrow", "k", &order("enrow")).await.accepted();
    // And the other way round.
    scripted.clear();
    scripted.on("", Answer::new(429, &[("retry-after", "60")], b"{}"));
    assert_unsent(&gateway, "experian", "k2", 503, "provider_rate_limited").await;
    assert_eq!(scripted.posts(), 1, "the second is refused without a call");
    scripted.clear();
    scripted.on("", Answer::new(404, &[], b"{}"));
    gateway.batch("experian", "x").await.assert_problem(404, "batch_not_found");
}

#[tokio::test]
async fn a_pause_that_fits_into_the_callers_time_is_waited_for() {
    let scripted = Replies::start().await;
    scripted.in_turn("/phone/bulk", &[Answer::new(429, &[("retry-after", "1")], b"{}"), running()]);
    let gateway = options(&scripted).start().await;
    let since = Instant::now();
    gateway.batch("enrow", "x").await.assert_problem(503, "provider_rate_limited");
    gateway.batch("enrow", "x").await.batch();
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(scripted.requests().len(), 2);
}

#[tokio::test]
async fn who_waits_for_a_place_when_a_pause_begins_waits_for_its_end_too() {
    let scripted = Replies::start().await;
    let mut throttled = Answer::new(429, &[("retry-after", "1")], b"{}");
    throttled.drip = Some(Duration::from_millis(15));
    scripted.on("/a", throttled);
    scripted.on("/b", Answer::json(&json!({"result": {"batch_id": "b", "status": "processing"}})));
    let options = options(&scripted).set("http.max_in_flight", "1").set("http.max_wait", "5s");
    let gateway = options.vendor("experian", "timeout", "8s").start().await;
    let late = async {
        let asked = eventually("the vendor is asked");
        while !asked.is(scripted.requests().len() == 1).await {}
        gateway.batch("experian", "b").await
    };
    let (first, late) = tokio::join!(gateway.batch("experian", "a"), late);
    first.assert_problem(503, "provider_rate_limited");
    assert_eq!(late.batch()["status"], "running");
    assert_eq!(scripted.requests().len(), 2);
}

#[tokio::test]
async fn the_reset_of_a_rate_limit_is_understood_where_it_makes_sense() {
    for (value, expected) in [("soon", 5..=5), ("1e9", 5..=5), ("9999999999", 5..=5), ("1", 5..=5)] {
        let scripted = Replies::start().await;
        scripted.on("", Answer::new(429, &[("x-rate-limit-reset", value)], b"{}"));
        let gateway = options(&scripted).start().await;
        let reply = gateway.batch("experian", "x").await;
        reply.assert_problem(503, "provider_rate_limited");
        let wait: i64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!(expected.contains(&wait), "{value}: {wait}");
    }
    let scripted = Replies::start().await;
    let gateway = options(&scripted).start().await;
    let value = (gateway.clock.now().as_second() + 40).to_string();
    scripted.on("", Answer::new(429, &[("x-rate-limit-reset", &value)], b"{}"));
    let reply = gateway.batch("experian", "x").await;
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((38..=40).contains(&wait), "{wait}");
    reply.assert_problem(503, "provider_rate_limited");
}
