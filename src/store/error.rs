//! What goes wrong with the store, in words that hold nothing of its rows.

/// Why the store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It is locked, down, full or too slow; the text is for the log.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A column does not hold what the gateway writes there; it is named.
    #[error("the column {0} does not hold what it should")]
    Unreadable(String),
}

impl StoreError {
    pub(super) fn new(cause: impl Into<String>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Work on a document that did not end: it panicked, or the gateway is shutting down.
    pub(super) fn interrupted() -> Self {
        Self::new("work on a document was interrupted")
    }

    /// A column that does not hold what the gateway writes there.
    pub(super) fn unreadable(column: &str) -> Self {
        Self::Unreadable(column.to_owned())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(cause(&error))
    }
}

/// What a person needs to know of an error. The error itself is not kept: its details quote rows and URLs.
pub(super) fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            // A prepared statement that is unknown, or known already.
            Some(code) if code == "26000" || code == "42P05" => {
                format!("{} (code {code}); a pooler must be in session mode", error.message())
            }
            Some(code) => format!("{} (code {code})", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::ColumnDecode { index, .. } => format!("the column {index} does not hold what it should"),
        sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => "a value is not what it should be".to_owned(),
        sqlx::Error::Configuration(_) => "the URL is not understood".to_owned(),
        error => error.to_string(),
    }
}
