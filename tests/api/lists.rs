//! Lists: the batches that the gateway knows, submissions, usage, and how the vendors are doing.

use std::collections::BTreeSet;

use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Options, Reply, TestGateway, order, order_of};

/// The ids of a page, which is what its schema says.
async fn page(gateway: &TestGateway, query: &str) -> (Vec<String>, Option<String>) {
    let reply = gateway.get(&format!("/batches?{query}")).await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")), "{}", reply.text());
    gateway.assert_schema("BatchList", &reply.body).await;
    let batches = reply.body["batches"].as_array().unwrap();
    assert!(batches.iter().all(|batch| batch.get("results").is_none()));
    let ids = batches.iter().map(|batch| batch["id"].as_str().unwrap().to_owned()).collect();
    (ids, reply.body.get("next_cursor").map(|cursor| cursor.as_str().unwrap().to_owned()))
}

/// Submits so many batches in turn to all vendors, a second apart: oldest first.
async fn submit(gateway: &TestGateway, first: usize, count: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    for number in first..first + count {
        let slug = VENDORS[number % VENDORS.len()].info.slug;
        let mut order = order_of(slug, 1);
        order["reference"] = format!("crm-{}", number % 3).into();
        gateway.advance_seconds(1);
        replies.push(gateway.submit(slug, &number.to_string(), &order).await);
        replies.last().unwrap().accepted();
    }
    replies
}

fn ids<'a>(replies: impl IntoIterator<Item = &'a Reply>) -> Vec<String> {
    replies.into_iter().map(|reply| reply.id().to_owned()).collect()
}

#[tokio::test]
async fn pages_hold_everything_once_newest_first_while_new_ones_arrive() {
    let gateway = Options::default().without_quota().start().await;
    let replies = submit(&gateway, 0, 25).await;
    let newest_first = ids(replies.iter().rev());
    assert_eq!(page(&gateway, "limit=100").await, (newest_first.clone(), None));
    assert_eq!(page(&gateway, "").await.0, newest_first[..20], "twenty, unless something else is asked for");
    assert_eq!(page(&gateway, "limit=25").await.1, None, "nothing is announced that is not there");
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let query = cursor.map_or_else(String::new, |cursor: String| format!("&cursor={cursor}"));
        let (found, next) = page(&gateway, &format!("limit=7{query}")).await;
        assert!(found.len() == 7 || next.is_none());
        seen.extend(found);
        pages += 1;
        // New ones, and an old one that moves on.
        submit(&gateway, 25 + pages, 1).await;
        gateway.batch(replies[0].body["provider"].as_str().unwrap(), replies[0].id()).await.batch();
        let Some(next) = next else { break };
        cursor = Some(next);
    }
    assert_eq!((seen, pages), (newest_first, 4));
}

#[tokio::test]
async fn batches_of_the_same_moment_are_told_apart_by_the_cursor() {
    let gateway = Options::default().without_quota().start().await;
    let mut all = BTreeSet::new();
    for vendor in VENDORS {
        for batch in vendor.simulator.ready_made {
            if batch.id.contains("error") || batch.id.contains("slow") || batch.id.contains("cut") {
                continue;
            }
            if gateway.batch(vendor.info.slug, batch.id).await.status == 200 {
                all.insert(format!("{} {}", vendor.info.slug, batch.id));
            }
        }
    }
    assert!(all.len() > 10);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = gateway.get(&format!("/batches?limit=1{cursor}")).await;
        for batch in reply.body["batches"].as_array().unwrap() {
            seen.push(format!("{} {}", batch["provider"].as_str().unwrap(), batch["id"].as_str().unwrap()));
        }
        let Some(next) = reply.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (all.len(), all));
}

#[tokio::test]
async fn filters_choose_and_can_be_combined() {
    let gateway = Options::default().without_quota().start().await;
    let replies = submit(&gateway, 0, 12).await;
    let provider = |reply: &Reply| reply.body["provider"].as_str().unwrap().to_owned();
    gateway.advance_seconds(60);
    let done = &replies[4];
    gateway.batch(&provider(done), done.id()).await.batch();
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let expected = ids(replies.iter().rev().filter(|reply| provider(reply) == slug));
        assert_eq!(page(&gateway, &format!("provider={slug}")).await.0, expected);
        let both =
            ids(replies.iter().rev().filter(|r| provider(r) == slug && r.body["reference"] == "crm-1"));
        assert_eq!(page(&gateway, &format!("reference=crm-1&provider={slug}")).await.0, both);
    }
    assert_eq!(page(&gateway, "status=completed").await.0, [done.id()]);
    assert_eq!(page(&gateway, "status=failed").await.0, [""; 0]);
    assert_eq!(page(&gateway, "reference=crm").await.0, [""; 0], "the whole reference");
    let at = |reply: &Reply| reply.body["submitted_at"].as_str().unwrap().to_owned();
    let (from, to) = (at(&replies[3]), at(&replies[9]));
    // From the first moment on, and before the second.
    let window = format!("submitted_after={from}&submitted_before={to}");
    assert_eq!(page(&gateway, &window).await.0, ids(replies[3..9].iter().rev()));
    let (first, cursor) = page(&gateway, &format!("{window}&limit=4")).await;
    let (rest, end) = page(&gateway, &format!("{window}&limit=4&cursor={}", cursor.unwrap())).await;
    assert_eq!(([first, rest].concat(), end), (ids(replies[3..9].iter().rev()), None));
}

#[tokio::test]
async fn a_list_shows_what_is_known_and_asks_no_vendor() {
    let gateway = TestGateway::start().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway.batch(slug, "sandbox-completed").await.batch();
        gateway.batch(slug, "sandbox-not-found").await.assert_problem(404, "batch_not_found");
        let calls = gateway.calls(slug).await;
        let listed = gateway.listed(slug, "sandbox-completed").await.unwrap();
        let mut read = gateway.batch(slug, "sandbox-completed").await.body;
        read.as_object_mut().unwrap().remove("results");
        assert_eq!(listed, read);
        assert_eq!(
            (gateway.listed(slug, "sandbox-not-found").await, gateway.calls(slug).await),
            (None, calls)
        );
    }
}

/// Two clients with their keys, and one who operates.
async fn with_clients() -> (TestGateway, [String; 3]) {
    let names = ["crm", "sales", "night"];
    let keys = names.map(|_| new_key().unwrap());
    let options =
        names.iter().zip(&keys).fold(Options::default().without_quota(), |options, (name, (_, hash))| {
            let scopes = if *name == "night" { "operate" } else { "read,submit,erase" };
            options.client(name, hash, "").scopes(name, scopes)
        });
    (options.start().await, keys.map(|(key, _)| key))
}

async fn get_as(gateway: &TestGateway, key: &str, path: &str) -> Reply {
    gateway.send(gateway.request(Method::GET, path).bearer_auth(key)).await
}

async fn submit_as(gateway: &TestGateway, key: &str, slug: &str, idempotency_key: &str) -> Reply {
    let reply =
        gateway.send(gateway.submission_of(slug, idempotency_key, &order(slug)).bearer_auth(key)).await;
    reply.accepted();
    reply
}

#[tokio::test]
async fn a_client_sees_its_own_submissions_and_an_operator_all() {
    let (gateway, [crm, sales, night]) = with_clients().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let reply = submit_as(&gateway, &crm, slug, slug).await;
        let path = format!("/submissions/{}", reply.submission());
        for (key, seen) in [(&crm, true), (&sales, false), (&night, true)] {
            let one = get_as(&gateway, key, &path).await;
            let all = get_as(&gateway, key, "/submissions").await;
            gateway.assert_schema("SubmissionList", &all.body).await;
            let listed =
                all.body["submissions"].as_array().unwrap().iter().any(|s| s["id"] == reply.submission());
            assert_eq!((one.status, listed), (if seen { 200 } else { 404 }, seen));
            if !seen {
                one.assert_problem(404, "submission_not_found");
            }
        }
        // The batch itself is everybody's who may use the vendor.
        let path = format!("/batches/{slug}/{}", reply.id());
        get_as(&gateway, &sales, &path).await.batch();
    }
    gateway.fault("enrow", json!({"times": 1, "method": "POST", "answer": {"status": 402}})).await;
    let refused = gateway.submission_of("enrow", "poor", &order("enrow")).bearer_auth(&sales);
    gateway.send(refused).await.assert_problem(402, "provider_credits_exhausted");
    for (query, count) in
        [("", 3), ("?state=accepted", 2), ("?state=not_sent", 1), ("?limit=1", 1), ("?state=sending", 0)]
    {
        let found = get_as(&gateway, &night, &format!("/submissions{query}")).await;
        assert_eq!(found.body["submissions"].as_array().unwrap().len(), count, "{query}");
    }
    let newest = get_as(&gateway, &night, "/submissions?limit=1").await;
    assert_eq!(newest.body["submissions"][0]["client"], "sales");
}

/// The ids of all pages of submissions.
async fn all_pages(gateway: &TestGateway, key: &str, query: &str) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get_as(gateway, key, &format!("/submissions?{query}{cursor}")).await;
        gateway.assert_schema("SubmissionList", &page.body).await;
        let submissions = page.body["submissions"].as_array().unwrap();
        pages.push(submissions.iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect());
        let Some(next) = page.body.get("next_cursor") else { return pages };
        cursor = format!("&cursor={}", next.as_str().unwrap());
    }
}

#[tokio::test]
async fn submissions_come_in_pages_and_are_found_by_their_key() {
    let (gateway, [crm, sales, night]) = with_clients().await;
    let mut submitted = Vec::new();
    for number in 0..7 {
        let key = if number % 2 == 0 { &crm } else { &sales };
        // Two of a moment, and the same keys for both clients.
        gateway.advance_seconds(number % 3);
        submitted.push(submit_as(&gateway, key, VENDORS[0].info.slug, &format!("key {}", number / 2)).await);
    }
    let newest_first: Vec<_> = submitted.iter().rev().map(|reply| reply.submission().to_owned()).collect();
    for (limit, lengths) in [(3, &[3, 3, 1][..]), (7, &[7]), (6, &[6, 1]), (100, &[7])] {
        let pages = all_pages(&gateway, &night, &format!("limit={limit}")).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths);
        assert_eq!(pages.concat(), newest_first);
    }
    let own = all_pages(&gateway, &crm, "limit=2&state=accepted").await.concat();
    assert_eq!(own, newest_first.iter().step_by(2).cloned().collect::<Vec<_>>());
    let (of_crm, of_sales) = (newest_first[6].clone(), newest_first[5].clone());
    for (key, query, found) in [
        (&crm, "idempotency_key=key%200", vec![&of_crm]),
        (&crm, "idempotency_key=%22key%200%22", vec![&of_crm]),
        (&sales, "idempotency_key=key+0", vec![&of_sales]),
        (&night, "idempotency_key=key%200", vec![&of_sales, &of_crm]),
        (&night, "idempotency_key=key%200&state=in_doubt", vec![]),
        (&sales, "idempotency_key=key%203", vec![]),
        (&crm, "idempotency_key=KEY%200", vec![]),
    ] {
        let listed = all_pages(&gateway, key, query).await.concat();
        assert_eq!(listed.iter().collect::<Vec<_>>(), found, "{query}");
    }
    let long = format!("idempotency_key={}", "k".repeat(256));
    for query in
        ["idempotency_key=", "idempotency_key=%C3%A9", "idempotency_key=%22", &long, "cursor=bm9ib2R5"]
    {
        let refused = get_as(&gateway, &crm, &format!("/submissions?{query}")).await;
        refused.assert_problem(400, "invalid_request");
        let name = query.split('=').next().unwrap();
        assert_eq!(refused.body["errors"][0]["parameter"], name, "{query}");
    }
}

async fn usage(gateway: &TestGateway, key: &str, query: &str) -> Vec<Value> {
    let reply = get_as(gateway, key, &format!("/usage{query}")).await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")), "{}", reply.text());
    gateway.assert_schema("UsageList", &reply.body).await;
    reply.body["usage"].as_array().unwrap().clone()
}

#[tokio::test]
async fn each_batch_is_counted_once_by_client_vendor_and_day() {
    let (gateway, [crm, sales, night]) = with_clients().await;
    // Noon, whenever the test runs: the batches of one round are of one day.
    let second_of_day = gateway.clock.now().as_second().rem_euclid(24 * 3_600);
    gateway.advance_seconds(36 * 3_600 - second_of_day);
    let today = |gateway: &TestGateway| gateway.clock.now().to_string()[..10].to_owned();
    let (mut expected, mut days) = (Vec::new(), Vec::new());
    for day in 0..2 {
        days.push(today(&gateway));
        for vendor in VENDORS {
            let slug = vendor.info.slug;
            let reply = submit_as(&gateway, &crm, slug, &format!("{slug} {day}")).await;
            gateway.advance_seconds(60);
            let path = format!("/batches/{slug}/{}", reply.id());
            let batch = get_as(&gateway, &sales, &path).await;
            let cost = &batch.batch()["cost"];
            expected.push(json!({
                "day": days[day], "client": "crm", "provider": slug, "batches": 1, "charged": cost["charged"],
                "refunded": cost.get("refunded").cloned().unwrap_or(json!(0)), "unit": "credit",
            }));
            for _ in 0..3 {
                get_as(&gateway, &crm, &path).await.batch();
            }
            // Erased is not unpaid.
            let erase = gateway.request(Method::DELETE, &path).bearer_auth(&crm);
            assert_eq!(gateway.send(erase).await.status, 204);
        }
        gateway.advance_seconds(24 * 3_600);
    }
    let without_records = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter()
            .map(|mut row| {
                row.as_object_mut().unwrap().remove("records");
                row
            })
            .collect()
    };
    assert_eq!(without_records(usage(&gateway, &crm, "").await), expected);
    assert!(
        expected.iter().any(|row| row["refunded"].as_u64().unwrap() > 0),
        "a refund is among them: {expected:#?}"
    );
    assert_eq!(without_records(usage(&gateway, &night, "").await), expected);
    assert_eq!(without_records(usage(&gateway, &night, "?client=crm").await), expected);
    assert_eq!(usage(&gateway, &sales, "").await, Vec::<Value>::new(), "another client's is not its own");
    assert_eq!(usage(&gateway, &night, "?client=sales").await, Vec::<Value>::new());
    let of_day = format!("?from={0}&to={0}", days[1]);
    assert_eq!(without_records(usage(&gateway, &crm, &of_day).await), expected[VENDORS.len()..]);
    assert_eq!(
        without_records(usage(&gateway, &crm, &format!("?to={}", days[0])).await),
        expected[..VENDORS.len()]
    );
    for vendor in VENDORS {
        let rows = without_records(usage(&gateway, &crm, &format!("?provider={}", vendor.info.slug)).await);
        assert!(rows.len() == 2 && rows.iter().all(|row| row["provider"] == vendor.info.slug));
        // As the vendor itself counts.
        let sum = |name: &str| rows.iter().map(|row| row[name].as_u64().unwrap()).sum::<u64>();
        let admin = gateway.admin(vendor.info.slug).await;
        assert_eq!(
            (json!(sum("charged")), json!(sum("refunded"))),
            (admin["charged"].clone(), admin["refunded"].clone())
        );
    }
    // What was read and not submitted here has no client.
    get_as(&gateway, &crm, "/batches/enrow/sandbox-completed").await.batch();
    let read = usage(&gateway, &night, "").await;
    assert_eq!((read.len(), read.iter().filter(|row| row.get("client").is_none()).count()), (5, 1));
    assert_eq!(usage(&gateway, &crm, "").await.len(), 4);
}

#[tokio::test]
async fn how_a_vendor_is_doing_is_told() {
    let gateway = Options::default().set("http.attempts", "1").start().await;
    let state = async |slug: &str| {
        let reply = gateway.get("/providers").await;
        gateway.assert_schema("ProviderList", &reply.body).await;
        reply.body["providers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["slug"] == slug)
            .unwrap()
            .clone()
    };
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway.batch(slug, "sandbox-completed").await.batch();
        let fine = state(slug).await;
        assert_eq!((&fine["state"], fine["last_call"].get("error")), (&json!("on"), None));
        gateway.fault(slug, json!({"times": 1, "answer": {"status": 503}})).await;
        gateway.batch(slug, "sandbox-running").await.assert_problem(503, "provider_unavailable");
        let failing = state(slug).await;
        assert_eq!(
            (&failing["state"], &failing["last_call"]["error"]),
            (&json!("failing"), &json!("unavailable"))
        );
        // An unknown batch is nobody's failure.
        gateway.batch(slug, "sandbox-not-found").await.assert_problem(404, "batch_not_found");
        assert_eq!(state(slug).await["state"], "on");
    }
}
