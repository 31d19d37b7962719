//! `kill -9` at each step of a submission and of what follows it: nothing is paid twice, nothing that was acknowledged
//! is lost, and what is not known is said to be in doubt.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::helpers::{
    Lock, Moment, Options, Process, Replica, Reply, Site, Standstill, TestStore, eventually, numbered_order,
    path_of, run, webhooks,
};

const VENDORS: [&str; 2] = ["enrow", "experian"];
const KEY: &str = "the-key-of-the-only-order";

/// What a killed gateway left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// No row.
    Nothing,
    /// `reserved`: nothing was sent.
    Reserved,
    /// `sending`, and the vendor got nothing that it could act on.
    Unsent,
    /// `sending`, and the vendor has taken the order.
    Sent,
    /// `accepted`.
    Accepted,
}

/// A gateway that follows, and a submission of its only order that nobody waits for.
async fn submitting(site: &Site, slug: &str) -> (Replica, JoinHandle<reqwest::Result<Reply>>) {
    let replica = site.start().await;
    let submission = send(&replica, slug);
    (replica, submission)
}

fn send(replica: &Replica, slug: &str) -> JoinHandle<reqwest::Result<Reply>> {
    let request = replica.submission(slug, KEY, &numbered_order(slug, 1));
    tokio::spawn(async move { Ok(Reply::of(request.send().await?).await) })
}

/// Nobody who was killed has said anything.
async fn unheard(submission: JoinHandle<reqwest::Result<Reply>>) {
    assert!(submission.await.unwrap().is_err(), "an answer came");
}

/// Starts a gateway on what is left, sends the same order with the same key until it is accepted, and holds the
/// vendor and the store against each other.
async fn start_again(site: &Site, slug: &str, left: Left, order: &Value) {
    let is_alone = site.store.is_file();
    let is_large = order["records"].as_array().unwrap().len() > 1;
    // How long the same key waits for who is gone; a large order needs the time to be sent.
    let deadline = if is_large { "20s" } else { "1s" };
    let replica = site.start_with(|options| options.clone().set("http.submit_deadline", deadline)).await;
    let said = site.submissions().await.pop();
    let (id, state) = said.unzip();
    let expected = match left {
        Left::Nothing => None,
        Left::Reserved => Some(if is_alone { "not_sent" } else { "reserved" }),
        Left::Unsent | Left::Sent => Some(if is_alone { "in_doubt" } else { "sending" }),
        Left::Accepted => Some("accepted"),
    };
    // The vendor's own list may have settled it before anybody could look.
    let settled = slug == "experian" && left == Left::Sent && state.as_deref() == Some("accepted");
    assert!(settled || state.as_deref() == expected, "{slug} {left:?} is {state:?}");

    if !is_alone && matches!(left, Left::Reserved | Left::Unsent | Left::Sent) {
        if !is_large {
            // Another gateway may be at work on it.
            replica.submit(slug, KEY, order).await.assert_problem(409, "idempotency_key_in_use");
        }
        site.end_leases().await;
    }
    match left {
        Left::Nothing | Left::Reserved | Left::Accepted => {}
        Left::Unsent => settle_unsent(site, &replica, slug, &id.unwrap(), order).await,
        Left::Sent => settle_sent(site, &replica, slug, &id.unwrap(), order).await,
    }
    let known = matches!(left, Left::Sent | Left::Accepted);
    let reply = accepted(&replica, slug, order).await;
    assert_eq!(reply.header("idempotent-replayed").is_some(), known, "{slug} {left:?}");
    let again = replica.submit(slug, KEY, order).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")));
    assert_eq!(again.bytes, reply.bytes, "the answer that was stored");
    let records = order["records"].as_array().unwrap().len();
    paid_once(site, &replica, slug, &reply, records).await;
}

/// The answer to the order once it is accepted.
async fn accepted(replica: &Replica, slug: &str, order: &Value) -> Reply {
    let accepted = eventually("the order is accepted");
    loop {
        let reply = replica.submit(slug, KEY, order).await;
        assert!(reply.status == 202 || reply.body["code"] == "idempotency_key_in_use", "{}", reply.text());
        if accepted.is(reply.status == 202).await {
            return reply;
        }
    }
}

/// In doubt, and the vendor has nothing: its list says so in the end, else an operator.
async fn settle_unsent(site: &Site, replica: &Replica, slug: &str, id: &str, order: &Value) {
    site.state_becomes("in_doubt").await;
    replica.submit(slug, KEY, order).await.assert_problem(409, "submission_in_doubt");
    assert_eq!(site.taken(slug).await, 0);
    if slug == "experian" {
        site.age_doubts().await;
        site.state_becomes("not_sent").await;
    } else {
        let variables = site.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        let resolved = run(&["submissions", "resolve", id, "--as", "not-sent", "--by", "me"], &variables);
        assert!(resolved.status.success(), "{}", String::from_utf8_lossy(&resolved.stderr));
    }
}

/// In doubt, and the vendor has it: its list says so, or what it calls when the batch has ended.
async fn settle_sent(site: &Site, replica: &Replica, slug: &str, id: &str, order: &Value) {
    if slug == "enrow" {
        site.state_becomes("in_doubt").await;
        replica.submit(slug, KEY, order).await.assert_problem(409, "submission_in_doubt");
        site.advance_seconds(60);
        let called = eventually("the vendor says that the batch has ended");
        while !called.is(!webhooks(site).is_empty()).await {}
        replica.pass_on(webhooks(site).remove(0)).await;
    }
    site.state_becomes("accepted").await;
    let submission = replica.get(&format!("/submissions/{id}")).await;
    assert_eq!((submission.status, &submission.body["state"]), (200, &Value::from("accepted")));
}

/// One batch at the vendor, one charge, and its results are read.
async fn paid_once(site: &Site, replica: &Replica, slug: &str, reply: &Reply, records: usize) {
    site.advance_seconds(60);
    let path = path_of(reply);
    let completed = eventually("the batch is completed");
    while !completed.is(replica.get(&path).await.batch()["status"] == "completed").await {}
    let admin = site.admin(slug).await;
    let price = records as u64 * if slug == "enrow" { 40 } else { 1 };
    assert_eq!((admin["batches"].as_u64(), admin["charged"].as_u64()), (Some(1), Some(price)), "{slug}");
    assert_eq!(site.submissions().await.len(), 1, "one submission");
}

async fn site() -> Site {
    Site::new(options()).await
}

fn options() -> Options {
    Options::default().following().set("cache.running_ttl", "0s")
}

/// Kills a gateway that submits when it stands at a moment.
async fn kill_at(moment: Moment, left: Left) {
    join_all(VENDORS.map(|slug| async move {
        let site = site().await;
        let mut replica = site.start().await;
        let mut standstill = Standstill::at(moment, &site.store).await;
        let submission = send(&replica, slug);
        standstill.reached().await;
        replica.process.kill();
        unheard(submission).await;
        standstill.lift().await;
        assert_eq!(site.taken(slug).await, u64::from(matches!(left, Left::Sent)), "{slug} {moment:?}");
        start_again(&site, slug, left, &numbered_order(slug, 1)).await;
    }))
    .await;
}

#[tokio::test]
async fn killed_before_the_row_is_inserted() {
    join_all(VENDORS.map(|slug| async move {
        let site = site().await;
        let mut replica = site.start().await;
        let lock = Lock::hold(&site.store).await;
        let submission = send(&replica, slug);
        lock.reached(replica.address).await;
        replica.process.kill();
        unheard(submission).await;
        lock.lift().await;
        assert_eq!(site.calls(slug).await, 0);
        start_again(&site, slug, Left::Nothing, &numbered_order(slug, 1)).await;
    }))
    .await;
}

#[tokio::test]
async fn killed_before_the_row_is_committed() {
    kill_at(Moment::Reserving, Left::Nothing).await;
}

#[tokio::test]
async fn killed_while_the_row_is_committed() {
    if TestStore::new().await.is_file() {
        // SQLite's commit is one call of the same process: it cannot be held from outside.
        return;
    }
    kill_at(Moment::Committing, Left::Reserved).await;
}

#[tokio::test]
async fn killed_when_the_row_is_reserved() {
    kill_at(Moment::Sending, Left::Reserved).await;
}

#[tokio::test]
async fn killed_when_sending_is_committed_and_nothing_is_sent() {
    kill_at(Moment::Counting, Left::Unsent).await;
}

/// More than the system takes off a process's hands while nobody reads: 6 MB. Numbers are cleaned before they are sent,
/// so that no request with numbers is as large.
fn large_order() -> Value {
    let long = |number: usize| format!("{number:0>900}");
    let record =
        |number| json!({"first_name": long(number), "last_name": long(number), "company_name": long(number)});
    json!({"records": (0..2_200).map(record).collect::<Value>()})
}

#[tokio::test]
async fn killed_when_half_of_the_request_is_sent() {
    let slug = "enrow";
    let site =
        Site::new(options().set("server.max_body_bytes", "16MiB").vendor(slug, "timeout", "15s")).await;
    // A small window: what the vendor does not read stays with the gateway.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let vendor = format!("http://{}", listener.local_addr().unwrap());
    let start = site.start_with(|options| options.clone().vendor(slug, "base_url", vendor));
    let mut replica = start.await;
    let large = large_order();
    site.adjust(slug, json!({"credits": 1_000_000})).await;
    let request = replica.submission(slug, KEY, &large);
    let submission = tokio::spawn(async move { Ok(Reply::of(request.send().await?).await) });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = vec![0; 20_000];
    stream.read_exact(&mut got).await.unwrap();
    let head = String::from_utf8_lossy(&got).to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
    replica.process.kill();
    unheard(submission).await;
    // Whatever was on its way; a reset is an end too.
    drop(stream.read_to_end(&mut got).await);
    drop(stream.shutdown().await);
    let length: usize = length.parse().unwrap();
    assert!(got.len() < length, "half of the request: {} of {length}", got.len());
    start_again(&site, slug, Left::Unsent, &large).await;
}

#[tokio::test]
async fn killed_when_the_request_is_sent_and_not_answered() {
    join_all(VENDORS.map(|slug| async move {
        let site = site().await;
        site.fault(slug, json!({"method": "POST", "hang": true})).await;
        let (mut replica, submission) = submitting(&site, slug).await;
        let sent = eventually("the vendor has taken the order");
        while !sent.is(site.taken(slug).await == 1).await {}
        replica.process.kill();
        unheard(submission).await;
        site.clear_faults(slug).await;
        start_again(&site, slug, Left::Sent, &numbered_order(slug, 1)).await;
        // Created before, started after.
        assert!(site.paid_calls(slug).await.iter().all(|(_, count)| *count == 1));
    }))
    .await;
}

#[tokio::test]
async fn killed_between_the_steps_of_a_vendor() {
    let site = site().await;
    site.fault("experian", json!({"method": "POST", "path": "/phone/bulk/v1/batches/", "hang": true})).await;
    let (mut replica, submission) = submitting(&site, "experian").await;
    let started = eventually("the batch is started");
    while !started.is(site.paid_calls("experian").await.len() == 2).await {}
    replica.process.kill();
    unheard(submission).await;
    site.clear_faults("experian").await;
    start_again(&site, "experian", Left::Sent, &numbered_order("experian", 1)).await;
    assert!(site.paid_calls("experian").await.iter().all(|(_, count)| *count == 1), "not started again");
}

#[tokio::test]
async fn killed_while_a_doubt_is_looked_up() {
    let site = site().await;
    site.fault("experian", json!({"hang": true})).await;
    let (mut replica, submission) = submitting(&site, "experian").await;
    let sent = eventually("the vendor has taken the order");
    while !sent.is(site.taken("experian").await == 1).await {}
    replica.process.kill();
    unheard(submission).await;
    let mut replica = site.start().await;
    if !site.store.is_file() {
        site.end_leases().await;
    }
    let looked = eventually("the vendor's list is asked for");
    while !looked.is(site.calls("experian").await == 2).await {}
    replica.process.kill();
    site.clear_faults("experian").await;

    let began = Instant::now();
    let replica = site.start().await;
    if !site.store.is_file() {
        site.change("UPDATE submissions SET lease_until = 0, next_look_at = 0").await;
    }
    site.state_becomes("accepted").await;
    assert!(began.elapsed() < Duration::from_secs(6), "waited for who is gone: {:?}", began.elapsed());
    let reply = accepted(&replica, "experian", &numbered_order("experian", 1)).await;
    assert_eq!(reply.header("idempotent-replayed"), Some("true"));
    paid_once(&site, &replica, "experian", &reply, 1).await;
}

#[tokio::test]
async fn killed_when_the_answer_is_read_and_not_committed() {
    kill_at(Moment::Accepting, Left::Sent).await;
}

#[tokio::test]
async fn killed_right_after_the_answer() {
    join_all(VENDORS.map(|slug| async move {
        let site = site().await;
        let (mut replica, submission) = submitting(&site, slug).await;
        let reply = submission.await.unwrap().unwrap();
        replica.process.kill();
        assert_eq!(reply.status, 202, "{}", reply.text());
        let kept = site.submissions().await;
        start_again(&site, slug, Left::Accepted, &numbered_order(slug, 1)).await;
        assert_eq!(site.submissions().await, kept);
        assert_eq!(reply.body["submission_id"], kept[0].0.as_str());
    }))
    .await;
}

#[tokio::test]
async fn killed_while_a_completed_batch_is_written_down() {
    join_all(VENDORS.map(|slug| async move {
        let site = Site::new(options().set("http.read_deadline", "4s")).await;
        let (mut replica, submission) = submitting(&site, slug).await;
        let reply = submission.await.unwrap().unwrap();
        assert_eq!(reply.status, 202);
        let mut standstill = Standstill::at(Moment::Archiving, &site.store).await;
        site.advance_seconds(60);
        standstill.reached().await;
        replica.process.kill();
        standstill.lift().await;
        let replica = site.start().await;
        // Whoever was reading it is gone, and nobody waits for him.
        let began = Instant::now();
        let batch = replica.get(&path_of(&reply)).await;
        assert_eq!(batch.batch()["done"].as_bool(), Some(site.store.is_file()), "{slug}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        site.end_leases().await;
        paid_once(&site, &replica, slug, &reply, 1).await;
    }))
    .await;
}

#[tokio::test]
async fn killed_while_the_schema_is_made() {
    let began = Instant::now();
    let site = site().await;
    drop(site.start().await);
    let time_to_ready = began.elapsed();
    let mut unready = 0;
    for step in 0..12_u32 {
        let site = self::site().await;
        let mut process: Process = site.spawn();
        // There is nothing to be seen of a migration from outside: the kills are spread over the whole start.
        tokio::time::sleep(time_to_ready * step / 12).await;
        process.kill();
        unready += u32::from(!process.lines().iter().any(|line| line.contains("\"ready\"")));
        let replica = site.start().await;
        let reply = replica.submit("enrow", KEY, &numbered_order("enrow", 1)).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    assert!(unready > 0, "no kill came before the gateway was ready");
}
