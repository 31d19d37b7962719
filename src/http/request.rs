//! What a vendor is asked, and for whom.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::{ProviderError, ProviderErrorKind, SubmitError};
use crate::telemetry::TraceContext;

/// For whom a vendor is called and until when.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id of the caller's request; vendors that take one are told it.
    pub request_id: Arc<str>,
    /// The caller's trace.
    pub trace: TraceContext,
    /// When the whole read, with all its steps and retries, must be over.
    pub deadline: Instant,
}

/// One reading request; safe to send again.
#[derive(Debug)]
pub struct Read {
    pub(super) operation: &'static str,
    pub(super) path_and_query: String,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Read {
    /// A GET of `path_and_query` below the vendor's base URL; `operation` names it in metrics.
    #[must_use]
    pub const fn new(operation: &'static str, path_and_query: String) -> Self {
        Self { operation, path_and_query, headers: Vec::new() }
    }

    /// The request with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request that changes something at the vendor: a POST, sent once.
pub struct Write {
    pub(super) operation: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Bytes>,
    /// Whether the vendor has begun what this is a later step of.
    pub(super) is_continuation: bool,
}

impl Write {
    /// A POST to `path` below the vendor's base URL; `operation` names it in metrics.
    #[must_use]
    pub const fn new(operation: &'static str, path: String) -> Self {
        Self { operation, path, headers: Vec::new(), body: None, is_continuation: false }
    }

    /// The request with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The request as a later step of what the vendor has begun, and may have charged for: it waits for its place as long
    /// as there is time, where a first one is refused.
    #[must_use]
    pub const fn continuation(mut self) -> Self {
        self.is_continuation = true;
        self
    }

    /// The request with a JSON body.
    ///
    /// # Errors
    /// Nothing was sent, when the body cannot be written as JSON, which is a defect.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self, SubmitError> {
        const UNWRITABLE: ProviderError =
            ProviderError::permanent(ProviderErrorKind::Refused, "the request cannot be written as JSON");
        let json = serde_json::to_vec(body).map_err(|_| SubmitError::NotSent(UNWRITABLE))?;
        self.body = Some(json.into());
        Ok(self)
    }
}

/// Without the body: it holds data of persons.
impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("operation", &self.operation)
            .field("path", &self.path)
            .field("bytes", &self.body.as_ref().map_or(0, Bytes::len))
            .finish_non_exhaustive()
    }
}
