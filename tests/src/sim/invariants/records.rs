//! A3, A4, A5, A7, A9, record by record, of a producer of the client crate: what is committed was sent, and not told to be
//! unwritten; each record is there once, in the order in which it was taken in, at the offset that was told. Its batches
//! may go under other numbers when it begins its sequences anew, so that theirs say little of its records.
//!
//! What was deleted may be forgotten, as batches may (see [`super::committed`]).

use std::collections::{BTreeMap, BTreeSet};

use varve_protocol::vocabulary::TopicIdPartition;

use super::{BatchMark, Verdict, violated};

/// What identifies a batch that was sent.
type Sent = (TopicIdPartition, i64, i16, i32, u32);

/// The records of one producer.
#[derive(Debug, Default)]
pub struct Records {
    /// The first producer id that it has.
    ids_from: Option<i64>,
    /// Its records by the batches that it sent them in.
    sent: BTreeMap<Sent, Vec<u64>>,
    /// Where each record is committed, as far as that is not deleted.
    committed: BTreeMap<u64, i64>,
    /// By partition: the last of its records, and the offset after its batch.
    last: BTreeMap<TopicIdPartition, (u64, i64)>,
    /// What was told to be not written.
    unwritten: BTreeSet<u64>,
}

impl Records {
    /// The producer's ids begin here; others have smaller ones.
    pub fn set_ids(&mut self, from: i64) {
        self.ids_from = Some(from);
    }

    /// A batch of these records is sent.
    pub fn on_sent(
        &mut self,
        tip: TopicIdPartition,
        mark: (i64, i16, i32, u32),
        records: Vec<u64>,
    ) {
        let (producer, epoch, sequence, crc) = mark;
        self.sent.insert((tip, producer, epoch, sequence, crc), records);
    }

    /// The producer says that a record stands at this offset.
    ///
    /// # Errors
    /// If it does not.
    pub fn on_written(&self, record: u64, offset: i64) -> Verdict {
        match self.committed.get(&record) {
            Some(at) if *at == offset || offset < 0 => Ok(()),
            at => {
                let what = format!("record {record} is told to be at {offset}, it is at {at:?}");
                violated("A1, A5: a record is where its producer says", what)
            }
        }
    }

    /// The producer says that a record is not written, and never will be.
    ///
    /// # Errors
    /// If it is.
    pub fn on_unwritten(&mut self, record: u64) -> Verdict {
        self.unwritten.insert(record);
        match self.committed.get(&record) {
            None => Ok(()),
            Some(at) => aborted(record, *at),
        }
    }

    /// A batch is committed, in a log that begins at `start`.
    pub(super) fn on_committed(
        &mut self,
        tip: TopicIdPartition,
        batch: &BatchMark,
        start: i64,
    ) -> Verdict {
        if self.ids_from.is_none_or(|from| batch.producer < from) {
            return Ok(());
        }
        let name = (tip, batch.producer, batch.producer_epoch, batch.sequence, batch.crc);
        let Some(records) = self.sent.get(&name) else {
            return violated("A3: what is committed was sent", format!("{tip}: {batch:?}"));
        };
        for (record, offset) in records.iter().zip(batch.base..) {
            if let Some(at) = self.committed.get(record).filter(|at| **at >= start) {
                let what = format!("{tip}: record {record} at {at} and at {offset}");
                return violated("A7: a record is there once", what);
            }
            if self.unwritten.contains(record) {
                return aborted(*record, offset);
            }
            let last = self.last.insert(tip, (*record, batch.next));
            if let Some((last, end)) = last
                && last >= *record
                && end > start
            {
                let what = format!("{tip}: record {record} at {offset}, after {last}");
                return violated("A9: records are in their producer's order", what);
            }
            self.committed.insert(*record, offset);
        }
        Ok(())
    }
}

fn aborted(record: u64, offset: i64) -> Verdict {
    let what = format!("record {record}, told to be not written, is at {offset}");
    violated("A4: what is told to be not written never appears", what)
}
