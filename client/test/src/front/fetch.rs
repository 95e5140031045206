//! Fetch: records as soon as there are enough of them. There are no sessions, so that every request names all partitions.

use varve_broker::metadata::MetadataImage;
use varve_broker::simulation::SteppedBroker;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::fetch::{
    EpochEndOffset, FetchPartition, FetchableTopicResponse, PartitionData,
};
use varve_protocol::messages::{FetchRequest, FetchResponse};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicId};

use super::{Kind, topics};
use crate::world::World;

impl World {
    pub(super) fn fetch(&mut self, number: u64, request: FetchRequest) {
        let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
        self.overdue_after(number, wait_ms * 1_000);
        self.look_for_records(number, request, wait_ms == 0);
    }

    pub(super) fn look_for_records(
        &mut self,
        number: u64,
        request: FetchRequest,
        is_overdue: bool,
    ) {
        let Some(broker) = self.broker(number) else { return };
        let mut pass = Pass { bytes: 0, has_news: false };
        let image = broker.metadata().image;
        let response = pass.run(broker, &image, &request);
        let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
        if is_overdue || pass.has_news || pass.bytes >= bytes_min {
            self.answer(number, &response);
        } else {
            self.wait_for(number, Kind::Fetch(request));
        }
    }
}

/// One look at all partitions of a request.
struct Pass {
    bytes: usize,
    /// Something is to be said at once.
    has_news: bool,
}

impl Pass {
    fn run(
        &mut self,
        broker: &SteppedBroker,
        image: &MetadataImage,
        request: &FetchRequest,
    ) -> FetchResponse {
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
        let mut response = FetchResponse::default();
        for topic in &request.topics {
            let partitions = topic.partitions.iter().map(|wanted| {
                let room = bytes_max.saturating_sub(self.bytes);
                let data = read(broker, image, (&topic.topic, topic.topic_id), wanted, room);
                let data = data.unwrap_or_else(|code| PartitionData {
                    partition_index: wanted.partition,
                    error_code: code.code(),
                    high_watermark: -1,
                    ..Default::default()
                });
                self.bytes += data.records.len();
                self.has_news |= data.error_code != 0 || data.diverging_epoch.epoch >= 0;
                data
            });
            response.responses.push(FetchableTopicResponse {
                partitions: partitions.collect(),
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
            });
        }
        response
    }
}

fn read(
    broker: &SteppedBroker,
    image: &MetadataImage,
    (name, id): (&str, TopicId),
    wanted: &FetchPartition,
    room: usize,
) -> Result<PartitionData, ErrorCode> {
    let topic = topics::topic(image, name, id)?;
    let tip = topics::partition(topic, wanted.partition)?;
    let replica = broker.led(&tip, wanted.current_leader_epoch)?;
    let at = &replica.positions;
    let mut data = PartitionData {
        partition_index: wanted.partition,
        high_watermark: at.high_watermark.0,
        last_stable_offset: at.last_stable.0,
        log_start_offset: at.log_start.0,
        ..Default::default()
    };
    let from = Offset(wanted.fetch_offset);
    if wanted.last_fetched_epoch >= 0 {
        let known = broker.epoch_end(&tip, LeaderEpoch(wanted.last_fetched_epoch));
        let (epoch, end) = known.unwrap_or((LeaderEpoch(-1), Offset(-1)));
        if epoch.0 < wanted.last_fetched_epoch || end < from {
            // KIP-595: what was read last is not in this log.
            data.diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end.0 };
            return Ok(data);
        }
    }
    let bytes_max = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(room);
    let served = broker.serve(&tip, wanted.current_leader_epoch, from, bytes_max)?;
    data.records = served.records.into();
    Ok(data)
}
