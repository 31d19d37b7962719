//! Request headers that mean something to the gateway and that no library in use reads.

use std::time::Duration;

use actix_web::http::header::HeaderMap;

use crate::error::{Code, Error};

/// Name of the header that makes a submission one and the same, however often it is sent.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The longest time that a caller may wait for, in seconds.
pub(super) const MAX_WAIT: u64 = 60;

/// Most characters of an idempotency key.
const MAX_KEY: usize = 255;

/// The key of a submission: bare, or a string as RFC 8941 3.3.3 writes it; both spellings are the same key.
///
/// # Errors
/// `idempotency_key_missing`, or `invalid_request` for more than one key and for one that is not allowed.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<String, Error> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else {
        let detail =
            "A submission needs an `Idempotency-Key`: send the same one whenever you send the same again.";
        return Err(Error::invalid_parameter(Code::IdempotencyKeyMissing, IDEMPOTENCY_KEY, detail));
    };
    let key = key_of(value.as_bytes()).filter(|key| (1..=MAX_KEY).contains(&key.len()));
    key.filter(|_| values.next().is_none()).ok_or_else(|| {
        let detail =
            "The key must be 1 to 255 printable ASCII characters in one header, bare or in double quotes.";
        Error::invalid_parameter(Code::InvalidRequest, IDEMPOTENCY_KEY, detail)
    })
}

fn key_of(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if !text.chars().all(|c| matches!(c, ' '..='~')) {
        return None;
    }
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut key = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(key),
            '\\' => key.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            plain => key.push(plain),
        }
    }
}

/// How long the caller wants to wait for the end of a batch: `Prefer: wait=N`, RFC 7240 4.3, in whole seconds.
///
/// Only the first `wait` counts (RFC 7240 2); one that cannot be understood is as good as none.
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
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
    Some(Duration::from_secs(seconds.parse().map_or(MAX_WAIT, |seconds: u64| seconds.min(MAX_WAIT))))
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

    use super::*;

    fn headers(name: &'static str, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn key(values: &[&[u8]]) -> Result<String, Code> {
        idempotency_key(&headers("idempotency-key", values)).map_err(|error| error.code)
    }

    #[test]
    fn a_key_is_the_same_bare_and_quoted() {
        for (value, meant) in [
            (&b"abc"[..], "abc"),
            (b"\"abc\"", "abc"),
            (b"  abc\t", "abc"),
            (b" \"abc\" ", "abc"),
            (b"\" abc \"", " abc "),
            (b"a b", "a b"),
            (b"a\"b", "a\"b"),
            (br#""a\"b""#, "a\"b"),
            (br#""a\\b""#, "a\\b"),
            (br"a\b", "a\\b"),
            (b"a,b;c=d", "a,b;c=d"),
            (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (b"!~", "!~"),
        ] {
            assert_eq!(key(&[value]).as_deref(), Ok(meant), "{}", String::from_utf8_lossy(value));
        }
        let (longest, quoted) = ("k".repeat(255), format!("\"{}\"", "k".repeat(255)));
        assert_eq!(key(&[longest.as_bytes()]).as_ref(), Ok(&longest));
        assert_eq!(key(&[quoted.as_bytes()]).as_ref(), Ok(&longest));
        let escaped = format!("\"{}\"", "\\\"".repeat(255));
        assert_eq!(key(&[escaped.as_bytes()]).unwrap().len(), 255, "counted as it is meant");
    }

    #[test]
    fn a_key_that_cannot_be_one_is_refused() {
        let (too_long, quoted) = ("k".repeat(256), format!("\"{}\"", "k".repeat(256)));
        for value in [
            &b""[..],
            b"  ",
            b"\"\"",
            b"\"",
            b"\"abc",
            b"\"abc\"\"",
            b"\"abc\";a=1",
            b"\"abc\", \"abc\"",
            b"\"abc\" x",
            br#""a\bc""#,
            br#""abc\""#,
            br#""abc\"#,
            b"a\tb",
            b"caf\xc3\xa9",
            b"\xff",
            too_long.as_bytes(),
            quoted.as_bytes(),
        ] {
            assert_eq!(key(&[value]), Err(Code::InvalidRequest), "{}", String::from_utf8_lossy(value));
        }
        assert_eq!(key(&[]), Err(Code::IdempotencyKeyMissing));
        assert_eq!(key(&[b"abc", b"abc"]), Err(Code::InvalidRequest), "one header");
        assert_eq!(key(&[b"abc", b"\""]), Err(Code::InvalidRequest), "one header");
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
            let wait = preferred_wait(&headers("prefer", &values));
            assert_eq!(wait, seconds.map(Duration::from_secs), "{values:?}");
        }
        assert_eq!(preferred_wait(&headers("prefer", &[b"wait=5\xff"])), None);
        assert_eq!(preferred_wait(&headers("prefer", &["wait=\u{0665}".as_bytes()])), None, "ASCII digits");
    }
}
