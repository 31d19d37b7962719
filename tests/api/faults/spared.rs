//! Vendors that fail or hang: they are called no more than makes sense, and their callers are told at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use phone_gateway::providers::VENDORS;

use super::{assert_unsent, options, running};
use serde_json::json;

use crate::helpers::{Answer, Options, Replies, TestGateway, eventually, order};

fn down() -> Answer {
    Answer::new(503, &[], b"{}")
}

/// Reads once; whether the batch came, and how long it took.
async fn read(gateway: &TestGateway) -> (u16, Duration) {
    let since = Instant::now();
    let reply = gateway.batch("enrow", "x").await;
    if reply.status != 200 {
        reply.assert_problem(503, "provider_unavailable");
    }
    (reply.status, since.elapsed())
}

#[tokio::test]
async fn an_order_that_the_vendor_has_begun_waits_for_its_next_step_however_busy_the_vendor_is() {
    let options = Options::default().set("http.max_in_flight", "1").set("http.max_wait", "2s");
    let gateway = options.without_quota().start().await;
    // The second one takes the only place after the first step of the first, and keeps it for longer than others wait.
    for delay_ms in [1_500, 3_500] {
        gateway.fault("experian", json!({"times": 1, "method": "POST", "delay_ms": delay_ms})).await;
    }
    let second = async {
        let created = eventually("the first step of the first order is under way");
        while !created.is(gateway.posts("experian").await > 0).await {}
        gateway.submit("experian", "second", &order("experian")).await
    };
    let order = order("experian");
    let (first, second) = tokio::join!(gateway.submit("experian", "first", &order), second);
    first.accepted();
    second.accepted();
    assert_eq!(gateway.posts("experian").await, 4);
}

#[tokio::test]
async fn half_a_minute_of_outage_costs_the_vendor_little_and_is_over_when_it_is_over() {
    const OUTAGE: Duration = Duration::from_secs(30);
    const BACK: Duration = Duration::from_secs(2);
    const NOBODYS: &str = "/submissions/01932f6e-5d2a-7c3e-9a41-0d6f1c2b3a4d";
    let scripted = Replies::start().await;
    scripted.on("", down());
    let options = Options::default().vendor("enrow", "base_url", scripted.url());
    let gateway = options.set("cache.running_ttl", "0s").start().await;
    let (began, mut offered, mut refused, mut looked_up) = (Instant::now(), 0, Vec::new(), Vec::new());
    while began.elapsed() < OUTAGE {
        let calls = scripted.requests().len();
        let (status, took) = read(&gateway).await;
        assert_eq!(status, 503);
        offered += 1;
        if scripted.requests().len() == calls {
            refused.push(took);
        }
        let since = Instant::now();
        gateway.get(NOBODYS).await.assert_problem(404, "submission_not_found");
        looked_up.push(since.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = scripted.requests().len();
    assert!(seen * 10 <= offered * 12 && seen < 60, "{seen} calls for {offered} reads");
    assert!(refused.len() * 10 > offered * 9, "{} of {offered} reads cost no call", refused.len());
    // At once: within 5 ms, or on a busy machine within what a few looks into the store take.
    let [refusal, look] = [&mut refused, &mut looked_up].map(|times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    assert!(refusal < Duration::from_millis(5).max(4 * look), "{refusal:?} beside {look:?}");
    scripted.clear();
    scripted.on("", running());
    let back = Instant::now();
    while read(&gateway).await.0 != 200 {
        assert!(back.elapsed() <= BACK + Duration::from_millis(100), "still refused");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..20 {
        assert_eq!(read(&gateway).await.0, 200);
    }
    let enrow = "provider=\"enrow\"";
    assert_eq!(gateway.metric("provider_circuit_transitions_total", &[enrow, "kind=\"read\""]).await, 2);
    assert_eq!(gateway.metric("provider_circuit_open", &[enrow]).await, 0);
    let counted = gateway.metric("provider_calls_rejected_total", &[enrow, "reason=\"circuit\""]).await;
    assert!(counted >= refused.len() as u64);
}

#[tokio::test]
async fn orders_and_reads_are_told_apart_and_what_is_refused_was_not_sent() {
    for vendor in VENDORS {
        let (slug, scripted) = (vendor.info.slug, Replies::start().await);
        scripted.on("", down());
        let gateway = options(&scripted).start().await;
        for number in 0..5 {
            let lost = gateway.submit(slug, &number.to_string(), &order(slug)).await;
            lost.assert_problem(504, "submission_in_doubt");
        }
        assert_eq!(scripted.posts(), 5);
        let refused = assert_unsent(&gateway, slug, "refused", 503, "provider_unavailable").await;
        // About a second, in whole ones.
        assert!(["1", "2"].contains(&refused.header("retry-after").unwrap()));
        assert_eq!(scripted.posts(), 5, "the vendor was not called");
        // Reads of the same vendor have nothing to do with it.
        scripted.clear();
        scripted.on("", Answer::new(404, &[], b"{}"));
        gateway.batch(slug, "x").await.assert_problem(404, "batch_not_found");
        let open = |kind: &str| [format!("provider=\"{slug}\""), format!("kind=\"{kind}\"")];
        for (kind, expected) in [("read", 0), ("write", 1)] {
            let labels = open(kind);
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            assert_eq!(gateway.metric("provider_circuit_open", &labels).await, expected, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_vendor_that_flaps_is_read_by_trying_again() {
    let scripted = Replies::start().await;
    let up = running();
    scripted.in_turn("", &[vec![down()], vec![up; 7]].concat());
    let options = options(&scripted).set("http.attempts", "3").set("cache.running_ttl", "0s");
    let gateway = options.start().await;
    let mut succeeded = 0;
    for _ in 0..100 {
        succeeded += u32::from(read(&gateway).await.0 == 200);
    }
    assert!(succeeded >= 95, "{succeeded}");
    assert!(gateway.metric("provider_circuit_transitions_total", &[]).await <= 6);
    assert_eq!(gateway.metric("provider_retries_total", &[]).await, 15);
}

#[tokio::test]
async fn a_repetition_that_the_circuit_refuses_is_not_counted_as_sent() {
    let scripted = Replies::start().await;
    scripted.on("", down());
    let options = options(&scripted).set("http.attempts", "3").set("http.circuit_failures", "1");
    let gateway = options.start().await;
    assert_eq!(read(&gateway).await.0, 503);
    assert_eq!(scripted.requests().len(), 1);
    assert_eq!(gateway.metric("provider_retries_total", &[]).await, 0);
}

#[tokio::test]
async fn where_everything_fails_few_reads_are_tried_again() {
    let scripted = Replies::start().await;
    scripted.on("", down());
    let options = options(&scripted).set("http.attempts", "3").without_circuit();
    let gateway = options.start().await;
    for _ in 0..50 {
        read(&gateway).await;
    }
    let seen = scripted.requests().len();
    assert!((52..=60).contains(&seen), "{seen}");
}

#[tokio::test]
async fn a_vendor_that_hangs_holds_up_so_many_calls_and_refuses_the_rest_at_once() {
    let scripted = Replies::start().await;
    scripted.on("", Answer::none());
    let gateway = Options::default()
        .vendor("enrow", "base_url", scripted.url())
        .vendor("enrow", "timeout", "5s")
        .set("http.attempts", "1")
        .set("http.max_in_flight", "5")
        .set("http.max_waiting", "1")
        .set("http.max_wait", "1s")
        .start()
        .await;
    let hanging = join_all((0..4).map(|id| {
        let gateway = &gateway;
        async move { gateway.batch("enrow", &format!("hangs-{id}")).await }
    }));
    let others = async {
        while scripted.requests().len() < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gateway.metric("provider_in_flight", &["enrow"]).await, 4);
        let timed = async |id| {
            let since = Instant::now();
            (gateway.batch("enrow", id).await, since.elapsed())
        };
        let ((one, took_one), (other, took_other)) = tokio::join!(timed("one"), timed("other"));
        for reply in [one, other] {
            reply.assert_problem(503, "provider_unavailable");
            assert_eq!(reply.header("retry-after"), Some("1"));
        }
        // Whoever comes first waits.
        let (refused, waited) = (took_one.min(took_other), took_one.max(took_other));
        assert!(refused < Duration::from_millis(700), "{refused:?}");
        assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(3), "{waited:?}");
        assert_eq!(scripted.requests().len(), 4);
        // Another vendor is not affected, and an order finds its place.
        gateway.batch("experian", "sandbox-completed").await.batch();
        let lost = gateway.submit("enrow", "k", &order("enrow")).await;
        lost.assert_problem(504, "submission_in_doubt");
        assert_eq!(scripted.posts(), 1);
    };
    let (hung, ()) = tokio::join!(hanging, others);
    for reply in hung {
        reply.assert_problem(504, "provider_timeout");
    }
    let busy = "reason=\"concurrency\"";
    assert_eq!(gateway.metric("provider_calls_rejected_total", &[busy]).await, 2);
    assert_eq!(gateway.metric("provider_in_flight", &[]).await, 0);
}
