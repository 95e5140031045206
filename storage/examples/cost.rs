//! What storage costs: CPU seconds a gigabyte, latency of a commit, a thousand dirty partitions,
//! new segments, what an idle partition takes of memory, and a restart. `cargo run --release -p varve-storage --example cost -- DIR [WORK]`
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

/// Appends of 1 MiB, each synced, over many small segments: what a new one costs the append path,
/// and what a file that is written for the second time would save.
fn roll(dir: &str) {
    for fast_append_bytes in [u64::MAX, 4 << 20] {
        let config = LogConfig {
            segment_bytes: 32 << 20,
            retention_bytes: 64 << 20,
            ..LogConfig::default()
        };
        let options = ShardOptions { fast_append_bytes, ..ShardOptions::default() };
        let dir = format!("{dir}/roll-{fast_append_bytes}");
        std::fs::create_dir_all(&dir).unwrap();
        let disk = RealDisk::open(&dir).unwrap();
        let (shard, _) = LogShard::open(disk, ShardId(0), options, NOW).unwrap();
        let mut bench = Bench { shard };
        bench.shard.create_log(tip(0), config).unwrap();
        let batch = batch(1_000_000);
        let (mut appends, mut commits, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..1500 {
            let segments = bench.shard.log(&tip(0)).unwrap().reader().segment_count();
            let start = Instant::now();
            bench.append(0, &batch);
            let appended = start.elapsed().as_micros();
            let start = Instant::now();
            let job = bench.shard.take_commit().unwrap();
            bench.shard.finish_commit(job.run()).unwrap();
            let committed = start.elapsed().as_micros();
            if bench.shard.log(&tip(0)).unwrap().reader().segment_count() > segments {
                appends.push(appended);
                commits.push(committed);
            } else {
                others.push(appended);
                others.push(committed);
            }
            if round % 8 == 7 {
                bench.maintain();
            }
        }
        let middle = |mut took: Vec<u128>| {
            took.sort_unstable();
            (took[took.len() / 2], took[took.len() - 1])
        };
        let others: (Vec<_>, Vec<_>) = (
            others.iter().step_by(2).copied().collect(),
            others.iter().skip(1).step_by(2).copied().collect(),
        );
        println!(
            "{}: append that rolls (p50, max) {:?} us, its commit {:?} us; other appends {:?} us, commits {:?} us",
            if fast_append_bytes == u64::MAX { "made when needed" } else { "prepared" },
            middle(appends),
            middle(commits),
            middle(others.0),
            middle(others.1),
        );
    }
    // The same writes without a log: into allocated space, and over what was written before.
    use std::os::unix::fs::FileExt;
    let path = format!("{dir}/recycled");
    let file =
        std::fs::File::options().create(true).truncate(true).write(true).open(&path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 256 << 20).unwrap();
    file.sync_all().unwrap();
    let bytes = vec![7; 1 << 20];
    for what in ["allocated", "recycled", "recycled"] {
        let mut took = Vec::new();
        let (start, before) = (Instant::now(), cpu());
        for index in 0..256 {
            let start = Instant::now();
            file.write_all_at(&bytes, index << 20).unwrap();
            file.sync_data().unwrap();
            took.push(start.elapsed().as_micros());
        }
        let (all, after) = (start.elapsed().as_secs_f64(), cpu());
        took.sort_unstable();
        println!(
            "1 MiB into {what} space: p50 {} us, p99 {} us, {:.0} MB/s, system {:.3} s/GB",
            took[128],
            took[253],
            268.4 / all,
            (after.1 - before.1) / 0.2684
        );
    }
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let fields: Vec<f64> = statm.split_whitespace().map(|field| field.parse().unwrap()).collect();
    (fields[1] - fields[2]) * 4096.0
}

/// Ten thousand logs of a few records: making, opening, and what each takes of memory.
fn idle(dir: &str) {
    const LOGS: i32 = 10_000;
    let start = Instant::now();
    let mut bench = Bench::open(dir, 0, &LogConfig::default());
    let before = resident();
    let config = std::sync::Arc::new(LogConfig::default());
    let batch = batch(100);
    for number in 0..LOGS {
        if bench.shard.log(&tip(number)).is_none() {
            bench.shard.create_log(tip(number), std::sync::Arc::clone(&config)).unwrap();
        }
        bench.append(number, &batch);
        if number % 500 == 0 {
            bench.commit();
        }
    }
    bench.commit();
    println!("{LOGS} logs made and written in {:.2} s", start.elapsed().as_secs_f64());
    bench.shard.close().unwrap();
    println!(
        "{:.0} bytes of memory a log that was just written",
        (resident() - before) / f64::from(LOGS)
    );
    drop(bench);
    let before = resident();
    let start = Instant::now();
    let bench = Bench::open(dir, 0, &LogConfig::default());
    let took = start.elapsed().as_secs_f64();
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    println!(
        "opened {} logs in {took:.2} s, {:.0} bytes of memory a log, {files} descriptors",
        bench.shard.logs().count(),
        (resident() - before) / f64::from(LOGS)
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
        Some("roll") => roll(&dir),
        Some("idle") => idle(&dir),
        Some("fill") => fill(&dir),
        Some("reopen") => reopen(&dir),
        _ => panic!("bulk, latency, many, roll, idle, fill or reopen"),
    }
}
