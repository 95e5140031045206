//! Replicas of partitions: who is eligible to lead, elections by order, moves to other brokers.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::topics::{PartitionDescription, TopicDescription};
use super::{Admin, PerSubject};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest,
    alter_partition_reassignments::{ReassignablePartition, ReassignableTopic},
    describe_topic_partitions::{Cursor, DescribeTopicPartitionsResponsePartition, TopicRequest},
    elect_leaders::TopicPartitions,
};

/// How a leader is elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica, if it is in sync.
    Preferred,
    /// Anybody who is alive, where nobody else can lead: records that were acknowledged may be lost.
    Unclean,
}

/// Replicas that are being moved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reassignment {
    /// Of which partition.
    pub partition: TopicPartition,
    /// All replicas at present.
    pub replicas: Vec<i32>,
    /// Those of them that are being added.
    pub adding: Vec<i32>,
    /// Those of them that will be removed.
    pub removing: Vec<i32>,
}

impl Admin {
    /// Topics with their partitions and eligible leader replicas (KIP-966), all at once or in as many
    /// requests as the broker wants.
    ///
    /// # Errors
    /// The call as a whole; a topic that does not exist has its own error in the result.
    pub async fn describe_topic_partitions(
        &self,
        names: &[&str],
    ) -> Result<PerSubject<String, TopicDescription>, AdminError> {
        const WHAT: &str = "describing partitions";
        let mut found: BTreeMap<String, Result<TopicDescription, AdminError>> = BTreeMap::new();
        let mut cursor: Option<Cursor> = None;
        // A request without topics asks for all of them.
        while !names.is_empty() {
            let request = |_version| DescribeTopicPartitionsRequest {
                topics: names
                    .iter()
                    .map(|name| TopicRequest { name: (*name).to_owned() })
                    .collect(),
                cursor: cursor.clone(),
                ..Default::default()
            };
            let judge = |response, _: &_, _| Ok(Verdict::Done(response));
            let response = self.call(WHAT, Target::Any, Effect::Idempotent, request, judge).await?;
            for topic in response.topics {
                let name = topic.name.unwrap_or_default();
                if let Err(error) = check(WHAT, topic.error_code, None, ErrorContext::topic(&name))
                {
                    found.insert(name, Err(error));
                    continue;
                }
                let partitions = topic.partitions.into_iter().map(PartitionDescription::from_wire);
                let described = found.entry(name.clone()).or_insert_with(|| {
                    Ok(TopicDescription {
                        name,
                        topic_id: topic.topic_id,
                        is_internal: topic.is_internal,
                        partitions: Vec::new(),
                    })
                });
                if let Ok(described) = described {
                    described.partitions.extend(partitions);
                    described.partitions.sort_by_key(|partition| partition.partition);
                }
            }
            cursor = response.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let missing = |name: &str| AdminError::Missing { what: WHAT, subject: name.to_owned() };
        let result = |name: &&str| {
            let found = found.remove(*name).unwrap_or_else(|| Err(missing(name)));
            ((*name).to_owned(), found)
        };
        Ok(names.iter().map(result).collect())
    }

    /// Elects leaders of these partitions, or of all. Of all partitions, those that need no election are
    /// not told of.
    ///
    /// # Errors
    /// The call as a whole; each partition's own refusal is in the result.
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<PerSubject<TopicPartition, ()>, AdminError> {
        const WHAT: &str = "electing leaders";
        let timeout_ms = self.client.cluster().timeout_ms();
        let by_topic = partitions.map(|partitions| by_topic(partitions.iter()));
        let request = |_version| ElectLeadersRequest {
            election_type: match election {
                ElectionType::Preferred => 0,
                ElectionType::Unclean => 1,
            },
            topic_partitions: by_topic.as_ref().map(|topics| {
                let topic = |(topic, partitions): (&String, &Vec<i32>)| TopicPartitions {
                    topic: topic.clone(),
                    partitions: partitions.clone(),
                };
                topics.iter().map(topic).collect()
            }),
            timeout_ms,
        };
        self.call(WHAT, Target::Controller, Effect::Changes, request, |response, _, _| {
            if let Err(error) = check(WHAT, response.error_code, None, ErrorContext::default()) {
                return again_or(error, response.error_code);
            }
            let mut results = Vec::new();
            for topic in response.replica_election_results {
                for one in topic.partition_result {
                    let at = TopicPartition::new(topic.topic.as_str(), one.partition_id);
                    let context = ErrorContext::partition(&at.topic, at.partition);
                    let message = one.error_message.as_deref();
                    results.push((at, check(WHAT, one.error_code, message, context)));
                }
            }
            Ok(Verdict::Done(results))
        })
        .await
    }

    /// Gives partitions other replicas, the preferred leader first; none stops what is under way.
    /// Answers when the move has begun, not when it is done: see [`Self::list_reassignments`].
    ///
    /// # Errors
    /// The call as a whole; each partition's own refusal is in the result.
    pub async fn alter_reassignments(
        &self,
        wishes: &[(TopicPartition, Option<Vec<i32>>)],
    ) -> Result<PerSubject<TopicPartition, ()>, AdminError> {
        const WHAT: &str = "moving replicas";
        let timeout_ms = self.client.cluster().timeout_ms();
        let mut topics: BTreeMap<String, Vec<ReassignablePartition>> = BTreeMap::new();
        for (at, replicas) in wishes {
            topics.entry(at.topic.to_string()).or_default().push(ReassignablePartition {
                partition_index: at.partition,
                replicas: replicas.clone(),
            });
        }
        let request = |_version| AlterPartitionReassignmentsRequest {
            timeout_ms,
            topics: topics
                .iter()
                .map(|(name, partitions)| ReassignableTopic {
                    name: name.clone(),
                    partitions: partitions.clone(),
                })
                .collect(),
            ..Default::default()
        };
        // The same move a second time changes nothing.
        self.call(WHAT, Target::Controller, Effect::Idempotent, request, |response, _, _| {
            let message = response.error_message.as_deref();
            if let Err(error) = check(WHAT, response.error_code, message, ErrorContext::default()) {
                return again_or(error, response.error_code);
            }
            let mut results = Vec::new();
            for topic in response.responses {
                for one in topic.partitions {
                    let at = TopicPartition::new(topic.name.as_str(), one.partition_index);
                    let context = ErrorContext::partition(&at.topic, at.partition);
                    let message = one.error_message.as_deref();
                    results.push((at, check(WHAT, one.error_code, message, context)));
                }
            }
            Ok(Verdict::Done(results))
        })
        .await
    }

    /// All moves of replicas that are under way, by partition.
    ///
    /// # Errors
    /// The broker's refusal, or a failed request.
    pub async fn list_reassignments(&self) -> Result<Vec<Reassignment>, AdminError> {
        const WHAT: &str = "listing moves of replicas";
        let timeout_ms = self.client.cluster().timeout_ms();
        let request = |_version| ListPartitionReassignmentsRequest { timeout_ms, topics: None };
        self.call(WHAT, Target::Controller, Effect::Idempotent, request, |response, _, _| {
            let message = response.error_message.as_deref();
            if let Err(error) = check(WHAT, response.error_code, message, ErrorContext::default()) {
                return again_or(error, response.error_code);
            }
            let mut moves = Vec::new();
            for topic in response.topics {
                moves.extend(topic.partitions.into_iter().map(|one| Reassignment {
                    partition: TopicPartition::new(topic.name.as_str(), one.partition_index),
                    replicas: one.replicas,
                    adding: one.adding_replicas,
                    removing: one.removing_replicas,
                }));
            }
            moves.sort_by(|a, b| a.partition.cmp(&b.partition));
            Ok(Verdict::Done(moves))
        })
        .await
    }
}

fn again_or<T>(error: AdminError, code: i16) -> Result<Verdict<T>, AdminError> {
    if is_elsewhere(code) { Ok(Verdict::Again(error)) } else { Err(error) }
}

fn by_topic<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        topics.entry(at.topic.to_string()).or_default().push(at.partition);
    }
    topics
}

impl PartitionDescription {
    fn from_wire(partition: DescribeTopicPartitionsResponsePartition) -> Self {
        PartitionDescription {
            partition: partition.partition_index,
            leader: Some(partition.leader_id).filter(|leader| *leader >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes,
            isr: partition.isr_nodes,
            eligible: partition.eligible_leader_replicas.unwrap_or_default(),
            offline_replicas: partition.offline_replicas,
            error: Some(ErrorCode::from_code(partition.error_code))
                .filter(|code| *code != ErrorCode::None),
        }
    }
}
