//! The follower of one partition: it becomes a copy of its leader's log.
//!
//! ```text
//!   on_news                  the owner                     then
//!   Records      ─► Append      appends the batches          on_appended, later on_durable
//!   Diverging    ─► TruncateTo  cuts its log                 on_truncated
//!   OutOfRange   ─► ResetTo     drops its log, begins anew   on_begun_anew
//! ```
//! A follower keeps what it has until its leader contradicts it: each fetch tells the epoch of its
//! last record, and the leader answers with where that epoch ends if it ends elsewhere (KIP-101,
//! 279, 320, 595). Until the first answer that does not contradict, its positions mean nothing to the
//! leader and are not told.

use thiserror::Error;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset};

use crate::positions::Positions;

/// What a leader answered to a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderNews {
    /// Records that follow, or none.
    Records {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// Where the leader's log begins.
        log_start: Offset,
    },
    /// The follower's last epoch ends elsewhere in the leader's log.
    Diverging {
        /// The largest epoch of the leader that is at most the follower's last one.
        epoch: LeaderEpoch,
        /// Where it ends.
        end_offset: Offset,
    },
    /// The follower's end is not within the leader's log.
    OutOfRange {
        /// Where the leader's log begins.
        log_start: Offset,
    },
}

/// What the owner has to do with its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerStep {
    /// Append what came, if anything did.
    Append,
    /// Cut the log to this end; what is above is not the leader's.
    TruncateTo(Offset),
    /// Drop all of it and begin here; the leader has nothing older.
    ResetTo(Offset),
}

/// Why a leader's answer changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NewsRefused {
    /// It is of another epoch than the one that is followed.
    #[error("the answer is of leader epoch {given}, followed is {current}")]
    OtherEpoch {
        /// The answer's.
        given: LeaderEpoch,
        /// The one that is followed.
        current: LeaderEpoch,
    },
    /// It answers a position that the log has left meanwhile.
    #[error("the answer is to a fetch from {given}, the log ends at {log_end}")]
    OtherPosition {
        /// What was asked for.
        given: Offset,
        /// Where the log ends.
        log_end: Offset,
    },
    /// It contradicts itself: nothing would be cut, or what is out of range is not.
    #[error("the leader's answer asks for end {asked}, the log is {log_start}..{log_end}")]
    Contradiction {
        /// The end, or start, that it speaks of.
        asked: Offset,
        /// Where this log begins.
        log_start: Offset,
        /// Where this log ends.
        log_end: Offset,
    },
}

/// A follower's replica of one partition.
#[derive(Debug)]
pub struct FollowerReplica {
    leader: BrokerId,
    epoch: LeaderEpoch,
    positions: Positions,
    /// As the leader told it last in this epoch.
    leader_high_watermark: Offset,
    /// Where the leader's log begins, as it told last.
    leader_log_start: Offset,
    /// The leader has not contradicted this log in this epoch.
    is_reconciled: bool,
    /// The high watermark has moved since it was asked for.
    has_moved: bool,
}

impl FollowerReplica {
    /// Begins to follow with the log as it is.
    ///
    /// # Panics
    /// If the positions are not in order.
    #[must_use]
    pub fn new(leader: BrokerId, epoch: LeaderEpoch, positions: Positions) -> Self {
        positions.check();
        Self {
            leader,
            epoch,
            leader_high_watermark: positions.high_watermark,
            leader_log_start: positions.log_start,
            positions,
            is_reconciled: false,
            has_moved: false,
        }
    }

    /// Whom it follows.
    #[must_use]
    pub fn leader(&self) -> BrokerId {
        self.leader
    }

    /// The epoch in which it follows.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Where it stands.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Whether its positions may be told to the leader.
    #[must_use]
    pub fn is_reconciled(&self) -> bool {
        self.is_reconciled
    }

    /// The high watermark, if it has moved since the last call.
    pub fn poll_high_watermark(&mut self) -> Option<Offset> {
        std::mem::take(&mut self.has_moved).then_some(self.positions.high_watermark)
    }

    /// The leader of `epoch` answered a fetch from `fetch_offset`. `end_of` tells, for an epoch, the
    /// largest epoch of this log that is at most that one, and where it ends.
    ///
    /// # Errors
    /// [`NewsRefused`]; then nothing has changed.
    pub fn on_news(
        &mut self,
        epoch: LeaderEpoch,
        fetch_offset: Offset,
        news: LeaderNews,
        end_of: impl FnOnce(LeaderEpoch) -> Option<(LeaderEpoch, Offset)>,
    ) -> Result<FollowerStep, NewsRefused> {
        if epoch != self.epoch {
            return Err(NewsRefused::OtherEpoch { given: epoch, current: self.epoch });
        }
        let Positions { log_start, log_end, .. } = self.positions;
        if fetch_offset != log_end {
            return Err(NewsRefused::OtherPosition { given: fetch_offset, log_end });
        }
        let contradiction = |asked| NewsRefused::Contradiction { asked, log_start, log_end };
        match news {
            // All of this log lies before the leader's start, and the leader cannot say whether that is
            // what was committed there.
            LeaderNews::Records { log_start: begins, .. }
                if !self.is_reconciled && log_start < begins && log_end <= begins =>
            {
                Ok(FollowerStep::ResetTo(begins))
            }
            LeaderNews::Records { high_watermark, log_start } => {
                self.is_reconciled = true;
                // Everything below the leader's start was committed once.
                let committed = high_watermark.max(log_start);
                self.leader_high_watermark = self.leader_high_watermark.max(committed);
                self.leader_log_start = self.leader_log_start.max(log_start);
                self.advance();
                Ok(FollowerStep::Append)
            }
            LeaderNews::Diverging { epoch, end_offset } => {
                let end = match end_of(epoch) {
                    // Both have that epoch: it ends where the shorter one ends.
                    Some((own, own_end)) if own == epoch => own_end.min(end_offset),
                    // This log's next older epoch is the next to be compared.
                    Some((_, own_end)) => own_end,
                    None => end_offset,
                };
                let end = end.max(log_start);
                if end >= log_end {
                    return Err(contradiction(end_offset));
                }
                Ok(FollowerStep::TruncateTo(end))
            }
            LeaderNews::OutOfRange { log_start: leader_start } => {
                let is_empty = log_start == log_end;
                if leader_start > log_end || (is_empty && leader_start != log_end) {
                    return Ok(FollowerStep::ResetTo(leader_start));
                }
                Err(contradiction(leader_start))
            }
        }
    }

    /// The log has grown.
    ///
    /// # Panics
    /// If it has shrunk.
    pub fn on_appended(&mut self, log_end: Offset) {
        assert!(log_end >= self.positions.log_end, "appending does not shrink a log");
        self.positions.log_end = log_end;
        self.advance();
    }

    /// The log is durable up to here.
    ///
    /// # Panics
    /// If that is more than there is.
    pub fn on_durable(&mut self, durable_end: Offset) {
        assert!(durable_end <= self.positions.log_end, "what is durable was appended before");
        self.positions.durable_end = self.positions.durable_end.max(durable_end);
        self.advance();
    }

    /// The log was cut, and all that is left is durable. The high watermark goes back with it if it
    /// must: that happens only after an unclean election, or when disks lost what they had promised.
    ///
    /// # Panics
    /// If the end is not within the log.
    pub fn on_truncated(&mut self, log_end: Offset) {
        let positions = &mut self.positions;
        assert!(log_end >= positions.log_start, "a log ends behind its start");
        assert!(log_end <= positions.log_end, "a truncation does not grow a log");
        let is_cut = log_end < positions.log_end;
        positions.log_end = log_end;
        positions.durable_end = log_end;
        if is_cut {
            self.lower_high_watermark(log_end);
        } else {
            // Only an epoch without records went. What the leader has told holds, and is not told again.
            self.advance();
        }
    }

    /// The log was dropped as the leader's answer asked, and begins where the leader's does. Nothing in it can
    /// contradict the leader, which may have nothing more to say to who asks from there.
    pub fn on_begun_anew(&mut self, log_start: Offset) {
        self.on_reset(log_start);
        self.is_reconciled = true;
    }

    /// The log was dropped and begins here now.
    pub fn on_reset(&mut self, log_start: Offset) {
        self.positions = Positions::recovered(log_start, log_start, log_start);
        self.leader_high_watermark = log_start;
        self.has_moved = true;
    }

    /// The log, which is empty, begins with the whole batch within which its start lay.
    ///
    /// # Panics
    /// If it is not empty, or begins later now.
    pub fn on_begun_earlier(&mut self, log_start: Offset) {
        assert!(self.positions.log_start == self.positions.log_end, "an empty log has no records");
        assert!(log_start <= self.positions.log_start, "the batch contains the start");
        self.positions = Positions::recovered(log_start, log_start, log_start);
        self.has_moved = true;
    }

    /// Up to where the leader has deleted, as far as that is committed here, if this log begins before.
    #[must_use]
    pub fn log_start_wish(&self) -> Option<Offset> {
        let log_start = self.leader_log_start.min(self.positions.high_watermark);
        (log_start > self.positions.log_start).then_some(log_start)
    }

    /// The log begins here now (retention, or the leader's start). The high watermark is never below:
    /// what a leader deletes was committed.
    ///
    /// # Panics
    /// If the start went back, or is past what is durable.
    pub fn on_log_start(&mut self, log_start: Offset) {
        assert!(log_start >= self.positions.log_start, "a log's start never goes back");
        self.positions.log_start = log_start;
        self.leader_high_watermark = self.leader_high_watermark.max(log_start);
        self.advance();
    }

    fn lower_high_watermark(&mut self, high_watermark: Offset) {
        self.leader_high_watermark = self.leader_high_watermark.min(high_watermark);
        if self.positions.high_watermark > high_watermark {
            self.positions.high_watermark = high_watermark;
            self.positions.last_stable = high_watermark;
            self.has_moved = true;
        }
        self.positions.check();
    }

    /// The least of what the leader committed and what is durable here, and never less than before.
    fn advance(&mut self) {
        let high_watermark = self.leader_high_watermark.min(self.positions.durable_end);
        if high_watermark > self.positions.high_watermark {
            self.positions.high_watermark = high_watermark;
            self.positions.last_stable = high_watermark;
            self.has_moved = true;
        }
        self.positions.check();
    }
}

#[cfg(test)]
mod tests;
