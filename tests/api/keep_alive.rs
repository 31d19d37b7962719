//! Connections that callers and proxies keep open: how fast they are, how long they stay, and how they end.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::helpers::{Answer, Options, Replies, eventually, has_read_everything, raw_get};

const READ: &str = "/batches/enrow/sandbox-completed";

/// Linux delays an ACK by at least this.
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// Asks for a path on a connection that stays open: the head of the answer and the number of bytes of its body.
async fn ask(stream: &mut TcpStream, path: &str) -> (String, usize) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes()).await.unwrap();
    read_answer(stream).await
}

async fn read_answer(stream: &mut TcpStream) -> (String, usize) {
    try_read_answer(stream).await.unwrap()
}

async fn try_ask(stream: &mut TcpStream, path: &str) -> io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes()).await?;
    Ok(try_read_answer(stream).await?.0)
}

async fn try_read_answer(stream: &mut TcpStream) -> io::Result<(String, usize)> {
    let mut answer = Vec::with_capacity(64 * 1024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = answer.windows(4).take(4096).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end + 2]).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length = length.parse().unwrap();
        if answer.len() == end + 4 + length {
            return Ok((head.to_owned(), length));
        }
    }
}

async fn wait_until_read(server: SocketAddr) {
    let read = eventually("the server has read all");
    while !read.is(has_read_everything(server)).await {}
}

#[tokio::test]
async fn answers_on_a_kept_connection_do_not_wait_for_a_delayed_ack() {
    let vendor = Replies::start().await;
    let batches = [("small", 57, 20_000), ("medium", 1_150, 400_000), ("large", 11_500, 4_000_000)];
    vendor.in_turn("", &batches.map(|(id, results, _)| Answer::enrow_batch(id, results)));
    let gateway = Options::default().vendor("enrow", "base_url", vendor.url()).start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    for (id, _, bytes) in batches {
        let path = format!("/batches/enrow/{id}");
        let (_, length) = ask(&mut stream, &path).await;
        assert!((bytes..bytes + bytes / 4).contains(&length), "{id}: {length} bytes");
        let mut times = Vec::new();
        for _ in 0..60 {
            let since = Instant::now();
            ask(&mut stream, &path).await;
            times.push(since.elapsed());
        }
        // Without TCP_NODELAY nearly all wait for an ACK; on a busy machine a part of them is slow for other reasons.
        times.sort();
        assert!(times[15] < DELAYED_ACK, "{id}: {times:?}");
    }
}

#[tokio::test]
async fn an_offer_to_upgrade_is_ignored_and_the_connection_is_kept() {
    let gateway = Options::default().start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // As Java's HttpClient does with every request.
    let offer =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA\r\n";
    for path in ["/livez", "/batches/enrow/sandbox-completed", "/livez"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n{offer}\r\n");
        // In two pieces, the first of which ends within the offer.
        let (start, end) = request.split_at(request.find("grade").unwrap());
        stream.write_all(start.as_bytes()).await.unwrap();
        wait_until_read(gateway.address).await;
        stream.write_all(end.as_bytes()).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(!head.contains("connection:") && !head.contains("upgrade"), "{head}");
    }
    stream.write_all(format!("OPTIONS * HTTP/1.1\r\nhost: gateway\r\n{offer}\r\n").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 204");
}

#[tokio::test]
async fn answers_say_that_a_connection_outlives_the_minute_of_proxies() {
    let gateway = Options::default().start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let (head, _) = ask(&mut stream, "/livez").await;
    assert!(head.contains("\r\nkeep-alive: timeout=75\r\n"), "{head}");
    let (head, _) = ask(&mut stream, "/nowhere").await;
    assert!(head.starts_with("HTTP/1.1 404 ") && head.contains("\r\nkeep-alive: timeout=75\r\n"), "{head}");
    let last = raw_get(gateway.address, "/livez").await;
    assert_eq!((last.header("connection"), last.header("keep-alive")), (Some("close"), None));
}

/// Asks again and again until nobody listens any more: on one connection, and on a new one after an answer that says so.
/// Counts the answers, and the connections that ended without one.
async fn ask_until_refused(address: SocketAddr) -> (usize, usize, Instant) {
    let (mut answered, mut lost) = (0, 0);
    while let Ok(mut stream) = TcpStream::connect(address).await {
        loop {
            let Ok(head) = try_ask(&mut stream, READ).await else {
                lost += 1;
                break;
            };
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            answered += 1;
            if head.contains("\r\nconnection: close\r\n") {
                break;
            }
        }
    }
    (answered, lost, Instant::now())
}

#[tokio::test]
async fn a_rolling_deploy_loses_no_request_of_callers_who_keep_connections() {
    const DELAY: Duration = Duration::from_secs(2);
    let mut gateway = Options::default().set("server.shutdown_delay", "2s").spawn().await;
    gateway.get(READ).await.batch();
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        callers.spawn(ask_until_refused(gateway.address));
    }
    let busy = eventually("all are being served");
    while !busy.is(gateway.metric("http_requests_total", &["status=\"200\""]).await > 2_000).await {}
    let since = Instant::now();
    gateway.process.terminate();
    let not_ready = eventually("load balancers are told");
    loop {
        let reply = gateway.get("/readyz").await;
        if not_ready.is(reply.status == 503).await {
            reply.assert_problem(503, "shutting_down");
            assert_eq!(reply.header("connection"), Some("close"));
            break;
        }
    }
    for (answered, lost, refused) in callers.join_all().await {
        assert!(answered > 0);
        assert_eq!(lost, 0, "of {answered} requests");
        assert!(refused - since >= DELAY, "refused after {:?}", refused - since);
    }
    assert_eq!(gateway.process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        // Longer than is waited for the end.
        let mut gateway = Options::default().set("server.shutdown_delay", "5m").spawn().await;
        gateway.process.terminate();
        let stopping = eventually("the first signal is seen");
        while !stopping.is(gateway.process.lines().iter().any(|line| line.contains("stopping"))).await {}
        assert_eq!(gateway.get("/readyz").await.status, 503, "it goes on answering");
        gateway.process.signal(name);
        assert_eq!(gateway.process.exit().await.code(), Some(code));
    }
}
