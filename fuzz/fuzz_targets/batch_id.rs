#![no_main]

use libfuzzer_sys::fuzz_target;
use phone_gateway::batch::BatchId;

fuzz_target!(|text: &str| {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let id = text.parse::<BatchId>();
    assert_eq!(id.is_ok(), (1..=64).contains(&text.len()) && text.bytes().all(allowed));
    if let Ok(id) = id {
        assert!(id.as_str().eq_ignore_ascii_case(text));
        assert_eq!(id.as_str().parse::<BatchId>().expect("an id"), id);
    }
});
