//! The OpenAPI document: what it promises of every operation, and that the answers keep it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use phone_gateway::error::CODES;
use phone_gateway::providers::VENDORS;
use phone_gateway::submission::{IdempotencyKey, NewBatch};
use serde_json::{Value, json};

use crate::helpers::{Options, Schema, TestGateway, run};

const COMMITTED: &str = "openapi/phone-gateway.json";

async fn document() -> (TestGateway, Value) {
    let gateway = Options::default().set("http.attempts", "1").start().await;
    let reply = gateway.get("/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    (gateway, reply.body)
}

/// Every operation, named by its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let of_path = item.as_object().unwrap().iter();
        operations.extend(of_path.map(|(method, operation)| (format!("{method} {path}"), operation)));
    }
    operations
}

#[tokio::test]
async fn the_committed_document_is_the_one_that_is_served() {
    let (gateway, _) = document().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(COMMITTED);
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let served = gateway.get("/openapi.json").await.text();
    assert!(
        committed == served,
        "{COMMITTED} is out of date; refresh it: cargo run -- openapi > new.json && mv new.json {COMMITTED}"
    );
    assert_eq!(String::from_utf8(run(&["openapi"], &[]).stdout).unwrap(), served);
}

#[tokio::test]
async fn every_operation_is_described_and_every_reference_leads_somewhere() {
    let (_gateway, document) = document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let operations = operations(&document);
    assert!(operations.iter().any(|(name, _)| name == "get /batches/{provider}/{id}"));
    let ids: BTreeSet<_> =
        operations.iter().map(|(name, op)| op["operationId"].as_str().expect(name)).collect();
    assert_eq!(ids.len(), operations.len(), "operation ids are unique");
    for (name, operation) in &operations {
        assert!(operation["summary"].is_string() || operation["description"].is_string(), "{name}");
        assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{name}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{name} {status}");
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = format!("/{}", reference.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (property, schema) in schema["properties"].as_object().into_iter().flatten() {
            let described = schema.get("description").is_some() || schema.get("$ref").is_some();
            assert!(described || schema.get("oneOf").is_some(), "{name}.{property} has no description");
        }
    }
}

/// The codes that an operation documents, each with its status, after a look at how it does.
fn documented(operation: &Value, schema: &Schema) -> BTreeSet<(String, String)> {
    let mut codes = BTreeSet::new();
    let responses = operation["responses"].as_object().unwrap();
    for (status, response) in responses.iter().filter(|(status, _)| status.starts_with(['4', '5'])) {
        let content = response["content"].as_object().unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["application/problem+json"], "{status}");
        let content = &content["application/problem+json"];
        assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem");
        for (name, example) in content["examples"].as_object().unwrap() {
            let problem = &example["value"];
            assert_eq!(
                (&problem["code"], problem["status"].to_string()),
                (&Value::from(&**name), status.clone())
            );
            assert_eq!(schema.faults("Problem", problem), [""; 0], "{name}");
            assert!(response["description"].as_str().unwrap().contains(&format!("`{name}`")));
            codes.insert((status.clone(), name.clone()));
        }
    }
    codes
}

#[tokio::test]
async fn every_code_is_documented_with_an_example_where_it_can_occur() {
    let (_gateway, document) = document().await;
    let schema = Schema::of(&document);
    let mut seen = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let codes = documented(operation, &schema);
        let has = |code: &str| codes.iter().any(|(_, name)| name == code);
        assert_eq!(has("unauthenticated"), !operation["security"].is_null(), "{name}");
        assert_eq!(has("body_too_large"), operation.get("requestBody").is_some(), "{name}");
        assert_eq!(has("idempotency_key_missing"), name == "post /batches/{provider}", "{name}");
        seen.extend(codes);
    }
    // The answer of the routing to a method that is no operation.
    seen.insert(("405".to_owned(), "method_not_allowed".to_owned()));
    let codes = CODES.iter().map(|row| (row.status.to_string(), row.name.to_owned()));
    assert_eq!(seen, codes.collect(), "every code of the table, and no other");
    let read = &document["paths"]["/batches/{provider}/{id}"]["get"]["responses"];
    assert!(read.get("200").is_some() && read.get("304").is_some());
}

#[tokio::test]
async fn parameters_are_told_once_and_with_what_they_mean() {
    let (_gateway, document) = document().await;
    for (name, operation) in operations(&document) {
        let mut told = BTreeSet::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(told.insert(parameter["name"].as_str().unwrap()), "{name}: {parameter}");
            assert!(parameter["description"].is_string() && parameter["schema"].is_object(), "{name}");
            assert_eq!(
                parameter["required"] == true,
                name.contains(&format!("{{{}}}", parameter["name"].as_str().unwrap()))
                    || parameter["name"] == "Idempotency-Key",
                "{name}: {parameter}"
            );
        }
        for segment in name.split('{').skip(1) {
            assert!(told.contains(segment.split('}').next().unwrap()), "{name}");
        }
    }
}

/// What a generated client can check before it sends anything. `Prefer` may hold any preference.
#[tokio::test]
async fn every_text_of_a_parameter_says_what_it_may_be() {
    let (_gateway, document) = document().await;
    let mut keys = 0;
    for (name, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = &parameter["schema"];
            let bounded = ["enum", "format", "pattern"].iter().any(|word| schema.get(word).is_some());
            let fits = schema["type"] != "string" || bounded || parameter["name"] == "Prefer";
            assert!(fits, "{name}: {parameter}");
            if let Some(pattern) = schema["pattern"].as_str() {
                let pattern = regex::Regex::new(pattern).unwrap();
                let examples = parameter["examples"].as_object().into_iter().flat_map(|all| all.values());
                for example in examples {
                    assert!(pattern.is_match(example["value"].as_str().unwrap()), "{name}: {example}");
                }
                if parameter["name"].as_str().unwrap().to_lowercase().contains("idempotency") {
                    keys += 1;
                    assert_keys(&pattern);
                }
            }
        }
    }
    assert_eq!(keys, 2);
}

/// The pattern of a key says what the gateway takes.
fn assert_keys(pattern: &regex::Regex) {
    let (longest, too_long) = ("k".repeat(255), "k".repeat(256));
    let escaped = format!("\"{}\"", r#"\""#.repeat(255));
    for key in ["a", "a b", "a\"b", "\\", "\"abc\"", r#""a\"b""#, r#""\\""#, "~", &longest, &escaped] {
        assert!(IdempotencyKey::try_from(key.as_bytes()).is_ok() && pattern.is_match(key), "{key}");
    }
    for key in ["", "\"", "\"\"", "\"abc", r#""a\b""#, "é", "a\nb", &too_long] {
        assert!(IdempotencyKey::try_from(key.as_bytes()).is_err() && !pattern.is_match(key), "{key}");
    }
}

#[tokio::test]
async fn a_submission_has_an_order_and_a_key_ready_for_each_vendor() {
    let (_gateway, document) = document().await;
    let submit = &document["paths"]["/batches/{provider}"]["post"];
    let schema = Schema::of(&document);
    let orders = submit["requestBody"]["content"]["application/json"]["examples"].as_object().unwrap();
    let key = submit["parameters"].as_array().unwrap().iter().find(|p| p["name"] == "Idempotency-Key");
    let keys = key.unwrap()["examples"].as_object().unwrap();
    for vendor in VENDORS {
        let order = &orders[vendor.info.slug]["value"];
        assert_eq!(schema.faults("NewBatch", order), [""; 0], "{order}");
        NewBatch::from_json(order, &vendor.info.accepts).unwrap();
        assert!(keys[vendor.info.slug]["value"].is_string());
    }
    let values: BTreeSet<_> = keys.values().map(|key| key["value"].as_str()).collect();
    assert_eq!((orders.len(), values.len()), (VENDORS.len(), VENDORS.len()), "a key belongs to one order");
    assert_eq!(submit["requestBody"]["required"], true);
}

#[tokio::test]
async fn words_are_open_in_answers_and_closed_in_requests() {
    let (_gateway, document) = document().await;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema.get("enum").is_none(), "{name} is not open");
    }
    let resolved_as = &document["components"]["schemas"]["NewResolution"]["properties"]["as"];
    assert_eq!(resolved_as["enum"], json!(["sent", "not_sent"]));
}

#[tokio::test]
async fn batches_need_a_key_in_the_document_as_well() {
    let (_gateway, document) = document().await;
    let scheme = &document["components"]["securitySchemes"]["gateway_key"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&Value::from("http"), &Value::from("bearer")));
    for (name, operation) in operations(&document) {
        let secured = operation["security"].to_string().contains("gateway_key");
        let open = ["operations", "webhooks"].contains(&operation["tags"][0].as_str().unwrap());
        assert_eq!(secured, !open, "{name}");
        let description = operation["description"].as_str().unwrap_or_default().replace('\n', " ");
        let told = description.contains("scope `");
        assert_eq!(told, !open, "{name}");
    }
}

#[tokio::test]
async fn the_parameters_offer_every_vendor_and_every_ready_made_batch() {
    let (_gateway, document) = document().await;
    let parameters = document["paths"]["/batches/{provider}/{id}"]["get"]["parameters"].as_array().unwrap();
    let parameter = |name: &str| parameters.iter().find(|parameter| parameter["name"] == name).unwrap();
    let slugs: Vec<_> = VENDORS.iter().map(|vendor| vendor.info.slug).collect();
    assert_eq!(parameter("provider")["schema"]["enum"], Value::from(slugs));
    let examples = parameter("id")["examples"].as_object().unwrap();
    let values: BTreeSet<_> = examples.values().map(|example| example["value"].as_str().unwrap()).collect();
    for batch in VENDORS.iter().flat_map(|vendor| vendor.simulator.ready_made) {
        assert!(values.contains(batch.id), "{}", batch.id);
    }
    assert_eq!(parameter("If-None-Match")["in"], "header");
}

#[tokio::test]
async fn every_example_is_what_the_schema_says() {
    let (_gateway, document) = document().await;
    let schema = Schema::of(&document);
    let content = &document["paths"]["/batches/{provider}/{id}"]["get"]["responses"]["200"]["content"];
    let shown = content["application/json"]["examples"].as_object().unwrap();
    let mut count = 0;
    for vendor in VENDORS {
        assert!(!vendor.examples.is_empty(), "{}", vendor.info.slug);
        for example in vendor.examples {
            let batch: Value = serde_json::from_str(example.json).unwrap();
            assert_eq!(schema.faults("Batch", &batch), [""; 0], "{}", example.name);
            assert_eq!(batch["provider"], vendor.info.slug);
            let name = format!("{}_{}", vendor.info.slug, example.name);
            assert_eq!(shown[&name]["value"], batch);
            assert_eq!(shown[&name]["summary"], format!("{}: {}", vendor.info.name, example.shows));
            let done = ["completed", "stopped", "failed"].contains(&batch["status"].as_str().unwrap());
            assert_eq!(batch["done"], done, "{}", example.name);
            assert!(done || batch.get("results").is_none(), "{}", example.name);
            count += 1;
        }
    }
    assert_eq!(shown.len(), count, "names are unique among those of a vendor");
    for status in ["queued", "running", "completed", "stopped", "failed", "unknown"] {
        assert!(shown.values().any(|example| example["value"]["status"] == status), "no example is {status}");
    }
}

#[tokio::test]
async fn examples_with_a_ready_made_id_are_what_the_sandbox_answers() {
    let gateway = TestGateway::start().await;
    for (slug, name) in [("enrow", "completed"), ("enrow", "completed_incomplete")] {
        let vendor = VENDORS.iter().find(|vendor| vendor.info.slug == slug).unwrap();
        let example = vendor.examples.iter().find(|example| example.name == name).unwrap();
        let mut example: Value = serde_json::from_str(example.json).unwrap();
        let mut batch = gateway.batch(slug, example["id"].as_str().unwrap()).await.batch().clone();
        for batch in [&mut example, &mut batch] {
            batch["retrieved_at"].take();
        }
        assert_eq!(batch, example, "{slug} {name}");
    }
}

#[tokio::test]
async fn the_check_against_the_schema_finds_what_is_wrong() {
    let (_gateway, document) = document().await;
    let schema = Schema::of(&document);
    let good: Value = serde_json::from_str(VENDORS[0].examples[0].json).unwrap();
    for (pointer, field, wrong) in [
        ("", "surprise", json!(1)),
        ("", "done", json!("yes")),
        ("", "status", json!(7)),
        ("", "retrieved_at", Value::Null),
        ("/progress", "requested", json!("1")),
        ("/progress", "surprise", json!(1)),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(pointer).unwrap()[field] = wrong.clone();
        assert_eq!(schema.faults("Batch", &bad).len(), 1, "{pointer} {field}: {wrong}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("status");
    assert_eq!(schema.faults("Batch", &bad), ["Batch.status: missing"]);
}

#[tokio::test]
async fn every_answer_is_what_the_schema_says() {
    let (gateway, document) = document().await;
    let schema = Schema::of(&document);
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        gateway.adjust(slug, json!({"rate_limit": 10_000})).await;
        for batch in vendor.simulator.ready_made.iter().filter(|batch| !batch.id.contains("slow")) {
            let reply = gateway.batch(slug, batch.id).await;
            let name = if reply.status == 200 { "Batch" } else { "Problem" };
            assert_eq!(schema.faults(name, &reply.body), [""; 0], "{slug} {}", batch.id);
        }
    }
    for path in ["/livez", "/readyz", "/version"] {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"];
        let name = content["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        assert_eq!(schema.faults(name, &gateway.get(path).await.body), [""; 0], "{path}");
    }
}

#[tokio::test]
async fn swagger_ui_comes_with_its_assets_and_reads_this_document() {
    let gateway = TestGateway::start().await;
    let page = gateway.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let html = page.text();
    let assets: Vec<_> = html
        .split(['"', '\''])
        .filter(|text| text.starts_with("./") || text.starts_with("index") || text.starts_with("swagger"))
        .filter(|text| [".js", ".css", ".png"].iter().any(|end| text.ends_with(end)))
        .collect();
    assert!(assets.len() >= 3, "{html}");
    let mut scripts = String::new();
    for asset in assets {
        let reply = gateway.get(&format!("/docs/{}", asset.trim_start_matches("./"))).await;
        assert!(reply.status == 200 && !reply.bytes.is_empty(), "{asset}");
        if asset.contains("initializer") {
            scripts.push_str(&reply.text());
        }
    }
    assert!(scripts.contains("\"../openapi.json\""), "{scripts}");
    assert!(!html.contains("https://") && !html.contains("http://"), "nothing comes from elsewhere");
    for path in ["/docs", "/"] {
        let reply = gateway.get(path).await;
        assert!(matches!(reply.status, 301 | 302 | 307 | 308), "{path}: {}", reply.status);
        assert_eq!(reply.header("location"), Some("docs/"), "relative, for proxies that add a prefix");
    }
    gateway.get("/docs/no-such-file.js").await.assert_problem(404, "route_not_found");
}
