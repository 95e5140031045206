//! Topics: create, delete, list, describe, add partitions.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::configs::{ConfigEntry, ConfigSource, ConfigType};
use super::new_topic::{CreatedTopic, NewPartitions, NewTopic};
use super::{Admin, PerSubject, only};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use std::collections::BTreeMap;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest,
    MetadataResponse,
    create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic},
    delete_topics::DeleteTopicState,
    metadata::MetadataRequestTopic,
    metadata::MetadataResponseTopic,
};
use varve_protocol::vocabulary::TopicId;

/// One line of a list of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Its id; zero from brokers without topic ids.
    pub topic_id: TopicId,
    /// Whether brokers keep it for themselves.
    pub is_internal: bool,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas of its first partition.
    pub replication_factor: i32,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id; zero from brokers without topic ids.
    pub topic_id: TopicId,
    /// Whether brokers keep it for themselves.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// Its leader, if it has one.
    pub leader: Option<i32>,
    /// The leader's epoch; -1 if unknown.
    pub leader_epoch: i32,
    /// Brokers with a replica, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
    /// Those that are out of sync and may lead all the same (KIP-966); only
    /// [`Admin::describe_topic_partitions`] tells them.
    pub eligible: Vec<i32>,
    /// Those that are offline.
    pub offline_replicas: Vec<i32>,
    /// What is wrong with it, if something is.
    pub error: Option<ErrorCode>,
}

impl Admin {
    /// Creates topics. With `validate_only`, only checks whether that would work.
    ///
    /// # Errors
    /// The call as a whole; each topic's own refusal is in the result.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<PerSubject<String, CreatedTopic>, AdminError> {
        const WHAT: &str = "creating topics";
        let timeout_ms = self.client.cluster().timeout_ms();
        self.call(
            WHAT,
            Target::Controller,
            Effect::Changes,
            |_version| CreateTopicsRequest {
                topics: topics.iter().map(NewTopic::to_wire).collect(),
                timeout_ms,
                validate_only,
                ..Default::default()
            },
            |response, _, _| {
                if response.topics.iter().any(|topic| is_elsewhere(topic.error_code)) {
                    let topic = &response.topics[0];
                    let message = topic.error_message.as_deref();
                    let context = ErrorContext::topic(&topic.name);
                    check(WHAT, topic.error_code, message, context).map_or_else(
                        |e| Ok(Verdict::Again(e)),
                        |()| Err(AdminError::Missing { what: WHAT, subject: topic.name.clone() }),
                    )
                } else {
                    let results = response.topics.into_iter().map(|topic| {
                        let context = ErrorContext::topic(&topic.name);
                        let result =
                            check(WHAT, topic.error_code, topic.error_message.as_deref(), context)
                                .map(|()| CreatedTopic {
                                    topic_id: topic.topic_id,
                                    partitions: Some(topic.num_partitions)
                                        .filter(|count| *count >= 0),
                                    replication_factor: Some(topic.replication_factor)
                                        .filter(|count| *count >= 0),
                                    configs: topic
                                        .configs
                                        .unwrap_or_default()
                                        .into_iter()
                                        .map(|config| ConfigEntry {
                                            name: config.name,
                                            value: config.value,
                                            source: ConfigSource::from_wire(config.config_source),
                                            is_read_only: config.read_only,
                                            is_sensitive: config.is_sensitive,
                                            config_type: ConfigType::Unknown,
                                            documentation: None,
                                            synonyms: Vec::new(),
                                        })
                                        .collect(),
                                });
                        (topic.name, result)
                    });
                    Ok(Verdict::Done(results.collect()))
                }
            },
        )
        .await
    }

    /// Creates one topic.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic, AdminError> {
        only("creating a topic", self.create_topics(&[topic], false).await?)
    }

    /// Deletes topics, with all their records.
    ///
    /// # Errors
    /// The call as a whole; each topic's own refusal is in the result.
    pub async fn delete_topics(
        &self,
        names: &[&str],
    ) -> Result<PerSubject<String, ()>, AdminError> {
        const WHAT: &str = "deleting topics";
        let timeout_ms = self.client.cluster().timeout_ms();
        self.call(
            WHAT,
            Target::Controller,
            Effect::Changes,
            |version| DeleteTopicsRequest {
                topics: if version >= 6 {
                    let by_name = |name: &&str| DeleteTopicState {
                        name: Some((*name).to_owned()),
                        ..Default::default()
                    };
                    names.iter().map(by_name).collect()
                } else {
                    Vec::new()
                },
                topic_names: if version >= 6 {
                    Vec::new()
                } else {
                    names.iter().map(|n| (*n).to_owned()).collect()
                },
                timeout_ms,
                ..Default::default()
            },
            |response, _, _| {
                let mut results = Vec::with_capacity(response.responses.len());
                for topic in response.responses {
                    let name = topic.name.unwrap_or_default();
                    let context = ErrorContext::topic(&name);
                    let result =
                        check(WHAT, topic.error_code, topic.error_message.as_deref(), context);
                    match result {
                        Err(error) if is_elsewhere(topic.error_code) => {
                            return Ok(Verdict::Again(error));
                        }
                        result => results.push((name, result)),
                    }
                }
                Ok(Verdict::Done(results))
            },
        )
        .await
    }

    /// Deletes one topic.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        only("deleting a topic", self.delete_topics(&[name]).await?)
    }

    /// Adds partitions to topics. With `validate_only`, only checks whether that would work.
    ///
    /// # Errors
    /// The call as a whole; each topic's own refusal is in the result.
    pub async fn create_partitions(
        &self,
        topics: &[NewPartitions],
        validate_only: bool,
    ) -> Result<PerSubject<String, ()>, AdminError> {
        const WHAT: &str = "adding partitions";
        let timeout_ms = self.client.cluster().timeout_ms();
        let to_wire = |topic: &NewPartitions| CreatePartitionsTopic {
            name: topic.topic.clone(),
            count: topic.total,
            assignments: topic.assignments.as_ref().map(|all| {
                let one = |brokers: &Vec<i32>| CreatePartitionsAssignment {
                    broker_ids: brokers.clone(),
                    ..Default::default()
                };
                all.iter().map(one).collect()
            }),
            ..Default::default()
        };
        self.call(
            WHAT,
            Target::Controller,
            Effect::Changes,
            |_version| CreatePartitionsRequest {
                topics: topics.iter().map(to_wire).collect(),
                timeout_ms,
                validate_only,
                ..Default::default()
            },
            |response, _, _| {
                let mut results = Vec::with_capacity(response.results.len());
                for topic in response.results {
                    let context = ErrorContext::topic(&topic.name);
                    match check(WHAT, topic.error_code, topic.error_message.as_deref(), context) {
                        Err(error) if is_elsewhere(topic.error_code) => {
                            return Ok(Verdict::Again(error));
                        }
                        result => results.push((topic.name, result)),
                    }
                }
                Ok(Verdict::Done(results))
            },
        )
        .await
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// A failed request.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, AdminError> {
        let response = self.topic_metadata("listing topics", None).await?;
        let mut topics: Vec<TopicListing> = response
            .topics
            .into_iter()
            .filter(|topic| topic.error_code == 0)
            .filter_map(|topic| {
                Some(TopicListing {
                    topic_id: topic.topic_id,
                    is_internal: topic.is_internal,
                    partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                    replication_factor: topic.partitions.first().map_or(0, |first| {
                        i32::try_from(first.replica_nodes.len()).unwrap_or(i32::MAX)
                    }),
                    name: topic.name?,
                })
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Topics with their partitions, leaders and replicas. Never creates a topic.
    ///
    /// # Errors
    /// The call as a whole; a topic that does not exist has its own error in the result.
    pub async fn describe_topics(
        &self,
        names: &[&str],
    ) -> Result<PerSubject<String, TopicDescription>, AdminError> {
        const WHAT: &str = "describing topics";
        let response = self.topic_metadata(WHAT, Some(names)).await?;
        let mut by_name: BTreeMap<String, MetadataResponseTopic> = response
            .topics
            .into_iter()
            .filter_map(|topic| Some((topic.name.clone()?, topic)))
            .collect();
        Ok(names
            .iter()
            .map(|name| {
                let result = match by_name.remove(*name) {
                    None => Err(AdminError::Missing { what: WHAT, subject: (*name).to_owned() }),
                    Some(topic) => check(WHAT, topic.error_code, None, ErrorContext::topic(name))
                        .map(|()| TopicDescription::from_wire(topic)),
                };
                ((*name).to_owned(), result)
            })
            .collect())
    }

    /// One topic with its partitions.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, AdminError> {
        only("describing a topic", self.describe_topics(&[name]).await?)
    }

    async fn topic_metadata(
        &self,
        what: &'static str,
        names: Option<&[&str]>,
    ) -> Result<MetadataResponse, AdminError> {
        self.call(
            what,
            Target::Any,
            Effect::Idempotent,
            |_version| MetadataRequest {
                topics: names.map(|names| {
                    let by_name = |name: &&str| MetadataRequestTopic {
                        name: Some((*name).to_owned()),
                        ..Default::default()
                    };
                    names.iter().map(by_name).collect()
                }),
                allow_auto_topic_creation: false,
                ..Default::default()
            },
            |response, _, _| Ok(Verdict::Done(response)),
        )
        .await
    }
}

impl TopicDescription {
    fn from_wire(topic: MetadataResponseTopic) -> Self {
        let mut partitions: Vec<PartitionDescription> = topic
            .partitions
            .into_iter()
            .map(|partition| PartitionDescription {
                partition: partition.partition_index,
                leader: Some(partition.leader_id).filter(|leader| *leader >= 0),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes,
                isr: partition.isr_nodes,
                eligible: Vec::new(),
                offline_replicas: partition.offline_replicas,
                error: Some(ErrorCode::from_code(partition.error_code))
                    .filter(|code| *code != ErrorCode::None),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        TopicDescription {
            name: topic.name.unwrap_or_default(),
            topic_id: topic.topic_id,
            is_internal: topic.is_internal,
            partitions,
        }
    }
}
