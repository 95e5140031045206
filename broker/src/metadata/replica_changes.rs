//! What a batch of metadata did to replicas, as the metrics count it: elections, and in-sync sets that
//! grew or shrank; and topics whose series go with them.

use std::sync::Arc;

use varve_protocol::vocabulary::BrokerId;

use super::delta::Delta;
use super::handle::MetadataHandle;
use super::image::MetadataImage;
use crate::metrics::{Metrics, ReplicaMetrics};

/// Counts what changes until the metadata ends. In-sync sets are counted by the partition's leader,
/// elections by the controller, so that a sum over all brokers is right.
pub(crate) async fn count_replica_changes(metadata: MetadataHandle, metrics: Arc<Metrics>) {
    use tokio::sync::broadcast::error::RecvError;
    let mut updates = metadata.subscribe();
    let mut known = metadata.image();
    loop {
        match updates.recv().await {
            Ok(update) => {
                let gone = update.delta.topics_removed.iter().map(|topic| &topic.name);
                for name in gone.filter(|name| update.image.topic(name).is_none()) {
                    metrics.topics.remove(name);
                }
                let is_controller = metadata.is_controller();
                let own = metadata.broker_id();
                count(
                    &known,
                    &update.image,
                    &update.delta,
                    (own, is_controller),
                    &metrics.replicas,
                );
                known = Arc::clone(&update.image);
            }
            // What was missed is not counted.
            Err(RecvError::Lagged(_)) => {
                known = metadata.image();
                metrics.topics.retain(|name| known.topic(name).is_some());
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn count(
    before: &MetadataImage,
    after: &MetadataImage,
    delta: &Delta,
    (own, is_controller): (BrokerId, bool),
    metrics: &ReplicaMetrics,
) {
    for name in &delta.partitions_changed {
        let (Some(old), Some(new)) = (before.partition(name), after.partition(name)) else {
            continue;
        };
        if is_controller && new.leader_epoch > old.leader_epoch {
            match new.leader {
                Some(leader) if old.isr.contains(&leader) || old.elr.contains(&leader) => {
                    metrics.elections.increment();
                }
                Some(_) => metrics.unclean_elections.increment(),
                None => metrics.leaders_lost.increment(),
            }
        }
        if new.leader.or(old.leader) != Some(own) {
            continue;
        }
        if new.isr.iter().any(|id| !old.isr.contains(id)) {
            metrics.isr_expansions.increment();
        }
        if old.isr.iter().any(|id| !new.isr.contains(id)) {
            metrics.isr_shrinks.increment();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::plan::{Election, plan_election, plan_fence, plan_unfence};
    use crate::metadata::record::{MetadataRecord, PartitionChangeRecord};
    use crate::metadata::tests::{apply, image_with};
    use crate::topic_config::StaticConfig;
    use varve_protocol::vocabulary::{PartitionIndex, TopicId, TopicIdPartition};

    #[test]
    fn elections_and_in_sync_sets_are_counted_once_in_a_cluster() {
        let fixed = StaticConfig::default();
        let mut image = image_with(2, &[("t", 1)]);
        let name = TopicIdPartition { topic_id: TopicId(1), partition: PartitionIndex(0) };
        let mut record = PartitionChangeRecord::new(name.topic_id, name.partition);
        record.replicas = Some(vec![(BrokerId(1), 0), (BrokerId(2), 0)]);
        record.isr = Some(vec![BrokerId(1), BrokerId(2)]);
        record.leader = Some(Some(BrokerId(1)));
        apply(&mut image, &[MetadataRecord::PartitionChange(record)]);
        let metrics = [ReplicaMetrics::default(), ReplicaMetrics::default()];
        let step = |image: &mut MetadataImage, records: &[MetadataRecord]| {
            let before = image.clone();
            let delta = apply(image, records);
            count(&before, image, &delta, (BrokerId(1), true), &metrics[0]);
            count(&before, image, &delta, (BrokerId(2), false), &metrics[1]);
        };
        let epoch = |image: &MetadataImage, id| image.broker(BrokerId(id)).unwrap().epoch;
        // Broker 1 dies, then 2; broker 1 comes back and is elected by order.
        let records = plan_fence(&image, &fixed, BrokerId(1), epoch(&image, 1));
        step(&mut image, &records);
        let records = plan_fence(&image, &fixed, BrokerId(2), epoch(&image, 2));
        step(&mut image, &records);
        let records = plan_unfence(&image, &fixed, BrokerId(1), epoch(&image, 1));
        step(&mut image, &records);
        let records = plan_election(&image, &fixed, Election::Unclean, name).unwrap();
        step(&mut image, &records);
        let read = |metrics: &ReplicaMetrics| {
            [
                metrics.elections.value(),
                metrics.leaders_lost.value(),
                metrics.unclean_elections.value(),
                metrics.isr_shrinks.value(),
                metrics.isr_expansions.value(),
            ]
        };
        assert_eq!(read(&metrics[0]), [1, 1, 1, 1, 1]);
        assert_eq!(read(&metrics[1]), [0, 0, 0, 1, 0]);
    }
}
