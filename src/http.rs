//! The only door to vendors: every byte to or from a vendor passes here.
//!
//! What holds for every call: it ends in bounded time (connecting, an attempt with its body, a pause between
//! two reads and the whole read are limited one by one), it reads a bounded number of bytes, it never follows
//! a redirect, it takes no proxy from the environment unless told so, and neither a URL nor a body nor a key
//! gets into an error or a log. What costs money or changes something is sent once; everybody who calls shares the
//! vendor's quota.

mod body;
mod budget;
mod bulkhead;
mod circuit;
mod client;
mod error;
mod gate;
mod pause;
mod reply;
mod request;
mod retry;
#[cfg(test)]
pub(crate) mod scripted;
mod tally;
mod trace;
mod transport;

pub use self::client::{VendorClient, VendorClientError};
pub use self::error::{ErrorForm, ProviderError, ProviderErrorKind, SubmitError};
pub(crate) use self::error::{NO_CREDITS, REJECTED_KEY};
pub use self::reply::Reply;
pub use self::request::{Call, Read, Write};
pub use self::retry::{parse_rate_limit_reset, parse_retry_after};
pub use self::trace::TraceContext;
pub use self::transport::Transport;

#[cfg(test)]
mod tests;
