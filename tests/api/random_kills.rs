//! A gateway that is killed at random moments, again and again, while clients submit to it and the vendors' answers get
//! lost: in the end the vendors' own records are held against the store and against what clients were told.
//!
//! The long run is a command of its own that prints its figures; with `tests/postgres.sh` before it, on PostgreSQL:
//!
//! ```sh
//! cargo test --test api -- --ignored --nocapture random_kills
//! ```
//!
//! `PHONE_GATEWAY_TEST_KILLS` says how often it kills (1,000), `PHONE_GATEWAY_TEST_SEED` repeats the choices of a run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::Row;
use tokio::task::JoinSet;

use crate::helpers::{Options, Replica, Reply, Site, eventually, numbered_order, path_of, webhooks};

/// How much goes on.
#[derive(Clone, Copy)]
struct Scale {
    kills: u64,
    clients: u64,
    /// How long a gateway lives at most, from ready on.
    life: Duration,
}

/// Orders that wait for another try, at most; beyond, nobody begins a new one.
const WAITING: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dozen_kills_at_random_moments() {
    run(Scale { kills: 12, clients: 8, life: Duration::from_millis(250) }, fastrand::u64(..)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: a command of its own"]
async fn a_thousand_random_kills() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().unwrap());
    let kills = number("PHONE_GATEWAY_TEST_KILLS").unwrap_or(1_000);
    let seed = number("PHONE_GATEWAY_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    run(Scale { kills, clients: 16, life: Duration::from_millis(650) }, seed).await;
}

/// What the clients know: every order has a number, which is its key, its record and its vendor.
#[derive(Default)]
struct Ledger {
    begun: usize,
    waiting: VecDeque<usize>,
    /// The batch that each order was acknowledged with.
    acknowledged: BTreeMap<usize, String>,
    replays: usize,
    /// How often one was told that its order is in doubt: it is asked for again at the end.
    doubts: usize,
    /// Where the gateway of the moment is.
    url: Option<String>,
    over: bool,
}

const fn vendor_of(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "enrow" } else { "experian" }
}

async fn run(scale: Scale, seed: u64) {
    let Scale { kills, clients: callers, life } = scale;
    println!("random kills: seed {seed}");
    let began = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let options = Options::default()
        .following()
        .set("server.workers", "2")
        .set("http.submit_deadline", "2s")
        .set("log.filter", "info")
        .vendor("enrow", "timeout", "1s")
        .vendor("enrow", "quota", "1000000/1s")
        .vendor("experian", "timeout", "1s")
        .vendor("experian", "quota", "1000000/1s");
    let site = Site::new(options).await;
    for slug in ["enrow", "experian"] {
        let plenty = json!({"rate_limit": 1_000_000_000, "credits": 1_000_000_000, "pace_ms": 100});
        site.adjust(slug, plenty).await;
    }
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut clients = JoinSet::new();
    for _ in 0..callers {
        clients.spawn(client(Arc::clone(&ledger), site.http.clone(), rng.fork()));
    }
    for _ in 0..kills {
        live_and_die(&site, &ledger, &mut rng, life).await;
    }
    ledger.lock().unwrap().over = true;
    clients.join_all().await;
    let replica = site.start().await;
    // A hundred of those in doubt are looked up at a time: the more there are, the longer it takes.
    let patience = Duration::from_secs(20) + Duration::from_millis(400 * kills);
    settle(&site, &replica, &ledger, patience).await;
    let ledger = std::mem::take(&mut *ledger.lock().unwrap());
    let figures = compare(&site, &replica, &ledger).await;
    println!("random kills: {kills} kills in {:?}, {figures}", began.elapsed());
}

/// One gateway, from its start to its sudden end.
async fn live_and_die(site: &Site, ledger: &Mutex<Ledger>, rng: &mut Rng, life: Duration) {
    let slug = vendor_of(rng.usize(..));
    if rng.bool() {
        site.fault(slug, fault(rng)).await;
    }
    let mut process = site.spawn();
    if rng.u8(..10) == 0 {
        // Before it is ready.
        tokio::time::sleep(life.mul_f64(rng.f64() / 4.0)).await;
        process.kill();
    } else {
        let mut replica = Replica::ready(process, &site.http).await;
        ledger.lock().unwrap().url = Some(replica.url.clone());
        tokio::time::sleep(life.mul_f64(rng.f64())).await;
        replica.process.kill();
    }
    ledger.lock().unwrap().url = None;
    site.clear_faults(slug).await;
}

/// What goes wrong between a gateway and a vendor, for the next few calls.
fn fault(rng: &mut Rng) -> Value {
    let mut fault = match rng.u8(..7) {
        0 => json!({"cut": true}),
        1 => json!({"hang": true}),
        2 => json!({"delay_ms": rng.u64(1..400)}),
        3 => json!({"answer": {"status": 503}}),
        4 => json!({"answer": {"status": 500, "processed": true}}),
        5 => json!({"answer": {"status": 200, "body": "<html>", "processed": true}}),
        _ => json!({"answer": {"status": 429, "headers": {"retry-after": "1"}}}),
    };
    fault["times"] = rng.u32(1..4).into();
    if rng.bool() {
        fault["method"] = "POST".into();
    }
    fault
}

/// Submits until it is over; what brought no answer is sent again with the same key.
async fn client(ledger: Arc<Mutex<Ledger>>, http: Client, mut rng: Rng) {
    loop {
        let next = {
            let mut ledger = ledger.lock().unwrap();
            if ledger.over {
                return;
            }
            ledger.url.clone().map(|url| {
                let again = ledger.waiting.len() > WAITING || rng.u8(..3) == 0;
                let number = if again { ledger.waiting.pop_front() } else { None };
                let number = number.unwrap_or_else(|| {
                    ledger.begun += 1;
                    ledger.begun - 1
                });
                (url, number)
            })
        };
        let Some((url, number)) = next else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let slug = vendor_of(number);
        let request = http
            .post(format!("{url}/batches/{slug}"))
            .header("idempotency-key", number.to_string())
            .header("content-type", "application/json")
            .body(numbered_order(slug, number).to_string())
            .timeout(Duration::from_secs(10));
        let reply = match request.send().await {
            Ok(response) => answer(response).await,
            Err(_) => None,
        };
        let mut ledger = ledger.lock().unwrap();
        match reply {
            Some(reply) if reply.status == 202 => {
                note(&mut ledger, number, &reply);
                // Some ask again for what they have.
                if rng.u8(..16) == 0 {
                    ledger.waiting.push_back(number);
                }
            }
            Some(reply) if reply.body["code"] == "submission_in_doubt" => ledger.doubts += 1,
            _ => ledger.waiting.push_back(number),
        }
    }
}

/// The whole answer, if the gateway lived to write it.
async fn answer(response: reqwest::Response) -> Option<Reply> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Reply::new(status, headers, response.bytes().await.ok()?))
}

/// Writes down what a client was told. It is told the same for ever.
fn note(ledger: &mut Ledger, number: usize, reply: &Reply) {
    assert_eq!(reply.status, 202);
    let path = path_of(reply);
    let known = ledger.acknowledged.entry(number).or_insert_with(|| path.clone());
    assert_eq!(*known, path, "order {number} became another batch");
    ledger.replays += usize::from(reply.header("idempotent-replayed").is_some());
}

/// Lets everything come to its end: what is in doubt is settled where the vendor can tell, what was not sent is sent.
async fn settle(site: &Site, replica: &Replica, ledger: &Mutex<Ledger>, patience: Duration) {
    let quiet = eventually("the vendors have said which batches ended");
    while !quiet.is(webhooks(site).len() as u64 == site.taken("enrow").await).await {}
    site.end_leases().await;
    let known = batches_of(site, "enrow").await;
    for webhook in webhooks(site) {
        let event: Value = serde_json::from_slice(&webhook.1).unwrap();
        if !known.contains(event["id"].as_str().unwrap()) {
            replica.pass_on(webhook).await;
        }
    }
    let open = "SELECT COUNT(*) AS open FROM submissions
                WHERE state IN ('reserved', 'sending') OR (state = 'in_doubt' AND provider = 'experian')";
    let since = Instant::now();
    loop {
        site.age_doubts().await;
        let row = sqlx::query(open).fetch_one(&mut site.store.connect().await).await.unwrap();
        let open = row.get::<i64, _>("open");
        if open == 0 {
            break;
        }
        assert!(since.elapsed() < patience, "{open} orders are not settled");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    // Enrow shows a submission only when its batch was read.
    let mut known = batches_of(site, "enrow").await.len() as u64;
    while known < site.taken("enrow").await {
        // However many there are, they become ever fewer.
        let read = eventually("one more batch that the vendor took is known");
        let before = known;
        while !read.is(known > before).await {
            known = batches_of(site, "enrow").await.len() as u64;
        }
    }
    let unheard: Vec<_> = {
        let ledger = ledger.lock().unwrap();
        (0..ledger.begun).filter(|number| !ledger.acknowledged.contains_key(number)).collect()
    };
    for number in unheard {
        let slug = vendor_of(number);
        let sent = eventually("an order has its answer");
        loop {
            let reply = replica.submit(slug, &number.to_string(), &numbered_order(slug, number)).await;
            let in_doubt = reply.body["code"] == "submission_in_doubt";
            if sent.is(reply.status == 202 || in_doubt).await {
                if !in_doubt {
                    note(&mut ledger.lock().unwrap(), number, &reply);
                }
                break;
            }
        }
    }
}

/// The vendor's ids of the batches that submissions became.
async fn batches_of(site: &Site, slug: &str) -> BTreeSet<String> {
    let rows = sqlx::query("SELECT batch_id FROM submissions WHERE state = 'accepted' AND provider = $1")
        .bind(slug)
        .fetch_all(&mut site.store.connect().await)
        .await
        .unwrap();
    rows.iter().map(|row| row.get("batch_id")).collect()
}

/// Holds the vendors' own records against the store and what clients were told; says what there was.
async fn compare(site: &Site, replica: &Replica, ledger: &Ledger) -> String {
    // Which batch the vendors have for each submission.
    let mut bought: BTreeMap<String, String> = BTreeMap::new();
    site.advance_seconds(60);
    let list = site.vendor("experian", Method::GET, "/phone/bulk/v1/batches", None).await;
    for batch in list.body["result"]["batches"].as_array().unwrap() {
        let id = batch["batch_id"].as_str().unwrap();
        let reference = batch["batch_reference_id"].as_str().unwrap();
        assert_ne!(batch["status"], "submitted", "{reference} was never started");
        let other = bought.insert(reference.to_owned(), format!("/batches/experian/{id}"));
        assert_eq!(other, None, "submission {reference} was bought twice");
    }
    let experian = bought.len();
    let called = eventually("the vendors have said which batches ended");
    while !called.is(webhooks(site).len() as u64 == site.taken("enrow").await).await {}
    for (_, body) in webhooks(site) {
        let event: Value = serde_json::from_slice(&body).unwrap();
        let id = event["id"].as_str().unwrap();
        let batch = site.vendor("enrow", Method::GET, &format!("/phone/bulk?id={id}"), None).await.body;
        let submission = batch["general"]["custom"]["submission_id"].as_str().unwrap();
        let other = bought.insert(submission.to_owned(), format!("/batches/enrow/{id}"));
        assert_eq!(other, None, "submission {submission} was bought twice");
    }
    let enrow = bought.len() - experian;
    let (charged, started) = (site.admin("enrow").await, site.admin("experian").await);
    assert_eq!(charged["charged"], 40 * enrow, "every charge is one of these batches");
    assert_eq!(started["charged"], experian, "every charge is one of these batches");

    let rows = sqlx::query("SELECT id, provider, state, batch_id FROM submissions")
        .fetch_all(&mut site.store.connect().await)
        .await
        .unwrap();
    assert_eq!(rows.len(), ledger.begun, "one submission for each key");
    let mut in_doubt = 0;
    let mut accepted = BTreeSet::new();
    for row in rows {
        let (id, state): (String, String) = (row.get("id"), row.get("state"));
        let batch: Option<String> = row.get("batch_id");
        let path = batch.map(|batch| format!("/batches/{}/{batch}", row.get::<String, _>("provider")));
        assert_eq!(path, bought.remove(&id), "{id} is {state}");
        match path {
            Some(path) => assert!(state == "accepted" && accepted.insert(path), "{id} is {state}"),
            None => assert_eq!(state, "in_doubt", "{id}"),
        }
        in_doubt += usize::from(state == "in_doubt");
    }
    assert_eq!(bought, BTreeMap::new(), "bought, and nobody knows");
    for (number, path) in &ledger.acknowledged {
        assert!(accepted.contains(path), "order {number} is lost: {path}");
    }
    for (number, path) in ledger.acknowledged.iter().step_by(ledger.begun / 200 + 1) {
        assert!(replica.get(path).await.batch()["submission_id"].is_string());
        let slug = vendor_of(*number);
        let replay = replica.submit(slug, &number.to_string(), &numbered_order(slug, *number)).await;
        assert_eq!(path_of(&replay), *path, "{}", replay.text());
    }
    format!(
        "{} orders: {} acknowledged, {in_doubt} in doubt at the end and {} on the way, {} replays; charged {enrow} times \
         by enrow and {experian} times by experian: 0 twice, 0 lost",
        ledger.begun,
        ledger.acknowledged.len(),
        ledger.doubts,
        ledger.replays,
    )
}
