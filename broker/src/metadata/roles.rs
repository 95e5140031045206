//! What the metadata says of the partitions that lie on this broker.

use std::collections::BTreeSet;
use std::sync::Arc;

use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::delta::Delta;
use super::finisher::hosted_partitions;
use super::handle::config_layers;
use super::image::MetadataImage;
use super::topic_image::{PartitionImage, TopicImage};
use crate::shard::{PartitionRole, ReplicaPlace};
use crate::topic_config::{ConfigLayers, StaticConfig};

/// The roles of all partitions of which `broker` has a replica.
pub(super) fn all_roles(
    image: &MetadataImage,
    broker: BrokerId,
    fixed: &StaticConfig,
) -> Vec<PartitionRole> {
    let layers = config_layers(image, broker, fixed);
    let mut roles = Vec::new();
    for topic in image.topics() {
        let rule = AckRule::of(topic, &layers);
        let here = hosted_partitions(topic, broker);
        roles.extend(here.map(|(name, partition)| role(image, name, partition, rule)));
    }
    roles
}

/// The roles that a batch of changes has changed: leaders, replicas, in-sync sets, and what
/// `acks=all` demands.
pub(super) fn changed_roles(
    image: &MetadataImage,
    delta: &Delta,
    broker: BrokerId,
    fixed: &StaticConfig,
) -> Vec<PartitionRole> {
    if delta.broker_configs_changed {
        return all_roles(image, broker, fixed);
    }
    let layers = config_layers(image, broker, fixed);
    let mut names: BTreeSet<TopicIdPartition> =
        delta.partitions_created.union(&delta.partitions_changed).copied().collect();
    for topic in delta.topic_configs_changed.iter().filter_map(|id| image.topic_by_id(*id)) {
        names.extend(topic.topic_id_partitions());
    }
    let mut roles = Vec::new();
    // Names are ordered by topic, so that each topic's rule is looked up once.
    let mut known: Option<(&Arc<TopicImage>, AckRule)> = None;
    for name in names {
        let Some(topic) = image.topic_by_id(name.topic_id) else { continue };
        let Some(partition) = topic.partition(name.partition) else { continue };
        if !partition.replicas.contains(&broker) {
            continue;
        }
        let rule = match known {
            Some((of, rule)) if of.id == topic.id => rule,
            _ => AckRule::of(topic, &layers),
        };
        known = Some((topic, rule));
        roles.push(role(image, name, partition, rule));
    }
    roles
}

/// What a topic demands of acknowledgements.
#[derive(Clone, Copy)]
struct AckRule {
    replicas_min: usize,
    domains_min: usize,
}

impl AckRule {
    fn of(topic: &TopicImage, layers: &ConfigLayers<'_>) -> Self {
        let value = |name: &str| {
            let of_topic = topic.configs.get(name).map(String::as_str);
            let text = of_topic.or_else(|| layers.broker_value(name).map(|(value, _)| value));
            text.and_then(|text| text.parse().ok()).unwrap_or(1)
        };
        Self {
            replicas_min: value("min.insync.replicas"),
            domains_min: value("min.insync.domains"),
        }
    }
}

fn role(
    image: &MetadataImage,
    name: TopicIdPartition,
    partition: &PartitionImage,
    rule: AckRule,
) -> PartitionRole {
    let place = |id: &BrokerId| ReplicaPlace {
        id: *id,
        rack: image.broker(*id).and_then(|broker| broker.rack.as_deref()).map(Arc::from),
    };
    PartitionRole {
        partition: name,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.iter().map(place).collect(),
        isr: partition.isr.clone(),
        min_insync_replicas: rule.replicas_min,
        min_insync_domains: rule.domains_min,
    }
}
