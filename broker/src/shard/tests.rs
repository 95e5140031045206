//! The core stepped over a simulated disk: acknowledgements, crashes, restarts.

use std::sync::Arc;

use varve_protocol::records::{
    BatchBuilder, BatchOrigin, Compression, NewRecord, ValidatedBatch, ValidationLimits,
    validate_batch,
};
use varve_protocol::vocabulary::{
    Acks, BrokerId, LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId, TopicIdPartition,
};
use varve_storage::config::{LogConfig, ShardId, ShardOptions};
use varve_storage::{AppendError, AppendOrigin, LogShard, SimDisk};

use super::command::{AppendItem, Command, Effect, NewLog, Outcome, ProduceError};
use super::core::{CoreSettings, Now, ShardCore};
use super::replica::PartitionRole;

fn tip(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId(7), partition: PartitionIndex(partition) }
}

fn batch(records: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..records {
        let record =
            NewRecord { timestamp: TimestampMs(1_000), value: Some(b"v"), ..NewRecord::default() };
        builder.push(record).unwrap();
    }
    let limits = ValidationLimits { origin: BatchOrigin::Client, ..ValidationLimits::default() };
    validate_batch(builder.build().unwrap(), &limits).unwrap()
}

/// Led by this broker, which is the only replica.
fn alone(partition: i32) -> PartitionRole {
    PartitionRole::alone(tip(partition), BrokerId(1), LeaderEpoch(3))
}

/// A shard on a simulated disk; answers go to numbers.
struct World {
    disk: SimDisk,
    core: ShardCore<SimDisk, u32>,
    now_ms: i64,
}

impl World {
    fn open(disk: SimDisk) -> Self {
        // Tiny, so that the journal turns round and a simulated disk stays small.
        let options = ShardOptions {
            journal_file_bytes: 16 << 10,
            journal_append_bytes_max: 1 << 10,
            checkpoint_bytes_max: 8 << 10,
            checkpoint_interval_ms: 50_000,
            allocation_step_bytes_max: 8 << 10,
            ..ShardOptions::default()
        };
        let wall = TimestampMs(1_000);
        let (logs, _) = LogShard::open(disk.clone(), ShardId(0), options, wall).unwrap();
        let now = Now { wall, monotonic_ms: 0 };
        let settings = CoreSettings { broker: BrokerId(1), lag_ms_max: 1_000 };
        let mut core = ShardCore::new(settings, logs);
        let found: Vec<_> = core.partitions().collect();
        let roles = found.into_iter().map(|tip| alone(tip.partition.0)).collect();
        core.on_command(Command::SetRoles { roles, answer: 0 }, now);
        Self { disk, core, now_ms: 0 }
    }

    fn now(&self) -> Now {
        Now { wall: TimestampMs(1_000 + self.now_ms), monotonic_ms: self.now_ms }
    }

    fn create(&mut self, partition: i32, config: LogConfig) {
        let log = NewLog { partition: tip(partition), config: Arc::new(config) };
        let now = self.now();
        self.core.on_command(Command::Create { logs: vec![log], answer: 0 }, now);
        let roles = vec![alone(partition)];
        self.core.on_command(Command::SetRoles { roles, answer: 0 }, now);
        self.commit();
        self.told();
    }

    fn append(&mut self, answer: u32, acks: Acks, batches: Vec<(i32, ValidatedBatch)>) {
        let items = batches
            .into_iter()
            .map(|(partition, batch)| AppendItem { partition: tip(partition), batch, epoch: None })
            .collect();
        let now = self.now();
        let command = Command::Append {
            items,
            origin: AppendOrigin::Leader,
            acks,
            deadline_ms: self.now_ms + 100,
            answer,
        };
        self.core.on_command(command, now);
    }

    /// Runs commits until there is none.
    fn commit(&mut self) {
        while let Some(job) = self.core.poll_commit() {
            self.core.on_committed(job.run());
        }
    }

    /// What the shard says, a word each: `hw0=3`, `7:[0,E]` for answers.
    fn told(&mut self) -> String {
        let effects = self.core.take_effects().map(|effect| match effect {
            Effect::HighWatermark { partition, high_watermark } => {
                format!("hw{}={high_watermark}", partition.partition)
            }
            Effect::Answer { to, outcome: Outcome::Appended(results) } => {
                let results = results.into_iter().map(|result| match result {
                    Ok(answer) => answer.base_offset.to_string(),
                    Err(ProduceError::Append(AppendError::DirectoryFailed(_))) => "failed".into(),
                    Err(ProduceError::DirectoryFailed(_)) => "failed".into(),
                    Err(error) => error.to_string(),
                });
                format!("{to}:[{}]", results.collect::<Vec<_>>().join(","))
            }
            Effect::Answer { to, outcome: Outcome::RecordsDeleted(Ok(start)) } => {
                format!("{to}:start={start}")
            }
            // What the world itself asked for.
            Effect::Answer { to: 0, .. } | Effect::RoleChanged { .. } => String::new(),
            Effect::Answer { to, .. } => format!("{to}:done"),
            Effect::Opened { partition } => format!("opened{}", partition.partition),
            Effect::Closed { partition } => format!("closed{}", partition.partition),
            Effect::Configured { partition, .. } => format!("configured{}", partition.partition),
            other => format!("{other:?}"),
        });
        effects.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

fn world() -> World {
    let mut world = World::open(SimDisk::new(1));
    world.create(0, LogConfig::default());
    world.create(1, LogConfig::default());
    world
}

#[test]
fn acks_all_waits_for_the_disk_and_acks_one_does_not() {
    let mut world = world();
    world.append(7, Acks::All, vec![(0, batch(3)), (1, batch(1))]);
    world.append(8, Acks::Leader, vec![(0, batch(2))]);
    assert_eq!(world.told(), "8:[3]");
    world.commit();
    assert_eq!(world.told(), "hw0=5 hw1=1 7:[0,0]");
}

#[test]
fn what_is_appended_during_a_commit_waits_for_the_next() {
    let mut world = world();
    world.append(7, Acks::All, vec![(0, batch(1))]);
    let job = world.core.poll_commit().unwrap();
    world.append(8, Acks::All, vec![(0, batch(1))]);
    assert!(world.core.poll_commit().is_none());
    world.core.on_committed(job.run());
    assert_eq!(world.told(), "hw0=1 7:[0]");
    world.commit();
    assert_eq!(world.told(), "hw0=2 8:[1]");
}

#[test]
fn with_write_caching_it_is_answered_at_once() {
    let mut world = world();
    world.create(2, LogConfig { write_caching: true, ..LogConfig::default() });
    world.append(7, Acks::All, vec![(2, batch(1))]);
    assert_eq!(world.told(), "hw2=1 7:[0]");
}

#[test]
fn a_request_is_answered_when_its_time_is_over() {
    let mut world = world();
    world.append(7, Acks::All, vec![(0, batch(1)), (9, batch(1))]);
    world.now_ms = 99;
    let now = world.now();
    world.core.on_tick(now);
    assert_eq!(world.told(), "");
    world.now_ms = 100;
    let now = world.now();
    world.core.on_tick(now);
    assert_eq!(
        world.told(),
        "7:[the batch was not acknowledged in time,this shard has no log for the partition]"
    );
    // What comes too late moves the high watermark and answers nobody.
    world.commit();
    assert_eq!(world.told(), "hw0=1");
}

#[test]
fn a_failed_sync_fails_who_waits_and_all_who_come() {
    let mut world = world();
    world.append(7, Acks::All, vec![(0, batch(1))]);
    world.disk.fail_sync_at(0);
    world.commit();
    assert_eq!(world.told(), "7:[failed]");
    world.append(8, Acks::All, vec![(0, batch(1))]);
    world.commit();
    assert_eq!(world.told(), "8:[failed]");
    assert!(world.core.failure().is_some());
}

#[test]
fn deletion_answers_who_waits() {
    let mut world = world();
    world.append(7, Acks::All, vec![(0, batch(1))]);
    let now = world.now();
    world.core.on_command(Command::Delete { partitions: vec![tip(0), tip(5)], answer: 8 }, now);
    assert_eq!(world.told(), "closed0 7:[the partition was deleted] 8:done");
    world.commit();
    assert_eq!(world.told(), "");
}

#[test]
fn records_are_deleted_up_to_the_high_watermark() {
    let mut world = world();
    world.append(7, Acks::All, vec![(0, batch(5))]);
    world.commit();
    world.told();
    world.append(8, Acks::All, vec![(0, batch(5))]);
    let delete = |before: Option<i64>, answer| Command::DeleteRecords {
        partition: tip(0),
        before: before.map(Offset),
        deadline_ms: 10_000,
        answer,
    };
    let now = world.now();
    world.core.on_command(delete(Some(3), 1), now);
    world.core.on_command(delete(Some(6), 2), now);
    world.core.on_command(delete(None, 3), now);
    assert_eq!(world.told(), "1:start=3 2:done 3:start=5");
}

/// What was answered is there after a power cut at any sync, in place; what was not may be.
#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    for cut in 0..30 {
        for seed in 0..3 {
            let mut world = world();
            world.disk.power_cut_at_sync(cut);
            let mut acknowledged = [0; 2];
            for round in 0..20_u32 {
                world.append(round, Acks::All, vec![(0, batch(2)), (1, batch(1))]);
                if round % 3 == 0 {
                    continue;
                }
                world.commit();
                let now = world.now();
                for job in world.core.poll_maintenance(now) {
                    let _ = world.core.on_maintained(job.run());
                }
                world.now_ms += 20_000;
                for effect in world.core.take_effects() {
                    if let Effect::HighWatermark { partition, high_watermark } = effect {
                        acknowledged[partition.partition.0 as usize] = high_watermark.0;
                    }
                }
                if world.disk.is_off() {
                    break;
                }
            }
            let reopened = World::open(world.disk.after_power_cut(seed));
            for (partition, acknowledged) in [0, 1].into_iter().zip(acknowledged) {
                let log_end = match reopened.core.reader(&tip(partition)) {
                    Some(reader) => reader.log_end().0,
                    None => 0,
                };
                assert!(log_end >= acknowledged, "cut {cut} seed {seed}: {log_end} {acknowledged}");
            }
        }
    }
}

#[test]
fn after_a_restart_everything_recovered_is_committed() {
    let mut world = world();
    world.append(7, Acks::All, vec![(0, batch(3))]);
    world.commit();
    let mut world = World::open(world.disk.after_kill());
    assert_eq!(world.told(), "opened0 opened1 hw0=3");
    world.append(7, Acks::All, vec![(0, batch(3))]);
    world.commit();
    assert_eq!(world.told(), "hw0=6 7:[3]");
}
