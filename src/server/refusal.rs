//! Answers to what never became a request: the HTTP library's own are empty, these are problems like all others.

use std::time::SystemTime;

use actix_web::http::StatusCode;
use actix_web::http::header::HttpDate;
use bytes::Bytes;

use crate::error::{Code, Error, PROBLEM_JSON, UNKNOWN_PATH};
use crate::telemetry::{REQUEST_ID, RequestContext, TraceContext};

/// The whole answer, after which the connection is closed.
pub(super) fn answer(code: Code, context: &RequestContext) -> Bytes {
    let error = Error::new(code, detail(code));
    let status = StatusCode::from_u16(code.info().status).unwrap_or(StatusCode::BAD_REQUEST);
    let body = serde_json::to_string(&error.problem(&context.request_id, UNKNOWN_PATH)).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\ndate: {}\r\nx-content-type-options: nosniff\r\n{REQUEST_ID}: {}\r\n{}: {}\r\n\r\n",
        body.len(),
        HttpDate::from(SystemTime::now()),
        context.request_id,
        TraceContext::HEADER,
        context.trace,
    );
    Bytes::from(head + &body)
}

fn detail(code: Code) -> &'static str {
    match code {
        Code::RequestTimeout => "The head of the request did not come in time.",
        Code::HeadTooLarge => "The head of the request is too large, or it has more than 96 headers.",
        Code::InternalError => "The gateway failed; its log has the cause under this request_id.",
        _ => "What came is not an HTTP request, or can be read in two ways.",
    }
}

/// Where in `written` an error of the HTTP library's own begins, and which: it stands at the end, without a body and
/// without the id that every answer of the application has.
pub(super) fn library_error(written: &[u8]) -> Option<(usize, Code)> {
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = written.windows(7).rposition(|bytes| bytes == b"HTTP/1.")?;
    let head = std::str::from_utf8(&written[start..]).ok()?;
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    if status < 400 || head.contains(REQUEST_ID) {
        return None;
    }
    let code = match status {
        408 => Code::RequestTimeout,
        431 => Code::HeadTooLarge,
        500.. => Code::InternalError,
        _ => Code::MalformedRequest,
    };
    Some((start, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_errors_are_told_from_answers() {
        let bare = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(library_error(bare.as_bytes()), Some((0, Code::MalformedRequest)));
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: 1\r\n\r\n{}";
        assert_eq!(library_error(answer.as_bytes()), None);
        assert_eq!(
            library_error((answer.to_owned() + bare).as_bytes()),
            Some((answer.len(), Code::MalformedRequest))
        );
        let large = bare.replace("400 Bad Request", "431 Request Header Fields Too Large");
        assert_eq!(library_error(large.as_bytes()), Some((0, Code::HeadTooLarge)));
        for other in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nx-request-id: 1\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\nx-request-id: 1\r\n\r\n",
            "no answer\r\n\r\n",
            "",
        ] {
            assert_eq!(library_error(other.as_bytes()), None, "{other}");
        }
    }
}
