//! Finding records by their time: through the segments' latest timestamps, the index, the batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use varve_protocol::records::{BatchError, DecompressLimits, RecordBatch};
use varve_protocol::vocabulary::{Offset, TimestampMs};

use super::{LogReader, ReadError, TimestampOffset};
use crate::file::{Disk, DiskFile};
use crate::scan::HeaderScan;
use crate::segment::Segment;

impl<D: Disk> LogReader<D> {
    /// The first record below `upper` whose timestamp is `timestamp` or later.
    ///
    /// # Errors
    /// As for [`Self::read`], and [`ReadError::Batch`].
    pub fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
        upper: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        const ATTEMPTS_MAX: usize = 8;
        for _ in 1..ATTEMPTS_MAX {
            match self.look_up_timestamp(timestamp, upper) {
                // A segment was retired under the lookup; the next list has its successor.
                Err(ReadError::OutOfRange { .. }) => {}
                other => return other,
            }
        }
        self.look_up_timestamp(timestamp, upper)
    }

    fn look_up_timestamp(
        &self,
        timestamp: TimestampMs,
        upper: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let damaged_from = self.shared.damaged_from.load(Ordering::Acquire);
        let upper = upper.0.min(self.log_end().0).min(damaged_from);
        let log_start = self.log_start();
        for segment in self.shared.segments().iter() {
            if segment.base_offset >= upper {
                break;
            }
            if segment.max_timestamp() < timestamp.0 || segment.next_offset() <= log_start.0 {
                continue;
            }
            let found = self.timestamp_in(segment, timestamp, log_start, upper)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn timestamp_in(
        &self,
        segment: &Arc<Segment<D>>,
        timestamp: TimestampMs,
        log_start: Offset,
        upper: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let explain = |error| self.explain(segment, log_start, error);
        let (end, _) = segment.end();
        let file = segment.file().map_err(|error| explain(error.into()))?;
        let start = segment.position_for_timestamp(timestamp.0);
        let start = start.map_err(|error| explain(error.into()))?;
        let mut scan = HeaderScan::new(&*file, start, end);
        while let Some(batch) = scan.next_batch().map_err(explain)? {
            let header = &batch.header;
            if header.base_offset.0 >= upper {
                break;
            }
            if header.max_timestamp < timestamp || header.last_offset() < log_start {
                continue;
            }
            let mut bytes = vec![0; header.size()];
            file.read_at(batch.position, &mut bytes).map_err(|error| explain(error.into()))?;
            let found = first_record_at(bytes.into(), timestamp, log_start, upper)
                .map_err(|source| ReadError::Batch { offset: header.base_offset, source })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The record with the latest timestamp below `upper`, the first of several.
    ///
    /// # Errors
    /// As for [`Self::offset_for_timestamp`].
    pub fn max_timestamp(&self, upper: Offset) -> Result<Option<TimestampOffset>, ReadError> {
        let log_start = self.log_start();
        let mut max: Option<i64> = None;
        for segment in self.shared.segments().iter() {
            if segment.base_offset >= upper.0 || segment.next_offset() <= log_start.0 {
                continue;
            }
            let is_whole = segment.base_offset >= log_start.0 && segment.next_offset() <= upper.0;
            let of_segment = if is_whole {
                Some(segment.max_timestamp())
            } else {
                self.max_timestamp_in(segment, log_start, upper)?
            };
            max = max.max(of_segment.filter(|timestamp| *timestamp != i64::MIN));
        }
        match max {
            None => Ok(None),
            Some(max) => self.offset_for_timestamp(TimestampMs(max), upper),
        }
    }

    /// The latest timestamp of the batches of a segment that lie between two offsets.
    fn max_timestamp_in(
        &self,
        segment: &Arc<Segment<D>>,
        log_start: Offset,
        upper: Offset,
    ) -> Result<Option<i64>, ReadError> {
        let explain = |error| self.explain(segment, log_start, error);
        let file = segment.file().map_err(|error| explain(error.into()))?;
        let first = u64::from(crate::segment_header::HEADER_PAGE_BYTES);
        let mut scan = HeaderScan::new(&*file, first, segment.end().0);
        let mut max = None;
        while let Some(batch) = scan.next_batch().map_err(explain)? {
            let header = &batch.header;
            if header.next_offset() <= upper && header.last_offset() >= log_start {
                max = max.max(Some(header.max_timestamp.0));
            }
        }
        Ok(max)
    }
}

fn first_record_at(
    bytes: Bytes,
    timestamp: TimestampMs,
    log_start: Offset,
    upper: i64,
) -> Result<Option<TimestampOffset>, BatchError> {
    let batch = RecordBatch::parse(&bytes)?;
    batch.check_crc()?;
    let leader_epoch = batch.header().partition_leader_epoch;
    for record in batch.records(&DecompressLimits::default())? {
        let record = record?;
        let offset = batch.offset_of(&record);
        let found = batch.timestamp_of(&record);
        if offset.0 < upper && offset >= log_start && found >= timestamp {
            return Ok(Some(TimestampOffset { timestamp: found, offset, leader_epoch }));
        }
    }
    Ok(None)
}
