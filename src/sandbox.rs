//! Simulated vendors over real HTTP, so that nobody needs a vendor account to try or test the gateway.
//!
//! One server holds every simulator, each below `/<slug>`. What all of them share is here: the accounts,
//! a state with a clock for each ([`SimulatorState`]), the record of calls, faults on request ([`faults`]) and the admin
//! routes (`/admin/…`) that tests use to look at calls and money, to move the clock and to break things.

mod admin;
mod calls;
pub mod faults;
pub mod phones;
mod state;
mod webhook;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::clock::Clock;
pub use state::{Batch, Charges, Phase, Progress, RateLimitStatus, SimulatorState, later};

/// The key that every simulator accepts.
pub const API_KEY: &str = "sandbox";

/// Vendor requests above this size are refused; 10,000 records fit well below it.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// Connections waiting to be accepted: tests start thousands of clients at once.
const BACKLOG: u32 = 4096;

/// One vendor's simulator, as the list of providers holds it.
#[derive(Clone, Copy, Debug)]
pub struct Simulator {
    /// The vendor's name in paths: its API is simulated below `/<slug>`.
    pub slug: &'static str,
    /// Adds the vendor's whole API, with paths below `/<slug>`.
    pub routes: fn(&mut ServiceConfig),
    /// Ids that exist from the start.
    pub ready_made: &'static [ReadyMade],
    /// Credits on the account at the start.
    pub credits: u64,
    /// Calls that the vendor allows in one of its windows.
    pub rate_limit: u32,
    /// What the end of a batch changes on the account, besides what was charged at its submission.
    pub charges: fn(&Batch, &Progress) -> Charges,
}

/// A batch that exists from the start, to show one state or one error.
#[derive(Clone, Copy, Debug)]
pub struct ReadyMade {
    /// The vendor's batch id.
    pub id: &'static str,
    /// What reading it shows.
    pub shows: &'static str,
}

/// Whose key a call carries; the same keys at every vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// `sandbox`: everything is allowed.
    Good,
    /// `sandbox-no-credits`: nothing can be paid; Experian refuses every call.
    NoCredits,
    /// `sandbox-no-phones`: a plan without phone numbers.
    NoPhones,
    /// `sandbox-other-product`: a key of another product of the vendor.
    OtherProduct,
    /// `sandbox-disabled`: a key that was switched off.
    Disabled,
    /// Any other key.
    Unknown,
}

impl Account {
    /// The account behind a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        match key {
            API_KEY => Self::Good,
            "sandbox-no-credits" => Self::NoCredits,
            "sandbox-no-phones" => Self::NoPhones,
            "sandbox-other-product" => Self::OtherProduct,
            "sandbox-disabled" => Self::Disabled,
            _ => Self::Unknown,
        }
    }
}

/// How a sandbox runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long any batch takes, in time of the clock.
    pub batch_duration: Duration,
    /// Threads that serve calls.
    pub workers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch_duration: Duration::from_secs(8), workers: 1 }
    }
}

/// A running server of all given simulators; dropping it stops it.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    handle: ServerHandle,
    on_reset: OnReset,
}

/// What else happens when a simulator is reset.
#[derive(Clone, Default)]
struct OnReset(Arc<OnceLock<Reset>>);

type Reset = Box<dyn Fn(&'static str) -> BoxFuture<'static, ()> + Send + Sync>;

impl OnReset {
    async fn call(&self, slug: &'static str) {
        if let Some(reset) = self.0.get() {
            reset(slug).await;
        }
    }
}

impl fmt::Debug for OnReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnReset")
    }
}

impl Sandbox {
    /// Starts the simulators on `listen` (port 0: a free one), in threads of their own.
    ///
    /// No signal handler is installed: it runs until [`Sandbox::stop`] or until it is dropped.
    ///
    /// # Errors
    /// When the address cannot be bound or the threads cannot be started.
    pub async fn start(
        listen: SocketAddr,
        simulators: &[Simulator],
        clock: Clock,
        options: Options,
    ) -> io::Result<Self> {
        let states: Vec<SimulatorState> = simulators
            .iter()
            .map(|simulator| SimulatorState::new(*simulator, clock.clone(), options.batch_duration))
            .collect();
        let (started, starting) = oneshot::channel();
        let on_reset = OnReset::default();
        let called = on_reset.clone();
        // The runtime of the caller may end before its Sandbox does; this one ends with the server.
        thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(move || serve(listen, states, clock, options.workers, called, started))?;
        let (address, handle) =
            starting.await.unwrap_or_else(|_| Err(io::Error::other("the sandbox ended while starting")))?;
        Ok(Self { address, handle, on_reset })
    }

    /// Has `reset` run whenever a simulator is reset, before the reset is answered. Only the first one given counts.
    pub fn on_reset(&self, reset: impl Fn(&'static str) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        drop(self.on_reset.0.set(Box::new(reset)));
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of one vendor's API.
    #[must_use]
    pub fn base_url(&self, slug: &str) -> String {
        format!("http://{}/{slug}", self.address)
    }

    /// The URL of one vendor's admin routes.
    #[must_use]
    pub fn admin_url(&self, slug: &str) -> String {
        format!("http://{}/admin/{slug}", self.address)
    }

    /// Stops at once: calls under way are cut.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The command is sent by the call; nobody needs to wait for its end.
        drop(self.handle.stop(false));
    }
}

type Started = oneshot::Sender<io::Result<(SocketAddr, ServerHandle)>>;

fn serve(
    listen: SocketAddr,
    states: Vec<SimulatorState>,
    clock: Clock,
    workers: usize,
    on_reset: OnReset,
    started: Started,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async move {
        let (address, server) = match server(listen, states, clock, workers, on_reset) {
            Ok(bound) => bound,
            Err(error) => return drop(started.send(Err(error))),
        };
        if started.send(Ok((address, server.handle()))).is_ok()
            && let Err(error) = server.await
        {
            tracing::error!(%error, "the sandbox ended");
        }
    });
}

fn server(
    listen: SocketAddr,
    states: Vec<SimulatorState>,
    clock: Clock,
    workers: usize,
    on_reset: OnReset,
) -> io::Result<(SocketAddr, Server)> {
    let app = move || {
        App::new().app_data(web::PayloadConfig::new(BODY_LIMIT)).configure(|config| {
            admin::routes(config, &states, &clock, &on_reset);
            for state in &states {
                calls::routes(config, state);
            }
        })
    };
    let server = HttpServer::new(app).workers(workers).backlog(BACKLOG).disable_signals().bind(listen)?;
    let address = server.addrs().first().copied().unwrap_or(listen);
    Ok((address, server.run()))
}
