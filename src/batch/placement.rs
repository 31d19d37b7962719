//! Which result belongs to which record.
//!
//! A result belongs to the record that it repeats, not to the one at its position: vendors reorder, drop and duplicate
//! results. A result that cannot be matched is listed last, without `custom_id`: it never lands on another record.

mod canonical;
mod numbers;
mod persons;

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Batch, BatchResult, Kind, Record, Status, Warning};

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
            None => drop_repeated_positions(&mut results),
        }
        // Results without a position keep the vendor's order, behind all others.
        results.sort_by_key(|result| result.index.unwrap_or(u64::MAX));
        let is_ordered = |result: &&BatchResult| {
            result.index.is_some_and(|index| ordered.is_none_or(|ordered| index < ordered))
        };
        let matched = results.iter().filter(is_ordered).count() as u64;
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
            for result in results.iter().filter(is_ordered) {
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

/// The first of several results with one position keeps it.
fn drop_repeated_positions(results: &mut [BatchResult]) {
    let mut taken = HashSet::new();
    for result in results {
        result.index = result.index.filter(|index| taken.insert(*index));
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
            Kind::Finding => persons::find(&mut places, results, records),
            Kind::Validation => numbers::find(&mut places, results, records),
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

    /// Gives each unmatched result the first free record that has one of its keys and `fits`, so that repeated records
    /// are matched in order. The keys of a result, and of a record, are told by its position.
    fn take_by_key(
        &mut self,
        keys_of_result: impl Fn(usize) -> Vec<String>,
        keys_of_record: impl Fn(usize) -> Vec<String>,
        fits: impl Fn(usize, usize) -> bool,
    ) {
        if self.record_of.iter().all(Option::is_some) {
            return;
        }
        let mut free: HashMap<String, VecDeque<usize>> = HashMap::new();
        for record in (0..self.taken.len()).filter(|record| !self.taken[*record]) {
            for key in keys_of_record(record) {
                free.entry(key).or_default().push_back(record);
            }
        }
        for result in 0..self.record_of.len() {
            if self.record_of[result].is_some() {
                continue;
            }
            for key in keys_of_result(result) {
                let Some(candidates) = free.get_mut(&key) else { continue };
                // A record with several keys may have been taken by another one.
                while candidates.front().is_some_and(|record| self.taken[*record]) {
                    candidates.pop_front();
                }
                let fitting =
                    candidates.iter().find(|record| !self.taken[**record] && fits(result, **record));
                if let Some(record) = fitting {
                    self.take(result, *record);
                }
            }
        }
    }

    /// The last result and the last record belong together where there are as many results as records.
    fn take_last(&mut self, fits: impl Fn(usize, usize) -> bool) {
        let mut results = (0..self.record_of.len()).filter(|result| self.record_of[*result].is_none());
        let mut records = (0..self.taken.len()).filter(|record| !self.taken[*record]);
        let last = (results.next(), results.next(), records.next(), records.next());
        if let (Some(result), None, Some(record), None) = last
            && self.record_of.len() == self.taken.len()
            && fits(result, record)
        {
            self.take(result, record);
        }
    }
}

#[cfg(test)]
mod tests;
