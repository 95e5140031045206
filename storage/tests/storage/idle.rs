//! What a partition costs that has little to do: disk, descriptors, memory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use varve_protocol::vocabulary::{LeaderEpoch, TimestampMs};
use varve_storage::config::{LogConfig, ShardId, ShardOptions};
use varve_storage::{AppendOrigin, LogShard, RealDisk};

use crate::world::{batch, partition};

const LOGS: i32 = 1_000;
const NOW: TimestampMs = TimestampMs(1_000_000);

/// Bytes that a directory and all in it take on the disk.
fn disk_bytes(path: &Path) -> u64 {
    let own = path.symlink_metadata().unwrap().blocks() * 512;
    if !path.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).unwrap();
    own + entries.map(|entry| disk_bytes(&entry.unwrap().path())).sum::<u64>()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn settle(shard: &mut LogShard<RealDisk>, now: TimestampMs) {
    if let Some(job) = shard.take_commit() {
        let _ = shard.finish_commit(job.run()).unwrap();
    }
    for job in shard.maintain(now) {
        shard.finish_maintenance(job.run()).unwrap();
    }
}

#[test]
fn an_idle_partition_takes_at_most_16_kib_of_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions {
        journal_file_bytes: 1 << 20,
        open_files_max: 100,
        ..ShardOptions::default()
    };
    let disk = RealDisk::open(dir.path()).unwrap();
    let (mut shard, _) = LogShard::open(disk.clone(), ShardId(0), options.clone(), NOW).unwrap();
    for number in 0..LOGS {
        let _ = shard.create_log(partition(number), LogConfig::default()).unwrap();
        if number % 2 == 0 {
            let (epoch, origin) = (LeaderEpoch(0), AppendOrigin::Leader);
            let small = batch(1, 1, 500, Some((7, 0, 0)));
            let _ = shard.append(&partition(number), &small, epoch, origin, NOW).unwrap();
        }
    }
    for turn in 1..4 {
        settle(&mut shard, TimestampMs(NOW.0 + turn * 20_000));
    }
    drop(shard);
    let (shard, report) = LogShard::open(disk, ShardId(0), options, NOW).unwrap();
    assert_eq!((report.logs, report.scanned_bytes), (1_000, 0));
    let mut total = 0;
    for entry in std::fs::read_dir(dir.path().join("p")).unwrap() {
        let bytes = disk_bytes(&entry.unwrap().path());
        assert!(bytes <= 16 << 10, "{bytes}");
        total += bytes;
    }
    println!("{} bytes of disk a partition", total / 1_000);
    // Opening looks into every log; what stays open is bounded.
    assert!(open_files() < 300, "{}", open_files());
    drop(shard);
}
