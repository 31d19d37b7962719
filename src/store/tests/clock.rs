//! A clock that is set back: nothing stands still until the time comes again.

use std::time::Duration;

use jiff::SignedDuration;

use super::on_both;
use super::world::{LEASE, VENDOR, World, id, order};
use crate::store::{Reserved, Resolution, Resolved};
use crate::submission::SubmissionState;

on_both! {
    leases_end_though_the_clock_was_set_back,
    what_is_put_off_comes_though_the_clock_was_set_back,
    calls_leave_the_window_though_the_clock_was_set_back,
    nothing_is_put_off_for_days,
}

fn set_back(world: &World) {
    world.clock.advance(SignedDuration::from_hours(-24));
}

async fn leases_end_though_the_clock_was_set_back(world: World) {
    let store = &world.store;
    let (reserved, attempt) = world.ours("reserved").await;
    let (unused, _) = world.ours("unused").await;
    let (sending, _) = world.sending("sending").await;
    let (sent, _) = world.sending("sent").await;
    let looked_up = world.doubtful("looked up").await;
    store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    let batch = id("b1");
    store.save(&world.running(&batch)).await.unwrap();
    assert!(store.lease(VENDOR, &batch, LEASE).await.unwrap());
    set_back(&world);

    let taken = store.reserve(order("reserved"), LEASE).await.unwrap();
    assert_eq!(taken, Reserved::Ours { id: reserved, attempt: attempt + 1 });
    let doubtful = store.reserve(order("sending"), LEASE).await.unwrap();
    assert_eq!(doubtful, Reserved::InDoubt { id: sending });
    assert_eq!(store.expire_leases(false).await.unwrap(), [sent]);
    let unused = store.submission(unused).await.unwrap().unwrap();
    assert_eq!(unused.state, SubmissionState::NotSent);
    let done = store.resolve(looked_up, Resolution::NotSent, "ops").await.unwrap();
    assert!(matches!(done, Resolved::Done(_)));
    assert!(store.lease(VENDOR, &batch, LEASE).await.unwrap());
    assert!(!store.lease(VENDOR, &batch, LEASE).await.unwrap());
    set_back(&world);
    assert_eq!(world.claim(VENDOR).await.unwrap(), batch);
    assert_eq!(world.claim(VENDOR).await, None);
}

async fn what_is_put_off_comes_though_the_clock_was_set_back(world: World) {
    let store = &world.store;
    let doubtful = world.doubtful("k").await;
    store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0);
    let batch = id("b1");
    store.save(&world.running(&batch)).await.unwrap();
    let later = world.clock.now() + Duration::from_mins(10);
    store.release(VENDOR, &batch, Some(later)).await.unwrap();
    assert_eq!(world.claim(VENDOR).await, None);
    assert_eq!(store.claim_doubts(VENDOR, 1, LEASE).await.unwrap(), []);
    set_back(&world);
    assert_eq!(world.claim(VENDOR).await.unwrap(), batch);
    assert_eq!(store.claim_doubts(VENDOR, 1, LEASE).await.unwrap().remove(0).id, doubtful);
    assert_eq!(store.claim_doubts(VENDOR, 1, LEASE).await.unwrap(), []);
}

async fn calls_leave_the_window_though_the_clock_was_set_back(world: World) {
    let store = &world.store;
    let minute = Duration::from_mins(1);
    assert!(store.take(VENDOR, minute, 1).await.unwrap().is_ok());
    assert!(store.take("another", minute, 1).await.unwrap().is_ok());
    set_back(&world);
    assert_eq!(store.taken(VENDOR, minute).await.unwrap(), 0);
    assert!(store.take(VENDOR, minute, 1).await.unwrap().is_ok());
    assert!(store.take(VENDOR, minute, 1).await.unwrap().is_err());
    set_back(&world);
    set_back(&world);
    store.tidy().await.unwrap();
    world.advance(Duration::from_hours(72));
    assert_eq!(store.taken("another", minute).await.unwrap(), 0);
}

async fn nothing_is_put_off_for_days(world: World) {
    let store = &world.store;
    let batch = id("b1");
    store.save(&world.running(&batch)).await.unwrap();
    let later = world.clock.now() + Duration::from_hours(24);
    store.release(VENDOR, &batch, Some(later)).await.unwrap();
    assert_eq!(world.claim(VENDOR).await, None);
    world.advance(Duration::from_mins(30));
    assert_eq!(world.claim(VENDOR).await.unwrap(), batch);
}
