//! Compaction against a model: the newest record of each key stays, offsets do not change,
//! tombstones go after their horizon, producers are still recognised, and a power cut anywhere in
//! it loses nothing.

use std::collections::BTreeMap;

use varve_protocol::records::{
    BatchBuilder, Batches, Compression, DecompressLimits, NewRecord, ValidatedBatch,
    ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs, TopicIdPartition,
};
use varve_storage::config::{CleanupPolicy, LogConfig, ShardId};
use varve_storage::{
    AppendError, AppendOrigin, Disk, DiskFile, LogReader, LogShard, OpenMode, SimDisk,
};

use crate::world::{Random, partition, tiny_config, tiny_options};

const DELETE_RETENTION_MS: i64 = 50_000;

type Records = BTreeMap<i64, (String, Option<String>)>;

fn config() -> LogConfig {
    LogConfig {
        cleanup: CleanupPolicy::COMPACT,
        segment_bytes: 4 << 10,
        min_cleanable_dirty_ratio: 0.01,
        delete_retention_ms: DELETE_RETENTION_MS,
        ..tiny_config()
    }
}

fn keyed(records: &[(String, Option<String>)], sequence: Option<i32>, now: i64) -> ValidatedBatch {
    let codec = if records.len().is_multiple_of(2) { Compression::Lz4 } else { Compression::None };
    let mut builder = BatchBuilder::new(codec);
    if let Some(sequence) = sequence {
        builder.set_producer(ProducerId(4), ProducerEpoch(0), sequence);
    }
    for (key, value) in records {
        let timestamp = TimestampMs(now);
        let value = value.as_ref().map(|value| value.as_bytes());
        let record = NewRecord { timestamp, key: Some(key.as_bytes()), value, headers: &[] };
        builder.push(record).unwrap();
    }
    validate_batch(builder.build().unwrap(), &ValidationLimits::default()).unwrap()
}

fn records_of(reader: &LogReader<SimDisk>) -> Records {
    let mut found = Records::new();
    let mut from = reader.log_start();
    while from < reader.log_end() {
        let read = reader.read(from, 3_000, reader.log_end(), true).unwrap();
        for slice in &read.slices {
            for batch in Batches::new(slice.bytes().unwrap()).map(Result::unwrap) {
                batch.check_crc().unwrap();
                for record in batch.records(&DecompressLimits::default()).unwrap() {
                    let record = record.unwrap();
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let key = text(record.key.as_deref().unwrap());
                    let value = record.value.as_deref().map(text);
                    assert!(found.insert(batch.offset_of(&record).0, (key, value)).is_none());
                }
            }
        }
        assert!(read.next_offset > from, "{read:?}");
        from = read.next_offset;
    }
    found
}

/// Keys and values.
type WrittenBatch = Vec<(String, Option<String>)>;

struct Run {
    disk: SimDisk,
    shard: Option<LogShard<SimDisk>>,
    written: Records,
    /// Written by a producer with sequences: the last batch.
    last: Option<(WrittenBatch, i32, i64)>,
    sequence: i32,
    durable: i64,
    now: i64,
}

impl Run {
    fn new(disk: SimDisk) -> Option<Self> {
        let now = 1_000_000;
        let mut run = Self {
            disk,
            shard: None,
            written: Records::new(),
            last: None,
            sequence: 0,
            durable: 0,
            now,
        };
        run.open()?;
        run.shard().create_log(tip(), config()).ok()?;
        Some(run)
    }

    fn open(&mut self) -> Option<()> {
        self.shard = None;
        let now = TimestampMs(self.now);
        let opened = LogShard::open(self.disk.clone(), ShardId(0), tiny_options(), now);
        let (mut shard, report) = match opened {
            Ok(opened) => opened,
            Err(_) if self.disk.is_off() => return None,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(report.damaged, []);
        if let Some(log) = shard.log_mut(&tip()) {
            log.set_config(config());
        }
        self.shard = Some(shard);
        Some(())
    }

    fn shard(&mut self) -> &mut LogShard<SimDisk> {
        self.shard.as_mut().unwrap()
    }

    fn reader(&mut self) -> LogReader<SimDisk> {
        self.shard().log(&tip()).unwrap().reader()
    }

    fn append(
        &mut self,
        records: Vec<(String, Option<String>)>,
        is_idempotent: bool,
    ) -> Option<()> {
        let sequence = is_idempotent.then_some(self.sequence);
        let batch = keyed(&records, sequence, self.now);
        let (epoch, now) = (LeaderEpoch(0), TimestampMs(self.now));
        let appended = self.shard().append(&tip(), &batch, epoch, AppendOrigin::Leader, now);
        let base = match appended {
            Ok(appended) => appended.base_offset.0,
            Err(AppendError::DirectoryFailed(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        for (offset, record) in (base..).zip(&records) {
            self.written.insert(offset, record.clone());
        }
        if let Some(sequence) = sequence {
            self.sequence += i32::try_from(records.len()).unwrap();
            self.last = Some((records, sequence, base));
        }
        Some(())
    }

    fn commit(&mut self) -> Option<()> {
        let Some(job) = self.shard().take_commit() else { return Some(()) };
        let done = job.run();
        for (_, end) in self.shard().finish_commit(done).ok()? {
            self.durable = end.0;
        }
        Some(())
    }

    fn maintain(&mut self, advance_ms: i64) -> Option<()> {
        self.now += advance_ms;
        let now = TimestampMs(self.now);
        for job in self.shard().maintain(now) {
            let done = job.run();
            self.shard().finish_maintenance(done).ok()?;
        }
        Some(())
    }

    fn workload(&mut self, seed: u64, rounds: u64) -> Option<()> {
        let mut random = Random(seed);
        for _ in 0..rounds {
            let count = 1 + random.below(4);
            let records = (0..count)
                .map(|_| {
                    let key = format!("key-{}", random.below(12));
                    let is_tombstone = random.below(5) == 0;
                    let value = format!("{}{}", random.below(1 << 40), ".".repeat(60));
                    (key, (!is_tombstone).then_some(value))
                })
                .collect();
            self.append(records, random.below(3) == 0)?;
            if random.below(3) == 0 {
                self.commit()?;
            }
            if random.below(3) == 0 {
                self.maintain(1_500)?;
            }
        }
        self.commit()
    }

    /// Whatever is there was written at that offset, and the newest of each key is there.
    fn check(&mut self, context: &str) {
        let reader = self.reader();
        let found = records_of(&reader);
        let end = reader.log_end().0;
        assert!(end >= self.durable, "{context}");
        for (offset, record) in &found {
            assert_eq!(self.written.get(offset), Some(record), "{context}: offset {offset}");
        }
        let newest = |records: &Records| -> BTreeMap<String, (i64, Option<String>)> {
            let inside = records.iter().filter(|(offset, _)| **offset < end);
            inside.map(|(offset, (key, value))| (key.clone(), (*offset, value.clone()))).collect()
        };
        let there = newest(&found);
        for (key, (offset, value)) in newest(&self.written) {
            match there.get(&key) {
                Some(found) => assert_eq!(found, &(offset, value), "{context}: {key}"),
                // A tombstone may be gone, with everything before it.
                None => assert_eq!(value, None, "{context}: {key} is gone"),
            }
        }
    }
}

fn tip() -> TopicIdPartition {
    partition(3)
}

#[test]
fn keeps_the_newest_of_each_key_and_frees_the_rest() {
    let mut run = Run::new(SimDisk::new(1)).unwrap();
    run.workload(1, 150).unwrap();
    for _ in 0..6 {
        run.maintain(5_000).unwrap();
    }
    run.check("compacted");
    let compacted = records_of(&run.reader()).len();
    assert!(compacted * 3 < run.written.len(), "{compacted} of {}", run.written.len());
    // Every offset can be asked for, also those that are gone.
    let reader = run.reader();
    for offset in 0..reader.log_end().0 {
        let read = reader.read(Offset(offset), 100, reader.log_end(), true).unwrap();
        assert!(read.next_offset.0 > offset);
    }
    // The last batch of a producer is recognised although its records may be gone.
    let (records, sequence, base) = run.last.clone().unwrap();
    let again = keyed(&records, Some(sequence), 7);
    let (epoch, now) = (LeaderEpoch(0), TimestampMs(run.now));
    let origin = AppendOrigin::Leader;
    let answer = run.shard().append(&tip(), &again, epoch, origin, now).unwrap();
    assert!(answer.duplicate);
    assert_eq!(answer.base_offset.0, base);
    run.shard().close().unwrap();
    run.disk = run.disk.after_power_cut(4);
    run.open().unwrap();
    run.check("after a restart");
}

#[test]
fn tombstones_go_after_their_horizon() {
    let mut run = Run::new(SimDisk::new(2)).unwrap();
    let long = ".".repeat(300);
    let fill = |run: &mut Run, from: u64| {
        for number in from..from + 30 {
            let records = vec![(format!("fill-{}", number % 3), Some(format!("{number}{long}")))];
            run.append(records, false).unwrap();
            run.commit().unwrap();
        }
        for _ in 0..4 {
            run.maintain(5_000).unwrap();
        }
    };
    let gone = || "gone".to_owned();
    run.append(vec![(gone(), Some("value".to_owned()))], false).unwrap();
    run.append(vec![(gone(), None)], false).unwrap();
    fill(&mut run, 0);
    let has = |run: &mut Run| {
        let found = records_of(&run.reader());
        found.values().filter(|(key, _)| key == "gone").map(|(_, value)| value.is_some()).collect()
    };
    let kept: Vec<bool> = has(&mut run);
    assert_eq!(kept, [false], "only the tombstone is left");
    run.maintain(DELETE_RETENTION_MS).unwrap();
    fill(&mut run, 100);
    let kept: Vec<bool> = has(&mut run);
    assert_eq!(kept, [false; 0], "the horizon has passed");
    run.check("after the horizon");
}

#[test]
fn survives_a_power_cut_at_every_sync() {
    let mut cuts = 0;
    for seed in 0..3 {
        let disk = SimDisk::new(seed);
        let mut run = Run::new(disk.clone()).unwrap();
        run.workload(seed, 60).unwrap();
        for nth in 0..disk.counts().syncs {
            let disk = SimDisk::new(seed);
            disk.power_cut_at_sync(nth);
            let Some(mut run) = Run::new(disk.clone()) else { continue };
            assert!(run.workload(seed, 60).is_none());
            for image in 0..3 {
                run.disk = disk.after_power_cut(image * 7919 + nth);
                run.open().unwrap();
                if run.shard().log(&tip()).is_none() {
                    assert_eq!(run.durable, 0);
                    continue;
                }
                run.check(&format!("seed {seed}, sync {nth}, image {image}"));
                cuts += 1;
            }
        }
    }
    assert!(cuts > 300, "{cuts}");
}

#[test]
fn keyless_records_are_refused() {
    let mut run = Run::new(SimDisk::new(3)).unwrap();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(NewRecord { value: Some(b"no key"), ..NewRecord::default() }).unwrap();
    let batch = validate_batch(builder.build().unwrap(), &ValidationLimits::default()).unwrap();
    let (epoch, now) = (LeaderEpoch(0), TimestampMs(run.now));
    let refused = run.shard().append(&tip(), &batch, epoch, AppendOrigin::Leader, now);
    assert_eq!(refused, Err(AppendError::KeylessRecord));
}

/// Whole batches that a write brought to the wrong place look like what an earlier compaction left:
/// what they lie upon must not be taken for gone.
#[test]
fn what_came_to_the_wrong_place_is_not_rewritten() {
    let mut run = Run::new(SimDisk::new(3)).unwrap();
    let record = |number: u64| (format!("key-{number:04}"), Some(".".repeat(80)));
    for number in 0..60 {
        run.append(vec![record(number)], false).unwrap();
    }
    run.commit().unwrap();
    let dir = format!("p/{}", run.disk.list("p").unwrap()[0].name);
    let entries = run.disk.list(&dir).unwrap();
    let names = entries.iter().filter_map(|entry| entry.name.strip_suffix(".log"));
    let mut bases: Vec<u64> = names.map(|name| name.parse().unwrap()).collect();
    bases.sort_unstable();
    assert!(bases.len() > 2, "{bases:?}");
    let open =
        |base: u64| run.disk.open(&format!("{dir}/{base:020}.log"), OpenMode::Write).unwrap();
    let (first, second) = (open(bases[0]), open(bases[1]));
    // The last two of the first segment, of a record each.
    let one = keyed(&[record(0)], None, 0).bytes.len() as u64;
    let (at, len) = (4_096 + (bases[1] - 2) * one, usize::try_from(2 * one).unwrap());
    let before = first.map(at, len).unwrap();
    first.write_at(at, &[&second.map(4_096 + one, len).unwrap()]).unwrap();
    for _ in 0..6 {
        run.maintain(5_000).unwrap();
    }
    first.write_at(at, &[&before]).unwrap();
    run.check("the segment is what it was");
}
