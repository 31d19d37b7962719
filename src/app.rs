//! The running gateway: everything put together from the settings.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Admission, BodyLimits, Document, Paths, Readiness, State};
use crate::auth::Auth;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::gateway::Gateway;
use crate::http::{Transport, VendorClientError};
use crate::providers::VENDORS;
use crate::server::{self, Address, Listener, Share};
use crate::settings::{Listen, Settings, SettingsError, StoreUrl};
use crate::store::{OpenError, Store};
use crate::telemetry::Metrics;

/// What is left for the end of submissions when requests have used up `server.shutdown_grace`.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("{key}: {address} cannot be listened on: {source}")]
    Listen {
        /// Where it is set.
        key: &'static str,
        /// The address.
        address: Listen,
        /// What the system says.
        source: io::Error,
    },
    /// The connections to vendors cannot be set up.
    #[error("http: connections to vendors cannot be set up; is http.proxy right?")]
    Transport(#[source] reqwest::Error),
    /// A vendor key cannot be sent.
    #[error("providers.{0}.api_key: must hold only characters that an HTTP header can hold")]
    ApiKey(&'static str),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// No vendor is on.
    #[error(
        "providers: no vendor has a key; set one, such as PHONE_GATEWAY__PROVIDERS__{example}__API_KEY, or try \
         `phone-gateway serve --sandbox`"
    )]
    NoProvider {
        /// A slug in upper case.
        example: String,
    },
    /// A defect.
    #[error("the OpenAPI document cannot be written")]
    Document(#[from] serde_json::Error),
    /// The threads cannot be started.
    #[error("the server cannot be started: {0}")]
    Server(#[from] io::Error),
}

/// A gateway that listens and is about to serve.
pub struct App {
    server: Server,
    ops: Option<(Server, Listener)>,
    readiness: web::Data<Readiness>,
    gateway: Gateway,
    closing: CancellationToken,
    listener: Listener,
    shutdown_delay: Duration,
    shutdown_grace: Duration,
    summary: Summary,
}

/// What the log says of a start.
struct Summary {
    store: &'static str,
    store_location: String,
    providers: String,
    auth: &'static str,
    sandbox: bool,
}

impl Summary {
    fn of(settings: &Settings) -> Self {
        Self {
            store: settings.store.url.kind(),
            store_location: settings.store.url.location(),
            providers: settings.enabled_providers().collect::<Vec<_>>().join(", "),
            auth: settings.auth.mode.as_str(),
            sandbox: settings.sandbox,
        }
    }
}

impl App {
    /// Opens the store, binds the address, puts everything together and begins to follow batches. Vendor calls run on
    /// the runtime of the caller.
    ///
    /// # Errors
    /// What is wrong with which setting.
    pub async fn build(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        check_transport(settings)?;
        check_providers(settings)?;
        let store = Store::open(&settings.store.url, clock.clone()).await?;
        let state = assemble(settings, store, clock)?;
        let readiness = state.readiness.clone();
        let gateway = Gateway::clone(&state.gateway);
        let metrics = Arc::clone(&state.metrics);
        let closing = CancellationToken::new();
        let serve = |paths, listener, share| {
            let state = state.clone();
            let factory = move || api::application(state.clone(), paths);
            server::start(listener, share, &settings.server, &metrics, &closing, factory)
        };
        let mut listener = listen("server.listen", &settings.server.listen).await?;
        let second_handle = listener.second_handle()?;
        let server = serve(Paths::All, listener, Share::of_api(&settings.server))?;
        let ops = match &settings.server.ops_listen {
            Some(address) => {
                let mut listener = listen("server.ops_listen", address).await?;
                let second_handle = listener.second_handle()?;
                Some((serve(Paths::Operations, listener, Share::of_ops())?, second_handle))
            }
            None => None,
        };
        gateway.begin_to_follow(matches!(settings.store.url, StoreUrl::Sqlite(_))).await;
        Ok(Self {
            server,
            ops,
            readiness,
            gateway,
            closing,
            listener: second_handle,
            shutdown_delay: settings.server.shutdown_delay.0,
            shutdown_grace: settings.server.shutdown_grace,
            summary: Summary::of(settings),
        })
    }

    /// What prevents a start, besides the faults of the settings that are known: as far as that can be told without
    /// listening, and without creating or changing the store.
    pub async fn faults(settings: &Settings, known: &SettingsError) -> Vec<StartError> {
        let mut faults = Vec::new();
        if !known.concerns("http") {
            faults.extend(check_transport(settings).err());
        }
        if !known.concerns("providers") {
            faults.extend(check_providers(settings).err());
        }
        if !known.concerns("store") {
            faults.extend(Store::check(&settings.store.url).await.map_err(StartError::Store).err());
        }
        faults
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        self.listener.address()
    }

    /// Where it listens for the platform, if it does so apart.
    #[must_use]
    pub fn ops_address(&self) -> Option<&Address> {
        self.ops.as_ref().map(|(_, listener)| listener.address())
    }

    /// The gateway behind the API.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Serves until `shutdown` resolves, and for `server.shutdown_delay` more; then until the requests in flight have ended
    /// or their grace is over.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let ops_address = self.ops_address().map(tracing::field::display);
        tracing::info!(
            address = %self.address(),
            ops_address,
            version = env!("CARGO_PKG_VERSION"),
            store = self.summary.store,
            store_location = self.summary.store_location,
            providers = self.summary.providers,
            auth = self.summary.auth,
            sandbox = self.summary.sandbox,
            "ready"
        );
        let Self {
            server, ops, readiness, gateway, closing, listener, shutdown_delay, shutdown_grace, ..
        } = self;
        let ops = ops.map(|(server, listener)| (server.handle(), tokio::spawn(server), listener));
        let handle = server.handle();
        let (stopping, began) = (gateway.clone(), Arc::new(OnceLock::new()));
        let beginning = Arc::clone(&began);
        tokio::spawn(async move {
            shutdown.await;
            tracing::info!("stopping: not ready any more");
            readiness.end();
            if shutdown_delay.is_zero() {
                drop(listener);
            } else {
                sleep(shutdown_delay).await;
                listener.drain().await;
            }
            beginning.get_or_init(Instant::now);
            tracing::info!("stopping: requests in flight may end");
            closing.cancel();
            stopping.begin_stop();
            handle.stop(true).await;
        });
        let ended = server.await;
        let used = began.get().map_or(Duration::ZERO, Instant::elapsed);
        let left = shutdown_grace.saturating_sub(used).max(LAST_GRACE);
        if timeout(left, gateway.finish()).await.is_err() {
            tracing::error!("stopped with work under way; a submission that was being sent will be in doubt");
        }
        // Until here it says that the process is stopping.
        if let Some((handle, server, _listener)) = ops {
            handle.stop(true).await;
            server.await.map_err(io::Error::other)??;
        }
        ended
    }
}

async fn listen(key: &'static str, address: &Listen) -> Result<Listener, StartError> {
    let listen = |source| StartError::Listen { key, address: address.clone(), source };
    Listener::open(address).await.map_err(listen)
}

/// Puts together all that handlers work with.
fn assemble(settings: &Settings, store: Store, clock: Clock) -> Result<State, StartError> {
    let metrics = Arc::new(Metrics::new());
    let transport = transport(settings, &clock, &metrics)?;
    let gateway = Gateway::new(
        settings,
        store,
        Cache::new(settings.cache.max_bytes.0, clock.clone()),
        transport,
        clock,
        tokio::runtime::Handle::current(),
        Arc::clone(&metrics),
    )
    .map_err(|(slug, error)| match error {
        VendorClientError::Key(_) => StartError::ApiKey(slug),
        VendorClientError::Connections(error) => StartError::Transport(error),
    })?;
    Ok(State {
        auth: web::Data::new(Auth::new(settings, Arc::clone(&metrics))),
        gateway: web::Data::new(gateway),
        metrics,
        admission: web::Data::new(Admission::new(&settings.server)),
        body_limits: web::Data::new(BodyLimits::new(&settings.server)),
        readiness: web::Data::new(Readiness::new()),
        document: web::Data::new(Document::build()?),
    })
}

fn check_providers(settings: &Settings) -> Result<(), StartError> {
    if settings.enabled_providers().next().is_some() {
        return Ok(());
    }
    let example = VENDORS.first().map_or("", |vendor| vendor.info.slug);
    Err(StartError::NoProvider { example: example.to_uppercase() })
}

fn check_transport(settings: &Settings) -> Result<(), StartError> {
    transport(settings, &Clock::default(), &Arc::new(Metrics::new())).map(drop)
}

fn transport(settings: &Settings, clock: &Clock, metrics: &Arc<Metrics>) -> Result<Transport, StartError> {
    Transport::new(settings.http.clone(), clock.clone(), Arc::clone(metrics)).map_err(StartError::Transport)
}
