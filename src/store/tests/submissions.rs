//! A submission's way through its states.

use std::time::Duration;

use super::on_both;
use super::world::{LEASE, VENDOR, World, id, order};
use crate::batch::SubmissionId;
use crate::store::{Due, KEY_TTL, NewSubmission, Reserved, Resolution, Resolved, SavedBatch};
use crate::submission::SubmissionState;

on_both! {
    one_key_is_one_submission,
    a_lease_that_is_over_is_taken_over,
    what_was_being_sent_is_in_doubt_and_never_sent_again,
    what_was_not_sent_may_be_sent_again,
    a_key_lives_for_thirty_days,
    the_vendors_word_decides_once,
    the_batch_knows_its_submission,
    an_operator_decides_on_what_is_in_doubt,
    leases_expire,
    doubts_are_looked_up_ever_less_often,
    submissions_are_listed,
}

async fn state(world: &World, id: SubmissionId) -> SubmissionState {
    world.store.submission(id).await.unwrap().unwrap().state
}

async fn one_key_is_one_submission(world: World) {
    let store = &world.store;
    let (first, attempt) = world.ours("k").await;
    assert_eq!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::InUse { id: first });
    let other = NewSubmission { fingerprint: [8; 32], ..order("k") };
    assert_eq!(store.reserve(other, LEASE).await.unwrap(), Reserved::Reused { id: first });
    let other = NewSubmission { provider: "another", ..order("k") };
    assert_eq!(store.reserve(other, LEASE).await.unwrap(), Reserved::Reused { id: first });
    let other = NewSubmission { client: "erp", ..order("k") };
    assert!(matches!(store.reserve(other, LEASE).await.unwrap(), Reserved::Ours { .. }));

    assert!(store.begin_sending(first, attempt, LEASE).await.unwrap());
    assert_eq!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::InUse { id: first });
    let batch = id("b1");
    assert!(store.accept(first, &world.running(&batch), b"{}").await.unwrap());
    let accepted = Reserved::Accepted { id: first, batch_id: batch, answer: Some("{}".into()) };
    assert_eq!(store.reserve(order("k"), LEASE).await.unwrap(), accepted);
    let other = NewSubmission { fingerprint: [8; 32], ..order("k") };
    assert_eq!(store.reserve(other, LEASE).await.unwrap(), Reserved::Reused { id: first });
}

async fn a_lease_that_is_over_is_taken_over(world: World) {
    let store = &world.store;
    let (first, attempt) = world.ours("k").await;
    world.advance(LEASE);
    let taken = store.reserve(order("k"), LEASE).await.unwrap();
    assert!(matches!(taken, Reserved::Ours { id, attempt: next, .. } if (id, next) == (first, attempt + 1)));
    assert!(!store.begin_sending(first, attempt, LEASE).await.unwrap());
    assert!(!store.not_sent(first, attempt, "provider_unreachable").await.unwrap());
    assert!(store.begin_sending(first, attempt + 1, LEASE).await.unwrap());
    assert!(!store.begin_sending(first, attempt + 1, LEASE).await.unwrap());
    assert!(!store.in_doubt(first, attempt, "provider_timeout").await.unwrap());
}

async fn what_was_being_sent_is_in_doubt_and_never_sent_again(world: World) {
    let store = &world.store;
    let (first, attempt) = world.sending("k").await;
    assert!(store.has_open_submissions(VENDOR).await.unwrap());
    assert!(!store.has_open_submissions("another").await.unwrap());
    world.advance(LEASE);
    for _ in 0..2 {
        assert_eq!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::InDoubt { id: first });
    }
    assert!(!store.not_sent(first, attempt, "provider_timeout").await.unwrap());
    assert_eq!(store.doubt_count().await.unwrap(), 1);
    assert_eq!(store.unaccepted_submission(VENDOR, first).await.unwrap().unwrap().records, 3);
    assert_eq!(store.unaccepted_submission("another", first).await.unwrap(), None);
}

async fn what_was_not_sent_may_be_sent_again(world: World) {
    let store = &world.store;
    let (first, attempt) = world.sending("k").await;
    assert!(store.not_sent(first, attempt, "provider_unreachable").await.unwrap());
    let submission = store.submission(first).await.unwrap().unwrap();
    assert_eq!(submission.code.as_deref(), Some("provider_unreachable"));
    assert!(!store.has_open_submissions(VENDOR).await.unwrap());
    let again = store.reserve(order("k"), LEASE).await.unwrap();
    assert!(matches!(again, Reserved::Ours { id, attempt: 2, .. } if id == first));
    let submission = store.submission(first).await.unwrap().unwrap();
    assert_eq!((submission.code, submission.sent_at), (None, None));
}

async fn a_key_lives_for_thirty_days(world: World) {
    let store = &world.store;
    let (first, _) = world.sending("k").await;
    assert!(store.accept(first, &world.running(&id("b1")), b"{}").await.unwrap());
    let doubtful = world.doubtful("doubtful").await;
    world.advance(KEY_TTL.saturating_sub(Duration::from_secs(1)));
    assert!(matches!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::Accepted { .. }));
    world.advance(Duration::from_secs(1));
    let (second, _) = world.ours("k").await;
    assert_ne!(first, second);
    assert_eq!(state(&world, first).await, SubmissionState::Accepted);
    // Nobody knows whether this one was charged.
    let kept = store.reserve(order("doubtful"), LEASE).await.unwrap();
    assert_eq!(kept, Reserved::InDoubt { id: doubtful });

    assert!(store.not_sent(second, 1, "provider_refused").await.unwrap());
    world.advance(KEY_TTL);
    store.tidy().await.unwrap();
    assert_ne!(world.ours("k").await.0, second);
}

async fn the_vendors_word_decides_once(world: World) {
    let store = &world.store;
    let (b1, b2) = (id("b1"), id("b2"));
    // Whatever was believed: the vendor has it, and it is not sent again.
    let (believed, attempt) = world.ours("k").await;
    assert!(store.not_sent(believed, attempt, "provider_refused").await.unwrap());
    let (_, attempt) = world.ours("k").await;
    assert!(store.accept(believed, &world.running(&id("b0")), b"{}").await.unwrap());
    assert!(!store.begin_sending(believed, attempt, LEASE).await.unwrap());
    assert!(matches!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::Accepted { .. }));

    let doubtful = world.doubtful("doubtful").await;
    let elsewhere = SavedBatch { provider: "another", ..world.running(&b1) };
    assert!(!store.accept(doubtful, &elsewhere, b"{}").await.unwrap());
    assert!(store.accept(doubtful, &world.running(&b1), b"{}").await.unwrap());
    assert!(store.accept(doubtful, &world.running(&b1), b"other").await.unwrap());
    assert!(!store.accept(doubtful, &world.running(&b2), b"{}").await.unwrap());
    assert_eq!(world.status(&b2).await, None);
    let submission = store.submission(doubtful).await.unwrap().unwrap();
    assert_eq!(
        (submission.state, submission.batch_id, submission.code),
        (SubmissionState::Accepted, Some(b1), None)
    );
}

async fn the_batch_knows_its_submission(world: World) {
    let store = &world.store;
    let custom_ids = [Some("row-1".to_owned()), None, Some("row-3".to_owned())];
    let order = NewSubmission { reference: Some("crm-42"), custom_ids: Some(&custom_ids), ..order("k") };
    let Reserved::Ours { id: first, attempt, .. } = store.reserve(order, LEASE).await.unwrap() else {
        panic!()
    };
    store.begin_sending(first, attempt, LEASE).await.unwrap();
    // Somebody read it to its end before the answer was written down.
    let batch = id("b1");
    store.save(&world.completed(&batch)).await.unwrap();
    assert_eq!(store.facts(VENDOR, &batch).await.unwrap(), None);
    assert!(store.accept(first, &world.running(&batch), b"{}").await.unwrap());
    let facts = store.facts(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!((facts.submission, facts.records), (first, 3));
    assert_eq!((facts.client.as_str(), facts.reference.as_deref()), ("crm", Some("crm-42")));
    assert_eq!(facts.custom_ids.as_deref(), Some(&custom_ids[..]));
    let stored = store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!((stored.submission, stored.status.as_str()), (Some(first), "completed"));
    assert_eq!(stored.document.unwrap(), world.completed(&batch).document);
}

async fn an_operator_decides_on_what_is_in_doubt(world: World) {
    let store = &world.store;
    let (sending, _) = world.sending("sending").await;
    let refused = store.resolve(sending, Resolution::NotSent, "ops").await.unwrap();
    assert!(matches!(refused, Resolved::NotInDoubt(s) if s.state == SubmissionState::Sending));
    let unknown = store.resolve(SubmissionId::new(), Resolution::NotSent, "ops").await.unwrap();
    assert_eq!(unknown, Resolved::Unknown);

    let lost = world.doubtful("lost").await;
    let Resolved::Done(done) = store.resolve(lost, Resolution::NotSent, "ops").await.unwrap() else {
        panic!()
    };
    assert_eq!((done.state, done.resolved_by.as_deref()), (SubmissionState::NotSent, Some("ops")));

    let found = world.doubtful("found").await;
    let resolution = Resolution::Sent(id("b1"));
    let Resolved::Done(done) = store.resolve(found, resolution, "ops").await.unwrap() else { panic!() };
    assert_eq!((done.state, done.batch_id), (SubmissionState::Accepted, Some(id("b1"))));
    assert_eq!(store.facts(VENDOR, &id("b1")).await.unwrap().unwrap().submission, found);
    let due = store.claim_due(&[VENDOR], LEASE).await.unwrap();
    assert_eq!(due, Some(Due { provider: VENDOR.into(), id: id("b1"), polls: 0 }));
    let again = store.reserve(order("found"), LEASE).await.unwrap();
    assert_eq!(again, Reserved::Accepted { id: found, batch_id: id("b1"), answer: None });
}

async fn leases_expire(world: World) {
    let store = &world.store;
    let (reserved, _) = world.ours("reserved").await;
    let (sending, _) = world.sending("sending").await;
    assert_eq!(store.expire_leases(false).await.unwrap(), []);
    world.advance(LEASE);
    let (late, _) = world.sending("late").await;
    assert_eq!(store.expire_leases(false).await.unwrap(), [sending]);
    assert_eq!(state(&world, sending).await, SubmissionState::InDoubt);
    assert_eq!(state(&world, reserved).await, SubmissionState::NotSent);
    assert_eq!(store.expire_leases(true).await.unwrap(), [late]);
    assert_eq!(store.expire_leases(true).await.unwrap(), []);
}

async fn doubts_are_looked_up_ever_less_often(world: World) {
    let store = &world.store;
    let doubtful = world.doubtful("k").await;
    let short = Duration::from_secs(1);
    assert_eq!(store.claim_doubt(&["another"], short).await.unwrap(), None);
    assert_eq!(store.claim_doubt(&[], short).await.unwrap(), None);
    for wait in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let claimed = store.claim_doubt(&["another", VENDOR], short).await.unwrap().unwrap();
        assert_eq!((claimed.id, claimed.provider.as_str(), claimed.records), (doubtful, VENDOR, 3));
        world.advance(Duration::from_secs(wait - 1));
        assert_eq!(store.claim_doubt(&[VENDOR], short).await.unwrap(), None, "after {wait} s");
        world.advance(short);
    }
    assert!(store.found_not_sent(doubtful).await.unwrap());
    assert!(!store.found_not_sent(doubtful).await.unwrap());
    assert_eq!(store.claim_doubt(&[VENDOR], short).await.unwrap(), None);
    assert_eq!(state(&world, doubtful).await, SubmissionState::NotSent);
}

async fn submissions_are_listed(world: World) {
    let store = &world.store;
    let (first, _) = world.ours("1").await;
    world.advance(Duration::from_secs(1));
    let second = world.doubtful("2").await;
    let ids = async |state, limit| {
        let found = store.submissions(None, state, limit).await.unwrap();
        found.into_iter().map(|submission| submission.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 10).await, [second, first]);
    assert_eq!(ids(None, 1).await, [second]);
    assert_eq!(ids(Some(SubmissionState::Reserved), 10).await, [first]);
    assert_eq!(ids(Some(SubmissionState::Accepted), 10).await, []);
}
