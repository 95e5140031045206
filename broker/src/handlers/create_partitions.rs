//! CreatePartitions (API 37).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use varve_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;
use crate::metadata::{MetadataHandle, NewPartitions, TopicError};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let response = context.remotely(answer(&broker.metadata, request)).await;
    context.note_codes(response.results.iter().map(|topic| topic.error_code));
    response
}

pub(crate) async fn answer(
    metadata: &MetadataHandle,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::new();
    let mut told = HashSet::new();
    let mut wishes = Vec::new();
    for topic in request.topics {
        if counts.get(&topic.name).is_some_and(|count| *count > 1) {
            if told.insert(topic.name.clone()) {
                results.push(result(topic.name, Err(TopicError::DuplicateName)));
            }
            continue;
        }
        let assignments = topic.assignments.map(|assignments| {
            assignments.into_iter().map(|assignment| assignment.broker_ids).collect()
        });
        wishes.push(NewPartitions { name: topic.name, count: topic.count, assignments });
    }
    let names: Vec<_> = wishes.iter().map(|wish| wish.name.clone()).collect();
    let outcomes = if request.timeout_ms <= 0 {
        names.iter().map(|_| Err(TopicError::TimedOut)).collect()
    } else if names.is_empty() {
        Vec::new()
    } else {
        match metadata.create_partitions(wishes, request.validate_only).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let refused = |_| Err(TopicError::Unavailable(error.to_string()));
                names.iter().map(refused).collect()
            }
        }
    };
    results.extend(
        names.into_iter().zip(outcomes).map(|(name, outcome)| result(name, outcome.map(|_| ()))),
    );
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}

fn result(name: String, outcome: Result<(), TopicError>) -> CreatePartitionsTopicResult {
    let done = CreatePartitionsTopicResult { name, ..CreatePartitionsTopicResult::default() };
    match outcome {
        Ok(()) => done,
        // Kafka leaves the message of an unknown topic to the client.
        Err(error) => CreatePartitionsTopicResult {
            error_code: error.code().code(),
            error_message: message(&error).filter(|_| error != TopicError::UnknownTopic),
            ..done
        },
    }
}
