//! Offsets that a group has committed: list, alter, delete.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::{Admin, PerSubject};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use varve_protocol::messages::{
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse,
    offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
};

/// An offset that a group committed: the next record it will read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the committer wrote beside it.
    pub metadata: String,
}

impl CommittedOffset {
    /// An offset without epoch and metadata.
    pub fn new(offset: i64) -> Self {
        CommittedOffset { offset, leader_epoch: -1, metadata: String::new() }
    }
}

impl Admin {
    /// What a group has committed, for the given partitions or for all. A partition without an offset is left out
    /// when all are asked for, and `None` when it is named.
    ///
    /// # Errors
    /// The call as a whole; each partition's own refusal is in the result.
    pub async fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<PerSubject<TopicPartition, Option<CommittedOffset>>, AdminError> {
        const WHAT: &str = "listing a group's offsets";
        let asked = partitions.map(by_topic);
        self.call(
            WHAT,
            Target::GroupCoordinator(group),
            Effect::Idempotent,
            |version| fetch_request(group, asked.as_ref(), version),
            |response, _, version| {
                let answer = FetchedOffsets::from_wire(response, version);
                match check(WHAT, answer.error_code, None, ErrorContext::group(group)) {
                    Err(error) if is_elsewhere(answer.error_code) => {
                        return Ok(Verdict::Again(error));
                    }
                    Err(error) => return Err(error),
                    Ok(()) => {}
                }
                let results = answer.partitions.into_iter().filter_map(|(at, code, committed)| {
                    let context = ErrorContext::partition(&at.topic, at.partition);
                    let result = check(WHAT, code, None, context)
                        .map(|()| Some(committed).filter(|committed| committed.offset >= 0));
                    (asked.is_some() || !matches!(result, Ok(None))).then_some((at, result))
                });
                Ok(Verdict::Done(results.collect()))
            },
        )
        .await
    }

    /// Sets what a group has committed. Refused while the group has members.
    ///
    /// # Errors
    /// The call as a whole; each partition's own refusal is in the result.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<PerSubject<TopicPartition, ()>, AdminError> {
        const WHAT: &str = "altering a group's offsets";
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (at, committed) in offsets {
            topics.entry(&at.topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: at.partition,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                committed_metadata: Some(committed.metadata.clone()),
                ..Default::default()
            });
        }
        self.call(
            WHAT,
            Target::GroupCoordinator(group),
            // The same offsets again change nothing.
            Effect::Idempotent,
            |_version| OffsetCommitRequest {
                group_id: group.to_owned(),
                generation_id_or_member_epoch: -1,
                topics: topics
                    .iter()
                    .map(|(name, partitions)| OffsetCommitRequestTopic {
                        name: (*name).to_owned(),
                        partitions: partitions.clone(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            },
            |response, _, _| {
                let mut results = Vec::new();
                for topic in response.topics {
                    for partition in topic.partitions {
                        let at =
                            TopicPartition::new(topic.name.as_str(), partition.partition_index);
                        let mut context = ErrorContext::partition(&at.topic, at.partition);
                        context.group = Some(group.to_owned());
                        match check(WHAT, partition.error_code, None, context) {
                            Err(error) if is_elsewhere(partition.error_code) => {
                                return Ok(Verdict::Again(error));
                            }
                            result => results.push((at, result)),
                        }
                    }
                }
                Ok(Verdict::Done(results))
            },
        )
        .await
    }

    /// Forgets what a group has committed for some partitions. Refused for topics that members subscribe to.
    ///
    /// # Errors
    /// The call as a whole; each partition's own refusal is in the result.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<PerSubject<TopicPartition, ()>, AdminError> {
        const WHAT: &str = "deleting a group's offsets";
        let topics = by_topic(partitions);
        self.call(
            WHAT,
            Target::GroupCoordinator(group),
            Effect::Idempotent,
            |_version| OffsetDeleteRequest {
                group_id: group.to_owned(),
                topics: topics
                    .iter()
                    .map(|(name, partitions)| OffsetDeleteRequestTopic {
                        name: name.clone(),
                        partitions: partitions
                            .iter()
                            .map(|partition| OffsetDeleteRequestPartition {
                                partition_index: *partition,
                                ..Default::default()
                            })
                            .collect(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            },
            |response, _, _| {
                match check(WHAT, response.error_code, None, ErrorContext::group(group)) {
                    Err(error) if is_elsewhere(response.error_code) => {
                        return Ok(Verdict::Again(error));
                    }
                    Err(error) => return Err(error),
                    Ok(()) => {}
                }
                let mut results = Vec::new();
                for topic in response.topics {
                    for partition in topic.partitions {
                        let at =
                            TopicPartition::new(topic.name.as_str(), partition.partition_index);
                        let mut context = ErrorContext::partition(&at.topic, at.partition);
                        context.group = Some(group.to_owned());
                        results.push((at, check(WHAT, partition.error_code, None, context)));
                    }
                }
                Ok(Verdict::Done(results))
            },
        )
        .await
    }
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        topics.entry(at.topic.to_string()).or_default().push(at.partition);
    }
    topics
}

/// An OffsetFetch for one group. From version 8 on the request names groups, below it one group.
pub(crate) fn fetch_request(
    group: &str,
    asked: Option<&BTreeMap<String, Vec<i32>>>,
    version: i16,
) -> OffsetFetchRequest {
    if version >= 8 {
        let topics = asked.map(|topics| {
            topics
                .iter()
                .map(|(name, partitions)| OffsetFetchRequestTopics {
                    name: name.clone(),
                    partition_indexes: partitions.clone(),
                    ..Default::default()
                })
                .collect()
        });
        return OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.to_owned(),
                topics,
                ..Default::default()
            }],
            ..Default::default()
        };
    }
    let topics = asked.map(|topics| {
        topics
            .iter()
            .map(|(name, partitions)| OffsetFetchRequestTopic {
                name: name.clone(),
                partition_indexes: partitions.clone(),
                ..Default::default()
            })
            .collect()
    });
    OffsetFetchRequest { group_id: group.to_owned(), topics, ..Default::default() }
}

/// An OffsetFetch answer about one group, whatever its version.
#[derive(Debug)]
pub(crate) struct FetchedOffsets {
    pub(crate) error_code: i16,
    pub(crate) partitions: Vec<(TopicPartition, i16, CommittedOffset)>,
}

impl FetchedOffsets {
    pub(crate) fn from_wire(mut response: OffsetFetchResponse, version: i16) -> Self {
        let mut partitions = Vec::new();
        let mut add = |topic: &str, index, code, offset, leader_epoch, metadata: Option<String>| {
            let metadata = metadata.unwrap_or_default();
            let committed = CommittedOffset { offset, leader_epoch, metadata };
            partitions.push((TopicPartition::new(topic, index), code, committed));
        };
        let mut error_code = response.error_code;
        if version >= 8 {
            let Some(group) = response.groups.pop() else {
                return FetchedOffsets { error_code, partitions };
            };
            error_code = group.error_code;
            for topic in group.topics {
                for p in topic.partitions {
                    let epoch = p.committed_leader_epoch;
                    add(
                        &topic.name,
                        p.partition_index,
                        p.error_code,
                        p.committed_offset,
                        epoch,
                        p.metadata,
                    );
                }
            }
        } else {
            for topic in response.topics {
                for p in topic.partitions {
                    let epoch = p.committed_leader_epoch;
                    add(
                        &topic.name,
                        p.partition_index,
                        p.error_code,
                        p.committed_offset,
                        epoch,
                        p.metadata,
                    );
                }
            }
        }
        FetchedOffsets { error_code, partitions }
    }
}
