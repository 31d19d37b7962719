//! What is kept in memory: answers ready to send, weighed by their bytes.
//!
//! A completed batch is kept as long as there is room: it never changes. Everything else is kept for a short
//! time only, measured by the injected clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use moka::policy::EvictionPolicy;
use sha2::{Digest, Sha256};

use crate::batch::{Batch, BatchId};
use crate::clock::Clock;
use crate::error::Error;

/// Which batch: the vendor's slug and its id.
pub type Key = (&'static str, BatchId);

/// An answer of the cache: a batch, or the certainty that there is none.
pub type Answer = Result<Arc<Representation>, Error>;

/// Where an answer came from; RFC 9211 in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// From memory.
    Hit,
    /// From the vendor, on behalf of this request.
    Miss,
    /// From the vendor, on behalf of another request for the same batch at the same time.
    Collapsed,
}

impl CacheStatus {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
        }
    }

    /// The value of the `Cache-Status` header.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Hit => "phone-gateway; hit",
            Self::Miss => "phone-gateway; fwd=miss",
            Self::Collapsed => "phone-gateway; fwd=miss; collapsed",
        }
    }
}

/// A batch as it is sent: bytes and what the response's head needs.
pub struct Representation {
    /// The JSON document.
    pub json: Bytes,
    /// Strong entity tag of exactly these bytes, with its quotes.
    pub etag: String,
    /// Whether the batch has come to its end.
    pub done: bool,
}

impl Representation {
    /// Renders a batch.
    ///
    /// # Errors
    /// When the batch cannot be written as JSON, which is a defect.
    pub fn render(batch: &Batch) -> serde_json::Result<Self> {
        let json = Bytes::from(serde_json::to_vec(batch)?);
        let hash = Sha256::digest(&json);
        let etag = format!("\"{}\"", base16ct::lower::encode_string(&hash[..16]));
        Ok(Self { json, etag, done: batch.done })
    }
}

/// Without the document: it holds data of persons.
impl fmt::Debug for Representation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Representation")
            .field("etag", &self.etag)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

/// Answers in memory.
#[derive(Clone, Debug)]
pub struct Cache {
    answers: moka::sync::Cache<Key, Arc<Kept>>,
    clock: Clock,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    since: Timestamp,
    until: Option<Timestamp>,
}

impl Cache {
    /// A cache with room for `max_bytes` of JSON.
    #[must_use]
    pub fn new(max_bytes: u64, clock: Clock) -> Self {
        let answers = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Key, kept: &Arc<Kept>| kept.weight())
            // The default policy may refuse a new answer when there is no room, and it would be asked for again.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { answers, clock }
    }

    /// The answer for a batch, if there is one that still counts.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Answer> {
        let kept = self.answers.get(key)?;
        // A clock that was set back must not make a passing state last.
        let counts = kept.until.is_none_or(|until| (kept.since..until).contains(&self.clock.now()));
        counts.then(|| kept.answer.clone())
    }

    /// The batch as it was last known, however long ago.
    #[must_use]
    pub fn last_known(&self, key: &Key) -> Option<Arc<Representation>> {
        self.answers.get(key)?.answer.clone().ok()
    }

    /// Keeps an answer for a while, or for good.
    pub fn insert(&self, key: Key, answer: Answer, ttl: Option<Duration>) {
        let since = self.clock.now();
        let until = ttl.map(|ttl| since.checked_add(ttl).unwrap_or(Timestamp::MAX));
        self.answers.insert(key, Arc::new(Kept { answer, since, until }));
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.answers.run_pending_tasks();
        self.answers.weighted_size()
    }
}

impl Kept {
    /// The JSON and about what keeping it costs besides.
    fn weight(&self) -> u32 {
        const OVERHEAD: usize = 256;
        let json = self.answer.as_ref().map_or(0, |representation| representation.json.len());
        u32::try_from(json + OVERHEAD).unwrap_or(u32::MAX)
    }
}
