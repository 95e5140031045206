//! What the metadata knows of one topic and its partitions.

use std::sync::Arc;

use varve_protocol::vocabulary::{
    BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition,
};

use crate::topic_config::ConfigMap;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its id, never used again.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// Whether the broker itself keeps it.
    pub is_internal: bool,
    /// Its partitions; number `n` is at index `n`.
    pub partitions: Vec<PartitionImage>,
    /// Its own configuration values.
    pub configs: ConfigMap,
}

impl TopicImage {
    /// One partition.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionImage> {
        usize::try_from(index.0).ok().and_then(|index| self.partitions.get(index))
    }

    /// The number of partitions, as the wire counts them.
    #[must_use]
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("the planner bounds a topic's partitions")
    }

    /// Every partition's name.
    pub fn topic_id_partitions(&self) -> impl Iterator<Item = TopicIdPartition> + '_ {
        let topic_id = self.id;
        (0..self.partition_count())
            .map(move |index| TopicIdPartition { topic_id, partition: PartitionIndex(index) })
    }

    /// The number of replicas of the first partition, as the wire counts them.
    #[must_use]
    pub fn replication_factor(&self) -> i16 {
        let replicas = self.partitions.first().map_or(0, |first| first.replicas.len());
        i16::try_from(replicas).unwrap_or(i16::MAX)
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// Who holds it; the first one is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// The directory of each replica, in the order of `replicas`.
    pub directories: Vec<u128>,
    /// The replicas in sync.
    ///
    /// Invariant: a subset of `replicas`.
    pub isr: Vec<BrokerId>,
    /// The leader; none while no eligible replica lives.
    ///
    /// Invariant: in `isr`, if there is one.
    pub leader: Option<BrokerId>,
    /// Grows with every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of this partition.
    pub partition_epoch: i32,
    /// Replicas that are out of sync and still hold all that is committed, since nothing was
    /// committed without them (KIP-966).
    ///
    /// Invariant: a subset of `replicas` without `isr`; empty unless `isr` is smaller than
    /// `min.insync.replicas`.
    pub elr: Vec<BrokerId>,
    /// Those of `replicas` that a reassignment is adding.
    pub adding: Vec<BrokerId>,
    /// Those of `replicas` that a reassignment will remove.
    pub removing: Vec<BrokerId>,
}

impl PartitionImage {
    /// Whether a reassignment is under way.
    #[must_use]
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}
