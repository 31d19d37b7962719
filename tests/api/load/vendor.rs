//! A vendor that always needs the same time for an answer and has every batch that it is asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

pub(super) struct Paced {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Paced {
    /// Answers after `pace` with a completed batch of one result; that of the batch `large` has so many.
    pub(super) async fn start(pace: Duration, large: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, calls) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counter), pace, large));
            }
        });
        Self { address, calls }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    pub(super) fn calls_since(&self, before: usize) -> f64 {
        f64::from(u32::try_from(self.calls() - before).unwrap())
    }
}

async fn serve(mut stream: TcpStream, calls: Arc<AtomicUsize>, pace: Duration, large: usize) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        calls.fetch_add(1, Relaxed);
        let head = String::from_utf8(std::mem::take(&mut buffer)).ok()?;
        let id = head.split_once("id=")?.1.split(' ').next()?;
        sleep(pace).await;
        let body = batch(id, if id == "large" { large } else { 1 });
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(body.as_bytes()).await.ok()?;
    }
}

/// A completed batch in the vendor's own words.
fn batch(id: &str, results: usize) -> String {
    let result = |index: usize| {
        json!({
            "index": index,
            "number": "+15705551234",
            "country": "US",
            "qualification": "found",
            "params": {"linkedin_url": format!("https://www.linkedin.com/in/{}", "x".repeat(200))},
        })
    };
    json!({
        "general": {"id": id, "status": "completed"},
        "stats": {"requested": results, "found": results},
        "results": (0..results).map(result).collect::<Vec<_>>(),
    })
    .to_string()
}
