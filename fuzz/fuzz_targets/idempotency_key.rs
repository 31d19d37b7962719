#![no_main]

use libfuzzer_sys::fuzz_target;
use phone_gateway::submission::IdempotencyKey;

fuzz_target!(|value: &[u8]| {
    if let Ok(key) = IdempotencyKey::try_from(value) {
        assert!((1..=IdempotencyKey::MAX_LENGTH).contains(&key.as_str().len()));
        assert!(key.as_str().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let quoted = format!("\"{}\"", key.as_str().replace('\\', "\\\\").replace('"', "\\\""));
        assert_eq!(IdempotencyKey::try_from(quoted.as_bytes()), Ok(key));
    }
});
