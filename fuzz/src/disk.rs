//! A data directory on a simulated disk, and what a fuzzer may do to its files: whatever it does,
//! looking and opening end with an answer.

use std::sync::OnceLock;

use varve_protocol::records::{
    BatchBuilder, Compression, NewRecord, ValidatedBatch, ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId,
    TopicIdPartition,
};
use varve_storage::{
    AppendOrigin, Disk, DiskFile, Entry, EntryLog, LogConfig, LogShard, OpenMode, ShardId,
    ShardOptions, SimDisk, check, dump,
};

/// Where the entry log lies.
pub const ENTRIES_DIR: &str = "metadata";
/// Where batches, entries of the journal and records of entry logs begin.
const PAGE: usize = 4096;

/// Which files of the directory an input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Segments.
    Segment,
    /// Journals.
    Journal,
    /// The entry log.
    Entries,
    /// Index, producer snapshot, partition state, checkpoint.
    Envelope,
}

impl Kind {
    fn holds(self, path: &str) -> bool {
        match self {
            Self::Segment => path.ends_with(".log"),
            Self::Journal => path.contains("/journal-"),
            Self::Entries => path.contains("/entries-"),
            Self::Envelope => [".index", ".snapshot", ".state", "checkpoint"]
                .iter()
                .any(|end| path.ends_with(end)),
        }
    }
}

/// Damages one file as the input says, and reads the directory by every reader there is.
///
/// The first byte chooses the file, the second whether checksums are put right again and whether
/// the rest replaces what lies behind the first page; else it is a list of edits: position (two
/// bytes), new byte.
pub fn run(kind: Kind, input: &[u8]) {
    let Some((&[choice, mode], rest)) = input.split_first_chunk() else { return };
    let (disk, files) = directory();
    let files: Vec<&String> = files.iter().filter(|path| kind.holds(path)).collect();
    let path = files[usize::from(choice) % files.len()];
    let disk = disk.after_kill();
    // A forged position may ask for a file of gigabytes.
    disk.set_capacity(Some(16 << 20));
    let mut bytes = content(&disk, path);
    let is_replaced = mode & 2 != 0;
    if is_replaced {
        let start = if kind == Kind::Envelope { 16 } else { PAGE };
        bytes.truncate(start);
        bytes.extend_from_slice(rest);
        if kind == Kind::Envelope {
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes.extend(vec![0; usize::from(mode >> 4) * 512]);
    } else {
        for edit in rest.chunks_exact(3) {
            let position = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % bytes.len();
            bytes[position] = edit[2];
        }
    }
    let is_mended = mode & 1 != 0;
    if is_mended {
        mend(kind, &mut bytes);
    }
    let file = disk.open(path, OpenMode::Replace).expect("a simulated disk");
    file.write_at(0, &[&bytes]).expect("it has room");
    drop(file);
    read(&disk, path, is_mended || is_replaced);
}

/// First inputs: every file as it is, once with an edit, once replaced by itself.
#[must_use]
pub fn seeds(kind: Kind) -> Vec<Vec<u8>> {
    let (disk, files) = directory();
    let files = files.iter().filter(|path| kind.holds(path));
    let seeds = (0_u8..).zip(files).flat_map(|(choice, path)| {
        let bytes = content(disk, path);
        let start = if kind == Kind::Envelope { 16 } else { PAGE };
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(start, |last| last + 1);
        let behind = bytes.get(start..used).unwrap_or_default();
        [vec![choice, 0, 16, 20, 9], [&[choice, 0x13], behind].concat()]
    });
    seeds.collect()
}

fn read(disk: &SimDisk, path: &str, is_forged: bool) {
    let _ = dump(disk, path, |_| {});
    let report = check(disk, 1, |_| {});
    if path.starts_with(ENTRIES_DIR) {
        let opened = EntryLog::open(disk.clone(), ENTRIES_DIR);
        let is_whole = report.expect("the disk answers").is_whole();
        assert_eq!(is_whole, opened.is_ok(), "a look and an open disagree: {:?}", opened.err());
        return;
    }
    let opened = LogShard::open(disk.clone(), ShardId(0), options(), TimestampMs(50_000));
    let is_damaged = match &opened {
        Ok((_, report)) => !report.damaged.is_empty(),
        Err(_) => true,
    };
    let is_whole = report.as_ref().is_ok_and(varve_storage::CheckReport::is_whole);
    // Bytes whose checksums were forged may contradict each other in more ways than a look sees.
    let damage = opened.as_ref().map(|(_, report)| &report.damaged).ok();
    let told = "a look and a start disagree";
    assert!(!is_damaged || !is_whole || is_forged, "{told}: {damage:#?} {report:#?}");
    let Ok((shard, _)) = opened else { return };
    for log in shard.logs() {
        let reader = log.reader();
        let mut from = reader.log_start();
        while from < reader.log_end() {
            let Ok(read) = reader.read(from, 1 << 16, reader.log_end(), true) else { break };
            for slice in &read.slices {
                let _ = slice.bytes();
            }
            if read.next_offset <= from {
                break;
            }
            from = read.next_offset;
        }
        let _ = reader.offset_for_timestamp(TimestampMs(1_500), reader.log_end());
        let _ = reader.max_timestamp(reader.log_end());
    }
}

/// The directory and its files, made once.
fn directory() -> &'static (SimDisk, Vec<String>) {
    static MADE: OnceLock<(SimDisk, Vec<String>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let disk = SimDisk::new(1);
        fill(&disk);
        let disk = disk.after_kill();
        let mut files = Vec::new();
        list(&disk, "", &mut files);
        for kind in [Kind::Segment, Kind::Journal, Kind::Entries, Kind::Envelope] {
            assert!(files.iter().any(|path| kind.holds(path)), "no {kind:?} in {files:?}");
        }
        (disk, files)
    })
}

fn options() -> ShardOptions {
    ShardOptions {
        journal_file_bytes: 12 << 10,
        journal_append_bytes_max: 600,
        journal_commit_bytes_max: 4 << 10,
        checkpoint_bytes_max: 16 << 10,
        checkpoint_interval_ms: 3_000,
        open_files_max: 8,
        allocation_step_bytes_max: 16 << 10,
        ..ShardOptions::default()
    }
}

fn fill(disk: &SimDisk) {
    let now = |round: i64| TimestampMs(1_000 + round * 100);
    let (mut shard, _) = LogShard::open(disk.clone(), ShardId(0), options(), now(0)).expect("new");
    let config = LogConfig {
        segment_bytes: 10 << 10,
        index_interval_bytes: 400,
        retention_ms: -1,
        message_timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    };
    let tip = TopicIdPartition { topic_id: TopicId(7), partition: PartitionIndex(0) };
    shard.create_log(tip, config).expect("a new log");
    for round in 0..40 {
        let size = if round % 5 == 0 { 900 } else { 60 };
        let (epoch, origin) = (LeaderEpoch(round / 15), AppendOrigin::Leader);
        shard
            .append(&tip, &batch(round, size), epoch, origin, now(round.into()))
            .expect("room for it");
        if let Some(job) = shard.take_commit() {
            shard.finish_commit(job.run()).expect("a disk that works");
        }
        for job in shard.maintain(now(round.into())) {
            shard.finish_maintenance(job.run()).expect("a disk that works");
        }
        if round == 20 {
            let log = shard.log_mut(&tip).expect("it is there");
            log.advance_log_start(Offset(9)).expect("a disk that works");
        }
    }
    let (mut entries, _) = EntryLog::open(disk.clone(), ENTRIES_DIR).expect("a new one");
    let entry = |index: u64| Entry { index, term: index / 4 + 1, data: vec![7; 30].into() };
    entries.append(&(1..=9).map(entry).collect::<Vec<_>>()).expect("room for it");
    entries.set_hard_state(&vec![1, 2, 3].into()).expect("room for it");
    entries.truncate_from(9).expect("it is there");
    entries.sync().expect("a disk that works");
}

fn batch(round: i32, size: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.set_producer(ProducerId(3), ProducerEpoch(0), round * 3);
    let value = vec![b'v'; size];
    for number in 0..3 {
        let record = NewRecord {
            timestamp: TimestampMs(1_000 + i64::from(round * 3 + number)),
            key: Some(b"k"),
            value: Some(&value),
            headers: &[],
        };
        builder.push(record).expect("a small record");
    }
    let bytes = builder.build().expect("it has records");
    validate_batch(bytes, &ValidationLimits::default()).expect("it is right")
}

fn list(disk: &SimDisk, dir: &str, files: &mut Vec<String>) {
    for entry in disk.list(dir).expect("it is there") {
        let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
        if entry.is_dir { list(disk, &path, files) } else { files.push(path) }
    }
}

fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("it is there");
    let mut bytes = vec![0; usize::try_from(file.len().expect("it has one")).expect("small")];
    file.read_at(0, &mut bytes).expect("it is there");
    bytes
}

/// Puts lengths and checksums right, so that what lies behind them is reached.
fn mend(kind: Kind, bytes: &mut [u8]) {
    match kind {
        Kind::Envelope if bytes.len() >= 20 => {
            let body = bytes.len() - 20;
            put(bytes, 12, u32::try_from(body).expect("small"));
            let crc = crc32c::crc32c(&bytes[..16 + body]);
            put(bytes, 16 + body, crc);
        }
        Kind::Envelope => {}
        Kind::Segment => {
            mend_crc(bytes, 0..84, 84);
            mend_crc(bytes, 512..564, 564);
            walk(bytes, 61, 1, |bytes, at| {
                let end = at + 12 + word(bytes, at + 8)?;
                (end > at + 61).then(|| mend_crc(bytes, at + 21..end, at + 17))?;
                Some(end)
            });
        }
        Kind::Journal => walk(bytes, 80, 8, |bytes, at| {
            let end = at + 80 + word(bytes, at + 4)?;
            mend_crc(bytes, at + 12..end, at + 8);
            Some(end)
        }),
        Kind::Entries => walk(bytes, 60, 8, |bytes, at| {
            let end = at + 60 + word(bytes, at + 4)?;
            mend_crc(bytes, at + 60..end, at + 8);
            mend_crc(bytes, at..at + 56, at + 56);
            Some(end)
        }),
    }
}

/// Goes from record to record; `mend_one` tells where the one at a position ends.
fn walk(
    bytes: &mut [u8],
    header: usize,
    alignment: usize,
    mut mend_one: impl FnMut(&mut [u8], usize) -> Option<usize>,
) {
    let mut at = PAGE;
    while at + header <= bytes.len() {
        let Some(end) = mend_one(bytes, at) else { return };
        at = end.next_multiple_of(alignment);
    }
}

fn mend_crc(bytes: &mut [u8], covered: std::ops::Range<usize>, at: usize) {
    if let Some(covered) = bytes.get(covered) {
        let crc = crc32c::crc32c(covered);
        if at + 4 <= bytes.len() {
            put(bytes, at, crc);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
    usize::try_from(word).ok().filter(|length| *length <= bytes.len())
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
}
