//! Connections that callers and proxies keep open: how fast they are, how long they stay, and how they end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::helpers::{Answer, Options, Replies, eventually, has_read_everything, raw_get};

/// Linux delays an ACK by at least this.
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// Asks for a path on a connection that stays open: the head of the answer and the number of bytes of its body.
async fn ask(stream: &mut TcpStream, path: &str) -> (String, usize) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes()).await.unwrap();
    read_answer(stream).await
}

async fn read_answer(stream: &mut TcpStream) -> (String, usize) {
    let mut answer = Vec::with_capacity(64 * 1024);
    loop {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        let Some(end) = answer.windows(4).take(4096).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end + 2]).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length = length.parse().unwrap();
        if answer.len() == end + 4 + length {
            return (head.to_owned(), length);
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
