//! What a vendor's failure means to a caller.

use crate::error::{Code, Error};
use crate::http::{ProviderError, ProviderErrorKind};
use crate::providers::Info;

/// The error that callers get when a call to a vendor failed.
pub(super) fn vendor_error(info: &Info, failure: &ProviderError) -> Error {
    let code = match failure.kind {
        ProviderErrorKind::BatchNotFound => Code::BatchNotFound,
        ProviderErrorKind::Credentials => Code::ProviderCredentials,
        ProviderErrorKind::CreditsExhausted => Code::ProviderCreditsExhausted,
        ProviderErrorKind::Expired => Code::BatchExpired,
        ProviderErrorKind::Failed | ProviderErrorKind::InvalidRequest => Code::ProviderError,
        ProviderErrorKind::Integrity => Code::ProviderIntegrity,
        ProviderErrorKind::Malformed => Code::ProviderMalformed,
        ProviderErrorKind::RateLimited => Code::ProviderRateLimited,
        ProviderErrorKind::Refused => Code::ProviderRefused,
        ProviderErrorKind::Timeout => Code::ProviderTimeout,
        ProviderErrorKind::Unavailable => Code::ProviderUnavailable,
        ProviderErrorKind::Unreachable => Code::ProviderUnreachable,
        ProviderErrorKind::Unsupported => Code::NotSupported,
    };
    Error {
        provider: Some(info.slug),
        retry_after: failure.retry_after,
        ..Error::new(code, format!("{}: {}", info.name, failure.detail))
    }
}
