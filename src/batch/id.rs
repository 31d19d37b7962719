//! The ids of batches and of submissions, checked before they can reach anybody.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// A vendor's batch id: 1 to 64 letters, digits, `_` or `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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
            // A UUID means the same in either case (RFC 9562 4): one batch has one spelling.
            let is_uuid = text.len() == 36 && Uuid::try_parse(text).is_ok();
            Ok(Self(if is_uuid { text.to_ascii_lowercase().into() } else { text.into() }))
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

/// The gateway's own id of a submission, which travels to the vendor with the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct SubmissionId(Uuid);

impl SubmissionId {
    /// A new id; later ones sort after earlier ones.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// When the id was made, to the second; none where it does not say (RFC 9562 5.7).
    pub(crate) fn created_at(self) -> Option<Timestamp> {
        let (seconds, _) = self.0.get_timestamp()?.to_unix();
        Timestamp::from_second(seconds.try_into().ok()?).ok()
    }
}

impl Default for SubmissionId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for SubmissionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_what_the_contract_says_and_nothing_else(text in prop_oneof![
            any::<String>(),
            "[A-Za-z0-9_-]{0,70}",
            "[A-Za-z0-9_-]{0,10}[ -~\u{e9}\n][A-Za-z0-9_-]{0,10}",
        ]) {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let id = text.parse::<BatchId>();
            prop_assert_eq!(id.is_ok(), (1..=64).contains(&text.chars().count()) && text.chars().all(allowed));
            if let Ok(id) = id {
                prop_assert!(id.as_str().eq_ignore_ascii_case(&text));
                prop_assert_eq!(id.as_str().parse::<BatchId>().unwrap(), id);
            }
        }

        #[test]
        fn a_uuid_is_one_batch_in_either_case_and_any_other_id_is_as_it_is(
            bytes in any::<[u8; 16]>(),
            other in "[A-Za-z0-9_-]{1,35}",
        ) {
            let uuid = Uuid::from_bytes(bytes).to_string();
            let upper: BatchId = uuid.to_uppercase().parse().unwrap();
            prop_assert_eq!(upper.as_str(), uuid);
            let id: BatchId = other.parse().unwrap();
            prop_assert_eq!(id.as_str(), other);
        }
    }
}
