//! Metadata (API 3): brokers, topics, leaders; and creation of topics that are asked for by name.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use varve_protocol::vocabulary::{BrokerId, PartitionIndex, TopicId};

use super::RequestContext;
use super::authorized_operations::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use crate::broker::Broker;
use crate::metadata::{
    CONSUMER_OFFSETS, EnsureTopicError, InternalTopic, MetadataHandle, MetadataImage, NewTopic,
    PartitionImage, TopicImage, check_topic_name,
};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let settled =
        super::doubt::wait_out(broker, |image, doubtful| is_led_by(image, &request, doubtful));
    context.remotely(settled).await;
    let response = answer(&broker.metadata, context.listener, context.api_version, request).await;
    context.note_codes(response.topics.iter().map(|topic| topic.error_code));
    response
}

/// Whether one of these brokers leads something that is asked for by name or id.
fn is_led_by(
    image: &MetadataImage,
    request: &MetadataRequest,
    brokers: &BTreeSet<BrokerId>,
) -> bool {
    let find = |wanted: &MetadataRequestTopic| match &wanted.name {
        Some(name) => image.topic(name),
        None => image.topic_by_id(wanted.topic_id),
    };
    let topics = request.topics.iter().flatten().filter_map(find);
    let mut leaders = topics.flat_map(|topic| &topic.partitions).filter_map(|found| found.leader);
    leaders.any(|leader| brokers.contains(&leader))
}

/// The first version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 12;

pub(crate) async fn answer(
    metadata: &MetadataHandle,
    listener: &str,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    let wants_all = match &request.topics {
        None => true,
        // Before v1 there was no null.
        Some(topics) => topics.is_empty() && version == 0,
    };
    let may_create =
        request.allow_auto_topic_creation && metadata.fixed().boolean("auto.create.topics.enable");
    let mut creation_errors = Vec::new();
    if may_create && !wants_all {
        creation_errors = create_missing(metadata, request.topics.as_deref()).await;
    }

    let image = metadata.load();
    let topic_operations =
        if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { i32::MIN };
    let topics = if wants_all {
        let describe = |topic: &Arc<TopicImage>| describe_topic(&image, topic, topic_operations);
        image.topics_by_name().into_iter().map(describe).collect()
    } else {
        let mut seen = HashSet::new();
        let wanted = request.topics.unwrap_or_default().into_iter();
        // A topic that is asked for twice is answered once.
        let wanted = wanted.filter(|topic| seen.insert((topic.topic_id, topic.name.clone())));
        wanted
            .map(|topic| find_topic(&image, version, topic, topic_operations, &creation_errors))
            .collect()
    };
    let cluster_authorized_operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { i32::MIN };
    MetadataResponse {
        brokers: describe_brokers(metadata, &image, listener),
        cluster_id: Some(image.cluster_id().to_owned()),
        controller_id: controller_id(metadata, &image),
        topics,
        cluster_authorized_operations,
        ..MetadataResponse::default()
    }
}

/// Creates the topics that are named and do not exist; answers those that could not be.
async fn create_missing(
    metadata: &MetadataHandle,
    topics: Option<&[MetadataRequestTopic]>,
) -> Vec<(String, ErrorCode)> {
    let missing: Vec<_> = {
        let image = metadata.load();
        let names = topics.unwrap_or_default().iter();
        let names = names.filter(|topic| topic.topic_id == TopicId::ZERO);
        let names = names.filter_map(|topic| topic.name.as_deref());
        let is_missing =
            |name: &&str| check_topic_name(name).is_ok() && image.topic(name).is_none();
        names.filter(is_missing).map(str::to_owned).collect()
    };
    let mut errors = Vec::new();
    if missing.is_empty() {
        return errors;
    }
    let wish = |name: &String| match name.as_str() {
        CONSUMER_OFFSETS => InternalTopic::ConsumerOffsets.new_topic(metadata.fixed()),
        name => NewTopic::named(name),
    };
    match metadata.create_topics(missing.iter().map(wish).collect(), false).await {
        Ok(results) => {
            for (name, result) in missing.into_iter().zip(results) {
                match result {
                    // Somebody else was quicker.
                    Ok(_) | Err(crate::metadata::TopicError::Exists(_)) => {}
                    Err(error) => errors.push((name, error.code())),
                }
            }
        }
        Err(error) => {
            let code = EnsureTopicError::from(error).code();
            errors.extend(missing.into_iter().map(|name| (name, code)));
        }
    }
    errors
}

fn find_topic(
    image: &MetadataImage,
    version: i16,
    wanted: MetadataRequestTopic,
    topic_operations: i32,
    creation_errors: &[(String, ErrorCode)],
) -> MetadataResponseTopic {
    let MetadataRequestTopic { topic_id, name, .. } = wanted;
    let error = |error: ErrorCode, name: Option<String>, topic_id: TopicId| MetadataResponseTopic {
        error_code: error.code(),
        // Before v12 a name cannot be null.
        name: if version < TOPIC_ID_VERSION_MIN { Some(name.unwrap_or_default()) } else { name },
        topic_id,
        ..MetadataResponseTopic::default()
    };
    if topic_id != TopicId::ZERO {
        if version < TOPIC_ID_VERSION_MIN {
            return error(ErrorCode::InvalidRequest, name, topic_id);
        }
        return match image.topic_by_id(topic_id) {
            Some(topic) => describe_topic(image, topic, topic_operations),
            None => error(ErrorCode::UnknownTopicId, None, topic_id),
        };
    }
    let Some(name) = name else {
        // Neither name nor id: what Kafka answers.
        return error(ErrorCode::UnknownServerError, Some(String::new()), topic_id);
    };
    if let Some(topic) = image.topic(&name) {
        return describe_topic(image, topic, topic_operations);
    }
    let code = if check_topic_name(&name).is_err() {
        ErrorCode::InvalidTopicException
    } else {
        let created = creation_errors.iter().find(|(failed, _)| *failed == name);
        created.map_or(ErrorCode::UnknownTopicOrPartition, |(_, code)| *code)
    };
    error(code, Some(name), TopicId::ZERO)
}

fn describe_topic(
    image: &MetadataImage,
    topic: &TopicImage,
    topic_authorized_operations: i32,
) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions);
    let partitions = partitions
        .map(|(index, partition)| describe_partition(image, PartitionIndex(index), partition));
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
        topic_authorized_operations,
        ..MetadataResponseTopic::default()
    }
}

pub(super) fn describe_partition(
    image: &MetadataImage,
    index: PartitionIndex,
    partition: &PartitionImage,
) -> MetadataResponsePartition {
    let numbers = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let is_alive = |id: &BrokerId| image.broker(*id).is_some_and(|broker| !broker.is_fenced);
    let leader = partition.leader.filter(is_alive);
    let is_offline = |id: &&BrokerId| !is_alive(id);
    MetadataResponsePartition {
        error_code: match leader {
            Some(_) => ErrorCode::None.code(),
            None => ErrorCode::LeaderNotAvailable.code(),
        },
        partition_index: index.0,
        leader_id: leader.map_or(-1, |leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: numbers(&partition.replicas),
        isr_nodes: numbers(&partition.isr),
        offline_replicas: partition.replicas.iter().filter(is_offline).map(|id| id.0).collect(),
    }
}

fn describe_brokers(
    metadata: &MetadataHandle,
    image: &MetadataImage,
    listener: &str,
) -> Vec<MetadataResponseBroker> {
    let describe = |broker: &Arc<crate::metadata::BrokerImage>| {
        let endpoint = broker.endpoint(listener)?;
        Some(MetadataResponseBroker {
            node_id: broker.id.0,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            rack: broker.rack.clone(),
        })
    };
    image.brokers().filter(|broker| metadata.is_listed(broker)).filter_map(describe).collect()
}

/// The broker for administrative requests: the controller, which is spared handing them on, or
/// else this one.
pub(super) fn controller_id(metadata: &MetadataHandle, image: &MetadataImage) -> i32 {
    let is_alive = |id: &BrokerId| image.broker(*id).is_some_and(|broker| !broker.is_fenced);
    metadata.controller().filter(is_alive).unwrap_or(metadata.broker_id()).0
}
