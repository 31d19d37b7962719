//! What went wrong at a vendor.

use std::time::Duration;

use super::Reply;

/// What happened at a vendor, for branching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// The vendor does not know the batch, or no longer.
    BatchNotFound,
    /// The vendor rejects our key.
    Credentials,
    /// The vendor account has no credits.
    CreditsExhausted,
    /// The batch is past the vendor's retention.
    Expired,
    /// The vendor answered with an error.
    Failed,
    /// The vendor answered for another batch.
    Integrity,
    /// The vendor rejects the form of our request: a defect of the gateway.
    InvalidRequest,
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
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Integrity => "integrity",
            Self::InvalidRequest => "invalid_request",
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
    /// Whether the gateway did not call the vendor.
    pub not_called: bool,
}

impl ProviderError {
    /// An error that another try does not mend, at least not now.
    #[must_use]
    pub const fn permanent(kind: ProviderErrorKind, detail: &'static str) -> Self {
        Self { kind, detail, status: None, retry_after: None, retryable: false, not_called: false }
    }

    /// An error that another try of the same read may mend.
    #[must_use]
    pub const fn temporary(kind: ProviderErrorKind, detail: &'static str) -> Self {
        Self { kind, detail, status: None, retry_after: None, retryable: true, not_called: false }
    }

    /// An error of a call that the gateway did not make.
    #[must_use]
    pub const fn not_called(kind: ProviderErrorKind, detail: &'static str) -> Self {
        Self { not_called: true, ..Self::permanent(kind, detail) }
    }

    /// The vendor's answer could not be understood.
    #[must_use]
    pub const fn malformed(detail: &'static str) -> Self {
        Self::permanent(ProviderErrorKind::Malformed, detail)
    }

    /// The statuses that mean the same at every vendor; what a vendor means differently it classifies first.
    ///
    /// A 401 or a 403 is about the gateway's key only in the vendor's own form.
    #[must_use]
    pub fn from_status(reply: &Reply, form: ErrorForm) -> Self {
        use ProviderErrorKind::Failed;
        let error = match (reply.status, form) {
            (401 | 403, ErrorForm::Vendor) => REJECTED_KEY,
            (401, ErrorForm::Foreign) => Self::permanent(Failed, FOREIGN_401),
            (403, ErrorForm::Foreign) => Self::permanent(Failed, FOREIGN_403),
            (status, _) => Self::from_plain_status(status),
        };
        Self { status: Some(reply.status), retry_after: reply.retry_after(), ..error }
    }

    /// What a status says that needs no body.
    const fn from_plain_status(status: u16) -> Self {
        use ProviderErrorKind::{CreditsExhausted, Failed, RateLimited, Unavailable};
        match status {
            402 => Self::permanent(CreditsExhausted, NO_CREDITS),
            406 => Self::permanent(
                Failed,
                "the vendor has no answer in a form that the gateway accepts (Accept)",
            ),
            415 => Self::permanent(
                Failed,
                "the vendor rejects the media type of the gateway's request (Content-Type)",
            ),
            429 => Self::temporary(RateLimited, "the vendor throttles the gateway"),
            503 => Self::temporary(Unavailable, "the vendor says that it is out of service"),
            500..=599 => Self::temporary(Failed, "the vendor answered with a server error"),
            300..=399 => {
                Self::permanent(Failed, "the vendor answered with a redirect, which is never followed")
            }
            _ => Self::permanent(Failed, "the vendor answered with a status that it does not document"),
        }
    }
}

/// Who wrote the body of an error answer, as far as its form tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorForm {
    /// The vendor: the body has the form of its documents.
    Vendor,
    /// Somebody between the gateway and the vendor, such as a firewall with its page; or nobody knows.
    Foreign,
}

/// The vendor rejects the gateway's key.
pub(crate) const REJECTED_KEY: ProviderError =
    ProviderError::permanent(ProviderErrorKind::Credentials, "the vendor rejects the gateway's key");

const FOREIGN_401: &str = "the answer is a 401 that is not in the vendor's own form: something between the gateway and \
                           the vendor refused the call";
const FOREIGN_403: &str = "the answer is a 403 that is not in the vendor's own form: something between the gateway and \
                           the vendor refused the call";

/// What is said of a [`ProviderErrorKind::CreditsExhausted`], whichever status a vendor uses for it.
pub(crate) const NO_CREDITS: &str = "the vendor account has no credits left";

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

    /// The same error, with a time after which another attempt may succeed, unless the vendor named one.
    #[must_use]
    pub(super) fn with_wait(mut self, wait: Option<Duration>) -> Self {
        let (Self::NotSent(error) | Self::InDoubt(error)) = &mut self;
        error.retry_after = error.retry_after.or(wait);
        self
    }

    /// What is known after a whole reply that `error` was made of.
    ///
    /// Most refusals say by their status that the request was not processed (RFC 9110 15.5, RFC 6585 4 and 5), whoever
    /// wrote them. A 401 or a 403 says so in the vendor's own form only: firewalls look at answers, too, and block
    /// them with a 403 after the vendor has processed the request. Any other status, a success that cannot be used
    /// included, may have been written by somebody who does not know.
    #[must_use]
    pub const fn from_reply(reply: &Reply, error: ProviderError) -> Self {
        use ProviderErrorKind::{Credentials, CreditsExhausted};
        match (reply.status, error.kind) {
            (400 | 402 | 404 | 405 | 411 | 413 | 414 | 415 | 422 | 429 | 431, _)
            | (401 | 403, Credentials | CreditsExhausted) => Self::NotSent(error),
            _ => Self::InDoubt(error),
        }
    }
}
