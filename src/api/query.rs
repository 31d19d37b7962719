//! The query of a request, read strictly: a parameter that is unknown, repeated or wrong is refused, not passed over,
//! and all of them are told at once.

use actix_web::{HttpRequest, web};

use crate::error::{Error, InvalidPart};

/// The parameters of a query, and what is wrong with them so far.
pub(super) struct Query {
    given: Vec<(String, String)>,
    errors: Vec<InvalidPart>,
}

impl Query {
    /// The query of a request that may have the parameters `known`.
    pub(super) fn of(request: &HttpRequest, known: &[&'static str]) -> Self {
        Self::parse(request.query_string(), known)
    }

    fn parse(text: &str, known: &[&'static str]) -> Self {
        let given = web::Query::<Vec<(String, String)>>::from_query(text).map(web::Query::into_inner);
        let given = given.unwrap_or_default();
        let mut names: Vec<_> = given.iter().map(|(name, _)| name.as_str()).collect();
        names.retain(|name| !known.contains(name));
        names.sort_unstable();
        names.dedup();
        let there_are = if known.is_empty() {
            "is unknown; no parameter is allowed here".to_owned()
        } else {
            format!("is unknown; allowed: {}", known.join(", "))
        };
        let errors =
            names.into_iter().map(|name| InvalidPart::unknown_parameter(name, there_are.clone().into()));
        let errors = errors.collect();
        Self { given, errors }
    }

    /// The value of a parameter as `read` understands it, if it is there and allowed.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        allowed: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let mut values = self.given.iter().filter(|(given, _)| given == name).map(|(_, value)| value);
        let value = values.next()?;
        let read =
            if values.next().is_some() { Err("must stand only once") } else { read(value).ok_or(allowed) };
        read.map_err(|detail| self.refuse(name, detail)).ok()
    }

    /// How many entries are asked for: 1 to 100, 20 unless said.
    pub(super) fn limit(&mut self) -> u32 {
        let limit = self.read("limit", "must be a number from 1 to 100", |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|limit| digits && (1..=100).contains(limit))
        });
        limit.unwrap_or(20)
    }

    /// Says that a parameter is not allowed as it is.
    pub(super) fn refuse(&mut self, name: &'static str, detail: &'static str) {
        self.errors.push(InvalidPart::parameter(name, detail.into()));
    }

    /// Whether every parameter was allowed.
    ///
    /// # Errors
    /// `invalid_request`, with all that were not.
    pub(super) fn finish(self) -> Result<(), Error> {
        if self.errors.is_empty() { Ok(()) } else { Err(Error::invalid_parameters(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit, or the names of what was refused.
    fn limit(text: &str) -> Result<u32, Vec<Option<String>>> {
        let mut query = Query::parse(text, &["limit", "cursor"]);
        let limit = query.limit();
        query.read("cursor", "must be x", |text| (text == "x").then_some(()));
        let names = |error: Error| {
            error.errors.into_iter().map(|part| part.parameter.map(std::borrow::Cow::into_owned)).collect()
        };
        query.finish().map(|()| limit).map_err(names)
    }

    #[test]
    fn a_limit_is_a_number_from_1_to_100() {
        for (text, expected) in
            [("", 20), ("&", 20), ("limit=1", 1), ("limit=100&cursor=x", 100), ("lim%69t=007", 7)]
        {
            assert_eq!(limit(text), Ok(expected), "{text}");
        }
        for text in [
            "limit",
            "limit=",
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=+1",
            "limit=%2B1",
            "limit=1.0",
            "limit=1%20",
            "limit=99999999999999999999",
            "limit=%D9%A1",
            "limit=%ff",
            "limit=1&limit=1",
            "limit=1;cursor=x",
        ] {
            assert_eq!(limit(text), Err(vec![Some("limit".to_owned())]), "{text}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_and_only_harmless_names_are_repeated() {
        let some = |name: &str| Some(name.to_owned());
        for (text, names) in [
            ("Limit=1", vec![None]),
            ("results=1", vec![some("results")]),
            ("results=1&results=2&cursor=y&limit=0", vec![some("results"), some("limit"), some("cursor")]),
            ("%2B15705551234=1", vec![None]),
            ("=1", vec![some("")]),
            ("limit[]=1", vec![None]),
            ("%ff=1", vec![None]),
        ] {
            assert_eq!(limit(text), Err(names), "{text}");
        }
        let long = "a".repeat(41);
        assert_eq!(limit(&long), Err(vec![None]));
        let error = Query::parse(&long, &[]).finish().unwrap_err();
        assert_eq!(error.detail, "One parameter is not allowed; `errors` says why.");
    }
}
