//! The batches that the store knows, page by page.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use super::columns::{Columns, listed, millis};
use super::deflate::inflate;
use super::{Store, StoreError};

/// Which batches are listed.
#[derive(Clone, Default)]
pub struct Filter {
    /// Slugs of the vendors.
    pub providers: Vec<&'static str>,
    /// The common word of the status.
    pub status: Option<String>,
    /// The caller's reference.
    pub reference: Option<String>,
    /// Submitted, else first seen, at this time or later.
    pub submitted_after: Option<Timestamp>,
    /// Submitted, else first seen, before this time.
    pub submitted_before: Option<Timestamp>,
}

/// Without the reference.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("providers", &self.providers)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A position in a list: after this batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the batch was submitted, else first seen, in milliseconds since 1970.
    pub at: i64,
    /// Slug of its vendor.
    pub provider: String,
    /// The vendor's id.
    pub id: String,
}

/// A batch of a list.
#[derive(Clone, PartialEq, Eq)]
pub struct Listed {
    /// JSON without results.
    pub summary: Bytes,
    /// The position after it.
    pub cursor: Cursor,
}

/// Without what the batch holds.
impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listed").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Store {
    /// The newest batches after a position, at most `limit`. Those that were erased or never read are not shown.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        let providers = listed(&filter.providers);
        let filter = filter.clone();
        // No batch comes before the highest position.
        let after =
            after.cloned().unwrap_or(Cursor { at: i64::MAX, provider: String::new(), id: String::new() });
        self.read(move |connection| {
            Box::pin(async move {
                let rows = sqlx::query(
                    "SELECT summary, sort_at, provider, id FROM batches
                     WHERE erased_at IS NULL AND summary IS NOT NULL
                           AND REPLACE(CAST($1 AS TEXT), ',' || provider || ',', '') <> CAST($1 AS TEXT)
                           AND (CAST($2 AS TEXT) IS NULL OR status = CAST($2 AS TEXT))
                           AND (CAST($3 AS TEXT) IS NULL OR reference = CAST($3 AS TEXT))
                           AND (CAST($4 AS BIGINT) IS NULL OR sort_at >= CAST($4 AS BIGINT))
                           AND (CAST($5 AS BIGINT) IS NULL OR sort_at < CAST($5 AS BIGINT))
                           AND (sort_at, provider, id) < (CAST($6 AS BIGINT), CAST($7 AS TEXT), CAST($8 AS TEXT))
                     ORDER BY sort_at DESC, provider DESC, id DESC LIMIT $9",
                )
                .bind(providers)
                .bind(filter.status)
                .bind(filter.reference)
                .bind(filter.submitted_after.map(millis))
                .bind(filter.submitted_before.map(millis))
                .bind(after.at)
                .bind(after.provider)
                .bind(after.id)
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await?;
                rows.iter()
                    .map(|row| {
                        let summary = row.bytes("summary")?.unwrap_or_default();
                        Ok(Listed {
                            summary: inflate(&summary)?,
                            cursor: Cursor {
                                at: row.number("sort_at")?,
                                provider: row.text("provider")?,
                                id: row.text("id")?,
                            },
                        })
                    })
                    .collect()
            })
        })
        .await
    }
}
