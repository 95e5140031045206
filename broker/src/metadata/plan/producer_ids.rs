//! Producer ids, handed to brokers in blocks so that few of them cost a metadata record (KIP-730).

use varve_protocol::vocabulary::{BrokerId, ProducerId};
use varve_replication::sabotage::{self, Sabotage};

use super::super::image::MetadataImage;
use super::super::record::{MetadataRecord, ProducerIdBlockRecord};

/// How many ids a block holds, as in Kafka.
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1_000;

/// Ids that one broker may hand out, each once. What it does not use before it stops is never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first id.
    pub start: ProducerId,
    /// The id after the last.
    pub end: ProducerId,
}

/// Plans the next block. None when all of them have been handed out, which takes longer than any
/// cluster lives.
#[must_use]
pub fn plan_producer_ids(
    image: &MetadataImage,
    broker: BrokerId,
) -> Option<(MetadataRecord, ProducerIdBlock)> {
    let start = image.next_producer_id();
    let next = start.checked_add(PRODUCER_ID_BLOCK_SIZE)?;
    let broker_epoch = image.broker(broker).map_or(-1, |broker| broker.epoch);
    let is_repeated = sabotage::is_on(Sabotage::GiveProducerIdsTwice);
    let next_of_all = if is_repeated { start } else { next };
    let record = ProducerIdBlockRecord { broker, broker_epoch, next: next_of_all };
    let block = ProducerIdBlock { start: ProducerId(start), end: ProducerId(next) };
    Some((MetadataRecord::ProducerIdBlock(record), block))
}
