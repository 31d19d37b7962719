use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use tokio::time::Instant;

use super::*;
use crate::batch::Batch;
use crate::cache::CacheStatus;
use crate::http::{ProviderError, ProviderErrorKind, SubmitError};
use crate::providers::{Order, Recovered, RunningBatch};
use crate::settings::StoreUrl;

/// A vendor whose adapter has defects.
#[derive(Debug, Default)]
struct Defective {
    reads: AtomicUsize,
    /// How many of the first reads panic.
    bad_reads: usize,
    /// The first of them does so after this.
    go_on: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
    /// How many more times what is known of the vendor cannot be told.
    bad_infos: AtomicUsize,
}

const NOT_FOUND: ProviderError = ProviderError::permanent(ProviderErrorKind::BatchNotFound, "no such batch");

#[async_trait]
impl Provider for Defective {
    fn info(&self) -> &'static Info {
        let fewer = |left: usize| left.checked_sub(1);
        let is_bad = self.bad_infos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok();
        assert!(!is_bad, "another defect");
        VENDORS[0].info
    }

    async fn fetch(&self, _: &BatchId, _: &Call) -> Result<Batch, ProviderError> {
        if self.reads.fetch_add(1, Ordering::Relaxed) < self.bad_reads {
            if let Some(go_on) = self.go_on.lock().await.take() {
                go_on.await.unwrap();
            }
            let number = "+15705551234";
            panic!("a defect near {number}");
        }
        Err(NOT_FOUND)
    }

    async fn submit(&self, _: &Order<'_>, _: &Call) -> Result<Batch, SubmitError> {
        Err(SubmitError::NotSent(NOT_FOUND))
    }

    fn recover<'r>(&'r self, submissions: &'r [SubmissionId], _: &'r Call) -> BoxStream<'r, Recovered> {
        stream::iter(submissions.iter().map(|_| Err(NOT_FOUND))).boxed()
    }

    async fn list_running(&self, _: &Call) -> Result<HashMap<BatchId, RunningBatch>, ProviderError> {
        Err(NOT_FOUND)
    }

    async fn stop(&self, _: &BatchId, _: &Call) -> Result<(), ProviderError> {
        Err(NOT_FOUND)
    }

    fn webhook(&self, _: &[u8]) -> Option<BatchId> {
        None
    }
}

/// A gateway to this vendor alone.
async fn gateway(vendor: &Arc<Defective>) -> (Gateway, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let slug = VENDORS[0].info.slug;
    let key = format!("PHONE_GATEWAY__PROVIDERS__{}__API_KEY", slug.to_uppercase());
    let variables = [("PHONE_GATEWAY__AUTH__MODE", "none"), (&*key, "key")];
    let settings = Settings::from_variables(None, variables).unwrap();
    let (clock, metrics) = (Clock::default(), Arc::new(Metrics::new()));
    let url = StoreUrl::Sqlite(directory.path().join("store.db"));
    let store = Store::open(&url, clock.clone()).await.unwrap();
    let transport = Transport::new(settings.http.clone(), clock.clone(), Arc::clone(&metrics)).unwrap();
    let cache = Cache::new(1 << 20, clock.clone());
    let gateway = Gateway::new(&settings, store, cache, transport, clock, Handle::current(), metrics);
    let mut gateway = gateway.unwrap();
    let inner = Arc::get_mut(&mut gateway.inner).unwrap();
    inner.vendors.get_mut(slug).unwrap().provider = Arc::<Defective>::clone(vendor);
    (gateway, directory)
}

fn context(request_id: &str) -> RequestContext {
    RequestContext {
        request_id: request_id.into(),
        trace: TraceContext::start(),
        began: Instant::now().into(),
    }
}

/// Waits until the follower has polled the batch.
async fn is_polled(gateway: &Gateway, vendor: &Defective, id: &BatchId) {
    let before = vendor.reads.load(Ordering::Relaxed);
    assert!(gateway.inner.store.hint(VENDORS[0].info.slug, id, Duration::ZERO, true).await.unwrap());
    let polled = async {
        while vendor.reads.load(Ordering::Relaxed) == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), polled).await.expect("the batch is polled");
}

#[tokio::test]
async fn a_read_that_panics_takes_nobody_down_who_joined_it() {
    let (go, go_on) = oneshot::channel();
    let go_on = tokio::sync::Mutex::new(Some(go_on));
    let defective = Arc::new(Defective { bad_reads: 1, go_on, ..Defective::default() });
    let ((gateway, _directory), client) = (gateway(&defective).await, Client::anonymous());
    let provider: Arc<dyn Provider> = Arc::<Defective>::clone(&defective);
    let (id, context) = ("x".parse().unwrap(), context("r"));
    let read = || gateway.get(&provider, &id, &client, &context);
    // Polled in this order: the last one lets the read go on when the others wait for it.
    let ((started, _), (joined, _), ()) = tokio::join!(read(), read(), async { go.send(()).unwrap() });
    assert_eq!(started.unwrap_err().code, Code::InternalError);
    assert_eq!(joined.unwrap_err().code, Code::BatchNotFound);
    let (again, status) = read().await;
    assert_eq!((again.unwrap_err().code, status), (Code::BatchNotFound, CacheStatus::Hit));
    assert_eq!(defective.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_follower_that_panics_starts_again() {
    let vendor = Arc::new(Defective::default());
    let (gateway, _directory) = gateway(&vendor).await;
    vendor.bad_infos.store(2, Ordering::Relaxed);
    gateway.begin_to_follow(true).await;
    is_polled(&gateway, &vendor, &"x".parse().unwrap()).await;
    assert!(gateway.inner.metrics.encode(0).unwrap().contains("follower_restarts_total 2\n"));
    gateway.begin_stop();
}

/// Says to the test binary that it is the child of the test below, whose panics are the only ones of its process.
const CHILD: &str = "PHONE_GATEWAY_PANICS";

#[tokio::test]
async fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let settings = Settings::from_variables(None, [("PHONE_GATEWAY__AUTH__MODE", "none")]).unwrap();
    let log = telemetry::init(&settings.log).unwrap();
    let vendor = Arc::new(Defective { bad_reads: 2, ..Defective::default() });
    let (gateway, _directory) = gateway(&vendor).await;
    let provider: Arc<dyn Provider> = Arc::<Defective>::clone(&vendor);
    let (id, client, context) = ("x".parse().unwrap(), Client::anonymous(), context("read"));
    let (read, _) = gateway.get(&provider, &id, &client, &context).await;
    assert_eq!(read.unwrap_err().code, Code::InternalError);
    let blocking = async {
        Handle::current().spawn_blocking(telemetry::blocking_on_behalf_of(|| panic!("in a thread"))).await
    };
    let blocking = telemetry::on_behalf_of(Arc::from("blocking"), blocking);
    assert!(blocking.await.is_err());
    gateway.begin_to_follow(true).await;
    is_polled(&gateway, &vendor, &"y".parse().unwrap()).await;
    vendor.bad_infos.store(1, Ordering::Relaxed);
    is_polled(&gateway, &vendor, &"z".parse().unwrap()).await;
    gateway.begin_stop();
    drop(log);
    println!("\n{}", gateway.inner.metrics.encode(0).unwrap());
}

#[test]
fn every_panic_is_counted_and_logged_under_its_request() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args(["gateway::tests::child", "--exact", "--nocapture"]).env(CHILD, "yes");
    let output = child.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("5705551234") && !String::from_utf8_lossy(&output.stderr).contains("5705551234"));
    let log: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok()).collect();
    let panics: Vec<_> = log.iter().filter(|line| line["message"] == "panic").collect();
    assert_eq!(panics.len(), 4, "{text}");
    let here = |line: &serde_json::Value| line["location"].as_str().unwrap().contains("gateway/tests.rs:");
    assert!(panics.iter().all(|line| line["level"] == "ERROR" && here(line)), "{panics:?}");
    let told: Vec<_> =
        panics.iter().map(|line| (line["request_id"].as_str(), line["text"].as_str())).collect();
    assert_eq!(told[..2], [(Some("read"), None), (Some("blocking"), Some("in a thread"))]);
    // The poll has an id of its own; the follower works for nobody.
    assert!(told[2].0.is_some_and(|id| id.len() == 36), "{told:?}");
    assert_eq!(told[3], (None, Some("another defect")));
    assert!(log.iter().any(|line| line["message"] == "the follower panicked and will be restarted"));
    assert!(text.contains("panics_total 4\n") && text.contains("follower_restarts_total 1\n"), "{text}");
}
