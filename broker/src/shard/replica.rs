//! The words between a log shard and whoever carries replication over the wire.
//!
//! A shard decides what its replicas do; carrying it is the business of `broker::replica`:
//!
//! ```text
//! leader                                             follower
//! append ─► Outbox::mark ─► session reads the log ─► fetcher ─► Partitions::replica_append
//!   ▲                                                    ▲               │ FetchPosition
//!   │ Partitions::follower_progress                      └───────────────┘
//!   └──────────────── ReplicaEvents::on_follower_durable ◄── group commit
//! on_isr_proposals ─► controller ─► Partitions::isr_answered
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use varve_storage::DirectoryFailed;

/// What the metadata says of a partition that lies here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRole {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// Who leads it; none while no eligible replica lives.
    pub leader: Option<BrokerId>,
    /// Grows with every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of the partition.
    pub partition_epoch: i32,
    /// Who holds it, this broker among them.
    pub replicas: Vec<ReplicaPlace>,
    /// The replicas in sync.
    pub isr: Vec<BrokerId>,
    /// So many replicas must be in sync for `acks=all`.
    pub min_insync_replicas: usize,
    /// In so many failure domains must they lie.
    pub min_insync_domains: usize,
}

impl PartitionRole {
    /// Led by the only replica.
    #[cfg(test)]
    pub(crate) fn alone(
        partition: TopicIdPartition,
        broker: BrokerId,
        leader_epoch: LeaderEpoch,
    ) -> Self {
        Self {
            partition,
            leader: Some(broker),
            leader_epoch,
            partition_epoch: 0,
            replicas: vec![ReplicaPlace { id: broker, rack: None }],
            isr: vec![broker],
            min_insync_replicas: 1,
            min_insync_domains: 1,
        }
    }
}

/// A replica and its failure domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaPlace {
    /// Which broker.
    pub id: BrokerId,
    /// Its rack; brokers without one share one domain.
    pub rack: Option<Arc<str>>,
}

/// What this broker is to a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleName {
    /// Clients and followers come here.
    Leader,
    /// It fetches from the leader.
    Follower,
    /// There is no leader, or it is not known yet.
    #[default]
    Offline,
}

/// A partition's role as everybody sees it; replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleView {
    /// What this broker is.
    pub name: RoleName,
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Of the last change.
    pub partition_epoch: i32,
    /// The replicas in sync, as committed.
    pub isr: Vec<BrokerId>,
    /// Where the epoch of this leader began; 0 if it does not lead. Until its high watermark has
    /// reached this, earlier leaders may have committed more than it knows (KIP-207).
    pub epoch_start: Offset,
}

/// From where a follower reads its leader. The leader compares the epoch with its own log and
/// answers with what differs, before anything is appended (KIP-279, KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// From whom.
    pub leader: BrokerId,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The log's end.
    pub fetch_offset: Offset,
    /// The epoch of the last record; −1 if there is none.
    pub last_fetched_epoch: LeaderEpoch,
}

/// What a leader answered to a fetch of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It has these batches; none if there is only news of its positions.
    Records {
        /// Whole batches, one behind the other, as the leader has them.
        records: Bytes,
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
    /// The follower's position is not within the leader's log.
    OutOfRange {
        /// Where the leader's log begins.
        log_start: Offset,
    },
}

/// A leader's answer, for the partition's shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaAppend {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The position that was asked for. If the log ends elsewhere by now the answer is dropped.
    pub fetch_offset: Offset,
    /// The answer.
    pub fetched: Fetched,
}

/// Why a leader's answer was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplicaAppendError {
    /// This broker does not follow in that epoch (any more): nothing more is to be fetched until
    /// [`ReplicaEvents::on_follow`] says so.
    #[error("the partition is not followed here in that epoch")]
    NotFollower,
    /// What came is not what a leader would send. It may be fetched again, after a while.
    #[error("the leader's answer does not fit: {0}")]
    Refused(String),
    /// What came was damaged on its way, or at the leader. It may be fetched again, after a while.
    #[error("the leader's answer is damaged: {0}")]
    Damaged(String),
    /// This replica's own log is not what was written, at or before that offset, where it was to be cut. It
    /// leaves the in-sync replicas; to be fetched again, after a while.
    #[error("the own log is damaged at or before offset {0}")]
    Rotten(Offset),
    /// The disk is full: to be fetched again, after a while.
    #[error("the disk is full")]
    DiskFull,
    /// A write or sync failed; nothing is appended here any more.
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
    /// The broker ends.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

/// How far a follower is with one partition, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerProgress {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// The epoch in which it follows.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub log_end: Offset,
    /// Up to where that is on stable storage.
    pub durable_end: Offset,
    /// Where its log begins, after a restart too.
    pub log_start: Offset,
}

/// How far this broker is with a partition that it follows; to be told to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableProgress {
    /// Whom to tell.
    pub leader: BrokerId,
    /// What.
    pub progress: FollowerProgress,
}

/// In-sync replicas that a leader here asks the controller for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedIsr {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// The epoch in which this broker leads it.
    pub leader_epoch: LeaderEpoch,
    /// The epoch that the change is made to; at any other the controller refuses it.
    pub partition_epoch: i32,
    /// The set, each with the epoch of its broker as it told itself; −1 if it is not known
    /// (KIP-903).
    pub isr: BTreeMap<BrokerId, i64>,
}

impl ProposedIsr {
    /// Whether it was made before the partition got these epochs, and can be committed no more.
    pub(crate) fn is_before(&self, leader_epoch: LeaderEpoch, partition_epoch: i32) -> bool {
        (self.leader_epoch, self.partition_epoch) < (leader_epoch, partition_epoch)
    }
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrAnswer {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// The epoch in which this broker asked.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the partition that it asked to change.
    pub partition_epoch: i32,
    /// The verdict.
    pub verdict: IsrVerdict,
}

/// See [`IsrAnswer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsrVerdict {
    /// The controller committed this, which may be another set than asked for.
    Committed {
        /// The in-sync replicas.
        isr: Vec<BrokerId>,
        /// The epoch of the commit.
        partition_epoch: i32,
    },
    /// It was not committed and never will be: a member's broker epoch or state stands against it.
    /// The leader looks again and may ask again.
    Refused,
    /// The partition has moved on: the metadata has told the leader what is true, and the proposal is
    /// no more.
    Stale,
}

/// Who carries replication. Called from log shards' threads: nothing here may block.
pub trait ReplicaEvents: Debug + Send + Sync + 'static {
    /// These partitions of a shard are followed now, from these positions; what was known of them
    /// before (another leader, another epoch) is void.
    fn on_follow(&self, shard: usize, positions: Vec<FetchPosition>);

    /// These partitions of a shard are not followed any more.
    fn on_unfollow(&self, shard: usize, partitions: Vec<TopicIdPartition>);

    /// A commit has run, or a partition was reconciled with its leader: to be told to the leaders.
    /// Later progress of a partition makes earlier progress void.
    fn on_follower_durable(&self, shard: usize, progress: Vec<DurableProgress>);

    /// To be asked of the controller, again and again until it answers or the metadata shows another
    /// epoch of the partition; a later proposal for a partition makes an earlier one void.
    fn on_isr_proposals(&self, proposals: Vec<ProposedIsr>);
}

/// A session of a follower that wants to know which of its partitions have grown.
pub trait Outbox: Debug + Send + Sync + 'static {
    /// The partition that the session calls `slot` has new records or another role. Called from its
    /// shard's thread: must not block.
    fn mark(&self, slot: u32);
}
