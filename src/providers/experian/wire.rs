//! Experian's own JSON and what it means in the common schema. Pure: no I/O, no clock.
//!
//! Every variant of Experian's public texts is read; see `README.md` beside this file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::INFO;
use crate::batch::{
    Amount, Batch, BatchId, BatchResult, Carrier, Cost, CostUnit, Country, Drift, DriftField, Input, Network,
    Options, OriginalNetwork, Outcome, Personal, Phone, Progress, Reason, Record, Status, SubmissionId,
    SupplementaryLiveStatus, Warning, Written, snake_case,
};
use crate::http::{ErrorForm, NO_CREDITS, ProviderError, ProviderErrorKind, REJECTED_KEY, Reply};
use crate::providers::decode::{
    BoundedVec, Digits, Document, Field, Object, Text, amount, country, meaning, status_of, status_word,
    submission_id, value,
};
use crate::providers::error_body::{error_object, text};
use crate::providers::{Order, Recovered, RunningBatch, new_batch_id, refused, require_same_batch};

/// Days for which a batch can be read.
pub(super) const RETENTION_DAYS: u16 = 28;

/// Longest `statistics` and `supplementary_live_status` that are read, in bytes.
const MAX_EXTRAS: usize = 64 * 1024;
/// How much earlier than its submission a batch may be dated: the vendor's dates need not have an offset.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// The batch of a reply to `GET /phone/bulk/v1/batches/{id}`, without results.
pub(super) fn batch(id: &BatchId, reply: &Reply) -> Result<Batch, ProviderError> {
    let document = successful(reply, classify)?;
    let envelope: Envelope<'_, StatusResult<'_>> = document.read()?;
    let mut drift = Drift::default();
    let Object(result) = envelope.result.value().unwrap_or_default();
    require_same_batch(id, &result.batch_id, &mut drift)?;
    let metadata = envelope.metadata.read(&mut drift, DriftField::Options).map(|Object(metadata)| metadata);
    let config = metadata.and_then(|metadata| metadata.batch_config.read(&mut drift, DriftField::Options));
    let options = config.map(|Object(config)| config.options(&mut drift)).unwrap_or_default();
    let mut batch = Batch { options, ..status(id, &result, reply)? };
    batch.drift.merge(drift);
    Ok(batch)
}

fn status(id: &BatchId, result: &StatusResult<'_>, reply: &Reply) -> Result<Batch, ProviderError> {
    let word = status_word(&result.status)?;
    let mut drift = Drift::default();
    let submitted_at = result.date_submitted.date(&mut drift);
    let retention = SignedDuration::from_hours(24 * i64::from(RETENTION_DAYS));
    let requested = result.records.read(&mut drift, DriftField::Progress);
    let processed = result.records_processed.read(&mut drift, DriftField::Progress);
    let batch = INFO.batch(id, status_of(&STATUSES, word), word, reply);
    drift.merge(batch.drift);
    Ok(Batch {
        reason: result.reason.text(&mut drift, DriftField::Status).and_then(snake_case),
        submission_id: result.submission(),
        reference: result.batch_reference_id.digits(&mut drift, DriftField::Custom).map(str::to_owned),
        progress: requested.map(|requested| Progress { requested, processed }),
        submitted_at,
        started_at: result.date_started.date(&mut drift),
        ended_at: result.date_ended.date(&mut drift),
        results_expire_at: submitted_at.and_then(|at| at.checked_add(retention).ok()),
        drift,
        ..batch
    })
}

/// A batch that is done, with the results of a reply to `GET /phone/bulk/v1/batches/{id}/results`.
///
/// A completed batch whose results are not there yet is still running.
pub(super) fn with_results(mut batch: Batch, reply: &Reply) -> Result<Batch, ProviderError> {
    let document = successful(reply, classify)?;
    let envelope: Envelope<'_, ResultsResult<'_>> = document.read()?;
    let mut drift = Drift::default();
    let Object(result) = envelope.result.value().unwrap_or_default();
    require_same_batch(&batch.id, &result.batch_id, &mut drift)?;
    let BoundedVec(phones) =
        result.phones.value().ok_or_else(|| ProviderError::malformed("the answer has no list of results"))?;
    let status = result.status.text(&mut drift, DriftField::Status).map(|word| status_of(&STATUSES, word));
    if status == Some(Status::Unknown) {
        drift.add(DriftField::Status);
    }
    // The status call said that the batch is done: an unknown word here does not contradict it.
    let still_running = matches!(status, Some(Status::Queued | Status::Running));
    let reason = result.reason.text(&mut drift, DriftField::Status).and_then(snake_case);
    let charged = amount(result.credits_charged, &mut drift);
    batch.reported = reported(result.statistics, &mut drift);
    batch.retrieved_at = reply.received_at;
    let cost_is_unreadable = drift.fields().any(|field| field == DriftField::Cost);
    batch.drift.merge(drift);
    if still_running {
        return Ok(batch.into_running());
    }
    let awaits_results = phones.is_empty() && batch.status == Status::Completed;
    // Nothing charged so far says nothing while the results are not there.
    let charged = charged.filter(|charged| !awaits_results || *charged > Amount::default());
    batch.cost = charged.map(|charged| Cost { charged, refunded: None, unit: CostUnit::Credit });
    batch.warnings.extend(cost_is_unreadable.then_some(Warning::CostUnreadable));
    if awaits_results {
        return Ok(batch.into_running());
    }
    batch.reason = batch.reason.or(reason);
    let at = |(index, NormalisedRow(result))| BatchResult { index: Some(index), ..result };
    batch.results = Some((0..).zip(phones).map(at).collect());
    Ok(batch)
}

/// The batch that a reply to `POST /phone/bulk/v1/batches` says was created; it is not started.
pub(super) fn created(order: &Order<'_>, reply: &Reply) -> Result<Batch, ProviderError> {
    let document = successful(reply, classify_write)?;
    let Object(result) = document.read::<Envelope<'_, StepResult<'_>>>()?.result.value().unwrap_or_default();
    let id = new_batch_id(&result.batch_id)?;
    let word = result.status.text(&mut Drift::default(), DriftField::Status).unwrap_or_default();
    Ok(INFO.taken(order, &id, Status::Queued, word, reply))
}

/// A batch that was created, as a reply to `POST /phone/bulk/v1/batches/{id}/start` leaves it.
pub(super) fn started(batch: Batch, reply: &Reply) -> Result<Batch, ProviderError> {
    let document = successful(reply, classify_write)?;
    let Object(result) = document.read::<Envelope<'_, StepResult<'_>>>()?.result.value().unwrap_or_default();
    require_same_batch(&batch.id, &result.batch_id, &mut Drift::default())?;
    let word = status_word(&result.status)?;
    let status = status_of(&STATUSES, word);
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
    let document = successful(reply, classify)?;
    let batches = list(&document)?;
    let mut found: HashMap<SubmissionId, Vec<Result<Batch, ProviderError>>> =
        submissions.iter().map(|submission| (*submission, Vec::new())).collect();
    let mut latest_odd = None;
    for entry in batches {
        match entry.value() {
            Some(Object(entry)) if !matches!(entry.batch_reference_id, Field::Odd) => {
                if let Some(found) = entry.submission().and_then(|submission| found.get_mut(&submission)) {
                    let id = new_batch_id(&entry.batch_id);
                    found.push(id.and_then(|id| status(&id, &entry, reply)));
                }
            }
            // It may be any submission's that is not younger.
            entry => {
                let date = entry.and_then(|Object(entry)| entry.date_submitted.date(&mut Drift::default()));
                latest_odd = latest_odd.max(Some(date.unwrap_or(Timestamp::MAX)));
            }
        }
    }
    let recovered = submissions.iter().map(|submission| {
        let mut found = found.remove(submission).unwrap_or_default();
        let earliest = submission.created_at().and_then(|created| created.checked_sub(CLOCK_TOLERANCE).ok());
        let may_be_own = latest_odd.is_some_and(|odd| earliest.is_none_or(|earliest| odd >= earliest));
        found.extend(may_be_own.then_some(Err(NO_ENTRY)));
        of_one_submission(found)
    });
    Ok(recovered.collect())
}

/// The batches that are queued or running in a reply to `GET /phone/bulk/v1/batches`. A batch that is listed twice is none
/// of them unless both entries say the same of it.
pub(super) fn running(reply: &Reply) -> Result<HashMap<BatchId, RunningBatch>, ProviderError> {
    let document = successful(reply, classify)?;
    let mut running: HashMap<BatchId, Option<RunningBatch>> = HashMap::new();
    for entry in list(&document)? {
        let Some(Object(entry)) = entry.value() else { continue };
        let Ok(id) = new_batch_id(&entry.batch_id) else { continue };
        let batch = status(&id, &entry, reply).ok();
        let batch = batch.filter(|batch| matches!(batch.status, Status::Queued | Status::Running));
        let batch = batch.map(|batch| RunningBatch {
            status: batch.status,
            progress: batch.progress,
            since: batch.started_at.or(batch.submitted_at),
        });
        let known = running.entry(id).or_insert(batch);
        if *known != batch {
            *known = None;
        }
    }
    Ok(running.into_iter().filter_map(|(id, batch)| Some((id, batch?))).collect())
}

fn list<'a>(document: &'a Document<'_>) -> Result<Vec<Field<Object<StatusResult<'a>>>>, ProviderError> {
    const NO_LIST: ProviderError = ProviderError::malformed("the answer has no list of batches");
    let Object(result) = document.read::<Envelope<'_, ListResult<'_>>>()?.result.value().unwrap_or_default();
    let BoundedVec(batches) = result.batches.value().ok_or(NO_LIST)?;
    Ok(batches)
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

fn successful(reply: &Reply, classify: fn(&Reply) -> ProviderError) -> Result<Document<'_>, ProviderError> {
    if reply.is_success() { Document::of(reply) } else { Err(classify(reply)) }
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

impl<'a> From<&'a Record> for NewPhone<'a> {
    fn from(record: &'a Record) -> Self {
        Self { number: record.sent().number.as_ref(), country_iso: record.country.map(Country::alpha3) }
    }
}

/// `E164`, `PLUS_E164`, `NATIONAL` or a country.
fn output_format(format: &str) -> Cow<'static, str> {
    Country::from_code(format)
        .map_or_else(|| format.to_ascii_uppercase().into(), |country| country.alpha3().into())
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Envelope<'a, T> {
    #[serde(default = "absent")]
    result: Field<Object<T>>,
    #[serde(borrow, default)]
    metadata: Field<Object<StatusMetadata<'a>>>,
}

const fn absent<T>() -> Field<T> {
    Field::Absent
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusResult<'a> {
    #[serde(borrow)]
    batch_id: Field<Digits<'a>>,
    #[serde(borrow)]
    batch_reference_id: Field<Digits<'a>>,
    #[serde(borrow)]
    status: Field<Text<'a>>,
    #[serde(borrow)]
    reason: Field<Text<'a>>,
    records: Field<u64>,
    records_processed: Field<u64>,
    #[serde(borrow)]
    date_submitted: Field<Text<'a>>,
    #[serde(borrow)]
    date_started: Field<Text<'a>>,
    #[serde(borrow)]
    date_ended: Field<Text<'a>>,
}

impl StatusResult<'_> {
    /// The submission that the batch came of: its reference begins with our own id.
    fn submission(&self) -> Option<SubmissionId> {
        let reference = self.batch_reference_id.digits(&mut Drift::default(), DriftField::Custom)?;
        reference.split(' ').next().and_then(submission_id)
    }
}

/// The reply to one step of a batch's life.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StepResult<'a> {
    #[serde(borrow)]
    batch_id: Field<Digits<'a>>,
    #[serde(borrow)]
    status: Field<Text<'a>>,
}

/// Most batches of the list, which has those of 28 days.
const MAX_BATCHES: usize = 200_000;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListResult<'a> {
    #[serde(borrow)]
    batches: Field<BoundedVec<Field<Object<StatusResult<'a>>>, MAX_BATCHES>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusMetadata<'a> {
    #[serde(borrow)]
    batch_config: Field<Object<BatchConfig<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BatchConfig<'a> {
    #[serde(borrow)]
    output_format: Field<Text<'a>>,
    #[serde(borrow)]
    country_iso: Field<Text<'a>>,
    get_ported_date: Field<bool>,
    /// An object in the sample, a string in the table of fields.
    #[serde(borrow)]
    supplementary_live_status: Option<&'a RawValue>,
    #[serde(borrow)]
    max_processing_time: Field<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResultsResult<'a> {
    #[serde(borrow)]
    batch_id: Field<Digits<'a>>,
    #[serde(borrow)]
    status: Field<Text<'a>>,
    #[serde(borrow)]
    reason: Field<Text<'a>>,
    #[serde(borrow)]
    credits_charged: Option<&'a RawValue>,
    /// A list of names and values; an object in the documentation page.
    #[serde(borrow)]
    statistics: Option<&'a RawValue>,
    phones: Field<BoundedVec<NormalisedRow>>,
}

/// How many records ended with each outcome, by the vendor's own count.
fn reported(statistics: Option<&RawValue>, drift: &mut Drift) -> BTreeMap<Outcome, u64> {
    let counts: Vec<(String, Value)> = match value(statistics, b"[{", MAX_EXTRAS, drift, DriftField::Progress)
    {
        Value::Array(list) => {
            let entry = |mut entry: Value| {
                Some((entry.get("name")?.as_str()?.to_owned(), entry.get_mut("value")?.take()))
            };
            list.into_iter().filter_map(entry).collect()
        }
        Value::Object(object) => object.into_iter().collect(),
        _ => Vec::new(),
    };
    let mut outcomes = BTreeMap::new();
    for (name, count) in counts {
        let count = Field::<u64>::deserialize(count).unwrap_or_default().read(drift, DriftField::Progress);
        if let Some(count) = count.filter(|count| *count > 0) {
            let total: &mut u64 = outcomes.entry(verdict(&name).0).or_default();
            *total = total.saturating_add(count);
        }
    }
    outcomes
}

/// A row that is normalised as soon as it is read: the rows as the vendor writes them take more memory. Its index is
/// set later.
struct NormalisedRow(BatchResult);

impl<'de> Deserialize<'de> for NormalisedRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Field::<Object<PhoneRow<'_>>>::deserialize(deserializer).map(|row| Self(result(row)))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PhoneRow<'a> {
    #[serde(borrow)]
    number: Field<Digits<'a>>,
    #[serde(borrow)]
    validated_phone_number: Field<Digits<'a>>,
    #[serde(borrow)]
    formatted_phone_number: Field<Digits<'a>>,
    #[serde(borrow)]
    phone_type: Field<Text<'a>>,
    #[serde(borrow)]
    confidence: Field<Text<'a>>,
    #[serde(borrow)]
    ported_date: Field<Text<'a>>,
    #[serde(borrow)]
    disposable_number: Field<Text<'a>>,
    #[serde(borrow)]
    metadata: Field<Object<PhoneMetadata<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PhoneMetadata<'a> {
    #[serde(borrow)]
    original_operator_name: Field<Text<'a>>,
    #[serde(borrow)]
    original_network_status: Field<Text<'a>>,
    #[serde(borrow)]
    original_home_network_identity: Field<Digits<'a>>,
    #[serde(borrow)]
    original_country_iso: Field<Text<'a>>,
    #[serde(borrow)]
    operator_name: Field<Text<'a>>,
    #[serde(borrow)]
    network_status: Field<Text<'a>>,
    #[serde(borrow)]
    home_network_identity: Field<Digits<'a>>,
    #[serde(borrow)]
    country_iso: Field<Text<'a>>,
    is_ported: Field<bool>,
    #[serde(borrow)]
    email_to_sms_address: Field<Text<'a>>,
    #[serde(borrow)]
    email_to_mms_address: Field<Text<'a>>,
}

const STATUSES: [(&str, Status); 4] = [
    ("submitted", Status::Queued),
    ("processing", Status::Running),
    ("completed", Status::Completed),
    ("stopped", Status::Stopped),
];

/// What a `confidence` word says.
fn verdict(confidence: &str) -> (Outcome, Option<Reason>) {
    const VERDICTS: [(&str, (Outcome, Option<Reason>)); 8] = [
        ("verified", (Outcome::Valid, None)),
        ("absent", (Outcome::Unreachable, Some(Reason::Absent))),
        ("teleservice not provisioned", (Outcome::Unreachable, Some(Reason::NoVoiceService))),
        ("unverified", (Outcome::Invalid, Some(Reason::BadFormat))),
        ("dead", (Outcome::Invalid, Some(Reason::Dead))),
        ("unknown", (Outcome::Inconclusive, Some(Reason::NotVerified))),
        ("no coverage", (Outcome::Inconclusive, Some(Reason::NoCoverage))),
        ("unprocessed", (Outcome::Unprocessed, None)),
    ];
    meaning(&VERDICTS, confidence).unwrap_or((Outcome::Unknown, None))
}

fn result(row: Field<Object<PhoneRow<'_>>>) -> BatchResult {
    let mut drift = Drift::default();
    let Object(row) = row.read(&mut drift, DriftField::Result).unwrap_or_default();
    let Object(metadata) = row.metadata.read(&mut drift, DriftField::Line).unwrap_or_default();
    let word = row.confidence.text(&mut drift, DriftField::Outcome).unwrap_or_default();
    let (outcome, reason) = verdict(word);
    if outcome == Outcome::Unknown {
        drift.add(DriftField::Outcome);
    }
    let line_type = row.phone_type.text(&mut drift, DriftField::Line).and_then(snake_case);
    let country = metadata.country_iso.country(&mut drift);
    // It is filled for texts that are no numbers, too.
    let bad_format = reason == Some(Reason::BadFormat) || line_type.as_deref() == Some("bad_format");
    let number = row.validated_phone_number.digits(&mut drift, DriftField::Number);
    let phone = match number {
        Some(text) if bad_format => Phone::raw(text),
        Some(text) => Phone::read(text, Written::WithCallingCode, country),
        None => Phone::default(),
    };
    let formatted = row.formatted_phone_number.digits(&mut drift, DriftField::Number);
    let disposable = row.disposable_number.text(&mut drift, DriftField::Line);
    let carrier = carrier(&metadata, &mut drift);
    let input = row.number.digits(&mut drift, DriftField::Input).map(|number| Personal(number.to_owned()));
    let ported_at = match &row.ported_date {
        Field::Is(text) if text.as_ref().eq_ignore_ascii_case("not applicable") => None,
        date => date.date(&mut drift),
    };
    BatchResult {
        reason,
        phone: Phone {
            country,
            line_type,
            formatted: formatted.map(|text| Personal(text.to_owned())),
            disposable: disposable.is_some_and(|word| word.eq_ignore_ascii_case("yes")).then_some(true),
            ..phone
        },
        ported: metadata.is_ported.read(&mut drift, DriftField::Line),
        ported_at,
        carrier: Some(carrier).filter(|carrier| *carrier != Carrier::default()),
        input: Input { number: input, ..Input::default() },
        drift,
        ..BatchResult::new(outcome, word)
    }
}

fn carrier(metadata: &PhoneMetadata<'_>, drift: &mut Drift) -> Carrier {
    let original = OriginalNetwork {
        network: network(
            &metadata.original_operator_name,
            &metadata.original_network_status,
            &metadata.original_home_network_identity,
            drift,
        ),
        country: metadata.original_country_iso.country(drift),
    };
    Carrier {
        network: network(
            &metadata.operator_name,
            &metadata.network_status,
            &metadata.home_network_identity,
            drift,
        ),
        email_to_sms: metadata.email_to_sms_address.personal(drift, DriftField::Line),
        email_to_mms: metadata.email_to_mms_address.personal(drift, DriftField::Line),
        original: Some(original).filter(|original| *original != OriginalNetwork::default()),
    }
}

fn network(
    name: &Field<Text<'_>>,
    network_status: &Field<Text<'_>>,
    mcc_mnc: &Field<Digits<'_>>,
    drift: &mut Drift,
) -> Network {
    Network {
        name: name.owned(drift, DriftField::Line),
        network_status: network_status.text(drift, DriftField::Line).and_then(snake_case),
        mcc_mnc: mcc_mnc.digits(drift, DriftField::Line).map(str::to_owned),
    }
}

impl BatchConfig<'_> {
    /// The options. They are shown only: an odd one is missing.
    fn options(self, drift: &mut Drift) -> Options {
        let live_status = live_status(self.supplementary_live_status, drift);
        let format = self.output_format.text(drift, DriftField::Options);
        Options {
            output_format: format.map(|format| {
                let country = Country::from_code(format).filter(|_| format.len() == 3);
                country.map_or_else(|| format.to_ascii_lowercase(), |country| country.alpha2().to_owned())
            }),
            country: self.country_iso.country(drift),
            get_ported_date: self.get_ported_date.read(drift, DriftField::Options),
            supplementary_live_status: live_status
                .filter(|asked| *asked != SupplementaryLiveStatus::default()),
            max_processing_time: self.max_processing_time.owned(drift, DriftField::Options),
        }
    }
}

fn live_status(json: Option<&RawValue>, drift: &mut Drift) -> Option<SupplementaryLiveStatus> {
    // Documented as a string too, of no known form.
    let json = json.filter(|json| !json.get().starts_with('"'));
    let Value::Object(asked) = value(json, b"{", MAX_EXTRAS, drift, DriftField::Options) else { return None };
    let mut countries = |line: &str| -> Vec<Country> {
        let codes = match asked.get(line) {
            Some(Value::Array(codes)) => codes.as_slice(),
            None | Some(Value::Null) => &[],
            Some(_) => {
                drift.add(DriftField::Options);
                &[]
            }
        };
        codes.iter().filter_map(|code| country(code.as_str().unwrap_or_default(), drift)).collect()
    };
    Some(SupplementaryLiveStatus { mobile: countries("mobile"), landline: countries("landline") })
}

#[cfg(test)]
mod tests;
