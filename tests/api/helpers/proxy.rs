//! Stands between a gateway and what it talks to: a vendor whose calls are looked at, a database that goes away.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One call that a gateway made.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) began: Instant,
    /// None while it is under way.
    pub(crate) ended: Option<Instant>,
}

/// Passes calls on to a vendor, each a little later, and remembers when they began and ended.
pub(crate) struct Witness {
    pub(crate) url: String,
    calls: Arc<Mutex<Vec<Seen>>>,
}

impl Witness {
    /// In front of the vendor at `url`.
    pub(crate) async fn start(url: &str, delay: Duration) -> Self {
        let (vendor, prefix) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("http://{}/{prefix}", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (vendor, shared) = (vendor.to_owned(), Arc::clone(&calls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, vendor.clone(), Arc::clone(&shared), delay));
            }
        });
        Self { url: own, calls }
    }

    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.calls.lock().unwrap().clone()
    }
}

/// One connection; its requests have bodies of known length or none.
async fn pass(
    mut gateway: TcpStream,
    vendor: String,
    calls: Arc<Mutex<Vec<Seen>>>,
    delay: Duration,
) -> Option<()> {
    let mut asked = Vec::new();
    loop {
        let request = message(&mut gateway, &mut asked).await?;
        // A connection of its own: the vendor closes one that was idle for a while.
        let mut vendor = TcpStream::connect(&vendor).await.ok()?;
        let text = String::from_utf8_lossy(&request).into_owned();
        let mut words = text.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let call = {
            let mut calls = calls.lock().unwrap();
            calls.push(Seen { method, target, began: Instant::now(), ended: None });
            calls.len() - 1
        };
        vendor.write_all(&request).await.ok()?;
        let answer = message(&mut vendor, &mut Vec::new()).await?;
        tokio::time::sleep(delay).await;
        calls.lock().unwrap()[call].ended = Some(Instant::now());
        gateway.write_all(&answer).await.ok()?;
    }
}

/// The bytes of one message with a `content-length`, or without a body.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
    let length = text.split("content-length: ").nth(1).map_or(0, |rest| {
        let digits = rest.split('\r').next().unwrap();
        digits.parse::<usize>().unwrap()
    });
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(buffer.drain(..head + length).collect())
}

/// What a [`Wire`] does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Passes it on.
    Open,
    /// Keeps connections and says nothing.
    Silent,
    /// Closes connections, old and new.
    Cut,
}

/// A Unix socket in front of a PostgreSQL server.
pub(crate) struct Wire {
    directory: TempDir,
    state: watch::Sender<State>,
}

impl Wire {
    /// In front of the server whose socket is in the folder `server`.
    pub(crate) fn start(server: &Path) -> Self {
        const SOCKET: &str = ".s.PGSQL.5432";
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let (state, states) = watch::channel(State::Open);
        let server: PathBuf = server.join(SOCKET);
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connect(client, server.clone(), states.clone()));
            }
        });
        Self { directory, state }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn connect(mut client: UnixStream, server: PathBuf, mut states: watch::Receiver<State>) -> Option<()> {
    let mut server = UnixStream::connect(server).await.ok()?;
    loop {
        let state = *states.borrow_and_update();
        match state {
            State::Cut => return Some(()),
            State::Silent => states.changed().await.ok()?,
            // Given up when the state changes: what was read by then and not written is lost, so the stream is too.
            State::Open => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return Some(()),
                changed = states.changed() => changed.ok()?,
            },
        }
    }
}
