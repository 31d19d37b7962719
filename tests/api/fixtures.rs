//! Every documented variant of every vendor, over real HTTP: `fixtures/<vendor>/NAME.json` holds what the
//! vendor answers, `NAME.expected.json` what the gateway makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use phone_gateway::providers::VENDORS;
use serde_json::Value;

use crate::helpers::{Answer, Options, Replies, Reply, TestGateway};

/// One fixture and what is expected of it.
pub(crate) struct Fixture {
    pub(crate) name: String,
    content: Value,
    pub(crate) expected: Value,
}

impl Fixture {
    pub(crate) fn all(vendor: &str) -> Vec<Self> {
        let folder = folder(vendor);
        let names = names(&folder);
        let fixtures = names.iter().filter(|name| !name.ends_with(".expected"));
        fixtures
            .map(|name| Self {
                name: name.clone(),
                content: read(&folder.join(format!("{name}.json"))),
                expected: read(&folder.join(format!("{name}.expected.json"))),
            })
            .collect()
    }

    pub(crate) fn id(&self) -> &str {
        self.content["id"].as_str().unwrap()
    }

    pub(crate) fn replies(&self) -> &Vec<Value> {
        self.content["replies"].as_array().unwrap()
    }

    /// The documented path of a call, below whatever the vendor puts in front of it.
    fn path(&self, call: &Value) -> String {
        let (method, path) = call["call"].as_str().unwrap().split_once(' ').unwrap();
        assert_eq!(method, "GET");
        path.replace("{id}", self.id())
    }

    fn script(&self, vendor: &Replies) {
        vendor.clear();
        for call in self.replies() {
            vendor.on(&self.path(call), answer(call));
        }
    }

    /// What is wrong with the gateway's answer; empty when nothing is.
    fn faults(&self, reply: &Reply, vendor: &Replies) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |what: &str, expected: String, got: String| {
            if expected != got {
                faults.push(format!("{what}:\n    expected {expected}\n    got      {got}"));
            }
        };
        let documented: Vec<_> = self.replies().iter().map(|call| self.path(call)).collect();
        let calls: Vec<_> = vendor.requests().iter().map(|request| request.path().to_owned()).collect();
        let as_documented = calls.len() == documented.len()
            && calls.iter().zip(&documented).all(|(call, path)| call.ends_with(path.as_str()));
        if !as_documented {
            expect("calls", format!("{documented:?}"), format!("{calls:?}"));
        }
        if let Some(expected) = self.expected.get("batch") {
            let mut batch = reply.body.clone();
            let retrieved_at = batch.as_object_mut().and_then(|batch| batch.remove("retrieved_at"));
            expect("retrieved_at is there", "true".into(), retrieved_at.is_some().to_string());
            expect("status", "200".into(), reply.status.to_string());
            // Compared as values: the order of fields means nothing.
            if *expected != batch {
                expect("batch", expected.to_string(), batch.to_string());
            }
            if batch["done"] != true {
                expect(
                    "results of a batch that is not done",
                    "None".into(),
                    format!("{:?}", batch.get("results")),
                );
            }
        } else {
            let expected = &self.expected["problem"];
            expect("status", expected["status"].to_string(), reply.status.to_string());
            expect("code", expected["code"].to_string(), reply.body["code"].to_string());
            // Without the vendor's own waiting time, 503 still needs one.
            let own = (expected["status"] == 503).then_some(5);
            let wait = expected.get("retry_after").and_then(Value::as_u64).or(own);
            expect(
                "Retry-After",
                format!("{:?}", wait.map(|s| s.to_string())),
                format!("{:?}", reply.header("retry-after").map(str::to_owned)),
            );
        }
        faults
    }
}

fn answer(call: &Value) -> Answer {
    let status = call["status"].as_u64().unwrap().try_into().unwrap();
    let mut headers: Vec<(&str, &str)> = vec![];
    for (name, value) in call.get("headers").and_then(Value::as_object).into_iter().flatten() {
        headers.push((name, value.as_str().unwrap()));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("content-type", "application/json"));
    }
    let body = match (call.get("text"), call.get("body")) {
        (Some(text), None) => text.as_str().unwrap().to_owned(),
        (None, Some(body)) => body.to_string(),
        (None, None) => String::new(),
        (Some(_), Some(_)) => panic!("text and body: {call}"),
    };
    Answer::new(status, &headers, body.as_bytes())
}

fn folder(vendor: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(vendor)
}

/// The names of all files, without `.json`.
fn names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap_or_else(|_| panic!("no fixtures: {}", folder.display()));
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".json").expect("only JSON is here").to_owned())
        .collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A gateway that keeps nothing and tries once: each fixture is a first reading.
async fn gateway(vendor: &str, replies: &Replies) -> TestGateway {
    let options = Options::default().set("http.attempts", "1").set("cache.max_bytes", "0");
    let options = options.without_quota().without_circuit().without_credentials_pause();
    options.vendor(vendor, "base_url", replies.url()).start().await
}

#[tokio::test]
async fn every_documented_variant_becomes_its_expected_document() {
    let mut faults = Vec::new();
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let replies = Replies::start().await;
        let mut gateway = gateway(slug, &replies).await;
        for fixture in Fixture::all(slug) {
            fixture.script(&replies);
            gateway.store.forget_batches().await;
            let reply = gateway.batch(slug, fixture.id()).await;
            for fault in fixture.faults(&reply, &replies) {
                faults.push(format!("{slug}/{}: {fault}", fixture.name));
            }
            // A vendor that asked to wait is not asked again at once.
            if fixture.expected["problem"]["code"] == "provider_rate_limited" {
                gateway = self::gateway(slug, &replies).await;
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_vendor_has_fixtures_of_batches_and_of_problems_each_with_its_expected_document() {
    for vendor in VENDORS {
        let names = names(&folder(vendor.info.slug));
        for name in &names {
            let partner =
                name.strip_suffix(".expected").map_or_else(|| format!("{name}.expected"), str::to_owned);
            assert!(names.contains(&partner), "{}: {name} stands alone", vendor.info.slug);
        }
        let fixtures = Fixture::all(vendor.info.slug);
        assert!(fixtures.len() >= 20, "{}", vendor.info.slug);
        for fixture in &fixtures {
            let (batch, problem) = (fixture.expected.get("batch"), fixture.expected.get("problem"));
            assert!(batch.is_some() != problem.is_some(), "{}", fixture.name);
            assert!(batch.is_none_or(|batch| batch["done"] == true || batch.get("results").is_none()));
        }
        let count =
            |kind: &str| fixtures.iter().filter(|fixture| fixture.expected.get(kind).is_some()).count();
        assert!(count("batch") >= 5 && count("problem") >= 5, "{}", vendor.info.slug);
    }
}
