//! What a log remembers of its idempotent producers: epoch, and the last five batches of each.
//!
//! With it a repeated batch is answered with its first offsets instead of being appended again, and
//! a gap is refused. The rules are Kafka's since 2.5 (KIP-98, KIP-360): an unknown producer may
//! begin anywhere, a new epoch begins at sequence 0, sequences wrap from 2³¹−1 to 0.
//!
//! The state is a fold over the batches, so it is rebuilt from a snapshot and the batches after it;
//! but it is never derived from live segments alone, because retention may have taken the batch
//! that a producer repeats. It does not own transactions; it keeps where the open one of each
//! producer begins.

use std::collections::BTreeMap;

use varve_protocol::records::BatchHeader;
use varve_protocol::vocabulary::{Offset, ProducerEpoch, ProducerId};

use crate::fields::{EnvelopeError, FieldReader, FieldWriter, open_envelope, seal_envelope};
use crate::sabotage::{self, Sabotage};

/// How many batches of a producer are remembered: as many as a client has in flight.
pub const BATCHES_REMEMBERED: usize = 5;

const MAGIC: [u8; 8] = *b"VRVPRODS";
const VERSION: u32 = 2;
const NO_EPOCH: i16 = -1;

/// A batch that a producer may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RememberedBatch {
    pub(crate) base_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ProducerEntry {
    epoch: i16,
    /// Oldest first; the last `count` of a window of five.
    batches: [RememberedBatch; BATCHES_REMEMBERED],
    count: u8,
    /// When the producer last wrote, by the broker's clock.
    last_write_ms: i64,
    /// Where the producer's open transaction begins; −1 without one.
    open_transaction: i64,
}

impl ProducerEntry {
    fn batches(&self) -> &[RememberedBatch] {
        &self.batches[..usize::from(self.count)]
    }

    fn remember(&mut self, batch: RememberedBatch) {
        let count = usize::from(self.count);
        if count == BATCHES_REMEMBERED {
            self.batches.rotate_left(1);
            self.batches[count - 1] = batch;
        } else {
            self.batches[count] = batch;
            self.count += 1;
        }
    }
}

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceError {
    /// The sequence does not follow the last one.
    OutOfOrder { expected: i32, found: i32 },
    /// A newer epoch of the producer has written already.
    OldEpoch { current: i16, found: i16 },
}

/// What becomes of a producer's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SequenceVerdict {
    Append,
    Duplicate(RememberedBatch),
}

/// A producer as `DescribeProducers` and the dump show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSummary {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Its last sequence; −1 if it has written nothing in this epoch.
    pub last_sequence: i32,
    /// When it last wrote, by the broker's clock.
    pub last_write_ms: i64,
    /// Where its open transaction begins.
    pub open_transaction: Option<Offset>,
}

/// All producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    producers: BTreeMap<i64, ProducerEntry>,
}

impl ProducerStates {
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// Judges a batch of a client. Batches without a producer pass.
    pub(crate) fn judge(&self, header: &BatchHeader) -> Result<SequenceVerdict, SequenceError> {
        if !header.has_producer() {
            return Ok(SequenceVerdict::Append);
        }
        let Some(entry) = self.producers.get(&header.producer_id.0) else {
            return Ok(SequenceVerdict::Append);
        };
        if sabotage::is_on(Sabotage::NoDedup) {
            return Ok(SequenceVerdict::Append);
        }
        let epoch = header.producer_epoch.0;
        if epoch < entry.epoch {
            return Err(SequenceError::OldEpoch { current: entry.epoch, found: epoch });
        }
        if header.attributes.is_control() {
            return Ok(SequenceVerdict::Append);
        }
        let found = header.base_sequence;
        if epoch > entry.epoch {
            if found != 0 && entry.epoch != NO_EPOCH {
                return Err(SequenceError::OutOfOrder { expected: 0, found });
            }
            return Ok(SequenceVerdict::Append);
        }
        let window = if sabotage::is_on(Sabotage::DedupWindowOfOne) { 1 } else { usize::MAX };
        let repeated = entry.batches().iter().rev().take(window).find(|batch| {
            batch.base_sequence == found && batch.last_sequence == header.last_sequence()
        });
        if let Some(batch) = repeated {
            return Ok(SequenceVerdict::Duplicate(*batch));
        }
        let Some(last) = entry.batches().last() else { return Ok(SequenceVerdict::Append) };
        let expected = next_sequence(last.last_sequence);
        if found != expected {
            return Err(SequenceError::OutOfOrder { expected, found });
        }
        Ok(SequenceVerdict::Append)
    }

    /// Notes an appended batch, whose header has its final offsets.
    pub(crate) fn apply(&mut self, header: &BatchHeader, now_ms: i64) {
        if !header.has_producer() {
            return;
        }
        let entry = self.producers.entry(header.producer_id.0).or_insert(ProducerEntry {
            epoch: NO_EPOCH,
            batches: [RememberedBatch::default(); BATCHES_REMEMBERED],
            count: 0,
            last_write_ms: now_ms,
            open_transaction: -1,
        });
        if header.producer_epoch.0 > entry.epoch {
            entry.epoch = header.producer_epoch.0;
            entry.count = 0;
        }
        entry.last_write_ms = entry.last_write_ms.max(now_ms);
        if header.attributes.is_control() {
            entry.open_transaction = -1;
            return;
        }
        if header.attributes.is_transactional() && entry.open_transaction < 0 {
            entry.open_transaction = header.base_offset.0;
        }
        entry.remember(RememberedBatch {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset.0,
            last_offset: header.last_offset().0,
            timestamp: header.max_timestamp.0,
        });
    }

    /// Forgets producers that wrote nothing for `expiration_ms`, and beyond `producers_max` those
    /// that wrote longest ago. One with an open transaction stays.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64, producers_max: usize) {
        self.producers.retain(|_, entry| {
            entry.open_transaction >= 0
                || now_ms.saturating_sub(entry.last_write_ms) < expiration_ms
        });
        self.bound(producers_max);
    }

    /// Keeps the number of producers bounded. Frees a sixteenth at once, so that the search for the
    /// least recently used is paid rarely.
    pub(crate) fn bound(&mut self, producers_max: usize) {
        if self.producers.len() <= producers_max {
            return;
        }
        let keep = producers_max - producers_max / 16;
        let mut by_age: Vec<(i64, i64)> = self
            .producers
            .iter()
            .filter(|(_, entry)| entry.open_transaction < 0)
            .map(|(producer, entry)| (entry.last_write_ms, *producer))
            .collect();
        by_age.sort_unstable();
        let surplus = self.producers.len() - keep;
        for (_, producer) in by_age.into_iter().take(surplus) {
            self.producers.remove(&producer);
        }
    }

    /// Where the oldest open transaction begins.
    pub(crate) fn first_open_transaction(&self) -> Option<Offset> {
        let open = self.producers.values().map(|entry| entry.open_transaction);
        open.filter(|offset| *offset >= 0).min().map(Offset)
    }

    /// The last offset of each producer's last batch.
    pub(crate) fn last_offsets(&self) -> std::collections::BTreeSet<i64> {
        let last = self.producers.values().filter_map(|entry| entry.batches().last());
        last.map(|batch| batch.last_offset).collect()
    }

    pub(crate) fn summaries(&self) -> Vec<ProducerSummary> {
        let summary = |(producer, entry): (&i64, &ProducerEntry)| ProducerSummary {
            producer_id: ProducerId(*producer),
            epoch: ProducerEpoch(entry.epoch),
            last_sequence: entry.batches().last().map_or(-1, |batch| batch.last_sequence),
            last_write_ms: entry.last_write_ms,
            open_transaction: (entry.open_transaction >= 0)
                .then_some(Offset(entry.open_transaction)),
        };
        self.producers.iter().map(summary).collect()
    }

    pub(crate) fn encode_body(&self, writer: &mut FieldWriter) {
        writer.count(self.producers.len());
        for (producer, entry) in &self.producers {
            writer.i64(*producer).i16(entry.epoch).i64(entry.last_write_ms);
            writer.i64(entry.open_transaction).u8(entry.count);
            for batch in entry.batches() {
                writer.i32(batch.base_sequence).i32(batch.last_sequence);
                writer.i64(batch.base_offset).i64(batch.last_offset).i64(batch.timestamp);
            }
        }
    }

    pub(crate) fn decode_body(
        reader: &mut FieldReader<'_>,
    ) -> Result<Self, crate::fields::FieldError> {
        let count = reader.count(8 + 2 + 8 + 8 + 1)?;
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let producer = reader.i64()?;
            let mut entry = ProducerEntry {
                epoch: reader.i16()?,
                batches: [RememberedBatch::default(); BATCHES_REMEMBERED],
                count: 0,
                last_write_ms: reader.i64()?,
                open_transaction: reader.i64()?,
            };
            let batches = reader.u8()?;
            if usize::from(batches) > BATCHES_REMEMBERED {
                return Err(reader.error());
            }
            for _ in 0..batches {
                entry.remember(RememberedBatch {
                    base_sequence: reader.i32()?,
                    last_sequence: reader.i32()?,
                    base_offset: reader.i64()?,
                    last_offset: reader.i64()?,
                    timestamp: reader.i64()?,
                });
            }
            producers.insert(producer, entry);
        }
        Ok(Self { producers })
    }

    /// The snapshot file of the state at `offset` in a log of that generation.
    pub(crate) fn encode_snapshot(&self, offset: i64, generation: u32) -> Vec<u8> {
        let mut body = FieldWriter::with_capacity(64 + self.producers.len() * 100);
        body.i64(offset).u32(generation);
        self.encode_body(&mut body);
        seal_envelope(MAGIC, VERSION, &body.bytes)
    }

    /// Reads a snapshot file that speaks of `offset`. Returns the generation too: like everything
    /// of a generation, the file does not count if a later one made its offset void.
    pub(crate) fn decode_snapshot(file: &[u8], offset: i64) -> Result<(Self, u32), EnvelopeError> {
        let mut reader = FieldReader::new(open_envelope(MAGIC, VERSION, file)?);
        if reader.i64()? != offset {
            return Err(reader.error().into());
        }
        let generation = reader.generation()?;
        let states = Self::decode_body(&mut reader)?;
        reader.end()?;
        Ok((states, generation))
    }
}

/// The sequence after `sequence`: 0 after 2³¹−1.
fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

#[cfg(test)]
mod tests;
