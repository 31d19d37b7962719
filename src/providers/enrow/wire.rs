//! Enrow's own JSON and what it means in the common schema. Pure: no I/O, no clock.
//!
//! Every variant of Enrow's public texts is read; see `README.md` beside this file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::INFO;
use crate::batch::{
    Amount, Batch, BatchId, BatchResult, Cost, CostUnit, Drift, DriftField, Input, Outcome, Personal, Phone,
    Progress, Record, Status, SubmissionId, Warning, Written,
};
use crate::http::{ErrorForm, NO_CREDITS, ProviderError, ProviderErrorKind, Reply, parse_retry_after};
use crate::providers::decode::{
    BoundedVec, Digits, Document, Field, Object, Text, amount, meaning, status_of, status_word,
    submission_id, value,
};
use crate::providers::error_body::{error_object, text};
use crate::providers::{Order, new_batch_id, refused, require_same_batch};

/// Longest `custom` that is read, in bytes.
const MAX_CUSTOM: usize = 1024 * 1024;

/// The batch of a reply to `GET /phone/bulk?id=`.
pub(super) fn batch(id: &BatchId, reply: &Reply) -> Result<Batch, ProviderError> {
    if !reply.is_success() {
        return Err(classify(reply));
    }
    let document = Document::of(reply)?;
    let bulk: Bulk<'_> = document.read()?;
    let mut drift = Drift::default();
    let Object(general) = bulk.general.value().unwrap_or_default();
    require_same_batch(id, &general.id, &mut drift)?;
    let word = status_word(&general.status)?;
    let status = status_of(&STATUSES, word);
    let Object(figures) = bulk.stats.read(&mut drift, DriftField::Cost).unwrap_or_default();
    let requested = figures.requested.read(&mut drift, DriftField::Progress);
    let finished = figures.finished.read(&mut drift, DriftField::Progress);
    let processed = finished.or(requested.filter(|_| status == Status::Completed));
    let custom = match value(general.custom, b"{", MAX_CUSTOM, &mut drift, DriftField::Custom) {
        Value::Object(custom) => Some(custom).filter(|custom| !custom.is_empty()),
        _ => None,
    };
    let mut batch = Batch {
        submission_id: custom
            .as_ref()
            .and_then(|custom| submission_id(custom.get("submission_id")?.as_str()?)),
        custom: custom.map(Personal),
        progress: requested.map(|requested| Progress { requested, processed }),
        ..INFO.batch(id, status, word, reply)
    };
    if !batch.done {
        batch.drift.merge(drift);
        return Ok(batch);
    }
    let completed = status == Status::Completed;
    let rows = bulk.results.value().map(|BoundedVec(rows)| rows);
    if rows.is_none() && completed {
        return Err(ProviderError::malformed("the batch is completed and the answer has no list of results"));
    }
    let (charged, refunded) = figures.cost(&mut drift);
    let awaits_results = completed && rows.as_ref().is_some_and(Vec::is_empty);
    // Nothing charged so far says nothing while the results are not there.
    let charged = charged.filter(|charged| !awaits_results || *charged > Amount::default());
    batch.cost = charged.map(|charged| Cost { charged, refunded, unit: CostUnit::Credit });
    if drift.fields().any(|field| field == DriftField::Cost) {
        batch.warnings.push(Warning::CostUnreadable);
    }
    let found = figures.found.read(&mut drift, DriftField::Progress);
    let found = found.or(figures.valid.read(&mut drift, DriftField::Progress)).filter(|found| *found > 0);
    batch.reported = found.map(|found| (Outcome::Found, found)).into_iter().collect::<BTreeMap<_, _>>();
    batch.drift.merge(drift);
    if awaits_results {
        return Ok(batch.into_running());
    }
    batch.results = rows.map(|rows| rows.into_iter().map(result).collect());
    Ok(batch)
}

/// The batch that a reply to `POST /phone/bulk` says was taken, whichever success it is.
pub(super) fn taken(order: &Order<'_>, reply: &Reply) -> Result<Batch, ProviderError> {
    if !reply.is_success() {
        let error = failure(reply);
        return Err(if reply.status == 400 { refused(error) } else { error });
    }
    let document = Document::of(reply)?;
    let taken: Taken<'_> = document.read()?;
    let id = new_batch_id(&taken.id)?;
    let mut drift = Drift::default();
    let charged = amount(taken.credits_used, &mut drift);
    let unreadable = drift != Drift::default();
    Ok(Batch {
        cost: charged.map(|charged| Cost { charged, refunded: None, unit: CostUnit::Credit }),
        warnings: unreadable.then_some(Warning::CostUnreadable).into_iter().collect(),
        drift,
        // The answer has no word for the status.
        ..INFO.taken(order, &id, Status::Running, "", reply)
    })
}

/// The batch whose end a webhook reports. Whatever the event is called, the batch itself says where it stands.
pub(super) fn ended(body: &[u8]) -> Option<BatchId> {
    let Object(event) = serde_json::from_slice::<Field<Object<Event<'_>>>>(body).ok()?.value()?;
    event.id.digits(&mut Drift::default(), DriftField::Id)?.parse().ok()
}

/// What an error reply to a reading call means. A 400 is an unknown or an expired id; in older texts a 404.
fn classify(reply: &Reply) -> ProviderError {
    const DETAIL: &str =
        "the vendor has no such batch, or no longer: it does not tell an unknown id from an expired one";
    let error = failure(reply);
    match reply.status {
        400 | 404 => ProviderError { kind: ProviderErrorKind::BatchNotFound, detail: DETAIL, ..error },
        _ => error,
    }
}

/// What an error reply to any call means. Empty credits are a 402; in older texts a 422. A 403 is not documented.
fn failure(reply: &Reply) -> ProviderError {
    let body = ErrorBody::of(reply);
    let error = ProviderError::from_status(reply, body.form);
    if reply.status == 422 || (reply.status == 403 && body.is_about_credits) {
        return ProviderError { kind: ProviderErrorKind::CreditsExhausted, detail: NO_CREDITS, ..error };
    }
    let retry_after = error.retry_after.or(body.retry_after);
    let retry_after = retry_after.or_else(|| reply.rate_limit_reset("x-ratelimit-reset"));
    ProviderError { retry_after, ..error }
}

/// The body of `POST /phone/bulk`, in the newest names.
#[derive(Serialize)]
pub(super) struct NewBulk<'a> {
    searches: Vec<Search<'a>>,
    custom: OwnData<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings<'a>>,
}

#[derive(Serialize)]
struct Search<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    linkedin_url: Option<&'a Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firstname: Option<&'a Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lastname: Option<&'a Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_name: Option<&'a Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_domain: Option<&'a Personal<String>>,
}

/// What comes back as `general.custom`.
#[derive(Serialize)]
struct OwnData<'a> {
    submission_id: SubmissionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a Personal<String>>,
}

#[derive(Serialize)]
struct Settings<'a> {
    webhook: &'a str,
}

impl<'a> From<&Order<'a>> for NewBulk<'a> {
    fn from(order: &Order<'a>) -> Self {
        Self {
            searches: order.batch.records.iter().map(Search::from).collect(),
            custom: OwnData { submission_id: order.submission, reference: order.batch.reference.as_ref() },
            settings: order.webhook.map(|webhook| Settings { webhook }),
        }
    }
}

impl<'a> From<&'a Record> for Search<'a> {
    fn from(record: &'a Record) -> Self {
        let person = record.sent();
        Self {
            linkedin_url: person.linkedin_url.as_ref(),
            firstname: person.first_name.as_ref(),
            lastname: person.last_name.as_ref(),
            company_name: person.company_name.as_ref(),
            company_domain: person.company_domain.as_ref(),
        }
    }
}

#[derive(Deserialize)]
struct Taken<'a> {
    #[serde(borrow, default)]
    id: Field<Digits<'a>>,
    #[serde(borrow)]
    credits_used: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    id: Field<Digits<'a>>,
}

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow, default)]
    general: Field<Object<General<'a>>>,
    #[serde(borrow, default)]
    results: Field<BoundedVec<Field<Object<Row<'a>>>>>,
    #[serde(borrow, default)]
    stats: Field<Object<Stats<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct General<'a> {
    #[serde(borrow)]
    id: Field<Digits<'a>>,
    #[serde(borrow)]
    status: Field<Text<'a>>,
    /// The caller's data: documented as an object, and nothing else is passed on.
    #[serde(borrow)]
    custom: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats<'a> {
    /// A number, or in sibling endpoints `{initial, refunded, final}`.
    #[serde(borrow)]
    credits_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    credits_to_refund: Option<&'a RawValue>,
    found: Field<u64>,
    valid: Field<u64>,
    requested: Field<u64>,
    finished: Field<u64>,
}

#[derive(Deserialize)]
struct SplitCost<'a> {
    #[serde(borrow)]
    initial: Option<&'a RawValue>,
    #[serde(borrow)]
    refunded: Option<&'a RawValue>,
}

impl Stats<'_> {
    /// What was charged and refunded.
    fn cost(&self, drift: &mut Drift) -> (Option<Amount>, Option<Amount>) {
        let refunded = amount(self.credits_to_refund, drift);
        let split = self.credits_cost.filter(|cost| cost.get().starts_with('{'));
        match split.map(|cost| serde_json::from_str::<SplitCost<'_>>(cost.get())) {
            Some(Ok(split)) => {
                let charged = amount(split.initial, drift);
                if charged.is_none() {
                    drift.add(DriftField::Cost);
                }
                (charged, refunded.or_else(|| amount(split.refunded, drift)))
            }
            _ => (amount(self.credits_cost, drift), refunded),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Row<'a> {
    index: Field<u64>,
    #[serde(borrow)]
    qualification: Field<Text<'a>>,
    #[serde(borrow)]
    number: Field<Digits<'a>>,
    #[serde(borrow)]
    country: Field<Text<'a>>,
    #[serde(borrow)]
    params: Field<Object<Params<'a>>>,
    #[serde(borrow)]
    raw_params: Field<Object<Params<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params<'a> {
    #[serde(borrow)]
    linkedin_url: Field<Text<'a>>,
    #[serde(borrow)]
    firstname: Field<Text<'a>>,
    #[serde(borrow)]
    first_name: Field<Text<'a>>,
    #[serde(borrow)]
    lastname: Field<Text<'a>>,
    #[serde(borrow)]
    last_name: Field<Text<'a>>,
    #[serde(borrow)]
    company_name: Field<Text<'a>>,
    #[serde(borrow)]
    company_domain: Field<Text<'a>>,
}

/// What the body of an error answer says.
struct ErrorBody {
    form: ErrorForm,
    is_about_credits: bool,
    retry_after: Option<Duration>,
}

impl ErrorBody {
    /// Enrow's own forms are `{message}`, in older texts `{error, message, status}`, and in single calls
    /// `{reason, success: false}`.
    fn of(reply: &Reply) -> Self {
        let object = error_object(reply).unwrap_or_default();
        let failed = object.get("success").and_then(serde_json::Value::as_bool) == Some(false);
        let said = text(&object, "message").or_else(|| text(&object, "reason").filter(|_| failed));
        let is_about_credits = said.is_some_and(|said| {
            let said = said.to_ascii_lowercase();
            said.contains("credit") || said.contains("balance")
        });
        let retry_after = object.get("retry_after").and_then(|wait| match wait {
            serde_json::Value::Number(seconds) => Some(seconds.to_string()),
            serde_json::Value::String(seconds) => Some(seconds.clone()),
            _ => None,
        });
        Self {
            form: if said.is_some() { ErrorForm::Vendor } else { ErrorForm::Foreign },
            is_about_credits,
            retry_after: retry_after.and_then(|wait| parse_retry_after(&wait, reply.received_at)),
        }
    }
}

const STATUSES: [(&str, Status); 3] =
    [("ongoing", Status::Running), ("completed", Status::Completed), ("failed", Status::Failed)];

const QUALIFICATIONS: [(&str, Outcome); 2] = [("found", Outcome::Found), ("not_found", Outcome::NotFound)];

fn result(row: Field<Object<Row<'_>>>) -> BatchResult {
    let mut drift = Drift::default();
    let Object(row) = row.read(&mut drift, DriftField::Result).unwrap_or_default();
    let country = row.country.country(&mut drift);
    let number = row.number.digits(&mut drift, DriftField::Number);
    let phone = number.map(|number| Phone::read(number, Written::WithPlus, country)).unwrap_or_default();
    let word = row.qualification.text(&mut drift, DriftField::Outcome).unwrap_or_default();
    let outcome = match meaning(&QUALIFICATIONS, word) {
        Some(Outcome::Found) if phone.e164.is_none() => Outcome::Unknown,
        outcome => outcome.unwrap_or(Outcome::Unknown),
    };
    if outcome == Outcome::Unknown {
        drift.add(DriftField::Outcome);
    }
    let raw_params = row.raw_params.read(&mut drift, DriftField::Input);
    let params = row.params.read(&mut drift, DriftField::Input).or(raw_params);
    let index = row.index.read(&mut drift, DriftField::Index);
    let result = BatchResult::new(outcome, word);
    BatchResult {
        index,
        phone: Phone { country: country.or(phone.country), ..phone },
        input: params.map(|Object(params)| params.input(&mut drift)).unwrap_or_default(),
        drift,
        ..result
    }
}

impl Params<'_> {
    fn input(&self, drift: &mut Drift) -> Input {
        let mut text = |field: &Field<Text<'_>>| field.personal(drift, DriftField::Input);
        let [first_name, last_name] =
            [(&self.firstname, &self.first_name), (&self.lastname, &self.last_name)]
                .map(|(newer, older)| text(newer).or_else(|| text(older)));
        Input {
            linkedin_url: text(&self.linkedin_url),
            first_name,
            last_name,
            company_name: text(&self.company_name),
            company_domain: text(&self.company_domain),
            number: None,
        }
    }
}

#[cfg(test)]
mod tests;
