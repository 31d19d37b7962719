//! A vendor's call back to its customer at the end of a batch.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde_json::Value;

use super::SimulatorState;

/// How often the clock is looked at: tests move it, so that nobody can sleep until the end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it is looked at before the batch is given up: one hour.
const LOOKS: u32 = 72_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Posts `body` to `url` once, when the batch has ended; the answer is ignored.
pub(super) fn post_at_end(state: SimulatorState, id: String, url: String, body: Value) {
    actix_web::rt::spawn(async move {
        for _ in 0..LOOKS {
            let Some(batch) = state.batch(&id) else { return };
            if batch.progress(state.clock.now()).done() {
                return post(&url, &body).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "here the vendor calls")]
async fn post(url: &str, body: &Value) {
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build();
    let sent = match client {
        Ok(client) => {
            client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string()).send().await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::info!(error = %error.without_url(), "a simulated webhook was not delivered");
    }
}
