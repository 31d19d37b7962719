//! The gateway in this process, between a client and the simulators.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use actix_web::web;
use phone_gateway::api::{Admission, BodyLimits, Document, Readiness, State};
use phone_gateway::app::App;
use phone_gateway::auth::Auth;
use phone_gateway::cache::Cache;
use phone_gateway::gateway::Gateway;
use phone_gateway::http::Transport;
use phone_gateway::providers::VENDORS;
use phone_gateway::sandbox;
use phone_gateway::server::Address;
use phone_gateway::settings::Settings;
use phone_gateway::telemetry::Metrics;
use reqwest::{Client, Method, RequestBuilder};
use tokio::sync::oneshot;

use super::{ChildGateway, Process, Replies, Reply, Simulators, TestStore};

/// How a gateway is set up: every vendor at its simulator, nobody asked for a key, unless a test says more.
#[derive(Clone, Default)]
pub(crate) struct Options {
    settings: BTreeMap<String, String>,
}

impl Options {
    /// Sets a key by its path, such as `http.attempts`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a key of one vendor, such as `timeout`.
    pub(crate) fn vendor(self, slug: &str, key: &str, value: impl Into<String>) -> Self {
        self.set(&format!("providers.{slug}.{key}"), value)
    }

    /// Asks for keys and knows a client by the hashes of its own; `providers` are those that it may use.
    pub(crate) fn client(self, name: &str, key_hashes: &str, providers: &str) -> Self {
        self.set("auth.mode", "keys")
            .set(&format!("auth.clients.{name}.key_sha256"), key_hashes)
            .set(&format!("auth.clients.{name}.providers"), providers)
    }

    /// Gives a client of [`Options::client`] scopes other than the default.
    pub(crate) fn scopes(self, name: &str, scopes: &str) -> Self {
        self.set(&format!("auth.clients.{name}.scopes"), scopes)
    }

    /// Asks vendors as often as the test likes, where it is not about the quota.
    pub(crate) fn without_quota(self) -> Self {
        VENDORS.iter().fold(self, |options, vendor| options.vendor(vendor.info.slug, "quota", "100000/1s"))
    }

    /// Calls vendors that fail as often as others, where the test is not about sparing them.
    pub(crate) fn without_circuit(self) -> Self {
        self.set("http.circuit_failures", "0")
    }

    /// Calls vendors that refuse the key like others, where the test is not about leaving them alone.
    pub(crate) fn without_credentials_pause(self) -> Self {
        self.set("http.credentials_pause", "1ns")
    }

    /// Puts a scripted vendor in the place of all, with one try and short limits.
    pub(crate) fn scripted(self, vendor: &Replies) -> Self {
        let options = self.set("http.attempts", "1").set("http.stall_timeout", "300ms");
        VENDORS.iter().map(|provider| provider.info.slug).fold(options, |options, slug| {
            options.vendor(slug, "base_url", vendor.url()).vendor(slug, "timeout", "500ms")
        })
    }

    /// Lets the gateway follow batches, as it does by default. Tests that count calls have none of their own accord.
    pub(crate) fn following(self) -> Self {
        self.set("follow.polls", "8")
    }

    /// The environment variables that say all this.
    pub(crate) fn variables(&self, simulators: &Simulators, store: &TestStore) -> Vec<(String, String)> {
        let mut settings = BTreeMap::from(
            [
                ("server.listen", "127.0.0.1:0"),
                ("server.workers", "1"),
                ("server.shutdown_delay", "0s"),
                ("server.shutdown_grace", "10s"),
                ("auth.mode", "none"),
                ("follow.polls", "0"),
                ("store.url", store.url()),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        for vendor in VENDORS {
            let slug = vendor.info.slug;
            settings.insert(format!("providers.{slug}.base_url"), simulators.sandbox.base_url(slug));
            settings.insert(format!("providers.{slug}.api_key"), sandbox::API_KEY.to_owned());
        }
        settings.extend(self.settings.clone());
        settings.into_iter().map(|(key, value)| (variable(&key), value)).collect()
    }

    /// A gateway in this process.
    pub(crate) async fn start(self) -> TestGateway {
        self.start_with(Simulators::start().await, TestStore::new().await).await
    }

    /// A gateway in this process, with these simulators and this store.
    pub(crate) async fn start_with(self, simulators: Simulators, store: TestStore) -> TestGateway {
        let variables = self.variables(&simulators, &store);
        let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = Settings::from_variables(None, variables).unwrap();
        let clock = simulators.clock.clone();
        let (started, starting) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        // A runtime of its own: it ends when the gateway has, not when the test function returns.
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let app = App::build(&settings, clock).await.unwrap();
                let Address::Tcp(address) = *app.address() else { panic!("it does not listen on TCP") };
                started.send(address).unwrap();
                app.run(async move { drop(stopped.await) }).await.unwrap();
            });
        });
        let address = starting.await.expect("the gateway did not start");
        TestGateway { address, url: format!("http://{address}"), simulators, store, stop, thread }
    }

    /// All that the handlers of a gateway work with, without a server.
    pub(crate) async fn state(self, simulators: &Simulators, store: &TestStore) -> State {
        let variables = self.variables(simulators, store);
        let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = Settings::from_variables(None, variables).unwrap();
        let (clock, metrics) = (simulators.clock.clone(), Arc::new(Metrics::new()));
        let transport = Transport::new(settings.http.clone(), clock.clone(), Arc::clone(&metrics)).unwrap();
        let gateway = Gateway::new(
            &settings,
            store.open(clock.clone()).await,
            Cache::new(1_000, clock.clone()),
            transport,
            clock,
            tokio::runtime::Handle::current(),
            Arc::clone(&metrics),
        );
        State {
            auth: web::Data::new(Auth::new(&settings, Arc::clone(&metrics))),
            gateway: web::Data::new(gateway.unwrap()),
            metrics,
            admission: web::Data::new(Admission::new(&settings.server)),
            body_limits: web::Data::new(BodyLimits::new(&settings.server)),
            readiness: web::Data::new(Readiness::new()),
            document: web::Data::new(Document::build().unwrap()),
        }
    }

    /// A gateway in a process of its own, the real binary; only the simulators are in this one.
    pub(crate) async fn spawn(self) -> ChildGateway {
        let (simulators, store) = (Simulators::start().await, TestStore::new().await);
        let process = Process::spawn(&["serve"], &self.variables(&simulators, &store));
        ChildGateway::ready(process, simulators, store).await
    }
}

/// The name of the variable for a key.
pub(crate) fn variable(key: &str) -> String {
    format!("PHONE_GATEWAY__{}", key.replace('.', "__").to_uppercase())
}

/// A gateway that serves until it is dropped. It dereferences to its simulators.
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) simulators: Simulators,
    pub(crate) store: TestStore,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Deref for TestGateway {
    type Target = Simulators;

    fn deref(&self) -> &Simulators {
        &self.simulators
    }
}

impl TestGateway {
    /// A gateway with nothing special.
    pub(crate) async fn start() -> Self {
        Options::default().start().await
    }

    /// Stops it as SIGTERM does and waits for its end. Simulators and store remain, for another one.
    pub(crate) async fn stop(self) -> (Simulators, TestStore) {
        let Self { simulators, store, stop, thread, .. } = self;
        drop(stop);
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        (simulators, store)
    }

    /// Stops it, and starts another one on the same store.
    pub(crate) async fn restart(self, options: Options) -> Self {
        let (simulators, store) = self.stop().await;
        options.start_with(simulators, store).await
    }

    pub(crate) async fn batch(&self, provider: &str, id: &str) -> Reply {
        self.get(&format!("/batches/{provider}/{id}")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.simulators.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Reply {
        Reply::of(request.send().await.unwrap()).await
    }

    /// The sum of a metric's lines that carry all of the labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        metric(&self.simulators.http, &self.url, name, labels).await
    }
}

pub(crate) async fn metric(http: &Client, url: &str, name: &str, labels: &[&str]) -> u64 {
    let reply = Reply::of(http.get(format!("{url}/metrics")).send().await.unwrap()).await;
    assert_eq!(reply.status, 200);
    let text = reply.text();
    text.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}
