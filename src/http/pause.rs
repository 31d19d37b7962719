//! For how long a vendor is left alone that refuses the gateway's key or throttles it.

use std::time::Duration;

use tokio::time::Instant;

use crate::class::{CallClass, PerClass};

/// The longest pause that a throttling vendor gets; it may be asked to wait longer, and is then asked again.
const LONGEST: Duration = Duration::from_mins(1);

/// The pauses of one vendor.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    key_refused: Option<Instant>,
    throttled: PerClass<Option<Instant>>,
}

/// Why a vendor is left alone, and for how long from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It refuses the gateway's key.
    KeyRefused(Duration),
    /// It throttles calls of this class.
    Throttled(Duration),
}

impl Pauses {
    /// The pause that a call meets now.
    pub(super) fn left(&self, class: CallClass, now: Instant) -> Option<Pause> {
        let left = |until: Option<Instant>| {
            until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
        };
        let throttled = || left(*self.throttled.of(class)).map(Pause::Throttled);
        left(self.key_refused).map(Pause::KeyRefused).or_else(throttled)
    }

    /// The vendor refuses the key. Whether that is news.
    pub(super) fn refuse_key(&mut self, now: Instant, pause: Duration) -> bool {
        let news = self.key_refused.is_none_or(|until| until <= now);
        if news {
            self.key_refused = Some(now + pause);
        }
        news
    }

    /// The vendor asks for a wait.
    pub(super) fn throttle(&mut self, class: CallClass, now: Instant, wait: Duration) {
        let until = self.throttled.of_mut(class);
        *until = (*until).max(Some(now + wait.min(LONGEST)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_key_is_for_both_classes_and_throttling_for_one() {
        use CallClass::{Read, Submit};
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut pauses = Pauses::default();
        pauses.throttle(Read, now, second * 1_000);
        pauses.throttle(Read, now, second);
        assert_eq!(pauses.left(Read, now), Some(Pause::Throttled(LONGEST)));
        assert_eq!(pauses.left(Submit, now), None);
        let news = [0, 59, 60].map(|after| pauses.refuse_key(now + second * after, second * 60));
        assert_eq!(news, [true, false, true]);
        assert_eq!(pauses.left(Submit, now + second * 61), Some(Pause::KeyRefused(second * 59)));
        assert_eq!(pauses.left(Read, now + second * 120), None);
    }
}
