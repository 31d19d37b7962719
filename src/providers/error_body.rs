//! Reads the bodies of vendors' error answers.

use serde_json::{Map, Value};

use crate::http::Reply;

/// An error body beyond this is nobody's documented form.
const MAX_BYTES: usize = 64 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The JSON object of an error answer; none if the body is anything else.
pub(super) fn error_object(reply: &Reply) -> Option<Map<String, Value>> {
    let body = reply.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&reply.body);
    if body.len() > MAX_BYTES { None } else { serde_json::from_slice(body).ok() }
}

/// A field with a non-blank text.
pub(super) fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::samples::reply;

    #[test]
    fn only_a_json_object_of_moderate_size_is_an_error_body() {
        let padded = |length: usize| format!("{{\"message\":\"no\"}}{}", " ".repeat(length));
        for (body, message) in [
            (padded(0), Some("no")),
            (format!("\u{feff}{}", padded(0)), Some("no")),
            ("{\"message\":\" no\\n\"}".to_owned(), Some("no")),
            (padded(MAX_BYTES - 16), Some("no")),
            (padded(MAX_BYTES - 15), None),
            ("{\"message\":\" \"}".to_owned(), None),
            ("{\"message\":7}".to_owned(), None),
            ("[{\"message\":\"no\"}]".to_owned(), None),
            ("\"no\"".to_owned(), None),
            ("<html>no</html>".to_owned(), None),
            (String::new(), None),
        ] {
            let object = error_object(&reply(403, &[], &body));
            let found = object.as_ref().and_then(|object| text(object, "message"));
            assert_eq!(found, message, "{}", body.trim_end());
        }
    }
}
