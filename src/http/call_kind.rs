//! The two kinds of vendor calls. Each has limits of its own, so that reads cannot block submissions.

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Reading a state; it may use four fifths of the quota.
    Read,
    /// Submitting or changing something; it may use all of it.
    Write,
}

impl CallKind {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// How many of `all` permits or calls this kind may use: reads use at most four fifths.
    #[must_use]
    pub const fn share_of(self, all: u32) -> u32 {
        match self {
            Self::Write => all,
            Self::Read if all <= 1 => all,
            Self::Read => all - all.div_ceil(5),
        }
    }
}

/// One value for each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PerKind<T> {
    /// For reads.
    pub(crate) read: T,
    /// For writes.
    pub(crate) write: T,
}

impl<T> PerKind<T> {
    /// The value of a kind.
    pub(crate) const fn of(&self, kind: CallKind) -> &T {
        match kind {
            CallKind::Read => &self.read,
            CallKind::Write => &self.write,
        }
    }

    /// The value of a kind, mutable.
    pub(crate) const fn of_mut(&mut self, kind: CallKind) -> &mut T {
        match kind {
            CallKind::Read => &mut self.read,
            CallKind::Write => &mut self.write,
        }
    }
}
