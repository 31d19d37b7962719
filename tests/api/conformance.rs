//! The same checks for every vendor of the list: a new one is held to them by being there.

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;
use phone_gateway::sandbox::API_KEY;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;

use crate::helpers::{FIREWALL_PAGE, Options, TestGateway, VENDOR_ERROR};

#[tokio::test]
async fn a_completed_batch_costs_no_call_ever_again() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let first = gateway.batch(slug, "sandbox-completed").await;
        let batch = first.batch();
        assert_eq!((&batch["provider"], &batch["id"]), (&json!(slug), &json!("sandbox-completed")));
        assert_eq!((&batch["status"], &batch["done"]), (&json!("completed"), &json!(true)));
        assert!(batch["results"].as_array().unwrap().len() > 1);
        assert_eq!(first.cache(), "miss");
        let calls = gateway.calls(slug).await;
        assert!((1..=2).contains(&calls));
        for seconds in [0, 3, 3_600, 24 * 3_600] {
            gateway.advance_seconds(seconds);
            let again = gateway.batch(slug, "sandbox-completed").await;
            assert_eq!((again.cache(), &again.bytes), ("hit", &first.bytes));
            assert_eq!(again.header("etag"), first.header("etag"));
            assert_eq!(gateway.calls(slug).await, calls, "{slug} after {seconds} s");
        }
    }
}

#[tokio::test]
async fn a_running_batch_is_asked_for_again_after_two_seconds() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let first = gateway.batch(slug, "sandbox-running").await;
        assert_eq!(first.batch()["status"], "running");
        let wait: u64 = first.header("retry-after").unwrap().parse().unwrap();
        assert!((2..=60).contains(&wait), "{slug}: {wait} s");
        let calls = gateway.calls(slug).await;
        let again = gateway.batch(slug, "sandbox-running").await;
        assert_eq!((again.cache(), &again.bytes), ("hit", &first.bytes));
        assert_eq!(gateway.calls(slug).await, calls);
        gateway.advance_seconds(2);
        assert_eq!(gateway.batch(slug, "sandbox-running").await.cache(), "miss");
        assert_eq!(gateway.calls(slug).await, 2 * calls);
    }
    let patient = Options::default().set("cache.running_ttl", "90s").start().await;
    for vendor in VENDORS {
        let first = patient.batch(vendor.info.slug, "sandbox-running").await;
        assert_eq!(first.header("retry-after"), Some("90"));
        patient.advance_seconds(60);
        assert_eq!(patient.batch(vendor.info.slug, "sandbox-running").await.cache(), "hit");
    }
}

#[tokio::test]
async fn nothing_of_a_batch_that_is_not_done_looks_like_a_result() {
    let gateway = Options::default().set("http.attempts", "1").start().await;
    let mut seen = 0;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway.adjust(slug, json!({"rate_limit": 10_000})).await;
        for ready_made in vendor.simulator.ready_made.iter().filter(|batch| !batch.id.contains("slow")) {
            let reply = gateway.batch(slug, ready_made.id).await;
            if reply.status != 200 {
                continue;
            }
            // Checks that only a batch that is done has results, and never an empty list.
            let batch = reply.batch();
            if batch["done"] == false {
                seen += 1;
                for field in ["results", "outcomes", "cost", "ended_at"] {
                    assert_eq!(batch.get(field), None, "{slug} {}", ready_made.id);
                }
            }
        }
    }
    assert!(seen >= 2 * VENDORS.len());
}

#[tokio::test]
async fn an_unknown_batch_is_believed_for_half_a_minute() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for (nth, id) in (1..).zip(["sandbox-not-found", "no-such-batch"]) {
            gateway.batch(slug, id).await.assert_problem(404, "batch_not_found");
            assert_eq!(gateway.calls(slug).await, 2 * nth - 1);
            gateway.advance_seconds(20);
            gateway.batch(slug, id).await.assert_problem(404, "batch_not_found");
            assert_eq!(gateway.calls(slug).await, 2 * nth - 1, "{slug}: it is kept");
            gateway.advance_seconds(10);
            gateway.batch(slug, id).await.assert_problem(404, "batch_not_found");
            assert_eq!(gateway.calls(slug).await, 2 * nth, "{slug}: it is asked for again");
        }
    }
}

#[tokio::test]
async fn a_batch_that_ended_badly_is_kept_for_a_minute() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let ended = ["sandbox-failed", "sandbox-stopped", "sandbox-stopped-by-limit"];
        let ended =
            ended.iter().filter(|id| vendor.simulator.ready_made.iter().any(|batch| batch.id == **id));
        assert!(ended.clone().count() > 0);
        for id in ended {
            let gateway = TestGateway::start().await;
            let first = gateway.batch(slug, id).await;
            assert!(["failed", "stopped"].contains(&first.batch()["status"].as_str().unwrap()));
            let calls = gateway.calls(slug).await;
            gateway.advance_seconds(45);
            assert_eq!(gateway.batch(slug, id).await.cache(), "hit");
            assert_eq!(gateway.calls(slug).await, calls);
            gateway.advance_seconds(15);
            assert_eq!(gateway.batch(slug, id).await.cache(), "miss");
            assert_eq!(gateway.calls(slug).await, 2 * calls, "{slug} {id}");
        }
    }
}

#[tokio::test]
async fn a_batch_that_lacks_results_is_served_with_a_warning_and_not_kept() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let first = gateway.batch(slug, "sandbox-short-results").await;
        let batch = first.batch();
        assert_eq!(
            (&batch["status"], &batch["warnings"]),
            (&json!("completed"), &json!(["results_incomplete"]))
        );
        let requested = batch["progress"]["requested"].as_u64().unwrap();
        assert!((batch["results"].as_array().unwrap().len() as u64) < requested);
        gateway.advance_seconds(2);
        assert_eq!(gateway.batch(slug, "sandbox-short-results").await.cache(), "miss");
    }
}

#[tokio::test]
async fn words_that_the_schema_does_not_know_are_neither_errors_nor_success() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let status = gateway.batch(slug, "sandbox-unknown-status").await;
        let batch = status.batch();
        assert_eq!((&batch["status"], &batch["done"]), (&json!("unknown"), &json!(false)));
        assert!(!batch["provider_status"].as_str().unwrap().is_empty());
        let outcome = gateway.batch(slug, "sandbox-unknown-outcome").await;
        let results = outcome.batch()["results"].as_array().unwrap();
        let unknown: Vec<_> = results.iter().filter(|result| result["outcome"] == "unknown").collect();
        assert_eq!(unknown.len(), 1, "{slug}");
        assert!(unknown[0]["provider_outcome"].is_string());
        assert_eq!(outcome.body["outcomes"]["unknown"], 1);
    }
}

#[tokio::test]
async fn a_vendor_that_refuses_our_key_is_our_fault_and_never_the_callers() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for key in ["wrong", "sandbox-disabled", "sandbox-other-product", "sandbox-no-phones"] {
            let gateway = Options::default().vendor(slug, "api_key", key).start().await;
            let reply = gateway.batch(slug, "sandbox-completed").await;
            reply.assert_problem(502, "provider_credentials");
            assert_eq!(reply.header("retry-after"), None);
            assert_eq!(gateway.calls(slug).await, 1, "it is not tried again");
            assert!(!reply.text().contains(&format!("\"{key}\"")));
        }
    }
}

#[tokio::test]
async fn every_failure_of_a_vendor_has_its_code() {
    let html =
        json!({"status": 200, "body": "<html><h1>Bad Gateway</h1></html>", "content_type": "text/html"});
    let page =
        json!({"status": 502, "body": "<html><h1>Bad Gateway</h1></html>", "content_type": "text/html"});
    let wait = json!({"Retry-After": "7"});
    let table = [
        (json!({"status": 500}), 502, "provider_error", None),
        (json!({"status": 502}), 502, "provider_error", None),
        (json!({"status": 504}), 502, "provider_error", None),
        (json!({"status": 500, "headers": wait}), 502, "provider_error", Some("7")),
        (page, 502, "provider_error", None),
        (json!({"status": 503}), 503, "provider_unavailable", Some("5")),
        (json!({"status": 503, "headers": wait}), 503, "provider_unavailable", Some("7")),
        (json!({"status": 429}), 503, "provider_rate_limited", Some("5")),
        (json!({"status": 429, "headers": wait}), 503, "provider_rate_limited", Some("7")),
        (json!({"status": 401, "body": VENDOR_ERROR}), 502, "provider_credentials", None),
        (json!({"status": 403, "body": VENDOR_ERROR}), 502, "provider_credentials", None),
        (json!({"status": 401}), 502, "provider_error", None),
        (json!({"status": 403}), 502, "provider_error", None),
        (
            json!({"status": 403, "body": FIREWALL_PAGE, "content_type": "text/html"}),
            502,
            "provider_error",
            None,
        ),
        (json!({"status": 406}), 502, "provider_error", None),
        (json!({"status": 408}), 502, "provider_error", None),
        (json!({"status": 415}), 502, "provider_error", None),
        (json!({"status": 402}), 402, "provider_credits_exhausted", None),
        (json!({"status": 418}), 502, "provider_error", None),
        (json!({"status": 302, "headers": {"Location": "/"}}), 502, "provider_error", None),
        (html, 502, "provider_malformed", None),
        (json!({"status": 200}), 502, "provider_malformed", None),
        (json!({"status": 204}), 502, "provider_malformed", None),
        (
            json!({"status": 200, "body": "{\"result\":{\"batch_id\":\"sandbox-co"}),
            502,
            "provider_malformed",
            None,
        ),
        (json!({"status": 200, "body": "[]"}), 502, "provider_malformed", None),
        (json!({"status": 200, "body": "null"}), 502, "provider_malformed", None),
        (json!({"status": 200, "body": "{}"}), 502, "provider_malformed", None),
        (json!({"status": 200, "body": "[".repeat(100_000)}), 502, "provider_malformed", None),
        (json!({"status": 400}), 404, "batch_not_found", None),
        (json!({"status": 404}), 404, "batch_not_found", None),
    ];
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for (answer, status, code, retry_after) in &table {
            let options = Options::default().set("http.attempts", "1").without_credentials_pause();
            let gateway = options.set("http.read_deadline", "500ms").start().await;
            gateway.fault(slug, json!({"answer": answer})).await;
            let reply = gateway.batch(slug, "sandbox-completed").await;
            reply.assert_problem(*status, code);
            assert_eq!(reply.body["provider"], slug);
            assert_eq!(reply.header("retry-after"), *retry_after, "{slug} {answer}");
            assert_eq!(reply.header("etag"), None);
            assert!(!reply.text().contains("Bad Gateway<"), "nothing of the vendor's body");
            gateway.clear_faults(slug).await;
            gateway.advance_seconds(30);
            let again = gateway.batch(slug, "sandbox-completed").await;
            if *code == "provider_rate_limited" && retry_after == &Some("7") {
                again.assert_problem(*status, code);
            } else {
                // None of it was kept.
                again.batch();
            }
        }
    }
}

#[tokio::test]
async fn the_ready_made_errors_are_what_they_show() {
    let gateway = Options::default().set("http.attempts", "1").without_credentials_pause().start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for (id, status, code) in [
            ("sandbox-not-found", 404, "batch_not_found"),
            ("sandbox-older-not-found", 404, "batch_not_found"),
            ("sandbox-expired", 410, "batch_expired"),
            ("sandbox-other-batch", 502, "provider_integrity"),
            ("sandbox-error-401", 502, "provider_credentials"),
            ("sandbox-error-403", 502, "provider_credentials"),
            ("sandbox-error-429", 503, "provider_rate_limited"),
            ("sandbox-error-500", 502, "provider_error"),
            ("sandbox-error-503", 503, "provider_unavailable"),
            ("sandbox-error-html", 502, "provider_malformed"),
            ("sandbox-error-malformed", 502, "provider_malformed"),
            ("sandbox-cut", 502, "provider_unreachable"),
        ] {
            if vendor.simulator.ready_made.iter().any(|batch| batch.id == id) {
                let reply = gateway.batch(slug, id).await;
                reply.assert_problem(status, code);
                if id == "sandbox-error-429" {
                    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
                    assert!((1..=3).contains(&wait), "{slug}: {wait}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_or_not_whole_is_not_kept() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let options = Options::default().set("http.attempts", "1").vendor(slug, "timeout", "200ms");
        let gateway = options.start().await;
        for (fault, status, code) in [
            (json!({"hang": true}), 504, "provider_timeout"),
            (json!({"delay_ms": 5_000}), 504, "provider_timeout"),
            (json!({"cut": true}), 502, "provider_unreachable"),
        ] {
            gateway.fault(slug, fault).await;
            let since = Instant::now();
            gateway.batch(slug, "sandbox-completed").await.assert_problem(status, code);
            assert!(since.elapsed() < Duration::from_secs(3));
            gateway.clear_faults(slug).await;
        }
        // The same gateway, the vendor mended: nothing of the failures is left.
        let reply = gateway.batch(slug, "sandbox-completed").await;
        assert_eq!((reply.cache(), &reply.batch()["status"]), ("miss", &json!("completed")));
    }
}

#[tokio::test]
async fn a_vendor_that_is_down_is_tried_three_times() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let gateway = Options::default().vendor(slug, "base_url", format!("http://{closed}")).start().await;
        gateway.batch(slug, "x").await.assert_problem(502, "provider_unreachable");
        let provider = format!("provider=\"{slug}\"");
        let unreachable = ["result=\"unreachable\"", &*provider];
        assert_eq!(gateway.metric("provider_requests_total", &unreachable).await, 3);
        assert_eq!(gateway.metric("provider_retries_total", &[&provider]).await, 2);
    }
}

#[tokio::test]
async fn a_read_that_fails_once_is_sent_again() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let undisturbed = TestGateway::start().await;
        undisturbed.batch(slug, "sandbox-completed").await;
        let needed = undisturbed.calls(slug).await;
        for fault in [
            json!({"answer": {"status": 503}}),
            json!({"answer": {"status": 500}}),
            json!({"answer": {"status": 429, "headers": {"Retry-After": "0"}}}),
            json!({"cut": true}),
        ] {
            let gateway = TestGateway::start().await;
            let mut once = fault.clone();
            once["times"] = 1.into();
            gateway.fault(slug, once).await;
            gateway.batch(slug, "sandbox-completed").await.batch();
            assert_eq!(gateway.calls(slug).await, needed + 1, "{slug} {fault}");
            assert_eq!(gateway.metric("provider_retries_total", &[]).await, 1);
        }
        let gateway = TestGateway::start().await;
        gateway.fault(slug, json!({"answer": {"status": 503}})).await;
        gateway.batch(slug, "sandbox-completed").await.assert_problem(503, "provider_unavailable");
        assert_eq!(gateway.calls(slug).await, 3, "{slug}: three tries and no more");
    }
}

#[tokio::test]
async fn every_call_carries_the_key_where_the_vendor_wants_it_and_nowhere_else() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let path = format!("/batches/{slug}/sandbox-completed");
        let request =
            gateway.request(Method::GET, &path).header("cookie", "a=b").bearer_auth("pgw_of-the-caller");
        gateway.send(request).await.batch();
        for call in gateway.admin(slug).await["calls"].as_array().unwrap() {
            let headers = call["headers"].as_object().unwrap();
            let key = format!("{}{API_KEY}", vendor.info.key_prefix);
            assert_eq!(headers[vendor.info.key_header], key);
            let text = call.to_string();
            assert_eq!(text.matches(&format!("\"{key}\"")).count(), 1, "{text}");
            for name in ["authorization", "cookie", "accept-encoding", "referer"] {
                let wanted = name == vendor.info.key_header;
                assert!(wanted || !headers.contains_key(name), "{slug} is sent {name}");
            }
            assert!(!text.contains("pgw_of-the-caller"));
        }
    }
}
