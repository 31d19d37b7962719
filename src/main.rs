//! The command line.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{self, ExitCode};

use clap::{Args, Parser, Subcommand};
use phone_gateway::api::Document;
use phone_gateway::app::App;
use phone_gateway::clock::Clock;
use phone_gateway::providers::VENDORS;
use phone_gateway::sandbox::{self, Sandbox, Simulator};
use phone_gateway::scope::Scope;
use phone_gateway::server::Address;
use phone_gateway::settings::{AuthMode, Client, Inspection, Settings, StoreUrl};
use phone_gateway::store::{Resolution, Resolved, Store, SubmissionFilter};
use phone_gateway::submission::{NewBatch, Submission, SubmissionId, SubmissionState};
use phone_gateway::{auth, telemetry};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One REST contract in front of every vendor that finds or validates phone numbers in bulk.
///
/// Try it without any vendor account: `phone-gateway serve --sandbox`, then open `http://127.0.0.1:8080/docs/`
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Serve {
        #[command(flatten)]
        settings: SettingsFile,
        /// Simulate all vendors in this process and ask for no keys; listens on loopback only, keeps its store in a
        /// temporary directory, and ignores [auth], [providers], [store] and http.proxy
        #[arg(long)]
        sandbox: bool,
        /// Allow the sandbox to listen on any address, where everyone who can reach it may use it; the variable
        /// `PHONE_GATEWAY_SANDBOX_OPEN=true` does the same
        #[arg(long, requires = "sandbox")]
        sandbox_open: bool,
        /// Where to listen, instead of `server.listen`
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
    },
    /// Run the vendors' simulators alone, each below /<slug>
    Sandbox {
        /// Where to listen
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
        listen: SocketAddr,
    },
    /// Print the OpenAPI document
    Openapi,
    /// Check the settings and say what they amount to, without starting
    CheckConfig {
        #[command(flatten)]
        settings: SettingsFile,
    },
    /// Look at submissions, and settle those that nobody else can
    Submissions {
        #[command(flatten)]
        settings: SettingsFile,
        #[command(subcommand)]
        command: SubmissionsCommand,
    },
    /// Make keys for clients
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key; it is printed once, the settings need only its hash
    New {
        /// Name of the client in the settings and the log: lower-case letters, digits and single underscores
        #[arg(long, value_name = "NAME", value_parser = client_name)]
        client: String,
    },
}

#[derive(Subcommand)]
enum SubmissionsCommand {
    /// Print submissions, newest first, a JSON object a line
    List {
        /// Only those in this state: `reserved`, `sending`, `accepted`, `not_sent` or `in_doubt`
        #[arg(long, value_name = "STATE", value_parser = submission_state)]
        state: Option<SubmissionState>,
        /// Maximum number of submissions to print
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Print one submission
    Show {
        /// Submission id
        id: SubmissionId,
    },
    /// Resolve a submission in doubt, after you have checked the vendor's account
    Resolve {
        /// Submission id
        id: SubmissionId,
        /// `sent=BATCH` with the vendor's id of the batch, or `not-sent`: then the same key may be sent again
        #[arg(long = "as", value_name = "sent=BATCH|not-sent", value_parser = resolution)]
        resolution: Resolution,
        /// Operator name to record
        #[arg(long, value_name = "NAME", env = "USER", default_value = "command line")]
        by: String,
    },
}

#[derive(Args)]
struct SettingsFile {
    /// Settings file (TOML); variables `PHONE_GATEWAY__SECTION__KEY` win over it
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl SettingsFile {
    /// The settings, if a gateway can start with them; else every reason why not, one a line.
    async fn load(&self, listen: Option<&str>) -> Result<Settings, Failure> {
        let Inspection { settings, faults } = Settings::inspect(self.config.as_deref(), listen);
        let Some(settings) = settings else { return Err(faults.into()) };
        let others = App::faults(&settings, &faults).await;
        if faults.is_empty() && others.is_empty() {
            return Ok(settings);
        }
        let known = (!faults.is_empty()).then(|| faults.to_string());
        let lines: Vec<_> = known.into_iter().chain(others.iter().map(ToString::to_string)).collect();
        Err(lines.join("\n").into())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let lines = format!("phone-gateway: {error}").replace('\n', "\nphone-gateway: ") + "\n";
            telemetry::write_in_time(move || drop(io::stderr().write_all(lines.as_bytes())));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &Failure) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { settings, sandbox: false, listen, .. } => {
            serve(settings.load(listen.as_deref()).await?, None).await
        }
        Command::Serve { settings, sandbox: true, sandbox_open, listen } => {
            // Not an `env` of the option: it would then need `--sandbox` whenever the variable is set, as in the image.
            let open =
                sandbox_open || std::env::var("PHONE_GATEWAY_SANDBOX_OPEN").is_ok_and(|open| open == "true");
            serve_sandbox(settings.config, listen.as_deref(), open).await
        }
        Command::Sandbox { listen } => run_sandbox(listen).await,
        Command::Openapi => Ok(io::stdout().write_all(Document::build()?.json())?),
        Command::CheckConfig { settings } => check_config(&settings.load(None).await?),
        Command::Submissions { settings, command } => {
            submissions(&Settings::load_store(settings.config.as_deref())?, command).await
        }
        Command::Key { command: KeyCommand::New { client } } => new_key(&client),
    }
}

async fn serve(settings: Settings, simulated: Option<Sandbox>) -> Result<(), Failure> {
    let _log = telemetry::init(&settings.log)?;
    let shutdown = shutdown_signal()?;
    let app = App::build(&settings, Clock::default()).await?;
    if let Some(sandbox) = &simulated {
        if let Some((key, address)) = settings.server.beyond_loopback() {
            tracing::warn!(key, %address, "the sandbox asks for no key: anyone who can reach this address may use it");
        }
        let gateway = app.gateway().clone();
        sandbox.on_reset(move |slug| {
            let gateway = gateway.clone();
            Box::pin(async move { gateway.forget_read_batches(slug).await })
        });
        print_sandbox_guide(app.address(), sandbox)?;
    }
    app.run(shutdown).await?;
    if let Some(sandbox) = simulated {
        sandbox.stop().await;
    }
    Ok(())
}

async fn serve_sandbox(config: Option<PathBuf>, listen: Option<&str>, open: bool) -> Result<(), Failure> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sandbox =
        Sandbox::start(any_port, &simulators(), Clock::default(), sandbox::Options::default()).await?;
    let base_urls: Vec<_> = VENDORS.iter().map(|v| (v.info.slug, sandbox.base_url(v.info.slug))).collect();
    let base_urls = base_urls.iter().map(|(slug, url)| (*slug, url.as_str()));
    let mut settings =
        Settings::load_for_sandbox(config.as_deref(), listen, base_urls, sandbox::API_KEY, open)?;
    // The simulators forget with this process, and so does their store.
    let directory = tempfile::Builder::new().prefix("phone-gateway-sandbox-").tempdir()?;
    settings.store.url = StoreUrl::Sqlite(directory.path().join("store.db"));
    serve(settings, Some(sandbox)).await
}

async fn run_sandbox(listen: SocketAddr) -> Result<(), Failure> {
    if !listen.ip().is_loopback() {
        return Err("--listen: the simulators know no secrets and listen on loopback addresses only".into());
    }
    let shutdown = shutdown_signal()?;
    let sandbox = Sandbox::start(listen, &simulators(), Clock::default(), sandbox::Options::default())
        .await
        .map_err(|error| format!("--listen: {listen} cannot be listened on: {error}"))?;
    let mut out = io::stdout();
    writeln!(out, "# Point a gateway at the simulators, then run `phone-gateway serve`:")?;
    writeln!(out, "export PHONE_GATEWAY__AUTH__MODE=none")?;
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        let variable = format!("PHONE_GATEWAY__PROVIDERS__{}", slug.to_uppercase());
        writeln!(out, "export {variable}__BASE_URL={}", sandbox.base_url(slug))?;
        writeln!(out, "export {variable}__API_KEY={}", sandbox::API_KEY)?;
    }
    for vendor in VENDORS {
        writeln!(
            out,
            "# Calls, charges and faults of {}: {}",
            vendor.info.name,
            sandbox.admin_url(vendor.info.slug)
        )?;
    }
    shutdown.await;
    sandbox.stop().await;
    Ok(())
}

fn check_config(settings: &Settings) -> Result<(), Failure> {
    let mut out = io::stdout();
    writeln!(out, "The settings are valid.")?;
    writeln!(out, "listens on: {}", settings.server.listen)?;
    if let Some(ops) = &settings.server.ops_listen {
        writeln!(out, "health and metrics also on: {ops}")?;
    }
    if !settings.server.trusted_proxies.is_empty() {
        let proxies: Vec<_> = settings.server.trusted_proxies.iter().map(ToString::to_string).collect();
        writeln!(out, "believes about addresses: {}", proxies.join(", "))?;
    }
    match &settings.store.url {
        StoreUrl::Sqlite(path) => writeln!(out, "store: the SQLite file {}", path.display())?,
        url @ StoreUrl::Postgres(_) => writeln!(out, "store: PostgreSQL at {}", url.location())?,
    }
    match settings.auth.mode {
        AuthMode::Keys => {
            let clients: Vec<_> = settings.auth.clients.keys().map(String::as_str).collect();
            writeln!(out, "clients: {}", clients.join(", "))?;
            for (name, client) in &settings.auth.clients {
                writeln!(out, "{}", describe(name, client))?;
            }
            let wrong_keys = settings.auth.wrong_keys;
            writeln!(out, "wrong keys of an address: at most {wrong_keys}")?;
        }
        AuthMode::None => writeln!(out, "clients: anyone, without a key")?,
    }
    writeln!(out, "unknown batches of a client at a vendor: at most {}", settings.auth.unknown_batches)?;
    for vendor in VENDORS {
        let provider = settings.providers.get(vendor.info.slug);
        match provider.filter(|provider| provider.api_key.is_some()) {
            Some(provider) => {
                let base_url = provider.base_url.as_ref().map_or(vendor.info.base_url, |url| url.0.as_str());
                writeln!(out, "{}: on, at {base_url}", vendor.info.slug)?;
            }
            None => writeln!(out, "{}: off, it has no api_key", vendor.info.slug)?,
        }
    }
    Ok(())
}

/// What a client may do.
fn describe(name: &str, client: &Client) -> String {
    let scopes = client.scopes.as_deref().unwrap_or(&Scope::DEFAULT);
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.word()).collect();
    let providers = client.providers.as_ref().map_or_else(|| "all".to_owned(), |slugs| slugs.join(", "));
    let rate = client.rate.map_or_else(|| "any number".to_owned(), |rate| rate.to_string());
    format!("client {name}: scopes {}; providers {providers}; requests {rate}", scopes.join(", "))
}

async fn submissions(store: &StoreUrl, command: SubmissionsCommand) -> Result<(), Failure> {
    let store = Store::open_shared(store, Clock::default()).await?;
    let unknown = || Failure::from("there is no such submission");
    let shown = match command {
        SubmissionsCommand::List { state, limit } => {
            let filter = SubmissionFilter { state, ..SubmissionFilter::default() };
            let submissions = store.submissions(&filter, None, limit).await?;
            // Lists end up in tickets and chats: what callers wrote is shown for one submission at a time.
            submissions.into_iter().map(|submission| Submission { reference: None, ..submission }).collect()
        }
        SubmissionsCommand::Show { id } => vec![store.submission(id).await?.ok_or_else(unknown)?],
        SubmissionsCommand::Resolve { id, resolution, by } => match store.resolve(id, resolution, &by).await?
        {
            Resolved::Done(submission) => vec![submission],
            Resolved::BatchOfAnother(_) => return Err("the batch is another submission's".into()),
            Resolved::BeingLookedUp(_) => {
                return Err("the gateway is looking it up at the vendor; try again in some seconds".into());
            }
            Resolved::NotInDoubt(submission) => {
                let state = submission.state.word();
                return Err(format!("the submission is `{state}`; only one in doubt can be settled").into());
            }
            Resolved::Unknown => return Err(unknown()),
        },
    };
    store.close().await;
    let mut out = io::stdout();
    for submission in shown {
        writeln!(out, "{}", serde_json::to_string(&submission)?)?;
    }
    Ok(())
}

fn submission_state(word: &str) -> Result<SubmissionState, &'static str> {
    SubmissionState::from_word(word).ok_or("there are reserved, sending, accepted, not_sent and in_doubt")
}

fn resolution(text: &str) -> Result<Resolution, &'static str> {
    match text.split_once('=') {
        None if matches!(text, "not-sent" | "not_sent") => Ok(Resolution::NotSent),
        Some(("sent", id)) => {
            id.parse().map(Resolution::Sent).map_err(|_| "a batch id is 1 to 64 letters, digits, `_` or `-`")
        }
        _ => Err("must be sent=BATCH or not-sent"),
    }
}

fn new_key(client: &str) -> Result<(), Failure> {
    let (key, hash) = auth::new_key()?;
    let mut out = io::stdout();
    writeln!(out, "Give this key to the client; it is not shown again:\n\n  {key}\n")?;
    writeln!(
        out,
        "Put its hash into the settings:\n\n  [auth.clients.{client}]\n  key_sha256 = [\"{hash}\"]\n"
    )?;
    let variable = format!("PHONE_GATEWAY__AUTH__CLIENTS__{}__KEY_SHA256", client.to_uppercase());
    Ok(writeln!(out, "or into the environment:\n\n  {variable}={hash}")?)
}

fn client_name(name: &str) -> Result<String, &'static str> {
    Client::may_be_called(name).then(|| name.to_owned()).ok_or(Client::NAMES)
}

fn simulators() -> Vec<Simulator> {
    VENDORS.iter().map(|vendor| vendor.simulator).collect()
}

/// Resolves at SIGTERM or SIGINT; another one then ends the process. The handlers are in place when this returns.
fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        }
    };
    Ok(async move {
        next().await;
        tokio::spawn(async move {
            // As a shell tells of a process that a signal has ended.
            process::exit(128 + next().await.as_raw_value());
        });
    })
}

fn print_sandbox_guide(address: &Address, sandbox: &Sandbox) -> io::Result<()> {
    let mut out = Vec::new();
    let (curl, gateway) = match address {
        Address::Tcp(address) => {
            // Every address of the machine: this one is reached from where the guide is read.
            let host = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
            ("curl -s".to_owned(), format!("http://{}", SocketAddr::new(host, address.port())))
        }
        Address::Unix(path) => {
            (format!("curl -s --unix-socket {}", path.display()), "http://localhost".to_owned())
        }
    };
    writeln!(out, "\nSANDBOX: every vendor is simulated, no key is asked for, no number is real.\n")?;
    for vendor in VENDORS {
        writeln!(out, "  {}; behind # is what the vendor does", vendor.info.name)?;
        for batch in vendor.simulator.ready_made {
            let url = format!("{gateway}/batches/{}/{}", vendor.info.slug, batch.id);
            writeln!(out, "    {curl} {url}  # {}", batch.shows)?;
        }
        let order: Value = serde_json::from_str(NewBatch::example(vendor.info.accepts.kind))?;
        writeln!(
            out,
            "    {curl} {gateway}/batches/{0} -H 'Idempotency-Key: try-{0}-1' \\",
            vendor.info.slug
        )?;
        writeln!(out, "      -H 'Content-Type: application/json' -d '{order}'  # submits a batch")?;
        writeln!(out, "    simulated API: {}", sandbox.base_url(vendor.info.slug))?;
        writeln!(out, "    its calls, charges and faults: {}\n", sandbox.admin_url(vendor.info.slug))?;
    }
    writeln!(out, "  Swagger UI: {gateway}/docs/   Ctrl-C stops.\n")?;
    telemetry::write_in_time(move || drop(io::stderr().write_all(&out)));
    Ok(())
}
