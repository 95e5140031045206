//! Recovering one log.

mod files;
mod replay;
mod start;

use std::io;
use std::sync::Arc;

use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicIdPartition};

pub(crate) use self::replay::{payload_below, payload_end};
use self::start::ScanStart;
use super::LogEvidence;
use super::generations::SegmentIdentity;
use crate::checkpoint::LogRecord;
use crate::epochs::EpochCache;
use crate::file::{Disk, DiskFile};
use crate::layout::{PARTITIONS_DIR, parse_offset_name, partition_dir, segment_name};
use crate::log::{LogParts, RolledSegment, ShardContext};
use crate::partition_state::PartitionState;
use crate::producer_state::ProducerStates;
use crate::scan::CheckedScan;
use crate::segment::{Segment, SegmentStart};
use crate::segment_header::{HEADER_PAGE_BYTES, Seal};

const FIRST: u64 = HEADER_PAGE_BYTES as u64;

/// The disk did not answer while a log was recovered.
#[derive(Debug)]
pub(super) struct RecoverError {
    pub(super) what: String,
    pub(super) source: io::Error,
}

/// A log as recovery left it.
pub(super) struct RecoveredLog<D: Disk> {
    pub(super) parts: LogParts<D>,
    pub(super) scanned_bytes: u64,
    pub(super) replayed_bytes: u64,
    pub(super) is_torn: bool,
    pub(super) is_changed: bool,
    pub(super) damage: Option<String>,
}

/// A segment file that counts.
struct LiveFile<F> {
    identity: SegmentIdentity,
    /// See [`crate::segment_header::SegmentHeader::is_rolled`].
    is_rolled: bool,
    path: String,
    seal: Option<Seal>,
    file: Arc<F>,
    len: u64,
    /// Written by recovery, or read beyond what is known to be on the disk.
    needs_sync: bool,
    /// From here on, what the cache held beside the disk was let go of.
    uncached_from: u64,
}

impl<F: DiskFile> LiveFile<F> {
    /// To be called before anything is believed that no mark says to be on the disk.
    fn uncache(&mut self, from: u64) -> io::Result<()> {
        if from < self.uncached_from {
            self.file.uncache(from, self.uncached_from.min(self.len))?;
            self.uncached_from = from;
        }
        Ok(())
    }
}

/// A segment that the scan found complete: its number, its seal, and the producers at its end.
type ClosedByScan = (usize, Seal, Vec<u8>);

struct Recovery<'a, D: Disk> {
    context: &'a Arc<ShardContext<D>>,
    tip: TopicIdPartition,
    dir: String,
    now_ms: i64,
    live: Vec<LiveFile<D::File>>,
    /// Base offsets whose file has no intact header, and why.
    headless: Vec<(i64, String)>,
    identities: Vec<SegmentIdentity>,
    state: Option<PartitionState>,
    record: Option<LogRecord>,
    /// Everything below was known to be durable.
    durable_end: i64,
    /// Everything below that the journal does not write again is in synced segments.
    synced_end: i64,
    damage: Option<(i64, String)>,
    scanned_bytes: u64,
    replayed_bytes: u64,
    is_torn: bool,
    is_changed: bool,
    names_changed: bool,
}

/// Recovers one log from what is there. `None` if the log does not exist.
pub(super) fn recover_log<D: Disk>(
    context: &Arc<ShardContext<D>>,
    tip: TopicIdPartition,
    mut evidence: LogEvidence,
    now_ms: i64,
) -> Result<Option<RecoveredLog<D>>, RecoverError> {
    evidence.drop_deleted();
    if !evidence.has_dir && evidence.entries.is_empty() {
        return Ok(None);
    }
    let dir = partition_dir(&tip);
    let recovery = Recovery {
        context,
        tip,
        dir: dir.clone(),
        now_ms,
        live: Vec::new(),
        headless: Vec::new(),
        identities: Vec::new(),
        state: None,
        record: None,
        durable_end: i64::MIN,
        synced_end: i64::MIN,
        damage: None,
        scanned_bytes: 0,
        replayed_bytes: 0,
        is_torn: false,
        is_changed: !evidence.has_dir,
        names_changed: !evidence.has_dir,
    };
    let recovered = recovery.run(evidence);
    recovered.map(Some).map_err(|source| RecoverError { what: dir, source })
}

impl<D: Disk> Recovery<'_, D> {
    fn disk(&self) -> &D {
        &self.context.disk
    }

    fn run(mut self, evidence: LogEvidence) -> io::Result<RecoveredLog<D>> {
        self.disk().create_dir(&self.dir)?;
        self.list_files(&evidence.entries)?;
        self.judge_evidence(&evidence);
        self.drop_void()?;
        self.replay(&evidence.entries)?;
        self.drop_without_head()?;
        if self.live.is_empty() {
            return self.begin_anew();
        }
        let start = self.choose_start()?;
        let mut producers = self.producers_before(&start)?;
        let mut epochs = self.known_epochs();
        let mut rolled = Vec::new();
        let base = self.base_record(&start);
        let (seal, mut log_end) = self.scan(&start, &mut producers, &mut epochs, &mut rolled)?;
        if self.damage.is_some() {
            log_end = log_end.max(self.durable_end);
        }
        epochs.truncate_from_end(Offset(log_end.saturating_add(1)));
        self.settle_headless()?;
        self.drop_void_snapshots(log_end)?;
        self.sync()?;
        self.finish(&start, seal, log_end, (producers, epochs, rolled), base)
    }

    fn note_damage(&mut self, from: i64, reason: String) {
        if self.damage.as_ref().is_none_or(|(known, _)| from < *known) {
            self.damage = Some((from, reason));
        }
    }

    fn known_start(&self) -> i64 {
        let state = self.state.as_ref().map_or(i64::MIN, |state| state.log_start);
        self.record.as_ref().map_or(i64::MIN, |record| record.log_start).max(state)
    }

    /// Whether segments are missing between the log's start and the first one that is left, which says that others
    /// came before it.
    fn lacks_head(&self) -> bool {
        self.live.first().is_some_and(|first| {
            let begins = first.identity.resets && !first.is_rolled;
            !begins && first.identity.base_offset > self.known_start().max(0)
        })
    }

    /// Where the log begins. That its first segments are missing does not move it: a leader's start is followed by all
    /// replicas.
    fn log_start(&self) -> i64 {
        let known = self.known_start();
        if self.lacks_head() { known.max(0) } else { known.max(self.live[0].identity.base_offset) }
    }

    fn known_high_watermark(&self) -> i64 {
        self.record.as_ref().map_or(-1, |record| record.high_watermark)
    }

    /// Files without a header. The scan has judged by what they leave: if the log is whole without
    /// them, they were never durable, or a truncation made them void; else they are the damage.
    fn settle_headless(&mut self) -> io::Result<()> {
        for (base_offset, reason) in std::mem::take(&mut self.headless) {
            match &mut self.damage {
                Some((_, known)) => {
                    known.push_str("; ");
                    known.push_str(&reason);
                }
                None => {
                    self.disk().remove(&format!("{}/{}", self.dir, segment_name(base_offset)))?;
                    self.names_changed = true;
                }
            }
        }
        Ok(())
    }

    /// A power cut may keep the name of a later segment and lose that of the first, if neither was synced.
    /// Then nothing of this log was ever durable, and it does not begin where that segment does: a log's
    /// start moves only after the state file says so, or by a segment that resets it.
    fn drop_without_head(&mut self) -> io::Result<()> {
        if !self.lacks_head() || self.durable_end > self.known_start().max(0) {
            return Ok(());
        }
        for live in self.live.drain(..).collect::<Vec<_>>() {
            self.disk().remove(&live.path)?;
        }
        self.names_changed = true;
        self.is_torn = true;
        Ok(())
    }

    /// No segment is left: the log's directory was made and nothing else, or everything is lost.
    fn begin_anew(mut self) -> io::Result<RecoveredLog<D>> {
        let log_start = self.known_start().max(0);
        let base_offset = self.durable_end.max(log_start);
        if base_offset > log_start {
            let reason = format!("{}: the segments are missing", self.dir);
            self.note_damage(log_start, reason);
        }
        self.settle_headless()?;
        let generation = self.context.take_generation();
        let (context, tip) = (self.context, self.tip);
        let mut parts = crate::shard::new_log(context, tip, generation, base_offset, self.now_ms)?;
        parts.log_start = log_start;
        parts.high_watermark = self.known_high_watermark();
        parts.damaged_from = self.damage.as_ref().map(|(from, _)| (*from).max(log_start));
        Ok(RecoveredLog {
            parts,
            scanned_bytes: 0,
            replayed_bytes: 0,
            is_torn: false,
            is_changed: true,
            damage: self.damage.map(|(_, reason)| reason),
        })
    }

    /// Reads and checks everything from the start on. Returns the seal of the segment that is to
    /// be the active one, and the end of the log.
    fn scan(
        &mut self,
        start: &ScanStart,
        producers: &mut ProducerStates,
        epochs: &mut EpochCache,
        rolled: &mut Vec<ClosedByScan>,
    ) -> io::Result<(Seal, i64)> {
        let mut seal = start.seal;
        let mut number = start.number;
        loop {
            let limit =
                self.live.get(number + 1).map_or(i64::MAX, |next| next.identity.base_offset);
            seal = self.scan_segment(number, limit, seal, producers, epochs)?;
            let is_complete = limit != i64::MAX && seal.next_offset == limit;
            if is_complete {
                self.live[number].needs_sync |= self.live[number].seal.is_none();
                let generation = self.live[number].identity.generation;
                rolled.push((number, seal, producers.encode_snapshot(limit, generation)));
                self.live[number].seal = Some(seal);
                number += 1;
                seal = Seal::empty(limit);
                continue;
            }
            let offset = seal.next_offset;
            if offset < self.durable_end {
                let live = &self.live[number];
                let reason = format!(
                    "{}: no valid batch at position {}, where offset {offset} was acknowledged",
                    live.path, seal.end_position
                );
                self.note_damage(offset, reason);
                // What was read can be served; the file keeps everything.
                self.live[number].seal = Some(seal);
                return Ok((seal, offset));
            }
            self.cut(number, &seal)?;
            return Ok((seal, offset));
        }
    }

    fn scan_segment(
        &mut self,
        number: usize,
        limit: i64,
        mut seal: Seal,
        producers: &mut ProducerStates,
        epochs: &mut EpochCache,
    ) -> io::Result<Seal> {
        self.live[number].uncache(seal.end_position)?;
        let live = &self.live[number];
        let mut scanned = 0;
        let mut scan = CheckedScan::new(&*live.file, seal.end_position, live.len);
        while let Some(batch) = scan.next_batch()? {
            let header = &batch.header;
            let epoch = header.partition_leader_epoch;
            // The state file may know epochs that began later than this batch.
            let least = epochs.epoch_at(header.base_offset);
            let is_next = header.base_offset.0 >= seal.next_offset
                && header.next_offset().0 <= limit
                && least.is_none_or(|least| epoch >= least || epoch.0 < 0);
            if !is_next {
                break;
            }
            producers.apply(header, self.now_ms);
            epochs.assign(epoch, header.base_offset);
            scanned += header.size() as u64;
            seal.extend(&batch);
        }
        self.scanned_bytes += scanned;
        self.live[number].needs_sync |= scanned > 0 && seal.next_offset > self.synced_end;
        Ok(seal)
    }

    /// Makes `number` the last segment, ending where the scan ended: takes away later segments,
    /// and erases what lies behind the end, so that no later scan can take it for data.
    fn cut(&mut self, number: usize, seal: &Seal) -> io::Result<()> {
        for live in self.live.drain(number + 1..).collect::<Vec<_>>() {
            self.disk().remove(&live.path)?;
            self.names_changed = true;
            self.is_torn = true;
        }
        let live = &mut self.live[number];
        if live.file.has_data_from(seal.end_position)? {
            live.file.erase(seal.end_position, live.len, false)?;
            live.needs_sync = true;
            self.is_torn = true;
        }
        Ok(())
    }

    /// Takes away snapshots past the log's end, and those that a reset left.
    fn drop_void_snapshots(&mut self, log_end: i64) -> io::Result<()> {
        let first = &self.live[0].identity;
        let least = if first.resets { first.base_offset } else { i64::MIN };
        for entry in self.disk().list(&self.dir)? {
            let offset = parse_offset_name(&entry.name, "snapshot");
            if offset.is_some_and(|offset| offset > log_end || offset < least) {
                self.disk().remove(&format!("{}/{}", self.dir, entry.name))?;
                self.names_changed = true;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut synced = false;
        for live in &mut self.live {
            if live.needs_sync {
                live.file.sync()?;
                synced = true;
            }
        }
        if self.names_changed || self.record.is_none() {
            self.disk().sync_dir(&self.dir)?;
            self.disk().sync_dir(PARTITIONS_DIR)?;
            synced = true;
        }
        self.is_changed |= synced;
        Ok(())
    }

    fn finish(
        self,
        start: &ScanStart,
        seal: Seal,
        log_end: i64,
        (producers, epochs, rolled): (ProducerStates, EpochCache, Vec<ClosedByScan>),
        base: LogRecord,
    ) -> io::Result<RecoveredLog<D>> {
        let files = &self.context.files;
        let log_start = self.log_start().min(log_end);
        let last = self.live.len() - 1;
        let mut segments = Vec::with_capacity(self.live.len());
        for (number, live) in self.live.iter().enumerate() {
            let identity = &live.identity;
            let seal = if number == last && self.damage.is_none() {
                seal
            } else {
                live.seal.unwrap_or_else(|| Seal::empty(identity.base_offset))
            };
            let segment_start = SegmentStart {
                tip: self.tip,
                base_offset: identity.base_offset,
                generation: identity.generation,
                rewrite: identity.rewrite,
                end_position: seal.end_position,
                next_offset: seal.next_offset,
                max_timestamp: seal.max_timestamp,
                headers_crc: seal.headers_crc,
            };
            let path = live.path.clone();
            let segment = if number == last {
                Segment::active(files, path, segment_start)
            } else {
                Segment::sealed(files, path, segment_start)
            };
            segment.note_synced(seal.end_position);
            segment.note_name_synced();
            segments.push(segment);
        }
        let rolled = rolled.into_iter().filter_map(|(number, seal, snapshot)| {
            let segment = Arc::clone(segments.get(number)?);
            Some(RolledSegment { segment, seal, snapshot, is_cut: false })
        });
        let rolled: Vec<_> = rolled.collect();
        let identity = &self.live[last].identity;
        let epochs_saved = self.state.as_ref().and_then(|state| state.epochs.last());
        let damaged_from = self.damage.as_ref().map(|(from, _)| (*from).max(log_start));
        // Only a checkpoint that says where this log is now allows cleaning.
        let is_recorded = self.record.as_ref().is_some_and(|record| {
            record.end_offset != i64::MIN
                && record.generation == identity.generation
                && record.active_base == identity.base_offset
                && start.number == last
        });
        let high_watermark = self.known_high_watermark();
        let checkpointed = is_recorded.then_some((identity.generation, identity.base_offset));
        let parts = LogParts {
            tip: self.tip,
            dir: self.dir,
            generation: identity.generation,
            is_reset: identity.resets,
            allocated: self.live[last].len,
            headers_crc: seal.headers_crc,
            first_timestamp: seal.first_timestamp,
            log_start,
            log_end,
            damaged_from,
            damaged_record: damaged_from.map(|_| Box::new(base)),
            epochs,
            epochs_saved: epochs_saved.map_or(LeaderEpoch(-1), |start| start.epoch),
            producers,
            checkpointed,
            rolled,
            segments,
            high_watermark,
        };
        Ok(RecoveredLog {
            parts,
            scanned_bytes: self.scanned_bytes,
            replayed_bytes: self.replayed_bytes,
            is_torn: self.is_torn,
            is_changed: self.is_changed || !is_recorded,
            damage: self.damage.map(|(_, reason)| reason),
        })
    }
}
