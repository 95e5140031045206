//! Committing offsets to the group's coordinator.

use super::Shared;
use super::state::{Committable, Membership, State};
use crate::admin::is_elsewhere;
use crate::clock;
use crate::error::{CommitError, ErrorContext, RequestError};
use crate::net::{Backoff, Lane};
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse,
    offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
};

/// What a commit did, partition by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitReport {
    /// Each partition with the offset now committed, or why it was refused. Partitions without news are left out.
    pub partitions: Vec<(TopicPartition, Result<i64, ErrorCode>)>,
}

impl CommitReport {
    /// Whether every partition was committed.
    pub fn is_complete(&self) -> bool {
        self.partitions.iter().all(|(_, result)| result.is_ok())
    }

    /// The offset committed for a partition, if it was.
    pub fn offset(&self, at: &TopicPartition) -> Option<i64> {
        self.partitions.iter().find(|(other, _)| other == at).and_then(|(_, result)| result.ok())
    }
}

/// Commits what `choose` gives once it is this commit's turn: one at a time, so that an older one never overtakes a newer. All
/// attempts are made in the generation of that moment: in a later one a partition may be another member's, of which brokers
/// know nothing.
pub(super) async fn commit(
    shared: &Shared,
    choose: impl FnOnce(&State) -> Vec<Committable>,
) -> Result<CommitReport, CommitError> {
    let Some(group) = &shared.group else { return Err(CommitError::NoGroup) };
    let _turn = shared.committing.lock().await;
    let (offsets, membership) = {
        let state = shared.state.lock();
        (choose(&state), state.membership.clone())
    };
    if offsets.is_empty() {
        return Ok(CommitReport::default());
    }
    let config = shared.cluster.config();
    let deadline = clock::now() + config.api_timeout;
    let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    let start = clock::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let context = || {
            let mut context = ErrorContext::group(group);
            context.attempts = attempts;
            context.elapsed = clock::now() - start;
            Box::new(context)
        };
        let is_over = || shared.state.lock().membership != membership;
        if is_over() {
            return Err(CommitError::Rebalancing { context: context() });
        }
        let error = match attempt(shared, group, &membership, &offsets).await {
            Ok(response) => match read(response, &offsets) {
                Read::Done(report) => {
                    let mut state = shared.state.lock();
                    for (at, result) in &report.partitions {
                        if let Ok(offset) = result {
                            state.on_committed(at, *offset);
                        }
                    }
                    return Ok(report);
                }
                Read::Again(code) => {
                    shared.cluster.forget_coordinator(group);
                    CommitError::Refused { code, context: context() }
                }
                Read::Fenced(_) if is_over() => {
                    return Err(CommitError::Rebalancing { context: context() });
                }
                Read::Fenced(code) => return Err(CommitError::Fenced { code, context: context() }),
                Read::Rebalancing => return Err(CommitError::Rebalancing { context: context() }),
                Read::Refused(code) => {
                    return Err(CommitError::Refused { code, context: context() });
                }
            },
            Err(error) => {
                shared.cluster.forget_coordinator(group);
                CommitError::Transport { source: Arc::new(error), context: context() }
            }
        };
        let wait = backoff.next(shared.cluster.jitter());
        if !error.is_retriable() || clock::now() + wait >= deadline {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}

async fn attempt(
    shared: &Shared,
    group: &str,
    membership: &Membership,
    offsets: &[Committable],
) -> Result<OffsetCommitResponse, RequestError> {
    let coordinator = shared.cluster.coordinator(group).await?;
    let connection = shared.cluster.connection(coordinator, Lane::Shared).await?;
    let version = connection.version::<OffsetCommitRequest>()?;
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for committable in offsets {
        topics.entry(&committable.at.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: committable.at.partition,
            committed_offset: committable.offset,
            committed_leader_epoch: committable.leader_epoch,
            committed_metadata: Some(String::new()),
            ..Default::default()
        });
    }
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: membership.generation,
        member_id: membership.member_id.clone(),
        group_instance_id: shared
            .config
            .group_instance_id
            .clone()
            .filter(|_| shared.is_subscribed()),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: name.to_owned(),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    connection.request(version, &request, connection.request_timeout()).await
}

enum Read {
    Done(CommitReport),
    Again(ErrorCode),
    Fenced(ErrorCode),
    Rebalancing,
    Refused(ErrorCode),
}

fn read(response: OffsetCommitResponse, offsets: &[Committable]) -> Read {
    let mut report = CommitReport::default();
    for topic in response.topics {
        for partition in topic.partitions {
            let code = ErrorCode::from_code(partition.error_code);
            let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            match code {
                ErrorCode::None => {
                    let offset = offsets
                        .iter()
                        .find(|asked| asked.at == at)
                        .map_or(-1, |asked| asked.offset);
                    report.partitions.push((at, Ok(offset)));
                }
                ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedInstanceId => return Read::Fenced(code),
                ErrorCode::RebalanceInProgress => return Read::Rebalancing,
                ErrorCode::GroupAuthorizationFailed | ErrorCode::InvalidGroupId => {
                    return Read::Refused(code);
                }
                code if is_elsewhere(partition.error_code)
                    || code == ErrorCode::RequestTimedOut =>
                {
                    return Read::Again(code);
                }
                code => report.partitions.push((at, Err(code))),
            }
        }
    }
    Read::Done(report)
}
