//! When an append was with its shards: the shards' threads note it, who waits for the answer reads it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The times of one append, which may be in parts for several shards: of the last part.
#[derive(Debug)]
pub(crate) struct AppendStamps {
    sent: Instant,
    /// Since `sent`; 0 before a shard has taken it up.
    taken_ns: AtomicU64,
    /// Since `sent`; 0 before it stands in a log.
    appended_ns: AtomicU64,
}

impl AppendStamps {
    /// Of an append that is handed to its shards now.
    pub(super) fn sent(sent: Instant) -> Self {
        Self { sent, taken_ns: AtomicU64::new(0), appended_ns: AtomicU64::new(0) }
    }

    /// A shard has taken up its part, and done it.
    pub(super) fn note(&self, taken: Instant, appended: Instant) {
        for (counter, at) in [(&self.taken_ns, taken), (&self.appended_ns, appended)] {
            let since = at.saturating_duration_since(self.sent).as_nanos();
            counter.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How long it waited for its shards.
    pub(crate) fn queued(&self) -> Duration {
        Duration::from_nanos(self.taken_ns.load(Ordering::Relaxed))
    }

    /// How long before `now` it stood in all its logs.
    pub(crate) fn appended_before(&self, now: Instant) -> Duration {
        let appended = Duration::from_nanos(self.appended_ns.load(Ordering::Relaxed));
        now.saturating_duration_since(self.sent + appended)
    }
}
