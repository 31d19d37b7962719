//! The slowest faults with the settings as they are, side by side.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::helpers::{Answer, Options, Replies, full_backlog};

/// When every read is over, whatever the vendor does.
const BOUND: Duration = Duration::from_secs(13);

#[tokio::test]
async fn every_slow_fault_ends_within_the_time_that_is_promised() {
    let (full, _listener, _waiting) = full_backlog().await;
    let scripted = Replies::start().await;
    scripted.on("/hangs", Answer::none());
    let mut drips = Answer::new(200, &[], &[b' '; 10_000]);
    drips.drip = Some(Duration::from_millis(500));
    scripted.on("/drips", drips);
    let mut stalls = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{");
    stalls.then_hang = true;
    scripted.on("/stalls", stalls);
    let options = Options::default().vendor("enrow", "base_url", format!("http://{full}"));
    let gateway = options.vendor("experian", "base_url", scripted.url()).start().await;
    let reads = [("enrow", "connects"), ("experian", "hangs"), ("experian", "drips"), ("experian", "stalls")];
    let ended = reads.map(|(slug, id)| {
        let gateway = &gateway;
        async move {
            let since = Instant::now();
            (gateway.batch(slug, id).await, id, since.elapsed())
        }
    });
    for (reply, id, took) in join_all(ended).await {
        reply.assert_problem(504, "provider_timeout");
        assert!(took <= BOUND, "{id}: {took:?}");
    }
}
