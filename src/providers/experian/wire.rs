//! Experian's own JSON and what it means in the common schema. Pure: no I/O, no clock.
//!
//! Every variant of Experian's public texts is read; see `README.md` beside this file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use jiff::SignedDuration;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::INFO;
use crate::batch::{
    Batch, BatchId, BatchResult, Carrier, Cost, CostUnit, Country, Input, Network, Options, OriginalNetwork,
    Outcome, Personal, Phone, Progress, Reason, Status, SubmissionId, SupplementaryLiveStatus, snake_case,
};
use crate::http::{ErrorForm, NO_CREDITS, ProviderError, ProviderErrorKind, REJECTED_KEY, Reply};
use crate::providers::error_body::{error_object, text};
use crate::providers::lenient::{
    Count, Text, json, owned, personal, said, status_word, submission_id, timestamp,
};
use crate::providers::rows::Rows;
use crate::providers::{Order, Recovered, new_batch_id, refused, require_same_batch};
use crate::submission::NewRecord;

/// Days for which a batch can be read.
pub(super) const RETENTION_DAYS: u16 = 28;

/// The batch of a reply to `GET /phone/bulk/v1/batches/{id}`, without results.
pub(super) fn batch(id: &BatchId, reply: &Reply) -> Result<Batch, ProviderError> {
    let Envelope { result, metadata } = read::<StatusResult<'_>>(reply, classify)?;
    require_same_batch(id, said(result.batch_id.as_ref()))?;
    let options = metadata.and_then(|metadata| metadata.batch_config).map(Options::from);
    Ok(Batch { options: options.unwrap_or_default(), ..status(id, &result, reply)? })
}

fn status(id: &BatchId, result: &StatusResult<'_>, reply: &Reply) -> Result<Batch, ProviderError> {
    let word = status_word(result.status.as_ref())?;
    let date = |date: Option<&Text<'_>>| said(date).and_then(timestamp);
    let submitted_at = date(result.date_submitted.as_ref());
    let retention = SignedDuration::from_hours(24 * i64::from(RETENTION_DAYS));
    let (requested, processed) = (result.records.0, result.records_processed.0);
    Ok(Batch {
        reason: said(result.reason.as_ref()).and_then(snake_case),
        submission_id: result.submission(),
        reference: owned(result.batch_reference_id.as_ref()),
        progress: requested.map(|requested| Progress { requested, processed }),
        submitted_at,
        started_at: date(result.date_started.as_ref()),
        ended_at: date(result.date_ended.as_ref()),
        results_expire_at: submitted_at.and_then(|at| at.checked_add(retention).ok()),
        ..INFO.batch(id, Status::from(Word(word)), word, reply)
    })
}

/// A batch that is done, with the results of a reply to `GET /phone/bulk/v1/batches/{id}/results`.
///
/// A completed batch whose results are not there yet is still running.
pub(super) fn with_results(mut batch: Batch, reply: &Reply) -> Result<Batch, ProviderError> {
    let Envelope { result, .. } = read::<ResultsResult<'_>>(reply, classify)?;
    require_same_batch(&batch.id, said(result.batch_id.as_ref()))?;
    let Rows(phones) = result.phones.ok_or_else(|| ProviderError::malformed("the answer has no results"))?;
    let ended = |word: &str| ["completed", "stopped"].iter().any(|end| word.eq_ignore_ascii_case(end));
    let still_running = said(result.status.as_ref()).is_some_and(|word| !ended(word));
    if still_running || (phones.is_empty() && batch.status == Status::Completed) {
        return Ok(batch.without_results_yet());
    }
    batch.cost =
        result.credits_charged.0.map(|charged| Cost { charged, refunded: None, unit: CostUnit::Credit });
    batch.reason = batch.reason.or_else(|| said(result.reason.as_ref()).and_then(snake_case));
    batch.retrieved_at = reply.received_at;
    let requested = batch.progress.map(|progress| progress.requested);
    let stated = result.statistics.map(Statistics::outcomes).unwrap_or_default();
    let number = |(index, NormalisedRow(result))| BatchResult { index, ..result };
    batch.set_results((0..).zip(phones).map(number).collect(), requested, stated)?;
    Ok(batch)
}

/// The batch that a reply to `POST /phone/bulk/v1/batches` says was created; it is not started.
pub(super) fn created(order: &Order<'_>, reply: &Reply) -> Result<Batch, ProviderError> {
    let Envelope { result, .. } = read::<StepResult<'_>>(reply, classify_write)?;
    let id = new_batch_id(said(result.batch_id.as_ref()))?;
    let word = said(result.status.as_ref()).unwrap_or_default();
    Ok(INFO.taken(order, &id, Status::Queued, word, reply))
}

/// A batch that was created, as a reply to `POST /phone/bulk/v1/batches/{id}/start` leaves it.
pub(super) fn started(batch: Batch, reply: &Reply) -> Result<Batch, ProviderError> {
    let Envelope { result, .. } = read::<StepResult<'_>>(reply, classify_write)?;
    require_same_batch(&batch.id, said(result.batch_id.as_ref()))?;
    let word = status_word(result.status.as_ref())?;
    let status = Status::from(Word(word));
    Ok(Batch {
        status,
        done: status.is_done(),
        provider_status: word.to_owned(),
        retrieved_at: reply.received_at,
        ..batch
    })
}

/// Whether a reply to `POST /phone/bulk/v1/batches/{id}/stop` says that the batch is stopped.
pub(super) fn stopped(reply: &Reply) -> Result<(), ProviderError> {
    if reply.is_success() { Ok(()) } else { Err(classify(reply)) }
}

/// The batch of each submission, in their order, in a reply to `GET /phone/bulk/v1/batches`: one that was started, else
/// the last that was created.
///
/// That it is not there, or not started, is said only of a list that could be read where it matters: money hangs on it.
pub(super) fn submitted_as(
    submissions: &[SubmissionId],
    reply: &Reply,
) -> Result<Vec<Recovered>, ProviderError> {
    const NO_ENTRY: ProviderError = ProviderError::malformed("the list of batches has an entry that is none");
    let Envelope { result, .. } = read::<ListResult<'_>>(reply, classify)?;
    let Rows(batches) =
        result.batches.ok_or(ProviderError::malformed("the answer has no list of batches"))?;
    let mut found: HashMap<SubmissionId, Vec<Result<Batch, ProviderError>>> =
        submissions.iter().map(|submission| (*submission, Vec::new())).collect();
    let mut unreadable = false;
    for entry in batches {
        match entry {
            Entry::Batch(entry) => {
                if let Some(found) = entry.submission().and_then(|submission| found.get_mut(&submission)) {
                    let id = new_batch_id(said(entry.batch_id.as_ref()));
                    found.push(id.and_then(|id| status(&id, &entry, reply)));
                }
            }
            // It may be anybody's.
            Entry::Other(_) => unreadable = true,
        }
    }
    let recovered = submissions.iter().map(|submission| {
        let mut found = found.remove(submission).unwrap_or_default();
        found.extend(unreadable.then_some(Err(NO_ENTRY)));
        of_one_submission(found)
    });
    Ok(recovered.collect())
}

/// A new batch is created only after the start of the one before was refused: a start can be under way for the last one
/// alone, and starting any other one besides would pay twice. Of equals, the last of the list is taken.
fn of_one_submission(found: Vec<Result<Batch, ProviderError>>) -> Recovered {
    let unreadable = found.iter().rev().find_map(|batch| batch.as_ref().err().copied());
    let found: Vec<_> = found.into_iter().flatten().collect();
    let dated = found.iter().all(|batch| batch.submitted_at.is_some());
    let last =
        found.into_iter().max_by_key(|batch| (is_started(batch), batch.submitted_at.filter(|_| dated)));
    let started = last.as_ref().is_some_and(is_started);
    unreadable.filter(|_| !started).map_or(Ok(last), Err)
}

/// Whether a batch was started for certain: an unknown word does not say so.
pub(super) const fn is_started(batch: &Batch) -> bool {
    !matches!(batch.status, Status::Queued | Status::Unknown)
}

fn read<'a, T: Deserialize<'a>>(
    reply: &'a Reply,
    classify: fn(&Reply) -> ProviderError,
) -> Result<Envelope<'a, T>, ProviderError> {
    if reply.is_success() { json(reply) } else { Err(classify(reply)) }
}

/// What an error reply to a reading call, or to stopping, means. A 400 has several causes; where its text names none of
/// the others, it is an unknown id, which may also be a 404.
fn classify(reply: &Reply) -> ProviderError {
    let (error, cause) = failure(reply);
    match (reply.status, cause) {
        (400, Some(cause)) => cause.explain(error),
        (400 | 404, _) => ProviderError {
            kind: ProviderErrorKind::BatchNotFound,
            detail: "the vendor has no such batch, or no longer: it keeps batches for 28 days",
            ..error
        },
        _ => error,
    }
}

/// What an error reply to creating or starting means. Where the text of a 400 names no other cause, it refuses the batch.
fn classify_write(reply: &Reply) -> ProviderError {
    let (error, cause) = failure(reply);
    match (reply.status, cause) {
        (400, None | Some(BadRequest::Expired)) => refused(error),
        (400, Some(cause)) => cause.explain(error),
        _ => error,
    }
}

/// What an error reply to any call means, and what the text of a 400 says. A 403 is a token that may not do this, or an
/// account without credits, and only the text can tell.
fn failure(reply: &Reply) -> (ProviderError, Option<BadRequest>) {
    let body = ErrorBody::of(reply);
    let error = ProviderError::from_status(reply, body.form);
    let error = match reply.status {
        403 if body.is_about_credits => {
            ProviderError { kind: ProviderErrorKind::CreditsExhausted, detail: NO_CREDITS, ..error }
        }
        408 => ProviderError {
            detail: "the vendor gave up waiting for the gateway's request",
            retryable: true,
            ..error
        },
        _ => error,
    };
    let retry_after = error.retry_after.or_else(|| reply.rate_limit_reset("x-rate-limit-reset"));
    (ProviderError { retry_after, ..error }, body.bad_request)
}

/// What the body of an error answer says.
struct ErrorBody {
    form: ErrorForm,
    is_about_credits: bool,
    bad_request: Option<BadRequest>,
}

impl ErrorBody {
    /// Experian's own form is `{error: {type, title, detail, instance}}` with any of these fields. "Some error bodies lack
    /// `error`": a 401 without it is Experian's if it has only these fields, or a `message`, because what stands between
    /// answers 403 where it blocks a call.
    fn of(reply: &Reply) -> Self {
        const FIELDS: [&str; 4] = ["type", "title", "detail", "instance"];
        let body = error_object(reply).unwrap_or_default();
        let error = body.get("error").and_then(serde_json::Value::as_object);
        let is_own = match error {
            Some(error) => FIELDS.iter().any(|field| error.contains_key(*field)),
            None => {
                reply.status == 401
                    && body.keys().all(|key| key == "message" || FIELDS.contains(&key.as_str()))
                    && ["title", "detail", "message"].iter().any(|field| text(&body, field).is_some())
            }
        };
        let said = |field| error.and_then(|error| text(error, field)).filter(|_| is_own);
        let is_about_credits = [said("title"), said("detail")]
            .iter()
            .flatten()
            .any(|text| text.to_ascii_lowercase().contains("credit"));
        Self {
            form: if is_own { ErrorForm::Vendor } else { ErrorForm::Foreign },
            is_about_credits,
            bad_request: said("detail").and_then(BadRequest::of),
        }
    }
}

/// A cause of a 400 that its `detail` names. The other causes (a bad id, a batch that was started before) and all texts
/// that are not understood are none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadRequest {
    /// The batch is older than 28 days.
    Expired,
    /// A header that the gateway wrote.
    Header,
    /// The body that the gateway wrote, or its absence.
    Body,
    /// No token was sent.
    NoToken,
}

impl BadRequest {
    /// The exact texts are not documented, apart from "The request body was malformed.": words decide.
    fn of(detail: &str) -> Option<Self> {
        let letters = detail.chars().filter(char::is_ascii_alphanumeric);
        let detail = letters.collect::<String>().to_ascii_lowercase();
        let names = |words: &[&str]| words.iter().any(|word| detail.contains(word));
        let names_token = names(&["token", "authentication", "authorization", "apikey"]);
        let is_wrong = names(&["malformed", "invalid", "notvalid", "notfound", "unknown", "notexist"]);
        if names(&["28days"])
            || (names(&["expired", "older", "tooold", "retention"]) && !names_token && !is_wrong)
        {
            Some(Self::Expired)
        } else if names(&["batchid"]) {
            None
        } else if names(&["addmetadata"]) || (names(&["referenceid"]) && !names(&["batchreferenceid"])) {
            Some(Self::Header)
        } else if names(&["json", "unexpectedtoken"])
            || (names(&["body", "payload"]) && (is_wrong || names(&["empty", "missing", "required"])))
            || (names(&["malformed"]) && !names_token)
        {
            Some(Self::Body)
        } else {
            names_token.then_some(Self::NoToken)
        }
    }

    /// The error with this cause.
    const fn explain(self, error: ProviderError) -> ProviderError {
        use ProviderErrorKind::{Credentials, Expired, InvalidRequest};
        let (kind, detail) = match self {
            Self::Expired => (Expired, "the batch is past the 28 days for which the vendor keeps it"),
            Self::Header => (
                InvalidRequest,
                "the vendor rejects a header of the gateway's request: a defect of the gateway",
            ),
            Self::Body => (
                InvalidRequest,
                "the vendor rejects the form of the gateway's request: a defect of the gateway",
            ),
            Self::NoToken => (Credentials, REJECTED_KEY.detail),
        };
        ProviderError { kind, detail, ..error }
    }
}

/// The body of `POST /phone/bulk/v1/batches`.
#[derive(Serialize)]
pub(super) struct NewBatch<'a> {
    defaults: Defaults<'a>,
    phones: Vec<NewPhone<'a>>,
}

#[derive(Serialize)]
struct Defaults<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    output_format: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country_iso: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    get_ported_date: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplementary_live_status: Option<NewLiveStatus>,
    /// Our own id, and behind it the caller's reference.
    batch_reference_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_processing_time: Option<&'a str>,
}

#[derive(Serialize)]
struct NewLiveStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mobile: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    landline: Vec<&'static str>,
}

#[derive(Serialize)]
struct NewPhone<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<&'a Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country_iso: Option<&'static str>,
}

impl<'a> From<&Order<'a>> for NewBatch<'a> {
    fn from(order: &Order<'a>) -> Self {
        let options = &order.batch.options;
        let codes = |countries: &[Country]| countries.iter().map(|country| country.alpha3()).collect();
        let defaults = Defaults {
            output_format: options.output_format.as_deref().map(output_format),
            country_iso: options.country.map(Country::alpha3),
            get_ported_date: options.get_ported_date,
            supplementary_live_status: options.supplementary_live_status.as_ref().map(|asked| {
                NewLiveStatus { mobile: codes(&asked.mobile), landline: codes(&asked.landline) }
            }),
            batch_reference_id: match &order.batch.reference {
                Some(Personal(reference)) => format!("{} {reference}", order.submission),
                None => order.submission.to_string(),
            },
            max_processing_time: options.max_processing_time.as_deref(),
        };
        Self { defaults, phones: order.batch.records.iter().map(NewPhone::from).collect() }
    }
}

impl<'a> From<&'a NewRecord> for NewPhone<'a> {
    fn from(record: &'a NewRecord) -> Self {
        Self { number: record.input.number.as_ref(), country_iso: record.country.map(Country::alpha3) }
    }
}

/// `E164`, `PLUS_E164`, `NATIONAL` or a country.
fn output_format(format: &str) -> Cow<'static, str> {
    Country::from_alpha2(format)
        .map_or_else(|| format.to_ascii_uppercase().into(), |country| country.alpha3().into())
}

#[derive(Deserialize)]
struct Envelope<'a, T> {
    result: T,
    #[serde(borrow)]
    metadata: Option<StatusMetadata<'a>>,
}

#[derive(Deserialize)]
struct StatusResult<'a> {
    #[serde(borrow)]
    batch_id: Option<Text<'a>>,
    batch_reference_id: Option<Text<'a>>,
    status: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    #[serde(default)]
    records: Count,
    #[serde(default)]
    records_processed: Count,
    date_submitted: Option<Text<'a>>,
    date_started: Option<Text<'a>>,
    date_ended: Option<Text<'a>>,
}

impl StatusResult<'_> {
    /// The submission that the batch came of: its reference begins with our own id.
    fn submission(&self) -> Option<SubmissionId> {
        said(self.batch_reference_id.as_ref())?.split(' ').next().and_then(submission_id)
    }
}

/// The reply to one step of a batch's life.
#[derive(Deserialize)]
struct StepResult<'a> {
    #[serde(borrow)]
    batch_id: Option<Text<'a>>,
    status: Option<Text<'a>>,
}

/// Most batches of the list, which has those of 28 days.
const MOST_BATCHES: usize = 200_000;

#[derive(Deserialize)]
struct ListResult<'a> {
    #[serde(borrow)]
    batches: Option<Rows<Entry<'a>, MOST_BATCHES>>,
}

/// One batch of the list; one that cannot be read does not spoil the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry<'a> {
    Batch(#[serde(borrow)] StatusResult<'a>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct StatusMetadata<'a> {
    #[serde(borrow)]
    batch_config: Option<BatchConfig<'a>>,
}

#[derive(Deserialize)]
struct BatchConfig<'a> {
    #[serde(borrow)]
    output_format: Option<Text<'a>>,
    country_iso: Option<Text<'a>>,
    get_ported_date: Option<bool>,
    supplementary_live_status: Option<LiveStatus<'a>>,
    max_processing_time: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct LiveStatus<'a> {
    #[serde(borrow)]
    mobile: Option<Vec<Text<'a>>>,
    landline: Option<Vec<Text<'a>>>,
}

#[derive(Deserialize)]
struct ResultsResult<'a> {
    #[serde(borrow)]
    batch_id: Option<Text<'a>>,
    status: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    #[serde(default)]
    credits_charged: Count,
    statistics: Option<Statistics<'a>>,
    phones: Option<Rows<NormalisedRow>>,
}

/// An array of names and values; an object in the documentation page.
#[derive(Deserialize)]
#[serde(untagged)]
enum Statistics<'a> {
    List(#[serde(borrow)] Vec<Statistic<'a>>),
    Object(BTreeMap<String, Count>),
}

#[derive(Deserialize)]
struct Statistic<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(default)]
    value: Count,
}

impl Statistics<'_> {
    fn outcomes(self) -> BTreeMap<Outcome, u64> {
        let figures: Vec<(Text<'_>, Count)> = match self {
            Self::List(list) => {
                list.into_iter().map(|one| (one.name.unwrap_or_default(), one.value)).collect()
            }
            Self::Object(object) => object.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        };
        let mut outcomes = BTreeMap::new();
        for (name, value) in figures {
            if let Some(count) = value.0.filter(|count| *count > 0) {
                *outcomes.entry(verdict(name.as_ref()).0).or_default() += count;
            }
        }
        outcomes
    }
}

/// A row that was normalised as soon as it was read, so that the rows as the vendor writes them, which are larger,
/// are not all in memory as well. Its index is set later.
struct NormalisedRow(BatchResult);

impl<'de> Deserialize<'de> for NormalisedRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PhoneRow::deserialize(deserializer).map(|row| Self(row.into()))
    }
}

#[derive(Deserialize)]
struct PhoneRow<'a> {
    #[serde(borrow)]
    number: Option<Text<'a>>,
    validated_phone_number: Option<Text<'a>>,
    formatted_phone_number: Option<Text<'a>>,
    phone_type: Option<Text<'a>>,
    confidence: Option<Text<'a>>,
    ported_date: Option<Text<'a>>,
    disposable_number: Option<Text<'a>>,
    metadata: Option<PhoneMetadata<'a>>,
}

#[derive(Default, Deserialize)]
struct PhoneMetadata<'a> {
    #[serde(borrow)]
    original_operator_name: Option<Text<'a>>,
    original_network_status: Option<Text<'a>>,
    original_home_network_identity: Option<Text<'a>>,
    original_country_iso: Option<Text<'a>>,
    operator_name: Option<Text<'a>>,
    network_status: Option<Text<'a>>,
    home_network_identity: Option<Text<'a>>,
    country_iso: Option<Text<'a>>,
    is_ported: Option<Text<'a>>,
    email_to_sms_address: Option<Text<'a>>,
    email_to_mms_address: Option<Text<'a>>,
}

/// A status word of Experian's, in whatever case.
struct Word<'a>(&'a str);

impl From<Word<'_>> for Status {
    fn from(Word(word): Word<'_>) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "submitted" => Self::Queued,
            "processing" => Self::Running,
            "completed" => Self::Completed,
            "stopped" => Self::Stopped,
            _ => Self::Unknown,
        }
    }
}

/// What a `confidence` word says.
fn verdict(confidence: &str) -> (Outcome, Option<Reason>) {
    const VERDICTS: [(&str, Outcome, Option<Reason>); 8] = [
        ("verified", Outcome::Valid, None),
        ("absent", Outcome::Unreachable, Some(Reason::Absent)),
        ("teleservice not provisioned", Outcome::Unreachable, Some(Reason::NoVoiceService)),
        ("unverified", Outcome::Invalid, Some(Reason::BadFormat)),
        ("dead", Outcome::Invalid, Some(Reason::Dead)),
        ("unknown", Outcome::Inconclusive, Some(Reason::NotVerified)),
        ("no coverage", Outcome::Inconclusive, Some(Reason::NoCoverage)),
        ("unprocessed", Outcome::Unprocessed, None),
    ];
    VERDICTS
        .iter()
        .find(|(word, ..)| word.eq_ignore_ascii_case(confidence))
        .map_or((Outcome::Unknown, None), |(_, outcome, reason)| (*outcome, *reason))
}

impl From<PhoneRow<'_>> for BatchResult {
    fn from(row: PhoneRow<'_>) -> Self {
        let metadata = row.metadata.unwrap_or_default();
        let word = said(row.confidence.as_ref()).unwrap_or_default();
        let (outcome, reason) = verdict(word);
        let yes = |text: Option<&Text<'_>>| said(text).is_some_and(|text| text.eq_ignore_ascii_case("yes"));
        let no = |text: Option<&Text<'_>>| said(text).is_some_and(|text| text.eq_ignore_ascii_case("no"));
        let phone = Phone {
            country: said(metadata.country_iso.as_ref()).and_then(Country::from_alpha3),
            line_type: said(row.phone_type.as_ref()).and_then(snake_case),
            formatted: personal(row.formatted_phone_number.as_ref()),
            disposable: yes(row.disposable_number.as_ref()).then_some(true),
            ..said(row.validated_phone_number.as_ref()).map(Phone::from_calling_code).unwrap_or_default()
        };
        let is_ported = metadata.is_ported.as_ref();
        Self {
            reason,
            phone,
            ported: if yes(is_ported) { Some(true) } else { no(is_ported).then_some(false) },
            // "not applicable" is not a date.
            ported_at: said(row.ported_date.as_ref()).and_then(timestamp),
            carrier: Some(Carrier::from(&metadata)).filter(|carrier| *carrier != Carrier::default()),
            input: Input { number: personal(row.number.as_ref()), ..Input::default() },
            ..Self::new(0, outcome, word)
        }
    }
}

impl From<&PhoneMetadata<'_>> for Carrier {
    fn from(metadata: &PhoneMetadata<'_>) -> Self {
        let original = OriginalNetwork {
            network: network(
                metadata.original_operator_name.as_ref(),
                metadata.original_network_status.as_ref(),
                metadata.original_home_network_identity.as_ref(),
            ),
            country: said(metadata.original_country_iso.as_ref()).and_then(Country::from_alpha3),
        };
        Self {
            network: network(
                metadata.operator_name.as_ref(),
                metadata.network_status.as_ref(),
                metadata.home_network_identity.as_ref(),
            ),
            email_to_sms: personal(metadata.email_to_sms_address.as_ref()),
            email_to_mms: personal(metadata.email_to_mms_address.as_ref()),
            original: Some(original).filter(|original| *original != OriginalNetwork::default()),
        }
    }
}

fn network(
    name: Option<&Text<'_>>,
    network_status: Option<&Text<'_>>,
    mcc_mnc: Option<&Text<'_>>,
) -> Network {
    Network {
        name: owned(name),
        network_status: said(network_status).and_then(snake_case),
        mcc_mnc: owned(mcc_mnc),
    }
}

impl From<BatchConfig<'_>> for Options {
    fn from(config: BatchConfig<'_>) -> Self {
        let countries = |codes: Option<Vec<Text<'_>>>| -> Vec<Country> {
            codes.iter().flatten().filter_map(|code| Country::from_alpha3(code.as_ref())).collect()
        };
        let live_status = config.supplementary_live_status.map(|asked| SupplementaryLiveStatus {
            mobile: countries(asked.mobile),
            landline: countries(asked.landline),
        });
        Self {
            output_format: said(config.output_format.as_ref()).map(|format| {
                Country::from_alpha3(format)
                    .map_or_else(|| format.to_ascii_lowercase(), |country| country.alpha2().to_owned())
            }),
            country: said(config.country_iso.as_ref()).and_then(Country::from_alpha3),
            get_ported_date: config.get_ported_date,
            supplementary_live_status: live_status
                .filter(|asked| *asked != SupplementaryLiveStatus::default()),
            max_processing_time: owned(config.max_processing_time.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests;
