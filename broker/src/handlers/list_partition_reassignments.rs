//! ListPartitionReassignments (API 46): which replicas are being moved (KIP-455).

use std::sync::Arc;

use varve_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use varve_protocol::vocabulary::{BrokerId, PartitionIndex};

use super::RequestContext;
use crate::broker::Broker;
use crate::metadata::{MetadataImage, PartitionImage, TopicImage};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    answer(&broker.metadata.load(), &request)
}

/// What is not being moved, or does not exist, is left out.
pub(super) fn answer(
    image: &MetadataImage,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let mut topics = Vec::new();
    match &request.topics {
        None => {
            for topic in image.topics_by_name() {
                let all = 0..topic.partition_count();
                topics.extend(ongoing(topic, all));
            }
        }
        Some(wanted) => {
            for wanted in wanted {
                let Some(topic) = image.topic(&wanted.name) else { continue };
                topics.extend(ongoing(topic, wanted.partition_indexes.iter().copied()));
            }
        }
    }
    ListPartitionReassignmentsResponse { topics, ..ListPartitionReassignmentsResponse::default() }
}

fn ongoing(
    topic: &TopicImage,
    wanted: impl Iterator<Item = i32>,
) -> Option<OngoingTopicReassignment> {
    let describe = |index: i32| {
        let partition = topic.partition(PartitionIndex(index))?;
        partition.is_reassigning().then(|| describe(index, partition))
    };
    let partitions: Vec<_> = wanted.filter_map(describe).collect();
    (!partitions.is_empty())
        .then(|| OngoingTopicReassignment { name: topic.name.to_string(), partitions })
}

fn describe(partition_index: i32, partition: &PartitionImage) -> OngoingPartitionReassignment {
    let numbers = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    OngoingPartitionReassignment {
        partition_index,
        replicas: numbers(&partition.replicas),
        adding_replicas: numbers(&partition.adding),
        removing_replicas: numbers(&partition.removing),
    }
}
