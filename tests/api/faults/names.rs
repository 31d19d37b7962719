//! Names that cannot be looked up, or not in time.

use std::time::{Duration, Instant};

use phone_gateway::providers::VENDORS;

use super::assert_unsent;
use crate::helpers::{Options, Shim, Site, order};

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_is_unreachable_and_nothing_was_sent() {
    // A label of 64 letters is one too long: nobody has to be asked.
    let url = format!("https://{}.example", "x".repeat(64));
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let gateway = Options::default().vendor(slug, "base_url", &url).start().await;
        gateway.batch(slug, "x").await.assert_problem(502, "provider_unreachable");
        let reply = assert_unsent(&gateway, slug, "k", 502, "provider_unreachable").await;
        // Back under its own name, it gets the same order.
        let gateway = gateway.restart(Options::default()).await;
        let again = gateway.submit(slug, "k", &order(slug)).await;
        again.accepted();
        assert_eq!((again.submission(), gateway.batches(slug).await), (reply.submission(), 1));
    }
}

#[tokio::test]
async fn a_name_whose_look_up_takes_too_long_is_a_timeout_and_nothing_was_sent() {
    let options = Options::default().set("http.attempts", "1").set("http.connect_timeout", "300ms");
    let options = VENDORS.iter().fold(options, |options, vendor| {
        options.vendor(vendor.info.slug, "base_url", "https://vendor.example")
    });
    let site = Site::new(options).await;
    let replica = Shim::build().start(&site).await;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let since = Instant::now();
        replica.get(&format!("/batches/{slug}/x")).await.assert_problem(504, "provider_timeout");
        let reply = replica.submit(slug, slug, &order(slug)).await;
        reply.assert_problem(504, "provider_timeout");
        assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
        let submission = replica.get(&format!("/submissions/{}", reply.submission())).await;
        assert_eq!(submission.body["state"], "not_sent", "{slug}");
    }
}
