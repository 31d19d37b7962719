//! Gateways in processes of their own that share simulators and a store: they can be killed and started again.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use super::{Answer, Options, Process, Replies, Reply, Simulators, TestStore, eventually};

/// The end of the secret path that the vendors call.
const TOKEN: &str = "a-token-that-nobody-can-guess-at-all";
/// How soon a gateway is ready again, whatever became of the one before, on a machine that is not overloaded.
const READY: Duration = Duration::from_secs(2);

/// What outlives the gateways: the vendors, the store, and who the vendors call. It dereferences to the simulators.
pub(crate) struct Site {
    pub(crate) simulators: Simulators,
    pub(crate) store: TestStore,
    /// Stands where the vendors call: it keeps what they say, for a test to pass on.
    pub(crate) callbacks: Replies,
    options: Options,
}

impl Deref for Site {
    type Target = Simulators;

    fn deref(&self) -> &Simulators {
        &self.simulators
    }
}

impl Site {
    /// Gateways that follow batches and have all their settings from `options`.
    pub(crate) async fn new(options: Options) -> Self {
        let (simulators, store) = (Simulators::start().await, TestStore::new().await);
        let callbacks = Replies::start().await;
        callbacks.on("", Answer::new(204, &[], b""));
        let options =
            options.set("server.public_url", callbacks.url()).vendor("enrow", "webhook_token", TOKEN);
        Self { simulators, store, callbacks, options }
    }

    /// A new process, not waited for.
    pub(crate) fn spawn(&self) -> Process {
        self.spawn_with(Options::clone)
    }

    /// A new process with other settings than the rest.
    pub(crate) fn spawn_with(&self, change: impl FnOnce(&Options) -> Options) -> Process {
        Process::spawn(&["serve"], &change(&self.options).variables(&self.simulators, &self.store))
    }

    /// A gateway that is ready, which takes it no longer than it may.
    pub(crate) async fn start(&self) -> Replica {
        self.start_with(Options::clone).await
    }

    pub(crate) async fn start_with(&self, change: impl FnOnce(&Options) -> Options) -> Replica {
        let began = Instant::now();
        let replica = Replica::ready(self.spawn_with(change), &self.http).await;
        let took = began.elapsed();
        assert!(took <= READY.mul_f64(overload()), "ready only after {took:?}");
        replica
    }

    /// The variables of a process, for a test that starts it in its own way.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        self.options.variables(&self.simulators, &self.store)
    }

    /// How many batches the vendor took, each of which it charges for.
    pub(crate) async fn taken(&self, slug: &str) -> u64 {
        self.admin(slug).await["batches"].as_u64().unwrap()
    }

    /// How often the vendor was asked to create, and to start, a batch.
    pub(crate) async fn paid_calls(&self, slug: &str) -> Vec<(String, u64)> {
        let counts = self.admin(slug).await["counts"].clone();
        let posts = counts.as_object().unwrap().iter().filter(|(call, _)| call.starts_with("POST"));
        posts.map(|(call, count)| (call.clone(), count.as_u64().unwrap())).collect()
    }

    /// The submissions in the store: id and state, oldest first.
    pub(crate) async fn submissions(&self) -> Vec<(String, String)> {
        let rows = sqlx::query("SELECT id, state FROM submissions ORDER BY created_at, id")
            .fetch_all(&mut self.store.connect().await)
            .await
            .unwrap();
        rows.iter().map(|row| (row.get("id"), row.get("state"))).collect()
    }

    /// Waits until the only submission is in this state.
    pub(crate) async fn state_becomes(&self, state: &str) {
        let becomes = eventually("the submission gets into its state");
        while !becomes.is(self.submissions().await.iter().all(|(_, now)| now == state)).await {}
    }

    /// Changes rows from outside, mostly to let time pass for them.
    pub(crate) async fn change(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut self.store.connect().await).await.unwrap();
    }

    /// Lets the leases of those who are gone run out.
    pub(crate) async fn end_leases(&self) {
        self.change("UPDATE submissions SET lease_until = 1; UPDATE batches SET lease_until = 0").await;
    }

    /// Lets it be long ago that what is in doubt was sent, and often looked for at the vendor; it is looked for now.
    pub(crate) async fn age_doubts(&self) {
        self.change(
            "UPDATE submissions SET sent_at = sent_at - 61000, misses = misses + 10, next_look_at = 0
             WHERE state = 'in_doubt' AND next_look_at > 0",
        )
        .await;
    }
}

/// By how much there is more to do on this machine than it can do at once, at least 1.
fn overload() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let cores = u32::try_from(thread::available_parallelism().unwrap().get()).unwrap();
    (load / f64::from(cores)).max(1.0)
}

/// The bodies that the vendors posted to the gateway's public address so far.
pub(crate) fn webhooks(site: &Site) -> Vec<(String, Vec<u8>)> {
    site.callbacks.requests().into_iter().map(|request| (request.target, request.body)).collect()
}

/// A gateway of a [`Site`].
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) process: Process,
    http: Client,
}

impl Replica {
    /// Waits until the process says that it is ready.
    pub(crate) async fn ready(process: Process, http: &Client) -> Self {
        let address = process.address().await;
        Self { address, url: format!("http://{address}"), process, http: http.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// A submission that is ready to be sent.
    pub(crate) fn submission(&self, slug: &str, key: &str, order: &Value) -> RequestBuilder {
        self.request(Method::POST, &format!("/batches/{slug}"))
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(order.to_string())
    }

    pub(crate) async fn submit(&self, slug: &str, key: &str, order: &Value) -> Reply {
        Reply::of(self.submission(slug, key, order).send().await.unwrap()).await
    }

    /// Passes on what a vendor posted.
    pub(crate) async fn pass_on(&self, (target, body): (String, Vec<u8>)) {
        let posted = self.request(Method::POST, &target).body(body).send().await.unwrap();
        assert!(posted.status().is_success(), "{}", posted.status());
    }
}

/// An order of one record, told apart from others by its number.
pub(crate) fn numbered_order(slug: &str, number: usize) -> Value {
    match slug {
        "enrow" => {
            json!({"records": [{"linkedin_url": format!("https://www.linkedin.com/in/person-{number}")}]})
        }
        _ => json!({"records": [{"number": format!("+4412062{number:05}")}]}),
    }
}

/// Where a batch is read that an answer speaks of.
pub(crate) fn path_of(reply: &Reply) -> String {
    let path = reply.header("location").unwrap().to_owned();
    assert!(path.ends_with(reply.body["id"].as_str().unwrap()), "{path}");
    path
}
