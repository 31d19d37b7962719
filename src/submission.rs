//! A submission: a paid order of a batch, from the request to what became of it.
//!
//! Pure data. No vendor has idempotency, so the gateway itself makes sure that one order is sent at most once:
//! each submission is a row of the store, and its state says what is known about the one request that costs
//! money.

mod key;
mod order;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::key::{IdempotencyKey, InvalidKey};
pub use self::order::{Accepts, NewBatch};
pub use crate::batch::SubmissionId;
use crate::batch::{BatchId, Personal};

/// What is known about the one request that costs money. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionState {
    /// Written down, nothing sent.
    Reserved,
    /// The request is under way, or the process that sent it died and nobody has noticed yet.
    Sending,
    /// The vendor took the batch; `batch_id` says which it is.
    Accepted,
    /// Provably nothing was sent, or the vendor refused it before it did anything: nothing was charged, and the
    /// same key may be sent again.
    NotSent,
    /// Sent, and no usable answer came: the vendor may have charged. It is never sent again on its own.
    InDoubt,
}

impl SubmissionState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Reserved, Self::Sending, Self::Accepted, Self::NotSent, Self::InDoubt];

    /// The word in JSON, in the store and in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Sending => "sending",
            Self::Accepted => "accepted",
            Self::NotSent => "not_sent",
            Self::InDoubt => "in_doubt",
        }
    }

    /// The state of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// One submission as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Submission {
    /// The gateway's own id; it travels to the vendor with the batch.
    #[schema(value_type = String, format = "uuid")]
    pub id: SubmissionId,
    /// Name of the client that submitted.
    pub client: String,
    /// Slug of the vendor.
    pub provider: String,
    /// What is known about the one request that costs money.
    pub state: SubmissionState,
    /// Records in the batch.
    pub records: u64,
    /// The caller's reference of the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reference: Option<Personal<String>>,
    /// The vendor's id of the batch, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub batch_id: Option<BatchId>,
    /// Code of the error that ended the last attempt, as the caller got it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When the request was written down, RFC 3339 in UTC.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the last attempt began to send, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    /// When the state became what it is, RFC 3339 in UTC.
    #[schema(value_type = String, format = DateTime)]
    pub state_since: Timestamp,
    /// Who decided on it as an operator, the last time that anyone did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<String>,
}
