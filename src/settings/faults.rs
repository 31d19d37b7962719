//! What is wrong with the settings: every fault by its key, never by its value.

use std::fmt;

/// Why the settings cannot be used: all of their faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsError {
    faults: Vec<Fault>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    place: String,
    problem: String,
}

impl SettingsError {
    /// The one fault of `place`.
    pub(super) fn of(place: impl Into<String>, problem: impl Into<String>) -> Self {
        let mut error = Self::default();
        error.add(place, problem);
        error
    }

    pub(super) fn add(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.faults.push(Fault { place: place.into(), problem: problem.into() });
        self.faults.sort();
    }

    /// Adds a fault that depends on several keys, unless one of them is at fault by itself: what it would be is unknown.
    pub(super) fn add_joint(&mut self, place: &str, others: &[&str], problem: impl Into<String>) {
        if !self.concerns(place) && !others.iter().any(|key| self.concerns(key)) {
            self.add(place, problem);
        }
    }

    /// Whether a fault is at this key, below it, or at a section that it is in.
    #[must_use]
    pub fn concerns(&self, key: &str) -> bool {
        self.faults.iter().any(|fault| is_within(&fault.place, key) || is_within(key, &fault.place))
    }

    /// Whether there is no fault.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults that concern `key` alone.
    pub(super) fn only(mut self, key: &str) -> Self {
        self.faults.retain(|fault| is_within(&fault.place, key) || is_within(key, &fault.place));
        self
    }

    /// The value, if there is no fault.
    pub(super) fn unless_any<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

/// Whether a key is another one or below it.
fn is_within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// One fault a line.
impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, Fault { place, problem }) in self.faults.iter().enumerate() {
            let separator = if position == 0 { "" } else { "\n" };
            write!(f, "{separator}{place}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}
