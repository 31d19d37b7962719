//! What holds of every batch that a decoder makes, whatever the vendor sent. The fuzz targets check it as well.

use serde_json::Value;

/// Everything that is wrong with a batch in the common schema.
pub(crate) fn faults(batch: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    filled(batch, "", &mut faults);
    let done =
        batch["status"].as_str().is_some_and(|status| ["completed", "stopped", "failed"].contains(&status));
    if batch["done"] != done {
        faults.push(format!("{} and done: {}", batch["status"], batch["done"]));
    }
    let results: Vec<_> = batch.get("results").and_then(Value::as_array).into_iter().flatten().collect();
    if !done && !results.is_empty() {
        faults.push("results of a batch that is not done".to_owned());
    }
    let positions: Vec<_> = results.iter().filter_map(|result| result["index"].as_u64()).collect();
    let unplaced = &results[positions.len()..];
    if positions.windows(2).any(|pair| pair[0] >= pair[1])
        || unplaced.iter().any(|result| result.get("index").is_some() || result.get("custom_id").is_some())
    {
        faults.push(format!("positions {positions:?} of {} results", results.len()));
    }
    let warnings = batch.get("warnings").cloned().unwrap_or_default();
    if !unplaced.is_empty() && !warnings.to_string().contains("results_unmatched") {
        faults.push("results without a position, and nothing warns of it".to_owned());
    }
    // "All there" may be said only where every record that was ordered has its result.
    let missing =
        |requested: u64| (positions.iter().filter(|index| **index < requested).count() as u64) < requested;
    let requested = batch.get("progress").and_then(|progress| progress["requested"].as_u64());
    if batch["status"] == "completed" && requested.is_some_and(missing) && batch.get("warnings").is_none() {
        faults.push(format!("not every one of {requested:?} records has a result, and nothing warns of it"));
    }
    for phone in results.iter().filter_map(|result| result.get("phone")) {
        match phone.get("e164").map(|number| number.as_str().unwrap_or_default()) {
            Some(number) if !is_e164(number) => faults.push(format!("not E.164: {number:?}")),
            Some(_) if phone.get("raw").is_some() => faults.push("a number and its text".to_owned()),
            _ => {}
        }
    }
    faults
}

/// No `null`, no empty text, list or object. What the caller gave along stays as it is, and a result says of its
/// record what is known, even if that is nothing.
fn filled(value: &Value, at: &str, faults: &mut Vec<String>) {
    let empty = match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && !at.ends_with("/input"),
    };
    if empty {
        faults.push(format!("{at} is empty"));
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| filled(item, at, faults)),
        Value::Object(fields) if at != "/custom" => {
            fields.iter().for_each(|(name, value)| filled(value, &format!("{at}/{name}"), faults));
        }
        _ => {}
    }
}

fn is_e164(number: &str) -> bool {
    number.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}
