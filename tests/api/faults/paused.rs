//! Vendors that reject the gateway's key or ask it to wait: they are not called for a while.

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;
use serde_json::{Value, json};

use super::{assert_unsent, options, running};
use crate::helpers::{Answer, FIREWALL_PAGE, Options, Replies, Reply, VENDOR_ERROR, eventually, order};

#[tokio::test]
async fn a_vendor_that_refuses_the_key_is_left_alone_and_the_log_says_once_what_to_do() {
    for (status, vendor) in [401, 403].into_iter().zip(VENDORS) {
        let slug = vendor.info.slug;
        let scripted = Replies::start().await;
        scripted.on("", rejected(status));
        let gateway = options(&scripted).set("http.credentials_pause", "5s").spawn().await;
        let began = Instant::now();
        // The second call confirms what the first one said.
        for (id, calls) in [("a", 1), ("b", 2), ("c", 2)] {
            let reply = gateway.get(&format!("/batches/{slug}/{id}")).await;
            reply.assert_problem(502, "provider_credentials");
            // The vendor itself named no time; the gateway knows when it will try again.
            let wait = reply.header("retry-after");
            assert!(
                wait.map_or(id != "c", |wait| ["1", "2", "3", "4", "5"].contains(&wait)),
                "{id}: {wait:?}"
            );
            assert_eq!(scripted.requests().len(), calls, "{slug} {id}");
        }
        let submit = gateway.http.post(format!("{}/batches/{slug}", gateway.url));
        let submit = submit.header("idempotency-key", "k").header("content-type", "application/json");
        let submit = submit.body(order(slug).to_string());
        let reply = Reply::of(submit.try_clone().unwrap().send().await.unwrap()).await;
        reply.assert_problem(502, "provider_credentials");
        let submission = gateway.get(&format!("/submissions/{}", reply.submission())).await;
        assert_eq!(submission.body["state"], "not_sent");
        assert!(began.elapsed() < Duration::from_secs(5), "the pause is over too soon to be seen");
        assert_eq!(scripted.requests().len(), 2, "{slug}: both classes are paused");
        let lines = gateway.process.log();
        let is_error = |line: &&Value| line["level"] == "ERROR" && line["message"] != "request completed";
        let errors: Vec<_> = lines.iter().filter(is_error).collect();
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

/// The vendor rejects the gateway's key, in its own form.
fn rejected(status: u16) -> Answer {
    Answer::new(status, &[("content-type", "application/json")], VENDOR_ERROR.as_bytes())
}

/// A batch that runs, of whichever vendor.
fn runs(id: &str) -> Answer {
    Answer::json(&json!({
        "general": {"id": id, "status": "ongoing"}, "result": {"batch_id": id, "status": "processing"},
    }))
}

#[tokio::test]
async fn one_rejected_key_pauses_nobody_and_a_success_in_between_clears_it() {
    for (vendor, status) in VENDORS.iter().flat_map(|vendor| [(vendor, 401), (vendor, 403)]) {
        let (slug, scripted) = (vendor.info.slug, Replies::start().await);
        let gateway = options(&scripted).set("http.credentials_pause", "1m").start().await;
        for id in ["a", "b", "c"] {
            scripted.clear();
            scripted.in_turn("", &[rejected(status), runs(id)]);
            gateway.batch(slug, &format!("odd-{id}")).await.assert_problem(502, "provider_credentials");
            assert_eq!(gateway.batch(slug, id).await.batch()["status"], "running", "{slug} {id}");
            assert_eq!(scripted.requests().len(), 2, "{slug} {id}");
        }
        // Orders are calls like others: the second rejection in a row is one.
        scripted.clear();
        scripted.on("", rejected(status));
        gateway.batch(slug, "d").await.assert_problem(502, "provider_credentials");
        assert_unsent(&gateway, slug, "k", 502, "provider_credentials").await;
        gateway.batch(slug, "e").await.assert_problem(502, "provider_credentials");
        assert_eq!(scripted.requests().len(), 2, "{slug}: it is paused");
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_in_the_vendors_own_form_is_not_about_the_key_and_pauses_nobody() {
    let (html, json_type) = (("content-type", "text/html"), ("content-type", "application/json"));
    for (status, header, body) in [
        (401, html, FIREWALL_PAGE),
        (403, html, FIREWALL_PAGE),
        (403, json_type, ""),
        (403, json_type, "{}"),
        (403, json_type, r#"{"title": "Access denied", "status": 403, "detail": "no", "error_code": 1020}"#),
    ] {
        for vendor in VENDORS {
            let (slug, scripted) = (vendor.info.slug, Replies::start().await);
            let gateway = Options::default().scripted(&scripted).set("http.attempts", "3").start().await;
            scripted.on("", Answer::new(status, &[header], body.as_bytes()));
            for (id, calls) in [("a", 1), ("b", 2), ("c", 3)] {
                let reply = gateway.batch(slug, id).await;
                reply.assert_problem(502, "provider_error");
                let detail = reply.body["detail"].as_str().unwrap();
                assert!(
                    detail.contains(&format!("a {status} that is not in the vendor's own form")),
                    "{detail}"
                );
                assert_eq!(scripted.requests().len(), calls, "{slug}: it is neither repeated nor paused");
            }
            // A firewall may have blocked the answer: nobody knows whether the vendor has the order.
            let lost = gateway.submit(slug, "k", &order(slug)).await;
            lost.assert_problem(504, "submission_in_doubt");
            gateway.submit(slug, "k", &order(slug)).await.assert_problem(409, "submission_in_doubt");
            assert_eq!(scripted.posts(), 1);
            scripted.clear();
            scripted.on("", runs("d"));
            gateway.batch(slug, "d").await.batch();
        }
    }
}

#[tokio::test]
async fn a_vendors_waiting_time_is_kept_when_it_fits_and_handed_on_when_it_does_not() {
    for (value, answered, calls) in [
        ("0", "1", 2),
        ("1", "1", 2),
        ("60", "60", 1),
        ("30.5", "31", 1),
        ("0.5", "1", 2),
        ("1000000000", "900", 1),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "1", 2),
        ("Sat, 06 Nov 2094 08:49:37 GMT", "900", 1),
        ("Sunday, 06-Nov-94 08:49:37 GMT", "1", 2),
        ("Sunday, 06-Nov-44 08:49:37 GMT", "900", 1),
        ("Sun Nov  6 08:49:37 1994", "1", 2),
        ("Sat Nov  6 08:49:37 2094", "900", 1),
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
            assert!(since.elapsed() >= Duration::from_secs(u64::from(matches!(value, "1" | "0.5"))));
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
    for (slug, header) in [("experian", "x-rate-limit-reset"), ("enrow", "x-ratelimit-reset")] {
        for value in ["soon", "1e9", "9999999999", "0", "-1", "1700000000", "901"] {
            assert_eq!(reset_wait(slug, header, |_| value.to_owned()).await, 5, "{slug} {value}");
        }
        // Seconds from now, seconds since 1970, and milliseconds since 1970.
        assert_eq!(reset_wait(slug, header, |_| "40".to_owned()).await, 40, "{slug}");
        for factor in [1, 1_000] {
            let wait = reset_wait(slug, header, |now| ((now + 40) * factor).to_string()).await;
            assert!((38..=40).contains(&wait), "{slug} {factor}: {wait}");
        }
    }
}

/// The waiting time that a caller is told when a vendor's limit is reset at a moment that depends on the time now.
async fn reset_wait(slug: &str, header: &str, value: impl Fn(i64) -> String) -> u64 {
    let scripted = Replies::start().await;
    let gateway = options(&scripted).start().await;
    let value = value(gateway.clock.now().as_second());
    scripted.on("", Answer::new(429, &[(header, &value)], b"{}"));
    let reply = gateway.batch(slug, "x").await;
    reply.assert_problem(503, "provider_rate_limited");
    assert_eq!(scripted.requests().len(), 1);
    reply.header("retry-after").unwrap().parse().unwrap()
}
