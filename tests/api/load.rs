//! More load than the gateway can carry, vendors that hang and clients that dawdle: what the others notice of it.
//!
//! A command of its own that prints its figures as ratios to what they are measured against, and whether each goal is
//! met. It fails only where an answer is wrong; `docs/faults.md` has the goals.
//!
//! ```sh
//! cargo test --release --test api -- --ignored --nocapture --test-threads=1 load
//! ```

mod figures;
mod vendor;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use self::figures::{Figures, Outcome, none, report};
use self::vendor::Paced;
use crate::helpers::{Answer, ChildGateway, Options, Replies, numbered_order};

/// The most that the gateway may hold, with the memory for batches that it has by default.
const MEMORY: u64 = 384 << 20;
/// How long the vendor takes for an answer.
const PACE: Duration = Duration::from_millis(40);
/// How long each load lasts.
const LASTS: Duration = Duration::from_secs(8);
/// A batch that is larger than all buffers on the way to a client.
const LARGE: usize = 8 << 20;

/// A gateway in a process of its own with the settings that it has by default.
async fn gateway(options: Options) -> ChildGateway {
    options.set("server.workers", "0").following().set("log.filter", "info,actix_server=warn").spawn().await
}

fn client() -> Client {
    Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(2)).build().unwrap()
}

/// One read of a batch, and how long it took.
async fn read(http: &Client, url: &str) -> Outcome {
    let since = Instant::now();
    let status = match http.get(url).timeout(Duration::from_secs(30)).send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            if response.bytes().await.is_ok() { status } else { 0 }
        }
        Err(_) => 0,
    };
    Outcome { status, took: since.elapsed() }
}

/// Reads of batches that nobody has read before, by so many callers who each wait for their answer.
async fn closed_loop(http: &Client, url: &str, ids: &Arc<AtomicUsize>, callers: usize) -> Figures {
    let (until, mut tasks) = (Instant::now() + LASTS / 2, JoinSet::new());
    for _ in 0..callers {
        let (http, url, ids) = (http.clone(), url.to_owned(), Arc::clone(ids));
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            while Instant::now() < until {
                let id = ids.fetch_add(1, Relaxed);
                outcomes.push(read(&http, &format!("{url}/batches/enrow/cold-{id}")).await);
            }
            outcomes
        });
    }
    Figures::new(tasks.join_all().await.concat(), LASTS / 2)
}

/// Reads of batches that nobody has read before, so many a second, whether answers come or not.
async fn open_loop(http: &Client, url: &str, ids: &Arc<AtomicUsize>, rate: f64, lasts: Duration) -> Figures {
    let (began, mut tasks) = (tokio::time::Instant::now(), JoinSet::new());
    let mut at = Duration::ZERO;
    while at < lasts {
        sleep_until(began + at).await;
        let (http, url) = (http.clone(), format!("{url}/batches/enrow/cold-{}", ids.fetch_add(1, Relaxed)));
        tasks.spawn(async move { read(&http, &url).await });
        at += Duration::from_secs_f64(1.0 / rate);
    }
    Figures::new(tasks.join_all().await, lasts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: a command of its own"]
async fn three_times_as_many_reads_as_the_vendor_can_answer() {
    let vendor = Paced::start(PACE, 1).await;
    let gateway = gateway(Options::default().vendor("enrow", "base_url", vendor.url())).await;
    let (http, ids) = (client(), Arc::new(AtomicUsize::new(0)));
    let mut peak = 0.0_f64;
    for callers in [4, 8, 16, 32] {
        peak = peak.max(closed_loop(&http, &gateway.url, &ids, callers).await.useful());
    }
    let calls = vendor.calls();
    let over = open_loop(&http, &gateway.url, &ids, 3.0 * peak, LASTS).await;
    let refusals = over.refusals(0.99);
    none("L1", "answers other than 200, 429 and 503", over.others());
    report("L1", "useful answers of the peak at 3 x the knee", over.useful() / peak, 0.9..);
    report("L1", "99 % of refusals against 20 ms", refusals.as_secs_f64() / 0.02, ..=1.0);
    report("L1", "vendor calls for each useful answer", vendor.calls_since(calls) / over.count(200), ..=1.2);
    let since = Instant::now();
    loop {
        let after = open_loop(&http, &gateway.url, &ids, 0.5 * peak, Duration::from_secs(1)).await;
        if after.all_useful() || since.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    let normal = since.elapsed().saturating_sub(Duration::from_secs(1));
    report("L1", "time until all is well again against 5 s", normal.as_secs_f64() / 5.0, ..=1.0);
    memory(&gateway, "L1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: a command of its own"]
async fn a_vendor_that_hangs() {
    let hanging = Replies::start().await;
    hanging.on("", Answer::none());
    let gateway = gateway(Options::default().vendor("enrow", "base_url", hanging.url())).await;
    let http = client();
    let path = format!("{}/batches/experian/sandbox-completed", gateway.url);
    assert_eq!(read(&http, &path).await.status, 200);
    let alone = others(&http, &gateway, &path, "alone").await;
    let over = Arc::new(AtomicBool::new(false));
    let mut stuck = JoinSet::new();
    for caller in 0..100 {
        let (http, url, over) = (http.clone(), gateway.url.clone(), Arc::clone(&over));
        stuck.spawn(async move {
            let mut outcomes = Vec::new();
            while !over.load(Relaxed) {
                let url = format!("{url}/batches/enrow/stuck-{caller}-{}", outcomes.len());
                outcomes.push(read(&http, &url).await);
                // Whoever is refused at once comes again soon, as callers do.
                sleep(Duration::from_millis(50)).await;
            }
            outcomes
        });
    }
    let beside = others(&http, &gateway, &path, "beside").await;
    over.store(true, Relaxed);
    let stuck = Figures::new(stuck.join_all().await.concat(), LASTS);
    let wrong = |figures: &Figures| figures.total() - figures.count(200) - figures.count(202);
    let slower = beside.quantile(0.99).as_secs_f64() / alone.quantile(0.99).as_secs_f64();
    none("L2", "errors of the other vendor and of reads from memory", wrong(&beside));
    report("L2", "99 % of them beside the vendor that hangs against alone", slower, ..);
    report("L2", "their rate beside the vendor that hangs against alone", beside.rate() / alone.rate(), ..);
    report(
        "L2",
        "answers other than 429, 502, 503 and 504 of the one that hangs",
        stuck.not_failures(),
        ..=0.0,
    );
    memory(&gateway, "L2");
}

/// Reads from memory and of a running batch, and submissions, of the vendor that is well.
async fn others(http: &Client, gateway: &ChildGateway, path: &str, key: &'static str) -> Figures {
    let (until, mut tasks) = (Instant::now() + LASTS, JoinSet::new());
    for _ in 0..4 {
        let (http, path) = (http.clone(), path.to_owned());
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            while Instant::now() < until {
                outcomes.push(read(&http, &path).await);
            }
            outcomes
        });
    }
    let (http, url) = (http.clone(), gateway.url.clone());
    tasks.spawn(async move {
        let mut outcomes = Vec::new();
        while Instant::now() < until {
            let number = outcomes.len();
            let submission = http
                .post(format!("{url}/batches/experian"))
                .header("idempotency-key", format!("{key}-{number}"))
                .header("content-type", "application/json")
                .body(numbered_order("experian", number).to_string());
            let since = Instant::now();
            let status = submission.send().await.map_or(0, |response| response.status().as_u16());
            outcomes.push(Outcome { status, took: since.elapsed() });
            outcomes.push(read(&http, &format!("{url}/batches/experian/sandbox-running")).await);
            // The vendor counts every call: 150 a minute, polls included.
            sleep(Duration::from_millis(1_500)).await;
        }
        outcomes
    });
    Figures::new(tasks.join_all().await.concat(), LASTS)
}

/// What a client does that keeps a connection busy with nothing.
#[derive(Clone, Copy, Debug)]
enum Dawdler {
    SaysNothing,
    DripsItsHead,
    DripsItsSecondHead,
    DripsItsBody,
    ReadsNothing,
}

const DAWDLERS: [Dawdler; 5] = [
    Dawdler::SaysNothing,
    Dawdler::DripsItsHead,
    Dawdler::DripsItsSecondHead,
    Dawdler::DripsItsBody,
    Dawdler::ReadsNothing,
];

impl Dawdler {
    /// Holds a connection for as long as the gateway lets it.
    async fn dawdle(self, address: SocketAddr) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n");
        match self {
            Self::SaysNothing => drop(stream.read(&mut [0; 1024]).await?),
            Self::DripsItsHead => drip(&mut stream).await?,
            Self::DripsItsSecondHead => {
                stream.write_all(get("/livez").as_bytes()).await?;
                stream.read_exact(&mut [0; 64]).await?;
                drip(&mut stream).await?;
            }
            Self::DripsItsBody => {
                let head = "POST /batches/enrow HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n\
                            idempotency-key: slow\r\ncontent-length: 100000\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                drip(&mut stream).await?;
            }
            Self::ReadsNothing => {
                stream.write_all(get("/batches/enrow/large").as_bytes()).await?;
                // Asleep, it does not see that the gateway has closed; the next round begins when it would have.
                sleep(Duration::from_secs(12)).await;
            }
        }
        Ok(())
    }
}

/// A byte of a header twice a second, until the other side closes.
async fn drip(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    writer.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await?;
    loop {
        writer.write_all(b"x").await?;
        let mut answer = [0; 1024];
        if let Ok(read) = timeout(Duration::from_millis(500), reader.read(&mut answer)).await
            && read? == 0
        {
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: a command of its own"]
async fn a_thousand_slow_connections() {
    let vendor = Paced::start(PACE, LARGE / 256).await;
    let gateway = gateway(Options::default().vendor("enrow", "base_url", vendor.url())).await;
    let (http, over) = (client(), Arc::new(AtomicBool::new(false)));
    let large = http.get(format!("{}/batches/enrow/large", gateway.url)).send().await.unwrap();
    assert!(large.bytes().await.unwrap().len() >= LARGE, "larger than all buffers");
    let path = format!("{}/batches/experian/sandbox-completed", gateway.url);
    assert_eq!(read(&http, &path).await.status, 200);
    let (open, mut dawdlers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for nth in 0..1_000 {
        let (over, open, address) = (Arc::clone(&over), Arc::clone(&open), gateway.address);
        dawdlers.spawn(async move {
            while !over.load(Relaxed) {
                open.fetch_add(1, Relaxed);
                // However it ends, the next one comes at once.
                drop(DAWDLERS[nth % DAWDLERS.len()].dawdle(address).await);
                open.fetch_sub(1, Relaxed);
            }
        });
    }
    while open.load(Relaxed) < 1_000 {
        sleep(Duration::from_millis(10)).await;
    }
    let (health, normal) =
        tokio::join!(paced(&http, format!("{}/livez", gateway.url)), paced(&http, path.clone()));
    over.store(true, Relaxed);
    dawdlers.abort_all();
    let p99 = health.quantile(0.99).as_secs_f64();
    report("L3", "99 % of health checks against 100 ms", p99 / 0.1, ..=1.0);
    report("L3", "health checks that succeed", health.count(200) / health.total(), 1.0..);
    report("L3", "normal requests that succeed", normal.count(200) / normal.total(), 0.999..);
    memory(&gateway, "L3");
}

/// One request every 5 ms for long enough that every slow connection reaches its limit.
async fn paced(http: &Client, url: String) -> Figures {
    let (lasts, mut tasks) = (Duration::from_secs(20), JoinSet::new());
    let began = tokio::time::Instant::now();
    for nth in 0..lasts.as_millis() / 5 {
        sleep_until(began + Duration::from_millis(5 * u64::try_from(nth).unwrap())).await;
        let (http, url) = (http.clone(), url.clone());
        tasks.spawn(async move { read(&http, &url).await });
    }
    Figures::new(tasks.join_all().await, lasts)
}

/// What the gateway held at most, against what it may hold.
fn memory(gateway: &ChildGateway, row: &str) {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = gateway.process.peak_memory() as f64 / MEMORY as f64;
    report("L5", &format!("memory during {row} against {} MiB", MEMORY >> 20), ratio, ..=1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: a command of its own"]
async fn every_fault_of_a_vendor_one_after_the_other() {
    let vendor = Replies::start().await;
    let gateway = gateway(Options::default().vendor("enrow", "base_url", vendor.url())).await;
    let http = client();
    let endless = |unit: &str| {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, unit.repeat((1 << 20) / unit.len()));
        Answer::raw(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk.repeat(40)))
    };
    let whole = |unit: &str| {
        let items = unit.repeat((31 << 20) / unit.len());
        let body = format!("{{\"general\":{{\"id\":\"x\"}},\"results\":[{items}null]}}");
        Answer::new(200, &[("content-type", "application/json")], body.as_bytes())
    };
    let nested = "[],".repeat((31 << 20) / 3);
    let custom = format!("{{\"general\":{{\"id\":\"x\",\"custom\":{{\"x\":[{nested}null]}}}}}}");
    let custom = Answer::new(200, &[("content-type", "application/json")], custom.as_bytes());
    let answers = [
        ("endless text", endless("x")),
        ("endless arrays", endless("[")),
        ("many results without anything", whole("{},")),
        ("many results with a number", whole("{\"number\":\"+15705551234\",\"qualification\":\"found\"},")),
        ("a caller's own data without end", custom),
        ("nothing", Answer::raw("")),
        ("a redirect", Answer::new(302, &[("location", "http://127.0.0.1:1/")], b"")),
        ("a gzip header", Answer::new(200, &[("content-encoding", "gzip")], b"\x1f\x8b\x08\x00")),
    ];
    for (name, answer) in answers {
        vendor.clear();
        vendor.on("", answer);
        let mut readers = JoinSet::new();
        for nth in 0..8 {
            let (http, url) = (http.clone(), format!("{}/batches/enrow/fault-{nth}", gateway.url));
            readers.spawn(async move { read(&http, &url).await });
        }
        let figures = Figures::new(readers.join_all().await, LASTS);
        none("L5", &format!("answers to {name} that say something else"), figures.not_failures());
    }
    let health = http.request(Method::GET, format!("{}/livez", gateway.url)).send().await.unwrap();
    assert_eq!(health.status(), 200);
    memory(&gateway, "faults of a vendor");
}
