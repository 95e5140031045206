//! What an invariant may look at.

use std::sync::Arc;

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use varve_replication::quorum::QuorumStatus;
use varve_replication::{InSyncReplicas, Positions};
use varve_storage::Disk;

use crate::metadata::MetadataImage;
use crate::shard::{RoleView, ShardCore};

/// A member of the metadata quorum.
#[derive(Clone, Debug)]
pub struct MetadataView {
    /// Term, leader, positions.
    pub status: Arc<QuorumStatus>,
    /// The metadata that requests see, as of `shown`.
    pub image: Arc<MetadataImage>,
    /// The last entry that `image` shows.
    pub shown: u64,
    /// Who decides, as far as this broker knows.
    pub controller: Option<BrokerId>,
}

/// A replica of a partition.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// Its role as everybody sees it.
    pub role: RoleView,
    /// Where it stands.
    pub positions: Positions,
    /// On a leader: the in-sync replicas as it counts them.
    pub isr: Option<InSyncReplicas>,
    /// On a leader: what each follower told to have durable in this epoch.
    pub told: Vec<(BrokerId, Option<Offset>)>,
    /// On a follower: whether its leader has not contradicted its log.
    pub is_reconciled: bool,
    /// Tells logs apart that were made one after the other in one run.
    pub birth: u64,
    /// What the log itself says: start, durable end, end.
    pub log: (Offset, Offset, Offset),
    /// The log's epochs with their first offsets.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
}

impl ReplicaView {
    /// A replica as its shard knows it; `birth` tells its log from others of that name.
    pub(super) fn of<D: Disk, A>(
        core: &ShardCore<D, A>,
        tip: &TopicIdPartition,
        birth: u64,
    ) -> Option<Self> {
        let partition = core.partition(tip)?;
        let reader = core.reader(tip)?;
        let leader = partition.leader();
        let told = leader.map(|leader| {
            leader.followers().map(|(id, progress)| (id, progress.durable_end())).collect()
        });
        Some(Self {
            role: partition.view(),
            positions: *partition.positions(),
            isr: leader.map(|leader| leader.isr().clone()),
            told: told.unwrap_or_default(),
            is_reconciled: partition.follower().is_some_and(|one| one.is_reconciled()),
            birth,
            log: (reader.log_start(), reader.durable_end(), reader.log_end()),
            epochs: reader.epochs().iter().map(|at| (at.epoch, at.start_offset)).collect(),
        })
    }

    /// Whether [`Self::of`] would say the same again: most steps touch few replicas, if any.
    pub(super) fn is_still<D: Disk, A>(
        &self,
        core: &ShardCore<D, A>,
        tip: &TopicIdPartition,
        birth: u64,
    ) -> bool {
        let (Some(partition), Some(reader)) = (core.partition(tip), core.reader(tip)) else {
            return false;
        };
        let leader = partition.leader();
        let told = leader.into_iter().flat_map(|leader| leader.followers());
        self.positions == *partition.positions()
            && self.birth == birth
            && self.log == (reader.log_start(), reader.durable_end(), reader.log_end())
            && self.isr.as_ref() == leader.map(|leader| leader.isr())
            && told.map(|(id, progress)| (id, progress.durable_end())).eq(self.told.iter().copied())
            && self.is_reconciled == partition.follower().is_some_and(|one| one.is_reconciled())
            && self.role == partition.view()
            && self
                .epochs
                .iter()
                .copied()
                .eq(reader.epochs().iter().map(|at| (at.epoch, at.start_offset)))
    }
}

/// A coordinator that answers.
#[derive(Clone, Debug)]
pub struct CoordinatorView {
    /// Where its records are.
    pub partition: TopicIdPartition,
    /// In which leader epoch it was elected.
    pub epoch: LeaderEpoch,
    /// Its groups.
    pub groups: Vec<GroupView>,
}

/// A group, as its coordinator knows it.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// Its id.
    pub group: String,
    /// Its generation.
    pub generation: i32,
    /// Topics, partitions, committed offsets.
    pub offsets: Vec<(String, i32, i64)>,
}
