#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use phone_gateway::http::parse_retry_after;

fuzz_target!(|value: &str| {
    let wait = parse_retry_after(value, phone_gateway_fuzz::now());
    assert!(wait.is_none_or(|wait| wait <= Duration::from_mins(15)));
});
