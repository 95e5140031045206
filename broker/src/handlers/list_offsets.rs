//! ListOffsets (API 2): offsets by time, and the ends of partitions.

use std::collections::HashSet;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use varve_protocol::vocabulary::{
    LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicIdPartition,
};
use varve_storage::{ReadError, TimestampOffset};

use super::RequestContext;
use super::error_table::read_error;
use super::fetch::check_leader_epoch;
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

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let is_committed_only = request.isolation_level == 1;
    let mut seen = HashSet::new();
    let mut doubled = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if !seen.insert((topic.name.as_str(), partition.partition_index)) {
                doubled.insert((topic.name.clone(), partition.partition_index));
            }
        }
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let is_double = doubled.contains(&(topic.name.clone(), partition.partition_index));
            let found = if is_double {
                Err(ErrorCode::InvalidRequest)
            } else {
                find(broker, context, &topic.name, partition, is_committed_only).await
            };
            partitions.push(respond(context, partition.partition_index, found));
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
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
    is_committed_only: bool,
) -> Result<TimestampOffset, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let topic_id = broker.metadata.load().topic_id(topic).ok_or(unknown)?;
    let partition = PartitionIndex(wanted.partition_index);
    let handle = broker.partitions.get(&TopicIdPartition { topic_id, partition }).ok_or(unknown)?;
    check_leader_epoch(&handle, wanted.current_leader_epoch)?;
    check_version(context.api_version, wanted.timestamp)?;
    let upper =
        if is_committed_only { handle.last_stable_offset() } else { handle.high_watermark() };
    let epoch = handle.leader_epoch();
    let nothing = TimestampOffset {
        timestamp: TimestampMs(-1),
        offset: Offset(-1),
        leader_epoch: LeaderEpoch(-1),
    };
    match wanted.timestamp {
        LATEST => Ok(TimestampOffset { offset: upper, leader_epoch: epoch, ..nothing }),
        EARLIEST | EARLIEST_LOCAL | EARLIEST_PENDING_UPLOAD => {
            let offset = handle.log_start();
            let leader_epoch = handle.reader().epoch_at(offset).unwrap_or(epoch);
            Ok(TimestampOffset { offset, leader_epoch, ..nothing })
        }
        LATEST_TIERED => Ok(nothing),
        timestamp => {
            let found = search(handle, timestamp, upper).await;
            found.map(|found| found.unwrap_or(nothing)).map_err(|error| {
                tracing::warn!(%error, "a search by time failed");
                read_error(&error)
            })
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

/// Each special timestamp came with a version; others are no times at all.
fn check_version(version: i16, timestamp: i64) -> Result<(), ErrorCode> {
    let version_min = match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        ..EARLIEST_PENDING_UPLOAD => return Err(ErrorCode::InvalidRequest),
        _ => return Ok(()),
    };
    if version < version_min { Err(ErrorCode::UnsupportedVersion) } else { Ok(()) }
}
