//! Wrong keys, counted by address: whoever sends many is told to stop, and it shows in the metrics.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::address::counted;
use crate::rate::Rate;
use crate::rate::SlidingWindowLog;

/// Addresses that are remembered: whoever has more of them than this is not held up by counting them.
const ADDRESSES: u64 = 10_000;

/// The wrong keys of each address. The table has an end and forgets who was seen longest ago, which `governor`'s keyed
/// limiter does not, and the count is exact.
///
/// A right key is never held up. Behind one proxy many callers share an address, and one of them could lock out the
/// rest; keys are 256 random bits, so that letting the right one through helps nobody to find it.
pub(super) struct Guesses {
    allowed: Rate,
    by_address: Cache<IpAddr, Arc<Mutex<SlidingWindowLog>>>,
}

impl Guesses {
    /// None so far.
    pub(super) fn new(allowed: Rate) -> Self {
        let by_address = Cache::builder()
            .max_capacity(ADDRESSES)
            .time_to_idle(allowed.per)
            // The default policy may refuse a new address while the table is full.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { allowed, by_address }
    }

    /// Counts a wrong key.
    ///
    /// # Errors
    /// How long it takes until another one may come, when there were too many.
    pub(super) fn count(&self, address: IpAddr) -> Result<(), Duration> {
        let window = self.by_address.get_with(counted(address), Arc::default);
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        window.take(self.allowed.per, self.allowed.calls).map(drop)
    }
}

/// Without the addresses: they are data of persons.
impl fmt::Debug for Guesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guesses").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_an_end_however_many_addresses_there_are() {
        let guesses = Guesses::new(Rate { calls: 10, per: Duration::from_mins(1) });
        for network in 0..3 * u128::from(ADDRESSES) {
            let address = IpAddr::V6((0x2a00 << 112 | network << 64 | 7).into());
            assert_eq!(guesses.count(address), Ok(()));
        }
        guesses.by_address.run_pending_tasks();
        assert!(guesses.by_address.entry_count() <= ADDRESSES);
    }

    #[test]
    fn each_network_has_its_own_count() {
        let guesses = Guesses::new(Rate { calls: 2, per: Duration::from_mins(1) });
        let count = |address: &str| guesses.count(address.parse().unwrap()).is_ok();
        assert_eq!(["2a00::1", "2a00::2", "2a00::3"].map(count), [true, true, false]);
        assert_eq!(["2a00:0:0:1::1", "192.0.2.1", "192.0.2.2"].map(count), [true; 3]);
    }
}
