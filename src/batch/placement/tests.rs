use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::batch::{Outcome, Personal};

fn number(text: &str) -> Input {
    Input { number: Some(Personal(text.to_owned())), ..Input::default() }
}

fn profile(url: &str) -> Input {
    Input { linkedin_url: Some(Personal(url.to_owned())), ..Input::default() }
}

fn person(first: &str, last: &str, company: &str) -> Input {
    let text = |text: &str| Some(Personal(text.to_owned()));
    Input { first_name: text(first), last_name: text(last), company_name: text(company), ..Input::default() }
}

fn records(inputs: impl IntoIterator<Item = Input>) -> Vec<Record> {
    let record = |(index, input)| Record {
        input,
        custom_id: Some(Personal(format!("c{index}"))),
        ..Record::default()
    };
    inputs.into_iter().enumerate().map(record).collect()
}

fn result(index: Option<u64>, input: Input) -> BatchResult {
    BatchResult { index, input, ..BatchResult::new(Outcome::Found, "found") }
}

/// The caller's ids of the placed results with their positions, and the warnings.
fn placed(kind: Kind, results: Vec<BatchResult>, records: Option<&[Record]>) -> (Value, Value) {
    let mut batch = crate::batch::tests::batch_of(Status::Completed);
    batch.kind = kind;
    batch.results = Some(results);
    let batch = serde_json::to_value(batch.with_placed_results(records)).unwrap();
    let of = |result: &Value| json!([result.get("index"), result.get("custom_id")]);
    let results = batch["results"].as_array().into_iter().flatten().map(of).collect();
    (results, batch.get("warnings").cloned().unwrap_or_default())
}

#[test]
fn numbers_are_matched_by_their_text_and_not_by_their_position() {
    let ordered = records(["+447400123401", "+447400123402", "+447400123403"].map(number));
    let echo = |texts: &[&str]| {
        (0..).zip(texts).map(|(index, text)| result(Some(index), number(text))).collect::<Vec<_>>()
    };
    for (delivered, expected, warnings) in [
        (
            vec!["+447400123403", "+447400123401", "+447400123402"],
            json!([[0, "c0"], [1, "c1"], [2, "c2"]]),
            Value::Null,
        ),
        (
            vec!["+447400123401", "+447400123403"],
            json!([[0, "c0"], [2, "c2"]]),
            json!(["results_incomplete"]),
        ),
        (vec!["+447400123403"], json!([[2, "c2"]]), json!(["results_incomplete"])),
        (
            vec!["+447400123402", "+447400123402", "+33612345678", "447400123401", "+447400123403"],
            json!([[0, "c0"], [1, "c1"], [2, "c2"], [null, null], [null, null]]),
            json!(["results_unmatched"]),
        ),
        (vec!["+33612345678"], json!([[null, null]]), json!(["results_incomplete", "results_unmatched"])),
    ] {
        let told = placed(Kind::Validation, echo(&delivered), Some(&ordered));
        assert_eq!(told, (expected, warnings), "{delivered:?}");
    }
}

#[test]
fn repeated_numbers_are_matched_in_order() {
    let ordered = records(["07400123456", "12269724276", "07400123456"].map(number));
    let results = ["07400123456", "07400123456", "12269724276"].map(|text| result(None, number(text)));
    let (told, warnings) = placed(Kind::Validation, results.into(), Some(&ordered));
    assert_eq!((told, warnings), (json!([[0, "c0"], [1, "c1"], [2, "c2"]]), Value::Null));
}

#[test]
fn one_text_in_two_countries_is_told_apart_by_the_number_that_was_validated() {
    let mut ordered = records(["0612345678", "0612345678"].map(number));
    for (record, country) in ordered.iter_mut().zip(["FR", "MA"]) {
        record.country = Country::from_code(country);
    }
    let validated = |e164: &str| BatchResult {
        phone: Phone::read(e164, Written::WithCallingCode, None),
        ..result(None, number("0612345678"))
    };
    let results = vec![validated("212612345678"), validated("33612345678")];
    let mut batch = crate::batch::tests::batch_of(Status::Completed);
    batch.kind = Kind::Validation;
    batch.results = Some(results);
    let results = batch.with_placed_results(Some(&ordered)).results.unwrap();
    let numbers: Vec<_> = results.iter().map(|result| result.phone.e164.unwrap().to_string()).collect();
    assert_eq!(numbers, ["+33612345678", "+212612345678"]);
    // Without the number, nobody can tell.
    let results = vec![result(None, number("0612345678")), validated("33612345678")];
    let (told, warnings) = placed(Kind::Validation, results, Some(&ordered));
    assert_eq!(told, json!([[0, "c0"], [null, null]]));
    assert_eq!(warnings, json!(["results_incomplete", "results_unmatched"]));
}

#[test]
fn a_result_without_an_echo_is_told_by_its_position_only_where_all_others_are() {
    let ordered = records(["+447400123401", "+447400123402", "+447400123403"].map(number));
    let delivered = |texts: [&str; 3]| {
        let echo = |text: &str| if text.is_empty() { Input::default() } else { number(text) };
        texts.map(|text| result(None, echo(text))).to_vec()
    };
    let in_order = delivered(["+447400123401", "", "+447400123403"]);
    assert_eq!(
        placed(Kind::Validation, in_order, Some(&ordered)).0,
        json!([[0, "c0"], [1, "c1"], [2, "c2"]])
    );
    let shuffled = delivered(["+447400123403", "", "+447400123401"]);
    assert_eq!(
        placed(Kind::Validation, shuffled, Some(&ordered)).0,
        json!([[0, "c0"], [2, "c2"], [null, null]])
    );
}

#[test]
fn persons_are_matched_by_index_unless_the_echo_says_otherwise() {
    let [ada, pam, jim] = ["ada", "pam", "jim"].map(|name| format!("https://www.linkedin.com/in/{name}"));
    let by_name = person("Dwight", "Schrute", "Dunder Mifflin");
    let ordered = records([profile(&ada), profile(&pam), profile(&jim), by_name.clone()]);
    let at = |index: u64, input: &Input| result(Some(index), input.clone());
    let silent = Input::default();
    for (delivered, expected, warnings) in [
        // Moved: the echo decides.
        (
            vec![at(1, &profile(&ada)), at(0, &profile(&pam)), at(2, &profile(&jim)), at(3, &by_name)],
            json!([[0, "c0"], [1, "c1"], [2, "c2"], [3, "c3"]]),
            Value::Null,
        ),
        // Without an echo, the index decides; an echo in other letters is the same.
        (
            vec![
                at(3, &person("DWIGHT", " schrute", "dunder  mifflin")),
                at(2, &silent),
                at(1, &profile("linkedin.com/in/Pam/?trk=x")),
                at(0, &silent),
            ],
            json!([[0, "c0"], [1, "c1"], [2, "c2"], [3, "c3"]]),
            Value::Null,
        ),
        // Foreign persons, repeated results and positions beyond the end.
        (
            vec![
                at(0, &profile("https://www.linkedin.com/in/angela")),
                at(0, &profile(&ada)),
                at(0, &profile(&ada)),
                at(1, &profile(&pam)),
                at(2, &profile(&jim)),
                at(3, &person("Angela", "Martin", "Dunder Mifflin")),
                at(7, &silent),
                result(None, silent.clone()),
            ],
            json!([
                [0, "c0"],
                [1, "c1"],
                [2, "c2"],
                [null, null],
                [null, null],
                [null, null],
                [null, null],
                [null, null]
            ]),
            json!(["results_incomplete", "results_unmatched"]),
        ),
        // A name where a profile was sent, and the reverse, says nothing of the record at that position.
        (
            vec![
                at(0, &person("Angela", "Martin", "Dunder Mifflin")),
                at(3, &profile("linkedin.com/in/angela")),
            ],
            json!([[null, null], [null, null]]),
            json!(["results_incomplete", "results_unmatched"]),
        ),
        // A result that lost its index.
        (
            vec![result(None, by_name.clone()), at(0, &silent), at(1, &silent), at(2, &silent)],
            json!([[0, "c0"], [1, "c1"], [2, "c2"], [3, "c3"]]),
            Value::Null,
        ),
    ] {
        assert_eq!(placed(Kind::Finding, delivered, Some(&ordered)), (expected, warnings));
    }
}

#[test]
fn persons_whose_echoes_are_nearly_alike_stay_apart() {
    let view = |id: &str| profile(&format!("https://www.linkedin.com/profile/view?id={id}"));
    let lower = person("ada", "lovelace", "Engines");
    let upper = person("Ada", "Lovelace", "Engines");
    for pair in [[view("12345"), view("67890")], [lower, upper]] {
        let ordered = records(pair.clone());
        let [first, second] = pair;
        let delivered = vec![result(None, second.clone()), result(Some(0), first)];
        assert_eq!(placed(Kind::Finding, delivered, Some(&ordered)).0, json!([[0, "c0"], [1, "c1"]]));
        let delivered = vec![result(Some(0), second)];
        assert_eq!(
            placed(Kind::Finding, delivered, Some(&ordered)).0,
            json!([[1, "c1"]]),
            "the echo decides"
        );
    }
    let domain = Input {
        company_name: None,
        company_domain: Some(Personal("babbage.example".to_owned())),
        ..person("Ada", "Lovelace", "")
    };
    let ordered = records([person("Ada", "Lovelace", "Engines")]);
    let delivered = vec![result(Some(0), domain)];
    assert_eq!(placed(Kind::Finding, delivered, Some(&ordered)).0, json!([[null, null]]), "another company");
}

#[test]
fn without_records_positions_count_and_the_first_of_equals_keeps_its_own() {
    let at = |index: Option<u64>| result(index, Input::default());
    let results = vec![at(Some(1)), at(Some(0)), at(Some(0)), at(None), at(Some(7))];
    let (told, warnings) = placed(Kind::Finding, results, None);
    assert_eq!(told, json!([[0, null], [1, null], [7, null], [null, null], [null, null]]));
    assert_eq!(warnings, json!(["results_unmatched"]));
    // Of two records, the second has no result, whatever else came.
    let (_, warnings) = placed(Kind::Finding, vec![at(Some(0)), at(Some(7))], None);
    assert_eq!(warnings, json!(["results_incomplete", "results_unmatched"]));
}

#[test]
fn what_is_sent_is_matched_and_what_the_caller_wrote_is_shown() {
    let mut ordered = records(["+44 (0)7400 123401"].map(number));
    ordered[0].cleaned = Some(Box::new(number("+447400123401")));
    let mut batch = crate::batch::tests::batch_of(Status::Completed);
    batch.kind = Kind::Validation;
    batch.results = Some(vec![result(Some(0), number("+447400123401"))]);
    let placed = batch.with_placed_results(Some(&ordered));
    assert_eq!(placed.results.unwrap()[0].input, number("+44 (0)7400 123401"));
}

proptest! {
    /// Whatever is dropped, repeated, moved or made up, no result is placed on a record that it does not echo.
    #[test]
    fn no_result_is_placed_on_another_record(
        delivered in prop::collection::vec((0_u64..12, prop::option::of(0_u64..12)), 0..20),
        finding in any::<bool>(),
    ) {
        let kind = if finding { Kind::Finding } else { Kind::Validation };
        let input = |n: u64| match kind {
            // Two persons, and two numbers, are ordered twice.
            Kind::Finding => profile(&format!("https://www.linkedin.com/in/p{}", n % 8)),
            Kind::Validation => number(&format!("+4474001234{:02}", n % 8)),
        };
        let ordered = records((0..10).map(input));
        let results = delivered.iter().map(|(echo, index)| result(*index, input(*echo))).collect();
        let mut batch = crate::batch::tests::batch_of(Status::Completed);
        batch.kind = kind;
        batch.results = Some(results);
        let placed = batch.with_placed_results(Some(&ordered)).results.unwrap_or_default();
        prop_assert_eq!(placed.len(), delivered.len());
        let mut echoes: Vec<_> = placed.iter().map(|result| result.input.clone()).collect();
        for result in &placed {
            let Some(index) = result.index else {
                prop_assert!(result.custom_id.is_none());
                continue;
            };
            let record = &ordered[usize::try_from(index).unwrap()];
            prop_assert_eq!(&record.input, &result.input);
            prop_assert_eq!(&record.custom_id, &result.custom_id);
        }
        // No result is lost or changed, and every record that was echoed often enough has one.
        for n in 0..8 {
            let echoed = delivered.iter().filter(|(echo, _)| echo % 8 == n).count();
            let wanted = ordered.iter().filter(|record| record.input == input(n)).count();
            let matched = placed.iter().filter(|result| result.index.is_some() && result.input == input(n)).count();
            prop_assert_eq!(matched, echoed.min(wanted));
            prop_assert_eq!(echoes.iter().filter(|echo| **echo == input(n)).count(), echoed);
        }
        echoes.clear();
    }
}
