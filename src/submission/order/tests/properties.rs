//! Any JSON, and orders that were changed at random.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Stands in every text of an order, so that it is seen where a text is repeated.
const PLANTED: &str = "Pl4nt3d";

/// Any JSON, deep and wide enough.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from(PLANTED)),
    ];
    let name = || {
        let names =
            ["reference", "options", "records", "number", "country", "custom_id", "linkedin_url", "mobile"];
        prop_oneof![prop::sample::select(names.to_vec()).prop_map(str::to_owned), any::<String>()]
    };
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn example() -> impl Strategy<Value = (Value, Kind)> {
    prop::sample::select(vec![Kind::Finding, Kind::Validation])
        .prop_map(|kind| (serde_json::from_str(NewBatch::example(kind)).unwrap(), kind))
}

/// Every value of a value, itself included.
fn pointers_of(value: &Value, at: &str, pointers: &mut Vec<String>) {
    pointers.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers_of(item, &format!("{at}/{index}"), pointers);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                pointers_of(field, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), pointers);
            }
        }
        _ => {}
    }
}

fn change(value: &mut Value, at: Index, new: Value) {
    let mut pointers = Vec::new();
    pointers_of(value, "", &mut pointers);
    let pointer = &pointers[at.index(pointers.len())];
    *value.pointer_mut(pointer).unwrap() = new;
}

/// The same JSON with the fields of every object the other way round.
fn turned_round(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(turned_round).collect(),
        Value::Object(fields) => Value::Object(
            fields.iter().rev().map(|(name, field)| (name.clone(), turned_round(field))).collect(),
        ),
        other => other.clone(),
    }
}

/// What holds of every body.
fn check(body: &Value, kind: Kind) -> Result<(), TestCaseError> {
    match NewBatch::from_json(body, accepts(kind)) {
        Ok(order) => {
            let written = serde_json::to_value(&order).unwrap();
            prop_assert_eq!(NewBatch::from_json(&written, accepts(kind)).unwrap(), order.clone());
            let turned = NewBatch::from_json(&turned_round(body), accepts(kind));
            let fingerprint = |order: &NewBatch| order.fingerprint("vendor").unwrap();
            prop_assert_eq!(fingerprint(&turned.unwrap()), fingerprint(&order));
        }
        Err(errors) => {
            let InvalidParts { listed: errors, total } = errors;
            prop_assert!(total > 0 && errors.len() == total.min(MAX_ERRORS));
            for error in &errors {
                let pointer = error.pointer.as_deref().unwrap();
                // What is missing is told of the object that lacks it, or of the body's own `records`.
                let there = body.pointer(pointer).is_some();
                prop_assert!(there || pointer == "/records", "{} is not in the body", pointer);
            }
            let told = serde_json::to_string(&errors).unwrap();
            prop_assert!(!told.contains(PLANTED), "{}", told);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_json_is_an_order_or_told_what_is_wrong(body in any_json()) {
        for kind in [Kind::Finding, Kind::Validation] {
            check(&body, kind)?;
        }
    }

    #[test]
    fn a_changed_order_is_an_order_or_told_what_is_wrong(
        (mut body, kind) in example(),
        changes in prop::collection::vec((any::<Index>(), any_json()), 1..4),
    ) {
        for (at, new) in changes {
            change(&mut body, at, new);
        }
        check(&body, kind)?;
    }

    #[test]
    fn no_text_of_an_order_is_repeated_in_its_errors(
        (mut body, kind) in example(),
        at in any::<Index>(),
        text in "[ -~]{0,20}",
    ) {
        change(&mut body, at, format!("{PLANTED}{text}{PLANTED}#").into());
        check(&body, kind)?;
    }

    /// Another record, another place, another id: another order.
    #[test]
    fn other_records_have_another_fingerprint(
        numbers in prop::collection::vec("[+]4412062[0-9]{5}", 1..5),
        at in any::<Index>(),
        other in "[+]4412062[0-9]{5}",
    ) {
        let print = |numbers: &[String], id: Option<&str>| {
            let records: Vec<_> = numbers.iter().map(|number| json!({"number": number})).collect();
            let mut body = json!({"records": records});
            if let Some(id) = id {
                body["records"][0]["custom_id"] = id.into();
            }
            NewBatch::from_json(&body, accepts(Kind::Validation)).unwrap().fingerprint("vendor").unwrap()
        };
        let mut changed = numbers.clone();
        changed[at.index(numbers.len())] = other;
        prop_assert_eq!(print(&numbers, None) == print(&changed, None), numbers == changed);
        let reversed: Vec<_> = numbers.iter().rev().cloned().collect();
        prop_assert_eq!(print(&numbers, None) == print(&reversed, None), numbers == reversed);
        prop_assert_ne!(print(&numbers, None), print(&numbers[..numbers.len() - 1].iter().cloned()
            .chain(["+441206150380".to_owned()]).collect::<Vec<_>>(), Some("a")));
        prop_assert_ne!(print(&numbers, None), print(&numbers, Some("a")));
    }
}
