//! ListOffsets (API 2): offsets by time, and the ends of partitions.

use std::collections::HashMap;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use varve_protocol::vocabulary::{
    IsolationLevel, LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicIdPartition,
};
use varve_storage::{ReadError, TimestampOffset};

use super::RequestContext;
use super::error_table::read_error;
use super::leadership::led;
use crate::broker::Broker;
use crate::shard::PartitionHandle;
use crate::spawn;

/// The end, as far as the isolation level lets a consumer read.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// The record with the latest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The start of what lies on this broker (KIP-405): all of it.
const EARLIEST_LOCAL: i64 = -4;
/// The end of what lies in remote storage (KIP-1005): there is none.
const LATEST_TIERED: i64 = -5;
/// The start of what is not in remote storage yet (KIP-1023): all of it.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The first version whose clients know OFFSET_NOT_AVAILABLE.
const OFFSET_NOT_AVAILABLE_VERSION_MIN: i16 = 5;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    // Followers have a listener of their own; a client that says it is one is not believed. As in
    // Kafka, a level that does not exist fails all partitions.
    let isolation = if request.replica_id >= 0 {
        Err(ErrorCode::ClusterAuthorizationFailed)
    } else {
        IsolationLevel::from_wire(request.isolation_level).ok_or(ErrorCode::UnknownServerError)
    };
    let mut counts: HashMap<(&str, i32), usize> = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *counts.entry((&topic.name, partition.partition_index)).or_default() += 1;
        }
    }
    let mut asked = request.topics.iter().flat_map(|topic| &topic.partitions);
    if asked.any(|partition| partition.timestamp == LATEST) {
        context.remotely(broker.until_up_to_date()).await;
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let found = match counts.get_mut(&(topic.name.as_str(), partition.partition_index)) {
                // Answered already.
                Some(0) => continue,
                // A partition that is asked for twice is refused once.
                Some(count) if *count > 1 => {
                    *count = 0;
                    Err(ErrorCode::InvalidRequest)
                }
                _ => match isolation {
                    Ok(isolation) => find(broker, context, &topic.name, partition, isolation).await,
                    Err(code) => Err(code),
                },
            };
            partitions.push(respond(context, partition.partition_index, found));
        }
        if !partitions.is_empty() || topic.partitions.is_empty() {
            topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
        }
    }
    ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }
}

fn respond(
    context: &RequestContext,
    partition_index: i32,
    found: Result<TimestampOffset, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: found.timestamp.0,
            offset: found.offset.0,
            leader_epoch: found.leader_epoch.0,
            ..ListOffsetsPartitionResponse::default()
        },
        Err(code) => {
            context.note_error(code);
            ListOffsetsPartitionResponse {
                partition_index,
                error_code: code.code(),
                ..ListOffsetsPartitionResponse::default()
            }
        }
    }
}

async fn find(
    broker: &Arc<Broker>,
    context: &RequestContext,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: IsolationLevel,
) -> Result<TimestampOffset, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let handle = {
        let image = broker.metadata.load();
        let topic_id = image.topic_id(topic).ok_or(unknown)?;
        let partition = PartitionIndex(wanted.partition_index);
        let name = TopicIdPartition { topic_id, partition };
        led(&image, &broker.partitions, &name, wanted.current_leader_epoch)?
    };
    check_version(context.api_version, wanted.timestamp)?;
    let upper = match isolation {
        IsolationLevel::ReadCommitted => handle.last_stable_offset(),
        IsolationLevel::ReadUncommitted => handle.high_watermark(),
    };
    // What a new leader does not know to be committed may have been, so that the end is not told
    // before it does (KIP-207).
    let not_available = match context.api_version {
        OFFSET_NOT_AVAILABLE_VERSION_MIN.. => ErrorCode::OffsetNotAvailable,
        _ => ErrorCode::LeaderNotAvailable,
    };
    let is_current = handle.is_high_watermark_current();
    let epoch = handle.leader_epoch();
    let nothing = TimestampOffset {
        timestamp: TimestampMs(-1),
        offset: Offset(-1),
        leader_epoch: LeaderEpoch(-1),
    };
    match wanted.timestamp {
        LATEST if !is_current => Err(not_available),
        // A leader that is cut off does not know of what its successor appended.
        LATEST if !broker.is_up_to_date() => Err(ErrorCode::NotLeaderOrFollower),
        LATEST => Ok(TimestampOffset { offset: upper, leader_epoch: epoch, ..nothing }),
        EARLIEST | EARLIEST_LOCAL | EARLIEST_PENDING_UPLOAD => {
            let offset = handle.log_start();
            let leader_epoch = handle.reader().epoch_at(offset).unwrap_or(epoch);
            Ok(TimestampOffset { offset, leader_epoch, ..nothing })
        }
        LATEST_TIERED => Ok(nothing),
        timestamp => {
            let found = search(handle, timestamp, upper).await.map_err(|error| {
                tracing::warn!(%error, "a search by time failed");
                read_error(&error)
            })?;
            match found {
                Some(found) if is_current || timestamp != MAX_TIMESTAMP => Ok(found),
                None if is_current => Ok(nothing),
                _ => Err(not_available),
            }
        }
    }
}

/// Looks records up by time; reads the disk, and so does not run on a network worker.
async fn search(
    handle: PartitionHandle,
    timestamp: i64,
    upper: Offset,
) -> Result<Option<TimestampOffset>, ReadError> {
    spawn::blocking(move || {
        if timestamp == MAX_TIMESTAMP {
            handle.reader().max_timestamp(upper)
        } else {
            handle.reader().offset_for_timestamp(TimestampMs(timestamp), upper)
        }
    })
    .await
}

/// Each special timestamp came with a version; those below them may come with a later one.
fn check_version(version: i16, timestamp: i64) -> Result<(), ErrorCode> {
    let version_min = match timestamp {
        ..EARLIEST_PENDING_UPLOAD => return Err(ErrorCode::UnsupportedVersion),
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => return Ok(()),
    };
    if version < version_min { Err(ErrorCode::UnsupportedVersion) } else { Ok(()) }
}
