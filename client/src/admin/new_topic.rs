//! What is to be created: topics, and further partitions of them.

use super::configs::ConfigEntry;
use std::collections::BTreeMap;
use varve_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use varve_protocol::vocabulary::TopicId;

/// A topic to create. What is not set is the broker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub(super) name: String,
    pub(super) partitions: Option<i32>,
    pub(super) replication_factor: Option<i16>,
    pub(super) assignments: BTreeMap<i32, Vec<i32>>,
    pub(super) configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        NewTopic { name: name.into(), ..Default::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the number of partitions.
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// Sets the number of replicas of each partition.
    pub fn replication_factor(mut self, count: i16) -> Self {
        self.replication_factor = Some(count);
        self
    }

    /// Sets one of the topic's configurations.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    /// Names the brokers of one partition, the preferred leader first, instead of leaving it to the broker. All
    /// partitions from 0 on must then be named.
    pub fn assignment(mut self, partition: i32, brokers: Vec<i32>) -> Self {
        self.assignments.insert(partition, brokers);
        self
    }

    pub(super) fn to_wire(&self) -> CreatableTopic {
        let assigned = !self.assignments.is_empty();
        CreatableTopic {
            name: self.name.clone(),
            num_partitions: if assigned { -1 } else { self.partitions.unwrap_or(-1) },
            replication_factor: if assigned { -1 } else { self.replication_factor.unwrap_or(-1) },
            assignments: self
                .assignments
                .iter()
                .map(|(partition, brokers)| CreatableReplicaAssignment {
                    partition_index: *partition,
                    broker_ids: brokers.clone(),
                    ..Default::default()
                })
                .collect(),
            configs: self
                .configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: name.clone(),
                    value: Some(value.clone()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }
}

/// A topic that was created, or would have been with `validate_only`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id; zero from brokers without topic ids.
    pub topic_id: TopicId,
    /// Number of partitions, if the broker says.
    pub partitions: Option<i32>,
    /// Number of replicas, if the broker says.
    pub replication_factor: Option<i16>,
    /// Its configuration, if the broker says.
    pub configs: Vec<ConfigEntry>,
}

/// More partitions for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    pub(super) topic: String,
    pub(super) total: i32,
    pub(super) assignments: Option<Vec<Vec<i32>>>,
}

impl NewPartitions {
    /// Raises the number of partitions of `topic` to `total`.
    pub fn up_to(topic: impl Into<String>, total: i32) -> Self {
        NewPartitions { topic: topic.into(), total, assignments: None }
    }

    /// Names the brokers of each new partition.
    pub fn assignments(mut self, brokers: Vec<Vec<i32>>) -> Self {
        self.assignments = Some(brokers);
        self
    }
}
