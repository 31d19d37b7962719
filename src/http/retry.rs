//! How long to wait before the next try.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// The longest waiting time of a vendor that is believed.
const CAP: Duration = Duration::from_mins(15);
const BACKOFF_BASE: Duration = Duration::from_millis(200);
const BACKOFF_CAP: Duration = Duration::from_secs(2);

/// The waiting time of a `Retry-After` value: seconds or an HTTP date (RFC 9110 10.2.3).
///
/// A date in the past is no wait, more than 15 minutes is 15 minutes, anything else is none.
#[must_use]
pub fn waiting_time(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(CAP, Duration::from_secs).min(CAP));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO).min(CAP))
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
            ("1000000000", Some(900)),
            ("99999999999999999999999", Some(900)),
            ("Sun, 22 Nov 2026 10:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            ("Sun, 22 Nov 2099 09:00:00 GMT", Some(900)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(waiting_time(value, now), expected.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn backoff_stays_below_its_cap() {
        for attempt in 1..40 {
            assert!(backoff(attempt) <= BACKOFF_CAP);
        }
    }
}
