//! Phone numbers, countries and words, in the one form that the common schema uses.

use std::fmt;

use rlibphonenumber::{NumberLengthType, PhoneNumber};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::phone_text::{Written, read_phone};
use super::{Country, Personal};

/// Most characters of a text that is no number.
const MAX_RAW: usize = 200;

/// A phone number and what kind of line it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Phone {
    /// The number as `+E.164`; absent when the vendor's text is not a possible number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = r"^\+[1-9][0-9]{1,14}$", example = "+15705551234")]
    pub e164: Option<E164>,
    /// The extension to dial once the number answers, in digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "99")]
    pub extension: Option<Personal<String>>,
    /// The vendor's text, only when it is not a possible number; at most 200 characters of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub raw: Option<Personal<String>>,
    /// Country of the number, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "US")]
    pub country: Option<Country>,
    /// Type of line in `snake_case`: `mobile`, `landline`, `mobile_or_landline`, `toll_free`, … Open
    /// enumeration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "mobile")]
    pub line_type: Option<String>,
    /// The number in the format that was asked for at submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub formatted: Option<Personal<String>>,
    /// Whether the number is known as a disposable one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disposable: Option<bool>,
}

/// Without the number and the vendor's words.
impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phone").finish_non_exhaustive()
    }
}

impl Phone {
    /// The phone of a vendor's text: its number, or the text as it is.
    #[must_use]
    pub fn read(text: &str, written: Written, country: Option<Country>) -> Self {
        match read_phone(text, written, country) {
            Some(read) => Self { e164: Some(read.e164), extension: read.extension, ..Self::default() },
            None => Self::raw(text),
        }
    }

    /// A text that is not a number.
    #[must_use]
    pub fn raw(text: &str) -> Self {
        Self { raw: Some(Personal(text.chars().take(MAX_RAW).collect())), ..Self::default() }
    }

    /// Whether the vendor said nothing of the phone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A possible phone number in the international form of ITU-T E.164: a plus sign and at most 15 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E164(u64);

/// The first number of more than 15 digits.
const TOO_LONG: u64 = 10_u64.pow(15);

impl E164 {
    /// A number of a length that numbers of its country have.
    pub(super) fn from_number(number: &PhoneNumber) -> Option<Self> {
        if number.is_possible_with_reason().ok()? != NumberLengthType::IsPossible {
            return None;
        }
        // The digits of the text form, put together as figures: making and reading the text costs more.
        let zeros = if number.italian_leading_zero() { number.number_of_leading_zeros() } else { 0 };
        let digits =
            u32::try_from(zeros).ok()? + number.national_number.checked_ilog10().map_or(1, |log| log + 1);
        let country_code = u64::try_from(number.country_code).ok()?;
        let digits =
            country_code.checked_mul(10_u64.checked_pow(digits)?)?.checked_add(number.national_number);
        // libphonenumber goes beyond ITU-T E.164: some countries have had longer numbers.
        digits.filter(|digits| *digits < TOO_LONG).map(Self)
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

/// Shows the length only: a phone number is personal data and does not belong in a log.
impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E164({} digits)", self.0.to_string().len())
    }
}

impl Serialize for E164 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A vendor's word in `snake_case`; none for an empty one.
#[must_use]
pub fn snake_case(word: &str) -> Option<String> {
    // What most words are.
    if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Some(word.to_owned());
    }
    let mut snake = String::with_capacity(word.len());
    for part in word.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()) {
        if !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(part.chars().flat_map(char::to_lowercase));
    }
    (!snake.is_empty()).then_some(snake)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the schema has it.
    fn is_e164(text: &str) -> bool {
        let digits = text.strip_prefix('+').unwrap_or_default();
        (2..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    }

    #[test]
    fn a_number_of_more_than_fifteen_digits_is_none() {
        for (text, fits) in
            [("+493012345678901", true), ("+4930123456789012", false), ("+49301234567890123", false)]
        {
            assert_eq!(Phone::read(text, Written::WithPlus, None).e164.is_some(), fits, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_number_is_cut() {
        let raw = |text: &str| Phone::read(text, Written::WithPlus, None).raw.unwrap().0;
        assert_eq!(raw("no number"), "no number");
        assert_eq!(raw(&"é".repeat(100_000)), "é".repeat(MAX_RAW));
    }

    proptest! {
        #[test]
        fn what_is_made_of_a_text_is_e164_or_none(
            text in prop_oneof![
                2 => "[+]?(1|7|2[0-9]{2}|3[0-9]|39|4[0-9]|43|49|5[0-9]|6[0-9]{2}|8[0-9]{2}|979)[0-9]{0,16}",
                1 => "[+]?(39|1|49) ?\\(?0{0,3}[0-9]{1,14}[ ./x;#)-]{0,2}[0-9]{0,5}",
                1 => any::<String>(),
            ],
        ) {
            for written in [Written::WithPlus, Written::WithCallingCode] {
                let Some(number) = Phone::read(&text, written, None).e164 else { continue };
                let shown = number.to_string();
                prop_assert!(is_e164(&shown), "{} became {}", text, shown);
            }
        }

        #[test]
        fn a_word_becomes_snake_case_or_none(word in any::<String>()) {
            if let Some(snake) = snake_case(&word) {
                prop_assert!(snake.split('_').all(|part| !part.is_empty()), "{}", snake);
                prop_assert_eq!(snake_case(&snake), Some(snake));
            }
        }
    }
}
