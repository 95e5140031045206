//! DescribeProducers (API 61; KIP-664): which idempotent producers a partition remembers.

use std::collections::HashSet;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use varve_protocol::vocabulary::{PartitionIndex, TopicIdPartition};
use varve_storage::ProducerSummary;

use super::RequestContext;
use super::leadership::led;
use crate::broker::Broker;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    // A partition's producers are some thousand times as large as its number: it is told once.
    let mut seen = HashSet::new();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for partition_index in topic.partition_indexes {
            if !seen.insert((topic.name.clone(), partition_index)) {
                continue;
            }
            let response = match find(broker, &topic.name, partition_index).await {
                Ok(producers) => PartitionResponse {
                    partition_index,
                    active_producers: producers.iter().map(state).collect(),
                    ..PartitionResponse::default()
                },
                Err(code) => {
                    context.note_error(code);
                    PartitionResponse {
                        partition_index,
                        error_code: code.code(),
                        ..PartitionResponse::default()
                    }
                }
            };
            partitions.push(response);
        }
        topics.push(TopicResponse { name: topic.name, partitions });
    }
    DescribeProducersResponse { topics, ..DescribeProducersResponse::default() }
}

async fn find(
    broker: &Broker,
    topic: &str,
    partition: i32,
) -> Result<Vec<ProducerSummary>, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let handle = {
        let image = broker.metadata.load();
        let topic_id = image.topic_id(topic).ok_or(unknown)?;
        let name = TopicIdPartition { topic_id, partition: PartitionIndex(partition) };
        led(&image, &broker.partitions, &name, -1)?
    };
    // Without a shard that answers, this broker leads nothing any more.
    handle.producers().await.ok_or(ErrorCode::NotLeaderOrFollower)
}

fn state(producer: &ProducerSummary) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_write_ms,
        // No coordinator has written a marker.
        coordinator_epoch: -1,
        current_txn_start_offset: producer.open_transaction.map_or(-1, |offset| offset.0),
    }
}
