//! What storage costs: CPU seconds a gigabyte, latency of a commit, a thousand dirty partitions,
//! and a restart. `cargo run --release -p varve-storage --example cost -- DIR [WORK]`
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first error")]

use std::time::Instant;

use varve_protocol::records::{
    BatchBuilder, Compression, NewRecord, ValidatedBatch, ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{
    LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId, TopicIdPartition,
};
use varve_storage::config::{LogConfig, ShardId, ShardOptions};
use varve_storage::{AppendOrigin, LogShard, RealDisk};

const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

fn batch(bytes: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'v'; bytes.min(1024)];
    for _ in 0..(bytes / value.len()).max(1) {
        let record = NewRecord { timestamp: NOW, value: Some(&value), ..NewRecord::default() };
        builder.push(record).unwrap();
    }
    validate_batch(builder.build().unwrap(), &ValidationLimits::default()).unwrap()
}

/// User and system time of this process, in seconds.
fn cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap() / 100.0;
    (ticks(11), ticks(12))
}

fn tip(number: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId(77), partition: PartitionIndex(number) }
}

struct Bench {
    shard: LogShard<RealDisk>,
}

impl Bench {
    fn open(dir: &str, partitions: i32, config: &LogConfig) -> Self {
        let disk = RealDisk::open(dir).unwrap();
        let (mut shard, _) =
            LogShard::open(disk, ShardId(0), ShardOptions::default(), NOW).unwrap();
        for number in 0..partitions {
            if shard.log(&tip(number)).is_none() {
                shard.create_log(tip(number), config.clone()).unwrap();
            }
        }
        Self { shard }
    }

    fn append(&mut self, number: i32, batch: &ValidatedBatch) {
        let origin = AppendOrigin::Leader;
        self.shard.append(&tip(number), batch, LeaderEpoch(0), origin, NOW).unwrap();
    }

    fn commit(&mut self) {
        if let Some(job) = self.shard.take_commit() {
            self.shard.finish_commit(job.run()).unwrap();
        }
        if self.shard.is_maintenance_due() {
            self.maintain();
        }
    }

    fn maintain(&mut self) {
        for job in self.shard.maintain(NOW) {
            self.shard.finish_maintenance(job.run()).unwrap();
        }
    }
}

fn bulk(dir: &str, batch_bytes: usize, per_commit: usize, gigabytes: f64) {
    let config = LogConfig { retention_bytes: 2 << 30, ..LogConfig::default() };
    let mut bench = Bench::open(dir, 6, &config);
    let batch = batch(batch_bytes);
    let total = (gigabytes * 1e9) as usize;
    let (start, before) = (Instant::now(), cpu());
    let mut written = 0;
    let mut number = 0;
    while written < total {
        for _ in 0..per_commit {
            bench.append(number % 6, &batch);
            number += 1;
            written += batch.bytes.len();
        }
        bench.commit();
        if number % 512 == 0 {
            bench.maintain();
        }
    }
    let (took, after) = (start.elapsed().as_secs_f64(), cpu());
    let gb = written as f64 / 1e9;
    println!(
        "bulk {batch_bytes} B x {per_commit} a commit: {:.0} MB/s, CPU {:.3} s/GB (user {:.3}, system {:.3})",
        gb * 1e3 / took,
        (after.0 - before.0 + after.1 - before.1) / gb,
        (after.0 - before.0) / gb,
        (after.1 - before.1) / gb,
    );
}

fn latency(dir: &str) {
    let mut bench = Bench::open(dir, 6, &LogConfig::default());
    let batch = batch(1024);
    let mut took = Vec::new();
    for round in 0..20_000 {
        let start = Instant::now();
        bench.append(round % 6, &batch);
        if let Some(job) = bench.shard.take_commit() {
            bench.shard.finish_commit(job.run()).unwrap();
        }
        took.push(start.elapsed().as_nanos() as u64 / 1000);
        if bench.shard.is_maintenance_due() {
            bench.maintain();
        }
    }
    took.sort_unstable();
    let at = |part: f64| took[(took.len() as f64 * part) as usize];
    println!(
        "1 KiB journal commit: p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        at(0.5),
        at(0.99),
        at(0.999),
        took[took.len() - 1]
    );
}

fn many(dir: &str, partitions: i32, bytes: usize, rounds: usize) {
    let mut bench = Bench::open(dir, partitions, &LogConfig::default());
    let batch = batch(bytes);
    let mut commits = Vec::new();
    let (start, before) = (Instant::now(), cpu());
    for _ in 0..rounds {
        for number in 0..partitions {
            bench.append(number, &batch);
        }
        let commit = Instant::now();
        bench.commit();
        commits.push(commit.elapsed().as_micros());
    }
    let (took, after) = (start.elapsed().as_secs_f64(), cpu());
    let gb = (rounds * partitions as usize * batch.bytes.len()) as f64 / 1e9;
    commits.sort_unstable();
    println!(
        "{partitions} dirty partitions of {bytes} B: commit p50 {} us, max {} us; {:.0} MB/s, CPU {:.2} s/GB",
        commits[commits.len() / 2],
        commits[commits.len() - 1],
        gb * 1e3 / took,
        (after.0 - before.0 + after.1 - before.1) / gb,
    );
}

fn fill(dir: &str) {
    let mut bench = Bench::open(dir, 2000, &LogConfig::default());
    let batch = batch(64 << 10);
    for _ in 0..38 {
        for number in 0..2000 {
            bench.append(number, &batch);
            if number % 50 == 0 {
                bench.commit();
            }
        }
        bench.commit();
    }
    let small = self::batch(1024);
    for _ in 0..3 {
        for number in 0..2000 {
            bench.append(number, &small);
        }
        bench.commit();
    }
    println!("filled; stops without closing");
    std::process::exit(0);
}

fn reopen(dir: &str) {
    let (start, before) = (Instant::now(), cpu());
    let disk = RealDisk::open(dir).unwrap();
    let (shard, report) = LogShard::open(disk, ShardId(0), ShardOptions::default(), NOW).unwrap();
    let (took, after) = (start.elapsed().as_secs_f64(), cpu());
    let bytes: u64 = shard.logs().map(|log| log.size_bytes()).sum();
    println!(
        "opened {} logs with {:.2} GB in {took:.3} s, CPU {:.3} s: {report:?}",
        report.logs,
        bytes as f64 / 1e9,
        after.0 - before.0 + after.1 - before.1
    );
    let reader = shard.log(&tip(1)).unwrap().reader();
    let start = Instant::now();
    let read = reader.read(Offset(100), 1 << 20, reader.log_end(), true).unwrap();
    println!("first read {} bytes in {:?}", read.len, start.elapsed());
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    match args.next().as_deref() {
        Some("bulk") => {
            bulk(&dir, 1_000_000, 4, 4.0);
            bulk(&dir, 1_000_000, 1, 2.0);
            bulk(&dir, 256 << 10, 8, 4.0);
            bulk(&dir, 16 << 10, 64, 2.0);
        }
        Some("latency") => latency(&dir),
        Some("many") => {
            many(&dir, 1000, 1024, 100);
            many(&dir, 1000, 16 << 10, 60);
        }
        Some("fill") => fill(&dir),
        Some("reopen") => reopen(&dir),
        _ => panic!("bulk, latency, many, fill or reopen"),
    }
}
