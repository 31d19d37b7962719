//! Reasons to refuse a caller's phone text.

use std::borrow::Cow;

use super::{NumberingPlan, numbering_plan};
use crate::batch::Country;

/// Why a caller's text is refused before it is sent to a vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotANumber {
    /// The text has no digits.
    NoDigits,
    /// The text has letters or signs that are not separators.
    OtherCharacters,
    /// An exponent, such as `4.47E+11`.
    Exponent,
    /// A decimal fraction, such as `447400123456.0`.
    Decimals,
    /// A calendar date.
    Date,
    /// An e-mail address.
    Email,
    /// An IP address.
    IpAddress,
    /// A number with a minus sign.
    Negative,
    /// Nothing but zeros.
    Zeros,
    /// More than one number.
    SeveralNumbers,
    /// Brackets that are not in pairs around digits, or the last digits alone in brackets.
    Brackets,
    /// The label of an extension without its digits.
    Extension,
    /// A national number without a country.
    NoCountry,
    /// An unknown calling code, or digits that need a country to be understood.
    CallingCode,
    /// A number without its area code.
    AreaCode,
    /// Fewer digits than any number of its country.
    TooShort,
    /// More digits than any number of its country.
    TooLong,
    /// Between the lengths that numbers of its country have.
    Length,
}

impl NotANumber {
    /// What is wrong with `text` and what to change, for the caller; never the text itself.
    #[must_use]
    pub fn detail(self, text: &str, country: Option<Country>) -> Cow<'static, str> {
        let numbers = || match numbering_plan(text, country) {
            Some(NumberingPlan::Country(country)) => format!("numbers of {}", country.alpha2()),
            Some(NumberingPlan::CallingCode(code)) => format!("numbers with the calling code +{code}"),
            None => "any number".to_owned(),
        };
        match self {
            Self::TooShort => format!("must have more digits: too short for {}", numbers()).into(),
            Self::TooLong => format!("must have fewer digits: too long for {}", numbers()).into(),
            Self::Length => {
                format!("must have another number of digits: no {} are this long", numbers()).into()
            }
            other => other.reason().into(),
        }
    }

    /// What is wrong where it is the same in every country.
    const fn reason(self) -> &'static str {
        match self {
            Self::NoDigits => "must be a phone number: it has no digits",
            Self::OtherCharacters => {
                "must have digits and separators only, with an optional plus sign in front and an optional \
                 extension such as `ext. 12` at the end; letters are not converted to digits"
            }
            Self::Exponent => {
                "must have all its digits, not an exponent: format the spreadsheet column as text"
            }
            Self::Decimals => "must have no decimals: format the spreadsheet column as text",
            Self::Date => "must be a phone number, not a date",
            Self::Email => "must be a phone number: this is an e-mail address",
            Self::IpAddress => "must be a phone number, not an IP address",
            Self::Negative => "must be a phone number, not a negative number: leave out the minus sign",
            Self::Zeros => "must be a phone number: all of its digits are zero",
            Self::SeveralNumbers => "must be one number: use one record for each number",
            Self::Brackets => "must have brackets in pairs around digits only, such as (07400) 123456",
            Self::Extension => "must have 1 to 7 digits after the label of the extension, or no extension",
            Self::NoCountry => {
                "is a national number: add `country`, or write it with a plus sign and its calling code"
            }
            Self::CallingCode => {
                "must begin with a known calling code: add one with a plus sign, or add `country`"
            }
            Self::AreaCode => "must include its area code",
            Self::TooShort | Self::TooLong | Self::Length => "must have another number of digits",
        }
    }
}
