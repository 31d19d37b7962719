use super::scripted::{Scripted, limits, vendor};
use super::*;
use crate::quota::Rate;

fn reply(status: u16) -> Reply {
    Reply::new(status, HeaderMap::new(), Bytes::new(), Timestamp::UNIX_EPOCH)
}

#[test]
fn only_a_documented_refusal_says_that_nothing_was_sent() {
    for status in 100..=599 {
        let error = SubmitError::from_reply(&reply(status), ProviderError::from_status(&reply(status)));
        let refused = [400, 401, 402, 403, 422, 429].contains(&status);
        assert_eq!(matches!(error, SubmitError::NotSent(_)), refused, "{status}");
        assert_eq!(error.cause().status, Some(status));
    }
}

#[test]
fn debug_shows_no_body() {
    let write = Write::new("submit", "/batches".to_owned()).json(&"+15705551234").unwrap();
    let reply = Reply { body: Bytes::from_static(b"+15705551234"), ..reply(200) };
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
