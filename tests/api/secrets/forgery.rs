//! No caller and no vendor writes a line of the log.

use phone_gateway::auth::new_key;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{
    Answer, ChildGateway, Options, Process, Replies, Simulators, TestStore, eventually, raw,
};

/// Ends a line, an escape, a string or a terminal's colour, in every way there is.
const FORGED: &str =
    "x\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\n\u{1b}[31mforged\u{7}\u{2028}forged\u{85}\"}\u{0}";

/// Everything in a request that a caller chooses.
async fn forge(gateway: &ChildGateway, key: &str) -> usize {
    let authorization = format!("Authorization: Bearer {key}\r\n");
    let mut requests = Vec::new();
    for target in [
        "/nowhere/%0d%0a%7B%22message%22:%22forged%22%7D%1b[31m%e2%80%a8forged",
        "/batches/enrow/%0aforged",
        "/batches/%0aforged/x?a=%0aforged",
        "/submissions?state=%0aforged%e2%80%a8",
        "/webhooks/enrow/%0aforged",
    ] {
        requests.push(format!("GET {target} HTTP/1.1\r\n{authorization}").into_bytes());
    }
    for header in ["X-Request-Id", "Traceparent", "User-Agent", "X-Forwarded-For", "Prefer", "If-None-Match"]
    {
        for value in
            ["{\"message\":\"forged\"}", "\u{2028}forged", "a\u{85}forged", "\u{9b}31mforged", "\\nforged"]
        {
            let head = format!("GET /batches/enrow/forged HTTP/1.1\r\n{authorization}{header}: {value}\r\n");
            requests.push(head.into_bytes());
        }
    }
    let sent = requests.len();
    for request in requests {
        let request = [&request[..], b"Host: gateway\r\nConnection: close\r\n\r\n"].concat();
        raw(gateway.address, &request).await;
    }
    let body = json!({"reference": FORGED, "records": [{"linkedin_url": FORGED, FORGED: FORGED}]});
    let url = format!("{}/batches/enrow", gateway.url);
    let order = gateway.http.request(Method::POST, url).bearer_auth(key).header("idempotency-key", "k");
    let order = order.header("content-type", "application/json").body(body.to_string());
    assert_eq!(order.send().await.unwrap().status(), 422);
    sent + 1
}

/// A gateway whose vendor says what it likes, with a log in the format.
async fn gateway(format: &str, vendor: &Replies, hash: &str) -> ChildGateway {
    let words = json!({"general": {"id": "forged", "status": FORGED, "reason": FORGED, "custom": {FORGED: FORGED}},
        "results": [{"index": 0, "qualification": FORGED, "number": FORGED}], "error": FORGED, "message": FORGED});
    vendor.on("/phone/bulk", Answer::json(&words));
    let options = Options::default()
        .scripted(vendor)
        .client("crm", hash, "")
        .set("log.filter", "trace")
        .set("log.format", format)
        .set("cache.running_ttl", "0s");
    let (simulators, store) = (Simulators::start().await, TestStore::new().await);
    let process = Process::spawn(&["serve"], &options.variables(&simulators, &store));
    let ready = eventually("the gateway is ready");
    let address = |process: &Process| {
        process.lines().iter().find_map(|line| {
            let json: Value = serde_json::from_str(line).unwrap_or_default();
            let text = line.split_once(" ready address=").map(|(_, address)| address);
            let address = if json["message"] == "ready" { json["address"].as_str() } else { text }?;
            address.split(' ').next()?.parse().ok()
        })
    };
    while !ready.is(address(&process).is_some()).await {}
    let address: std::net::SocketAddr = address(&process).unwrap();
    ChildGateway { address, url: format!("http://{address}"), process, simulators, store }
}

#[tokio::test]
async fn no_caller_and_no_vendor_writes_a_line_of_the_log() {
    let (key, hash) = new_key().unwrap();
    for format in ["json", "text"] {
        let vendor = Replies::start().await;
        let mut gateway = gateway(format, &vendor, &hash).await;
        let sent = forge(&gateway, &key).await;
        gateway.process.terminate();
        assert_eq!(gateway.process.exit().await.code(), Some(0));
        let lines = gateway.process.lines();
        let completed = lines.iter().filter(|line| line.contains("request completed")).count();
        assert_eq!(completed, sent, "one line a request");
        for line in &lines {
            let breaks = ['\u{1b}', '\u{7}', '\u{0}', '\u{85}', '\u{9b}', '\u{2028}', '\r'];
            assert!(!line.contains(breaks), "{line:?}");
            // The id of the batch, which is checked, is all that they chose and that stands there.
            let id = line.replace("\"batch_id\":\"forged\"", "").replace("batch_id=\"forged\"", "");
            assert!(!id.contains("forged"), "{line:?}");
            if format == "json" {
                let event: Value =
                    serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line:?}"));
                assert!(event["timestamp"].is_string() && event["level"].is_string(), "{line}");
            } else {
                let mut words = line.split_whitespace();
                let (time, level) = (words.next().unwrap(), words.next().unwrap());
                assert!(time.len() == 27 && time.ends_with('Z'), "{line:?}");
                assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
            }
        }
    }
}
