//! A vendor of a test's own: it answers as told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Transport, VendorClient};
use crate::clock::Clock;
use crate::http::{Quota, QuotaScope};
use crate::rate::Rate;
use crate::settings::{ByteCount, Http, Proxy, StoreUrl};
use crate::store::Store;
use crate::telemetry::Metrics;

/// A request such as `GET /batches`, and the status and the body of its answer.
pub(crate) type Step = (&'static str, u16, String);

/// A listener that expects requests in an order, and answers 418 to any other.
pub(crate) struct Scripted {
    address: SocketAddr,
    steps: Arc<Mutex<VecDeque<Step>>>,
}

impl Scripted {
    pub(crate) async fn start(
        steps: impl IntoIterator<Item = (&'static str, u16, impl Into<String>)>,
    ) -> Self {
        let steps = steps.into_iter().map(|(request, status, body)| (request, status, body.into()));
        let steps: Arc<Mutex<VecDeque<Step>>> = Arc::new(Mutex::new(steps.collect()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::clone(&steps);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &script).await;
            }
        });
        Self { address, steps }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests are still expected.
    pub(crate) fn left(&self) -> usize {
        self.steps.lock().unwrap().len()
    }
}

/// One request on each connection; its body is not looked at.
async fn answer(mut stream: TcpStream, script: &Mutex<VecDeque<Step>>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (status, body) = {
        let mut steps = script.lock().unwrap();
        let expected = steps.pop_front_if(|(request, ..)| head.starts_with(&format!("{request} ")));
        expected.map_or((418, String::new()), |(_, status, body)| (status, body))
    };
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    // Closed by the other side first: what it still sends would reset the connection.
    drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
}

/// Limits that no test meets by accident.
pub(crate) fn limits() -> Http {
    Http {
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_secs(5),
        read_deadline: Duration::from_secs(12),
        submit_deadline: Duration::from_secs(20),
        max_body_bytes: ByteCount(1_000_000),
        attempts: 1,
        retry_budget: 20,
        max_in_flight: 16,
        max_waiting: 64,
        max_wait: Duration::from_secs(1),
        circuit_failures: 5,
        circuit_pause: Duration::from_secs(1),
        circuit_max_pause: Duration::from_mins(1),
        credentials_pause: Duration::from_nanos(1),
        proxy: Proxy::None,
    }
}

/// A store in a folder of its own.
pub(crate) async fn store(clock: Clock) -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Sqlite(folder.path().join("store.db"));
    (Store::open(&url, clock).await.unwrap(), folder)
}

/// The way to a vendor, and the folder of its store.
pub(crate) async fn vendor(
    url: &str,
    timeout: Duration,
    rate: Rate,
    limits: Http,
) -> (VendorClient, TempDir) {
    let clock = Clock::default();
    let (store, folder) = store(clock.clone()).await;
    let transport = Transport::new(limits, clock, Arc::new(Metrics::new())).unwrap();
    let quota = Quota::new(store, "vendor", rate, QuotaScope::AllCalls);
    let client = VendorClient::new(transport, "vendor", url, "x-api-key", &"k".into(), timeout, quota);
    (client.unwrap(), folder)
}
