//! Callers that go away, and a database that does not answer.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{Connection, Executor};
use tokio::time::{Instant, timeout};

use super::on_both;
use super::world::{LEASE, World, id, order};
use crate::store::backend::Backend;

on_both! {
    callers_that_go_away_leave_the_store_healthy,
    a_locked_store_fails_in_time_and_recovers,
}

async fn callers_that_go_away_leave_the_store_healthy(world: World) {
    // At each point where a call waits for something.
    for polls in 0..40 {
        let keys: Vec<_> = (0..4).map(|number| format!("{polls}-{number}")).collect();
        let calls = keys.iter().map(|key| give_up_after(polls, world.store.reserve(order(key), LEASE)));
        join_all(calls).await;
        nobody_is_stuck(&world).await;
    }
    // While others are at work.
    let callers = (0..200).map(|number| {
        let world = world.clone();
        tokio::spawn(async move {
            let key = format!("k{number}");
            let gone_after = Duration::from_micros(fastrand::u64(..20_000));
            let _ = timeout(gone_after, world.store.reserve(order(&key), LEASE)).await;
            let batch = id(&key);
            let _ = timeout(gone_after, world.store.save(&world.running(&batch))).await;
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    nobody_is_stuck(&world).await;
    // As many as the pool has connections and more.
    for _ in 0..3 {
        let calls = (0..16).map(|number| {
            let key = format!("after-{number}");
            let world = &world;
            async move { world.store.reserve(order(&key), LEASE).await }
        });
        for outcome in join_all(calls).await {
            outcome.unwrap();
        }
    }
}

/// Waits until no connection of the store is in a transaction; PostgreSQL itself would end one after 5 seconds.
async fn nobody_is_stuck(world: &World) {
    if world.store.backend == Backend::Sqlite {
        return;
    }
    let mut connection = world.connection().await;
    let stuck = "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'
                 AND application_name = current_setting('application_name')";
    let start = Instant::now();
    while !connection.fetch_all(stuck).await.unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(3), "a connection is stuck in a transaction");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Polls a call so often, and drops it.
async fn give_up_after(polls: u32, call: impl Future) {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        call.as_mut().poll(context).map(drop)
    })
    .await;
}

async fn a_locked_store_fails_in_time_and_recovers(world: World) {
    let (first, attempt) = world.ours("k").await;
    world.store.save(&world.completed(&id("b1"))).await.unwrap();
    let mut other = world.connection().await;
    let mut transaction = other.begin_with(world.store.backend.begin()).await.unwrap();
    transaction.execute("UPDATE submissions SET records = records").await.unwrap();
    let start = Instant::now();
    let outcome = world.store.begin_sending(first, attempt, LEASE).await;
    assert!(outcome.is_err() && start.elapsed() < Duration::from_millis(2_300), "{:?}", start.elapsed());
    // Reads go on.
    assert_eq!(world.status(&id("b1")).await.as_deref(), Some("completed"));
    transaction.rollback().await.unwrap();
    // What failed did not happen behind the caller's back: whoever is still at work comes to an end first.
    let all = world.store.backend.writers().try_into().unwrap();
    drop(world.store.writers.acquire_many(all).await.unwrap());
    assert!(world.store.begin_sending(first, attempt, LEASE).await.unwrap().is_some());
}
