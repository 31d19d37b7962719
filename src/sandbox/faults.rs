//! Answers that go wrong: on request of a test, and for the ready-made ids that show an error.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::body::{self, BoxBody, SizedStream};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::SimulatorState;

/// How long a slow answer takes: longer than a client should wait for one attempt.
pub const SLOW: Duration = Duration::from_secs(10);

/// A web page where JSON belongs, as proxies in front of vendors send it.
pub const HTML_PAGE: &str = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>\
    <body><h1>502 Bad Gateway</h1></body></html>";

/// JSON that ends in the middle.
pub const MALFORMED_JSON: &str = r#"{"id":"sandbox-error-malformed","status":"comp"#;

const LONGEST_HANG: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time for the first half of a cut answer to leave.
const BEFORE_CUT: Duration = Duration::from_millis(20);

/// A page instead of JSON, with status 200.
#[must_use]
pub fn html_page() -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(HTML_PAGE)
}

/// Half of a JSON object, with status 200 and the right media type.
#[must_use]
pub fn malformed_json() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(MALFORMED_JSON)
}

/// The same answer after [`SLOW`], on a real timer.
pub async fn slow(answer: HttpResponse) -> HttpResponse {
    tokio::time::sleep(SLOW).await;
    answer
}

/// The headers and half the body of an answer; then the connection is closed.
pub async fn cut(answer: HttpResponse) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let body = body::to_bytes(body).await.unwrap_or_default();
    let promised = body.len().max(2) as u64;
    let half = body.slice(..body.len() / 2);
    let parts = stream::unfold(Some(half), |half| async {
        match half {
            Some(half) if !half.is_empty() => Some((Ok::<Bytes, actix_web::Error>(half), None)),
            _ => {
                tokio::time::sleep(BEFORE_CUT).await;
                None
            }
        }
    });
    head.set_body(BoxBody::new(SizedStream::new(promised, Box::pin(parts))))
}

/// The faults of one simulator, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    epoch: u64,
}

/// What a fault does to a call.
///
/// All but an [`Effect::Answer`] let the vendor do (and charge) what it was asked first: what goes wrong is
/// only that the caller does not get to know it in time, or at all.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Answer(Answer),
    Delay(Duration),
    Cut,
    Hang,
}

/// An answer given in place of the vendor's own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// The vendor does what it was asked (and charges) before this answer replaces its own.
    #[serde(default)]
    pub(super) processed: bool,
}

/// A fault as it is asked for: `POST /admin/{slug}/faults`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFault {
    times: Option<u32>,
    path: Option<String>,
    method: Option<String>,
    answer: Option<Answer>,
    delay_ms: Option<u64>,
    #[serde(default)]
    cut: bool,
    #[serde(default)]
    hang: bool,
}

#[derive(Debug)]
struct Fault {
    left: Option<u32>,
    path: String,
    method: Option<String>,
    effect: Effect,
}

/// Waits until the faults are cleared, at most [`LONGEST_HANG`].
pub(super) async fn hang(state: &SimulatorState, epoch: u64) {
    let since = Instant::now();
    while state.lock().faults.epoch() == epoch && since.elapsed() < LONGEST_HANG {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Faults {
    /// Adds a fault, to be met after those that are already there.
    pub(super) fn push(&mut self, new: NewFault) -> Result<(), String> {
        let fault = Fault::try_from(new)?;
        self.faults.push(fault);
        Ok(())
    }

    /// Removes every fault and lets hanging calls go.
    pub(super) fn clear(&mut self) {
        self.faults.clear();
        self.epoch += 1;
    }

    /// The faults that are left, as they could be asked for again.
    pub(super) fn show(&self) -> Value {
        self.faults.iter().map(Fault::show).collect()
    }

    /// How often the faults were cleared.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The effect of the first fault that is meant for this call.
    pub(super) fn take(&mut self, method: &Method, path: &str) -> Option<Effect> {
        let position = self.faults.iter().position(|fault| fault.meets(method, path))?;
        let fault = self.faults.get_mut(position)?;
        let effect = fault.effect.clone();
        if let Some(left) = &mut fault.left {
            *left -= 1;
            if *left == 0 {
                self.faults.remove(position);
            }
        }
        Some(effect)
    }
}

impl Fault {
    fn meets(&self, method: &Method, path: &str) -> bool {
        path.starts_with(&self.path)
            && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method.as_str()))
    }

    fn show(&self) -> Value {
        let (name, effect) = match &self.effect {
            Effect::Answer(answer) => ("answer", json!(answer)),
            Effect::Delay(delay) => ("delay_ms", json!(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))),
            Effect::Cut => ("cut", json!(true)),
            Effect::Hang => ("hang", json!(true)),
        };
        let mut fault = json!({"path": self.path, name: effect});
        if let Some(left) = self.left {
            fault["times"] = left.into();
        }
        if let Some(method) = &self.method {
            fault["method"] = method.as_str().into();
        }
        fault
    }
}

impl TryFrom<NewFault> for Fault {
    type Error = String;

    fn try_from(new: NewFault) -> Result<Self, String> {
        if new.times == Some(0) {
            return Err("times: 1 or more, or leave it out".to_owned());
        }
        let effects = [
            new.answer.map(Answer::checked).transpose()?.map(Effect::Answer),
            new.delay_ms.map(|ms| Effect::Delay(Duration::from_millis(ms))),
            new.cut.then_some(Effect::Cut),
            new.hang.then_some(Effect::Hang),
        ];
        let mut effects = effects.into_iter().flatten();
        match (effects.next(), effects.next()) {
            (Some(effect), None) => {
                Ok(Self { left: new.times, path: new.path.unwrap_or_default(), method: new.method, effect })
            }
            _ => Err("exactly one of: answer, delay_ms, cut, hang".to_owned()),
        }
    }
}

impl Answer {
    pub(super) fn response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        response.content_type(self.content_type.as_deref().unwrap_or("application/json"));
        for (name, value) in &self.headers {
            response.insert_header((name.as_str(), value.as_str()));
        }
        response.body(self.body.clone())
    }

    fn checked(self) -> Result<Self, String> {
        if !(200..=599).contains(&self.status) {
            return Err("answer.status: 200 to 599".to_owned());
        }
        if self.response().error().is_some() {
            return Err("answer.headers: not valid as HTTP headers".to_owned());
        }
        Ok(self)
    }
}
