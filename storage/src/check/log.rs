//! Checking the files of one log.

use std::io;
use std::ops::Range;

use varve_protocol::vocabulary::{LeaderEpoch, TopicIdPartition};

use super::replayed::Replayed;
use super::{CheckReport, Remedy, Severity};
use crate::file::{DirEntry, Disk, DiskFile, OpenMode, read_file};
use crate::index::{IndexEntry, SegmentIndex};
use crate::layout::{STATE_FILE, parse_offset_name, segment_name, snapshot_name};
use crate::partition_state::PartitionState;
use crate::producer_state::ProducerStates;
use crate::recovery::{
    LogEvidence, SegmentIdentity, is_void, payload_below, payload_end, void_from,
};
use crate::scan::{CheckedScan, headers_crc_append};
use crate::segment_header::{HEADER_PAGE_BYTES, Seal, SegmentHeader};

/// The largest derived file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Where a segment's first batch lies.
const FIRST: u64 = HEADER_PAGE_BYTES as u64;
/// Bytes of the header page that hold header and seal; zeros follow.
const SECTORS_BYTES: usize = 1024;

/// A segment with an intact header, or one that the journal makes.
struct SegmentFile<F> {
    path: String,
    identity: SegmentIdentity,
    file: Replayed<F>,
    seal: Option<Seal>,
}

/// What is known to be durable of a log, whatever its files say.
struct Known {
    /// What lies before is not served.
    log_start: i64,
    /// Everything below.
    durable_end: i64,
    /// Segments that begin before this need no journal: all of them is on the disk, or they were
    /// rewritten or deleted since.
    replay_from: i64,
}

impl Known {
    /// What comes of it that `offsets` have no valid bytes.
    fn remedy(&self, offsets: Range<i64>) -> Remedy {
        let is_known = offsets.start < self.durable_end && offsets.end > self.log_start;
        if is_known { Remedy::RestoreLog } else { Remedy::NextStart }
    }
}

/// Where the walk over a log is.
struct Walk {
    next_offset: i64,
    epoch: LeaderEpoch,
}

impl CheckReport {
    /// Checks one log; `on_segment` is told after each segment.
    pub(super) fn check_log<D: Disk>(
        &mut self,
        disk: &D,
        dir: &str,
        tip: TopicIdPartition,
        (files, evidence): (&[DirEntry], LogEvidence),
        on_segment: &mut dyn FnMut(&Self),
    ) -> io::Result<()> {
        let state = PartitionState::load(disk, dir).unwrap_or_else(|error| {
            self.note(&format!("{dir}/{STATE_FILE}"), None, Remedy::RestoreLog, error);
            None
        });
        let mut segments = Vec::new();
        let mut headless = Vec::new();
        for DirEntry { name, .. } in files {
            if let Some(offset) = parse_offset_name(name, "snapshot") {
                self.check_snapshot(disk, dir, offset)?;
            } else if let Some(base_offset) = parse_offset_name(name, "log") {
                self.segments += 1;
                match self.open_segment(disk, dir, tip, base_offset)? {
                    Ok(segment) => segments.push(segment),
                    Err(what) => headless.push((base_offset, what)),
                }
            } else if parse_offset_name(name, "index").is_none() && name != STATE_FILE {
                self.note_stranger(dir, name);
            }
        }
        let mut identities: Vec<_> = segments.iter().map(|segment| segment.identity).collect();
        identities.extend(evidence.entries.iter().map(|entry| SegmentIdentity {
            base_offset: entry.target.base_offset,
            generation: entry.target.generation,
            rewrite: 0,
            covers_end: entry.target.base_offset,
            resets: entry.target.resets,
        }));
        let (void, mut live): (Vec<_>, Vec<_>) =
            segments.into_iter().partition(|segment| is_void(&identities, &segment.identity));
        for segment in void {
            let what = "void since a truncation or a compaction; it is removed";
            self.note(&segment.path, None, Remedy::NextStart, what);
        }
        let known = known(state, &evidence, &identities, &live);
        self.replay(disk, dir, (&evidence, &identities, &known), &mut live, &mut headless)?;
        let told = self.problems.len();
        self.walk_log(disk, dir, &live, &known, on_segment)?;
        // As a start judges: if the log is whole without such a file, it was never durable, or
        // void.
        let is_whole = self.problems[told..].iter().all(|p| p.severity() < Severity::Damage);
        let remedy = if is_whole { Remedy::NextStart } else { Remedy::RestoreLog };
        for (base_offset, what) in headless {
            self.note(&format!("{dir}/{}", segment_name(base_offset)), Some(0), remedy, what);
        }
        Ok(())
    }

    /// Does what a start does with the journal's entries, but not on the disk.
    fn replay<D: Disk>(
        &mut self,
        disk: &D,
        dir: &str,
        (evidence, identities, known): (&LogEvidence, &[SegmentIdentity], &Known),
        live: &mut Vec<SegmentFile<D::File>>,
        headless: &mut Vec<(i64, String)>,
    ) -> io::Result<()> {
        for entry in &evidence.entries {
            let target = &entry.target;
            let (len, _) = payload_below(&entry.payload, void_from(identities, target.generation));
            if len == 0 {
                continue;
            }
            let base_offset = target.base_offset;
            let found = live.iter().position(|l| l.identity.base_offset == base_offset);
            let number = match found {
                Some(number) => number,
                None if base_offset < known.replay_from => continue,
                None => {
                    let path = format!("{dir}/{}", segment_name(base_offset));
                    let is_it = |(base, _): &(i64, String)| *base == base_offset;
                    let file = headless.iter().position(is_it).map(|number| {
                        headless.remove(number);
                        disk.open(&path, OpenMode::Read)
                    });
                    let identity = SegmentIdentity {
                        base_offset,
                        generation: target.generation,
                        rewrite: 0,
                        covers_end: base_offset,
                        resets: target.resets,
                    };
                    let what = "the journal makes the file, or its header, anew";
                    self.note(&path, Some(0), Remedy::NextStart, what);
                    let file = Replayed::new(file.transpose()?)?;
                    live.push(SegmentFile { path, identity, file, seal: None });
                    live.len() - 1
                }
            };
            let SegmentFile { path, identity, file, .. } = &mut live[number];
            if identity.generation == target.generation && identity.rewrite == 0 {
                let is_missing = file.apply(target.position, entry.payload.slice(..len))?;
                if is_missing && found.is_some() {
                    let what = "bytes that the journal writes again";
                    self.note(path, Some(target.position), Remedy::NextStart, what);
                }
            }
        }
        live.sort_by_key(|segment| segment.identity.base_offset);
        Ok(())
    }

    fn walk_log<D: Disk>(
        &mut self,
        disk: &D,
        dir: &str,
        live: &[SegmentFile<D::File>],
        known: &Known,
        on_segment: &mut dyn FnMut(&Self),
    ) -> io::Result<()> {
        let Some(first) = live.first() else {
            if known.durable_end > 0 {
                self.note(dir, None, Remedy::RestoreLog, "the segments are missing");
            }
            return Ok(());
        };
        let start = if known.log_start >= 0 { known.log_start } else { i64::MAX };
        let start = start.min(first.identity.base_offset);
        let mut walk = Walk { next_offset: start, epoch: LeaderEpoch(-1) };
        for (number, segment) in live.iter().enumerate() {
            let base_offset = segment.identity.base_offset;
            if base_offset > walk.next_offset {
                let what = format!("offsets {} to {base_offset} are missing", walk.next_offset);
                let remedy = known.remedy(walk.next_offset..base_offset);
                self.note(&segment.path, None, remedy, what);
            }
            let limit = live.get(number + 1).map(|next| next.identity.base_offset);
            self.walk_segment(disk, segment, limit, known, &mut walk)?;
            on_segment(self);
        }
        Ok(())
    }

    fn check_snapshot<D: Disk>(&mut self, disk: &D, dir: &str, offset: i64) -> io::Result<()> {
        let path = format!("{dir}/{}", snapshot_name(offset));
        let file = read_file(disk, &path, FILE_BYTES_MAX)?;
        if let Err(error) = ProducerStates::decode_snapshot(&file, offset) {
            self.note(&path, None, Remedy::NextStart, error);
        }
        Ok(())
    }

    fn open_segment<D: Disk>(
        &mut self,
        disk: &D,
        dir: &str,
        tip: TopicIdPartition,
        base_offset: i64,
    ) -> io::Result<Result<SegmentFile<D::File>, String>> {
        let path = format!("{dir}/{}", segment_name(base_offset));
        let file = disk.open(&path, OpenMode::Read)?;
        let mut page = vec![0; HEADER_PAGE_BYTES as usize];
        if file.len()? >= page.len() as u64 {
            file.read_at(0, &mut page)?;
        }
        let sector = SECTORS_BYTES / 2;
        let header = match SegmentHeader::decode(&page[..sector]) {
            Some(header) if header.tip == tip && header.base_offset == base_offset => header,
            Some(header) => {
                return Ok(Err(format!("it belongs to {} at {}", header.tip, header.base_offset)));
            }
            None => return Ok(Err("its header is damaged".to_owned())),
        };
        let seal = Seal::decode(&page[sector..SECTORS_BYTES]);
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if seal.is_none() && !is_zero(&page[sector..SECTORS_BYTES]) {
            let what = "its seal is damaged; its batches are judged without it";
            self.note(&path, Some(sector as u64), Remedy::NextStart, what);
        }
        if !is_zero(&page[SECTORS_BYTES..]) {
            let what = "bytes in the header page that varve does not write";
            self.note(&path, Some(SECTORS_BYTES as u64), Remedy::None, what);
        }
        let identity = SegmentIdentity {
            base_offset,
            generation: header.generation,
            rewrite: header.rewrite,
            covers_end: header.covers_end,
            resets: header.resets,
        };
        Ok(Ok(SegmentFile { path, identity, file: Replayed::new(Some(file))?, seal }))
    }

    /// Reads all batches of a segment; `limit` is where the next one begins.
    fn walk_segment<D: Disk>(
        &mut self,
        disk: &D,
        segment: &SegmentFile<D::File>,
        limit: Option<i64>,
        known: &Known,
        walk: &mut Walk,
    ) -> io::Result<()> {
        let SegmentFile { path, identity, file, seal } = segment;
        // A seal from before a truncation counts no more, until the next checkpoint writes it anew.
        let seal = seal.filter(|seal| limit.is_none_or(|limit| seal.next_offset <= limit));
        let len = file.len();
        let end = seal.map_or(len, |seal| seal.end_position.min(len));
        let mut index = IndexCheck::load(self, disk, path, seal)?;
        let mut position = FIRST;
        let mut next_offset = identity.base_offset;
        let mut headers_crc = 0;
        let mut epoch = walk.epoch;
        let mut scan = CheckedScan::new(file, position, end);
        while let Some(batch) = scan.next_batch()? {
            let header = &batch.header;
            // Epochs do not fall; of those in a sealed segment the seal says more.
            let follows = header.base_offset.0 >= next_offset
                && limit.is_none_or(|limit| header.next_offset().0 <= limit)
                && (seal.is_some() || header.partition_leader_epoch >= epoch);
            if !follows {
                break;
            }
            self.batches += 1;
            self.records += u64::try_from(header.record_count).unwrap_or(0);
            self.bytes += header.size() as u64;
            index.on_batch(position, header.base_offset.0 - identity.base_offset, headers_crc);
            epoch = header.partition_leader_epoch;
            position = batch.end_position();
            next_offset = header.next_offset().0;
            headers_crc = headers_crc_append(headers_crc, &header.encode());
        }
        index.finish(self, position);
        let place = Some(position);
        let remedy = known.remedy(next_offset..limit.unwrap_or(i64::MAX));
        match seal {
            Some(seal) if position == seal.end_position => {
                if headers_crc != seal.headers_crc {
                    let what = "its batch headers are not those that were sealed";
                    self.note(path, None, Remedy::RestoreLog, what);
                }
                // An epoch that the seal does not vouch for says nothing of those that follow.
                walk.epoch = if headers_crc == seal.headers_crc { epoch } else { walk.epoch };
                next_offset = next_offset.max(seal.next_offset);
            }
            Some(seal) => {
                let what = format!("no valid batch; sealed up to {}", seal.end_position);
                self.note(path, place, remedy, what);
                next_offset = next_offset.max(seal.next_offset);
            }
            None if limit.is_some_and(|limit| next_offset < limit) => {
                let what = format!("no valid batch for offset {next_offset}");
                self.note(path, place, remedy, what);
                // What is missing up to the next segment has been told.
                next_offset = limit.unwrap_or(next_offset);
            }
            None if limit.is_none() && remedy == Remedy::RestoreLog => {
                let what = format!("no valid batch for offset {next_offset}, which was durable");
                self.note(path, place, remedy, what);
            }
            None if limit.is_none() && file.has_data_from(position)? => {
                self.note(path, place, Remedy::NextStart, "a torn tail, which is cut");
            }
            None => {}
        }
        walk.next_offset = next_offset;
        Ok(())
    }
}

/// What recovery would take for durable, by the same rules.
fn known<F>(
    state: Option<PartitionState>,
    evidence: &LogEvidence,
    identities: &[SegmentIdentity],
    live: &[SegmentFile<F>],
) -> Known {
    let void = |generation| void_from(identities, generation);
    let record = evidence.record.iter().map(|record| (record.durable_end, record.generation));
    let marks = evidence.marks.iter().map(|mark| (mark.end_offset, mark.generation));
    let entries = evidence.entries.iter();
    let entries = entries.map(|entry| (payload_end(&entry.payload), entry.target.generation));
    let ends =
        record.chain(marks).chain(entries).map(|(end, generation)| end.min(void(generation)));
    // A truncation makes durable what it leaves.
    let cuts =
        live.windows(2).filter(|pair| pair[1].identity.generation > pair[0].identity.generation);
    let cuts = cuts.map(|pair| pair[1].identity.base_offset);
    let durable_end = ends.chain(cuts).max().unwrap_or(i64::MIN);
    // What a reset made void says nothing of the log's start.
    let counts = |generation| void(generation) != i64::MIN;
    let of_state = state.filter(|state| counts(state.generation)).map(|state| state.log_start);
    let of_record = evidence.record.as_ref().filter(|record| counts(record.generation));
    let starts = [of_state, of_record.map(|record| record.log_start)];
    let log_start = starts.into_iter().flatten().max().unwrap_or(i64::MIN);
    // A record of before a truncation or reset does not say what is on the disk.
    let record = evidence.record.as_ref().filter(|record| {
        record.end_offset != i64::MIN && void(record.generation) > record.end_offset
    });
    let replay_from = record.map_or(i64::MIN, |record| record.active_base);
    Known { log_start, durable_end, replay_from }
}

/// The index of a segment beside the walk over it: every entry must speak of a batch.
struct IndexCheck {
    path: String,
    /// Those that were not met yet, the next one last.
    entries: Vec<IndexEntry>,
    is_wrong: bool,
}

impl IndexCheck {
    fn load<D: Disk>(
        report: &mut CheckReport,
        disk: &D,
        segment: &str,
        seal: Option<Seal>,
    ) -> io::Result<Self> {
        let path = format!("{}.index", segment.strip_suffix(".log").unwrap_or(segment));
        let mut check = Self { path, entries: Vec::new(), is_wrong: false };
        // An open segment has none that counts.
        let Some(seal) = seal else { return Ok(check) };
        match read_file(disk, &check.path, FILE_BYTES_MAX) {
            Ok(file) => match SegmentIndex::decode(&file, seal.end_position) {
                Ok(index) => check.entries = index.entries().iter().rev().copied().collect(),
                Err(error) => report.note(&check.path, None, Remedy::NextStart, error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(check)
    }

    fn on_batch(&mut self, position: u64, relative_offset: i64, headers_crc: u32) {
        let is_here = |entry: &IndexEntry| u64::from(entry.position) <= position;
        while let Some(entry) = self.entries.pop_if(|entry| is_here(entry)) {
            self.is_wrong |= u64::from(entry.position) != position
                || i64::from(entry.relative_offset) != relative_offset
                || entry.headers_crc_before != headers_crc;
        }
    }

    /// The walk ended at `position`: what lies behind cannot be judged.
    fn finish(&self, report: &mut CheckReport, position: u64) {
        let is_within = |entry: &IndexEntry| u64::from(entry.position) < position;
        if self.is_wrong || self.entries.iter().any(is_within) {
            let what = "it does not fit its segment; it is built again when in doubt";
            report.note(&self.path, None, Remedy::NextStart, what);
        }
    }
}
