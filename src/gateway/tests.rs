use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::batch::Batch;
use crate::cache::CacheStatus;
use crate::http::{ProviderError, ProviderErrorKind, SubmitError};
use crate::providers::{Order, Recovered};
use crate::settings::StoreUrl;

/// A vendor whose adapter has a defect that only the first read meets.
#[derive(Debug)]
struct Defective {
    reads: AtomicUsize,
    go_on: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

const NOT_FOUND: ProviderError = ProviderError::permanent(ProviderErrorKind::BatchNotFound, "no such batch");

#[async_trait]
impl Provider for Defective {
    fn info(&self) -> &'static Info {
        VENDORS[0].info
    }

    async fn fetch(&self, _: &BatchId, _: &Call) -> Result<Batch, ProviderError> {
        if self.reads.fetch_add(1, Ordering::Relaxed) == 0 {
            self.go_on.lock().await.take().unwrap().await.unwrap();
            panic!("a defect");
        }
        Err(NOT_FOUND)
    }

    async fn submit(&self, _: &Order<'_>, _: &Call) -> Result<Batch, SubmitError> {
        Err(SubmitError::NotSent(NOT_FOUND))
    }

    fn recover<'r>(&'r self, submissions: &'r [SubmissionId], _: &'r Call) -> BoxStream<'r, Recovered> {
        stream::iter(submissions.iter().map(|_| Err(NOT_FOUND))).boxed()
    }

    async fn stop(&self, _: &BatchId, _: &Call) -> Result<(), ProviderError> {
        Err(NOT_FOUND)
    }

    fn webhook(&self, _: &[u8]) -> Option<BatchId> {
        None
    }
}

async fn gateway() -> (Gateway, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::from_variables(None, [("PHONE_GATEWAY__AUTH__MODE", "none")]).unwrap();
    let (clock, metrics) = (Clock::default(), Arc::new(Metrics::new()));
    let url = StoreUrl::Sqlite(directory.path().join("store.db"));
    let store = Store::open(&url, clock.clone()).await.unwrap();
    let transport = Transport::new(settings.http.clone(), clock.clone(), Arc::clone(&metrics)).unwrap();
    let cache = Cache::new(1 << 20, clock.clone());
    let gateway = Gateway::new(&settings, store, cache, transport, clock, Handle::current(), metrics);
    (gateway.unwrap(), directory)
}

#[tokio::test]
async fn a_read_that_panics_takes_nobody_down_who_joined_it() {
    let ((gateway, _directory), client) = (gateway().await, Client::anonymous());
    let (go, go_on) = oneshot::channel();
    let defective =
        Arc::new(Defective { reads: AtomicUsize::new(0), go_on: tokio::sync::Mutex::new(Some(go_on)) });
    let provider: Arc<dyn Provider> = Arc::<Defective>::clone(&defective);
    let id = "x".parse().unwrap();
    let context =
        RequestContext { request_id: "r".into(), trace: TraceContext::start(), began: Instant::now().into() };
    let read = || gateway.get(&provider, &id, &client, &context);
    // Polled in this order: the last one lets the read go on when the others wait for it.
    let ((started, _), (joined, _), ()) = tokio::join!(read(), read(), async { go.send(()).unwrap() });
    assert_eq!(started.unwrap_err().code, Code::InternalError);
    assert_eq!(joined.unwrap_err().code, Code::BatchNotFound);
    let (again, status) = read().await;
    assert_eq!((again.unwrap_err().code, status), (Code::BatchNotFound, CacheStatus::Hit));
    assert_eq!(defective.reads.load(Ordering::Relaxed), 2);
}
