//! How many calls are allowed.

mod window;

use std::fmt;
use std::time::Duration;

pub(crate) use self::window::SlidingWindowLog;

/// A number of calls in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls.
    pub calls: u32,
    /// The length of every interval that they are counted in.
    pub per: Duration,
}

/// As in the settings, such as `150/60s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.calls, self.per)
    }
}
