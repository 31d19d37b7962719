//! A clock that jumps: only what is a matter of the time of day moves with it.

use std::time::{Duration, Instant};

use crate::helpers::{Answer, Options, Replies, eventually};

#[tokio::test]
async fn a_clock_that_jumps_an_hour_moves_no_deadline() {
    let vendor = Replies::start().await;
    vendor.on("", Answer::none());
    let gateway = Options::default().scripted(&vendor).start().await;
    for (nth, hours) in [1, -2].into_iter().enumerate() {
        let id = format!("x{nth}");
        let since = Instant::now();
        let jump = async {
            let called = eventually("the vendor is called");
            while !called.is(vendor.requests().len() > nth).await {}
            gateway.advance_seconds(hours * 3_600);
        };
        let (reply, ()) = tokio::join!(gateway.batch("enrow", &id), jump);
        reply.assert_problem(504, "provider_timeout");
        let took = since.elapsed();
        assert!((Duration::from_millis(450)..Duration::from_secs(3)).contains(&took), "{hours} h: {took:?}");
    }
}
