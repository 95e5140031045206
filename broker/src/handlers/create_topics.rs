//! CreateTopics (API 19).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use varve_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;
use crate::metadata::{CreatedTopic, MetadataHandle, NewTopic, ReplicaAssignment, TopicError};
use crate::topic_config::ConfigEntry;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let response = context.remotely(answer(&broker.metadata, request)).await;
    context.note_codes(response.topics.iter().map(|topic| topic.error_code));
    response
}

pub(crate) async fn answer(
    metadata: &MetadataHandle,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let duplicates: HashSet<String> = counts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut wishes = Vec::new();
    let mut told = HashSet::new();
    let mut topics = Vec::new();
    for topic in request.topics {
        if !duplicates.contains(&topic.name) {
            wishes.push(wish(topic));
        } else if told.insert(topic.name.clone()) {
            topics.push(failed(topic.name, &TopicError::DuplicateName));
        }
    }
    let names: Vec<_> = wishes.iter().map(|wish| wish.name.clone()).collect();
    // A client that gives no time gets what Kafka answers, and nothing is created.
    let results = if request.timeout_ms <= 0 {
        names.iter().map(|_| Err(TopicError::TimedOut)).collect()
    } else if names.is_empty() {
        Vec::new()
    } else {
        match metadata.create_topics(wishes, request.validate_only).await {
            Ok(results) => results,
            Err(error) => {
                let refused = |_| Err(TopicError::Unavailable(error.to_string()));
                names.iter().map(refused).collect()
            }
        }
    };
    topics.extend(names.into_iter().zip(results).map(|(name, result)| match result {
        Ok(created) => succeeded(metadata, name, &created),
        Err(error) => failed(name, &error),
    }));
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}

fn wish(topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| ReplicaAssignment {
        partition: assignment.partition_index,
        brokers: assignment.broker_ids,
    });
    NewTopic {
        name: topic.name,
        partition_count: Some(topic.num_partitions).filter(|count| *count != -1),
        replication_factor: Some(topic.replication_factor).filter(|factor| *factor != -1),
        assignments: assignments.collect(),
        configs: topic.configs.into_iter().map(|config| (config.name, config.value)).collect(),
    }
}

fn succeeded(
    metadata: &MetadataHandle,
    name: String,
    created: &CreatedTopic,
) -> CreatableTopicResult {
    let image = metadata.load();
    let entries = metadata.layers(&image).describe_topic(&created.configs);
    CreatableTopicResult {
        name,
        topic_id: created.id,
        error_message: None,
        num_partitions: created.partition_count,
        replication_factor: created.replication_factor,
        configs: Some(entries.into_iter().map(config).collect()),
        ..CreatableTopicResult::default()
    }
}

fn config(entry: ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: entry.definition.name.to_owned(),
        value: entry.value,
        read_only: entry.is_read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.definition.is_sensitive,
    }
}

fn failed(name: String, error: &TopicError) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: error.code().code(),
        error_message: message(error),
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}
