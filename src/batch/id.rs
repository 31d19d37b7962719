//! The id of a batch, checked before it can reach a vendor.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// A vendor's batch id: 1 to 64 letters, digits, `_` or `-`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct BatchId(Arc<str>);

impl BatchId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BatchId {
    type Err = InvalidBatchId;

    fn from_str(text: &str) -> Result<Self, InvalidBatchId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidBatchId)
        }
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a batch id.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a batch id is 1 to 64 letters, digits, `_` or `-`")]
pub struct InvalidBatchId;
