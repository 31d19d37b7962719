//! What is taken on at all: decided from the head of a request, before its key is looked at and its body is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::dev::ServiceRequest;

use crate::error::{Code, Error};
use crate::settings;

/// Paths that answer however much there is to do.
pub(super) const ALWAYS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/version"];

/// The limits of heads and of requests in progress.
#[derive(Debug)]
pub struct Admission {
    max_uri_bytes: usize,
    max_header_bytes: usize,
    max_requests: usize,
    in_progress: AtomicUsize,
}

impl Admission {
    /// The limits of the settings.
    #[must_use]
    pub fn new(settings: &settings::Server) -> Self {
        Self {
            max_uri_bytes: settings.max_uri_bytes.as_usize(),
            max_header_bytes: settings.max_header_bytes.as_usize(),
            max_requests: settings.max_requests,
            in_progress: AtomicUsize::new(0),
        }
    }

    /// A place for the request, until it is dropped.
    pub(super) fn admit(self: &Arc<Self>, request: &ServiceRequest) -> Result<Place, Error> {
        self.check_head(request)?;
        let place = Place(Arc::clone(self));
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        if before >= self.max_requests && !ALWAYS.contains(&request.path()) {
            return Err(Error::overloaded("Too many requests are in progress."));
        }
        Ok(place)
    }

    fn check_head(&self, request: &ServiceRequest) -> Result<(), Error> {
        let uri = request.uri();
        let path_and_query = uri.path_and_query().map_or(0, |target| target.as_str().len());
        let is_told_later = uri.path().len() > self.max_uri_bytes && is_batch(uri.path());
        if path_and_query > self.max_uri_bytes && !is_told_later {
            let detail = format!("The path and the query may have at most {} bytes.", self.max_uri_bytes);
            return Err(Error::new(Code::UriTooLong, detail));
        }
        let headers = request.headers().iter();
        // As they are written: a colon, a space and the end of the line.
        let bytes: usize = headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes > self.max_header_bytes {
            let detail = format!("All headers together may have at most {} bytes.", self.max_header_bytes);
            return Err(Error::new(Code::HeadTooLarge, detail));
        }
        Ok(())
    }
}

/// Whether a path that is too long is so because of a batch id: that is told more precisely by who reads the id.
fn is_batch(path: &str) -> bool {
    path.strip_prefix("/batches/").is_some_and(|rest| rest.matches('/').count() == 1)
}

/// One request in progress.
#[derive(Debug)]
pub(super) struct Place(Arc<Admission>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}
