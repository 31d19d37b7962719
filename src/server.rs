//! The gateway's own HTTP server: its listeners, and what keeps a hostile or broken caller from holding more of it than
//! its share.

mod chunks;
mod connection;
mod descriptors;
mod head;
mod listener;
mod refusal;
mod socket;
mod stream;

use std::fmt;
use std::future::ready;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Request, Response};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

pub use self::connection::{Body, Connection, Turn};
pub use self::listener::{Address, Listener};
use self::socket::Socket;
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

/// What every connection of a server is given.
#[derive(Clone)]
struct Context {
    limits: Limits,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
}

/// A server of the application that `factory` makes for each of its threads. It works once it is awaited. Before it is
/// stopped, `closing` must be cancelled: idle connections close then.
///
/// # Errors
/// What the system says.
pub fn start<F, I, S, B>(
    listener: Listener,
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
    let context = Context { limits, metrics: Arc::clone(metrics), closing: closing.clone() };
    let mut server = Server::build()
        .disable_signals()
        .workers(share.workers)
        .max_concurrent_connections(share.connections.div_ceil(share.workers))
        .shutdown_timeout(whole_seconds(settings.shutdown_grace));
    let Listener { tcp, unix, .. } = listener;
    for tcp in tcp {
        let (context, factory) = (context.clone(), factory.clone());
        server =
            server.listen("gateway", tcp, move || connections::<TcpStream, _, _, _>(&context, factory()))?;
    }
    if let Some(unix) = unix {
        server = server
            .listen_uds("gateway", unix, move || connections::<UnixStream, _, _, _>(&context, factory()))?;
    }
    Ok(server.run())
}

/// Serves the connections of one listener on one thread.
fn connections<T, I, S, B>(
    context: &Context,
    app: I,
) -> impl ServiceFactory<T, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<T, I, S, B>
where
    T: Socket,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Error = actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let Context { limits, metrics, closing } = context.clone();
    let app = app.into_factory().map_err(|error| error.error_response());
    // The stream has the deadlines, and closes idle connections at the end: the library would drop a request that is
    // there already.
    let http = HttpService::build()
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(DISCONNECT)
        .h1_write_buffer_size(WRITE_BUFFER)
        .on_connect_ext(|stream: &Stream<T>, data| {
            data.insert(stream.connection().clone());
        })
        .h1(map_config(app, |()| AppConfig::default()));
    fn_service(move |io: T| {
        let peer = io.peer();
        io.prepare();
        ready(Ok((Stream::new(io, limits, Arc::clone(&metrics), closing.clone()), peer)))
    })
    .and_then(http)
}
