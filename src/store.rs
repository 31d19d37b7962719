//! Stub.
#![expect(missing_docs, clippy::all, clippy::pedantic, reason = "stub")]
use std::time::Duration;
#[derive(Clone, Debug)]
pub struct Store;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct StoreError;
impl Store {
    pub async fn take(
        &self,
        _p: &'static str,
        _w: Duration,
        _l: u32,
    ) -> Result<Option<Duration>, StoreError> {
        Ok(None)
    }
    pub async fn taken(&self, _p: &'static str, _w: Duration) -> Result<u32, StoreError> {
        Ok(0)
    }
}
