//! A scripted vendor: answers by path, records what it was asked, and shares no code with the simulators.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An error body in the own form of every vendor at once.
pub(crate) const VENDOR_ERROR: &str = r#"{"message": "This apikey is not valid", "error": {"title": "No", "detail": "The token is not valid."}}"#;

/// A page that is no vendor's, as firewalls in front of them send it.
pub(crate) const FIREWALL_PAGE: &str =
    "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head></html>";

/// What goes back over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    close: bool,
    /// Sends the bytes one by one with this pause between them.
    pub(crate) drip: Option<Duration>,
    /// Keeps the connection open after the bytes and says no more.
    pub(crate) then_hang: bool,
    /// Resets the connection after the bytes, which a mere close does not.
    pub(crate) then_reset: bool,
}

impl Answer {
    /// A whole response on a connection that stays open.
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length =
            if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let head = format!("HTTP/1.1 {status} Scripted\r\n{}{length}\r\n", headers.concat());
        Self {
            bytes: [head.as_bytes(), body].concat(),
            close: false,
            drip: None,
            then_hang: false,
            then_reset: false,
        }
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::new(200, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Enrow's answer for a completed batch. The gateway makes about 350 bytes of each result.
    pub(crate) fn enrow_batch(id: &str, results: u32) -> Self {
        let result = |index: u32| {
            json!({"index": index, "qualification": "found", "number": format!("+1570{:07}", 5_550_000 + index),
                "country": "US", "params": {"linkedin_url": format!("https://www.linkedin.com/in/{index:0200}")}})
        };
        let (general, stats) = (json!({"id": id, "status": "completed"}), json!({"requested": results}));
        let results: Vec<_> = (0..results).map(result).collect();
        Self::json(&json!({"general": general, "results": results, "stats": stats}))
    }

    /// These bytes, whatever they are; then the connection is closed.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), close: true, drip: None, then_hang: false, then_reset: false }
    }

    /// Nothing, on a connection that stays open.
    pub(crate) fn none() -> Self {
        Self { then_hang: true, ..Self::raw("") }
    }

    /// Closes the connection after the answer without having announced it.
    pub(crate) fn then_close(self) -> Self {
        Self { close: true, ..self }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} was sent twice");
        value
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

#[derive(Default)]
struct Script {
    rules: Vec<(String, VecDeque<Answer>)>,
    requests: Vec<Request>,
    connections: usize,
}

/// A listener that answers as told.
pub(crate) struct Replies {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Replies {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, script }
    }

    /// Answers every request whose path ends so.
    pub(crate) fn on(&self, path_end: &str, answer: Answer) {
        self.in_turn(path_end, &[answer]);
    }

    /// Answers requests whose path ends so with one after the other, and begins again after the last.
    pub(crate) fn in_turn(&self, path_end: &str, answers: &[Answer]) {
        let answers = answers.iter().cloned().collect();
        self.script.lock().unwrap().rules.push((path_end.to_owned(), answers));
    }

    /// Forgets the answers and the requests.
    pub(crate) fn clear(&self) {
        *self.script.lock().unwrap() = Script::default();
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().requests.clone()
    }

    /// How many requests that change something came.
    pub(crate) fn posts(&self) -> usize {
        self.requests().iter().filter(|request| request.method == "POST").count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.script.lock().unwrap().connections
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let request = read(&mut stream, &mut buffer).await?;
        let answer = {
            let mut script = script.lock().unwrap();
            let rule = script.rules.iter_mut().find(|(path_end, _)| request.path().ends_with(&**path_end));
            let answer = rule.and_then(|(_, answers)| {
                answers.rotate_left(1);
                answers.back().cloned()
            });
            let answer = answer.unwrap_or_else(|| Answer::new(418, &[], b"no answer is scripted"));
            script.requests.push(request);
            answer
        };
        let pieces = answer.drip.map_or(answer.bytes.len().max(1), |_| 1);
        for piece in answer.bytes.chunks(pieces) {
            stream.write_all(piece).await.ok()?;
            if let Some(pause) = answer.drip {
                tokio::time::sleep(pause).await;
            }
        }
        if answer.then_hang {
            // Until the other side closes.
            return (stream.read_buf(&mut buffer).await.ok()? == 0).then_some(());
        }
        if answer.then_reset {
            stream.set_zero_linger().ok()?;
        }
        if answer.close {
            return Some(());
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: Vec<_> =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    buffer.drain(..end + 4);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = buffer.drain(..length).collect();
    Some(request)
}
