//! The controller's decisions: a wish and the image give records, or the reason why not.
//!
//! Pure: ids and limits come in, records go out, nothing is applied here. Each function answers
//! one wish, so that a batch of wishes is planned one after the other on an image that already
//! holds what was decided before.

mod brokers;
mod configs;
mod error;
mod failover;
mod partitions;
mod producer_ids;
mod topics;

pub use brokers::{BrokerRegistration, RegisterRefused, check_registration, plan_register_broker};
pub use configs::{ConfigChange, ConfigEdits, ConfigError, ConfigResource, plan_config_change};
pub use error::TopicError;
pub use failover::{
    AlteredPartition, IsrChange, choose_leader, plan_alter_partition, plan_fence,
    plan_preferred_leaders, plan_register_member, plan_shutdown, plan_unfence,
};
pub use partitions::{NewPartitions, plan_create_partitions};
pub use producer_ids::{PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock, plan_producer_ids};
pub use topics::{
    NewTopic, PlannedTopic, ReplicaAssignment, TopicSelector, plan_create_topic, plan_delete_topic,
};

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

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

/// The record of a new partition whose replicas are all in sync, led by the first one.
fn partition_record(topic_id: TopicId, index: usize, replicas: Vec<BrokerId>) -> PartitionRecord {
    let partition = PartitionIndex(i32::try_from(index).expect("a topic's partitions are bounded"));
    PartitionRecord {
        topic_id,
        partition,
        directories: vec![DIRECTORY_UNASSIGNED; replicas.len()],
        isr: replicas.clone(),
        leader: replicas.first().copied(),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        elr: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
        replicas,
    }
}
