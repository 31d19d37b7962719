//! Many at once, in one process and in several.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::on_both;
use super::world::{LEASE, VENDOR, World, claim, id, order};
use crate::store::{CallTime, Reserved};

on_both! {
    one_of_many_with_the_same_key_sends,
    no_batch_is_given_to_two,
    no_doubt_is_given_to_two,
    a_quota_is_exact,
    a_quota_is_a_sliding_window,
}

async fn one_of_many_with_the_same_key_sends(world: World) {
    let replica = world.replica().await;
    let asked = (0..40).map(|number| {
        let store = if number % 2 == 0 { &world.store } else { &replica };
        store.reserve(order("k"), LEASE)
    });
    let outcomes = join_all(asked).await;
    let ours = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Reserved::Ours { .. })));
    assert_eq!(ours.count(), 1);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    replica.close().await;
}

async fn no_batch_is_given_to_two(world: World) {
    for number in 0..40 {
        world.store.save(&world.running(&id(&format!("b{number}")))).await.unwrap();
    }
    let replica = world.replica().await;
    let claims = (0..60).map(|number| {
        let store = if number % 2 == 0 { &world.store } else { &replica };
        claim(store, &world.clock, VENDOR)
    });
    let claimed: Vec<_> = join_all(claims).await.into_iter().flatten().collect();
    let ids: BTreeSet<_> = claimed.iter().map(ToString::to_string).collect();
    assert_eq!((claimed.len(), ids.len()), (40, 40));
    replica.close().await;
}

async fn no_doubt_is_given_to_two(world: World) {
    for number in 0..10 {
        world.doubtful(&format!("k{number}")).await;
    }
    let replica = world.replica().await;
    let claims = (0..30).map(|number| {
        let store = if number % 2 == 0 { &world.store } else { &replica };
        store.claim_doubts(VENDOR, 3, LEASE)
    });
    let claimed: Vec<_> = join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();
    let ids: BTreeSet<_> = claimed.iter().map(|doubt| doubt.id.to_string()).collect();
    assert_eq!((claimed.len(), ids.len()), (10, 10));
    replica.close().await;
}

async fn a_quota_is_exact(world: World) {
    let replica = world.replica().await;
    let minute = Duration::from_mins(1);
    let takers = (0..50).map(|number| {
        let store = if number % 2 == 0 { &world.store } else { &replica };
        store.take(VENDOR, minute, 20)
    });
    let outcomes = join_all(takers).await.into_iter().map(Result::unwrap);
    let (taken, refused): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (20, 30));
    assert!(refused.iter().all(|wait| wait.is_err_and(|wait| wait <= minute)), "{refused:?}");
    assert_eq!(replica.taken(VENDOR, minute).await.unwrap(), 20);
    // One at a time, though many were taken in the same millisecond.
    for (call, left) in taken.into_iter().flatten().zip((0..20).rev()) {
        replica.give_back(VENDOR, call).await.unwrap();
        assert_eq!(world.store.taken(VENDOR, minute).await.unwrap(), left);
    }
    replica.close().await;
}

async fn a_quota_is_a_sliding_window(world: World) {
    let store = &world.store;
    let second = Duration::from_secs(1);
    let window = Duration::from_secs(10);
    for _ in 0..3 {
        assert!(store.take(VENDOR, window, 3).await.unwrap().is_ok());
        world.advance(second);
    }
    let near = |taken: Result<CallTime, Duration>, seconds: u64| {
        let wait = taken.unwrap_err();
        assert!(wait <= Duration::from_secs(seconds) && wait > Duration::from_secs(seconds - 1), "{wait:?}");
    };
    near(store.take(VENDOR, window, 3).await.unwrap(), 7);
    // Who may fill it less waits for longer.
    near(store.take(VENDOR, window, 2).await.unwrap(), 8);
    assert_eq!(store.take(VENDOR, window, 0).await.unwrap(), Err(window));
    assert!(store.take("another", window, 1).await.unwrap().is_ok());
    world.advance(Duration::from_secs(7));
    assert!(store.take(VENDOR, window, 3).await.unwrap().is_ok());
    assert_eq!(store.taken(VENDOR, window).await.unwrap(), 3);
    world.advance(Duration::from_hours(72));
    store.tidy().await.unwrap();
    assert_eq!(store.taken(VENDOR, Duration::from_hours(1000)).await.unwrap(), 0);
}
