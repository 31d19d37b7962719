//! Request bodies: read with a limit, and parsed without ever repeating what is in them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Code, Error};
use crate::server::Connection;
use crate::settings;

/// Values that a body may have: more than twice what the largest order of any vendor has. Each of them takes many times the memory
/// of its text.
const MOST_VALUES: usize = 100_000;

/// How long a body waits for room in memory.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

/// The part of the room that webhooks have for themselves: one in so many.
const WEBHOOKS_PART: usize = 16;

/// What they have at least: the longest of them.
const WEBHOOKS_LEAST: usize = 64 * 1024;

/// The limits of request bodies.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    max_bytes: u64,
    timeout: Duration,
    room: Arc<Semaphore>,
    webhooks_room: Arc<Semaphore>,
}

impl BodyLimits {
    /// The limits of the settings.
    #[must_use]
    pub fn new(settings: &settings::Server) -> Self {
        let room = settings.max_body_memory.as_usize();
        Self {
            max_bytes: settings.max_body_bytes.0,
            timeout: settings.body_timeout,
            room: Arc::new(Semaphore::new(room)),
            webhooks_room: Arc::new(Semaphore::new((room / WEBHOOKS_PART).max(WEBHOOKS_LEAST))),
        }
    }

    /// Those of a vendor's webhook: neither do webhooks take the room of callers, nor callers theirs.
    pub(super) fn of_webhooks(&self, max_bytes: u64) -> Self {
        Self { max_bytes, room: Arc::clone(&self.webhooks_room), ..self.clone() }
    }

    /// Room for a piece of a body, in bytes.
    async fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = timeout(WAIT_FOR_ROOM, Arc::clone(&self.room).acquire_many_owned(bytes)).await;
        room.ok().and_then(Result::ok).ok_or_else(|| Error::overloaded("There is no room for more bodies."))
    }
}

/// The JSON document that a request carries.
///
/// # Errors
/// `unsupported_media_type`, `body_too_large`; `invalid_request` with the place where it cannot be read.
pub(super) async fn json(
    request: &HttpRequest,
    payload: web::Payload,
    limits: &BodyLimits,
) -> Result<Value, Error> {
    if !is_json(request) {
        return Err(Error::new(
            Code::UnsupportedMediaType,
            "Send the body as `Content-Type: application/json`, not compressed.",
        ));
    }
    parse(&bytes(request, payload, limits).await?)
}

/// The body of a request, whatever it is.
///
/// # Errors
/// `body_too_large`, `request_timeout`, `overloaded`, `invalid_request` when its end is missing.
pub(super) async fn bytes(
    request: &HttpRequest,
    payload: web::Payload,
    limits: &BodyLimits,
) -> Result<Bytes, Error> {
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limits.max_bytes) {
        return Err(too_large(limits));
    }
    let too_slow = |_| Error::new(Code::RequestTimeout, "The body did not come in time.");
    let (body, room) = timeout(limits.timeout, read(payload, limits)).await.map_err(too_slow)??;
    // What is made of the body takes room as well, until the request is answered.
    request.extensions_mut().insert(room);
    if let Some(connection) = request.conn_data::<Connection>() {
        connection.body_is_read();
    }
    Ok(body)
}

async fn read(
    mut payload: web::Payload,
    limits: &BodyLimits,
) -> Result<(Bytes, OwnedSemaphorePermit), Error> {
    let mut room = limits.room_for(0).await?;
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Error::new(Code::InvalidRequest, "The end of the body is missing."))?;
        if (body.len() + chunk.len()) as u64 > limits.max_bytes {
            return Err(too_large(limits));
        }
        room.merge(limits.room_for(chunk.len()).await?);
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), room))
}

fn too_large(limits: &BodyLimits) -> Error {
    Error::new(Code::BodyTooLarge, format!("The body may have at most {} bytes.", limits.max_bytes))
}

fn is_json(request: &HttpRequest) -> bool {
    let text = |value: &HeaderValue| value.to_str().map(|value| value.trim().to_ascii_lowercase());
    let mut types = request.headers().get_all(CONTENT_TYPE).map(text);
    let json = types.next().is_some_and(|value| {
        value.is_ok_and(|value| value.split(';').next().unwrap_or_default().trim_end() == "application/json")
    });
    let mut encodings = request.headers().get_all(CONTENT_ENCODING).map(text);
    json && types.next().is_none() && encodings.all(|value| value.is_ok_and(|value| value == "identity"))
}

/// A body without the byte order mark that some callers put in front: a parser may ignore it (RFC 8259, section 8.1).
pub(super) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

fn parse(body: &[u8]) -> Result<Value, Error> {
    let body = without_byte_order_mark(body);
    let mut left = MOST_VALUES;
    let mut json = serde_json::Deserializer::from_slice(body);
    let value =
        Unambiguous { left: &mut left }.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    // The parser's own words may quote the body.
    value.map_err(|error| {
        let too_many = format!("has more than {MOST_VALUES} values");
        let problem = match error.classify() {
            Category::Eof if body.trim_ascii().is_empty() => "is empty",
            Category::Eof => "ends too early",
            Category::Data if left == 0 => &too_many,
            Category::Data => "names a field twice",
            Category::Syntax | Category::Io => "is not valid JSON (RFC 8259)",
        };
        let detail = format!("The body {problem}: line {}, column {}.", error.line(), error.column());
        Error::new(Code::InvalidRequest, detail)
    })
}

/// Reads JSON of no more values than are left, in which no object names a field twice: which of the two would be paid
/// for?
struct Unambiguous<'l> {
    left: &'l mut usize,
}

impl Unambiguous<'_> {
    const fn next(&mut self) -> Unambiguous<'_> {
        Unambiguous { left: self.left }
    }
}

impl<'de> DeserializeSeed<'de> for Unambiguous<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.left = self.left.checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.next())? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(self.next())?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a field is named twice"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::FromRequest;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn json_is_json_with_any_parameters_and_nothing_else() {
        for (content_type, json) in [
            ("application/json", true),
            ("Application/JSON", true),
            ("application/json; charset=utf-8", true),
            ("application/json ;charset=\"a;b\"", true),
            (" application/json", true),
            ("application/vnd.api+json", false),
            ("application/problem+json", false),
            ("application/jsonx", false),
            ("application/json, text/plain", false),
            ("text/json", false),
            ("application/*", false),
            ("*/*", false),
            ("", false),
            (";", false),
        ] {
            let request = TestRequest::post().insert_header(("content-type", content_type)).to_http_request();
            assert_eq!(is_json(&request), json, "{content_type}");
        }
        assert!(!is_json(&TestRequest::post().to_http_request()));
        let json = || TestRequest::post().append_header(("content-type", "application/json"));
        assert!(!is_json(&json().append_header(("content-type", "application/json")).to_http_request()));
        for (encoding, plain) in
            [("identity", true), ("Identity", true), ("gzip", false), ("identity, br", false), ("", false)]
        {
            let request = json().insert_header(("content-encoding", encoding)).to_http_request();
            assert_eq!(is_json(&request), plain, "{encoding}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_place_only() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for (body, place) in [
            (&b""[..], "is empty: line 1, column 0."),
            (b"{\"records\":\n [", "ends too early: line 2, column 2."),
            (b"{\"records\":secret}", "is not valid JSON (RFC 8259): line 1, column 12."),
            (b"{\"a\":1}secret", "is not valid JSON (RFC 8259): line 1, column 8."),
            (b"\"\xff\"", "is not valid JSON (RFC 8259): line 1, column 2."),
            (b"\xef\xbb\xbf", "is empty: line 1, column 0."),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", "is not valid JSON (RFC 8259): line 1, column "),
            (b"{\"a\":1e999}", "is not valid JSON (RFC 8259): line 1, column "),
            (b"\"\\ud800\"", "is not valid JSON (RFC 8259): line 1, column "),
            (b"{\"a\":1,\n\"a\":1}", "names a field twice: line 2, column "),
            (b"[{\"secret\":1,\"\\u0073ecret\":2}]", "names a field twice: line 1, column "),
            (b"[NaN]", "is not valid JSON (RFC 8259): line 1, column 2."),
            (deep.as_bytes(), "is not valid JSON (RFC 8259): line 1, column "),
        ] {
            let error = parse(body).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest);
            assert!(error.detail.starts_with(&format!("The body {place}")), "{}", error.detail);
            assert!(!error.detail.contains("secret"));
        }
        assert_eq!(parse(b"\xef\xbb\xbf{\"a\":1}").unwrap(), serde_json::json!({"a": 1}));
        let many = |values: usize| format!("[0{}]", ",0".repeat(values - 2));
        assert!(parse(many(MOST_VALUES).as_bytes()).is_ok());
        let error = parse(many(MOST_VALUES + 1).as_bytes()).unwrap_err();
        assert_eq!(error.detail, "The body has more than 100000 values: line 1, column 199999.");
        let all = br#" {"b":[null,true,-1,18446744073709551615,1.5,"\u00e9\n",{}],"a":{"b":[]}} "#;
        assert_eq!(parse(all).unwrap(), serde_json::from_slice::<Value>(all).unwrap());
    }

    #[actix_web::test]
    async fn a_body_has_the_limit_and_no_more() {
        for (size, announced, fits) in [
            (0, None, true),
            (10, None, true),
            (10, Some("10"), true),
            (11, None, false),
            (1, Some("11"), false),
        ] {
            let mut request = TestRequest::post().set_payload(vec![b'x'; size]);
            if let Some(announced) = announced {
                request = request.insert_header((CONTENT_LENGTH, announced));
            }
            let (request, mut payload) = request.to_http_parts();
            let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
            let room = Arc::new(Semaphore::new(10));
            let limits = BodyLimits {
                max_bytes: 10,
                timeout: Duration::from_secs(5),
                room: Arc::clone(&room),
                webhooks_room: room,
            };
            let read = bytes(&request, payload, &limits).await.map_err(|error| error.code);
            assert_eq!(read.map(|body| body.len()), fits.then_some(size).ok_or(Code::BodyTooLarge));
        }
    }
}
