//! What a vendor answered.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;

use super::{parse_rate_limit_reset, parse_retry_after};

/// A vendor's whole answer.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body, complete.
    pub body: Bytes,
    /// When it was here.
    pub received_at: Timestamp,
    headers: HeaderMap,
    /// What a large body needs; it is given back with the body.
    room: Option<OwnedSemaphorePermit>,
}

impl Reply {
    /// An answer as it came.
    #[must_use]
    pub const fn new(status: u16, headers: HeaderMap, body: Bytes, received_at: Timestamp) -> Self {
        Self { status, body, received_at, headers, room: None }
    }

    /// The answer, which keeps its room until it is dropped.
    pub(super) fn holding(self, room: Option<OwnedSemaphorePermit>) -> Self {
        Self { room, ..self }
    }

    /// Whether the vendor says that it did what it was asked, RFC 9110 15.3.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// A header as text; none if it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long `Retry-After` asks to wait, RFC 9110 10.2.3.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after").and_then(|value| parse_retry_after(value, self.received_at))
    }

    /// How long until the rate limit is reset, by the header that a vendor has for it; none unless the answer is a 429.
    #[must_use]
    pub fn rate_limit_reset(&self, header: &str) -> Option<Duration> {
        let value = self.header(header).filter(|_| self.status == 429)?;
        parse_rate_limit_reset(value, self.received_at)
    }
}

/// Without the body: it holds data of persons.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .field("large", &self.room.is_some())
            .finish_non_exhaustive()
    }
}
