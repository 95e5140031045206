//! ElectLeaders (API 43): leaders by order (KIP-460). An unclean election happens by this order only, or
//! where a topic has asked for it beforehand.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use varve_protocol::vocabulary::{PartitionIndex, TopicIdPartition};

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;
use crate::metadata::{
    ChangeError, Election, ElectionRefused, MetadataHandle, MetadataImage, TopicImage,
};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let response = context.remotely(answer(&broker.metadata, request)).await;
    let results = response.replica_election_results.iter();
    let codes = results.flat_map(|topic| &topic.partition_result).map(|one| one.error_code);
    context.note_codes(std::iter::once(response.error_code).chain(codes));
    response
}

pub(super) async fn answer(
    metadata: &MetadataHandle,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        _ => return refused(&request, ErrorCode::InvalidRequest, "Unknown election type."),
    };
    let image = metadata.image();
    let wanted: Vec<(String, Vec<i32>)> = match &request.topic_partitions {
        Some(topics) => {
            let named = topics.iter().map(|topic| (topic.topic.clone(), topic.partitions.clone()));
            named.collect()
        }
        None => {
            let all = |topic: &&Arc<TopicImage>| (0..topic.partition_count()).collect();
            let topics = image.topics_by_name();
            topics.iter().map(|topic| (topic.name.to_string(), all(topic))).collect()
        }
    };
    // Of all partitions, those that need no election are not told of.
    let is_of_all = request.topic_partitions.is_none();
    match elect(metadata, &image, election, wanted, is_of_all).await {
        Ok(response) => response,
        Err(error) => refused(&request, error.code(), &error.to_string()),
    }
}

async fn elect(
    metadata: &MetadataHandle,
    image: &MetadataImage,
    election: Election,
    wanted: Vec<(String, Vec<i32>)>,
    is_of_all: bool,
) -> Result<ElectLeadersResponse, ChangeError> {
    let name_of = |topic: &str, partition: i32| {
        let topic = image.topic(topic)?;
        let partition = PartitionIndex(partition);
        topic.partition(partition)?;
        Some(TopicIdPartition { topic_id: topic.id, partition })
    };
    let names: Vec<_> = wanted
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|index| name_of(topic, *index)))
        .collect();
    let known: Vec<_> = names.iter().copied().flatten().collect();
    let outcomes = match known.is_empty() {
        true => Vec::new(),
        false => metadata.elect_leaders(election, known).await?,
    };
    let mut outcomes = outcomes.into_iter();
    let mut names = names.into_iter();
    let mut results = Vec::new();
    for (topic, partitions) in wanted {
        let mut told = Vec::new();
        for partition in partitions {
            let is_known = names.next().flatten().is_some();
            let unknown =
                || Err(ElectionRefused::UnknownPartition { topic: topic.clone(), partition });
            let outcome = if is_known { outcomes.next() } else { None }.unwrap_or_else(unknown);
            if !(is_of_all && outcome == Err(ElectionRefused::NotNeeded)) {
                told.push(result(partition, outcome));
            }
        }
        if !(is_of_all && told.is_empty()) {
            results.push(ReplicaElectionResult { topic, partition_result: told });
        }
    }
    Ok(ElectLeadersResponse {
        replica_election_results: results,
        ..ElectLeadersResponse::default()
    })
}

fn result(partition_id: i32, outcome: Result<(), ElectionRefused>) -> PartitionResult {
    let done = PartitionResult { partition_id, ..PartitionResult::default() };
    match outcome {
        Ok(()) => done,
        Err(error) => PartitionResult {
            error_code: error.code().code(),
            error_message: message(&error),
            ..done
        },
    }
}

/// The request as a whole is refused. Version 0 has a place for that at the partitions only.
fn refused(request: &ElectLeadersRequest, code: ErrorCode, words: &str) -> ElectLeadersResponse {
    let partition = |partition_id: &i32| PartitionResult {
        partition_id: *partition_id,
        error_code: code.code(),
        error_message: Some(words.to_owned()),
    };
    let topics = request.topic_partitions.iter().flatten();
    let topics = topics.map(|topic| ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: topic.partitions.iter().map(partition).collect(),
    });
    ElectLeadersResponse {
        error_code: code.code(),
        replica_election_results: topics.collect(),
        ..ElectLeadersResponse::default()
    }
}
