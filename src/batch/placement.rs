//! Which result belongs to which record.
//!
//! A result belongs to the record that it echoes, not to the one at its position: vendors reorder, drop and repeat
//! results. A result that cannot be matched is listed last, without `custom_id`: it never lands on another record.

use std::collections::{HashMap, HashSet, VecDeque};

use reqwest::Url;

use super::{
    Batch, BatchResult, Country, E164, Input, Kind, Personal, Phone, Record, Status, Warning, Written,
};

impl Batch {
    /// Puts the results in order, with what follows from it: the counts of each outcome, and warnings where results
    /// are missing or match no record.
    ///
    /// `records` are those that were submitted through the gateway. Without them, a result has the position that the
    /// vendor gives it.
    #[must_use]
    pub fn with_placed_results(mut self, records: Option<&[Record]>) -> Self {
        let Some(mut results) = self.results.take() else { return self };
        let ordered = records.map(|records| records.len() as u64);
        let ordered = ordered.or_else(|| self.progress.map(|progress| progress.requested));
        match records {
            Some(records) => Places::of(self.kind, &results, records).assign(&mut results, records),
            None => drop_wrong_positions(&mut results, ordered),
        }
        // Results without a position keep the vendor's order, behind all others.
        results.sort_by_key(|result| result.index.unwrap_or(u64::MAX));
        let matched = results.iter().filter(|result| result.index.is_some()).count() as u64;
        let incomplete = self.status != Status::Failed && ordered.is_some_and(|ordered| matched < ordered);
        if incomplete {
            self.warnings.push(Warning::ResultsIncomplete);
        }
        if matched < results.len() as u64 {
            self.warnings.push(Warning::ResultsUnmatched);
        }
        // What can be counted is counted; the vendor's own counts are used only for an incomplete list.
        if incomplete && !self.reported.is_empty() {
            self.outcomes.clone_from(&self.reported);
        } else {
            for result in results.iter().filter(|result| result.index.is_some()) {
                *self.outcomes.entry(result.outcome).or_default() += 1;
            }
        }
        for result in &results {
            self.drift.merge(result.drift);
        }
        self.results = (!results.is_empty()).then_some(results);
        self
    }
}

/// The first of several results with one position keeps it; one behind the last record is nobody's.
fn drop_wrong_positions(results: &mut [BatchResult], ordered: Option<u64>) {
    let mut taken = HashSet::new();
    let is_ordered = |index: &u64| ordered.is_none_or(|ordered| *index < ordered);
    for result in results {
        result.index = result.index.filter(|index| is_ordered(index) && taken.insert(*index));
    }
}

/// The record of each result, and which records have one.
struct Places {
    record_of: Vec<Option<usize>>,
    taken: Vec<bool>,
}

impl Places {
    fn of(kind: Kind, results: &[BatchResult], records: &[Record]) -> Self {
        let mut places = Self { record_of: vec![None; results.len()], taken: vec![false; records.len()] };
        match kind {
            Kind::Finding => places.find_persons(results, records),
            Kind::Validation => places.find_numbers(results, records),
        }
        places
    }

    fn assign(self, results: &mut [BatchResult], records: &[Record]) {
        for (result, record) in results.iter_mut().zip(self.record_of) {
            result.index = record.map(|record| record as u64);
            if let Some(record) = record.and_then(|record| records.get(record)) {
                result.custom_id.clone_from(&record.custom_id);
                result.input.clone_from(&record.input);
            }
        }
    }

    /// Gives a record to a result, unless either has its match.
    fn take(&mut self, result: usize, record: usize) {
        if let (Some(None), Some(false)) = (self.record_of.get(result), self.taken.get(record)) {
            self.record_of[result] = Some(record);
            self.taken[record] = true;
        }
    }

    /// Gives each unmatched result the first free record with the same key, so that repeated records are matched in
    /// order.
    fn take_by_key(
        &mut self,
        results: &[BatchResult],
        records: &[Record],
        keys_of_result: impl Fn(&BatchResult) -> Vec<String>,
        keys_of_record: impl Fn(&Record) -> Vec<String>,
    ) {
        if self.record_of.iter().all(Option::is_some) {
            return;
        }
        let mut free: HashMap<String, VecDeque<usize>> = HashMap::new();
        for (index, record) in records.iter().enumerate().filter(|(index, _)| !self.taken[*index]) {
            for key in keys_of_record(record) {
                free.entry(key).or_default().push_back(index);
            }
        }
        for (index, result) in results.iter().enumerate() {
            for key in keys_of_result(result) {
                let Some(candidates) = free.get_mut(&key) else { continue };
                // A record with several keys may have been taken by another one.
                while candidates.front().is_some_and(|record| self.taken[*record]) {
                    candidates.pop_front();
                }
                if let Some(record) = candidates.front().copied() {
                    self.take(index, record);
                }
            }
        }
    }

    /// Numbers are matched by their text as it was sent, else by its digits. Where one text was sent for several
    /// countries, the number that was validated must be that of the record's country.
    fn find_numbers(&mut self, results: &[BatchResult], records: &[Record]) {
        let digits = |number: &str| number.chars().filter(char::is_ascii_digit).collect::<String>();
        let mut countries: HashMap<String, Option<Country>> = HashMap::new();
        let mut ambiguous = HashSet::new();
        for record in records {
            let Some(number) = &record.sent().number else { continue };
            let digits = digits(&number.0);
            match countries.get(&digits) {
                Some(country) if *country != record.country => drop(ambiguous.insert(digits)),
                Some(_) => {}
                None => drop(countries.insert(digits, record.country)),
            }
        }
        for exact in [true, false] {
            let key = |number: &Option<Personal<String>>, e164: &dyn Fn(&str) -> Option<E164>| {
                let number = &number.as_ref()?.0;
                let digits = digits(number);
                let text = if exact { number.clone() } else { digits.clone() };
                match ambiguous.contains(&digits) {
                    _ if digits.is_empty() => None,
                    true => Some(format!("{text} {}", e164(number)?)),
                    false => Some(text),
                }
            };
            let of_record = |record: &Record| {
                let e164 = |text: &str| Phone::read(text, Written::WithPlus, record.country).e164;
                key(&record.sent().number, &e164).into_iter().collect()
            };
            let of_result = |result: &BatchResult| {
                key(&result.input.number, &|_| result.phone.e164).into_iter().collect()
            };
            self.take_by_key(results, records, of_result, of_record);
        }
        // A result that echoes nothing is told by its position where all others stand at theirs.
        let in_order = self.record_of.iter().enumerate().all(|(index, record)| {
            record.map_or_else(|| results[index].input.number.is_none(), |record| record == index)
        });
        if in_order && results.len() == records.len() {
            (0..results.len()).for_each(|index| self.take(index, index));
        }
    }

    /// Persons are matched by the vendor's `index` where the echo does not contradict it, else by the echo.
    fn find_persons(&mut self, results: &[BatchResult], records: &[Record]) {
        let claim = |result: &BatchResult| {
            let index = usize::try_from(result.index?).ok()?;
            Some((index, compare(&result.input, records.get(index)?.sent())))
        };
        let claims: Vec<_> = results.iter().map(claim).collect();
        let with_echo = |wanted: Echo| {
            let claims = claims.iter().enumerate();
            claims.filter_map(move |(result, claim)| {
                claim.filter(|(_, echo)| *echo == wanted).map(|(record, _)| (result, record))
            })
        };
        // Names that differ only in case or blanks may be two persons.
        let is_exact = |(result, record): &(usize, usize)| results[*result].input == *records[*record].sent();
        with_echo(Echo::Same).filter(is_exact).for_each(|(result, record)| self.take(result, record));
        let exact = |input: &Input| serde_json::to_string(input).into_iter().collect();
        self.take_by_key(results, records, |result| exact(&result.input), |record| exact(record.sent()));
        with_echo(Echo::Same).for_each(|(result, record)| self.take(result, record));
        let of_result = |result: &BatchResult| person_keys(&result.input);
        self.take_by_key(results, records, of_result, |record| person_keys(record.sent()));
        with_echo(Echo::Silent).for_each(|(result, record)| self.take(result, record));
    }
}

/// What the echo of a result says about a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Same,
    Other,
    /// It names nobody.
    Silent,
}

/// Compares an echo with what was sent. A profile decides alone: vendors ignore the name beside it.
fn compare(echo: &Input, sent: &Input) -> Echo {
    let of = |pair: (&Option<Personal<String>>, &Option<Personal<String>>), key: fn(&str) -> String| {
        Some(key(&pair.0.as_ref()?.0) == key(&pair.1.as_ref()?.0))
    };
    if let Some(same) = of((&echo.linkedin_url, &sent.linkedin_url), profile_key) {
        return if same { Echo::Same } else { Echo::Other };
    }
    let fields = [
        of((&echo.first_name, &sent.first_name), folded),
        of((&echo.last_name, &sent.last_name), folded),
        of((&echo.company_name, &sent.company_name), folded),
        of((&echo.company_domain, &sent.company_domain), folded),
    ];
    let company = |input: &Input| input.company_name.is_some() || input.company_domain.is_some();
    let is_other_company = company(echo) && company(sent) && fields[2..] == [None, None];
    if *echo == Input::default() {
        Echo::Silent
    } else if is_other_company {
        Echo::Other
    } else if fields.contains(&Some(true)) && !fields.contains(&Some(false)) {
        Echo::Same
    } else {
        // A name where a profile was sent is somebody, and nobody knows who.
        Echo::Other
    }
}

/// What a person is found by: the profile, else the name with each of the company's names.
fn person_keys(person: &Input) -> Vec<String> {
    if let Some(profile) = &person.linkedin_url {
        return vec![profile_key(&profile.0)];
    }
    let (Some(first), Some(last)) = (&person.first_name, &person.last_name) else { return Vec::new() };
    let company = [&person.company_name, &person.company_domain];
    let key = |(kind, company): (usize, &Personal<String>)| {
        format!("{kind}\n{}\n{}\n{}", folded(&first.0), folded(&last.0), folded(&company.0))
    };
    company.into_iter().enumerate().filter_map(|(kind, name)| Some((kind, name.as_ref()?))).map(key).collect()
}

/// A profile's path: host, query and trailing slash say nothing about the person, except for the id in the query of
/// `/profile/view`.
fn profile_key(address: &str) -> String {
    let address = address.trim();
    let url = Url::parse(address).or_else(|_| Url::parse(&format!("https://{address}")));
    let Ok(url) = url else { return folded(address) };
    let path = url.path().trim_end_matches('/').to_lowercase();
    match url.query_pairs().find(|(name, _)| name == "id") {
        // The id is opaque, so that its case counts.
        Some((_, id)) if path.ends_with("/profile/view") => format!("{path} {id}"),
        _ => path,
    }
}

/// A name without its case and its blanks.
fn folded(name: &str) -> String {
    name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
