//! What is checked once all settings are read: bounds, names, and which settings go together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{AuthMode, Client, Settings, SettingsError};
use crate::providers::VENDORS;

/// The longest that a read or a submission may take: the store's leases end after 5 minutes.
const MOST_DEADLINE: Duration = Duration::from_mins(4);

/// The most of what is counted one by one.
const MOST_COUNTED: u32 = 1_000;

impl Settings {
    /// Whether the settings can be used together.
    ///
    /// # Errors
    /// Names the key and what is allowed there, never the value.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.check_clients()?;
        self.check_providers()?;
        self.check_server()?;
        self.check_http()?;
        self.check_auth()
    }

    fn check_clients(&self) -> Result<(), SettingsError> {
        let mut owners = BTreeMap::new();
        for (name, client) in &self.auth.clients {
            let place = format!("auth.clients.{name}");
            if !Client::may_be_called(name) {
                let problem = format!("the name of a client must be {}", Client::NAMES);
                return Err(SettingsError::new(place, problem));
            }
            if let Some(position) = client.providers.iter().flatten().position(|slug| !is_known(slug)) {
                return Err(SettingsError::new(format!("{place}.providers[{position}]"), no_such_provider()));
            }
            if client.providers.as_ref().is_some_and(Vec::is_empty) {
                let problem = "must name at least one provider; leave the key out to allow all";
                return Err(SettingsError::new(format!("{place}.providers"), problem));
            }
            let place = format!("{place}.key_sha256");
            if client.key_sha256.is_empty() {
                return Err(SettingsError::new(place, "must hold the hash of at least one key"));
            }
            for hash in &client.key_sha256 {
                if let Some(owner) = owners.insert(hash.0, name) {
                    let problem = format!("holds a key that `auth.clients.{owner}` holds too");
                    return Err(SettingsError::new(place, problem));
                }
            }
        }
        Ok(())
    }

    fn check_providers(&self) -> Result<(), SettingsError> {
        for (slug, provider) in &self.providers {
            let place = format!("providers.{slug}");
            if !is_known(slug) {
                return Err(SettingsError::new(place, no_such_provider()));
            }
            if provider.api_key.as_ref().is_some_and(|key| key.expose_secret().trim().is_empty()) {
                let problem = "is blank; leave the key out to switch the vendor off";
                return Err(SettingsError::new(format!("{place}.api_key"), problem));
            }
            let Some(token) = &provider.webhook_token else { continue };
            let place = format!("{place}.webhook_token");
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let token = token.expose_secret();
            if !(32..=256).contains(&token.len()) || !token.chars().all(plain) {
                let problem =
                    "must be 32 to 256 letters, digits, `-` or `_`; `openssl rand -hex 32` makes one";
                return Err(SettingsError::new(place, problem));
            }
            if self.server.public_url.is_none() {
                return Err(SettingsError::new(place, "needs server.public_url, or no vendor can call"));
            }
        }
        Ok(())
    }

    fn check_server(&self) -> Result<(), SettingsError> {
        let server = &self.server;
        within(&[
            ("server.workers", server.workers as u64, 0..=512),
            ("server.max_connections", server.max_connections as u64, 1..=1_000_000),
            ("server.max_requests", server.max_requests as u64, 1..=1_000_000),
            ("server.max_uri_bytes", server.max_uri_bytes.0, 256..=32 << 10),
            ("server.max_header_bytes", server.max_header_bytes.0, 1 << 10..=64 << 10),
            ("server.max_body_bytes", server.max_body_bytes.0, 1..=256 << 20),
        ])?;
        // A semaphore counts it.
        if !(server.max_body_bytes.0..=1 << 40).contains(&server.max_body_memory.0) {
            let problem = "must be at least server.max_body_bytes, and at most 1 TiB";
            return Err(SettingsError::new("server.max_body_memory", problem));
        }
        if server.ops_listen.as_ref() == Some(&server.listen) && !server.listen.is_any_port() {
            return Err(SettingsError::new(
                "server.ops_listen",
                "must be another address than server.listen",
            ));
        }
        Ok(())
    }

    fn check_http(&self) -> Result<(), SettingsError> {
        let http = &self.http;
        let deadlines =
            [("http.read_deadline", http.read_deadline), ("http.submit_deadline", http.submit_deadline)];
        if let Some((key, _)) = deadlines.iter().find(|(_, deadline)| *deadline > MOST_DEADLINE) {
            let problem = "must be at most 4m: what is under way is believed dead after that";
            return Err(SettingsError::new(*key, problem));
        }
        within(&[
            ("http.attempts", http.attempts.into(), 1..=100),
            ("http.retry_budget", http.retry_budget.into(), 0..=100),
            ("http.max_in_flight", http.max_in_flight.into(), 1..=10_000),
            ("http.max_waiting", http.max_waiting.into(), 0..=10_000),
        ])?;
        if http.circuit_pause > http.circuit_max_pause {
            return Err(SettingsError::new("http.circuit_pause", "must be at most http.circuit_max_pause"));
        }
        Ok(())
    }

    fn check_auth(&self) -> Result<(), SettingsError> {
        let auth = &self.auth;
        let counted = [("auth.wrong_keys", auth.wrong_keys), ("auth.unknown_batches", auth.unknown_batches)];
        if let Some((key, _)) = counted.iter().find(|(_, rate)| rate.calls > MOST_COUNTED) {
            return Err(SettingsError::new(*key, "must count at most 1000: each is kept in memory"));
        }
        match auth.mode {
            AuthMode::Keys if auth.clients.is_empty() => Err(SettingsError::new(
                "auth.clients",
                "no client has a key; make one with `phone-gateway key new --client NAME`, or set \
                 auth.mode = \"none\" on a loopback address",
            )),
            AuthMode::None if !self.server.listen.is_local() && !auth.allow_open => Err(SettingsError::new(
                "auth.mode",
                "\"none\" on an address that is not loopback lets anyone on the network spend money; set \
                     auth.mode = \"keys\", or auth.allow_open = true if it is meant so",
            )),
            AuthMode::Keys | AuthMode::None => Ok(()),
        }
    }
}

/// Whether each number is within its bounds.
fn within(bounds: &[(&'static str, u64, RangeInclusive<u64>)]) -> Result<(), SettingsError> {
    match bounds.iter().find(|(_, number, allowed)| !allowed.contains(number)) {
        Some((key, _, allowed)) => {
            let problem = format!("must be from {} to {}", allowed.start(), allowed.end());
            Err(SettingsError::new(*key, problem))
        }
        None => Ok(()),
    }
}

fn is_known(slug: &str) -> bool {
    VENDORS.iter().any(|vendor| vendor.info.slug == slug)
}

fn no_such_provider() -> String {
    let known: Vec<_> = VENDORS.iter().map(|vendor| vendor.info.slug).collect();
    format!("no such provider; there are {}", known.join(", "))
}
