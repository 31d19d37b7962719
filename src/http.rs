//! The HTTP client for vendors. All vendor traffic goes through this module.
//!
//! Every call ends in bounded time: connecting, each attempt with its body, the wait between two attempts and the whole
//! call have limits. It reads a bounded number of bytes, never follows a redirect, and ignores the environment's proxies
//! unless the settings say otherwise. No URL, body or key is in an error or a log. Calls that cost money or change
//! something are sent once. All callers share the vendor's quota.

mod body;
mod budget;
mod call_kind;
mod call_limiter;
mod circuit;
mod client;
mod concurrency;
mod error;
mod pause;
mod quota;
mod reply;
mod request;
mod retry;
#[cfg(test)]
pub(crate) mod scripted;
mod sliding_counter;
mod transport;

pub use self::call_kind::CallKind;
pub(crate) use self::call_kind::PerKind;
pub use self::client::{VendorClient, VendorClientError};
pub use self::error::{ErrorForm, ProviderError, ProviderErrorKind, SubmitError};
pub(crate) use self::error::{NO_CREDITS, REJECTED_KEY};
pub use self::quota::{Quota, QuotaScope};
pub use self::reply::Reply;
pub use self::request::{Call, Read, Write};
pub use self::retry::{parse_rate_limit_reset, parse_retry_after};
pub use self::transport::Transport;

#[cfg(test)]
mod tests;
