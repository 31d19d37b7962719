//! JSON that `serde_json` refuses as a whole because of one value.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

/// Deepest nesting that is read: that of `serde_json`.
const MAX_DEPTH: usize = 128;
/// Most names of one object, several times what any vendor sends.
const MAX_NAMES: usize = 10_000;

/// Rewrites what would make a document unreadable although its structure is sound (RFC 8259):
///
/// * half of a surrogate pair in a string becomes U+FFFD, a raw control character its escape;
/// * a number beyond a 64-bit float becomes a string of its digits;
/// * the second of two fields with one name gets another name, so that the first counts.
///
/// Anything else stays as it is. A text that is no JSON at all stays none. `None` for one with more levels or more names in
/// one object than any answer has: its memory would be many times its size.
pub(super) fn repair(json: &str) -> Option<String> {
    let mut repaired = String::with_capacity(json.len());
    let mut objects: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let mut expects_name = false;
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let token = match first {
            '"' => string_token(rest),
            '-' | '0'..='9' => number_token(rest),
            _ => &rest[..first.len_utf8()],
        };
        rest = &rest[token.len()..];
        match first {
            '"' => {
                let names = objects.last_mut().and_then(Option::as_mut).filter(|_| expects_name);
                let is_new = names.map_or(Some(true), |names| {
                    let is_new = names.insert(unescaped(token));
                    (names.len() <= MAX_NAMES).then_some(is_new)
                })?;
                if is_new {
                    push_string(&mut repaired, token);
                } else {
                    repaired.push_str("\"repeated ");
                    push_string(&mut repaired, &token[1..]);
                }
                expects_name = false;
            }
            '-' | '0'..='9' if token.parse::<f64>().is_ok_and(f64::is_infinite) => {
                repaired.extend(["\"", token, "\""]);
            }
            '{' | '[' => {
                if objects.len() == MAX_DEPTH {
                    return None;
                }
                objects.push((first == '{').then(HashSet::new));
                expects_name = first == '{';
                repaired.push(first);
            }
            '}' | ']' => {
                objects.pop();
                repaired.push(first);
            }
            ',' => {
                expects_name = matches!(objects.last(), Some(Some(_)));
                repaired.push(first);
            }
            _ => repaired.push_str(token),
        }
    }
    Some(repaired)
}

/// A string with its quotes; one that does not end goes to the end of the text.
fn string_token(text: &str) -> &str {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return &text[..=at],
            _ => {}
        }
    }
    text
}

/// The text of a string token; the token itself where it is no JSON. Copied only if it has escapes.
fn unescaped(token: &str) -> Cow<'_, str> {
    match token.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => text.into(),
        _ => serde_json::from_str(token).map_or_else(|_| token.into(), Cow::Owned),
    }
}

fn number_token(text: &str) -> &str {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
    &text[..end.unwrap_or(text.len())]
}

fn push_string(repaired: &mut String, token: &str) {
    let mut rest = token;
    while let Some(at) = rest.find(|c: char| c == '\\' || c < ' ') {
        repaired.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => {
                repaired.push_str(&rest[..12]);
                12
            }
            (Some(0xD800..=0xDFFF), _) => {
                repaired.push('\u{FFFD}');
                6
            }
            _ if rest.starts_with('\\') => {
                // The escaped character may be a quote or a backslash.
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                repaired.push_str(&rest[..length]);
                length
            }
            _ => {
                let _ = write!(repaired, "\\u{:04x}", rest.as_bytes()[0]);
                1
            }
        };
        rest = &rest[length..];
    }
    repaired.push_str(rest);
}

/// The UTF-16 unit of an escape at the start of a text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn one_value_does_not_make_the_others_unreadable() {
        let huge = format!("1{}", "0".repeat(400));
        for (broken, expected) in [
            (r#"{"a":"x\ud800y","b":1}"#.to_owned(), json!({"a": "x\u{FFFD}y", "b": 1})),
            (
                r#"{"a":"\udc00\ud83d\ude00\\ud800\"","b":[]}"#.to_owned(),
                json!({"a": "\u{FFFD}😀\\ud800\"", "b": []}),
            ),
            (r#"["\ud83d","\ude00","\ud83d\n"]"#.to_owned(), json!(["\u{FFFD}", "\u{FFFD}", "\u{FFFD}\n"])),
            (r#"{"a":1e400,"b":-1E+999}"#.to_owned(), json!({"a": "1e400", "b": "-1E+999"})),
            (format!("[{huge},2]"), json!([huge, 2])),
            ("[\"a\tb\u{1}\"]".to_owned(), json!(["a\tb\u{1}"])),
            (
                r#"{"a":1,"a":{"a":2},"b":[{"a":3},{"a":4}]}"#.to_owned(),
                json!({"a": 1, "repeated a": {"a": 2}, "b": [{"a": 3}, {"a": 4}]}),
            ),
            (r#"{"a":1,"\u0061":2}"#.to_owned(), json!({"a": 1, "repeated a": 2})),
        ] {
            let repaired = repair(&broken).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&repaired).unwrap(), expected, "{broken}");
        }
    }

    #[test]
    fn what_is_no_json_stays_none() {
        for text in ["", "<html>", "{", "\"", "\"\\", "[1,", "{\"a\":\"\\ud8", "nul", "\\u", "[\"\\x\"]"] {
            assert!(serde_json::from_str::<Value>(&repair(text).unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_deeper_or_wider_than_any_answer_is_given_up() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
            assert!(repair(&nested(MAX_DEPTH)).is_some());
            assert!(repair(&nested(MAX_DEPTH + 1)).is_none());
        }
        let wide = |names: usize| {
            let names: Vec<_> = (0..names).map(|name| format!("\"{name}\":1")).collect();
            format!("[{{{}}}]", names.join(","))
        };
        assert!(repair(&wide(MAX_NAMES)).is_some());
        assert!(repair(&wide(MAX_NAMES + 1)).is_none());
        // One after the other, they are not nested.
        assert!(repair(&"[1]".repeat(1_000)).is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_rewritten_without_a_panic(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let json = json!({"a": text, "b": [text, 1.5], "c": {"d": null}}).to_string();
            let read = |json: &str| serde_json::from_str::<Value>(json).unwrap();
            prop_assert_eq!(read(&repair(&json).unwrap()), read(&json));
            let cut: String = json.chars().take(at.index(json.len())).collect();
            repair(&cut);
            repair(&text);
        }
    }
}
