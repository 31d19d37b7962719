//! The task that follows batches: it goes on until the gateway stops, whatever panics in it.
//!
//! What it begins, a poll or a look-up, is a task of its own. Where one of those panics, its lease in the store expires,
//! and the batch or the submission is due again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::Gateway;

/// How long the follower waits after its first panic; each further one doubles the wait.
const RESTART_BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait. A follower that ran for longer than this before its panic waits the shortest.
const MAX_RESTART_BACKOFF: Duration = Duration::from_mins(1);

impl Gateway {
    /// Follows until the gateway stops. With `alone`, no other process can be at work on the store: what it says is
    /// being sent was cut off.
    pub async fn begin_to_follow(&self, alone: bool) {
        self.expire_leases(alone).await;
        let gateway = self.clone();
        // Not among the work that a shutdown waits for: it has no end of its own.
        self.inner.runtime.spawn(async move { gateway.follow_after_panics(alone).await });
    }

    async fn follow_after_panics(&self, alone: bool) {
        let mut seen_until = self.now();
        let mut backoff = RESTART_BACKOFF;
        loop {
            let began = Instant::now();
            let follower = AssertUnwindSafe(self.follow(alone, &mut seen_until)).catch_unwind();
            let Err(_panic) = follower.await else { return };
            if began.elapsed() > MAX_RESTART_BACKOFF {
                backoff = RESTART_BACKOFF;
            }
            self.inner.metrics.follower_restart();
            tracing::error!(backoff = ?backoff, "the follower panicked and will be restarted");
            tokio::select! {
                () = self.inner.stopping.cancelled() => return,
                () = sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(MAX_RESTART_BACKOFF);
        }
    }
}
