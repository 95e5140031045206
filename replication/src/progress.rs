//! How far one follower is, as its fetches tell the leader.

use varve_protocol::vocabulary::Offset;

/// One follower's progress. Times are milliseconds of the leader's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What the follower has on stable storage. Unknown (none) until its first fetch in this epoch.
    durable_end: Option<Offset>,
    /// Where the follower's log ends.
    log_end: Offset,
    /// The leader's log end when the follower fetched last.
    leader_end_at_fetch: Offset,
    fetched_ms: i64,
    /// The last time at which the follower had all that the leader had.
    caught_up_ms: i64,
    /// The epoch of the follower's registration, as it told it; −1 before its first fetch.
    broker_epoch: i64,
    /// Where its log begins, as it told last; −1 before that.
    log_start: Offset,
}

impl Progress {
    /// A follower of which nothing is known but that it was in sync (or not) when this leader's
    /// epoch began.
    #[must_use]
    pub fn unknown(now_ms: i64, is_in_sync: bool) -> Self {
        Self {
            durable_end: None,
            log_end: Offset(-1),
            leader_end_at_fetch: Offset(-1),
            fetched_ms: i64::MIN,
            // A member of the ISR gets the whole lag allowance before it is judged.
            caught_up_ms: if is_in_sync { now_ms } else { i64::MIN },
            broker_epoch: -1,
            log_start: Offset(-1),
        }
    }

    /// What it has on stable storage, once it has said so.
    #[must_use]
    pub fn durable_end(&self) -> Option<Offset> {
        self.durable_end
    }

    /// Where its log ends; −1 before its first fetch.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// The epoch of its registration, as it told it; −1 before its first fetch.
    #[must_use]
    pub fn broker_epoch(&self) -> i64 {
        self.broker_epoch
    }

    /// Where its log begins; −1 before it has said so.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Another run of the follower's process speaks from here on.
    pub fn on_broker_epoch(&mut self, broker_epoch: i64) {
        if broker_epoch != self.broker_epoch {
            self.log_start = Offset(-1);
        }
        self.broker_epoch = broker_epoch;
    }

    /// Its log begins here. Within one run of its process that never goes back: a lower start was said
    /// earlier.
    pub fn on_log_start(&mut self, log_start: Offset) {
        self.log_start = self.log_start.max(log_start);
    }

    /// A fetch tells the follower's ends.
    pub fn on_fetch(
        &mut self,
        durable_end: Offset,
        log_end: Offset,
        leader_end: Offset,
        now_ms: i64,
    ) {
        if log_end >= leader_end {
            self.caught_up_ms = self.caught_up_ms.max(now_ms);
        } else if log_end >= self.leader_end_at_fetch && self.fetched_ms > i64::MIN {
            // It has all that there was at its previous fetch: it was caught up then.
            self.caught_up_ms = self.caught_up_ms.max(self.fetched_ms);
        }
        self.durable_end = Some(durable_end);
        self.log_end = log_end;
        self.leader_end_at_fetch = leader_end;
        self.fetched_ms = now_ms;
    }

    /// Whether it has all that the leader has, or had it within the last `lag_ms_max`.
    #[must_use]
    pub fn is_caught_up(&self, leader_end: Offset, now_ms: i64, lag_ms_max: i64) -> bool {
        self.log_end >= leader_end || now_ms.saturating_sub(self.caught_up_ms) <= lag_ms_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_follower_of_a_moving_leader_counts_as_caught_up() {
        let mut progress = Progress::unknown(0, false);
        assert!(!progress.is_caught_up(Offset(10), 0, 100));
        // Each fetch has what the leader had at the fetch before, never what it has now.
        for (now, log_end) in [(100, 10), (200, 20), (300, 30)] {
            progress.on_fetch(Offset(log_end), Offset(log_end), Offset(log_end + 10), now);
        }
        assert!(progress.is_caught_up(Offset(50), 300, 100));
        assert!(!progress.is_caught_up(Offset(50), 301, 100));
    }

    #[test]
    fn an_idle_partition_needs_no_fetches_to_stay_caught_up() {
        let mut progress = Progress::unknown(0, true);
        progress.on_fetch(Offset(5), Offset(5), Offset(5), 10);
        assert!(progress.is_caught_up(Offset(5), 1_000_000, 100));
        assert!(!progress.is_caught_up(Offset(6), 1_000_000, 100));
    }
}
