//! What was acknowledged is on the disk; what a gateway does while its store is full, locked or down, and when it is told
//! to stop.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::Row;

use crate::helpers::{
    Lock, Options, Replica, Reply, Shim, Site, TestStore, Wire, WireState, eventually, numbered_order,
    path_of,
};

/// How soon a request is answered that needs a store which does not answer: the store has two seconds.
const SOON: Duration = Duration::from_millis(3_500);
const COMPLETED: &str = "/batches/enrow/sandbox-completed";

#[tokio::test]
async fn what_is_acknowledged_is_on_the_disk() {
    let site = Site::new(Options::default()).await;
    if !site.store.is_file() {
        return acknowledged_by_postgres(&site).await;
    }
    let shim = Shim::build();
    let replica = shim.start(&site).await;
    for (number, slug) in (0..).zip(["enrow", "experian", "enrow", "experian"]) {
        let before = shim.syncs();
        let reply = replica.submit(slug, &number.to_string(), &numbered_order(slug, number)).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        // Reserved before it is sent, sending before it goes out, accepted before it is acknowledged.
        assert!(shim.syncs() >= before + 3, "{slug}: {} more", shim.syncs() - before);

        let before = shim.syncs();
        let erased = replica.request(Method::DELETE, &path_of(&reply)).send().await.unwrap();
        assert_eq!(erased.status(), 204);
        assert!(shim.syncs() > before, "{slug}");
    }
}

/// What is only on its way to the disk in PostgreSQL is so for every connection whose session says it: the gateway's own
/// sessions write down what they say, whatever the URL and the server would have.
async fn acknowledged_by_postgres(site: &Site) {
    let url = format!("{}%20-c%20synchronous_commit%3Doff", site.store.url());
    let replica = site.start_with(|options| options.clone().set("store.url", url)).await;
    site.change(
        "CREATE TABLE sessions (told TEXT);
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO sessions VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
         CREATE TRIGGER tell AFTER INSERT OR UPDATE ON submissions FOR EACH ROW EXECUTE FUNCTION tell();
         CREATE TRIGGER tell AFTER INSERT OR UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION tell()",
    )
    .await;
    let reply = replica.submit("enrow", "key", &numbered_order("enrow", 1)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let erased = replica.request(Method::DELETE, &path_of(&reply)).send().await.unwrap();
    assert_eq!(erased.status(), 204);
    let told =
        sqlx::query("SELECT told FROM sessions").fetch_all(&mut site.store.connect().await).await.unwrap();
    assert!(told.len() >= 5, "reserved, sending, accepted with its batch, erased: {}", told.len());
    assert!(told.iter().all(|row| row.get::<String, _>("told") == "on"));
}

#[tokio::test]
async fn a_submission_under_way_is_carried_through_a_stop() {
    join_all(["enrow", "experian"].map(|slug| async move {
        let site = Site::new(Options::default().following()).await;
        let mut replica = site.start().await;
        site.fault(slug, json!({"method": "POST", "times": 1, "delay_ms": 1_000})).await;
        let request = replica.submission(slug, "key", &numbered_order(slug, 1));
        let submission = tokio::spawn(async move { Reply::of(request.send().await.unwrap()).await });
        let sent = eventually("the vendor has taken the order");
        while !sent.is(site.taken(slug).await == 1).await {}
        replica.process.terminate();
        let reply = submission.await.unwrap();
        assert_eq!(reply.status, 202, "{}", reply.text());
        assert!(replica.process.exit().await.success());
        assert_eq!(site.submissions().await[0].1, "accepted");
        let again = site.start().await.submit(slug, "key", &numbered_order(slug, 1)).await;
        assert_eq!((again.status, &again.body["id"]), (202, &reply.body["id"]));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(site.taken(slug).await, 1);
    }))
    .await;
}

#[tokio::test]
async fn while_the_store_is_locked_nothing_is_sent_and_what_is_in_memory_is_served() {
    let site = Site::new(Options::default()).await;
    let replica = site.start().await;
    replica.get(COMPLETED).await.batch();
    let lock = Lock::hold(&site.store).await;
    refuses_submissions(&site, &replica).await;
    lock.lift().await;
    recovers(&site, &replica).await;
}

#[tokio::test]
async fn while_the_store_is_down_nothing_is_sent_and_what_is_in_memory_is_served() {
    let Some(server) = socket_folder() else {
        // A file has no server; one that is not on a socket of this machine cannot be taken away.
        return;
    };
    join_all([WireState::Silent, WireState::Cut].map(|state| {
        let server = server.clone();
        async move {
            let wire = Wire::start(Path::new(&server));
            let site = Site::new(Options::default()).await;
            let url = site.store.url().replace(&server, &wire.folder().display().to_string());
            let replica = site.start_with(|options| options.clone().set("store.url", url)).await;
            replica.get(COMPLETED).await.batch();
            wire.set(state);
            refuses_submissions(&site, &replica).await;
            wire.set(WireState::Open);
            recovers(&site, &replica).await;
        }
    }))
    .await;
}

#[tokio::test]
async fn a_step_that_was_given_up_and_written_all_the_same_is_taken_back() {
    let site = Site::new(Options::default()).await;
    if site.store.is_file() {
        // SQLite's commit is one call of the same process: it cannot be held from outside.
        return;
    }
    let replica = site.start().await;
    // Each within the limit of a statement; together longer than the store has for one step.
    site.change(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(1.4); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE UPDATE ON submissions
             FOR EACH ROW WHEN (NEW.state = 'sending') EXECUTE FUNCTION slow();
         CREATE CONSTRAINT TRIGGER slow_too AFTER UPDATE ON submissions DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.state = 'sending') EXECUTE FUNCTION slow()",
    )
    .await;
    let refused = replica.submit("enrow", "key", &numbered_order("enrow", 1)).await;
    refused.assert_problem(503, "store_unavailable");
    site.change("DROP FUNCTION slow() CASCADE").await;
    site.state_becomes("not_sent").await;
    assert_eq!(site.calls("enrow").await, 0);
    let reply = replica.submit("enrow", "key", &numbered_order("enrow", 1)).await;
    assert_eq!((reply.status, site.taken("enrow").await), (202, 1), "{}", reply.text());
}

/// The folder of the PostgreSQL server's socket.
fn socket_folder() -> Option<String> {
    let url = TestStore::server()?;
    let folder = url.split("host=").nth(1)?.split('&').next()?;
    folder.starts_with('/').then(|| folder.to_owned())
}

#[tokio::test]
async fn while_the_disk_is_full_nothing_is_sent_and_reading_goes_on() {
    let site = Site::new(Options::default()).await;
    if site.store.is_file() {
        let shim = Shim::build();
        let replica = shim.start(&site).await;
        replica.get(COMPLETED).await.batch();
        shim.fill_the_disk();
        refuses_submissions(&site, &replica).await;
        reads_on(&replica).await;
        shim.free_the_disk();
        recovers(&site, &replica).await;
    } else {
        let replica = site.start().await;
        replica.get(COMPLETED).await.batch();
        // What PostgreSQL says when its disk is full.
        site.change(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
             CREATE TRIGGER f BEFORE INSERT OR UPDATE ON submissions EXECUTE FUNCTION full_disk();
             CREATE TRIGGER f BEFORE INSERT OR UPDATE ON batches EXECUTE FUNCTION full_disk();
             CREATE TRIGGER f BEFORE INSERT OR UPDATE ON calls EXECUTE FUNCTION full_disk()",
        )
        .await;
        refuses_submissions(&site, &replica).await;
        reads_on(&replica).await;
        site.change("DROP FUNCTION full_disk() CASCADE").await;
        recovers(&site, &replica).await;
    }
}

#[tokio::test]
async fn a_store_file_that_is_lost_takes_no_submission_and_is_told() {
    for suffix in ["", "-wal"] {
        let site = Site::new(Options::default()).await;
        let Some(folder) = site.store.directory() else {
            // A server keeps its own files.
            return;
        };
        let path = folder.join(format!("store.db{suffix}"));
        let aside = folder.join("aside");
        let replica = site.start().await;
        replica.get(COMPLETED).await.batch();
        assert_eq!(replica.get("/readyz").await.status, 200);
        for replaced in [false, true] {
            std::fs::rename(&path, &aside).unwrap();
            if replaced {
                std::fs::copy(&aside, &path).unwrap();
            }
            refuses_submissions(&site, &replica).await;
            replica.get("/readyz").await.assert_problem(503, "store_unavailable");
            assert_eq!(replica.get("/livez").await.status, 200);
            std::fs::rename(&aside, &path).unwrap();
            assert_eq!(replica.get("/readyz").await.status, 200, "the file is back");
        }
        recovers(&site, &replica).await;
        let log = replica.process.log();
        let told = |text: &str| {
            log.iter()
                .filter(|line| line["message"].as_str().is_some_and(|said| said.starts_with(text)))
                .count()
        };
        assert_eq!(told("the store's file was deleted or replaced"), 2, "once for each loss");
        assert_eq!(told("the store's file is back"), 2);
    }
}

/// Reads that need no write: what is in memory, and what the vendor has.
async fn reads_on(replica: &Replica) {
    for path in ["/batches/enrow/sandbox-running", "/batches/experian/sandbox-completed"] {
        replica.get(path).await.batch();
    }
}

/// Submissions are refused soon and before anything is sent; a batch in memory is served at once.
async fn refuses_submissions(site: &Site, replica: &Replica) {
    for slug in ["enrow", "experian"] {
        let before = site.calls(slug).await;
        let began = Instant::now();
        let refused = replica.submit(slug, slug, &numbered_order(slug, 1)).await;
        refused.assert_problem(503, "store_unavailable");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(site.calls(slug).await, before, "nothing was sent");
    }
    let began = Instant::now();
    let kept = replica.get(COMPLETED).await;
    kept.batch();
    assert_eq!(kept.cache(), "hit");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// The same process takes the same orders, and each is paid once.
async fn recovers(site: &Site, replica: &Replica) {
    for slug in ["enrow", "experian"] {
        let recovered = eventually("the store is back");
        loop {
            let reply = replica.submit(slug, slug, &numbered_order(slug, 1)).await;
            if recovered.is(reply.status == 202).await {
                break;
            }
            reply.assert_problem(503, "store_unavailable");
        }
        assert_eq!(site.taken(slug).await, 1);
    }
    assert_eq!(site.submissions().await.len(), 2);
}
