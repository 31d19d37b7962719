//! Requests written byte by byte: no client library tidies them up.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::Reply;

/// The head of a request whose connection is closed after the answer; `headers` are lines that end in CRLF.
pub(crate) fn head(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{headers}\r\n")
}

pub(crate) async fn raw_get(address: SocketAddr, target: &str) -> Reply {
    raw(address, head("GET", target, "").as_bytes()).await
}

/// Sends the bytes and reads until the other side closes.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    read_reply(&mut stream).await
}

/// The answer on a connection that the other side closes after it.
pub(crate) async fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let (head, body) = parse_head(&answer);
    head(Bytes::copy_from_slice(body))
}

/// All answers on a connection that the other side closes, each as long as it says.
pub(crate) async fn read_replies(stream: &mut (impl AsyncRead + Unpin)) -> Vec<Reply> {
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await.unwrap();
    let (mut rest, mut replies) = (answers.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (head, body) = parse_head(rest);
        let length = head(Bytes::new()).header("content-length").map_or(0, |length| length.parse().unwrap());
        replies.push(head(Bytes::copy_from_slice(&body[..length])));
        rest = &body[length..];
    }
    replies
}

/// The head of the first answer, to be made whole by its body, and what follows it.
fn parse_head(answer: &[u8]) -> (impl Fn(Bytes) -> Reply, &[u8]) {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the head of an answer");
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HeaderMap = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    (move |body| Reply::new(status, headers.clone(), body), &answer[end + 4..])
}

/// Sends the bytes one by one with a pause after each, until the other side has closed.
pub(crate) async fn drip(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], pause: Duration) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether the server has accepted every connection and read every byte that was sent to it.
pub(crate) fn has_read_everything(server: SocketAddr) -> bool {
    let mut sockets = sockets().into_iter().filter(|socket| socket.local == server.port()).peekable();
    sockets.peek().is_some() && sockets.all(|socket| socket.received == 0)
}

/// How many bytes that were written to a server it has not read.
pub(crate) fn unread(stream: &TcpStream) -> usize {
    let [here, there] = [stream.local_addr(), stream.peer_addr()].map(|address| address.unwrap().port());
    let of = |local, remote| {
        let mut ours = sockets().into_iter();
        ours.find(|socket| socket.local == local && socket.remote == remote).expect("the connection is open")
    };
    of(here, there).sent + of(there, here).received
}

/// One row of the kernel's table of sockets: its ports, and how many bytes wait to be taken by the other side and by its
/// owner.
struct Socket {
    local: u16,
    remote: u16,
    sent: usize,
    received: usize,
}

fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let pair = |column: &str| {
        let (left, right) = column.split_once(':').unwrap();
        [left, right].map(|number| usize::from_str_radix(number, 16).unwrap())
    };
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| {
        let [local, remote] = [row[1], row[2]].map(|address| u16::try_from(pair(address)[1]).unwrap());
        let [sent, received] = pair(row[4]);
        Socket { local, remote, sent, received }
    })
    .collect()
}

/// An address where connecting hangs, as long as the rest is kept: nobody accepts, and the queue is full.
pub(crate) async fn full_backlog() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue never fills");
    }
    (address, listener, waiting)
}

/// An URL that leads wherever it is told later: a gateway has to know its own before it has a port.
pub(crate) async fn relay() -> (String, Arc<OnceLock<SocketAddr>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = Arc::new(OnceLock::new());
    let to = Arc::clone(&target);
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let mut callee = TcpStream::connect(to.get().unwrap()).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut caller, &mut callee).await });
        }
    });
    (url, target)
}
