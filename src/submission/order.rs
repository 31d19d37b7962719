//! What a caller orders: the body of a submission, the same for every vendor, checked before any money moves.

use std::time::Duration;

use jiff::SignedDuration;
use reqwest::Url;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::batch::{Country, Input, Kind, Options, Personal, SupplementaryLiveStatus};
use crate::error::InvalidPart;
use crate::providers::Info;

/// Most characters of one text of a record; Experian's limit for a number, and enough for any vendor.
const MAX_TEXT: usize = 1_000;
/// Most characters of a reference; with our own id beside it, it fits into the 256 of a vendor's.
const MAX_REFERENCE: usize = 200;
/// Most errors that are told of one body: a body of nothing but mistakes would have an answer many times its size.
const MAX_ERRORS: usize = 1_000;
/// The processing time that may be asked for.
const PROCESSING_TIME: std::ops::RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);

/// A batch to submit: one schema for every vendor. What a vendor cannot use is refused, not dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NewBatch {
    /// The caller's reference of the batch; it can be searched for later and travels to the vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        value_type = Option<String>, min_length = 1, max_length = 200,
        pattern = r"^[A-Za-z0-9_\-/:.,() ]+$", example = "crm-42"
    )]
    pub reference: Option<Personal<String>>,
    /// How the vendor should work; only where `GET /providers` lists options.
    #[serde(skip_serializing_if = "Options::is_empty")]
    #[schema(value_type = Option<Options>)]
    pub options: Options,
    /// One entry for each person to find or number to validate, at least one.
    #[schema(min_items = 1)]
    pub records: Vec<NewRecord>,
}

/// One record of a new batch: a person to find (`linkedin_url`; or `first_name`, `last_name` and a company), or a
/// number to validate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct NewRecord {
    /// The person, or the number.
    #[serde(flatten)]
    pub input: Input,
    /// Country of a number that does not carry a country code, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "GB")]
    pub country: Option<Country>,
    /// The caller's own id of the record; it comes back on the record's result and goes to no vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 1000)]
    pub custom_id: Option<Personal<String>>,
}

impl NewBatch {
    /// Reads a body and checks it against what the vendor can do.
    ///
    /// # Errors
    /// Everything that is wrong, at most 1,000 parts, each with its JSON pointer (RFC 6901) and what is allowed there;
    /// never a value.
    pub fn from_json(body: &Value, info: &Info) -> Result<Self, Vec<InvalidPart>> {
        let mut reader = Reader { errors: Vec::new(), has_country: false };
        let batch = reader.batch(body, info);
        match batch {
            Some(batch) if reader.errors.is_empty() => Ok(batch),
            _ => Err(reader.errors),
        }
    }

    /// An order that any vendor of this kind takes, as JSON; in the sandbox it brings more than one outcome.
    #[must_use]
    pub const fn example(kind: Kind) -> &'static str {
        match kind {
            Kind::Finding => include_str!("examples/finding.json"),
            Kind::Validation => include_str!("examples/validation.json"),
        }
    }

    /// What makes two requests the same: SHA-256 of the vendor and of the order, whatever the spelling of its JSON.
    ///
    /// # Errors
    /// When the order cannot be written as JSON, which is a defect.
    pub fn fingerprint(&self, provider: &str) -> serde_json::Result<[u8; 32]> {
        let canonical = serde_json::to_vec(&(provider, self))?;
        Ok(Sha256::digest(canonical).into())
    }

    /// The caller's ids of the records, in their order; none if no record has one.
    #[must_use]
    pub fn custom_ids(&self) -> Option<Vec<Option<String>>> {
        let id = |record: &NewRecord| record.custom_id.as_ref().map(|id| id.0.clone());
        self.records
            .iter()
            .any(|record| record.custom_id.is_some())
            .then(|| self.records.iter().map(id).collect())
    }
}

/// Reads JSON by hand, because all that is wrong is to be found, not only the first of it.
struct Reader {
    errors: Vec<InvalidPart>,
    /// Whether the options name the country of numbers that do not carry one.
    has_country: bool,
}

impl Reader {
    fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<std::borrow::Cow<'static, str>>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(InvalidPart::pointer(pointer, detail));
        }
    }

    fn batch(&mut self, body: &Value, info: &Info) -> Option<NewBatch> {
        let fields = self.object(body, "", &["reference", "options", "records"])?;
        let reference = self.reference(fields);
        let options = self.options(fields, info);
        self.has_country = options.country.is_some();
        let records = match fields.get("records") {
            Some(Value::Array(records)) if records.is_empty() => {
                self.wrong("/records", "must hold at least one record");
                return None;
            }
            Some(Value::Array(records)) if records.len() > info.max_records as usize => {
                let most = info.max_records;
                self.wrong("/records", format!("must hold at most {most} records for this provider"));
                return None;
            }
            Some(Value::Array(records)) => records,
            Some(_) => {
                self.wrong("/records", "must be a list");
                return None;
            }
            None => {
                self.wrong("/records", "is missing: the list of what to find or to validate");
                return None;
            }
        };
        let records: Vec<_> = records
            .iter()
            .enumerate()
            .filter_map(|(index, record)| self.record(record, &format!("/records/{index}"), info.kind))
            .collect();
        Some(NewBatch { reference, options, records })
    }

    fn reference(&mut self, fields: &Map<String, Value>) -> Option<Personal<String>> {
        let value = fields.get("reference")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-/:.,() ".contains(c);
        let reference = value.as_str().map(str::trim).filter(|reference| {
            (1..=MAX_REFERENCE).contains(&reference.len()) && reference.chars().all(allowed)
        });
        if reference.is_none() {
            let detail = "must be a text of 1 to 200 letters, digits, spaces or any of _ - / : . , ( )";
            self.wrong("/reference", detail);
        }
        reference.map(|reference| Personal(reference.to_owned()))
    }

    fn options(&mut self, fields: &Map<String, Value>, info: &Info) -> Options {
        const NAMES: [&str; 5] = [
            "output_format",
            "country",
            "get_ported_date",
            "supplementary_live_status",
            "max_processing_time",
        ];
        let Some(value) = fields.get("options") else { return Options::default() };
        let Some(fields) = self.object(value, "/options", &NAMES) else { return Options::default() };
        for name in fields.keys().filter_map(|name| NAMES.into_iter().find(|known| known == name)) {
            if !info.options.contains(&name) {
                let detail = match info.options {
                    [] => "this provider takes no options".to_owned(),
                    options => format!("this provider does not take it; it takes {}", options.join(", ")),
                };
                self.wrong(format!("/options/{name}"), detail);
            }
        }
        Options {
            output_format: self.output_format(fields),
            country: self.country(fields, "/options", "country"),
            get_ported_date: match fields.get("get_ported_date") {
                None => None,
                Some(Value::Bool(yes)) => Some(*yes),
                Some(_) => {
                    self.wrong("/options/get_ported_date", "must be true or false");
                    None
                }
            },
            supplementary_live_status: self.live_status(fields),
            max_processing_time: self.processing_time(fields),
        }
    }

    fn output_format(&mut self, fields: &Map<String, Value>) -> Option<String> {
        let format = self.text(fields, "/options", "output_format")?;
        let country = Country::from_alpha2(&format).filter(|country| country.alpha2() == format);
        if ["e164", "plus_e164", "national"].contains(&format.as_str()) || country.is_some() {
            return Some(format);
        }
        let detail = "must be e164, plus_e164, national or a country as ISO 3166-1 alpha-2, such as GB";
        self.wrong("/options/output_format", detail);
        None
    }

    fn live_status(&mut self, fields: &Map<String, Value>) -> Option<SupplementaryLiveStatus> {
        const AT: &str = "/options/supplementary_live_status";
        let fields = self.object(fields.get("supplementary_live_status")?, AT, &["mobile", "landline"])?;
        let mobile = self.countries(fields, AT, "mobile");
        let landline = self.countries(fields, AT, "landline");
        Some(SupplementaryLiveStatus { mobile, landline })
            .filter(|asked| *asked != SupplementaryLiveStatus::default())
    }

    fn countries(&mut self, fields: &Map<String, Value>, at: &str, name: &str) -> Vec<Country> {
        match fields.get(name) {
            None => Vec::new(),
            Some(Value::Array(countries)) => {
                let mut known = Vec::new();
                for (index, country) in countries.iter().enumerate() {
                    known.extend(self.country_of(country, format!("{at}/{name}/{index}")));
                }
                known
            }
            Some(_) => {
                self.wrong(format!("{at}/{name}"), "must be a list of countries");
                Vec::new()
            }
        }
    }

    fn processing_time(&mut self, fields: &Map<String, Value>) -> Option<String> {
        let text = self.text(fields, "/options", "max_processing_time")?;
        let time = text.starts_with("PT").then(|| text.parse::<SignedDuration>().ok()).flatten();
        let time = time.and_then(|time| Duration::try_from(time).ok());
        // Experian takes ten characters at most.
        if text.len() <= 10 && time.is_some_and(|time| PROCESSING_TIME.contains(&time)) {
            return Some(text);
        }
        let detail = "must be an ISO 8601 duration from PT1M to PT24H, such as PT25M";
        self.wrong("/options/max_processing_time", detail);
        None
    }

    fn record(&mut self, record: &Value, at: &str, kind: Kind) -> Option<NewRecord> {
        match kind {
            Kind::Finding => self.person(record, at),
            Kind::Validation => self.number(record, at),
        }
    }

    fn person(&mut self, record: &Value, at: &str) -> Option<NewRecord> {
        const FIELDS: [&str; 6] =
            ["linkedin_url", "first_name", "last_name", "company_name", "company_domain", "custom_id"];
        let fields = self.object(record, at, &FIELDS)?;
        let before = self.errors.len();
        let mut text = |name| self.text(fields, at, name).map(Personal);
        let input = Input {
            linkedin_url: text("linkedin_url"),
            first_name: text("first_name"),
            last_name: text("last_name"),
            company_name: text("company_name"),
            company_domain: text("company_domain"),
            number: None,
        };
        let custom_id = text("custom_id");
        if input.linkedin_url.as_ref().is_some_and(|url| !is_linkedin(&url.0)) {
            self.wrong(format!("{at}/linkedin_url"), "must be an http(s) address at linkedin.com");
        }
        let named = input.first_name.is_some()
            && input.last_name.is_some()
            && (input.company_name.is_some() || input.company_domain.is_some());
        // A field that is there and wrong has been told of already.
        if self.errors.len() == before && input.linkedin_url.is_none() && !named {
            let detail = "must have `linkedin_url`, or `first_name`, `last_name` and one of `company_name` and \
                          `company_domain`";
            self.wrong(at, detail);
        }
        Some(NewRecord { input, country: None, custom_id })
    }

    fn number(&mut self, record: &Value, at: &str) -> Option<NewRecord> {
        let fields = self.object(record, at, &["number", "country", "custom_id"])?;
        let number = self.text(fields, at, "number");
        if fields.get("number").is_none() {
            self.wrong(at, "must have a `number`");
        } else if number.as_ref().is_some_and(|number| !number.chars().any(|c| c.is_ascii_digit())) {
            self.wrong(format!("{at}/number"), "must hold digits");
        }
        let country = self.country(fields, at, "country");
        // No calling code begins with 0: without a country the number could be anybody's, and is paid for.
        let national =
            number.as_ref().is_some_and(|number| number.starts_with('0') && !number.starts_with("00"));
        if national && country.is_none() && fields.get("country").is_none() && !self.has_country {
            self.wrong(
                format!("{at}/number"),
                "has no country code: add a `country` to it or to the options",
            );
        }
        let custom_id = self.text(fields, at, "custom_id").map(Personal);
        let input = Input { number: number.map(Personal), ..Input::default() };
        Some(NewRecord { input, country, custom_id })
    }

    fn country(&mut self, fields: &Map<String, Value>, at: &str, name: &str) -> Option<Country> {
        let value = fields.get(name)?;
        self.country_of(value, format!("{at}/{name}"))
    }

    fn country_of(&mut self, value: &Value, at: String) -> Option<Country> {
        let country = value.as_str().filter(|code| code.len() == 2).and_then(Country::from_alpha2);
        if country.is_none() {
            self.wrong(at, "must be a country as ISO 3166-1 alpha-2, such as GB");
        }
        country
    }

    /// A text that says something, without the blanks around it.
    fn text(&mut self, fields: &Map<String, Value>, at: &str, name: &str) -> Option<String> {
        let Value::String(text) = fields.get(name)? else {
            self.wrong(format!("{at}/{name}"), "must be a text");
            return None;
        };
        let text = text.trim();
        if text.is_empty() || text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
            let detail = format!("must be a text of 1 to {MAX_TEXT} characters without control characters");
            self.wrong(format!("{at}/{name}"), detail);
            return None;
        }
        Some(text.to_owned())
    }

    /// An object that has no field but these.
    fn object<'a>(&mut self, value: &'a Value, at: &str, known: &[&str]) -> Option<&'a Map<String, Value>> {
        let Some(fields) = value.as_object() else {
            self.wrong(at, "must be an object");
            return None;
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let harmless = InvalidPart::is_harmless(name);
            let pointer = if harmless { format!("{at}/{name}") } else { at.to_owned() };
            self.wrong(pointer, format!("there is no such field here; there are {}", known.join(", ")));
        }
        Some(fields)
    }
}

fn is_linkedin(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| {
        let host = url.host_str().unwrap_or_default();
        matches!(url.scheme(), "http" | "https")
            && (host == "linkedin.com" || host.ends_with(".linkedin.com"))
    })
}

#[cfg(test)]
mod tests;
