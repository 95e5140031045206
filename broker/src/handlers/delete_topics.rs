//! DeleteTopics (API 20).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use varve_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use varve_protocol::vocabulary::TopicId;

use super::RequestContext;
use super::message::message;
use crate::broker::Broker;
use crate::metadata::{MetadataHandle, TopicError, TopicSelector};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let response = context.remotely(answer(&broker.metadata, request)).await;
    context.note_codes(response.responses.iter().map(|topic| topic.error_code));
    response
}

pub(crate) async fn answer(
    metadata: &MetadataHandle,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), TopicId::ZERO));
    let by_either = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
    let wanted: Vec<_> = by_name.chain(by_either).collect();

    let mut counts: HashMap<(Option<String>, TopicId), usize> = HashMap::new();
    for same in &wanted {
        *counts.entry(same.clone()).or_default() += 1;
    }
    let mut responses = Vec::new();
    let mut selectors = Vec::new();
    let mut told = HashSet::new();
    for (name, id) in &wanted {
        let selector = match (name, *id) {
            (Some(_), id) if id != TopicId::ZERO => Err(TopicError::NameAndId),
            (Some(name), _) => Ok(TopicSelector::Name(name.clone())),
            (None, TopicId::ZERO) => Err(TopicError::NeitherNameNorId),
            (None, id) => Ok(TopicSelector::Id(id)),
        };
        let same = (name.clone(), *id);
        let is_repeated = counts.get(&same).is_some_and(|count| *count > 1);
        match selector {
            Err(error) => responses.push(failed(name.clone(), *id, &error)),
            Ok(_) if is_repeated => {
                if told.insert(same) {
                    let is_named = name.is_some();
                    let error =
                        if is_named { TopicError::DuplicateName } else { TopicError::DuplicateId };
                    responses.push(failed(name.clone(), *id, &error));
                }
            }
            Ok(selector) => selectors.push(selector),
        }
    }
    let results = if request.timeout_ms <= 0 {
        selectors.iter().map(|_| Err(TopicError::TimedOut)).collect()
    } else if selectors.is_empty() {
        Vec::new()
    } else {
        match metadata.delete_topics(selectors.clone()).await {
            Ok(results) => results,
            Err(error) => {
                let refused = |_| Err(TopicError::Unavailable(error.to_string()));
                selectors.iter().map(refused).collect()
            }
        }
    };
    responses.extend(selectors.into_iter().zip(results).map(|(selector, result)| {
        match (result, selector) {
            (Ok(topic), _) => DeletableTopicResult {
                name: Some(topic.name.to_string()),
                topic_id: topic.id,
                ..DeletableTopicResult::default()
            },
            (Err(error), TopicSelector::Name(name)) => failed(Some(name), TopicId::ZERO, &error),
            (Err(error), TopicSelector::Id(id)) => failed(None, id, &error),
        }
    }));
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}

fn failed(name: Option<String>, topic_id: TopicId, error: &TopicError) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: error.code().code(),
        error_message: message(error),
    }
}
