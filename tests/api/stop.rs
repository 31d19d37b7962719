//! Stopping a batch at its vendor.

use phone_gateway::providers::VENDORS;
use serde_json::json;

use crate::helpers::{Options, TestGateway, VENDOR_ERROR, order, order_of};

#[tokio::test]
async fn a_batch_at_work_is_stopped_and_shows_it() {
    for vendor in VENDORS.iter().filter(|vendor| vendor.info.stops) {
        let slug = vendor.info.slug;
        let gateway = Options::default().following().start().await;
        let reply = gateway.submit(slug, "k", &order_of(slug, 8)).await;
        gateway.advance_seconds(3);
        let stopped = gateway.stop_batch(slug, reply.id()).await;
        assert_eq!((stopped.status, &stopped.body["status"]), (200, &json!("stopped")), "{}", stopped.text());
        gateway.assert_schema("Batch", &stopped.body).await;
        let batch = gateway.batch(slug, reply.id()).await;
        assert_eq!(batch.batch(), &stopped.body);
        let results = batch.body["results"].as_array().unwrap();
        let unprocessed = results.iter().filter(|result| result["outcome"] == "unprocessed").count();
        assert!(unprocessed > 0 && unprocessed < 8, "{unprocessed}");
        assert_eq!((gateway.charged(slug).await, results.len()), (8 - unprocessed as u64, 8));
        gateway.has_ended(slug, reply.id()).await;
        // Once more is nothing more.
        let posts = gateway.posts(slug).await;
        assert_eq!(gateway.stop_batch(slug, reply.id()).await.body["status"], "stopped");
        assert_eq!(gateway.posts(slug).await, posts);
    }
}

#[tokio::test]
async fn a_batch_that_has_ended_is_answered_as_it_is() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS.iter().filter(|vendor| vendor.info.stops) {
        let slug = vendor.info.slug;
        let reply = gateway.submit(slug, slug, &order(slug)).await;
        gateway.advance_seconds(60);
        let stopped = gateway.stop_batch(slug, reply.id()).await;
        assert_eq!((stopped.status, &stopped.body["status"]), (200, &json!("completed")));
        assert_eq!(gateway.batch(slug, reply.id()).await.batch(), &stopped.body);
        let stops = gateway.calls_with(slug, "POST").await;
        assert!(!stops.iter().any(|call| call["path"].as_str().unwrap().ends_with("/stop")));
    }
}

#[tokio::test]
async fn what_cannot_be_stopped_says_why() {
    let gateway = Options::default().set("http.attempts", "1").without_credentials_pause().start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        if !vendor.info.stops {
            gateway.stop_batch(slug, "sandbox-running").await.assert_problem(501, "not_supported");
            gateway.stop_batch(slug, "sandbox-completed").await.assert_problem(501, "not_supported");
            assert_eq!(gateway.calls(slug).await, 0);
            continue;
        }
        gateway.stop_batch(slug, "no-such-batch").await.assert_problem(404, "batch_not_found");
        gateway.stop_batch(slug, "a.b").await.assert_problem(400, "invalid_batch_id");
        let reply = gateway.submit(slug, slug, &order(slug)).await;
        for (answer, status, code) in [
            (json!({"status": 503}), 503, "provider_unavailable"),
            (json!({"status": 500}), 502, "provider_error"),
            (json!({"status": 401, "body": VENDOR_ERROR}), 502, "provider_credentials"),
            (json!({"status": 403}), 502, "provider_error"),
            // A batch that was just read is not unknown.
            (json!({"status": 404, "body": VENDOR_ERROR}), 502, "provider_error"),
        ] {
            let posts = gateway.posts(slug).await;
            gateway.fault(slug, json!({"times": 1, "method": "POST", "answer": answer})).await;
            gateway.stop_batch(slug, reply.id()).await.assert_problem(status, code);
            assert_eq!(gateway.posts(slug).await, posts + 1, "it is sent once");
            assert_eq!(gateway.batch(slug, reply.id()).await.batch()["done"], false);
        }
        // The vendor stopped it and its answer was lost: what the batch shows counts.
        gateway.fault(slug, json!({"times": 1, "method": "POST", "cut": true})).await;
        assert_eq!(gateway.stop_batch(slug, reply.id()).await.body["status"], "stopped");
    }
}
