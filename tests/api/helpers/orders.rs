//! Orders for any vendor, and what a gateway is asked about them.

use phone_gateway::batch::Kind;
use phone_gateway::providers::{Info, VENDORS};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Reply, Schema, TestGateway, eventually};

/// What is known of a vendor.
pub(crate) fn info(slug: &str) -> &'static Info {
    VENDORS.iter().find(|vendor| vendor.info.slug == slug).unwrap().info
}

/// An order of three records that any vendor of its kind takes, with a reference and an id on two of them.
pub(crate) fn order(slug: &str) -> Value {
    let mut records = records(slug, 3);
    records[0]["custom_id"] = "row-1".into();
    records[2]["custom_id"] = "row-3".into();
    json!({"reference": "crm-42", "records": records})
}

/// So many records for a vendor, each different from the others.
pub(crate) fn records(slug: &str, count: usize) -> Vec<Value> {
    let record = |index: usize| match info(slug).accepts.kind {
        Kind::Finding => json!({"linkedin_url": format!("https://www.linkedin.com/in/person-{index}")}),
        Kind::Validation => json!({"number": format!("+4412062{:05}", 50_380 + index)}),
    };
    (0..count).map(record).collect()
}

/// An order of so many records and nothing else.
pub(crate) fn order_of(slug: &str, count: usize) -> Value {
    json!({"records": records(slug, count)})
}

impl Reply {
    /// The batch of a 202, with all that holds for every submission.
    #[track_caller]
    pub(crate) fn accepted(&self) -> &Value {
        assert_eq!(self.status, 202, "{}", self.text());
        self.assert_ids();
        let batch = &self.body;
        let path = format!("/batches/{}/{}", batch["provider"].as_str().unwrap(), self.id());
        assert_eq!(self.header("location"), Some(&*path));
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(self.header("retry-after").is_some());
        assert_eq!(self.submission().len(), 36);
        assert_eq!((batch.get("results"), batch.get("custom"), &batch["done"]), (None, None, &json!(false)));
        batch
    }

    /// The vendor's id of the batch.
    #[track_caller]
    pub(crate) fn id(&self) -> &str {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no batch: {}", self.text()))
    }

    /// Our id of the submission, in a batch or in a problem.
    #[track_caller]
    pub(crate) fn submission(&self) -> &str {
        self.body["submission_id"].as_str().unwrap_or_else(|| panic!("no submission: {}", self.text()))
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed").is_some_and(|replayed| replayed == "true")
    }
}

impl TestGateway {
    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).header("content-type", "application/json").body(body.to_string())
    }

    /// A submission, not sent yet.
    pub(crate) fn submission_of(&self, slug: &str, key: &str, body: &Value) -> RequestBuilder {
        self.post(&format!("/batches/{slug}"), body).header("idempotency-key", key)
    }

    pub(crate) async fn submit(&self, slug: &str, key: &str, body: &Value) -> Reply {
        self.send(self.submission_of(slug, key, body)).await
    }

    pub(crate) async fn submission(&self, id: &str) -> Value {
        let reply = self.get(&format!("/submissions/{id}")).await;
        assert_eq!(
            (reply.status, reply.header("cache-control")),
            (200, Some("no-store")),
            "{}",
            reply.text()
        );
        self.assert_schema("Submission", &reply.body).await;
        reply.body
    }

    /// Waits until a submission is in this state.
    pub(crate) async fn submission_is(&self, id: &str, state: &str) -> Value {
        let settled = eventually("the submission is in its state");
        let mut submission = self.submission(id).await;
        while !settled.is(submission["state"] == state).await {
            submission = self.submission(id).await;
        }
        submission
    }

    pub(crate) async fn resolve(&self, id: &str, body: &Value) -> Reply {
        self.send(self.post(&format!("/submissions/{id}/resolve"), body)).await
    }

    pub(crate) async fn stop_batch(&self, slug: &str, id: &str) -> Reply {
        self.send(self.request(Method::POST, &format!("/batches/{slug}/{id}/stop"))).await
    }

    pub(crate) async fn erase(&self, slug: &str, id: &str) -> Reply {
        self.send(self.request(Method::DELETE, &format!("/batches/{slug}/{id}"))).await
    }

    #[track_caller]
    fn assert_no_faults(faults: &[String]) {
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Holds a document against its schema in the OpenAPI document.
    pub(crate) async fn assert_schema(&self, name: &str, value: &Value) {
        let openapi = self.get("/openapi.json").await.body;
        Self::assert_no_faults(&Schema::of(&openapi).faults(name, value));
    }

    /// Moves the clock, and waits until the follower has asked for all that is due then.
    pub(crate) async fn follow_for(&self, seconds: i64) {
        self.advance_seconds(seconds);
        self.store.is_followed_up(&self.clock).await;
    }

    /// Waits until the batch has come to its end in the gateway's own store, which costs the vendor no call.
    pub(crate) async fn has_ended(&self, slug: &str, id: &str) -> Value {
        let ended = eventually("the batch is in the store to its end");
        loop {
            let batch = self.listed(slug, id).await;
            if ended.is(batch.as_ref().is_some_and(|batch| batch["done"] == true)).await {
                return batch.unwrap();
            }
        }
    }

    /// A batch as the list has it, which asks no vendor.
    pub(crate) async fn listed(&self, slug: &str, id: &str) -> Option<Value> {
        let reply = self.get(&format!("/batches?provider={slug}&limit=100")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.body["batches"].as_array().unwrap().iter().find(|batch| batch["id"] == id).cloned()
    }
}
