//! What the two sides of a connection tell each other: the stream that is read and written, and the requests that
//! are answered on it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// One connection, known to its stream and to each of its requests. It lives on one thread.
#[derive(Clone, Debug)]
pub struct Connection(Rc<State>);

#[derive(Debug)]
struct State {
    keep_alive: Duration,
    phase: Cell<Phase>,
    body: Cell<Body>,
    is_last: Cell<bool>,
    ends: Cell<bool>,
    peer_sends_no_more: Cell<bool>,
    peer_closed: Notify,
}

/// What of the body of a request is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Over,
    /// So many bytes.
    Bytes(u64),
    /// Chunks, of which one will be the last.
    Chunks,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Open between two requests.
    Waiting { since: Instant },
    /// A head is due: so many bytes of it came.
    Head { since: Instant, bytes: usize },
    /// A request is being answered.
    Request,
    /// The last answer is given; what still comes is not looked at.
    Ending { since: Instant },
}

impl Connection {
    /// A new connection, on which a head is due.
    pub(super) fn new(keep_alive: Duration) -> Self {
        let phase = Phase::Head { since: Instant::now(), bytes: 0 };
        Self(Rc::new(State {
            keep_alive,
            phase: Cell::new(phase),
            body: Cell::new(Body::Over),
            is_last: Cell::new(false),
            ends: Cell::new(false),
            peer_sends_no_more: Cell::new(false),
            peer_closed: Notify::new(),
        }))
    }

    pub(super) fn phase(&self) -> Phase {
        self.0.phase.get()
    }

    /// Counts what came.
    pub(super) fn received(&self, count: usize) {
        match self.phase() {
            Phase::Waiting { .. } => {
                self.0.phase.set(Phase::Head { since: Instant::now(), bytes: count });
            }
            Phase::Head { since, bytes } => {
                self.0.phase.set(Phase::Head { since, bytes: bytes.saturating_add(count) });
            }
            Phase::Request | Phase::Ending { .. } => {}
        }
        if let Body::Bytes(left) = self.body() {
            self.0.body.set(match left.saturating_sub(count as u64) {
                0 => Body::Over,
                left => Body::Bytes(left),
            });
        }
    }

    /// What of the body of the request that is being answered is still to come.
    pub(super) fn body(&self) -> Body {
        self.0.body.get()
    }

    /// The last chunk came.
    pub(super) fn body_came(&self) {
        self.0.body.set(Body::Over);
    }

    /// A request with such a body is there; it lasts until the turn is dropped. What nobody reads of a body cannot be
    /// told from the next request, so the connection ends with the answer unless [`Connection::body_is_read`], and in
    /// any case if the caller said that this request `is_last`.
    #[must_use]
    pub fn begin(&self, body: Body, is_last: bool) -> Turn {
        self.0.phase.set(Phase::Request);
        self.0.body.set(body);
        self.0.is_last.set(is_last);
        self.0.ends.set(is_last || body != Body::Over);
        Turn(self.clone())
    }

    /// The body of the request was read to its end.
    pub fn body_is_read(&self) {
        self.0.body.set(Body::Over);
        self.0.ends.set(self.0.is_last.get());
    }

    /// How long it may be open between two requests.
    #[must_use]
    pub fn keep_alive(&self) -> Duration {
        self.0.keep_alive
    }

    /// No request follows this one, whatever the caller wants.
    pub fn end(&self) {
        self.0.is_last.set(true);
        self.0.ends.set(true);
    }

    /// The peer has closed its side of the connection.
    pub(super) fn set_peer_closed(&self) {
        self.0.peer_sends_no_more.set(true);
        self.0.peer_closed.notify_waiters();
    }

    /// Completes when the peer has closed its side of the connection: it sends nothing more, and most likely it is gone.
    /// Noticed only while a request without a body is answered, or after the body was read.
    pub async fn peer_closed(&self) {
        // One thread: nothing comes in between.
        if !self.0.peer_sends_no_more.get() {
            self.0.peer_closed.notified().await;
        }
    }

    /// Whether the connection ends with the answer to this request.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.0.ends.get()
    }
}

/// The time from a request to the end of its answer.
#[derive(Debug)]
pub struct Turn(Connection);

impl Drop for Turn {
    fn drop(&mut self) {
        let since = Instant::now();
        let next = if self.0.ends() { Phase::Ending { since } } else { Phase::Waiting { since } };
        self.0.0.phase.set(next);
        self.0.0.body.set(Body::Over);
    }
}
