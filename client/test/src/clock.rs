//! The only place of this crate that reads a clock: tokio's, which a test pauses.

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
