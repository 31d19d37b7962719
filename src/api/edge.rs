//! The outermost layer of every request: whatever happens inside, the caller gets its ids back, every error is
//! a problem document, and one log line is written.

use std::mem;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::ConnectionType;
use actix_web::http::header::{
    CACHE_STATUS, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, ResponseError, web};
use futures_util::FutureExt;

use super::admission::Admission;
use super::answer::{Answer, Lasts};
use super::batches::PREFERENCE_APPLIED;
use super::operations::Readiness;
use crate::auth::Standing;
use crate::batch::{BatchId, SubmissionId};
use crate::error::{Code, Error, UNKNOWN_PATH};
use crate::providers::VENDORS;
use crate::server::{Body, Connection};
use crate::telemetry::{self, Learning, Metrics, REQUEST_ID, RequestContext, TraceContext};

pub(super) async fn edge<B: MessageBody + 'static>(
    metrics: web::Data<Metrics>,
    admission: web::Data<Admission>,
    readiness: web::Data<Readiness>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Answer>, actix_web::Error> {
    let mut exchange = Exchange::new(metrics, readiness, &request);
    match admission.admit(&request) {
        Ok(place) => exchange.lasts.place = Some(place),
        Err(error) => return Ok(conclude(request.into_response(error.error_response()), exchange)),
    }
    let work = telemetry::on_behalf_of(Arc::clone(&exchange.context.request_id), next.call(request));
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(response)) => Ok(conclude(response, exchange)),
        // A layer below refused before a handler was chosen, or a handler panicked: the request is gone and
        // with it the ordinary way to answer.
        Ok(Err(error)) => Err(fail(exchange, &problem_of(&error.error_response()))),
        Err(_panic) => Err(fail(exchange, &Error::internal())),
    }
}

/// A request on its way to its one log line, which it also gets when the caller hangs up and the handler is
/// dropped.
struct Exchange {
    metrics: web::Data<Metrics>,
    readiness: web::Data<Readiness>,
    method: Method,
    route: Option<String>,
    context: RequestContext,
    learning: Learning,
    connection: Option<Connection>,
    lasts: Lasts,
    completed: bool,
}

/// The path as errors repeat it: of what a caller writes there, the names of vendors and what can be an id.
fn shown(path: &str, route: Option<&str>) -> String {
    let Some(route) = route else { return UNKNOWN_PATH.to_owned() };
    let shown = route.split('/').zip(path.split('/')).map(|(part, segment)| match part {
        "{provider}" if VENDORS.iter().any(|vendor| vendor.info.slug == segment) => segment,
        "{id}" if can_be_id(route, segment) => segment,
        part if part.starts_with('{') => "*",
        part => part,
    });
    shown.collect::<Vec<_>>().join("/")
}

fn can_be_id(route: &str, segment: &str) -> bool {
    if route.starts_with("/submissions/") {
        segment.parse::<SubmissionId>().is_ok()
    } else {
        segment.parse::<BatchId>().is_ok()
    }
}

/// The body that a head announces.
fn body_of(headers: &HeaderMap) -> Body {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Body::Chunks;
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    length.filter(|length| *length > 0).map_or(Body::Over, Body::Bytes)
}

/// Whether the library takes a request for the last one of its connection: it says so, or what follows is no HTTP.
fn ends_connection(request: &ServiceRequest) -> bool {
    let websocket = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    request.head().connection_type() != ConnectionType::KeepAlive
        || request.method() == Method::CONNECT
        || request.headers().get_all(UPGRADE).any(websocket)
}

/// The status in log and metrics of a request whose caller did not wait, as nginx has it.
const CALLER_HUNG_UP: u16 = 499;

impl Exchange {
    fn new(metrics: web::Data<Metrics>, readiness: web::Data<Readiness>, request: &ServiceRequest) -> Self {
        let connection = request.conn_data::<Connection>().cloned();
        let is_last = ends_connection(request);
        let turn =
            connection.as_ref().map(|connection| connection.begin(body_of(request.headers()), is_last));
        let learning = Learning::default();
        request.extensions_mut().insert(Rc::clone(&learning));
        Self {
            metrics,
            readiness,
            method: request.method().clone(),
            route: request.match_pattern(),
            context: RequestContext::of(request),
            learning,
            connection,
            lasts: Lasts { turn, place: None },
            completed: false,
        }
    }

    /// Puts the headers on that every answer has, and writes the one log line.
    fn answer<B: MessageBody + 'static>(
        mut self,
        mut response: HttpResponse<B>,
        code: Option<Code>,
    ) -> HttpResponse<Answer> {
        self.completed = true;
        self.write(response.status().as_u16(), code);
        insert_common_headers(response.headers_mut(), &self.context);
        if let Some(connection) = &self.connection {
            if !self.readiness.is_ready() {
                connection.end();
            }
            if connection.ends() {
                response.head_mut().set_connection_type(ConnectionType::Close);
            } else {
                insert(response.headers_mut(), "keep-alive", &timeout_hint(connection.keep_alive()));
            }
        }
        let lasts = mem::take(&mut self.lasts);
        response.map_body(|_, body| Answer::new(body, lasts))
    }

    fn write(&self, status: u16, code: Option<Code>) {
        telemetry::request_completed(
            &self.metrics,
            Some(&self.method),
            self.route.as_deref(),
            status,
            code.map(|code| code.info().name),
            &self.context,
            &self.learning.borrow(),
        );
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.completed {
            self.write(CALLER_HUNG_UP, None);
        }
    }
}

/// Turns an error into its problem document.
fn conclude<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    mut exchange: Exchange,
) -> ServiceResponse<Answer> {
    let (request, response) = response.into_parts();
    // Only now is it known of a path that is written in another way.
    exchange.route = request.match_pattern();
    let mut response = if response.status().is_client_error() || response.status().is_server_error() {
        let error = problem_of(&response);
        // A path that is said not to exist looks like any other.
        let known = exchange.route.as_deref().filter(|_| error.code != Code::RouteNotFound);
        let instance = shown(request.path(), known);
        let mut rendered = error.render(&exchange.context.request_id, &instance);
        for name in [CACHE_STATUS, PREFERENCE_APPLIED, VARY] {
            if let Some(value) = response.headers().get(&name) {
                rendered.headers_mut().insert(name, value.clone());
            }
        }
        exchange.answer(rendered, Some(error.code))
    } else {
        exchange.answer(response, None)
    };
    if let Some(standing) = request.extensions().get::<Standing>() {
        standing.tell(response.headers_mut());
    }
    ServiceResponse::new(request, response)
}

fn fail(exchange: Exchange, error: &Error) -> actix_web::Error {
    let response = error.render(&exchange.context.request_id, UNKNOWN_PATH);
    let response = exchange.answer(response, Some(error.code));
    InternalError::from_response(error.clone(), response.map_into_boxed_body()).into()
}

/// The gateway's own error of a response, or the nearest to what a library answered.
fn problem_of<B>(response: &HttpResponse<B>) -> Error {
    if let Some(error) = response.extensions().get::<Error>() {
        return error.clone();
    }
    if response.status() == StatusCode::NOT_FOUND {
        return Error::route_not_found();
    }
    if response.status().is_client_error() {
        return Error::new(
            Code::InvalidRequest,
            "The request cannot be understood; /docs/ shows what is expected.",
        );
    }
    Error::internal()
}

fn insert_common_headers(headers: &mut HeaderMap, context: &RequestContext) {
    insert(headers, REQUEST_ID, &context.request_id);
    insert(headers, TraceContext::HEADER, &context.trace.to_string());
    insert(headers, "x-content-type-options", "nosniff");
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The value of `Keep-Alive` (RFC 2068, section 19.7.1.1), in whole seconds: callers that heed it, such as Node.js, do not
/// send on a connection that is about to be closed.
fn timeout_hint(keep_alive: Duration) -> String {
    format!("timeout={}", keep_alive.as_secs())
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, try_call_service};
    use actix_web::{App, HttpResponse};

    use super::*;
    use crate::settings::Settings;

    /// Limits that no request of these tests meets.
    fn unlimited() -> web::Data<Admission> {
        let variables = [("PHONE_GATEWAY__AUTH__MODE", "none")];
        web::Data::new(Admission::new(&Settings::from_variables(None, variables).unwrap().server))
    }

    async fn panicking() -> HttpResponse {
        panic!("a defect with +15705551234 in its text")
    }

    #[test]
    fn of_a_path_only_what_can_be_an_id_is_repeated() {
        for (path, route, expected) in [
            ("/livez", Some("/livez"), "/livez"),
            ("/", Some("/"), "/"),
            ("/batches/enrow/a_B-9", Some("/batches/{provider}/{id}"), "/batches/enrow/a_B-9"),
            (
                "/batches/enrow/+15705551234/stop",
                Some("/batches/{provider}/{id}/stop"),
                "/batches/enrow/*/stop",
            ),
            ("/batches/nobody/a%20b", Some("/batches/{provider}/{id}"), "/batches/*/*"),
            ("/submissions/Xanthippe", Some("/submissions/{id}"), "/submissions/*"),
            ("/webhooks/enrow/secret", Some("/webhooks/{provider}/{token}"), "/webhooks/enrow/*"),
            ("/docs/some/where", Some("/docs/{_:.*}"), "/docs/*"),
            ("/behind/a/proxy/webhooks/enrow/secret", None, "/*"),
        ] {
            assert_eq!(shown(path, route), expected);
        }
    }

    #[actix_web::test]
    async fn a_handler_works_on_behalf_of_its_request() {
        let whose = async || telemetry::current_request_id().map(|id| id.to_string()).unwrap_or_default();
        let app = App::new()
            .app_data(unlimited())
            .app_data(web::Data::new(Readiness::new()))
            .app_data(web::Data::new(Metrics::new()))
            .route("/", web::get().to(whose))
            .wrap(from_fn(edge));
        let app = init_service(app).await;
        let response = call_service(&app, TestRequest::get().to_request()).await;
        let id = response.headers().get(REQUEST_ID).unwrap().clone();
        assert_eq!(actix_web::test::read_body(response).await, id.as_bytes());
    }

    #[actix_web::test]
    async fn a_panic_is_a_problem_document_that_does_not_repeat_its_text() {
        let app = App::new()
            .app_data(unlimited())
            .app_data(web::Data::new(Readiness::new()))
            .app_data(web::Data::new(Metrics::new()))
            .route("/panic", web::get().to(panicking))
            .wrap(from_fn(edge));
        let app = init_service(app).await;
        let request = TestRequest::get().uri("/panic").to_request();
        let error = try_call_service(&app, request).await.expect_err("the layer answers with an error");
        let response = error.error_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
        assert!(response.headers().contains_key(REQUEST_ID));
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], "internal_error");
        assert_eq!(problem["instance"], "/*");
        assert!(!String::from_utf8_lossy(&body).contains("5705551234"));
    }
}
