//! What went wrong at a vendor.

use std::time::Duration;

use super::Reply;
use crate::batch::SamePosition;

/// What happened at a vendor, for branching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// The vendor does not know the batch, or no longer.
    BatchNotFound,
    /// The vendor refuses our key.
    Credentials,
    /// The vendor account has no credits.
    CreditsExhausted,
    /// The vendor answered with an error.
    Failed,
    /// The vendor answered for another batch.
    Integrity,
    /// The vendor's answer could not be understood.
    Malformed,
    /// The vendor throttles us, or would.
    RateLimited,
    /// The vendor refuses the batch as it is.
    Refused,
    /// No whole answer in time.
    Timeout,
    /// The vendor says that it is out of service.
    Unavailable,
    /// No connection, or it broke.
    Unreachable,
    /// The vendor has no such operation.
    Unsupported,
}

impl ProviderErrorKind {
    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BatchNotFound => "batch_not_found",
            Self::Credentials => "credentials",
            Self::CreditsExhausted => "credits_exhausted",
            Self::Failed => "failed",
            Self::Integrity => "integrity",
            Self::Malformed => "malformed",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unreachable => "unreachable",
            Self::Unsupported => "unsupported",
        }
    }
}

/// What happened at a vendor: a kind to branch on, and a sentence for people that can hold nothing of the
/// vendor's, because it is fixed at compile time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ProviderError {
    /// For branching.
    pub kind: ProviderErrorKind,
    /// For people, and ready to follow the vendor's name and a colon.
    pub detail: &'static str,
    /// The vendor's HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long the vendor asks to wait, at most 15 minutes.
    pub retry_after: Option<Duration>,
    /// Whether another try of the same read may mend it.
    pub retryable: bool,
}

impl ProviderError {
    /// An error that another try does not mend, at least not now.
    #[must_use]
    pub const fn permanent(kind: ProviderErrorKind, detail: &'static str) -> Self {
        Self { kind, detail, status: None, retry_after: None, retryable: false }
    }

    /// An error that another try of the same read may mend.
    #[must_use]
    pub const fn temporary(kind: ProviderErrorKind, detail: &'static str) -> Self {
        Self { kind, detail, status: None, retry_after: None, retryable: true }
    }

    /// The vendor's answer could not be understood.
    #[must_use]
    pub const fn malformed(detail: &'static str) -> Self {
        Self::permanent(ProviderErrorKind::Malformed, detail)
    }

    /// The statuses that mean the same at every vendor; what a vendor means differently it classifies first.
    #[must_use]
    pub fn from_status(reply: &Reply) -> Self {
        use ProviderErrorKind::{Credentials, CreditsExhausted, Failed, RateLimited, Unavailable};
        let error = match reply.status {
            401 | 403 => Self::permanent(Credentials, "the vendor refuses the gateway's key"),
            402 => Self::permanent(CreditsExhausted, NO_CREDITS),
            429 => Self::temporary(RateLimited, "the vendor throttles the gateway"),
            503 => Self::temporary(Unavailable, "the vendor says that it is out of service"),
            500..=599 => Self::temporary(Failed, "the vendor answered with a server error"),
            300..=399 => {
                Self::permanent(Failed, "the vendor answered with a redirect, which is never followed")
            }
            _ => Self::permanent(Failed, "the vendor answered with a status that it does not document"),
        };
        Self { status: Some(reply.status), retry_after: reply.retry_after(), ..error }
    }
}

/// What is said of a [`ProviderErrorKind::CreditsExhausted`], whichever status a vendor uses for it.
pub(crate) const NO_CREDITS: &str = "the vendor account has no credits left";

impl From<SamePosition> for ProviderError {
    fn from(_: SamePosition) -> Self {
        Self::malformed("two results claim the same position")
    }
}

/// How a request failed that is sent once only.
#[derive(Clone, Copy, Debug)]
pub enum SubmitError {
    /// Provably nothing was sent, or the vendor refused before it did anything: nothing was charged.
    NotSent(ProviderError),
    /// It was sent, or may have been, and no usable answer came: the vendor may have charged.
    InDoubt(ProviderError),
}

impl SubmitError {
    /// What happened at the vendor.
    #[must_use]
    pub const fn cause(&self) -> &ProviderError {
        match self {
            Self::NotSent(error) | Self::InDoubt(error) => error,
        }
    }

    /// What is known after a whole reply that `error` was made of. These statuses say that the vendor did nothing: it
    /// refused the request (RFC 9110 15.5, RFC 6585 4), and the vendors document them so. Any other one, a success
    /// that cannot be used included, may have been written by somebody who does not know.
    #[must_use]
    pub const fn from_reply(reply: &Reply, error: ProviderError) -> Self {
        match reply.status {
            400..=403 | 422 | 429 => Self::NotSent(error),
            _ => Self::InDoubt(error),
        }
    }
}
