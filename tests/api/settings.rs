//! Settings: what is refused, in words that help and never repeat a value; and the command line around them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs, process};

use phone_gateway::auth::new_key;
use phone_gateway::providers::VENDORS;
use phone_gateway::settings::{AuthMode, DEFAULTS, Settings, StoreUrl};

use crate::helpers::run;

/// Stands for a secret in a wrong value: no error may repeat it.
const MARKER: &str = "hunter2";
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Variables by the path of their key.
fn load(settings: &[(&str, &str)]) -> Result<Settings, String> {
    let variables: Vec<_> = settings.iter().map(|(key, value)| (variable(key), *value)).collect();
    let variables = variables.iter().map(|(name, value)| (name.as_str(), *value));
    Settings::from_variables(None, variables).map_err(|error| error.to_string())
}

fn variable(key: &str) -> String {
    format!("PHONE_GATEWAY__{}", key.replace('.', "__").to_uppercase())
}

/// Loads settings that must be refused, and returns the reason.
#[track_caller]
fn refused(settings: &[(&str, &str)]) -> String {
    let reason = load(settings).expect_err(&format!("{settings:?} is taken"));
    assert!(!reason.contains(MARKER), "it repeats the value: {reason}");
    reason
}

/// A file of this test alone.
fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", process::id()));
    fs::write(&path, content).unwrap();
    path
}

fn refused_file(name: &str, content: &str) -> String {
    let path = file(&format!("refused-{name}.toml"), content);
    Settings::from_variables(Some(&path), []).expect_err(name).to_string()
}

const OPEN: (&str, &str) = ("auth.mode", "none");

#[test]
fn a_wrong_value_is_refused_by_its_key_and_not_repeated() {
    for (key, value) in [
        ("server.listen", MARKER),
        ("server.listen", "hunter2"),
        ("server.listen", "hunter2:port"),
        ("server.listen", "unix:hunter2.sock"),
        ("server.workers", MARKER),
        ("server.workers", "-1"),
        ("server.shutdown_delay", MARKER),
        ("server.shutdown_delay", "11m"),
        ("server.shutdown_grace", MARKER),
        ("server.shutdown_grace", "0s"),
        ("server.workers", "513"),
        ("server.ops_listen", MARKER),
        ("server.max_connections", "0"),
        ("server.max_requests", "0"),
        ("server.keep_alive", "0s"),
        ("server.head_timeout", MARKER),
        ("server.max_wait", "0s"),
        ("server.body_timeout", "0s"),
        ("server.write_timeout", "2d"),
        ("server.max_uri_bytes", "100"),
        ("server.max_header_bytes", "1GiB"),
        ("server.max_body_bytes", "0"),
        ("server.max_body_memory", "1MiB"),
        ("auth.mode", MARKER),
        ("auth.mode", "None"),
        ("auth.allow_open", MARKER),
        ("cache.max_bytes", MARKER),
        ("cache.running_ttl", "hunter2 seconds"),
        ("cache.running_ttl", "-2s"),
        ("cache.running_ttl", "601s"),
        ("store.url", MARKER),
        ("store.url", "mysql://user:hunter2@127.0.0.1/gateway"),
        ("store.url", "sqlite://"),
        ("store.url", "sqlite::memory:hunter2"),
        ("store.url", "sqlite://hunter2.db?mode=memory"),
        ("http.connect_timeout", MARKER),
        ("http.stall_timeout", MARKER),
        ("http.read_deadline", "12"),
        ("http.read_deadline", "5m"),
        ("http.submit_deadline", "5m"),
        ("http.max_body_bytes", MARKER),
        ("http.attempts", MARKER),
        ("http.attempts", "0"),
        ("http.retry_budget", "101"),
        ("http.max_in_flight", "0"),
        ("http.max_waiting", "10001"),
        ("http.max_wait", MARKER),
        ("http.circuit_failures", "-1"),
        ("http.circuit_pause", "2m"),
        ("http.circuit_max_pause", MARKER),
        ("http.credentials_pause", "0s"),
        ("http.proxy", MARKER),
        ("http.proxy", "ftp://user:hunter2@127.0.0.1:1"),
        ("http.proxy", "hunter2:3128"),
        ("http.read_deadline", "9223372036854775807s"),
        ("log.filter", "phone_gateway=hunter2"),
        // A word that is no level would be taken for the name of a module, and silence all others.
        ("log.filter", "hunter2"),
        ("log.filter", "warn,hunter2"),
        ("server.trusted_proxies", "10.0.0.0/8,hunter2"),
        ("auth.wrong_keys", MARKER),
        ("auth.unknown_batches", "0/1m"),
        ("auth.clients.crm.rate", "100"),
        ("log.format", MARKER),
        ("providers.enrow.base_url", MARKER),
        ("providers.enrow.base_url", "http://hunter2.example.com/"),
        ("providers.enrow.base_url", "http://127.0.0.1.example.com/"),
        ("providers.enrow.base_url", "ftp://127.0.0.1/"),
        ("providers.enrow.base_url", "https://user:hunter2@api.enrow.io/"),
        ("providers.enrow.base_url", "https://api.enrow.io/?key=hunter2"),
        ("providers.enrow.timeout", MARKER),
        ("auth.clients.crm.key_sha256", MARKER),
        ("auth.clients.crm.key_sha256", &HASH[..63]),
    ] {
        let reason = refused(&[OPEN, ("auth.clients.crm.key_sha256", HASH), (key, value)]);
        assert!(reason.starts_with(&format!("{key}: ")), "{key}={value}: {reason}");
        assert!(reason.contains("must be"), "it says what is allowed: {reason}");
    }
}

#[test]
fn a_value_where_a_section_belongs_is_refused_and_not_repeated() {
    for key in ["server", "cache", "store", "http", "log", "providers", "providers.enrow", "auth.clients.crm"]
    {
        let reason = refused(&[OPEN, (key, MARKER)]);
        assert!(reason.starts_with(&format!("{key}: must be")), "{reason}");
    }
}

#[test]
fn what_serde_says_of_a_value_is_not_passed_on() {
    for value in ["abc, expected hunter2 x", "hunter2, expected a map, too", "must be hunter2"] {
        let reason = refused(&[OPEN, ("providers", value)]);
        assert_eq!(reason, "providers: must be a section");
    }
}

#[test]
fn a_key_belongs_to_one_client_and_a_list_of_providers_names_some() {
    let two = [OPEN, ("auth.clients.crm.key_sha256", HASH), ("auth.clients.erp.key_sha256", HASH)];
    assert!(refused(&two).starts_with("auth.clients.erp.key_sha256: holds a key that"));
    let none = "[auth]\nmode = 'none'\n[auth.clients.crm]\nproviders = []\nkey_sha256 = ['HASH']\n";
    let reason = refused_file("none", &none.replace("HASH", HASH));
    assert!(reason.starts_with("auth.clients.crm.providers: must name at least one"), "{reason}");
    let reason = refused_file("blank", "[auth]\nmode = 'none'\n[providers.enrow]\napi_key = ' '\n");
    assert!(reason.starts_with("providers.enrow.api_key: is empty"), "{reason}");
}

#[test]
fn clients_are_called_what_a_variable_can_say() {
    for (file, name) in [("case", "Crm"), ("dash", "crm-web"), ("blanks", "c__rm"), ("long", &"c".repeat(65))]
    {
        let content = format!("[auth.clients.{name}]\nkey_sha256 = ['{HASH}']\n");
        let reason = refused_file(file, &content);
        let expected =
            format!("auth.clients.{name}: the name of a client must be 1 to 64 lower-case letters");
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(!run(&["key", "new", "--client", name], &[]).status.success(), "{name}");
    }
}

#[test]
fn two_listeners_have_two_addresses() {
    let twice = |address| [OPEN, ("server.listen", address), ("server.ops_listen", address)];
    assert!(refused(&twice("127.0.0.1:8080")).starts_with("server.ops_listen: must be another address"));
    load(&twice("127.0.0.1:0")).unwrap();
}

#[test]
fn unknown_keys_are_refused() {
    for (key, place) in [
        ("server.lissen", "server"),
        ("cache.max", "cache"),
        ("http.retries", "http"),
        ("nonsense.key", "nonsense"),
        ("providers.enrow.api_keys", "providers.enrow"),
        ("auth.clients.crm.password", "auth.clients.crm"),
    ] {
        let reason = refused(&[OPEN, ("auth.clients.crm.key_sha256", HASH), (key, MARKER)]);
        let last = key.rsplit('.').next().unwrap();
        assert!(reason.contains(place) || reason.contains(last), "{key}: {reason}");
        assert!(reason.contains("unknown"), "{key}: {reason}");
    }
}

#[test]
fn providers_that_do_not_exist_are_refused_with_those_that_do() {
    for reason in [
        refused(&[OPEN, ("providers.nobody.api_key", MARKER)]),
        refused(&[("auth.clients.crm.key_sha256", HASH), ("auth.clients.crm.providers", "enrow, nobody")]),
    ] {
        assert!(VENDORS.iter().all(|vendor| reason.contains(vendor.info.slug)), "{reason}");
        assert!(reason.starts_with("providers.nobody: ") || reason.starts_with("auth.clients.crm.providers"));
    }
}

#[test]
fn an_open_gateway_listens_on_loopback_only_unless_it_is_said() {
    let anywhere = ("server.listen", "0.0.0.0:8080");
    let reason = refused(&[OPEN, anywhere]);
    assert!(reason.starts_with("auth.mode: ") && reason.contains("allow_open"), "{reason}");
    refused(&[OPEN, ("server.listen", "[::]:8080")]);
    for settings in [
        vec![OPEN, anywhere, ("auth.allow_open", "true")],
        vec![OPEN, ("server.listen", "[::1]:8080")],
        vec![anywhere, ("auth.clients.crm.key_sha256", HASH)],
    ] {
        load(&settings).unwrap();
    }
}

#[test]
fn a_gateway_that_asks_for_keys_must_know_one() {
    let reason = refused(&[]);
    assert!(reason.starts_with("auth.clients: ") && reason.contains("key new"), "{reason}");
    let reason = refused(&[("auth.clients.crm.providers", "enrow")]);
    assert!(reason.starts_with("auth.clients.crm") && reason.contains("key_sha256"), "{reason}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let settings =
        load(&[OPEN, ("server.listen", ""), ("http.attempts", ""), ("providers.enrow.api_key", "")]).unwrap();
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.http.attempts, 3);
    assert!(settings.providers.get("enrow").is_none_or(|provider| provider.api_key.is_none()));
}

#[test]
fn a_variable_writes_a_list_with_commas() {
    let other = HASH.replace('9', "0");
    let hashes = format!("{HASH} ,{other}");
    let clients =
        [("auth.clients.crm.key_sha256", &*hashes), ("auth.clients.crm.providers", "enrow, experian")];
    let crm = &load(&clients).unwrap().auth.clients["crm"];
    assert_eq!(crm.key_sha256.len(), 2);
    assert_eq!(crm.providers.as_deref().unwrap(), ["enrow", "experian"]);
    let mut wrong = clients;
    wrong[0].1 = "hunter2, hunter2";
    assert!(refused(&wrong).starts_with("auth.clients.crm.key_sha256: must be"));
}

#[test]
fn values_are_texts_even_when_they_look_like_numbers() {
    let settings = load(&[OPEN, ("providers.enrow.api_key", "+33612345678"), ("log.filter", "3")]).unwrap();
    let key = settings.providers["enrow"].api_key.as_ref().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(key), "+33612345678");
    assert!(!format!("{settings:?}").contains("33612345678"), "a key is never shown");
}

#[test]
fn a_log_filter_names_levels_and_modules() {
    for filter in
        ["info", "WARN", "off", "info,sqlx=debug", "phone_gateway", "warn,phone_gateway::http=trace"]
    {
        let settings = load(&[OPEN, ("log.filter", filter)]);
        assert_eq!(settings.unwrap().log.filter.0, filter);
    }
    for filter in ["verbose", "infos", "info,phone_gatway", "sqlx", "phone_gateways"] {
        assert!(refused(&[OPEN, ("log.filter", filter)]).starts_with("log.filter: must be"), "{filter}");
    }
}

#[test]
fn a_key_comes_from_a_file_or_from_the_settings_and_not_from_both() {
    let secret = file("secret", "  hunter2\n");
    let path = secret.to_str().unwrap();
    let settings = load(&[OPEN, ("providers.enrow.api_key_file", path)]).unwrap();
    let key = settings.providers["enrow"].api_key.as_ref().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(key), MARKER);

    let both = [OPEN, ("providers.enrow.api_key_file", path), ("providers.enrow.api_key", MARKER)];
    assert!(refused(&both).starts_with("providers.enrow.api_key_file: "));
    let empty = file("empty", " \n");
    for file in ["/nowhere/secret", "/", empty.to_str().unwrap()] {
        let reason = refused(&[OPEN, ("providers.enrow.api_key_file", file)]);
        assert!(reason.starts_with("providers.enrow.api_key_file: "), "{reason}");
    }
    fs::write(&secret, b"hunter2\xff").unwrap();
    assert!(
        refused(&[OPEN, ("providers.enrow.api_key_file", path)])
            .starts_with("providers.enrow.api_key_file: ")
    );
}

#[test]
fn a_secret_is_cleaned_wherever_it_comes_from() {
    let key = |settings: Settings| {
        secrecy::ExposeSecret::expose_secret(settings.providers["enrow"].api_key.as_ref().unwrap()).to_owned()
    };
    for (name, text) in [
        ("bom", "\u{feff}hunter2"),
        ("crlf", "hunter2\r\n"),
        ("both", "\u{feff}hunter2\r\n\r\n"),
        ("lf", "hunter2\n"),
    ] {
        let secret = file(&format!("clean-{name}"), text);
        let by_file = [OPEN, ("providers.enrow.api_key_file", secret.to_str().unwrap())];
        let toml = file(
            &format!("clean-{name}.toml"),
            &format!("\u{feff}[auth]\nmode = 'none'\n[providers.enrow]\napi_key = {text:?}\n")
                .replace("\\u{feff}", "\\uFEFF"),
        );
        for settings in [
            load(&by_file),
            load(&[OPEN, ("providers.enrow.api_key", text)]),
            Settings::from_variables(Some(&toml), []).map_err(|error| error.to_string()),
        ] {
            assert_eq!(key(settings.unwrap()), MARKER, "{name}");
        }
    }
    for text in ["\"hunter2\"", "'hunter2'\n", "\u{feff}\"hunter2\"\r\n"] {
        let secret = file("quoted", text);
        let by_file = ("providers.enrow.api_key_file", secret.to_str().unwrap());
        for (key, value) in [by_file, ("providers.enrow.api_key", text)] {
            let reason = refused(&[OPEN, (key, value)]);
            assert!(reason.starts_with(&format!("{key}: has quotes around it")), "{reason}");
        }
        assert!(refused(&[OPEN, ("store.url", text)]).contains("remove the quotes"));
    }
    for text in [" ", "\r\n", "\u{feff}"] {
        let secret = file("empty-secret", text);
        let by_file = ("providers.enrow.api_key_file", secret.to_str().unwrap());
        for (key, value) in [by_file, ("providers.enrow.api_key", text)] {
            assert!(refused(&[OPEN, (key, value)]).starts_with(&format!("{key}: is empty")));
        }
    }
}

#[test]
fn the_store_is_a_file_or_a_server_whose_url_may_stand_in_a_file() {
    for (url, path) in [
        ("sqlite://gateway.db", "gateway.db"),
        ("sqlite:///data/gateway.db", "/data/gateway.db"),
        ("sqlite:gateway.db", "gateway.db"),
    ] {
        let url = load(&[OPEN, ("store.url", url)]).unwrap().store.url;
        assert!(matches!(url, StoreUrl::Sqlite(file) if file == Path::new(path)));
    }
    let secret = file("store-url", "postgres://gateway:hunter2@127.0.0.1/gateway\n");
    let settings = load(&[OPEN, ("store.url_file", secret.to_str().unwrap())]).unwrap();
    assert!(!format!("{settings:?}").contains(MARKER));
    let StoreUrl::Postgres(url) = settings.store.url else { panic!("not PostgreSQL") };
    assert_eq!(secrecy::ExposeSecret::expose_secret(&url), "postgres://gateway:hunter2@127.0.0.1/gateway");

    let (empty, other) = (file("store-url-empty", "\n"), file("store-url-other", MARKER));
    for file in ["/nowhere/secret", empty.to_str().unwrap(), other.to_str().unwrap()] {
        let reason = refused(&[OPEN, ("store.url_file", file)]);
        assert!(reason.starts_with("store.url_file: "), "{reason}");
    }
}

#[test]
fn a_file_wins_over_the_defaults_and_a_variable_over_the_file() {
    let toml =
        "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 3\n[auth]\nmode = \"none\"\n[http]\nattempts = \"2\"";
    let path = file("settings.toml", toml);
    let variables = [("PHONE_GATEWAY__SERVER__WORKERS", "4")];
    let settings = Settings::from_variables(Some(&path), variables).unwrap();
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:1");
    assert_eq!((settings.server.workers, settings.http.attempts), (4, 2));
    assert_eq!(settings.auth.mode, AuthMode::None);
}

#[test]
fn a_wrong_file_is_refused_and_not_quoted() {
    for (name, content, place) in [
        ("syntax", "[server]\nlisten = hunter2\n", ".toml"),
        ("unclosed", "[server\nlisten = \"hunter2\"\n", ".toml"),
        ("type", "[server]\nlisten = [\"hunter2\"]\n", "server.listen"),
        ("table", "[server.listen]\nhunter2 = 1\n", "server.listen"),
        ("key", "[http]\nhunter3 = 1\n", "http"),
        ("list", "[auth.clients.crm]\nkey_sha256 = 7\n", "auth.clients.crm.key_sha256"),
        ("secret", "[providers.enrow]\napi_key = [\"hunter2\"]\n", "providers.enrow.api_key"),
        ("section", "cache = \"hunter2\"\n", "cache"),
    ] {
        let path = file(&format!("{name}.toml"), content);
        let reason =
            Settings::from_variables(Some(&path), [("PHONE_GATEWAY__AUTH__MODE", "none")]).expect_err(name);
        let reason = reason.to_string();
        assert!(reason.contains(place), "{name}: {reason}");
        assert!(!reason.contains(MARKER), "{name}: {reason}");
    }
    let missing =
        Settings::from_variables(Some("/nowhere/settings.toml".as_ref()), []).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/settings.toml: "), "{missing}");
}

#[test]
fn every_default_is_explained() {
    let settings: Vec<_> = DEFAULTS.lines().filter(|line| !line.is_empty()).collect();
    for (position, line) in
        settings.iter().enumerate().filter(|(_, line)| line.contains(" = ") && !line.starts_with('#'))
    {
        let before =
            settings[..position].iter().rev().find(|line| !line.contains(" = ") || line.starts_with('#'));
        assert!(before.unwrap().starts_with('#'), "{line} has no comment");
    }
}

#[test]
fn check_config_says_what_the_settings_amount_to() {
    let good = [
        ("PHONE_GATEWAY__AUTH__CLIENTS__CRM__KEY_SHA256", HASH),
        ("PHONE_GATEWAY__PROVIDERS__ENROW__API_KEY", MARKER),
    ];
    let output = run(&["check-config"], &good);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    for line in [
        "listens on: 127.0.0.1:8080",
        "clients: crm",
        "client crm: scopes read, submit; providers all; requests any number",
        "wrong keys of an address: at most 10/60s",
        "unknown batches of a client at a vendor: at most 60/60s",
        "enrow: on",
        "experian: off",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains(MARKER) && !text.contains(HASH));

    let open = run(&["check-config"], &[("PHONE_GATEWAY__AUTH__MODE", "none"), good[1]]);
    let text = String::from_utf8(open.stdout).unwrap();
    assert!(text.contains("clients: anyone") && text.contains("unknown batches of a client"), "{text}");

    let wrong = run(&["check-config"], &[("PHONE_GATEWAY__SERVER__LISTEN", MARKER)]);
    let text = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(1), 0));
    assert!(text.contains("phone-gateway: server.listen: ") && !text.contains(MARKER), "{text}");
}

#[test]
fn serve_stops_at_settings_that_cannot_work() {
    let open = ("PHONE_GATEWAY__AUTH__MODE", "none");
    let any_port = ("PHONE_GATEWAY__SERVER__LISTEN", "127.0.0.1:0");
    let no_vendor = run(&["serve"], &[open, any_port]);
    let bad_key =
        run(&["serve"], &[open, any_port, ("PHONE_GATEWAY__PROVIDERS__ENROW__API_KEY", "hunter\n2")]);
    let bad_filter = run(&["serve"], &[open, any_port, ("PHONE_GATEWAY__LOG__FILTER", "hunter2=loud=x")]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = ("PHONE_GATEWAY__SERVER__LISTEN", address.as_str());
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}", folder.path().join("store.db").display());
    let key = ("PHONE_GATEWAY__PROVIDERS__ENROW__API_KEY", MARKER);
    let busy = run(&["serve"], &[open, listen, key, ("PHONE_GATEWAY__STORE__URL", &store)]);
    let damaged = folder.path().join("damaged.db");
    std::fs::write(&damaged, [b"SQLite format 3\0".as_slice(), &[0xa5; 8_192]].concat()).unwrap();
    let damaged = format!("sqlite://{}", damaged.display());
    let damaged = run(&["serve"], &[open, any_port, key, ("PHONE_GATEWAY__STORE__URL", &damaged)]);
    for (output, place) in [
        (no_vendor, "providers: "),
        (damaged, "store.url: "),
        (bad_key, "providers.enrow.api_key: "),
        (bad_filter, "log.filter: "),
        (busy, "server.listen: "),
    ] {
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with(&format!("phone-gateway: {place}")) && !text.contains(MARKER), "{text}");
    }
}

#[test]
fn key_new_makes_a_key_that_its_lines_let_in() {
    let output = run(&["key", "new", "--client", "crm_2"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let key = text.split_whitespace().find(|word| word.starts_with("pgw_")).unwrap();
    let (name, hash) = text.lines().find_map(|line| line.trim().split_once("__KEY_SHA256=")).unwrap();
    assert_eq!(name, "PHONE_GATEWAY__AUTH__CLIENTS__CRM_2");
    let settings = load(&[("auth.clients.crm_2.key_sha256", hash)]).unwrap();
    let auth = phone_gateway::auth::Auth::new(&settings, Arc::default());
    let client = auth.authenticate(Some(format!("Bearer {key}").as_bytes()), || unreachable!()).unwrap();
    assert_eq!(&*client.name, "crm_2");
    let toml = text.lines().skip_while(|line| !line.contains("[auth.clients.crm_2]")).take(2);
    let path = file("key.toml", &toml.collect::<Vec<_>>().join("\n"));
    assert_eq!(Settings::from_variables(Some(&path), []).unwrap().auth.clients.len(), 1);
    assert_ne!(new_key().unwrap(), new_key().unwrap());
    for bad in ["", "CRM", "a__b", "a-b", "a.b", &"x".repeat(65)] {
        assert_eq!(run(&["key", "new", "--client", bad], &[]).status.code(), Some(2), "{bad}");
    }
}

#[test]
fn help_names_every_command() {
    for arguments in [&["--help"][..], &["help"]] {
        let output = run(arguments, &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        for command in ["serve", "sandbox", "openapi", "check-config", "key"] {
            assert!(text.contains(command), "{text}");
        }
    }
    assert!(String::from_utf8(run(&["serve", "--help"], &[]).stdout).unwrap().contains("--sandbox"));
    assert!(String::from_utf8(run(&["--version"], &[]).stdout).unwrap().starts_with("phone-gateway "));
    assert_eq!(run(&["dance"], &[]).status.code(), Some(2));
}
