//! Reading a partition of the offsets topic back.
//!
//! The log is read from its start to its high watermark, batch by batch: what may still be cut off by
//! another leader is not served. Records that are of no kind
//! that this coordinator knows are left alone; a log that cannot be read whole is not loaded at all,
//! because a position that is too old would be served as if it were the last.

use std::io;

use thiserror::Error;
use varve_protocol::records::{BatchError, Batches, DecompressLimits, RecordBatch};
use varve_protocol::vocabulary::Offset;
use varve_storage::{Disk, LogReader, ReadError};

use super::records::CoordinatorRecord;
use super::replay::Replay;

/// Bytes read at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// Why a partition cannot be loaded.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The log does not give its bytes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file does not.
    #[error("reading at offset {offset}: {source}")]
    Io {
        /// Where.
        offset: Offset,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A batch cannot be decoded.
    #[error("the batch at offset {offset}: {source}")]
    Batch {
        /// Where.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
}

/// Reads the log up to `end`. May wait for the disk.
///
/// # Errors
/// [`LoadError`]; nothing of the log can be used then.
pub(crate) fn load<D: Disk>(reader: &LogReader<D>, end: Offset) -> Result<Replay, LoadError> {
    let mut replay = Replay::default();
    let mut offset = reader.log_start();
    while offset < end {
        let read = reader.read(offset, READ_BYTES_MAX, end, true)?;
        if read.slices.is_empty() {
            break;
        }
        for slice in &read.slices {
            let bytes = slice.bytes().map_err(|source| LoadError::Io { offset, source })?;
            for batch in Batches::new(bytes) {
                let batch = batch.map_err(|source| LoadError::Batch { offset, source })?;
                take_in(&mut replay, &batch, reader.log_start())?;
            }
        }
        assert!(read.next_offset > offset, "a read that gives batches goes on");
        offset = read.next_offset;
    }
    Ok(replay)
}

fn take_in(replay: &mut Replay, batch: &RecordBatch, start: Offset) -> Result<(), LoadError> {
    let offset = batch.header().base_offset;
    if batch.header().attributes.is_control() {
        return Ok(());
    }
    let failed = |source| LoadError::Batch { offset, source };
    for record in batch.records(&DecompressLimits::default()).map_err(failed)? {
        let record = record.map_err(failed)?;
        let at = batch.offset_of(&record);
        let Some(key) = record.key.as_deref().filter(|_| at >= start) else { continue };
        match CoordinatorRecord::decode(key, record.value.as_deref()) {
            Ok(Some(record)) => replay.apply(record),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(offset = at.0, %error, "a record of the offsets topic is not understood \
                    and is left out");
            }
        }
    }
    Ok(())
}
