//! The documents against the code: their tables, examples, paths and links.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use phone_gateway::api::Document;
use phone_gateway::batch::{DriftField, Outcome, Reason, Status};
use phone_gateway::cache::CacheStatus;
use phone_gateway::clock::Clock;
use phone_gateway::error::CODES;
use phone_gateway::http::CallKind;
use phone_gateway::providers::VENDORS;
use phone_gateway::settings::DEFAULTS;
use phone_gateway::submission::{NewBatch, SubmissionState};
use phone_gateway::telemetry::{ConnectionEnd, Metrics, Refusal};
use serde::Serialize;
use serde_json::{Value, json};

use crate::helpers::{Options, TestGateway};

/// Every document for people, by its path.
const DOCUMENTS: [(&str, &str); 9] = [
    ("README.md", include_str!("../../README.md")),
    ("CONTRIBUTING.md", include_str!("../../CONTRIBUTING.md")),
    ("docs/api.md", include_str!("../../docs/api.md")),
    ("docs/architecture.md", include_str!("../../docs/architecture.md")),
    ("docs/configuration.md", include_str!("../../docs/configuration.md")),
    ("docs/errors.md", include_str!("../../docs/errors.md")),
    ("docs/faults.md", include_str!("../../docs/faults.md")),
    ("docs/operations.md", include_str!("../../docs/operations.md")),
    ("docs/sandbox.md", include_str!("../../docs/sandbox.md")),
];

/// Where the examples have the gateway, and where the simulators.
const GATEWAY: &str = "http://127.0.0.1:8080";
const SIMULATORS: &str = "http://127.0.0.1:8081";

/// The text below a heading of any document, up to the next one.
fn section(heading: &str) -> &'static str {
    let start = format!("\n{heading}\n");
    let found: Vec<_> = DOCUMENTS.iter().filter_map(|(_, text)| text.split_once(&start)).collect();
    let [(_, text)] = found[..] else { panic!("{} documents have {heading:?}", found.len()) };
    text.split("\n#").next().unwrap()
}

/// The blocks of code of a document, each after the name of its language.
fn blocks(text: &'static str) -> Vec<&'static str> {
    text.split("```").skip(1).step_by(2).collect()
}

/// Each block of code of all documents, and the one after it in the same document.
fn pairs_of_blocks() -> Vec<(&'static str, &'static str)> {
    let pairs = |text| blocks(text).windows(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>();
    DOCUMENTS.iter().flat_map(|(_, text)| pairs(text)).collect()
}

/// The rows of the first table below a heading, without its head.
pub(crate) fn table(heading: &str) -> Vec<Vec<String>> {
    let lines = section(heading).lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The texts between backticks.
fn code_spans() -> impl Iterator<Item = &'static str> {
    let prose = DOCUMENTS.iter().flat_map(|(_, text)| text.split("```").step_by(2));
    prose.flat_map(|text| text.split('`').skip(1).step_by(2))
}

fn yes(yes: bool) -> String {
    if yes { "yes".into() } else { String::new() }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes".into() } else { "no".into() }
}

/// A word as code.
pub(crate) fn code(word: impl Serialize) -> String {
    let word = serde_json::to_value(word).unwrap();
    word.as_str().map(|word| format!("`{word}`")).unwrap_or_default()
}

#[test]
fn the_codes_are_those_of_the_code_table() {
    let rows = CODES.iter().map(|row| {
        vec![code(row.name), row.status.to_string(), yes_or_no(row.retryable), row.when.to_owned()]
    });
    assert_eq!(table("## Codes"), rows.collect::<Vec<_>>());
}

#[tokio::test]
async fn the_ready_made_batches_are_those_of_the_simulators_and_the_gateway_answers_as_said() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let heading = format!("## Ready-made batches: {slug}");
        let ready_made = vendor.simulator.ready_made;
        let rows = ready_made.iter().map(|batch| vec![code(batch.id), batch.shows.to_owned()]);
        let table = table(&heading);
        let told = table.iter().map(|row| row[..2].to_vec());
        assert_eq!(told.collect::<Vec<_>>(), rows.collect::<Vec<_>>(), "{heading}");

        let options = Options::default().set("http.attempts", "1").vendor(slug, "timeout", "2s");
        let gateway = options.without_circuit().without_credentials_pause().start().await;
        gateway.adjust(slug, json!({"rate_limit": 10_000})).await;
        for (batch, row) in ready_made.iter().zip(&table) {
            let reply = gateway.batch(slug, batch.id).await;
            let word = if reply.status == 200 { &reply.body["status"] } else { &reply.body["code"] };
            let mut answer = format!("{} {}", reply.status, code(word));
            for warning in reply.body["warnings"].as_array().into_iter().flatten() {
                answer = format!("{answer}, {}", code(warning));
            }
            // What follows a comma is about time, which this test does not wait for.
            let rest = row[2].strip_prefix(&answer);
            let fits = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([',']));
            assert!(fits, "{slug} {}: {answer}, docs/sandbox.md says {}", batch.id, row[2]);
        }
    }
}

#[test]
fn the_orders_can_be_submitted() {
    let mut count = 0;
    let blocks = DOCUMENTS.iter().flat_map(|(_, text)| blocks(text));
    for command in blocks.filter(|block| block.starts_with("sh\n") && block.contains("Idempotency-Key")) {
        let (_, after) = command.split_once(&format!("{GATEWAY}/batches/")).unwrap();
        let vendor = VENDORS.iter().find(|vendor| after.starts_with(&format!("{} ", vendor.info.slug)));
        let (order, _) = after.split_once("-d '").unwrap().1.split_once('\'').unwrap();
        let order = NewBatch::from_json(&serde_json::from_str(order).unwrap(), &vendor.unwrap().info.accepts)
            .unwrap();
        count += order.records.len();
    }
    assert_eq!(count, 3 + 5, "three addresses and five numbers");
}

#[test]
fn the_submission_states_are_all_there() {
    let told: Vec<_> = table("### Submission states").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(told, SubmissionState::ALL.map(code));
}

#[test]
fn every_path_has_its_row_with_its_scope() {
    let document = Document::build().unwrap();
    let document: Value = serde_json::from_slice(document.json()).unwrap();
    let rows = table("## The API");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("`{} {path}`", method.to_uppercase());
            let row = rows.iter().find(|row| row[0].split(", ").any(|told| told == name));
            let row = row.unwrap_or_else(|| panic!("README.md does not list {name}"));
            assert_eq!(row[1].is_empty(), operation["security"].is_null(), "{name}");
            let told = operation["description"].as_str().unwrap();
            for scope in row[1].split('`').skip(1).step_by(2) {
                assert!(told.contains(&format!("`{scope}`")), "{name}: {told}");
            }
        }
    }
}

#[test]
fn every_status_has_its_row() {
    let all = [
        Status::Queued,
        Status::Running,
        Status::Completed,
        Status::Stopped,
        Status::Failed,
        Status::Unknown,
    ];
    let rows = all.map(|status| vec![code(status), yes_or_no(status.is_done())]);
    let table = table("### Status").into_iter().map(|row| row[..2].to_vec()).collect::<Vec<_>>();
    assert_eq!(table, rows);
    assert_eq!(words_of("Status"), first_column(&table));
}

#[test]
fn every_outcome_has_its_rows() {
    let all = [
        (Outcome::Found, None),
        (Outcome::NotFound, None),
        (Outcome::Valid, None),
        (Outcome::Unreachable, Some(Reason::Absent)),
        (Outcome::Unreachable, Some(Reason::NoVoiceService)),
        (Outcome::Invalid, Some(Reason::BadFormat)),
        (Outcome::Invalid, Some(Reason::Dead)),
        (Outcome::Inconclusive, Some(Reason::NotVerified)),
        (Outcome::Inconclusive, Some(Reason::NoCoverage)),
        (Outcome::Unprocessed, None),
        (Outcome::Unknown, None),
    ];
    let rows = all.map(|(outcome, reason)| vec![code(outcome), code(reason)]);
    let table = table("### Outcomes").into_iter().map(|row| row[..2].to_vec()).collect::<Vec<_>>();
    assert_eq!(table, rows);
    assert_eq!(words_of("Outcome"), first_column(&table));
    let reasons = table.iter().filter(|row| !row[1].is_empty()).map(|row| row[1].clone());
    assert_eq!(words_of("Reason"), reasons.collect::<BTreeSet<_>>());
}

#[test]
fn the_fields_are_those_of_the_schema_in_its_order() {
    for (heading, schema) in [("### Fields of a batch", "Batch"), ("### Fields of a result", "BatchResult")] {
        let schema = schema_of(schema);
        let required: BTreeSet<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let fields = schema["properties"].as_object().unwrap().keys();
        let rows = fields.map(|field| vec![code(field), yes(required.contains(field.as_str()))]);
        let table: Vec<_> = table(heading).into_iter().map(|row| row[..2].to_vec()).collect();
        assert_eq!(table, rows.collect::<Vec<_>>(), "{heading}");
    }
}

#[test]
fn the_metrics_are_those_that_are_counted() {
    let metrics = Metrics::new();
    metrics.http_request("GET", "/", 200, Duration::ZERO);
    metrics.auth_failure("unauthenticated");
    metrics.connection_closed(ConnectionEnd::KeepAlive);
    metrics.batch_read("vendor", CacheStatus::Hit);
    metrics.provider_request("vendor", "read", None, Duration::ZERO, Clock::default().now());
    metrics.provider_retry("vendor", "read");
    metrics.provider_call_began("vendor");
    metrics.provider_call_rejected("vendor", CallKind::Read, Refusal::Circuit);
    metrics.provider_circuit("vendor", CallKind::Read, true);
    metrics.schema_drift("vendor", DriftField::Status);
    metrics.results_incomplete("vendor");
    metrics.status_regression("vendor");
    metrics.submission("vendor", SubmissionState::Accepted);
    metrics.follower_restart();
    let text = metrics.encode(0).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let counted: BTreeSet<(String, String)> = types
        .map(|(name, kind)| {
            let suffix = if kind == "counter" { "_total" } else { "" };
            (code(format!("{name}{suffix}")), kind.to_owned())
        })
        .collect();
    let told: BTreeSet<_> =
        table("## Metrics").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(told, counted);
}

#[test]
fn every_settings_key_that_is_named_exists() {
    let keys = settings_keys();
    assert!(keys.contains("server.listen") && keys.contains("providers.*.api_key_file"), "{keys:?}");
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let named = code_spans()
        .filter(|span| span.split_once('.').is_some_and(|(section, _)| sections.contains(section)))
        .filter(|span| span.chars().all(|c| c.is_ascii_lowercase() || "._<>0123456789".contains(c)))
        .filter(|span| Path::new(span).extension().is_none_or(|extension| extension != "rs"));
    let words = |text: &'static str| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let of_variables = DOCUMENTS
        .iter()
        .flat_map(|(_, text)| words(text))
        .filter_map(|word| word.strip_prefix("PHONE_GATEWAY__"))
        .map(|path| path.to_lowercase().replace("__", "."));
    let named: BTreeSet<String> = named.map(str::to_owned).chain(of_variables).collect();
    assert!(named.len() > 12, "the documents name fewer keys than they should: {named:?}");
    for key in &named {
        assert!(keys.contains(&any_name(key)), "{key} is not in src/settings.toml");
    }
}

/// Every answer that stands below a `curl` of a batch is what the sandbox gives, but for times and ids.
#[tokio::test]
async fn the_examples_are_what_the_sandbox_answers() {
    let gateway = TestGateway::start().await;
    let mut compared = 0;
    for (command, answer) in pairs_of_blocks() {
        let (Some(command), Some(json)) = (command.strip_prefix("sh\n"), answer.strip_prefix("json\n"))
        else {
            continue;
        };
        let (_, path) = command.trim().split_once(GATEWAY).unwrap();
        let mut shown: Value = serde_json::from_str(json).unwrap();
        let mut given = gateway.get(path).await.body;
        for document in [&mut shown, &mut given] {
            for field in
                ["retrieved_at", "submitted_at", "started_at", "ended_at", "results_expire_at", "request_id"]
            {
                if let Some(value) = document.get_mut(field) {
                    *value = "…".into();
                }
            }
        }
        assert_eq!(shown, given, "{path}");
        compared += 1;
    }
    assert!(compared >= 4, "only {compared} examples were found");
}

/// Examples that submit and wait print what is shown.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_that_submit_print_what_they_show() {
    let gateway = Options::default().set("cache.running_ttl", "0s").start().await;
    for vendor in VENDORS {
        gateway.adjust(vendor.info.slug, json!({"pace_ms": 0})).await;
    }
    let mut compared = 0;
    for (script, shown) in pairs_of_blocks() {
        if let Some(shown) = shown.strip_prefix("text\n").filter(|_| script.contains("Idempotency-Key")) {
            // The clock stands still, so that nothing is polled while a caller waits.
            assert_eq!(run(&script.replace("wait=30", "wait=1"), &gateway), shown);
            compared += 1;
        }
    }
    assert_eq!(compared, 2);
    let script = blocks(DOCUMENTS[0].1).into_iter().find_map(|block| block.strip_prefix("python\n")).unwrap();
    let output = Command::new("python3")
        .arg("-c")
        .arg(script.replace(GATEWAY, &gateway.url).replace("wait=30", "wait=1"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("completed ") && printed.ends_with("found\n"), "{printed}");
}

#[tokio::test]
async fn the_example_with_a_tag_prints_what_it_shows() {
    let gateway = TestGateway::start().await;
    let (script, shown) =
        pairs_of_blocks().into_iter().find(|(_, answer)| answer.starts_with("http\n")).unwrap();
    let printed = run(script, &gateway);
    let mut shown = shown.lines().skip(1);
    assert_eq!(printed.lines().next(), shown.next());
    for line in shown {
        let (name, value) = line.split_once(": ").unwrap();
        let header = format!("\n{name}: ");
        let (_, rest) = printed.split_once(&header).unwrap_or_else(|| panic!("no {name} in {printed}"));
        if !["etag", "x-request-id"].contains(&name) {
            assert_eq!(rest.lines().next(), Some(value));
        }
    }
}

#[tokio::test]
async fn the_batches_of_your_own_go_the_way_that_is_said() {
    let mut statuses = 0;
    for script in section("## Submit at the vendor, read through the gateway").split("```").skip(1).step_by(2)
    {
        let gateway = TestGateway::start().await;
        let said = script.lines().filter(|line| line.starts_with("curl -s $G"));
        let said: Vec<_> = said.map(|line| line.rsplit_once("# ").unwrap().1).collect();
        let printed = run(script, &gateway);
        let documents = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
        let read: Vec<Value> = documents.map(Result::unwrap).collect();
        assert_eq!(read.len(), said.len(), "{printed}");
        for (batch, said) in read.iter().zip(said) {
            assert_eq!(batch["status"].as_str(), said.split(',').next(), "{batch}");
            statuses += 1;
        }
    }
    assert_eq!(statuses, 5);
}

#[tokio::test]
async fn the_admin_examples_are_taken() {
    let gateway = TestGateway::start().await;
    let script = section("## Admin routes").split("```").nth(1).unwrap();
    assert!(!run(script, &gateway).contains("message"));
    let admin = gateway.admin("enrow").await;
    assert_eq!(admin["faults"], json!([]));
}

#[test]
fn every_path_that_is_named_exists() {
    const FOLDERS: [&str; 8] =
        ["src/", "tests/", "benches/", "deploy/", "docs/", "openapi/", "fuzz/", ".ci/"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for (document, text) in DOCUMENTS {
        let words = text.split(|c: char| c.is_whitespace() || "`(".contains(c));
        let words = words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)));
        // Not those of a vendor that is to be added.
        let words = words.filter(|word| !word.contains('<') && !word.contains(']'));
        for path in words.map(|word| word.trim_end_matches([';', ',', '.', ':', ')'])) {
            assert!(root.join(path).exists(), "{document} names {path}, which does not exist");
            named += 1;
        }
    }
    assert!(named > 12, "only {named} paths were found");
}

/// Relative links lead to files, and to headings in them.
#[test]
fn every_link_resolves() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut followed = 0;
    for (document, text) in DOCUMENTS {
        let prose = text.split("```").step_by(2);
        let links = prose.flat_map(|text| text.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let here = root.join(document);
            let path = if path.is_empty() { here } else { here.parent().unwrap().join(path) };
            let target =
                std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{document} links to {link}"));
            let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor_of);
            assert!(anchor.is_empty() || headings.any(|heading| heading == anchor), "{document}: {link}");
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// What a shell prints for an example; `sleep` moves the clock.
fn run(script: &str, gateway: &TestGateway) -> String {
    let simulators = format!("http://{}", gateway.simulators.sandbox.address());
    let script = script.strip_prefix("sh\n").unwrap();
    let script = script.replace(GATEWAY, &gateway.url).replace(SIMULATORS, &simulators);
    let clock = gateway.simulators.sandbox.admin_url("clock");
    let sleep =
        format!("sleep() {{ curl -s {clock} -d \"{{\\\"advance_ms\\\":${{1}}000}}\" > /dev/null; }}\n");
    let output = Command::new("sh").arg("-c").arg(sleep + &script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

/// The keys of the reference, those in its comments included, with `*` for what its reader names.
fn settings_keys() -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in DEFAULTS.lines() {
        let line = line.trim_start_matches('#').trim();
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            keys.insert(any_name(&format!("{section}.{key}")));
        }
    }
    keys
}

/// A key with `*` in place of a client's or a provider's name.
fn any_name(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('.').collect();
    let named = match parts[..] {
        ["auth", "clients", _, _] => Some(2),
        ["providers", _, _] => Some(1),
        _ => None,
    };
    if let Some(position) = named {
        parts[position] = "*";
    }
    parts.join(".")
}

fn schema_of(name: &str) -> Value {
    let document = Document::build().unwrap();
    let document: Value = serde_json::from_slice(document.json()).unwrap();
    document["components"]["schemas"][name].clone()
}

/// The words of an open enumeration.
fn words_of(name: &str) -> BTreeSet<String> {
    let schema = schema_of(name);
    let choices = schema["anyOf"].as_array().unwrap_or_else(|| panic!("{name} is not open: {schema}"));
    let words = choices.iter().filter_map(|choice| choice["enum"].as_array()).flatten();
    words.map(code).collect()
}

fn first_column(table: &[Vec<String>]) -> BTreeSet<String> {
    table.iter().map(|row| row[0].clone()).collect()
}
