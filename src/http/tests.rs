use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use super::call_limiter::NO_TIME_LEFT;
use super::scripted::{Scripted, limits, vendor};
use super::*;
use crate::rate::Rate;
use crate::settings;
use crate::telemetry::TraceContext;

fn reply(status: u16) -> Reply {
    Reply::new(status, HeaderMap::new(), Bytes::new(), Timestamp::UNIX_EPOCH)
}

#[test]
fn only_a_status_that_says_that_nothing_was_processed_is_not_sent() {
    const REFUSALS: [u16; 11] = [400, 402, 404, 405, 411, 413, 414, 415, 422, 429, 431];
    for status in 100..=599 {
        for form in [ErrorForm::Vendor, ErrorForm::Foreign] {
            let cause = ProviderError::from_status(&reply(status), form);
            let error = SubmitError::from_reply(&reply(status), cause);
            // Firewalls write these, too, and some look at answers.
            let is_vendors = [401, 403].contains(&status) && form == ErrorForm::Vendor;
            let refused = REFUSALS.contains(&status) || is_vendors;
            assert_eq!(matches!(error, SubmitError::NotSent(_)), refused, "{status} {form:?}");
            assert_eq!(error.cause().status, Some(status));
            assert_eq!(cause.kind == ProviderErrorKind::Credentials, is_vendors, "{status} {form:?}");
            // A client's error is mended by no repetition, but for 429.
            assert!(!cause.retryable || status == 429 || status >= 500, "{status}");
        }
    }
}

#[test]
fn debug_shows_no_body() {
    let write = Write::new("submit", "/batches".to_owned()).json(&"+15705551234").unwrap();
    let body = Bytes::from_static(b"+15705551234");
    let reply = Reply::new(200, HeaderMap::new(), body, Timestamp::UNIX_EPOCH);
    let shown = format!("{write:?} {reply:?}");
    assert!(shown.contains("submit") && !shown.contains("5551234"), "{shown}");
}

const WRITE: Write = Write::new("start", String::new());

fn call(time: Duration) -> Call {
    Call { request_id: "r".into(), trace: TraceContext::start(), deadline: Instant::now() + time }
}

async fn write(client: &VendorClient, time: Duration) -> Result<(), SubmitError> {
    client.write(&call(time), &WRITE, |_| Ok(())).await
}

fn not_sent(outcome: Result<(), SubmitError>) -> ProviderError {
    match outcome {
        Err(SubmitError::NotSent(error)) => error,
        other => panic!("{other:?}"),
    }
}

const PLENTY: Rate = Rate { calls: 100, per: Duration::from_mins(1) };

#[tokio::test]
async fn what_changes_something_is_sent_only_with_time_for_a_whole_attempt() {
    let server = Scripted::start([("POST /", 200, "")]).await;
    let (client, _folder) = vendor(&server.url(), Duration::from_secs(4), PLENTY, limits()).await;
    assert_eq!(not_sent(write(&client, Duration::from_millis(3_900)).await).detail, NO_TIME_LEFT.detail);
    assert_eq!(server.left(), 1);
    write(&client, Duration::from_secs(10)).await.unwrap();
    assert_eq!(server.left(), 0);
}

#[tokio::test]
async fn what_is_not_sent_takes_nothing_of_the_quota() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let rate = Rate { calls: 2, per: Duration::from_mins(1) };
    let max_wait = Duration::from_millis(50);
    let limits = settings::Http { max_in_flight: 1, max_wait, ..limits() };
    let (client, _folder) = vendor(&url, Duration::from_secs(1), rate, limits).await;
    let plenty = Duration::from_secs(10);
    for _ in 0..2 {
        let too_late = not_sent(write(&client, Duration::from_millis(900)).await);
        assert_eq!(too_late.kind, ProviderErrorKind::Timeout);
    }
    // In the order of their turns: the first has the place.
    let (sent, no_place) = tokio::join!(write(&client, plenty), write(&client, plenty));
    assert!(matches!(sent, Err(SubmitError::InDoubt(_))), "{sent:?}");
    assert_eq!(not_sent(no_place).kind, ProviderErrorKind::Unavailable);
    let last = write(&client, plenty).await;
    assert!(matches!(last, Err(SubmitError::InDoubt(_))), "{last:?}");
    assert_eq!(not_sent(write(&client, plenty).await).kind, ProviderErrorKind::RateLimited);
}

#[tokio::test]
async fn short_deadlines_leave_time_to_send() {
    let server = Scripted::start([("POST /", 200, "")]).await;
    let limits = settings::Http { submit_deadline: Duration::from_secs(3), ..limits() };
    let (client, _folder) = vendor(&server.url(), Duration::from_secs(8), PLENTY, limits).await;
    write(&client, Duration::from_secs(3)).await.unwrap();
}

#[tokio::test]
async fn the_wait_for_quota_leaves_time_for_a_whole_attempt() {
    let server = Scripted::start([("POST /", 200, ""), ("POST /", 200, "")]).await;
    let rate = Rate { calls: 1, per: Duration::from_secs(8) };
    let (client, _folder) = vendor(&server.url(), Duration::from_secs(4), rate, limits()).await;
    write(&client, Duration::from_secs(10)).await.unwrap();
    let began = Instant::now();
    let error = not_sent(write(&client, Duration::from_secs(10)).await);
    assert_eq!(error.kind, ProviderErrorKind::RateLimited);
    assert!(error.retry_after.unwrap() > Duration::from_secs(3), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(server.left(), 1);
}

#[tokio::test]
async fn a_connection_that_is_not_made_is_never_counted_as_sent() {
    // It is accepted by the system, and nobody shakes hands.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let (client, _folder) = vendor(&url, Duration::from_secs(1), PLENTY, limits()).await;
    let error = not_sent(write(&client, Duration::from_secs(10)).await);
    assert_eq!(error.kind, ProviderErrorKind::Timeout);
}

#[tokio::test]
async fn a_read_that_is_given_up_while_it_tries_a_vendor_lets_the_next_one_try() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let pause = Duration::from_millis(10);
    let limits =
        settings::Http { circuit_failures: 1, circuit_pause: pause, circuit_max_pause: pause, ..limits() };
    let (client, _folder) = vendor(&url, Duration::from_millis(200), PLENTY, limits).await;
    let request = Read::new("read", "/x".to_owned());
    let call = call(Duration::from_secs(10));
    let read = || client.read(&call, &request, |_| Ok(()));
    assert_eq!(read().await.unwrap_err().kind, ProviderErrorKind::Timeout);
    tokio::time::sleep(pause * 2).await;
    {
        let first = read();
        tokio::pin!(first);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut first).await.is_err());
        let second = read().await.unwrap_err();
        assert_eq!((second.kind, second.status), (ProviderErrorKind::Unavailable, None));
    }
    assert_eq!(read().await.unwrap_err().kind, ProviderErrorKind::Timeout, "it is asked again");
}

#[tokio::test]
async fn a_vendor_that_hangs_is_spared_though_an_attempt_may_take_longer_than_a_read() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let read_deadline = Duration::from_millis(1_500);
    let limits = settings::Http { circuit_failures: 1, read_deadline, ..limits() };
    let (client, _folder) = vendor(&url, Duration::from_mins(1), PLENTY, limits).await;
    let request = Read::new("read", "/x".to_owned());
    let read = async |time| client.read(&call(time), &request, |_| Ok(())).await.unwrap_err().kind;
    assert_eq!(read(read_deadline / 10).await, ProviderErrorKind::Timeout, "too short to tell");
    assert_eq!(read(read_deadline).await, ProviderErrorKind::Timeout);
    assert_eq!(read(read_deadline).await, ProviderErrorKind::Unavailable);
}
