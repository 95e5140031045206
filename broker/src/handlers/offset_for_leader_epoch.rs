//! OffsetForLeaderEpoch (API 23): where a leader epoch ends (KIP-101, KIP-279, KIP-320).

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, PartitionIndex, TopicIdPartition};

use super::RequestContext;
use super::leadership::led;
use crate::broker::Broker;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    // Followers have a listener of their own; a client that says it is one is not believed.
    let is_replica = request.replica_id >= 0;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = match is_replica {
                true => Err(ErrorCode::ClusterAuthorizationFailed),
                false => find(broker, &topic.topic, wanted),
            };
            let partition = wanted.partition;
            match found {
                Ok((epoch, end)) => EpochEndOffset {
                    partition,
                    leader_epoch: epoch.0,
                    end_offset: end.0,
                    ..EpochEndOffset::default()
                },
                Err(code) => {
                    context.note_error(code);
                    let error_code = code.code();
                    EpochEndOffset { partition, error_code, ..EpochEndOffset::default() }
                }
            }
        });
        let partitions = partitions.collect();
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() }
}

fn find(
    broker: &Broker,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let image = broker.metadata.load();
    let topic_id = image.topic_id(topic).ok_or(unknown)?;
    let partition = PartitionIndex(wanted.partition);
    let name = TopicIdPartition { topic_id, partition };
    let handle = led(&image, &broker.partitions, &name, wanted.current_leader_epoch)?;
    let epoch = LeaderEpoch(wanted.leader_epoch);
    if epoch == handle.leader_epoch() {
        // The current epoch ends where consumers stop reading, but never before it began.
        let end = handle.high_watermark().max(handle.role().epoch_start);
        return Ok((epoch, end));
    }
    let undefined = (LeaderEpoch(-1), Offset(-1));
    Ok(handle.reader().end_offset_for_epoch(epoch).unwrap_or(undefined))
}
