//! OffsetCommit (API 8): a group's positions, durable when this is answered.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use varve_protocol::vocabulary::PartitionIndex;

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::{Answer, Commit, CommitOffset};
use crate::metadata::{MetadataImage, TopicImage};

/// The first version with an error of its own for groups that are not there.
const NOT_FOUND_VERSION_MIN: i16 = 9;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let image = broker.metadata.image();
    let metadata_bytes_max = broker.groups.offset_metadata_bytes_max();
    let (offsets, refusals) = sort_out(&image, metadata_bytes_max, &request);
    let error = if offsets.is_empty() {
        ErrorCode::None
    } else {
        context.remotely(commit(broker, context.api_version, &request, offsets)).await
    };
    context.note_error_or_none(error);
    context.note_codes(refusals.iter().flatten().map(|error| error.code()));
    // What was not refused shares one result.
    let mut refusals = refusals.into_iter();
    let mut answer = |partition: OffsetCommitRequestPartition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: refusals.next().flatten().unwrap_or(error).code(),
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.into_iter().map(&mut answer).collect();
        topics.push(OffsetCommitResponseTopic {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

/// Divides the positions into those that the coordinator gets and those that are refused; the
/// refusals stand in the request's order.
fn sort_out(
    image: &MetadataImage,
    metadata_bytes_max: usize,
    request: &OffsetCommitRequest,
) -> (Vec<CommitOffset>, Vec<Option<ErrorCode>>) {
    let mut offsets = Vec::new();
    let mut refusals = Vec::new();
    for topic in &request.topics {
        let known = image.topic(&topic.name);
        for partition in &topic.partitions {
            match accept(known.map(|known| &**known), partition, metadata_bytes_max) {
                Ok(topic) => {
                    refusals.push(None);
                    offsets.push(CommitOffset {
                        topic: topic.name.to_string(),
                        topic_id: topic.id,
                        partition: partition.partition_index,
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.committed_metadata.clone().unwrap_or_default(),
                    });
                }
                Err(error) => refusals.push(Some(error)),
            }
        }
    }
    (offsets, refusals)
}

fn accept<'a>(
    topic: Option<&'a TopicImage>,
    partition: &OffsetCommitRequestPartition,
    metadata_bytes_max: usize,
) -> Result<&'a TopicImage, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let index = PartitionIndex(partition.partition_index);
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    if metadata.len() > metadata_bytes_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(topic)
}

async fn commit(
    broker: &Arc<Broker>,
    version: i16,
    request: &OffsetCommitRequest,
    offsets: Vec<CommitOffset>,
) -> ErrorCode {
    if let Err(error) = broker.groups.ensure().await {
        return error;
    }
    let commit = Commit {
        group_id: request.group_id.clone(),
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        generation: request.generation_id_or_member_epoch,
        offsets,
        retention_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        knows_group_id_not_found: version >= NOT_FOUND_VERSION_MIN,
    };
    let asked = broker.groups.ask(&request.group_id, |core, now, token| {
        core.on_commit(now, commit, token);
    });
    match asked.await {
        Ok(Answer::Commit(error)) | Err(error) => error,
        Ok(other) => unreachable!("a commit was answered with {other:?}"),
    }
}
