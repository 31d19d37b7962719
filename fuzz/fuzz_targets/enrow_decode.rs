#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| phone_gateway_fuzz::decode("enrow", input));
