//! The submissions that the store knows, page by page.

use std::fmt;

use sqlx::AssertSqlSafe;
use sqlx::query::Query;

use super::columns::millis;
use super::reserve::hashed;
use super::submissions::{select_submissions, submission};
use super::{Store, StoreError};
use crate::batch::SubmissionId;
use crate::submission::{IdempotencyKey, Submission, SubmissionState};

/// Which submissions are listed.
#[derive(Clone, Default)]
pub struct SubmissionFilter {
    /// Name of the client; any when absent.
    pub client: Option<String>,
    /// The state; any when absent.
    pub state: Option<SubmissionState>,
    /// The idempotency key, which counts for its client only; any when absent.
    pub key: Option<IdempotencyKey>,
}

/// Without the key.
impl fmt::Debug for SubmissionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmissionFilter")
            .field("client", &self.client)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A position in a list: after this submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmissionCursor {
    /// When the submission was written down, in milliseconds since 1970.
    pub at: i64,
    /// Its id.
    pub id: SubmissionId,
}

impl SubmissionCursor {
    /// The position after a submission.
    #[must_use]
    pub fn after(submission: &Submission) -> Self {
        Self { at: millis(submission.created_at), id: submission.id }
    }
}

impl Store {
    /// The newest submissions after a position, at most `limit`.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn submissions(
        &self,
        filter: &SubmissionFilter,
        after: Option<SubmissionCursor>,
        limit: u32,
    ) -> Result<Vec<Submission>, StoreError> {
        let (statement, values) = newest(filter);
        // No submission comes before the highest position.
        let (at, id) = after.map_or((i64::MAX, String::new()), |after| (after.at, after.id.to_string()));
        self.read(move |connection| {
            Box::pin(async move {
                let query = sqlx::query(AssertSqlSafe(statement)).bind(at).bind(id).bind(i64::from(limit));
                let query = values.into_iter().fold(query, Query::bind);
                let rows = query.fetch_all(connection).await?;
                rows.iter().map(submission).collect()
            })
        })
        .await
    }
}

/// The statement of a filter, and its values from `$4` on. Only what is asked for is compared, so that its index is used.
fn newest(filter: &SubmissionFilter) -> (String, Vec<String>) {
    let compared = [
        ("client", filter.client.clone()),
        ("state", filter.state.map(|state| state.word().to_owned())),
        ("key_hash", filter.key.as_ref().map(|key| hashed(key.as_str()))),
    ];
    let mut statement = concat!(select_submissions!(), "WHERE (created_at, id) < ($1, $2)").to_owned();
    let mut values = Vec::new();
    for (column, value) in compared {
        if let Some(value) = value {
            values.push(value);
            let place = (values.len() + 3).to_string();
            statement.extend([" AND ", column, " = $", &place]);
        }
    }
    statement.push_str(" ORDER BY created_at DESC, id DESC LIMIT $3");
    (statement, values)
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;
    use crate::clock::Clock;
    use crate::settings::StoreUrl;
    use crate::store::columns::Columns;

    #[tokio::test]
    async fn every_filter_has_its_index() {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::Sqlite(folder.path().join("store.db"));
        let store = Store::open(&url, Clock::default()).await.unwrap();
        let (client, state) = (Some("crm".to_owned()), Some(SubmissionState::InDoubt));
        let key = || Some(IdempotencyKey::try_from(&b"k"[..]).unwrap());
        for (filter, index) in [
            (SubmissionFilter::default(), "submissions_newest"),
            (SubmissionFilter { client: client.clone(), ..Default::default() }, "submissions_of_client"),
            (SubmissionFilter { state, ..Default::default() }, "submissions_in_state"),
            (SubmissionFilter { client: client.clone(), state, key: None }, "submissions_"),
            (SubmissionFilter { key: key(), ..Default::default() }, "submissions_of_key"),
            (SubmissionFilter { client, key: key(), state }, "submissions_key"),
        ] {
            let (statement, _) = newest(&filter);
            let plan = store.read(move |connection| {
                Box::pin(async move {
                    let rows = connection.fetch_all(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
                    rows.await?.iter().map(|row| row.text("detail")).collect::<Result<Vec<_>, _>>()
                })
            });
            let plan = plan.await.unwrap();
            assert!(plan[0].contains(&format!("USING INDEX {index}")), "{filter:?}: {plan:?}");
            let seeks = plan[0].starts_with("SEARCH ");
            assert!(seeks && (filter.key.is_some() || plan.len() == 1), "{filter:?}: {plan:?}");
        }
        store.close().await;
    }
}
