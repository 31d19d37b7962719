//! The record of the calls that a simulator received, and the faults that are put in their way.

use std::collections::{BTreeMap, VecDeque};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Bytes, ServiceConfig};
use serde_json::{Map, Value, json};

use super::SimulatorState;
use super::faults::{self, Effect};

/// Calls that are remembered one by one; all are counted.
const REMEMBERED: usize = 1_000;
/// Bytes of bodies that are remembered; older calls are forgotten first.
const REMEMBERED_BYTES: usize = 64 * 1024 * 1024;

/// The calls of one simulator.
#[derive(Debug, Default)]
pub(super) struct Calls {
    counts: BTreeMap<String, u64>,
    remembered: VecDeque<Call>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Call {
    number: u64,
    method: String,
    path: String,
    query: String,
    headers: Map<String, Value>,
    body: Bytes,
    status: Option<u16>,
}

/// Adds one simulator below its slug: every call is recorded first, then meets the faults.
pub(super) fn routes(config: &mut ServiceConfig, state: &SimulatorState) {
    let simulator = state.simulator();
    let recorded = state.clone();
    config.service(
        web::scope(&format!("/{}", simulator.slug))
            .app_data(web::Data::new(state.clone()))
            .configure(simulator.routes)
            .wrap(from_fn(move |request, next| record_call(recorded.clone(), request, next))),
    );
}

async fn record_call(
    state: SimulatorState,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let body = request.extract::<Bytes>().await?;
    let prefix = format!("/{}", state.simulator().slug);
    let below = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
    let path = below(request.path());
    let pattern = request.match_pattern().map_or_else(|| "(other)".to_owned(), |pattern| below(&pattern));

    let (number, effect, epoch) = {
        let mut inner = state.lock();
        let number = inner.calls.record(&request, &pattern, path.clone(), body.clone());
        let effect = inner.faults.take(request.method(), &path);
        (number, effect, inner.faults.epoch())
    };
    let response = match &effect {
        Some(Effect::Answer(answer)) if !answer.processed => request.into_response(answer.response()),
        _ => {
            request.set_payload(Payload::from(body));
            next.call(request).await?.map_into_boxed_body()
        }
    };
    let response = match effect {
        Some(Effect::Answer(answer)) if answer.processed => response.into_response(answer.response()),
        Some(Effect::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            response
        }
        Some(Effect::Hang) => {
            faults::hang(&state, epoch).await;
            response
        }
        Some(Effect::Cut) => {
            let (request, answer) = response.into_parts();
            ServiceResponse::new(request, faults::cut(answer).await)
        }
        Some(Effect::Answer(_)) | None => response,
    };
    state.lock().calls.answered(number, response.status().as_u16());
    Ok(response)
}

impl Calls {
    /// Every call, oldest first, as the admin routes show it.
    pub(super) fn show(&self) -> Value {
        self.remembered.iter().map(Call::show).collect()
    }

    /// How many calls each route got, also of those that are not remembered.
    pub(super) fn counts(&self) -> Value {
        json!(self.counts)
    }

    fn record(&mut self, request: &ServiceRequest, pattern: &str, path: String, body: Bytes) -> u64 {
        let number = self.next;
        self.next += 1;
        *self.counts.entry(format!("{} {pattern}", request.method())).or_default() += 1;
        self.bytes += body.len();
        self.remembered.push_back(Call {
            number,
            method: request.method().to_string(),
            path,
            query: request.query_string().to_owned(),
            headers: headers(request),
            body,
            status: None,
        });
        while self.remembered.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES {
            let Some(forgotten) = self.remembered.pop_front() else { break };
            self.bytes -= forgotten.body.len();
        }
        number
    }

    fn answered(&mut self, number: u64, status: u16) {
        let first = self.remembered.front().map_or(number, |call| call.number);
        let position = number.checked_sub(first).and_then(|position| usize::try_from(position).ok());
        if let Some(call) = position.and_then(|position| self.remembered.get_mut(position)) {
            call.status = Some(status);
        }
    }
}

impl Call {
    fn show(&self) -> Value {
        json!({
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body": serde_json::from_slice::<Value>(&self.body).ok(),
            "status": self.status,
        })
    }
}

fn headers(request: &ServiceRequest) -> Map<String, Value> {
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        headers.insert(name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into());
    }
    headers
}
