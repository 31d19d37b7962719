//! Callers who are slow, silent, deaf or do not speak HTTP: what each of their connections may hold, and for how long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::helpers::{
    Options, Reply, TestGateway, drip, eventually, head, raw, raw_get, read_replies, read_reply, unread,
};

const GET: &str = "GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n";
/// The largest answer that needs no vendor.
const LARGE: &str = "/docs/swagger-ui-bundle.js";
const POST: &str = "POST /batches/enrow HTTP/1.1\r\nhost: gateway\r\nidempotency-key: k\r\ncontent-type: application/json\r\n";

/// Longer than any connection may be kept busy with nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Seconds until the other side has closed, and what it said.
async fn until_closed(since: Instant, stream: &mut TcpStream) -> (f64, Vec<Reply>) {
    let replies = timeout(PATIENCE, read_replies(stream)).await.expect("the connection is closed");
    (since.elapsed().as_secs_f64(), replies)
}

/// A connection whose first request is answered.
async fn used(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream).await;
    stream
}

/// Asks on a connection that stays open.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

/// A caller who asks for a large answer and has little room for it.
async fn deaf(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(head("GET", path, "").as_bytes()).await.unwrap();
    stream
}

/// Drips on a connection, beginning with `start`: seconds until the other side answers, and what it says until it closes.
async fn dripping(mut stream: TcpStream, start: &str, pause: Duration) -> (f64, Vec<Reply>) {
    let since = Instant::now();
    stream.write_all(start.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let (seconds, replies) = tokio::select! {
        answered = async {
            let first = [read.read_u8().await.unwrap()];
            let seconds = since.elapsed().as_secs_f64();
            (seconds, read_replies(&mut (&first[..]).chain(read)).await)
        } => answered,
        () = drip(&mut write, &[b'1'; 10_000], pause) => panic!("it may drip for ever"),
        () = sleep(PATIENCE) => panic!("it may drip for so long"),
    };
    (seconds, replies)
}

async fn open(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn slow_callers_are_answered_and_closed_in_time_by_default() {
    // The default is for proxies, and too long to wait for.
    let gateway = Options::default().set("server.keep_alive", "10s").start().await;
    let address = gateway.address;
    let pause = Duration::from_millis(300);
    let start = Instant::now();
    let silent = async { until_closed(start, &mut open(address).await).await };
    let half_a_head = async {
        let mut stream = open(address).await;
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        until_closed(start, &mut stream).await
    };
    let slow_head = async { dripping(open(address).await, "GET /livez HTTP/1.1\r\nx: ", pause).await };
    let second_silent = async { until_closed(start, &mut used(address).await).await };
    let second_slow = async { dripping(used(address).await, "GET /livez HTTP/1.1\r\nx: ", pause).await };
    let second_late_and_slow = async {
        let stream = used(address).await;
        sleep(Duration::from_secs(8)).await;
        let (seconds, replies) = dripping(stream, "G", pause).await;
        (seconds + 8.0, replies)
    };
    let slow_body = async {
        dripping(open(address).await, &format!("{POST}content-length: 100000\r\n\r\n"), pause).await
    };
    let slow_chunks = async {
        let start = format!("{POST}transfer-encoding: chunked\r\n\r\nfffff\r\n");
        dripping(open(address).await, &start, pause).await
    };
    let reader = deaf(address, LARGE).await;
    let unread = async {
        let closed = eventually("who does not read is closed");
        while !closed.is(gateway.metric("http_connections_closed_total", &["write_timeout"]).await == 1).await
        {
        }
        start.elapsed().as_secs_f64()
    };
    let steady = async {
        let mut stream = used(address).await;
        for _ in 0..4 {
            sleep(Duration::from_secs(4)).await;
            ask(&mut stream).await;
        }
    };
    let (silent, half, head, second, second_slow, late, body, chunks, unread, ()) = tokio::join!(
        silent,
        half_a_head,
        slow_head,
        second_silent,
        second_slow,
        second_late_and_slow,
        slow_body,
        slow_chunks,
        unread,
        steady
    );
    drop(reader);
    for (what, (seconds, replies), told, least, most) in [
        ("silent", silent, None, 4.9, 6.0),
        ("half a head", half, Some(408), 4.9, 6.0),
        ("slow head", head, Some(408), 4.9, 6.0),
        ("silent after a request", second, None, 9.9, 11.0),
        ("slow second head", second_slow, Some(408), 4.9, 6.0),
        ("late and slow second head", late, Some(408), 12.9, 14.0),
        ("slow body", body, Some(408), 9.9, 11.5),
        ("slow chunks", chunks, Some(408), 9.9, 11.5),
    ] {
        assert!((least..most).contains(&seconds), "{what}: {seconds} s");
        assert_eq!(replies.first().map(|reply| reply.status), told, "{what}");
        if let Some(reply) = replies.first() {
            reply.assert_problem(408, "request_timeout");
            assert_eq!(reply.header("connection"), Some("close"), "{what}");
        }
        assert!(replies.len() <= 1, "{what}: {replies:?}");
    }
    assert!((9.9..12.0).contains(&unread), "unread: {unread} s");
    for (reason, count) in [("no_request", 1), ("keep_alive", 1), ("write_timeout", 1)] {
        assert_eq!(gateway.metric("http_connections_closed_total", &[reason]).await, count, "{reason}");
    }
    assert_eq!(gateway.metric("http_requests_total", &["status=\"408\""]).await, 6);
    assert_eq!(gateway.calls("enrow").await, 0);
}

#[tokio::test]
async fn what_is_not_http_is_a_problem_and_the_connection_is_closed() {
    let gateway = TestGateway::start().await;
    let many = "x: 1\r\n".repeat(100);
    let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n";
    for (request, status, code) in [
        ("\x16\x03\x01\x02\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("GET / secret HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 400, "malformed_request"),
        (head("GET", "/livez", "host: other\r\n"), 400, "malformed_request"),
        (head("POST", "/batches/enrow", both) + "0\r\n\r\n", 400, "malformed_request"),
        (
            head("POST", "/batches/enrow", "content-length: 1\r\ncontent-length: 2\r\n"),
            400,
            "malformed_request",
        ),
        (head("POST", "/batches/enrow", "content-length: -1\r\n"), 400, "malformed_request"),
        (head("POST", "/batches/enrow", "transfer-encoding: gzip, chunked\r\n"), 400, "malformed_request"),
        (head("GET", "/livez", &many), 431, "head_too_large"),
    ] {
        let mut stream = open(gateway.address).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let replies = read_replies(&mut stream).await;
        assert_eq!(replies.len(), 1, "{request}: {replies:?}");
        replies[0].assert_problem(status, code);
        assert_eq!(replies[0].header("connection"), Some("close"));
        assert!(!replies[0].text().contains("secret"));
    }
    let unread = ["method=\"other\"", "route=\"unmatched\"", "status=\"400\""];
    assert_eq!(gateway.metric("http_requests_total", &unread).await, 9);
    assert_eq!(gateway.calls("enrow").await, 0);
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order_up_to_the_one_that_is_none() {
    let gateway = TestGateway::start().await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n");
    let row = (ask("/livez") + &ask("/nowhere")).repeat(20);
    let mut stream = open(gateway.address).await;
    stream.write_all((row + "nonsense\r\n\r\n" + &ask("/livez")).as_bytes()).await.unwrap();
    let replies = read_replies(&mut stream).await;
    assert_eq!(replies.len(), 41);
    for (nth, reply) in replies[..40].iter().enumerate() {
        assert_eq!(reply.status, if nth % 2 == 0 { 200 } else { 404 });
    }
    replies[40].assert_problem(400, "malformed_request");
}

#[tokio::test]
async fn what_follows_the_last_request_of_a_connection_is_not_carried_out() {
    let gateway = TestGateway::start().await;
    let next = "DELETE /batches/enrow/next HTTP/1.1\r\nhost: gateway\r\n\r\n";
    let read = "GET /batches/enrow/next HTTP/1.1\r\nhost: gateway\r\n";
    for (first, body) in [
        (GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"), ""),
        (GET.replace("\r\n\r\n", "\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"), ""),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), ""),
        (GET.replace("\r\n\r\n", "\r\ncontent-length: 2\r\n\r\n"), "{}"),
        (GET.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n"), "2\r\n{}\r\n0\r\n\r\n"),
        // One that takes its time.
        (
            "GET /batches/enrow/sandbox-completed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_owned(),
            "0\r\n\r\n",
        ),
    ] {
        let mut stream = open(gateway.address).await;
        let since = Instant::now();
        stream.write_all(format!("{first}{body}{next}").as_bytes()).await.unwrap();
        let (seconds, replies) = until_closed(since, &mut stream).await;
        assert_eq!(replies[0].status, 200, "{first}");
        assert_eq!(replies.len(), 1, "{first}: {replies:?}");
        // An older caller expects nothing else.
        let told = first.contains("HTTP/1.1").then_some("close");
        assert_eq!(replies[0].header("connection"), told, "{first}");
        assert!(seconds < 3.0, "{first}: {seconds} s");
    }
    // One that was read to its end is followed by the next.
    let mut stream = open(gateway.address).await;
    let first = format!("{POST}content-length: 2\r\n\r\n{{}}");
    let last = format!("{read}connection: close\r\n\r\n");
    stream.write_all(format!("{first}{last}").as_bytes()).await.unwrap();
    let replies = read_replies(&mut stream).await;
    let told: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(told, [422, 404], "it was not erased");
}

#[tokio::test]
async fn while_a_request_is_answered_little_more_is_read_whatever_body_it_had() {
    let gateway = TestGateway::start().await;
    let next = format!("GET /livez HTTP/1.1\r\nhost: gateway\r\nx: {}\r\n\r\n", "x".repeat(10_000));
    for (id, body) in [
        ("sandbox-running", "\r\n"),
        ("sandbox-completed", "content-length: 2\r\n\r\n{}"),
        ("sandbox-failed", "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    ] {
        let calls = gateway.calls("enrow").await;
        gateway.fault("enrow", serde_json::json!({"times": 1, "delay_ms": 1_500})).await;
        let mut stream = open(gateway.address).await;
        let head = format!("GET /batches/enrow/{id} HTTP/1.1\r\nhost: gateway\r\n");
        stream.write_all(format!("{head}{body}{}", next.repeat(20)).as_bytes()).await.unwrap();
        let asked = eventually("the vendor is asked");
        while !asked.is(gateway.calls("enrow").await > calls).await {}
        assert!(unread(&stream) > 190_000, "{body}: {} bytes wait", unread(&stream));
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}

#[tokio::test]
async fn a_body_whose_chunks_are_broken_is_answered_once() {
    let gateway = TestGateway::start().await;
    let mut stream = open(gateway.address).await;
    let request = format!("{POST}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\nnonsense\r\n{GET}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let replies = read_replies(&mut stream).await;
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies[0].assert_problem(400, "invalid_request");
}

#[tokio::test]
async fn heads_have_the_room_that_is_said_and_no_more() {
    let gateway = TestGateway::start().await;
    let address = gateway.address;
    let path = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    raw_get(address, &path(2048)).await.assert_problem(404, "route_not_found");
    raw_get(address, &path(2049)).await.assert_problem(414, "uri_too_long");
    raw_get(address, &path(20_000)).await.assert_problem(414, "uri_too_long");
    for known in ["/livez", "/batches/enrow/x"] {
        raw_get(address, &format!("{known}?{}", path(2048))).await.assert_problem(414, "uri_too_long");
    }

    // With `host: gateway` and `connection: close`, each with the four bytes around it.
    let others = "hostgateway".len() + "connectionclose".len() + 8;
    let header = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes - others - 5));
    assert_eq!(raw(address, head("GET", "/livez", &header(16 * 1024)).as_bytes()).await.status, 200);
    let over = head("GET", "/livez", &header(16 * 1024 + 1));
    raw(address, over.as_bytes()).await.assert_problem(431, "head_too_large");
    raw(address, head("GET", "/livez", &header(1_000_000)).as_bytes())
        .await
        .assert_problem(431, "head_too_large");

    // One that never ends is not read to its end: the answer comes while it is being sent.
    let (mut read, mut write) = open(address).await.into_split();
    let sender = tokio::spawn(async move {
        let _ = write.write_all(format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(100_000_000)).as_bytes()).await;
    });
    let mut first = [0; 12];
    read.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 431");
    sender.await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_too_large_ends_the_connection_as_soon_as_that_shows() {
    let gateway = Options::default().set("server.max_body_bytes", "100kB").start().await;
    let announced = format!("{POST}content-length: 10737418240\r\n\r\n");
    let mut stream = open(gateway.address).await;
    stream.write_all(announced.as_bytes()).await.unwrap();
    let since = Instant::now();
    read_replies(&mut stream).await[0].assert_problem(413, "body_too_large");
    assert!(since.elapsed() < Duration::from_secs(3));

    let (mut read, mut write) = open(gateway.address).await.into_split();
    write.write_all(format!("{POST}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
    let endless = tokio::spawn(async move {
        let chunk = format!("2000\r\n{}\r\n", " ".repeat(0x2000));
        while write.write_all(chunk.as_bytes()).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let since = Instant::now();
    let replies = read_replies(&mut read).await;
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies[0].assert_problem(413, "body_too_large");
    assert_eq!(replies[0].header("connection"), Some("close"));
    endless.await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(gateway.calls("enrow").await, 0);
}

#[tokio::test]
async fn a_caller_who_asks_before_it_sends_its_body_is_told_to_go_on() {
    let gateway = Options::default().set("server.max_body_bytes", "1kB").start().await;
    for (length, status, code) in [(2, 422, "invalid_request"), (2_000, 413, "body_too_large")] {
        let mut stream = open(gateway.address).await;
        let head =
            format!("{POST}connection: close\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 25];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"{}").await.unwrap();
        read_reply(&mut stream).await.assert_problem(status, code);
    }
}

#[tokio::test]
async fn a_reader_is_closed_when_it_stops_and_not_while_it_goes_on() {
    let gateway = Options::default().set("server.write_timeout", "2s").start().await;
    let whole = gateway.get(LARGE).await.bytes.len();
    let mut slow = deaf(gateway.address, LARGE).await;
    let mut read = Vec::new();
    let since = Instant::now();
    loop {
        sleep(Duration::from_millis(80)).await;
        if (&mut slow).take(64 * 1024).read_to_end(&mut read).await.unwrap() < 64 * 1024 {
            break;
        }
    }
    assert!(since.elapsed() > Duration::from_secs(1), "it was slow: {:?}", since.elapsed());
    assert!(read.len() > whole, "{} of {whole}", read.len());

    let mut stopped = deaf(gateway.address, LARGE).await;
    let closed = eventually("who does not read is closed");
    while !closed.is(gateway.metric("http_connections_closed_total", &["write_timeout"]).await == 1).await {}
    let mut rest = Vec::new();
    let ended = stopped.read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.len() < whole, "it was cut: {} of {whole}", rest.len());
}

#[tokio::test]
async fn a_connection_goes_on_after_an_answer_that_had_to_wait_for_its_reader() {
    let gateway = TestGateway::start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(gateway.address).await.unwrap();
    for _ in 0..3 {
        // Larger than what the system keeps of an answer.
        stream.write_all(format!("GET {LARGE} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split_once("content-length: ").unwrap().1.split('\r').next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        timeout(Duration::from_secs(2), ask(&mut stream)).await.expect("the next request is read at once");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word_and_a_busy_one_is_not() {
    let gateway = Options::default().set("server.keep_alive", "1500ms").start().await;
    let mut busy = used(gateway.address).await;
    for _ in 0..4 {
        sleep(Duration::from_millis(500)).await;
        ask(&mut busy).await;
    }
    assert!(read_replies(&mut busy).await.is_empty());
    // A request that takes longer than that is no idle connection.
    gateway.fault("enrow", serde_json::json!({"times": 1, "delay_ms": 2500})).await;
    raw_get(gateway.address, "/batches/enrow/sandbox-completed").await.batch();
}
