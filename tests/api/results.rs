//! Results belong to the records that they echo, costs are exact, and a batch whose results are missing or match no
//! record is not final before a day has passed.

use serde_json::{Value, json};

use crate::helpers::{Answer, Options, Replies, Reply, TestGateway};

const ID: &str = "7c0a1f3e-2b64-4c58-9d1e-0a6f5be2c913";
const DAY: i64 = 24 * 3_600;

/// A scripted vendor that accepts every submission as [`ID`].
async fn gateway(vendor: &Replies, options: Options) -> TestGateway {
    let options = options.scripted(vendor).without_quota().without_circuit();
    let gateway = options.start().await;
    accepts(vendor);
    gateway
}

fn accepts(vendor: &Replies) {
    let step = |status: &str| Answer::json(&json!({"result": {"batch_id": ID, "status": status}}));
    vendor.on("/start", step("processing"));
    vendor.on("/batches", step("submitted"));
    vendor.on("/bulk", Answer::json(&json!({"id": ID, "credits_used": 120})));
}

/// Three numbers with the caller's ids a, b and c.
fn numbers() -> Value {
    let record = |(id, number): (&str, &str)| json!({"number": number, "custom_id": id});
    let records: Vec<_> =
        [("a", "+447400123401"), ("b", "+447400123402"), ("c", "+447400123403")].map(record).into();
    json!({"records": records})
}

/// Experian's answers about a batch of three that has ended with these rows.
fn experian(vendor: &Replies, status: &str, phones: &[Value]) {
    vendor.clear();
    let phone_count = phones.len();
    vendor.on(
        "/results",
        Answer::json(&json!({"result": {
            "batch_id": ID, "status": status, "credits_charged": phone_count, "phones": phones,
        }})),
    );
    vendor.on(
        ID,
        Answer::json(&json!({"result": {
            "batch_id": ID, "status": status, "records": 3, "records_processed": 3,
        }})),
    );
    accepts(vendor);
}

fn verified(number: &str) -> Value {
    json!({"number": number, "validated_phone_number": number, "confidence": "verified"})
}

/// The caller's id, the position and the number of each result, and the warnings.
fn told(reply: &Reply) -> (Value, Value) {
    let result =
        |result: &Value| json!([result.get("custom_id"), result.get("index"), result["phone"].get("e164")]);
    let batch = reply.batch();
    (
        batch["results"].as_array().unwrap().iter().map(result).collect(),
        batch.get("warnings").cloned().unwrap_or(json!([])),
    )
}

#[tokio::test]
async fn a_validated_number_is_told_of_the_record_with_that_number() {
    let vendor = Replies::start().await;
    let [one, two, three] = ["+447400123401", "+447400123402", "+447400123403"];
    for (status, numbers_back, results, warnings) in [
        (
            "completed",
            vec![three, one, two],
            json!([["a", 0, one], ["b", 1, two], ["c", 2, three]]),
            json!([]),
        ),
        (
            "completed",
            vec![one, three],
            json!([["a", 0, one], ["c", 2, three]]),
            json!(["results_incomplete"]),
        ),
        ("stopped", vec![three], json!([["c", 2, three]]), json!(["results_incomplete"])),
        (
            "completed",
            vec![one, two, three, three, "+33612345678"],
            json!([
                ["a", 0, one],
                ["b", 1, two],
                ["c", 2, three],
                [null, null, three],
                [null, null, "+33612345678"]
            ]),
            json!(["results_unmatched"]),
        ),
    ] {
        let gateway = gateway(&vendor, Options::default()).await;
        gateway.submit("experian", "k", &numbers()).await.accepted();
        gateway.advance_seconds(60);
        experian(&vendor, status, &numbers_back.iter().copied().map(verified).collect::<Vec<_>>());
        let reply = gateway.batch("experian", ID).await;
        assert_eq!(told(&reply), (results, warnings.clone()), "{status} {numbers_back:?}");
        gateway.assert_schema("Batch", &reply.body).await;
        // Only the complete one is final.
        let before = vendor.requests().len();
        gateway.advance_seconds(2 * 3_600);
        gateway.batch("experian", ID).await.batch();
        assert_eq!(vendor.requests().len() > before, warnings != json!([]), "{status} {numbers_back:?}");
    }
}

#[tokio::test]
async fn what_was_sent_is_matched_and_what_the_caller_wrote_is_shown() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default()).await;
    let written = ["+44 (0)7400 123401", "\u{202a}+447400123402\u{202c}", "+44-7400-123403 x12"];
    let records: Vec<_> = written.iter().map(|number| json!({"number": number})).collect();
    gateway.submit("experian", "k", &json!({"records": records})).await.accepted();
    let sent: Value = serde_json::from_slice(&vendor.requests()[0].body).unwrap();
    let sent: Vec<_> =
        sent["phones"].as_array().unwrap().iter().map(|phone| phone["number"].as_str().unwrap()).collect();
    assert_eq!(sent, ["+447400123401", "+447400123402", "+447400123403"]);
    gateway.advance_seconds(60);
    experian(&vendor, "completed", &["+447400123403", "+447400123402", "+447400123401"].map(verified));
    let batch = gateway.batch("experian", ID).await;
    let inputs: Vec<_> = batch.batch()["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["input"]["number"])
        .collect();
    assert_eq!(inputs, written.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_number_that_was_found_is_told_of_the_person_that_it_was_found_for() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default()).await;
    let names = ["ada", "pam", "jim"];
    let url = |name: &str| format!("https://www.linkedin.com/in/{name}");
    let records: Vec<_> = names.map(|name| json!({"linkedin_url": url(name), "custom_id": name})).into();
    gateway.submit("enrow", "k", &json!({"records": records})).await.accepted();
    gateway.advance_seconds(60);
    let row = |index: Value, params: Value, number: &str| json!({"index": index, "params": params, "qualification": "found", "number": number});
    let of = |name: &str| json!({"linkedin_url": url(name)});
    vendor.clear();
    vendor.on(
        "",
        Answer::json(&json!({
            "general": {"id": ID, "status": "completed"},
            "stats": {"requested": 3, "credits_cost": 120.5, "credits_to_refund": 0},
            "results": [
                row(json!(0), of("pam"), "+15705550002"),
                row(json!("1"), of("ada"), "+15705550001"),
                row(json!(2), json!([]), "+15705550003"),
                row(json!(2), of("angela"), "+15705550009"),
                json!("what is this?"),
            ],
        })),
    );
    let reply = gateway.batch("enrow", ID).await;
    let results = json!([
        ["ada", 0, "+15705550001"],
        ["pam", 1, "+15705550002"],
        // Others contradict their index, so that an index alone names nobody.
        [null, null, "+15705550003"],
        [null, null, "+15705550009"],
        [null, null, null],
    ]);
    assert_eq!(told(&reply), (results, json!(["results_incomplete", "results_unmatched"])));
    assert_eq!(reply.body["cost"], json!({"charged": 120.5, "refunded": 0, "unit": "credit"}));
    // Costs stay exact where they are added up.
    let usage = gateway.get("/usage").await;
    assert_eq!(usage.body["usage"][0]["charged"], json!(120.5));
}

#[tokio::test]
async fn a_cost_that_cannot_be_read_is_a_warning_and_drift_and_never_nothing() {
    let vendor = Replies::start().await;
    for (cost, shown, warned) in [
        (json!("40.0"), json!(40), false),
        (json!(1e1), json!(10), false),
        (json!(0.000_001), json!(0.000_001), false),
        (json!(null), json!(null), false),
        (json!("forty"), json!(null), true),
        (json!(-1), json!(null), true),
        (json!({"final": 40}), json!(null), true),
        (json!(true), json!(null), true),
    ] {
        let gateway = gateway(&vendor, Options::default()).await;
        vendor.clear();
        vendor.on(
            "",
            Answer::json(&json!({
                "general": {"id": ID, "status": "completed"},
                "stats": {"requested": 1, "credits_cost": cost, "credits_to_refund": null},
                "results": [{"index": 0, "qualification": "not_found"}],
            })),
        );
        let reply = gateway.batch("enrow", ID).await;
        let charged = reply.batch().get("cost").map_or(json!(null), |cost| cost["charged"].clone());
        let warnings = reply.body.get("warnings").cloned().unwrap_or_default();
        assert_eq!(
            (charged, warnings.to_string().contains("cost_unreadable")),
            (shown.clone(), warned),
            "{cost}"
        );
        let drift = gateway.metric("provider_schema_drift_total", &["field=\"cost\""]).await;
        assert_eq!(drift, u64::from(warned), "{cost}");
        let usage = gateway.get("/usage").await.body["usage"][0].take();
        let without = usage.get("batches_without_cost").cloned();
        assert_eq!(without, shown.is_null().then_some(json!(1)), "{cost}");
    }
}

#[tokio::test]
async fn a_batch_without_some_results_is_followed_for_a_day_and_then_final_as_it_stands() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default().following()).await;
    gateway.submit("experian", "k", &numbers()).await.accepted();
    let some = ["+447400123401", "+447400123403"].map(verified);
    experian(&vendor, "completed", &some);
    gateway.follow_for(60).await;
    let polls = || vendor.requests().iter().filter(|request| request.target.ends_with("/results")).count();
    assert_eq!(polls(), 1);
    // However many read it, nobody but the follower asks the vendor.
    for _ in 0..5 {
        assert_eq!(gateway.batch("experian", ID).await.batch()["warnings"], json!(["results_incomplete"]));
    }
    assert_eq!(polls(), 1);
    let mut pauses = Vec::new();
    let (mut seen, mut since) = (1, 0);
    for minute in (5..=26 * 60).step_by(5) {
        gateway.follow_for(5 * 60).await;
        if polls() > seen {
            pauses.push(minute - since);
            (seen, since) = (polls(), minute);
        }
    }
    assert!(pauses.len() > 5 && pauses.len() < 80, "{pauses:?}");
    assert!(pauses[0] == 5 && pauses.iter().max().unwrap() > &20, "more and more rarely: {pauses:?}");
    assert!((24 * 60..=25 * 60).contains(&since), "the last after a day: {since}");
    let polls_until_final = polls();
    gateway.follow_for(3 * DAY).await;
    assert_eq!(gateway.batch("experian", ID).await.batch()["warnings"], json!(["results_incomplete"]));
    assert_eq!(polls(), polls_until_final);
}

/// The vendor has all three results from now on: an hour later the batch is complete.
async fn all_results_come_and_are_taken(vendor: &Replies, gateway: &TestGateway) {
    experian(vendor, "completed", &["+447400123403", "+447400123401", "+447400123402"].map(verified));
    gateway.follow_for(3_600).await;
    let reply = gateway.batch("experian", ID).await;
    assert_eq!(told(&reply).1, json!([]));
    assert_eq!(reply.batch()["outcomes"], json!({"valid": 3}));
}

#[tokio::test]
async fn results_that_come_late_are_taken() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default().following()).await;
    gateway.submit("experian", "k", &numbers()).await.accepted();
    experian(&vendor, "completed", &["+447400123403"].map(verified));
    gateway.follow_for(60).await;
    assert_eq!(told(&gateway.batch("experian", ID).await).1, json!(["results_incomplete"]));
    all_results_come_and_are_taken(&vendor, &gateway).await;
}

#[tokio::test]
async fn results_that_match_replace_more_results_that_do_not() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default().following()).await;
    gateway.submit("experian", "k", &numbers()).await.accepted();
    let foreign = ["+447400123401", "+33612345671", "+33612345672", "+33612345673"].map(verified);
    experian(&vendor, "completed", &foreign);
    gateway.follow_for(60).await;
    let warnings = told(&gateway.batch("experian", ID).await).1;
    assert_eq!(warnings, json!(["results_incomplete", "results_unmatched"]));
    // Fewer that match do not.
    experian(&vendor, "completed", &["+33612345671", "+33612345672", "+33612345673"].map(verified));
    gateway.follow_for(600).await;
    assert_eq!(told(&gateway.batch("experian", ID).await).0[0][0], "a");
    all_results_come_and_are_taken(&vendor, &gateway).await;
}

#[tokio::test]
async fn a_done_batch_is_served_while_its_vendor_fails() {
    let vendor = Replies::start().await;
    for status in ["completed", "stopped"] {
        vendor.clear();
        let gateway = gateway(&vendor, Options::default()).await;
        gateway.submit("experian", "k", &numbers()).await.accepted();
        gateway.advance_seconds(60);
        experian(&vendor, status, &["+447400123401"].map(verified));
        let known = gateway.batch("experian", ID).await;
        vendor.clear();
        for failure in [Answer::new(500, &[], b"down"), Answer::new(401, &[], b"{}"), Answer::none()] {
            vendor.on("", failure);
            gateway.advance_seconds(3_600);
            let reply = gateway.batch("experian", ID).await;
            assert_eq!(reply.batch()["results"], known.batch()["results"], "{status}");
        }
    }
}

#[tokio::test]
async fn a_stopped_batch_is_final_a_day_after_it_was_seen_to_be_stopped() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default()).await;
    gateway.submit("experian", "k", &numbers()).await.accepted();
    gateway.advance_seconds(60);
    experian(&vendor, "stopped", &["+447400123401"].map(verified));
    let mut calls = Vec::new();
    for _ in 0..4 {
        gateway.batch("experian", ID).await.batch();
        calls.push(vendor.requests().len());
        gateway.advance_seconds(13 * 3_600);
    }
    assert!(calls[0] < calls[1] && calls[1] < calls[2] && calls[2] == calls[3], "{calls:?}");
}

#[tokio::test]
async fn a_done_batch_that_runs_again_is_not_followed_for_ever() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default().following()).await;
    gateway.submit("experian", "k", &numbers()).await.accepted();
    experian(&vendor, "completed", &["+447400123401"].map(verified));
    gateway.follow_for(60).await;
    experian(&vendor, "processing", &[]);
    gateway.follow_for(2 * DAY).await;
    gateway.follow_for(DAY).await;
    let calls = vendor.requests().len();
    gateway.follow_for(3_600).await;
    assert_eq!(told(&gateway.batch("experian", ID).await).1, json!(["results_incomplete"]));
    assert_eq!(vendor.requests().len(), calls);
}

#[tokio::test]
async fn a_completed_batch_without_any_result_runs_for_a_day_and_then_ends_without() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default().following()).await;
    gateway.submit("experian", "k", &numbers()).await.accepted();
    experian(&vendor, "completed", &[]);
    for _ in 0..23 {
        gateway.follow_for(3_600).await;
        let batch = gateway.batch("experian", ID).await;
        assert_eq!((&batch.batch()["status"], &batch.body["done"]), (&json!("running"), &json!(false)));
    }
    for _ in 0..4 {
        gateway.follow_for(1_800).await;
    }
    let batch = gateway.batch("experian", ID).await;
    let told = (&batch.batch()["status"], batch.body.get("results"), &batch.body["warnings"]);
    assert_eq!(told, (&json!("completed"), None, &json!(["results_incomplete"])));
    let requests = vendor.requests().len();
    gateway.follow_for(DAY).await;
    gateway.batch("experian", ID).await.batch();
    assert_eq!(vendor.requests().len(), requests);
}

#[tokio::test]
async fn results_are_served_though_the_records_in_the_store_are_damaged() {
    let vendor = Replies::start().await;
    let gateway = gateway(&vendor, Options::default()).await;
    gateway.submit("experian", "k", &numbers()).await.accepted();
    let mut store = gateway.store.connect().await;
    sqlx::raw_sql("UPDATE orders SET body = SUBSTR(body, 5)").execute(&mut store).await.unwrap();
    gateway.advance_seconds(60);
    let numbers = ["+447400123401", "+447400123402", "+447400123403"];
    experian(&vendor, "completed", &numbers.map(verified));
    let results = told(&gateway.batch("experian", ID).await).0;
    let without_ids: Vec<_> = results.as_array().unwrap().iter().map(|result| &result[0]).collect();
    assert_eq!((without_ids, results[2][2].as_str()), (vec![&Value::Null; 3], Some(numbers[2])));
}

#[tokio::test]
async fn two_submissions_are_never_the_same_batch() {
    for slug in ["enrow", "experian"] {
        let vendor = Replies::start().await;
        let gateway = gateway(&vendor, Options::default()).await;
        let order = |id: &str| match slug {
            "enrow" => {
                json!({"records": [{"linkedin_url": "https://www.linkedin.com/in/ada", "custom_id": id}]})
            }
            _ => json!({"records": [{"number": "+447400123401", "custom_id": id}]}),
        };
        gateway.submit(slug, "first", &order("first")).await.accepted();
        let second = gateway.submit(slug, "second", &order("second")).await;
        second.assert_problem(502, "provider_integrity");
        assert!(second.body["detail"].as_str().unwrap().contains("may have charged"), "{}", second.text());
        let submission = gateway.submission(second.submission()).await;
        assert_eq!(
            (&submission["state"], &submission["code"]),
            (&json!("in_doubt"), &json!("provider_integrity"))
        );
        assert_eq!(submission.get("batch_id"), None);
        // It is not sent again, and the batch stays the first one's.
        let posts = vendor.posts();
        gateway.submit(slug, "second", &order("second")).await.assert_problem(409, "submission_in_doubt");
        assert_eq!(vendor.posts(), posts);
        let first = gateway.submit(slug, "first", &order("first")).await;
        assert_eq!((first.status, first.id(), first.is_replayed()), (202, ID, true));
    }
}
