//! How vendors' answers are read: a field of an unexpected type is missing, and the rest of the answer is read.
//!
//! A paid batch must stay readable whatever one of its fields holds. So each field is a [`Field`], which accepts every
//! JSON type and remembers what it could not use; [`Drift`] counts that. What `serde_json` refuses although the rest
//! can be read is repaired first, see [`repair`](super::repair).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::repair::repair;
use crate::batch::{Amount, Country, Drift, DriftField, Personal, Status, SubmissionId};
use crate::http::{ProviderError, Reply};

/// Most commas and opening brackets of an answer, several for each field of the largest batch. Each becomes a value in
/// memory that is larger than its JSON.
const MAX_PARTS: usize = 4_000_000;
/// Most results of one batch, several times what any vendor takes in one.
const MAX_RESULTS: usize = 50_000;
/// Dates before mobile networks, and dates that no vendor can know yet, are none.
const POSSIBLE_DATES: RangeInclusive<Timestamp> =
    Timestamp::constant(315_532_800, 0)..=Timestamp::constant(4_102_444_800, 0);

/// The text of a successful answer.
pub(super) struct Document<'a> {
    text: Cow<'a, str>,
    /// None where it cannot be repaired.
    repaired: OnceCell<Option<String>>,
}

impl<'a> Document<'a> {
    /// Takes the text of an answer, without a byte order mark. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// `Malformed` when the answer has more parts than any batch.
    pub(super) fn of(reply: &'a Reply) -> Result<Self, ProviderError> {
        let body = &reply.body;
        if count_parts(body) > MAX_PARTS {
            return Err(ProviderError::malformed("the answer has more parts than any batch"));
        }
        // Checking the whole text at once is several times faster than looking for what has to be replaced.
        let text = match str::from_utf8(body) {
            Ok(text) => Cow::Borrowed(text.trim_matches(is_filler)),
            Err(_) => Cow::Owned(String::from_utf8_lossy(body).trim_matches(is_filler).to_owned()),
        };
        Ok(Self { text, repaired: OnceCell::new() })
    }

    /// Reads the text as a JSON object.
    ///
    /// # Errors
    /// `Malformed` when it is anything else, also a list: one would be read as the fields in their order.
    pub(super) fn read<'d, T: Deserialize<'d>>(&'d self) -> Result<T, ProviderError> {
        const MALFORMED: ProviderError = ProviderError::malformed("the answer is not the documented JSON");
        let object: Field<Object<T>> = match serde_json::from_str(&self.text) {
            Ok(value) => value,
            // Half an answer cannot be completed.
            Err(error) if error.is_eof() => return Err(MALFORMED),
            Err(_) => {
                let repaired = self.repaired.get_or_init(|| repair(&self.text)).as_deref();
                serde_json::from_str(repaired.ok_or(MALFORMED)?).map_err(|_| MALFORMED)?
            }
        };
        object.value().map(|Object(fields)| fields).ok_or(MALFORMED)
    }
}

/// What proxies and exports put around a document: byte order marks, NULs and white space.
fn is_filler(c: char) -> bool {
    matches!(c, '\u{feff}' | '\0') || c.is_ascii_whitespace()
}

/// How many commas and opening brackets there are. Sums of bytes are what the compiler makes fast code of.
fn count_parts(body: &[u8]) -> usize {
    let is_part = |byte: &u8| u8::from(matches!(byte, b',' | b'[' | b'{'));
    body.chunks(255).map(|chunk| usize::from(chunk.iter().map(is_part).sum::<u8>())).sum()
}

/// One field of an answer.
#[derive(Clone, Copy, Default)]
pub(super) enum Field<T> {
    /// It is not there, or `null`.
    #[default]
    Absent,
    /// It is there, and is nothing that can be used.
    Odd,
    /// Its value.
    Is(T),
}

impl<T> Field<T> {
    /// The value; one that cannot be used is counted as drift of `field`.
    pub(super) fn read(self, drift: &mut Drift, field: DriftField) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent => None,
            Self::Odd => {
                drift.add(field);
                None
            }
        }
    }

    /// The value, where what is odd about it is counted elsewhere.
    pub(super) fn value(self) -> Option<T> {
        self.read(&mut Drift::default(), DriftField::Result)
    }

    fn as_ref(&self) -> Field<&T> {
        match self {
            Self::Absent => Field::Absent,
            Self::Odd => Field::Odd,
            Self::Is(value) => Field::Is(value),
        }
    }
}

impl Field<Text<'_>> {
    /// The text without the blanks around it; none for a blank one.
    pub(super) fn text(&self, drift: &mut Drift, field: DriftField) -> Option<&str> {
        non_blank(self.as_ref().read(drift, field)?)
    }

    /// A copy of the text.
    pub(super) fn owned(&self, drift: &mut Drift, field: DriftField) -> Option<String> {
        self.text(drift, field).map(str::to_owned)
    }

    /// A copy of a text about a person.
    pub(super) fn personal(&self, drift: &mut Drift, field: DriftField) -> Option<Personal<String>> {
        self.owned(drift, field).map(Personal)
    }

    /// A date; any other text is drift, unless it says that there is none.
    pub(super) fn date(&self, drift: &mut Drift) -> Option<Timestamp> {
        let text = self.text(drift, DriftField::Date)?;
        let date = timestamp(text).filter(|date| POSSIBLE_DATES.contains(date));
        if date.is_none() {
            drift.add(DriftField::Date);
        }
        date
    }

    /// A country by either of its codes; any other text is drift.
    pub(super) fn country(&self, drift: &mut Drift) -> Option<Country> {
        country(self.text(drift, DriftField::Country)?, drift)
    }
}

impl Field<Digits<'_>> {
    /// The text without the blanks around it; none for a blank one.
    pub(super) fn digits(&self, drift: &mut Drift, field: DriftField) -> Option<&str> {
        non_blank(self.as_ref().read(drift, field)?)
    }
}

fn non_blank<T: AsRef<str>>(text: &T) -> Option<&str> {
    Some(text.as_ref().trim()).filter(|text| !text.is_empty())
}

/// The country of a code; any other text is drift.
pub(super) fn country(code: &str, drift: &mut Drift) -> Option<Country> {
    let country = Country::from_code(code);
    if country.is_none() {
        drift.add(DriftField::Country);
    }
    country
}

/// What can be made of the JSON types; the default is nothing.
pub(super) trait FromJson<'de>: Sized {
    fn from_text(_: Cow<'de, str>) -> Option<Self> {
        None
    }

    fn from_whole(_: u64) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl<'de, T: FromJson<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<T> From<Option<T>> for Field<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Odd, Self::Is)
    }
}

impl<'de, T: FromJson<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(T::from_bool(value).into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(T::from_whole(number).into())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Field::Odd)
    }

    /// Some writers put a fraction of zero behind every number.
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let whole = number.fract() == 0.0 && (0.0..=EXACT).contains(&number);
        let whole = whole.then(|| format!("{number:.0}")).and_then(|number| number.parse().ok());
        Ok(whole.and_then(T::from_whole).into())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(T::from_text(text.into()).into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::from_text(text.to_owned().into()).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::from_object(object).map(Into::into)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::from_list(list).map(Into::into)
    }
}

/// A string, copied out of the answer only if it has escapes.
pub(super) struct Text<'a>(Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> FromJson<'de> for Text<'a> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(text))
    }
}

/// A string, or a number that stands for its digits: ids and phone numbers are written as either.
pub(super) struct Digits<'a>(Cow<'a, str>);

impl AsRef<str> for Digits<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> FromJson<'de> for Digits<'a> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(text))
    }

    fn from_whole(number: u64) -> Option<Self> {
        Some(Self(number.to_string().into()))
    }
}

/// A count, as a number or as a string of digits.
impl FromJson<'_> for u64 {
    fn from_text(text: Cow<'_, str>) -> Option<Self> {
        let text = text.trim();
        let text = text
            .split_once('.')
            .filter(|(_, zeros)| zeros.bytes().all(|zero| zero == b'0'))
            .map_or(text, |(whole, _)| whole);
        text.parse().ok()
    }

    fn from_whole(number: u64) -> Option<Self> {
        Some(number)
    }
}

/// A yes or a no, as such or as a word.
impl FromJson<'_> for bool {
    fn from_text(text: Cow<'_, str>) -> Option<Self> {
        match text.trim() {
            word if same_word(word, "true") || same_word(word, "yes") => Some(true),
            word if same_word(word, "false") || same_word(word, "no") => Some(false),
            _ => None,
        }
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

/// An object with fields of its own.
#[derive(Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> FromJson<'de> for Object<T> {
    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(|fields| Some(Self(fields)))
    }
}

/// A list with at most `MAX` entries. A longer one is an error: a few bytes of JSON may become a kilobyte in memory.
pub(super) struct BoundedVec<T, const MAX: usize = MAX_RESULTS>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> FromJson<'de> for BoundedVec<T, MAX> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            if entries.len() == MAX {
                return Err(A::Error::custom("too many entries"));
            }
            entries.push(entry);
        }
        Ok(Some(Self(entries)))
    }
}

/// What one number or string says of an amount; blank is absent.
pub(super) fn amount(json: Option<&RawValue>, drift: &mut Drift) -> Option<Amount> {
    let json = json?.get();
    // Not a float: it could not hold every decimal.
    let text =
        if json.starts_with('"') { serde_json::from_str(json).unwrap_or_default() } else { json.to_owned() };
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let amount = text.parse().ok();
    if amount.is_none() {
        drift.add(DriftField::Cost);
    }
    amount
}

/// JSON of any form that begins with one of `starts`; anything else, and what is longer than `max` bytes, is drift: in
/// memory it would be many times its size.
pub(super) fn value(
    json: Option<&RawValue>,
    starts: &[u8],
    max: usize,
    drift: &mut Drift,
    field: DriftField,
) -> Value {
    let Some(json) = json.map(RawValue::get).filter(|json| *json != "null") else { return Value::Null };
    let is_expected =
        json.len() <= max && json.as_bytes().first().is_some_and(|first| starts.contains(first));
    let value = is_expected.then(|| serde_json::from_str(json).ok()).flatten();
    if value.is_none() {
        drift.add(field);
    }
    value.unwrap_or_default()
}

/// Our own id of a submission, in the one form that is sent to vendors (RFC 9562 4). A caller's own text is none.
pub(super) fn submission_id(text: &str) -> Option<SubmissionId> {
    const HYPHENATED: usize = 36;
    (text.len() == HYPHENATED).then(|| text.parse().ok()).flatten()
}

/// Whether two words are the same but for case and separators: `No coverage`, `no_coverage` and `NoCoverage` are.
fn same_word(one: &str, other: &str) -> bool {
    fn letters(word: &str) -> impl Iterator<Item = char> {
        word.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase)
    }
    one.eq_ignore_ascii_case(other) || letters(one).eq(letters(other))
}

/// What a vendor's word for an outcome means, whatever its case and separators.
pub(super) fn meaning<T: Copy>(words: &[(&str, T)], word: &str) -> Option<T> {
    let exact = words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    exact.or_else(|| words.iter().find(|(known, _)| same_word(known, word))).map(|(_, meaning)| *meaning)
}

/// The status of a vendor's word in whatever case. Any other spelling is unknown: a batch must not end by accident.
pub(super) fn status_of(words: &[(&str, Status)], word: &str) -> Status {
    let known = words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    known.map_or(Status::Unknown, |(_, status)| *status)
}

/// The word for the status of a batch.
///
/// # Errors
/// `Malformed` when there is none.
pub(super) fn status_word<'a>(word: &'a Field<Text<'_>>) -> Result<&'a str, ProviderError> {
    let word = word.text(&mut Drift::default(), DriftField::Status);
    word.ok_or_else(|| ProviderError::malformed("the answer has no status"))
}

/// An ISO 8601 date-time with 0 to 9 fractional digits; without an offset it is taken as UTC.
fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(local).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_the_limit_and_no_more() {
        let list = |length: usize| format!("[{}0]", "0,".repeat(length - 1));
        let entries = |json: &str| serde_json::from_str::<Field<BoundedVec<u8>>>(json);
        assert_eq!(entries(&list(MAX_RESULTS)).unwrap().value().unwrap().0.len(), MAX_RESULTS);
        assert!(entries(&list(MAX_RESULTS + 1)).is_err());
        assert!(serde_json::from_str::<Field<BoundedVec<u8, 2>>>("[0,0]").is_ok());
        assert!(serde_json::from_str::<Field<BoundedVec<u8, 2>>>("[0,0,0]").is_err());
        assert!(entries("[]").unwrap().value().unwrap().0.is_empty());
        for other in ["7", "null", "{}", "\"[]\"", "true", "-1", "1.5"] {
            assert!(entries(other).unwrap().value().is_none(), "{other}");
        }
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn any_json_is_read_up_to_its_limit_and_only_of_the_types_that_are_expected() {
        let long = format!("[{}0]", "0,".repeat(29));
        for (json, expected, is_drift) in [
            ("null", Value::Null, false),
            (r#"{"a":1}"#, serde_json::json!({"a": 1}), false),
            ("[1]", serde_json::json!([1]), false),
            ("7", Value::Null, true),
            (r#""text""#, Value::Null, true),
            (&*long, Value::Null, true),
        ] {
            let mut drift = Drift::default();
            assert_eq!(
                value(Some(&raw(json)), b"{[", 60, &mut drift, DriftField::Options),
                expected,
                "{json}"
            );
            assert_eq!(drift != Drift::default(), is_drift, "{json}");
        }
        let mut drift = Drift::default();
        assert_eq!(value(Some(&raw("[1]")), b"{", 60, &mut drift, DriftField::Options), Value::Null);
        assert_eq!(value(None, b"{", 60, &mut Drift::default(), DriftField::Options), Value::Null);
        assert_ne!(drift, Drift::default());
    }

    #[test]
    fn words_are_the_same_whatever_their_case_and_separators() {
        for word in ["no coverage", "No Coverage", "NO_COVERAGE", "NoCoverage", "no-coverage", "nocoverage"] {
            assert!(same_word(word, "no coverage"), "{word}");
        }
        assert!(!same_word("no", "no coverage"));
    }
}
