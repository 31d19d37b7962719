//! Lists of an answer whose length the vendor decides: a few bytes of JSON may become a row of a kilobyte in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most results of one batch, several times what any vendor takes in one.
const MOST_RESULTS: usize = 50_000;

/// A list of at most so many rows; a longer one is an error as soon as that is known.
pub(super) struct Rows<T, const MOST: usize = MOST_RESULTS>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Rows<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RowsVisitor(PhantomData))
    }
}

struct RowsVisitor<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for RowsVisitor<T, MOST> {
    type Value = Rows<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = list.next_element()? {
            if rows.len() == MOST {
                return Err(A::Error::custom("too many rows"));
            }
            rows.push(row);
        }
        Ok(Rows(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_the_limit_and_no_more() {
        let list = |length: usize| format!("[{}0]", "0,".repeat(length - 1));
        let rows: Rows<u8> = serde_json::from_str(&list(MOST_RESULTS)).unwrap();
        assert_eq!(rows.0.len(), MOST_RESULTS);
        assert!(serde_json::from_str::<Rows<u8>>(&list(MOST_RESULTS + 1)).is_err());
        assert!(serde_json::from_str::<Rows<u8, 2>>("[0,0]").is_ok());
        assert!(serde_json::from_str::<Rows<u8, 2>>("[0,0,0]").is_err());
        assert!(serde_json::from_str::<Rows<u8>>("[]").unwrap().0.is_empty());
    }
}
