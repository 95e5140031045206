//! What appending, committing and reading cost on this machine's disk.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use varve_protocol::records::{
    BatchBuilder, Compression, NewRecord, ValidatedBatch, ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{
    LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId, TopicIdPartition,
};
use varve_storage::{AppendOrigin, LogConfig, LogShard, RealDisk, ShardId, ShardOptions};

const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

fn batch(bytes: usize) -> ValidatedBatch {
    let value = vec![b'v'; bytes];
    let mut builder = BatchBuilder::new(Compression::None);
    let record = NewRecord { timestamp: NOW, value: Some(&value), ..NewRecord::default() };
    builder.push(record).expect("a small batch");
    let bytes: Bytes = builder.build().expect("a small batch");
    validate_batch(bytes, &ValidationLimits::default()).expect("valid")
}

/// A shard with some partitions, on the disk under the target folder.
struct Bench {
    shard: LogShard<RealDisk>,
    partitions: Vec<TopicIdPartition>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn open(partitions: i32, config: &LogConfig) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        // A temporary folder may lie in memory, where nothing is to be measured.
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
        let folder =
            tempfile::Builder::new().prefix("bench-").tempdir_in(target).expect("a folder");
        let disk = RealDisk::open(folder.path()).expect("a disk");
        let (mut shard, _) =
            LogShard::open(disk, ShardId(0), ShardOptions::default(), NOW).expect("an empty shard");
        let topic_id = TopicId(u128::from(COUNT.fetch_add(1, Ordering::Relaxed)));
        let partitions: Vec<TopicIdPartition> = (0..partitions)
            .map(|index| TopicIdPartition { topic_id, partition: PartitionIndex(index) })
            .collect();
        for partition in &partitions {
            shard.create_log(*partition, config.clone()).expect("a new log");
        }
        Self { shard, partitions, _folder: folder }
    }

    fn append(&mut self, index: usize, batch: &ValidatedBatch) {
        let partition = self.partitions[index];
        self.shard
            .append(&partition, batch, LeaderEpoch(0), AppendOrigin::Leader, NOW)
            .expect("appended");
    }

    fn commit(&mut self) {
        while let Some(job) = self.shard.take_commit() {
            self.shard.finish_commit(job.run()).expect("durable");
        }
        for job in self.shard.maintain(NOW) {
            self.shard.finish_maintenance(job.run()).expect("kept up");
        }
    }
}

/// Old segments go, so that a bench cannot fill the disk.
fn bounded() -> LogConfig {
    LogConfig { segment_bytes: 64 << 20, retention_bytes: 128 << 20, ..LogConfig::default() }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, bytes) in [("1 KiB", 1 << 10), ("16 KiB", 16 << 10), ("256 KiB", 256 << 10)] {
        let batch = batch(bytes);
        let mut bench = Bench::open(1, &LogConfig { write_caching: true, ..bounded() });
        let mut count = 0u64;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                bench.append(0, &batch);
                count += 1;
                if count.is_multiple_of(256) {
                    bench.commit();
                }
            });
        });
    }
    group.finish();
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group commit");
    for partitions in [1, 6, 100, 1_000] {
        let batch = batch(1 << 10);
        let mut bench = Bench::open(partitions, &bounded());
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(format!("{partitions} dirty partitions"), |bencher| {
            bencher.iter(|| {
                for index in 0..bench.partitions.len() {
                    bench.append(index, &batch);
                }
                bench.commit();
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut bench = Bench::open(1, &LogConfig::default());
    let batch = batch(16 << 10);
    for _ in 0..1_024 {
        bench.append(0, &batch);
    }
    bench.commit();
    let reader = bench.shard.log(&bench.partitions[0]).expect("a log").reader();
    let end = reader.durable_end();
    let mut group = criterion.benchmark_group("read");
    for (name, bytes) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let mut from = Offset(0);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("find {name}"), |bencher| {
            bencher.iter(|| {
                let slices = reader.read(from, bytes, end, true).expect("there");
                from = if slices.next_offset >= end { Offset(0) } else { slices.next_offset };
                slices.len
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, group_commit, read);
criterion_main!(benches);
