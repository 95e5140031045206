//! C4: a batch that a leader has among the last five of its producer is recognized when it comes again,
//! and never taken for a gap (KIP-98, KAFKA-5494). What was deleted may be forgotten.

use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::{BatchMark, Replicas, Verdict, violated};

/// So many batches of a producer are remembered.
const WINDOW: usize = 5;

/// Broker `id` has just refused a batch as out of order.
pub(in crate::sim) fn check(
    tip: TopicIdPartition,
    id: BrokerId,
    (producer, crc): (i64, u32),
    replicas: &Replicas,
) -> Verdict {
    let Some(log) = replicas.get(tip, id) else { return Ok(()) };
    let is_own = |batch: &&BatchMark| batch.producer == producer && batch.next > log.start;
    let own = log.batches.iter().rev().filter(is_own);
    if let Some(batch) = own.take(WINDOW).find(|batch| batch.crc == crc) {
        let what = format!("{tip} on {id}: {batch:?} is refused as out of order");
        return violated("C4: out of order is a gap only", what);
    }
    Ok(())
}
