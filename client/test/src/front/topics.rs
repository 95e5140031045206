//! What requests find of topics and partitions.

use std::sync::Arc;

use varve_broker::metadata::{MetadataImage, TopicImage};
use varve_broker::shard::RoleName;
use varve_broker::simulation::{ReplicaView, SteppedBroker};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{PartitionIndex, TopicId, TopicIdPartition};

/// A topic, by its id if the request names one.
pub(super) fn topic<'a>(
    image: &'a MetadataImage,
    name: &str,
    id: TopicId,
) -> Result<&'a Arc<TopicImage>, ErrorCode> {
    match id {
        TopicId::ZERO => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        id => image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId),
    }
}

/// A partition's name, if there is one.
pub(super) fn partition(topic: &TopicImage, index: i32) -> Result<TopicIdPartition, ErrorCode> {
    let partition = PartitionIndex(index);
    topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(TopicIdPartition { topic_id: topic.id, partition })
}

/// The replica of a partition that this broker leads, in the epoch that the client knows (−1: any).
pub(super) fn led(
    broker: &SteppedBroker,
    tip: &TopicIdPartition,
    epoch: i32,
) -> Result<ReplicaView, ErrorCode> {
    let not_leader = ErrorCode::NotLeaderOrFollower;
    let replica = broker.replica(tip).filter(|_| broker.is_serving()).ok_or(not_leader)?;
    if replica.role.name != RoleName::Leader {
        return Err(not_leader);
    }
    match epoch {
        ..0 => Ok(replica),
        epoch if epoch < replica.role.leader_epoch.0 => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > replica.role.leader_epoch.0 => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(replica),
    }
}
