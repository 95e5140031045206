//! One partition as its shard steps it: this broker's replica and who waits for its high watermark.
//!
//! The log itself belongs to the shard's storage; what is here decides when an appended batch is
//! acknowledged. One path for any number of replicas: appended → durable → high watermark → answer.

mod rot;
mod waiting;

use varve_protocol::vocabulary::{BrokerId, Offset};
use varve_replication::{
    AckRule, Assignment, Durability, Effect, FollowerReplica, IsrWish, LeaderReplica, Positions,
    Replica, ReplicaSettings, Role, RoleChange,
};
use varve_storage::config::LogConfig;

use crate::shard::{PartitionRole, RoleName, RoleView};

pub(crate) use rot::RotNote;
pub(crate) use waiting::{Waiting, WaitingAppend};

/// A partition that lies here.
#[derive(Debug)]
pub(crate) struct Partition {
    replica: Replica,
    pub(crate) waiting: Waiting,
    /// Damage in its log that was found since it was opened.
    pub(crate) rot: Option<RotNote>,
    /// Whom the metadata named the leader last.
    leader: Option<BrokerId>,
    /// The in-sync replicas that the metadata, or the controller's answer, named last.
    isr: Vec<BrokerId>,
    /// Whether there is anybody who could follow.
    has_followers: bool,
}

/// Where a log stands when its partition is taken over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecoveredLog {
    pub(crate) log_start: Offset,
    /// As far as it is known; it is never above what is durable.
    pub(crate) high_watermark: Offset,
    pub(crate) durable_end: Offset,
    pub(crate) log_end: Offset,
}

/// What a partition's replica wants, in order.
#[derive(Debug)]
pub(crate) enum Wish {
    HighWatermark(Offset),
    ProposeIsr(IsrWish),
}

impl Partition {
    /// Takes over a log. It waits for the metadata's word before it leads or follows.
    pub(crate) fn new(
        broker: BrokerId,
        lag_ms_max: i64,
        config: &LogConfig,
        log: RecoveredLog,
    ) -> Self {
        let high_watermark = log.high_watermark.min(log.durable_end).max(log.log_start);
        let positions = Positions {
            log_start: log.log_start,
            last_stable: high_watermark,
            high_watermark,
            durable_end: log.durable_end.max(high_watermark),
            log_end: log.log_end,
        };
        let settings = ReplicaSettings { broker, durability: durability_of(config), lag_ms_max };
        Self {
            replica: Replica::new(settings, positions),
            waiting: Waiting::default(),
            rot: None,
            leader: None,
            isr: Vec::new(),
            has_followers: false,
        }
    }

    /// The metadata's word.
    pub(crate) fn on_role(&mut self, role: PartitionRole, now_ms: i64) -> RoleChange {
        let (leader, isr) = (role.leader, role.isr.clone());
        let has_followers = role.replicas.len() > 1;
        let change = self.replica.on_assignment(assignment(role), now_ms);
        if change != RoleChange::Stale {
            (self.leader, self.isr, self.has_followers) = (leader, isr, has_followers);
        }
        change
    }

    /// The role as everybody sees it.
    pub(crate) fn view(&self) -> RoleView {
        let (name, epoch_start) = match self.replica.role() {
            Role::Leader(leader) => (RoleName::Leader, leader.epoch_start()),
            Role::Follower(_) => (RoleName::Follower, Offset(0)),
            Role::Offline(_) => (RoleName::Offline, Offset(0)),
        };
        RoleView {
            name,
            leader: self.leader,
            leader_epoch: self.replica.leader_epoch(),
            partition_epoch: self.replica.partition_epoch(),
            isr: self.isr.clone(),
            epoch_start,
        }
    }

    pub(crate) fn positions(&self) -> &Positions {
        self.replica.positions()
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.positions().high_watermark
    }

    pub(crate) fn leader(&self) -> Option<&LeaderReplica> {
        match self.replica.role() {
            Role::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    pub(crate) fn leader_mut(&mut self) -> Option<&mut LeaderReplica> {
        self.replica.leader_mut()
    }

    pub(crate) fn follower(&self) -> Option<&FollowerReplica> {
        match self.replica.role() {
            Role::Follower(follower) => Some(follower),
            _ => None,
        }
    }

    pub(crate) fn follower_mut(&mut self) -> Option<&mut FollowerReplica> {
        self.replica.follower_mut()
    }

    /// Whether a broker is in sync, as committed.
    pub(crate) fn is_in_sync(&self, broker: BrokerId) -> bool {
        self.isr.contains(&broker)
    }

    /// Whether there is anybody who could follow.
    pub(crate) fn has_followers(&self) -> bool {
        self.has_followers
    }

    /// The controller's answer to a proposal. Whether it was news.
    pub(crate) fn on_isr_committed(&mut self, isr: Vec<BrokerId>, partition_epoch: i32) -> bool {
        let Some(leader) = self.replica.leader_mut() else { return false };
        let committed = leader.on_isr_committed(isr.iter().copied().collect(), partition_epoch);
        if committed.is_ok() {
            self.isr = isr;
        }
        committed.is_ok()
    }

    pub(crate) fn on_durable(&mut self, durable_end: Offset) {
        self.replica.on_durable(durable_end);
    }

    pub(crate) fn on_log_start(&mut self, log_start: Offset) {
        self.replica.on_log_start(log_start);
    }

    pub(crate) fn on_config(&mut self, config: &LogConfig) {
        self.replica.on_durability(durability_of(config));
    }

    /// Time passes. Whether a leader wants something by that.
    pub(crate) fn on_tick(&mut self, now_ms: i64) -> bool {
        self.replica.on_tick(now_ms);
        self.replica.leader_mut().is_some_and(|leader| leader.has_effects())
    }

    /// What the replica wants next.
    pub(crate) fn poll_wish(&mut self) -> Option<Wish> {
        Some(match self.replica.poll_effect()? {
            Effect::AdvanceHighWatermark(offset) => Wish::HighWatermark(offset),
            Effect::ProposeIsr(wish) => Wish::ProposeIsr(wish),
        })
    }
}

fn durability_of(config: &LogConfig) -> Durability {
    if config.write_caching { Durability::PageCache } else { Durability::Disk }
}

fn assignment(role: PartitionRole) -> Assignment {
    Assignment {
        leader: role.leader,
        leader_epoch: role.leader_epoch,
        partition_epoch: role.partition_epoch,
        replicas: role.replicas.into_iter().map(|place| (place.id, place.rack)).collect(),
        isr: role.isr.into_iter().collect(),
        rule: AckRule {
            replicas_min: role.min_insync_replicas,
            domains_min: role.min_insync_domains,
        },
    }
}
