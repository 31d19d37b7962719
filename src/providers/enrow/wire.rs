//! Enrow's own JSON and what it means in the common schema. Pure: no I/O, no clock.
//!
//! Every variant of Enrow's public texts is read; see `README.md` beside this file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::INFO;
use crate::batch::{
    Batch, BatchId, BatchResult, Cost, CostUnit, Country, Input, Outcome, Personal, Phone, Progress, Status,
    SubmissionId,
};
use crate::http::{ErrorForm, NO_CREDITS, ProviderError, ProviderErrorKind, Reply, parse_retry_after};
use crate::providers::error_body::{error_object, text};
use crate::providers::lenient::{Count, Text, json, personal, said, status_word, submission_id};
use crate::providers::rows::Rows;
use crate::providers::{Order, new_batch_id, refused, require_same_batch};
use crate::submission::NewRecord;

/// The batch of a reply to `GET /phone/bulk?id=`.
pub(super) fn batch(id: &BatchId, reply: &Reply) -> Result<Batch, ProviderError> {
    if !reply.is_success() {
        return Err(classify(reply));
    }
    let bulk: Bulk<'_> = json(reply)?;
    require_same_batch(id, said(bulk.general.id.as_ref()))?;
    let word = status_word(bulk.general.status.as_ref())?;
    let status = Status::from(Word(word));
    let figures = bulk.stats.unwrap_or_default();
    let requested = figures.requested.0;
    let processed = figures.finished.0.or(requested.filter(|_| status == Status::Completed));
    let custom = bulk.general.custom.and_then(Custom::data);
    let mut batch = Batch {
        submission_id: custom
            .as_ref()
            .and_then(|custom| submission_id(custom.get("submission_id")?.as_str()?)),
        custom: custom.map(Personal),
        progress: requested.map(|requested| Progress { requested, processed }),
        ..INFO.batch(id, status, word, reply)
    };
    if !batch.done {
        return Ok(batch);
    }
    let completed = status == Status::Completed;
    let rows = match bulk.results.map(|Rows(rows)| rows) {
        None if completed => {
            return Err(ProviderError::malformed("the batch is completed and the answer has no results"));
        }
        // A batch without results is not completed yet, whatever the vendor says.
        Some(rows) if completed && rows.is_empty() => return Ok(batch.without_results_yet()),
        rows => rows,
    };
    batch.cost = figures.cost();
    if let Some(rows) = rows {
        let results = rows.into_iter().map(BatchResult::try_from).collect::<Result<Vec<_>, _>>()?;
        batch.set_results(results, requested.filter(|_| completed), figures.outcomes())?;
    }
    Ok(batch)
}

/// The batch that a reply to `POST /phone/bulk` says was taken, whichever success it is.
pub(super) fn taken(order: &Order<'_>, reply: &Reply) -> Result<Batch, ProviderError> {
    if !reply.is_success() {
        let error = failure(reply);
        return Err(if reply.status == 400 { refused(error) } else { error });
    }
    let taken: Taken<'_> = json(reply)?;
    let id = new_batch_id(said(taken.id.as_ref()))?;
    let charged = taken.credits_used.0;
    Ok(Batch {
        cost: charged.map(|charged| Cost { charged, refunded: None, unit: CostUnit::Credit }),
        // The answer has no word for the status.
        ..INFO.taken(order, &id, Status::Running, "", reply)
    })
}

/// The batch whose end a webhook reports. Whatever the event is called, the batch itself says where it stands.
pub(super) fn ended(body: &[u8]) -> Option<BatchId> {
    let event: Event<'_> = serde_json::from_slice(body).ok()?;
    said(event.id.as_ref())?.parse().ok()
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

impl<'a> From<&'a NewRecord> for Search<'a> {
    fn from(record: &'a NewRecord) -> Self {
        let person = &record.input;
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
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(default)]
    credits_used: Count,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow)]
    general: General<'a>,
    results: Option<Rows<Row<'a>>>,
    stats: Option<Stats>,
}

#[derive(Deserialize)]
struct General<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    status: Option<Text<'a>>,
    custom: Option<Custom>,
}

/// The caller's data: documented as an object, and nothing else is passed on.
#[derive(Deserialize)]
#[serde(untagged)]
enum Custom {
    Data(serde_json::Map<String, serde_json::Value>),
    Other(serde::de::IgnoredAny),
}

impl Custom {
    fn data(self) -> Option<serde_json::Map<String, serde_json::Value>> {
        match self {
            Self::Data(data) => (!data.is_empty()).then_some(data),
            Self::Other(_) => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    credits_cost: CreditsCost,
    credits_to_refund: Count,
    found: Count,
    valid: Count,
    requested: Count,
    finished: Count,
}

/// A figure, or in sibling endpoints `{initial, refunded, final}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum CreditsCost {
    Split {
        initial: Count,
        #[serde(default)]
        refunded: Count,
    },
    Figure(Count),
}

impl Default for CreditsCost {
    fn default() -> Self {
        Self::Figure(Count(None))
    }
}

impl Stats {
    fn cost(&self) -> Option<Cost> {
        let (charged, refunded) = match self.credits_cost {
            CreditsCost::Figure(cost) => (cost.0, None),
            CreditsCost::Split { initial, refunded } => (initial.0, refunded.0),
        };
        let refunded = self.credits_to_refund.0.or(refunded);
        Some(Cost { charged: charged?, refunded, unit: CostUnit::Credit })
    }

    fn outcomes(&self) -> BTreeMap<Outcome, u64> {
        self.found
            .0
            .or(self.valid.0)
            .filter(|found| *found > 0)
            .map(|found| (Outcome::Found, found))
            .into_iter()
            .collect()
    }
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(default)]
    index: Count,
    #[serde(borrow)]
    qualification: Option<Text<'a>>,
    number: Option<Text<'a>>,
    country: Option<Text<'a>>,
    params: Option<Params<'a>>,
    raw_params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    linkedin_url: Option<Text<'a>>,
    firstname: Option<Text<'a>>,
    first_name: Option<Text<'a>>,
    lastname: Option<Text<'a>>,
    last_name: Option<Text<'a>>,
    company_name: Option<Text<'a>>,
    company_domain: Option<Text<'a>>,
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

/// A word of Enrow's, in whatever case.
struct Word<'a>(&'a str);

impl From<Word<'_>> for Status {
    fn from(Word(word): Word<'_>) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "ongoing" => Self::Running,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

impl TryFrom<Row<'_>> for BatchResult {
    type Error = ProviderError;

    fn try_from(row: Row<'_>) -> Result<Self, ProviderError> {
        let index = row.index.0.ok_or_else(|| ProviderError::malformed("a result has no usable index"))?;
        let mut phone = said(row.number.as_ref()).map(Phone::from_plus).unwrap_or_default();
        phone.country = said(row.country.as_ref()).and_then(Country::from_alpha2);
        let word = said(row.qualification.as_ref()).unwrap_or_default();
        let outcome = match word.to_ascii_lowercase().as_str() {
            "found" if phone.e164.is_some() => Outcome::Found,
            "not_found" => Outcome::NotFound,
            _ => Outcome::Unknown,
        };
        Ok(Self {
            phone,
            input: row.params.or(row.raw_params).map(Input::from).unwrap_or_default(),
            ..Self::new(index, outcome, word)
        })
    }
}

impl From<Params<'_>> for Input {
    fn from(params: Params<'_>) -> Self {
        Self {
            linkedin_url: personal(params.linkedin_url.as_ref()),
            first_name: personal(params.firstname.or(params.first_name).as_ref()),
            last_name: personal(params.lastname.or(params.last_name).as_ref()),
            company_name: personal(params.company_name.as_ref()),
            company_domain: personal(params.company_domain.as_ref()),
            number: None,
        }
    }
}

#[cfg(test)]
mod tests;
