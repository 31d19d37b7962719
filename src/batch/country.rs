//! Countries, by the codes of ISO 3166-1.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Codes in use outside ISO 3166-1, with the alpha-2 code of their country.
///
/// Withdrawn codes (`AN`, `CS`, `SU`, …) are not countries: most of them stand for several of today's.
const ALIASES: [(&str, &str); 4] = [
    ("EL", "GR"),  // Greece in the European Union
    ("UK", "GB"),  // reserved for the United Kingdom
    ("XK", "XK"),  // Kosovo, user-assigned
    ("XKX", "XK"), // Kosovo, user-assigned
];

/// A country by its ISO 3166-1 alpha-2 code, or `XK`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(&'static str);

impl Country {
    /// The country of an alpha-2 or alpha-3 code in any case; blanks around it and invisible characters are ignored.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        // Most codes need no cleaning.
        if let Some(country) = Self::from_canonical(code) {
            return Some(country);
        }
        let mut letters = [0; 3];
        let mut length = 0;
        let is_visible = |c: &char| c.general_category() != GeneralCategory::Format;
        for c in code.trim_matches(|c: char| c.is_whitespace() || !is_visible(&c)).chars().filter(is_visible)
        {
            *letters.get_mut(length)? = u8::try_from(c).ok()?.to_ascii_uppercase();
            length += 1;
        }
        Self::from_canonical(std::str::from_utf8(letters.get(..length)?).ok()?)
    }

    /// The country of a code in upper case without other characters.
    fn from_canonical(code: &str) -> Option<Self> {
        let found = match code.len() {
            2 => rust_iso3166::from_alpha2(code),
            3 => rust_iso3166::from_alpha3(code),
            _ => return None,
        };
        found
            .map(|country| Self(country.alpha2))
            .or_else(|| ALIASES.iter().find(|(known, _)| *known == code).map(|(_, alpha2)| Self(alpha2)))
    }

    /// The alpha-2 code, in upper case.
    #[must_use]
    pub const fn alpha2(self) -> &'static str {
        self.0
    }

    /// The alpha-3 code, in upper case; `XKX` for Kosovo.
    #[must_use]
    pub fn alpha3(self) -> &'static str {
        // Kosovo is the only country that is not in the table.
        rust_iso3166::from_alpha2(self.0).map_or("XKX", |country| country.alpha3)
    }
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

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = Cow::<str>::deserialize(deserializer)?;
        Self::from_code(&code).ok_or_else(|| serde::de::Error::custom("not a country"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_country_has_both_codes() {
        assert_eq!(rust_iso3166::ALL_ALPHA2.len(), 249);
        for (alpha2, alpha3) in rust_iso3166::ALL_ALPHA2.iter().zip(rust_iso3166::ALL_ALPHA3) {
            let country = Country::from_code(alpha2).unwrap();
            assert_eq!((country.alpha2(), country.alpha3()), (*alpha2, *alpha3));
            for code in [alpha3.to_string(), alpha2.to_lowercase(), alpha3.to_lowercase()] {
                assert_eq!(Country::from_code(&code), Some(country), "{code}");
            }
        }
    }

    #[test]
    fn codes_that_vendors_use_beside_the_standard_are_read() {
        for (code, alpha2, alpha3) in [
            ("XK", "XK", "XKX"),
            ("XKX", "XK", "XKX"),
            ("xkx", "XK", "XKX"),
            ("UK", "GB", "GBR"),
            ("uk", "GB", "GBR"),
            ("EL", "GR", "GRC"),
            ("USA", "US", "USA"),
        ] {
            let country = Country::from_code(code).unwrap();
            assert_eq!((country.alpha2(), country.alpha3()), (alpha2, alpha3), "{code}");
        }
    }

    #[test]
    fn blanks_and_invisible_characters_are_ignored() {
        for code in [
            " GB",
            "gb\n",
            "\u{feff}GB",
            "\u{200b}g\u{ad}b\u{200b} ",
            "\u{202a}GBR\u{202c}",
            "\u{a0}Gb\u{3000}",
            "\u{200b} uk \u{200b}",
        ] {
            assert_eq!(Country::from_code(code).map(Country::alpha2), Some("GB"), "{code:?}");
        }
    }

    #[test]
    fn what_is_no_country_is_none() {
        for code in [
            "",
            " ",
            "X",
            "XX",
            "ZZ",
            "EU",
            "UN",
            "AN",
            "SU",
            "CS",
            "YU",
            "DD",
            "AP",
            "001",
            "44",
            "+44",
            "XKXX",
            "G B",
            "G.B",
            "U.K.",
            "ＧＢ",
            "ĜB",
            "ıt",
            "England",
            "United Kingdom",
            "null",
            "\u{200b}",
            "GBRR",
            "XXX",
            "ANT",
            "SCG",
            "EUR",
            "826",
        ] {
            assert_eq!(Country::from_code(code), None, "{code:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_country_that_is_found_again_or_none(code in prop_oneof![".{0,4}", "[ \u{200b}]?[A-Za-z]{2,3} ?"]) {
            if let Some(country) = Country::from_code(&code) {
                prop_assert_eq!(Country::from_code(country.alpha2()), Some(country));
                prop_assert_eq!(Country::from_code(country.alpha3()), Some(country));
            }
        }
    }
}
