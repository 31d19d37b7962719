//! Which result belongs to which number.

use std::collections::{HashMap, HashSet};

use super::Places;
use super::canonical::decoded;
use crate::batch::phone_text::written_digits;
use crate::batch::{BatchResult, Country, E164, Personal, Phone, Record, Written};

/// Matches numbers by their text as it was sent, else by its digits, else by the number that it means. Where one national
/// text was sent for several countries, the number that was validated must be that of the record's country.
pub(super) fn find(places: &mut Places, results: &[BatchResult], records: &[Record]) {
    let echoes: Vec<_> = results.iter().map(|result| Spelling::of(result.input.number.as_ref()?)).collect();
    let sent: Vec<_> = records.iter().map(|record| Spelling::of(record.sent().number.as_ref()?)).collect();
    let number = |record: usize| sent[record].as_ref()?.number(records[record].country);
    let (mut countries, mut ambiguous) = (HashMap::<&str, Option<Country>>::new(), HashSet::<&str>::new());
    for (spelling, record) in sent.iter().zip(records) {
        if let Some(Spelling { digits: Digits::National(digits), .. }) = spelling
            && *countries.entry(digits).or_insert(record.country) != record.country
        {
            ambiguous.insert(digits);
        }
    }
    let key =
        |spelling: &Option<Spelling<'_>>, exact: bool, number: &dyn Fn() -> Option<E164>| -> Option<String> {
            let spelling = spelling.as_ref()?;
            let text = if exact { Some(spelling.text.to_owned()) } else { spelling.digits.key() }?;
            match &spelling.digits {
                Digits::National(digits) if ambiguous.contains(&**digits) => {
                    Some(format!("{text} {}", number()?))
                }
                _ => Some(text),
            }
        };
    for exact in [true, false] {
        places.take_by_key(
            |result| key(&echoes[result], exact, &|| results[result].phone.e164).into_iter().collect(),
            |record| key(&sent[record], exact, &|| number(record)).into_iter().collect(),
            |_, _| true,
        );
    }
    // A vendor may drop the plus sign, or write a national number with its calling code.
    let meant = |result: usize| match &echoes[result].as_ref()?.digits {
        Digits::National(digits) if countries.contains_key(&**digits) => results[result].phone.e164,
        _ => echoes[result].as_ref()?.number(None),
    };
    places.take_by_key(
        |result| meant(result).iter().map(E164::to_string).collect(),
        |record| number(record).iter().map(E164::to_string).collect(),
        |_, _| true,
    );
    // A result that repeats no number is matched by its position where all others stand at theirs.
    let in_order = places.record_of.iter().enumerate().all(|(result, record)| {
        record.map_or_else(|| results[result].input.number.is_none(), |record| record == result)
    });
    let fits = |result: usize, record: usize| {
        let validated = results[result].phone.e164;
        results[result].input.number.is_none()
            && validated.is_none_or(|validated| number(record).is_none_or(|number| number == validated))
    };
    if in_order && results.len() == records.len() {
        (0..results.len()).filter(|index| fits(*index, *index)).for_each(|index| places.take(index, index));
    }
    places.take_last(fits);
}

/// A number as somebody wrote it.
struct Spelling<'a> {
    text: &'a str,
    digits: Digits,
}

/// The digits of a number.
enum Digits {
    /// Those after the plus sign, or after the two zeros in place of it: the same number in every country.
    International(String),
    /// Without either: which number it is may depend on the country.
    National(String),
    /// The text is not one number.
    None,
}

impl<'a> Spelling<'a> {
    fn of(number: &'a Personal<String>) -> Option<Self> {
        let text = number.0.trim();
        let digits = match written_digits(&decoded(text)) {
            None => Digits::None,
            Some(digits) => match digits.strip_prefix('+').or_else(|| digits.strip_prefix("00")) {
                Some(international) => Digits::International(international.to_owned()),
                None => Digits::National(digits),
            },
        };
        (!text.is_empty()).then_some(Self { text, digits })
    }

    /// The number that it means where it is dialled in this country.
    fn number(&self, country: Option<Country>) -> Option<E164> {
        match &self.digits {
            Digits::International(digits) => Phone::read(&format!("+{digits}"), Written::WithPlus, None).e164,
            Digits::National(digits) if country.is_some() => {
                Phone::read(digits, Written::WithPlus, country).e164
            }
            Digits::National(digits) => Phone::read(digits, Written::WithCallingCode, None).e164,
            Digits::None => None,
        }
    }
}

impl Digits {
    /// International and national digits are told apart.
    fn key(&self) -> Option<String> {
        match self {
            Self::International(digits) => Some(format!("+{digits}")),
            Self::National(digits) => Some(digits.clone()),
            Self::None => None,
        }
    }
}
