//! ListOffsets and OffsetForLeaderEpoch: where logs begin and end, and where times and epochs lie in them.

use varve_broker::simulation::SteppedBroker;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use varve_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use varve_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs, TopicId};

use super::topics;
use crate::world::World;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

impl World {
    pub(super) fn list_offsets(&mut self, number: u64, request: ListOffsetsRequest) {
        let Some(broker) = self.broker(number) else { return };
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|wanted| {
                let found = find(broker, &topic.name, wanted);
                let partition_index = wanted.partition_index;
                match found {
                    Ok((offset, timestamp, leader_epoch)) => ListOffsetsPartitionResponse {
                        partition_index,
                        timestamp,
                        offset,
                        leader_epoch,
                        ..Default::default()
                    },
                    Err(code) => ListOffsetsPartitionResponse {
                        partition_index,
                        error_code: code.code(),
                        ..Default::default()
                    },
                }
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse { name: topic.name, partitions }
        });
        let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
        self.answer(number, &response);
    }

    pub(super) fn offsets_for_epochs(&mut self, number: u64, request: OffsetForLeaderEpochRequest) {
        let Some(broker) = self.broker(number) else { return };
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|wanted| {
                let partition = wanted.partition;
                match epoch_end(broker, &topic.topic, wanted) {
                    Ok((epoch, end)) => EpochEndOffset {
                        partition,
                        leader_epoch: epoch.0,
                        end_offset: end.0,
                        ..Default::default()
                    },
                    Err(code) => {
                        EpochEndOffset { partition, error_code: code.code(), ..Default::default() }
                    }
                }
            });
            let partitions = partitions.collect();
            OffsetForLeaderTopicResult { topic: topic.topic, partitions }
        });
        let topics = topics.collect();
        let response = OffsetForLeaderEpochResponse { topics, ..Default::default() };
        self.answer(number, &response);
    }
}

/// Offset, timestamp and leader epoch.
fn find(
    broker: &SteppedBroker,
    name: &str,
    wanted: &ListOffsetsPartition,
) -> Result<(i64, i64, i32), ErrorCode> {
    let image = broker.metadata().image;
    let tip =
        topics::partition(topics::topic(&image, name, TopicId::ZERO)?, wanted.partition_index)?;
    let replica = broker.led(&tip, wanted.current_leader_epoch)?;
    let (at, epoch) = (&replica.positions, replica.role.leader_epoch.0);
    // What a new leader does not know to be committed may have been (KIP-207).
    let is_current = at.high_watermark >= replica.role.epoch_start;
    match wanted.timestamp {
        EARLIEST | EARLIEST_LOCAL => Ok((at.log_start.0, -1, epoch)),
        _ if !is_current => Err(ErrorCode::OffsetNotAvailable),
        LATEST => Ok((at.high_watermark.0, -1, epoch)),
        MAX_TIMESTAMP | 0.. => {
            let timestamp = Some(TimestampMs(wanted.timestamp)).filter(|at| at.0 >= 0);
            let found = broker.record_at(&tip, timestamp);
            Ok(found.map_or((-1, -1, -1), |found| {
                (found.offset.0, found.timestamp.0, found.leader_epoch.0)
            }))
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

fn epoch_end(
    broker: &SteppedBroker,
    name: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let image = broker.metadata().image;
    let tip = topics::partition(topics::topic(&image, name, TopicId::ZERO)?, wanted.partition)?;
    broker.epoch_end_for(&tip, wanted.current_leader_epoch, LeaderEpoch(wanted.leader_epoch))
}
