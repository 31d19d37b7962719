//! Phone numbers, countries and words, in the one form that the common schema uses.

use std::fmt;

use rlibphonenumber::{NumberLengthType, PhoneNumber};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::Personal;

/// A phone number and what kind of line it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Phone {
    /// The number as `+E.164`; absent when the vendor's text is not a possible number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = r"^\+[1-9][0-9]{1,14}$", example = "+15705551234")]
    pub e164: Option<E164>,
    /// The vendor's text, only when it is not a possible number.
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
    /// A phone from the text of a vendor that writes the plus sign. Without one it is a national number, which
    /// may belong to anyone.
    #[must_use]
    pub fn from_plus(text: &str) -> Self {
        Self::from_text(text, E164::from_plus(text))
    }

    /// A phone from the text of a vendor that writes the country calling code, with or without a plus sign.
    #[must_use]
    pub fn from_calling_code(text: &str) -> Self {
        Self::from_text(text, E164::from_calling_code(text))
    }

    fn from_text(text: &str, e164: Option<E164>) -> Self {
        let raw = (e164.is_none() && !text.is_empty()).then(|| Personal(text.to_owned()));
        Self { e164, raw, ..Self::default() }
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
    /// Reads a number that begins with a plus sign and its country calling code.
    #[must_use]
    pub fn from_plus(text: &str) -> Option<Self> {
        let text = text.trim();
        text.starts_with('+').then(|| Self::from_calling_code(text))?
    }

    /// Reads a number that begins with its country calling code, with or without a plus sign.
    #[must_use]
    pub fn from_calling_code(text: &str) -> Option<Self> {
        let text = text.trim();
        let number = if text.starts_with('+') {
            PhoneNumber::parse(text, None)
        } else {
            PhoneNumber::parse(format!("+{text}"), None)
        };
        Self::from_number(&number.ok()?)
    }

    fn from_number(number: &PhoneNumber) -> Option<Self> {
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

/// A country by its ISO 3166-1 alpha-2 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(&'static str);

impl Country {
    /// The country of an alpha-2 code, in either case.
    #[must_use]
    pub fn from_alpha2(code: &str) -> Option<Self> {
        let found = rust_iso3166::from_alpha2(code).or_else(|| rust_iso3166::from_alpha2(&canonical(code)));
        found.map(|country| Self(country.alpha2))
    }

    /// The country of an alpha-3 code, in either case.
    #[must_use]
    pub fn from_alpha3(code: &str) -> Option<Self> {
        let found = rust_iso3166::from_alpha3(code).or_else(|| rust_iso3166::from_alpha3(&canonical(code)));
        found.map(|country| Self(country.alpha2))
    }

    /// The alpha-2 code, in upper case.
    #[must_use]
    pub const fn alpha2(self) -> &'static str {
        self.0
    }

    /// The alpha-3 code, in upper case.
    #[must_use]
    pub fn alpha3(self) -> &'static str {
        // Every country comes out of this table, so that it is found again.
        rust_iso3166::from_alpha2(self.0).map_or(self.0, |country| country.alpha3)
    }
}

/// A country code as the standard writes it; most come so and are found without this copy.
fn canonical(code: &str) -> String {
    code.trim().to_ascii_uppercase()
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
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

    #[test]
    fn every_country_has_both_codes() {
        for (alpha2, alpha3) in rust_iso3166::ALL_ALPHA2.iter().zip(rust_iso3166::ALL_ALPHA3) {
            let country = Country::from_alpha2(&alpha2.to_lowercase()).unwrap();
            assert_eq!((country.alpha2(), country.alpha3()), (*alpha2, *alpha3));
            assert_eq!(Country::from_alpha3(alpha3), Some(country));
        }
    }

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
            assert_eq!(E164::from_plus(text).is_some(), fits, "{text}");
        }
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
            for number in [E164::from_plus(&text), E164::from_calling_code(&text)].into_iter().flatten() {
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
