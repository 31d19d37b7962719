//! A submission's way through its states.

use std::time::Duration;

use super::on_both;
use super::world::{CUSTOM_IDS, LEASE, VENDOR, World, id, order};
use crate::batch::SubmissionId;
use crate::store::columns::Columns;
use crate::store::{
    Accepted, Doubt, Filter, KEY_TTL, NewSubmission, Reserved, Resolution, Resolved, Saved, SavedBatch,
    SubmissionCursor, SubmissionFilter, UsageFilter,
};
use crate::submission::{IdempotencyKey, SubmissionState};

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
    nothing_is_decided_while_the_vendor_is_being_asked,
    a_look_belongs_to_its_attempt,
    a_look_that_outlived_its_lease_ends_no_other,
    a_key_is_kept_for_as_long_after_the_end,
    nothing_of_a_request_outlives_its_key,
    what_was_believed_not_to_be_sent_may_have_been,
    there_is_one_time_of_submission,
    who_decided_stays_known,
    a_batch_is_accepted_in_one_of_three_ways,
    two_submissions_are_never_one_batch,
    of_two_submissions_that_are_accepted_at_once_as_one_batch_one_is,
    an_answer_is_kept_deflated_and_not_shown,
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

    assert!(store.begin_sending(first, attempt, LEASE).await.unwrap().is_some());
    assert_eq!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::InUse { id: first });
    let batch = id("b1");
    assert_eq!(store.accept(first, &world.running(&batch), b"{}").await.unwrap(), Accepted::As(Saved::Kept));
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
    assert!(store.begin_sending(first, attempt, LEASE).await.unwrap().is_none());
    assert!(!store.not_sent(first, attempt, "provider_unreachable").await.unwrap());
    assert!(store.begin_sending(first, attempt + 1, LEASE).await.unwrap().is_some());
    assert!(store.begin_sending(first, attempt + 1, LEASE).await.unwrap().is_none());
    assert!(!store.in_doubt(first, attempt, "provider_timeout").await.unwrap());
}

async fn what_was_being_sent_is_in_doubt_and_never_sent_again(world: World) {
    let store = &world.store;
    let (first, attempt) = world.sending("k").await;
    assert!(store.may_have_sent(VENDOR).await.unwrap());
    assert!(!store.may_have_sent("another").await.unwrap());
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
    let again = store.reserve(order("k"), LEASE).await.unwrap();
    assert!(matches!(again, Reserved::Ours { id, attempt: 2, .. } if id == first));
    let submission = store.submission(first).await.unwrap().unwrap();
    assert_eq!((submission.code, submission.sent_at), (None, None));
    assert!(!store.may_have_sent(VENDOR).await.unwrap());
}

async fn a_key_lives_for_thirty_days(world: World) {
    let store = &world.store;
    let (first, _) = world.sending("k").await;
    assert_eq!(
        store.accept(first, &world.running(&id("b1")), b"{}").await.unwrap(),
        Accepted::As(Saved::Kept)
    );
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
    assert_eq!(
        store.accept(believed, &world.running(&id("b0")), b"{}").await.unwrap(),
        Accepted::As(Saved::Kept)
    );
    assert!(store.begin_sending(believed, attempt, LEASE).await.unwrap().is_none());
    assert!(matches!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::Accepted { .. }));

    let doubtful = world.doubtful("doubtful").await;
    let elsewhere = SavedBatch { provider: "another", ..world.running(&b1) };
    assert_eq!(store.accept(doubtful, &elsewhere, b"{}").await.unwrap(), Accepted::AsAnother);
    assert_eq!(store.accept(doubtful, &world.running(&b1), b"{}").await.unwrap(), Accepted::As(Saved::Kept));
    assert_eq!(
        store.accept(doubtful, &world.running(&b1), b"other").await.unwrap(),
        Accepted::As(Saved::Complete)
    );
    assert_eq!(store.accept(doubtful, &world.running(&b2), b"{}").await.unwrap(), Accepted::AsAnother);
    assert_eq!(world.status(&b2).await, None);
    let submission = store.submission(doubtful).await.unwrap().unwrap();
    assert_eq!(
        (submission.state, submission.batch_id, submission.code),
        (SubmissionState::Accepted, Some(b1), None)
    );
}

async fn the_batch_knows_its_submission(world: World) {
    let store = &world.store;
    let order = NewSubmission { reference: Some("crm-42"), ..order("k") };
    let Reserved::Ours { id: first, attempt, .. } = store.reserve(order, LEASE).await.unwrap() else {
        panic!()
    };
    store.begin_sending(first, attempt, LEASE).await.unwrap();
    // Somebody read it to its end before the answer was written down.
    let batch = id("b1");
    store.save(&world.completed(&batch)).await.unwrap();
    assert_eq!(store.facts(VENDOR, &batch).await.unwrap(), None);
    let accepted = store.accept(first, &world.running(&batch), b"{}").await.unwrap();
    assert_eq!(accepted, Accepted::As(Saved::Complete));
    let facts = store.facts(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!((facts.submission, facts.records), (first, 3));
    assert_eq!((facts.client.as_str(), facts.reference.as_deref()), ("crm", Some("crm-42")));
    let custom_ids = world.custom_ids(first).await.unwrap();
    assert_eq!(custom_ids, CUSTOM_IDS.map(|id| id.map(str::to_owned)));
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
    let due = world.claim(VENDOR).await;
    assert_eq!(due, Some(id("b1")));
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
    assert_eq!(store.claim_doubts("another", 10, short).await.unwrap(), []);
    let mut last = None;
    for (looks, wait) in (0..).zip([2, 4, 8, 16, 32, 64, 128, 256, 300, 300]) {
        let claimed = store.claim_doubts(VENDOR, 10, short).await.unwrap().remove(0);
        assert_eq!((claimed.id, claimed.misses), (doubtful, 0));
        assert_eq!((claimed.attempt, claimed.looks), (1, looks));
        last = Some(claimed);
        world.advance(Duration::from_secs(wait - 1));
        assert_eq!(store.claim_doubts(VENDOR, 1, short).await.unwrap(), [], "after {wait} s");
        world.advance(short);
    }
    let last = last.unwrap();
    assert!(store.found_not_sent(&last).await.unwrap());
    assert!(!store.found_not_sent(&last).await.unwrap());
    assert_eq!(store.claim_doubts(VENDOR, 1, short).await.unwrap(), []);
    assert_eq!(state(&world, doubtful).await, SubmissionState::NotSent);
}

async fn submissions_are_listed(world: World) {
    let store = &world.store;
    let (first, _) = world.ours("1").await;
    world.advance(Duration::from_secs(1));
    let second = world.doubtful("2").await;
    let ids = async |filter: SubmissionFilter, limit| {
        let found = store.submissions(&filter, None, limit).await.unwrap();
        found.into_iter().map(|submission| submission.id).collect::<Vec<_>>()
    };
    let all = SubmissionFilter::default;
    let in_state = |state| SubmissionFilter { state: Some(state), ..all() };
    let with_key = |key: &str| SubmissionFilter {
        key: Some(IdempotencyKey::try_from(key.as_bytes()).unwrap()),
        ..all()
    };
    let of = |client: &str| SubmissionFilter { client: Some(client.to_owned()), ..with_key("1") };
    assert_eq!(ids(all(), 10).await, [second, first]);
    assert_eq!(ids(all(), 1).await, [second]);
    assert_eq!(ids(in_state(SubmissionState::Reserved), 10).await, [first]);
    assert_eq!(ids(in_state(SubmissionState::Accepted), 10).await, []);
    assert_eq!(ids(with_key("1"), 10).await, [first]);
    assert_eq!(ids(with_key("3"), 10).await, []);
    let own = store.submission(first).await.unwrap().unwrap();
    assert_eq!(ids(of(&own.client), 10).await, [first]);
    assert_eq!(ids(of("another"), 10).await, [], "a key belongs to its client");
    let after = SubmissionCursor::after(&store.submission(second).await.unwrap().unwrap());
    let rest = store.submissions(&all(), Some(after), 10).await.unwrap();
    assert_eq!(rest.into_iter().map(|submission| submission.id).collect::<Vec<_>>(), [first]);
    let end = store.submissions(&all(), Some(SubmissionCursor::after(&own)), 10).await.unwrap();
    assert_eq!(end, []);
}

async fn nothing_is_decided_while_the_vendor_is_being_asked(world: World) {
    let store = &world.store;
    let doubtful = world.doubtful("k").await;
    let second = Duration::from_secs(1);
    for _ in 0..2 {
        let look = store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
        for resolution in [Resolution::NotSent, Resolution::Sent(id("b1"))] {
            let busy = store.resolve(doubtful, resolution, "ops").await.unwrap();
            assert!(matches!(busy, Resolved::BeingLookedUp(s) if s.state == SubmissionState::InDoubt));
        }
        store.end_look(&Doubt { attempt: look.attempt + 1, ..look.clone() }, true).await.unwrap();
        let busy = store.resolve(doubtful, Resolution::NotSent, "ops").await.unwrap();
        assert!(matches!(busy, Resolved::BeingLookedUp(_)));
        // The wait goes on.
        store.end_look(&look, true).await.unwrap();
        assert_eq!(store.claim_doubts(VENDOR, 1, second).await.unwrap(), []);
        world.advance(LEASE);
    }
    assert_eq!(store.claim_doubts(VENDOR, 1, second).await.unwrap().len(), 1);
    // Whoever looked is gone.
    world.advance(second);
    let done = store.resolve(doubtful, Resolution::NotSent, "ops").await.unwrap();
    assert!(matches!(done, Resolved::Done(_)));
}

async fn a_look_that_outlived_its_lease_ends_no_other(world: World) {
    let store = &world.store;
    let doubtful = world.doubtful("k").await;
    let late = store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    world.advance(LEASE);
    let look = store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    // The vendor may have begun since with what the late one did not see.
    assert!(!store.found_not_sent(&late).await.unwrap());
    store.end_look(&late, true).await.unwrap();
    let busy = store.resolve(doubtful, Resolution::NotSent, "ops").await.unwrap();
    assert!(matches!(busy, Resolved::BeingLookedUp(_)), "{busy:?}");
    store.end_look(&look, true).await.unwrap();
    world.advance(LEASE);
    let next = store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    assert_eq!((next.looks, next.misses), (2, 1));
}

async fn a_look_belongs_to_its_attempt(world: World) {
    let store = &world.store;
    let doubtful = world.doubtful("k").await;
    let late = store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    world.advance(LEASE);
    store.resolve(doubtful, Resolution::NotSent, "ops").await.unwrap();
    let (_, attempt) = world.sending("k").await;
    assert!(!store.found_not_sent(&late).await.unwrap());
    assert!(store.in_doubt(doubtful, attempt, "provider_timeout").await.unwrap());
    assert!(!store.found_not_sent(&late).await.unwrap());
    assert_eq!(state(&world, doubtful).await, SubmissionState::InDoubt);
    let look = store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    assert!(!store.found_not_sent(&late).await.unwrap());
    assert!(store.found_not_sent(&look).await.unwrap());
}

async fn a_key_is_kept_for_as_long_after_the_end(world: World) {
    let store = &world.store;
    let doubtful = world.doubtful("k").await;
    world.advance(KEY_TTL);
    store.accept(doubtful, &world.running(&id("b1")), b"{}").await.unwrap();
    world.advance(KEY_TTL.saturating_sub(Duration::from_secs(1)));
    store.tidy().await.unwrap();
    assert!(matches!(store.reserve(order("k"), LEASE).await.unwrap(), Reserved::Accepted { .. }));
    world.advance(Duration::from_secs(1));
    assert_ne!(world.ours("k").await.0, doubtful);
}

async fn nothing_of_a_request_outlives_its_key(world: World) {
    let store = &world.store;
    let reserve = async |key| {
        let own = NewSubmission { reference: Some("crm-42"), ..order(key) };
        let Reserved::Ours { id, attempt } = store.reserve(own, LEASE).await.unwrap() else { panic!() };
        (id, attempt)
    };
    let mut unsent = Vec::new();
    for key in ["tidied", "used again"] {
        let (submission, attempt) = reserve(key).await;
        assert!(store.not_sent(submission, attempt, "provider_refused").await.unwrap());
        unsent.push(submission);
    }
    let (sent, _) = reserve("sent").await;
    store.accept(sent, &world.running(&id("b1")), b"{}").await.unwrap();
    world.advance(KEY_TTL);
    let _ = reserve("used again").await;
    store.tidy().await.unwrap();
    let mut connection = world.connection().await;
    for submission in unsent {
        let facts = store.unaccepted_submission(VENDOR, submission).await.unwrap().unwrap();
        assert_eq!((facts.reference, world.custom_ids(submission).await), (None, None));
        let row = sqlx::query("SELECT fingerprint FROM submissions WHERE id = $1")
            .bind(submission.to_string())
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(row.text("fingerprint").unwrap(), "");
    }
    // Erasing the batch erases these.
    let facts = store.facts(VENDOR, &id("b1")).await.unwrap().unwrap();
    assert_eq!(facts.reference.as_deref(), Some("crm-42"));
    assert!(world.custom_ids(sent).await.is_some());
}

async fn what_was_believed_not_to_be_sent_may_have_been(world: World) {
    let store = &world.store;
    let (first, attempt) = world.ours("k").await;
    assert!(!store.may_have_sent(VENDOR).await.unwrap());
    store.begin_sending(first, attempt, LEASE).await.unwrap().unwrap();
    store.not_sent(first, attempt, "provider_refused").await.unwrap();
    assert!(store.may_have_sent(VENDOR).await.unwrap());
    world.advance(KEY_TTL);
    assert!(!store.may_have_sent(VENDOR).await.unwrap());
    let doubtful = world.doubtful("doubtful").await;
    assert!(store.may_have_sent(VENDOR).await.unwrap());
    store.accept(doubtful, &world.running(&id("b1")), b"{}").await.unwrap();
    assert!(!store.may_have_sent(VENDOR).await.unwrap());
}

async fn there_is_one_time_of_submission(world: World) {
    let store = &world.store;
    let (first, attempt) = world.ours("k").await;
    world.advance(Duration::from_hours(24));
    let sent_at = store.begin_sending(first, attempt, LEASE).await.unwrap().unwrap();
    assert_eq!(store.submission(first).await.unwrap().unwrap().sent_at, Some(sent_at));
    world.advance(Duration::from_hours(24));
    assert_eq!(store.unaccepted_submission(VENDOR, first).await.unwrap().unwrap().sent_at, sent_at);
    let (read_before, new) = (id("read-before"), id("new"));
    store.save(&world.running(&read_before)).await.unwrap();
    store.accept(first, &world.running(&read_before), b"{}").await.unwrap();
    let second = world.doubtful("second").await;
    let second_at = store.submission(second).await.unwrap().unwrap().sent_at;
    world.advance(Duration::from_hours(24));
    store.resolve(second, Resolution::Sent(new.clone()), "ops").await.unwrap();
    for (batch, sent_at) in [(read_before, Some(sent_at)), (new, second_at)] {
        assert_eq!(Some(store.facts(VENDOR, &batch).await.unwrap().unwrap().sent_at), sent_at);
        assert_eq!(store.batch(VENDOR, &batch).await.unwrap().unwrap().submitted_at, sent_at);
    }
    let filter = Filter { providers: vec![VENDOR], ..Filter::default() };
    let listed = store.list(&filter, None, 10).await.unwrap();
    assert_eq!(listed[0].cursor.at, sent_at.as_millisecond());
    let day = sent_at.strftime("%Y-%m-%d").to_string();
    assert_eq!(store.usage(&UsageFilter::default()).await.unwrap()[0].day, day);
}

async fn who_decided_stays_known(world: World) {
    let store = &world.store;
    let doubtful = world.doubtful("k").await;
    store.resolve(doubtful, Resolution::NotSent, "ops").await.unwrap();
    let (_, attempt) = world.ours("k").await;
    let submission = store.submission(doubtful).await.unwrap().unwrap();
    assert_eq!((submission.resolved_by.as_deref(), submission.sent_at), (Some("ops"), None));
    store.begin_sending(doubtful, attempt, LEASE).await.unwrap().unwrap();
    store.in_doubt(doubtful, attempt, "provider_timeout").await.unwrap();
    let look = store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    assert!(store.found_not_sent(&look).await.unwrap());
    assert_eq!(store.submission(doubtful).await.unwrap().unwrap().resolved_by.as_deref(), Some("ops"));
}

async fn a_batch_is_accepted_in_one_of_three_ways(world: World) {
    let store = &world.store;
    let (first, _) = world.sending("first").await;
    let batch = id("b1");
    for expected in [Saved::Kept, Saved::Complete] {
        let accepted = store.accept(first, &world.running(&batch), b"{}").await.unwrap();
        assert_eq!(accepted, Accepted::As(expected));
    }
    assert_eq!(store.accept(first, &world.running(&id("b2")), b"{}").await.unwrap(), Accepted::AsAnother);
    store.erase(VENDOR, &batch).await.unwrap();
    let again = store.accept(first, &world.running(&batch), b"{}").await.unwrap();
    assert_eq!(again, Accepted::As(Saved::Erased));

    let (second, _) = world.sending("second").await;
    store.save(&world.completed(&id("b3"))).await.unwrap();
    let accepted = store.accept(second, &world.running(&id("b3")), b"{}").await.unwrap();
    assert_eq!(accepted, Accepted::As(Saved::Complete));
    let (third, _) = world.sending("third").await;
    store.erase(VENDOR, &id("b4")).await.unwrap();
    let accepted = store.accept(third, &world.running(&id("b4")), b"{}").await.unwrap();
    assert_eq!(accepted, Accepted::As(Saved::Erased));
}

async fn two_submissions_are_never_one_batch(world: World) {
    let store = &world.store;
    let (first, _) = world.sending("first").await;
    let (second, attempt) = world.sending("second").await;
    let batch = id("b1");
    let accepted = store.accept(first, &world.running(&batch), b"first").await.unwrap();
    assert_eq!(accepted, Accepted::As(Saved::Kept));
    let document = SavedBatch { document: b"second", ..world.running(&batch) };
    assert_eq!(store.accept(second, &document, b"second").await.unwrap(), Accepted::BatchOfAnother);
    let stored = store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!(
        (stored.submission, &stored.document.unwrap()[..]),
        (Some(first), world.running(&batch).document)
    );
    assert!(store.in_doubt(second, attempt, "provider_integrity").await.unwrap());
    let second = store.submission(second).await.unwrap().unwrap();
    assert_eq!((second.state, second.batch_id), (SubmissionState::InDoubt, None));
}

async fn of_two_submissions_that_are_accepted_at_once_as_one_batch_one_is(world: World) {
    for round in 0..20 {
        let batch = id(&format!("b{round}"));
        let mut submissions = Vec::new();
        for key in ["first", "second"] {
            submissions.push(world.sending(&format!("{key} {round}")).await.0);
        }
        let accept = |submission| {
            let (world, batch) = (world.clone(), batch.clone());
            async move { world.store.accept(submission, &world.running(&batch), b"{}").await.unwrap() }
        };
        let accepted = tokio::join!(accept(submissions[0]), accept(submissions[1]));
        let one = [Accepted::As(Saved::Kept), Accepted::BatchOfAnother];
        assert!(<[_; 2]>::from(accepted) == one || [accepted.1, accepted.0] == one, "{accepted:?}");
        let winner = submissions[usize::from(accepted.0 == Accepted::BatchOfAnother)];
        for submission in submissions {
            let stored = world.store.submission(submission).await.unwrap().unwrap();
            assert_eq!(stored.batch_id.is_some(), submission == winner);
            assert_eq!(stored.state == SubmissionState::Accepted, submission == winner);
        }
    }
}

async fn an_answer_is_kept_deflated_and_not_shown(world: World) {
    let store = &world.store;
    let (first, _) = world.sending("k").await;
    let answer = "+33612345678 ".repeat(1000);
    store.accept(first, &world.running(&id("b1")), answer.as_bytes()).await.unwrap();
    let row = sqlx::query("SELECT answer FROM submissions").fetch_one(&mut world.connection().await).await;
    assert!(row.unwrap().bytes("answer").unwrap().unwrap().len() < 200);
    let reserved = store.reserve(order("k"), LEASE).await.unwrap();
    assert!(!format!("{reserved:?}").contains("+33612345678"));
    let accepted = Reserved::Accepted { id: first, batch_id: id("b1"), answer: Some(answer.into()) };
    assert!(reserved == accepted);
}
