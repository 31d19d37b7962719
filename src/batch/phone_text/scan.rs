//! Splits a phone text into digits and extension, and refuses any other character.

use std::borrow::Cow;

use super::NotANumber;
use super::characters::canonical;
use super::shape::{check_brackets, check_shape, find_slash};

/// Labels of an extension, in lower case. The first match counts, so longer labels stand before their prefixes.
const LABELS: [&str; 21] = [
    "extension",
    "extensión",
    "extensio\u{301}n",
    "exten",
    "extn",
    "ext",
    "xtn",
    "xt",
    "x",
    "#",
    "durchwahl",
    "dw",
    "poste",
    "interno",
    "int",
    "anexo",
    "ramal",
    "klapka",
    "wew",
    "доб",
    "内線",
];

/// Most digits of an extension; more may be a second number.
const MAX_EXTENSION: usize = 7;

/// Digits that may be a whole number without its area code.
const LOCAL_NUMBER: usize = 7;

/// The digits of a phone text and the positions, as counts of digits, that its separators mark.
#[derive(Default)]
pub(super) struct Scanned<'a> {
    /// ASCII digits, with a plus sign in front if the text has one.
    pub(super) digits: Cow<'a, str>,
    /// The extension's digits.
    pub(super) extension: Option<String>,
    /// The first bracket after a digit, if its first digit is a zero.
    pub(super) bracketed_zero: Option<usize>,
    /// Where a second number may begin: after the last slash, or after the last blank before at least seven digits.
    pub(super) second: Option<usize>,
    /// Each blank and each opening bracket.
    pub(super) blanks: Vec<usize>,
    /// What else the text may be: its separators do not tell.
    pub(super) resembles: Option<NotANumber>,
}

/// Splits a text, or says why it is not one number.
pub(super) fn scan(text: &str) -> Result<Scanned<'_>, NotANumber> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // Most texts are plain digits and are borrowed.
        return Ok(Scanned { digits: Cow::Borrowed(text), ..Scanned::default() });
    }
    let ascii: String = text.chars().filter_map(canonical).collect();
    let text = ascii.trim();
    // Spreadsheets mark text cells with an apostrophe.
    let text = text.strip_prefix('\'').unwrap_or(text).trim_start();
    let text = text.strip_prefix("tel:").unwrap_or(text).trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+ -./()[]".contains(c)).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (mut digits, number, extension) = split_rest(number.trim_end(), rest)?;
    let resembles = check_shape(number)?;
    check_brackets(number)?;
    let before = count_digits(&digits);
    let mut second = find_slash(number)?.map(|place| before + place);
    let (mut bracketed_zero, mut blanks) = (None, Vec::new());
    let (mut count, total) = (before, before + count_digits(number));
    let mut previous = ' ';
    for c in number.chars() {
        match c {
            '+' if digits.is_empty() => digits.push('+'),
            '+' => return Err(NotANumber::SeveralNumbers),
            '0'..='9' => {
                if c == '0' && count > 0 && "([".contains(previous) {
                    bracketed_zero.get_or_insert(count);
                }
                if " ([".contains(previous) && count > 0 {
                    blanks.push(count);
                    if total - count >= LOCAL_NUMBER {
                        second = second.max(Some(count));
                    }
                }
                digits.push(c);
                count += 1;
            }
            _ => {}
        }
        // Blanks between a bracket and its first digit do not matter.
        if c != ' ' || !"([".contains(previous) {
            previous = c;
        }
    }
    if count == 0 {
        return Err(NotANumber::NoDigits);
    }
    Ok(Scanned { digits: Cow::Owned(digits), extension, bracketed_zero, second, blanks, resembles })
}

/// The `phone-context`, the number and its extension.
type Parts<'a> = (String, &'a str, Option<String>);

/// Parses the part after the number: nothing, an extension, or parameters of a `tel:` URI (RFC 3966).
fn split_rest<'a>(number: &'a str, rest: &str) -> Result<Parts<'a>, NotANumber> {
    if rest.is_empty() {
        return Ok((String::new(), number, None));
    }
    if let Some(parameters) = rest.strip_prefix(';').filter(|_| rest.contains('=')) {
        let (mut context, mut extension) = (String::new(), None);
        for parameter in parameters.split(';') {
            match parameter.split_once('=') {
                Some(("ext", digits)) if extension.is_none() => {
                    extension = Some(extension_digits(digits).ok_or(NotANumber::Extension)?);
                }
                // A number with a plus has no context, and a domain as context has no calling code.
                Some(("phone-context", code)) if context.is_empty() && !number.contains('+') => {
                    let digits = code.strip_prefix('+').ok_or(NotANumber::OtherCharacters)?;
                    let digits: String = digits.chars().filter(|c| !"-.()".contains(*c)).collect();
                    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                        return Err(NotANumber::OtherCharacters);
                    }
                    context = format!("+{digits}");
                }
                _ => return Err(why_not(number, rest)),
            }
        }
        return Ok((context, number, extension));
    }
    // The whole extension may be in brackets.
    let opened = number.strip_suffix(['(', '[']).zip(rest.strip_suffix([')', ']']));
    let (number, rest) = opened.unwrap_or((number, rest));
    let labelled = rest.strip_prefix([',', ';']).unwrap_or(rest).trim_start();
    let Some(written) = LABELS.iter().find_map(|label| labelled.strip_prefix(label)) else {
        return Err(why_not(number, rest));
    };
    match extension_digits(written) {
        Some(digits) => Ok((String::new(), number, Some(digits))),
        None if written.trim_matches(['.', ':', ' ']).is_empty() => Err(NotANumber::Extension),
        None => Err(why_not(number, rest)),
    }
}

/// The digits after a label.
fn extension_digits(written: &str) -> Option<String> {
    let digits = written.trim_start_matches(['.', ':', '=', '-', ' ']).trim_end();
    let fits =
        (1..=MAX_EXTENSION).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| digits.to_owned())
}

/// Classifies a text that has other characters after its first digits.
fn why_not(number: &str, rest: &str) -> NotANumber {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = rest.strip_prefix(',').unwrap_or_default();
    let exponent = rest.split_once('e').filter(|(before, after)| {
        let before = before.strip_prefix(',').unwrap_or(before);
        (before.is_empty() || is_number(before)) && is_number(after.trim_start_matches(['+', '-']))
    });
    if rest.contains('@') {
        NotANumber::Email
    } else if count_digits(number) + count_digits(rest) == 0 {
        NotANumber::NoDigits
    } else if exponent.is_some() && count_digits(number) > 0 {
        NotANumber::Exponent
    } else if is_number(fraction) && fraction.len() <= 2 {
        NotANumber::Decimals
    } else if count_digits(number) > 4 && count_digits(rest) > 4 || rest.starts_with('\n') {
        NotANumber::SeveralNumbers
    } else {
        NotANumber::OtherCharacters
    }
}

/// Counts the ASCII digits.
pub(super) fn count_digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}
