//! Produce, and DeleteRecords, which waits in the same way.

use varve_broker::shard::{DeleteRecordsError, ProduceError};
use varve_broker::simulation::{batch_error, produce_error};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use varve_protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use varve_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ProduceRequest, ProduceResponse,
};
use varve_protocol::records::{
    BatchOrigin, DecompressLimits, ValidatedBatch, ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{Offset, TopicId, TopicIdPartition};

use super::{Kind, topics};
use crate::world::World;

impl World {
    /// Whatever the client asks for, all in-sync replicas have a record before it is acknowledged.
    pub(super) fn produce(&mut self, number: u64, request: ProduceRequest) {
        let ProduceRequest { transactional_id, acks, timeout_ms, topic_data } = request;
        let Some(broker) = self.broker(number) else { return };
        let image = broker.metadata().image;
        let limits = ValidationLimits {
            decompress: DecompressLimits::default(),
            origin: BatchOrigin::Client,
        };
        let mut response = ProduceResponse::default();
        let mut batches = Vec::new();
        let mut place = 0;
        for topic in topic_data {
            let found = topics::topic(&image, &topic.name, topic.topic_id);
            let mut answers = Vec::new();
            for data in topic.partition_data {
                let judged = match &found {
                    _ if transactional_id.is_some() => Err(ErrorCode::InvalidTxnState),
                    Ok(topic) if topic.is_internal => Err(ErrorCode::InvalidTopicException),
                    Ok(topic) => topics::partition(topic, data.index).and_then(|tip| {
                        let batch = validate_batch(data.records.unwrap_or_default(), &limits);
                        Ok((tip, batch.map_err(|error| batch_error(&error))?))
                    }),
                    Err(code) => Err(*code),
                };
                let code = judged.as_ref().err().copied().unwrap_or(ErrorCode::None);
                answers.push(PartitionProduceResponse {
                    index: data.index,
                    error_code: code.code(),
                    base_offset: -1,
                    ..Default::default()
                });
                if let Ok((tip, batch)) = judged {
                    batches.push((place, tip, batch));
                }
                place += 1;
            }
            response.responses.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses: answers,
            });
        }
        let open = batches.len();
        self.wait_for(number, Kind::Produce { response, open, is_answered: acks != 0 });
        self.append(number, batches, i64::from(timeout_ms));
        self.finish_produce(number);
    }

    fn append(
        &mut self,
        number: u64,
        batches: Vec<(usize, TopicIdPartition, ValidatedBatch)>,
        timeout_ms: i64,
    ) {
        for (place, tip, batch) in batches {
            let part = self.front.part(number, place);
            let Some(request) = self.front.requests.get(&number) else { return };
            let (index, run) = request.machine;
            self.step(index, run, "produce", |broker| broker.produce(part, tip, batch, timeout_ms));
        }
    }

    pub(crate) fn on_produced(&mut self, part: u64, result: Result<Offset, ProduceError>) {
        let Some((number, place)) = self.take_part(part) else { return };
        let Some(request) = self.front.requests.get_mut(&number) else { return };
        let Kind::Produce { response, open, .. } = &mut request.kind else { return };
        *open -= 1;
        let mut answers =
            response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses);
        let answer = answers.nth(place).expect("every batch has its place");
        match result {
            Ok(offset) => answer.base_offset = offset.0,
            Err(error) => {
                answer.error_code = produce_error(&error).code();
                answer.error_message = Some(error.to_string());
            }
        }
        self.finish_produce(number);
    }

    fn finish_produce(&mut self, number: u64) {
        let Some(request) = self.front.requests.get_mut(&number) else { return };
        let Kind::Produce { response, open: 0, is_answered } = &mut request.kind else { return };
        let (response, is_answered) = (std::mem::take(response), *is_answered);
        match is_answered {
            true => self.answer(number, &response),
            false => self.finish_silently(number),
        }
    }

    pub(super) fn delete_records(&mut self, number: u64, request: DeleteRecordsRequest) {
        let Some(broker) = self.broker(number) else { return };
        let image = broker.metadata().image;
        let mut response = DeleteRecordsResponse::default();
        let mut wishes = Vec::new();
        let mut place = 0;
        for topic in request.topics {
            let found = topics::topic(&image, &topic.name, TopicId::ZERO);
            let mut answers = Vec::new();
            for wish in topic.partitions {
                let tip = match &found {
                    Ok(topic) => topics::partition(topic, wish.partition_index),
                    Err(code) => Err(*code),
                };
                let led = tip.and_then(|tip| {
                    let replica = broker.led(&tip, -1)?;
                    // -1: everything that is committed.
                    let end = replica.positions.high_watermark;
                    Ok((tip, if wish.offset < 0 { end } else { Offset(wish.offset) }))
                });
                let code = led.as_ref().err().copied().unwrap_or(ErrorCode::None);
                answers.push(DeleteRecordsPartitionResult {
                    partition_index: wish.partition_index,
                    low_watermark: -1,
                    error_code: code.code(),
                });
                if let Ok((tip, before)) = led {
                    wishes.push((place, tip, before));
                }
                place += 1;
            }
            let name = topic.name;
            response.topics.push(DeleteRecordsTopicResult { name, partitions: answers });
        }
        let open = wishes.len();
        self.wait_for(number, Kind::Delete { response, open });
        for (place, tip, before) in wishes {
            let part = self.front.part(number, place);
            let Some(request) = self.front.requests.get(&number) else { return };
            let (index, run) = request.machine;
            self.step(index, run, "delete", |broker| broker.delete_records(part, tip, before));
        }
        self.finish_delete(number);
    }

    pub(crate) fn on_deleted(&mut self, part: u64, result: Result<Offset, DeleteRecordsError>) {
        let Some((number, place)) = self.take_part(part) else { return };
        let Some(request) = self.front.requests.get_mut(&number) else { return };
        let Kind::Delete { response, open } = &mut request.kind else { return };
        *open -= 1;
        let mut answers = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        let answer = answers.nth(place).expect("every wish has its place");
        match result {
            Ok(log_start) => answer.low_watermark = log_start.0,
            Err(DeleteRecordsError::NotLeader) => {
                answer.error_code = ErrorCode::NotLeaderOrFollower.code();
            }
            Err(_) => answer.error_code = ErrorCode::OffsetOutOfRange.code(),
        }
        self.finish_delete(number);
    }

    fn finish_delete(&mut self, number: u64) {
        let Some(request) = self.front.requests.get_mut(&number) else { return };
        if let Kind::Delete { response, open: 0 } = &mut request.kind {
            let response = std::mem::take(response);
            self.answer(number, &response);
        }
    }
}
