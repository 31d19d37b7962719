use proptest::prelude::*;

use super::*;

const POLICY: Policy =
    Policy { failures: 5, pause: Duration::from_secs(1), max_pause: Duration::from_mins(1) };

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A call that is let through and ends at once.
fn call(circuit: &mut Circuit, outcome: CallOutcome, now: Instant) -> Result<Option<Change>, Duration> {
    let ticket = circuit.admit(now)?;
    Ok(circuit.end(&ticket, outcome, now, 1.0))
}

/// A circuit that has just opened.
fn open(now: Instant) -> Circuit {
    let mut circuit = Circuit::new(POLICY, now);
    let changes: Vec<_> = (0..5).map(|_| call(&mut circuit, CallOutcome::Failure, now).unwrap()).collect();
    assert_eq!(changes, [None, None, None, None, Some(Change::Opened)]);
    circuit
}

#[test]
fn five_failures_in_a_row_open_it_and_one_success_closes_it() {
    let now = Instant::now();
    let mut circuit = open(now);
    assert_eq!(call(&mut circuit, CallOutcome::Success, now), Err(millis(1_000)));
    assert_eq!(call(&mut circuit, CallOutcome::Success, now + millis(999)), Err(millis(1)));
    assert_eq!(call(&mut circuit, CallOutcome::Success, now + millis(1_000)), Ok(Some(Change::Closed)));
    assert_eq!(call(&mut circuit, CallOutcome::Success, now + millis(1_000)), Ok(None));
}

#[test]
fn a_success_in_between_keeps_it_closed_unless_most_calls_fail() {
    use CallOutcome::{Failure, Neutral, Success};
    let now = Instant::now();
    let mut circuit = Circuit::new(POLICY, now);
    for outcome in [Failure, Failure, Failure, Failure, Success] {
        assert_eq!(call(&mut circuit, outcome, now), Ok(None));
    }
    for outcome in [Neutral; 50] {
        assert_eq!(call(&mut circuit, outcome, now), Ok(None));
    }
    let more = [Failure; 4].map(|outcome| call(&mut circuit, outcome, now));
    assert_eq!(more, [Ok(None); 4], "only nine calls count");
    let mut elsewhere = Circuit::new(POLICY, now);
    for outcome in [Failure, Failure, Success, Failure, Failure, Success, Failure, Failure, Success] {
        assert_eq!(call(&mut elsewhere, outcome, now), Ok(None));
    }
    assert_eq!(call(&mut elsewhere, Failure, now), Ok(Some(Change::Opened)));
}

#[test]
fn one_call_at_a_time_tries_and_gives_its_turn_back_if_it_says_nothing() {
    let now = Instant::now();
    let mut circuit = open(now);
    let later = now + millis(1_000);
    let probe = circuit.admit(later).unwrap();
    assert_eq!(circuit.admit(later).unwrap_err(), millis(1_000));
    assert_eq!(circuit.refusal(later), Some(millis(1_000)));
    assert_eq!(circuit.end(&probe, CallOutcome::Neutral, later, 1.0), None);
    let next = circuit.admit(later).unwrap();
    assert_eq!(circuit.end(&next, CallOutcome::Success, later, 1.0), Some(Change::Closed));
}

#[test]
fn a_call_from_before_a_change_says_nothing_of_the_time_after() {
    let now = Instant::now();
    let mut circuit = Circuit::new(POLICY, now);
    let early: Vec<_> = (0..20).map(|_| circuit.admit(now).unwrap()).collect();
    for ticket in &early[..5] {
        circuit.end(ticket, CallOutcome::Failure, now, 1.0);
    }
    assert_eq!(circuit.end(&early[5], CallOutcome::Success, now, 1.0), None);
    let later = now + millis(25_000);
    assert_eq!(call(&mut circuit, CallOutcome::Success, later), Ok(Some(Change::Closed)));
    for ticket in &early[6..] {
        assert_eq!(circuit.end(ticket, CallOutcome::Failure, later, 1.0), None);
    }
    assert_eq!(call(&mut circuit, CallOutcome::Success, later), Ok(None));
}

/// When the circuit closes after an outage of so many seconds in which somebody calls every 10 ms, and how often the
/// vendor was asked meanwhile.
fn outage(seconds: u64, jitter: f64) -> (Duration, u32) {
    let began = Instant::now();
    let mut circuit = Circuit::new(POLICY, began);
    let end = millis(seconds * 1_000);
    let mut asked = 0;
    for step in 0.. {
        let now = began + millis(step * 10);
        let Ok(ticket) = circuit.admit(now) else { continue };
        asked += 1;
        let up = now >= began + end;
        let outcome = if up { CallOutcome::Success } else { CallOutcome::Failure };
        if circuit.end(&ticket, outcome, now, jitter) == Some(Change::Closed) {
            return (now - (began + end), asked);
        }
    }
    unreachable!()
}

#[test]
fn a_short_outage_is_over_at_once_and_a_long_one_is_looked_at_once_a_minute() {
    for jitter in [0.8, 0.9, 1.0, 1.1, 1.2] {
        for seconds in 1..=30 {
            let (late, asked) = outage(seconds, jitter);
            assert!(late <= millis(2_000), "{late:?} after {seconds} s");
            assert!(asked <= 45, "{asked} calls in {seconds} s");
        }
        let (late, asked) = outage(7_200, jitter);
        assert!(late <= millis(60_000), "{late:?}");
        assert!((120..300).contains(&asked), "{asked}");
    }
}

#[test]
fn a_vendor_that_comes_and_goes_changes_it_six_times_a_minute_at_most() {
    for (up, down) in [(1, 1), (1, 5), (5, 1), (3, 3), (10, 10), (1, 19), (19, 1)] {
        let began = Instant::now();
        let mut circuit = Circuit::new(POLICY, began);
        let mut changes = Vec::new();
        for step in 0..30_000 {
            let now = began + millis(step * 10);
            let is_up = (step / 100) % (up + down) < up;
            let outcome = if is_up { CallOutcome::Success } else { CallOutcome::Failure };
            changes.extend(call(&mut circuit, outcome, now).ok().flatten().map(|_| now));
        }
        for from in &changes {
            let in_a_minute = changes.iter().filter(|at| **at >= *from && **at < *from + millis(60_000));
            assert!(in_a_minute.count() <= 6, "{up} s up, {down} s down");
        }
    }
}

#[test]
fn it_can_be_switched_off() {
    let now = Instant::now();
    let mut circuit = Circuit::new(Policy { failures: 0, ..POLICY }, now);
    for _ in 0..100 {
        assert_eq!(call(&mut circuit, CallOutcome::Failure, now), Ok(None));
    }
}

#[test]
fn only_what_speaks_of_the_vendor_as_a_whole_is_held_against_it() {
    use ProviderErrorKind as Kind;
    let of = |kind, status| {
        let error = ProviderError { status, ..ProviderError::permanent(kind, "x") };
        CallOutcome::of(Some(&error))
    };
    assert_eq!(CallOutcome::of(None), CallOutcome::Success);
    for kind in [Kind::Timeout, Kind::Unavailable, Kind::Unreachable] {
        assert_eq!(of(kind, None), CallOutcome::Failure);
    }
    assert_eq!([500, 599, 418, 307].map(|status| of(Kind::Failed, Some(status))), {
        use CallOutcome::{Failure, Neutral};
        [Failure, Failure, Neutral, Neutral]
    });
    for kind in [Kind::BatchNotFound, Kind::Credentials, Kind::CreditsExhausted, Kind::Refused] {
        assert_eq!(of(kind, Some(400)), CallOutcome::Success);
    }
    for kind in [Kind::Integrity, Kind::Malformed, Kind::RateLimited] {
        assert_eq!(of(kind, Some(200)), CallOutcome::Neutral);
    }
}

/// What somebody does to a circuit.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Lets time pass.
    Wait(u64),
    /// Wants to call.
    Begin,
    /// Ends one of the calls that are under way.
    End(usize, CallOutcome),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        2 => Just(CallOutcome::Success), 4 => Just(CallOutcome::Failure), 1 => Just(CallOutcome::Neutral)
    ];
    let step = prop_oneof![
        2 => (0_u64..3_000).prop_map(Step::Wait),
        1 => (0_u64..90_000).prop_map(Step::Wait),
        8 => Just(Step::Begin),
        8 => (0_usize..8, outcome).prop_map(|(index, outcome)| Step::End(index, outcome)),
    ];
    prop::collection::vec(step, 0..400)
}

/// The rules said once more, with everything that ever happened at hand.
#[derive(Default)]
struct Model {
    /// When each phase began: closed and open by turns, the first is closed.
    openings: Vec<u64>,
    open: bool,
    /// Calls that ended while it was closed, since it was last closed: when, and whether they succeeded.
    ended: Vec<(u64, bool)>,
    next_probe: Duration,
    probe: Option<usize>,
    /// The calls under way from before the last change.
    stale: Vec<usize>,
}

impl Model {
    fn lets_through(&self, now: u64) -> bool {
        !self.open || (self.probe.is_none() && millis(now) >= self.next_probe)
    }

    fn end(&mut self, id: usize, outcome: CallOutcome, now: u64, under_way: &[usize]) {
        if self.stale.contains(&id) || outcome == CallOutcome::Neutral && self.probe != Some(id) {
            return;
        }
        if self.open {
            assert_eq!(self.probe.take(), Some(id));
            let since = *self.openings.last().unwrap();
            match outcome {
                CallOutcome::Neutral => self.next_probe = millis(now),
                CallOutcome::Failure => {
                    let pause = (millis(now - since) / 20).clamp(millis(1_000), millis(60_000));
                    self.next_probe = millis(now) + pause;
                }
                CallOutcome::Success => {
                    self.open = false;
                    self.ended.clear();
                    self.stale = under_way.to_vec();
                }
            }
            return;
        }
        self.ended.push((now, outcome == CallOutcome::Success));
        let in_a_row = self.ended.iter().rev().take_while(|(_, succeeded)| !succeeded).count();
        let lately: Vec<_> = self.ended.iter().filter(|(at, _)| at / 1_000 + 30 > now / 1_000).collect();
        let succeeded = lately.iter().filter(|(_, succeeded)| *succeeded).count();
        let mostly_failed = lately.len() >= 10 && succeeded * 2 < lately.len();
        let apart = self.openings.last().is_none_or(|last| now >= last + 20_000);
        if outcome == CallOutcome::Failure && apart && (in_a_row >= 5 || mostly_failed) {
            self.open = true;
            self.openings.push(now);
            self.next_probe = millis(now + 1_000);
            self.stale = under_way.to_vec();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_its_rules_say(steps in steps()) {
        let origin = Instant::now();
        let (mut circuit, mut model, mut now) = (Circuit::new(POLICY, origin), Model::default(), 0);
        let mut under_way: Vec<(usize, CircuitPermit)> = Vec::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Wait(millis) => now += millis,
                Step::Begin => {
                    let allowed = model.lets_through(now);
                    prop_assert_eq!(circuit.refusal(origin + millis(now)).is_none(), allowed);
                    let ticket = circuit.admit(origin + millis(now));
                    prop_assert_eq!(ticket.is_ok(), allowed);
                    let Ok(ticket) = ticket else { continue };
                    if model.open {
                        model.probe = Some(next);
                    }
                    under_way.push((next, ticket));
                    next += 1;
                }
                Step::End(index, outcome) => {
                    if under_way.is_empty() {
                        continue;
                    }
                    let (id, ticket) = under_way.swap_remove(index % under_way.len());
                    let others: Vec<_> = under_way.iter().map(|(id, _)| *id).collect();
                    let was_open = model.open;
                    model.end(id, outcome, now, &others);
                    let expected = match (was_open, model.open) {
                        (false, true) => Some(Change::Opened),
                        (true, false) => Some(Change::Closed),
                        _ => None,
                    };
                    prop_assert_eq!(circuit.end(&ticket, outcome, origin + millis(now), 1.0), expected);
                }
            }
        }
    }
}
