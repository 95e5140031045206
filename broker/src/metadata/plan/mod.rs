//! The controller's decisions: a wish and the image give records, or the reason why not.
//!
//! Pure: ids and limits come in, records go out, nothing is applied here. Each function answers
//! one wish, so that a batch of wishes is planned one after the other on an image that already
//! holds what was decided before.

mod brokers;
mod configs;
mod elections;
mod error;
mod in_sync;
mod partitions;
mod producer_ids;
mod reassign;
mod shape;
mod standing;
mod topics;

pub use brokers::{
    BrokerRegistration, RegisterRefused, RemovalRefused, check_registration, plan_register_broker,
    plan_register_member, plan_remove_broker,
};
pub use configs::{
    ConfigChange, ConfigEdits, ConfigError, ConfigResource, plan_config_change, plan_config_effects,
};
pub use elections::{Election, ElectionRefused, plan_election, plan_preferred_leaders, unbalanced};
pub use error::TopicError;
pub use in_sync::{AlteredPartition, IsrChange, plan_alter_partition};
pub use partitions::{NewPartitions, plan_create_partitions};
pub use producer_ids::{PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock, plan_producer_ids};
pub use reassign::{Reassignment, ReassignmentRefused, plan_reassignment};
pub use standing::{
    leads_nothing_movable, plan_fence, plan_maintenance, plan_shutdown, plan_unfence,
};
pub use topics::{
    NewTopic, PlannedTopic, ReplicaAssignment, TopicSelector, plan_create_topic, plan_delete_topic,
};

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use super::image::MetadataImage;
use super::record::PartitionRecord;
use crate::topic_config::StaticConfig;

/// The directory of a replica before brokers tell their directories apart.
pub const DIRECTORY_UNASSIGNED: u128 = 0;

/// What planning needs beside the image.
#[derive(Debug, Clone, Default)]
pub struct PlanSettings {
    /// What the broker's file sets: defaults of new topics, and the lowest layer of their
    /// configuration.
    pub fixed: StaticConfig,
    /// Bounds of what a cluster holds.
    pub limits: MetadataLimits,
}

/// Bounds of the metadata, so that no client can fill the memory or the disk with it.
#[derive(Debug, Clone, Copy)]
pub struct MetadataLimits {
    /// New partitions in one wish, as in Kafka.
    pub new_partitions_max: usize,
    /// Partitions of one topic.
    pub topic_partitions_max: usize,
    /// Partitions of all topics.
    pub partitions_max: usize,
}

impl Default for MetadataLimits {
    fn default() -> Self {
        Self { new_partitions_max: 10_000, topic_partitions_max: 100_000, partitions_max: 100_000 }
    }
}

/// The record of a new partition. Its replicas are in sync as far as they are alive, and the first of
/// these leads; if none is, the first that comes back will.
fn partition_record(
    image: &MetadataImage,
    topic_id: TopicId,
    index: usize,
    replicas: Vec<BrokerId>,
) -> PartitionRecord {
    let partition = PartitionIndex(i32::try_from(index).expect("a topic's partitions are bounded"));
    let is_active = |id: &&BrokerId| image.broker(**id).is_some_and(|broker| broker.is_active());
    let active: Vec<BrokerId> = replicas.iter().filter(is_active).copied().collect();
    let is_drained = |id: &BrokerId| image.broker(*id).is_some_and(|broker| broker.is_draining);
    let leader = active.iter().find(|id| !is_drained(id)).or(active.first()).copied();
    PartitionRecord {
        topic_id,
        partition,
        directories: vec![DIRECTORY_UNASSIGNED; replicas.len()],
        isr: if active.is_empty() { replicas.clone() } else { active },
        leader,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        elr: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
        replicas,
    }
}
