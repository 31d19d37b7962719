//! Maps the characters of phone texts to ASCII.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The ASCII character with the same meaning in a phone text, or the character in lower case; `None` if invisible.
pub(super) fn canonical(c: char) -> Option<char> {
    Some(match c {
        '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
        '\t' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' => ' ',
        '\0'..='\u{7f}' => c.to_ascii_lowercase(),
        // Invisible, although not in the category Cf.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => {
            return None;
        }
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => return None,
        // Full-width forms of ASCII.
        '！'..='～' => char::from_u32(u32::from(c) - 0xfee0)?.to_ascii_lowercase(),
        '\u{fe62}' | '\u{2795}' => '+',
        '\u{2018}' | '\u{2019}' | '\u{2bc}' => '\'',
        '\u{fe59}' => '(',
        '\u{fe5a}' => ')',
        // A middle dot separates groups, or the numbers of a list, as a slash does.
        '\u{b7}' | '\u{2027}' | '\u{30fb}' | '\u{2044}' | '\u{2215}' => '/',
        // The minus sign, and the vowel mark that is typed as a hyphen in Japan.
        '\u{2212}' | '\u{30fc}' | '\u{ff70}' => '-',
        // Wave dashes mark a range.
        '\u{301c}' | '\u{3030}' => '~',
        _ if c.is_whitespace() => ' ',
        _ => match c.general_category() {
            GeneralCategory::Format => return None,
            GeneralCategory::DashPunctuation => '-',
            GeneralCategory::DecimalNumber => decimal_digit(c),
            _ => c.to_lowercase().next()?,
        },
    })
}

/// The ASCII digit of any script's digit. Unicode encodes ten digits in a row from zero, but rows may be adjacent.
fn decimal_digit(digit: char) -> char {
    let is_digit = |code: &u32| {
        char::from_u32(*code).is_some_and(|c| c.general_category() == GeneralCategory::DecimalNumber)
    };
    let before = (0..u32::from(digit)).rev().take_while(is_digit).count();
    char::from(b"0123456789"[before % 10])
}
