//! `GET /usage`: what was charged.

use actix_web::{HttpRequest, HttpResponse, route, web};
use jiff::civil::Date;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer;
use super::openapi::{UsageParams, UsageProblems};
use super::query::Query;
use crate::auth::Client;
use crate::batch::{Amount, CostUnit};
use crate::error::{Code, Error};
use crate::gateway::Gateway;
use crate::providers::VENDORS;
use crate::scope::Scope;
use crate::store::{self, UsageFilter};

/// The parameters of the query.
const PARAMETERS: [&str; 4] = ["client", "provider", "from", "to"];

/// What was charged, by day, client and vendor.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageList {
    /// One entry for each day, client and vendor.
    usage: Vec<UsageRow>,
}

/// What a vendor charged on one day for one client. Each batch counts once, however often it is read.
#[derive(Serialize, ToSchema)]
struct UsageRow {
    /// The day in UTC.
    #[schema(format = Date, example = "2026-11-22")]
    day: String,
    /// Name of the client that submitted; absent for batches that were not submitted through the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    client: Option<String>,
    /// Slug of the vendor.
    provider: String,
    /// How many batches.
    batches: u64,
    /// Records in those that were submitted through the gateway.
    records: u64,
    /// Units charged, as the vendor states them.
    #[schema(value_type = f64, minimum = 0, example = 80)]
    charged: Amount,
    /// Units refunded, as the vendor states them.
    #[schema(value_type = f64, minimum = 0, example = 0)]
    refunded: Amount,
    /// How many of the batches are done without a known charge; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    batches_without_cost: Option<u64>,
    /// What is counted.
    unit: CostUnit,
}

/// Read the usage
///
/// Batches and what they were charged, by day, client and vendor. The scope `read` sees the usage of its own client,
/// the scope `operate` that of all.
#[utoipa::path(
    get,
    operation_id = "get_usage",
    tag = "usage",
    path = "/usage",
    params(UsageParams),
    responses((status = 200, description = "The usage.", body = UsageList), UsageProblems),
    security(("gateway_key" = [])),
)]
#[route("/usage", method = "GET", method = "HEAD")]
pub(super) async fn get_usage(
    client: Client,
    request: HttpRequest,
    gateway: web::Data<Gateway>,
) -> Result<HttpResponse, Error> {
    client.require_one_of(&[Scope::Read, Scope::Operate])?;
    let asked = Asked::parse(Query::of(&request, &PARAMETERS))?;
    let filter = asked.filter(&client, &gateway)?;
    let usage = gateway.usage(&filter).await?.into_iter().map(UsageRow::from).collect();
    Ok(answer(&UsageList { usage }))
}

/// What is asked for.
#[derive(Debug)]
struct Asked {
    client: Option<String>,
    provider: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Asked {
    fn parse(mut query: Query) -> Result<Self, Error> {
        const DAY: &str = "must be a day such as 2026-11-22";
        let word =
            |text: &str| (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned());
        let asked = Self {
            client: query.read("client", "must be the name of a client", word),
            provider: query.read("provider", "must be the slug of a provider", word),
            from: query.read("from", DAY, day),
            to: query.read("to", DAY, day),
        };
        // Days in this spelling are in the order of their text.
        if asked.from.as_ref().zip(asked.to.as_ref()).is_some_and(|(from, to)| from > to) {
            query.refuse("from", "must not be after `to`");
        }
        query.finish().map(|()| asked)
    }

    fn filter<'a>(&'a self, client: &'a Client, gateway: &Gateway) -> Result<UsageFilter<'a>, Error> {
        let of = match (client.sees_only(), self.client.as_deref()) {
            (Some(own), Some(other)) if own != other => {
                return Err(Error::new(
                    Code::Forbidden,
                    "This key sees the usage of its own client; the scope `operate` sees that of all.",
                ));
            }
            (Some(own), _) => Some(own),
            (None, asked) => asked,
        };
        // What was charged is still known of a vendor that was switched off.
        if let Some(slug) = &self.provider
            && !VENDORS.iter().any(|vendor| vendor.info.slug == slug)
        {
            gateway.provider(slug)?;
        }
        let (provider, from, to) = (self.provider.as_deref(), self.from.as_deref(), self.to.as_deref());
        Ok(UsageFilter { client: of, provider, from, to })
    }
}

impl From<store::Usage> for UsageRow {
    fn from(row: store::Usage) -> Self {
        let store::Usage { day, client, provider, batches, records, charged, refunded, without_cost } = row;
        let batches_without_cost = Some(without_cost).filter(|count| *count > 0);
        let unit = CostUnit::Credit;
        Self { day, client, provider, batches, records, charged, refunded, batches_without_cost, unit }
    }
}

/// A day in the one spelling that is allowed.
fn day(text: &str) -> Option<String> {
    let day: Date = text.parse().ok()?;
    (text.len() == 10 && day.to_string() == text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn asked(query: &str) -> Result<Asked, Vec<String>> {
        let request = TestRequest::with_uri(&format!("/usage?{query}")).to_http_request();
        Asked::parse(Query::of(&request, &PARAMETERS)).map_err(|error| {
            error.errors.into_iter().map(|part| part.parameter.unwrap_or_default().into_owned()).collect()
        })
    }

    #[test]
    fn days_are_days() {
        let days = asked("from=2024-02-29&to=2024-02-29").unwrap();
        assert_eq!((days.from.as_deref(), days.to.as_deref()), (Some("2024-02-29"), Some("2024-02-29")));
        for query in [
            "from=",
            "from=2026-02-29",
            "from=2026-13-01",
            "from=20261122",
            "from=2026-1-1",
            "from=2026-11-22T00:00:00Z",
            "from=2026-11-22T00:00:00",
            "from=+002026-11-22",
            "from=-002026-11-22",
            "from=2026-11-22%20",
            "from=2026-W47-7",
            "from=today",
            "from=2026-11-23&to=2026-11-22",
            "from=2026-11-22&from=2026-11-22",
        ] {
            assert_eq!(asked(query).unwrap_err(), ["from"], "{query}");
        }
        assert_eq!(asked("to=x&from=x&day=x").unwrap_err(), ["day", "from", "to"]);
        assert_eq!(asked("client=&provider=").unwrap_err(), ["client", "provider"]);
    }
}
