//! Requests written byte by byte: no client library tidies them up.

use std::fs;
use std::net::SocketAddr;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the head of an answer");
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HeaderMap = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    Reply::new(status, headers, Bytes::copy_from_slice(&answer[end + 4..]))
}

/// Whether the server has accepted every connection and read every byte that was sent to it: the kernel's table
/// says how much waits at each of its sockets.
pub(crate) fn has_read_everything(server: SocketAddr) -> bool {
    let port = format!(":{:04X}", server.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let waiting = rows.filter(|row| row[1].ends_with(&port)).map(|row| row[4].split_once(':').unwrap().1);
    waiting.clone().count() > 0 && waiting.into_iter().all(|bytes| bytes == "00000000")
}
