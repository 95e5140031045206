//! DescribeTopicPartitions (API 75; KIP-966): topics in the order of their names, so many
//! partitions at a time, and a cursor that says where to go on.

use std::collections::BTreeSet;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use varve_protocol::messages::metadata::MetadataResponsePartition;
use varve_protocol::vocabulary::{PartitionIndex, TopicId};

use super::RequestContext;
use super::authorized_operations::TOPIC_OPERATIONS;
use super::metadata::describe_partition;
use crate::broker::Broker;
use crate::metadata::{MetadataHandle, MetadataImage, TopicImage, check_topic_name};

/// Partitions that one answer has at most; Kafka's default of `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2_000;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let response = answer(&broker.metadata, request);
    context.note_codes(response.topics.iter().map(|topic| topic.error_code));
    response
}

pub(super) fn answer(
    metadata: &MetadataHandle,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = metadata.load();
    let wants_all = request.topics.is_empty();
    let (cursor_topic, cursor_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let names: BTreeSet<&str> = if wants_all {
        image.topics().map(|topic| &*topic.name).filter(|name| *name >= cursor_topic).collect()
    } else {
        let names = request.topics.iter().map(|topic| topic.name.as_str());
        names.filter(|name| *name >= cursor_topic).collect()
    };
    let is_cursor_astray = !wants_all && request.cursor.is_some() && !names.contains(cursor_topic);
    if is_cursor_astray || cursor_partition < 0 {
        let topics = request.topics.into_iter();
        let topics = topics.map(|topic| failed(ErrorCode::InvalidRequest, topic.name));
        return DescribeTopicPartitionsResponse {
            topics: topics.collect(),
            ..DescribeTopicPartitionsResponse::default()
        };
    }
    let mut room = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in names {
        let cursor_at =
            |partition_index| Some(Cursor { topic_name: name.to_owned(), partition_index });
        if room == 0 {
            next_cursor = cursor_at(0);
            break;
        }
        let Some(topic) = image.topic(name) else {
            let code = match check_topic_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            topics.push(DescribeTopicPartitionsResponseTopic {
                topic_authorized_operations: TOPIC_OPERATIONS,
                ..failed(code, name.to_owned())
            });
            continue;
        };
        let from = if name == cursor_topic { cursor_partition } else { 0 };
        let end = topic.partition_count().min(from.saturating_add(room));
        topics.push(describe(&image, topic, from..end));
        if end < topic.partition_count() {
            next_cursor = cursor_at(end);
            break;
        }
        room -= (end - from).max(0);
    }
    DescribeTopicPartitionsResponse {
        topics,
        next_cursor,
        ..DescribeTopicPartitionsResponse::default()
    }
}

fn failed(code: ErrorCode, name: String) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name),
        topic_id: TopicId::ZERO,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn describe(
    image: &MetadataImage,
    topic: &TopicImage,
    wanted: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = wanted.filter_map(|index| {
        let index = PartitionIndex(index);
        let known = topic.partition(index)?;
        let elr = known.elr.iter().map(|broker| broker.0).collect();
        Some(partition(describe_partition(image, index, known), elr))
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn partition(
    told: MetadataResponsePartition,
    elr: Vec<i32>,
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: told.error_code,
        partition_index: told.partition_index,
        leader_id: told.leader_id,
        leader_epoch: told.leader_epoch,
        replica_nodes: told.replica_nodes,
        isr_nodes: told.isr_nodes,
        eligible_leader_replicas: Some(elr),
        last_known_elr: Some(Vec::new()),
        offline_replicas: told.offline_replicas,
    }
}
