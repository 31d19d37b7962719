//! What is checked once all settings are read: bounds, names, and which settings go together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;

use super::{AuthMode, Client, Settings, SettingsError};
use crate::providers::VENDORS;

/// The longest that a read or a submission may take: the store's leases end after 5 minutes.
const MOST_DEADLINE: Duration = Duration::from_mins(4);

/// The most of what is counted one by one.
const MOST_COUNTED: u32 = 1_000;

impl Settings {
    /// Adds what is wrong with single settings, and with settings together.
    pub(super) fn check(&self, faults: &mut SettingsError) {
        self.check_clients(faults);
        self.check_providers(faults);
        self.check_server(faults);
        self.check_http(faults);
        self.check_auth(faults);
    }

    fn check_clients(&self, faults: &mut SettingsError) {
        let mut owners = BTreeMap::new();
        for (name, client) in &self.auth.clients {
            let place = format!("auth.clients.{name}");
            if !Client::may_be_called(name) {
                faults.add(&place, format!("the name of a client must be {}", Client::NAMES));
            }
            for (position, slug) in client.providers.iter().flatten().enumerate() {
                if !is_known(slug) {
                    faults.add(format!("{place}.providers[{position}]"), no_such_provider());
                }
            }
            if client.providers.as_ref().is_some_and(Vec::is_empty) {
                let problem = "must name at least one provider; leave the key out to allow all";
                faults.add(format!("{place}.providers"), problem);
            }
            let place = format!("{place}.key_sha256");
            if client.key_sha256.is_empty() {
                faults.add_joint(&place, &[], "must hold the hash of at least one key");
            }
            for hash in &client.key_sha256 {
                if let Some(owner) = owners.insert(hash.0, name) {
                    faults.add(&place, format!("holds a key that `auth.clients.{owner}` holds too"));
                }
            }
        }
    }

    fn check_providers(&self, faults: &mut SettingsError) {
        for (slug, provider) in &self.providers {
            let place = format!("providers.{slug}");
            if !is_known(slug) {
                faults.add(&place, no_such_provider());
            }
            let key = provider.api_key.as_ref().map(ExposeSecret::expose_secret);
            if key.is_some_and(|key| HeaderValue::from_str(key).is_err()) {
                let problem = "must hold only characters that an HTTP header can hold";
                faults.add(format!("{place}.api_key"), problem);
            }
            let Some(token) = &provider.webhook_token else { continue };
            let place = format!("{place}.webhook_token");
            if self.server.public_url.is_none() {
                let problem = "needs server.public_url, or no vendor can call";
                faults.add_joint(&place, &["server.public_url"], problem);
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let token = token.expose_secret();
            if !(32..=256).contains(&token.len()) || !token.chars().all(plain) {
                let problem =
                    "must be 32 to 256 letters, digits, `-` or `_`; `openssl rand -hex 32` makes one";
                faults.add(&place, problem);
            }
        }
    }

    fn check_server(&self, faults: &mut SettingsError) {
        let server = &self.server;
        within(
            faults,
            &[
                ("server.workers", server.workers as u64, 0..=512),
                ("server.max_connections", server.max_connections as u64, 1..=1_000_000),
                ("server.max_requests", server.max_requests as u64, 1..=1_000_000),
                ("server.max_uri_bytes", server.max_uri_bytes.0, 256..=32 << 10),
                ("server.max_header_bytes", server.max_header_bytes.0, 1 << 10..=64 << 10),
                ("server.max_body_bytes", server.max_body_bytes.0, 1..=256 << 20),
            ],
        );
        // A semaphore counts it.
        if !(server.max_body_bytes.0..=1 << 40).contains(&server.max_body_memory.0) {
            let problem = "must be at least server.max_body_bytes, and at most 1 TiB";
            faults.add_joint("server.max_body_memory", &["server.max_body_bytes"], problem);
        }
        if server.ops_listen.as_ref() == Some(&server.listen) && !server.listen.is_any_port() {
            let problem = "must be another address than server.listen";
            faults.add_joint("server.ops_listen", &["server.listen"], problem);
        }
    }

    fn check_http(&self, faults: &mut SettingsError) {
        let http = &self.http;
        let deadlines =
            [("http.read_deadline", http.read_deadline), ("http.submit_deadline", http.submit_deadline)];
        for (key, _) in deadlines.iter().filter(|(_, deadline)| *deadline > MOST_DEADLINE) {
            faults.add(*key, "must be at most 4m: what is under way is believed dead after that");
        }
        within(
            faults,
            &[
                ("http.attempts", http.attempts.into(), 1..=100),
                ("http.retry_budget", http.retry_budget.into(), 0..=100),
                ("http.max_in_flight", http.max_in_flight.into(), 1..=10_000),
                ("http.max_waiting", http.max_waiting.into(), 0..=10_000),
            ],
        );
        if http.circuit_pause > http.circuit_max_pause {
            let problem = "must be at most http.circuit_max_pause";
            faults.add_joint("http.circuit_pause", &["http.circuit_max_pause"], problem);
        }
    }

    fn check_auth(&self, faults: &mut SettingsError) {
        let auth = &self.auth;
        let counted = [("auth.wrong_keys", auth.wrong_keys), ("auth.unknown_batches", auth.unknown_batches)];
        for (key, _) in counted.iter().filter(|(_, rate)| rate.calls > MOST_COUNTED) {
            faults.add(*key, "must count at most 1000: each is kept in memory");
        }
        match auth.mode {
            AuthMode::Keys if auth.clients.is_empty() => faults.add_joint(
                "auth.clients",
                &["auth.mode"],
                "no client has a key; make one with `phone-gateway key new --client NAME`, or set \
                 auth.mode = \"none\" on a loopback address",
            ),
            AuthMode::None if !self.server.listen.is_local() && !auth.allow_open => faults.add_joint(
                "auth.mode",
                &["auth.allow_open", "server.listen"],
                "\"none\" on an address that is not loopback lets anyone on the network spend money; set \
                 auth.mode = \"keys\", or auth.allow_open = true if it is meant so",
            ),
            AuthMode::Keys | AuthMode::None => {}
        }
    }
}

fn within(faults: &mut SettingsError, bounds: &[(&'static str, u64, RangeInclusive<u64>)]) {
    for (key, _, allowed) in bounds.iter().filter(|(_, number, allowed)| !allowed.contains(number)) {
        faults.add(*key, format!("must be from {} to {}", allowed.start(), allowed.end()));
    }
}

fn is_known(slug: &str) -> bool {
    VENDORS.iter().any(|vendor| vendor.info.slug == slug)
}

fn no_such_provider() -> String {
    let known: Vec<_> = VENDORS.iter().map(|vendor| vendor.info.slug).collect();
    format!("no such provider; there are {}", known.join(", "))
}
