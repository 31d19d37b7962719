//! Callers that go away, and a database that does not answer.

use std::time::Duration;

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
    let mut callers = Vec::new();
    for number in 0..300_u64 {
        let world = world.clone();
        callers.push(tokio::spawn(async move {
            let key = format!("k{number}");
            let gone_after = Duration::from_micros(fastrand::u64(..5_000));
            let _ = timeout(gone_after, world.store.reserve(order(&key), LEASE)).await;
            let batch = id(&key);
            let _ = timeout(gone_after, world.store.save(&world.running(&batch))).await;
        }));
        if number % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    // As many as the pool has connections, twice over: none of them may be stuck in a transaction.
    for _ in 0..3 {
        let calls = (0..16).map(|number| {
            let key = format!("after-{number}");
            let world = &world;
            async move { world.store.reserve(order(&key), LEASE).await }
        });
        for outcome in futures_util::future::join_all(calls).await {
            outcome.unwrap();
        }
    }
    if world.store.backend == Backend::Postgres {
        let mut connection = world.connection().await;
        let stuck = "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'
                     AND datname = current_database() AND xact_start < now() - interval '1 second'";
        assert!(connection.fetch_all(stuck).await.unwrap().is_empty());
    }
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
    // What failed did not happen behind the caller's back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(world.store.begin_sending(first, attempt, LEASE).await.unwrap());
}
