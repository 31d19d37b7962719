use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::batch::{Country, Input, Outcome, Personal, Phone, Written};

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
fn a_result_without_a_number_is_matched_by_its_position_only_where_all_others_are_else_as_the_last() {
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
        placed(Kind::Validation, shuffled.clone(), Some(&ordered)).0,
        json!([[0, "c0"], [1, "c1"], [2, "c2"]]),
        "one result and one record are left"
    );
    let mut validated = shuffled;
    validated[1].phone = Phone::read("+33612345678", Written::WithPlus, None);
    assert_eq!(
        placed(Kind::Validation, validated, Some(&ordered)).0,
        json!([[0, "c0"], [2, "c2"], [null, null]]),
        "another number was validated"
    );
    for texts in [["+447400123403", "", ""], ["+33612345678", "", "+447400123403"]] {
        assert_eq!(
            placed(Kind::Validation, delivered(texts), Some(&ordered)).0,
            json!([[2, "c2"], [null, null], [null, null]]),
            "{texts:?}"
        );
    }
    let short = delivered(["+447400123403", "+447400123401", ""])[1..].to_vec();
    assert_eq!(placed(Kind::Validation, short, Some(&ordered[..2])).0, json!([[0, "c0"], [1, "c1"]]),);
}

fn validated(text: &str, e164: Option<&str>) -> BatchResult {
    let phone = e164.map(|e164| Phone::read(e164, Written::WithPlus, None)).unwrap_or_default();
    BatchResult { phone, ..result(None, number(text)) }
}

fn numbers_of(numbers: &[(&str, Option<&str>)]) -> Vec<Record> {
    let mut ordered = records(numbers.iter().map(|(text, _)| number(text)));
    for (record, (_, country)) in ordered.iter_mut().zip(numbers) {
        record.country = country.and_then(Country::from_code);
    }
    ordered
}

#[test]
fn an_international_number_is_the_same_in_every_country_and_apart_from_a_national_one() {
    let all = json!([[0, "c0"], [1, "c1"]]);
    for text in ["+33612345678", "0033612345678"] {
        let ordered = numbers_of(&[(text, Some("FR")), (text, Some("MA"))]);
        let results = vec![validated(text, None), validated(text, None)];
        assert_eq!(placed(Kind::Validation, results, Some(&ordered)).0, all, "{text}");
    }
    // The digits of a number in Brazil and of another one in the United Kingdom.
    let ordered = numbers_of(&[("5521987654", Some("BR")), ("+5521987654", None)]);
    let results = vec![validated("+5521987654", None), validated("5521987654", None)];
    let outcome = |results: Vec<BatchResult>| {
        let words = results.into_iter().zip(["international", "national"]);
        let results = words.map(|(result, word)| BatchResult { provider_outcome: word.into(), ..result });
        let mut batch = crate::batch::tests::batch_of(Status::Completed);
        batch.kind = Kind::Validation;
        batch.results = Some(results.collect());
        let results = batch.with_placed_results(Some(&ordered)).results.unwrap();
        results.into_iter().map(|result| result.provider_outcome).collect::<Vec<_>>()
    };
    assert_eq!(outcome(results), ["national", "international"]);
    // Without a plus sign, the second may be either's.
    let results = vec![validated("5521987654", None), validated("5521987654", None)];
    assert_eq!(placed(Kind::Validation, results, Some(&ordered)).0, json!([[0, "c0"], [null, null]]));
}

#[test]
fn a_number_in_another_spelling_is_matched_where_it_certainly_means_the_same() {
    for (sent, country, echo, is_matched) in [
        ("+447400123401", None, "447400123401", true),
        ("+447400123401", None, "00447400123401", true),
        ("+447400123401", None, "+44 7400 123401", true),
        ("+447400123401", None, "%2B447400123401", true),
        ("447400123401", None, "+447400123401", true),
        ("07400123401", Some("GB"), "07400 123401", true),
        ("07400123401", Some("GB"), "+447400123401", true),
        ("07400123401", Some("GB"), "+33740012340", false),
        ("612345678", Some("FR"), "+612345678", false),
        ("+447400123401", None, "+447400123401 x12", false),
        ("+447400123401", None, "+447400123402", false),
    ] {
        let ordered = numbers_of(&[(sent, country), ("+447400999999", None)]);
        let results = vec![validated(echo, None)];
        let expected = if is_matched { json!([[0, "c0"]]) } else { json!([[null, null]]) };
        assert_eq!(placed(Kind::Validation, results, Some(&ordered)).0, expected, "{sent} {echo}");
    }
}

#[test]
fn one_text_with_and_without_a_country_stays_ambiguous() {
    let ordered = numbers_of(&[("0612345678", Some("FR")), ("0612345678", None)]);
    let results = vec![validated("0612345678", None), validated("0612345678", Some("+33612345678"))];
    assert_eq!(placed(Kind::Validation, results, Some(&ordered)).0, json!([[0, "c0"], [null, null]]));
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
fn the_index_of_a_result_that_repeats_too_little_counts_only_where_no_other_result_contradicts_its_own() {
    let ordered = records(["Ada", "Pam", "Jim"].map(|first| person(first, "Doe", "Engines")));
    let whole = |first: &str| person(first, "Doe", "Engines");
    let first_name = |first: &str| Input { last_name: None, company_name: None, ..whole(first) };
    let at = |index: u64, input: Input| result(Some(index), input);
    let silent = Input::default;
    for (delivered, expected) in [
        // Nothing contradicts.
        (vec![at(0, whole("Ada")), at(1, silent()), at(2, first_name("Jim"))], json!([0, 1, 2])),
        (vec![at(2, first_name("Jim")), at(1, silent())], json!([1, 2])),
        // Another person of the batch, or somebody else, stands at this index.
        (vec![at(1, whole("Ada")), at(2, silent())], json!([0, null])),
        (vec![at(1, whole("Ada")), at(2, first_name("Jim"))], json!([0, null])),
        (vec![at(0, whole("Zoe")), at(1, silent()), at(2, first_name("Jim"))], json!([null, null, null])),
        // QuotaScope from 1.
        (vec![at(3, whole("Jim")), at(1, silent()), at(2, silent())], json!([2, null, null])),
        // The last result and the last record.
        (vec![at(1, whole("Ada")), at(0, whole("Pam")), at(0, silent())], json!([0, 1, 2])),
        (vec![at(1, whole("Ada")), at(0, whole("Pam")), result(None, first_name("Jim"))], json!([0, 1, 2])),
        (vec![at(1, whole("Ada")), at(0, whole("Pam")), at(2, first_name("Zoe"))], json!([0, 1, null])),
        (vec![at(1, whole("Ada")), at(0, whole("Pam")), at(2, whole("Zoe"))], json!([0, 1, null])),
        (
            vec![at(1, whole("Ada")), at(0, whole("Pam")), at(2, silent()), at(2, silent())],
            json!([0, 1, null, null]),
        ),
        // Of two results at one index, nobody knows which is the record's, unless they are the same.
        (vec![at(0, whole("Ada")), at(1, silent()), at(1, first_name("Pam"))], json!([0, null, null])),
        (vec![at(0, whole("Ada")), at(1, silent()), at(1, silent())], json!([0, 1, null])),
        // What is no address of a person does not contradict.
        (vec![at(0, profile("7")), at(1, silent())], json!([1, null])),
        // A part that is somebody else's.
        (vec![at(0, first_name("Pam"))], json!([null])),
    ] {
        let indexes: Value = placed(Kind::Finding, delivered.clone(), Some(&ordered))
            .0
            .as_array()
            .unwrap()
            .iter()
            .map(|told| told[0].clone())
            .collect();
        assert_eq!(
            indexes,
            expected,
            "{:?}",
            delivered.iter().map(|result| result.index).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_person_in_another_spelling_is_matched_where_it_certainly_means_the_same() {
    let www = |path: &str| profile(&format!("https://www.linkedin.com/{path}"));
    let at_domain = |domain: &str| Input {
        company_name: None,
        company_domain: Some(Personal(domain.to_owned())),
        ..person("Ada", "Lovelace", "")
    };
    for (sent, echo, is_matched) in [
        (www("in/jos%C3%A9"), www("in/jos\u{e9}"), true),
        (www("in/jos\u{e9}"), www("in/jos%c3%a9"), true),
        (www("in/jos\u{e9}"), www("in/jose\u{301}"), true),
        (www("in/ada"), www("in/Ada/de"), true),
        (www("in/ada"), www("in/ada/en-us/?locale=en_US"), true),
        (www("in/ada"), profile("http://uk.linkedin.com/mwlite/in/ada/"), true),
        (www("in/ada"), www("in/ad%C3%A0"), false),
        (www("in/ada"), www("pub/ada"), false),
        (www("pub/ada/1/2/3"), www("pub/ada/1/2/4"), false),
        (www("in/ACoAABcD"), www("in/ACoAABcd"), false),
        (www("sales/lead/ACwAABcD,NAME,x"), www("sales/lead/ACwAABcD%2CNAME%2Cx"), true),
        (www("sales/lead/ACwAABcD,NAME,x"), www("sales/lead/ACwAABcd,NAME,x"), false),
        (www("talent/profile/AEMAABcD"), www("talent/profile/AEMAAbcD"), false),
        (www("profile/view?id=AAcD"), www("profile/view?id=AAcd"), false),
        (person("Pat", "O'Brien", "Engines"), person("Pat", "O\u{2019}Brien", "Engines"), true),
        (person("Jos\u{e9}", "Li", "Engines"), person("Jose\u{301}", "LI", "engines"), true),
        (person("Jos\u{e9}", "Li", "Engines"), person("Jos%C3%A9", "Li", "Engines"), true),
        (person("Jos\u{e9}", "Li", "Engines"), person("Jose", "Li", "Engines"), false),
        (person("Ada", "Li", "100%25"), person("Ada", "Li", "100%25"), true),
        (person("Ada", "Li", "Engines"), person("Ada", "Li", "Engines Ltd"), false),
        (at_domain("m\u{fc}nchen.example"), at_domain("xn--mnchen-3ya.example"), true),
        (at_domain("engines.example"), at_domain("HTTPS://Engines.example/"), true),
        (at_domain("engines.example"), at_domain("www.engines.example"), false),
    ] {
        let ordered = records([sent.clone(), person("Somebody", "Else", "Elsewhere")]);
        let expected = if is_matched { json!([[0, "c0"]]) } else { json!([[null, null]]) };
        let spelling = |input: &Input| serde_json::to_string(input).unwrap();
        let told = placed(Kind::Finding, vec![result(Some(0), echo.clone())], Some(&ordered)).0;
        assert_eq!(told, expected, "{} {}", spelling(&sent), spelling(&echo));
    }
}

#[test]
fn a_person_is_not_matched_by_one_name_of_the_company_where_the_other_contradicts() {
    let of = |domain: &str| Input {
        company_domain: Some(Personal(domain.to_owned())),
        ..person("Ada", "Lovelace", "Engines")
    };
    let ordered = records([of("a.example"), of("b.example")]);
    let echo = Input { first_name: Some(Personal("ADA".to_owned())), ..of("b.example") };
    let told = placed(Kind::Finding, vec![result(None, echo)], Some(&ordered)).0;
    assert_eq!(told, json!([[1, "c1"]]));
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

/// How much of its record a result repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    All,
    Part,
    Nothing,
}

proptest! {
    /// Whatever is dropped, repeated, moved, made up or left out, no result is placed on a record that it contradicts, and
    /// one that repeats too little only where its position can be trusted or it is the last.
    #[test]
    fn no_result_is_placed_on_another_record(
        delivered in prop::collection::vec(
            (
                0_u64..12,
                prop::option::of(0_u64..12),
                prop_oneof![6 => Just(Repeats::All), 1 => Just(Repeats::Part), 2 => Just(Repeats::Nothing)],
                any::<bool>(),
            ),
            0..20,
        ),
        finding in any::<bool>(),
    ) {
        let kind = if finding { Kind::Finding } else { Kind::Validation };
        let input = |n: u64| match kind {
            Kind::Finding => person(&format!("F{n}"), &format!("L{n}"), "Engines"),
            Kind::Validation => number(&format!("+4474001234{n:02}")),
        };
        // Two persons, and two numbers, are ordered twice; those from 8 on were not ordered at all.
        let ordered = records((0..10).map(|n| input(n % 8)));
        // Half of the results stand where they belong, so that positions can often be trusted.
        let delivered: Vec<_> = delivered
            .into_iter()
            .map(|(n, index, repeats, in_place)| {
                let repeats = if repeats == Repeats::Part && !finding { Repeats::Nothing } else { repeats };
                (n, if in_place { Some(n) } else { index }, repeats)
            })
            .collect();
        let echo = |n: u64, repeats| match repeats {
            Repeats::All => input(n),
            Repeats::Part => Input { last_name: None, company_name: None, ..input(n) },
            Repeats::Nothing => Input::default(),
        };
        let results = delivered.iter().enumerate().map(|(row, (n, index, repeats))| BatchResult {
            provider_outcome: row.to_string(),
            ..result(*index, echo(*n, *repeats))
        });
        let mut batch = crate::batch::tests::batch_of(Status::Completed);
        batch.kind = kind;
        batch.results = Some(results.collect());
        let placed = batch.with_placed_results(Some(&ordered)).results.unwrap_or_default();
        // No result is lost or doubled, and no record has two.
        let rows: HashSet<usize> = placed.iter().map(|result| result.provider_outcome.parse().unwrap()).collect();
        prop_assert_eq!((rows.len(), placed.len()), (delivered.len(), delivered.len()));
        let taken: Vec<_> = placed.iter().filter_map(|result| result.index).collect();
        prop_assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len());
        let is_all_equal = delivered.len() == ordered.len();
        let contradicts = |(row, (n, index, repeats)): (usize, &(u64, Option<u64>, Repeats))| {
            let index = if finding { *index } else { Some(row as u64) };
            *repeats == Repeats::All && index.is_some_and(|at| *n != at % 8 && (at < 10 || *n < 8))
        };
        let is_trusted = !delivered.iter().enumerate().any(contradicts) && (finding || is_all_equal);
        let is_last = is_all_equal && placed.iter().filter(|result| result.index.is_none()).count() == 0;
        for result in &placed {
            let row: usize = result.provider_outcome.parse().unwrap();
            let (n, index, repeats) = delivered[row];
            let Some(place) = result.index else {
                prop_assert!(result.custom_id.is_none());
                prop_assert_eq!(&result.input, &echo(n, repeats));
                continue;
            };
            let record = &ordered[usize::try_from(place).unwrap()];
            prop_assert_eq!((&record.input, &record.custom_id), (&result.input, &result.custom_id));
            let own_place = if finding { index } else { Some(row as u64) };
            match repeats {
                Repeats::All => prop_assert_eq!(&record.input, &input(n)),
                Repeats::Part => prop_assert_eq!(&record.input.first_name, &input(n).first_name),
                Repeats::Nothing => {}
            }
            if repeats != Repeats::All {
                prop_assert!(is_last || (is_trusted && own_place == Some(place)), "{:?}", delivered);
            }
        }
        // Every record that was repeated as a whole often enough has one.
        for n in 0..8 {
            let repeated = delivered.iter().filter(|(of, _, repeats)| *of == n && *repeats == Repeats::All).count();
            let wanted = ordered.iter().filter(|record| record.input == input(n)).count();
            let is_whole = |result: &&BatchResult| {
                let (of, _, repeats) = delivered[result.provider_outcome.parse::<usize>().unwrap()];
                result.index.is_some() && of == n && repeats == Repeats::All
            };
            prop_assert_eq!(placed.iter().filter(is_whole).count(), repeated.min(wanted));
        }
    }
}
