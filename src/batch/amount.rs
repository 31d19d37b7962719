//! What a vendor charges: an exact decimal.

use std::str::FromStr;
use std::{fmt, iter};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Millionths in one unit.
const MILLION: u64 = 1_000_000;
/// The largest amount of one batch, in units. Sums of many stay within 64 bits.
const MAX_UNITS: u64 = 1_000_000_000;
/// The most digits of an amount in millionths, leading zeros included.
const MAX_DIGITS: usize = 64;

/// An amount in a vendor's unit, exact to a millionth of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(u64);

impl Amount {
    /// An amount of whole units.
    #[must_use]
    pub const fn from_units(units: u64) -> Self {
        Self(units.saturating_mul(MILLION))
    }

    /// An amount in millionths of the unit, as the store keeps it.
    #[must_use]
    pub const fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// The amount in millionths of the unit.
    #[must_use]
    pub const fn millionths(self) -> u64 {
        self.0
    }
}

/// The text is not an amount from 0 to a billion units with at most six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a decimal from 0 to 1000000000 with at most six decimals")]
pub struct InvalidAmount;

/// Reads a decimal such as `40`, `40.5` or `4.05e1` (RFC 8259 6) without rounding it.
impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| InvalidAmount)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return Err(InvalidAmount);
        }
        let digits = [whole, fraction].concat();
        if digits.bytes().all(|digit| digit == b'0') {
            return Ok(Self(0));
        }
        // How many of the digits, with zeros behind them, are millionths.
        let end = i64::try_from(whole.len()).map_err(|_| InvalidAmount)? + i64::from(exponent) + 6;
        let end = usize::try_from(end).ok().filter(|end| *end <= MAX_DIGITS).ok_or(InvalidAmount)?;
        let millionths: String = digits.chars().chain(iter::repeat('0')).take(end).collect();
        let millionths: u64 = millionths.parse().map_err(|_| InvalidAmount)?;
        let is_exact = digits.bytes().skip(end).all(|digit| digit == b'0');
        if is_exact && millionths <= MAX_UNITS * MILLION { Ok(Self(millionths)) } else { Err(InvalidAmount) }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, millionths) = (self.0 / MILLION, self.0 % MILLION);
        if millionths == 0 {
            return write!(f, "{units}");
        }
        let fraction = format!("{millionths:06}");
        write!(f, "{units}.{}", fraction.trim_end_matches('0'))
    }
}

/// A JSON number with all its decimals: a float could not hold every one.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        for (text, shown) in [
            ("40", "40"),
            ("40.0", "40"),
            ("40.5", "40.5"),
            ("0.000001", "0.000001"),
            ("4.05e1", "40.5"),
            ("1e1", "10"),
            ("4050E-2", "40.5"),
            ("40000000e-6", "40"),
            ("0e99", "0"),
            ("0", "0"),
            ("007", "7"),
            ("1000000000", "1000000000"),
        ] {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount.to_string(), shown, "{text}");
            assert_eq!(serde_json::to_string(&amount).unwrap(), shown, "{text}");
        }
        for text in [
            "",
            " ",
            "-1",
            "+1",
            ".5",
            "5.5.5",
            "1e",
            "1e400",
            "1e-7",
            "0.0000001",
            "1000000001",
            "1,5",
            "abc",
            "NaN",
        ] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(millionths in 0..=MAX_UNITS * MILLION) {
            let amount = Amount::from_millionths(millionths);
            prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        }
    }
}
