//! Recovering one log.

use std::io;
use std::sync::Arc;

use varve_protocol::records::BatchHeader;
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicIdPartition};

use super::LogEvidence;
use super::generations::{SegmentIdentity, is_void, void_from};
use crate::checkpoint::{LogRecord, RecordedProducers};
use crate::epochs::EpochCache;
use crate::file::{Disk, DiskFile, OpenMode};
use crate::journal::ReplayEntry;
use crate::layout::{PARTITIONS_DIR, parse_offset_name, partition_dir, segment_name};
use crate::log::{
    LogParts, RolledSegment, ShardContext, create_segment_file, newest_snapshot, seal_up_to,
};
use crate::partition_state::PartitionState;
use crate::producer_state::ProducerStates;
use crate::scan::{CheckedScan, HeaderScan, ScanError, headers_crc_append};
use crate::segment::{Segment, SegmentStart};
use crate::segment_header::{HEADER_PAGE_BYTES, Seal, SegmentHeader};

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
    path: String,
    seal: Option<Seal>,
    file: Arc<F>,
    len: u64,
    /// Written by recovery, or read beyond what is known to be on the disk.
    needs_sync: bool,
}

/// Where the scan begins, and the state of the log there.
struct ScanStart {
    number: usize,
    position: u64,
    offset: i64,
    seal: Seal,
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

    // ---- what is there ---------------------------------------------------------------------

    fn list_files(&mut self, entries: &[ReplayEntry]) -> io::Result<()> {
        for entry in self.disk().list(&self.dir)? {
            let path = format!("{}/{}", self.dir, entry.name);
            if let Some(base_offset) = parse_offset_name(&entry.name, "log") {
                self.open_segment(path, base_offset)?;
            } else if [".new", ".void", ".prepared"].iter().any(|end| entry.name.ends_with(end)) {
                self.disk().remove(&path)?;
            }
        }
        self.identities = self.live.iter().map(|live| live.identity).collect();
        for entry in entries {
            self.identities.push(SegmentIdentity {
                base_offset: entry.target.base_offset,
                generation: entry.target.generation,
                rewrite: 0,
                covers_end: entry.target.base_offset,
                resets: entry.target.resets,
            });
        }
        match PartitionState::load(self.disk(), &self.dir) {
            Ok(state) => self.state = state,
            Err(error) => {
                let reason = format!("{}/partition.state: {error}", self.dir);
                self.note_damage(i64::MIN, reason);
            }
        }
        Ok(())
    }

    fn open_segment(&mut self, path: String, base_offset: i64) -> io::Result<()> {
        let file = self.disk().open(&path, OpenMode::Write)?;
        let len = file.len()?;
        let mut page = vec![0; 1024];
        if len >= page.len() as u64 {
            file.read_at(0, &mut page)?;
        }
        let header = SegmentHeader::decode(&page[..512]);
        let problem = match &header {
            None => Some("has no intact header".to_owned()),
            Some(header) if header.tip != self.tip || header.base_offset != base_offset => {
                Some("belongs to another partition or offset".to_owned())
            }
            Some(header) if self.is_foreign(header) => {
                Some("belongs to another cluster".to_owned())
            }
            Some(_) => None,
        };
        match (header, problem) {
            (Some(header), None) => self.live.push(LiveFile {
                identity: SegmentIdentity {
                    base_offset,
                    generation: header.generation,
                    rewrite: header.rewrite,
                    covers_end: header.covers_end,
                    resets: header.resets,
                },
                path,
                seal: Seal::decode(&page[512..]),
                file: Arc::new(file),
                len,
                needs_sync: false,
            }),
            (_, problem) => {
                self.headless
                    .push((base_offset, format!("{path} {}", problem.unwrap_or_default())));
            }
        }
        Ok(())
    }

    fn is_foreign(&self, header: &SegmentHeader) -> bool {
        let ours = self.context.cluster_id;
        ours != [0; 16] && header.cluster_id != [0; 16] && header.cluster_id != ours
    }

    fn note_damage(&mut self, from: i64, reason: String) {
        if self.damage.as_ref().is_none_or(|(known, _)| from < *known) {
            self.damage = Some((from, reason));
        }
    }

    // ---- what counts -----------------------------------------------------------------------

    /// Drops what a truncation or reset after the checkpoint made void, and finds the durable end.
    fn judge_evidence(&mut self, evidence: &LogEvidence) {
        let void = |generation| void_from(&self.identities, generation);
        let mut durable_end = i64::MIN;
        if let Some(state) = &mut self.state {
            let void = void(state.generation);
            state.epochs.retain(|start| start.start_offset.0 < void);
            if void == i64::MIN {
                self.state = None;
            }
        }
        if let Some(record) = &evidence.record {
            let void = void(record.generation);
            durable_end = durable_end.max(record.durable_end.min(void));
            let mut record = record.clone();
            record.epochs.retain(|start| start.start_offset.0 < void);
            if void > record.end_offset {
                self.record = Some(record);
            } else if void != i64::MIN {
                // Truncated since: only what is older than the cut still holds.
                record.end_offset = i64::MIN;
                self.record = Some(record);
            }
        }
        for mark in &evidence.marks {
            durable_end = durable_end.max(mark.end_offset.min(void(mark.generation)));
        }
        for entry in &evidence.entries {
            let void = void(entry.target.generation);
            durable_end = durable_end.max(payload_end(&entry.payload).min(void));
        }
        self.durable_end = durable_end;
    }

    fn drop_void(&mut self) -> io::Result<()> {
        let files = std::mem::take(&mut self.live);
        for live in files {
            if is_void(&self.identities, &live.identity) {
                self.disk().remove(&live.path)?;
                self.names_changed = true;
            } else {
                self.live.push(live);
            }
        }
        self.live.sort_by_key(|live| live.identity.base_offset);
        for pair in self.live.windows(2) {
            // A truncation makes durable what it leaves.
            if pair[1].identity.generation > pair[0].identity.generation {
                self.durable_end = self.durable_end.max(pair[1].identity.base_offset);
            }
        }
        Ok(())
    }

    // ---- the journal -----------------------------------------------------------------------

    fn replay(&mut self, entries: &[ReplayEntry]) -> io::Result<()> {
        for entry in entries {
            let void = void_from(&self.identities, entry.target.generation);
            let (len, _) = payload_below(&entry.payload, void);
            if len == 0 {
                continue;
            }
            let Some(number) = self.replay_target(entry)? else { continue };
            self.apply(number, entry.target.position, &entry.payload[..len])?;
        }
        self.live.sort_by_key(|live| live.identity.base_offset);
        Ok(())
    }

    fn known_start(&self) -> i64 {
        let state = self.state.as_ref().map_or(i64::MIN, |state| state.log_start);
        self.record.as_ref().map_or(i64::MIN, |record| record.log_start).max(state)
    }

    fn known_high_watermark(&self) -> i64 {
        self.record.as_ref().map_or(-1, |record| record.high_watermark)
    }

    /// The segment that an entry belongs to; made if a power cut took it.
    fn replay_target(&mut self, entry: &ReplayEntry) -> io::Result<Option<usize>> {
        let target = &entry.target;
        let same = |live: &LiveFile<D::File>| live.identity.base_offset == target.base_offset;
        if let Some(number) = self.live.iter().position(same) {
            let identity = &self.live[number].identity;
            let is_it = identity.generation == target.generation && identity.rewrite == 0;
            return Ok(is_it.then_some(number));
        }
        let is_older = self.record.as_ref().is_some_and(|record| {
            record.end_offset != i64::MIN && target.base_offset < record.active_base
        });
        if is_older {
            // Everything of a segment older than the checkpoint's is on the disk, or was
            // rewritten or deleted since.
            return Ok(None);
        }
        let header = SegmentHeader {
            cluster_id: self.context.cluster_id,
            tip: self.tip,
            base_offset: target.base_offset,
            generation: target.generation,
            rewrite: 0,
            covers_end: target.base_offset,
            created_ms: self.now_ms,
            resets: target.resets,
        };
        let path = format!("{}/{}", self.dir, segment_name(target.base_offset));
        let headless =
            self.headless.iter().position(|(base_offset, _)| *base_offset == target.base_offset);
        let file = if let Some(number) = headless {
            // The header was never synced, or it rotted; the scan judges what is behind it.
            self.headless.remove(number);
            let file = self.disk().open(&path, OpenMode::Write)?;
            file.allocate(FIRST)?;
            file.write_at(0, &[&header.encode()])?;
            file
        } else {
            create_segment_file(self.disk(), &path, &header)?
        };
        self.names_changed = true;
        let len = file.len()?;
        self.live.push(LiveFile {
            identity: SegmentIdentity {
                base_offset: target.base_offset,
                generation: target.generation,
                rewrite: 0,
                covers_end: target.base_offset,
                resets: target.resets,
            },
            path,
            seal: None,
            file: Arc::new(file),
            len,
            needs_sync: true,
        });
        Ok(Some(self.live.len() - 1))
    }

    fn apply(&mut self, number: usize, position: u64, bytes: &[u8]) -> io::Result<()> {
        let live = &mut self.live[number];
        let end = position + bytes.len() as u64;
        if end > live.len {
            live.file.allocate(end.next_multiple_of(4096))?;
            live.len = live.file.len()?;
        }
        let mut found = vec![0; bytes.len()];
        live.file.read_at(position, &mut found)?;
        if found != bytes {
            live.file.write_at(position, &[bytes])?;
            self.replayed_bytes += bytes.len() as u64;
        }
        live.needs_sync = true;
        Ok(())
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

    // ---- the scan --------------------------------------------------------------------------

    fn choose_start(&mut self) -> io::Result<ScanStart> {
        let from_beginning = |number: usize, live: &LiveFile<D::File>| ScanStart {
            number,
            position: FIRST,
            offset: live.identity.base_offset,
            seal: empty_seal(live.identity.base_offset),
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
        let known_start = self.known_start();
        if known_start != i64::MIN && first_base > known_start && !self.live[0].identity.resets {
            let reason = format!("{}: segments before offset {first_base} are missing", self.dir);
            self.note_damage(known_start, reason);
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
    fn settle_closed(&mut self, number: usize) -> io::Result<()> {
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

    fn producers_before(&self, start: &ScanStart) -> io::Result<ProducerStates> {
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

    fn known_epochs(&self) -> EpochCache {
        let mut epochs = EpochCache::default();
        let state = self.state.iter().flat_map(|state| &state.epochs);
        let record = self.record.iter().flat_map(|record| &record.epochs);
        for start in state.chain(record) {
            epochs.assign(start.epoch, start.start_offset);
        }
        epochs
    }

    /// The record that finds the same damage again, should there be any.
    fn base_record(&self, start: &ScanStart) -> LogRecord {
        let live = &self.live[start.number];
        let epochs = self.known_epochs().starts().to_vec();
        LogRecord {
            tip: self.tip,
            generation: live.identity.generation,
            log_start: self.known_start().max(self.live[0].identity.base_offset),
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
                seal = empty_seal(limit);
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
            seal = extend(seal, header, batch.end_position());
        }
        self.scanned_bytes += scanned;
        self.live[number].needs_sync |= scanned > 0;
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

    // ---- the end ---------------------------------------------------------------------------

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
        let first_base = self.live[0].identity.base_offset;
        let log_start = self.known_start().max(first_base).min(log_end);
        let last = self.live.len() - 1;
        let mut segments = Vec::with_capacity(self.live.len());
        for (number, live) in self.live.iter().enumerate() {
            let identity = &live.identity;
            let seal = if number == last && self.damage.is_none() {
                seal
            } else {
                live.seal.unwrap_or_else(|| empty_seal(identity.base_offset))
            };
            let segment_start = SegmentStart {
                tip: self.tip,
                base_offset: identity.base_offset,
                generation: identity.generation,
                rewrite: identity.rewrite,
                end_position: seal.end_position,
                next_offset: seal.next_offset,
                max_timestamp: seal.max_timestamp,
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

fn empty_seal(base_offset: i64) -> Seal {
    Seal {
        end_position: FIRST,
        next_offset: base_offset,
        max_timestamp: i64::MIN,
        first_timestamp: i64::MIN,
        headers_crc: 0,
    }
}

fn extend(seal: Seal, header: &BatchHeader, end_position: u64) -> Seal {
    let first = header.base_timestamp.0.max(0);
    Seal {
        end_position,
        next_offset: header.next_offset().0,
        max_timestamp: seal.max_timestamp.max(header.max_timestamp.0),
        first_timestamp: if seal.first_timestamp == i64::MIN {
            first
        } else {
            seal.first_timestamp
        },
        headers_crc: headers_crc_append(seal.headers_crc, &header.encode()),
    }
}

/// The seal of a segment that has none, up to the offset at which its successor begins.
fn hop_to<F: DiskFile>(file: &F, len: u64, limit: i64, base_offset: i64) -> io::Result<Seal> {
    let mut position = FIRST;
    let mut scan = HeaderScan::new(file, FIRST, len);
    loop {
        match scan.next_batch() {
            Ok(Some(batch)) if batch.header.next_offset().0 <= limit => {
                position = batch.end_position();
            }
            Ok(_) | Err(ScanError::Damaged { .. }) => break,
            Err(ScanError::Io(error)) => return Err(error),
        }
    }
    match seal_up_to(file, position, base_offset) {
        Ok(seal) => Ok(seal),
        Err(ScanError::Io(error)) => Err(error),
        Err(ScanError::Damaged { .. }) => Ok(empty_seal(base_offset)),
    }
}

/// How much of an entry's payload is whole batches below an offset, and the offset behind them.
fn payload_below(payload: &[u8], void: i64) -> (usize, i64) {
    let mut len = 0;
    let mut end_offset = i64::MIN;
    while let Ok(header) = BatchHeader::parse(&payload[len..]) {
        if header.size() > payload.len() - len || header.next_offset().0 > void {
            break;
        }
        len += header.size();
        end_offset = header.next_offset().0;
    }
    (len, end_offset)
}

/// The offset behind the last batch of an entry.
pub(crate) fn payload_end(payload: &[u8]) -> i64 {
    payload_below(payload, i64::MAX).1
}
