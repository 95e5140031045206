//! One replica of a partition, whatever it is at the moment.
//!
//! ```text
//!             on_assignment (another leader epoch)
//!   ┌───────────────────────┬────────────────────────┐
//!   ▼                       ▼                        ▼
//! Offline ◄────────────► Follower ◄──────────────► Leader
//! ```
//! What stays from one role to the next is where the log stands. What is known of other replicas, and
//! whether this one agrees with its leader, is forgotten with the epoch.

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset};

use crate::assignment::Assignment;
use crate::follower::FollowerReplica;
use crate::leader::{Durability, Effect, LeaderOptions, LeaderReplica};
use crate::positions::Positions;

/// What does not change with the assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// This broker.
    pub broker: BrokerId,
    /// What counts as durable.
    pub durability: Durability,
    /// A follower that was not caught up for so long leaves the ISR (`replica.lag.time.max.ms`).
    pub lag_ms_max: i64,
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    settings: ReplicaSettings,
    /// Of the last assignment; −1 before the first.
    leader_epoch: LeaderEpoch,
    /// Of the last assignment; −1 before the first.
    partition_epoch: i32,
    role: Role,
}

/// What it is.
#[derive(Debug)]
pub enum Role {
    /// It decides what is committed.
    Leader(Box<LeaderReplica>),
    /// It copies its leader.
    Follower(FollowerReplica),
    /// There is no leader, or none is known yet; it keeps what it has.
    Offline(Positions),
}

/// What an assignment changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// Nothing: it is older than what is known.
    Stale,
    /// The role and its epoch stay; replicas, ISR or rule may be others.
    Kept,
    /// It leads from now on, in a new epoch. The owner notes the epoch in its log.
    Leads,
    /// It follows from now on.
    Follows,
    /// It waits for a leader.
    WaitsForLeader,
}

impl Replica {
    /// A replica whose log was recovered or made, before the metadata has spoken.
    ///
    /// # Panics
    /// If the positions are not in order.
    #[must_use]
    pub fn new(settings: ReplicaSettings, positions: Positions) -> Self {
        positions.check();
        Self {
            settings,
            leader_epoch: LeaderEpoch(-1),
            partition_epoch: -1,
            role: Role::Offline(positions),
        }
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The leader's side, if it leads.
    pub fn leader_mut(&mut self) -> Option<&mut LeaderReplica> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    /// The follower's side, if it follows.
    pub fn follower_mut(&mut self) -> Option<&mut FollowerReplica> {
        match &mut self.role {
            Role::Follower(follower) => Some(follower),
            _ => None,
        }
    }

    /// The epoch of the last leader that is known.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The epoch of the last assignment.
    #[must_use]
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Where it stands.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        match &self.role {
            Role::Leader(leader) => leader.positions(),
            Role::Follower(follower) => follower.positions(),
            Role::Offline(positions) => positions,
        }
    }

    /// The metadata's word. One that makes this broker the leader without counting it in sync is
    /// damaged, and leaves the partition without a leader here.
    pub fn on_assignment(&mut self, assignment: Assignment, now_ms: i64) -> RoleChange {
        let (epoch, partition_epoch) = (assignment.leader_epoch, assignment.partition_epoch);
        if partition_epoch < self.partition_epoch || epoch < self.leader_epoch {
            return RoleChange::Stale;
        }
        let broker = self.settings.broker;
        let is_same_epoch = epoch == self.leader_epoch;
        (self.leader_epoch, self.partition_epoch) = (epoch, partition_epoch);
        let may_lead =
            assignment.isr.contains(&broker) && assignment.replicas.contains_key(&broker);
        match (assignment.leader, &mut self.role) {
            (Some(id), Role::Leader(leader)) if id == broker && is_same_epoch && may_lead => {
                leader.on_assignment(assignment, now_ms);
                RoleChange::Kept
            }
            (Some(id), Role::Follower(follower)) if id == follower.leader() && is_same_epoch => {
                RoleChange::Kept
            }
            (None, Role::Offline(_)) => RoleChange::Kept,
            (Some(id), _) if id == broker && may_lead => {
                let options = LeaderOptions {
                    broker,
                    assignment,
                    durability: self.settings.durability,
                    lag_ms_max: self.settings.lag_ms_max,
                };
                let leader = LeaderReplica::new(options, self.settled_positions(), now_ms);
                self.role = Role::Leader(Box::new(leader));
                RoleChange::Leads
            }
            (Some(id), _) if id != broker => {
                let positions = self.settled_positions();
                self.role = Role::Follower(FollowerReplica::new(id, epoch, positions));
                RoleChange::Follows
            }
            (None | Some(_), _) => {
                self.role = Role::Offline(self.settled_positions());
                RoleChange::WaitsForLeader
            }
        }
    }

    /// What is to be done next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        match &mut self.role {
            Role::Leader(leader) => leader.poll_effect(),
            Role::Follower(follower) => {
                follower.poll_high_watermark().map(Effect::AdvanceHighWatermark)
            }
            Role::Offline(_) => None,
        }
    }

    /// The log is on stable storage up to here.
    ///
    /// # Panics
    /// If that is more than there is.
    pub fn on_durable(&mut self, durable_end: Offset) {
        match &mut self.role {
            Role::Leader(leader) => leader.on_durable(durable_end),
            Role::Follower(follower) => follower.on_durable(durable_end),
            Role::Offline(positions) => {
                assert!(durable_end <= positions.log_end, "what is durable was appended before");
                positions.durable_end = positions.durable_end.max(durable_end);
            }
        }
    }

    /// The log begins here now. A start that is past what is known to be committed is a leader's
    /// word, so that it is.
    ///
    /// # Panics
    /// If it is past what is durable.
    pub fn on_log_start(&mut self, log_start: Offset) {
        let log_start = log_start.max(self.positions().log_start);
        match &mut self.role {
            Role::Leader(leader) => leader.on_log_start(log_start),
            Role::Follower(follower) => follower.on_log_start(log_start),
            Role::Offline(positions) => {
                positions.log_start = log_start;
                positions.high_watermark = positions.high_watermark.max(log_start);
                positions.last_stable = positions.high_watermark;
                positions.check();
            }
        }
    }

    /// The topic's settings have changed.
    pub fn on_durability(&mut self, durability: Durability) {
        self.settings.durability = durability;
        if let Role::Leader(leader) = &mut self.role {
            leader.on_durability(durability);
        }
    }

    /// Time passes.
    pub fn on_tick(&mut self, now_ms: i64) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_tick(now_ms);
        }
    }

    /// Where the log stands, for the next role. What counted as durable because the page cache did
    /// is taken for what it is.
    fn settled_positions(&self) -> Positions {
        let mut positions = *self.positions();
        if let Role::Leader(leader) = &self.role {
            positions.durable_end = leader.synced_end().max(positions.high_watermark);
        }
        positions
    }
}

#[cfg(test)]
mod tests;
