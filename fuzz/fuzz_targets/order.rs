#![no_main]

use libfuzzer_sys::fuzz_target;
use phone_gateway::providers::VENDORS;
use phone_gateway::submission::NewBatch;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
    for vendor in VENDORS {
        match NewBatch::from_json(&body, &vendor.info.accepts) {
            Ok(order) => {
                // What is written down of an order is the same order.
                let written = serde_json::to_value(&order).expect("JSON");
                assert_eq!(NewBatch::from_json(&written, &vendor.info.accepts).ok(), Some(order));
            }
            Err(errors) => {
                assert!(!errors.listed.is_empty() && errors.listed.len() <= errors.total);
                for pointer in errors.listed.iter().map(|error| error.pointer.as_deref().expect("a pointer"))
                {
                    assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer}");
                }
            }
        }
    }
});
