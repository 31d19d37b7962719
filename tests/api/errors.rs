//! Every error of every path, as RFC 9457 describes it, and the ids that go in and out.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use actix_web::web;
use phone_gateway::api::{self, Paths};
use phone_gateway::error::{CODES, CodeInfo};
use phone_gateway::providers::VENDORS;
use phone_gateway::server::{self, Address, Listener, Share};
use phone_gateway::settings::Settings;
use reqwest::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::helpers::{Options, Simulators, TestGateway, TestStore, head, raw, raw_get, read_replies};

#[tokio::test]
async fn ids_that_cannot_be_ids_are_refused_before_any_vendor_call() {
    let gateway = TestGateway::start().await;
    let ids = [
        "%ff",
        "..%2f",
        "%2e%2e%2f",
        "%00",
        "%0d%0a",
        "a%0d%0aX-Injected:%20yes",
        "a%2Fb",
        "a%20b",
        "a.b",
        "a%3Fb=c",
        "%C3%A9",
        "a;b",
        "a:b",
        "%7Bid%7D",
        "a%25",
        "'",
        "a%26id=b",
        "%F0%9F%93%9E",
        "+15705551234",
    ]
    .map(str::to_owned);
    let long = ["a".repeat(65), "a".repeat(5_000), "%41".repeat(65)];
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        for id in ids.iter().chain(&long) {
            let reply = raw_get(gateway.address, &format!("/batches/{slug}/{id}")).await;
            reply.assert_problem(400, "invalid_batch_id");
            assert_eq!(reply.body["errors"][0]["parameter"], "id", "{id}");
            assert!(reply.headers.get("x-injected").is_none());
            let detail = reply.body["detail"].as_str().unwrap();
            assert!(
                !detail.contains("15705551234") && detail.len() < 100,
                "it does not repeat the id: {detail}"
            );
        }
        assert_eq!(gateway.calls(slug).await, 0, "{slug}");
        let longest = raw_get(gateway.address, &format!("/batches/{slug}/{}", "a".repeat(64))).await;
        longest.assert_problem(404, "batch_not_found");
        let encoded = raw_get(gateway.address, &format!("/batches/{slug}/sandbox%2Dcompleted")).await;
        assert_eq!(encoded.batch()["id"], "sandbox-completed");
    }
}

#[tokio::test]
async fn paths_that_do_not_exist_are_problems_too() {
    let gateway = TestGateway::start().await;
    for path in [
        "/batches/",
        "/batches/enrow/",
        "/batches/enrow/a/b",
        "/batches//a",
        "/batches/enrow/a/stop/",
        "/submissions/",
        "/providers/enrow",
        "/usage/",
        "/nowhere",
        "/livez/",
        "/../etc/passwd",
        "//",
        "/%ff",
        "/favicon.ico",
        "/openapi.yaml",
        "/admin/enrow",
    ] {
        let reply = raw_get(gateway.address, path).await;
        reply.assert_problem(404, "route_not_found");
        assert_eq!(reply.body["instance"], "/*", "{path}");
    }
    let reply = gateway.batch("nobody", "x").await;
    reply.assert_problem(404, "unknown_provider");
    assert_eq!(reply.body["errors"][0]["parameter"], "provider");
    raw_get(gateway.address, "/batches/../livez").await.assert_problem(404, "unknown_provider");
    for vendor in VENDORS {
        assert!(reply.body["detail"].as_str().unwrap().contains(vendor.info.slug));
        assert_eq!(gateway.calls(vendor.info.slug).await, 0);
        let upper = gateway.batch(&vendor.info.slug.to_uppercase(), "x").await;
        upper.assert_problem(404, "unknown_provider");
    }
}

#[tokio::test]
async fn a_provider_without_a_key_is_not_there() {
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().vendor(slug, "api_key", "").start().await;
        let reply = gateway.batch(slug, "sandbox-completed").await;
        reply.assert_problem(404, "unknown_provider");
        assert_eq!(gateway.calls(slug).await, 0);
    }
}

#[tokio::test]
async fn other_methods_are_told_which_ones_there_are() {
    let gateway = TestGateway::start().await;
    for (path, allow) in [
        ("/batches", "GET, HEAD, OPTIONS"),
        ("/batches/enrow", "POST, OPTIONS"),
        ("/batches/enrow/x", "GET, HEAD, DELETE, OPTIONS"),
        ("/batches/enrow/x/stop", "POST, OPTIONS"),
        ("/submissions", "GET, HEAD, OPTIONS"),
        ("/submissions/x", "GET, HEAD, OPTIONS"),
        ("/submissions/x/resolve", "POST, OPTIONS"),
        ("/providers", "GET, HEAD, OPTIONS"),
        ("/usage", "GET, HEAD, OPTIONS"),
        ("/webhooks/enrow/x", "POST, OPTIONS"),
        ("/livez", "GET, HEAD, OPTIONS"),
        ("/readyz", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/version", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let reply = raw(gateway.address, head(method, path, "content-length: 0\r\n").as_bytes()).await;
            reply.assert_problem(405, "method_not_allowed");
            assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        }
        let options = raw(gateway.address, head("OPTIONS", path, "").as_bytes()).await;
        assert_eq!((options.status, options.header("allow")), (204, Some(allow)), "OPTIONS {path}");
    }
    for (path, allow) in [
        ("/", "GET, OPTIONS"),
        ("/docs", "GET, OPTIONS"),
        ("/docs/", "GET, OPTIONS"),
        ("*", "GET, HEAD, POST, DELETE, OPTIONS"),
    ] {
        let options = raw(gateway.address, head("OPTIONS", path, "").as_bytes()).await;
        assert_eq!((options.status, options.header("allow")), (204, Some(allow)), "OPTIONS {path}");
    }
    let docs = raw(gateway.address, head("POST", "/docs/", "content-length: 0\r\n").as_bytes()).await;
    docs.assert_problem(405, "method_not_allowed");
    for method in ["POST", "OPTIONS"] {
        let nowhere =
            raw(gateway.address, head(method, "/nowhere", "content-length: 0\r\n").as_bytes()).await;
        nowhere.assert_problem(404, "route_not_found");
    }
    assert_eq!(gateway.calls("enrow").await, 0);
}

#[tokio::test]
async fn the_id_of_a_request_is_kept_if_it_is_sane() {
    let gateway = TestGateway::start().await;
    let longest = "x".repeat(128);
    let too_long = "x".repeat(129);
    for path in ["/livez", "/nowhere", "/batches/enrow/sandbox-running", "/batches/enrow/%ff"] {
        for sane in ["abc", "4bf92f35-77b3", "a/b:c.d_e", &*longest] {
            let reply = gateway.send(gateway.request(Method::GET, path).header("x-request-id", sane)).await;
            assert_eq!(reply.header("x-request-id"), Some(sane));
        }
        for insane in ["", "a b", "a\"b", "<script>", "a,b", "{}", "a\tb", &*too_long, "é"] {
            let reply = gateway.send(gateway.request(Method::GET, path).header("x-request-id", insane)).await;
            let id = reply.header("x-request-id").unwrap();
            assert_ne!(id, insane);
            assert_eq!(id.len(), 36, "a new UUID: {id}");
        }
    }
    let (one, other) = (gateway.get("/livez").await, gateway.get("/livez").await);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn a_trace_goes_on_and_a_broken_one_begins_anew() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let gateway = TestGateway::start().await;
    let read = async |parent: &str| {
        let request =
            gateway.request(Method::GET, "/batches/enrow/sandbox-running").header("traceparent", parent);
        gateway.send(request).await.header("traceparent").unwrap().to_owned()
    };
    let given = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let answered = read(&given).await;
    assert!(answered.starts_with(&format!("00-{TRACE}-")) && answered.ends_with("-01"), "{answered}");
    assert_ne!(answered, given, "a span of its own");
    let later = read(&format!("fe{}-more", &given[2..])).await;
    assert!(later.starts_with(&format!("00-{TRACE}-")) && later.len() == 55, "{later}");
    for broken in ["", "00-x-y-01", &given[..54], &given.to_uppercase(), &format!("ff{}", &given[2..])] {
        let answered = read(broken).await;
        assert!(!answered.contains(TRACE) && answered.len() == 55, "{answered}");
    }
}

/// A server of the gateway's own application with one more route, whose handler panics.
async fn with_a_panicking_route() -> (SocketAddr, Simulators) {
    let (simulators, store) = (Simulators::start().await, TestStore::new().await);
    let variables = Options::default().variables(&simulators, &store);
    let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = Settings::from_variables(None, variables).unwrap();
    let state = Options::default().state(&simulators, &store).await;
    let (started, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let panicking =
                || web::get().to(async || -> &'static str { panic!("a defect near +15705551234") });
            let listener = Listener::open(&settings.server.listen).await.unwrap();
            let Address::Tcp(address) = *listener.address() else { panic!("it does not listen on TCP") };
            started.send(address).unwrap();
            let (share, metrics) = (Share::of_api(&settings.server), Arc::clone(&state.metrics));
            let application =
                move || api::application(state.clone(), Paths::All).route("/panic", panicking());
            let closing = CancellationToken::new();
            server::start(listener, share, &settings.server, &metrics, &closing, application)
                .unwrap()
                .await
                .unwrap();
        });
    });
    (address.recv().unwrap(), simulators)
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_server_goes_on() {
    let (address, _simulators) = with_a_panicking_route().await;
    for _ in 0..3 {
        let reply = raw_get(address, "/panic").await;
        reply.assert_problem(500, "internal_error");
        assert!(!reply.text().contains("15705551234"));
        assert_eq!(raw_get(address, "/livez").await.status, 200);
    }
    // Its connection goes on as well.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let panic = "GET /panic HTTP/1.1\r\nhost: gateway\r\n\r\n";
    stream.write_all((panic.to_owned() + &head("GET", "/livez", "")).as_bytes()).await.unwrap();
    let replies = read_replies(&mut stream).await;
    replies[0].assert_problem(500, "internal_error");
    assert_eq!((replies.len(), replies[1].status), (2, 200));
}

/// `Reply::assert_problem` holds each error against its row of the table. A row that no test meets is only a claim.
#[test]
fn every_row_of_the_code_table_is_met_by_a_test() {
    fn sources(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut tests = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api"), &mut tests);
    let met = |row: &CodeInfo| tests.contains(&format!("{}, \"{}\"", row.status, row.name));
    let unmet: Vec<_> = CODES.iter().filter(|row| !met(row)).map(|row| (row.status, row.name)).collect();
    assert_eq!(unmet, []);
}
