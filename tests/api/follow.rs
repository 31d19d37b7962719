//! Following: a batch that was submitted or read once comes to its end in the store, though nobody asks again.

use phone_gateway::http::QuotaScope;
use phone_gateway::providers::VENDORS;
use serde_json::json;

use crate::helpers::{Options, TestGateway, order, order_of};

/// Longer than any vendor keeps a batch.
const LONG_AFTER: i64 = 40 * 24 * 3_600;

#[tokio::test]
async fn what_was_submitted_is_kept_to_its_end_without_anyone_asking() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        let id = reply.accepted()["id"].as_str().unwrap();
        gateway.advance_seconds(60);
        let ended = gateway.has_ended(slug, id).await;
        assert_eq!((&ended["status"], ended.get("results")), (&json!("completed"), None));
        // The vendor forgets it, and the process that read it ends.
        gateway.forget(slug).await;
        let gateway = gateway.restart(Options::default().following()).await;
        for cache in ["store", "hit"] {
            let kept = gateway.batch(slug, id).await;
            let batch = kept.batch();
            assert_eq!((kept.cache(), batch["results"].as_array().unwrap().len()), (cache, 3));
            assert_eq!(
                (&batch["results"][2]["custom_id"], kept.submission()),
                (&json!("row-3"), reply.submission())
            );
        }
        gateway.advance_seconds(LONG_AFTER);
        assert_eq!(gateway.batch(slug, id).await.cache(), "hit");
        let gateway = gateway.restart(Options::default().following()).await;
        assert_eq!(gateway.batch(slug, id).await.cache(), "store");
        gateway.store.is_followed_up(&gateway.clock).await;
        assert_eq!(gateway.calls(slug).await, 0);
    }
}

#[tokio::test]
async fn what_was_read_once_is_kept_to_its_end_as_well() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        let first = gateway.batch(slug, "sandbox-live").await;
        assert_eq!(first.batch()["done"], false);
        gateway.advance_seconds(60);
        gateway.has_ended(slug, "sandbox-live").await;
        let gateway = gateway.restart(Options::default()).await;
        gateway.forget(slug).await;
        let kept = gateway.batch(slug, "sandbox-live").await;
        assert_eq!((&kept.batch()["status"], kept.cache()), (&json!("completed"), "store"));
        assert_eq!(gateway.calls(slug).await, 0);
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_process_ended() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        let id = reply.accepted()["id"].as_str().unwrap();
        let gateway = gateway.restart(Options::default().following()).await;
        gateway.advance_seconds(60);
        gateway.has_ended(slug, id).await;
    }
}

#[tokio::test]
async fn an_end_is_not_asked_for_again_whatever_it_is() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        let ready_made = vendor.simulator.ready_made.iter().map(|batch| batch.id);
        let ends = ["sandbox-completed", "sandbox-failed", "sandbox-stopped", "sandbox-stopped-by-limit"];
        let ends: Vec<_> = ready_made.filter(|id| ends.contains(id)).collect();
        assert!(ends.len() > 1);
        for id in &ends {
            assert_eq!(gateway.batch(slug, id).await.batch()["done"], true);
        }
        let calls = gateway.calls(slug).await;
        for seconds in [60, 3_600, 24 * 3_600] {
            gateway.follow_for(seconds).await;
        }
        assert_eq!(gateway.calls(slug).await, calls);
        assert_eq!(gateway.metric("batches_followed", &[]).await, 0);
    }
}

#[tokio::test]
async fn a_batch_that_its_vendor_does_not_know_any_more_is_let_go() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        gateway.adjust(slug, json!({"pace_ms": 600_000})).await;
        let read = gateway.submit(slug, "k", &order_of(slug, 3)).await;
        let read = read.accepted()["id"].as_str().unwrap().to_owned();
        gateway.store.forget_batches().await;
        let gateway = gateway.restart(Options::default().following()).await;
        sqlx::raw_sql("DELETE FROM submissions").execute(&mut gateway.store.connect().await).await.unwrap();
        gateway.batch(slug, &read).await.batch();
        // Nobody paid for it here: some answers in a row that do not know it are enough.
        gateway.forget(slug).await;
        for _ in 0..8 {
            gateway.follow_for(3_600).await;
        }
        assert_eq!((gateway.polls(slug, &read).await, gateway.listed(slug, &read).await), (4, None));
    }
}

/// A single "not found" proves nothing while the vendor should still have the batch.
#[tokio::test]
async fn a_batch_that_was_paid_for_is_shown_as_last_known_while_its_vendor_does_not_know_it() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for status in [400, 404] {
            let gateway = Options::default().following().start().await;
            gateway.adjust(slug, json!({"pace_ms": 40 * 60_000})).await;
            let reply = gateway.submit(slug, "k", &order(slug)).await;
            let id = reply.accepted()["id"].as_str().unwrap();
            // Many polls that found it must not make the next one late.
            for _ in 0..6 {
                gateway.follow_for(60).await;
            }
            let before = gateway.polls(slug, id).await;
            let missing = json!({"times": 1, "method": "GET", "answer": {"status": status, "body": "{}"}});
            gateway.fault(slug, missing).await;
            gateway.advance_seconds(30);
            let shown = gateway.batch(slug, id).await;
            assert_eq!(shown.batch()["done"], false, "{slug} {status}");
            assert_eq!(shown.body["submission_id"], reply.body["submission_id"]);
            assert_eq!(gateway.polls(slug, id).await, before + 1);
            gateway.follow_for(30).await;
            assert!(gateway.polls(slug, id).await > before + 1, "{slug} {status}: polled again soon");
            gateway.batch(slug, id).await.batch();
        }
    }
}

#[tokio::test]
async fn a_batch_that_was_paid_for_is_asked_for_until_its_time_is_over() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        let id = reply.accepted()["id"].as_str().unwrap();
        gateway.forget(slug).await;
        for polls in 1..=4 {
            gateway.follow_for(3_600).await;
            assert_eq!(gateway.polls(slug, id).await, polls, "{slug}");
        }
        // Ever more rarely.
        gateway.follow_for(60).await;
        assert_eq!(gateway.polls(slug, id).await, 4);
        gateway.follow_for(31 * 24 * 3_600).await;
        assert_eq!(gateway.polls(slug, id).await, 5);
        gateway.follow_for(24 * 3_600).await;
        assert_eq!(gateway.polls(slug, id).await, 5, "{slug}: nobody asks any more");
        let gone = gateway.batch(slug, id).await;
        match vendor.info.retention_days {
            Some(_) => gone.assert_problem(410, "batch_expired"),
            None => gone.assert_problem(404, "batch_not_found"),
        }
        assert_eq!(gateway.submission(reply.submission()).await["state"], "accepted");
    }
}

#[tokio::test]
async fn until_when_the_vendor_keeps_results_is_shown() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let reply = gateway.submit(slug, slug, &order(slug)).await;
        reply.accepted();
        for seconds in [3, 60] {
            gateway.advance_seconds(seconds);
            let batch = gateway.batch(slug, reply.id()).await;
            let time = |name: &str| batch.batch().get(name)?.as_str()?.parse::<jiff::Timestamp>().ok();
            let kept =
                time("results_expire_at").map(|until| until.duration_since(time("submitted_at").unwrap()));
            let days =
                vendor.info.retention_days.map(|days| jiff::SignedDuration::from_hours(24 * i64::from(days)));
            assert_eq!(kept, days);
        }
    }
}

#[tokio::test]
async fn a_vendor_that_is_down_is_asked_rarely_and_again_once_it_is_back() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().set("http.attempts", "1").start().await;
        let reply = gateway.submit(slug, "k", &order(slug)).await;
        let id = reply.accepted()["id"].as_str().unwrap();
        gateway.fault(slug, json!({"method": "GET", "answer": {"status": 500}})).await;
        gateway.follow_for(3).await;
        for polls in 1..=3 {
            assert_eq!(gateway.polls(slug, id).await, polls);
            gateway.follow_for(10).await;
            assert_eq!(gateway.polls(slug, id).await, polls, "15 seconds after a failure");
            gateway.follow_for(10).await;
        }
        gateway.clear_faults(slug).await;
        gateway.follow_for(60).await;
        gateway.has_ended(slug, id).await;
    }
}

#[tokio::test]
async fn a_vendors_waiting_time_holds_for_all_its_batches() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().set("http.attempts", "1").start().await;
        let mut ids = Vec::new();
        for key in ["a", "b", "c", "d"] {
            ids.push(gateway.submit(slug, &format!("{slug} {key}"), &order(slug)).await.id().to_owned());
        }
        let throttled = json!({"status": 429, "headers": {"Retry-After": "1"}});
        gateway.fault(slug, json!({"times": 1, "method": "GET", "answer": throttled})).await;
        let since = std::time::Instant::now();
        gateway.advance_seconds(60);
        for id in &ids {
            gateway.has_ended(slug, id).await;
        }
        // Those that were under way at that moment may end; the one that was refused waits, in time of the clock too.
        let refused =
            gateway.calls_with(slug, "GET").await.iter().filter(|call| call["status"] == 429).count();
        assert_eq!(refused, 1);
        assert!(since.elapsed() < std::time::Duration::from_secs(10));
        gateway.advance_seconds(60);
    }
}

#[tokio::test]
async fn a_vendor_that_names_no_waiting_time_is_not_asked_again_at_once() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().set("http.attempts", "1").start().await;
        let id = gateway.submit(slug, "k", &order(slug)).await.id().to_owned();
        let throttled = json!({"status": 429, "headers": {"Retry-After": "0"}});
        gateway.fault(slug, json!({"times": 20, "method": "GET", "answer": throttled})).await;
        gateway.follow_for(60).await;
        assert_eq!(gateway.polls(slug, &id).await, 1, "{slug}");
    }
}

#[tokio::test]
async fn a_long_batch_is_polled_rarely_and_a_short_one_often() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        gateway.adjust(slug, json!({"pace_ms": 36_000_000})).await;
        let reply = gateway.submit(slug, "k", &order_of(slug, 100)).await;
        let id = reply.accepted()["id"].as_str().unwrap();
        let mut asked = 0;
        for (seconds, polls, why) in [
            (100, 1, "young"),
            (100, 1, "still young"),
            (3_400, 1, "an hour old"),
            (300, 0, "at most every ten minutes"),
            (300, 1, "at least every ten minutes"),
            (31_200, 1, "near its end"),
            (60, 0, "a third of what is left"),
            (400, 1, "a third of what is left"),
        ] {
            gateway.follow_for(seconds).await;
            asked += polls;
            assert_eq!(gateway.polls(slug, id).await, asked, "{slug}: {why}");
        }
        gateway.advance_seconds(600);
        gateway.has_ended(slug, id).await;
    }
}

#[tokio::test]
async fn reads_and_polls_leave_enough_of_the_quota_for_orders() {
    for vendor in VENDORS.iter().filter(|vendor| vendor.info.counted == QuotaScope::AllCalls) {
        let slug = vendor.info.slug;
        let options = Options::default().following().set("cache.running_ttl", "0s");
        let options = options.vendor(slug, "quota", "10/1m");
        let gateway = options.clone().start().await;
        for _ in 0..8 {
            assert_eq!(gateway.batch(slug, "sandbox-running").await.cache(), "miss");
        }
        // Four fifths are used: what is known is served, with the time to come back, and the follower waits as well.
        let known = gateway.batch(slug, "sandbox-running").await;
        assert_eq!((&known.batch()["status"], known.cache()), (&json!("running"), "store"));
        let wait: u64 = known.header("retry-after").unwrap().parse().unwrap();
        assert!((30..=61).contains(&wait), "{wait}");
        let unknown = gateway.batch(slug, "sandbox-completed").await;
        unknown.assert_problem(503, "provider_rate_limited");
        gateway.advance_seconds(30);
        assert_eq!(gateway.calls(slug).await, 8);
        gateway.submit(slug, "first", &order(slug)).await.accepted();
        assert_eq!(gateway.calls(slug).await, 10);
        let providers = gateway.get("/providers").await.body;
        let entry = providers["providers"].as_array().unwrap().iter().find(|entry| entry["slug"] == slug);
        assert_eq!(entry.unwrap()["quota"], json!({"calls": 10, "per_seconds": 60, "used": 10}));
        // All of it is used: nothing is sent, and the order can be sent again.
        let refused = gateway.submit(slug, "second", &order(slug)).await;
        refused.assert_problem(503, "provider_rate_limited");
        assert_eq!(gateway.submission(refused.submission()).await["state"], "not_sent");
        assert_eq!((gateway.calls(slug).await, gateway.batches(slug).await), (10, 1));
        // A process counts its own calls in real time; another one goes by the store's, and the clock's.
        let gateway = gateway.restart(options.clone()).await;
        gateway.submit(slug, "second", &order(slug)).await.assert_problem(503, "provider_rate_limited");
        gateway.advance_seconds(61);
        gateway.submit(slug, "second", &order(slug)).await.accepted();
    }
}
