//! What the platform team sees: health, metrics, logs and the end of the process.

use std::collections::BTreeSet;

use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::helpers::{ChildGateway, Options, Process, Simulators, TestGateway, TestStore};
use crate::helpers::{eventually, head, raw_get, read_reply};

#[tokio::test]
async fn health_and_version_answer_without_a_vendor_call() {
    let gateway = TestGateway::start().await;
    for path in ["/livez", "/readyz"] {
        let reply = gateway.get(path).await;
        assert_eq!((reply.status, &reply.body), (200, &json!({"status": "ok"})));
        let head = gateway.send(gateway.request(Method::HEAD, path)).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0));
    }
    let version = gateway.get("/version").await.body;
    assert_eq!(version["name"], "phone-gateway");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    for vendor in VENDORS {
        assert_eq!(gateway.calls(vendor.info.slug).await, 0);
    }
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let gateway = TestGateway::start().await;
    let route = "route=\"/batches/{provider}/{id}\"";
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for id in ["sandbox-completed", "sandbox-completed", "sandbox-not-found"] {
            gateway.batch(slug, id).await;
        }
        let provider = format!("provider=\"{slug}\"");
        let metric =
            async |name: &str, labels: &[&str]| gateway.metric(name, &[&[&*provider], labels].concat()).await;
        assert_eq!(metric("batch_reads_total", &["cache=\"miss\""]).await, 2);
        assert_eq!(metric("batch_reads_total", &["cache=\"hit\""]).await, 1);
        assert_eq!(metric("provider_requests_total", &[]).await, gateway.calls(slug).await);
        assert_eq!(metric("provider_requests_total", &["result=\"batch_not_found\""]).await, 1);
        assert_eq!(metric("provider_retries_total", &[]).await, 0);

        assert_eq!(metric("provider_schema_drift_total", &[]).await, 0);
        gateway.batch(slug, "sandbox-unknown-status").await;
        assert_eq!(metric("provider_schema_drift_total", &["field=\"status\""]).await, 1);
        gateway.batch(slug, "sandbox-unknown-outcome").await;
        assert_eq!(metric("provider_schema_drift_total", &["field=\"outcome\""]).await, 1);
        assert_eq!(metric("provider_results_incomplete_total", &[]).await, 0);
        gateway.batch(slug, "sandbox-short-results").await;
        assert_eq!(metric("provider_results_incomplete_total", &[]).await, 1);
    }
    let vendors = VENDORS.len() as u64;
    assert_eq!(gateway.metric("http_requests_total", &[route, "status=\"200\""]).await, 5 * vendors);
    assert_eq!(gateway.metric("http_requests_total", &[route, "status=\"404\""]).await, vendors);
    assert_eq!(gateway.metric("http_request_duration_seconds_count", &[route]).await, 6 * vendors);
    assert!(gateway.metric("cache_size_bytes", &[]).await > 1_000);
}

#[tokio::test]
async fn metrics_come_in_both_text_formats_and_no_caller_can_choose_a_label() {
    let gateway = TestGateway::start().await;
    for path in [
        "/nowhere/15705551234",
        "/batches/15705551234/x",
        "/batches/enrow/%2B15705551234",
        "/docs/15705551234",
    ] {
        gateway.get(path).await;
    }
    let method = Method::from_bytes(b"SECRET15705551234").unwrap();
    gateway.send(gateway.request(method, "/livez")).await;
    // Some of every kind, histograms included.
    gateway.batch("enrow", "sandbox-completed").await;
    let samples = async |accept: &str, content_type: &str| {
        let request = gateway.request(Method::GET, "/metrics").header("accept", accept);
        let reply = gateway.send(request).await;
        assert_eq!(
            (reply.header("content-type"), reply.header("vary")),
            (Some(content_type), Some("Accept"))
        );
        let text = reply.text();
        assert!(!text.contains("15705551234"), "{text}");
        samples_of(&text, content_type.contains("openmetrics"))
    };
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let older = samples("text/plain;version=0.0.4", text).await;
    let newer = samples("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", open_metrics).await;
    assert_eq!(samples("*/*", text).await, newer, "nothing but the format differs");
    assert!(older.len() > 40 && older.is_subset(&newer), "{older:?}");
}

/// The series of a text, each of a family that is described before it, in a name that its type allows.
fn samples_of(text: &str, open_metrics: bool) -> BTreeSet<String> {
    let (mut helped, mut typed, mut series) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut family, mut kind) = ("", "");
    let body = text.strip_suffix("# EOF\n");
    assert_eq!(body.is_some(), open_metrics);
    for line in body.unwrap_or(text).lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            assert!(helped.insert(name) && help.ends_with('.'), "{line}");
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            (family, kind) = line.split_once(' ').unwrap();
            assert!(helped.contains(family) && typed.insert(family), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter" && !open_metrics, family.ends_with("_total"), "{line}");
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (name, unit) = unit.split_once(' ').unwrap();
            assert!(open_metrics && name == family && name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            let (name, labels) = name.split_once('{').map_or((name, ""), |(name, labels)| (name, labels));
            assert!(labels.is_empty() || labels.ends_with("\"}"), "{line}");
            let suffixes: &[&str] = match kind {
                "counter" if open_metrics => &["_total"],
                "histogram" => &["_sum", "_count", "_bucket"],
                _ => &[""],
            };
            assert!(name.strip_prefix(family).is_some_and(|suffix| suffixes.contains(&suffix)), "{line}");
            assert_eq!(name.ends_with("_bucket"), labels.contains("le=\""), "{line}");
            assert!(series.insert(format!("{name}{{{labels}")), "{line} stands there twice");
        }
    }
    assert_eq!(helped, typed);
    series
}

#[tokio::test]
async fn a_request_in_flight_outlives_sigterm() {
    let mut gateway = Options::default().spawn().await;
    gateway.fault("enrow", json!({"times": 1, "hang": true})).await;
    // Open before the end begins, so that readiness can still be asked.
    let mut probe = TcpStream::connect(gateway.address).await.unwrap();
    ask_ready(&mut probe, 200).await;
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    slow.write_all(head("GET", "/batches/enrow/sandbox-completed", "").as_bytes()).await.unwrap();
    let called = eventually("the vendor is called");
    while !called.is(gateway.calls("enrow").await == 1).await {}

    gateway.process.terminate();
    let stopping = eventually("the gateway says that it is stopping");
    while !stopping.is(gateway.process.lines().iter().any(|line| line.contains("stopping"))).await {}
    let closed = eventually("new connections are refused");
    while !closed.is(TcpStream::connect(gateway.address).await.is_err()).await {}
    gateway.clear_faults("enrow").await;
    read_reply(&mut slow).await.batch();
    drop(probe);
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    let log = gateway.process.log();
    assert!(
        log.iter().any(|line| line["message"] == "request completed" && line["status"] == 200),
        "{log:#?}"
    );
}

#[tokio::test]
async fn a_gateway_that_stops_says_so_to_the_platform() {
    let mut gateway = Options::default().set("server.ops_listen", "127.0.0.1:0").spawn().await;
    let log = gateway.process.log();
    let ops = log.iter().find_map(|line| line["ops_address"].as_str()?.parse().ok()).unwrap();
    raw_get(ops, "/readyz").await;
    gateway.fault("enrow", json!({"times": 1, "hang": true})).await;
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    slow.write_all(head("GET", "/batches/enrow/sandbox-completed", "").as_bytes()).await.unwrap();
    let called = eventually("the vendor is called");
    while !called.is(gateway.calls("enrow").await == 1).await {}
    gateway.process.terminate();
    let stopping = eventually("the gateway is stopping");
    while !stopping.is(gateway.process.lines().iter().any(|line| line.contains("stopping"))).await {}
    let unready = eventually("the gateway is not ready");
    while !unready.is(raw_get(ops, "/readyz").await.status != 200).await {}
    raw_get(ops, "/readyz").await.assert_problem(503, "shutting_down");
    gateway.clear_faults("enrow").await;
    read_reply(&mut slow).await.batch();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
}

/// Asks on a connection that stays open.
async fn ask_ready(stream: &mut TcpStream, status: u16) {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: gateway\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
}

#[tokio::test]
async fn sigterm_ends_an_idle_gateway_at_once() {
    let mut gateway = Options::default().set("server.shutdown_grace", "30s").spawn().await;
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    ask_ready(&mut idle, 200).await;
    gateway.process.terminate();
    // A connection that waits for nothing does not hold the process up; the limit of `exit` is below the grace.
    assert_eq!(gateway.process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn every_log_line_is_one_json_object_and_every_request_has_one() {
    let mut gateway = Options::default().spawn().await;
    let injection = "/nowhere/%0a%7B%22message%22:%22forged%22%7D";
    let paths = [
        "/livez",
        "/batches/enrow/sandbox-completed",
        "/batches/enrow/sandbox-error-500",
        injection,
        "/version",
        "/live%7a",
    ];
    let mut ids = Vec::new();
    for path in paths {
        let reply = raw_get(gateway.address, path).await;
        ids.push(reply.header("x-request-id").unwrap().to_owned());
    }
    gateway.process.terminate();
    gateway.process.exit().await;
    let log = gateway.process.log();
    let completed: Vec<_> = log.iter().filter(|line| line["message"] == "request completed").collect();
    assert_eq!(completed.len(), paths.len(), "{log:#?}");
    for (line, id) in completed.iter().zip(&ids) {
        assert_eq!(line["request_id"], **id, "{line}");
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
        assert!(line["timestamp"].is_string() && line["duration_us"].is_u64());
    }
    let read = completed[1];
    assert_eq!(
        (&read["provider"], &read["cache"], &read["status"]),
        (&json!("enrow"), &json!("miss"), &json!(200))
    );
    assert_eq!(
        (&read["route"], &read["batch_id"]),
        (&json!("/batches/{provider}/{id}"), &json!("sandbox-completed"))
    );
    assert_eq!(completed[2]["code"], "provider_error");
    assert_eq!(completed[3]["route"], "unmatched");
    assert_eq!(completed[5]["route"], "/livez", "written in another way");
    let failure: Vec<_> = log.iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(failure.len(), 1, "a failure is logged once: {failure:#?}");
    assert_eq!(failure[0]["request_id"], *ids[2], "under the same id");
}

#[tokio::test]
async fn the_line_of_a_request_whose_caller_hung_up_says_what_is_known_of_it() {
    let (key, hash) = new_key().unwrap();
    let gateway = Options::default().client("crm", &hash, "").spawn().await;
    gateway.fault("enrow", json!({"times": 1, "hang": true})).await;
    let mut caller = TcpStream::connect(gateway.address).await.unwrap();
    let authorization = format!("authorization: Bearer {key}\r\n");
    let request = head("GET", "/batches/enrow/sandbox-completed", &authorization);
    caller.write_all(request.as_bytes()).await.unwrap();
    let at_vendor = eventually("the vendor is called");
    while !at_vendor.is(gateway.calls("enrow").await == 1).await {}
    caller.set_zero_linger().unwrap();
    drop(caller);
    let hung_up = || gateway.process.log().into_iter().find(|line| line["status"] == 499);
    let noted = eventually("the line is there");
    while !noted.is(hung_up().is_some()).await {}
    let line = hung_up().unwrap();
    let known = ["route", "client", "provider", "batch_id"].map(|field| line[field].as_str().unwrap());
    assert_eq!(known, ["/batches/{provider}/{id}", "crm", "enrow", "sandbox-completed"]);
    let labels = ["status=\"499\"", "route=\"/batches/{provider}/{id}\""];
    assert_eq!(gateway.metric("http_requests_total", &labels).await, 1);
    gateway.clear_faults("enrow").await;
}

#[tokio::test]
async fn serve_sandbox_runs_by_itself_and_says_how_to_try_it() {
    let variables = [("PHONE_GATEWAY__SERVER__LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
    let process = Process::spawn(&["serve", "--sandbox"], &variables);
    let mut gateway = ChildGateway::ready(process, Simulators::start().await, TestStore::new().await).await;
    let guide = eventually("every ready-made batch is shown");
    for vendor in VENDORS {
        for batch in vendor.simulator.ready_made {
            let curl = format!("curl -s {}/batches/{}/{}", gateway.url, vendor.info.slug, batch.id);
            while !guide.is(gateway.process.lines().iter().any(|line| line.contains(&curl))).await {}
        }
        let completed = gateway.get(&format!("/batches/{}/sandbox-completed", vendor.info.slug)).await;
        assert_eq!(completed.batch()["status"], "completed");
        assert_eq!(gateway.calls(vendor.info.slug).await, 0, "it has simulators of its own");
    }
    assert!(gateway.process.lines().iter().any(|line| line.starts_with("SANDBOX: ")));
    gateway.process.terminate();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_simulators_run_alone() {
    let mut process = Process::spawn(&["sandbox", "--listen", "127.0.0.1:0"], &[]);
    let started = eventually("the simulators say where they are");
    let variables = |process: &Process| -> Vec<(String, String)> {
        let lines = process.lines();
        let pairs = lines.iter().filter_map(|line| line.rsplit(' ').next()?.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    while !started.is(variables(&process).len() == 1 + 2 * VENDORS.len()).await {}
    let mut settings = variables(&process);
    let store = TestStore::new().await;
    settings.push(("PHONE_GATEWAY__SERVER__LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
    settings.push(("PHONE_GATEWAY__STORE__URL".to_owned(), store.url().to_owned()));
    let serve = Process::spawn(&["serve"], &settings);
    let gateway = ChildGateway::ready(serve, Simulators::start().await, store).await;
    for vendor in VENDORS {
        gateway.get(&format!("/batches/{}/sandbox-completed", vendor.info.slug)).await.batch();
    }
    process.terminate();
    assert_eq!(process.exit().await.code(), Some(0));
    let value: Value = gateway.get("/readyz").await.body;
    assert_eq!(value["status"], "ok", "a vendor that is down does not make the gateway unready");
}
