//! File descriptors: each connection takes one, and so do the store, the calls to vendors and the log.

/// What connections of callers leave to everything else.
const RESERVE: usize = 256;

/// Takes as many descriptors as the system gives, and says how many of them connections of callers may have.
pub(super) fn for_connections() -> usize {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX)
        .map_or(1024, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    descriptors - RESERVE.min(descriptors / 2)
}
