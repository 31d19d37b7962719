//! Erasing: nothing of a batch is left, and nothing of it comes back.

use std::fmt::Write;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::{Connection, Executor};
use tokio::time::Instant;

use super::on_both;
use super::world::{LEASE, VENDOR, World, id, order};
use crate::batch::{Personal, Record};
use crate::store::backend::Backend;
use crate::store::deflate::deflate;
use crate::store::{Accepted, NewSubmission, Reserved, Saved, SavedBatch};

on_both! {
    what_is_erased_stays_erased,
    what_is_erased_before_it_is_known_is_not_kept,
    what_is_erased_while_it_is_accepted_is_not_kept,
    nothing_is_left_in_the_files,
}

async fn what_is_erased_stays_erased(world: World) {
    let store = &world.store;
    let batch = id("b1");
    let start = world.clock.now();
    let own = NewSubmission { reference: Some("crm-42"), ..order("k") };
    let Reserved::Ours { id: submission, attempt, .. } = store.reserve(own, LEASE).await.unwrap() else {
        panic!()
    };
    store.begin_sending(submission, attempt, LEASE).await.unwrap();
    store.accept(submission, &world.running(&batch), b"{}").await.unwrap();
    assert!(store.records(submission).await.unwrap().is_some());
    world.advance(Duration::from_secs(1));
    store.erase(VENDOR, &batch).await.unwrap();
    store.erase(VENDOR, &batch).await.unwrap();

    let stored = store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert!(stored.erased && stored.document.is_none());
    assert_eq!((stored.status.as_str(), stored.submission), ("running", Some(submission)));
    assert_eq!(world.claim(VENDOR).await, None);
    assert!(!store.hint(VENDOR, &batch, Duration::ZERO, true).await.unwrap());
    assert_eq!(store.save(&world.completed(&batch)).await.unwrap(), Saved::Erased);
    assert!(store.batch(VENDOR, &batch).await.unwrap().unwrap().document.is_none());
    let facts = store.facts(VENDOR, &batch).await.unwrap().unwrap();
    assert_eq!((facts.reference, facts.custom_ids, facts.records), (None, None, 3));
    assert_eq!(store.records(submission).await.unwrap(), None);
    // The key stays used, and what it was used for is forgotten.
    let again = NewSubmission { fingerprint: [9; 32], ..order("k") };
    let expected = Reserved::Accepted { id: submission, batch_id: batch.clone(), answer: None };
    assert_eq!(store.reserve(again, LEASE).await.unwrap(), expected);
    assert_eq!(store.erased_since(start).await.unwrap(), [(VENDOR.to_owned(), batch)]);
    world.advance(Duration::from_secs(1));
    assert_eq!(store.erased_since(world.clock.now()).await.unwrap(), []);
}

async fn what_is_erased_before_it_is_known_is_not_kept(world: World) {
    let store = &world.store;
    let batch = id("b1");
    let own = NewSubmission { reference: Some("crm-42"), ..order("k") };
    let Reserved::Ours { id: submission, attempt, .. } = store.reserve(own, LEASE).await.unwrap() else {
        panic!()
    };
    store.begin_sending(submission, attempt, LEASE).await.unwrap();
    store.erase(VENDOR, &batch).await.unwrap();
    let accepted = store.accept(submission, &world.running(&batch), b"{}").await.unwrap();
    assert_eq!(accepted, Accepted::As(Saved::Erased));
    assert_eq!(store.records(submission).await.unwrap(), None);
    let stored = store.batch(VENDOR, &batch).await.unwrap().unwrap();
    assert!(stored.erased && stored.document.is_none());
    assert_eq!(stored.submission, Some(submission));
    assert_eq!(store.submission(submission).await.unwrap().unwrap().reference, None);
}

async fn what_is_erased_while_it_is_accepted_is_not_kept(world: World) {
    for erased_first in [true, false] {
        let batch = id(if erased_first { "b1" } else { "b2" });
        let own = NewSubmission { reference: Some("crm-42"), ..order(batch.as_str()) };
        let Reserved::Ours { id: submission, attempt } = world.store.reserve(own, LEASE).await.unwrap()
        else {
            panic!()
        };
        world.store.begin_sending(submission, attempt, LEASE).await.unwrap();
        world.store.save(&world.running(&batch)).await.unwrap();
        // Both wait for a third one that has the batch.
        let mut other = world.connection().await;
        let mut transaction = other.begin_with(world.store.backend.begin()).await.unwrap();
        let held = sqlx::query("UPDATE batches SET polls = polls WHERE id = $1").bind(batch.as_str());
        held.execute(&mut *transaction).await.unwrap();
        let accept = {
            let (world, batch) = (world.clone(), batch.clone());
            async move {
                world
                    .store
                    .accept(submission, &world.running(&batch), b"{}")
                    .await
                    .map(|accepted| matches!(accepted, Accepted::As(_)))
            }
        };
        let erase = {
            let (store, batch) = (world.store.clone(), batch.clone());
            async move { store.erase(VENDOR, &batch).await.map(|()| true) }
        };
        let [first, second]: [BoxFuture<'_, _>; 2] =
            if erased_first { [erase.boxed(), accept.boxed()] } else { [accept.boxed(), erase.boxed()] };
        let first = tokio::spawn(first);
        held_up(&world, 1).await;
        let second = tokio::spawn(second);
        held_up(&world, 2).await;
        transaction.commit().await.unwrap();
        assert!(first.await.unwrap().unwrap() && second.await.unwrap().unwrap());
        let stored = world.store.batch(VENDOR, &batch).await.unwrap().unwrap();
        assert!(stored.erased && stored.document.is_none());
        let facts = world.store.facts(VENDOR, &batch).await.unwrap().unwrap();
        assert_eq!((facts.submission, facts.reference), (submission, None));
        let again = world.store.reserve(order(batch.as_str()), LEASE).await.unwrap();
        assert_eq!(again, Reserved::Accepted { id: submission, batch_id: batch, answer: None });
    }
}

/// Waits until so many of the store's operations wait for somebody else's transaction. On SQLite one of them waits in
/// the database and has the turn that the others get in their order.
async fn held_up(world: &World, operations: usize) {
    let start = Instant::now();
    let mut connection = world.connection().await;
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                   AND application_name = current_setting('application_name')";
    let writers = world.store.backend.writers();
    loop {
        let held_up = match world.store.backend {
            Backend::Sqlite => writers - world.store.writers.available_permits(),
            Backend::Postgres => connection.fetch_all(waiting).await.unwrap().len(),
        };
        if held_up >= operations.min(writers) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{operations} operations never waited");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn nothing_is_left_in_the_files(world: World) {
    let store = &world.store;
    let mut planted = Vec::new();
    for number in 0..40 {
        // Lengths on both sides of a page, so that some spill over into pages of their own.
        let noise = noise(20 + number * 700);
        let document = format!(r#"{{"number":"+33612345{number:03}","noise":"{noise}"}}"#);
        let summary = format!(r#"{{"reference":"summary-{number}-{noise}"}}"#);
        let reference = format!("reference-{number}-{}", &noise[..20]);
        let custom_id = Personal(format!("custom-{number}-{}", &noise[..20]));
        let records = [Record { custom_id: Some(custom_id), ..Record::default() }];
        let answer = format!(r#"{{"answer":"{noise}"}}"#);
        let key = format!("key-{number}-{}", &noise[..20]);
        let own = NewSubmission { reference: Some(&reference), records: &records, ..order(&key) };
        let Reserved::Ours { id: submission, attempt, .. } = store.reserve(own, LEASE).await.unwrap() else {
            panic!()
        };
        store.begin_sending(submission, attempt, LEASE).await.unwrap();
        let batch = id(&format!("b{number}"));
        store.accept(submission, &world.running(&batch), answer.as_bytes()).await.unwrap();
        let saved = SavedBatch {
            document: document.as_bytes(),
            summary: summary.as_bytes(),
            submission: Some(submission),
            reference: Some(&reference),
            ..world.completed(&batch)
        };
        store.save(&saved).await.unwrap();

        let records = serde_json::to_vec(&records).unwrap();
        for text in [document.as_bytes(), summary.as_bytes(), &records] {
            // From its middle: what a document begins with, others begin with too.
            let deflated = deflate(text).unwrap();
            planted.push(deflated[deflated.len() - 16..].to_vec());
        }
        planted.extend([reference.into(), noise[..20].into(), key.into()]);
    }
    let in_files = |planted: &[Vec<u8>]| {
        let folder = world.folder()?;
        let files =
            std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        let files: Vec<_> = files.collect();
        let found = |text: &&Vec<u8>| {
            files.iter().any(|file| file.windows(text.len()).any(|window| window == text.as_slice()))
        };
        Some(planted.iter().filter(found).count())
    };
    let before = in_files(&planted[..12]);
    assert!(before.is_none_or(|found| found >= 8), "the search finds nothing: {before:?}");
    for number in 0..40 {
        store.erase(VENDOR, &id(&format!("b{number}"))).await.unwrap();
    }
    assert!(in_files(&planted).is_none_or(|found| found == 0));
    assert_eq!(store.erased_since(jiff::Timestamp::MIN).await.unwrap().len(), 40);
}

/// A text of so many bytes that cannot be deflated to much less.
fn noise(length: usize) -> String {
    let mut noise = String::new();
    while noise.len() < length {
        let _ = write!(noise, "{:016x}", fastrand::u64(..));
    }
    noise
}
