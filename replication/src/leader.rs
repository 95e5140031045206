//! The leader of one partition: from appended to durable to committed.
//!
//! Owns the positions, the followers' progress and the ISR of one partition in one leader epoch. Does
//! not own the log, nor who waits for an offset: the owner tells what happened to the log and drains
//! what is to be done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset};

use crate::high_watermark::choose_high_watermark;
use crate::isr::{InSyncReplicas, IsrProposal, StaleIsr};
use crate::positions::Positions;
use crate::progress::Progress;

/// What has to be true of a record on this replica before it counts towards the high watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is on stable storage.
    #[default]
    Disk,
    /// It is in the page cache (`write.caching=true`); it is synced a little later.
    PageCache,
}

/// What the owner has to do or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The high watermark is here now: answer who waits for less, wake who reads.
    AdvanceHighWatermark(Offset),
    /// Ask the controller for these in-sync replicas; tell the answer by `on_isr_committed` or
    /// `on_isr_refused`.
    ProposeIsr(IsrProposal),
}

/// A follower's fetch, as far as replication is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// Who fetches.
    pub follower: BrokerId,
    /// Where its log ends: what it asks for next.
    pub log_end: Offset,
    /// What it has on stable storage.
    pub durable_end: Offset,
}

/// Why a follower's fetch says nothing about its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FetchRefused {
    /// It holds no replica of this partition.
    #[error("broker {0} has no replica of this partition")]
    NotAReplica(BrokerId),
    /// It claims to have more than the leader, or more durable than it has.
    #[error(
        "the follower's log ends at {log_end}, of which {durable_end} durable; the leader's at {leader_end}"
    )]
    Impossible {
        /// The follower's log end.
        log_end: Offset,
        /// The follower's durable end.
        durable_end: Offset,
        /// The leader's log end.
        leader_end: Offset,
    },
    /// It is in sync and lacks records that are committed: its disk lost what it had promised.
    #[error(
        "the follower is in sync, but has {durable_end} where the high watermark is {high_watermark}"
    )]
    BelowHighWatermark {
        /// The follower's durable end.
        durable_end: Offset,
        /// The high watermark.
        high_watermark: Offset,
    },
}

/// What a leader is told when its epoch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderOptions {
    /// This broker.
    pub broker: BrokerId,
    /// The epoch in which it leads.
    pub epoch: LeaderEpoch,
    /// All replicas, this one among them.
    pub replicas: BTreeSet<BrokerId>,
    /// The in-sync ones as the controller committed them.
    pub isr: BTreeSet<BrokerId>,
    /// The epoch of that commit.
    pub partition_epoch: i32,
    /// What counts as durable.
    pub durability: Durability,
    /// `min.insync.replicas`.
    pub min_in_sync: usize,
    /// A follower that was not caught up for so long leaves the ISR (`replica.lag.time.max.ms`).
    pub lag_ms_max: i64,
}

/// The leader's replica of one partition.
#[derive(Debug)]
pub struct LeaderReplica {
    options: LeaderOptions,
    positions: Positions,
    /// What is on stable storage; [`Positions::durable_end`] is what counts as durable.
    synced_end: Offset,
    /// Where this leader's epoch began. A follower joins the ISR only from here on, so that nobody
    /// is admitted on records that an earlier leader never committed.
    epoch_start: Offset,
    isr: InSyncReplicas,
    /// All replicas but this one.
    followers: BTreeMap<BrokerId, Progress>,
    effects: VecDeque<Effect>,
}

impl LeaderReplica {
    /// Begins to lead with the log as it is; `positions` as recovered.
    ///
    /// # Panics
    /// If the broker is not among the replicas and in sync, or the positions are not in order.
    #[must_use]
    pub fn new(options: LeaderOptions, positions: Positions, now_ms: i64) -> Self {
        assert!(options.replicas.contains(&options.broker), "a leader has a replica");
        assert!(options.isr.contains(&options.broker), "a leader is in sync with itself");
        positions.check();
        let others = options.replicas.iter().filter(|id| **id != options.broker);
        let followers =
            others.map(|id| (*id, Progress::unknown(now_ms, options.isr.contains(id)))).collect();
        let isr = InSyncReplicas::committed(options.isr.clone(), options.partition_epoch);
        let mut leader = Self {
            synced_end: positions.durable_end,
            epoch_start: positions.log_end,
            options,
            positions,
            isr,
            followers,
            effects: VecDeque::new(),
        };
        leader.advance();
        leader
    }

    /// Where this replica stands.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The epoch in which this broker leads.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.options.epoch
    }

    /// The in-sync replicas.
    #[must_use]
    pub fn isr(&self) -> &InSyncReplicas {
        &self.isr
    }

    /// What counts as durable.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.options.durability
    }

    /// A follower's progress.
    #[must_use]
    pub fn progress(&self, follower: BrokerId) -> Option<&Progress> {
        self.followers.get(&follower)
    }

    /// Whether fewer replicas are in sync than `acks=all` demands.
    #[must_use]
    pub fn is_under_min_in_sync(&self) -> bool {
        self.isr.certain_count() < self.options.min_in_sync
    }

    /// What is to be done next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The log has grown.
    ///
    /// # Panics
    /// If it has shrunk: a leader never truncates.
    pub fn on_appended(&mut self, log_end: Offset) {
        assert!(log_end >= self.positions.log_end, "a leader's log never shrinks");
        self.positions.log_end = log_end;
        self.advance();
    }

    /// The log is on stable storage up to here.
    ///
    /// # Panics
    /// If that is more than there is, or less than before.
    pub fn on_durable(&mut self, synced_end: Offset) {
        assert!(synced_end <= self.positions.log_end, "what is durable was appended before");
        assert!(synced_end >= self.synced_end, "what is durable stays durable");
        self.synced_end = synced_end;
        self.advance();
    }

    /// The log begins here now (retention, DeleteRecords). The caller keeps it at or below the high
    /// watermark.
    ///
    /// # Panics
    /// If it went back or is above the high watermark.
    pub fn on_log_start(&mut self, log_start: Offset) {
        assert!(log_start >= self.positions.log_start, "a log's start never goes back");
        self.positions.log_start = log_start;
        self.positions.check();
    }

    /// The topic's settings have changed. A stricter durability never turns the high watermark
    /// back: what was acknowledged under the old one stays so.
    pub fn on_settings(&mut self, durability: Durability, min_in_sync: usize) {
        self.options.durability = durability;
        self.options.min_in_sync = min_in_sync;
        self.advance();
    }

    /// A follower fetches: its ends become known, it may join the ISR.
    ///
    /// # Errors
    /// [`FetchRefused`]; then nothing has changed but that a follower which lost committed records
    /// is proposed to leave the ISR.
    pub fn on_fetch(&mut self, fetch: FollowerFetch, now_ms: i64) -> Result<(), FetchRefused> {
        let FollowerFetch { follower, log_end, durable_end } = fetch;
        let leader_end = self.positions.log_end;
        let high_watermark = self.positions.high_watermark;
        let progress = self.followers.get_mut(&follower);
        let progress = progress.ok_or(FetchRefused::NotAReplica(follower))?;
        if log_end > leader_end || durable_end > log_end {
            return Err(FetchRefused::Impossible { log_end, durable_end, leader_end });
        }
        let knew = progress.durable_end();
        if knew.is_some_and(|known| durable_end < known)
            && durable_end < high_watermark
            && self.isr.may_count(follower)
        {
            let rest = self.isr.members().iter().copied().filter(|id| *id != follower).collect();
            self.propose(rest);
            return Err(FetchRefused::BelowHighWatermark { durable_end, high_watermark });
        }
        progress.on_fetch(durable_end, log_end, leader_end, now_ms);
        self.propose_expansion(follower);
        self.advance();
        Ok(())
    }

    /// Time passes: followers that were not caught up for too long are proposed to leave.
    pub fn on_tick(&mut self, now_ms: i64) {
        let leader_end = self.positions.log_end;
        let lag_ms_max = self.options.lag_ms_max;
        let is_in_sync = |id: &BrokerId| {
            self.followers
                .get(id)
                .is_none_or(|progress| progress.is_caught_up(leader_end, now_ms, lag_ms_max))
        };
        let rest = self.isr.members().iter().filter(|id| is_in_sync(id)).copied().collect();
        self.propose(rest);
    }

    /// The controller committed in-sync replicas, as proposed or otherwise.
    ///
    /// # Errors
    /// [`StaleIsr`] if that is not news.
    pub fn on_isr_committed(
        &mut self,
        isr: BTreeSet<BrokerId>,
        partition_epoch: i32,
    ) -> Result<(), StaleIsr> {
        self.isr.on_committed(isr, partition_epoch)?;
        self.advance();
        Ok(())
    }

    /// The controller refused what was proposed, and it will never be committed.
    pub fn on_isr_refused(&mut self) {
        self.isr.on_refused();
        self.advance();
    }

    fn propose_expansion(&mut self, follower: BrokerId) {
        let durable_end = self.followers.get(&follower).and_then(Progress::durable_end);
        let least = self.positions.high_watermark.max(self.epoch_start);
        let is_ready = durable_end.is_some_and(|end| end >= least);
        if is_ready && !self.isr.members().contains(&follower) {
            let mut wider = self.isr.members().clone();
            wider.insert(follower);
            self.propose(wider);
        }
    }

    fn propose(&mut self, isr: BTreeSet<BrokerId>) {
        if let Some(proposal) = self.isr.propose(isr) {
            self.effects.push_back(Effect::ProposeIsr(proposal));
        }
    }

    /// Recomputes what follows from log end, synced end, progress and ISR.
    fn advance(&mut self) {
        let counts = match self.options.durability {
            Durability::Disk => self.synced_end,
            Durability::PageCache => self.positions.log_end,
        };
        // What counted once keeps counting when the topic turns from page cache to disk.
        self.positions.durable_end = self.positions.durable_end.max(counts);
        let high_watermark = self.high_watermark();
        if high_watermark > self.positions.high_watermark {
            self.positions.high_watermark = high_watermark;
            self.positions.last_stable = high_watermark;
            // Several advances between two drains are one.
            let effect = Effect::AdvanceHighWatermark(high_watermark);
            match self.effects.back_mut() {
                Some(last @ Effect::AdvanceHighWatermark(_)) => *last = effect,
                _ => self.effects.push_back(effect),
            }
        }
        self.positions.check();
    }

    fn high_watermark(&self) -> Offset {
        let current = self.positions.high_watermark;
        let ends = self.isr.maximal().map(|id| {
            if id == self.options.broker {
                return self.positions.durable_end;
            }
            // A member that has not fetched in this epoch may have as little as what is committed.
            self.followers.get(&id).and_then(Progress::durable_end).unwrap_or(current)
        });
        choose_high_watermark(current, ends)
    }
}

#[cfg(test)]
mod tests;
