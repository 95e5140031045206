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

/// The roles that a batch of changes has changed: leaders, replicas and their racks, in-sync sets, and
/// what `acks=all` demands.
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
    if !delta.racks_changed.is_empty() {
        names.extend(held_by(image, &delta.racks_changed));
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

/// The partitions of which one of these brokers has a replica.
fn held_by<'a>(
    image: &'a MetadataImage,
    brokers: &'a BTreeSet<BrokerId>,
) -> impl Iterator<Item = TopicIdPartition> + 'a {
    let partitions =
        image.topics().flat_map(|topic| topic.topic_id_partitions().zip(&topic.partitions));
    let is_held = |(_, partition): &(TopicIdPartition, &PartitionImage)| {
        partition.replicas.iter().any(|replica| brokers.contains(replica))
    };
    partitions.filter(is_held).map(|(name, _)| name)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::plan::{BrokerRegistration, plan_register_member};
    use crate::metadata::record::{MetadataRecord, PartitionChangeRecord};
    use crate::metadata::tests::{apply, image_with, registration};
    use varve_protocol::vocabulary::{PartitionIndex, TopicId};

    /// A broker that was out of sync and came back in another rack changed no partition, and its
    /// leader went on counting the rack in which it had been.
    #[test]
    fn another_rack_is_another_role() {
        let fixed = StaticConfig::default();
        let mut image = image_with(3, &[("t", 2)]);
        let mut record = PartitionChangeRecord::new(TopicId(1), PartitionIndex(0));
        record.replicas = Some(vec![(BrokerId(1), 0), (BrokerId(2), 0)]);
        record.isr = Some(vec![BrokerId(1)]);
        record.leader = Some(Some(BrokerId(1)));
        let mut alone = PartitionChangeRecord::new(TopicId(1), PartitionIndex(1));
        alone.replicas = Some(vec![(BrokerId(1), 0)]);
        alone.isr = Some(vec![BrokerId(1)]);
        alone.leader = Some(Some(BrokerId(1)));
        let records = [record, alone].map(MetadataRecord::PartitionChange);
        apply(&mut image, &records);
        let mut restart = |rack: &str, incarnation| {
            let registration = BrokerRegistration { incarnation, ..registration(2, Some(rack)) };
            let records = plan_register_member(&image, &fixed, &registration);
            let delta = apply(&mut image, &records);
            assert!(delta.partitions_changed.is_empty(), "{delta:?}");
            changed_roles(&image, &delta, BrokerId(1), &fixed)
        };
        let roles = restart("elsewhere", 100);
        let told: Vec<_> = roles.iter().map(|role| role.partition.partition.0).collect();
        assert_eq!(told, [0], "only what it holds");
        let racks: Vec<_> = roles[0].replicas.iter().map(|place| place.rack.as_deref()).collect();
        assert_eq!(racks, [Some("r1"), Some("elsewhere")]);
        assert_eq!(restart("elsewhere", 101), []);
    }
}
