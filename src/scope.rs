//! What a gateway key allows.

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Reading batches, and the client's own submissions and usage.
    Read,
    /// Submitting and stopping batches, which costs money.
    Submit,
    /// Erasing batches.
    Erase,
    /// Seeing every client's submissions and usage, and settling submissions in doubt.
    Operate,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Read, Self::Submit, Self::Erase, Self::Operate];
    /// Those of a client whose settings name none.
    pub const DEFAULT: [Self; 2] = [Self::Read, Self::Submit];

    /// The word in the settings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Erase => "erase",
            Self::Operate => "operate",
        }
    }
}
