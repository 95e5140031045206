//! What requests find of topics and partitions.

use std::sync::Arc;

use varve_broker::metadata::{MetadataImage, TopicImage};
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
