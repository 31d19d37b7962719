//! Data of persons, kept out of logs by its type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Data of a person, or what may hold some: it goes into a response and is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Personal<T>(pub T);

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(personal)")
    }
}
