//! Stub.
#![expect(missing_docs, clippy::all, clippy::pedantic, reason = "stub")]
use crate::batch::{BatchId, SubmissionId};
use crate::submission::{Submission, SubmissionState};
use bytes::Bytes;
use jiff::Timestamp;
use std::time::Duration;
#[derive(Clone, Debug)]
pub struct Store;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct StoreError;
type R<T> = Result<T, StoreError>;
pub struct NewSubmission<'a> {
    pub client: &'a str,
    pub key: &'a str,
    pub provider: &'static str,
    pub fingerprint: [u8; 32],
    pub records: u64,
    pub reference: Option<&'a str>,
    pub custom_ids: Option<&'a [Option<String>]>,
}
pub enum Reserved {
    Ours { id: SubmissionId, attempt: i64 },
    InUse { id: SubmissionId },
    Reused { id: SubmissionId },
    Accepted { id: SubmissionId, batch_id: BatchId, answer: Option<Bytes> },
    InDoubt { id: SubmissionId },
}
#[derive(Clone, Debug)]
pub enum Resolution {
    Sent(BatchId),
    NotSent,
}
pub enum Resolved {
    Done(Submission),
    NotInDoubt(Submission),
    Unknown,
}
pub struct Doubt {
    pub id: SubmissionId,
    pub provider: String,
    pub sent_at: Timestamp,
    pub records: u64,
}
pub struct SavedBatch<'a> {
    pub provider: &'static str,
    pub id: &'a BatchId,
    pub submission: Option<SubmissionId>,
    pub client: Option<&'a str>,
    pub reference: Option<&'a str>,
    pub status: &'static str,
    pub done: bool,
    pub complete: bool,
    pub document: &'a [u8],
    pub summary: &'a [u8],
    pub charged: Option<u64>,
    pub refunded: Option<u64>,
    pub submitted_at: Option<Timestamp>,
    pub retrieved_at: Timestamp,
    pub next_poll_at: Option<Timestamp>,
}
pub enum Saved {
    Kept,
    Erased,
    Complete,
}
pub struct StoredBatch {
    pub document: Option<Bytes>,
    pub status: String,
    pub done: bool,
    pub complete: bool,
    pub erased: bool,
    pub submission: Option<SubmissionId>,
    pub retrieved_at: Option<Timestamp>,
    pub next_poll_at: Option<Timestamp>,
    pub polls: u64,
    pub submitted_at: Option<Timestamp>,
    pub first_seen_at: Timestamp,
}
pub struct Facts {
    pub submission: SubmissionId,
    pub client: String,
    pub reference: Option<String>,
    pub records: u64,
    pub custom_ids: Option<Vec<Option<String>>>,
    pub created_at: Timestamp,
}
pub struct Due {
    pub provider: String,
    pub id: BatchId,
    pub polls: u64,
}
pub struct Filter {
    pub providers: Vec<&'static str>,
    pub status: Option<String>,
    pub reference: Option<String>,
    pub submitted_after: Option<Timestamp>,
    pub submitted_before: Option<Timestamp>,
}
pub struct Cursor {
    pub at: i64,
    pub provider: String,
    pub id: String,
}
pub struct Listed {
    pub summary: Bytes,
    pub cursor: Cursor,
}
pub struct UsageFilter<'a> {
    pub client: Option<&'a str>,
    pub provider: Option<&'a str>,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
}
pub struct Usage {
    pub day: String,
    pub client: Option<String>,
    pub provider: String,
    pub batches: u64,
    pub charged: u64,
    pub refunded: u64,
}
impl Store {
    pub async fn close(&self) {}
    pub async fn reserve(&self, new: &NewSubmission<'_>, lease: Duration) -> R<Reserved> {
        todo!()
    }
    pub async fn begin_sending(&self, id: SubmissionId, attempt: i64, lease: Duration) -> R<bool> {
        todo!()
    }
    pub async fn not_sent(&self, id: SubmissionId, attempt: i64, code: &'static str) -> R<bool> {
        todo!()
    }
    pub async fn in_doubt(&self, id: SubmissionId, attempt: i64, code: &'static str) -> R<bool> {
        todo!()
    }
    pub async fn accept(&self, id: SubmissionId, batch: &SavedBatch<'_>, answer: &[u8]) -> R<bool> {
        todo!()
    }
    pub async fn resolve(&self, id: SubmissionId, as_: &Resolution, by: &str) -> R<Resolved> {
        todo!()
    }
    pub async fn submission(&self, id: SubmissionId) -> R<Option<Submission>> {
        todo!()
    }
    pub async fn submissions(
        &self,
        client: Option<&str>,
        state: Option<SubmissionState>,
        limit: u32,
    ) -> R<Vec<Submission>> {
        todo!()
    }
    pub async fn expire_leases(&self, everything: bool) -> R<Vec<SubmissionId>> {
        todo!()
    }
    pub async fn claim_doubt(&self, providers: &[&'static str], lease: Duration) -> R<Option<Doubt>> {
        todo!()
    }
    pub async fn found_not_sent(&self, id: SubmissionId) -> R<bool> {
        todo!()
    }
    pub async fn has_open_submissions(&self, provider: &'static str) -> R<bool> {
        todo!()
    }
    pub async fn doubt_count(&self) -> R<u64> {
        todo!()
    }
    pub async fn save(&self, batch: &SavedBatch<'_>) -> R<Saved> {
        todo!()
    }
    pub async fn batch(&self, provider: &'static str, id: &BatchId) -> R<Option<StoredBatch>> {
        todo!()
    }
    pub async fn facts(&self, provider: &'static str, id: &BatchId) -> R<Option<Facts>> {
        todo!()
    }
    pub async fn open_submission(&self, provider: &'static str, id: SubmissionId) -> R<Option<Facts>> {
        todo!()
    }
    pub async fn lease(&self, provider: &'static str, id: &BatchId, lease: Duration) -> R<bool> {
        todo!()
    }
    pub async fn release(
        &self,
        provider: &'static str,
        id: &BatchId,
        next_poll_at: Timestamp,
        failed: bool,
    ) -> R<()> {
        todo!()
    }
    pub async fn claim_due(&self, providers: &[&'static str], lease: Duration) -> R<Option<Due>> {
        todo!()
    }
    pub async fn hint(&self, provider: &'static str, id: &BatchId, create: bool) -> R<bool> {
        todo!()
    }
    pub async fn gone(&self, provider: &'static str, id: &BatchId) -> R<()> {
        todo!()
    }
    pub async fn erase(&self, provider: &'static str, id: &BatchId) -> R<()> {
        todo!()
    }
    pub async fn erased_since(&self, since: Timestamp) -> R<Vec<(String, BatchId)>> {
        todo!()
    }
    pub async fn list(&self, filter: &Filter, after: Option<&Cursor>, limit: u32) -> R<Vec<Listed>> {
        todo!()
    }
    pub async fn usage(&self, filter: &UsageFilter<'_>) -> R<Vec<Usage>> {
        todo!()
    }
    pub async fn followed(&self) -> R<u64> {
        todo!()
    }
    pub async fn take(&self, _p: &'static str, _w: Duration, _l: u32) -> R<Option<Duration>> {
        Ok(None)
    }
    pub async fn taken(&self, _p: &'static str, _w: Duration) -> R<u32> {
        Ok(0)
    }
    pub async fn tidy(&self) -> R<()> {
        todo!()
    }
}
