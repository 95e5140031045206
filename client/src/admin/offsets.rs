//! Asking partitions for offsets: the first, the last, the one at a time.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::{Admin, PerSubject};
use crate::config::IsolationLevel;
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    ListOffsetsRequest,
    list_offsets::{ListOffsetsPartition, ListOffsetsTopic},
};

/// Which offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// Of the first record that is still there.
    Earliest,
    /// Behind the last record that may be read.
    Latest,
    /// Of the first record at or after this time, in milliseconds since 1970.
    Timestamp(i64),
    /// Of the record with the latest timestamp.
    MaxTimestamp,
    /// Of the first record on the broker's own disks.
    EarliestLocal,
    /// Behind the last record that is in tiered storage.
    LatestTiered,
}

impl OffsetSpec {
    /// The `timestamp` field of ListOffsets.
    pub(crate) fn wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::EarliestLocal => -4,
            OffsetSpec::LatestTiered => -5,
            OffsetSpec::Timestamp(timestamp_ms) => timestamp_ms,
        }
    }
}

/// An offset, as a partition's leader gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset; -1 if no record fits.
    pub offset: i64,
    /// The timestamp of the record there, in milliseconds since 1970; -1 if it was not asked by time.
    pub timestamp_ms: i64,
    /// The leader epoch under which the record was written; -1 if unknown.
    pub leader_epoch: i32,
}

impl Admin {
    /// Offsets of partitions. Asks each leader once for all of its partitions.
    ///
    /// # Errors
    /// The call as a whole; each partition's own refusal is in the result.
    pub async fn list_offsets(
        &self,
        partitions: &[(TopicPartition, OffsetSpec)],
        isolation_level: IsolationLevel,
    ) -> Result<PerSubject<TopicPartition, ListedOffset>, AdminError> {
        let cluster = self.client.cluster();
        let topics: std::collections::BTreeSet<&str> =
            partitions.iter().map(|(at, _)| &*at.topic).collect();
        cluster.know_topics(topics).await.map_err(|error| AdminError::Transport {
            what: "listing offsets",
            source: std::sync::Arc::new(error),
            context: Box::default(),
        })?;
        let metadata = cluster.metadata();
        let mut by_leader: BTreeMap<Option<i32>, Vec<usize>> = BTreeMap::new();
        for (index, (at, _)) in partitions.iter().enumerate() {
            by_leader.entry(metadata.leader(&at.topic, at.partition)).or_default().push(index);
        }
        let mut results: Vec<Option<Result<ListedOffset, AdminError>>> =
            vec![None; partitions.len()];
        for (leader, indexes) in by_leader {
            // Whatever the quick way leaves open is asked one by one, following leaders that move.
            let Some(leader) = leader else { continue };
            let asked: Vec<&(TopicPartition, OffsetSpec)> =
                indexes.iter().map(|index| &partitions[*index]).collect();
            let answers = self
                .offsets_at(Target::Broker(leader), &asked, isolation_level)
                .await
                .unwrap_or_default();
            for index in indexes {
                let answer = answers.get(&partitions[index].0);
                if let Some(Ok(offset)) = answer {
                    results[index] = Some(Ok(*offset));
                }
            }
        }
        let mut all = Vec::with_capacity(partitions.len());
        for (result, asked) in results.into_iter().zip(partitions) {
            let result = match result {
                Some(result) => result,
                None => self.offset_of(asked, isolation_level).await,
            };
            all.push((asked.0.clone(), result));
        }
        Ok(all)
    }

    async fn offset_of(
        &self,
        asked: &(TopicPartition, OffsetSpec),
        isolation_level: IsolationLevel,
    ) -> Result<ListedOffset, AdminError> {
        let leader = Target::Leader { topic: &asked.0.topic, partition: asked.0.partition };
        let mut answers = self.offsets_at(leader, &[asked], isolation_level).await?;
        let missing =
            || AdminError::Missing { what: "listing offsets", subject: asked.0.to_string() };
        answers.remove(&asked.0).ok_or_else(missing)?
    }

    async fn offsets_at(
        &self,
        target: Target<'_>,
        asked: &[&(TopicPartition, OffsetSpec)],
        isolation_level: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, Result<ListedOffset, AdminError>>, AdminError> {
        const WHAT: &str = "listing offsets";
        // A broker that was named does not become the leader by being asked again.
        let is_followed = matches!(target, Target::Leader { .. });
        self.call(
            WHAT,
            target,
            Effect::Idempotent,
            |_version| request(asked, isolation_level),
            |response, _, _| {
                let mut answers = BTreeMap::new();
                for topic in response.topics {
                    for partition in topic.partitions {
                        let context =
                            ErrorContext::partition(&topic.name, partition.partition_index);
                        let result = check(WHAT, partition.error_code, None, context);
                        let moved = is_elsewhere(partition.error_code)
                            || ErrorCode::from_code(partition.error_code).is_retriable();
                        if let (Err(error), true) = (&result, moved && is_followed) {
                            return Ok(Verdict::Again(error.clone()));
                        }
                        let listed = ListedOffset {
                            offset: partition.offset,
                            timestamp_ms: partition.timestamp,
                            leader_epoch: partition.leader_epoch,
                        };
                        let at =
                            TopicPartition::new(topic.name.as_str(), partition.partition_index);
                        answers.insert(at, result.map(|()| listed));
                    }
                }
                Ok(Verdict::Done(answers))
            },
        )
        .await
    }
}

fn request(
    asked: &[&(TopicPartition, OffsetSpec)],
    isolation_level: IsolationLevel,
) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (at, spec) in asked {
        topics.entry(&at.topic).or_default().push(ListOffsetsPartition {
            partition_index: at.partition,
            timestamp: spec.wire(),
            ..Default::default()
        });
    }
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation_level.wire(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic {
                name: name.to_owned(),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}
