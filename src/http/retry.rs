//! How long to wait before the next try.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// The longest waiting time of a vendor that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(15);
const BACKOFF_BASE: Duration = Duration::from_millis(200);
const BACKOFF_CAP: Duration = Duration::from_secs(2);
/// Numbers from here on are milliseconds since 1970: as seconds they would lie beyond the year 33,000.
const MIN_EPOCH_MILLIS: u64 = 1_000_000_000_000;

/// The waiting time of a `Retry-After` value: seconds or an HTTP date (RFC 9110 10.2.3).
///
/// A fraction of a second is rounded up. A date may have any of the three forms of RFC 9110 5.6.7. A date in the past
/// is no wait, more than 15 minutes is 15 minutes, anything else is none.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Some(seconds) = parse_seconds(value) {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let date = httpdate::parse_http_date(value).ok().and_then(|date| Timestamp::try_from(date).ok());
    // Some servers write a numeric offset instead of GMT.
    let date = date.or_else(|| DateTimeParser::new().parse_timestamp(value).ok())?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO).min(MAX_RETRY_AFTER))
}

/// The waiting time of a rate limit's reset header: seconds since 1970, milliseconds since 1970, or seconds from now.
///
/// None unless the reset lies within the next 15 minutes.
#[must_use]
pub fn parse_rate_limit_reset(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let number = parse_seconds(value)?;
    if (1..=MAX_RETRY_AFTER.as_secs()).contains(&number) {
        return Some(Duration::from_secs(number));
    }
    let number = i64::try_from(number).ok()?;
    let reset = if number.unsigned_abs() < MIN_EPOCH_MILLIS {
        Timestamp::from_second(number)
    } else {
        Timestamp::from_millisecond(number)
    };
    let wait = Duration::try_from(reset.ok()?.duration_since(now)).ok()?;
    (wait <= MAX_RETRY_AFTER).then_some(wait)
}

/// A number of seconds, a fraction rounded up and at most `u64::MAX`.
fn parse_seconds(value: &str) -> Option<u64> {
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let round_up = fraction.bytes().any(|digit| digit != b'0');
    // All digits: what cannot be parsed is too large.
    Some(whole.parse().unwrap_or(u64::MAX).saturating_add(round_up.into()))
}

/// A random wait before the try after `attempt`: full jitter, doubling from 200 ms up to 2 s, so that many
/// waiting calls do not come back at the same moment.
pub(super) fn backoff(attempt: u32) -> Duration {
    let longest = BACKOFF_BASE.saturating_mul(1 << (attempt - 1).min(8)).min(BACKOFF_CAP);
    longest.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_are_understood_capped_or_ignored() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("30.5", Some(31)),
            ("30.0", Some(30)),
            ("30.", Some(30)),
            ("0.001", Some(1)),
            ("1000000000", Some(900)),
            ("99999999999999999999999", Some(900)),
            ("99999999999999999999999.5", Some(900)),
            ("Sun, 22 Nov 2026 10:00:30 GMT", Some(30)),
            ("Sunday, 22-Nov-26 10:00:30 GMT", Some(30)),
            ("Sun Nov 22 10:00:30 2026", Some(30)),
            ("Sun, 22 Nov 2026 11:00:30 +0100", Some(30)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(0)),
            ("Sun Nov  6 08:49:37 1994", Some(0)),
            ("Sun, 22 Nov 2099 09:00:00 GMT", Some(900)),
            ("soon", None),
            ("-5", None),
            ("-0.5", None),
            (".5", None),
            ("1e1", None),
            ("1.5.5", None),
            ("1,5", None),
            ("٧", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(value, now), expected.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn resets_are_epoch_seconds_epoch_milliseconds_or_seconds_from_now() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("1795341630", Some(30_000)),
            (" 1795341600 ", Some(0)),
            ("1795341629.5", Some(30_000)),
            ("1795341630250", Some(30_250)),
            ("1795342500", Some(900_000)),
            ("1795342501", None),
            ("1795342500001", None),
            ("1795341599", None),
            ("1795341599999", None),
            ("1700000000", None),
            ("1", Some(1_000)),
            ("59.5", Some(60_000)),
            ("900", Some(900_000)),
            ("901", None),
            ("0", None),
            ("-1", None),
            ("9999999999", None),
            ("99999999999999999999999", None),
            ("later", None),
            ("", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(parse_rate_limit_reset(value, now), expected, "{value:?}");
        }
    }

    #[test]
    fn backoff_stays_below_its_cap() {
        for attempt in 1..40 {
            assert!(backoff(attempt) <= BACKOFF_CAP);
        }
    }
}
