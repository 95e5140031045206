//! A sync fails, and only the process is started again: the page cache still holds what the disk
//! never got.

use varve_protocol::vocabulary::{LeaderEpoch, TimestampMs};
use varve_storage::config::ShardId;
use varve_storage::{AppendOrigin, Disk, LogShard, SimDisk};

use crate::world::{Random, batch, partition, tiny_config, tiny_options};

const NOW: TimestampMs = TimestampMs(1_000_000);
const LOGS: i32 = 4;

fn ends(shard: &LogShard<SimDisk>) -> Vec<Option<i64>> {
    let end = |number| shard.log(&partition(number)).map(|log| log.log_end().0);
    (0..LOGS).map(end).collect()
}

/// Appends and commits until the sync number `failing` fails. Returns the durable ends.
fn run_until_failure(disk: &SimDisk, seed: u64, failing: u64) -> Vec<Option<i64>> {
    let mut random = Random(seed);
    let mut durable = vec![None; usize::try_from(LOGS).unwrap()];
    let opened = LogShard::open(disk.clone(), ShardId(0), tiny_options(), NOW);
    let (mut shard, _) = opened.unwrap();
    disk.fail_sync_at(failing);
    for turn in 0..200 {
        let now = TimestampMs(NOW.0 + turn * 1_000);
        let number = i32::try_from(random.below(LOGS as u64)).unwrap();
        let tip = partition(number);
        if shard.log(&tip).is_none() && shard.create_log(tip, tiny_config()).is_err() {
            break;
        }
        let bytes = usize::try_from(random.below(2_500)).unwrap();
        let batch = batch(random.next(), 2, bytes, None);
        let origin = AppendOrigin::Leader;
        if shard.append(&tip, &batch, LeaderEpoch(0), origin, now).is_err() {
            break;
        }
        if random.below(3) == 0
            && let Some(job) = shard.take_commit()
        {
            let Ok(moved) = shard.finish_commit(job.run()) else { break };
            for (tip, end) in moved {
                durable[usize::try_from(tip.partition.0).unwrap()] = Some(end.0);
            }
        }
        if random.below(4) == 0 {
            let jobs = shard.maintain(now);
            if jobs.into_iter().any(|job| shard.finish_maintenance(job.run()).is_err()) {
                break;
            }
        }
    }
    durable
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_believed() {
    let mut failures = 0;
    for seed in 0..6 {
        for failing in 0..40 {
            let disk = SimDisk::new(seed);
            let durable = run_until_failure(&disk, seed, failing);
            failures += usize::from(disk.latch().is_closed());
            let disk = disk.after_kill();
            let open = |disk: &SimDisk| {
                LogShard::open(disk.clone(), ShardId(0), tiny_options(), NOW).unwrap()
            };
            let (shard, report) = open(&disk);
            assert!(report.damaged.is_empty(), "{seed}/{failing}: {:?}", report.damaged);
            let recovered = ends(&shard);
            for (recovered, durable) in recovered.iter().zip(&durable) {
                assert!(recovered >= durable, "seed {seed}, sync {failing}");
            }
            drop(shard);
            // What an open returned counts as durable.
            let (shard, report) = open(&disk.after_power_cut(seed));
            assert!(report.damaged.is_empty(), "{seed}/{failing}: {:?}", report.damaged);
            assert_eq!(ends(&shard), recovered, "seed {seed}, sync {failing}");
        }
    }
    assert!(failures > 100, "only {failures} syncs failed");
}
