//! AlterPartitionReassignments (API 45): moves replicas, or stops moving them (KIP-455).

use std::sync::Arc;

use varve_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;
use crate::metadata::{MetadataHandle, Reassignment, ReassignmentRefused};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let response = context.remotely(answer(&broker.metadata, request)).await;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    context.note_codes(std::iter::once(response.error_code).chain(codes));
    response
}

pub(super) async fn answer(
    metadata: &MetadataHandle,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let mut wishes = Vec::new();
    for topic in request.topics {
        wishes.extend(topic.partitions.into_iter().map(|partition| Reassignment {
            topic: topic.name.clone(),
            partition: partition.partition_index,
            replicas: partition.replicas,
            may_change_factor: allow_replication_factor_change,
        }));
    }
    let names: Vec<_> = wishes.iter().map(|wish| (wish.topic.clone(), wish.partition)).collect();
    let answered = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change,
        ..AlterPartitionReassignmentsResponse::default()
    };
    if names.is_empty() {
        return answered;
    }
    let outcomes = match metadata.reassign(wishes).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            return AlterPartitionReassignmentsResponse {
                error_code: error.code().code(),
                error_message: Some(error.to_string()),
                ..answered
            };
        }
    };
    let mut responses: Vec<ReassignableTopicResponse> = Vec::new();
    for ((name, partition), outcome) in names.into_iter().zip(outcomes) {
        let told = result(partition, outcome);
        match responses.last_mut().filter(|last| last.name == name) {
            Some(topic) => topic.partitions.push(told),
            None => responses.push(ReassignableTopicResponse { name, partitions: vec![told] }),
        }
    }
    AlterPartitionReassignmentsResponse { responses, ..answered }
}

fn result(
    partition_index: i32,
    outcome: Result<(), ReassignmentRefused>,
) -> ReassignablePartitionResponse {
    let done = ReassignablePartitionResponse {
        partition_index,
        ..ReassignablePartitionResponse::default()
    };
    match outcome {
        Ok(()) => done,
        Err(error) => ReassignablePartitionResponse {
            error_code: error.code().code(),
            error_message: message(&error),
            ..done
        },
    }
}
