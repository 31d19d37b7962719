//! Batches: what is kept, who asks for them, how they are listed and counted.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use super::on_both;
use super::world::{LEASE, VENDOR, World, id};
use crate::batch::Amount;
use crate::store::{Cursor, Filter, Resolution, Saved, SavedBatch, Usage, UsageFilter};

on_both! {
    what_is_final_stays,
    what_was_final_without_its_submission_is_read_once_more,
    what_is_a_submissions_is_not_replaced_by_what_was_read_without_it,
    results_are_not_lost_to_a_later_end,
    ends_are_learnt_of_in_one_query,
    a_long_document_comes_back_as_it_was,
    one_at_a_time_asks_for_a_batch,
    a_hint_is_heeded_also_while_a_poll_is_under_way,
    what_the_vendor_does_not_know_is_given_up,
    pages_show_each_batch_once,
    lists_are_filtered,
    usage_counts_each_batch_once,
}

async fn what_is_final_stays(world: World) {
    let store = &world.store;
    let batch = id("b1");
    assert!(store.batch(VENDOR, &batch).await.unwrap().is_none());
    assert_eq!(store.save(&world.running(&batch)).await.unwrap(), Saved::Kept);
    let failed = SavedBatch { status: "failed", done: true, next_poll_at: None, ..world.running(&batch) };
    assert_eq!(store.save(&failed).await.unwrap(), Saved::Kept);
    assert_eq!(store.save(&world.running(&batch)).await.unwrap(), Saved::Complete);
    assert_eq!(world.status(&batch).await.as_deref(), Some("failed"));
    assert_eq!(store.save(&world.completed(&batch)).await.unwrap(), Saved::Kept);
    assert_eq!(store.save(&failed).await.unwrap(), Saved::Complete);
    let stored = store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!((stored.status.as_str(), stored.done, stored.complete), ("completed", true, true));
    assert_eq!(stored.next_poll_at, None);
    assert_eq!(stored.document.unwrap(), world.completed(&batch).document);
    assert_eq!(store.followed().await.unwrap(), 0);
}

async fn what_was_final_without_its_submission_is_read_once_more(world: World) {
    let store = &world.store;
    let (batch, decided) = (id("b1"), id("b2"));
    let (submission, _) = world.sending("k").await;
    store.save(&world.completed(&batch)).await.unwrap();
    assert_eq!(world.claim(VENDOR).await, None);
    store.accept(submission, &world.running(&batch), b"{}").await.unwrap();
    let stored = store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!((stored.done, stored.complete), (true, false));
    assert_eq!(world.claim(VENDOR).await.unwrap(), batch);
    // The vendor went backwards: it is asked again when it says so.
    let soon = world.clock.now() + Duration::from_secs(5);
    let backwards =
        SavedBatch { submission: Some(submission), next_poll_at: Some(soon), ..world.running(&batch) };
    assert_eq!(store.save(&backwards).await.unwrap(), Saved::Complete);
    assert_eq!(world.claim(VENDOR).await, None);
    world.advance(Duration::from_secs(5));
    assert!(world.claim(VENDOR).await.is_some());
    let whole = SavedBatch { submission: Some(submission), document: b"whole", ..world.completed(&batch) };
    assert_eq!(store.save(&whole).await.unwrap(), Saved::Kept);
    let stored = store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!((stored.complete, stored.document.as_deref()), (true, Some(&b"whole"[..])));
    // It is so only once.
    store.accept(submission, &world.running(&batch), b"{}").await.unwrap();
    assert_eq!(store.save(&whole).await.unwrap(), Saved::Complete);
    assert_eq!(world.claim(VENDOR).await, None);

    store.save(&world.completed(&decided)).await.unwrap();
    let doubtful = world.doubtful("doubtful").await;
    store.resolve(doubtful, Resolution::Sent(decided.clone()), "ops").await.unwrap();
    assert_eq!(world.claim(VENDOR).await.unwrap(), decided);
}

async fn what_is_a_submissions_is_not_replaced_by_what_was_read_without_it(world: World) {
    let store = &world.store;
    let batch = id("b1");
    let (submission, _) = world.sending("k").await;
    store.accept(submission, &world.running(&batch), b"{}").await.unwrap();
    // Who asked the vendor before that has no facts.
    assert_eq!(store.save(&world.completed(&batch)).await.unwrap(), Saved::Complete);
    assert_eq!(world.status(&batch).await.as_deref(), Some("running"));
    assert_eq!(world.claim(VENDOR).await.unwrap(), batch);
    let whole = SavedBatch { submission: Some(submission), ..world.completed(&batch) };
    assert_eq!(store.save(&whole).await.unwrap(), Saved::Kept);
}

async fn results_are_not_lost_to_a_later_end(world: World) {
    let store = &world.store;
    let batch = id("b1");
    let partial = SavedBatch { complete: false, results: 2, ..world.completed(&batch) };
    let failed = SavedBatch { status: "failed", results: 1, ..partial.clone() };
    assert_eq!(store.save(&failed).await.unwrap(), Saved::Kept);
    assert_eq!(store.save(&partial).await.unwrap(), Saved::Kept);
    assert_eq!(store.save(&failed).await.unwrap(), Saved::Complete);
    assert_eq!(world.status(&batch).await.as_deref(), Some("completed"));
    assert_eq!(store.save(&partial).await.unwrap(), Saved::Kept);
    assert_eq!(store.save(&world.completed(&batch)).await.unwrap(), Saved::Kept);

    let (submission, _) = world.sending("k").await;
    let own = id("own");
    store.accept(submission, &world.running(&own), b"{}").await.unwrap();
    store.gone(VENDOR, &own).await.unwrap();
    let back = SavedBatch { submission: Some(submission), results: 0, ..world.completed(&own) };
    assert_eq!(store.save(&back).await.unwrap(), Saved::Kept);
}

async fn ends_are_learnt_of_in_one_query(world: World) {
    let store = &world.store;
    let ended = async |since| {
        let ended = store.ended_since(since).await.unwrap();
        ended.into_iter().map(|(provider, id)| format!("{provider} {id}")).collect::<BTreeSet<_>>()
    };
    let start = world.clock.now();
    let batches = ["early", "running", "done", "erased", "both"].map(id);
    let [early, running, done, erased, both] = &batches;
    store.save(&world.completed(early)).await.unwrap();
    world.advance(Duration::from_secs(10));
    let since = world.clock.now();
    store.save(&world.running(running)).await.unwrap();
    store.save(&SavedBatch { complete: false, ..world.completed(done) }).await.unwrap();
    store.erase(VENDOR, erased).await.unwrap();
    store.save(&world.completed(both)).await.unwrap();
    store.erase(VENDOR, both).await.unwrap();
    assert_eq!(ended(since).await, BTreeSet::from(["vendor done".to_owned()]));
    assert_eq!(ended(start).await.len(), 2);
    assert_eq!(ended(world.clock.now() + Duration::from_secs(1)).await.len(), 0);
}

async fn a_long_document_comes_back_as_it_was(world: World) {
    let batch = id("b1");
    let mut document = vec![b' '; 3_000_000];
    document.extend((0..600_000).map(|_| fastrand::u8(..)));
    let long = SavedBatch { document: &document, ..world.completed(&batch) };
    assert_eq!(world.store.save(&long).await.unwrap(), Saved::Kept);
    let stored = world.store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert!(stored.document.unwrap() == document);
}

async fn one_at_a_time_asks_for_a_batch(world: World) {
    let store = &world.store;
    let batch = id("b1");
    // There is nothing to take before the vendor is known to have it.
    assert!(store.lease(VENDOR, &batch, LEASE).await.unwrap());
    assert!(store.lease(VENDOR, &batch, LEASE).await.unwrap());
    store.save(&world.running(&batch)).await.unwrap();
    assert_eq!(store.followed().await.unwrap(), 1);
    assert!(store.lease(VENDOR, &batch, LEASE).await.unwrap());
    assert!(!store.lease(VENDOR, &batch, LEASE).await.unwrap());
    assert_eq!(world.claim(VENDOR).await, None);
    let later = world.clock.now() + Duration::from_secs(5);
    store.release(VENDOR, &batch, Some(later)).await.unwrap();
    assert_eq!(world.claim(VENDOR).await, None);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.claim("another").await, None);
    let due = world.claim(VENDOR).await.unwrap();
    assert_eq!(due, batch);
    assert!(!store.lease(VENDOR, &batch, LEASE).await.unwrap());
    // Whoever had it is gone.
    world.advance(LEASE);
    assert!(world.claim(VENDOR).await.is_some());
    store.save(&world.completed(&batch)).await.unwrap();
    assert_eq!(world.claim(VENDOR).await, None);
    assert!(store.lease(VENDOR, &batch, LEASE).await.unwrap());
}

async fn a_hint_is_heeded_also_while_a_poll_is_under_way(world: World) {
    let store = &world.store;
    let batch = id("b1");
    assert!(!store.hint(VENDOR, &batch, Duration::ZERO, false).await.unwrap());
    assert!(store.hint(VENDOR, &batch, Duration::ZERO, true).await.unwrap());
    let due = world.claim(VENDOR).await.unwrap();
    assert_eq!(due, batch);

    let in_an_hour = Some(world.clock.now() + Duration::from_hours(1));
    let running = SavedBatch { next_poll_at: in_an_hour, ..world.running(&batch) };
    assert!(store.hint(VENDOR, &batch, Duration::ZERO, false).await.unwrap());
    store.save(&running).await.unwrap();
    assert!(world.claim(VENDOR).await.is_some());
    store.save(&running).await.unwrap();
    assert_eq!(world.claim(VENDOR).await, None);

    // However often it is said, not before the pause after the last read is over.
    let pause = Duration::from_mins(1);
    let running = SavedBatch { retrieved_at: world.clock.now(), ..running };
    store.save(&running).await.unwrap();
    assert!(store.hint(VENDOR, &batch, pause, false).await.unwrap());
    assert_eq!(world.claim(VENDOR).await, None);
    world.clock.advance(SignedDuration::from_mins(1));
    assert!(world.claim(VENDOR).await.is_some());

    store.save(&world.completed(&batch)).await.unwrap();
    assert!(!store.hint(VENDOR, &batch, Duration::ZERO, true).await.unwrap());
}

async fn what_the_vendor_does_not_know_is_given_up(world: World) {
    let store = &world.store;
    let (foreign, failed, own) = (id("foreign"), id("failed"), id("own"));
    store.save(&world.running(&foreign)).await.unwrap();
    let end = SavedBatch { status: "failed", done: true, ..world.running(&failed) };
    store.save(&end).await.unwrap();
    let (submission, _) = world.sending("k").await;
    store.accept(submission, &world.running(&own), b"{}").await.unwrap();
    for batch in [&foreign, &failed, &own] {
        store.gone(VENDOR, batch).await.unwrap();
    }
    assert_eq!(world.status(&foreign).await, None);
    assert_eq!(world.status(&failed).await.as_deref(), Some("failed"));
    let stored = store.batch(VENDOR, &own).await.unwrap().unwrap();
    assert_eq!((stored.status.as_str(), stored.done, stored.document), ("expired", true, None));
    assert_eq!(store.followed().await.unwrap(), 0);
    // The vendor was wrong.
    let running = SavedBatch { submission: Some(submission), ..world.running(&own) };
    assert_eq!(store.save(&running).await.unwrap(), Saved::Kept);
    assert_eq!(store.followed().await.unwrap(), 1);
}

async fn pages_show_each_batch_once(world: World) {
    let store = &world.store;
    let start = world.clock.now();
    for number in 0..25_u32 {
        let batch = id(&format!("b{number}"));
        // Several were submitted in the same millisecond.
        let submitted_at = Some(start + Duration::from_secs(u64::from(number / 6)));
        let summary = format!(r#"{{"id":"b{number}"}}"#);
        let saved = SavedBatch { submitted_at, summary: summary.as_bytes(), ..world.running(&batch) };
        store.save(&saved).await.unwrap();
    }
    store.hint(VENDOR, &id("never-read"), Duration::ZERO, true).await.unwrap();
    let filter = Filter { providers: vec![VENDOR], ..Filter::default() };
    let mut shown = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.list(&filter, after.as_ref(), 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.cursor.clone());
        shown.extend(page);
    }
    let times: Vec<_> = shown.iter().map(|listed| listed.cursor.at).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let summaries: BTreeSet<_> = shown.iter().map(|listed| listed.summary.clone()).collect();
    assert_eq!((shown.len(), summaries.len()), (25, 25));
}

async fn lists_are_filtered(world: World) {
    let store = &world.store;
    let start = world.clock.now();
    let (b1, b2) = (id("b1"), id("b2"));
    let first = SavedBatch { reference: Some("crm-42"), submitted_at: Some(start), ..world.running(&b1) };
    store.save(&first).await.unwrap();
    let later = start + Duration::from_secs(1);
    let second = SavedBatch { provider: "another", submitted_at: Some(later), ..world.completed(&b2) };
    store.save(&second).await.unwrap();
    let all = Filter { providers: vec![VENDOR, "another"], ..Filter::default() };
    let ids = async |filter: Filter| {
        let page = store.list(&filter, None, 10).await.unwrap();
        page.into_iter().map(|listed| listed.cursor.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(all.clone()).await, ["b2", "b1"]);
    assert_eq!(ids(Filter { providers: vec!["another"], ..all.clone() }).await, ["b2"]);
    assert_eq!(ids(Filter { providers: vec!["anot"], ..all.clone() }).await, [""; 0]);
    assert_eq!(ids(Filter::default()).await, [""; 0]);
    assert_eq!(ids(Filter { status: Some("running".into()), ..all.clone() }).await, ["b1"]);
    assert_eq!(ids(Filter { reference: Some("crm-42".into()), ..all.clone() }).await, ["b1"]);
    assert_eq!(ids(Filter { submitted_after: Some(later), ..all.clone() }).await, ["b2"]);
    assert_eq!(ids(Filter { submitted_before: Some(later), ..all.clone() }).await, ["b1"]);
    store.erase(VENDOR, &b1).await.unwrap();
    assert_eq!(ids(all).await, ["b2"]);
}

async fn usage_counts_each_batch_once(world: World) {
    let store = &world.store;
    let day = |text: &str| Some(format!("{text}T23:30:00Z").parse().unwrap());
    let (own, foreign, late) = (id("own"), id("foreign"), id("late"));
    let (submission, _) = world.sending("k").await;
    let batch = SavedBatch { submitted_at: day("2026-11-20"), ..world.running(&own) };
    store.accept(submission, &batch, b"{}").await.unwrap();
    for _ in 0..3 {
        let batch = SavedBatch {
            submission: Some(submission),
            submitted_at: day("2026-11-21"),
            refunded: Some(Amount::from_units(2)),
            ..world.completed(&own)
        };
        store.save(&batch).await.unwrap();
    }
    for batch in [&foreign, &late] {
        let submitted_at = day(if batch == &late { "2026-11-22" } else { "2026-11-20" });
        store.save(&SavedBatch { submitted_at, ..world.completed(batch) }).await.unwrap();
    }
    store.erase(VENDOR, &own).await.unwrap();
    store.erase(VENDOR, &id("never-seen")).await.unwrap();
    store.hint(VENDOR, &id("never-read"), Duration::ZERO, true).await.unwrap();

    let usage = |day: &str, client: Option<&str>, records, refunded| Usage {
        day: day.into(),
        client: client.map(str::to_owned),
        provider: VENDOR.into(),
        batches: 1,
        records,
        charged: Amount::from_units(7),
        refunded: Amount::from_units(refunded),
        without_cost: 0,
    };
    let first = usage("2026-11-20", None, 0, 0);
    let second = usage("2026-11-20", Some("crm"), 3, 2);
    let third = usage("2026-11-22", None, 0, 0);
    let all = [first, second.clone(), third.clone()];
    assert_eq!(store.usage(&UsageFilter::default()).await.unwrap(), all);
    let filter = UsageFilter { client: Some("crm"), provider: Some(VENDOR), ..UsageFilter::default() };
    assert_eq!(store.usage(&filter).await.unwrap(), [second]);
    let filter = UsageFilter { from: Some("2026-11-21"), to: Some("2026-11-22"), ..UsageFilter::default() };
    assert_eq!(store.usage(&filter).await.unwrap(), [third]);
    let filter = UsageFilter { provider: Some("another"), ..UsageFilter::default() };
    assert_eq!(store.usage(&filter).await.unwrap(), []);
}
