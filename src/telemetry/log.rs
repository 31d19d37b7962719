//! The log of this process. Nothing waits for it: lines are queued, and one thread writes them to standard output.

use std::fmt;
use std::io::{self, Stdout, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::{PROBES, panics};
use crate::settings::{Log, LogFormat};

/// Maximum number of queued lines; further lines are dropped. About 4 MiB of request lines.
const QUEUE_LINES: usize = 8192;
/// How long the end of the process waits for output that may never be read.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Counts the lines that found the queue full.
static QUEUE_FULL: OnceLock<ErrorCounter> = OnceLock::new();
/// Lines that standard output did not take, for instance because its reader is gone.
static WRITE_FAILURES: AtomicU64 = AtomicU64::new(0);

/// Sends the log of this process to standard output, panics included. Queued lines are written when the guard is
/// dropped.
///
/// # Errors
/// When the filter cannot be understood or a log is already set up.
pub fn init(log: &Log) -> Result<LogGuard, Box<dyn std::error::Error + Send + Sync>> {
    let mut filter = EnvFilter::try_new(&log.filter.0)?;
    if !log.probes {
        filter = filter.add_directive(format!("{PROBES}=off").parse()?);
    }
    let queue = NonBlockingBuilder::default().buffered_lines_limit(QUEUE_LINES).thread_name("log");
    let (writer, guard) = queue.finish(Output(io::stdout()));
    QUEUE_FULL.get_or_init(|| writer.error_counter());
    let guard = LogGuard(Some(guard));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(writer);
    match log.format {
        LogFormat::Json => {
            let json = subscriber.json().flatten_event(true);
            json.with_current_span(false).with_span_list(false).finish().try_init()?;
        }
        LogFormat::Text => subscriber.finish().try_init()?,
    }
    panics::set_hook();
    Ok(guard)
}

/// Writes the queued lines when it is dropped, unless that takes too long.
#[must_use]
pub struct LogGuard(Option<WorkerGuard>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let guard = self.0.take();
        // Where the queue stays full, the guard itself prints to standard output.
        write_in_time(move || drop(guard));
    }
}

/// Does `write` in a thread of its own and waits for 2 seconds at most: a pipe that nobody reads must not keep the
/// process from ending.
pub fn write_in_time(write: impl FnOnce() + Send + 'static) {
    let (written, wait) = mpsc::channel::<()>();
    let writer = thread::Builder::new().spawn(move || {
        write();
        drop(written);
    });
    if writer.is_ok() {
        let _ = wait.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Standard output, with a count of what it does not take.
struct Output(Stdout);

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(line).inspect_err(|_| {
            WRITE_FAILURES.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The metric of lines that were lost.
#[derive(Debug)]
pub(super) struct DroppedLines;

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let queue_full = QUEUE_FULL.get().map_or(0, ErrorCounter::dropped_lines);
        let dropped = WRITE_FAILURES.load(Ordering::Relaxed).saturating_add(queue_full as u64);
        let counter = ConstCounter::new(dropped);
        let help = "Log lines that were dropped because standard output is not read, is slow or failed.";
        counter.encode(encoder.encode_descriptor("log_lines_dropped", help, None, counter.metric_type())?)
    }
}
