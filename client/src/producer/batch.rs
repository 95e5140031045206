//! A batch on its way: gathered, sent, perhaps sent again.

use super::delivery::{Completion, Delivery, Outcome, Signal};
use crate::clock::Instant;
use crate::error::{ErrorContext, ProduceError};
use crate::record::ProducerRecord;
use bytes::Bytes;
use std::sync::Arc;
use varve_protocol::records::{
    BatchBuilder, BuildError, Compression, DecompressLimits, HEADER_BYTES, NewRecord, RecordBatch,
    patch_producer,
};
use varve_protocol::vocabulary::{ProducerEpoch, ProducerId, TimestampMs};

/// Numbers that a new batch has for itself and its parts.
pub(super) const ID_SPAN: u64 = 1 << 24;

/// Who an idempotent producer is to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// The number of a batch's first record in its partition, under an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) identity: Identity,
    pub(super) first: i32,
}

/// The sequence `count` records after `first`; wraps from 2^31 - 1 to 0 as brokers expect.
pub(super) fn sequence_after(first: i32, count: u32) -> i32 {
    (first as u32).wrapping_add(count) as i32 & i32::MAX
}

/// A batch that waits or is under way.
#[derive(Debug)]
pub(super) struct Batch {
    /// Rises with creation. Parts of a split batch share the numbers of the whole out: [`ID_SPAN`] each at first.
    pub(super) id: u64,
    /// Numbers from `id` on that no other batch has.
    id_span: u64,
    pub(super) completion: Arc<Completion>,
    body: Body,
    pub(super) record_count: u32,
    /// Bytes of buffer memory that its records keep.
    pub(super) memory_bytes: usize,
    pub(super) created: Instant,
    /// When its records fail for want of an acknowledgement.
    pub(super) deadline: Instant,
    /// Given at the first attempt. Invariant: stays until the fate of that attempt is known.
    pub(super) sequence: Option<Sequence>,
    pub(super) attempts: u32,
    /// The broker that it was sent to last.
    pub(super) sent_to: Option<i32>,
    /// Whether some attempt may have been written.
    pub(super) possibly_written: bool,
    /// What went wrong last.
    pub(super) trouble: Option<String>,
}

#[derive(Debug)]
enum Body {
    /// Records can be added.
    Open(Box<BatchBuilder>),
    /// Encoded. The producer's fields are those of the sequence at that time.
    Built(Bytes),
    /// With the sender, which gives it back if it has to be sent again.
    Away,
}

/// A batch as the sender gets it.
#[derive(Debug)]
pub(super) struct Cargo {
    body: CargoBody,
    sequence: Option<Sequence>,
}

#[derive(Debug)]
enum CargoBody {
    Open(Box<BatchBuilder>),
    Built(Bytes),
}

impl Cargo {
    /// The batch's bytes: compressed and checksummed here, outside of the accumulator's lock.
    pub(super) fn build(self) -> Result<Bytes, BuildError> {
        let producer = self.sequence.map(|sequence| {
            let identity = sequence.identity;
            (ProducerId(identity.id), ProducerEpoch(identity.epoch), sequence.first)
        });
        match self.body {
            CargoBody::Open(mut builder) => {
                if let Some((id, epoch, first)) = producer {
                    builder.set_producer(id, epoch, first);
                }
                builder.build()
            }
            CargoBody::Built(bytes) => {
                let Some((id, epoch, first)) = producer else { return Ok(bytes) };
                let header = varve_protocol::records::BatchHeader::parse(&bytes)
                    .expect("a batch that was built here has a header");
                if (header.producer_id, header.producer_epoch, header.base_sequence)
                    == (id, epoch, first)
                {
                    return Ok(bytes);
                }
                // Sent before under another identity: one copy, for a rare event.
                let mut patched = bytes.to_vec();
                patch_producer(&mut patched, id, epoch, first).expect("the header was just parsed");
                Ok(patched.into())
            }
        }
    }
}

/// What a new batch needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchOptions {
    pub(super) compression: Compression,
    /// Bytes before compression at which a batch is full.
    pub(super) batch_size: usize,
    pub(super) delivery_timeout: std::time::Duration,
}

impl Batch {
    pub(super) fn open(
        id: u64,
        completion: Arc<Completion>,
        options: BatchOptions,
        first_record_bytes: usize,
        now: Instant,
    ) -> Self {
        let capacity = options.batch_size.max(first_record_bytes + HEADER_BYTES)
            - HEADER_BYTES.min(options.batch_size);
        let builder = BatchBuilder::new(options.compression).with_capacity(capacity);
        Batch {
            id,
            id_span: ID_SPAN,
            completion,
            body: Body::Open(Box::new(builder)),
            record_count: 0,
            memory_bytes: 0,
            created: now,
            deadline: now + options.delivery_timeout,
            sequence: None,
            attempts: 0,
            sent_to: None,
            possibly_written: false,
            trouble: None,
        }
    }

    /// Whether a record of that size still fits. Never once a sequence is given, as to the parts of a divided batch:
    /// the number of records is part of it.
    pub(super) fn fits(&self, record_bytes: usize, batch_size: usize) -> bool {
        match &self.body {
            _ if self.attempts > 0 => false,
            Body::Open(builder) => {
                self.record_count == 0 || builder.size() + record_bytes <= batch_size
            }
            Body::Built(_) | Body::Away => false,
        }
    }

    /// Whether nothing more is expected to fit.
    pub(super) fn is_full(&self, batch_size: usize) -> bool {
        match &self.body {
            Body::Open(builder) => builder.size() >= batch_size,
            Body::Built(_) | Body::Away => true,
        }
    }

    /// Adds a record, which takes `record_bytes` of buffer memory.
    pub(super) fn push(
        &mut self,
        record: &ProducerRecord,
        timestamp_ms: i64,
        record_bytes: usize,
    ) -> Result<Delivery, BuildError> {
        let Body::Open(builder) = &mut self.body else {
            unreachable!("only batches that fit the record are pushed to, and closed ones fit none")
        };
        builder.push(NewRecord {
            timestamp: TimestampMs(timestamp_ms),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        })?;
        let index = self.record_count;
        self.record_count += 1;
        self.memory_bytes += record_bytes;
        Ok(Delivery::new(Arc::clone(&self.completion), index, timestamp_ms))
    }

    /// Bytes that it takes in a request at most.
    pub(super) fn size(&self) -> usize {
        match &self.body {
            Body::Open(builder) => builder.size(),
            Body::Built(bytes) => bytes.len(),
            Body::Away => 0,
        }
    }

    /// Hands the body to the sender for an attempt.
    pub(super) fn depart(&mut self) -> Cargo {
        self.attempts += 1;
        let body = match std::mem::replace(&mut self.body, Body::Away) {
            Body::Open(builder) => CargoBody::Open(builder),
            Body::Built(bytes) => CargoBody::Built(bytes),
            Body::Away => unreachable!("a batch is under way once at a time"),
        };
        Cargo { body, sequence: self.sequence }
    }

    /// Takes the body back after an attempt.
    pub(super) fn come_back(&mut self, bytes: Bytes) {
        self.body = Body::Built(bytes);
    }

    /// Where and when, for errors.
    pub(super) fn context(&self, topic: &str, partition: i32, now: Instant) -> Box<ErrorContext> {
        let mut context = ErrorContext::partition(topic, partition);
        context.attempts = self.attempts;
        context.elapsed = now.saturating_duration_since(self.created);
        Box::new(context)
    }

    /// Divides a built batch of several records into two of about half the bytes each, in order. Whoever waits for
    /// its records is led to the parts.
    ///
    /// # Errors
    /// [`ProduceError::Encode`] if the batch cannot be read back, which is a bug.
    pub(super) fn split(
        mut self,
        topic: &Arc<str>,
        partition: i32,
        options: BatchOptions,
        signal: &Arc<Signal>,
        now: Instant,
    ) -> Result<[Batch; 2], (Box<Batch>, ProduceError)> {
        match self.split_parts(topic, partition, options, signal) {
            Ok(parts) => {
                let [low, high] = &parts;
                self.completion.complete(Outcome::Split(vec![
                    (0, Arc::clone(&low.completion)),
                    (low.record_count, Arc::clone(&high.completion)),
                ]));
                Ok(parts)
            }
            Err(reason) => {
                let context = self.context(topic, partition, now);
                self.body = Body::Away;
                Err((Box::new(self), ProduceError::Encode { reason, context }))
            }
        }
    }

    fn split_parts(
        &self,
        topic: &Arc<str>,
        partition: i32,
        options: BatchOptions,
        signal: &Arc<Signal>,
    ) -> Result<[Batch; 2], String> {
        assert!(self.record_count > 1, "one record cannot be divided");
        let Body::Built(bytes) = &self.body else {
            return Err("the batch is not built".to_owned());
        };
        let batch = RecordBatch::parse(bytes).map_err(|error| error.to_string())?;
        let limits = DecompressLimits {
            output_max: usize::MAX,
            ratio_max: usize::MAX,
            ..DecompressLimits::default()
        };
        let records = batch.records(&limits).map_err(|error| error.to_string())?;
        let records: Vec<_> =
            records.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let size = |record: &varve_protocol::records::Record| {
            varve_protocol::records::record_size_max(
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )
        };
        let half = records.iter().map(size).sum::<usize>() / 2;
        let mut low_bytes = 0;
        let mut low_count = records.iter().take_while(|record| {
            let fits = low_bytes < half;
            low_bytes += size(record);
            fits
        });
        let low_count = low_count.by_ref().count().clamp(1, records.len() - 1);
        let mut first = 0u32;
        let mut parts: Vec<Batch> = Vec::with_capacity(2);
        let id_span = self.id_span / 2;
        if id_span == 0 {
            return Err("it was divided too often".to_owned());
        }
        let memory_each = self.memory_bytes / records.len();
        for part in [&records[..low_count], &records[low_count..]] {
            let completion = Completion::new(Arc::clone(topic), partition, Arc::clone(signal));
            let part_bytes = part.iter().map(size).sum();
            let id = self.id + id_span * parts.len() as u64;
            let mut next = Batch::open(id, completion, options, part_bytes, self.created);
            next.id_span = id_span;
            next.deadline = self.deadline;
            next.attempts = self.attempts;
            for record in part {
                let Body::Open(builder) = &mut next.body else {
                    return Err("a new batch is open".to_owned());
                };
                builder
                    .push(NewRecord {
                        timestamp: batch.timestamp_of(record),
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        headers: &record.headers,
                    })
                    .map_err(|error| error.to_string())?;
                next.record_count += 1;
            }
            next.memory_bytes = memory_each * part.len();
            next.sequence = self.sequence.map(|sequence| Sequence {
                first: sequence_after(sequence.first, first),
                ..sequence
            });
            first += next.record_count;
            parts.push(next);
        }
        // What the division leaves over stays with the second part, so that no byte is lost.
        let kept: usize = parts.iter().map(|part| part.memory_bytes).sum();
        parts[1].memory_bytes += self.memory_bytes - kept;
        parts.try_into().map_err(|_| "two halves make two parts".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    fn options() -> BatchOptions {
        BatchOptions {
            compression: Compression::None,
            batch_size: 200,
            delivery_timeout: Duration::from_secs(1),
        }
    }

    fn batch(records: u32) -> Batch {
        let signal = Arc::new(Signal::default());
        let completion = Completion::new("t".into(), 0, signal);
        let mut batch = Batch::open(1, completion, options(), 10, clock::now());
        for index in 0..records {
            let record = ProducerRecord::new("t", format!("value {index}"));
            drop(batch.push(&record, 1000 + i64::from(index), 33).unwrap());
        }
        batch
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }

    #[test]
    fn an_identity_is_patched_into_a_built_batch() {
        let mut batch = batch(3);
        let old = Identity { id: 7, epoch: 0 };
        batch.sequence = Some(Sequence { identity: old, first: 11 });
        let bytes = batch.depart().build().unwrap();
        batch.come_back(bytes.clone());
        assert_eq!(batch.depart().build().unwrap(), bytes);
        batch.come_back(bytes);
        batch.sequence = Some(Sequence { identity: Identity { id: 7, epoch: 1 }, first: 0 });
        let parsed = RecordBatch::parse(&batch.depart().build().unwrap()).unwrap();
        parsed.check_crc().unwrap();
        assert_eq!((parsed.header().producer_epoch.0, parsed.header().base_sequence), (1, 0));
    }

    #[test]
    fn a_split_keeps_records_order_sequences_and_memory() {
        let mut whole = batch(5);
        let identity = Identity { id: 7, epoch: 0 };
        whole.sequence = Some(Sequence { identity, first: i32::MAX });
        let memory = whole.memory_bytes;
        let bytes = whole.depart().build().unwrap();
        whole.come_back(bytes);
        let signal = Arc::new(Signal::default());
        let parts = whole.split(&"t".into(), 0, options(), &signal, clock::now());
        let [mut low, mut high] = parts.map_err(|(_, error)| error).unwrap();
        assert_eq!(low.record_count + high.record_count, 5);
        assert_eq!(low.memory_bytes + high.memory_bytes, memory);
        assert_eq!(low.sequence.unwrap().first, i32::MAX);
        assert_eq!(high.sequence.unwrap().first, low.record_count as i32 - 1);
        let mut values = Vec::new();
        for part in [&mut low, &mut high] {
            let parsed = RecordBatch::parse(&part.depart().build().unwrap()).unwrap();
            for record in parsed.records(&DecompressLimits::default()).unwrap() {
                let record = record.unwrap();
                values.push((parsed.timestamp_of(&record).0, record.value.unwrap()));
            }
        }
        let expected: Vec<_> =
            (0..5).map(|i| (1000 + i, Bytes::from(format!("value {i}")))).collect();
        assert_eq!(values, expected);
    }
}
