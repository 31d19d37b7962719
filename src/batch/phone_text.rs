//! Phone numbers as vendors and callers write them.
//!
//! A text is a number only if all of it is: digits of any script with separators, an optional plus sign in front
//! and an optional labelled extension at the end. Letters are never converted to keypad digits.

mod characters;
mod not_a_number;
mod scan;
mod shape;
#[cfg(test)]
mod tests;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber, Region, ValidationError,
};

pub use self::not_a_number::NotANumber;
use self::scan::{Scanned, scan};
use super::phone::E164;
use super::{Country, Personal};

/// Most digits that are parsed: 15 of E.164, and the prefixes that some countries dial before them.
const MAX_DIGITS: usize = 24;

/// Longest text that is read, in bytes: 24 digits of any script, with separators and an extension.
const MAX_TEXT: usize = 512;

/// Calling code of Italy, where the zero of an area code is part of the number.
const ITALY: i32 = 39;

/// Calling code of Benin, and how many digits its numbers have had since 2024-11-30. Up to 9.0.42, libphonenumber's
/// metadata also allows eight digits.
const BENIN: (i32, usize) = (229, 10);

/// Calling code of Hungary, 36, and the two digits that are dialled before an area code there, 06.
const HUNGARY_WITH_TRUNK: &str = "3606";

/// Most digits of an area code, without the zero before it.
const MAX_AREA_CODE: usize = 5;

/// Fewest digits of a number with its area code, in any country.
const SHORTEST: usize = 4;

/// Countries whose whole numbers are three pairs of digits, as in a date of six.
const THREE_PAIRS: [&str; 4] = ["AD", "NC", "PM", "SR"];

/// How a vendor writes international numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// With a plus sign; a number without one is read only with a country.
    WithPlus,
    /// With the calling code in front, with or without a plus sign.
    WithCallingCode,
}

/// A number read from a vendor's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadPhone {
    /// The number without its extension.
    pub(super) e164: E164,
    /// The digits of the extension.
    pub(super) extension: Option<Personal<String>>,
}

/// Reads a vendor's text; `None` unless it is exactly one possible number.
///
/// An international number may belong to a range that libphonenumber does not know yet. A number that is read with
/// `country` must be valid.
pub(super) fn read_phone(text: &str, written: Written, country: Option<Country>) -> Option<ReadPhone> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let mut scanned = scan(text).ok().filter(|scanned| scanned.resembles != Some(NotANumber::IpAddress))?;
    drop_trunk_zero(&mut scanned);
    let digits = &*scanned.digits;
    let national = || parse_national(digits, country?).ok().filter(PhoneNumber::is_valid);
    let number = match international_part(digits) {
        Some(rest) if digits.starts_with('+') => international(rest).ok(),
        Some(rest) => national().or_else(|| international(rest).ok()),
        None if written == Written::WithCallingCode && !digits.starts_with('0') => international(digits).ok(),
        None => with_country(digits, country?),
    }?;
    let e164 = e164(&number).filter(|_| is_one_number(&scanned, &number, country))?;
    Some(ReadPhone { e164, extension: scanned.extension.map(Personal) })
}

/// Parses digits without a plus sign as they are dialled in a country, or with its own calling code in front.
///
/// Both may be valid, and then nobody knows which was meant.
fn with_country(digits: &str, country: Country) -> Option<PhoneNumber> {
    let national = parse_national(digits, country).ok().filter(PhoneNumber::is_valid)?;
    let complete = international(digits)
        .ok()
        .filter(|number| number.country_code == national.country_code && number.is_valid());
    complete.is_none_or(|complete| e164(&complete) == e164(&national)).then_some(national)
}

/// Cleans a caller's number for a vendor: ASCII digits without extension, with a plus sign if the caller wrote one.
///
/// # Errors
/// When the text cannot be exactly one phone number. Sending it would cost money for nothing.
pub fn clean_number(text: &str, country: Option<Country>) -> Result<String, NotANumber> {
    let mut scanned = scan(text)?;
    drop_trunk_zero(&mut scanned);
    let digits = &*scanned.digits;
    let has_pairs = country.is_some_and(|country| THREE_PAIRS.contains(&country.alpha2()));
    match scanned.resembles {
        Some(NotANumber::IpAddress) if country.is_some() => {}
        Some(NotANumber::Date) if has_pairs => {}
        Some(why) => return Err(why),
        None if digits.bytes().all(|digit| matches!(digit, b'+' | b'0')) => return Err(NotANumber::Zeros),
        None => {}
    }
    let national = || possible(parse_national(digits, country.ok_or(NotANumber::NoCountry)?));
    let number = match international_part(digits) {
        Some(rest) if digits.starts_with('+') || country.is_none() => possible(international(rest)),
        Some(rest) => national().or_else(|why| possible(international(rest)).map_err(|_| why)),
        None if digits.starts_with('0') => national(),
        // The digits may be a national number without its trunk zero, so that a length says little.
        None if country.is_none() => possible(international(digits)).map_err(|why| match why {
            NotANumber::TooShort if digits.len() < SHORTEST => why,
            NotANumber::TooLong => why,
            _ => NotANumber::CallingCode,
        }),
        None => national().or_else(|why| possible(international(digits)).map_err(|_| why)),
    };
    let number = number.map_err(|why| {
        if scanned.resembles == Some(NotANumber::IpAddress) {
            return NotANumber::IpAddress;
        }
        // Enough digits for two numbers, with a blank or a slash where the second may begin.
        let reads_as_two = scanned.second.is_some_and(|place| place > MAX_AREA_CODE);
        if why == NotANumber::TooLong && reads_as_two { NotANumber::SeveralNumbers } else { why }
    })?;
    match scanned.resembles {
        Some(NotANumber::IpAddress) if !number.is_valid() => Err(NotANumber::IpAddress),
        _ if is_one_number(&scanned, &number, country) => Ok(scanned.digits.into_owned()),
        _ => Err(NotANumber::SeveralNumbers),
    }
}

/// The ASCII digits of a text that is one number without an extension, with its plus sign if it has one.
pub(super) fn written_digits(text: &str) -> Option<String> {
    let scanned = scan(text).ok().filter(|scanned| scanned.extension.is_none())?;
    Some(scanned.digits.into_owned())
}

/// By whose rules a text is read as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberingPlan {
    /// Those of a country, for a number as it is dialled there.
    Country(Country),
    /// Those of a calling code, which several countries may share.
    CallingCode(i32),
}

/// The numbering plan that [`clean_number`] reads a text by.
fn numbering_plan(text: &str, country: Option<Country>) -> Option<NumberingPlan> {
    let scanned = scan(text).ok()?;
    let digits = &*scanned.digits;
    let complete = match (international_part(digits), country) {
        (Some(rest), _) if digits.starts_with('+') => rest,
        (_, Some(country)) => return Some(NumberingPlan::Country(country)),
        (rest, None) => rest.unwrap_or(digits),
    };
    let codes = (1..=3).filter_map(|length| complete.get(..length)?.parse().ok());
    let mut known = codes.filter(|code| PHONE_NUMBER_UTIL.get_region_for_country_code(*code).is_some());
    known.next().map(NumberingPlan::CallingCode)
}

/// The digits after the plus sign, or after the two zeros that most countries dial instead of it.
fn international_part(digits: &str) -> Option<&str> {
    digits.strip_prefix('+').or_else(|| digits.strip_prefix("00"))
}

/// Parses digits that begin with a calling code.
fn international(digits: &str) -> Result<PhoneNumber, ParseError> {
    // The buffer saves an allocation for each number of a large batch.
    let mut buffer = [b'+'; MAX_DIGITS + 1];
    let text = buffer.get_mut(..=digits.len()).ok_or(ParseError::TooLongNsn)?;
    text[1..].copy_from_slice(digits.as_bytes());
    PhoneNumber::parse(std::str::from_utf8(text).unwrap_or_default(), None)
}

/// Parses digits as they are dialled in a country.
fn parse_national(digits: &str, country: Country) -> Result<PhoneNumber, ParseError> {
    if digits.len() > MAX_DIGITS {
        return Err(ParseError::TooLongNsn);
    }
    PhoneNumber::parse(digits, Region::from_code(country.alpha2()).ok())
}

/// The international form of a possible number.
fn e164(number: &PhoneNumber) -> Option<E164> {
    let (benin, digits) = BENIN;
    let is_withdrawn = number.country_code == benin && count_significant(number) != digits;
    E164::from_number(number).filter(|_| !is_withdrawn)
}

/// Counts the digits after the calling code.
fn count_significant(number: &PhoneNumber) -> usize {
    let zeros = if number.italian_leading_zero() { number.number_of_leading_zeros() } else { 0 };
    let digits = number.national_number.checked_ilog10().map_or(1, |log| log + 1);
    usize::try_from(zeros).unwrap_or(0) + digits as usize
}

/// Checks that the number has a possible length.
fn possible(number: Result<PhoneNumber, ParseError>) -> Result<PhoneNumber, NotANumber> {
    let number = number.map_err(|error| match error {
        ParseError::InvalidCountryCode => NotANumber::CallingCode,
        ParseError::TooLongNsn => NotANumber::TooLong,
        ParseError::NotANumber(_) | ParseError::TooShortAfterIdd | ParseError::TooShortNsn => {
            NotANumber::TooShort
        }
    })?;
    match number.is_possible_with_reason() {
        Ok(NumberLengthType::IsPossible) if e164(&number).is_some() => Ok(number),
        Ok(NumberLengthType::IsPossible) if number.country_code == BENIN.0 => Err(NotANumber::TooShort),
        Ok(NumberLengthType::IsPossible) | Err(ValidationError::TooLong) => Err(NotANumber::TooLong),
        Ok(NumberLengthType::IsPossibleLocalOnly) => Err(NotANumber::AreaCode),
        Err(ValidationError::TooShort) => Err(NotANumber::TooShort),
        Err(ValidationError::InvalidLength) => Err(NotANumber::Length),
        Err(ValidationError::InvalidCountryCode) => Err(NotANumber::CallingCode),
    }
}

/// Drops the zero of `+44 (0)7400 123456`, which is only dialled within the country, unless the number needs it.
fn drop_trunk_zero(scanned: &mut Scanned<'_>) {
    let Some(before) = scanned.bracketed_zero else { return };
    let all = international_part(&scanned.digits).unwrap_or(&scanned.digits);
    let prefix = scanned.digits.len() - all.len();
    // `before` counts the two zeros of an international prefix, but not a plus sign.
    let at = if scanned.digits.starts_with('+') { before } else { before.saturating_sub(prefix) };
    if !(1..=3).contains(&at) || all.starts_with('0') {
        return;
    }
    let trunk = if all.starts_with(HUNGARY_WITH_TRUNK) { 2 } else { 1 };
    let Some(rest) = all.get(at + trunk..) else { return };
    let without = format!("{}{rest}", &all[..at]);
    let (kept, dropped) = (international(all), international(&without));
    let follows_calling_code = [&kept, &dropped]
        .iter()
        .any(|number| number.as_ref().is_ok_and(|number| number.country_code.to_string() == all[..at]));
    let needs_zero = match kept {
        Ok(number) if number.is_valid() => number.italian_leading_zero(),
        kept => match dropped {
            Ok(number) if number.is_valid() => false,
            dropped => kept.is_ok_and(|number| {
                number.country_code == ITALY || !dropped.is_ok_and(|number| e164(&number).is_some())
            }),
        },
    };
    if follows_calling_code && !needs_zero {
        scanned.digits.to_mut().drain(prefix + at..prefix + at + trunk);
        for place in scanned.second.iter_mut().chain(&mut scanned.blanks).filter(|place| **place > before) {
            *place = place.saturating_sub(trunk);
        }
    }
}

/// Whether the separators show one number rather than two.
fn is_one_number(scanned: &Scanned<'_>, number: &PhoneNumber, country: Option<Country>) -> bool {
    let digits = scanned.digits.trim_start_matches('+');
    // More digits than an area code before the last part are a number of their own.
    let prefix = digits.len().saturating_sub(count_significant(number));
    if scanned.second.is_some_and(|place| place.saturating_sub(prefix) > MAX_AREA_CODE) {
        return false;
    }
    // Two short numbers of the country may look like one number with another country's calling code.
    let Some(country) = country.filter(|_| digits.len() == scanned.digits.len()) else { return true };
    let is_valid = number.is_valid();
    let is_complete = |digits| {
        let part =
            parse_national(digits, country).ok().filter(|part| part.country_code != number.country_code);
        part.is_some_and(|part| if is_valid { part.is_valid() } else { e164(&part).is_some() })
    };
    !scanned.blanks.iter().chain(&scanned.second).any(|place| {
        let (first, second) = digits.split_at(*place);
        is_complete(first) && is_complete(second)
    })
}
