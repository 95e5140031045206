//! Where the scan of a log begins, and the state of the log there.

use std::io;

use super::{FIRST, LiveFile, Recovery};
use crate::checkpoint::{LogRecord, RecordedProducers};
use crate::epochs::EpochCache;
use crate::file::{Disk, DiskFile};
use crate::layout::segment_name;
use crate::log::newest_snapshot;
use crate::producer_state::ProducerStates;
use crate::recovery::generations::void_from;
use crate::scan::{HeaderScan, ScanError};
use crate::segment_header::Seal;

/// Where the scan begins, and the state of the log there.
pub(super) struct ScanStart {
    pub(super) number: usize,
    pub(super) position: u64,
    pub(super) offset: i64,
    pub(super) seal: Seal,
}

impl<D: Disk> Recovery<'_, D> {
    pub(super) fn choose_start(&mut self) -> io::Result<ScanStart> {
        let from_beginning = |number: usize, live: &LiveFile<D::File>| ScanStart {
            number,
            position: FIRST,
            offset: live.identity.base_offset,
            seal: Seal::empty(live.identity.base_offset),
        };
        let record = self.record.clone().filter(|record| record.end_offset != i64::MIN);
        let start = match &record {
            Some(record) => {
                let found =
                    self.live.iter().position(|l| l.identity.base_offset == record.active_base);
                if let Some(number) = found {
                    ScanStart {
                        number,
                        position: record.position,
                        offset: record.end_offset,
                        seal: Seal {
                            end_position: record.position,
                            next_offset: record.end_offset,
                            max_timestamp: record.max_timestamp,
                            first_timestamp: record.first_timestamp,
                            headers_crc: record.headers_crc,
                        },
                    }
                } else {
                    let past = |l: &LiveFile<D::File>| l.identity.base_offset >= record.end_offset;
                    let number = self.live.iter().position(past);
                    let is_dropped = number == Some(0) && self.known_start() >= record.end_offset;
                    if !is_dropped {
                        let path = segment_name(record.active_base);
                        let reason = format!("{}/{path} is missing", self.dir);
                        self.note_damage(record.active_base, reason);
                    }
                    let number = number.unwrap_or(self.live.len() - 1);
                    from_beginning(number, &self.live[number])
                }
            }
            None => {
                // After a truncation everything from the cut on is unknown.
                let void = self
                    .record
                    .as_ref()
                    .map_or(i64::MIN, |record| void_from(&self.identities, record.generation));
                let number = self.live.iter().position(|l| l.identity.base_offset >= void);
                let number = number.unwrap_or(0);
                from_beginning(number, &self.live[number])
            }
        };
        let last = self.live.len();
        let first_base = self.live[0].identity.base_offset;
        if self.lacks_head() {
            let reason = format!("{}: segments before offset {first_base} are missing", self.dir);
            self.note_damage(self.log_start(), reason);
        }
        for number in 0..start.number {
            self.settle_closed(number)?;
        }
        // The checkpoint speaks for its active segment and those before it; of the others not
        // even the header is known to be on the disk.
        let start_base = self.live[start.number].identity.base_offset;
        let is_recorded = record.is_some_and(|record| record.active_base == start_base);
        let known = start.number + usize::from(is_recorded);
        for live in &mut self.live[known.min(last)..] {
            live.needs_sync = true;
            self.names_changed = true;
        }
        Ok(start)
    }

    /// Makes sure that a closed segment before the scan has a seal, and that the next one follows.
    pub(super) fn settle_closed(&mut self, number: usize) -> io::Result<()> {
        let limit = self.live[number + 1].identity.base_offset;
        let live = &self.live[number];
        let seal = match live.seal {
            Some(seal) if seal.next_offset <= limit && seal.end_position <= live.len => seal,
            _ => hop_to(&*live.file, live.len, limit, live.identity.base_offset)?,
        };
        if seal.next_offset < limit && self.live[number].identity.rewrite == 0 {
            let reason = format!("{} ends at offset {}", live.path, seal.next_offset);
            let known_start = self.known_start();
            if limit > known_start {
                self.note_damage(seal.next_offset, reason);
            }
        }
        self.live[number].seal = Some(seal);
        Ok(())
    }

    pub(super) fn producers_before(&self, start: &ScanStart) -> io::Result<ProducerStates> {
        let record = self.record.as_ref().filter(|record| record.end_offset == start.offset);
        if let Some(LogRecord { producers: RecordedProducers::Inline(producers), .. }) = record {
            return Ok(producers.clone());
        }
        let void = |generation| void_from(&self.identities, generation);
        let (mut producers, from) = newest_snapshot(self.disk(), &self.dir, start.offset, void);
        for (number, live) in self.live.iter().enumerate().take(start.number + 1) {
            let end = match live.seal {
                _ if number == start.number => start.position,
                Some(seal) if seal.next_offset > from => seal.end_position,
                _ => continue,
            };
            let mut scan = HeaderScan::new(&*live.file, FIRST, end);
            loop {
                match scan.next_batch() {
                    Ok(Some(batch)) if batch.header.next_offset().0 > from => {
                        producers.apply(&batch.header, self.now_ms);
                    }
                    Ok(Some(_)) => {}
                    // Damage is found and told by whoever reads the batches.
                    Ok(None) | Err(ScanError::Damaged { .. }) => break,
                    Err(ScanError::Io(error)) => return Err(error),
                }
            }
        }
        Ok(producers)
    }

    pub(super) fn known_epochs(&self) -> EpochCache {
        let mut epochs = EpochCache::default();
        let state = self.state.iter().flat_map(|state| &state.epochs);
        let record = self.record.iter().flat_map(|record| &record.epochs);
        for start in state.chain(record) {
            epochs.assign(start.epoch, start.start_offset);
        }
        epochs
    }

    /// The record that finds the same damage again, should there be any.
    pub(super) fn base_record(&self, start: &ScanStart) -> LogRecord {
        let live = &self.live[start.number];
        let epochs = self.known_epochs().starts().to_vec();
        LogRecord {
            tip: self.tip,
            generation: live.identity.generation,
            log_start: self.log_start(),
            active_base: live.identity.base_offset,
            position: start.position,
            end_offset: start.offset,
            durable_end: self.durable_end.max(start.offset),
            high_watermark: self.known_high_watermark(),
            headers_crc: start.seal.headers_crc,
            max_timestamp: start.seal.max_timestamp,
            first_timestamp: start.seal.first_timestamp,
            epochs,
            producers: RecordedProducers::Snapshot,
        }
    }
}

/// The seal of a segment that has none, up to the offset at which its successor begins.
fn hop_to<F: DiskFile>(file: &F, len: u64, limit: i64, base_offset: i64) -> io::Result<Seal> {
    let mut seal = Seal::empty(base_offset);
    let mut scan = HeaderScan::new(file, seal.end_position, len);
    loop {
        match scan.next_batch() {
            Ok(Some(batch)) if batch.header.next_offset().0 <= limit => seal.extend(&batch),
            Ok(_) | Err(ScanError::Damaged { .. }) => return Ok(seal),
            Err(ScanError::Io(error)) => return Err(error),
        }
    }
}
