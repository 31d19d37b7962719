//! More callers than the gateway can serve: who is refused, what that costs, and that the others are served.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::helpers::{Answer, ChildGateway, Options, Process, Replies, Simulators, TestStore};
use crate::helpers::{eventually, has_read_everything, head, order, raw, raw_get, read_reply};

const READ: &str = "/batches/enrow/sandbox-completed";

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_before_their_key_and_body_and_health_is_not() {
    let gateway = Options::default().set("server.max_requests", "2").start().await;
    gateway.fault("enrow", json!({"times": 1, "hang": true})).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head("GET", READ, "").as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let called = eventually("the vendor is called");
    while !called.is(gateway.calls("enrow").await == 1).await {}
    let read = eventually("both requests are read");
    while !read.is(has_read_everything(gateway.address)).await {}
    // Its body never comes.
    let submission = head("POST", "/batches/enrow", "content-length: 100\r\n");
    for request in [head("GET", READ, ""), head("GET", "/nowhere", ""), submission] {
        let reply = raw(gateway.address, request.as_bytes()).await;
        reply.assert_problem(503, "overloaded");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    for path in ["/livez", "/readyz", "/metrics", "/version"] {
        assert_eq!(raw_get(gateway.address, path).await.status, 200, "{path}");
    }
    gateway.clear_faults("enrow").await;
    for stream in &mut waiting {
        read_reply(stream).await.batch();
    }
    raw_get(gateway.address, READ).await.batch();
    assert_eq!(gateway.metric("http_requests_total", &["status=\"503\""]).await, 3);
}

#[tokio::test]
async fn bodies_share_room_and_who_gets_none_is_refused_in_a_second() {
    let options = Options::default().set("server.max_body_bytes", "1MB").set("server.max_body_memory", "1MB");
    let gateway = options.start().await;
    let post = |length: usize| {
        let headers =
            format!("idempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
        head("POST", "/batches/enrow", &headers)
    };
    let mut half = TcpStream::connect(gateway.address).await.unwrap();
    half.write_all(post(900_000).as_bytes()).await.unwrap();
    half.write_all(" ".repeat(800_000).as_bytes()).await.unwrap();
    let read = eventually("the first body is in memory");
    while !read.is(has_read_everything(gateway.address)).await {}

    let since = Instant::now();
    let refused = raw(gateway.address, (post(300_000) + &" ".repeat(300_000)).as_bytes()).await;
    refused.assert_problem(503, "overloaded");
    assert!((1.0..6.0).contains(&since.elapsed().as_secs_f64()), "{:?}", since.elapsed());
    // A small one has room beside it.
    gateway.submit("enrow", "small", &order("enrow")).await.accepted();
    half.write_all(" ".repeat(100_000).as_bytes()).await.unwrap();
    read_reply(&mut half).await.assert_problem(400, "invalid_request");
    raw(gateway.address, (post(300_000) + &" ".repeat(300_000)).as_bytes())
        .await
        .assert_problem(400, "invalid_request");
}

/// A gateway of its own process with a listener for the platform; returns where that is.
async fn with_ops_listener(options: Options, limits: &str) -> (ChildGateway, SocketAddr) {
    let (simulators, store) = (Simulators::start().await, TestStore::new().await);
    let options = options.set("server.ops_listen", "127.0.0.1:0");
    let process = Process::spawn_limited(limits, &["serve"], &options.variables(&simulators, &store));
    let gateway = ChildGateway::ready(process, simulators, store).await;
    let log = gateway.process.log();
    let ready = log.iter().find(|line| line["message"] == "ready").unwrap();
    let ops = ready["ops_address"].as_str().unwrap().parse().unwrap();
    (gateway, ops)
}

/// Opens connections until one is not answered any more.
async fn take_all_connections(address: SocketAddr, at_most: usize) -> Vec<TcpStream> {
    let mut taken = Vec::new();
    loop {
        assert!(taken.len() <= at_most, "there is no limit");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n").await.unwrap();
        let answered = timeout(Duration::from_secs(2), stream.read(&mut [0; 1024])).await;
        taken.push(stream);
        if answered.is_err() {
            return taken;
        }
    }
}

#[tokio::test]
async fn health_answers_on_its_own_listener_when_all_connections_are_taken() {
    let options = Options::default().set("server.max_connections", "5").set("server.keep_alive", "1h");
    let (gateway, ops) = with_ops_listener(options, "").await;
    let taken = take_all_connections(gateway.address, 5).await;
    assert_eq!(taken.len(), 6);
    for path in ["/livez", "/readyz", "/metrics", "/version"] {
        assert_eq!(raw_get(ops, path).await.status, 200, "{path}");
    }
    for path in ["/", "*", "/readyz"] {
        let options = raw(ops, head("OPTIONS", path, "").as_bytes()).await;
        assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")), "{path}");
    }
    for path in [READ, "/batches", "/docs/", "/openapi.json"] {
        raw_get(ops, path).await.assert_problem(404, "route_not_found");
    }
    drop(taken);
    raw_get(gateway.address, READ).await.batch();
}

#[tokio::test]
async fn callers_cannot_take_the_descriptors_of_the_store_the_vendors_and_health() {
    let options = Options::default().set("server.keep_alive", "1h").set("server.workers", "2");
    let (gateway, ops) = with_ops_listener(options, "ulimit -n 160").await;
    let mut taken = take_all_connections(gateway.address, 160).await;
    for _ in 0..160 {
        taken.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    assert_eq!(raw_get(ops, "/readyz").await.status, 200);
    // One of those who have a connection gets an answer for which a vendor and the store are needed.
    let with_one = &mut taken[0];
    with_one.write_all(head("GET", READ, "").as_bytes()).await.unwrap();
    read_reply(with_one).await.batch();
    drop(taken);
    let served = eventually("the gateway serves again");
    loop {
        let reply = timeout(Duration::from_secs(2), raw_get(gateway.address, READ)).await;
        if served.is(reply.is_ok_and(|reply| reply.status == 200)).await {
            break;
        }
    }
    let log = gateway.process.log();
    assert!(log.iter().all(|line| line["level"] != "ERROR"), "{log:#?}");
}

#[tokio::test]
async fn callers_who_do_not_read_large_answers_cost_little() {
    const READERS: usize = 50;
    let vendor = Replies::start().await;
    vendor.on("", Answer::enrow_batch("large", 23_000));
    let options = Options::default().vendor("enrow", "base_url", vendor.url()).set("server.workers", "2");
    let gateway = options.set("server.write_timeout", "5s").spawn().await;
    let whole = gateway.get("/batches/enrow/large").await;
    assert!(whole.batch()["done"] == true && whole.bytes.len() > 8_000_000, "{}", whole.bytes.len());
    // What a first few take once: buffers of threads, tables of connections.
    let mut readers = Vec::new();
    let mut before = 0;
    for nth in 0..2 * READERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(gateway.address).await.unwrap();
        stream.write_all(head("GET", "/batches/enrow/large", "").as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        readers.push(stream);
        if nth + 1 == READERS {
            before = gateway.process.resident_memory();
        }
    }
    assert_eq!(gateway.get("/batches/enrow/large").await.bytes, whole.bytes, "others are served meanwhile");
    let each = gateway.process.resident_memory().saturating_sub(before) / READERS as u64;
    assert!(each <= 64 * 1024, "{each} bytes for each reader");
    let closed = eventually("those who do not read are closed");
    let unread = "http_connections_closed_total";
    while !closed.is(gateway.metric(unread, &["write_timeout"]).await == 2 * READERS as u64).await {}
    drop(readers);
    assert_eq!(vendor.requests().len(), 1);
}

#[tokio::test]
async fn callers_who_ask_for_hundreds_at_once_and_read_nothing_cost_little() {
    const CALLERS: usize = 40;
    let gateway = Options::default().set("server.workers", "2").spawn().await;
    let large = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost:a\r\n\r\n";
    let many = "GET / HTTP/1.1\r\nhost:a\r\n\r\n".repeat(650);
    let body = "content-type: application/json\r\nidempotency-key: k\r\n";
    let sized = format!("POST /batches/enrow HTTP/1.1\r\nhost:a\r\n{body}content-length: 2\r\n\r\n{{}}");
    let mut callers = Vec::new();
    let mut before = 0;
    for (round, first) in [String::new(), String::new(), sized].into_iter().enumerate() {
        for _ in 0..CALLERS {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(16 * 1024).unwrap();
            let mut stream = socket.connect(gateway.address).await.unwrap();
            stream.write_all(format!("{first}{large}{many}").as_bytes()).await.unwrap();
            stream.readable().await.unwrap();
            callers.push(stream);
        }
        if round == 0 {
            before = gateway.process.resident_memory();
        }
    }
    let each = gateway.process.resident_memory().saturating_sub(before) / (2 * CALLERS as u64);
    assert!(each <= 128 * 1024, "{each} bytes for each caller");
    raw_get(gateway.address, READ).await.batch();
}

/// Asks again and again on one connection, and on a new one when that was closed between two answers, until nobody
/// listens any more; counts the whole answers.
async fn ask_until_the_end(address: SocketAddr) -> usize {
    let mut whole = 0;
    while let Ok(mut stream) = TcpStream::connect(address).await {
        loop {
            if stream
                .write_all(format!("GET {READ} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes())
                .await
                .is_err()
            {
                break;
            }
            let mut answer = Vec::new();
            let mut left = usize::MAX;
            while left > 0 {
                match stream.read_buf(&mut answer).await {
                    Ok(count) if count > 0 => left = missing(&answer),
                    _ => break,
                }
            }
            if answer.is_empty() {
                break;
            }
            assert_eq!(left, 0, "half an answer: {}", String::from_utf8_lossy(&answer));
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
            whole += 1;
        }
    }
    whole
}

/// How many bytes of an answer are still to come.
fn missing(answer: &[u8]) -> usize {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return usize::MAX };
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    end + 4 + length.parse::<usize>().unwrap() - answer.len()
}

#[tokio::test]
async fn a_stop_under_load_leaves_no_answer_half_given() {
    let mut gateway = Options::default().set("server.workers", "2").spawn().await;
    gateway.get(READ).await.batch();
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        callers.spawn(ask_until_the_end(gateway.address));
    }
    let busy = eventually("all are being served");
    while !busy.is(gateway.metric("http_requests_total", &["status=\"200\""]).await > 2_000).await {}
    gateway.process.terminate();
    let answered: usize = callers.join_all().await.iter().sum();
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    let route = "/batches/{provider}/{id}";
    let log = gateway.process.log();
    let logged = log.iter().filter(|line| line["route"] == route).count();
    assert_eq!(logged, answered + 1, "every request that was begun was answered whole");
}
