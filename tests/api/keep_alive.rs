//! Connections that callers and proxies keep open: how fast they are, how long they stay, and how they end.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::helpers::{Answer, Options, Replies};

/// Linux delays an ACK by at least this.
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// Asks for a path on a connection that stays open; the number of bytes of the body.
async fn ask(stream: &mut TcpStream, path: &str) -> usize {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::with_capacity(5_000_000);
    loop {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        let Some(end) = answer.windows(4).take(4096).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length = length.parse().unwrap();
        if answer.len() == end + 4 + length {
            return length;
        }
    }
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
        let length = ask(&mut stream, &path).await;
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
