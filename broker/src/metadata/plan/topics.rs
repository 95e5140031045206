//! Creating and deleting topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_protocol::vocabulary::{BrokerId, TopicId};
use varve_replication::{Candidate, choose_replicas};

use super::super::image::MetadataImage;
use super::super::placement::{candidates, registered};
use super::super::record::{ConfigRecord, ConfigTarget, MetadataRecord, TopicRecord};
use super::super::topic_image::TopicImage;
use super::super::topic_name::{CLUSTER_METADATA, check_topic_name, is_internal_topic};
use super::configs::layers_of_cluster;
use super::error::TopicError;
use super::{PlanSettings, partition_record};
use crate::topic_config::{ConfigEdit, ConfigMap, alter_topic_configs};

/// A wish for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; none for the default.
    pub partition_count: Option<i32>,
    /// How many replicas of each; none for the default.
    pub replication_factor: Option<i16>,
    /// Replicas chosen by the client; empty to let the broker choose.
    pub assignments: Vec<ReplicaAssignment>,
    /// Configuration values.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with all defaults.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partition_count: None,
            replication_factor: None,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

/// Replicas of one partition, chosen by the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaAssignment {
    /// The partition's number.
    pub partition: i32,
    /// Its replicas, preferred leader first.
    pub brokers: Vec<i32>,
}

/// A topic that can be created.
#[derive(Debug, Clone)]
pub struct PlannedTopic {
    /// What creates it.
    pub records: Vec<MetadataRecord>,
    /// The topic's id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
    /// Its own configuration values.
    pub configs: ConfigMap,
}

/// How a client names a topic to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicSelector {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// Plans a topic under the new id `id`.
///
/// # Errors
/// [`TopicError`] when the wish contradicts the image, Kafka's rules or the limits.
pub fn plan_create_topic(
    image: &MetadataImage,
    settings: &PlanSettings,
    wish: &NewTopic,
    id: TopicId,
) -> Result<PlannedTopic, TopicError> {
    check_name(image, &wish.name)?;
    let configs = check_configs(image, settings, &wish.configs)?;
    let replicas = if wish.assignments.is_empty() {
        automatic_replicas(image, settings, wish)?
    } else {
        manual_replicas(wish, &registered(image))?
    };
    check_limits(image, settings, 0, replicas.len())?;
    let partition_count = i32::try_from(replicas.len()).expect("the limits are far below 2^31");
    let replication_factor = i16::try_from(replicas[0].len()).unwrap_or(i16::MAX);

    let mut records = Vec::with_capacity(1 + replicas.len() + configs.len());
    records.push(MetadataRecord::Topic(TopicRecord {
        id,
        name: wish.name.clone(),
        is_internal: is_internal_topic(&wish.name),
    }));
    let partitions = replicas.into_iter().enumerate();
    records.extend(partitions.map(|(index, replicas)| {
        MetadataRecord::Partition(partition_record(image, id, index, replicas))
    }));
    records.extend(configs.iter().map(|(name, value)| {
        MetadataRecord::Config(ConfigRecord {
            target: ConfigTarget::Topic(id),
            name: name.clone(),
            value: Some(value.clone()),
        })
    }));
    Ok(PlannedTopic { records, id, partition_count, replication_factor, configs })
}

/// Plans the end of a topic; answers it as it is.
///
/// # Errors
/// [`TopicError::UnknownTopic`] or [`TopicError::UnknownTopicId`]; [`TopicError::Internal`] for what
/// the broker keeps for itself, with which all committed offsets would go.
pub fn plan_delete_topic(
    image: &MetadataImage,
    selector: &TopicSelector,
) -> Result<(Vec<MetadataRecord>, Arc<TopicImage>), TopicError> {
    let topic = match selector {
        TopicSelector::Name(name) => image.topic(name).ok_or(TopicError::UnknownTopic)?,
        TopicSelector::Id(id) => image.topic_by_id(*id).ok_or(TopicError::UnknownTopicId)?,
    };
    if topic.is_internal {
        return Err(TopicError::Internal(topic.name.to_string()));
    }
    Ok((vec![MetadataRecord::RemoveTopic(topic.id)], topic.clone()))
}

/// Refuses more partitions than a wish, a topic or the cluster may have.
pub(super) fn check_limits(
    image: &MetadataImage,
    settings: &PlanSettings,
    existing: usize,
    added: usize,
) -> Result<(), TopicError> {
    let limits = &settings.limits;
    if added > limits.new_partitions_max {
        return Err(TopicError::TooManyNewPartitions);
    }
    if existing + added > limits.topic_partitions_max {
        return Err(TopicError::TooManyTopicPartitions(limits.topic_partitions_max));
    }
    let partition_count = image.partition_count();
    if partition_count + added > limits.partitions_max {
        let partitions_max = limits.partitions_max;
        return Err(TopicError::TooManyPartitions { partition_count, partitions_max });
    }
    Ok(())
}

/// Checks one partition's manual replicas.
pub(super) fn check_assignment(
    brokers: &[i32],
    candidates: &[Candidate],
    expected: Option<usize>,
) -> Result<Vec<BrokerId>, TopicError> {
    if brokers.is_empty() {
        return Err(TopicError::AssignmentEmpty);
    }
    for (index, broker) in brokers.iter().enumerate() {
        if !candidates.iter().any(|candidate| candidate.id == BrokerId(*broker)) {
            return Err(TopicError::AssignmentUnknownBroker(*broker));
        }
        if brokers[..index].contains(broker) {
            return Err(TopicError::AssignmentBrokerTwice(*broker));
        }
    }
    let found = brokers.len();
    match expected.filter(|expected| *expected != found) {
        Some(expected) => Err(TopicError::AssignmentUneven { found, expected }),
        None => Ok(brokers.iter().copied().map(BrokerId).collect()),
    }
}

fn check_name(image: &MetadataImage, name: &str) -> Result<(), TopicError> {
    if name == CLUSTER_METADATA {
        return Err(TopicError::Prohibited(name.to_owned()));
    }
    check_topic_name(name)?;
    if image.topic(name).is_some() {
        return Err(TopicError::Exists(name.to_owned()));
    }
    match image.topic_colliding_with(name) {
        Some(existing) => Err(TopicError::Collision {
            name: name.to_owned(),
            existing: existing.name.to_string(),
        }),
        None => Ok(()),
    }
}

fn check_configs(
    image: &MetadataImage,
    settings: &PlanSettings,
    configs: &[(String, Option<String>)],
) -> Result<ConfigMap, TopicError> {
    if let Some((name, _)) = configs.iter().find(|(_, value)| value.is_none()) {
        return Err(TopicError::NullConfig(name.clone()));
    }
    let edits: Vec<_> = configs
        .iter()
        .map(|(name, value)| ConfigEdit::set(name.clone(), value.clone().unwrap_or_default()))
        .collect();
    let layers = layers_of_cluster(image, &settings.fixed);
    let changes = alter_topic_configs(&ConfigMap::new(), &edits, &layers);
    let changes = changes.map_err(TopicError::Config)?;
    Ok(changes.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

fn automatic_replicas(
    image: &MetadataImage,
    settings: &PlanSettings,
    wish: &NewTopic,
) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    let default = |name: &str| settings.fixed.integer(name);
    let replication_factor = match wish.replication_factor {
        Some(found) => i64::from(found),
        None => default("default.replication.factor"),
    };
    let replication_factor = usize::try_from(replication_factor).ok().filter(|factor| *factor > 0);
    let replication_factor = replication_factor.ok_or(TopicError::NoReplicas)?;
    let partition_count = match wish.partition_count {
        Some(found) => i64::from(found),
        None => default("num.partitions"),
    };
    let partition_count = usize::try_from(partition_count).ok().filter(|count| *count > 0);
    let partition_count = partition_count.ok_or(TopicError::NoPartitions)?;
    // Before the replicas are computed, which takes memory for each.
    check_limits(image, settings, 0, partition_count)?;
    let candidates = candidates(image, replication_factor);
    let broker_count = candidates.len();
    if replication_factor > broker_count {
        return Err(TopicError::TooFewBrokers { replication_factor, broker_count });
    }
    let start = image.partition_count();
    Ok(choose_replicas(&candidates, partition_count, replication_factor, start))
}

fn manual_replicas(
    wish: &NewTopic,
    candidates: &[Candidate],
) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    if wish.replication_factor.is_some() {
        return Err(TopicError::AssignmentAndReplicationFactor);
    }
    if wish.partition_count.is_some() {
        return Err(TopicError::AssignmentAndPartitionCount);
    }
    let mut replicas = BTreeMap::new();
    let mut expected = None;
    for assignment in &wish.assignments {
        let brokers = check_assignment(&assignment.brokers, candidates, expected)?;
        expected = Some(brokers.len());
        if replicas.insert(assignment.partition, brokers).is_some() {
            return Err(TopicError::AssignmentTwice(assignment.partition));
        }
    }
    let is_consecutive = replicas.keys().zip(0..).all(|(found, expected)| *found == expected);
    if !is_consecutive {
        return Err(TopicError::AssignmentNotConsecutive);
    }
    Ok(replicas.into_values().collect())
}
