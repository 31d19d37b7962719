//! One spelling of each name, so that a vendor's spelling of a record can be compared with what was sent.
//!
//! Only spellings that certainly mean the same become equal: a result without a record is better than one on the record of
//! somebody else.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use reqwest::Url;
use unicode_normalization::UnicodeNormalization;

use crate::batch::person_text::company_domain;

/// A name without its case, its blanks and the choice of its apostrophes.
pub(super) fn folded(name: &str) -> String {
    let name = decoded(name);
    let words = |name: &str| name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ");
    if name.is_ascii() {
        return words(&name);
    }
    let apostrophe = |c| if matches!(c, '\u{2018}' | '\u{2019}' | '\u{2bc}') { '\'' } else { c };
    // Lower case may undo the normal form.
    words(&name.nfc().map(apostrophe).collect::<String>()).nfc().collect()
}

/// A domain in ASCII (RFC 5890), also that of an address.
pub(super) fn domain(text: &str) -> String {
    let host = company_domain(&decoded(text)).ok();
    let url = host.and_then(|host| Url::parse(&format!("https://{host}/")).ok());
    url.as_ref().and_then(Url::host_str).map_or_else(|| folded(text), str::to_owned)
}

/// A text without percent-encoding (RFC 3986 2.1); as it is, where that does not encode UTF-8.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}
