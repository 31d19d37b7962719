//! Enrow, as its documents describe it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use phone_gateway::sandbox::API_KEY;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Lab, people};

#[tokio::test]
async fn enrow_runs_a_batch_from_submission_to_refund() {
    let lab = Lab::open().await;
    let mut order = people(10);
    order["custom"] = json!({"campaign": 7});
    order["searches"][3] = json!({"linkedin_url": "https://www.linkedin.com/in/ada", "custom": "row-4"});
    order["searches"][4] = json!({"first_name": "Old", "last_name": "Client", "company_name": "Acme"});
    let created = lab.enrow(Method::POST, "/phone/bulk", Some(&order)).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.body["message"], "Bulk search operating");
    assert_eq!(created.body["credits_used"], 400);
    assert!(created.body["estimated_duration"].is_u64());
    let id = created.body["id"].as_str().unwrap();
    let path = format!("/phone/bulk?id={id}");

    lab.advance(4_000).await;
    let running = lab.enrow(Method::GET, &path, None).await;
    assert_eq!(running.status, 200);
    assert_eq!(running.body["general"], json!({"id": id, "status": "ongoing"}));
    assert_eq!(running.body["stats"]["requested"], 10);
    assert!((5..10).contains(&running.body["stats"]["finished"].as_u64().unwrap()));
    assert_eq!(running.body.get("results"), None);
    assert_eq!(lab.admin("enrow").await["refunded"], 0);

    lab.advance(4_000).await;
    let finished = lab.enrow(Method::GET, &path, None).await;
    assert_eq!(finished.body["general"], json!({"id": id, "status": "completed", "custom": {"campaign": 7}}));
    let results = finished.body["results"].as_array().unwrap();
    let indexes: BTreeSet<u64> = results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (0..10).collect());
    for result in results {
        let index = usize::try_from(result["index"].as_u64().unwrap()).unwrap();
        assert_eq!(result["params"], order["searches"][index]);
        let found = result["qualification"] == "found";
        assert!(found || result["qualification"] == "not_found");
        assert_eq!(result.get("number").is_some(), found);
        assert_eq!(result.get("country").is_some(), found);
    }
    let found = results.iter().filter(|result| result["qualification"] == "found").count();
    assert!(found > 0 && found < 10);
    let refund = 40 * (10 - found);
    let stats = json!({"credits_cost": 400, "credits_to_refund": refund, "found": found, "requested": 10});
    assert_eq!(finished.body["stats"], stats);
    assert_eq!(lab.enrow(Method::GET, &path, None).await.text, finished.text);

    let admin = lab.admin("enrow").await;
    assert_eq!(admin["charged"], 400);
    assert_eq!(admin["refunded"], refund);
    assert_eq!(admin["batches"], 1);
    assert_eq!(admin["counts"], json!({"POST /phone/bulk": 1, "GET /phone/bulk": 3}));
    let account = lab.enrow(Method::GET, "/account/info", None).await;
    assert_eq!(account.body["credits"], 36_000 - 400 + refund);
}

#[tokio::test]
async fn enrow_refuses_what_its_documents_refuse() {
    let lab = Lab::open().await;
    lab.adjust("enrow", json!({"rate_limit": 1_000})).await;
    let mut bad_item = people(50);
    bad_item["searches"][7] = json!({"firstname": "Grace"});
    let mut bad_custom = people(1);
    bad_custom["searches"][0]["custom"] = json!(7);
    let mut bad_webhook = people(1);
    bad_webhook["settings"] = json!({"webhook": "http://example.com/"});
    let none = "At least 1 phone search must be present in the payload";
    for (body, message) in [
        (json!({}), none),
        (json!({"searches": []}), none),
        (json!({"searches": "x"}), none),
        (bad_item, "Missing mandatory property on search n°8 of 50"),
        (bad_custom, "Invalid custom property on search n°1 of 1"),
        (bad_webhook, "Invalid webhook URL"),
        (people(3_001), "No more than 3000 phone searches can be present in the payload"),
    ] {
        let reply = lab.enrow(Method::POST, "/phone/bulk", Some(&body)).await;
        assert_eq!(reply.status, 400, "{message}");
        assert_eq!(reply.body, json!({"message": message}));
    }
    for linkedin_url in [
        json!("https://example.com/in/pam"),
        json!("https://notlinkedin.com/in/pam"),
        json!("ftp://www.linkedin.com/in/pam"),
        json!("www.linkedin.com/in/pam"),
        json!("Pam Beesly"),
        json!(7),
    ] {
        let mut search = people(1)["searches"][0].clone();
        search["linkedin_url"] = linkedin_url.clone();
        let bulk = json!({"searches": [{"linkedin_url": "https://www.linkedin.com/in/jim"}, search.clone()]});
        let bulk = lab.enrow(Method::POST, "/phone/bulk", Some(&bulk)).await;
        let refused = json!({"message": "Invalid linkedin_url"});
        assert_eq!((bulk.status.as_u16(), bulk.body), (400, refused), "{linkedin_url}");
        for search in [search, json!({"linkedin_url": linkedin_url})] {
            let single = lab.enrow(Method::POST, "/phone/single", Some(&search)).await;
            let refused = json!({"reason": "Invalid linkedin_url", "success": false});
            assert_eq!((single.status.as_u16(), single.body), (400, refused), "{linkedin_url}");
        }
    }
    let empty = lab.enrow(Method::POST, "/phone/bulk", None).await;
    assert_eq!((empty.status.as_u16(), &empty.body), (400, &json!({"message": "Missing payload"})));
    let url = lab.sandbox.base_url("enrow") + "/phone/bulk";
    let broken = lab.http.post(url).header("x-api-key", API_KEY).body("{").send().await.unwrap();
    assert_eq!(broken.text().await.unwrap(), r#"{"message":"Invalid JSON input"}"#);
    assert_eq!(lab.admin("enrow").await["charged"], 0);

    for (path, message) in [
        ("/phone/bulk", "Missing id in the query params"),
        ("/phone/bulk?id=", "Missing id in the query params"),
        ("/phone/bulk?id=unknown", "Could not retrieve bulk search results"),
    ] {
        let reply = lab.enrow(Method::GET, path, None).await;
        assert_eq!((reply.status.as_u16(), reply.body), (400, json!({"message": message})));
    }
    for (path, reason) in [
        ("/phone/single", "Missing id in the query params"),
        ("/phone/single?id=", "Missing id in the query params"),
        ("/phone/single?id=unknown", "Could not retrieve single search result"),
    ] {
        let reply = lab.enrow(Method::GET, path, None).await;
        assert_eq!((reply.status.as_u16(), reply.body), (400, json!({"reason": reason, "success": false})));
    }
    assert_eq!(lab.enrow(Method::GET, "/nowhere", None).await.status, 404);
}

#[tokio::test]
async fn enrow_ignores_a_linkedin_url_that_is_absent_or_empty() {
    let lab = Lab::open().await;
    for linkedin_url in [Value::Null, json!(""), json!(" "), json!("https://de.linkedin.com/in/pam/?x=1")] {
        let mut order = people(1);
        order["searches"][0]["linkedin_url"] = linkedin_url.clone();
        let reply = lab.enrow(Method::POST, "/phone/bulk", Some(&order)).await;
        assert_eq!(reply.status, 201, "{linkedin_url}");
    }
}

#[tokio::test]
async fn enrow_returns_custom_only_where_the_request_had_one() {
    let lab = Lab::open().await;
    for custom in [None, Some(json!({})), Some(json!({"campaign": 7}))] {
        let mut order = people(1);
        if let Some(custom) = &custom {
            order["custom"] = custom.clone();
        }
        let id = lab.enrow(Method::POST, "/phone/bulk", Some(&order)).await.body["id"].clone();
        lab.advance(8_000).await;
        let path = format!("/phone/bulk?id={}", id.as_str().unwrap());
        let finished = lab.enrow(Method::GET, &path, None).await.body;
        assert_eq!(finished["general"]["status"], "completed");
        assert_eq!(finished["general"].get("custom"), custom.as_ref());
    }
}

#[tokio::test]
async fn enrow_knows_its_keys() {
    let lab = Lab::open().await;
    let missing = lab.call(Method::GET, &(lab.sandbox.base_url("enrow") + "/account/info"), &[], None).await;
    assert_eq!(missing.status, 401);
    assert_eq!(missing.body, json!({"message": "No apikey found in the x-api-key headers"}));
    for key in ["wrong", "sandbox-other-product", "sandbox-disabled"] {
        let reply = lab.enrow_as(key, Method::GET, "/account/info", None).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body),
            (401, json!({"message": "This apikey is not valid"}))
        );
    }
    let no_phones = lab.enrow_as("sandbox-no-phones", Method::POST, "/phone/bulk", Some(&people(1))).await;
    assert_eq!(no_phones.status, 401);
    assert_eq!(no_phones.body["message"], "This account is not allowed to use the phone search feature");
    assert_eq!(lab.enrow_as("sandbox-no-phones", Method::GET, "/account/info", None).await.status, 200);

    let no_credits = "sandbox-no-credits";
    let bulk = lab.enrow_as(no_credits, Method::POST, "/phone/bulk", Some(&people(1))).await;
    assert_eq!((bulk.status.as_u16(), bulk.body), (402, json!({"message": "Insufficient credits"})));
    let person = people(1)["searches"][0].clone();
    let single = lab.enrow_as(no_credits, Method::POST, "/phone/single", Some(&person)).await;
    assert_eq!(single.status, 402);
    assert_eq!(single.body, json!({"reason": "Insufficient credits", "success": false}));
    assert_eq!(lab.enrow_as(no_credits, Method::GET, "/account/info", None).await.body["credits"], 0);

    lab.adjust("enrow", json!({"credits": 80})).await;
    assert_eq!(lab.enrow(Method::POST, "/phone/bulk", Some(&people(3))).await.status, 402);
    assert_eq!(lab.enrow(Method::POST, "/phone/bulk", Some(&people(2))).await.status, 201);
}

#[tokio::test]
async fn enrow_takes_ten_posts_a_second_and_any_number_of_gets() {
    let lab = Lab::open().await;
    // The clock is real too: the window must not pass while the posts are sent.
    let posts = async |count: usize| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(lab.enrow(Method::POST, "/phone/bulk", Some(&json!({}))).await);
        }
        statuses
    };
    let first = posts(11).await;
    assert!(first[..10].iter().all(|reply| reply.status == 400));
    assert_eq!(first[10].status, 429);
    assert_eq!(first[10].body, json!({"message": "Too Many Requests"}));
    assert_eq!(lab.enrow(Method::GET, "/account/info", None).await.status, 200);
    assert_eq!(lab.enrow(Method::POST, "/phone/single", Some(&json!({}))).await.status, 400);
    lab.advance(1_000).await;
    assert_eq!(posts(1).await[0].status, 400);
}

#[tokio::test]
async fn enrow_finds_a_single_phone() {
    let lab = Lab::open().await;
    let mut outcomes = BTreeSet::new();
    for n in 0..16 {
        let person = json!({"linkedin_url": format!("https://www.linkedin.com/in/p{n}")});
        let created = lab.enrow(Method::POST, "/phone/single", Some(&person)).await;
        assert_eq!((created.status.as_u16(), &created.body["credits_used"]), (201, &json!(40)));
        let path = format!("/phone/single?id={}", created.body["id"].as_str().unwrap());
        assert_eq!(lab.enrow(Method::GET, &path, None).await.status, 202);
        lab.advance(8_000).await;
        let found = lab.enrow(Method::GET, &path, None).await;
        assert_eq!(found.status, 200);
        assert_eq!(found.body.get("number").is_some(), found.body["qualification"] == "found");
        outcomes.insert(found.body["qualification"].as_str().unwrap().to_owned());
    }
    assert_eq!(outcomes.len(), 2);
    let bad = lab.enrow(Method::POST, "/phone/single", Some(&json!({"firstname": "Ada"}))).await;
    assert_eq!(bad.body, json!({"reason": "Missing mandatory property", "success": false}));
}

#[tokio::test]
async fn enrow_tells_the_webhook_once_when_the_batch_ends() {
    let lab = Lab::open().await;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut order = people(2);
    order["settings"] = json!({"webhook": format!("http://{}/hook", listener.local_addr().unwrap())});
    let created = lab.enrow(Method::POST, "/phone/bulk", Some(&order)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let early = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(early.is_err());
    lab.advance(8_000).await;
    let (mut socket, _) =
        tokio::time::timeout(Duration::from_secs(3), listener.accept()).await.unwrap().unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
    }
    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let request = String::from_utf8(request).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1"));
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["event"], "bulk_phone_search_finished");
    assert_eq!(event["id"], created.body["id"]);
    assert!(event["credits"]["cost"].is_u64());
    let again = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(again.is_err());
}

#[tokio::test]
async fn enrow_ready_made_ids_show_what_they_say() {
    let lab = Lab::open().await;
    let read = async |id: &str| lab.enrow(Method::GET, &format!("/phone/bulk?id={id}"), None).await;
    let documented = json!({
        "general": {"id": "e3b61122-d6a6-4ea7-b331-9b734682a76a", "status": "completed"},
        "results": [{"country": "US", "index": 0, "number": "+15705551234",
            "params": {"linkedin_url": "https://www.linkedin.com/in/michael-scott"}, "qualification": "found"},
            {"country": "US", "index": 1, "number": "+15705555678",
            "params": {"linkedin_url": "https://www.linkedin.com/in/dwight-schrute"}, "qualification": "found"}],
        "stats": {"credits_cost": 80, "credits_to_refund": 0, "found": 2, "requested": 2},
    });
    assert_eq!(read("e3b61122-d6a6-4ea7-b331-9b734682a76a").await.body, documented);
    let other = read("sandbox-other-batch").await;
    assert_eq!((other.status.as_u16(), other.body), (200, documented.clone()));

    let completed = read("sandbox-completed").await.body;
    let results = completed["results"].as_array().unwrap();
    let countries: BTreeSet<&str> = results.iter().filter_map(|result| result["country"].as_str()).collect();
    assert!(countries.len() > 1, "{results:?}");
    assert!(results.iter().any(|result| result["qualification"] == "not_found"));
    assert!(results.iter().any(|result| result["params"].get("linkedin_url").is_none()));
    // The caller's data is there only where the request had some.
    assert_eq!(completed["general"]["custom"], json!({"campaign": "sandbox"}));
    assert_eq!(read("sandbox-failed").await.body["general"].get("custom"), None);
    let short = read("sandbox-short-results").await.body;
    assert_eq!(short["general"], json!({"id": "sandbox-short-results", "status": "completed"}));
    assert_eq!(
        (&short["stats"], &short["results"]),
        (&documented["stats"], &json!([documented["results"][0]]))
    );

    for (id, status, word) in [
        ("sandbox-running", 200, "ongoing"),
        ("sandbox-failed", 200, "failed"),
        ("sandbox-unknown-status", 200, "on_hold"),
        ("sandbox-unknown-outcome", 200, "completed"),
        ("sandbox-older-running", 202, "ongoing"),
        ("sandbox-older-text", 200, "completed"),
    ] {
        let reply = read(id).await;
        assert_eq!((reply.status.as_u16(), &reply.body["general"]["status"]), (status, &json!(word)), "{id}");
        assert_eq!(reply.body["general"]["id"], id);
    }
    let older = read("sandbox-older-text").await.body;
    assert!(older["results"][0]["index"].is_string() && older["results"][0]["raw_params"].is_object());
    assert!(older["stats"]["credits_cost"]["final"].is_u64() && older["stats"]["valid"].is_u64());
    assert_eq!(older["stats"]["finished"], 6);
    for (id, status) in [
        ("sandbox-not-found", 400),
        ("sandbox-older-not-found", 404),
        ("sandbox-error-401", 401),
        ("sandbox-error-429", 429),
        ("sandbox-error-500", 500),
        ("sandbox-error-503", 503),
    ] {
        let reply = read(id).await;
        assert_eq!(reply.status, status, "{id}");
        assert!(reply.body["message"].is_string());
    }
    assert_eq!(read("sandbox-error-429").await.headers["retry-after"], "2");
    assert!(read("sandbox-error-html").await.text.starts_with("<!DOCTYPE html>"));
    assert_eq!(read("sandbox-error-malformed").await.body, Value::Null);
    let url = lab.sandbox.base_url("enrow") + "/phone/bulk?id=sandbox-cut";
    let cut = lab.http.get(url).header("x-api-key", API_KEY).send().await.unwrap();
    assert_eq!(cut.status(), 200);
    assert!(cut.bytes().await.is_err());
    let url = lab.sandbox.base_url("enrow") + "/phone/bulk?id=sandbox-slow";
    let slow = lab.http.get(url).header("x-api-key", API_KEY).timeout(Duration::from_millis(300)).send();
    assert!(slow.await.unwrap_err().is_timeout());
}
