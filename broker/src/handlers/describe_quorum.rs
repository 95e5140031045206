//! DescribeQuorum (API 55): who replicates the metadata log, and how far each is (KIP-595, KIP-836).
//!
//! Only the controller knows how far the others are, so that the request is handed to it. Times are told
//! only of the controller itself: the quorum knows positions, not when somebody asked for them.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, DescribedPartition, DescribedTopic, Listener,
    Node, PartitionData, ReplicaState, TopicData,
};
use varve_protocol::vocabulary::{BrokerId, TopicId};
use varve_replication::quorum::QuorumStatus;

use super::RequestContext;
use crate::broker::Broker;
use crate::clock;
use crate::metadata::{MetadataHandle, MetadataImage};
use crate::peers::INTERNAL_LISTENER;

/// The log's name, as if it were a topic.
const CLUSTER_METADATA: &str = "__cluster_metadata";

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let response = answer(&broker.metadata, clock::wall().0, &request);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    context.note_codes(partitions.map(|partition| partition.error_code));
    response
}

pub(super) fn answer(
    metadata: &MetadataHandle,
    now_ms: i64,
    request: &DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let image = metadata.load();
    let status = metadata.quorum_status();
    let is_controller = metadata.is_controller();
    let mut is_described = false;
    let mut describe = |topic: &TopicData, partition: &PartitionData| {
        let is_log = topic.topic_name == CLUSTER_METADATA && partition.partition_index == 0;
        let error = match (is_log, is_controller) {
            (false, _) => ErrorCode::UnknownTopicOrPartition,
            (true, false) => ErrorCode::NotLeaderOrFollower,
            (true, true) => {
                is_described = true;
                return describe_log(&image, &status, metadata.broker_id(), now_ms);
            }
        };
        DescribedPartition {
            partition_index: partition.partition_index,
            error_code: error.code(),
            error_message: Some(error.message().to_owned()),
            ..DescribedPartition::default()
        }
    };
    let topics = request.topics.iter().map(|topic| DescribedTopic {
        topic_name: topic.topic_name.clone(),
        partitions: topic.partitions.iter().map(|wanted| describe(topic, wanted)).collect(),
    });
    let topics = topics.collect();
    let nodes = if is_described { nodes(&image, &status) } else { Vec::new() };
    DescribeQuorumResponse { topics, nodes, ..DescribeQuorumResponse::default() }
}

fn describe_log(
    image: &MetadataImage,
    status: &QuorumStatus,
    own: BrokerId,
    now_ms: i64,
) -> DescribedPartition {
    let replica = |id: &BrokerId| {
        let matched = status.matched.iter().find(|(member, _)| member == id);
        let last = if *id == own { Some(status.last) } else { matched.map(|(_, last)| *last) };
        let time = if *id == own { now_ms } else { -1 };
        ReplicaState {
            replica_id: id.0,
            replica_directory_id: image
                .broker(*id)
                .map_or(TopicId::ZERO, |broker| TopicId(broker.directory)),
            log_end_offset: last.map_or(-1, end_after),
            last_fetch_timestamp: time,
            last_caught_up_timestamp: time,
        }
    };
    DescribedPartition {
        partition_index: 0,
        leader_id: own.0,
        leader_epoch: i32::try_from(status.role.term).unwrap_or(i32::MAX),
        high_watermark: end_after(status.commit),
        current_voters: status.membership.voters.iter().map(replica).collect(),
        observers: status.membership.learners.iter().map(replica).collect(),
        ..DescribedPartition::default()
    }
}

/// Kafka tells where a log ends, not which entry is its last.
fn end_after(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1)
}

/// Where the voters are reached, by other brokers; nowhere where there is only one.
fn nodes(image: &MetadataImage, status: &QuorumStatus) -> Vec<Node> {
    let node = |id: &BrokerId| {
        let endpoints = image.broker(*id).map_or(&[][..], |broker| &broker.endpoints[..]);
        let internal = endpoints.iter().filter(|endpoint| endpoint.listener == INTERNAL_LISTENER);
        let listeners = internal.map(|endpoint| Listener {
            name: endpoint.listener.to_uppercase(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        });
        Node { node_id: id.0, listeners: listeners.collect() }
    };
    status.membership.voters.iter().map(node).collect()
}
