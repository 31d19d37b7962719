//! What was used and charged, by day, client and vendor.

use super::columns::Columns;
use super::{Store, StoreError};
use crate::batch::Amount;

/// What usage is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageFilter<'a> {
    /// Name of the client that submitted.
    pub client: Option<&'a str>,
    /// Slug of the vendor.
    pub provider: Option<&'a str>,
    /// First day, `YYYY-MM-DD`.
    pub from: Option<&'a str>,
    /// Last day, `YYYY-MM-DD`.
    pub to: Option<&'a str>,
}

/// The batches of one day, client and vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// UTC day of their submission, else of their first sight, `YYYY-MM-DD`.
    pub day: String,
    /// Name of the client that submitted them; none if they were not submitted here.
    pub client: Option<String>,
    /// Slug of the vendor.
    pub provider: String,
    /// How many there are.
    pub batches: u64,
    /// Records in those that were submitted here.
    pub records: u64,
    /// What the vendor charged, in its own unit.
    pub charged: Amount,
    /// What the vendor refunded, in its own unit.
    pub refunded: Amount,
    /// How many are done without a known charge.
    pub without_cost: u64,
}

impl Store {
    /// Usage by day, client and vendor, in that order. Each batch counts once, those that were erased included.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn usage(&self, filter: &UsageFilter<'_>) -> Result<Vec<Usage>, StoreError> {
        let [client, provider, from, to] =
            [filter.client, filter.provider, filter.from, filter.to].map(|text| text.map(str::to_owned));
        self.read(move |connection| {
            Box::pin(async move {
                // Version 0.1 wrote whole units; what is too much for millionths is no cost.
                let rows = sqlx::query(
                    "SELECT day, client, provider, COUNT(*) AS batches,
                            CAST(COALESCE(SUM(records), 0) AS BIGINT) AS records,
                            CAST(COALESCE(SUM(charged_exactly), 0) AS BIGINT) AS charged,
                            CAST(COALESCE(SUM(refunded_exactly), 0) AS BIGINT) AS refunded,
                            CAST(SUM(CASE WHEN done = 1 AND charged_exactly IS NULL THEN 1 ELSE 0 END)
                                 AS BIGINT) AS without_cost
                     FROM (SELECT batches.*,
                                  COALESCE(charged_millionths,
                                           CASE WHEN charged BETWEEN 0 AND 1000000000
                                                THEN charged * 1000000 END) AS charged_exactly,
                                  COALESCE(refunded_millionths,
                                           CASE WHEN refunded BETWEEN 0 AND 1000000000
                                                THEN refunded * 1000000 END) AS refunded_exactly
                           FROM batches) AS batches
                     WHERE (retrieved_at IS NOT NULL OR submission IS NOT NULL)
                           AND (CAST($1 AS TEXT) IS NULL OR client = CAST($1 AS TEXT))
                           AND (CAST($2 AS TEXT) IS NULL OR provider = CAST($2 AS TEXT))
                           AND (CAST($3 AS TEXT) IS NULL OR day >= CAST($3 AS TEXT))
                           AND (CAST($4 AS TEXT) IS NULL OR day <= CAST($4 AS TEXT))
                     GROUP BY day, client, provider
                     ORDER BY day, COALESCE(client, ''), provider",
                )
                .bind(client)
                .bind(provider)
                .bind(from)
                .bind(to)
                .fetch_all(connection)
                .await?;
                rows.iter()
                    .map(|row| {
                        Ok(Usage {
                            day: row.text("day")?,
                            client: row.optional_text("client")?,
                            provider: row.text("provider")?,
                            batches: row.count("batches")?,
                            records: row.count("records")?,
                            charged: Amount::from_millionths(row.count("charged")?),
                            refunded: Amount::from_millionths(row.count("refunded")?),
                            without_cost: row.count("without_cost")?,
                        })
                    })
                    .collect()
            })
        })
        .await
    }
}
