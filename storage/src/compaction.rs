//! Compaction: of each key only the newest record stays (`cleanup.policy=compact`).
//!
//! Closed segments behind the last durable checkpoint and below the caller's limit (the high
//! watermark or last stable offset) are read twice: once to find the newest offset of each key in
//! the part that was never compacted, once to write what stays into new files. Offsets never
//! change: a rewritten batch keeps its base offset and last offset delta. A tombstone stays until
//! its delete horizon, which the first compaction that meets it writes into its batch (KIP-534). A
//! producer's last batch stays as an empty one, and so does the last batch of a rewritten file: the
//! offsets of a log never end, and never leap by more than a segment, where there is no batch, so
//! that followers arrive where the leader is. Control batches and transactional batches stay as
//! they are and remove nothing, until transactions say which of them count.
//!
//! The memory of the key map is bounded by the keys of one segment or by [`KEYS_MAX`], whichever
//! is larger: when the next segment's keys do not fit, it waits for the next round.

mod rewrite;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::records::{BatchError, DecompressLimits, RecordBatch};
use varve_protocol::vocabulary::{Offset, TopicIdPartition};

use crate::file::{Disk, DiskFile};
use crate::log::{Log, ShardContext};
use crate::scan::{HeaderScan, ScanError, ScannedBatch, headers_crc_append};
use crate::segment::Segment;
use crate::segment_header::HEADER_PAGE_BYTES;

pub(crate) use rewrite::Rewritten;
use rewrite::{Rewriter, discard_scratch};

/// Keys that one round takes, beyond those of its first segment.
const KEYS_MAX: usize = 1_000_000;
/// After a round that failed, the log is left alone for so long.
pub(crate) const RETRY_MS: i64 = 60_000;

/// One log's round of compaction, for another thread.
#[derive(Debug)]
pub(crate) struct CompactionJob<D: Disk> {
    pub(crate) tip: TopicIdPartition,
    pub(crate) generation: u32,
    context: Arc<ShardContext<D>>,
    /// Segments that may be rewritten, by base offset.
    segments: Vec<Arc<Segment<D>>>,
    /// The first of them that no round has rewritten.
    first_dirty: usize,
    rules: Rules,
    keys: KeyMap,
    stage: Stage,
}

/// How far a round is.
#[derive(Debug)]
enum Stage {
    /// The keys of segments from the first dirty one up to this one are known.
    Mapping { next: usize },
    /// Groups of neighbours that wait to be rewritten, last first.
    Rewriting { groups: Vec<std::ops::Range<usize>> },
}

/// What decides over a record, besides the newer ones of its key.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) now_ms: i64,
    pub(crate) delete_retention_ms: i64,
    pub(crate) segment_bytes: u64,
    pub(crate) log_start: i64,
    /// Last offsets of the producers' last batches.
    pub(crate) last_of_producers: BTreeSet<i64>,
}

/// What a round has made. Installed by the shard's thread.
#[derive(Debug)]
pub(crate) struct CompactedLog<D: Disk> {
    pub(crate) tip: TopicIdPartition,
    /// The log's when the round began: after a truncation the round is void.
    pub(crate) generation: u32,
    pub(crate) rewritten: Vec<Rewritten<D>>,
    /// What is left of the round.
    pub(crate) rest: Option<Box<CompactionJob<D>>>,
    /// The round stopped early; the log is left alone for a while.
    pub(crate) failure: Option<String>,
}

/// How much of what could be compacted never was, of a log that is compacted; `None` if there is nothing to do. The higher,
/// the more a round is worth.
pub(crate) fn dirty_ratio<D: Disk>(log: &Log<D>, now_ms: i64) -> Option<f64> {
    let config = log.config();
    let segments = eligible(log, now_ms);
    let first_dirty = segments.iter().position(|segment| segment.rewrite == 0)?;
    let bytes = |segments: &[Arc<Segment<D>>]| -> u64 {
        segments.iter().map(|segment| segment.size_bytes()).sum()
    };
    let dirty = bytes(&segments[first_dirty..]);
    let total = bytes(&segments);
    if total == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than a double has")]
    let ratio = dirty as f64 / total as f64;
    let oldest = segments[first_dirty].max_timestamp();
    let is_late = now_ms.saturating_sub(oldest) > config.max_compaction_lag_ms;
    (ratio >= config.min_cleanable_dirty_ratio || is_late).then_some(ratio)
}

/// The oldest segments, as far as they may be rewritten.
fn eligible<D: Disk>(log: &Log<D>, now_ms: i64) -> Vec<Arc<Segment<D>>> {
    let Some((generation, active_base)) = log.checkpointed else { return Vec::new() };
    if generation != log.generation() || log.damaged_from().is_some() {
        return Vec::new();
    }
    let limit = log.cleanup_limit();
    let lag_ms = log.config().min_compaction_lag_ms;
    let may = |segment: &&Arc<Segment<D>>| {
        segment.is_sealed()
            && segment.is_synced()
            && segment.base_offset < active_base
            && segment.next_offset() <= limit
            && (lag_ms == 0 || segment.max_timestamp() <= now_ms.saturating_sub(lag_ms))
    };
    log.segments().iter().take_while(may).cloned().collect()
}

impl<D: Disk> CompactionJob<D> {
    pub(crate) fn take(
        log: &mut Log<D>,
        context: &Arc<ShardContext<D>>,
        now_ms: i64,
    ) -> Option<Self> {
        let segments = eligible(log, now_ms);
        let first_dirty = segments.iter().position(|segment| segment.rewrite == 0)?;
        Some(Self {
            tip: log.partition(),
            generation: log.generation(),
            context: Arc::clone(context),
            first_dirty,
            segments,
            keys: KeyMap::default(),
            stage: Stage::Mapping { next: first_dirty },
            rules: Rules {
                now_ms,
                delete_retention_ms: log.config().delete_retention_ms,
                segment_bytes: u64::from(log.segment_bytes()),
                log_start: log.log_start().0,
                last_of_producers: log.last_offsets_of_producers(),
            },
        })
    }

    /// Does a slice of the round.
    pub(crate) fn run(mut self) -> CompactedLog<D> {
        let mut rewritten = Vec::new();
        let (tip, generation) = (self.tip, self.generation);
        let (rest, failure) = match self.work(&mut rewritten) {
            Ok(true) => (None, None),
            Ok(false) => (Some(Box::new(self)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        CompactedLog { tip, generation, rewritten, rest, failure }
    }

    /// Returns whether the round is done.
    fn work(&mut self, rewritten: &mut Vec<Rewritten<D>>) -> Result<bool, CompactionError> {
        let mut done_bytes = 0;
        while done_bytes < self.context.compaction_slice_bytes_max {
            match &mut self.stage {
                Stage::Mapping { next } => {
                    let number = *next;
                    *next += 1;
                    let is_mapped = number < self.segments.len() && self.map_keys(number)?;
                    if is_mapped {
                        done_bytes += self.segments[number].size_bytes();
                    } else {
                        let mut groups = self.groups(number);
                        groups.reverse();
                        self.stage = Stage::Rewriting { groups };
                    }
                }
                Stage::Rewriting { groups } => {
                    let Some(group) = groups.pop() else { return Ok(true) };
                    let sources = &self.segments[group];
                    let rewriter =
                        Rewriter::begin(&self.context, sources, &self.keys, &self.rules)?;
                    rewritten.extend(rewriter.run(sources)?);
                    done_bytes += sources.iter().map(|source| source.size_bytes()).sum::<u64>();
                }
            }
        }
        Ok(false)
    }

    /// Adds the newest offset of each key of a segment that was never compacted; false if there
    /// are too many.
    fn map_keys(&mut self, number: usize) -> Result<bool, CompactionError> {
        let keys = &mut self.keys;
        let mut added = Vec::new();
        each_batch(&self.segments[number], |batch| {
            let attributes = batch.header().attributes;
            if attributes.is_control() || attributes.is_transactional() {
                return Ok(());
            }
            for record in batch.records(&DecompressLimits::default())? {
                let record = record?;
                if let Some(key) = &record.key {
                    added.push((keys.hash(key), batch.offset_of(&record).0));
                }
            }
            Ok(())
        })?;
        if number != self.first_dirty && keys.len() + added.len() > KEYS_MAX {
            return Ok(false);
        }
        keys.extend(added);
        Ok(true)
    }

    /// Neighbours that fit into one segment together.
    fn groups(&self, mapped: usize) -> Vec<std::ops::Range<usize>> {
        let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
        let mut bytes = 0;
        for (number, segment) in self.segments.iter().enumerate().take(mapped) {
            bytes += segment.size_bytes();
            let joins = groups.last().is_some_and(|group| {
                let first = &self.segments[group.start];
                first.generation == segment.generation
                    && bytes <= self.rules.segment_bytes
                    && segment.next_offset() - first.base_offset <= i64::from(i32::MAX)
            });
            match groups.last_mut() {
                Some(group) if joins => group.end = number + 1,
                _ => {
                    bytes = segment.size_bytes();
                    groups.push(number..number + 1);
                }
            }
        }
        groups
    }
}

impl<D: Disk> CompactedLog<D> {
    /// How much smaller the rewritten segments are than those that they were made of.
    pub(crate) fn bytes_reclaimed(&self) -> u64 {
        let saved = |rewritten: &Rewritten<D>| {
            let before: u64 = rewritten.sources.iter().map(|source| source.size_bytes()).sum();
            let after = rewritten.start.end_position - u64::from(HEADER_PAGE_BYTES);
            before.saturating_sub(after)
        };
        self.rewritten.iter().map(saved).sum()
    }

    /// Puts the new segments in the place of the old ones. Returns segments whose files must go,
    /// after the directory is synced; and the new ones. `passed_ms` is the shard's.
    pub(crate) fn install(
        self,
        log: &mut Log<D>,
        passed_ms: i64,
    ) -> io::Result<Vec<InstalledSegment<D>>> {
        if self.failure.is_some() {
            log.compaction_not_before = passed_ms.saturating_add(RETRY_MS);
        }
        let mut installed = Vec::new();
        for rewritten in self.rewritten {
            let segments = log.segments();
            let first = segments.iter().position(|s| Arc::ptr_eq(s, &rewritten.sources[0]));
            let is_there = log.generation() == self.generation
                && first.is_some_and(|first| {
                    let there = segments.iter().skip(first).take(rewritten.sources.len());
                    there.zip(&rewritten.sources).all(|(a, b)| Arc::ptr_eq(a, b))
                        && first + rewritten.sources.len() < segments.len()
                });
            let Some(first) = first.filter(|_| is_there) else {
                discard_scratch(&rewritten);
                continue;
            };
            installed.push(log.install_rewritten(first, rewritten)?);
        }
        Ok(installed)
    }
}

/// A segment that took the place of others.
#[derive(Debug)]
pub(crate) struct InstalledSegment<D: Disk> {
    pub(crate) segment: Arc<Segment<D>>,
    /// Those whose file did not get replaced by the new one.
    pub(crate) covered: Vec<Arc<Segment<D>>>,
}

/// Why a round stopped. What was written so far is installed; the rest waits.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactionError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Build(#[from] varve_protocol::records::BuildError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a segment lost its header")]
    Header,
    #[error("the batch headers of the segment at {0} are not those that were sealed")]
    Seal(Offset),
}

/// Calls `visit` for every batch of a segment. Fails in the end if they are not those that were appended:
/// what they say of themselves has no checksum but the segment's, and a write that came to the wrong place
/// may have brought whole ones.
fn each_batch<D: Disk>(
    segment: &Arc<Segment<D>>,
    mut visit: impl FnMut(&RecordBatch) -> Result<(), CompactionError>,
) -> Result<(), CompactionError> {
    let file = segment.file()?;
    let mut scan = HeaderScan::new(&*file, u64::from(HEADER_PAGE_BYTES), segment.end_position());
    let mut expected = segment.base_offset;
    let mut headers_crc = 0;
    while let Some(scanned) = scan.next_batch()? {
        if scanned.header.base_offset.0 < expected {
            return Err(ScanError::Damaged { position: scanned.position }.into());
        }
        expected = scanned.header.next_offset().0;
        headers_crc = headers_crc_append(headers_crc, &scanned.header.encode());
        visit(&load(&*file, &scanned)?)?;
    }
    if headers_crc != segment.headers_crc() {
        return Err(CompactionError::Seal(Offset(segment.base_offset)));
    }
    Ok(())
}

/// A batch with its CRC checked: what is rewritten must not launder damage.
fn load<F: DiskFile>(file: &F, scanned: &ScannedBatch) -> Result<RecordBatch, CompactionError> {
    let mut bytes = vec![0; scanned.header.size()];
    file.read_at(scanned.position, &mut bytes)?;
    let batch = RecordBatch::parse(&Bytes::from(bytes))?;
    batch.check_crc()?;
    Ok(batch)
}

/// Newest offsets by a 128-bit hash of the key, with two random states: nobody can make two keys
/// collide, and by chance none do.
#[derive(Debug, Default)]
pub(crate) struct KeyMap {
    states: (RandomState, RandomState),
    newest: HashMap<(u64, u64), i64>,
}

impl KeyMap {
    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.states.0.hash_one(key), self.states.1.hash_one(key))
    }

    fn len(&self) -> usize {
        self.newest.len()
    }

    fn extend(&mut self, records: Vec<((u64, u64), i64)>) {
        for (key, offset) in records {
            let newest = self.newest.entry(key).or_insert(offset);
            *newest = offset.max(*newest);
        }
    }

    /// Whether no newer record of this key is known.
    pub(crate) fn is_newest(&self, key: &[u8], offset: i64) -> bool {
        self.newest.get(&self.hash(key)).is_none_or(|newest| offset >= *newest)
    }
}
