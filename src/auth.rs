//! Who is calling: gateway keys, and the client that each belongs to.

mod address;
mod allowance;
mod guesses;

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use self::allowance::Allowance;
pub(crate) use self::allowance::Standing;
use self::guesses::Guesses;
use crate::error::{Code, Error};
use crate::scope::Scope;
use crate::settings::{AuthMode, KeyHash, Settings};
use crate::telemetry::{self, Metrics};

/// Every key begins with this, so that a leaked one is recognised by scanners and people.
const KEY_PREFIX: &str = "pgw_";

/// Knows the clients by the hashes of their keys.
#[derive(Debug)]
pub struct Auth {
    mode: AuthMode,
    keys: Vec<(KeyHash, Client)>,
    guesses: Guesses,
    proxies: Vec<IpNet>,
    metrics: Arc<Metrics>,
}

impl Auth {
    /// The clients of the settings.
    #[must_use]
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let keys = settings.auth.clients.iter().flat_map(|(name, configured)| {
            let providers = configured.providers.as_deref().map(Arc::from);
            let scopes = configured.scopes.as_deref().unwrap_or(&Scope::DEFAULT).into();
            let allowance = configured.rate.map(|rate| Arc::new(Allowance::new(rate)));
            let client = Client { name: name.as_str().into(), providers, scopes, allowance };
            configured.key_sha256.iter().map(move |hash| (*hash, client.clone()))
        });
        Self {
            mode: settings.auth.mode,
            keys: keys.collect(),
            guesses: Guesses::new(settings.auth.wrong_keys),
            proxies: settings.server.trusted_proxies.clone(),
            metrics,
        }
    }

    /// The client that the `Authorization` header of a request from `address` speaks for.
    ///
    /// # Errors
    /// `unauthenticated`, the same for an absent, a malformed and an unknown key; `rate_limited` when too many of them
    /// came from the address.
    pub fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        address: impl FnOnce() -> IpAddr,
    ) -> Result<Client, Error> {
        if self.mode == AuthMode::None {
            return Ok(Client::anonymous());
        }
        let key = authorization.and_then(bearer_token);
        let hash = hash(key.unwrap_or_default());
        // All keys are compared, each in constant time: the answer takes as long for any wrong key.
        let mut found = None;
        for (known, client) in &self.keys {
            if bool::from(known.0.ct_eq(&hash.0)) {
                found = Some(client);
            }
        }
        // No key is no key, even if somebody configured the hash of nothing.
        found.filter(|_| key.is_some()).cloned().ok_or_else(|| self.refuse(address()))
    }

    /// What is said to a wrong key.
    fn refuse(&self, address: IpAddr) -> Error {
        let error = match self.guesses.count(address) {
            Ok(()) => Error::new(
                Code::Unauthenticated,
                "Send a gateway key as `Authorization: Bearer KEY`. The platform team issues keys.",
            ),
            Err(wait) => {
                let detail = "Too many requests without a right key came from this address.";
                Error { retry_after: Some(wait), ..Error::new(Code::RateLimited, detail) }
            }
        };
        self.metrics.auth_failure(error.code.info().name);
        error
    }
}

/// A client whose key was right. As a handler's argument it *is* the authorisation.
#[derive(Clone, Debug)]
pub struct Client {
    /// Name from the settings.
    pub name: Arc<str>,
    /// Vendors that it may use; all when absent.
    providers: Option<Arc<[String]>>,
    /// What it may do.
    scopes: Arc<[Scope]>,
    /// How many requests it may send; any number when absent.
    allowance: Option<Arc<Allowance>>,
}

impl Client {
    /// Anybody, where nobody is asked for a key.
    pub(crate) fn anonymous() -> Self {
        Self {
            name: "anonymous".into(),
            providers: None,
            scopes: Scope::ALL.as_slice().into(),
            allowance: None,
        }
    }

    /// Whether the client may do something.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether the client may do something.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_scope(&self, scope: Scope) -> Result<(), Error> {
        self.require_one_of(&[scope])
    }

    /// Whether the client may do something that any of the scopes allows.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_one_of(&self, scopes: &[Scope]) -> Result<(), Error> {
        if scopes.iter().any(|scope| self.has(*scope)) {
            return Ok(());
        }
        let words: Vec<_> = scopes.iter().map(|scope| format!("`{}`", scope.word())).collect();
        let detail =
            format!("This key lacks the scope {}. The platform team can change that.", words.join(" or "));
        Err(Error::new(Code::Forbidden, detail))
    }

    /// The only client whose submissions and usage the client may see: itself; none if it may see everybody's.
    #[must_use]
    pub fn sees_only(&self) -> Option<&str> {
        (!self.has(Scope::Operate)).then_some(&*self.name)
    }

    /// Whether the client may use a vendor.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require(&self, provider: &str) -> Result<(), Error> {
        let may = self.providers.as_ref().is_none_or(|list| list.iter().any(|allowed| allowed == provider));
        if may {
            Ok(())
        } else {
            let detail =
                format!("This key may not use the provider `{provider}`. The platform team can change that.");
            Err(Error::new(Code::Forbidden, detail))
        }
    }
}

impl FromRequest for Client {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let auth = request.app_data::<web::Data<Auth>>();
        let client = auth
            .ok_or_else(Error::internal)
            .and_then(|auth| auth.authenticate(authorization, || log_address(request, &auth.proxies)));
        ready(client.and_then(|client| {
            telemetry::learn(request, |learnt| learnt.client = Some(Arc::clone(&client.name)));
            if let Some(allowance) = &client.allowance {
                let (standing, taken) = allowance.take();
                request.extensions_mut().insert(standing);
                taken?;
            }
            Ok(client)
        }))
    }
}

/// The address of who sent a request without a right key; it is put into the line of the request.
fn log_address(request: &HttpRequest, proxies: &[IpNet]) -> IpAddr {
    let address = address::caller(request, proxies);
    telemetry::learn(request, |learnt| learnt.client_address = Some(address));
    address
}

/// A new random key and its hash.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn new_key() -> Result<(String, String), getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = base16ct::lower::encode_string(&hash(key.as_bytes()).0);
    Ok((key, hash))
}

/// The token of `Bearer TOKEN`, RFC 6750; the scheme in any case.
fn bearer_token(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Keys are 256 random bits, so that a fast hash is as good as a slow one.
fn hash(key: &[u8]) -> KeyHash {
    KeyHash(Sha256::digest(key).into())
}
