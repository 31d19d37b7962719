//! What is kept in memory: answers ready to send, weighed by their bytes.
//!
//! A completed batch is kept as long as there is room: it never changes. Everything else is kept for a short
//! time only, measured by the injected clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use sha2::{Digest, Sha256};

use crate::batch::{Batch, BatchId};
use crate::clock::Clock;
use crate::error::{Code, Error};

/// Which batch: the vendor's slug and its id.
pub type Key = (&'static str, BatchId);

/// An answer of the cache: a batch, or the certainty that there is none.
pub type Answer = Result<Arc<Representation>, Error>;

/// Where an answer came from; RFC 9211 in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// From memory.
    Hit,
    /// From the store.
    Store,
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
            Self::Store => "store",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
        }
    }

    /// The value of the `Cache-Status` header.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Hit => "phone-gateway; hit",
            Self::Store => "phone-gateway; hit; detail=store",
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
    /// How long until asking again is useful, while it has not.
    pub poll_after: Duration,
}

impl Representation {
    /// Renders a batch.
    ///
    /// # Errors
    /// When the batch cannot be written as JSON, which is a defect.
    pub fn render(batch: &Batch, poll_after: Duration) -> serde_json::Result<Self> {
        Ok(Self::from_json(serde_json::to_vec(batch)?.into(), batch.done, poll_after))
    }

    /// A document that was rendered before.
    #[must_use]
    pub fn from_json(json: Bytes, done: bool, poll_after: Duration) -> Self {
        let hash = Sha256::digest(&json);
        let etag = format!("\"{}\"", base16ct::lower::encode_string(&hash[..16]));
        Self { json, etag, done, poll_after }
    }

    /// A batch without its results, JSON, for lists.
    ///
    /// # Errors
    /// When the batch cannot be written as JSON, which is a defect.
    pub fn summary(batch: &Batch) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Batch { results: None, ..batch.clone() })
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

    /// The answer as it was last known, however long ago.
    #[must_use]
    pub fn last_known(&self, key: &Key) -> Option<Answer> {
        Some(self.answers.get(key)?.answer.clone())
    }

    /// Keeps an answer for a while, or permanently. An erased batch does not come back, and a batch that was done is not
    /// shown in any earlier state.
    pub fn insert(&self, key: Key, answer: Answer, ttl: Option<Duration>) {
        let since = self.clock.now();
        let until = ttl.map(|ttl| since.checked_add(ttl).unwrap_or(Timestamp::MAX));
        let kept = Arc::new(Kept { answer, since, until });
        // A read that began before the erasure may end after it.
        self.answers.entry(key).and_compute_with(|present| match present {
            Some(present) if present.value().is_erased() => Op::Nop,
            Some(present) if present.value().is_done() && !kept.is_done() => Op::Nop,
            _ => Op::Put(kept),
        });
    }

    /// Keeps in place of a batch that it was erased.
    pub fn erase(&self, key: Key) {
        let answer = Err(Error::batch_erased());
        self.answers.insert(key, Arc::new(Kept { answer, since: self.clock.now(), until: None }));
    }

    /// Drops an answer that does not count any more; an erased batch stays so.
    pub fn forget(&self, key: &Key) {
        self.answers.entry(key.clone()).and_compute_with(|present| match present {
            Some(present) if !present.value().is_erased() => Op::Remove,
            _ => Op::Nop,
        });
    }

    /// Drops every answer of a vendor, also that a batch was erased.
    pub fn forget_vendor(&self, slug: &str) {
        let keys: Vec<_> = self.answers.iter().map(|(key, _)| key).filter(|key| key.0 == slug).collect();
        for key in keys {
            self.answers.invalidate(&*key);
        }
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.answers.run_pending_tasks();
        self.answers.weighted_size()
    }
}

impl Kept {
    fn is_erased(&self) -> bool {
        self.answer.as_ref().is_err_and(|error| error.code == Code::BatchErased)
    }

    fn is_done(&self) -> bool {
        self.answer.as_ref().is_ok_and(|representation| representation.done)
    }

    /// The JSON and about what keeping it costs besides.
    fn weight(&self) -> u32 {
        const OVERHEAD: usize = 256;
        let json = self.answer.as_ref().map_or(0, |representation| representation.json.len());
        u32::try_from(json + OVERHEAD).unwrap_or(u32::MAX)
    }
}
