//! What all vendors share: connections and limits.

use std::error::Error;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{NoProxy, redirect};
use tokio::time::Instant;

use super::{ProviderError, ProviderErrorKind};
use crate::clock::Clock;
use crate::settings;
use crate::telemetry::{self, Metrics};

/// What all vendors share: connections and limits.
#[derive(Clone, Debug)]
pub struct Transport {
    pub(super) limits: settings::Http,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) const TOO_SLOW: ProviderError =
    ProviderError::temporary(ProviderErrorKind::Timeout, "no whole answer came in time");
/// How much of a cause is logged, in characters: it may repeat the names in a certificate.
const MAX_CAUSE_LENGTH: usize = 200;

/// What a connection to a vendor that broke means. Its innermost cause is logged: that has neither the URL nor anything
/// that was sent.
pub(super) fn failure(provider: &'static str, error: &reqwest::Error) -> ProviderError {
    use ProviderErrorKind::Unreachable;
    let cause = iter::successors(error.source(), |&error| error.source()).last();
    let cause = cause.map(|cause| cause.to_string().chars().take(MAX_CAUSE_LENGTH).collect::<String>());
    let request_id = telemetry::current_request_id();
    tracing::warn!(
        request_id = request_id.as_deref(),
        provider,
        cause,
        "the connection to the vendor failed"
    );
    if error.is_timeout() {
        TOO_SLOW
    } else if error.is_connect() {
        ProviderError::temporary(Unreachable, "no connection could be made")
    } else if error.is_body() || error.is_decode() {
        ProviderError::temporary(Unreachable, "the connection broke in the middle of the answer")
    } else {
        ProviderError::temporary(Unreachable, "the connection broke before an answer came")
    }
}

impl Transport {
    /// A transport with the given limits.
    ///
    /// # Errors
    /// When the TLS backend or the proxy cannot be set up.
    pub fn new(limits: settings::Http, clock: Clock, metrics: Arc<Metrics>) -> reqwest::Result<Self> {
        // Whether it can be done is known before the first vendor needs it.
        Self::client(&limits)?.build()?;
        Ok(Self { limits, clock, metrics })
    }

    fn client(limits: &settings::Http) -> reqwest::Result<reqwest::ClientBuilder> {
        let client = reqwest::Client::builder()
            .connect_timeout(limits.connect_timeout)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        Ok(match &limits.proxy {
            settings::Proxy::None => client.no_proxy(),
            settings::Proxy::Environment => client,
            settings::Proxy::Url(url) => {
                // What is on this machine is not reached, and no key sent in plain text, by way of another one.
                let direct = NoProxy::from_string("localhost,127.0.0.0/8,::1");
                client.proxy(reqwest::Proxy::all(url.clone())?.no_proxy(direct))
            }
        })
    }

    /// Connections for requests that may be sent again; they are kept open.
    pub(super) fn read_client(&self) -> reqwest::Result<reqwest::Client> {
        Self::client(&self.limits)?.build()
    }

    /// Connections for requests that change something, of which an attempt has at least `attempt`.
    pub(super) fn write_client(&self, attempt: Duration) -> reqwest::Result<reqwest::Client> {
        // Connecting must have failed well before the attempt is given up: only then is it known that nothing was sent.
        let connect_timeout = self.limits.connect_timeout.min(attempt / 2);
        // Each request on a connection of its own: one that was kept open may have been closed by the vendor meanwhile,
        // and nobody could tell whether the request still arrived.
        Self::client(&self.limits)?.connect_timeout(connect_timeout).pool_max_idle_per_host(0).build()
    }

    /// When a read that begins now must be over.
    #[must_use]
    pub fn read_deadline(&self) -> Instant {
        Instant::now() + self.limits.read_deadline
    }

    /// For how long a submission with all its steps may take.
    #[must_use]
    pub fn submit_time(&self) -> Duration {
        self.limits.submit_deadline
    }
}
