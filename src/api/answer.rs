//! The body of an answer, on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::admission::Place;
use crate::server::Turn;

/// What the HTTP library is given at a time: it copies all that it is given, whether the caller reads it or not.
const SLICE: usize = 16 * 1024;

/// A body that is handed over in slices, and what lasts as long as the answer.
pub(super) struct Answer {
    body: Body,
    _lasts: Lasts,
}

/// What lasts from the head of a request to the end of its answer.
#[derive(Debug, Default)]
pub(super) struct Lasts {
    pub(super) place: Option<Place>,
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(super) turn: Option<Turn>,
}

enum Body {
    Bytes { size: BodySize, rest: Bytes },
    Stream(BoxBody),
}

impl Answer {
    pub(super) fn new(body: impl MessageBody + 'static, lasts: Lasts) -> Self {
        let size = body.size();
        let body = match body.try_into_bytes() {
            Ok(rest) => Body::Bytes { size, rest },
            Err(body) => Body::Stream(body.boxed()),
        };
        Self { body, _lasts: lasts }
    }
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        match &self.body {
            Body::Bytes { size, .. } => *size,
            Body::Stream(body) => body.size(),
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match &mut self.body {
            Body::Bytes { rest, .. } if rest.is_empty() => Poll::Ready(None),
            Body::Bytes { rest, .. } => Poll::Ready(Some(Ok(rest.split_to(rest.len().min(SLICE))))),
            Body::Stream(body) => Pin::new(body).poll_next(cx),
        }
    }
}
