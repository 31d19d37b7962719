//! README.md against the code: its tables say what the gateway does, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use phone_gateway::api::Document;
use phone_gateway::batch::{Outcome, Reason, Status};
use phone_gateway::cache::CacheStatus;
use phone_gateway::error::CODES;
use phone_gateway::providers::VENDORS;
use phone_gateway::settings::DEFAULTS;
use phone_gateway::telemetry::Metrics;
use serde::Serialize;
use serde_json::Value;

use crate::helpers::TestGateway;

const README: &str = include_str!("../../README.md");

/// The text below a heading, up to the next one.
fn section(heading: &str) -> &'static str {
    let start = format!("\n{heading}\n");
    let (_, text) = README.split_once(&start).unwrap_or_else(|| panic!("README.md has no {heading:?}"));
    text.split("\n#").next().unwrap()
}

/// The rows of the first table below a heading, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let lines = section(heading).lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The texts between backticks.
fn code_spans() -> impl Iterator<Item = &'static str> {
    let prose = README.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2))
}

fn yes(yes: bool) -> String {
    if yes { "yes".into() } else { String::new() }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes".into() } else { "no".into() }
}

/// A word as code.
fn code(word: impl Serialize) -> String {
    let word = serde_json::to_value(word).unwrap();
    word.as_str().map(|word| format!("`{word}`")).unwrap_or_default()
}

#[test]
fn the_codes_are_those_of_the_code_table() {
    let rows = CODES.iter().map(|row| {
        vec![code(row.name), row.status.to_string(), yes_or_no(row.retryable), row.when.to_owned()]
    });
    assert_eq!(table("### Codes"), rows.collect::<Vec<_>>());
}

#[test]
fn the_ready_made_batches_are_those_of_the_simulators() {
    for vendor in VENDORS {
        let rows =
            vendor.simulator.ready_made.iter().map(|batch| vec![code(batch.id), batch.shows.to_owned()]);
        let heading = format!("### Ready-made batches: {}", vendor.info.slug);
        assert_eq!(table(&heading), rows.collect::<Vec<_>>(), "{heading}");
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
    metrics.batch_read("vendor", CacheStatus::Hit);
    metrics.provider_request("vendor", "read", None, Duration::ZERO);
    metrics.provider_retry("vendor", "read");
    metrics.schema_drift("vendor", "status");
    metrics.results_incomplete("vendor");
    metrics.panic();
    let text = metrics.encode(0).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let counted: BTreeSet<(String, String)> = types
        .map(|(name, kind)| {
            let suffix = if kind == "counter" { "_total" } else { "" };
            (code(format!("{name}{suffix}")), kind.to_owned())
        })
        .collect();
    let told: BTreeSet<_> =
        table("### Metrics").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(told, counted);
}

#[test]
fn every_settings_key_that_is_named_exists() {
    let keys = settings_keys();
    assert!(keys.contains("server.listen") && keys.contains("providers.*.api_key_file"), "{keys:?}");
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let named = code_spans()
        .filter(|span| span.split_once('.').is_some_and(|(section, _)| sections.contains(section)))
        .filter(|span| span.chars().all(|c| c.is_ascii_lowercase() || "._<>0123456789".contains(c)));
    let of_variables = README
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter_map(|word| word.strip_prefix("PHONE_GATEWAY__"))
        .map(|path| path.to_lowercase().replace("__", "."));
    let named: BTreeSet<String> = named.map(str::to_owned).chain(of_variables).collect();
    assert!(named.len() > 12, "the README names fewer keys than it should: {named:?}");
    for key in &named {
        assert!(
            keys.contains(&any_name(key)),
            "README.md names {key}, which src/settings.toml does not have"
        );
    }
}

/// Every answer that stands below a `curl` of a batch is what the sandbox gives, but for times and ids.
#[tokio::test]
async fn the_examples_are_what_the_sandbox_answers() {
    let gateway = TestGateway::start().await;
    let blocks: Vec<&str> = README.split("```").skip(1).step_by(2).collect();
    let mut compared = 0;
    for pair in blocks.windows(2) {
        let (Some(command), Some(json)) = (pair[0].strip_prefix("sh\n"), pair[1].strip_prefix("json\n"))
        else {
            continue;
        };
        let (_, path) = command.trim().split_once("http://127.0.0.1:8080").unwrap();
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
