//! Logs that are deleted while work on them is under way.

use varve_protocol::vocabulary::{LeaderEpoch, TimestampMs};
use varve_storage::config::{CleanupPolicy, LogConfig, ShardId};
use varve_storage::{AppendOrigin, Disk, LogShard, RealDisk, SimDisk};

use crate::world::{Random, batch, partition, tiny_config, tiny_options};

const LOGS: i32 = 8;

/// What is under way finds files and directories gone, at any point; nothing fails of that.
fn deletes_beside_jobs<D: Disk>(disk: D, seed: u64) {
    let mut random = Random(seed);
    let mut now = TimestampMs(1_000_000);
    let options = tiny_options();
    let (mut shard, _) = LogShard::open(disk.clone(), ShardId(0), options.clone(), now).unwrap();
    for turn in 0..120 {
        let number = i32::try_from(random.below(LOGS as u64)).unwrap();
        let tip = partition(number);
        if shard.log(&tip).is_none() {
            let compact = number % 3 == 0;
            let config = LogConfig {
                cleanup: CleanupPolicy { delete: !compact, compact },
                retention_ms: if number % 2 == 0 { 2_000 } else { -1 },
                ..tiny_config()
            };
            let _ = shard.create_log(tip, config).unwrap();
        }
        for _ in 0..random.below(6) {
            let bytes = usize::try_from(random.below(4_000)).unwrap();
            let batch = batch(random.next(), 2, bytes, None);
            let (epoch, origin) = (LeaderEpoch(0), AppendOrigin::Leader);
            let _ = shard.append(&tip, &batch, epoch, origin, now).unwrap();
        }
        now.0 += i64::try_from(random.below(3_000)).unwrap();
        let commit = if turn % 3 == 0 { None } else { shard.take_commit() };
        let jobs = if turn % 2 == 0 { shard.maintain(now) } else { Vec::new() };
        let gone: Vec<_> = (0..LOGS).filter(|_| random.below(3) == 0).map(partition).collect();
        // A deletion comes before, between or after the work.
        let at = usize::try_from(random.below(jobs.len() as u64 + 2)).unwrap();
        let mut done = Vec::new();
        for (position, job) in jobs.into_iter().enumerate() {
            if position == at {
                let _ = shard.delete_logs(&gone);
            }
            done.push(job.run());
        }
        if at >= done.len() {
            let _ = shard.delete_logs(&gone);
        }
        if let Some(commit) = commit {
            let _ = shard.finish_commit(commit.run()).unwrap();
        }
        for done in done {
            shard.finish_maintenance(done).unwrap();
        }
        assert_eq!(shard.failure(), None);
    }
    drop(shard);
    let (shard, report) = LogShard::open(disk, ShardId(0), options, now).unwrap();
    assert!(report.damaged.is_empty(), "seed {seed}: {:?}", report.damaged);
    assert_eq!(shard.failure(), None);
}

#[test]
fn logs_go_while_they_are_worked_on() {
    for seed in 0..12 {
        deletes_beside_jobs(SimDisk::new(seed), seed);
        let dir = tempfile::tempdir().unwrap();
        deletes_beside_jobs(RealDisk::open(dir.path()).unwrap(), seed);
    }
}
