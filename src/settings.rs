//! The settings: what can be set, what is allowed, and in which order the sources win.
//!
//! `settings.toml` beside this file holds the defaults and explains every key. An error names the key and
//! what is allowed there, never the value: it may be a secret.

mod check;
mod faults;
mod read;
mod secret;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::read::Sources;
use self::text::{FromText, list, optional, optional_list, text};
use crate::rate::Rate;
use crate::scope::Scope;

pub use self::faults::SettingsError;

/// What serde says is expected where a value stands in place of keys.
const SECTION: &str = "a section";

/// The defaults, and the reference of every key.
pub const DEFAULTS: &str = include_str!("settings.toml");

/// What differs from [`DEFAULTS`] in the sandbox. A vendor that shows an error on request is called like any other, so
/// that each ready-made batch shows what it says, whichever was read before. No load balancer is in front of it.
const SANDBOX_DEFAULTS: &str = r#"
[http]
circuit_failures = 0
credentials_pause = "1ns"
[server]
shutdown_delay = "0s"
"#;

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Settings {
    /// The API's own server.
    pub server: Server,
    /// Who may call.
    pub auth: Auth,
    /// What is kept in memory.
    pub cache: Cache,
    /// How batches are followed to their end.
    pub follow: Follow,
    /// What outlives the process.
    pub store: Store,
    /// Limits of calls to vendors.
    pub http: Http,
    /// What is logged.
    pub log: Log,
    /// The vendors by slug.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
    /// Whether the vendors are simulated in this process.
    #[serde(skip)]
    pub sandbox: bool,
}

/// The API's own server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Server {
    /// Address of the API.
    #[serde(deserialize_with = "text")]
    pub listen: Listen,
    /// Threads that serve requests; 0 is one for each core.
    #[serde(deserialize_with = "text")]
    pub workers: usize,
    /// Address of a second listener, for health and metrics alone; none when absent.
    #[serde(default, deserialize_with = "optional")]
    pub ops_listen: Option<Listen>,
    /// Connections at a time.
    #[serde(deserialize_with = "text")]
    pub max_connections: usize,
    /// Requests in progress at a time.
    #[serde(deserialize_with = "text")]
    pub max_requests: usize,
    /// How long a connection may be open without a request.
    #[serde(deserialize_with = "text")]
    pub keep_alive: Duration,
    /// How long the head of a request may take.
    #[serde(deserialize_with = "text")]
    pub head_timeout: Duration,
    /// How long the body of a request may take.
    #[serde(deserialize_with = "text")]
    pub body_timeout: Duration,
    /// How long a caller may take nothing of an answer.
    #[serde(deserialize_with = "text")]
    pub write_timeout: Duration,
    /// How long a caller may wait for the end of a batch.
    #[serde(deserialize_with = "text")]
    pub max_wait: Duration,
    /// The bytes of path and query.
    #[serde(deserialize_with = "text")]
    pub max_uri_bytes: ByteCount,
    /// The bytes of all headers of a request.
    #[serde(deserialize_with = "text")]
    pub max_header_bytes: ByteCount,
    /// The bytes of all request bodies in memory.
    #[serde(deserialize_with = "text")]
    pub max_body_memory: ByteCount,
    /// How long requests are still accepted after SIGTERM.
    #[serde(deserialize_with = "text")]
    pub shutdown_delay: Delay,
    /// How long requests in flight may take to end after that.
    #[serde(deserialize_with = "text")]
    pub shutdown_grace: Duration,
    /// The bytes of one request body.
    #[serde(deserialize_with = "text")]
    pub max_body_bytes: ByteCount,
    /// Networks of proxies whose word on the address of a caller is believed.
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<IpNet>,
    /// Where vendors reach the API from outside; they are told of no webhook when absent.
    #[serde(default, deserialize_with = "optional")]
    pub public_url: Option<VendorUrl>,
}

impl Server {
    /// The first address that other machines can reach, and its key.
    #[must_use]
    pub fn beyond_loopback(&self) -> Option<(&'static str, &Listen)> {
        let addresses =
            [("server.listen", Some(&self.listen)), ("server.ops_listen", self.ops_listen.as_ref())];
        addresses.into_iter().find_map(|(key, address)| {
            let address = address.filter(|address| !address.is_local())?;
            Some((key, address))
        })
    }
}

/// Who may call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Auth {
    /// Whether keys are asked for.
    #[serde(deserialize_with = "text")]
    pub mode: AuthMode,
    /// Whether an open gateway may listen on an address that is not loopback.
    #[serde(deserialize_with = "text")]
    pub allow_open: bool,
    /// Requests without a right key that one address may send.
    #[serde(deserialize_with = "text")]
    pub wrong_keys: Rate,
    /// Batches unknown to a vendor that one client may have it asked for.
    #[serde(deserialize_with = "text")]
    pub unknown_batches: Rate,
    /// The clients by name.
    #[serde(default)]
    pub clients: BTreeMap<String, Client>,
}

/// Whether keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Every batch request needs a key.
    Keys,
    /// Nobody is asked.
    None,
}

impl AuthMode {
    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::None => "none",
        }
    }
}

/// One client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Client {
    /// SHA-256 of each of its keys.
    #[serde(default, deserialize_with = "list")]
    pub key_sha256: Vec<KeyHash>,
    /// Slugs of the vendors that it may use; all when absent.
    #[serde(default, deserialize_with = "optional_list")]
    pub providers: Option<Vec<String>>,
    /// What it may do; `read` and `submit` when absent.
    #[serde(default, deserialize_with = "optional_list")]
    pub scopes: Option<Vec<Scope>>,
    /// How many requests it may send; any number when absent.
    #[serde(default, deserialize_with = "optional")]
    pub rate: Option<Rate>,
}

impl Client {
    /// What a client may be called: names that survive the way through a TOML key, a label, and an environment variable,
    /// where `__` separates and case is lost.
    pub const NAMES: &str = "1 to 64 lower-case letters, digits and single underscores";

    /// Whether a client may have this name.
    #[must_use]
    pub fn may_be_called(name: &str) -> bool {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (1..=64).contains(&name.len()) && name.chars().all(allowed) && !name.contains("__")
    }
}

/// SHA-256 of a client's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

/// Without the hash: it is what lets a client in.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

/// What is kept in memory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Cache {
    /// Room for batches, in bytes of their JSON.
    #[serde(deserialize_with = "text")]
    pub max_bytes: ByteCount,
    /// For how long the state of a batch that is not done is served again.
    #[serde(deserialize_with = "text")]
    pub running_ttl: Ttl,
}

/// How batches are followed to their end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Follow {
    /// Maximum concurrent polls per vendor in this process; 0 leaves polling to other replicas.
    #[serde(deserialize_with = "text")]
    pub polls: usize,
}

/// For how long a passing state is kept; zero keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub Duration);

impl Ttl {
    /// The longest: no batch is left alone for longer.
    pub const LONGEST: Duration = Duration::from_mins(10);
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An IP address with its port.
    Address(SocketAddr),
    /// A host name with its port, as text.
    Host(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Whether nobody on another machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().is_loopback(),
            Self::Host(host) => host.rsplit_once(':').is_some_and(|(name, _)| name == "localhost"),
            Self::Unix(_) => true,
        }
    }

    /// Whether any free port is meant.
    pub(crate) fn is_any_port(&self) -> bool {
        match self {
            Self::Address(address) => address.port() == 0,
            Self::Host(host) => host.ends_with(":0"),
            Self::Unix(_) => false,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(host) => f.write_str(host),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A time that may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay(pub Duration);

impl Delay {
    /// The longest: platforms kill a process that takes longer to end.
    pub const LONGEST: Duration = Duration::from_mins(10);
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// The number as what memory is counted in.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What outlives the process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Store {
    /// Where it is.
    #[serde(deserialize_with = "text")]
    pub url: StoreUrl,
    /// File that holds the URL, in place of `url`.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
}

/// Where the store is.
#[derive(Clone)]
pub enum StoreUrl {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A URL of PostgreSQL.
    Postgres(SecretString),
}

impl StoreUrl {
    /// Kind of the database: `sqlite` or `postgres`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Path of the file, or host, port and database of the server: without user, password and options.
    #[must_use]
    pub fn location(&self) -> String {
        let url = match self {
            Self::Sqlite(path) => {
                return std::path::absolute(path).as_ref().unwrap_or(path).display().to_string();
            }
            Self::Postgres(url) => Url::parse(url.expose_secret()),
        };
        let Ok(url) = url else { return String::new() };
        let parameter = |names: &[&str]| {
            url.query_pairs()
                .filter(|(key, _)| names.contains(&&**key))
                .last()
                .map(|(_, value)| value.into_owned())
        };
        let host = parameter(&["host", "hostaddr"]).or_else(|| url.host_str().map(str::to_owned));
        let port = parameter(&["port"]).or_else(|| url.port().map(|port| port.to_string()));
        let database =
            parameter(&["dbname"]).unwrap_or_else(|| url.path().trim_start_matches('/').to_owned());
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}/{database}", host.as_deref().unwrap_or("localhost"))
    }
}

/// Without the URL: it may hold a password.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Sqlite",
            Self::Postgres(_) => "Postgres",
        })
    }
}

/// Limits of calls to vendors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Http {
    /// Making a connection, TLS included.
    #[serde(deserialize_with = "text")]
    pub connect_timeout: Duration,
    /// The wait for the next piece of an answer.
    #[serde(deserialize_with = "text")]
    pub stall_timeout: Duration,
    /// One whole read with all its steps and retries.
    #[serde(deserialize_with = "text")]
    pub read_deadline: Duration,
    /// One whole submission with all its steps.
    #[serde(deserialize_with = "text")]
    pub submit_deadline: Duration,
    /// The bytes of one answer.
    #[serde(deserialize_with = "text")]
    pub max_body_bytes: ByteCount,
    /// How often a read is tried.
    #[serde(deserialize_with = "text")]
    pub attempts: u32,
    /// How many reads of a hundred may be repetitions.
    #[serde(deserialize_with = "text")]
    pub retry_budget: u32,
    /// Calls to one vendor at a time.
    #[serde(deserialize_with = "text")]
    pub max_in_flight: u32,
    /// Calls to one vendor that may wait for their turn.
    #[serde(deserialize_with = "text")]
    pub max_waiting: u32,
    /// How long they wait.
    #[serde(deserialize_with = "text")]
    pub max_wait: Duration,
    /// Failures in a row after which a vendor is called now and then only; 0 never spares it.
    #[serde(deserialize_with = "text")]
    pub circuit_failures: u32,
    /// For how long a vendor that fails is left alone at least.
    #[serde(deserialize_with = "text")]
    pub circuit_pause: Duration,
    /// For how long it is left alone at most.
    #[serde(deserialize_with = "text")]
    pub circuit_max_pause: Duration,
    /// How long to stop calling a vendor after it rejected the API key twice in a row.
    #[serde(deserialize_with = "text")]
    pub credentials_pause: Duration,
    /// The way out.
    #[serde(deserialize_with = "text")]
    pub proxy: Proxy,
}

/// The way out to vendors.
#[derive(Clone, PartialEq, Eq)]
pub enum Proxy {
    /// Direct, whatever the environment says.
    None,
    /// As `HTTPS_PROXY` and the like say.
    Environment,
    /// This one.
    Url(Url),
}

/// Without the URL: it may hold a password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Environment => "Environment",
            Self::Url(_) => "Url",
        })
    }
}

/// What is logged.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Log {
    /// What is logged.
    #[serde(deserialize_with = "text")]
    pub filter: LogFilter,
    /// How a line looks.
    #[serde(deserialize_with = "text")]
    pub format: LogFormat,
    /// Whether health checks and metric scrapes that succeed are logged.
    #[serde(deserialize_with = "text")]
    pub probes: bool,
}

/// Directives of tracing's `EnvFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// One vendor.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section")]
pub struct Provider {
    /// Where the vendor is; its own address when absent.
    #[serde(default, deserialize_with = "optional")]
    pub base_url: Option<VendorUrl>,
    /// The vendor key; the vendor is on when there is one.
    pub api_key: Option<SecretString>,
    /// File that holds the vendor key.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// One attempt with its whole answer; 8 seconds when absent.
    #[serde(default, deserialize_with = "optional")]
    pub timeout: Option<Duration>,
    /// How many calls the vendor allows; what it documents when absent.
    #[serde(default, deserialize_with = "optional")]
    pub quota: Option<Rate>,
    /// Secret end of the path that the vendor calls when a batch has ended; no webhook when absent.
    pub webhook_token: Option<SecretString>,
    /// File that holds the webhook token.
    #[serde(default)]
    pub webhook_token_file: Option<PathBuf>,
}

/// Address of a vendor: https, or http on a loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorUrl(pub Url);

impl Provider {
    /// How long one attempt may take unless it is set.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(8);
}

/// What the sources of the settings amount to.
pub struct Inspection {
    /// The settings, with the default in place of what is at fault; none where that is impossible.
    pub settings: Option<Settings>,
    /// All that is wrong; nothing when it is empty.
    pub faults: SettingsError,
}

impl Settings {
    /// Loads the defaults, then `file`, then the environment of this process; the last word wins.
    ///
    /// # Errors
    /// Names each key at fault and what is allowed there, never the value.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let Inspection { settings, faults } = Self::inspect(file, None);
        faults.unless_any(settings)
    }

    /// Like [`Settings::load`], with what is right even where something is wrong. `listen` wins over `server.listen`.
    #[must_use]
    pub fn inspect(file: Option<&Path>, listen: Option<&str>) -> Inspection {
        Self::check_sources(Sources {
            defaults: &[DEFAULTS],
            file,
            environment: Sources::environment(),
            listen,
        })
    }

    /// Like [`Settings::load`], with every vendor at its simulator's base URL and no key asked for. No vendor key is
    /// kept and no secret file is read, so that no real vendor can be called. `listen` wins over `server.listen`. `open`
    /// allows any address to be listened on.
    ///
    /// # Errors
    /// Names the key and what is allowed there; unless `open`, an address that is not loopback is refused.
    pub fn load_for_sandbox<'a>(
        file: Option<&Path>,
        listen: Option<&str>,
        base_urls: impl IntoIterator<Item = (&'a str, &'a str)>,
        api_key: &str,
        open: bool,
    ) -> Result<Self, SettingsError> {
        let sources = Sources {
            defaults: &[DEFAULTS, SANDBOX_DEFAULTS],
            file,
            environment: Sources::environment(),
            listen,
        };
        let Inspection { settings, mut faults } = sources.read();
        let Some(mut settings) = settings else { return Err(faults) };
        if let Some((key, _)) = settings.server.beyond_loopback().filter(|_| !open) {
            let problem = "the sandbox asks for no key and listens on loopback addresses only; --sandbox-open \
                           allows any address";
            faults.add(key, problem);
        }
        settings.auth =
            Auth { mode: AuthMode::None, allow_open: open, clients: BTreeMap::new(), ..settings.auth };
        // The simulators are in this process: no proxy has to see their calls.
        settings.http.proxy = Proxy::None;
        settings.providers = base_urls
            .into_iter()
            .map(|(slug, base_url)| {
                let base_url = VendorUrl::from_text(base_url);
                let provider = Provider { base_url, api_key: Some(api_key.into()), ..Provider::default() };
                (slug.to_owned(), provider)
            })
            .collect();
        settings.sandbox = true;
        settings.check(&mut faults);
        faults.unless_any(Some(settings))
    }

    /// Where the store is, for who needs nothing else: what is wrong elsewhere does not matter.
    ///
    /// # Errors
    /// Names the key and what is allowed there, never the value.
    pub fn load_store(file: Option<&Path>) -> Result<StoreUrl, SettingsError> {
        let sources =
            Sources { defaults: &[DEFAULTS], file, environment: Sources::environment(), listen: None };
        let Inspection { settings, mut faults } = sources.read();
        let Some(mut settings) = settings else { return Err(faults) };
        settings.read_store_url(&mut faults);
        faults.only("store").unless_any(Some(settings.store.url))
    }

    /// Like [`Settings::load`] with `variables` in place of the environment.
    ///
    /// # Errors
    /// Names each key at fault and what is allowed there, never the value.
    pub fn from_variables<'a>(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SettingsError> {
        let variables =
            variables.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let environment = Sources::environment().source(Some(variables));
        let Inspection { settings, faults } =
            Self::check_sources(Sources { defaults: &[DEFAULTS], file, environment, listen: None });
        faults.unless_any(settings)
    }

    /// Slugs of the vendors that have a key.
    pub fn enabled_providers(&self) -> impl Iterator<Item = &str> {
        self.providers
            .iter()
            .filter(|(_, provider)| provider.api_key.is_some())
            .map(|(slug, _)| slug.as_str())
    }

    fn check_sources(sources: Sources<'_>) -> Inspection {
        let Inspection { mut settings, mut faults } = sources.read();
        if let Some(settings) = &mut settings {
            settings.read_secrets(&mut faults);
            settings.read_store_url(&mut faults);
            settings.check(&mut faults);
        }
        Inspection { settings, faults }
    }
}
