//! The simulators, over real HTTP: each documented behaviour of both vendors, and the admin routes.

mod admin;
mod enrow;
mod experian;

use std::net::{Ipv4Addr, SocketAddr};

use phone_gateway::clock::Clock;
use phone_gateway::providers::VENDORS;
use phone_gateway::sandbox::{API_KEY, Options, Sandbox};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

const BATCHES: &str = "/phone/bulk/v1/batches";

struct Lab {
    sandbox: Sandbox,
    http: Client,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl Lab {
    async fn open() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let simulators: Vec<_> = VENDORS.iter().map(|vendor| vendor.simulator).collect();
        let sandbox =
            Sandbox::start(listen, &simulators, Clock::default(), Options::default()).await.unwrap();
        Self { sandbox, http: Client::builder().no_proxy().build().unwrap() }
    }

    async fn call(&self, method: Method, url: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Reply {
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        Reply { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text }
    }

    async fn enrow(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let url = self.sandbox.base_url("enrow") + path;
        self.call(method, &url, &[("x-api-key", API_KEY)], body).await
    }

    async fn enrow_as(&self, key: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let url = self.sandbox.base_url("enrow") + path;
        self.call(method, &url, &[("x-api-key", key)], body).await
    }

    async fn experian(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.experian_with(method, path, &[("auth-token", API_KEY)], body).await
    }

    async fn experian_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let url = self.sandbox.base_url("experian") + BATCHES + path;
        self.call(method, &url, headers, body).await
    }

    async fn admin(&self, slug: &str) -> Value {
        self.call(Method::GET, &self.sandbox.admin_url(slug), &[], None).await.body
    }

    async fn adjust(&self, slug: &str, body: Value) {
        let reply = self.call(Method::PATCH, &self.sandbox.admin_url(slug), &[], Some(&body)).await;
        assert_eq!(reply.status, 204, "{}", reply.text);
    }

    async fn fault(&self, slug: &str, body: Value) -> Reply {
        let url = self.sandbox.admin_url(slug) + "/faults";
        self.call(Method::POST, &url, &[], Some(&body)).await
    }

    async fn advance(&self, ms: i64) {
        let url = self.sandbox.admin_url("clock");
        let reply = self.call(Method::POST, &url, &[], Some(&json!({"advance_ms": ms}))).await;
        assert_eq!(reply.status, 200);
    }

    /// Creates and starts a batch at Experian.
    async fn started(&self, body: &Value) -> String {
        let id = self.created(body).await;
        let reply = self.experian(Method::POST, &format!("/{id}/start"), None).await;
        assert_eq!(reply.body, json!({"result": {"batch_id": id, "status": "processing"}}));
        id
    }

    async fn created(&self, body: &Value) -> String {
        let reply = self.experian(Method::POST, "", Some(body)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.body["result"]["status"], "submitted");
        reply.body["result"]["batch_id"].as_str().unwrap().to_owned()
    }
}

fn people(count: usize) -> Value {
    let person =
        |n| json!({"firstname": "Ada", "lastname": format!("Lovelace {n}"), "company_domain": "a.org"});
    json!({"searches": (0..count).map(person).collect::<Vec<_>>()})
}

fn phones(count: usize) -> Value {
    let phone = |n| json!({"number": format!("44740012{:04}", n % 10_000)});
    json!({"phones": (0..count).map(phone).collect::<Vec<_>>()})
}
