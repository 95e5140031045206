//! The one place of the command line where clocks are read.
#![expect(clippy::disallowed_methods, reason = "this is the file for it")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of Unix time.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A point of the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}
