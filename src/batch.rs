//! The common schema: what a batch is, whichever vendor it came from.
//!
//! Pure data: no I/O, no clock, no vendor. Every field that a vendor did not fill is absent from the JSON,
//! never `null` and never an empty string. Enumerations are *open*: a reader must accept words that are
//! added later.

mod amount;
mod country;
mod drift;
mod id;
mod person_text;
mod personal;
mod phone;
mod phone_text;
mod placement;
mod record;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

pub use self::amount::{Amount, InvalidAmount};
pub use self::country::Country;
pub use self::drift::{Drift, DriftField};
pub use self::id::{BatchId, InvalidBatchId, SubmissionId};
pub(crate) use self::person_text::{company_domain, profile_url, visible_text};
pub use self::personal::Personal;
pub use self::phone::{E164, Phone, snake_case};
pub use self::phone_text::{NotANumber, Written, clean_number};
pub use self::record::{Input, Record};

/// One batch of a vendor in the common schema.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
#[schema(
    description = "One batch of a vendor in the common schema. A field that the vendor did not fill is \
                        absent, never `null`."
)]
pub struct Batch {
    /// Slug of the vendor, as in the path.
    pub provider: &'static str,
    /// The vendor's own id of the batch.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub id: BatchId,
    /// What the vendor does: it finds numbers, or it validates them.
    pub kind: Kind,
    /// Where the batch stands.
    pub status: Status,
    /// Whether the batch has come to its end: nothing will change after this.
    pub done: bool,
    /// The vendor's own word for the status.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider_status: String,
    /// Why the batch is in this status, in `snake_case`, where the vendor gives a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "max_processing_time_reached")]
    pub reason: Option<String>,
    /// The gateway's id of the submission, for a batch that was submitted through it: `/submissions/{submission_id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub submission_id: Option<SubmissionId>,
    /// The caller's reference of the whole batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The caller's own data of the whole batch, as the vendor gave it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub custom: Option<Personal<serde_json::Map<String, serde_json::Value>>>,
    /// How far the vendor is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How many records ended with each outcome; known once the batch is done.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Option<BTreeMap<String, u64>>, example = json!({"found": 2}))]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// What the vendor charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// The options that the batch was submitted with.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// When the vendor took the batch, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub submitted_at: Option<Timestamp>,
    /// When the vendor began to work on it, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When the vendor ended it, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Until when the vendor keeps the results, RFC 3339 in UTC; absent where it names no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub results_expire_at: Option<Timestamp>,
    /// When the vendor gave this answer, RFC 3339 in UTC.
    #[schema(value_type = String, format = DateTime)]
    pub retrieved_at: Timestamp,
    /// What a reader should know before relying on this document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<Warning>>)]
    pub warnings: Vec<Warning>,
    /// One entry for each record, in the order of submission, then those that match no record; absent until results are
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<Vec<BatchResult>>,
    /// How many records ended with each outcome by the vendor's own count.
    #[serde(skip)]
    pub reported: BTreeMap<Outcome, u64>,
    /// Whether the vendor says that the batch has ended, and does not have its results yet.
    #[serde(skip)]
    pub awaits_results: bool,
    /// What the answer had that this schema does not understand.
    #[serde(skip)]
    pub drift: Drift,
}

/// Without what the caller and the vendor wrote: it may hold anything.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("provider", &self.provider)
            .field("id", &self.id)
            .field("status", &self.status)
            .field("results", &self.results.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// The batch as it is while its results are not there yet, although the vendor says that it has ended.
    #[must_use]
    pub fn into_running(self) -> Self {
        Self { status: Status::Running, done: false, ended_at: None, awaits_results: true, ..self }
    }

    /// A batch whose results the vendor still did not have after all this time: it ends without them.
    #[must_use]
    pub fn into_completed_without_results(self) -> Self {
        let mut batch = Self { status: Status::Completed, done: true, awaits_results: false, ..self };
        batch.warnings.push(Warning::ResultsIncomplete);
        batch
    }

    /// How many results belong to a record.
    #[must_use]
    pub fn matched_results(&self) -> u64 {
        let requested = self.progress.map(|progress| progress.requested);
        let is_ordered = |index: u64| requested.is_none_or(|requested| index < requested);
        self.results.iter().flatten().filter(|result| result.index.is_some_and(is_ordered)).count() as u64
    }

    /// Whether results may still come although the vendor says that the batch is completed.
    #[must_use]
    pub fn awaits_missing_results(&self) -> bool {
        self.awaits_results || (self.status == Status::Completed && !self.is_final())
    }

    /// Whether every record has its result, and nothing else came: this document never changes.
    #[must_use]
    pub fn is_final(&self) -> bool {
        use Warning::{ResultsIncomplete, ResultsUnmatched};
        let lacks =
            [ResultsIncomplete, ResultsUnmatched].iter().any(|warning| self.warnings.contains(warning));
        self.status == Status::Completed && !lacks && self.progress.is_some()
    }
}

/// What a vendor does with a record. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person in, a phone number out.
    Finding,
    /// A phone number in, a verdict out.
    Validation,
}

/// Where a batch stands. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Taken by the vendor, not begun.
    Queued,
    /// The vendor is at work.
    Running,
    /// Every record was handled.
    Completed,
    /// Ended before every record was handled.
    Stopped,
    /// The vendor gave up on the batch.
    Failed,
    /// The vendor used a word that this schema does not know; it stands in `provider_status`.
    Unknown,
}

impl Status {
    /// The word in JSON and in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// All statuses.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Completed, Self::Stopped, Self::Failed, Self::Unknown];

    /// Whether a batch in this status has come to its end.
    #[must_use]
    pub const fn is_done(self) -> bool {
        match self {
            Self::Completed | Self::Stopped | Self::Failed => true,
            Self::Queued | Self::Running | Self::Unknown => false,
        }
    }
}

/// How one record ended. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A number of the person was found.
    Found,
    /// No number of the person was found.
    NotFound,
    /// The number is real and reachable.
    Valid,
    /// The number is real and cannot be reached now; see `reason`.
    Unreachable,
    /// The number is not one; see `reason`.
    Invalid,
    /// The vendor could not tell; see `reason`.
    Inconclusive,
    /// The batch ended before this record was handled.
    Unprocessed,
    /// The vendor used a word that this schema does not know, or said `found` without a usable number.
    Unknown,
}

/// Why a record ended with its outcome. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Unreachable: the network confirms the number, it does not answer now.
    Absent,
    /// Unreachable: the line may not make or receive calls.
    NoVoiceService,
    /// Invalid: the number's format is wrong.
    BadFormat,
    /// Invalid: the network says that the number is dead.
    Dead,
    /// Inconclusive: the format is right, the network did not verify the number.
    NotVerified,
    /// Inconclusive: the network's live status cannot be found out.
    NoCoverage,
}

/// What a reader should know before relying on a batch. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// The batch has ended and the vendor delivered fewer results than were requested.
    ResultsIncomplete,
    /// The vendor delivered results that match no record. They are listed last, without `custom_id`.
    ResultsUnmatched,
    /// The vendor stated a cost that cannot be read: `cost` is missing or incomplete.
    CostUnreadable,
}

/// How far the vendor is, in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Progress {
    /// Records in the batch.
    pub requested: u64,
    /// Records that the vendor has handled; absent where it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processed: Option<u64>,
}

/// What the vendor charged, in its own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cost {
    /// Units charged. Vendors do not document whether a refund is already deducted, so both numbers are kept.
    #[schema(value_type = f64, minimum = 0, example = 80)]
    pub charged: Amount,
    /// Units refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0)]
    pub refunded: Option<Amount>,
    /// What is counted.
    pub unit: CostUnit,
}

/// What a vendor counts. Open enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostUnit {
    /// A credit of the vendor account.
    Credit,
}

/// The options that a batch was submitted with.
#[derive(Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Options {
    /// How `formatted` is written: `e164`, `plus_e164`, `national`, or the country whose dialling rules are
    /// followed (ISO 3166-1 alpha-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "plus_e164")]
    pub output_format: Option<String>,
    /// Country of the numbers that do not carry a country code, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "GB")]
    pub country: Option<Country>,
    /// Whether the date of the last porting was asked for (the vendor charges extra).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get_ported_date: Option<bool>,
    /// For which countries a live status beyond the standard one was asked for (the vendor charges extra).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplementary_live_status: Option<SupplementaryLiveStatus>,
    /// After how long the vendor stops the batch, ISO 8601 duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "PT25M")]
    pub max_processing_time: Option<String>,
}

/// Without the vendor's words.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

impl Options {
    /// Whether no option is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Countries, by type of line, for which a live status beyond the standard one was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SupplementaryLiveStatus {
    /// Countries of mobile numbers, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<String>>)]
    pub mobile: Vec<Country>,
    /// Countries of landline numbers, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["GB"]))]
    pub landline: Vec<Country>,
}

/// What the vendor said of one record.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BatchResult {
    /// Position of the record in the submission, from 0; absent for a result that matches no record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The caller's own id of the record, for a batch that was submitted through the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub custom_id: Option<Personal<String>>,
    /// How the record ended.
    pub outcome: Outcome,
    /// Why, where the vendor's word tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The vendor's own word for the outcome.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider_outcome: String,
    /// The number that was found or validated.
    #[serde(skip_serializing_if = "Phone::is_empty")]
    pub phone: Phone,
    /// The network that serves the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// Whether the number was moved to another network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ported: Option<bool>,
    /// When the number was last moved, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ported_at: Option<Timestamp>,
    /// The record as it was submitted.
    pub input: Input,
    /// What the vendor's result had that this schema does not understand.
    #[serde(skip)]
    pub drift: Drift,
}

/// Without the vendor's words and the data of persons.
impl fmt::Debug for BatchResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchResult")
            .field("index", &self.index)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl BatchResult {
    /// A result with only an outcome and the vendor's word for it.
    #[must_use]
    pub fn new(outcome: Outcome, word: &str) -> Self {
        Self {
            index: None,
            custom_id: None,
            outcome,
            reason: None,
            provider_outcome: word.to_owned(),
            phone: Phone::default(),
            carrier: None,
            ported: None,
            ported_at: None,
            input: Input::default(),
            drift: Drift::default(),
        }
    }
}

/// The network that serves a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Carrier {
    /// The operator and its network, as of now.
    #[serde(flatten)]
    pub network: Network,
    /// E-mail address that reaches the number as SMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub email_to_sms: Option<Personal<String>>,
    /// E-mail address that reaches the number as MMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub email_to_mms: Option<Personal<String>>,
    /// The network that the number was first registered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<OriginalNetwork>,
}

/// A mobile or landline network.
#[derive(Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Network {
    /// Name of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Rogers Wireless")]
    pub name: Option<String>,
    /// State of the network, the vendor's word in `snake_case`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "available")]
    pub network_status: Option<String>,
    /// Mobile country code and mobile network code, ITU-T E.212.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "302720")]
    pub mcc_mnc: Option<String>,
}

/// Without the vendor's words.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// The network that a number was first registered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct OriginalNetwork {
    /// The operator and its network.
    #[serde(flatten)]
    pub network: Network,
    /// Country of the network, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "CA")]
    pub country: Option<Country>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_personal_data() {
        let personal = |text: &str| Some(Personal(text.to_owned()));
        let result = BatchResult {
            phone: Phone {
                formatted: personal("570-555-1234"),
                ..Phone::read("+15705551234", Written::WithPlus, None)
            },
            input: Input { first_name: personal("Michael"), number: personal("5551234"), ..Input::default() },
            ..BatchResult::new(Outcome::Found, "found")
        };
        let raw = Phone::read("no number 5551234", Written::WithPlus, None);
        let shown = format!("{result:?} {raw:?}");
        assert!(result.phone.e164.is_some() && raw.raw.is_some());
        assert!(!shown.contains("555") && !shown.contains("Michael"), "{shown}");
    }

    pub(super) fn batch_of(status: Status) -> Batch {
        Batch {
            provider: "vendor",
            id: "b1".parse().unwrap(),
            kind: Kind::Finding,
            status,
            done: status.is_done(),
            provider_status: status.word().to_owned(),
            reason: None,
            submission_id: None,
            reference: None,
            custom: None,
            progress: Some(Progress { requested: 2, processed: None }),
            outcomes: BTreeMap::new(),
            cost: None,
            options: Options::default(),
            submitted_at: None,
            started_at: None,
            ended_at: None,
            results_expire_at: None,
            retrieved_at: Timestamp::UNIX_EPOCH,
            warnings: Vec::new(),
            results: None,
            reported: BTreeMap::new(),
            awaits_results: false,
            drift: Drift::default(),
        }
    }
}
