//! What a checkpoint says of a log.

use super::Log;
use crate::checkpoint::{INLINE_PRODUCERS_MAX, LogRecord, RecordedProducers};
use crate::file::Disk;

impl<D: Disk> Log<D> {
    /// The log as it is now, for a checkpoint that is written after `unsynced_segments` are synced.
    /// A damaged log stays recorded as it was found, so that the next open finds the damage again.
    pub(crate) fn record(&self) -> LogRecord {
        if let Some(record) = &self.damaged_record {
            return LogRecord::clone(record);
        }
        let epochs = self.shared.epochs.read();
        let saved_epoch = self.state_writer.saved_epoch();
        let saved = epochs.starts().partition_point(|start| start.epoch <= saved_epoch);
        let is_inline = self.producers.len() <= INLINE_PRODUCERS_MAX;
        LogRecord {
            tip: self.shared.tip,
            generation: self.generation,
            log_start: self.log_start().0,
            active_base: self.active.base_offset,
            position: self.active.end_position(),
            end_offset: self.log_end().0,
            durable_end: self.log_end().0,
            high_watermark: self.high_watermark.min(self.log_end().0),
            headers_crc: self.headers_crc,
            max_timestamp: self.active.max_timestamp(),
            first_timestamp: self.first_timestamp,
            epochs: epochs.starts()[saved..].to_vec(),
            producers: if is_inline {
                RecordedProducers::Inline(self.producers.clone())
            } else {
                RecordedProducers::Snapshot
            },
        }
    }

    /// Epochs that only the checkpoint holds.
    pub(crate) fn unsaved_epochs(&self) -> usize {
        let epochs = self.shared.epochs.read();
        let saved_epoch = self.state_writer.saved_epoch();
        let saved = epochs.starts().partition_point(|start| start.epoch <= saved_epoch);
        epochs.starts().len() - saved
    }

    pub(crate) fn producers_snapshot(&self) -> Vec<u8> {
        self.producers.encode_snapshot(self.log_end().0, self.generation)
    }

    pub(crate) fn has_many_producers(&self) -> bool {
        self.producers.len() > INLINE_PRODUCERS_MAX
    }
}
