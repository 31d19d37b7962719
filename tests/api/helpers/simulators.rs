//! The vendors' simulators with their admin routes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::SignedDuration;
use phone_gateway::clock::Clock;
use phone_gateway::providers::VENDORS;
use phone_gateway::sandbox::{self, Sandbox};
use reqwest::{Client, Method};
use serde_json::Value;

use super::Reply;

/// All vendors simulated, with a clock that tests move.
pub(crate) struct Simulators {
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Clock,
    pub(crate) http: Client,
}

impl Simulators {
    pub(crate) async fn start() -> Self {
        let clock = Clock::default();
        let simulators: Vec<_> = VENDORS.iter().map(|vendor| vendor.simulator).collect();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sandbox =
            Sandbox::start(listen, &simulators, clock.clone(), sandbox::Options::default()).await.unwrap();
        // Before a server closes an idle connection, which it does after five seconds.
        let client = Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(2));
        let http = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { sandbox, clock, http }
    }

    pub(crate) fn advance_seconds(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }

    /// What the vendor saw and what it charged.
    pub(crate) async fn admin(&self, slug: &str) -> Value {
        self.call(Method::GET, &self.sandbox.admin_url(slug), None).await.body
    }

    /// How many calls the vendor got.
    pub(crate) async fn calls(&self, slug: &str) -> u64 {
        let admin = self.admin(slug).await;
        admin["counts"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
    }

    /// Every call that the vendor got with this method, oldest first.
    pub(crate) async fn calls_with(&self, slug: &str, method: &str) -> Vec<Value> {
        let calls = self.admin(slug).await["calls"].take();
        calls.as_array().unwrap().iter().filter(|call| call["method"] == method).cloned().collect()
    }

    /// How often the vendor was asked where a batch stands, or how it ended.
    pub(crate) async fn polls(&self, slug: &str, id: &str) -> usize {
        let asks = |call: &&Value| {
            let path = call["path"].as_str().unwrap().ends_with(id);
            path || call["query"].as_str().unwrap().ends_with(id)
        };
        self.calls_with(slug, "GET").await.iter().filter(asks).count()
    }

    /// How many requests that change something the vendor got.
    pub(crate) async fn posts(&self, slug: &str) -> usize {
        self.calls_with(slug, "POST").await.len()
    }

    /// Credits that the vendor took, whatever it gave back.
    pub(crate) async fn charged(&self, slug: &str) -> u64 {
        self.admin(slug).await["charged"].as_u64().unwrap()
    }

    /// How many batches the vendor has.
    pub(crate) async fn batches(&self, slug: &str) -> u64 {
        self.admin(slug).await["batches"].as_u64().unwrap()
    }

    /// Lets the vendor forget everything, as it does after a time of its own.
    pub(crate) async fn forget(&self, slug: &str) {
        assert_eq!(self.call(Method::DELETE, &self.sandbox.admin_url(slug), None).await.status, 204);
    }

    /// Puts a fault in the way of the next calls.
    pub(crate) async fn fault(&self, slug: &str, fault: Value) {
        let url = self.sandbox.admin_url(slug) + "/faults";
        assert_eq!(self.call(Method::POST, &url, Some(&fault)).await.status, 204, "{fault}");
    }

    /// Removes the faults and lets hanging calls go.
    pub(crate) async fn clear_faults(&self, slug: &str) {
        let url = self.sandbox.admin_url(slug) + "/faults";
        assert_eq!(self.call(Method::DELETE, &url, None).await.status, 204);
    }

    pub(crate) async fn adjust(&self, slug: &str, adjustment: Value) {
        let reply = self.call(Method::PATCH, &self.sandbox.admin_url(slug), Some(&adjustment)).await;
        assert_eq!(reply.status, 204, "{adjustment}");
    }

    /// A request to the vendor itself, with the good key.
    pub(crate) async fn vendor(&self, slug: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let info = VENDORS.iter().find(|vendor| vendor.info.slug == slug).unwrap().info;
        let mut request = self.http.request(method, self.sandbox.base_url(slug) + path);
        request = request.header(info.key_header, format!("{}{}", info.key_prefix, sandbox::API_KEY));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Reply::of(request.send().await.unwrap()).await
    }

    async fn call(&self, method: Method, url: &str, body: Option<&Value>) -> Reply {
        let body = body.map(ToString::to_string).unwrap_or_default();
        Reply::of(self.http.request(method, url).body(body).send().await.unwrap()).await
    }
}
