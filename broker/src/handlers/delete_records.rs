//! DeleteRecords (API 21): moves the start of partitions forward, at all in-sync replicas.

use std::sync::Arc;
use std::time::Duration;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use varve_protocol::vocabulary::{Offset, PartitionIndex, TopicIdPartition};

use super::RequestContext;
use super::error_table::delete_records_error;
use super::leadership::led;
use crate::broker::Broker;
use crate::shard::StartedDeletion;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    // All are begun before the first is waited for: their followers work side by side.
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut begun = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let started = begin(broker, &topic.name, &partition, timeout).await;
            partitions.push((partition.partition_index, started));
        }
        begun.push((topic.name, partitions));
    }
    let mut topics = Vec::with_capacity(begun.len());
    for (name, begun) in begun {
        let mut partitions = Vec::with_capacity(begun.len());
        for (partition_index, started) in begun {
            let result = match started {
                Ok(started) => started.wait().await.map_err(|error| {
                    tracing::info!(topic = name, partition = partition_index, %error,
                        "records were not deleted");
                    delete_records_error(&error)
                }),
                Err(code) => Err(code),
            };
            if let Err(code) = result {
                context.note_error(code);
            }
            partitions.push(DeleteRecordsPartitionResult {
                partition_index,
                low_watermark: result.map_or(-1, |low_watermark| low_watermark.0),
                error_code: result.err().unwrap_or(ErrorCode::None).code(),
            });
        }
        topics.push(DeleteRecordsTopicResult { name, partitions });
    }
    DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() }
}

async fn begin(
    broker: &Broker,
    topic: &str,
    wanted: &DeleteRecordsPartition,
    timeout: Duration,
) -> Result<StartedDeletion, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let handle = {
        let image = broker.metadata.load();
        let topic = image.topic(topic).ok_or(unknown)?;
        if topic.is_internal {
            return Err(ErrorCode::InvalidTopicException);
        }
        let partition = PartitionIndex(wanted.partition_index);
        let name = TopicIdPartition { topic_id: topic.id, partition };
        led(&image, &broker.partitions, &name, -1)?
    };
    let config = handle.config();
    if config.cleanup.compact && !config.cleanup.delete {
        // As Kafka does: a compacted topic forgets by key.
        return Err(ErrorCode::PolicyViolation);
    }
    let before = match wanted.offset {
        HIGH_WATERMARK => None,
        offset if offset < 0 => return Err(ErrorCode::OffsetOutOfRange),
        offset => Some(Offset(offset)),
    };
    let started = handle.start_deletion(before, timeout).await;
    started.map_err(|error| delete_records_error(&error))
}
