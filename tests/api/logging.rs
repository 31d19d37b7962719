//! The log: it holds up nothing, whoever reads it, and each line has the level that it deserves.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::helpers::{ChildGateway, Options, Replica, Site, eventually, numbered_order, raw_get};

const DROPPED: &str = "log_lines_dropped_total";

fn submission(gateway: &ChildGateway, key: &str, order: &Value) -> RequestBuilder {
    let request = gateway.http.post(format!("{}/batches/enrow", gateway.url)).header("idempotency-key", key);
    request.header("content-type", "application/json").body(order.to_string())
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
