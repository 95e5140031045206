//! A1, A17: what a producer is told to be taken is committed, at the offset that it is told, and lies
//! durably on at least `min.insync.replicas` replicas.
//!
//! A replica that the administrator takes off deletes its log as soon as it hears of that, and what it
//! told of that log may reach a leader that has not heard: what such a leader answers lay on enough
//! replicas when they told, and fewer are there because somebody wanted it so. One whose disk has harmed its
//! log cuts it as soon as it hears that it is not in sync any more, which its leader may not have heard either.

use varve_protocol::vocabulary::{BrokerId, Offset, TopicIdPartition};

use super::committed::Committed;
use super::replica_log::{ReplicaLog, Replicas};
use super::{Verdict, violated};

/// What an acknowledgement must be true of.
#[derive(Debug)]
pub struct Demand<'a> {
    /// All brokers.
    pub brokers: &'a [BrokerId],
    /// `min.insync.replicas`.
    pub min_insync: usize,
    /// Who answers has yet to hear what the newest metadata says of the partition, or has heard it in this step: what
    /// it heard first may have decided.
    pub is_behind: bool,
}

/// A batch that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Where to.
    pub tip: TopicIdPartition,
    /// Its CRC.
    pub crc: u32,
    /// Its producer.
    pub producer: i64,
    /// Its first sequence.
    pub sequence: i32,
}

/// How many acknowledgements there were.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// So many.
    pub count: u64,
}

impl Acknowledged {
    /// A leader tells a producer that its batch is taken.
    ///
    /// # Errors
    /// If it is not.
    pub fn on_answer(
        &mut self,
        sent: Sent,
        offset: Offset,
        (committed, replicas): (&Committed, &Replicas),
        demand: &Demand<'_>,
    ) -> Verdict {
        self.count += 1;
        if committed.is_unknown(sent.tip, offset.0) {
            return Ok(());
        }
        let known = committed.of(sent.tip);
        let Ok(at) = known.binary_search_by_key(&offset.0, |batch| batch.base) else {
            let what = format!("{sent:?} at {offset}, committed is {}", committed.end(sent.tip));
            return violated("A1: what is acknowledged is committed", what);
        };
        let batch = known[at];
        if (batch.crc, batch.producer, batch.sequence) != (sent.crc, sent.producer, sent.sequence) {
            let what = format!("{sent:?} at {offset}, where {batch:?} is");
            return violated("A5: an acknowledgement names the batch's own offset", what);
        }
        let is_in = |log: &ReplicaLog| {
            log.is_unread() || (log.durable >= batch.next && log.batches.get(at) == Some(&batch))
        };
        let holds = |id: &&BrokerId| {
            let given_up = || replicas.given_up(sent.tip, **id).filter(|_| demand.is_behind);
            replicas.get(sent.tip, **id).is_some_and(is_in) || given_up().is_some_and(is_in)
        };
        let holders = demand.brokers.iter().filter(holds).count();
        if holders < demand.min_insync {
            let least = demand.min_insync;
            let what = format!("{sent:?} at {offset} lies on {holders} of {least} replicas");
            return violated("A17: what is acknowledged lies on enough replicas", what);
        }
        Ok(())
    }
}
