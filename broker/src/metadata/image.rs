//! The metadata image: a value that holds all that the metadata log says, up to some index.
//!
//! Applying a record never fails on a log that this broker wrote; on a log that is damaged in a way
//! which checksums do not see, or that another version wrote, it fails rather than guess.
//! Images share what is equal in them: a copy is a few pointers, its first change to a topic costs
//! one pointer a topic.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use varve_protocol::vocabulary::{
    BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition,
};

use super::broker_image::BrokerImage;
use super::codec;
use super::delta::Delta;
use super::record::{
    BrokerChangeRecord, ConfigRecord, ConfigTarget, MetadataRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdBlockRecord, RegisterBrokerRecord, TopicRecord,
};
use super::topic_image::{PartitionImage, TopicImage};
use crate::topic_config::ConfigMap;

/// All metadata, as of one index of the metadata log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataImage {
    cluster_id: Arc<str>,
    brokers: BTreeMap<BrokerId, Arc<BrokerImage>>,
    topics: Arc<BTreeMap<TopicId, Arc<TopicImage>>>,
    /// Invariant: exactly the names of `topics`.
    ids_by_name: Arc<HashMap<Arc<str>, TopicId>>,
    /// The names with `.` read as `_`, which must not collide in metric names.
    ids_by_folded_name: Arc<HashMap<Arc<str>, TopicId>>,
    /// Invariant: the sum of the partitions of `topics`.
    partition_count: usize,
    broker_configs: BTreeMap<BrokerId, Arc<ConfigMap>>,
    cluster_configs: Arc<ConfigMap>,
    producer_ids: Option<ProducerIdBlockRecord>,
    broker_epoch_last: i64,
    /// Invariant: at least the number of `topics`.
    topics_created: u64,
}

/// A record that does not fit the image: damage, or a mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The record names a topic that the image does not have.
    #[error("a {record} record names topic id {topic_id}, which does not exist")]
    UnknownTopic {
        /// The kind of record.
        record: &'static str,
        /// The topic.
        topic_id: TopicId,
    },
    /// The record names a partition that the image does not have.
    #[error("a record changes partition {0}, which does not exist")]
    UnknownPartition(TopicIdPartition),
    /// The record names a broker, or a registration of one, that the image does not have.
    #[error("a record changes broker {0}, which is not registered with that epoch")]
    UnknownBroker(BrokerId),
    /// A new partition is not the topic's next.
    #[error("a record adds partition {found}, but the topic has {partition_count} partitions")]
    PartitionOutOfOrder {
        /// The partition.
        found: TopicIdPartition,
        /// How many the topic has.
        partition_count: usize,
    },
    /// A topic's id or name is taken.
    #[error("a record creates topic {name} with id {id}, but the name or the id exists")]
    TopicExists {
        /// The id.
        id: TopicId,
        /// The name.
        name: String,
    },
    /// A second, different cluster id.
    #[error("a record names cluster {found}, but this log belongs to cluster {expected}")]
    OtherCluster {
        /// The record's.
        found: String,
        /// The image's.
        expected: String,
    },
    /// Producer ids went back.
    #[error("a record hands out producer ids below {found}, but those below {next} are taken")]
    ProducerIdsGoBack {
        /// The record's.
        found: i64,
        /// The image's.
        next: i64,
    },
}

impl MetadataImage {
    /// The cluster's id in Kafka's text form; empty before the first record.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// A topic by name. Does not allocate.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.ids_by_name.get(name).and_then(|id| self.topics.get(id))
    }

    /// A topic by id. Does not allocate.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// A topic's id by name. Does not allocate.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.ids_by_name.get(name).copied()
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, partition: &TopicIdPartition) -> Option<&PartitionImage> {
        self.topics.get(&partition.topic_id)?.partition(partition.partition)
    }

    /// All topics, by id.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// All topics, by name.
    #[must_use]
    pub fn topics_by_name(&self) -> Vec<&Arc<TopicImage>> {
        let mut topics: Vec<_> = self.topics.values().collect();
        topics.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        topics
    }

    /// The topic whose name is the same once `.` is read as `_`, if there is one.
    #[must_use]
    pub fn topic_colliding_with(&self, name: &str) -> Option<&Arc<TopicImage>> {
        let id = self.ids_by_folded_name.get(&*fold_name(name))?;
        self.topics.get(id)
    }

    /// The number of topics.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// One broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// All brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// The number of registered brokers.
    #[must_use]
    pub fn broker_count(&self) -> usize {
        self.brokers.len()
    }

    /// The dynamic values of one broker.
    #[must_use]
    pub fn broker_configs(&self, id: BrokerId) -> Option<&ConfigMap> {
        self.broker_configs.get(&id).map(Arc::as_ref)
    }

    /// The dynamic values of all brokers.
    #[must_use]
    pub fn cluster_configs(&self) -> &ConfigMap {
        &self.cluster_configs
    }

    /// The first producer id that nobody has been given.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.producer_ids.map_or(0, |block| block.next)
    }

    /// The highest epoch that a broker has registered with.
    #[must_use]
    pub fn broker_epoch_last(&self) -> i64 {
        self.broker_epoch_last
    }

    /// How many topics were ever created, those included that are gone.
    #[must_use]
    pub fn topics_created(&self) -> u64 {
        self.topics_created
    }

    /// Applies one record and notes what it changed in `delta`.
    ///
    /// # Errors
    /// [`ApplyError`] when the record contradicts the image, which stays as it was.
    pub fn apply(&mut self, record: &MetadataRecord, delta: &mut Delta) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::ClusterId(id) => self.apply_cluster_id(id),
            MetadataRecord::RegisterBroker(broker) => {
                self.apply_broker(broker, delta);
                Ok(())
            }
            MetadataRecord::BrokerChange(change) => self.apply_broker_change(change, delta),
            MetadataRecord::RemoveBroker(id) => {
                self.brokers.remove(id).ok_or(ApplyError::UnknownBroker(*id))?;
                delta.brokers.insert(*id);
                Ok(())
            }
            MetadataRecord::Topic(topic) => self.apply_topic(topic, delta),
            MetadataRecord::Partition(partition) => self.apply_partition(partition, delta),
            MetadataRecord::PartitionChange(change) => self.apply_partition_change(change, delta),
            MetadataRecord::RemoveTopic(id) => self.apply_remove_topic(*id, delta),
            MetadataRecord::Config(config) => self.apply_config(config, delta),
            MetadataRecord::ProducerIdBlock(block) => self.apply_producer_ids(*block),
            MetadataRecord::TopicsCreated(count) => {
                self.topics_created = self.topics_created.max(*count);
                Ok(())
            }
        }
    }

    /// Applies records in order.
    ///
    /// # Errors
    /// [`ApplyError`] of the first record that does not fit; those before it stay applied.
    pub fn apply_all(&mut self, records: &[MetadataRecord]) -> Result<Delta, ApplyError> {
        let mut delta = Delta::default();
        for record in records {
            self.apply(record, &mut delta)?;
        }
        Ok(delta)
    }

    /// The image as records: applied to an empty image they give an equal one. The same image gives
    /// the same records in the same order.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::with_capacity(self.partition_count + 2 * self.topics.len() + 4);
        if !self.cluster_id.is_empty() {
            records.push(MetadataRecord::ClusterId(self.cluster_id.to_string()));
        }
        // By epoch, so that replay meets each registration in the order in which it happened.
        let mut brokers: Vec<_> = self.brokers.values().collect();
        brokers.sort_by_key(|broker| broker.epoch);
        records.extend(brokers.into_iter().map(|broker| broker_record(broker)));
        records.extend(config_records(ConfigTarget::Cluster, &self.cluster_configs));
        for (id, configs) in &self.broker_configs {
            records.extend(config_records(ConfigTarget::Broker(*id), configs));
        }
        for topic in self.topics.values() {
            push_topic_records(topic, &mut records);
        }
        records.extend(self.producer_ids.map(MetadataRecord::ProducerIdBlock));
        if self.topics_created > 0 {
            records.push(MetadataRecord::TopicsCreated(self.topics_created));
        }
        records
    }

    /// A fingerprint: equal for equal images, on every broker and machine.
    #[must_use]
    pub fn hash(&self) -> u64 {
        // FNV-1a, 64 bits, over the encoded records.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut bytes = Vec::new();
        for record in self.to_records() {
            bytes.clear();
            codec::encode_record(&record, &mut bytes);
            for byte in &bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        hash
    }

    fn apply_cluster_id(&mut self, id: &str) -> Result<(), ApplyError> {
        if !self.cluster_id.is_empty() && &*self.cluster_id != id {
            let expected = self.cluster_id.to_string();
            return Err(ApplyError::OtherCluster { found: id.to_owned(), expected });
        }
        self.cluster_id = Arc::from(id);
        Ok(())
    }

    fn apply_broker(&mut self, record: &RegisterBrokerRecord, delta: &mut Delta) {
        let image = BrokerImage {
            id: record.id,
            incarnation: record.incarnation,
            epoch: record.epoch,
            rack: record.rack.clone(),
            endpoints: record.endpoints.clone(),
            directory: record.directory,
            is_fenced: record.is_fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            is_draining: record.is_draining,
        };
        self.broker_epoch_last = self.broker_epoch_last.max(record.epoch);
        let rack = image.rack.clone();
        let before = self.brokers.insert(record.id, Arc::new(image));
        delta.brokers.insert(record.id);
        if before.is_some_and(|before| before.rack != rack) {
            delta.racks_changed.insert(record.id);
        }
    }

    fn apply_broker_change(
        &mut self,
        record: &BrokerChangeRecord,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let broker = self.brokers.get_mut(&record.id);
        let broker = broker.filter(|broker| broker.epoch == record.epoch);
        let broker = Arc::make_mut(broker.ok_or(ApplyError::UnknownBroker(record.id))?);
        broker.is_fenced = record.is_fenced.unwrap_or(broker.is_fenced);
        broker.is_draining = record.is_draining.unwrap_or(broker.is_draining);
        broker.in_controlled_shutdown =
            record.in_controlled_shutdown.unwrap_or(broker.in_controlled_shutdown);
        delta.brokers.insert(record.id);
        Ok(())
    }

    fn apply_topic(&mut self, record: &TopicRecord, delta: &mut Delta) -> Result<(), ApplyError> {
        let TopicRecord { id, name, is_internal } = record;
        if self.topics.contains_key(id) || self.ids_by_name.contains_key(name.as_str()) {
            return Err(ApplyError::TopicExists { id: *id, name: name.clone() });
        }
        let name: Arc<str> = Arc::from(name.as_str());
        let topic = TopicImage {
            id: *id,
            name: name.clone(),
            is_internal: *is_internal,
            partitions: Vec::new(),
            configs: ConfigMap::new(),
        };
        Arc::make_mut(&mut self.ids_by_folded_name).insert(fold_name(&name), *id);
        Arc::make_mut(&mut self.ids_by_name).insert(name, *id);
        Arc::make_mut(&mut self.topics).insert(*id, Arc::new(topic));
        self.topics_created += 1;
        delta.topics_created.insert(*id);
        Ok(())
    }

    fn apply_partition(
        &mut self,
        record: &PartitionRecord,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let (topic_id, partition) = (record.topic_id, record.partition);
        let topic = topic_mut(&mut self.topics, topic_id, "partition")?;
        let name = TopicIdPartition { topic_id, partition };
        let partition_count = topic.partitions.len();
        if partition != PartitionIndex(topic.partition_count()) {
            return Err(ApplyError::PartitionOutOfOrder { found: name, partition_count });
        }
        topic.partitions.push(PartitionImage {
            replicas: record.replicas.clone(),
            directories: record.directories.clone(),
            isr: record.isr.clone(),
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            elr: record.elr.clone(),
            adding: record.adding.clone(),
            removing: record.removing.clone(),
        });
        self.partition_count += 1;
        delta.partitions_created.insert(name);
        Ok(())
    }

    fn apply_partition_change(
        &mut self,
        record: &PartitionChangeRecord,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let (topic_id, partition) = (record.topic_id, record.partition);
        let name = TopicIdPartition { topic_id, partition };
        let topic = topic_mut(&mut self.topics, topic_id, "partition change")?;
        let index = usize::try_from(partition.0).ok();
        let Some(image) = index.and_then(|index| topic.partitions.get_mut(index)) else {
            return Err(ApplyError::UnknownPartition(name));
        };
        if let Some(leader) = record.leader {
            image.leader = leader;
            image.leader_epoch = LeaderEpoch(image.leader_epoch.0 + 1);
        }
        if let Some(isr) = &record.isr {
            image.isr.clone_from(isr);
        }
        if let Some(replicas) = &record.replicas {
            (image.replicas, image.directories) = replicas.iter().copied().unzip();
        }
        for (known, new) in [
            (&mut image.elr, &record.elr),
            (&mut image.adding, &record.adding),
            (&mut image.removing, &record.removing),
        ] {
            if let Some(new) = new {
                known.clone_from(new);
            }
        }
        image.partition_epoch += 1;
        if !delta.partitions_created.contains(&name) {
            delta.partitions_changed.insert(name);
        }
        Ok(())
    }

    fn apply_remove_topic(&mut self, id: TopicId, delta: &mut Delta) -> Result<(), ApplyError> {
        let Some(topic) = Arc::make_mut(&mut self.topics).remove(&id) else {
            return Err(ApplyError::UnknownTopic { record: "remove topic", topic_id: id });
        };
        Arc::make_mut(&mut self.ids_by_name).remove(&topic.name);
        let folded = fold_name(&topic.name);
        if self.ids_by_folded_name.get(&folded) == Some(&id) {
            Arc::make_mut(&mut self.ids_by_folded_name).remove(&folded);
        }
        self.partition_count -= topic.partitions.len();
        for partition in topic.topic_id_partitions() {
            delta.partitions_created.remove(&partition);
            delta.partitions_changed.remove(&partition);
        }
        delta.topic_configs_changed.remove(&id);
        if !delta.topics_created.remove(&id) {
            delta.topics_removed.push(topic);
        }
        Ok(())
    }

    fn apply_config(&mut self, record: &ConfigRecord, delta: &mut Delta) -> Result<(), ApplyError> {
        match record.target {
            ConfigTarget::Topic(id) => {
                let topic = topic_mut(&mut self.topics, id, "config")?;
                set_config(&mut topic.configs, record);
                if !delta.topics_created.contains(&id) {
                    delta.topic_configs_changed.insert(id);
                }
            }
            ConfigTarget::Broker(id) => {
                let configs = self.broker_configs.entry(id).or_default();
                set_config(Arc::make_mut(configs), record);
                if configs.is_empty() {
                    self.broker_configs.remove(&id);
                }
                delta.broker_configs_changed = true;
            }
            ConfigTarget::Cluster => {
                set_config(Arc::make_mut(&mut self.cluster_configs), record);
                delta.broker_configs_changed = true;
            }
        }
        Ok(())
    }

    fn apply_producer_ids(&mut self, block: ProducerIdBlockRecord) -> Result<(), ApplyError> {
        let next = self.next_producer_id();
        if block.next < next {
            return Err(ApplyError::ProducerIdsGoBack { found: block.next, next });
        }
        self.producer_ids = Some(block);
        Ok(())
    }
}

/// Kafka's rule: `.` and `_` are the same in metric names.
fn fold_name(name: &str) -> Arc<str> {
    Arc::from(name.replace('.', "_"))
}

fn topic_mut<'a>(
    topics: &'a mut Arc<BTreeMap<TopicId, Arc<TopicImage>>>,
    topic_id: TopicId,
    record: &'static str,
) -> Result<&'a mut TopicImage, ApplyError> {
    // Copies the map and the topic when an older image shares them, once in a batch.
    let topic = Arc::make_mut(topics).get_mut(&topic_id).map(Arc::make_mut);
    topic.ok_or(ApplyError::UnknownTopic { record, topic_id })
}

fn set_config(configs: &mut ConfigMap, record: &ConfigRecord) {
    match &record.value {
        Some(value) => configs.insert(record.name.clone(), value.clone()),
        None => configs.remove(&record.name),
    };
}

fn broker_record(broker: &BrokerImage) -> MetadataRecord {
    MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        id: broker.id,
        incarnation: broker.incarnation,
        epoch: broker.epoch,
        rack: broker.rack.clone(),
        endpoints: broker.endpoints.clone(),
        directory: broker.directory,
        is_fenced: broker.is_fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
        is_draining: broker.is_draining,
    })
}

fn config_records(
    target: ConfigTarget,
    configs: &ConfigMap,
) -> impl Iterator<Item = MetadataRecord> + '_ {
    configs.iter().map(move |(name, value)| {
        MetadataRecord::Config(ConfigRecord {
            target,
            name: name.clone(),
            value: Some(value.clone()),
        })
    })
}

fn push_topic_records(topic: &TopicImage, records: &mut Vec<MetadataRecord>) {
    records.push(MetadataRecord::Topic(TopicRecord {
        id: topic.id,
        name: topic.name.to_string(),
        is_internal: topic.is_internal,
    }));
    for (name, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
        records.push(MetadataRecord::Partition(PartitionRecord {
            topic_id: name.topic_id,
            partition: name.partition,
            replicas: partition.replicas.clone(),
            directories: partition.directories.clone(),
            isr: partition.isr.clone(),
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            elr: partition.elr.clone(),
            adding: partition.adding.clone(),
            removing: partition.removing.clone(),
        }));
    }
    records.extend(config_records(ConfigTarget::Topic(topic.id), &topic.configs));
}
