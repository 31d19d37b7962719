//! Experian, as its documents describe it.

use std::collections::BTreeSet;

use phone_gateway::clock::Clock;
use phone_gateway::sandbox::API_KEY;
use reqwest::Method;
use serde_json::{Value, json};

use super::{BATCHES, Lab, phones};

#[tokio::test]
async fn experian_runs_a_batch_from_creation_to_results() {
    let lab = Lab::open().await;
    let mut order = phones(100);
    order["defaults"] = json!({"batch_reference_id": "crm/42", "country_iso": "GBR"});
    let created = lab.experian(Method::POST, "", Some(&order)).await;
    assert_eq!(created.status, 200);
    assert_eq!(created.body["result"]["batch_reference_id"], "crm/42");
    let id = created.body["result"]["batch_id"].as_str().unwrap();
    lab.advance(60_000).await;
    let submitted = lab.experian(Method::GET, &format!("/{id}"), None).await.body;
    assert_eq!(submitted["result"]["status"], "submitted");
    assert_eq!(submitted["result"]["records_processed"], 0);
    assert_eq!(submitted["result"].get("date_started"), None);

    assert_eq!(lab.experian(Method::POST, &format!("/{id}/start"), None).await.status, 200);
    assert_eq!(lab.experian(Method::POST, &format!("/{id}/start"), None).await.status, 400);
    lab.advance(4_000).await;
    let running = lab.experian(Method::GET, &format!("/{id}"), None).await.body;
    assert_eq!(running["result"]["status"], "processing");
    assert_eq!(running["result"]["records"], 100);
    assert!((50..100).contains(&running["result"]["records_processed"].as_u64().unwrap()));
    assert_eq!(running.get("metadata"), None);
    let submitted_at = running["result"]["date_submitted"].as_str().unwrap();
    let fraction = submitted_at.rsplit_once('.').unwrap().1;
    assert!(fraction.len() == 8 && fraction.ends_with('Z'), "{submitted_at}");
    let none_yet = lab.experian(Method::GET, &format!("/{id}/results"), None).await;
    assert_eq!(none_yet.status, 200);
    assert_eq!(
        none_yet.body["result"],
        json!({"batch_id": id, "batch_reference_id": "crm/42", "status": "processing",
            "credits_charged": 0, "statistics": [], "phones": []})
    );

    lab.advance(4_000).await;
    let status = lab.experian(Method::GET, &format!("/{id}"), None).await.body;
    assert_eq!(status["result"]["status"], "completed");
    assert_eq!(status["result"]["records_processed"], 100);
    assert!(status["result"]["date_ended"].is_string());
    let results = lab.experian(Method::GET, &format!("/{id}/results"), None).await.body;
    let phones = results["result"]["phones"].as_array().unwrap();
    assert_eq!(phones.len(), 100);
    assert_eq!(phones[7]["number"], order["phones"][7]["number"]);
    assert_eq!(phones[7].get("metadata"), None);
    let statistics = results["result"]["statistics"].as_array().unwrap();
    assert_eq!(statistics.iter().map(|entry| entry["value"].as_u64().unwrap()).sum::<u64>(), 100);
    assert_eq!(results["result"]["credits_charged"], 100);
    let admin = lab.admin("experian").await;
    assert_eq!((&admin["charged"], &admin["refunded"]), (&json!(100), &json!(0)));
    assert_eq!(admin["counts"]["POST /phone/bulk/v1/batches/{batch_id}/start"], 2);
    assert_eq!(lab.experian(Method::POST, &format!("/{id}/stop"), None).await.status, 400);
}

#[tokio::test]
async fn experian_adds_metadata_and_charges_for_extras() {
    let lab = Lab::open().await;
    let mut order = phones(40);
    let defaults = json!({"output_format": "NATIONAL", "country_iso": "GBR", "get_ported_date": true,
        "supplementary_live_status": {"mobile": ["GBR"], "landline": ["USA"]}});
    order["defaults"] = defaults.clone();
    let id = lab.started(&order).await;
    lab.advance(8_000).await;
    let headers = [("auth-token", API_KEY), ("add-metadata", "true"), ("reference-id", "call (1)")];
    let status = lab.experian_with(Method::GET, &format!("/{id}"), &headers, None).await;
    assert_eq!(status.body["metadata"]["batch_config"], defaults);
    assert_eq!(status.headers["reference-id"], "call (1)");
    let results = lab.experian_with(Method::GET, &format!("/{id}/results"), &headers, None).await.body;
    let phones = results["result"]["phones"].as_array().unwrap();
    let mobiles = phones.iter().filter(|phone| phone["phone_type"] == "mobile").count();
    assert!(mobiles > 30);
    let ported = phones.iter().filter(|phone| phone["ported_date"] != "not applicable").count();
    assert!((1..40).contains(&ported), "some were ported and some were not");
    assert_eq!(results["result"]["credits_charged"], 40 + ported + mobiles);
    let mut ported = 0;
    for phone in phones.iter().filter(|phone| phone["phone_type"] == "mobile") {
        let metadata = &phone["metadata"];
        assert_eq!((&metadata["country_iso"], &metadata["country_prefix"]), (&json!("GBR"), &json!("44")));
        assert!(metadata["home_network_identity"].as_str().unwrap().starts_with("234"));
        assert!(phone["formatted_phone_number"].as_str().unwrap().starts_with("07400 12"));
        assert!(phone["validated_phone_number"].as_str().unwrap().starts_with("4474"));
        let moved = metadata["operator_name"] != metadata["original_operator_name"];
        assert_eq!(metadata["is_ported"], if moved { "yes" } else { "no" });
        assert_eq!(phone["ported_date"] != "not applicable", moved);
        ported += usize::from(moved);
    }
    assert!(ported > 0 && ported < mobiles);
}

#[tokio::test]
async fn experian_stops_a_batch_on_request_and_by_its_limit() {
    let lab = Lab::open().await;
    let id = lab.started(&phones(10)).await;
    lab.advance(4_000).await;
    let stopped = lab.experian(Method::POST, &format!("/{id}/stop"), None).await;
    assert_eq!(stopped.body, json!({"result": {"batch_id": id, "status": "stopped"}}));
    lab.advance(60_000).await;
    let results = lab.experian(Method::GET, &format!("/{id}/results"), None).await.body;
    let result = &results["result"];
    assert_eq!((&result["status"], result.get("reason")), (&json!("stopped"), None));
    let phones_of = result["phones"].as_array().unwrap();
    assert_eq!(phones_of.len(), 10);
    let unprocessed = json!({"number": "447400120009", "validated_phone_number": "",
        "formatted_phone_number": "", "phone_type": "", "confidence": "unprocessed"});
    assert_eq!(phones_of[9], unprocessed);
    assert_ne!(phones_of[0]["confidence"], "unprocessed");
    let handled = phones_of.iter().filter(|phone| phone["confidence"] != "unprocessed").count();
    assert_eq!(result["credits_charged"], handled);
    assert_eq!(lab.admin("experian").await["charged"], handled);
    assert_eq!(lab.experian(Method::POST, &format!("/{id}/start"), None).await.status, 400);

    lab.adjust("experian", json!({"pace_ms": 120_000})).await;
    let mut order = phones(4);
    order["defaults"] = json!({"max_processing_time": "PT1M"});
    let id = lab.started(&order).await;
    lab.advance(59_000).await;
    assert_eq!(
        lab.experian(Method::GET, &format!("/{id}"), None).await.body["result"]["status"],
        "processing"
    );
    lab.advance(61_000).await;
    let status = lab.experian(Method::GET, &format!("/{id}"), None).await.body;
    assert_eq!(status["result"]["status"], "stopped");
    assert_eq!(status["result"]["reason"], "max_processing_time_reached");
    assert_eq!(status["result"]["records_processed"], 2);

    let id = lab.created(&phones(2)).await;
    assert_eq!(lab.experian(Method::POST, &format!("/{id}/stop"), None).await.status, 200);
    let results = lab.experian(Method::GET, &format!("/{id}/results"), None).await.body;
    assert_eq!(results["result"]["credits_charged"], 0);
    assert_eq!(results["result"]["statistics"], json!([{"name": "unprocessed", "value": 2}]));
}

#[tokio::test]
async fn experian_refuses_what_its_documents_refuse() {
    let lab = Lab::open().await;
    lab.adjust("experian", json!({"rate_limit": 1_000})).await;
    let with = |name: &str, value: Value| json!({"phones": [{"number": "1"}], "defaults": {name: value}});
    for body in [
        json!({}),
        json!({"phones": []}),
        phones(10_001),
        json!({"phones": [{"number": "1"}], "extra": 1}),
        json!({"phones": [{"number": "1", "id": 7}]}),
        json!({"phones": [{"number": "1".repeat(1_001)}]}),
        json!({"phones": [{"number": "1", "country_iso": "GB"}]}),
        with("get_disposable_number", json!(true)),
        with("output_format", json!("e164")),
        with("country_iso", json!("GB")),
        with("batch_reference_id", json!("a|b")),
        with("batch_reference_id", json!("a".repeat(257))),
        with("max_processing_time", json!("PT59S")),
        with("max_processing_time", json!("PT25H")),
        with("max_processing_time", json!("25 minutes")),
        // Eleven characters, though it is 24 hours.
        with("max_processing_time", json!("PT00001440M")),
    ] {
        let reply = lab.experian(Method::POST, "", Some(&body)).await;
        assert_eq!(reply.status, 400, "{}", body.to_string().get(..80).unwrap_or_default());
        assert_eq!(reply.headers["content-type"], "application/json");
        assert_eq!(reply.body["error"]["title"], "Bad Request");
        assert_eq!(reply.body["error"]["instance"], BATCHES);
    }
    for body in [
        phones(10_000),
        with("output_format", json!("FRA")),
        with("max_processing_time", json!("PT24H")),
        with("max_processing_time", json!("PT0001440M")),
        with("country_iso", Value::Null),
    ] {
        assert_eq!(lab.experian(Method::POST, "", Some(&body)).await.status, 200);
    }
    let token = ("auth-token", API_KEY);
    let id = lab.created(&phones(1)).await;
    let path = format!("/{id}");
    let get = async |path: &str, headers: &[(&str, &str)]| {
        lab.experian_with(Method::GET, path, headers, None).await.status.as_u16()
    };
    assert_eq!(get(&path, &[token, ("reference-id", "a|b")]).await, 400);
    assert_eq!(get(&path, &[token, ("add-metadata", "1")]).await, 400);
    assert_eq!(get(&path, &[token, ("accept", "text/html")]).await, 406);
    assert_eq!(get(&path, &[token, ("accept", "text/html, */*;q=0.1")]).await, 200);
    assert_eq!(get("/not-an-id", &[token]).await, 400);
    assert_eq!(get("/7f0c6f4e-0000-4000-8000-000000000000", &[token]).await, 404);
    assert_eq!(get("/7f0c6f4e/nothing/here", &[token]).await, 404);
    assert_eq!(get(&path, &[]).await, 400);
    assert_eq!(get(&path, &[("auth-token", "wrong")]).await, 401);
    assert_eq!(get(&path, &[("x-app-key", API_KEY)]).await, 200);
    for key in ["sandbox-other-product", "sandbox-no-phones", "sandbox-disabled"] {
        assert_eq!(get(&path, &[("auth-token", key)]).await, 403, "{key}");
    }
    lab.advance(28 * 24 * 3_600_000 + 60_000).await;
    assert_eq!(get(&path, &[token]).await, 400);
    assert_eq!(lab.experian(Method::GET, "", None).await.body, json!({"result": {"batches": []}}));
}

#[tokio::test]
async fn experian_refuses_every_call_of_an_account_without_credits() {
    let lab = Lab::open().await;
    let path = format!("/{}", lab.created(&phones(1)).await);
    let (start, stop, results) = (format!("{path}/start"), format!("{path}/stop"), format!("{path}/results"));
    let no_credits = [("auth-token", "sandbox-no-credits")];
    let one = phones(1);
    for (method, path, body) in [
        (Method::POST, "", Some(&one)),
        (Method::POST, &*start, None),
        (Method::POST, &*stop, None),
        (Method::GET, "", None),
        (Method::GET, &*path, None),
        (Method::GET, &*results, None),
        (Method::GET, "/sandbox-completed", None),
        (Method::GET, "/sandbox-completed/results", None),
    ] {
        let refused = lab.experian_with(method.clone(), path, &no_credits, body).await;
        assert_eq!(refused.status, 403, "{method} {path}");
        assert!(refused.body["error"]["detail"].as_str().unwrap().contains("credits"), "{method} {path}");
    }
    let status = lab.experian(Method::GET, &path, None).await;
    assert_eq!(status.body["result"]["status"], "submitted", "none of the calls was carried out");
}

#[tokio::test]
async fn experian_accepts_bodies_of_json_only() {
    let lab = Lab::open().await;
    let path = format!("/{}", lab.created(&phones(1)).await);
    let post = async |path: &str, content_type: Option<&str>, body: Option<String>| {
        let url = lab.sandbox.base_url("experian") + BATCHES + path;
        let mut request = lab.http.post(url).header("auth-token", API_KEY);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let body = || Some(phones(1).to_string());
    for content_type in [None, Some("text/plain"), Some("application/problem+json"), Some("json")] {
        assert_eq!(post("", content_type, body()).await, 415, "{content_type:?}");
        for step in ["start", "stop"] {
            assert_eq!(post(&format!("{path}/{step}"), content_type, body()).await, 415, "{content_type:?}");
        }
    }
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(post("", Some(content_type), body()).await, 200, "{content_type}");
    }
    // Start and stop are documented without a body: a header about none is no reason to refuse them.
    assert_eq!(post(&format!("{path}/start"), Some("text/plain"), None).await, 200);
    assert_eq!(post(&format!("{path}/stop"), None, None).await, 200);
}

#[tokio::test]
async fn experian_lists_batches_with_their_references() {
    let lab = Lab::open().await;
    let mut order = phones(2);
    order["defaults"] = json!({"batch_reference_id": "submission-1"});
    let first = lab.created(&order).await;
    let second = lab.started(&phones(1)).await;
    let list = lab.experian(Method::GET, "", None).await.body;
    let batches = list["result"]["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 2);
    assert_eq!((&batches[0]["batch_id"], &batches[0]["status"]), (&json!(first), &json!("submitted")));
    assert_eq!(batches[0]["batch_reference_id"], "submission-1");
    assert_eq!((&batches[1]["batch_id"], &batches[1]["status"]), (&json!(second), &json!("processing")));
}

#[tokio::test]
async fn experian_counts_every_call_of_the_account() {
    let lab = Lab::open().await;
    let first = lab.experian(Method::GET, "", None).await;
    assert_eq!(first.headers["x-rate-limit-limit"], "150");
    assert_eq!(first.headers["x-rate-limit-remaining"], "149");
    let reset: i64 = first.headers["x-rate-limit-reset"].to_str().unwrap().parse().unwrap();
    let now = Clock::default().now().as_second();
    assert!((now..=now + 61).contains(&reset));
    lab.adjust("experian", json!({"rate_limit": 2})).await;
    assert_eq!(lab.experian(Method::GET, "/not-an-id", None).await.headers["x-rate-limit-remaining"], "0");
    let other_token = [("auth-token", "sandbox-no-credits")];
    let refused = lab.experian_with(Method::GET, "", &other_token, None).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers["x-rate-limit-remaining"], "0");
    assert_eq!(refused.headers["x-rate-limit-reset"], reset.to_string());
    lab.advance(60_000).await;
    assert_eq!(lab.experian(Method::GET, "", None).await.status, 200);
}

#[tokio::test]
async fn experian_ready_made_ids_show_what_they_say() {
    let lab = Lab::open().await;
    let read = async |path: &str| lab.experian(Method::GET, &format!("/{path}"), None).await;
    let metadata = [("auth-token", API_KEY), ("add-metadata", "true")];
    let documented = "/00000000-0000-0000-0000-000000000000";
    let status = lab.experian(Method::GET, documented, None).await.body;
    assert_eq!(status["result"]["status"], "completed");
    let results =
        lab.experian_with(Method::GET, &format!("{documented}/results"), &metadata, None).await.body;
    assert_eq!(results["result"]["statistics"], json!([{"name": "verified", "value": 1}]));
    let phone = &results["result"]["phones"][0];
    assert_eq!(phone["number"], "12269724276");
    assert_eq!(phone["metadata"]["operator_name"], "Rogers Wireless");
    assert_eq!(phone["metadata"]["original_home_network_identity"], "302610");

    let completed = read("sandbox-completed/results").await.body;
    let words = |field: &str| -> BTreeSet<String> {
        let phones = completed["result"]["phones"].as_array().unwrap();
        phones.iter().map(|phone| phone[field].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((words("confidence").len(), words("phone_type").len()), (7, 14));
    for (id, word, reason) in [
        ("sandbox-submitted", "submitted", None),
        ("sandbox-running", "processing", None),
        ("sandbox-all-options", "processing", None),
        ("sandbox-stopped", "stopped", None),
        ("sandbox-stopped-by-limit", "stopped", Some("max_processing_time_reached")),
        ("sandbox-unknown-status", "paused", None),
        ("sandbox-results-pending", "completed", None),
    ] {
        for path in [id.to_owned(), format!("{id}/results")] {
            let result = &read(&path).await.body["result"];
            assert_eq!((&result["batch_id"], &result["status"]), (&json!(id), &json!(word)), "{path}");
            assert_eq!(result.get("reason").and_then(Value::as_str), reason, "{path}");
        }
    }
    assert_eq!(read("sandbox-running").await.body["result"]["records_processed"], 8);
    let all = lab.experian_with(Method::GET, "/sandbox-all-options", &metadata, None).await.body;
    let options = json!({
        "output_format": "E164", "country_iso": "GBR", "get_ported_date": true,
        "supplementary_live_status": {"landline": ["GBR"]},
    });
    assert_eq!(all["metadata"], json!({"batch_config": options}));
    assert_eq!((&all["result"]["records"], &all["result"]["records_processed"]), (&json!(16), &json!(8)));
    assert_eq!(read("sandbox-running/results").await.body["result"]["phones"], json!([]));
    assert_eq!(read("sandbox-results-pending/results").await.body["result"]["phones"], json!([]));
    assert_eq!(
        read("sandbox-short-results/results").await.body["result"]["phones"].as_array().unwrap().len(),
        15
    );
    let other = read("sandbox-other-batch").await.body;
    assert_eq!(other["result"]["batch_id"], "00000000-0000-0000-0000-000000000000");
    let unknown = read("sandbox-unknown-outcome/results").await.body;
    assert_eq!(unknown["result"]["phones"][0]["confidence"], "recycled");
    assert_eq!(lab.experian(Method::POST, "/sandbox-submitted/start", None).await.status, 200);
    assert_eq!(lab.experian(Method::POST, "/sandbox-running/start", None).await.status, 400);
    assert_eq!(lab.experian(Method::POST, "/sandbox-running/stop", None).await.status, 200);
    assert_eq!(lab.experian(Method::POST, "/sandbox-completed/stop", None).await.status, 400);
    for (id, status) in [
        ("sandbox-expired", 400),
        ("sandbox-not-found", 404),
        ("sandbox-error-401", 401),
        ("sandbox-error-403", 403),
        ("sandbox-error-429", 429),
        ("sandbox-error-500", 500),
        ("sandbox-error-503", 503),
    ] {
        let reply = read(id).await;
        assert_eq!(reply.status, status, "{id}");
        assert!(reply.body["error"]["detail"].is_string());
    }
    let limited = read("sandbox-error-429").await;
    let reset: i64 = limited.headers["x-rate-limit-reset"].to_str().unwrap().parse().unwrap();
    assert!((1..=4).contains(&(reset - Clock::default().now().as_second())));
    assert!(read("sandbox-error-html/results").await.text.starts_with("<!DOCTYPE html>"));
    assert_eq!(read("sandbox-error-malformed").await.body, Value::Null);
    let url = lab.sandbox.base_url("experian") + BATCHES + "/sandbox-cut";
    let cut = lab.http.get(url).header("auth-token", API_KEY).send().await.unwrap();
    assert!(cut.bytes().await.is_err());
}

#[tokio::test]
async fn experian_dates_have_seven_digits_and_do_not_change_between_reads() {
    let lab = Lab::open().await;
    let dates = async |id: &str| {
        let status = lab.experian(Method::GET, &format!("/{id}"), None).await.body;
        ["date_submitted", "date_started", "date_ended"].map(|name| status["result"].get(name).cloned())
    };
    let own = lab.started(&phones(3)).await;
    for (id, shown) in [
        (&*own, [true, true, false]),
        ("00000000-0000-0000-0000-000000000000", [true, true, true]),
        ("sandbox-all-options", [true, true, false]),
        ("sandbox-submitted", [true, false, false]),
        ("sandbox-running", [true, true, false]),
        ("sandbox-unknown-status", [true, true, false]),
        ("sandbox-stopped", [true, true, true]),
    ] {
        let first = dates(id).await;
        assert_eq!(first.each_ref().map(Option::is_some), shown, "{id}");
        for date in first.iter().flatten() {
            let (_, fraction) = date.as_str().unwrap().split_once('.').unwrap();
            assert!(fraction.len() == "0000000Z".len() && fraction.ends_with('Z'), "{id} {date}");
        }
        lab.advance(1_500).await;
        assert_eq!(dates(id).await, first, "{id}");
    }
    lab.advance(3_600_000).await;
    let later = lab.experian(Method::GET, "/sandbox-running", None).await.body;
    assert_eq!(
        (&later["result"]["status"], &later["result"]["records_processed"]),
        (&json!("processing"), &json!(8))
    );
}
