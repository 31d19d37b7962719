//! Following: which batches are due, and who polls them.

use std::time::Duration;

use jiff::Timestamp;

use super::on_both;
use super::world::{LEASE, VENDOR, World, id};
use crate::store::{Due, SavedBatch};

on_both! {
    a_poll_that_was_not_made_keeps_its_place,
    what_a_list_shows_as_running_is_put_off_unless_something_came_in_between,
}

async fn a_poll_that_was_not_made_keeps_its_place(world: World) {
    let store = &world.store;
    for name in ["b1", "b2"] {
        store.save(&world.running(&id(name))).await.unwrap();
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(world.claim(VENDOR).await, Some(id("b1")));
    assert_eq!(world.claim(VENDOR).await, Some(id("b2")));
    for name in ["b2", "b1"] {
        store.return_unpolled(VENDOR, &id(name)).await.unwrap();
    }
    assert_eq!(world.claim(VENDOR).await, Some(id("b1")));
}

async fn what_a_list_shows_as_running_is_put_off_unless_something_came_in_between(world: World) {
    let store = &world.store;
    let names = ["b1", "b2", "b3", "b4"];
    for name in names {
        store.save(&world.running(&id(name))).await.unwrap();
    }
    let now = world.clock.now();
    let all = store.due_batches(VENDOR, (Timestamp::UNIX_EPOCH, None), now, 9).await.unwrap();
    assert_eq!(all.iter().map(|due| due.id.as_str()).collect::<Vec<_>>(), names);
    let after = (all[1].next_poll_at, Some(id("b2")));
    let rest = store.due_batches(VENDOR, after, now, 1).await.unwrap();
    assert_eq!(rest, all[2..3]);
    // One is hinted, one is polled by somebody else, and one is done.
    assert!(store.hint(VENDOR, &id("b2"), Duration::ZERO, false).await.unwrap());
    assert!(store.lease(VENDOR, &id("b3"), LEASE).await.unwrap());
    let done = id("b4");
    let end = SavedBatch { complete: false, next_poll_at: Some(now), ..world.completed(&done) };
    store.save(&end).await.unwrap();
    let later = now + Duration::from_mins(1);
    store.postpone(VENDOR, names.map(|name| (id(name), later)).to_vec()).await.unwrap();
    let mut due = [world.claim(VENDOR).await, world.claim(VENDOR).await, world.claim(VENDOR).await];
    due.sort();
    assert_eq!(due, [None, Some(id("b2")), Some(id("b4"))]);
    world.advance(Duration::from_mins(1));
    let only = Due { ids: Some(vec![id("b9"), id("b1")]), until: world.clock.now() };
    assert_eq!(store.claim_due(VENDOR, only, 9, LEASE).await.unwrap(), [id("b1")]);
}
