//! The two classes of calls to vendors: what is kept for one of them is out of the other's reach.

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallClass {
    /// Reading a state; it may use four fifths of the quota.
    Read,
    /// Submitting or changing something; it may use all of it.
    Submit,
}

impl CallClass {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
        }
    }

    /// How much of what a vendor has for all calls those of this class may use: reads leave some to submits.
    #[must_use]
    pub const fn share_of(self, all: u32) -> u32 {
        match self {
            Self::Submit => all,
            Self::Read if all <= 1 => all,
            Self::Read => all - all.div_ceil(5),
        }
    }
}

/// Something that each class has for itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerClass<T> {
    /// That of reads.
    pub read: T,
    /// That of submits.
    pub submit: T,
}

impl<T> PerClass<T> {
    /// What the class has.
    pub const fn of(&self, class: CallClass) -> &T {
        match class {
            CallClass::Read => &self.read,
            CallClass::Submit => &self.submit,
        }
    }

    /// What the class has, to be changed.
    pub const fn of_mut(&mut self, class: CallClass) -> &mut T {
        match class {
            CallClass::Read => &mut self.read,
            CallClass::Submit => &mut self.submit,
        }
    }
}
