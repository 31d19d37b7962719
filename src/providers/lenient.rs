//! How vendors' figures, dates and texts are read: everything that is documented somewhere, and what is not
//! a usable value is no value.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::batch::{Personal, SubmissionId};
use crate::http::{ProviderError, Reply};

/// Most commas and opening brackets of an answer, several for each field of the largest batch. What is in memory for
/// each is small, but larger than they are.
const MOST_PARTS: usize = 4_000_000;

/// The document of a successful answer. Its UTF-8 is checked at once: that is several times faster than text by
/// text. An answer with a broken text is still read if nobody needs that text.
///
/// # Errors
/// `Malformed` when it is not the JSON that was expected.
pub(super) fn json<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, ProviderError> {
    if reply.body.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > MOST_PARTS {
        return Err(ProviderError::malformed("the answer has more parts than any batch"));
    }
    str::from_utf8(&reply.body)
        .map_or_else(|_| serde_json::from_slice(&reply.body), serde_json::from_str)
        .map_err(|_| ProviderError::malformed("the answer is not the documented JSON"))
}

/// A text that is not copied out of the answer unless it holds escapes. serde copies an `Option<Cow<str>>` always.
#[derive(Default)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.to_owned().into())
    }
}

/// A count, sent as a number or as a text of digits; anything else is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor).map(Count)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Some(count))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(count).ok())
    }

    /// Some writers put a fraction of zero behind every number.
    fn visit_f64<E>(self, figure: f64) -> Result<Self::Value, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let whole = figure.fract() == 0.0 && (0.0..=EXACT).contains(&figure);
        Ok(whole.then(|| format!("{figure:.0}")).and_then(|figure| figure.parse().ok()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.trim().parse().ok())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A text that says something: none for an absent or blank one.
pub(super) fn said<T: AsRef<str>>(text: Option<&T>) -> Option<&str> {
    text.map(AsRef::as_ref).map(str::trim).filter(|text| !text.is_empty())
}

/// A copy of a text that says something.
pub(super) fn owned(text: Option<&Text<'_>>) -> Option<String> {
    said(text).map(str::to_owned)
}

/// A copy of a text about a person.
pub(super) fn personal(text: Option<&Text<'_>>) -> Option<Personal<String>> {
    owned(text).map(Personal)
}

/// Our own id of a submission, in the one form that is sent to vendors (RFC 9562 4); a caller's own text is none.
pub(super) fn submission_id(text: &str) -> Option<SubmissionId> {
    const HYPHENATED: usize = 36;
    (text.len() == HYPHENATED).then(|| text.parse().ok()).flatten()
}

/// The word for the status of a batch.
///
/// # Errors
/// `Malformed` when there is none.
pub(super) fn status_word<'a>(word: Option<&'a Text<'_>>) -> Result<&'a str, ProviderError> {
    said(word).ok_or_else(|| ProviderError::malformed("the answer has no status"))
}

/// An ISO 8601 date-time with 0 to 9 fractional digits; without an offset it is taken as UTC.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(local).ok()
    })
}
