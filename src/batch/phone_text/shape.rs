//! Checks of the separators: dates, decimals, IP addresses, brackets and slashes.

use super::NotANumber;
use super::scan::count_digits;

/// Refuses dates and decimals. Names what the text may be besides a number: a date of six digits, an IP address or a
/// negative number.
pub(super) fn check_shape(number: &str) -> Result<Option<NotANumber>, NotANumber> {
    let mut resembles = number.starts_with('-').then_some(NotANumber::Negative);
    for separator in ['-', '/', '.'] {
        let parts: Vec<_> = number.split(separator).map(str::trim).collect();
        let values: Option<Vec<u64>> =
            parts.iter().map(|part| part.parse().ok().filter(|_| !part.starts_with('+'))).collect();
        let Some(values) = values else { continue };
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let is_day = |a: u64, b: u64| (1..=31).contains(&a.max(b)) && (1..=12).contains(&a.min(b));
        let is_year = |year: u64| (1900..2100).contains(&year);
        match (&lengths[..], &values[..]) {
            ([4, 1 | 2, 1 | 2], [year, a, b]) | ([1 | 2, 1 | 2, 4], [a, b, year])
                if is_year(*year) && is_day(*a, *b) =>
            {
                return Err(NotANumber::Date);
            }
            // New Caledonia and Suriname write phone numbers like this with other separators.
            ([1 | 2, 1 | 2, 2], [a, b, _]) if is_day(*a, *b) => {
                if separator == '/' {
                    return Err(NotANumber::Date);
                }
                resembles = Some(NotANumber::Date);
            }
            // Phone numbers have these groups too: `20.12.34.56` (Denmark), `212.123.12.34` (Turkey).
            ([2, 2, 2, 2] | [3, 3, 2, 2], _) => {}
            ([_, _, _, _], octets) if separator == '.' => {
                let has_zero = |part: &&str| part.len() > 1 && part.starts_with('0');
                if octets.iter().all(|octet| *octet < 256) && !parts.iter().any(has_zero) {
                    resembles = Some(NotANumber::IpAddress);
                }
            }
            // Domain registries write phone numbers as `44.7400123456` (RFC 5733).
            ([whole, fraction], [_, value])
                if separator == '.' && (*fraction <= 2 || (*whole > 6 && *value == 0)) =>
            {
                return Err(NotANumber::Decimals);
            }
            _ => {}
        }
    }
    match number.split_once('.') {
        Some((_, "0")) => Err(NotANumber::Decimals),
        _ => Ok(resembles),
    }
}

/// Refuses brackets that are not in pairs around digits, and the last digits alone in brackets.
pub(super) fn check_brackets(number: &str) -> Result<(), NotANumber> {
    let mut open: Option<(char, usize)> = None;
    let (mut digits, total) = (0, count_digits(number));
    for c in number.chars() {
        match (c, open) {
            ('0'..='9', _) => digits += 1,
            ('(', None) => open = Some((')', digits)),
            ('[', None) => open = Some((']', digits)),
            (')' | ']', Some((closing, start))) => {
                let is_number = start <= 4 && digits - start >= 6;
                let is_remark = start > 0 && digits == total && !is_number;
                if c != closing || start == digits || is_remark {
                    return Err(NotANumber::Brackets);
                }
                open = None;
            }
            ('(' | '[' | ')' | ']', _) => return Err(NotANumber::Brackets),
            _ => {}
        }
    }
    if open.is_some() { Err(NotANumber::Brackets) } else { Ok(()) }
}

/// Counts the digits before the last slash, where a second number may begin.
pub(super) fn find_slash(number: &str) -> Result<Option<usize>, NotANumber> {
    let groups: Vec<_> = number.split('/').map(count_digits).filter(|digits| *digits > 0).collect();
    let [first, ref groups @ ..] = groups[..] else { return Ok(None) };
    let Some(last) = groups.last() else { return Ok(None) };
    let before = groups.iter().rev().nth(1);
    // `06/12/34/56/78` is one number with slashes between its groups.
    if groups.iter().all(|digits| *digits <= 4)
        && before.is_some_and(|before| last >= before || groups.len() > 2)
    {
        return Ok(None);
    }
    // `030 123456/57` is short for two numbers.
    if *last < 4 {
        return Err(NotANumber::SeveralNumbers);
    }
    Ok(Some(first + groups.iter().sum::<usize>() - last))
}
