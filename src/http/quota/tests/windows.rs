//! Random sequences of calls against what the vendor would count.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::{Builder, Handle};
use tokio::task::block_in_place;
use tokio::time::advance;

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

/// A pause, and then a call or one that is given back.
#[derive(Clone, Debug)]
struct Step {
    pause: Duration,
    kind: CallKind,
    made: bool,
}

fn steps() -> impl Strategy<Value = (u32, Vec<Step>)> {
    let pause = prop_oneof![Just(0), 1..2_000_u64, Just(10_000)].prop_map(Duration::from_millis);
    let kind = prop_oneof![2 => Just(CallKind::Read), 1 => Just(CallKind::Write)];
    let step = (pause, kind, prop::bool::weighted(0.9));
    let step = step.prop_map(|(pause, kind, made)| Step { pause, kind, made });
    (1..12_u32, prop::collection::vec(step, 1..80))
}

/// When something happened, since the beginning: at the earliest, at the latest.
type When = (Duration, Duration);

/// The calls that were made.
#[derive(Default)]
struct Vendor {
    calls: Vec<When>,
}

impl Vendor {
    /// How many calls are for certain in the window that ends then; a call leaves it after exactly its length.
    fn surely(&self, end: Duration) -> usize {
        self.calls.iter().filter(|(earliest, _)| *earliest + WINDOW > end).count()
    }

    /// How many calls may be in the window that ends then.
    fn maybe(&self, end: Duration) -> usize {
        self.calls.iter().filter(|(_, latest)| *latest + WINDOW > end).count()
    }

    /// What may come of an attempt to take a call: one that fits, or a wait after which it will fit.
    fn check(&mut self, now: When, limit: u32, taken: Result<(), Duration>) {
        let limit = limit as usize;
        match taken {
            Ok(()) => {
                assert!(self.surely(now.1) < limit, "{} of {limit}", self.surely(now.1));
                self.calls.push(now);
            }
            Err(wait) => {
                assert!(self.maybe(now.0) >= limit, "refused with {} of {limit}", self.maybe(now.0));
                assert!(wait > Duration::ZERO && wait <= WINDOW, "{wait:?}");
                assert!(self.surely(now.1 + wait) < limit, "{wait:?} is too short");
                assert!(
                    self.maybe(now.0 + wait.saturating_sub(Duration::from_millis(1))) >= limit,
                    "{wait:?} is too long"
                );
            }
        }
    }
}

/// The time of day, in the store's milliseconds.
fn time(clock: &Clock) -> Duration {
    Duration::from_millis(clock.now().as_millisecond().unsigned_abs())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_of_this_process_holds_more_calls_than_allowed() {
    let (store, _folder) = store(Clock::default()).await;
    // Time stands still but for the pauses: nothing here waits for a store.
    let still = || Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let outcome = block_in_place(|| {
        runner.run(&steps(), |(calls, steps)| {
            let quota = quota(&store, calls, WINDOW);
            std::thread::scope(|scope| {
                let work = async {
                    let (mut log, mut vendor) = (SlidingWindowLog::default(), Vendor::default());
                    let start = Instant::now();
                    for step in steps {
                        advance(step.pause).await;
                        let limit = quota.limit(step.kind);
                        let taken = log.take(WINDOW, limit);
                        vendor.check((start.elapsed(), start.elapsed()), limit, taken.map(drop));
                        if let (Ok(call), false) = (taken, step.made) {
                            log.give_back(call);
                            vendor.calls.pop();
                        }
                    }
                };
                scope.spawn(|| still().block_on(work)).join()
            })
            .map_err(|_| TestCaseError::fail("see above"))
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_of_all_processes_holds_more_calls_than_allowed() {
    let clock = Clock::default();
    let (store, _folder) = store(clock.clone()).await;
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = Config { failure_persistence: None, ..Config::default() };
    // Each is many transactions on a disk.
    let cases = if asked { default.cases } else { 20 };
    let mut runner = TestRunner::new(Config { cases, max_shrink_iters: 200, ..default });
    let outcome = block_in_place(|| {
        runner.run(&steps(), |(calls, steps)| {
            let quota = quota(&store, calls, WINDOW);
            Handle::current().block_on(async {
                // What others scope before is over.
                clock.advance(SignedDuration::try_from(2 * WINDOW).unwrap());
                let mut vendor = Vendor::default();
                for step in steps {
                    clock.advance(SignedDuration::try_from(step.pause).unwrap());
                    let limit = quota.limit(step.kind);
                    let before = time(&clock);
                    let taken = store.take(quota.provider, WINDOW, limit).await.unwrap();
                    vendor.check((before, time(&clock)), limit, taken.map(drop));
                    if let (Ok(call), false) = (taken, step.made) {
                        store.give_back(quota.provider, call).await.unwrap();
                        vendor.calls.pop();
                    }
                }
            });
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
