//! Stores that earlier versions wrote.

use jiff::Timestamp;

use super::on_both;
use super::world::{VENDOR, World, id};
use crate::batch::Amount;
use crate::store::deflate::deflate;
use crate::store::{Saved, SavedBatch, UsageFilter};

on_both! {
    a_store_of_the_first_version_keeps_what_it_has,
}

const SUBMISSION: &str = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071";

async fn a_store_of_the_first_version_keeps_what_it_has(world: World) {
    let hex = |bytes: &[u8]| base16ct::lower::encode_string(&deflate(bytes).unwrap());
    let blob = |bytes: &[u8]| match world.folder() {
        Some(_) => format!("X'{}'", hex(bytes)),
        None => format!("decode('{}', 'hex')", hex(bytes)),
    };
    let (ids, document) = (blob(br#"["row-1",null]"#), blob(br#"{"done":true}"#));
    let batch = |id: &str, status: &str, complete: u8, submission: &str, charged: &str, seen: &str| {
        format!(
            "INSERT INTO batches (provider, id, submission, client, records, status, done, complete, document, summary,
                                  results, charged, refunded, first_seen_at, sort_at, day, retrieved_at, hinted,
                                  lease_until, polls)
             VALUES ('vendor', '{id}', {submission}, 'crm', 2, '{status}', 1, {complete}, {document}, {document}, 1,
                     {charged}, NULL, {seen}, {seen}, '2026-11-20', {seen} + 1000, 0, 0, 3);"
        )
    };
    let rows = [
        format!(
            "INSERT INTO submissions (id, client, key_hash, provider, fingerprint, records, custom_ids, state, attempt,
                                      lease_until, batch_id, created_at, sent_at, state_since, looks, misses,
                                      next_look_at)
             VALUES ('{SUBMISSION}', 'crm', 'x', 'vendor', 'y', 2, {ids}, 'accepted', 1, 0, 'whole', 1, 1, 1, 0, 0, 0);"
        ),
        batch("whole", "completed", 1, &format!("'{SUBMISSION}'"), "80", "90000000"),
        batch("short", "completed", 0, "NULL", "NULL", "90000000"),
        batch("short-and-old", "completed", 0, "NULL", "9223372036854775807", "1000"),
        batch("stopped", "stopped", 0, "NULL", "7", "90000000"),
    ];
    let older = world.older(1, &rows.concat()).await;
    older
        .run(async |older| {
            let store = &older.store;
            // Costs are exact in millionths, and say the same as before; what is too much to be a cost is none.
            let usage = store.usage(&UsageFilter::default()).await.unwrap();
            assert_eq!((usage[0].charged, usage[0].without_cost), (Amount::from_units(87), 2));
            // Where the records were not kept, the caller's ids are known by position.
            let facts = store.facts(VENDOR, &id("whole")).await.unwrap().unwrap();
            assert_eq!(facts.custom_ids, Some(vec![Some("row-1".to_owned()), None]));
            assert_eq!(store.records(facts.submission).await.unwrap(), None);
            // What is final stays, and what lacked results is read once more, unless it is old.
            let whole = id("whole");
            let final_one = SavedBatch { document: b"{}", ..older.completed(&whole) };
            assert_eq!(store.save(&final_one).await.unwrap(), Saved::Complete);
            let due = older.claim(VENDOR).await;
            assert_eq!(due, Some(id("short")));
            assert_eq!(older.claim(VENDOR).await, None);
            let short = store.batch(VENDOR, &id("short")).await.unwrap().unwrap();
            assert_eq!(short.incomplete_since.map(Timestamp::as_millisecond), Some(90_001_000));
            assert_eq!(&short.document.unwrap()[..], br#"{"done":true}"#);
        })
        .await;
    world.store.close().await;
}
