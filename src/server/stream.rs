//! A socket with the limits that the HTTP library does not have: the time of every head and of every write, the bytes of
//! a head, one request at a time, and an answer to what cannot be read.
//!
//! The states of a connection ([`Phase`]), and what the library is handed in each:
//!
//! ```text
//!            bytes come            whole head                 answer given
//! Waiting ──────────────► Head ─────────────► Request ───────────────────────► Waiting
//!    │                      │                    │  body due: up to its end         ▲
//!    │ keep_alive is over,  │ head_timeout: 408  │  else: nothing, what comes is    │ unless it was the last one:
//!    │ or the process ends  │ too large: 431     │  held until the answer is given  │ Ending, what comes is discarded
//!    ▼                      ▼                    └──────────────────────────────────┘
//!   End                    End
//! ```
//!
//! The library decodes whatever it is handed, also while it answers: each request that is queued costs it a kilobyte or
//! more, and one that is queued behind the last one is carried out. That is why heads and chunked bodies are followed to
//! their exact ends here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::chunks::Chunks;
use super::connection::{Body, Connection, Phase};
use super::head::Head;
use super::refusal;
use super::socket::Socket;
use crate::error::Code;
use crate::telemetry::{self, ConnectionEnd, Learnt, Metrics, RequestContext};

/// After the last answer: how long what still comes is read and thrown away. Closed with unread bytes, a connection is
/// reset, and the caller may lose the answer.
const LINGER: Duration = Duration::from_secs(1);

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Open without a request.
    pub(super) keep_alive: Duration,
    /// From the first byte of a head to its last.
    pub(super) head_timeout: Duration,
    /// A write that the other side takes nothing of.
    pub(super) write_timeout: Duration,
    /// The bytes of a head.
    pub(super) head_bytes: usize,
}

/// A socket between the network and the HTTP library. The library reads, writes and flushes in each of its steps.
#[derive(Debug)]
pub(super) struct Stream<T> {
    io: T,
    connection: Connection,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// The end of all idle connections.
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Fires at the deadline of the phase or before it: moving it with each request would cost more than a false alarm.
    alarm: Pin<Box<Sleep>>,
    /// Runs while the other side takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The head that was handed on as far as it may go, by its beginning.
    full_head: Option<Instant>,
    /// Find the end of what the library may look at in one step.
    head: Head,
    chunks: Chunks,
    /// That end was handed on in this step.
    at_end: bool,
    /// What came and is not handed on yet.
    held: Bytes,
    /// The library was told to wait, and nothing will wake it.
    waits: bool,
    end: Option<End>,
}

/// The steps to the end of a connection.
#[derive(Debug)]
enum End {
    Answer(Bytes),
    Shutdown,
    Linger,
    Over,
}

impl<T: Socket> Stream<T> {
    pub(super) fn new(io: T, limits: Limits, metrics: Arc<Metrics>, closing: CancellationToken) -> Self {
        Self {
            io,
            connection: Connection::new(limits.keep_alive),
            limits,
            metrics,
            closing: Box::pin(closing.cancelled_owned()),
            alarm: Box::pin(sleep(limits.head_timeout)),
            stalled: None,
            full_head: None,
            head: Head::default(),
            chunks: Chunks::default(),
            at_end: false,
            held: Bytes::new(),
            waits: false,
            end: None,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// When the phase must be over.
    fn deadline(&self) -> Option<Instant> {
        match self.connection.phase() {
            Phase::Waiting { since } => Some(since + self.limits.keep_alive),
            Phase::Head { since, .. } => Some(since + self.limits.head_timeout),
            Phase::Request => None,
            Phase::Ending { since } => Some(since + LINGER),
        }
    }

    /// Sees to it that the library comes back at the deadline, and when idle connections close.
    fn set_alarm(&mut self, cx: &mut Context<'_>) {
        if self.is_idle() && self.closing.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        let Some(deadline) = self.deadline() else { return };
        if self.alarm.is_elapsed() || self.alarm.deadline() > deadline {
            self.alarm.as_mut().reset(deadline);
        }
        if self.alarm.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// How many of the next bytes the library is handed: those of one head, or of one body.
    fn share_of(&mut self, bytes: &mut [u8]) -> usize {
        let end = match self.connection.body() {
            Body::Bytes(left) => return usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()),
            Body::Chunks => {
                let end = self.chunks.find_end(bytes);
                if end.is_some() {
                    self.connection.body_came();
                }
                end
            }
            Body::Over => {
                let end = self.head.find_end(bytes);
                self.at_end = end.is_some();
                end
            }
        };
        end.unwrap_or(bytes.len())
    }

    /// Looks whether the other side is gone while its request is answered, and holds what it sends meanwhile.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let mut next = [0; 1024];
            let mut next = ReadBuf::new(&mut next);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut next))?;
            if next.filled().is_empty() {
                self.connection.set_peer_closed();
                return Poll::Ready(Ok(()));
            }
            self.held = Bytes::copy_from_slice(next.filled());
        }
        self.waits = true;
        Poll::Pending
    }

    /// Throws away what comes after the last request.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scrap = [0; 4096];
        let mut scrap = ReadBuf::new(&mut scrap);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut scrap);
        if read.is_ready() && scrap.filled().is_empty() {
            return read;
        }
        if read.is_ready() {
            cx.waker().wake_by_ref();
        }
        self.check_deadline(cx).map(Ok)
    }

    /// No request is answered or begun. A new connection is not idle: its first request is on the way.
    fn is_idle(&self) -> bool {
        matches!(self.connection.phase(), Phase::Waiting { .. })
    }

    /// Nothing came: ends the connection if its time is over.
    fn check_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_idle() && self.closing.as_mut().poll(cx).is_ready() {
            self.end = Some(End::Over);
            return Poll::Ready(());
        }
        if !self.alarm.is_elapsed() || self.deadline().is_none_or(|deadline| Instant::now() < deadline) {
            return Poll::Pending;
        }
        match self.connection.phase() {
            Phase::Head { bytes: 1.., .. } => self.refuse(Code::RequestTimeout),
            Phase::Head { .. } => self.finish(ConnectionEnd::NoRequest),
            Phase::Waiting { .. } => self.finish(ConnectionEnd::KeepAlive),
            Phase::Request | Phase::Ending { .. } => self.end = Some(End::Over),
        }
        Poll::Ready(())
    }

    /// Ends the connection without a word.
    fn finish(&mut self, reason: ConnectionEnd) {
        self.metrics.connection_closed(reason);
        self.end = Some(End::Over);
    }

    /// Ends the connection with an answer to what never became a request.
    fn refuse(&mut self, code: Code) {
        let began = match self.connection.phase() {
            Phase::Waiting { since } | Phase::Head { since, .. } | Phase::Ending { since } => since,
            Phase::Request => Instant::now(),
        };
        let context = RequestContext::unread(began.into_std());
        let info = code.info();
        telemetry::request_completed(
            &self.metrics,
            None,
            None,
            info.status,
            Some(info.name),
            &context,
            &Learnt::default(),
        );
        self.end = Some(End::Answer(refusal::answer(code, &context)));
    }

    /// Goes on with the end of the connection.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.end.take() {
                Some(End::Answer(mut rest)) => {
                    let written = self.poll_write_some(cx, &rest);
                    if let Poll::Ready(Ok(count)) = written {
                        rest.advance(count);
                    }
                    self.end = Some(if rest.is_empty() { End::Shutdown } else { End::Answer(rest) });
                    ready!(written)?;
                }
                Some(End::Shutdown) => {
                    self.end = Some(End::Linger);
                    self.alarm.as_mut().reset(Instant::now() + LINGER);
                    // One that the other side has closed is as good.
                    let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                }
                Some(End::Linger) => {
                    let over = self.alarm.as_mut().poll(cx).is_ready();
                    let mut scrap = [0; 4096];
                    let mut scrap = ReadBuf::new(&mut scrap);
                    let read = Pin::new(&mut self.io).poll_read(cx, &mut scrap);
                    let gone =
                        matches!(read, Poll::Ready(Err(_))) || read.is_ready() && scrap.filled().is_empty();
                    self.end = Some(if over || gone { End::Over } else { End::Linger });
                    if !over && read.is_pending() {
                        return Poll::Pending;
                    }
                }
                over => {
                    self.end = over;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Writes what the other side takes; fails when it takes nothing for too long.
    fn poll_write_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let write_timeout = self.limits.write_timeout;
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + write_timeout)));
        ready!(stalled.as_mut().poll(cx));
        self.metrics.connection_closed(ConnectionEnd::WriteTimeout);
        // Or the system would go on offering what nobody reads.
        self.io.discard_unread()?;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: Socket> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        // Who does not read is not read from; the write wakes, and it may be the last one.
        if this.stalled.is_some() {
            this.waits = true;
            return Poll::Pending;
        }
        let phase = this.connection.phase();
        match phase {
            Phase::Ending { .. } => return this.discard(cx),
            Phase::Request if this.connection.body() == Body::Over => return this.watch(cx),
            _ if this.at_end => {
                this.waits = true;
                return Poll::Pending;
            }
            _ => {}
        }
        if let Phase::Head { since, bytes } = phase
            && bytes >= this.limits.head_bytes
        {
            // The library looks at what it has before it comes back: there may be a whole head in it.
            if this.full_head.replace(since) != Some(since) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.refuse(Code::HeadTooLarge);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if this.held.is_empty() {
            let read = Pin::new(&mut this.io).poll_read(cx, buffer);
            if read.is_pending() {
                return this.check_deadline(cx).map(Ok);
            }
            ready!(read)?;
            let count = this.share_of(&mut buffer.filled_mut()[before..]);
            this.held = Bytes::copy_from_slice(&buffer.filled()[before + count..]);
            buffer.set_filled(before + count);
        } else {
            let most = this.held.len().min(buffer.remaining());
            buffer.put_slice(&this.held[..most]);
            let count = this.share_of(&mut buffer.filled_mut()[before..]);
            this.held.advance(count);
            buffer.set_filled(before + count);
        }
        match buffer.filled().len() - before {
            0 => {}
            count => this.connection.received(count),
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Socket> AsyncWrite for Stream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let phase = this.connection.phase();
        let Some((start, code)) = refusal::library_error(bytes).filter(|_| !matches!(phase, Phase::Request))
        else {
            return this.poll_write_some(cx, bytes);
        };
        if start > 0 {
            return this.poll_write_some(cx, &bytes[..start]);
        }
        if this.end.is_none() {
            // What follows a last answer was never asked for.
            match phase {
                Phase::Ending { .. } => this.end = Some(End::Shutdown),
                _ => this.refuse(code),
            }
        }
        // The library drops the connection as soon as its error is written: this is the time to say goodbye.
        ready!(this.poll_end(cx))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_some() {
            return this.poll_end(cx);
        }
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        // The last call of each of the library's steps: the phase is settled.
        this.at_end = false;
        let is_busy =
            matches!(this.connection.phase(), Phase::Request) && this.connection.body() == Body::Over;
        // While a request is answered, what is held has to wait.
        if this.waits && (this.held.is_empty() || !is_busy) {
            this.waits = false;
            cx.waker().wake_by_ref();
        }
        this.set_alarm(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
