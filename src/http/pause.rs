//! How long a vendor is not called that rejects the gateway's key or throttles it.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::{CallKind, PerKind};

/// The longest pause of a throttling vendor; one that asks for more is called again after it.
const MAX_THROTTLED_PAUSE: Duration = Duration::from_mins(1);
/// How long after a rejection of the key another one confirms it.
const SUSPICION_WINDOW: Duration = Duration::from_mins(10);

/// The pauses of one vendor.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    key_suspected: Option<Suspicion>,
    key_rejected_until: Option<Instant>,
    throttled_until: PerKind<Option<Instant>>,
}

/// One call whose key was rejected. It may be that call alone: a batch of another product, or a node of the vendor's that
/// fails.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Instant,
    until: Instant,
}

/// What a rejection of the key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyRejection {
    /// Nothing yet: it is the first one.
    Suspected,
    /// The vendor is not called for a while.
    Confirmed,
    /// Nothing more: the call was in flight when an earlier one ended.
    Known,
}

/// Why a vendor is not called, and for how long from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It rejects the gateway's key.
    KeyRejected(Duration),
    /// It throttles calls of this kind.
    Throttled(Duration),
}

impl Pauses {
    /// The pause that a call meets now.
    pub(super) fn left(&self, kind: CallKind, now: Instant) -> Option<Pause> {
        let left = |until: Option<Instant>| {
            until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
        };
        let throttled = || left(*self.throttled_until.of(kind)).map(Pause::Throttled);
        left(self.key_rejected_until).map(Pause::KeyRejected).or_else(throttled)
    }

    /// The vendor rejected the key of a call that began at `began`. One rejection pauses nothing; a second one of a call
    /// that began after it does, for `pause`, unless a call has succeeded in between.
    pub(super) fn reject_key(&mut self, began: Instant, now: Instant, pause: Duration) -> KeyRejection {
        if self.key_rejected_until.is_some_and(|until| now < until) {
            return KeyRejection::Known;
        }
        match self.key_suspected.filter(|suspicion| now < suspicion.until) {
            Some(suspicion) if began < suspicion.since => KeyRejection::Known,
            Some(_) => {
                self.key_rejected_until = Some(now + pause);
                // After the pause, one more rejection is enough.
                self.key_suspected = Some(Suspicion { since: now, until: now + pause + SUSPICION_WINDOW });
                KeyRejection::Confirmed
            }
            None => {
                self.key_suspected = Some(Suspicion { since: now, until: now + SUSPICION_WINDOW });
                KeyRejection::Suspected
            }
        }
    }

    /// The vendor accepted the key.
    pub(super) const fn accept_key(&mut self) {
        self.key_suspected = None;
    }

    /// The vendor asks for a wait.
    pub(super) fn throttle(&mut self, kind: CallKind, now: Instant, wait: Duration) {
        let until = self.throttled_until.of_mut(kind);
        *until = (*until).max(Some(now + wait.min(MAX_THROTTLED_PAUSE)));
    }
}

#[cfg(test)]
mod tests {
    use super::KeyRejection::{Confirmed, Known, Suspected};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_mins(1);

    /// Rejects the key of calls that begin and end so many seconds after `start`.
    fn reject<const N: usize>(
        pauses: &mut Pauses,
        start: Instant,
        calls: [(u32, u32); N],
    ) -> [KeyRejection; N] {
        calls.map(|(began, ended)| pauses.reject_key(start + SECOND * began, start + SECOND * ended, PAUSE))
    }

    #[test]
    fn a_rejected_key_is_for_both_classes_and_throttling_for_one() {
        use CallKind::{Read, Write};
        let now = Instant::now();
        let mut pauses = Pauses::default();
        pauses.throttle(Read, now, SECOND * 1_000);
        pauses.throttle(Read, now, SECOND);
        assert_eq!(pauses.left(Read, now), Some(Pause::Throttled(MAX_THROTTLED_PAUSE)));
        assert_eq!(pauses.left(Write, now), None);
        assert_eq!(reject(&mut pauses, now, [(0, 0), (0, 0)]), [Suspected, Confirmed]);
        for kind in [Read, Write] {
            assert_eq!(pauses.left(kind, now + SECOND * 59), Some(Pause::KeyRejected(SECOND)));
            assert_eq!(pauses.left(kind, now + SECOND * 60), None);
        }
    }

    #[test]
    fn one_rejection_pauses_nothing_and_a_later_call_confirms_it() {
        let start = Instant::now();
        let mut pauses = Pauses::default();
        assert_eq!(reject(&mut pauses, start, [(0, 5)]), [Suspected]);
        assert_eq!(pauses.left(CallKind::Read, start + SECOND * 5), None);
        // In flight when the first one ended: it may have met the same trouble.
        assert_eq!(reject(&mut pauses, start, [(4, 6)]), [Known]);
        assert_eq!(reject(&mut pauses, start, [(6, 7), (6, 8)]), [Confirmed, Known]);
        // After the pause, one call is enough, and one that began before it says nothing new.
        assert_eq!(reject(&mut pauses, start, [(6, 68), (68, 69)]), [Known, Confirmed]);
    }

    #[test]
    fn a_success_in_between_clears_the_suspicion() {
        let start = Instant::now();
        let mut pauses = Pauses::default();
        assert_eq!(reject(&mut pauses, start, [(0, 1)]), [Suspected]);
        pauses.accept_key();
        assert_eq!(reject(&mut pauses, start, [(2, 3), (4, 5)]), [Suspected, Confirmed]);
        pauses.accept_key();
        assert_eq!(reject(&mut pauses, start, [(66, 67)]), [Suspected]);
    }

    #[test]
    fn a_suspicion_that_nothing_confirms_is_forgotten() {
        let start = Instant::now();
        let mut pauses = Pauses::default();
        assert_eq!(reject(&mut pauses, start, [(0, 0), (600, 600)]), [Suspected, Suspected]);
        assert_eq!(reject(&mut pauses, start, [(1_199, 1_199)]), [Confirmed]);
        assert_eq!(reject(&mut pauses, start, [(1_900, 1_900)]), [Suspected]);
    }
}
