//! The idempotency key: what makes a submission one and the same, however often it is sent.

use std::fmt;

/// A caller's key of a submission: 1 to 255 printable ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Most characters of a key.
    pub const MAX_LENGTH: usize = 255;

    /// The key as text, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Without the key: a caller may have made it of anything.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({} characters)", self.0.len())
    }
}

/// The value of a header: bare, or a string as RFC 8941 3.3.3 writes it; both spellings are the same key.
impl TryFrom<&[u8]> for IdempotencyKey {
    type Error = InvalidKey;

    fn try_from(value: &[u8]) -> Result<Self, InvalidKey> {
        let text = str::from_utf8(value).map_err(|_| InvalidKey)?.trim_matches([' ', '\t']);
        if !text.chars().all(|c| matches!(c, ' '..='~')) {
            return Err(InvalidKey);
        }
        let key = match text.strip_prefix('"') {
            Some(quoted) => unquoted(quoted).ok_or(InvalidKey)?,
            None => text.to_owned(),
        };
        if (1..=Self::MAX_LENGTH).contains(&key.len()) { Ok(Self(key)) } else { Err(InvalidKey) }
    }
}

/// What is meant by a string behind its first quote.
fn unquoted(text: &str) -> Option<String> {
    let mut meant = String::with_capacity(text.len());
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(meant),
            '\\' => meant.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            plain => meant.push(plain),
        }
    }
}

/// The text is not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 printable ASCII characters, bare or in double quotes")]
pub struct InvalidKey;

#[cfg(test)]
mod tests;
