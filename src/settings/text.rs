//! How one value is read: every scalar is a text, and a text that does not fit is never repeated.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use reqwest::Url;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{
    AuthMode, ByteCount, Delay, KeyHash, Listen, LogFilter, LogFormat, Proxy, StoreUrl, Ttl, VendorUrl,
};
use crate::rate::Rate;
use crate::scope::Scope;

/// How our own messages begin; serde's may quote values.
pub(super) const MUST_BE: &str = "must be ";

/// A value that is written as text.
pub(super) trait FromText: Sized {
    /// What is allowed, to follow "must be".
    const EXPECTED: &'static str;

    /// The value, if the text fits.
    fn from_text(text: &str) -> Option<Self>;
}

/// Reads one value.
pub(super) fn text<'de, D: Deserializer<'de>, T: FromText>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    let text = trimmed(&text);
    T::from_text(text).ok_or_else(|| {
        let quotes = if in_quotes(text) { "; remove the quotes around the value" } else { "" };
        D::Error::custom(format_args!("{MUST_BE}{}{quotes}", T::EXPECTED))
    })
}

/// A text without the byte order mark and the white space around it.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim().trim_start_matches('\u{feff}').trim()
}

/// Whether quotes are part of a value: a shell removes them, a file of variables for a container keeps them.
pub(super) fn in_quotes(text: &str) -> bool {
    text.starts_with(['"', '\'']) || text.ends_with(['"', '\''])
}

/// Reads one value that may be absent.
pub(super) fn optional<'de, D: Deserializer<'de>, T: FromText>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    text(deserializer).map(Some)
}

/// Reads a list, or a text with commas in it, which is how an environment variable writes a list.
pub(super) fn list<'de, D: Deserializer<'de>, T: FromText>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Items;

    impl<'de> Visitor<'de> for Items {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.split(',').map(str::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                items.push(item);
            }
            Ok(items)
        }
    }

    let items = deserializer.deserialize_any(Items)?;
    items
        .iter()
        .map(|item| {
            T::from_text(trimmed(item))
                .ok_or_else(|| D::Error::custom(format_args!("{MUST_BE}a list of {}", T::EXPECTED)))
        })
        .collect()
}

/// Reads a list that may be absent.
pub(super) fn optional_list<'de, D: Deserializer<'de>, T: FromText>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    list(deserializer).map(Some)
}

macro_rules! from_str {
    ($($type:ty: $expected:literal,)*) => {
        $(impl FromText for $type {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Option<Self> {
                Self::from_str(text).ok()
            }
        })*
    };
}

from_str! {
    String: "a text",
    bool: "true or false",
    u32: "a whole number",
    usize: "a whole number",
}

impl FromText for Duration {
    const EXPECTED: &'static str = "a duration above zero and up to a day, such as \"500ms\" or \"2s\"";

    fn from_text(text: &str) -> Option<Self> {
        let duration = Self::try_from(SignedDuration::from_str(text).ok()?).ok()?;
        (!duration.is_zero() && duration <= Self::from_hours(24)).then_some(duration)
    }
}

impl FromText for Ttl {
    const EXPECTED: &'static str = "a duration up to 10 minutes, such as \"2s\", or \"0s\" to keep nothing";

    fn from_text(text: &str) -> Option<Self> {
        let duration = Duration::try_from(SignedDuration::from_str(text).ok()?).ok()?;
        (duration <= Self::LONGEST).then_some(Self(duration))
    }
}

impl FromText for Listen {
    const EXPECTED: &'static str = "an IP address or a host name with a port, such as 127.0.0.1:8080 or localhost:8080, or unix:/path/to/socket";

    fn from_text(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (name, port) = text.rsplit_once(':')?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // What ends in a digit is meant as an address.
        let is_name = (1..=253).contains(&name.len())
            && name.chars().all(allowed)
            && !name.ends_with(|c: char| c.is_ascii_digit());
        (is_name && port.parse::<u16>().is_ok()).then(|| Self::Host(text.to_ascii_lowercase()))
    }
}

impl FromText for Delay {
    const EXPECTED: &'static str = "a duration up to 10 minutes, such as \"5s\", or \"0s\" for none";

    fn from_text(text: &str) -> Option<Self> {
        let duration = Duration::try_from(SignedDuration::from_str(text).ok()?).ok()?;
        (duration <= Self::LONGEST).then_some(Self(duration))
    }
}

impl FromText for Rate {
    const EXPECTED: &'static str = "calls and a time, such as \"150/1m\" or \"10/1s\"";

    fn from_text(text: &str) -> Option<Self> {
        let (calls, per) = text.split_once('/')?;
        let calls = calls.trim().parse().ok().filter(|calls| *calls > 0)?;
        Some(Self { calls, per: Duration::from_text(per.trim())? })
    }
}

impl FromText for IpNet {
    const EXPECTED: &'static str = "IP addresses and networks, such as 192.0.2.1 and 10.0.0.0/8";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().or_else(|_| text.parse::<IpAddr>().map(Self::from)).ok()
    }
}

impl FromText for ByteCount {
    const EXPECTED: &'static str = "a size, such as \"64MiB\" or a number of bytes";

    fn from_text(text: &str) -> Option<Self> {
        bytesize::ByteSize::from_str(text).ok().map(|size| Self(size.as_u64()))
    }
}

impl FromText for AuthMode {
    const EXPECTED: &'static str = "\"keys\" or \"none\"";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "keys" => Some(Self::Keys),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

impl FromText for Scope {
    const EXPECTED: &'static str = "scopes; there are read, submit, erase and operate";

    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.word() == text)
    }
}

impl FromText for LogFilter {
    const EXPECTED: &'static str = "directives such as \"info\" or \"phone_gateway=debug,warn\"";

    fn from_text(text: &str) -> Option<Self> {
        let directives = text.split(',').map(str::trim);
        // `EnvFilter` takes a word that is no level for the name of a module: "verbose" would silence all but that.
        let mut bare = directives.filter(|directive| !directive.contains(['=', '[']));
        let meant = bare.all(|word| word.parse::<LevelFilter>().is_ok() || is_own_module(word));
        EnvFilter::try_new(text).ok().filter(|_| meant).map(|_| Self(text.to_owned()))
    }
}

fn is_own_module(word: &str) -> bool {
    word.split("::").next() == Some(env!("CARGO_CRATE_NAME"))
}

impl FromText for LogFormat {
    const EXPECTED: &'static str = "\"json\" or \"text\"";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

impl FromText for Proxy {
    const EXPECTED: &'static str = "\"none\", \"environment\" or an http(s) URL with a host";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "environment" => Some(Self::Environment),
            url => {
                let url = Url::parse(url).ok()?;
                (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(Self::Url(url))
            }
        }
    }
}

impl FromText for KeyHash {
    const EXPECTED: &'static str =
        "SHA-256 hashes of 64 hexadecimal digits, as `phone-gateway key new` prints them";

    fn from_text(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        base16ct::mixed::decode(text, &mut hash).ok().filter(|bytes| bytes.len() == 32)?;
        Some(Self(hash))
    }
}

impl FromText for StoreUrl {
    const EXPECTED: &'static str = "sqlite://PATH, or a postgres:// URL with one host; for several servers, give the \
                                    address that always leads to the primary";

    fn from_text(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            // `:memory:` would not outlive the process, and options of the URL are not the operator's to set.
            let is_file = !path.is_empty() && !path.starts_with(':') && !path.contains('?');
            return is_file.then(|| Self::Sqlite(path.into()));
        }
        let url = Url::parse(text).ok()?;
        // The driver would look the whole list up as one name.
        let mut hosts = url.query_pairs().filter(|(key, _)| matches!(&**key, "host" | "hostaddr"));
        let one_host =
            !url.host_str().unwrap_or_default().contains(',') && !hosts.any(|(_, host)| host.contains(','));
        (matches!(url.scheme(), "postgres" | "postgresql") && one_host).then(|| Self::Postgres(text.into()))
    }
}

impl FromText for VendorUrl {
    const EXPECTED: &'static str =
        "an https URL, or an http URL of a loopback address, without user, query and fragment";

    fn from_text(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let allowed = match url.scheme() {
            "https" => url.host_str().is_some(),
            "http" => is_loopback(&url),
            _ => false,
        };
        (plain && allowed && url.fragment().is_none()).then_some(Self(url))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
