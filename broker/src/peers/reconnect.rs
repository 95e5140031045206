//! When a broken connection is tried again, and when its peer counts as lost.
//!
//! A process that died has no listener any more: its connections break, and a new one is refused at
//! once. A process that is only slow, or a network that drops packets, shows neither. So a peer is
//! lost when a connection that stood broke and the next answer of its machine was a refusal.

use std::time::Duration;

const BACKOFF_MS_MIN: u64 = 10;
const BACKOFF_MS_MAX: u64 = 500;
/// With this many failed attempts (some 300 ms where they are refused), a connection that broke is no
/// news any more.
const NEWS_FAILURES_MAX: u32 = 5;

/// The history of one peer's connection, as far as it decides what to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconnect {
    /// Attempts that failed since the last connection stood.
    failures: u32,
    /// A connection stood, and nobody has said since that its process is gone.
    has_stood: bool,
}

/// What an attempt's failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The peer's process is known to be dead.
    pub(crate) is_lost: bool,
    /// To wait before the next attempt.
    pub(crate) pause: Duration,
}

impl Reconnect {
    /// A connection stands, hellos included. When it breaks, the next attempt is made at once.
    pub(crate) fn on_connected(&mut self) {
        *self = Self { failures: 0, has_stood: true };
    }

    /// The connection broke so shortly ago that the metadata may not say yet what that means.
    pub(crate) fn is_news(&self) -> bool {
        self.failures < NEWS_FAILURES_MAX
    }

    /// An attempt failed; `is_refused`: since nobody listens at the address.
    pub(crate) fn on_failed(&mut self, is_refused: bool) -> Failed {
        let pause_ms = BACKOFF_MS_MIN << self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        let is_lost = is_refused && std::mem::take(&mut self.has_stood);
        Failed { is_lost, pause: Duration::from_millis(pause_ms.min(BACKOFF_MS_MAX)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reconnect: &mut Reconnect, is_refused: bool, is_lost: bool, pause_ms: u64) {
        let pause = Duration::from_millis(pause_ms);
        assert_eq!(reconnect.on_failed(is_refused), Failed { is_lost, pause });
    }

    #[test]
    fn a_peer_is_lost_once_when_its_connection_broke_and_a_new_one_is_refused() {
        let mut reconnect = Reconnect::default();
        // It has not been there yet.
        check(&mut reconnect, true, false, 10);
        reconnect.on_connected();
        check(&mut reconnect, true, true, 10);
        check(&mut reconnect, true, false, 20);
    }

    #[test]
    fn a_break_is_news_for_some_attempts() {
        let mut reconnect = Reconnect::default();
        reconnect.on_connected();
        for _ in 0..NEWS_FAILURES_MAX {
            assert!(reconnect.is_news());
            reconnect.on_failed(true);
        }
        assert!(!reconnect.is_news());
    }

    #[test]
    fn a_network_that_drops_packets_is_no_loss_but_the_refusal_after_it_is() {
        let mut reconnect = Reconnect::default();
        reconnect.on_connected();
        for pause_ms in [10, 20, 40, 80, 160, 320, 500, 500] {
            check(&mut reconnect, false, false, pause_ms);
        }
        check(&mut reconnect, true, true, 500);
    }
}
