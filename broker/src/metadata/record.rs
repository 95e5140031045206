//! The records of the metadata log: each one fact, applied in order.
//!
//! A record never depends on a clock or on chance at the time that it is applied: ids and times
//! are in it. Their bytes are in `codec`.

use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use super::broker_image::Endpoint;

/// One fact of the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The cluster's id, once, before everything else.
    ClusterId(String),
    /// A broker has started: its identity and where it listens.
    RegisterBroker(RegisterBrokerRecord),
    /// A registered broker is alive, dead, ending or in maintenance.
    BrokerChange(BrokerChangeRecord),
    /// A broker is gone for good.
    RemoveBroker(BrokerId),
    /// A topic without partitions; its partitions follow in the same batch.
    Topic(TopicRecord),
    /// A new partition of a topic.
    Partition(PartitionRecord),
    /// New facts of an existing partition.
    PartitionChange(PartitionChangeRecord),
    /// A topic, its partitions and its configuration are gone.
    RemoveTopic(TopicId),
    /// One configuration value, or its removal.
    Config(ConfigRecord),
    /// Producer ids below this have been handed out.
    ProducerIdBlock(ProducerIdBlockRecord),
    /// How many topics were ever created; only in snapshots, which do not have the removed ones.
    TopicsCreated(u64),
}

/// A broker has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBrokerRecord {
    /// Which broker.
    pub id: BrokerId,
    /// Of this run of the process.
    pub incarnation: u128,
    /// Grows with every registration in the cluster.
    pub epoch: i64,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Where it listens, by listener name.
    pub endpoints: Vec<Endpoint>,
    /// The id of its data directory; 0 in records of before directories had ids.
    pub directory: u128,
    /// Whether it counts as dead until its heartbeats say otherwise.
    pub is_fenced: bool,
    /// Whether it is about to end in order; only in snapshots.
    pub in_controlled_shutdown: bool,
    /// Whether it is in maintenance.
    pub is_draining: bool,
}

/// New facts of a registered broker; what is none stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerChangeRecord {
    /// Which broker.
    pub id: BrokerId,
    /// Of its registration; at any other the record does not fit.
    pub epoch: i64,
    /// Whether it counts as dead.
    pub is_fenced: Option<bool>,
    /// Whether it is about to end in order.
    pub in_controlled_shutdown: Option<bool>,
    /// Whether it is in maintenance.
    pub is_draining: Option<bool>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its id, never used again.
    pub id: TopicId,
    /// Its name, valid by Kafka's rules.
    pub name: String,
    /// Whether the broker itself keeps it.
    pub is_internal: bool,
}

/// A new partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRecord {
    /// The topic.
    pub topic_id: TopicId,
    /// Its number, the next one of the topic.
    pub partition: PartitionIndex,
    /// Who holds it; the first one is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// The directory of each replica, in the order of `replicas`.
    pub directories: Vec<u128>,
    /// The replicas in sync.
    pub isr: Vec<BrokerId>,
    /// The leader; none while no eligible replica lives.
    pub leader: Option<BrokerId>,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of this partition.
    pub partition_epoch: i32,
    /// Replicas that are out of sync and still hold all that is committed (KIP-966).
    pub elr: Vec<BrokerId>,
    /// Those of `replicas` that a reassignment is adding.
    pub adding: Vec<BrokerId>,
    /// Those of `replicas` that a reassignment will remove.
    pub removing: Vec<BrokerId>,
}

/// New facts of a partition; what is none stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionChangeRecord {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The new leader, which also starts a new leader epoch; `Some(None)` for no leader.
    pub leader: Option<Option<BrokerId>>,
    /// The new in-sync replicas.
    pub isr: Option<Vec<BrokerId>>,
    /// The new replicas with the directory of each.
    pub replicas: Option<Vec<(BrokerId, u128)>>,
    /// The new eligible leader replicas.
    pub elr: Option<Vec<BrokerId>>,
    /// The replicas that a reassignment is adding.
    pub adding: Option<Vec<BrokerId>>,
    /// The replicas that a reassignment will remove.
    pub removing: Option<Vec<BrokerId>>,
}

impl PartitionChangeRecord {
    /// Nothing new, yet.
    #[must_use]
    pub fn new(topic_id: TopicId, partition: PartitionIndex) -> Self {
        Self {
            topic_id,
            partition,
            leader: None,
            isr: None,
            replicas: None,
            elr: None,
            adding: None,
            removing: None,
        }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::new(self.topic_id, self.partition)
    }
}

/// What a configuration value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigTarget {
    /// One topic, by id, so that a topic recreated under the same name starts afresh.
    Topic(TopicId),
    /// One broker.
    Broker(BrokerId),
    /// All brokers.
    Cluster,
}

/// One configuration value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRecord {
    /// Whose.
    pub target: ConfigTarget,
    /// The key.
    pub name: String,
    /// The value; none removes it.
    pub value: Option<String>,
}

/// Producer ids handed to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlockRecord {
    /// The broker that may use them.
    pub broker: BrokerId,
    /// Its epoch when it asked.
    pub broker_epoch: i64,
    /// The first id that nobody has been given.
    pub next: i64,
}
