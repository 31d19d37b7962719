//! Submissions whose answer was lost: never sent again, shown as what they are, and settled by the vendor's list, by a
//! batch that shows our id, or by an operator.

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;
use serde_json::{Value, json};

use crate::helpers::{
    Answer, FIREWALL_PAGE, Options, Replies, Reply, TestGateway, eventually, order, order_of, relay, run,
};

/// A submission in doubt: its error, its state, and a second try that changes nothing.
async fn assert_in_doubt(gateway: &TestGateway, slug: &str, key: &str, reply: &Reply) {
    reply.assert_problem(504, "submission_in_doubt");
    assert_eq!((&reply.body["retryable"], &reply.body["provider"]), (&json!(false), &json!(slug)));
    for again in 0..2 {
        let again_reply = gateway.submit(slug, key, &order(slug)).await;
        again_reply.assert_problem(409, "submission_in_doubt");
        assert_eq!(again_reply.submission(), reply.submission(), "{again}");
    }
    let submission = gateway.submission(reply.submission()).await;
    assert_eq!(
        (&submission["state"], &submission["code"], submission.get("batch_id")),
        (&json!("in_doubt"), &json!("submission_in_doubt"), None)
    );
}

/// Answers after which nobody knows whether the vendor took the order.
fn useless_answers(elsewhere: &str) -> Vec<Answer> {
    let json_type = ("content-type", "application/json");
    let mut drip = Answer::new(201, &[json_type], &[b' '; 10_000]);
    drip.drip = Some(Duration::from_millis(20));
    let mut reset = Answer::raw("HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{");
    reset.then_reset = true;
    let mut answers = vec![Answer::none(), drip, reset];
    answers.extend(
        [
            "",
            "HTTP/1.1 201",
            "HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{\"id\":\"x",
            "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n",
            "HTTP/1.1 201 Created\r\n\r\n{\"id\":\"x",
            "HTTP/1.1 201 Created\r\ncontent-length: 10737418240\r\n\r\n{}",
        ]
        .map(Answer::raw),
    );
    answers.push(Answer::raw(format!(
        "HTTP/1.1 201 Created\r\nx-huge: {}\r\ncontent-length: 2\r\n\r\n{{}}",
        "x".repeat(600_000)
    )));
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    answers.push(Answer::new(201, &[("content-encoding", "gzip")], gzip));
    for status in [301, 302, 303, 307, 308] {
        answers.push(Answer::new(status, &[("location", elsewhere)], b""));
    }
    let page = ("content-type", "text/html");
    for status in [401, 403] {
        answers.push(Answer::new(status, &[page], FIREWALL_PAGE.as_bytes()));
        answers.push(Answer::new(status, &[json_type], b"{}"));
        answers.push(Answer::new(status, &[], b""));
    }
    for status in [204, 406, 408, 409, 410, 418, 500, 502, 503, 504] {
        answers.push(Answer::new(status, &[json_type, ("retry-after", "1")], b"{}"));
    }
    for body in [
        "",
        "<html>Scarn</html>",
        "null",
        "[]",
        "{}",
        "{\"id\":",
        "{\"id\":null}",
        "{\"id\":\"\"}",
        "{\"id\":[\"x\"]}",
        "{\"id\":\"../x\"}",
        "{\"id\":\"a b\"}",
        "{\"result\":null}",
        "{\"result\":{}}",
        "{\"result\":{\"batch_id\":\"a/b\"}}",
        "{\"result\":{\"batch_id\":{}}}",
    ] {
        answers.push(Answer::new(200, &[json_type], body.as_bytes()));
    }
    answers.push(Answer::new(201, &[("content-type", "text/html")], b"<html><h1>Scarn</h1></html>"));
    answers.push(Answer::new(201, &[json_type], format!("{{\"id\":\"{}\"}}", "x".repeat(65)).as_bytes()));
    answers
}

#[tokio::test]
async fn no_answer_that_cannot_be_used_is_followed_by_a_second_request() {
    let (vendor, elsewhere) = (Replies::start().await, Replies::start().await);
    let options = Options::default()
        .without_quota()
        .without_circuit()
        .scripted(&vendor)
        .set("http.max_body_bytes", "1MiB");
    let gateway = options.set("http.attempts", "3").start().await;
    for (number, answer) in useless_answers(&elsewhere.url()).into_iter().enumerate() {
        for provider in VENDORS {
            let slug = provider.info.slug;
            vendor.clear();
            vendor.on("", answer.clone());
            let (key, since) = (format!("{slug}-{number}"), Instant::now());
            let reply = gateway.submit(slug, &key, &order(slug)).await;
            assert!(since.elapsed() < Duration::from_secs(2), "{answer:?}");
            assert_in_doubt(&gateway, slug, &key, &reply).await;
            assert!(!reply.text().contains("Scarn"));
            assert_eq!(vendor.requests().len(), 1, "{slug} {answer:?}");
        }
    }
    assert_eq!(elsewhere.connections(), 0, "a redirect is not followed");
}

#[tokio::test]
async fn nothing_makes_an_order_in_doubt_go_out_again() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        gateway.fault(slug, json!({"times": 1, "method": "POST", "cut": true})).await;
        let reply = gateway.submit(slug, "once", &order(slug)).await;
        assert_in_doubt(&gateway, slug, "once", &reply).await;
        let posts = gateway.posts(slug).await;
        let gateway = gateway.restart(Options::default()).await;
        // A key in doubt is never given free, whatever its age.
        for seconds in [0, 3_600, 31 * 24 * 3_600] {
            gateway.advance_seconds(seconds);
            assert_in_doubt(&gateway, slug, "once", &reply).await;
        }
        let mut other = order(slug);
        other["reference"] = "another".into();
        gateway.submit(slug, "once", &other).await.assert_problem(422, "idempotency_key_reused");
        assert_eq!((gateway.posts(slug).await, gateway.batches(slug).await, posts), (posts, 1, 1));
    }
}

#[tokio::test]
async fn a_doubt_is_counted_and_logged_without_what_was_ordered() {
    let mut gateway = Options::default().spawn().await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway
            .fault(slug, json!({"times": 1, "method": "POST", "answer": {"status": 502, "body": "Scarn"}}))
            .await;
        let request = gateway.http.post(format!("{}/batches/{slug}", gateway.url));
        let request = request
            .header("idempotency-key", format!("key-secret-{slug}"))
            .header("content-type", "application/json");
        let body = order(slug).to_string();
        let reply = Reply::of(request.body(body).send().await.unwrap()).await;
        reply.assert_problem(504, "submission_in_doubt");
        let counted = gateway.metric("submissions_total", &["in_doubt", slug]).await;
        assert_eq!(counted, 1);
        let logged = eventually("the line about the doubt comes out of the process");
        let line = loop {
            let mut lines = gateway.process.log().into_iter();
            let line = lines.find(|line| line["level"] == "ERROR" && line["provider"] == slug);
            if logged.is(line.is_some()).await {
                break line.unwrap();
            }
        };
        assert_eq!(line["submission_id"], reply.submission());
        assert_eq!(
            (&line["provider_http_status"], &line["request_id"]),
            (&json!(502), &reply.body["request_id"])
        );
    }
    let open = eventually("an alert can see how many are open");
    while !open.is(gateway.metric("submissions_in_doubt", &[]).await == VENDORS.len() as u64).await {}
    let metrics = gateway.get("/metrics").await.text();
    gateway.process.terminate();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    for line in gateway.process.lines().iter().chain([&metrics]) {
        for planted in ["key-secret", "Scarn", "person-0", "12062", "crm-42", "row-1"] {
            assert!(!line.contains(planted), "{planted}: {line}");
        }
    }
    // Whoever reads the store cannot send in the caller's name.
    assert!(!gateway.store.is_file() || !gateway.store.holds(b"key-secret"));
}

const CREATE: &str = "/phone/bulk/v1/batches";

/// A gateway that follows, and a submission in doubt after `fault`, with a vendor that cannot be asked about it.
async fn experian_in_doubt(fault: Value) -> (TestGateway, Reply) {
    let gateway = Options::default().following().set("http.attempts", "1").start().await;
    gateway.fault("experian", fault).await;
    gateway.fault("experian", json!({"method": "GET", "answer": {"status": 503}})).await;
    let reply = gateway.submit("experian", "k", &order("experian")).await;
    reply.assert_problem(504, "submission_in_doubt");
    let looked = eventually("the follower looks by itself");
    while !looked.is(!gateway.calls_with("experian", "GET").await.is_empty()).await {}
    assert_eq!(gateway.submission(reply.submission()).await["state"], "in_doubt");
    gateway.clear_faults("experian").await;
    (gateway, reply)
}

async fn posts(gateway: &TestGateway) -> (usize, usize) {
    let calls = gateway.calls_with("experian", "POST").await;
    let created = calls.iter().filter(|call| call["path"] == CREATE).count();
    (created, calls.len() - created)
}

#[tokio::test]
async fn a_lost_order_that_the_vendors_list_shows_is_accepted_and_started_once() {
    let start = format!("{CREATE}/");
    let lost_create = json!({"times": 1, "method": "POST", "cut": true});
    let lost_create_2 = json!({"times": 1, "method": "POST", "answer": {"status": 500, "processed": true}});
    let lost_start = json!({"times": 1, "method": "POST", "path": start, "cut": true});
    let failed_start = json!({"times": 1, "method": "POST", "path": start, "answer": {"status": 500}});
    let throttled = json!({"times": 1, "method": "POST", "path": start, "answer": {"status": 429}});
    for (fault, starts) in
        [(lost_create, 1), (lost_create_2, 1), (lost_start, 1), (failed_start, 2), (throttled, 2)]
    {
        let (gateway, reply) = experian_in_doubt(fault.clone()).await;
        gateway.advance_seconds(20);
        let submission = gateway.submission_is(reply.submission(), "accepted").await;
        let again = gateway.submit("experian", "k", &order("experian")).await;
        again.accepted();
        assert_eq!((again.id(), again.is_replayed()), (submission["batch_id"].as_str().unwrap(), true));
        assert_eq!((again.submission(), &again.body["reference"]), (reply.submission(), &json!("crm-42")));
        assert_eq!((posts(&gateway).await, gateway.batches("experian").await), ((1, starts), 1), "{fault}");
        gateway.advance_seconds(60);
        gateway.has_ended("experian", again.id()).await;
        let batch = gateway.batch("experian", again.id()).await;
        assert_eq!(batch.batch()["results"][2]["custom_id"], "row-3");
        assert_eq!(gateway.charged("experian").await, 3);
        assert_eq!(gateway.metric("submissions_total", &["accepted", "experian"]).await, 1);
    }
}

#[tokio::test]
async fn nobody_decides_on_a_submission_while_the_vendor_is_asked_for_it() {
    let (gateway, reply) =
        experian_in_doubt(json!({"times": 1, "method": "POST", "answer": {"status": 500}})).await;
    let before = gateway.calls_with("experian", "GET").await.len();
    gateway.fault("experian", json!({"method": "GET", "hang": true})).await;
    gateway.advance_seconds(25);
    let looked = eventually("the follower looks");
    while !looked.is(gateway.calls_with("experian", "GET").await.len() > before).await {}
    let busy = gateway.resolve(reply.submission(), &json!({"as": "not_sent"})).await;
    busy.assert_problem(409, "submission_busy");
    assert_eq!(busy.submission(), reply.submission());
    gateway.clear_faults("experian").await;
}

#[tokio::test]
async fn a_lost_order_that_the_vendors_list_lacks_was_not_sent_but_only_after_a_minute() {
    let (gateway, reply) =
        experian_in_doubt(json!({"times": 1, "method": "POST", "answer": {"status": 500}})).await;
    for _ in 0..2 {
        let before = gateway.calls_with("experian", "GET").await.len();
        gateway.advance_seconds(25);
        let looked = eventually("the follower looks again");
        while !looked.is(gateway.calls_with("experian", "GET").await.len() > before).await {}
        gateway.submit("experian", "k", &order("experian")).await.assert_problem(409, "submission_in_doubt");
    }
    gateway.advance_seconds(60);
    let submission = gateway.submission_is(reply.submission(), "not_sent").await;
    assert_eq!(submission.get("resolved_by"), None);
    assert_eq!((posts(&gateway).await, gateway.batches("experian").await), ((1, 0), 0));
    let again = gateway.submit("experian", "k", &order("experian")).await;
    again.accepted();
    assert_eq!((again.submission(), again.is_replayed()), (reply.submission(), false));
    assert_eq!(posts(&gateway).await, (2, 1));
}

#[tokio::test]
async fn a_lost_order_is_settled_by_the_vendors_webhook() {
    let (url, to) = relay().await;
    let options = Options::default().following().set("server.public_url", &url);
    let gateway = options.vendor("enrow", "webhook_token", "w".repeat(32)).start().await;
    to.set(gateway.address).unwrap();
    gateway.fault("enrow", json!({"times": 1, "method": "POST", "cut": true})).await;
    let reply = gateway.submit("enrow", "k", &order("enrow")).await;
    assert_in_doubt(&gateway, "enrow", "k", &reply).await;
    assert_eq!(gateway.calls_with("enrow", "GET").await.len(), 0);
    gateway.advance_seconds(60);
    let submission = gateway.submission_is(reply.submission(), "accepted").await;
    let id = submission["batch_id"].as_str().unwrap();
    gateway.has_ended("enrow", id).await;
    let batch = gateway.batch("enrow", id).await;
    assert_eq!((&batch.batch()["reference"], batch.submission()), (&json!("crm-42"), reply.submission()));
    assert_eq!(batch.body["results"][2]["custom_id"], "row-3");
    let again = gateway.submit("enrow", "k", &order("enrow")).await;
    assert_eq!((again.status, again.id(), again.submission()), (202, id, reply.submission()));
    assert_eq!(
        (&again.body["done"], again.header("retry-after")),
        (&json!(true), None),
        "nothing to wait for"
    );
    assert_eq!((gateway.posts("enrow").await, gateway.charged("enrow").await), (1, 120));
}

/// A completed batch of three as Enrow shows it, with its customer's own data.
fn shown(id: &str, requested: u64, custom: &Value) -> Answer {
    let row = |index: u64| json!({"index": index, "qualification": "not_found"});
    let rows: Vec<_> = (0..requested).map(row).collect();
    Answer::json(&json!({
        "general": {"id": id, "status": "completed", "custom": custom},
        "stats": {"requested": requested, "credits_cost": 120, "credits_to_refund": 0}, "results": rows,
    }))
}

#[tokio::test]
async fn a_lost_order_is_settled_by_a_read_that_shows_our_id_and_by_no_other() {
    let vendor = Replies::start().await;
    let gateway = Options::default().scripted(&vendor).start().await;
    vendor.on("", Answer::new(201, &[], b"{\"id\":\"accepted\"}"));
    let accepted = gateway.submit("enrow", "accepted", &order("enrow")).await;
    accepted.accepted();
    vendor.clear();
    vendor.on("", Answer::new(500, &[], b""));
    let lost = gateway.submit("enrow", "lost", &order("enrow")).await;
    lost.assert_problem(504, "submission_in_doubt");
    let of = |id: &str| json!({"submission_id": id, "reference": "forged"});
    for (id, requested, custom) in [
        ("none", 3, json!({})),
        ("random", 3, of("01a2056b-62e4-71c8-b409-10ba7562c5c5")),
        ("broken", 3, of("x")),
        // Another one's id, and ours on a batch of another size.
        ("others", 3, of(accepted.submission())),
        ("smaller", 2, of(lost.submission())),
    ] {
        vendor.clear();
        vendor.on("", shown(id, requested, &custom));
        let batch = gateway.batch("enrow", id).await;
        assert_eq!((batch.batch().get("submission_id"), batch.body.get("reference")), (None, None), "{id}");
        assert_eq!(gateway.submission(lost.submission()).await["state"], "in_doubt", "{id}");
    }
    let still = gateway.submission(accepted.submission()).await;
    assert_eq!(still["batch_id"], "accepted");
    vendor.clear();
    vendor.on("", shown("ours", 3, &of(lost.submission())));
    let batch = gateway.batch("enrow", "ours").await;
    assert_eq!((&batch.batch()["reference"], batch.submission()), (&json!("crm-42"), lost.submission()));
    assert_eq!((&batch.body["results"][0]["custom_id"], batch.body.get("custom")), (&json!("row-1"), None));
    let settled = gateway.submission(lost.submission()).await;
    assert_eq!((&settled["state"], &settled["batch_id"]), (&json!("accepted"), &json!("ours")));
    // From now on the key is the batch's, and a second batch with the id is nothing.
    let again = gateway.submit("enrow", "lost", &order("enrow")).await;
    assert_eq!((again.status, again.id(), again.is_replayed()), (202, "ours", true));
    vendor.clear();
    vendor.on("", shown("copy", 3, &of(lost.submission())));
    assert_eq!(gateway.batch("enrow", "copy").await.batch().get("submission_id"), None);
    assert_eq!(gateway.submission(lost.submission()).await["batch_id"], "ours");
    assert_eq!(vendor.posts(), 0);
}

/// A submission in doubt at a vendor that took the order.
async fn in_doubt(gateway: &TestGateway, slug: &str, key: &str) -> Reply {
    let fault = json!({"times": 1, "method": "POST", "answer": {"status": 500, "processed": true}});
    gateway.fault(slug, fault).await;
    let reply = gateway.submit(slug, key, &order(slug)).await;
    reply.assert_problem(504, "submission_in_doubt");
    reply
}

#[tokio::test]
async fn an_operator_decides_once_and_it_is_written_down() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = TestGateway::start().await;
        let lost = in_doubt(&gateway, slug, "sent").await;
        let id = lost.submission();
        for bad in [json!({}), json!({"as": "sent"}), json!({"as": "not_sent", "batch_id": "x"}), json!([])] {
            gateway.resolve(id, &bad).await.assert_problem(422, "invalid_request");
        }
        for unknown in ["01a2056b-62e4-71c8-b409-10ba7562c5c5", "x"] {
            let reply = gateway.resolve(unknown, &json!({"as": "not_sent"})).await;
            reply.assert_problem(404, "submission_not_found");
        }
        assert_eq!(gateway.submission(id).await["state"], "in_doubt");

        // The vendor has it: as a batch that it took, found by hand.
        let found = gateway.submit(slug, "by hand", &order_of(slug, 3)).await.id().to_owned();
        // Neither a batch that nobody has nor another submission's.
        for wrong in ["no-such-batch", &found] {
            let reply = gateway.resolve(id, &json!({"as": "sent", "batch_id": wrong})).await;
            reply.assert_problem(422, "invalid_request");
            assert_eq!(reply.body["errors"][0]["pointer"], "/batch_id");
            assert_eq!(gateway.submission(id).await["state"], "in_doubt");
        }
        let sent = json!({"as": "sent", "batch_id": "sandbox-completed"});
        let reply = gateway.resolve(id, &sent).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        gateway.assert_schema("Submission", &reply.body).await;
        assert_eq!(
            (&reply.body["state"], &reply.body["batch_id"], &reply.body["resolved_by"]),
            (&json!("accepted"), &json!("sandbox-completed"), &json!("anonymous"))
        );
        assert_eq!(gateway.submission(id).await, reply.body);
        for again in [json!({"as": "not_sent"}), json!({"as": "sent", "batch_id": found})] {
            gateway.resolve(id, &again).await.assert_problem(409, "submission_not_in_doubt");
        }
        let posts = gateway.posts(slug).await;
        let again = gateway.submit(slug, "sent", &order(slug)).await;
        assert_eq!((again.status, again.id(), again.is_replayed()), (202, "sandbox-completed", true));
        assert_eq!(again.submission(), id);
        assert_eq!(gateway.posts(slug).await, posts);

        // The vendor has it not: the same key is sent again.
        let lost = in_doubt(&gateway, slug, "not sent").await;
        let reply = gateway.resolve(lost.submission(), &json!({"as": "not_sent"})).await;
        assert_eq!(
            (&reply.body["state"], &reply.body["resolved_by"]),
            (&json!("not_sent"), &json!("anonymous"))
        );
        gateway.resolve(lost.submission(), &sent).await.assert_problem(409, "submission_not_in_doubt");
        let again = gateway.submit(slug, "not sent", &order(slug)).await;
        again.accepted();
        assert_eq!((again.submission(), again.is_replayed()), (lost.submission(), false));
        assert!(gateway.posts(slug).await > posts + 1);
        let submission = gateway.submission(lost.submission()).await;
        assert_eq!(submission["resolved_by"], "anonymous", "who had it sent again stays written down");
    }
}

#[tokio::test]
async fn the_command_line_settles_beside_a_gateway_that_runs() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let options = Options::default();
        let gateway = options.clone().start().await;
        let variables = options.variables(&gateway.simulators, &gateway.store);
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let command = |arguments: &[&str]| {
            let output = run(&[&["submissions"], arguments].concat(), &variables);
            let lines = String::from_utf8(output.stdout).unwrap();
            let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (output.status.success(), lines, String::from_utf8(output.stderr).unwrap())
        };
        let (sent, not_sent) = (in_doubt(&gateway, slug, "a").await, in_doubt(&gateway, slug, "b").await);
        let (_, open, _) = command(&["list", "--state", "in_doubt"]);
        assert_eq!(open.len(), 2);
        assert_eq!(command(&["show", sent.submission()]).1, [gateway.submission(sent.submission()).await]);

        let (ok, lines, _) =
            command(&["resolve", sent.submission(), "--as", "sent=sandbox-completed", "--by", "night shift"]);
        assert!(ok);
        assert_eq!(
            (&lines[0]["state"], &lines[0]["resolved_by"]),
            (&json!("accepted"), &json!("night shift"))
        );
        assert_eq!(lines, [gateway.submission(sent.submission()).await]);
        let (ok, ..) = command(&["resolve", not_sent.submission(), "--as", "not-sent"]);
        assert!(ok);
        assert_eq!(gateway.submission(not_sent.submission()).await["state"], "not_sent");
        for (id, what) in [
            (sent.submission(), "`accepted`"),
            (not_sent.submission(), "`not_sent`"),
            ("01a2056b-62e4-71c8-b409-10ba7562c5c5", "no such submission"),
        ] {
            let (ok, lines, error) = command(&["resolve", id, "--as", "not-sent"]);
            assert!(!ok && lines.is_empty() && error.contains(what), "{error}");
        }
        assert!(!command(&["resolve", sent.submission(), "--as", "maybe"]).0);
        let replay = gateway.submit(slug, "a", &order(slug)).await;
        assert_eq!((replay.status, replay.id()), (202, "sandbox-completed"));
        gateway.submit(slug, "b", &order(slug)).await.accepted();
    }
}
