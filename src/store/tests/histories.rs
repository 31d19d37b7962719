//! Random histories of submissions against what really happened at the vendor.
//!
//! Callers, the gateway's own steps, operators and crashes come in any order. They are honest: who says that nothing
//! was sent knows it. What holds then is what the gateway promises: an order is taken at most once, and an order that
//! was taken is never lost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::on_both;
use super::world::{LEASE, VENDOR, World, id, order};
use crate::batch::{BatchId, SubmissionId};
use crate::store::{self, Doubt, NewSubmission, Reserved, Resolution, Resolved, Saved};
use crate::submission::SubmissionState::{self, Accepted, InDoubt, NotSent, Reserved as Written, Sending};

on_both! {
    no_history_sends_an_order_twice_or_loses_one,
}

/// Histories, where `PROPTEST_CASES` says nothing else; each is many transactions on a disk.
const HISTORIES: u32 = 40;
const KEYS: usize = 3;

/// What happens next; an [`Index`] picks one of those that there are.
#[derive(Clone, Debug)]
enum Step {
    /// A caller sends its order, maybe another one with the same key.
    Reserve {
        key: usize,
        other: bool,
    },
    /// Many callers send the same order at once, and each goes on as far as it may.
    Crowd {
        key: usize,
        callers: usize,
        arrives: bool,
    },
    /// The request goes out, and arrives at the vendor or not.
    Send {
        attempt: Index,
        arrives: bool,
    },
    /// What the process that sent it says of it, if it still lives.
    Report {
        attempt: Index,
        knows: bool,
    },
    /// The vendor is asked; what it says is written down later.
    Look,
    EndLook {
        look: Index,
    },
    /// An operator has asked the vendor.
    Resolve {
        key: usize,
    },
    /// A batch of the vendor's is read, and shows whose it is.
    Show {
        key: usize,
    },
    Erase {
        key: usize,
    },
    Wait {
        seconds: u64,
    },
    /// Leases that are over.
    Expire,
    /// The process dies and another one starts.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    prop_oneof![
        6 => (key(), prop::bool::weighted(0.1)).prop_map(|(key, other)| Step::Reserve { key, other }),
        2 => (key(), 2..5_usize, any::<bool>())
            .prop_map(|(key, callers, arrives)| Step::Crowd { key, callers, arrives }),
        6 => (any::<Index>(), any::<bool>()).prop_map(|(attempt, arrives)| Step::Send { attempt, arrives }),
        6 => (any::<Index>(), any::<bool>()).prop_map(|(attempt, knows)| Step::Report { attempt, knows }),
        2 => Just(Step::Look),
        2 => any::<Index>().prop_map(|look| Step::EndLook { look }),
        2 => key().prop_map(|key| Step::Resolve { key }),
        1 => key().prop_map(|key| Step::Show { key }),
        1 => key().prop_map(|key| Step::Erase { key }),
        3 => (1..2 * LEASE.as_secs()).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Expire),
        1 => Just(Step::Restart),
    ]
}

async fn no_history_sends_an_order_twice_or_loses_one(world: World) {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = Config { failure_persistence: None, ..Config::default() };
    let cases = if asked { default.cases } else { HISTORIES };
    let mut runner = TestRunner::new(Config { cases, max_shrink_iters: 500, ..default });
    let outcome = block_in_place(|| {
        runner.run(&prop::collection::vec(step(), 1..60), |steps| {
            Handle::current().block_on(async {
                world.another().await.run(async |world| History::new(world).pass(steps).await).await;
            });
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The truth of one key.
#[derive(Default)]
struct Truth {
    /// The submission, and what it is of.
    id: Option<SubmissionId>,
    fingerprint: u8,
    /// The batch that the vendor made of it.
    batch: Option<BatchId>,
    /// Whether the gateway wrote down that the vendor has it.
    acknowledged: bool,
    /// Whether it did so with an answer for the caller.
    answered: bool,
    erased: bool,
}

/// A process at work on a submission.
#[derive(Clone)]
struct Attempt {
    key: usize,
    id: SubmissionId,
    number: i64,
    /// Whether it was allowed to send, and whether that arrived.
    sent: Option<bool>,
}

/// What the vendor said of a submission in doubt.
struct Look {
    doubt: Doubt,
    found: Option<BatchId>,
}

struct History {
    world: World,
    truths: [Truth; KEYS],
    attempts: Vec<Attempt>,
    /// Attempts that were given away.
    given: HashSet<(SubmissionId, i64)>,
    looks: Vec<Look>,
    states: HashMap<SubmissionId, (SubmissionState, Option<BatchId>)>,
}

impl History {
    fn new(world: World) -> Self {
        Self {
            world,
            truths: Default::default(),
            attempts: Vec::new(),
            given: HashSet::new(),
            looks: Vec::new(),
            states: HashMap::new(),
        }
    }

    async fn pass(mut self, steps: Vec<Step>) {
        for step in steps {
            self.take(step).await;
            self.look_at_all().await;
        }
        self.come_to_an_end().await;
        self.world.store.close().await;
    }

    fn key_of(&self, submission: SubmissionId) -> Option<usize> {
        self.truths.iter().position(|truth| truth.id == Some(submission))
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Reserve { key, other } => self.reserve(key, other).await,
            Step::Crowd { key, callers, arrives } => self.crowd(key, callers, arrives).await,
            Step::Send { attempt, arrives } if !self.attempts.is_empty() => {
                let at = attempt.index(self.attempts.len());
                self.send(at, arrives).await;
            }
            Step::Report { attempt, knows } if !self.attempts.is_empty() => {
                let at = attempt.index(self.attempts.len());
                self.report(at, knows).await;
            }
            Step::Look => self.look().await,
            Step::EndLook { look } if !self.looks.is_empty() => {
                let look = self.looks.swap_remove(look.index(self.looks.len()));
                self.end_look(look).await;
            }
            Step::Resolve { key } => self.resolve(key).await,
            Step::Show { key } => self.show(key).await,
            Step::Erase { key } => {
                self.world.store.erase(VENDOR, &batch_of(key)).await.unwrap();
                self.truths[key].erased = true;
            }
            Step::Wait { seconds } => self.world.advance(Duration::from_secs(seconds)),
            Step::Expire => drop(self.world.store.expire_leases(false).await.unwrap()),
            Step::Restart => self.restart().await,
            Step::Send { .. } | Step::Report { .. } | Step::EndLook { .. } => {}
        }
    }

    async fn reserve(&mut self, key: usize, other: bool) {
        let name = key.to_string();
        let fingerprint = [fingerprint(other); 32];
        let reserved = self.world.store.reserve(NewSubmission { fingerprint, ..order(&name) }, LEASE).await;
        self.reserved(key, other, reserved.unwrap());
    }

    /// What a caller may be told, given what is true.
    fn reserved(&mut self, key: usize, other: bool, reserved: Reserved) {
        let truth = &mut self.truths[key];
        let (Reserved::Ours { id, .. }
        | Reserved::InUse { id }
        | Reserved::Reused { id }
        | Reserved::Accepted { id, .. }
        | Reserved::InDoubt { id }) = reserved;
        if truth.id.is_none() {
            (truth.id, truth.fingerprint) = (Some(id), fingerprint(other));
        }
        assert_eq!(truth.id, Some(id), "a key has one submission");
        let reused = matches!(reserved, Reserved::Reused { .. });
        assert!(reused == (fingerprint(other) != truth.fingerprint) || (truth.erased && !reused));
        match reserved {
            Reserved::Ours { attempt: number, .. } => {
                assert!(truth.batch.is_none(), "an order that the vendor has is to be sent again");
                assert!(self.given.insert((id, number)), "an attempt is given away twice");
                self.attempts.push(Attempt { key, id, number, sent: None });
            }
            Reserved::Accepted { batch_id, answer, .. } => {
                assert_eq!(Some(batch_id), truth.batch);
                assert!(truth.acknowledged);
                assert_eq!(answer.is_some(), truth.answered && !truth.erased);
            }
            Reserved::Reused { .. } => {}
            Reserved::InUse { .. } | Reserved::InDoubt { .. } => assert!(!truth.acknowledged),
        }
    }

    async fn crowd(&mut self, key: usize, callers: usize, arrives: bool) {
        let name = key.to_string();
        let store = &self.world.store;
        let call = async || {
            let reserved = store.reserve(order(&name), LEASE).await.unwrap();
            let sent = match reserved {
                Reserved::Ours { id, attempt } => store.begin_sending(id, attempt, LEASE).await.unwrap(),
                _ => None,
            };
            (reserved, sent.is_some())
        };
        let outcomes = join_all((0..callers).map(|_| call())).await;
        assert!(outcomes.iter().filter(|(_, sent)| *sent).count() <= 1);
        for (reserved, sent) in outcomes {
            self.reserved(key, false, reserved);
            if sent {
                self.attempts.last_mut().unwrap().sent = Some(arrives);
                self.arrived(key, arrives);
            }
        }
    }

    async fn send(&mut self, at: usize, arrives: bool) {
        let Attempt { key, id, number, .. } = self.attempts[at];
        if self.world.store.begin_sending(id, number, LEASE).await.unwrap().is_some() {
            assert_eq!(self.attempts[at].sent, None, "an attempt sends once");
            self.attempts[at].sent = Some(arrives);
            self.arrived(key, arrives);
        }
    }

    fn arrived(&mut self, key: usize, arrives: bool) {
        assert!(self.truths[key].batch.is_none(), "an order is sent that the vendor has");
        if arrives {
            self.truths[key].batch = Some(batch_of(key));
        }
    }

    async fn report(&mut self, at: usize, knows: bool) {
        let Attempt { key, id, number, sent } = self.attempts.swap_remove(at);
        let store = &self.world.store;
        match sent {
            Some(true) if knows => self.accept(key).await,
            None | Some(false) if knows => {
                store.not_sent(id, number, "provider_unreachable").await.unwrap();
            }
            Some(_) => drop(store.in_doubt(id, number, "provider_timeout").await.unwrap()),
            None => {}
        }
    }

    async fn accept(&mut self, key: usize) {
        let truth = &mut self.truths[key];
        let (Some(id), Some(batch)) = (truth.id, &truth.batch) else { return };
        let saved = self.world.store.accept(id, &self.world.running(batch), b"{}").await.unwrap();
        let expected = match truth {
            Truth { erased: true, .. } => Saved::Erased,
            Truth { acknowledged: true, .. } => Saved::Complete,
            _ => Saved::Kept,
        };
        assert_eq!(saved, store::Accepted::As(expected));
        truth.answered |= !truth.acknowledged;
        truth.acknowledged = true;
    }

    async fn show(&mut self, key: usize) {
        let Some(id) = self.truths[key].id else { return };
        let open = self.world.store.unaccepted_submission(VENDOR, id).await.unwrap();
        assert_eq!(open.is_none(), self.truths[key].acknowledged);
        self.accept(key).await;
    }

    async fn look(&mut self) {
        for doubt in self.world.store.claim_doubts(VENDOR, 2, LEASE).await.unwrap() {
            let Some(key) = self.key_of(doubt.id) else { continue };
            let found = self.truths[key].batch.clone();
            self.looks.push(Look { doubt, found });
        }
    }

    async fn end_look(&mut self, look: Look) {
        let key = self.key_of(look.doubt.id).unwrap();
        if look.found.is_some() {
            self.accept(key).await;
            return;
        }
        let settled = self.world.store.found_not_sent(&look.doubt).await.unwrap();
        assert!(!settled || self.truths[key].batch.is_none(), "an old look speaks of a new attempt");
        self.world.store.end_look(&look.doubt, true).await.unwrap();
    }

    async fn resolve(&mut self, key: usize) {
        let truth = &mut self.truths[key];
        let Some(id) = truth.id else { return };
        let found = truth.batch.clone().map_or(Resolution::NotSent, Resolution::Sent);
        let before = self.states.get(&id).map(|(state, _)| *state);
        match self.world.store.resolve(id, found.clone(), "ops").await.unwrap() {
            Resolved::Done(done) => {
                assert_eq!(before, Some(InDoubt));
                let expected = if truth.batch.is_some() { Accepted } else { NotSent };
                assert_eq!((done.state, &done.batch_id), (expected, &truth.batch));
                truth.acknowledged |= truth.batch.is_some();
            }
            Resolved::NotInDoubt(open) => assert_ne!(open.state, InDoubt),
            Resolved::BeingLookedUp(open) => assert_eq!(open.state, InDoubt),
            Resolved::BatchOfAnother(_) | Resolved::Unknown => panic!("{found:?} of {id}"),
        }
    }

    async fn restart(&mut self) {
        self.world.store.close().await;
        self.world.store = self.world.again().await;
        // Who was at work is dead; what was sent by it may still be on its way to the vendor, or there.
        self.attempts.clear();
        self.looks.clear();
        self.world.store.expire_leases(true).await.unwrap();
    }

    /// No state is reached but from those that lead there, and what is accepted stays what it is.
    async fn look_at_all(&mut self) {
        for submission in self.truths.iter().filter_map(|truth| truth.id) {
            let row = self.world.store.submission(submission).await.unwrap().unwrap();
            let now = (row.state, row.batch_id);
            if let Some((before, batch)) = self.states.insert(submission, now.clone()) {
                // A crowd reserves and sends.
                let allowed: &[SubmissionState] = match before {
                    Written | NotSent => &[Written, Sending, NotSent],
                    Sending => &[Sending, NotSent, InDoubt, Accepted],
                    InDoubt => &[InDoubt, NotSent, Accepted],
                    Accepted => &[Accepted],
                };
                assert!(allowed.contains(&now.0), "{before:?} became {:?}", now.0);
                assert!(before != Accepted || batch == now.1, "an accepted batch became another one");
            }
        }
    }

    /// When all leases are over and an operator has settled what is left, what is written down is what is true.
    async fn come_to_an_end(&mut self) {
        self.restart().await;
        self.look_at_all().await;
        for key in 0..KEYS {
            self.resolve(key).await;
            let truth = &self.truths[key];
            let Some(id) = truth.id else { continue };
            let row = self.world.store.submission(id).await.unwrap().unwrap();
            let expected = if truth.batch.is_some() { Accepted } else { NotSent };
            assert_eq!((row.state, &row.batch_id), (expected, &truth.batch));
        }
    }
}

/// The id that the vendor would give the batch of a key.
fn batch_of(key: usize) -> BatchId {
    id(&format!("b{key}"))
}

/// Of the order that is sent mostly, as [`order`] has it, or of another one.
const fn fingerprint(other: bool) -> u8 {
    if other { 8 } else { 7 }
}
