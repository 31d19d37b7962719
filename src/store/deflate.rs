//! Documents are kept deflated.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::{Store, StoreError};
use crate::telemetry::blocking_on_behalf_of;

/// More than any document has: the store's own data, but nothing may fill the memory.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// What is longer than this is not worked on where requests are served, in bytes.
const LONG: usize = 256 * 1024;

impl Store {
    /// A document as it is kept.
    pub(super) async fn deflated(&self, document: &[u8]) -> Result<Vec<u8>, StoreError> {
        if document.len() <= LONG {
            return deflate(document);
        }
        let document = document.to_vec();
        let work = self.runtime.spawn_blocking(blocking_on_behalf_of(move || deflate(&document)));
        work.await.unwrap_or_else(|_| Err(StoreError::interrupted()))
    }

    /// A document as it was.
    pub(super) async fn inflated(&self, deflated: Vec<u8>) -> Result<Bytes, StoreError> {
        if deflated.len() <= LONG / 8 {
            return inflate(&deflated);
        }
        let work = self.runtime.spawn_blocking(blocking_on_behalf_of(move || inflate(&deflated)));
        work.await.unwrap_or_else(|_| Err(StoreError::interrupted()))
    }
}

pub(super) fn deflate(document: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(document).and_then(|()| encoder.finish());
    written.map_err(|_| StoreError::new("a document cannot be deflated"))
}

pub(super) fn inflate(deflated: &[u8]) -> Result<Bytes, StoreError> {
    let mut document = Vec::new();
    let read = DeflateDecoder::new(deflated).take(MAX_BYTES + 1).read_to_end(&mut document);
    match read {
        Ok(length) if length as u64 <= MAX_BYTES => Ok(document.into()),
        _ => Err(StoreError::unreadable("document")),
    }
}
