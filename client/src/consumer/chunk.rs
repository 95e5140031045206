//! What one fetch brought for one partition, and walking over its records: batch by batch, decompressed one at a
//! time, records as slices of the frame.

use crate::record::ConsumerRecord;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use varve_protocol::records::{
    BatchHeader, Batches, ControlRecordType, DecompressLimits, RecordBatch, Records,
};

/// Batches of one partition, as they came.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The partition's token when it was fetched; another one since makes this worthless.
    pub(super) token: u64,
    /// The first offset that is wanted; the first batch may begin below it.
    pub(super) from: i64,
    pub(super) bytes: Bytes,
    /// Aborted transactions in `bytes`, by first offset; only for `read_committed`.
    pub(super) aborted: VecDeque<(i64, i64)>,
    pub(super) is_read_committed: bool,
}

/// Where the next fetch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkEnd {
    pub(super) next_offset: i64,
    pub(super) leader_epoch: i32,
}

impl Chunk {
    /// Behind the last whole batch; `None` if there is none.
    pub(super) fn end(&self) -> Option<ChunkEnd> {
        let mut end = None;
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..)
            && let Ok(header) = BatchHeader::parse(rest)
            && header.size() <= rest.len()
        {
            end = Some(ChunkEnd {
                next_offset: header.next_offset().0,
                leader_epoch: header.partition_leader_epoch.0,
            });
            at += header.size();
        }
        end
    }
}

/// A chunk being read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) token: u64,
    from: i64,
    batches: Batches,
    current: Option<(RecordBatch, Records)>,
    aborted: VecDeque<(i64, i64)>,
    aborted_producers: BTreeSet<i64>,
    is_read_committed: bool,
    checks_crcs: bool,
    /// A record that was taken out and put back.
    put_back: Option<ConsumerRecord>,
    /// Behind everything walked over so far.
    position: i64,
}

impl Reading {
    pub(super) fn new(chunk: Chunk, checks_crcs: bool) -> Self {
        Reading {
            topic: chunk.topic,
            partition: chunk.partition,
            token: chunk.token,
            from: chunk.from,
            batches: Batches::new(chunk.bytes),
            current: None,
            aborted: chunk.aborted,
            aborted_producers: BTreeSet::new(),
            is_read_committed: chunk.is_read_committed,
            checks_crcs,
            put_back: None,
            position: chunk.from,
        }
    }

    /// Behind everything walked over so far, records that are not delivered included.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// Puts a record back, to be the next again.
    pub(super) fn put_back(&mut self, record: ConsumerRecord) {
        self.position = record.offset;
        self.put_back = Some(record);
    }

    /// The next record to deliver.
    ///
    /// # Errors
    /// What is wrong with the batch at [`position`](Self::position), in words.
    pub(super) fn next(&mut self) -> Result<Option<ConsumerRecord>, String> {
        if let Some(record) = self.put_back.take() {
            self.position = record.offset + 1;
            return Ok(Some(record));
        }
        loop {
            if let Some((batch, records)) = &mut self.current {
                for record in records.by_ref() {
                    let record = record.map_err(|error| error.to_string())?;
                    let offset = batch.offset_of(&record).0;
                    if offset < self.from {
                        continue;
                    }
                    self.position = offset + 1;
                    let header = batch.header();
                    return Ok(Some(ConsumerRecord {
                        topic: Arc::clone(&self.topic),
                        partition: self.partition,
                        offset,
                        leader_epoch: header.partition_leader_epoch.0,
                        timestamp_ms: batch.timestamp_of(&record).0,
                        timestamp_type: header.attributes.timestamp_type(),
                        attributes: header.attributes,
                        producer_id: header.producer_id.0,
                        producer_epoch: header.producer_epoch.0,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    }));
                }
                // Compaction and control records leave offsets at a batch's end without a record.
                self.position = self.position.max(batch.header().next_offset().0);
                self.current = None;
            }
            let Some(batch) = self.batches.next() else { return Ok(None) };
            let batch = batch.map_err(|error| error.to_string())?;
            if batch.header().next_offset().0 <= self.from {
                continue;
            }
            if self.checks_crcs {
                batch.check_crc().map_err(|error| error.to_string())?;
            }
            if self.is_hidden(&batch)? {
                self.position = self.position.max(batch.header().next_offset().0);
                continue;
            }
            let records =
                batch.records(&DecompressLimits::default()).map_err(|error| error.to_string())?;
            self.current = Some((batch, records));
        }
    }

    /// Control batches are not delivered, and with `read_committed` neither are those of aborted transactions.
    fn is_hidden(&mut self, batch: &RecordBatch) -> Result<bool, String> {
        let header = batch.header();
        let producer = header.producer_id.0;
        if self.is_read_committed {
            let last = header.last_offset().0;
            while let Some((producer, _)) = self.aborted.pop_front_if(|(_, first)| *first <= last) {
                self.aborted_producers.insert(producer);
            }
        }
        if header.attributes.is_control() {
            let limits = DecompressLimits::default();
            let mut records = batch.records(&limits).map_err(|error| error.to_string())?;
            if let Some(record) = records.next() {
                let record = record.map_err(|error| error.to_string())?;
                let kind = ControlRecordType::parse(record.key.as_deref().unwrap_or_default());
                if matches!(kind, Ok(ControlRecordType::Abort)) {
                    self.aborted_producers.remove(&producer);
                }
            }
            return Ok(true);
        }
        let is_transactional = header.attributes.is_transactional();
        Ok(self.is_read_committed && is_transactional && self.aborted_producers.contains(&producer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varve_protocol::records::{BatchBuilder, Compression, EndTransactionMarker, NewRecord};
    use varve_protocol::vocabulary::{Offset, ProducerEpoch, ProducerId, TimestampMs};

    /// A batch of `values` from `base` on; a producer above 0 makes it transactional.
    fn batch(base: i64, producer: i64, values: &[&str]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        builder.set_base_offset(Offset(base));
        if producer > 0 {
            builder.set_producer(ProducerId(producer), ProducerEpoch(0), 0).set_transactional(true);
        }
        for value in values {
            builder
                .push(NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() })
                .unwrap();
        }
        builder.build().unwrap()
    }

    fn chunk(
        from: i64,
        batches: &[Bytes],
        aborted: &[(i64, i64)],
        is_read_committed: bool,
    ) -> Chunk {
        Chunk {
            topic: "t".into(),
            partition: 0,
            token: 1,
            from,
            bytes: batches.concat().into(),
            aborted: aborted.iter().copied().collect(),
            is_read_committed,
        }
    }

    #[track_caller]
    fn check(chunk: Chunk, expected: &str, position: i64) {
        let mut reading = Reading::new(chunk, true);
        let mut found = Vec::new();
        loop {
            match reading.next() {
                Ok(Some(record)) => {
                    found.push(format!("{}={}", record.offset, record.value_str().unwrap()));
                }
                Ok(None) => break,
                Err(error) => {
                    found.push(error);
                    break;
                }
            }
        }
        assert_eq!(found.join(" "), expected);
        assert_eq!(reading.position(), position);
    }

    #[test]
    fn records_below_the_position_are_left_out() {
        let batches = [batch(0, 0, &["a", "b", "c"]), batch(3, 0, &["d"])];
        assert_eq!(chunk(1, &batches, &[], false).end().unwrap().next_offset, 4);
        check(chunk(1, &batches, &[], false), "1=b 2=c 3=d", 4);
        check(chunk(3, &batches, &[], false), "3=d", 4);
    }

    #[test]
    fn a_cut_batch_waits_for_the_next_fetch() {
        let whole = batch(0, 0, &["a"]);
        let cut = batch(1, 0, &["b"]);
        let batches = [whole, cut.slice(..cut.len() - 1)];
        assert_eq!(chunk(0, &batches, &[], false).end().unwrap().next_offset, 1);
        check(chunk(0, &batches, &[], false), "0=a", 1);
        assert_eq!(chunk(0, &[cut.slice(..20)], &[], false).end(), None);
    }

    #[test]
    fn damage_is_told_at_its_position() {
        let mut damaged = batch(1, 0, &["b"]).to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let mut reading =
            Reading::new(chunk(0, &[batch(0, 0, &["a"]), damaged.into()], &[], false), true);
        assert_eq!(reading.next().unwrap().unwrap().offset, 0);
        assert!(reading.next().unwrap_err().contains("CRC"));
        assert_eq!(reading.position(), 1);
    }

    #[test]
    fn aborted_transactions_are_hidden_from_readers_of_the_committed() {
        let mut abort = EndTransactionMarker { is_commit: false, coordinator_epoch: 0 }
            .to_batch(ProducerId(7), ProducerEpoch(0), TimestampMs(0))
            .unwrap()
            .to_vec();
        abort[..8].copy_from_slice(&3i64.to_be_bytes());
        let after = [
            batch(0, 7, &["x"]),
            batch(1, 8, &["y"]),
            batch(2, 0, &["z"]),
            abort.into(),
            batch(4, 7, &["w"]),
        ];
        check(chunk(0, &after, &[(7, 0)], true), "1=y 2=z 4=w", 5);
        let batches = [batch(0, 7, &["x"]), batch(1, 8, &["y"]), batch(2, 0, &["z"])];
        check(chunk(0, &batches, &[(7, 0)], true), "1=y 2=z", 3);
        check(chunk(0, &batches, &[(7, 0)], false), "0=x 1=y 2=z", 3);
    }
}
