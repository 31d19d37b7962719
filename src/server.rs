//! The gateway's own HTTP server: its listeners, and what keeps a hostile or broken caller from holding more of it than
//! its share.

mod chunks;
mod connection;
mod descriptors;
mod head;
mod listener;
mod refusal;
mod stream;

use std::fmt;
use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request, Response};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub use self::connection::{Body, Connection, Turn};
pub use self::listener::{drain, listen};
use self::stream::{Limits, Stream};
use crate::error::whole_seconds;
use crate::settings;
use crate::telemetry::Metrics;

/// What the HTTP library keeps of an answer before it waits for the reader.
const WRITE_BUFFER: usize = 16 * 1024;

/// The request line without its address.
const REQUEST_LINE: usize = 64;

/// After an answer to half a request: how long the rest is read and thrown away.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Connections of the listener for the platform.
const OPS_CONNECTIONS: usize = 64;

/// How a server shares the process with others.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    workers: usize,
    connections: usize,
}

impl Share {
    /// That of the API: all cores, and most of the descriptors.
    #[must_use]
    pub fn of_api(settings: &settings::Server) -> Self {
        let workers = match settings.workers {
            0 => available_parallelism().map_or(2, NonZero::get),
            workers => workers,
        };
        Self { workers, connections: settings.max_connections.min(descriptors::for_connections()) }
    }

    /// That of the platform's own listener: little, and always there.
    #[must_use]
    pub const fn of_ops() -> Self {
        Self { workers: 1, connections: OPS_CONNECTIONS }
    }
}

/// A server of the application that `factory` makes for each of its threads. It works once it is awaited. Before it is
/// stopped, `closing` must be cancelled: idle connections close then.
///
/// # Errors
/// What the system says.
pub fn start<F, I, S, B>(
    listener: TcpListener,
    share: Share,
    settings: &settings::Server,
    metrics: &Arc<Metrics>,
    closing: &CancellationToken,
    factory: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Error = actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let limits = Limits {
        keep_alive: settings.keep_alive,
        head_timeout: settings.head_timeout,
        write_timeout: settings.write_timeout,
        head_bytes: settings.max_uri_bytes.as_usize() + settings.max_header_bytes.as_usize() + REQUEST_LINE,
    };
    let (metrics, closing) = (Arc::clone(metrics), closing.clone());
    let server = Server::build()
        .disable_signals()
        .workers(share.workers)
        .max_concurrent_connections(share.connections.div_ceil(share.workers))
        .shutdown_timeout(whole_seconds(settings.shutdown_grace));
    let server = server.listen("gateway", listener, move || {
        let (metrics, closing) = (Arc::clone(&metrics), closing.clone());
        let app = factory().into_factory().map_err(|error| error.error_response());
        // The stream has the deadlines, and closes idle connections at the end: the library would drop a request that is
        // there already.
        let http = HttpService::build()
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(DISCONNECT)
            .h1_write_buffer_size(WRITE_BUFFER)
            .on_connect_ext(|stream: &Stream, data| {
                data.insert(stream.connection().clone());
            })
            .h1(map_config(app, |()| AppConfig::default()));
        fn_service(move |io: TcpStream| {
            let peer = io.peer_addr().ok();
            // Or the end of an answer waits for the delayed ACK of what came before it, 40 ms on Linux. A connection
            // where it fails is gone already.
            let _ = io.set_nodelay(true);
            ready(Ok((Stream::new(io, limits, Arc::clone(&metrics), closing.clone()), peer)))
        })
        .and_then(http)
    })?;
    Ok(server.run())
}
