//! What a caller orders: the body of a submission, the same for every vendor, checked before any money moves.

use std::borrow::Cow;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::batch::{
    Country, Input, Kind, Options, Personal, Record, SupplementaryLiveStatus, clean_number, company_domain,
    profile_url, visible_text,
};
use crate::error::{InvalidPart, InvalidParts};

/// Most characters of one text of a record; Experian's limit for a number, and enough for any vendor.
const MAX_TEXT: usize = 1_000;
/// Most characters of a reference; with our own id beside it, it fits into the 256 of a vendor's.
const MAX_REFERENCE: usize = 200;
/// Most errors that are told of one body: a body of nothing but mistakes would have an answer many times its size.
const MAX_ERRORS: usize = 1_000;
/// What a text must be, where JSON of another type stands in its place.
const NOT_A_STRING: &str = "must be a JSON string, in double quotes";
/// The processing time that may be asked for.
const PROCESSING_TIME: std::ops::RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);

/// What a vendor accepts in one submission.
#[derive(Clone, Copy, Debug)]
pub struct Accepts {
    /// What the vendor does with a record, and so what a record must hold.
    pub kind: Kind,
    /// Maximum number of records.
    pub max_records: u32,
    /// The options that a submission may have, by their names in the common schema.
    pub options: &'static [&'static str],
}

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
    pub records: Vec<Record>,
}

impl NewBatch {
    /// Reads a body and checks it against what the vendor can do.
    ///
    /// # Errors
    /// What is wrong: the first 1,000 parts, each with its JSON pointer (RFC 6901) and what is allowed there, and how
    /// many there are; never a value.
    pub fn from_json(body: &Value, accepts: &Accepts) -> Result<Self, InvalidParts> {
        let mut reader = Reader { errors: InvalidParts { listed: Vec::new(), total: 0 }, country: None };
        let batch = reader.batch(body, accepts);
        match batch {
            Some(batch) if reader.errors.total == 0 => Ok(batch),
            _ => Err(reader.errors),
        }
    }

    /// The records, each with the country of its number: its own, else that of the options.
    #[must_use]
    pub fn records_with_country(&self) -> Cow<'_, [Record]> {
        match self.options.country {
            None => Cow::Borrowed(&self.records),
            Some(country) => {
                let with =
                    |record: &Record| Record { country: record.country.or(Some(country)), ..record.clone() };
                self.records.iter().map(with).collect()
            }
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

    /// What makes two requests the same: SHA-256 of the vendor and of what the caller wrote, whatever the spelling of its
    /// JSON.
    ///
    /// # Errors
    /// When the request cannot be written as JSON, which is a defect.
    pub fn fingerprint(&self, provider: &str) -> serde_json::Result<[u8; 32]> {
        // How a text is cleaned may change with a version of the gateway, and the key stays the same.
        let written = |record: &Record| Record { cleaned: None, ..record.clone() };
        let canonical = if self.records.iter().any(|record| record.cleaned.is_some()) {
            let records = self.records.iter().map(written).collect();
            serde_json::to_vec(&(provider, Self { records, ..self.clone() }))?
        } else {
            serde_json::to_vec(&(provider, self))?
        };
        Ok(Sha256::digest(canonical).into())
    }
}

/// Reads JSON by hand, because all that is wrong is to be found, not only the first of it.
struct Reader {
    errors: InvalidParts,
    /// The country of numbers that do not carry one, by the options.
    country: Option<Country>,
}

impl Reader {
    fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) {
        self.errors.total += 1;
        if self.errors.listed.len() < MAX_ERRORS {
            self.errors.listed.push(InvalidPart::pointer(pointer, detail));
        }
    }

    fn batch(&mut self, body: &Value, accepts: &Accepts) -> Option<NewBatch> {
        let fields = self.object(body, "", &["reference", "options", "records"])?;
        let reference = self.reference(fields);
        let options = self.options(fields, accepts);
        self.country = options.country;
        let records = match present(fields, "records") {
            Some(Value::Array(records)) if records.is_empty() => {
                self.wrong("/records", "must hold at least one record");
                return None;
            }
            Some(Value::Array(records)) if records.len() > accepts.max_records as usize => {
                let most = accepts.max_records;
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
            .filter_map(|(index, record)| self.record(record, &format!("/records/{index}"), accepts.kind))
            .collect();
        Some(NewBatch { reference, options, records })
    }

    fn reference(&mut self, fields: &Map<String, Value>) -> Option<Personal<String>> {
        let value = present(fields, "reference")?;
        if !value.is_string() {
            self.wrong("/reference", NOT_A_STRING);
            return None;
        }
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

    fn options(&mut self, fields: &Map<String, Value>, accepts: &Accepts) -> Options {
        const NAMES: [&str; 5] = [
            "output_format",
            "country",
            "get_ported_date",
            "supplementary_live_status",
            "max_processing_time",
        ];
        let Some(value) = present(fields, "options") else { return Options::default() };
        let Some(fields) = self.object(value, "/options", &NAMES) else { return Options::default() };
        for name in fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .filter_map(|(name, _)| NAMES.into_iter().find(|known| known == name))
        {
            if !accepts.options.contains(&name) {
                let detail = match accepts.options {
                    [] => "this provider takes no options".to_owned(),
                    options => format!("this provider does not take it; it takes {}", options.join(", ")),
                };
                self.wrong(format!("/options/{name}"), detail);
            }
        }
        Options {
            output_format: self.output_format(fields),
            country: self.country(fields, "/options", "country"),
            get_ported_date: match present(fields, "get_ported_date") {
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
        let country = Country::from_code(&format).filter(|country| country.alpha2() == format);
        if ["e164", "plus_e164", "national"].contains(&format.as_str()) || country.is_some() {
            return Some(format);
        }
        let detail = "must be e164, plus_e164, national or a country as ISO 3166-1 alpha-2, such as GB";
        self.wrong("/options/output_format", detail);
        None
    }

    fn live_status(&mut self, fields: &Map<String, Value>) -> Option<SupplementaryLiveStatus> {
        const AT: &str = "/options/supplementary_live_status";
        let fields =
            self.object(present(fields, "supplementary_live_status")?, AT, &["mobile", "landline"])?;
        let mobile = self.countries(fields, AT, "mobile");
        let landline = self.countries(fields, AT, "landline");
        Some(SupplementaryLiveStatus { mobile, landline })
            .filter(|asked| *asked != SupplementaryLiveStatus::default())
    }

    fn countries(&mut self, fields: &Map<String, Value>, at: &str, name: &str) -> Vec<Country> {
        match present(fields, name) {
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

    fn record(&mut self, record: &Value, at: &str, kind: Kind) -> Option<Record> {
        match kind {
            Kind::Finding => self.person(record, at),
            Kind::Validation => self.number(record, at),
        }
    }

    fn person(&mut self, record: &Value, at: &str) -> Option<Record> {
        const FIELDS: [&str; 6] =
            ["linkedin_url", "first_name", "last_name", "company_name", "company_domain", "custom_id"];
        let fields = self.object(record, at, &FIELDS)?;
        let before = self.errors.total;
        let mut text = |name, clean: fn(&str) -> Result<String, &'static str>| {
            let text = self.text(fields, at, name)?;
            match clean(&text) {
                Ok(cleaned) => Some((Personal(text), Personal(cleaned))),
                Err(detail) => {
                    self.wrong(format!("{at}/{name}"), detail);
                    None
                }
            }
        };
        let (linkedin_url, sent_url) = text("linkedin_url", profile_url).unzip();
        let (first_name, sent_first) = text("first_name", name).unzip();
        let (last_name, sent_last) = text("last_name", name).unzip();
        let (company_name, sent_company) = text("company_name", name).unzip();
        let (company_domain, sent_domain) = text("company_domain", company_domain).unzip();
        let input = Input { linkedin_url, first_name, last_name, company_name, company_domain, number: None };
        let sent = Input {
            linkedin_url: sent_url,
            first_name: sent_first,
            last_name: sent_last,
            company_name: sent_company,
            company_domain: sent_domain,
            number: None,
        };
        let custom_id = self.text(fields, at, "custom_id").map(Personal);
        let named = input.first_name.is_some()
            && input.last_name.is_some()
            && (input.company_name.is_some() || input.company_domain.is_some());
        // A field that is there and wrong has been reported already.
        if self.errors.total == before && input.linkedin_url.is_none() && !named {
            let detail = "must have `linkedin_url`, or `first_name`, `last_name` and one of `company_name` and \
                          `company_domain`";
            self.wrong(at, detail);
        }
        Some(Record { cleaned: differing(&input, sent), input, country: None, custom_id })
    }

    fn number(&mut self, record: &Value, at: &str) -> Option<Record> {
        let fields = self.object(record, at, &["number", "country", "custom_id"])?;
        let number = self.text(fields, at, "number");
        if present(fields, "number").is_none() {
            self.wrong(at, "must have a `number`");
        }
        let country = self.country(fields, at, "country");
        // Which number it is may depend on a country that is wrong.
        let unclear = present(fields, "country").is_some() && country.is_none();
        let cleaned = number
            .as_deref()
            .filter(|_| !unclear)
            .map(|number| clean_number(number, country.or(self.country)));
        if let Some(Err(reason)) = &cleaned {
            let number = number.as_deref().unwrap_or_default();
            self.wrong(format!("{at}/number"), reason.detail(number, country.or(self.country)));
        }
        let custom_id = self.text(fields, at, "custom_id").map(Personal);
        let input = Input { number: number.map(Personal), ..Input::default() };
        let sent = Input { number: cleaned.and_then(Result::ok).map(Personal), ..Input::default() };
        Some(Record { cleaned: differing(&input, sent), input, country, custom_id })
    }

    fn country(&mut self, fields: &Map<String, Value>, at: &str, name: &str) -> Option<Country> {
        let value = present(fields, name)?;
        self.country_of(value, format!("{at}/{name}"))
    }

    fn country_of(&mut self, value: &Value, at: String) -> Option<Country> {
        let country = value.as_str().filter(|code| code.len() == 2).and_then(Country::from_code);
        if country.is_none() {
            self.wrong(at, "must be a country as ISO 3166-1 alpha-2, such as GB");
        }
        country
    }

    /// A text that says something, without the blanks around it.
    fn text(&mut self, fields: &Map<String, Value>, at: &str, name: &str) -> Option<String> {
        let Value::String(text) = present(fields, name)? else {
            self.wrong(format!("{at}/{name}"), NOT_A_STRING);
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
            self.wrong(pointer, format!("unknown field; allowed: {}", known.join(", ")));
        }
        Some(fields)
    }
}

/// A field that is there; `null` says that it is not.
fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn name(text: &str) -> Result<String, &'static str> {
    visible_text(text).ok_or("must have visible characters")
}

/// What is sent, where it differs from what the caller wrote.
fn differing(input: &Input, sent: Input) -> Option<Box<Input>> {
    (sent != *input).then(|| Box::new(sent))
}

#[cfg(test)]
mod tests;
