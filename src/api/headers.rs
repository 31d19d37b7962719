//! Request headers that mean something to the gateway and that no library in use reads.

use std::time::Duration;

use actix_web::http::header::HeaderMap;

use crate::error::{Code, Error};
use crate::submission::IdempotencyKey;

/// Name of the header that makes a submission one and the same, however often it is sent.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The key of a submission.
///
/// # Errors
/// `idempotency_key_missing`, or `invalid_request` for more than one key and for one that is not allowed.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Error> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else {
        let detail =
            "A submission needs an `Idempotency-Key`: send the same one whenever you send the same again.";
        return Err(Error::invalid_parameter(Code::IdempotencyKeyMissing, IDEMPOTENCY_KEY, detail));
    };
    let key = value.as_bytes().try_into().ok();
    key.filter(|_| values.next().is_none()).ok_or_else(|| {
        let detail =
            "The key must be 1 to 255 printable ASCII characters in one header, bare or in double quotes.";
        Error::invalid_parameter(Code::InvalidRequest, IDEMPOTENCY_KEY, detail)
    })
}

/// How long the caller wants to wait for the end of a batch: `Prefer: wait=N`, RFC 7240 4.3, in whole seconds.
///
/// Only the first `wait` counts (RFC 7240 2); one that cannot be understood is as good as none, and one beyond `longest` is
/// cut to that.
pub(super) fn preferred_wait(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let values = headers.get_all("Prefer").filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| split(value, ','));
    let seconds = preferences.find_map(|preference| {
        // What follows a semicolon are parameters; this preference has none.
        let preference = split(preference, ';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim())
    })?;
    let seconds = seconds.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"')).unwrap_or(seconds);
    if seconds.is_empty() || !seconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Digits that do not fit are a large number.
    Some(seconds.parse().map_or(longest, |seconds| Duration::from_secs(seconds).min(longest)))
}

/// The parts of a header value between separators that do not stand in a quoted string.
fn split(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |c| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        }
        !quoted && c == separator
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const LONGEST: Duration = Duration::from_mins(1);

    fn headers(name: &'static str, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_submission_needs_one_key() {
        let code = |values: &[&[u8]]| {
            idempotency_key(&headers("idempotency-key", values)).err().map(|error| error.code)
        };
        assert_eq!(code(&[b"\"abc\""]), None);
        assert_eq!(code(&[]), Some(Code::IdempotencyKeyMissing));
        assert_eq!(code(&[b""]), Some(Code::InvalidRequest));
        assert_eq!(code(&[b"abc", b"abc"]), Some(Code::InvalidRequest), "one header");
        assert_eq!(code(&[b"abc", b"\""]), Some(Code::InvalidRequest), "one header");
    }

    #[test]
    fn an_error_does_not_repeat_the_key() {
        for values in [&[&b"secret\xff"[..]][..], &[b"secret", b"secret"]] {
            let error = idempotency_key(&headers("idempotency-key", values)).unwrap_err();
            assert_eq!(error.errors[0].parameter.as_deref(), Some(IDEMPOTENCY_KEY));
            assert!(!format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn the_first_wait_counts_and_a_malformed_one_is_none() {
        for (values, seconds) in [
            (&["wait=30"][..], Some(30)),
            (&["wait=0"], Some(0)),
            (&["wait=60"], Some(60)),
            (&["wait=61"], Some(60)),
            (&["wait=99999999999999999999999999"], Some(60)),
            (&["wait=007"], Some(7)),
            (&["WAIT=5"], Some(5)),
            (&[" Wait = 5 "], Some(5)),
            (&["wait=\"5\""], Some(5)),
            (&["wait = \"5\" ; for=you"], Some(5)),
            (&["wait=5;x=\";,wait=9\""], Some(5)),
            (&["respond-async, wait=10"], Some(10)),
            (&["respond-async,wait=10,handling=lenient"], Some(10)),
            (&["respond-async", "wait=10"], Some(10)),
            (&["wait=10, wait=20"], Some(10)),
            (&["wait=10", "wait=20"], Some(10)),
            (&["a=\"x, wait=1\", wait=2"], Some(2)),
            (&["a=\"x\\\", wait=1\", wait=2"], Some(2)),
            (&[",, ,wait=3,"], Some(3)),
            // The first is the only one that is looked at.
            (&["wait=x, wait=20"], None),
            (&["wait", "wait=20"], None),
            (&[][..], None),
            (&[""], None),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=\"\""], None),
            (&["wait=\""], None),
            (&["wait=\"5"], None),
            (&["wait=5\""], None),
            (&["wait=-1"], None),
            (&["wait=+1"], None),
            (&["wait=1.5"], None),
            (&["wait=1 0"], None),
            (&["wait=0x10"], None),
            (&["wait=5s"], None),
            (&["wait==5"], None),
            (&["wait:5"], None),
            (&["await=5"], None),
            (&["wait5"], None),
            (&["a=\"wait=5"], None),
            (&["x; wait=5"], None),
        ] {
            let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
            let wait = preferred_wait(&headers("prefer", &values), LONGEST);
            assert_eq!(wait, seconds.map(Duration::from_secs), "{values:?}");
        }
        assert_eq!(preferred_wait(&headers("prefer", &[b"wait=5\xff"]), LONGEST), None);
        assert_eq!(
            preferred_wait(&headers("prefer", &["wait=\u{0665}".as_bytes()]), LONGEST),
            None,
            "ASCII digits"
        );
    }

    proptest! {
        #[test]
        fn no_header_makes_a_wait_longer_than_the_longest(values in prop::collection::vec("[ -~]{0,40}", 0..4)) {
            let values: Vec<_> = values.iter().map(String::as_bytes).collect();
            let wait = preferred_wait(&headers("prefer", &values), LONGEST);
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }

        #[test]
        fn a_wait_is_found_among_other_preferences(
            before in "([a-v]{1,5}(=([!#-+.-:<-~]{0,9}|\"[ !#-\\[\\]-~]{0,9}\"))?(;[a-z]=\"[,;w]{0,9}\")?,){0,3}",
            seconds in 0..200_u64,
        ) {
            let value = format!("{before} wait={seconds}");
            let wait = preferred_wait(&headers("prefer", &[value.as_bytes()]), LONGEST);
            prop_assert_eq!(wait, Some(Duration::from_secs(seconds).min(LONGEST)), "{}", value);
        }
    }
}
