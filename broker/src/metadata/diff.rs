//! The differences between two images of which the one in the middle was never seen: a follower that
//! was far behind got a snapshot.

use std::sync::Arc;

use varve_protocol::vocabulary::TopicId;

use super::delta::Delta;
use super::image::MetadataImage;

/// What changed from `old` to `new`.
pub(super) fn diff(old: &MetadataImage, new: &MetadataImage) -> Delta {
    let mut delta = Delta::default();
    for broker in new.brokers() {
        let before = old.broker(broker.id);
        if before != Some(broker) {
            delta.brokers.insert(broker.id);
        }
        if before.is_some_and(|before| before.rack != broker.rack) {
            delta.racks_changed.insert(broker.id);
        }
    }
    let gone = old.brokers().filter(|broker| new.broker(broker.id).is_none());
    delta.brokers.extend(gone.map(|broker| broker.id));
    let is_gone = |topic: &&Arc<super::TopicImage>| new.topic_by_id(topic.id).is_none();
    delta.topics_removed = old.topics().filter(is_gone).cloned().collect();
    for topic in new.topics() {
        let before = old.topic_by_id(topic.id);
        if before.is_none() {
            delta.topics_created.insert(topic.id);
        }
        if before.is_some_and(|before| before.configs != topic.configs) {
            delta.topic_configs_changed.insert(topic.id);
        }
        for (name, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
            match before.and_then(|before| before.partition(name.partition)) {
                None => drop(delta.partitions_created.insert(name)),
                Some(before) if before != partition => {
                    delta.partitions_changed.insert(name);
                }
                Some(_) => {}
            }
        }
    }
    let same_brokers = |image: &MetadataImage| {
        let ids = image.brokers().map(|broker| broker.id);
        ids.map(|id| (id, image.broker_configs(id).cloned())).collect::<Vec<_>>()
    };
    delta.broker_configs_changed =
        old.cluster_configs() != new.cluster_configs() || same_brokers(old) != same_brokers(new);
    debug_assert!(!delta.topics_created.contains(&TopicId::ZERO));
    delta
}
