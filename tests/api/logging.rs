//! The log: it holds up nothing, whoever reads it, and each line has the level that it deserves.

use std::time::Duration;

use phone_gateway::auth::new_key;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::helpers::{
    ChildGateway, Options, Replica, Reply, Site, eventually, head, numbered_order, raw, raw_get,
};

const DROPPED: &str = "log_lines_dropped_total";

fn submission(gateway: &ChildGateway, key: &str, order: &Value) -> RequestBuilder {
    let request = gateway.http.post(format!("{}/batches/enrow", gateway.url)).header("idempotency-key", key);
    request.header("content-type", "application/json").body(order.to_string())
}

/// The lines of all requests, in the order of the requests, once the process has ended.
async fn request_lines(mut gateway: ChildGateway) -> Vec<Value> {
    gateway.process.terminate();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    let log = gateway.process.log().into_iter();
    log.filter(|line| line["message"] == "request completed").collect()
}

/// Sends requests until the pipe and the queue behind it are full.
async fn fill_the_log(gateway: &ChildGateway) {
    const REQUESTS: usize = 500;
    let requests = "GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n".repeat(REQUESTS);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut answers, mut caller) = stream.split();
    while gateway.metric(DROPPED, &[]).await == 0 {
        let reading = async {
            let (mut seen, mut buffer) = (0, vec![0; 1 << 16]);
            // The body of each answer ends with it, and nothing else has the character.
            while seen < REQUESTS {
                let count = answers.read(&mut buffer).await.unwrap();
                assert_ne!(count, 0, "the connection goes on");
                seen += buffer[..count].split(|byte| *byte == b'}').count() - 1;
            }
        };
        tokio::join!(async { caller.write_all(requests.as_bytes()).await.unwrap() }, reading);
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "while it is held, nobody reads the log")]
async fn a_log_that_nobody_reads_holds_up_no_request_and_no_stop() {
    let mut gateway = Options::default().spawn().await;
    let output = gateway.process.output();
    let unread = output.lock().unwrap();
    let work = async {
        fill_the_log(&gateway).await;
        for path in ["/livez", "/readyz", "/version", "/batches/enrow/sandbox-completed", "/nowhere"] {
            let status = if path == "/nowhere" { 404 } else { 200 };
            assert_eq!(raw_get(gateway.address, path).await.status, status, "{path}");
        }
        let submission = submission(&gateway, "k", &numbered_order("enrow", 1));
        assert_eq!(submission.send().await.unwrap().status(), 202);
        assert!(gateway.metric(DROPPED, &[]).await > 1);
    };
    timeout(Duration::from_mins(1), work).await.expect("nothing waits for the log");
    gateway.process.terminate();
    assert_eq!(gateway.process.exit_unread().await.code(), Some(0));
    drop(unread);
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "while it is held, nobody reads the log")]
async fn a_log_that_is_read_again_goes_on_in_whole_lines() {
    let mut gateway = Options::default().spawn().await;
    let output = gateway.process.output();
    let unread = output.lock().unwrap();
    timeout(Duration::from_mins(1), fill_the_log(&gateway)).await.expect("nothing waits for the log");
    drop(unread);
    let is_logged = |log: &[Value]| log.iter().any(|line| line["status"] == 404);
    let logged = eventually("a request is logged");
    while !logged.is(is_logged(&gateway.process.log())).await {
        raw_get(gateway.address, "/nowhere").await;
    }
    gateway.process.terminate();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    let log = gateway.process.log();
    assert_eq!(log.last().unwrap()["message"], "stopping: requests in flight may end");
}

#[tokio::test]
async fn failures_are_errors_and_refusals_that_concern_money_are_warnings() {
    let gateway = Options::default().without_circuit().set("http.attempts", "1").spawn().await;
    for path in ["/livez", "/nowhere", "/batches/enrow/sandbox-completed", "/batches/enrow/sandbox-error-500"]
    {
        raw_get(gateway.address, path).await;
    }
    let send = async |key, number| {
        let request = submission(&gateway, key, &numbered_order("enrow", number));
        Reply::of(request.send().await.unwrap()).await.status
    };
    let no_credits = json!({"status": 402, "body": "{}"});
    gateway.fault("enrow", json!({"times": 1, "method": "POST", "answer": no_credits})).await;
    assert_eq!(send("poor", 1).await, 402);
    assert_eq!(send("fine", 2).await, 202);
    assert_eq!(send("fine", 3).await, 422);
    gateway
        .fault("enrow", json!({"times": 1, "method": "POST", "answer": {"status": 500, "body": ""}}))
        .await;
    assert_eq!(send("lost", 4).await, 504);
    assert_eq!(send("lost", 4).await, 409);
    let lines = request_lines(gateway).await;
    let levels: Vec<_> =
        lines.iter().map(|line| (&line["status"], line["level"].as_str().unwrap())).collect();
    let expected = [
        (200, "INFO"),
        (404, "INFO"),
        (200, "INFO"),
        (502, "ERROR"),
        (402, "WARN"),
        (202, "INFO"),
        (422, "WARN"),
        (504, "ERROR"),
        (409, "WARN"),
    ];
    assert_eq!(levels.len(), expected.len());
    for (line, (status, level)) in levels.into_iter().zip(expected) {
        assert_eq!(line, (&json!(status), level));
    }
}

#[tokio::test]
async fn probes_that_succeed_are_logged_unless_that_is_switched_off() {
    for (probes, expected) in [
        ("true", &["/livez", "/readyz", "/metrics", "/version", "/livez"][..]),
        ("false", &["/version", "/livez"]),
    ] {
        let gateway = Options::default().set("log.probes", probes).spawn().await;
        for path in ["/livez", "/readyz", "/metrics", "/version"] {
            assert_eq!(raw_get(gateway.address, path).await.status, 200);
        }
        assert_eq!(raw(gateway.address, head("POST", "/livez", "").as_bytes()).await.status, 405);
        let lines = request_lines(gateway).await;
        let routes: Vec<_> = lines.iter().map(|line| line["route"].as_str().unwrap()).collect();
        assert_eq!(routes, expected, "log.probes = {probes}");
    }
}

#[tokio::test]
async fn the_line_of_a_request_without_a_right_key_has_the_address_that_is_limited() {
    let (key, hash) = new_key().unwrap();
    let options = Options::default().client("crm", &hash, "").set("auth.wrong_keys", "1/1h");
    let gateway = options.set("server.trusted_proxies", "127.0.0.1").spawn().await;
    for (headers, status) in [
        (format!("authorization: Bearer {key}\r\n"), 200),
        ("authorization: Bearer x\r\nx-forwarded-for: 198.51.100.7\r\n".to_owned(), 401),
        ("x-forwarded-for: 198.51.100.7\r\n".to_owned(), 429),
        (String::new(), 401),
    ] {
        let reply = raw(gateway.address, head("GET", "/providers", &headers).as_bytes()).await;
        assert_eq!(reply.status, status);
    }
    let lines = request_lines(gateway).await;
    let addresses: Vec<_> = lines.iter().map(|line| line["client_address"].as_str()).collect();
    assert_eq!(addresses, [None, Some("198.51.100.7"), Some("198.51.100.7"), Some("127.0.0.1")]);
}

#[tokio::test]
async fn a_submission_is_logged_once_the_store_has_it() {
    let site = Site::new(Options::default()).await;
    let replica = site.start().await;
    let (fail, succeed) = if site.store.is_file() {
        let body = "BEGIN SELECT RAISE(ABORT, 'full'); END";
        (format!("WHEN NEW.state = 'accepted' {body}"), "DROP TRIGGER fail")
    } else {
        let function = "FOR EACH ROW WHEN (NEW.state = 'accepted') EXECUTE FUNCTION fail()";
        let body = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full'; END $$";
        site.change(body).await;
        (function.to_owned(), "DROP FUNCTION fail() CASCADE")
    };
    site.change(&format!("CREATE TRIGGER fail BEFORE UPDATE ON submissions {fail}")).await;
    let is_logged =
        |replica: &Replica| replica.process.log().iter().any(|line| line["message"] == "submitted");
    let reply = replica.submit("enrow", "key", &numbered_order("enrow", 1)).await;
    reply.assert_problem(504, "submission_in_doubt");
    assert!(!is_logged(&replica));
    site.change(succeed).await;
    let logged = eventually("the submission is logged");
    while !logged.is(is_logged(&replica)).await {}
    assert_eq!(site.submissions().await[0].1, "accepted");
}
