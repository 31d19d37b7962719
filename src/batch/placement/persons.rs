//! Which result belongs to which person.

use std::collections::{HashMap, HashSet};

use super::Places;
use super::canonical::{domain, folded};
use crate::batch::person_text::profile_key;
use crate::batch::{BatchResult, Input, Personal, Record};

/// Matches persons by what the results repeat of them.
///
/// `index` decides between equal persons, and about a result that repeats too little, unless another result contradicts
/// its own `index`: then only the last result and the last record belong together.
pub(super) fn find(places: &mut Places, results: &[BatchResult], records: &[Record]) {
    let echoes: Vec<_> = results.iter().map(|result| Person::from(&result.input)).collect();
    let sent: Vec<_> = records.iter().map(|record| Person::from(record.sent())).collect();
    let index = |result: usize| results[result].index.and_then(|index| usize::try_from(index).ok());
    let claims: Vec<_> = (0..results.len())
        .filter_map(|result| {
            let record = index(result)?;
            Some((result, record, echoes[result].compare(sent.get(record)?)))
        })
        .collect();
    let take_claims = |places: &mut Places, wanted: &dyn Fn(usize, usize, Echo) -> bool| {
        for (result, record, echo) in &claims {
            if wanted(*result, *record, *echo) {
                places.take(*result, *record);
            }
        }
    };
    // Names that differ only in case or blanks may be two persons.
    let is_exact = |result: usize, record: usize, echo| {
        echo == Echo::Same && results[result].input == *records[record].sent()
    };
    take_claims(places, &is_exact);
    let exact = |input: &Input| serde_json::to_string(input).into_iter().collect();
    places.take_by_key(
        |result| exact(&results[result].input),
        |record| exact(records[record].sent()),
        |_, _| true,
    );
    take_claims(places, &|_, _, echo| echo == Echo::Same);
    places.take_by_key(
        |result| echoes[result].keys(),
        |record| sent[record].keys(),
        |result, record| echoes[result].compare(&sent[record]) == Echo::Same,
    );
    let known: HashSet<_> = sent.iter().flat_map(Person::keys).collect();
    let contradicts = |result: usize| {
        let echo = &echoes[result];
        let Some(record) = index(result).filter(|_| echo.is_whole()) else { return false };
        // Beyond the last record only somebody who was not ordered may stand.
        let is_known = || echo.keys().iter().any(|key| known.contains(key));
        sent.get(record).map_or_else(is_known, |sent| echo.compare(sent) == Echo::Other)
    };
    let is_little = |echo| matches!(echo, Echo::Part | Echo::Silent);
    if (0..results.len()).any(contradicts) {
        return places.take_last(|result, record| is_little(echoes[result].compare(&sent[record])));
    }
    let mut first_at = HashMap::new();
    let mut disputed = HashSet::new();
    for (result, record, _) in claims.iter().filter(|(result, ..)| places.record_of[*result].is_none()) {
        let first = *first_at.entry(*record).or_insert(*result);
        if results[first] != results[*result] {
            disputed.insert(*record);
        }
    }
    // Two results at one index: unless they are the same, nobody knows which of them is the record's.
    take_claims(places, &|_, record, echo| is_little(echo) && !disputed.contains(&record));
}

/// What a result repeats of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// Enough to know the person by.
    Same,
    /// Something, and nothing that contradicts.
    Part,
    /// Nothing.
    Silent,
    /// Another person, or one that cannot be compared.
    Other,
}

/// What names a person, each in its one spelling.
struct Person {
    profile: Option<String>,
    /// The profile is no address of a person: it does not say who it is, but that something is wrong.
    has_odd_profile: bool,
    first_name: Option<String>,
    last_name: Option<String>,
    company_name: Option<String>,
    company_domain: Option<String>,
}

impl From<&Input> for Person {
    fn from(input: &Input) -> Self {
        let spell = |text: &Option<Personal<String>>, spell: fn(&str) -> String| {
            text.as_ref().map(|text| spell(&text.0))
        };
        let profile =
            input.linkedin_url.as_ref().map(|url| profile_key(&url.0).ok_or_else(|| folded(&url.0)));
        Self {
            has_odd_profile: matches!(profile, Some(Err(_))),
            profile: profile.map(|profile| profile.unwrap_or_else(|odd| odd)),
            first_name: spell(&input.first_name, folded),
            last_name: spell(&input.last_name, folded),
            company_name: spell(&input.company_name, folded),
            company_domain: spell(&input.company_domain, domain),
        }
    }
}

impl Person {
    /// Compares what a result repeats with what was sent. A profile decides alone: vendors ignore the name beside it.
    fn compare(&self, sent: &Self) -> Echo {
        let same = |echo: &Option<String>, sent: &Option<String>| Some(echo.as_ref()? == sent.as_ref()?);
        match same(&self.profile, &sent.profile) {
            Some(true) => return Echo::Same,
            Some(false) => return Echo::Other,
            None => {}
        }
        let names = [same(&self.first_name, &sent.first_name), same(&self.last_name, &sent.last_name)];
        let companies =
            [same(&self.company_name, &sent.company_name), same(&self.company_domain, &sent.company_domain)];
        let fields = names.iter().chain(&companies);
        if self.is_silent() {
            Echo::Silent
        } else if fields.clone().any(|same| *same == Some(false))
            // One by its name and one by its domain: it may be another company.
            || (companies == [None, None] && self.has_company() && sent.has_company())
            // A name where a profile was sent is somebody, and nobody knows who.
            || fields.clone().all(Option::is_none)
        {
            Echo::Other
        } else if names == [Some(true), Some(true)] && companies.contains(&Some(true)) {
            Echo::Same
        } else {
            Echo::Part
        }
    }

    const fn has_company(&self) -> bool {
        self.company_name.is_some() || self.company_domain.is_some()
    }

    fn is_silent(&self) -> bool {
        let Self { profile, first_name, last_name, company_name, company_domain, .. } = self;
        [profile, first_name, last_name, company_name, company_domain].iter().all(|name| name.is_none())
    }

    /// Whether it is enough to know the person by.
    fn is_whole(&self) -> bool {
        let has_name = self.first_name.is_some() && self.last_name.is_some();
        if self.profile.is_some() { !self.has_odd_profile } else { has_name && self.has_company() }
    }

    /// What a person is found by: the profile, else the name with each of the company's names.
    fn keys(&self) -> Vec<String> {
        if let Some(profile) = &self.profile {
            return vec![profile.clone()];
        }
        let (Some(first), Some(last)) = (&self.first_name, &self.last_name) else { return Vec::new() };
        let company = [("name", &self.company_name), ("domain", &self.company_domain)];
        let key = |(kind, company): (&str, &Option<String>)| {
            Some(format!("{kind}\n{first}\n{last}\n{}", company.as_ref()?))
        };
        company.into_iter().filter_map(key).collect()
    }
}
