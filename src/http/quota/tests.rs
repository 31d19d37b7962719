mod windows;

use futures_util::future::join_all;
use jiff::SignedDuration;
use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::clock::Clock;
use crate::http::scripted::store;

const MINUTE: Duration = Duration::from_mins(1);

fn quota(store: &Store, calls: u32, per: Duration) -> Quota {
    Quota::new(store.clone(), "vendor", Rate { calls, per }, QuotaScope::AllCalls)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn admitted(quota: &Quota, kind: CallKind, of: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..of {
        match quota.admit(kind, soon()).await {
            Ok(_) => admitted += 1,
            Err(wait) => assert!(wait > Duration::from_secs(5) && wait <= MINUTE + SLACK, "{wait:?}"),
        }
    }
    admitted
}

#[tokio::test]
async fn reads_leave_a_part_to_submissions() {
    let (store, _folder) = store(Clock::default()).await;
    let quota = quota(&store, 5, MINUTE);
    assert_eq!(admitted(&quota, CallKind::Read, 6).await, 4);
    assert_eq!(admitted(&quota, CallKind::Write, 3).await, 1);
    assert_eq!(quota.used().await, Some(5));
}

#[tokio::test]
async fn a_store_that_fails_opens_no_door() {
    let (store, _folder) = store(Clock::default()).await;
    let quota = quota(&store, 5, MINUTE);
    assert_eq!(admitted(&quota, CallKind::Read, 1).await, 1);
    store.close().await;
    assert_eq!(quota.used().await, None);
    assert_eq!(admitted(&quota, CallKind::Read, 6).await, 3);
    assert_eq!(admitted(&quota, CallKind::Write, 3).await, 1);
}

#[tokio::test]
async fn what_this_process_used_up_itself_is_not_asked_of_the_store() {
    let clock = Clock::default();
    let (store, _folder) = store(clock.clone()).await;
    let quota = quota(&store, 5, MINUTE);
    assert_eq!(admitted(&quota, CallKind::Write, 5).await, 5);
    // The store would have room.
    clock.advance(SignedDuration::from_hours(1));
    assert_eq!(admitted(&quota, CallKind::Write, 2).await, 0);
    assert_eq!(quota.used().await, Some(0));
}

#[tokio::test]
async fn what_others_used_up_is_given_back() {
    let clock = Clock::default();
    let (store, _folder) = store(clock.clone()).await;
    let [other, own] = [quota(&store, 5, MINUTE), quota(&store, 5, MINUTE)];
    assert_eq!(admitted(&other, CallKind::Write, 5).await, 5);
    assert_eq!(admitted(&own, CallKind::Write, 10).await, 0);
    assert!(own.log().calls.len() == 0);
    clock.advance(SignedDuration::from_hours(1));
    assert_eq!(admitted(&own, CallKind::Write, 10).await, 5);
}

#[tokio::test]
async fn a_call_that_was_not_made_is_free_for_the_next_one_here_and_elsewhere() {
    let (store, _folder) = store(Clock::default()).await;
    let [other, own] = [quota(&store, 3, MINUTE), quota(&store, 3, MINUTE)];
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(own.admit(CallKind::Write, soon()).await.unwrap().unwrap());
    }
    assert_eq!(admitted(&other, CallKind::Write, 1).await, 0);
    own.give_back(taken.remove(1)).await;
    assert_eq!(own.used().await, Some(2));
    assert_eq!(admitted(&other, CallKind::Write, 2).await, 1);
    assert_eq!(admitted(&own, CallKind::Write, 1).await, 0);
}

#[tokio::test]
async fn a_crowd_stays_within_the_quota_and_all_get_through() {
    let (store, _folder) = store(Clock::default()).await;
    let rate = Duration::from_millis(100);
    let quota = quota(&store, 10, rate);
    let deadline = Instant::now() + Duration::from_secs(30);
    let callers = (0..25).map(|_| async {
        quota.admit(CallKind::Write, deadline).await.unwrap();
        Instant::now()
    });
    let mut calls = join_all(callers).await;
    calls.sort();
    for (first, eleventh) in calls.iter().zip(&calls[10..]) {
        assert!(*eleventh - *first >= rate, "{calls:?}");
    }
}

#[tokio::test]
async fn a_submission_waits_behind_no_read() {
    let (store, _folder) = store(Clock::default()).await;
    let quota = quota(&store, 5, Duration::from_secs(2));
    for _ in 0..4 {
        quota.admit(CallKind::Read, soon()).await.unwrap();
    }
    let reader = tokio::spawn({
        let quota = quota.clone();
        async move { quota.admit(CallKind::Read, soon()).await }
    });
    while quota.local.queues.read.turn.try_lock().is_ok() {
        yield_now().await;
    }
    quota.admit(CallKind::Write, soon()).await.unwrap();
    assert!(!reader.is_finished());
    // Who gets no turn is told so at the deadline.
    let deadline = Instant::now() + Duration::from_millis(50);
    assert!(quota.admit(CallKind::Read, deadline).await.is_err());
    reader.await.unwrap().unwrap();
}

#[tokio::test]
async fn while_everything_is_used_up_no_more_wait_than_there_are_seats() {
    let (store, _folder) = store(Clock::default()).await;
    let quota = quota(&store, 1, Duration::from_secs(3));
    quota.admit(CallKind::Write, soon()).await.unwrap();
    let wait = || {
        let quota = quota.clone();
        tokio::spawn(async move { quota.admit(CallKind::Write, soon()).await })
    };
    let first = wait();
    while quota.local.queues.write.left().is_none() {
        yield_now().await;
    }
    let crowd: Vec<_> = (0..SEATS + 20).map(|_| wait()).collect();
    while crowd.iter().filter(|caller| caller.is_finished()).count() < 20 {
        yield_now().await;
    }
    assert_eq!(quota.local.queues.write.queued.available_permits(), 0);
    let (refused, waiting): (Vec<_>, Vec<_>) = crowd.into_iter().partition(JoinHandle::is_finished);
    assert_eq!((refused.len(), waiting.len(), first.is_finished()), (20, SEATS, false));
    for caller in refused {
        let left = caller.await.unwrap().unwrap_err();
        assert!(left > Duration::from_secs(1) && left < Duration::from_secs(4), "{left:?}");
    }
}
