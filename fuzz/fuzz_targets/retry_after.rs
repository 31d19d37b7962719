#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use phone_gateway::http::waiting_time;

fuzz_target!(|value: &str| {
    let wait = waiting_time(value, phone_gateway_fuzz::now());
    assert!(wait.is_none_or(|wait| wait <= Duration::from_mins(15)));
});
