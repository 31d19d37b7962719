//! `GET /batches`: the batches that the gateway knows.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, route, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use utoipa::ToSchema;

use super::openapi::{ListParams, ListProblems};
use super::query::Query;
use crate::auth::Client;
use crate::batch::{Batch, BatchId, Status};
use crate::error::Error;
use crate::gateway::Gateway;
use crate::providers::VENDORS;
use crate::scope::Scope;
use crate::store::{Cursor, Filter, Listed};
use crate::telemetry;

/// The parameters of the query.
const PARAMETERS: [&str; 7] =
    ["provider", "status", "reference", "submitted_after", "submitted_before", "limit", "cursor"];

/// Most characters of a vendor's reference.
pub(super) const MAX_REFERENCE: usize = 256;

/// One page of the batches that the gateway knows, newest first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the documents come from the store as JSON; this is their schema")]
pub(super) struct BatchList {
    /// The batches as they were last known, without their `results`.
    batches: Vec<Batch>,
    /// Where the next page begins: send it as `cursor`, with the same filters. Absent on the last page.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<String>,
}

/// List batches
///
/// Batches that were submitted or read through the gateway, by any client, newest first and without their results.
/// Only those of vendors that the key may use. Needs the scope `read`.
#[utoipa::path(
    get,
    operation_id = "list_batches",
    tag = "batches",
    path = "/batches",
    params(ListParams),
    responses((status = 200, description = "One page of batches.", body = BatchList), ListProblems),
    security(("gateway_key" = [])),
)]
#[route("/batches", method = "GET", method = "HEAD")]
pub(super) async fn list_batches(
    client: Client,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    client.require_scope(Scope::Read)?;
    let asked = Asked::parse(Query::of(&request, &PARAMETERS))?;
    let providers = match &asked.provider {
        Some(slug) => {
            let slug = gateway.provider(slug)?.info().slug;
            client.require(slug)?;
            telemetry::learn(&request, |learnt| learnt.provider = Some(slug));
            vec![slug]
        }
        None => gateway.providers_of(&client),
    };
    let limit = asked.limit;
    // One more says whether there is another page.
    let found = gateway.list(&asked.filter(providers), asked.after.as_ref(), limit + 1).await?;
    let body = render(&found, limit as usize);
    let mut response = HttpResponse::Ok();
    Ok(response.insert_header((CACHE_CONTROL, "no-store")).content_type("application/json").body(body))
}

/// What is asked for.
struct Asked {
    provider: Option<String>,
    status: Option<&'static str>,
    reference: Option<String>,
    submitted_after: Option<Timestamp>,
    submitted_before: Option<Timestamp>,
    limit: u32,
    after: Option<Cursor>,
}

impl Asked {
    fn parse(mut query: Query) -> Result<Self, Error> {
        const REFERENCE: &str = "must be a text of 1 to 256 characters without control characters";
        const TIME: &str =
            "must be a time of RFC 3339 such as 2026-11-22T10:00:00Z, with a `+` written as %2B";
        let time = |text: &str| text.parse().ok();
        let asked = Self {
            provider: query.read("provider", "must be the slug of a provider", |slug| {
                (!slug.is_empty()).then(|| slug.to_owned())
            }),
            status: query.read(
                "status",
                "must be queued, running, completed, stopped, failed or unknown",
                |word| Status::ALL.into_iter().map(Status::word).find(|known| *known == word),
            ),
            reference: query.read("reference", REFERENCE, |text| {
                let fits = (1..=MAX_REFERENCE).contains(&text.chars().count());
                (fits && !text.contains(char::is_control)).then(|| text.to_owned())
            }),
            submitted_after: query.read("submitted_after", TIME, time),
            submitted_before: query.read("submitted_before", TIME, time),
            limit: query.limit(),
            after: query.read("cursor", "must be the `next_cursor` of an answer", decoded),
        };
        query.finish().map(|()| asked)
    }

    fn filter(&self, providers: Vec<&'static str>) -> Filter {
        Filter {
            providers,
            status: self.status.map(str::to_owned),
            reference: self.reference.clone(),
            submitted_after: self.submitted_after,
            submitted_before: self.submitted_before,
        }
    }
}

/// The page as JSON, put together from documents that are JSON already.
fn render(found: &[Listed], limit: usize) -> Bytes {
    let page = &found[..found.len().min(limit)];
    let mut json = BytesMut::from(&b"{\"batches\":["[..]);
    for (position, batch) in page.iter().enumerate() {
        if position > 0 {
            json.put_u8(b',');
        }
        json.extend_from_slice(&batch.summary);
    }
    json.put_u8(b']');
    if let Some(last) = page.last().filter(|_| found.len() > limit) {
        // Base64url holds nothing that JSON would escape.
        let cursor = encoded(&last.cursor);
        json.extend_from_slice(format!(",\"next_cursor\":\"{cursor}\"").as_bytes());
    }
    json.put_u8(b'}');
    json.freeze()
}

/// A position in the list, for the caller to give back.
fn encoded(Cursor { at, provider, id }: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{at} {provider} {id}"))
}

/// A position that [`encoded`] wrote; none for anything else.
fn decoded(text: &str) -> Option<Cursor> {
    let position = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = position.splitn(3, ' ');
    let at = parts.next()?.parse().ok()?;
    let vendor = parts.next().and_then(|slug| VENDORS.iter().find(|vendor| vendor.info.slug == slug))?;
    let id: BatchId = parts.next()?.parse().ok()?;
    let cursor = Cursor { at, provider: vendor.info.slug.to_owned(), id: id.as_str().to_owned() };
    // There is one spelling of each position.
    (encoded(&cursor) == text).then_some(cursor)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn cursor(at: i64, id: &str) -> Cursor {
        Cursor { at, provider: VENDORS[0].info.slug.to_owned(), id: id.to_owned() }
    }

    fn asked(query: &str) -> Result<Asked, Vec<String>> {
        let request = TestRequest::with_uri(&format!("/batches?{query}")).to_http_request();
        Asked::parse(Query::of(&request, &PARAMETERS)).map_err(|error| {
            error.errors.into_iter().map(|part| part.parameter.unwrap_or_default().into_owned()).collect()
        })
    }

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        for cursor in
            [cursor(0, "a"), cursor(-1, "A_-z"), cursor(i64::MAX, &"x".repeat(64)), cursor(i64::MIN, "0")]
        {
            let text = encoded(&cursor);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            let back = decoded(&text).unwrap();
            assert_eq!((back.at, back.provider, back.id), (cursor.at, cursor.provider, cursor.id));
        }
    }

    #[test]
    fn a_cursor_that_nobody_gave_out_is_none() {
        let slug = VENDORS[0].info.slug;
        for position in [
            String::new(),
            " ".to_owned(),
            "1".to_owned(),
            format!("1 {slug}"),
            format!("1 {slug} "),
            format!("1 {slug} a b"),
            format!("1 {slug} a/b"),
            format!("1 {slug} {}", "a".repeat(65)),
            format!("1 {} a", slug.to_uppercase()),
            "1 nobody a".to_owned(),
            format!("x {slug} a"),
            format!("+1 {slug} a"),
            format!("01 {slug} a"),
            format!("1.0 {slug} a"),
            format!("9223372036854775808 {slug} a"),
            format!("1  {slug} a"),
            format!("1 {slug} a' OR 1=1 --"),
        ] {
            assert!(decoded(&URL_SAFE_NO_PAD.encode(&position)).is_none(), "{position}");
        }
        let good = encoded(&cursor(1, "abc"));
        assert!(decoded(&good).is_some());
        for text in [
            String::new(),
            "%".into(),
            "é".into(),
            format!("{good}="),
            format!(" {good}"),
            good[1..].to_owned(),
        ] {
            assert!(decoded(&text).is_none(), "{text}");
        }
        assert!(decoded(&URL_SAFE_NO_PAD.encode(b"1 \xff a")).is_none());
    }

    #[test]
    fn a_query_says_what_is_asked_for() {
        let all = asked("").unwrap();
        assert_eq!((all.limit, all.status, all.provider.is_none()), (20, None, true));
        let some = asked(
            "provider=x&status=running&reference=crm%2042&limit=3&submitted_after=2026-11-22T10:00:00%2B01:00\
             &submitted_before=2026-11-22T10:00:00.5Z",
        );
        let some = some.unwrap();
        assert_eq!((some.limit, some.status), (3, Some("running")));
        assert_eq!((some.provider.as_deref(), some.reference.as_deref()), (Some("x"), Some("crm 42")));
        assert_eq!(some.submitted_after.unwrap().to_string(), "2026-11-22T09:00:00Z");
        assert_eq!(some.submitted_before.unwrap().to_string(), "2026-11-22T10:00:00.5Z");
    }

    #[test]
    fn every_parameter_that_is_not_allowed_is_named() {
        for (query, names) in [
            ("provider=", &["provider"][..]),
            ("status=done", &["status"]),
            ("status=Running", &["status"]),
            ("status=running,queued", &["status"]),
            ("status=running&status=queued", &["status"]),
            ("reference=", &["reference"]),
            ("submitted_after=2026-11-22", &["submitted_after"]),
            ("submitted_after=1763805600", &["submitted_after"]),
            ("submitted_after=2026-11-22T10:00:00", &["submitted_after"]),
            ("submitted_after=2026-11-22T10:00:00+01:00", &["submitted_after"]),
            ("submitted_after=2026-13-22T10:00:00Z", &["submitted_after"]),
            ("cursor=", &["cursor"]),
            ("cursor=abc", &["cursor"]),
            ("page=2", &["page"]),
            (
                "cursor=x&limit=0&submitted_before=x&submitted_after=x&status=x&results=x",
                &["results", "status", "submitted_after", "submitted_before", "limit", "cursor"],
            ),
        ] {
            assert_eq!(
                asked(query).err().as_deref(),
                Some(&names.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{query}"
            );
        }
        let long = format!("reference={}", "%C3%A9".repeat(256));
        assert!(asked(&long).is_ok() && asked(&format!("{long}x")).is_err(), "characters, not bytes");
    }

    #[test]
    fn a_page_is_spliced_and_names_the_next_one_only_if_there_is_one() {
        let listed =
            |id: &str| Listed { summary: Bytes::from(format!("{{\"id\":\"{id}\"}}")), cursor: cursor(7, id) };
        let json = |found: &[Listed], limit| -> serde_json::Value {
            serde_json::from_slice(&render(found, limit)).unwrap()
        };
        assert_eq!(json(&[], 2), serde_json::json!({"batches": []}));
        let found = [listed("a"), listed("b"), listed("c")];
        assert_eq!(json(&found[..2], 2), serde_json::json!({"batches": [{"id": "a"}, {"id": "b"}]}));
        let next = encoded(&cursor(7, "b"));
        let page = serde_json::json!({"batches": [{"id": "a"}, {"id": "b"}], "next_cursor": next});
        assert_eq!(json(&found, 2), page);
    }
}
