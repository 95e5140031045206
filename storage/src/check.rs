//! Reading a data directory whole, to find what is damaged. Changes nothing.
//!
//! Meant for a stopped broker. On a running one, the end of an open segment may look torn.

use std::io;

use varve_protocol::vocabulary::{Offset, TopicIdPartition};

use crate::checkpoint::Checkpoint;
use crate::config::ShardId;
use crate::file::{Disk, DiskFile, OpenMode, read_file};
use crate::index::SegmentIndex;
use crate::layout::{
    PARTITIONS_DIR, checkpoint_file, parse_offset_name, parse_partition_dir, segment_name,
};
use crate::partition_state::PartitionState;
use crate::producer_state::ProducerStates;
use crate::scan::{CheckedScan, headers_crc_append};
use crate::segment_header::{HEADER_PAGE_BYTES, Seal, SegmentHeader};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, relative to the data directory.
    pub path: String,
    /// Where in the file, if that can be said.
    pub position: Option<u64>,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, and what was expected.
    pub what: String,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The next start mends it: a torn tail, a derived file.
    Mended,
    /// Records that were acknowledged cannot be read.
    Damage,
}

/// What a check has read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Logs.
    pub logs: u64,
    /// Segments.
    pub segments: u64,
    /// Batches whose CRC fits.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Everything that is not as it should be.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Whether nothing acknowledged is unreadable.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity == Severity::Mended)
    }
}

/// Where a check is; for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// Logs that are done.
    pub logs_done: u64,
    /// Logs in all.
    pub logs: u64,
    /// Bytes of batches read so far.
    pub bytes: u64,
}

/// Reads every byte of every log of a data directory.
///
/// # Errors
/// When a directory or file cannot be read at all; damage is no error but a [`Problem`].
pub fn check<D: Disk>(
    disk: &D,
    shard_count: u32,
    mut on_progress: impl FnMut(CheckProgress),
) -> io::Result<CheckReport> {
    let mut report = CheckReport::default();
    let mut durable = std::collections::BTreeMap::new();
    for shard in (0..shard_count).map(ShardId) {
        match Checkpoint::load(disk, shard) {
            Ok(Some(checkpoint)) => {
                durable.extend(checkpoint.logs.into_iter().map(|log| (log.tip, log.durable_end)));
            }
            Ok(None) => {}
            Err(error) => report.note(checkpoint_file(shard), None, Severity::Damage, error),
        }
    }
    let dirs: Vec<(String, TopicIdPartition)> = match disk.list(PARTITIONS_DIR) {
        Ok(entries) => entries
            .into_iter()
            .filter_map(|entry| Some((entry.name.clone(), parse_partition_dir(&entry.name)?)))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let logs = dirs.len() as u64;
    for (name, tip) in dirs {
        let dir = format!("{PARTITIONS_DIR}/{name}");
        report.check_log(disk, &dir, tip, durable.get(&tip).copied())?;
        report.logs += 1;
        on_progress(CheckProgress { logs_done: report.logs, logs, bytes: report.bytes });
    }
    Ok(report)
}

impl CheckReport {
    fn note(
        &mut self,
        path: String,
        position: Option<u64>,
        severity: Severity,
        what: impl ToString,
    ) {
        self.problems.push(Problem { path, position, severity, what: what.to_string() });
    }

    fn check_log<D: Disk>(
        &mut self,
        disk: &D,
        dir: &str,
        tip: TopicIdPartition,
        durable_end: Option<i64>,
    ) -> io::Result<()> {
        let names = disk.list(dir)?;
        if let Err(error) = PartitionState::load(disk, dir) {
            self.note(format!("{dir}/partition.state"), None, Severity::Damage, error);
        }
        for offset in names.iter().filter_map(|entry| parse_offset_name(&entry.name, "snapshot")) {
            let path = format!("{dir}/{}", crate::layout::snapshot_name(offset));
            let file = read_file(disk, &path, 1 << 30)?;
            if let Err(error) = ProducerStates::decode_snapshot(&file, offset) {
                self.note(path, None, Severity::Mended, error);
            }
        }
        let bases: Vec<i64> =
            names.iter().filter_map(|entry| parse_offset_name(&entry.name, "log")).collect();
        let mut expected = bases.first().copied().unwrap_or(0);
        for (number, base_offset) in bases.iter().enumerate() {
            let path = format!("{dir}/{}", segment_name(*base_offset));
            if *base_offset > expected && number > 0 {
                let what = format!("offsets {expected} to {base_offset} are missing before it");
                self.note(path.clone(), None, Severity::Damage, what);
            }
            let limit = bases.get(number + 1).copied();
            expected = self.check_segment(disk, &path, tip, *base_offset, limit, durable_end)?;
        }
        Ok(())
    }

    /// Checks one segment; returns the offset behind it.
    fn check_segment<D: Disk>(
        &mut self,
        disk: &D,
        path: &str,
        tip: TopicIdPartition,
        base_offset: i64,
        limit: Option<i64>,
        durable_end: Option<i64>,
    ) -> io::Result<i64> {
        self.segments += 1;
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?;
        let mut page = vec![0; 1024];
        if len >= page.len() as u64 {
            file.read_at(0, &mut page)?;
        }
        match SegmentHeader::decode(&page[..512]) {
            Some(header) if header.tip == tip && header.base_offset == base_offset => {}
            Some(header) => {
                let what = format!("it belongs to {} at {}", header.tip, header.base_offset);
                self.note(path.to_owned(), Some(0), Severity::Damage, what);
                return Ok(base_offset);
            }
            None => {
                self.note(path.to_owned(), Some(0), Severity::Damage, "its header is damaged");
                return Ok(base_offset);
            }
        }
        let seal = Seal::decode(&page[512..]);
        let end = seal.map_or(len, |seal| seal.end_position.min(len));
        let mut position = u64::from(HEADER_PAGE_BYTES);
        let mut next_offset = base_offset;
        let mut headers_crc = 0;
        let mut scan = CheckedScan::new(&file, position, end);
        while let Some(batch) = scan.next_batch()? {
            let header = &batch.header;
            let follows = header.base_offset.0 >= next_offset
                && limit.is_none_or(|limit| header.next_offset().0 <= limit);
            if !follows {
                break;
            }
            self.batches += 1;
            self.records += u64::try_from(header.record_count).unwrap_or(0);
            self.bytes += header.size() as u64;
            position = batch.end_position();
            next_offset = header.next_offset().0;
            headers_crc = headers_crc_append(headers_crc, &header.encode());
        }
        match seal {
            Some(seal) if position == seal.end_position => {
                if headers_crc != seal.headers_crc {
                    let what = "its batch headers are not those that were sealed";
                    self.note(path.to_owned(), None, Severity::Damage, what);
                }
                self.check_index(disk, path, seal.end_position)?;
                next_offset = next_offset.max(seal.next_offset);
            }
            Some(seal) => {
                let what = format!("no valid batch; sealed up to {}", seal.end_position);
                self.note(path.to_owned(), Some(position), Severity::Damage, what);
                next_offset = next_offset.max(seal.next_offset);
            }
            None if limit.is_some_and(|limit| next_offset < limit) => {
                let what = format!("no valid batch for offset {next_offset}");
                self.note(path.to_owned(), Some(position), Severity::Damage, what);
            }
            None if limit.is_none() && durable_end.is_some_and(|durable| next_offset < durable) => {
                let what =
                    format!("no valid batch for offset {}, which was durable", Offset(next_offset));
                self.note(path.to_owned(), Some(position), Severity::Damage, what);
            }
            None if limit.is_none() && file.has_data_from(position)? => {
                let what = "a torn tail; the next start cuts it";
                self.note(path.to_owned(), Some(position), Severity::Mended, what);
            }
            None => {}
        }
        Ok(next_offset)
    }

    fn check_index<D: Disk>(&mut self, disk: &D, path: &str, end: u64) -> io::Result<()> {
        let path = format!("{}.index", path.strip_suffix(".log").unwrap_or(path));
        match read_file(disk, &path, 1 << 30) {
            Ok(file) => {
                if let Err(error) = SegmentIndex::decode(&file, end) {
                    self.note(path, None, Severity::Mended, error);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
