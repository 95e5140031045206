//! Finding where to read: committed offsets, `auto_offset_reset`, and confirming positions under a new leader
//! (KIP-320).

use super::Shared;
use super::events::Event;
use super::partition::Phase;
use super::state::Unpositioned;
use crate::admin::{FetchedOffsets, OffsetSpec, fetch_request, is_elsewhere};
use crate::clock;
use crate::error::{ConsumeError, ErrorContext, RequestError};
use crate::net::{Backoff, Target};
use crate::record::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    OffsetFetchRequest, OffsetForLeaderEpochRequest,
    offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    let config = shared.cluster.config();
    let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
    let mut last: Vec<Unpositioned> = Vec::new();
    loop {
        changes.mark_seen();
        let work = shared.state.lock().unpositioned(clock::now());
        // An answer that leaves everything as it was is no reason to ask again at once.
        let is_new = work != last;
        last.clone_from(&work);
        if work.is_empty() {
            backoff.reset();
            // Partitions that wait after an error have no one else to wake this task.
            let _ = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
            continue;
        }
        let (committed, rest): (Vec<_>, Vec<_>) =
            work.into_iter().partition(|one| one.phase == Phase::Committed);
        let (validating, resetting): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|one| one.phase == Phase::Validating);
        let mut is_settled = true;
        if !committed.is_empty() {
            is_settled &= load_committed(&shared, committed).await;
        }
        if !resetting.is_empty() {
            is_settled &= reset(&shared, resetting).await;
        }
        if !validating.is_empty() {
            is_settled &= validate(&shared, validating).await;
        }
        shared.bump();
        if is_settled && is_new {
            backoff.reset();
        } else {
            tokio::time::sleep(backoff.next(shared.cluster.jitter())).await;
        }
    }
}

/// Asks the coordinator for committed offsets; answers whether nothing has to be asked again.
async fn load_committed(shared: &Shared, work: Vec<Unpositioned>) -> bool {
    let Some(group) = &shared.group else { return true };
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for one in &work {
        topics.entry(one.at.topic.to_string()).or_default().push(one.at.partition);
    }
    let deadline = clock::now() + shared.cluster.config().api_timeout;
    let build = |version: i16| OffsetFetchRequest {
        // An offset within an open transaction is waited for, not guessed.
        require_stable: version >= 7,
        ..fetch_request(group, Some(&topics), version)
    };
    let target = Target::GroupCoordinator(group);
    let answer = match shared.cluster.ask(target, build, deadline).await {
        Ok((response, _, version)) => FetchedOffsets::from_wire(response, version),
        Err(error) => {
            shared.cluster.forget_coordinator(group);
            return shared.on_trouble(error, ErrorContext::group(group));
        }
    };
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => {}
        code if is_elsewhere(answer.error_code) || code.is_retriable() => {
            tracing::debug!(group, %code, "no committed offsets yet");
            shared.cluster.forget_coordinator(group);
            return false;
        }
        code => {
            let context = Box::new(ErrorContext::group(group));
            let error = match code {
                ErrorCode::GroupAuthorizationFailed => ConsumeError::Unauthorised { code, context },
                code => ConsumeError::Group { code, message: None, context },
            };
            shared.tell_error(error);
            return false;
        }
    }
    let asked: BTreeMap<&TopicPartition, &Unpositioned> =
        work.iter().map(|one| (&one.at, one)).collect();
    // A partition that the answer leaves out is asked for again, after a wait.
    let mut is_settled =
        asked.keys().all(|at| answer.partitions.iter().any(|(other, _, _)| other == *at));
    let now = clock::now();
    let mut state = shared.state.lock();
    for (at, code, committed) in answer.partitions {
        let Some(one) = asked.get(&at).copied() else { continue };
        match ErrorCode::from_code(code) {
            ErrorCode::None => {
                let found = (committed.offset, committed.leader_epoch);
                state.on_committed_found(one, Some(found).filter(|(offset, _)| *offset >= 0), now);
            }
            code if code.is_retriable() => {
                tracing::debug!(group, %at, %code, "no committed offset yet");
                is_settled = false;
            }
            code => {
                let context = Box::new(ErrorContext::partition(&at.topic, at.partition));
                state.fail(&at, one.token, ConsumeError::Unauthorised { code, context });
            }
        }
    }
    drop(state);
    shared.wake();
    is_settled
}

/// Asks leaders for offsets; answers whether nothing has to be asked again.
async fn reset(shared: &Shared, work: Vec<Unpositioned>) -> bool {
    let asked: Vec<(TopicPartition, OffsetSpec)> = work
        .iter()
        .filter_map(|one| match one.phase {
            Phase::Reset(spec) => Some((one.at.clone(), spec)),
            _ => None,
        })
        .collect();
    let admin = shared.client.admin();
    let listed = match admin.list_offsets(&asked, shared.config.isolation_level).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::debug!(%error, "no offsets to begin at yet");
            return false;
        }
    };
    let mut is_settled = true;
    let now = clock::now();
    for (one, (at, result)) in work.iter().zip(listed) {
        match result {
            Ok(found) => {
                // No record at or after a time means the end.
                let offset = if found.offset < 0 { None } else { Some(found.offset) };
                let mut state = shared.state.lock();
                let Some(partition) = state.current(&at, one.token) else { continue };
                match offset {
                    Some(offset) => {
                        partition.set_position(offset, -1, now);
                        drop(state);
                        shared
                            .events
                            .tell(Event::PositionReset { partition: at, position: offset });
                    }
                    None => {
                        partition.phase = Phase::Reset(OffsetSpec::Latest);
                        is_settled = false;
                    }
                }
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "no offset to begin at yet");
                is_settled = false;
            }
            Err(error) => {
                let context = Box::new(ErrorContext::partition(&at.topic, at.partition));
                let error = match error.code() {
                    Some(code @ ErrorCode::TopicAuthorizationFailed) => {
                        ConsumeError::Unauthorised { code, context }
                    }
                    Some(code) => ConsumeError::Refused { code, context },
                    None => {
                        tracing::warn!(%error, "no offset to begin at");
                        is_settled = false;
                        continue;
                    }
                };
                shared.state.lock().fail(&at, one.token, error);
                shared.wake();
            }
        }
    }
    is_settled
}

/// Asks leaders whether positions are still in their logs; answers whether nothing has to be asked again.
async fn validate(shared: &Shared, work: Vec<Unpositioned>) -> bool {
    let metadata = shared.cluster.metadata();
    let mut by_leader: BTreeMap<i32, Vec<Unpositioned>> = BTreeMap::new();
    let mut is_settled = true;
    for one in work {
        match metadata.leader(&one.at.topic, one.at.partition) {
            Some(leader) => by_leader.entry(leader).or_default().push(one),
            None => {
                shared.state.lock().must_refresh = true;
                is_settled = false;
            }
        }
    }
    for (leader, work) in by_leader {
        is_settled &= validate_at(shared, leader, work).await;
    }
    is_settled
}

async fn validate_at(shared: &Shared, leader: i32, work: Vec<Unpositioned>) -> bool {
    let metadata = shared.cluster.metadata();
    let leader_epoch = |at: &TopicPartition| {
        metadata.partition(&at.topic, at.partition).map_or(-1, |known| known.leader_epoch)
    };
    let mut topics: BTreeMap<&str, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
    for one in &work {
        topics.entry(&one.at.topic).or_default().push(OffsetForLeaderPartition {
            partition: one.at.partition,
            current_leader_epoch: leader_epoch(&one.at),
            leader_epoch: one.epoch,
            ..Default::default()
        });
    }
    let build = |_version| OffsetForLeaderEpochRequest {
        // -1: a consumer.
        replica_id: -1,
        topics: topics
            .iter()
            .map(|(name, partitions)| OffsetForLeaderTopic {
                topic: (*name).to_owned(),
                partitions: partitions.clone(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let deadline = clock::now() + shared.cluster.config().api_timeout;
    let response = match shared.cluster.ask(Target::Broker(leader), build, deadline).await {
        Ok((response, _, _)) => response,
        Err(RequestError::Unsupported { .. }) => {
            // The broker cannot tell; positions are taken as they are.
            let mut state = shared.state.lock();
            for one in &work {
                if let Some(partition) = state.current(&one.at, one.token) {
                    partition.phase = Phase::Fetching;
                    partition.validated_under = leader_epoch(&one.at);
                }
            }
            return true;
        }
        Err(error) => {
            shared.state.lock().must_refresh = true;
            return shared
                .on_trouble(error, ErrorContext { broker: Some(leader), ..Default::default() });
        }
    };
    let mut is_settled = true;
    let now = clock::now();
    let by_name: BTreeMap<TopicPartition, &Unpositioned> =
        work.iter().map(|one| (one.at.clone(), one)).collect();
    for topic in response.topics {
        for end in topic.partitions {
            let at = TopicPartition::new(topic.topic.as_str(), end.partition);
            let Some(one) = by_name.get(&at) else { continue };
            let mut state = shared.state.lock();
            match ErrorCode::from_code(end.error_code) {
                ErrorCode::None => {
                    let epoch_end = (end.leader_epoch, end.end_offset);
                    let set_back = state.on_epoch_end(one, leader_epoch(&at), epoch_end, now);
                    drop(state);
                    if let Some(position) = set_back {
                        let diverging_end = end.end_offset;
                        tracing::warn!(%at, position, diverging_end, "the log was cut below the position");
                        shared.events.tell(Event::Truncated {
                            partition: at,
                            position,
                            diverging_end,
                        });
                    }
                    shared.wake();
                }
                ErrorCode::TopicAuthorizationFailed => {
                    let code = ErrorCode::TopicAuthorizationFailed;
                    let context = Box::new(ErrorContext::partition(&at.topic, at.partition));
                    state.fail(&at, one.token, ConsumeError::Unauthorised { code, context });
                    drop(state);
                    shared.wake();
                }
                _ => {
                    state.must_refresh = true;
                    is_settled = false;
                }
            }
        }
    }
    is_settled
}
