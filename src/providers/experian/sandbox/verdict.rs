//! What the simulator finds out about one number: libphonenumber says what it can, a hash the rest.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType, Region};
use rust_iso3166::CountryCode;
use serde_json::{Value, json};

use crate::sandbox::later;
use crate::sandbox::phones::{self, Country, Operator, pick, stable_hash};

/// One item of the documented `phones`.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) phone_type: &'static str,
    pub(super) confidence: &'static str,
    number: String,
    validated: String,
    formatted: String,
    ported_date: Option<Cow<'static, str>>,
    disposable: Option<&'static str>,
    network: Option<Network>,
}

#[derive(Debug)]
struct Network {
    country: CountryCode,
    calling_code: i32,
    national: String,
    simulated: Option<&'static Country>,
    /// The original and the present operator, for mobile numbers of the simulated countries.
    operators: Option<(&'static Operator, &'static Operator)>,
}

/// The country behind a three-letter code.
pub(super) fn iso_country(alpha3: &str) -> Option<CountryCode> {
    rust_iso3166::from_alpha3(alpha3)
}

/// In place of the date, for a number that was never ported.
const NEVER_PORTED: &str = "not applicable";

impl Verdict {
    /// The verdict on a number that was handled.
    pub(super) fn of(number: &str, country: Option<&str>, format: &str, with_ported_date: bool) -> Self {
        let parsed = parse(number, country);
        let region = parsed.as_ref().and_then(|parsed| {
            let main = || PHONE_NUMBER_UTIL.get_region_for_country_code(parsed.country_code);
            parsed.get_region_code().or_else(main)
        });
        let (Some(parsed), Some(region)) = (parsed, region) else { return Self::bad_format(number) };
        let e164 = parsed.format_as(PhoneNumberFormat::E164).into_owned();
        let hash = stable_hash(&e164);
        let phone_type = phone_type(&parsed, &e164, hash);
        let network = Network::of(&parsed, region, phone_type, hash);
        let ported = network.as_ref().is_some_and(Network::is_ported);
        let ported_date = match (with_ported_date, ported) {
            (false, _) => None,
            (true, false) => Some(Cow::Borrowed(NEVER_PORTED)),
            (true, true) => Some(Cow::Owned(ported_date(hash))),
        };
        Self {
            phone_type,
            confidence: confidence(phone_type, hash),
            number: number.to_owned(),
            validated: e164.trim_start_matches('+').to_owned(),
            formatted: formatted(&parsed, &e164, format),
            ported_date,
            disposable: Some(if pick(hash, 7, 50) == 0 { "yes" } else { "unknown" }),
            network,
        }
    }

    /// A number that a stopped batch did not come to: what is absent is an empty text.
    pub(super) fn unprocessed(number: &str) -> Self {
        Self {
            phone_type: "",
            confidence: "unprocessed",
            number: number.to_owned(),
            validated: String::new(),
            formatted: String::new(),
            ported_date: None,
            disposable: None,
            network: None,
        }
    }

    /// A number that is not one. `validated_phone_number` is filled even then.
    fn bad_format(number: &str) -> Self {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        Self {
            phone_type: "bad format",
            confidence: "unverified",
            number: number.to_owned(),
            validated: digits,
            formatted: String::new(),
            ported_date: None,
            disposable: Some("unknown"),
            network: None,
        }
    }

    /// Whether the date of a porting was asked for and found.
    pub(super) fn has_ported_date(&self) -> bool {
        self.ported_date.as_ref().is_some_and(|date| date != NEVER_PORTED)
    }

    /// The alpha-3 code of the number's country.
    pub(super) fn country_iso(&self) -> Option<&'static str> {
        self.network.as_ref().map(|network| network.country.alpha3)
    }

    /// The item as it is answered; a null stands for a field that is left out.
    pub(super) fn show(&self, add_metadata: bool) -> Value {
        // Assumed: a number without a network has no metadata.
        let metadata = self.network.as_ref().filter(|_| add_metadata).map(Network::show);
        json!({
            "number": self.number,
            "validated_phone_number": self.validated,
            "formatted_phone_number": self.formatted,
            "phone_type": self.phone_type,
            "confidence": self.confidence,
            "ported_date": self.ported_date,
            // Assumed: answered always; the option that asks for it is not part of the bulk request.
            "disposable_number": self.disposable,
            "metadata": metadata,
        })
    }
}

impl Network {
    fn of(number: &PhoneNumber, region: Region, phone_type: &str, hash: u64) -> Option<Self> {
        let alpha2 = region.as_region_str();
        let simulated = phones::country(&alpha2);
        let operators = simulated.filter(|_| phone_type == "mobile").map(|country| {
            let count = country.operators.len();
            let original = pick(hash, 3, count);
            let moved = if pick(hash, 4, 5) == 0 { 1 + pick(hash, 5, count - 1) } else { 0 };
            (&country.operators[original], &country.operators[(original + moved) % count])
        });
        Some(Self {
            country: rust_iso3166::from_alpha2(&alpha2)?,
            calling_code: number.country_code,
            national: number.get_national_significant_number(),
            simulated,
            operators,
        })
    }

    fn is_ported(&self) -> bool {
        self.operators.is_some_and(|(original, present)| original.mcc_mnc != present.mcc_mnc)
    }

    /// Assumed: "available" wherever an operator is known, empty texts where none is.
    fn show(&self) -> Value {
        let (original, present) = self.operators.unzip();
        let name = |operator: Option<&Operator>| operator.map_or("", |operator| operator.name);
        let status = |operator: Option<&Operator>| operator.map_or("", |_| "available");
        let identity = |operator: Option<&Operator>| operator.map_or("", |operator| operator.mcc_mnc);
        let mail = |domain: Option<&str>| domain.map(|domain| format!("{}@{domain}", self.national));
        let country_name = self.simulated.map_or(self.country.name, |country| country.name);
        json!({
            "original_operator_name": name(original),
            "original_network_status": status(original),
            "original_home_network_identity": identity(original),
            "original_country_prefix": self.calling_code.to_string(),
            "original_country_name": country_name,
            "original_country_iso": self.country.alpha3,
            "operator_name": name(present),
            "network_status": status(present),
            "home_network_identity": identity(present),
            "country_prefix": self.calling_code.to_string(),
            "country_name": country_name,
            "country_iso": self.country.alpha3,
            "is_ported": if self.is_ported() { "yes" } else { "no" },
            "email_to_sms_address": mail(present.and_then(|operator| operator.sms_domain)),
            "email_to_mms_address": mail(present.and_then(|operator| operator.mms_domain)),
        })
    }
}

/// A valid number. Without a country, digits alone are taken for E.164, as in the documented requests.
fn parse(number: &str, country: Option<&str>) -> Option<PhoneNumber> {
    let region = country.and_then(iso_country).and_then(|country| Region::from_code(country.alpha2).ok());
    let text = if region.is_some() || number.trim_start().starts_with('+') {
        Cow::Borrowed(number)
    } else {
        Cow::Owned(format!("+{number}"))
    };
    let parsed = PHONE_NUMBER_UTIL.parse(&*text, region).ok()?;
    // libphonenumber does not count the films' numbers as valid everywhere.
    let is_known = parsed.is_valid() || is_for_films(&parsed.format_as(PhoneNumberFormat::E164));
    is_known.then_some(parsed)
}

fn formatted(number: &PhoneNumber, e164: &str, format: &str) -> String {
    match format {
        "E164" => e164.trim_start_matches('+').to_owned(),
        "PLUS_E164" => e164.to_owned(),
        "NATIONAL" => number.format_as(PhoneNumberFormat::National).into_owned(),
        alpha3 => iso_country(alpha3)
            .and_then(|country| Region::from_code(country.alpha2).ok())
            .map(|region| number.format_out_of_country_calling_number(region).into_owned())
            .unwrap_or_default(),
    }
}

fn phone_type(number: &PhoneNumber, e164: &str, hash: u64) -> &'static str {
    if is_for_films(e164) {
        return "stage and screen";
    }
    if pick(hash, 10, 50) == 0 {
        return "unknown";
    }
    match number.get_type() {
        PhoneNumberType::FixedLine => "landline",
        PhoneNumberType::Mobile => "mobile",
        // North America does not show it in the number.
        PhoneNumberType::FixedLineOrMobile => [
            "mobile",
            "mobile",
            "mobile",
            "mobile",
            "mobile",
            "mobile",
            "landline",
            "landline",
            "mobile or landline",
        ][pick(hash, 8, 9)],
        PhoneNumberType::TollFree => "toll free",
        PhoneNumberType::PremiumRate => "premium",
        PhoneNumberType::SharedCost => "shared cost",
        PhoneNumberType::VoIP => "voip",
        PhoneNumberType::PersonalNumber => "personal number",
        PhoneNumberType::Pager => "pager",
        PhoneNumberType::UAN => "universal access number",
        PhoneNumberType::VoiceMail => "voicemail only",
        PhoneNumberType::Unknown => "unknown",
    }
}

/// Numbers that the authorities of the UK (Ofcom) and North America (555-01XX) keep for drama use.
fn is_for_films(e164: &str) -> bool {
    (e164.len() == 13 && (e164.starts_with("+447700900") || e164.starts_with("+441632960")))
        || (e164.len() == 12 && e164.starts_with("+1") && e164.get(5..10) == Some("55501"))
}

fn confidence(phone_type: &str, hash: u64) -> &'static str {
    match (pick(hash, 9, 100), phone_type) {
        (0..62, _) => "verified",
        (62..70, _) => "unknown",
        (70..78, _) => "no coverage",
        (78..86, _) => "dead",
        (86..94, _) => "absent",
        (_, "mobile") => "teleservice not provisioned",
        _ => "verified",
    }
}

/// A day between 2012 and 2023.
fn ported_date(hash: u64) -> String {
    const FIRST: Timestamp = Timestamp::constant(1_325_376_000, 0);
    let seconds = i64::try_from(pick(hash, 6, 12 * 365 * 24 * 3_600)).unwrap_or_default();
    later(FIRST, SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Network, Verdict, iso_country};

    const CONFIDENCES: [&str; 7] =
        ["verified", "absent", "teleservice not provisioned", "unverified", "unknown", "no coverage", "dead"];
    const PHONE_TYPES: [&str; 14] = [
        "mobile",
        "landline",
        "mobile or landline",
        "toll free",
        "premium",
        "shared cost",
        "voip",
        "stage and screen",
        "pager",
        "universal access number",
        "personal number",
        "voicemail only",
        "bad format",
        "unknown",
    ];

    /// Fifteen kinds of numbers, `##` for 00 to 19.
    const KINDS: [&str; 15] = [
        "+4474001234##",
        "+4420718387##",
        "+44161496##00",
        "+121255512##",
        "+141555501##",
        "+4477009001##",
        "+18002345###",
        "+4490123456##",
        "+491801234##",
        "+339123456##",
        "+4470123456##",
        "+447640123###",
        "+4455123456##",
        "+39331012##501",
        "+49##",
    ];

    #[test]
    fn every_documented_word_occurs_in_300_numbers() {
        let numbers = KINDS.iter().flat_map(|kind| {
            (0..20).map(move |n| kind.replace("##", &format!("{n:02}")).replace('#', &(n % 10).to_string()))
        });
        let verdicts: Vec<Verdict> = numbers.map(|number| Verdict::of(&number, None, "E164", true)).collect();
        assert_eq!(verdicts.len(), 300);
        let confidences: BTreeSet<&str> = verdicts.iter().map(|verdict| verdict.confidence).collect();
        let phone_types: BTreeSet<&str> = verdicts.iter().map(|verdict| verdict.phone_type).collect();
        assert_eq!(confidences, BTreeSet::from(CONFIDENCES));
        assert_eq!(phone_types, BTreeSet::from(PHONE_TYPES));
        assert!(verdicts.iter().any(|verdict| verdict.network.as_ref().is_some_and(Network::is_ported)));
    }

    #[test]
    fn numbers_are_read_with_the_country_that_was_given() {
        let formatted = |number, country, format| Verdict::of(number, country, format, false).formatted;
        assert_eq!(formatted("441206250380", None, "PLUS_E164"), "+441206250380");
        assert_eq!(formatted("1206250380", Some("GBR"), "E164"), "441206250380");
        assert_eq!(formatted("441206250380", Some("GBR"), "E164"), "441206250380");
        assert_eq!(formatted("12026298914", Some("USA"), "NATIONAL"), "(202) 629-8914");
        assert_eq!(formatted("12026298914", None, "GBR"), "00 1 202-629-8914");
        assert_eq!(Verdict::of("1206250380", None, "E164", false).confidence, "unverified");
        assert!(iso_country("GB").is_none());
    }
}
