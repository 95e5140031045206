//! The shard's checkpoint: for every log, up to where everything is on the disk in its segments.
//!
//! It bounds what a restart reads: the journal after `sequence`, and each log's batches after the
//! position recorded here. It also carries what would otherwise have to be rebuilt from older
//! batches: epochs that are not in the partition's state file, and the producers.

use std::io;

use varve_protocol::vocabulary::TopicIdPartition;

use crate::config::ShardId;
use crate::epochs::{EpochCache, EpochStart};
use crate::fields::{
    EnvelopeError, FieldError, FieldReader, FieldWriter, open_envelope, seal_envelope,
};
use crate::file::{Disk, read_file, replace_file};
use crate::layout::checkpoint_file;
use crate::producer_state::ProducerStates;

const MAGIC: [u8; 8] = *b"VRVCHKPT";
const VERSION: u32 = 2;
/// The largest checkpoint that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// With more producers than this, a log writes them into a snapshot file instead.
pub(crate) const INLINE_PRODUCERS_MAX: usize = 16;

/// Where the producers of a log are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecordedProducers {
    /// Here, as of the record's end offset.
    Inline(ProducerStates),
    /// In the snapshot file of the record's end offset.
    Snapshot,
}

/// One log in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRecord {
    pub(crate) tip: TopicIdPartition,
    pub(crate) generation: u32,
    pub(crate) log_start: i64,
    /// The segment that was open for appends.
    pub(crate) active_base: i64,
    /// Its batches below are on the disk; and all of every older segment.
    pub(crate) position: u64,
    /// The offset at `position`.
    pub(crate) end_offset: i64,
    /// Everything below is known to be durable: the end offset, or more if the log is damaged
    /// behind it.
    pub(crate) durable_end: i64,
    /// The high watermark that the log was told last; −1 if none. May be older than the truth.
    pub(crate) high_watermark: i64,
    /// The checksum of headers up to `position`.
    pub(crate) headers_crc: u32,
    pub(crate) max_timestamp: i64,
    pub(crate) first_timestamp: i64,
    /// Epochs that are not in the partition's state file.
    pub(crate) epochs: Vec<EpochStart>,
    pub(crate) producers: RecordedProducers,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Journal entries up to here are covered.
    pub(crate) sequence: u64,
    /// Greater than every generation given out so far.
    pub(crate) next_generation: u32,
    /// How many shards the data directory had.
    pub(crate) shard_count: u32,
    pub(crate) logs: Vec<LogRecord>,
}

/// Builds the file log by log, so that no second copy of the state is made.
pub(crate) struct CheckpointEncoder {
    body: FieldWriter,
    count_at: usize,
    count: usize,
}

impl CheckpointEncoder {
    pub(crate) fn new(sequence: u64, next_generation: u32, shard_count: u32) -> Self {
        let mut body = FieldWriter::default();
        body.u64(sequence).u32(next_generation).u32(shard_count);
        let count_at = body.bytes.len();
        body.u32(0);
        Self { body, count_at, count: 0 }
    }

    pub(crate) fn push(&mut self, log: &LogRecord) {
        self.count += 1;
        let body = &mut self.body;
        body.partition(&log.tip).u32(log.generation).i64(log.log_start);
        body.i64(log.active_base).u64(log.position).i64(log.end_offset);
        body.i64(log.durable_end).i64(log.high_watermark).u32(log.headers_crc);
        body.i64(log.max_timestamp).i64(log.first_timestamp);
        EpochCache::encode(&log.epochs, body);
        match &log.producers {
            RecordedProducers::Inline(producers) => {
                body.u8(1);
                producers.encode_body(body);
            }
            RecordedProducers::Snapshot => {
                body.u8(2);
            }
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let count = u32::try_from(self.count).expect("a shard has fewer than 2^32 logs");
        self.body.bytes[self.count_at..self.count_at + 4].copy_from_slice(&count.to_be_bytes());
        seal_envelope(MAGIC, VERSION, &self.body.bytes)
    }
}

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Checkpoint {
    /// The shard's checkpoint; `None` if it never made one.
    pub(crate) fn load<D: Disk>(disk: &D, shard: ShardId) -> Result<Option<Self>, CheckpointError> {
        match read_file(disk, &checkpoint_file(shard), FILE_BYTES_MAX) {
            Ok(file) => Ok(Some(Self::decode(&file)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes an encoded checkpoint. Durable on return.
    pub(crate) fn store<D: Disk>(disk: &D, shard: ShardId, encoded: &[u8]) -> io::Result<()> {
        replace_file(disk, &checkpoint_file(shard), &[encoded])
    }

    pub(crate) fn decode(file: &[u8]) -> Result<Self, EnvelopeError> {
        let mut reader = FieldReader::new(open_envelope(MAGIC, VERSION, file)?);
        let sequence = reader.counter()?;
        let next_generation = reader.generation()?;
        let shard_count = reader.u32()?;
        let count = reader.count(20 + 4 + 8 + 8 + 8 + 8 + 8 + 8 + 4 + 8 + 8 + 4 + 1)?;
        let mut logs = Vec::with_capacity(count);
        for _ in 0..count {
            logs.push(decode_log(&mut reader)?);
        }
        reader.end()?;
        Ok(Self { sequence, next_generation, shard_count, logs })
    }
}

fn decode_log(reader: &mut FieldReader<'_>) -> Result<LogRecord, FieldError> {
    Ok(LogRecord {
        tip: reader.partition()?,
        generation: reader.generation()?,
        log_start: reader.i64()?,
        active_base: reader.i64()?,
        position: reader.u64()?,
        end_offset: reader.i64()?,
        durable_end: reader.i64()?,
        high_watermark: reader.i64()?,
        headers_crc: reader.u32()?,
        max_timestamp: reader.i64()?,
        first_timestamp: reader.i64()?,
        epochs: EpochCache::decode(reader)?,
        producers: match reader.u8()? {
            1 => RecordedProducers::Inline(ProducerStates::decode_body(reader)?),
            2 => RecordedProducers::Snapshot,
            _ => return Err(reader.error()),
        },
    })
}
