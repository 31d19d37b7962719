//! Whatever a vendor may answer: the documented variants, changed at random. Nothing of it may bring a decoder down,
//! come out as a document that the schema does not allow, or end a batch that has not ended.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use phone_gateway::batch::{Batch, BatchId};
use phone_gateway::http::{ProviderError, Reply, parse_rate_limit_reset, parse_retry_after};
use phone_gateway::providers::{VENDORS, Vendor};
use proptest::prelude::*;
use proptest::sample::Index;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::fixtures::Fixture;
use crate::helpers::{Schema, invariants};

/// A vendor with its documented variants.
struct Documented {
    vendor: &'static Vendor,
    fixtures: Vec<Fixture>,
    /// Its own words for a batch that has ended, in lower case.
    last_words: BTreeSet<String>,
}

static DOCUMENTED: LazyLock<Vec<Documented>> = LazyLock::new(|| {
    let documented = |vendor: &'static Vendor| {
        let fixtures = Fixture::all(vendor.info.slug);
        let batches = fixtures.iter().filter_map(|fixture| fixture.expected.get("batch"));
        let ended = batches.filter(|batch| batch["done"] == true);
        let last_words = ended.map(|batch| lower(batch["provider_status"].as_str().unwrap())).collect();
        Documented { vendor, fixtures, last_words }
    };
    VENDORS.iter().map(documented).collect()
});

static OPENAPI: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/phone-gateway.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
});

fn lower(word: &str) -> String {
    word.trim().to_ascii_lowercase()
}

/// What a vendor sends on one call.
#[derive(Clone)]
struct Sent {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    fn new(call: &Value, body: Vec<u8>) -> Self {
        let headers = call.get("headers").and_then(Value::as_object).into_iter().flatten();
        let header = |(name, value): (&String, &Value)| {
            (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value.as_str().unwrap()).unwrap())
        };
        let status = call["status"].as_u64().unwrap().try_into().unwrap();
        Self { status, headers: headers.map(header).collect(), body }
    }
}

fn text_of(call: &Value) -> String {
    call.get("text").map_or_else(|| call["body"].to_string(), |text| text.as_str().unwrap().to_owned())
}

impl Documented {
    fn decode(&self, id: &str, sent: &[Sent]) -> Result<Batch, ProviderError> {
        let id: BatchId = id.parse().unwrap();
        let reply = |sent: &Sent| {
            let body = sent.body.clone().into();
            Reply::new(sent.status, sent.headers.clone(), body, Timestamp::constant(1_795_341_600, 0))
        };
        self.vendor.decode(&id, None, &sent.iter().map(reply).collect::<Vec<_>>())
    }

    /// The variants that are batches.
    fn batches(&self) -> Vec<&Fixture> {
        self.fixtures.iter().filter(|fixture| fixture.expected.get("batch").is_some()).collect()
    }

    /// What no answer may lead to.
    fn check(&self, id: &str, decoded: Result<Batch, ProviderError>) -> Result<(), TestCaseError> {
        let Ok(batch) = decoded else { return Ok(()) };
        prop_assert_eq!(&batch.id, &id.parse::<BatchId>().unwrap());
        let word = lower(&batch.provider_status);
        prop_assert!(!batch.done || self.last_words.contains(&word), "{:?} is no last word", word);
        let json = serde_json::to_value(&batch).unwrap();
        let mut faults = invariants::faults(&json);
        faults.extend(Schema::of(&OPENAPI).faults("Batch", &json));
        prop_assert!(faults.is_empty(), "{faults:?}");
        Ok(())
    }
}

/// The replies of a variant, with other texts: `other` is asked for each text of each call.
fn with_texts(fixture: &Fixture, other: impl Fn(usize, &str) -> Option<String>) -> Vec<Sent> {
    let calls = fixture.replies().iter().enumerate();
    let sent = |(number, call): (usize, &Value)| {
        let mut body = call["body"].clone();
        each(&mut body, &mut |node| {
            if let Some(text) = node.as_str().and_then(|text| other(number, text)) {
                *node = text.into();
            }
        });
        Sent::new(call, body.to_string().into_bytes())
    };
    calls.map(sent).collect()
}

/// Every value in a value, itself included.
fn each(value: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, visit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| each(field, visit)),
        _ => {}
    }
}

/// A change of one value.
#[derive(Clone, Debug)]
enum Change {
    /// Whatever it was, this JSON stands there; it need not be valid.
    Raw(String),
    Text(String),
    UpperCase,
    Cut(Index),
    Long(usize),
    /// The first entry of a list or an object goes.
    Drop(Index),
    Duplicate(Index),
    Reverse,
    Extra(String),
}

/// A change of the bytes that are sent.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Flip(Index, u8),
    Insert(Index, u8),
}

/// Stands for JSON that no [`Value`] can hold.
const PLACEHOLDER: &str = "\u{1}raw\u{1}";

impl Change {
    fn apply(&self, node: &mut Value) {
        match (self, node) {
            (Self::Raw(_), node) => *node = PLACEHOLDER.into(),
            (Self::Text(text), node) => *node = text.as_str().into(),
            (Self::UpperCase, Value::String(text)) => *text = text.to_uppercase(),
            (Self::Cut(at), Value::String(text)) => {
                *text = text.chars().take(at.index(text.len() + 1)).collect();
            }
            (Self::Long(times), Value::String(text)) => *text = text.repeat(*times),
            (Self::Drop(at), Value::Array(items)) if !items.is_empty() => {
                items.remove(at.index(items.len()));
            }
            (Self::Drop(at), Value::Object(fields)) if !fields.is_empty() => {
                let name = fields.keys().nth(at.index(fields.len())).unwrap().clone();
                fields.remove(&name);
            }
            (Self::Duplicate(at), Value::Array(items)) if !items.is_empty() => {
                items.push(items[at.index(items.len())].clone());
            }
            (Self::Reverse, Value::Array(items)) => items.reverse(),
            (Self::Extra(name), Value::Object(fields)) => {
                fields.insert(name.clone(), json!({"new": [1, null]}));
            }
            _ => {}
        }
    }
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            _ if bytes.is_empty() => {}
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Flip(at, mask) => {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            Self::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
        }
    }
}

fn raw() -> impl Strategy<Value = String> {
    let huge = format!("1{}", "0".repeat(40));
    prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-1",
            "1.5",
            "2.0",
            "1e400",
            "-1e400",
            "1e-400",
            "1e19",
            "18446744073709551615",
            "18446744073709551616",
            "9007199254740993",
            "[]",
            "{}",
            "[null]",
            "[{}]",
            "NaN",
            "",
            "\"\\ud800\"",
            "\"\\u0000\"",
            "{\"initial\":1,\"refunded\":1e400}",
        ])
        .prop_map(str::to_owned),
        Just(huge),
        Just("[".repeat(200) + &"]".repeat(200)),
        any::<f64>().prop_map(|number| json!(number).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let words: Vec<_> = DOCUMENTED.iter().flat_map(|documented| documented.last_words.clone()).collect();
    prop_oneof![
        4 => raw().prop_map(Change::Raw),
        2 => any::<String>().prop_map(Change::Text),
        2 => prop::sample::select(words).prop_map(Change::Text),
        2 => "[+]?[0-9]{0,20}".prop_map(Change::Text),
        1 => prop::sample::select(vec!["", " ", "\t\n", "\u{0}", "\u{202e}", "\u{a0}", "+", "\u{feff}"])
            .prop_map(|text| Change::Text(text.to_owned())),
        1 => Just(Change::UpperCase),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (2..2_000_usize).prop_map(Change::Long),
        4 => any::<Index>().prop_map(Change::Drop),
        2 => any::<Index>().prop_map(Change::Duplicate),
        1 => Just(Change::Reverse),
        1 => "[a-z_]{1,12}".prop_map(Change::Extra),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 1..=u8::MAX).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
    ]
}

/// The replies of a variant with some values changed; `at` picks a call and a value in it.
fn changed(fixture: &Fixture, changes: &[(Index, Change)]) -> Vec<Sent> {
    let mut calls: Vec<_> = fixture.replies().iter().map(|call| call["body"].clone()).collect();
    let mut raw = Vec::new();
    for (at, change) in changes {
        let mut nodes = 0;
        for body in &mut calls {
            each(body, &mut |_| nodes += 1);
        }
        let (chosen, mut node) = (at.index(nodes.max(1)), 0);
        for body in &mut calls {
            each(body, &mut |value| {
                if node == chosen {
                    change.apply(value);
                }
                node += 1;
            });
        }
        if let Change::Raw(json) = change {
            raw.push(json);
        }
    }
    let placeholder = Value::from(PLACEHOLDER).to_string();
    let mut raw = raw.into_iter();
    let sent = |(call, body): (&Value, &Value)| {
        let mut text = if call.get("text").is_some() { text_of(call) } else { body.to_string() };
        while text.contains(&placeholder) {
            text = text.replacen(&placeholder, raw.next().map_or("null", String::as_str), 1);
        }
        Sent::new(call, text.into_bytes())
    };
    fixture.replies().iter().zip(&calls).map(sent).collect()
}

/// One documented variant of one vendor.
#[derive(Clone, Copy)]
struct Variant {
    documented: &'static Documented,
    fixture: &'static Fixture,
}

impl fmt::Debug for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.documented.vendor.info.slug, self.fixture.name)
    }
}

fn variant() -> impl Strategy<Value = Variant> {
    any::<(Index, Index)>().prop_map(|(vendor, fixture)| {
        let documented = vendor.get(DOCUMENTED.as_slice());
        Variant { documented, fixture: fixture.get(&documented.fixtures) }
    })
}

/// A variant that is a batch of which this is true.
fn batch_variant(is: fn(&Value) -> bool) -> impl Strategy<Value = Variant> {
    any::<(Index, Index)>().prop_map(move |(vendor, fixture)| {
        let documented = vendor.get(DOCUMENTED.as_slice());
        let mut fixtures = documented.batches();
        fixtures.retain(|fixture| is(&fixture.expected["batch"]));
        Variant { documented, fixture: fixtures[fixture.index(fixtures.len())] }
    })
}

/// Words that are no last word, many of them close to one.
fn other_word() -> impl Strategy<Value = String> {
    let last_words: Vec<_> = DOCUMENTED.iter().flat_map(|documented| documented.last_words.clone()).collect();
    prop_oneof![
        any::<String>(),
        "[a-z_ ]{1,20}",
        (prop::sample::select(last_words.clone()), any::<char>(), any::<Index>()).prop_map(
            |(word, c, at)| {
                let at = at.index(word.len() + 1);
                format!("{}{c}{}", &word[..at], &word[at..])
            }
        ),
        (prop::sample::select(last_words), any::<Index>())
            .prop_map(|(word, at)| word[..at.index(word.len())].to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_values_make_a_valid_batch_or_none(
        Variant { documented, fixture } in variant(),
        changes in prop::collection::vec((any::<Index>(), change()), 1..5),
    ) {
        let decoded = documented.decode(fixture.id(), &changed(fixture, &changes));
        documented.check(fixture.id(), decoded)?;
    }

    #[test]
    fn damaged_bytes_make_a_valid_batch_or_none(
        Variant { documented, fixture } in variant(),
        damages in prop::collection::vec((any::<Index>(), damage()), 1..4),
        status in prop_oneof![4 => Just(None), 1 => (100..600_u16).prop_map(Some)],
    ) {
        let mut sent = changed(fixture, &[]);
        for (call, damage) in &damages {
            let call = call.index(sent.len());
            damage.apply(&mut sent[call].body);
            sent[call].status = status.unwrap_or(sent[call].status);
        }
        documented.check(fixture.id(), documented.decode(fixture.id(), &sent))?;
    }

    #[test]
    fn lost_repeated_and_swapped_answers_make_a_valid_batch_or_none(
        Variant { documented, fixture } in variant(),
        order in prop::collection::vec(any::<Index>(), 0..4),
    ) {
        let sent = changed(fixture, &[]);
        let sent: Vec<_> = order.iter().map(|call| call.get(&sent).clone()).collect();
        documented.check(fixture.id(), documented.decode(fixture.id(), &sent))?;
    }

    /// In each answer that names an end, or in the first alone: it says where the batch stands.
    #[test]
    fn no_batch_ends_by_a_word_that_is_no_last_word(
        Variant { documented, fixture } in batch_variant(|_| true),
        word in other_word(),
        first_only in any::<bool>(),
    ) {
        prop_assume!(!documented.last_words.contains(&lower(&word)));
        let is_last = |text: &str| documented.last_words.contains(&lower(text));
        let replaced = Cell::new(false);
        let sent = with_texts(fixture, |call, text| {
            let replace = is_last(text) && (call == 0 || !first_only);
            replaced.set(replaced.get() || replace);
            replace.then(|| word.clone())
        });
        let decoded = documented.decode(fixture.id(), &sent);
        let ended = decoded.as_ref().is_ok_and(|batch| batch.done);
        prop_assert!(!(replaced.get() && ended), "{} by {:?}", fixture.name, word);
        documented.check(fixture.id(), decoded)?;
    }

    #[test]
    fn no_single_text_ends_a_batch_that_is_at_work(
        Variant { documented, fixture } in batch_variant(|batch| batch["done"] == false),
        at in any::<Index>(),
        word in other_word(),
    ) {
        prop_assume!(!documented.last_words.contains(&lower(&word)));
        let decoded = documented.decode(fixture.id(), &changed(fixture, &[(at, Change::Text(word))]));
        prop_assert!(decoded.is_err() || decoded.is_ok_and(|batch| !batch.done), "{}", fixture.name);
    }

    #[test]
    fn an_answer_about_another_batch_is_never_taken(
        Variant { documented, fixture } in batch_variant(|_| true),
        other in "[A-Za-z0-9_-]{1,64}",
        call in any::<Index>(),
    ) {
        prop_assume!(!other.eq_ignore_ascii_case(fixture.id()));
        let call = call.index(fixture.replies().len());
        prop_assume!(text_of(&fixture.replies()[call]).to_ascii_lowercase().contains(fixture.id()));
        let sent = with_texts(fixture, |number, text| {
            (number == call && text.trim().eq_ignore_ascii_case(fixture.id())).then(|| other.clone())
        });
        prop_assert!(documented.decode(fixture.id(), &sent).is_err(), "{}", fixture.name);
        let own = changed(fixture, &[]);
        prop_assert!(documented.decode(&other, &own).is_err(), "{}", fixture.name);
    }

    #[test]
    fn a_waiting_time_is_understood_or_none_and_never_long(value in any::<String>()) {
        let now = Timestamp::constant(1_795_341_600, 0);
        for wait in [parse_retry_after(&value, now), parse_rate_limit_reset(&value, now)] {
            prop_assert!(wait.is_none_or(|wait| wait <= Duration::from_mins(15)));
        }
    }

    #[test]
    fn a_waiting_time_in_seconds_is_taken_at_its_word(seconds in "[0-9]{1,30}", blank in "[ \t]{0,3}") {
        let meant = seconds.parse().unwrap_or(u64::MAX).min(15 * 60);
        let wait = parse_retry_after(&format!("{blank}{seconds}{blank}"), Timestamp::UNIX_EPOCH);
        prop_assert_eq!(wait, Some(Duration::from_secs(meant)));
    }

    #[test]
    fn a_waiting_time_until_a_date_is_what_is_left_of_it(now in 0..4_000_000_000_i64, ahead in -2_000..2_000_i64) {
        let at = |second| Timestamp::from_second(second).unwrap();
        let meant = Duration::from_secs(ahead.clamp(0, 15 * 60).unsigned_abs());
        let mut forms = vec!["%a, %d %b %Y %H:%M:%S GMT"];
        // The older forms cannot name every year.
        if (0..3_155_000_000).contains(&(now + ahead)) {
            forms.extend(["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]);
        }
        for form in forms {
            let date = at(now + ahead).strftime(form).to_string();
            prop_assert_eq!(parse_retry_after(&date, at(now)), Some(meant), "{}", date);
        }
    }
}

/// Eight times the answer may take eight times as long, and sixty-four times would be a hanging gateway. The least of
/// several times is taken, because the machine does other things as well.
#[test]
fn decoding_takes_no_more_than_its_share_of_a_longer_answer() {
    const TIMES: usize = 8;
    for documented in &*DOCUMENTED {
        let ended = |fixture: &&&Fixture| fixture.expected["batch"]["results"].as_array().is_some();
        let batches = documented.batches();
        let fixture = batches.iter().find(ended).unwrap();
        for text in ["\u{0}", "+1", "9", " ", "a-", "é", "\"\\"] {
            let sent = |length: usize| {
                with_texts(fixture, |_, old| {
                    let keep =
                        old.eq_ignore_ascii_case(fixture.id()) || documented.last_words.contains(&lower(old));
                    (!keep).then(|| text.repeat(length))
                })
            };
            assert_linear(documented, fixture, &sent(2_000), &sent(2_000 * TIMES), text);
        }
        let rows = |count: usize| {
            let sent = |call: &Value| {
                let mut body = call["body"].clone();
                each(&mut body, &mut |node| {
                    if let Value::Array(items) = node
                        && let Some(item) = items.first().cloned()
                    {
                        *items = vec![item; count];
                        for (index, item) in (0_u64..).zip(items) {
                            if item.get("index").is_some() {
                                item["index"] = index.into();
                            }
                        }
                    }
                });
                Sent::new(call, body.to_string().into_bytes())
            };
            fixture.replies().iter().map(sent).collect::<Vec<_>>()
        };
        assert_linear(documented, fixture, &rows(50), &rows(50 * TIMES), "rows");
    }
}

fn assert_linear(documented: &Documented, fixture: &Fixture, short: &[Sent], long: &[Sent], what: &str) {
    let least = |sent: &[Sent]| {
        let time = |_| {
            let start = Instant::now();
            let _ = documented.decode(fixture.id(), sent);
            start.elapsed()
        };
        (0..5).map(time).min().unwrap()
    };
    let (short, long) = (least(short).max(Duration::from_micros(50)), least(long));
    assert!(long < short * 32, "{}: {what:?}: {short:?}, {long:?}", documented.vendor.info.slug);
}
