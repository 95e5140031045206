//! For how long a broker may say what the latest is of what it leads.
//!
//! Records that a broker shows stay true whatever happens: they are committed. That they are all, and that a committed offset is
//! the last one, is true only as long as no other broker leads. A leader that is cut off does not hear that it was replaced,
//! so that it says so only while nobody can have been. The controller gives up a broker that is silent for a second. It answers a
//! heartbeat once a majority of the quorum has said, after the heartbeat came, that it is the controller (one that was cut off, or
//! whose process stood still, answers nobody), and a broker that it has given up counts as alive again only when it has shown
//! that it knows of it. A heartbeat that was answered is therefore good for as long as no other controller can be elected,
//! from when it was sent.
//!
//! Not covered: a broker that loses a partition by a reassignment and is late in applying that, though it is heard; and a voter that
//! elects another controller at once because the controller's connections broke, although its process lives.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock;

/// An election timeout (500 ms), less what reading clocks takes. A heartbeat is sent every 200 ms and answered after one of the
/// quorum's (100 ms), which leaves 150 ms for the ways between.
const LASTS_MS: i64 = 450;
/// How long who asks waits for a lease that has run out. A controller that is followed by another one, or a busy machine, takes it
/// away for a moment, and some clients take the refusal of an OffsetFetch for the end of the matter and read nothing ever after
/// (librdkafka issue 5586). A broker that is cut off for longer refuses, or hangs up.
const RENEWAL_MAX: Duration = Duration::from_secs(2);

/// Times are milliseconds of this broker's monotonic clock.
#[derive(Debug)]
pub(crate) struct Lease {
    until_ms: watch::Sender<i64>,
}

impl Default for Lease {
    fn default() -> Self {
        Self { until_ms: watch::Sender::new(i64::MIN) }
    }
}

impl Lease {
    /// A heartbeat that was sent then has been answered: this broker counted as alive.
    pub(crate) fn on_answered(&self, sent_ms: i64) {
        let until_ms = sent_ms.saturating_add(LASTS_MS);
        self.until_ms.send_if_modified(|known| {
            let is_later = until_ms > *known;
            *known = until_ms.max(*known);
            is_later
        });
    }

    /// Whether what was read before `now_ms` was the latest then. To be asked after reading.
    pub(crate) fn holds(&self, now_ms: i64) -> bool {
        now_ms < *self.until_ms.borrow()
    }

    /// Waits until it holds. To be asked before reading.
    pub(crate) async fn renewed(&self) {
        let mut until_ms = self.until_ms.subscribe();
        // The sender lives as long as this does.
        let _ = until_ms.wait_for(|until_ms| clock::monotonic_ms() < *until_ms).await;
    }

    /// As [`Self::renewed`], for as long as a request may wait for it.
    pub(crate) async fn renewed_soon(&self) {
        let _ = tokio::time::timeout(RENEWAL_MAX, self.renewed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_from_when_the_last_answered_heartbeat_was_sent() {
        let lease = Lease::default();
        assert!(!lease.holds(0));
        lease.on_answered(1_000);
        assert!(lease.holds(1_000 + LASTS_MS - 1));
        assert!(!lease.holds(1_000 + LASTS_MS));
        // An earlier one that is answered later takes nothing away.
        lease.on_answered(900);
        assert!(lease.holds(1_000 + LASTS_MS - 1));
    }
}
