//! OffsetDelete (API 47): takes committed offsets back (KIP-496).

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::Answer;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    match context.remotely(delete(broker, &request.group_id, request.topics)).await {
        Ok(topics) => OffsetDeleteResponse { topics, ..Default::default() },
        Err(error) => OffsetDeleteResponse { error_code: error.code(), ..Default::default() },
    }
}

async fn delete(
    broker: &Arc<Broker>,
    group_id: &str,
    topics: Vec<OffsetDeleteRequestTopic>,
) -> Result<Vec<OffsetDeleteResponseTopic>, ErrorCode> {
    if group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let image = broker.metadata.image();
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let step = broker.groups.step(group_id, |core, _| {
        core.validate_delete_offsets(group_id)?;
        Ok(names.iter().map(|topic| core.is_subscribed(group_id, topic)).collect::<Vec<_>>())
    });
    let subscribed: Vec<bool> = match step.await {
        // Before anybody has made a coordinator there is no group.
        Err(ErrorCode::CoordinatorNotAvailable) => return Err(ErrorCode::GroupIdNotFound),
        step => step.and_then(|subscribed| subscribed)?,
    };
    let mut doomed = Vec::new();
    let mut results = Vec::with_capacity(topics.len());
    for (topic, is_subscribed) in topics.into_iter().zip(subscribed) {
        let error = if image.topic(&topic.name).is_none() {
            ErrorCode::UnknownTopicOrPartition
        } else if is_subscribed {
            ErrorCode::GroupSubscribedToTopic
        } else {
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            doomed.extend(indexes.map(|index| (topic.name.clone(), index)));
            ErrorCode::None
        };
        let partitions = topic.partitions.iter().map(|partition| OffsetDeleteResponsePartition {
            partition_index: partition.partition_index,
            error_code: error.code(),
        });
        let partitions = partitions.collect();
        results.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
    }
    let asked = broker.groups.ask(group_id, |core, now, token| {
        core.on_delete_offsets(now, group_id, doomed, token);
    });
    match asked.await {
        Ok(Answer::Delete(ErrorCode::None)) => Ok(results),
        Ok(Answer::Delete(error)) | Err(error) => Err(error),
        Ok(other) => unreachable!("deleting offsets was answered with {other:?}"),
    }
}
