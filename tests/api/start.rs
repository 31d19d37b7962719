//! The start: everything that is wrong with the configuration and with the store, told at once and before anything is
//! created, and what the log says of a start that works.

use std::fs;
use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection, Executor};
use tokio::task::{JoinSet, spawn_blocking};

use crate::helpers::{Options, Pooler, Process, Simulators, Site, TestStore, numbered_order, run};

/// Stands for a secret: no error may repeat it.
const MARKER: &str = "hunter2";
const OPEN: (&str, &str) = ("PHONE_GATEWAY__AUTH__MODE", "none");
const KEY: (&str, &str) = ("PHONE_GATEWAY__PROVIDERS__ENROW__API_KEY", MARKER);
const ANY_PORT: (&str, &str) = ("PHONE_GATEWAY__SERVER__LISTEN", "127.0.0.1:0");
const STORE: &str = "PHONE_GATEWAY__STORE__URL";

/// The lines of an error, without the program's name.
#[track_caller]
fn faults(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{text}");
    assert!(!text.contains(MARKER), "it repeats a value: {text}");
    text.lines().map(|line| line.strip_prefix("phone-gateway: ").expect(line).to_owned()).collect()
}

/// What both commands say of a store that cannot be opened.
#[track_caller]
fn refused_store(url: &str) -> String {
    let reasons = ["check-config", "serve"].map(|command| {
        let found = faults(&run(&[command], &[OPEN, KEY, ANY_PORT, (STORE, url)]));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    });
    assert_eq!(reasons[0], reasons[1]);
    let [reason, _] = reasons;
    assert!(reason.starts_with("store.url: "), "{reason}");
    reason
}

#[test]
fn every_fault_of_a_configuration_is_listed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    let content = "
        cash = 1
        [server]
        lissen = 'hunter2'
        workers = 'hunter2'
        keep_alive = ['hunter2']
        max_requests = 0
        [http]
        circuit_pause = '2m'
        read_deadline = 'hunter2'
        [auth.clients.crm]
        scopes = ['hunter2']
        rate = 'hunter2'
        [auth.clients.Erp]
        key_sha256 = ['9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08']
        [providers.enrow]
        api_key_file = '/nowhere/hunter3'
        timeout = 'hunter2'
        [providers.experian]
        api_key = '\"hunter2\"'
        webhook_token = 'hunter2'
        [store]
        url = 'sqlite:///nowhere/store.db'";
    fs::write(&file, content).unwrap();
    let config = file.to_str().unwrap();
    for command in ["check-config", "serve"] {
        let found = faults(&run(&[command, "--config", config], &[]));
        let places: Vec<_> = found.iter().map(|fault| fault.split_once(": ").unwrap().0).collect();
        assert_eq!(
            places,
            [
                "auth.clients.Erp",
                "auth.clients.crm.key_sha256",
                "auth.clients.crm.rate",
                "auth.clients.crm.scopes",
                "cash",
                "http.circuit_pause",
                "http.read_deadline",
                "providers.enrow.api_key_file",
                "providers.enrow.timeout",
                "providers.experian.api_key",
                "providers.experian.webhook_token",
                "providers.experian.webhook_token",
                "server.keep_alive",
                "server.lissen",
                "server.max_requests",
                "server.workers",
                "store.url",
            ],
            "{found:#?}"
        );
        let lissen = found.iter().find(|fault| fault.starts_with("server.lissen")).unwrap();
        assert!(lissen.contains("unknown key; allowed: ") && lissen.contains("listen, "), "{lissen}");
    }
}

#[test]
fn a_fault_causes_no_second_one() {
    for (settings, place) in [
        // Nothing is known of the clients that would be needed.
        (vec![KEY, ("PHONE_GATEWAY__AUTH__MODE", MARKER)], "auth.mode"),
        (vec![OPEN, ("PHONE_GATEWAY__PROVIDERS__ENROW__API_KEY", "'hunter2'")], "providers.enrow.api_key"),
        (vec![OPEN, KEY, (STORE, MARKER)], "store.url"),
        (vec![OPEN, KEY, ("PHONE_GATEWAY__STORE__URL_FILE", "/nowhere/url")], "store.url_file"),
    ] {
        let found = faults(&run(&["check-config"], &settings));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("{place}: ")), "{found:?}");
    }
}

#[test]
fn a_store_that_cannot_be_opened_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let reason = refused_store(&format!("sqlite://{}/store.db", missing.display()));
    assert!(reason.contains(&format!("there is no folder {}", missing.display())), "{reason}");
    // No user may write there, root included.
    let reason = refused_store("sqlite:///proc/store.db");
    assert!(reason.contains("the folder /proc") || reason.contains("no folder"), "{reason}");
    refused_store(&format!("sqlite://{}", folder.path().display()));
}

#[test]
fn check_config_creates_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    let url = format!("sqlite://{}", store.display());
    let variables = [OPEN, KEY, (STORE, url.as_str())];
    assert!(run(&["check-config"], &variables).status.success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(&store, "").unwrap();
    assert!(run(&["check-config"], &variables).status.success());
    assert_eq!(fs::read(&store).unwrap(), b"", "no schema was made");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_postgresql_out_of_reach_is_told_with_the_reason() {
    let refused = refused_store("postgres://gateway:hunter2@127.0.0.1:1/gateway");
    assert!(refused.contains("refused"), "{refused}");
    let unknown = refused_store("postgres://gateway:hunter2@no-such-host.invalid/gateway");
    assert!(unknown.contains("cannot be resolved"), "{unknown}");
    let socket = refused_store("postgres://gateway:hunter2@localhost/gateway?host=/nowhere");
    assert!(socket.contains("no such Unix socket"), "{socket}");
    // It accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://gateway:hunter2@{}/gateway", silent.local_addr().unwrap());
    let began = Instant::now();
    let reason = spawn_blocking(move || refused_store(&url)).await.unwrap();
    assert!(reason.contains("no answer within 5 seconds"), "{reason}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    for url in [
        "postgres://gateway:hunter2@one,two/gateway",
        "postgres://gateway:hunter2@one:5432,two:5433/gateway",
        "postgres://gateway:hunter2@/gateway?host=one,two",
    ] {
        assert!(refused_store(url).contains("one host"), "{url}");
    }
    let Some(server) = TestStore::server() else { return };
    let nobody = server.replace("gateway@", "nobody:hunter2@");
    assert!(refused_store(&nobody).contains("authentication failed"));
    let nowhere = server.replace("/postgres?", "/nowhere?");
    assert!(refused_store(&nowhere).contains("there is no such database"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_transaction_mode_is_refused_with_the_reason() {
    let Some(pooler) = Pooler::start("transaction").await else { return };
    refused_pooler(&pooler.url()).await;
    // Other clients let the sessions change hands in no order.
    let mut others = JoinSet::new();
    for _ in 0..4 {
        let mut other = AnyConnection::connect(&pooler.url()).await.unwrap();
        others.spawn(async move { while other.execute("SELECT 1").await.is_ok() {} });
    }
    for _ in 0..5 {
        refused_pooler(&pooler.url()).await;
    }
    others.shutdown().await;
    pooler.stop().await;
}

async fn refused_pooler(url: &str) {
    let url = url.to_owned();
    let reason = spawn_blocking(move || refused_store(&url)).await.unwrap();
    assert!(reason.contains("pool_mode = session"), "{reason}");
}

#[tokio::test]
async fn a_pooler_in_session_mode_works() {
    let Some(pooler) = Pooler::start("session").await else { return };
    let site = Site::new(Options::default()).await;
    let mut replica = site.start_with(|options| options.clone().set("store.url", pooler.url())).await;
    for number in 0..8 {
        let reply = replica.submit("enrow", &number.to_string(), &numbered_order("enrow", number)).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    replica.process.kill();
    pooler.stop().await;
}

#[tokio::test]
async fn the_command_line_says_where_to_listen() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/store.db", folder.path().display());
    let variables = [OPEN, KEY, (STORE, url.as_str()), ("PHONE_GATEWAY__SERVER__LISTEN", "127.0.0.1:1")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for arguments in
        [&["serve", "--listen", "127.0.0.1:0"][..], &["serve", "--sandbox", "--listen", "127.0.0.1:0"]]
    {
        let process = Process::spawn(arguments, &variables);
        assert_ne!(process.address().await.port(), 1);
    }
    let wrong = faults(&run(&["serve", "--listen", MARKER], &[OPEN, KEY]));
    assert!(wrong.len() == 1 && wrong[0].starts_with("server.listen: must be"), "{wrong:?}");
}

#[tokio::test]
async fn the_log_says_what_has_started() {
    let (simulators, store) = (Simulators::start().await, TestStore::new().await);
    let process = Process::spawn(&["serve"], &Options::default().variables(&simulators, &store));
    let address = process.address().await;
    let log = process.log();
    let ready = log.iter().find(|line| line["message"] == "ready").unwrap();
    assert_eq!(ready["address"], address.to_string());
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ready["providers"], "enrow, experian");
    assert_eq!((&ready["auth"], &ready["sandbox"]), (&"none".into(), &false.into()));
    let location = ready["store_location"].as_str().unwrap();
    if let Some(path) = store.url().strip_prefix("sqlite://") {
        assert_eq!((ready["store"].as_str(), location), (Some("sqlite"), path));
    } else {
        assert_eq!(ready["store"], "postgres");
        assert!(location.ends_with("/postgres") && !location.contains("gateway@"), "{location}");
    }
    let sandbox = Process::spawn(&["serve", "--sandbox", "--listen", "127.0.0.1:0"], &[]);
    sandbox.address().await;
    assert!(sandbox.lines().iter().any(|line| line.contains("\"sandbox\":true")));
}

#[test]
fn a_command_without_a_store_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    let url = format!("sqlite://{}", store.display());
    let id = "01a2057b-9dcf-70ad-aed7-d16ee7034a1f";
    for arguments in [&["list"][..], &["show", id], &["resolve", id, "--as", "not-sent"]] {
        let arguments: Vec<_> = [&["submissions"], arguments].concat();
        let found = faults(&run(&arguments, &[(STORE, url.as_str())]));
        let reason = format!("store.url: there is no store at {}", store.display());
        assert!(found.len() == 1 && found[0].starts_with(&reason), "{found:?}");
        assert!(found[0].contains("--config") && found[0].contains(STORE), "{found:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    use std::io::Read;
    use std::process::{Command, Stdio};

    for arguments in [&["openapi"][..], &["key", "new", "--client", "crm"], &["check-config"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_phone-gateway"))
            .args(arguments)
            .env_clear()
            .envs([OPEN, KEY])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(child.wait().unwrap().success(), "{arguments:?}");
        assert_eq!(errors, "", "{arguments:?}");
    }
}
