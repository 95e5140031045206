//! The leader of one partition: from appended to durable to committed.
//!
//! Owns the positions, the followers' progress and the ISR of one partition in one leader epoch. Does
//! not own the log, nor who waits for an offset: the owner tells what happened to the log and drains
//! what is to be done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset};

use crate::assignment::Assignment;
use crate::high_watermark::choose_high_watermark;
use crate::isr::{InSyncReplicas, StaleIsr};
use crate::positions::Positions;
use crate::progress::Progress;
use crate::sabotage::{self, Sabotage};

/// After a refusal, so long nothing is proposed: what stood against it is seldom gone sooner.
const REFUSED_PAUSE_MS: i64 = 200;

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
    ProposeIsr(IsrWish),
}

/// In-sync replicas to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrWish {
    /// Each with the epoch of its broker's registration as it told it itself, so that the controller
    /// admits no run of a process that is not the one that caught up (KIP-903); −1 if unknown.
    pub isr: BTreeMap<BrokerId, i64>,
    /// The epoch of the partition that it changes.
    pub partition_epoch: i32,
}

/// A follower's fetch, as far as replication is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// Who fetches.
    pub follower: BrokerId,
    /// The epoch of its registration.
    pub broker_epoch: i64,
    /// Where its log ends: what it asks for next.
    pub log_end: Offset,
    /// What it has on stable storage.
    pub durable_end: Offset,
    /// Where its log begins.
    pub log_start: Offset,
}

/// Why a follower's fetch says nothing about its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FetchRefused {
    /// It holds no replica of this partition.
    #[error("broker {0} has no replica of this partition")]
    NotAReplica(BrokerId),
    /// It is an earlier run of a process that has another one since.
    #[error("broker epoch {given} is older than {known}")]
    OldBroker {
        /// The follower's.
        given: i64,
        /// The newest that is known of it.
        known: i64,
    },
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
    /// What the metadata says; it names this broker the leader.
    pub assignment: Assignment,
    /// What counts as durable.
    pub durability: Durability,
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
    /// Who was proposed to join last. The others have their turn first, so that one whom the
    /// controller refuses (it may be dead, and look caught up) keeps nobody out.
    joined_last: Option<BrokerId>,
    /// Nothing is proposed before.
    proposes_from_ms: i64,
    /// It wants to leave the ISR, and with it the lead.
    withdraws: bool,
    effects: VecDeque<Effect>,
}

impl LeaderReplica {
    /// Begins to lead with the log as it is; `positions` as recovered.
    ///
    /// # Panics
    /// If the broker is not among the replicas and in sync, or the positions are not in order.
    #[must_use]
    pub fn new(options: LeaderOptions, positions: Positions, now_ms: i64) -> Self {
        let assignment = &options.assignment;
        assert!(assignment.replicas.contains_key(&options.broker), "a leader has a replica");
        assert!(assignment.isr.contains(&options.broker), "a leader is in sync with itself");
        positions.check();
        let others = assignment.replicas.keys().filter(|id| **id != options.broker);
        let followers = others
            .map(|id| (*id, Progress::unknown(now_ms, assignment.isr.contains(id))))
            .collect();
        let isr = InSyncReplicas::committed(assignment.isr.clone(), assignment.partition_epoch);
        let mut leader = Self {
            synced_end: positions.durable_end,
            epoch_start: positions.log_end,
            options,
            positions,
            isr,
            followers,
            joined_last: None,
            proposes_from_ms: i64::MIN,
            withdraws: false,
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
        self.options.assignment.leader_epoch
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

    /// The progress of all followers.
    pub fn followers(&self) -> impl Iterator<Item = (BrokerId, &Progress)> {
        self.followers.iter().map(|(id, progress)| (*id, progress))
    }

    /// Whether fewer replicas are in sync than `acks=all` demands, or in fewer failure domains.
    #[must_use]
    pub fn is_under_min_in_sync(&self) -> bool {
        let is_enough = self.options.assignment.is_enough(self.isr.certain());
        !is_enough && !sabotage::is_on(Sabotage::IgnoreMinInsync)
    }

    /// Whether the high watermark speaks for all that earlier leaders committed: it has reached the
    /// start of this leader's epoch. Until then nobody may be told that it is the end (KIP-207).
    #[must_use]
    pub fn is_high_watermark_current(&self) -> bool {
        self.positions.high_watermark >= self.epoch_start
    }

    /// Where this leader's epoch began.
    #[must_use]
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// What is on stable storage, whatever counts as durable.
    #[must_use]
    pub fn synced_end(&self) -> Offset {
        self.synced_end
    }

    /// Whether anything is to be done.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
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
    /// If that is more than there is.
    pub fn on_durable(&mut self, synced_end: Offset) {
        assert!(synced_end <= self.positions.log_end, "what is durable was appended before");
        self.synced_end = self.synced_end.max(synced_end);
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

    /// What counts as durable has changed. A stricter rule never turns the high watermark back: what
    /// was acknowledged under the old one stays so.
    pub fn on_durability(&mut self, durability: Durability) {
        self.options.durability = durability;
        self.advance();
    }

    /// The metadata says something new within this leader's epoch: other replicas, another ISR (the
    /// one proposed or not), another rule.
    ///
    /// # Panics
    /// If it is of another leader epoch, or does not count this broker in.
    pub fn on_assignment(&mut self, assignment: Assignment, now_ms: i64) {
        assert!(assignment.leader_epoch == self.epoch(), "a leader has one epoch");
        let broker = self.options.broker;
        assert!(assignment.replicas.contains_key(&broker), "a leader has a replica");
        assert!(assignment.isr.contains(&broker), "a leader is in sync with itself");
        self.followers.retain(|id, _| assignment.replicas.contains_key(id));
        for id in assignment.replicas.keys().filter(|id| **id != broker) {
            let is_in_sync = assignment.isr.contains(id);
            let unknown = || Progress::unknown(now_ms, is_in_sync);
            self.followers.entry(*id).or_insert_with(unknown);
        }
        // An error means that it is known already: only the rule is news.
        let _ = self.isr.on_committed(assignment.isr.clone(), assignment.partition_epoch);
        self.options.assignment = assignment;
        self.advance();
    }

    /// A follower fetches: its ends become known, it may join the ISR. What comes later than what it
    /// said after it changes nothing.
    ///
    /// # Errors
    /// [`FetchRefused`]; then nothing has changed but that a follower which lost committed records
    /// is proposed to leave the ISR.
    pub fn on_fetch(&mut self, fetch: FollowerFetch, now_ms: i64) -> Result<(), FetchRefused> {
        let FollowerFetch { follower, broker_epoch, log_end, durable_end, log_start } = fetch;
        let leader_end = self.positions.log_end;
        let high_watermark = self.positions.high_watermark;
        let progress = self.followers.get_mut(&follower);
        let progress = progress.ok_or(FetchRefused::NotAReplica(follower))?;
        let known = progress.broker_epoch();
        if broker_epoch < known {
            return Err(FetchRefused::OldBroker { given: broker_epoch, known });
        }
        if log_end > leader_end || durable_end > log_end {
            return Err(FetchRefused::Impossible { log_end, durable_end, leader_end });
        }
        let knew = progress.durable_end();
        let is_lower = knew.is_some_and(|knew| durable_end < knew) || log_end < progress.log_end();
        if broker_epoch == known && is_lower {
            // Within one run and one leader epoch a follower only grows: this was said earlier, on a
            // connection that it has left since.
            return Ok(());
        }
        if knew.is_some_and(|known| durable_end < known)
            && durable_end < high_watermark
            && self.isr.may_count(follower)
        {
            let rest = self.isr.members().iter().copied().filter(|id| *id != follower).collect();
            self.propose(rest, now_ms);
            return Err(FetchRefused::BelowHighWatermark { durable_end, high_watermark });
        }
        let is_rash = sabotage::is_on(Sabotage::HighWatermarkAheadOfDurable);
        let durable_end = if is_rash { log_end } else { durable_end };
        progress.on_broker_epoch(broker_epoch);
        progress.on_fetch(durable_end, log_end, leader_end, now_ms);
        progress.on_log_start(log_start);
        self.propose_expansion(follower, now_ms);
        self.advance();
        Ok(())
    }

    /// Whether the logs of all replicas that are or may be in sync begin at `log_start` or later, so that
    /// no next leader gives records from below. Of fewer than commit anything nobody holds it: one that
    /// left them may be elected (KIP-966), and begins where it did.
    #[must_use]
    pub fn is_log_start_held(&self, log_start: Offset) -> bool {
        let holds = |(id, progress): (&BrokerId, &Progress)| {
            progress.log_start() >= log_start || !self.isr.may_count(*id)
        };
        let is_held = self.commits() && self.followers.iter().all(holds);
        let is_own = self.positions.log_start >= log_start;
        is_own && (is_held || sabotage::is_on(Sabotage::DeleteAlone))
    }

    /// Something below the log's end is damaged, and others have it whole: this replica asks to be
    /// taken out of the ISR, so that another one leads, as long as it leads and is not in sync alone.
    pub fn withdraw(&mut self, now_ms: i64) {
        self.withdraws = true;
        let broker = self.options.broker;
        let rest = self.isr.members().iter().copied().filter(|id| *id != broker).collect();
        self.propose(rest, now_ms);
    }

    /// Time passes: followers that were not caught up for too long are proposed to leave.
    pub fn on_tick(&mut self, now_ms: i64) {
        if self.withdraws {
            self.withdraw(now_ms);
        }
        let leader_end = self.positions.log_end;
        let lag_ms_max = self.options.lag_ms_max;
        let is_in_sync = |id: &BrokerId| {
            self.followers
                .get(id)
                .is_none_or(|progress| progress.is_caught_up(leader_end, now_ms, lag_ms_max))
        };
        // Nearly always all are, of thousands of partitions twice a second.
        let members = self.isr.members();
        if !members.iter().all(is_in_sync) {
            let rest = members.iter().filter(|id| is_in_sync(id)).copied().collect();
            self.propose(rest, now_ms);
        }
        if self.followers.keys().all(|id| self.isr.members().contains(id)) {
            return;
        }
        // Who caught up while a proposal was out, or while proposals paused, has nothing more to say.
        let last = self.joined_last;
        let (had, waiting): (Vec<_>, Vec<_>) =
            self.followers.keys().copied().partition(|id| Some(*id) <= last);
        for follower in waiting.into_iter().chain(had) {
            self.propose_expansion(follower, now_ms);
        }
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
    pub fn on_isr_refused(&mut self, now_ms: i64) {
        self.isr.on_refused();
        self.proposes_from_ms = now_ms.saturating_add(REFUSED_PAUSE_MS);
        self.advance();
    }

    /// A follower joins once it holds durably all that is or may be committed: up to the high
    /// watermark, and up to where this leader's epoch began (KIP-320).
    fn propose_expansion(&mut self, follower: BrokerId, now_ms: i64) {
        let Some(progress) = self.followers.get(&follower) else { return };
        let least = match sabotage::is_on(Sabotage::JoinFromAnywhere) {
            true => Offset(0),
            false => self.positions.high_watermark.max(self.epoch_start),
        };
        let is_ready = progress.durable_end().is_some_and(|end| end >= least);
        let is_near =
            progress.is_caught_up(self.positions.log_end, now_ms, self.options.lag_ms_max);
        // What was deleted stays so when it leads.
        let has_deleted = progress.log_start() >= self.positions.log_start
            || sabotage::is_on(Sabotage::DeleteAlone);
        if is_ready && is_near && has_deleted && !self.isr.members().contains(&follower) {
            let mut wider = self.isr.members().clone();
            wider.insert(follower);
            if self.propose(wider, now_ms) {
                self.joined_last = Some(follower);
            }
        }
    }

    /// Whether it was proposed.
    fn propose(&mut self, isr: BTreeSet<BrokerId>, now_ms: i64) -> bool {
        if now_ms < self.proposes_from_ms {
            return false;
        }
        let proposal = self.isr.propose(isr);
        let is_proposed = proposal.is_some();
        if let Some(proposal) = proposal {
            let epoch_of =
                |id: &BrokerId| self.followers.get(id).map_or(-1, Progress::broker_epoch);
            let isr = proposal.isr.iter().map(|id| (*id, epoch_of(id))).collect();
            let wish = IsrWish { isr, partition_epoch: proposal.partition_epoch };
            self.effects.push_back(Effect::ProposeIsr(wish));
        }
        is_proposed
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

    /// Whether enough are in sync for anything to be committed.
    fn commits(&self) -> bool {
        self.isr.members().len() >= self.options.assignment.committing_min()
    }

    fn high_watermark(&self) -> Offset {
        let current = self.positions.high_watermark;
        if !self.commits() && !sabotage::is_on(Sabotage::IgnoreMinInsync) {
            return current;
        }
        let ignores_pending = sabotage::is_on(Sabotage::IgnorePendingIsr);
        let counts = |id: &BrokerId| !ignores_pending || self.isr.members().contains(id);
        let ends = self.isr.maximal().filter(counts).map(|id| {
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
