//! Where the broker reads clocks.
//!
//! Wall time stamps records and judges retention; it may jump. Deadlines and intervals use the
//! monotonic clock, in milliseconds since the process began.
#![expect(clippy::disallowed_methods, reason = "this is the one file that reads clocks")]

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use varve_protocol::vocabulary::TimestampMs;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The wall clock.
pub(crate) fn wall() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic clock, for measuring.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The monotonic clock, in milliseconds.
pub(crate) fn monotonic_ms() -> i64 {
    i64::try_from(START.elapsed().as_millis()).unwrap_or(i64::MAX)
}
