//! The vendors: what each must be able to do, and the list of them.
//!
//! A new vendor is a folder beside these and its two lines in this file. No vendor's name stands anywhere
//! else in the code.

mod decode;
mod enrow;
mod error_body;
mod experian;
mod repair;
#[cfg(test)]
mod samples;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use uuid::Uuid;

use self::decode::{Digits, Field};
use crate::batch::{Batch, BatchId, Drift, DriftField, Options, Progress, Record, Status, SubmissionId};
use crate::http::QuotaScope;
use crate::http::{Call, ProviderErrorKind, Reply, VendorClient};
use crate::rate::Rate;
use crate::sandbox::Simulator;
use crate::submission::{Accepts, NewBatch};

pub use crate::http::{ProviderError, SubmitError};

/// All vendors.
pub const VENDORS: &[Vendor] = &[enrow::VENDOR, experian::VENDOR];

/// One vendor of the list.
#[derive(Clone, Copy, Debug)]
pub struct Vendor {
    /// What is known of it without asking.
    pub info: &'static Info,
    /// Makes its adapter.
    pub connect: fn(VendorClient) -> Arc<dyn Provider>,
    /// The mapping of the replies to one read, in the order of the calls; its results are not placed yet.
    map: fn(&BatchId, &[Reply]) -> Result<Batch, ProviderError>,
    /// Its simulator.
    pub simulator: Simulator,
    /// Documents of the common schema, as this vendor fills it.
    pub examples: &'static [Example],
}

impl Vendor {
    /// The batch of the replies to one read, in the order of the calls. Pure, so that fixtures, benchmarks and fuzzers
    /// reach the mapping without a server. `records` are those that were submitted, where they are known.
    ///
    /// # Errors
    /// What the replies mean where they are no batch.
    pub fn decode(
        &self,
        id: &BatchId,
        records: Option<&[Record]>,
        replies: &[Reply],
    ) -> Result<Batch, ProviderError> {
        Ok((self.map)(id, replies)?.with_placed_results(records))
    }
}

/// What is known of a vendor without asking it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an ability of its own")]
pub struct Info {
    /// Name in paths, settings and metrics.
    pub slug: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// What it accepts in one submission.
    pub accepts: Accepts,
    /// Whether a batch can be stopped.
    pub stops: bool,
    /// Whether the vendor calls a webhook when a batch has ended.
    pub webhooks: bool,
    /// Whether a submission whose answer was lost can be looked up at the vendor.
    pub recovers: bool,
    /// Whether the vendor has one list of all its batches with their states.
    pub lists: bool,
    /// How many calls the vendor allows.
    pub rate: Rate,
    /// Which calls it counts.
    pub counted: QuotaScope,
    /// Days for which it keeps results; none where it names no figure.
    pub retention_days: Option<u16>,
    /// Its public documentation.
    pub documentation: &'static str,
    /// Its address.
    pub base_url: &'static str,
    /// The header that carries the key, in lower case.
    pub key_header: &'static str,
    /// What stands before the key there, such as `Bearer ` with its space; mostly nothing.
    pub key_prefix: &'static str,
}

impl Info {
    /// A batch of which the vendor said no more than its id and its status, in its own word.
    fn batch(&self, id: &BatchId, status: Status, word: &str, reply: &Reply) -> Batch {
        self.batch_at(id, status, word, reply.received_at)
    }

    fn batch_at(&self, id: &BatchId, status: Status, word: &str, retrieved_at: Timestamp) -> Batch {
        Batch {
            provider: self.slug,
            id: id.clone(),
            kind: self.accepts.kind,
            status,
            done: status.is_done(),
            provider_status: word.to_owned(),
            reason: None,
            submission_id: None,
            reference: None,
            custom: None,
            progress: None,
            outcomes: BTreeMap::new(),
            cost: None,
            options: Options::default(),
            submitted_at: None,
            started_at: None,
            ended_at: None,
            results_expire_at: None,
            retrieved_at,
            warnings: Vec::new(),
            results: None,
            reported: BTreeMap::new(),
            awaits_results: false,
            drift: unknown_status(status),
        }
    }

    /// A batch that was submitted and that the vendor has not shown yet.
    #[must_use]
    pub fn unread_batch(&self, id: &BatchId, records: u64, now: Timestamp) -> Batch {
        let progress = Some(Progress { requested: records, processed: None });
        Batch { progress, ..self.batch_at(id, Status::Unknown, "", now) }
    }

    /// A batch that the vendor has just taken: what was ordered, and what it said.
    fn taken(&self, order: &Order<'_>, id: &BatchId, status: Status, word: &str, reply: &Reply) -> Batch {
        let NewBatch { reference, options, records } = order.batch;
        Batch {
            submission_id: Some(order.submission),
            reference: reference.as_ref().map(|reference| reference.0.clone()),
            progress: Some(Progress { requested: records.len() as u64, processed: None }),
            options: options.clone(),
            ..self.batch(id, status, word, reply)
        }
    }
}

/// The drift of a word that the schema does not know.
fn unknown_status(status: Status) -> Drift {
    let mut drift = Drift::default();
    if status == Status::Unknown {
        drift.add(DriftField::Status);
    }
    drift
}

/// What is submitted to a vendor.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// Our own id, which the vendor must give back with the batch.
    pub submission: SubmissionId,
    /// What the caller ordered, checked against [`Info`].
    pub batch: &'a NewBatch,
    /// Where the vendor is to call when the batch has ended.
    pub webhook: Option<&'a str>,
}

/// Without the address of the webhook: who knows it can call it.
impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("submission", &self.submission)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

/// A document of the common schema, for the OpenAPI document.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// Name, unique among those of the vendor.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// The document.
    pub json: &'static str,
}

/// A vendor's adapter: the sequence of calls and the mapping into the common schema.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// What is known of the vendor without asking it.
    fn info(&self) -> &'static Info;

    /// One batch as it stands at the vendor; its results are as delivered and not placed yet. Costs nothing and may be
    /// repeated.
    ///
    /// # Errors
    /// What happened at the vendor; nothing of a failed read may be used.
    async fn fetch(&self, id: &BatchId, call: &Call) -> Result<Batch, ProviderError>;

    /// Submits a batch with all the steps that the vendor needs until it is at work. Costs money: no step that may
    /// have been carried out is repeated.
    ///
    /// # Errors
    /// Whether the vendor may have charged.
    async fn submit(&self, order: &Order<'_>, call: &Call) -> Result<Batch, SubmitError>;

    /// Finishes submissions whose answers were lost. One answer for each, in their order and as soon as it is known: the
    /// batch if the vendor has it, set to work if it was not yet; none if the vendor has it not; else what happened at the
    /// vendor, and that submission stays in doubt. `Unsupported` where [`Info::recovers`] is false. Never submits.
    fn recover<'r>(&'r self, submissions: &'r [SubmissionId], call: &'r Call) -> BoxStream<'r, Recovered>;

    /// The batches that are queued or running according to the vendor's list, in one call. A batch that is not among them
    /// can be anything: done, unknown, or not readable in the list; [`Provider::fetch`] tells.
    ///
    /// # Errors
    /// What happened at the vendor. `Unsupported` where [`Info::lists`] is false.
    async fn list_running(&self, call: &Call) -> Result<HashMap<BatchId, RunningBatch>, ProviderError>;

    /// Asks the vendor to stop a batch.
    ///
    /// # Errors
    /// What happened at the vendor. `Unsupported` where [`Info::stops`] is false.
    async fn stop(&self, id: &BatchId, call: &Call) -> Result<(), ProviderError>;

    /// The batch that a webhook speaks of; none if it speaks of none. Pure: it calls nobody and believes nothing else.
    fn webhook(&self, body: &[u8]) -> Option<BatchId>;
}

/// What a vendor's list says of a batch that is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningBatch {
    /// Queued or running.
    pub status: Status,
    /// How far it is.
    pub progress: Option<Progress>,
    /// When it started, or else when it was submitted.
    pub since: Option<Timestamp>,
}

/// What a vendor shows of a submission whose answer was lost.
pub type Recovered = Result<Option<Batch>, ProviderError>;

/// The vendor has no such operation.
const UNSUPPORTED: ProviderError =
    ProviderError::permanent(ProviderErrorKind::Unsupported, "the vendor has no such operation");

/// The next of a vendor's replies.
///
/// # Errors
/// `Malformed` when there is none.
fn next_reply<'a>(replies: &mut impl Iterator<Item = &'a Reply>) -> Result<&'a Reply, ProviderError> {
    replies.next().ok_or(ProviderError::malformed("an answer is missing"))
}

/// An error reply that refuses the batch as it is.
const fn refused(error: ProviderError) -> ProviderError {
    const DETAIL: &str = "the vendor refuses the batch: something in it is not what the vendor takes";
    ProviderError { kind: ProviderErrorKind::Refused, detail: DETAIL, ..error }
}

/// The id of a batch that the vendor has just accepted.
///
/// # Errors
/// `Malformed` when there is none that can be used.
fn new_batch_id(answered: &Field<Digits<'_>>) -> Result<BatchId, ProviderError> {
    let id = answered.digits(&mut Drift::default(), DriftField::Id);
    id.and_then(|id| id.parse().ok()).ok_or(ProviderError::malformed("the answer does not name its batch"))
}

/// Whether a reply may be about the batch that was asked for. One that names no batch answers the request that was
/// sent for this one.
///
/// # Errors
/// `Integrity` when it names another batch.
fn require_same_batch(
    asked: &BatchId,
    answered: &Field<Digits<'_>>,
    drift: &mut Drift,
) -> Result<(), ProviderError> {
    match answered.digits(drift, DriftField::Id) {
        None => {
            drift.add(DriftField::Id);
            Ok(())
        }
        Some(answered) if answered == asked.as_str() => Ok(()),
        // A UUID means the same in either case, RFC 9562 4.
        Some(answered)
            if answered.eq_ignore_ascii_case(asked.as_str()) && Uuid::try_parse(answered).is_ok() =>
        {
            Ok(())
        }
        Some(_) => Err(ProviderError::permanent(
            ProviderErrorKind::Integrity,
            "the answer is about another batch; nothing of it was kept",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A slug is a path segment, a settings key, part of an environment variable and a label.
    #[test]
    fn slugs_fit_wherever_they_are_used() {
        let slugs: BTreeSet<_> = VENDORS.iter().map(|vendor| vendor.info.slug).collect();
        assert_eq!(slugs.len(), VENDORS.len(), "slugs must be unique");
        for vendor in VENDORS {
            let slug = vendor.info.slug;
            let first = slug.starts_with(|c: char| c.is_ascii_lowercase());
            assert!(first && slug.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{slug}");
            assert_eq!(vendor.simulator.slug, slug);
        }
    }
}
