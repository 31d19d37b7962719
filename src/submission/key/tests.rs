use proptest::prelude::*;

use super::*;

fn key(value: &[u8]) -> Result<String, InvalidKey> {
    IdempotencyKey::try_from(value).map(|key| key.as_str().to_owned())
}

/// A key as RFC 8941 3.3.3 writes a string.
fn quoted(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn a_key_is_the_same_bare_and_quoted() {
    for (value, meant) in [
        (&b"abc"[..], "abc"),
        (b"\"abc\"", "abc"),
        (b"  abc\t", "abc"),
        (b" \"abc\" ", "abc"),
        (b"\" abc \"", " abc "),
        (b"a b", "a b"),
        (b"a\"b", "a\"b"),
        (br#""a\"b""#, "a\"b"),
        (br#""a\\b""#, "a\\b"),
        (br"a\b", "a\\b"),
        (b"a,b;c=d", "a,b;c=d"),
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"!~", "!~"),
    ] {
        assert_eq!(key(value).as_deref(), Ok(meant), "{}", String::from_utf8_lossy(value));
    }
    let longest = "k".repeat(255);
    assert_eq!(key(longest.as_bytes()).as_ref(), Ok(&longest));
    assert_eq!(key(quoted(&longest).as_bytes()).as_ref(), Ok(&longest));
    let escaped = quoted(&"\"".repeat(255));
    assert_eq!(key(escaped.as_bytes()).unwrap().len(), 255, "counted as it is meant");
}

#[test]
fn a_text_that_cannot_be_a_key_is_refused() {
    let too_long = "k".repeat(256);
    for value in [
        &b""[..],
        b"  ",
        b"\"\"",
        b"\"",
        b"\"abc",
        b"\"abc\"\"",
        b"\"abc\";a=1",
        b"\"abc\", \"abc\"",
        b"\"abc\" x",
        br#""a\bc""#,
        br#""abc\""#,
        br#""abc\"#,
        b"a\tb",
        b"caf\xc3\xa9",
        b"\xff",
        too_long.as_bytes(),
        quoted(&too_long).as_bytes(),
    ] {
        assert_eq!(key(value), Err(InvalidKey), "{}", String::from_utf8_lossy(value));
    }
}

#[test]
fn debug_does_not_show_the_key() {
    let key = IdempotencyKey::try_from(&b"secret"[..]).unwrap();
    assert!(!format!("{key:?}").contains("secret"));
}

proptest! {
    #[test]
    fn whatever_is_taken_is_printable_and_within_its_length(value in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(key) = key(&value) {
            prop_assert!((1..=IdempotencyKey::MAX_LENGTH).contains(&key.len()));
            prop_assert!(key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn every_key_can_be_written_in_quotes_and_is_the_same(meant in "[ -~]{1,255}") {
        prop_assert_eq!(key(quoted(&meant).as_bytes()), Ok(meant));
    }

    #[test]
    fn a_bare_key_is_what_it_says(meant in "[!#-~]([ -~]{0,253}[!-~])?") {
        prop_assert_eq!(key(meant.as_bytes()), Ok(meant));
    }
}
