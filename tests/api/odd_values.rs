//! One odd value in a vendor's answer costs its field, or at worst its row: all other rows and fields stay as they are,
//! and the batch stays readable.
//!
//! Every value of every documented variant is replaced by each other JSON type, removed and repeated. Only four things
//! make a batch unreadable: the id of another batch, no status, results that are no list, and what is no JSON.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use phone_gateway::batch::{Batch, BatchId, Input, Kind, Personal, Record};
use phone_gateway::http::{ProviderError, Reply};
use phone_gateway::providers::{VENDORS, Vendor};
use proptest::prelude::*;
use proptest::sample::Index;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::fixtures::Fixture;
use crate::helpers::{Answer, Options, Replies, invariants, order_of};

/// Stands for JSON that no [`Value`] can hold.
const PLACEHOLDER: &str = "placeholder of this test";

/// JSON in place of a value, and whether it is a text.
fn replacements() -> Vec<String> {
    let huge = format!("1{}", "0".repeat(400));
    [
        "null",
        "true",
        "7",
        "-1",
        "1.5",
        "[]",
        "{}",
        "[[]]",
        r#"{"a":[1]}"#,
        r#""""#,
        r#"" ""#,
        r#""\ud800""#,
        "1e400",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([huge])
    .collect()
}

#[derive(Clone, Debug, PartialEq)]
enum Change {
    Replace(String),
    Remove,
    /// An entry of a list stands there twice; the field of an object, too.
    Repeat,
}

/// A place in the answers of one read: the call, and the names on the way to it in its body.
type Place = (usize, Vec<String>);

/// A documented variant, its places, and what is made of it unchanged.
struct Variant {
    vendor: &'static Vendor,
    fixture: Fixture,
    places: Vec<Place>,
    before: Value,
    /// The records that its results repeat, and what is made of it with them.
    records: Vec<Record>,
    /// None where two records are equal: then another result may take the place of one.
    before_with_records: Option<Value>,
}

static VARIANTS: LazyLock<Vec<Vec<Variant>>> = LazyLock::new(|| {
    VENDORS
        .iter()
        .map(|vendor| {
            Fixture::all(vendor.info.slug)
                .into_iter()
                .filter_map(|fixture| Variant::of(vendor, fixture))
                .collect()
        })
        .collect()
});

impl Variant {
    /// A variant that is a batch.
    fn of(vendor: &'static Vendor, fixture: Fixture) -> Option<Self> {
        // Where two results have one position already, a third change decides which one keeps it.
        if fixture.expected.get("batch").is_none() || fixture.name == "index-twice" {
            return None;
        }
        let bodies = fixture.replies().iter().map(|reply| Some(reply.get("body")?.to_string()));
        let bodies = bodies.collect::<Option<Vec<_>>>()?;
        let batch = decode(vendor, &fixture, &bodies, None).ok()?;
        let records = records_of(&batch);
        let is_repeated =
            |(at, record): (usize, &Record)| records[..at].iter().any(|other| other.input == record.input);
        let with_records = if records.iter().enumerate().any(is_repeated) {
            None
        } else {
            Some(decode(vendor, &fixture, &bodies, Some(&records)).ok()?)
        };
        let json = |batch: Batch| serde_json::to_value(batch).unwrap();
        Some(Self {
            vendor,
            places: places(&fixture),
            fixture,
            before: json(batch),
            records,
            before_with_records: with_records.map(json),
        })
    }

    /// What is wrong after a change; none where it cannot be made or is one of the four that are named.
    fn check(&self, place: &Place, change: &Change) -> Option<Vec<String>> {
        let bodies = changed(&self.fixture, place, change)?;
        if is_named(place, change) {
            return None;
        }
        let decode = |records| {
            let batch = decode(self.vendor, &self.fixture, &bodies, records);
            batch
                .map(|batch| serde_json::to_value(batch).unwrap())
                .map_err(|error| vec![format!("unreadable: {error}")])
        };
        let mut all = decode(None).map_or_else(
            |error| error,
            |after| [invariants::faults(&after), faults(&self.before, &after, place, change)].concat(),
        );
        if let Some(before) = &self.before_with_records {
            let with_records = decode(Some(&self.records))
                .map_or_else(|error| error, |after| faults(before, &after, place, change));
            all.extend(with_records.into_iter().map(|fault| format!("with records: {fault}")));
        }
        Some(all)
    }
}

/// The records of a batch; made up where no result repeats one.
fn records_of(batch: &Batch) -> Vec<Record> {
    let results = batch.results.as_deref().unwrap_or_default();
    let record = |index: u64| {
        let result = results.iter().find(|result| result.index == Some(index));
        let made_up = Some(Personal(match batch.kind {
            Kind::Finding => format!("https://www.linkedin.com/in/made-up-{index}"),
            Kind::Validation => format!("+44740099{index:04}"),
        }));
        let input = result.map(|result| result.input.clone()).filter(|input| *input != Input::default());
        let input = input.unwrap_or_else(|| match batch.kind {
            Kind::Finding => Input { linkedin_url: made_up, ..Input::default() },
            Kind::Validation => Input { number: made_up, ..Input::default() },
        });
        Record { input, custom_id: Some(Personal(format!("c{index}"))), ..Record::default() }
    };
    (0..batch.progress.map_or(results.len() as u64, |progress| progress.requested)).map(record).collect()
}

fn places(fixture: &Fixture) -> Vec<Place> {
    fn below(value: &Value, call: usize, at: &mut Vec<String>, places: &mut Vec<Place>) {
        places.push((call, at.clone()));
        let children: Vec<(String, &Value)> = match value {
            Value::Array(items) => items.iter().enumerate().map(|(n, item)| (n.to_string(), item)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), field)).collect(),
            _ => Vec::new(),
        };
        for (name, child) in children {
            at.push(name);
            below(child, call, at, places);
            at.pop();
        }
    }
    let mut places = Vec::new();
    for (call, reply) in fixture.replies().iter().enumerate() {
        if let Some(body) = reply.get("body") {
            below(body, call, &mut Vec::new(), &mut places);
        }
    }
    places
}

/// The bodies of the answers after a change; none where it cannot be made.
fn changed(fixture: &Fixture, (call, at): &Place, change: &Change) -> Option<Vec<String>> {
    let mut bodies: Vec<Value> = fixture.replies().iter().map(|reply| reply["body"].clone()).collect();
    let (last, parents) = at.split_last()?;
    let parent = parents.iter().try_fold(&mut bodies[*call], |value, name| match value {
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        value => value.get_mut(name),
    })?;
    let mut inserted = None;
    match (parent, change) {
        (Value::Array(items), change) => {
            let index: usize = last.parse().ok()?;
            match change {
                Change::Replace(json) => {
                    items[index] = PLACEHOLDER.into();
                    inserted = Some(json.clone());
                }
                // Without any result, the batch has not ended.
                Change::Remove if items.len() == 1 => return None,
                Change::Remove => drop(items.remove(index)),
                Change::Repeat => items.insert(index, items[index].clone()),
            }
        }
        (Value::Object(fields), change) => match change {
            Change::Replace(json) => {
                fields.insert(last.clone(), PLACEHOLDER.into());
                inserted = Some(json.clone());
            }
            Change::Remove => drop(fields.shift_remove(last)),
            Change::Repeat => {
                // The same field twice, the second time with another value.
                inserted = Some(format!("{},{}:[7]", fields[last], json!(last)));
                fields.insert(last.clone(), PLACEHOLDER.into());
            }
        },
        _ => return None,
    }
    let placeholder = Value::from(PLACEHOLDER).to_string();
    let text = |body: &Value| {
        let text = body.to_string();
        inserted.as_ref().map_or_else(|| text.clone(), |json| text.replacen(&placeholder, json, 1))
    };
    Some(bodies.iter().map(text).collect())
}

fn decode(
    vendor: &Vendor,
    fixture: &Fixture,
    bodies: &[String],
    records: Option<&[Record]>,
) -> Result<Batch, ProviderError> {
    let id: BatchId = fixture.id().parse().unwrap();
    let reply = |body: &String| {
        Reply::new(200, HeaderMap::new(), body.clone().into(), Timestamp::constant(1_795_341_600, 0))
    };
    vendor.decode(&id, records, &bodies.iter().map(reply).collect::<Vec<_>>())
}

/// Whether a change at this place may make the batch unreadable, or a batch in another state.
fn is_named((call, at): &Place, change: &Change) -> bool {
    let at: Vec<_> = at.iter().map(String::as_str).collect();
    match (at.as_slice(), change) {
        // Repeated, the first one counts.
        (_, Change::Repeat) => false,
        // Other results are another answer, and an empty list says that they are not there yet.
        ([] | ["general" | "result" | "results"] | ["result", "phones"], _) => true,
        // The first answer says where the batch stands; what comes with the results cannot take them away.
        (["general" | "result", "status"], _) => *call == 0,
        (["general", "id"] | ["result", "batch_id"], change) => {
            matches!(change, Change::Replace(json) if json == "7" || json == r#""\ud800""# || json.starts_with("1e") || json.len() > 400)
        }
        _ => false,
    }
}

/// The top-level fields of the common schema that may change with a vendor's field outside of the rows.
fn may_change(at: &[String]) -> &'static [&'static str] {
    match at.get(1).map(String::as_str) {
        Some("custom") => &["custom", "submission_id"],
        Some("batch_reference_id") => &["reference", "submission_id"],
        Some("reason") => &["reason"],
        Some("records" | "records_processed" | "requested" | "finished") => {
            &["progress", "outcomes", "warnings"]
        }
        Some("found" | "valid" | "statistics") => &["outcomes"],
        Some("credits_cost" | "credits_to_refund" | "credits_charged") => &["cost", "warnings"],
        Some("date_submitted") => &["submitted_at", "results_expire_at"],
        Some("date_started") => &["started_at"],
        Some("date_ended") => &["ended_at"],
        Some("batch_config") => &["options"],
        _ => match at.first().map(String::as_str) {
            Some("stats") => &["cost", "progress", "outcomes", "warnings"],
            Some("metadata") => &["options"],
            _ => &[],
        },
    }
}

/// Which record a result belongs to, where the records are known.
const RECORD: &[&str] = &["/index", "/custom_id", "/input"];

/// The parts of a result that may change with a field of a vendor's row, `at` within the row.
fn may_change_in_row(at: &[String]) -> &'static [&'static str] {
    let at: Vec<_> = at.iter().map(String::as_str).collect();
    match at[..] {
        // The whole row.
        [] => &["/"],
        ["index" | "params" | "raw_params" | "number", ..] if at != ["number"] => RECORD,
        // Enrow's number that was found, Experian's number as it was sent.
        ["number"] => &["/phone", "/outcome", "/index", "/custom_id", "/input"],
        ["qualification" | "confidence"] => &["/outcome", "/provider_outcome", "/reason", "/phone"],
        ["country"] => &["/phone", "/outcome"],
        ["validated_phone_number"] => {
            &["/phone/e164", "/phone/raw", "/phone/extension", "/index", "/custom_id", "/input"]
        }
        ["formatted_phone_number"] => &["/phone/formatted"],
        ["phone_type"] => &["/phone/line_type", "/phone/e164", "/phone/raw", "/phone/extension"],
        ["ported_date"] => &["/ported_at"],
        ["disposable_number"] => &["/phone/disposable"],
        ["metadata"] => &["/carrier", "/ported", "/phone"],
        ["metadata", "is_ported"] => &["/ported"],
        ["metadata", "country_iso"] => &["/phone"],
        ["metadata", "operator_name"] => &["/carrier/name"],
        ["metadata", "network_status"] => &["/carrier/network_status"],
        ["metadata", "home_network_identity"] => &["/carrier/mcc_mnc"],
        ["metadata", "email_to_sms_address"] => &["/carrier/email_to_sms"],
        ["metadata", "email_to_mms_address"] => &["/carrier/email_to_mms"],
        ["metadata", "original_operator_name"] => &["/carrier/original/name"],
        ["metadata", "original_network_status"] => &["/carrier/original/network_status"],
        ["metadata", "original_home_network_identity"] => &["/carrier/original/mcc_mnc"],
        ["metadata", "original_country_iso"] => &["/carrier/original/country"],
        _ => &[],
    }
}

/// Each value that is no object with its JSON pointer, as it is written.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    fn below(value: &Value, at: &str, leaves: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| below(field, &format!("{at}/{name}"), leaves));
            }
            _ => drop(leaves.insert(at.to_owned(), value.to_string())),
        }
    }
    let mut leaves_of = BTreeMap::new();
    below(value, "", &mut leaves_of);
    leaves_of
}

/// The pointers at which two values differ by a byte.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let (before, after) = (leaves(before), leaves(after));
    let all = before.keys().chain(after.keys().filter(|at| !before.contains_key(*at)));
    all.filter(|at| before.get(*at) != after.get(*at)).cloned().collect()
}

/// What changed that should not have; empty when nothing did.
fn faults(before: &Value, after: &Value, (_, at): &Place, change: &Change) -> Vec<String> {
    let mut faults = Vec::new();
    let (row, at_in_row) = match at.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["results", row, ..] => (row.parse::<usize>().ok(), &at[2..]),
        ["result", "phones", row, ..] => (row.parse::<usize>().ok(), &at[3..]),
        _ => (None, &at[..]),
    };
    let rows = |batch: &Value| -> Vec<Value> { batch["results"].as_array().cloned().unwrap_or_default() };
    let (rows_before, mut rows_after) = (rows(before), rows(after));
    // A vendor that gives no index is read by position: a row more or less moves those behind it.
    let moved = row.is_some()
        && at_in_row.is_empty()
        && matches!(change, Change::Remove | Change::Repeat)
        && at[0] == "result";
    let without_index = |row: &Value| {
        let mut row = row.clone();
        if moved {
            row.as_object_mut().unwrap().shift_remove("index");
        }
        row.to_string()
    };
    let mut lost = Vec::new();
    for row in &rows_before {
        match rows_after.iter().position(|after| without_index(after) == without_index(row)) {
            Some(at) => drop(rows_after.remove(at)),
            None => lost.push(row),
        }
    }
    match (row, &lost[..], &rows_after[..]) {
        (_, [], []) => {}
        (Some(_), [], [_]) | (Some(_), [_], []) if at_in_row.is_empty() => {}
        // With more results than records, one that repeats nothing is nobody's.
        (Some(_), [before], [one, other]) if at_in_row.is_empty() && *change == Change::Repeat => {
            let is_record = |at: &String| RECORD.iter().any(|record| at.starts_with(record));
            if ![one, other].iter().all(|after| differences(before, after).iter().all(is_record)) {
                faults.push("a row that stands there twice is not as before".to_owned());
            }
        }
        (Some(_), [before], [after]) => {
            let may_change = may_change_in_row(at_in_row);
            let others = differences(before, after)
                .into_iter()
                .filter(|at| !may_change.iter().any(|allowed| at.starts_with(allowed)));
            faults.extend(others.map(|at| format!("{at} of the row changed")));
        }
        (_, lost, new) => {
            faults.push(format!("{} rows are not as before, {} are new", lost.len(), new.len()));
        }
    }
    let may_change: &[&str] = if row.is_some() { &["outcomes", "warnings"] } else { may_change(at) };
    let fields = before.as_object().unwrap().keys().chain(after.as_object().unwrap().keys());
    for name in fields.filter(|name| *name != "results" && !may_change.contains(&name.as_str())) {
        let written = |batch: &Value| batch.get(name).map(Value::to_string);
        if written(before) != written(after) {
            faults.push(format!("{name}: {:?} became {:?}", before.get(name), after.get(name)));
        }
    }
    faults
}

#[test]
fn one_odd_value_costs_its_field_and_nothing_else() {
    for (vendor, variants) in VENDORS.iter().zip(&*VARIANTS) {
        let (mut served, mut named, mut wrong) = (0, 0, BTreeMap::new());
        for variant in variants {
            for place in &variant.places {
                let changes = replacements().into_iter().map(Change::Replace);
                for change in changes.chain([Change::Remove, Change::Repeat]) {
                    match variant.check(place, &change) {
                        None => named += 1,
                        Some(faults) if faults.is_empty() => served += 1,
                        Some(faults) => {
                            let (call, at) = (place.0, place.1.join("/"));
                            let change = format!("{change:?}").chars().take(40).collect::<String>();
                            wrong.insert(
                                format!("{} call {call} /{at} {change}", variant.fixture.name),
                                faults,
                            );
                        }
                    }
                }
            }
        }
        println!(
            "{}: {served} single changes are served, {named} are of the four that are named",
            vendor.info.slug
        );
        let some: Vec<_> = wrong.iter().take(20).collect();
        assert!(wrong.is_empty(), "{}: {} changes\n{some:#?}", vendor.info.slug, wrong.len());
        assert!(served > 10_000, "{}: {served}", vendor.info.slug);
    }
}

/// Over HTTP, for an order too: byte order marks and NULs around the document, and an id that is a number.
#[tokio::test]
async fn byte_order_marks_and_a_numeric_id_are_read() {
    let vendor = Replies::start().await;
    let gateway = Options::default().scripted(&vendor).start().await;
    let marked =
        |body: &Value| Answer::new(200, &[], format!("\u{feff}\n\u{feff}{body}\0\u{feff}").as_bytes());
    vendor.on("", marked(&json!({"id": 123_456, "credits_used": "40.0"})));
    let accepted = gateway.submit("enrow", "k", &order_of("enrow", 1)).await;
    assert_eq!(
        (accepted.accepted()["id"].as_str(), &accepted.body["cost"]["charged"]),
        (Some("123456"), &json!(40))
    );
    vendor.clear();
    vendor.on("", marked(&json!({
        "general": {"id": 123_456, "status": "completed"}, "stats": {"requested": 1},
        "results": [{"index": 0, "qualification": "found", "number": 15_705_551_234_u64, "country": "USA"}],
    })));
    gateway.advance_seconds(60);
    let batch = gateway.batch("enrow", "123456").await;
    assert_eq!(batch.batch()["results"][0]["phone"], json!({"e164": "+15705551234", "country": "US"}));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The same for texts and numbers of any kind.
    #[test]
    fn any_other_value_costs_its_field_and_nothing_else(
        vendor in 0..VENDORS.len(),
        variant in any::<Index>(),
        place in any::<Index>(),
        value in prop_oneof![
            any::<String>().prop_map(|text| json!(text).to_string()),
            any::<f64>().prop_map(|number| json!(number).to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            "[0-9]{1,400}(\\.[0-9]{1,9})?(e[0-9]{1,4})?",
            "\"(\\\\u[0-9a-fA-F]{4}|[a-z ]){0,6}\"",
        ],
    ) {
        let variant = variant.get(&VARIANTS[vendor]);
        let place = place.get(&variant.places);
        let last = place.1.last().map_or("", String::as_str);
        // Another id, another status and another index are told of elsewhere.
        prop_assume!(!["id", "batch_id", "status", "index", "general", "result", "results", "phones"].contains(&last));
        // A leading zero makes a number no JSON.
        prop_assume!(serde_json::from_str::<Value>(&value).is_ok() || value.starts_with('"'));
        if let Some(faults) = variant.check(place, &Change::Replace(value.clone())) {
            prop_assert!(faults.is_empty(), "{} /{} {value}: {faults:?}", variant.fixture.name, place.1.join("/"));
        }
    }
}
