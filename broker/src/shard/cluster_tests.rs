//! Three cores over simulated disks, replicating one partition: what the wire would carry, the
//! test carries by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use varve_protocol::records::{
    BatchBuilder, BatchOrigin, Compression, NewRecord, ValidatedBatch, ValidationLimits,
    validate_batch,
};
use varve_protocol::vocabulary::{
    Acks, BrokerId, LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId, TopicIdPartition,
};
use varve_storage::config::{LogConfig, ShardId, ShardOptions};
use varve_storage::{AppendOrigin, LogShard, SimDisk};

use super::command::{AppendItem, Command, DeleteRecordsError, Effect, NewLog, Outcome};
use super::core::{CoreSettings, Now, ShardCore};
use super::replica::{
    DurableProgress, FetchPosition, Fetched, IsrAnswer, IsrVerdict, PartitionRole, ProposedIsr,
    ReplicaAppend, ReplicaPlace, RoleName,
};

const TIP: TopicIdPartition =
    TopicIdPartition { topic_id: TopicId(7), partition: PartitionIndex(0) };
/// Whose answers nobody looks at.
const NOBODY: u32 = 0;

fn batch(value: &str) -> ValidatedBatch {
    batch_of(&[value])
}

fn batch_of(values: &[&str]) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        let value = Some(value.as_bytes());
        let record = NewRecord { timestamp: TimestampMs(1_000), value, ..NewRecord::default() };
        builder.push(record).unwrap();
    }
    let limits = ValidationLimits { origin: BatchOrigin::Client, ..ValidationLimits::default() };
    validate_batch(builder.build().unwrap(), &limits).unwrap()
}

struct Node {
    disk: SimDisk,
    core: ShardCore<SimDisk, u32>,
    /// From where it would fetch.
    position: Option<FetchPosition>,
    /// What it would tell its leader.
    progress: Vec<DurableProgress>,
    /// What it would ask the controller for.
    proposals: Vec<ProposedIsr>,
    told: Vec<String>,
}

impl Node {
    fn new(id: i32, disk: SimDisk) -> Self {
        let wall = TimestampMs(1_000);
        // Tiny, so that a simulated disk stays small.
        let options = ShardOptions { journal_file_bytes: 64 << 10, ..ShardOptions::default() };
        let (logs, _) = LogShard::open(disk.clone(), ShardId(0), options, wall).unwrap();
        let settings = CoreSettings { broker: BrokerId(id), lag_ms_max: 1_000 };
        let core = ShardCore::new(settings, logs);
        let (progress, proposals) = (Vec::new(), Vec::new());
        let mut node = Self { disk, core, position: None, progress, proposals, told: Vec::new() };
        let log = NewLog { partition: TIP, config: Arc::new(LogConfig::default()) };
        node.command(Command::Create { logs: vec![log], answer: NOBODY }, 0);
        node.commit();
        node.told.clear();
        node
    }

    fn command(&mut self, command: Command<u32>, now_ms: i64) {
        let now = Now { wall: TimestampMs(1_000 + now_ms), monotonic_ms: now_ms };
        self.core.on_command(command, now);
        self.drain();
    }

    fn drain(&mut self) {
        let effects: Vec<_> = self.core.take_effects().collect();
        for effect in effects {
            match effect {
                Effect::HighWatermark { high_watermark, .. } => {
                    self.told.push(format!("hw={high_watermark}"));
                }
                Effect::Answer { to: NOBODY, .. } => {}
                Effect::Answer { to, outcome: Outcome::Appended(results) } => {
                    let result = match &results[0] {
                        Ok(answer) => answer.base_offset.to_string(),
                        Err(error) => error.to_string(),
                    };
                    self.told.push(format!("{to}:{result}"));
                }
                Effect::Answer { outcome: Outcome::ReplicaAppended(results), .. } => {
                    match &results[0] {
                        Ok(position) => self.position = Some(*position),
                        Err(error) => self.told.push(error.to_string()),
                    }
                }
                Effect::Answer { to, outcome: Outcome::RecordsDeleted(result) } => {
                    let result = result.map_or_else(|error| error.to_string(), |at| at.to_string());
                    self.told.push(format!("{to}:start={result}"));
                }
                Effect::Follow(position) => self.position = Some(position),
                Effect::Unfollow { .. } => self.position = None,
                Effect::FollowerDurable(progress) => self.progress.push(progress),
                Effect::ProposeIsr(proposal) => self.proposals.push(proposal),
                _ => {}
            }
        }
    }

    fn commit(&mut self) {
        while let Some(job) = self.core.poll_commit() {
            self.core.on_committed(job.run());
        }
        self.drain();
    }

    fn log(&self) -> Vec<(i64, i32)> {
        let reader = self.core.reader(&TIP).unwrap();
        let mut batches = Vec::new();
        for header in varve_protocol::records::Batches::new(self.bytes(reader.log_start())) {
            let header = *header.unwrap().header();
            batches.push((header.base_offset.0, header.partition_leader_epoch.0));
        }
        batches
    }

    fn bytes(&self, from: Offset) -> Bytes {
        let reader = self.core.reader(&TIP).unwrap();
        let read = reader.read(from, usize::MAX, reader.log_end(), true).unwrap();
        let mut bytes = BytesMut::new();
        for slice in read.slices {
            bytes.extend_from_slice(&slice.bytes().unwrap());
        }
        bytes.freeze()
    }
}

struct World {
    nodes: BTreeMap<i32, Node>,
    leader: i32,
    leader_epoch: i32,
    partition_epoch: i32,
    min_in_sync: usize,
    min_domains: usize,
    now_ms: i64,
}

impl World {
    fn new() -> Self {
        let node = |id| (id, Node::new(id, SimDisk::new(u64::try_from(id).unwrap())));
        let mut world = Self {
            nodes: (1..=3).map(node).collect(),
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            min_in_sync: 1,
            min_domains: 1,
            now_ms: 0,
        };
        world.elect(1, &[1, 2, 3]);
        world
    }

    fn role(&self, isr: &[i32]) -> PartitionRole {
        let rack = |id: i32| Some(Arc::from(if id == 3 { "b" } else { "a" }));
        PartitionRole {
            partition: TIP,
            leader: Some(BrokerId(self.leader)),
            leader_epoch: LeaderEpoch(self.leader_epoch),
            partition_epoch: self.partition_epoch,
            replicas: (1..=3).map(|id| ReplicaPlace { id: BrokerId(id), rack: rack(id) }).collect(),
            isr: isr.iter().map(|id| BrokerId(*id)).collect(),
            min_insync_replicas: self.min_in_sync,
            min_insync_domains: self.min_domains,
        }
    }

    /// A new leader, told to all nodes.
    fn elect(&mut self, leader: i32, isr: &[i32]) {
        (self.leader, self.leader_epoch) = (leader, self.leader_epoch + 1);
        self.assign(isr);
    }

    /// Other in-sync replicas, told to all nodes.
    fn assign(&mut self, isr: &[i32]) {
        self.partition_epoch += 1;
        let (role, now_ms) = (self.role(isr), self.now_ms);
        for node in self.nodes.values_mut() {
            let roles = vec![role.clone()];
            node.command(Command::SetRoles { roles, answer: NOBODY }, now_ms);
        }
    }

    fn node(&mut self, id: i32) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    fn produce(&mut self, at: i32, answer: u32, acks: Acks, value: &str) {
        let items = vec![AppendItem { partition: TIP, batch: batch(value), epoch: None }];
        let (origin, deadline_ms) = (AppendOrigin::Leader, self.now_ms + 10_000);
        let now_ms = self.now_ms;
        let command = Command::Append { items, origin, acks, deadline_ms, answer };
        self.node(at).command(command, now_ms);
    }

    /// One fetch, as the leader's session would answer it. Not durable yet.
    fn fetch(&mut self, at: i32) {
        let position = self.node(at).position.expect("it follows");
        let leader = &self.nodes[&position.leader.0];
        let reader = leader.core.reader(&TIP).unwrap();
        let last = position.last_fetched_epoch;
        let from = position.fetch_offset;
        let parted = (last.0 >= 0)
            .then(|| reader.end_offset_for_epoch(last))
            .flatten()
            .filter(|(epoch, end)| *epoch < last || *end < from);
        let fetched = match parted {
            Some((epoch, end_offset)) => Fetched::Diverging { epoch, end_offset },
            None if from < reader.log_start() || from > reader.log_end() => {
                Fetched::OutOfRange { log_start: reader.log_start() }
            }
            None => Fetched::Records {
                records: leader.bytes(from),
                high_watermark: leader.core.high_watermark(&TIP).unwrap(),
                log_start: reader.log_start(),
            },
        };
        let leader_epoch = position.leader_epoch;
        let append = ReplicaAppend { partition: TIP, leader_epoch, fetch_offset: from, fetched };
        let now_ms = self.now_ms;
        self.node(at).command(Command::ReplicaAppend { appends: vec![append], answer: 99 }, now_ms);
    }

    /// Everything that a follower has to say reaches its leader.
    fn tell(&mut self, at: i32) {
        let now_ms = self.now_ms;
        for DurableProgress { leader, progress } in std::mem::take(&mut self.node(at).progress) {
            let command = Command::FollowerProgress {
                follower: BrokerId(at),
                broker_epoch: 5,
                progress: vec![progress],
            };
            self.node(leader.0).command(command, now_ms);
        }
    }

    /// Fetches until there is nothing more, makes it durable, and says so.
    fn catch_up(&mut self, at: i32) {
        loop {
            let before = self.node(at).position;
            self.fetch(at);
            if self.node(at).position == before {
                break;
            }
        }
        self.node(at).commit();
        self.tell(at);
    }

    /// What a node said since the last call.
    fn told(&mut self, at: i32) -> String {
        std::mem::take(&mut self.node(at).told).join(" ")
    }

    /// Grants what the leader asks for, if it asks for anything.
    fn grant(&mut self) -> String {
        let leader = self.leader;
        let Some(proposal) = self.node(leader).proposals.pop() else { return String::new() };
        let isr: Vec<BrokerId> = proposal.isr.keys().copied().collect();
        self.partition_epoch += 1;
        let answer = IsrAnswer {
            partition: TIP,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            verdict: IsrVerdict::Committed {
                isr: isr.clone(),
                partition_epoch: self.partition_epoch,
            },
        };
        let now_ms = self.now_ms;
        self.node(leader).command(Command::IsrAnswers { answers: vec![answer] }, now_ms);
        isr.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    fn tick(&mut self, by_ms: i64) {
        self.now_ms += by_ms;
        let now = Now { wall: TimestampMs(1_000 + self.now_ms), monotonic_ms: self.now_ms };
        for node in self.nodes.values_mut() {
            node.core.on_tick(now);
            node.drain();
        }
    }
}

#[test]
fn a_record_is_acknowledged_when_all_in_sync_have_it_durable() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    assert_eq!(world.told(1), "");
    world.fetch(3);
    world.tell(3);
    assert_eq!(world.told(1), "", "it is not durable on 3");
    world.node(3).commit();
    world.tell(3);
    assert_eq!(world.told(1), "hw=1 7:0");
    assert_eq!(world.told(3), "");
    world.fetch(3);
    assert_eq!(world.told(3), "hw=1");
    let leader = world.node(1).bytes(Offset(0));
    assert_eq!(world.node(3).bytes(Offset(0)), leader);
}

#[test]
fn nobody_appends_but_at_the_leader() {
    let mut world = World::new();
    world.produce(2, 7, Acks::Leader, "one");
    assert_eq!(world.told(2), "7:this broker is not the partition's leader");
    assert_eq!(world.node(2).core.role(&TIP).unwrap().name, RoleName::Follower);
}

#[test]
fn a_deposed_leader_answers_who_waits_and_takes_back_what_nobody_has() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.catch_up(3);
    world.told(1);
    // Two more that only the leader has, one of them durable.
    world.produce(1, 8, Acks::All, "two");
    world.node(1).commit();
    world.produce(1, 9, Acks::All, "three");
    world.elect(2, &[2, 3]);
    let not_leader = "this broker is not the partition's leader";
    assert_eq!(world.told(1), format!("8:{not_leader} 9:{not_leader}"));
    world.produce(2, 10, Acks::All, "four");
    world.node(2).commit();
    world.catch_up(1);
    assert_eq!(world.node(1).log(), [(0, 1), (1, 2)]);
    assert_eq!(world.told(1), "", "nothing is committed that 3 does not have");
    world.catch_up(3);
    assert_eq!(world.told(2), "hw=1 hw=2 10:1");
    world.fetch(1);
    assert_eq!(world.told(1), "hw=2");
    let leader = world.node(2).bytes(Offset(0));
    assert_eq!(world.node(1).bytes(Offset(0)), leader);
    assert_eq!(world.node(3).bytes(Offset(0)), leader);
}

/// KIP-207: what the old leader committed is not known to the new one before its followers say so.
#[test]
fn a_new_leaders_high_watermark_is_not_current_until_its_epoch_began() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.catch_up(3);
    assert_eq!(world.told(1), "hw=1 7:0");
    world.elect(2, &[2, 3]);
    let view = world.node(2).core.role(&TIP).unwrap();
    let high_watermark = world.node(2).core.high_watermark(&TIP).unwrap();
    assert_eq!((view.epoch_start, high_watermark), (Offset(1), Offset(0)));
    world.catch_up(3);
    assert_eq!(world.told(2), "hw=1");
}

#[test]
fn who_lags_leaves_and_comes_back() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.tick(1_500);
    assert_eq!(world.grant(), "1,2");
    assert_eq!(world.told(1), "hw=1 7:0");
    world.catch_up(3);
    assert_eq!(world.grant(), "1,2,3");
}

#[test]
fn too_few_in_sync_are_told_before_and_after_the_append() {
    let mut world = World::new();
    world.min_in_sync = 2;
    world.assign(&[1, 2, 3]);
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.assign(&[1]);
    assert_eq!(
        world.told(1),
        "7:the batch was appended, but replicas fell out of sync before enough of them had it"
    );
    world.produce(1, 8, Acks::All, "two");
    assert_eq!(
        world.told(1),
        "8:fewer replicas are in sync than min.insync.replicas demands, or in fewer racks"
    );
    world.produce(1, 9, Acks::Leader, "three");
    assert_eq!(world.told(1), "9:1");
    world.node(1).commit();
    // KIP-966: below the minimum nothing becomes committed.
    assert_eq!(world.told(1), "");
}

#[test]
fn racks_count_too() {
    let mut world = World::new();
    world.min_domains = 2;
    world.assign(&[1, 2]);
    world.produce(1, 7, Acks::All, "one");
    assert_eq!(
        world.told(1),
        "7:fewer replicas are in sync than min.insync.replicas demands, or in fewer racks"
    );
    world.assign(&[1, 3]);
    world.produce(1, 8, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(3);
    assert_eq!(world.told(1), "hw=1 8:0");
}

/// A power cut takes what a follower had not synced; it is not counted, and fetched again.
#[test]
fn a_follower_that_lost_its_tail_fetches_it_again() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.catch_up(3);
    world.produce(1, 8, Acks::All, "two");
    world.node(1).commit();
    world.fetch(3);
    assert_eq!(world.node(3).log().len(), 2);
    let disk = world.node(3).disk.after_power_cut(1);
    world.nodes.insert(3, Node::new(3, disk));
    assert!(!world.node(3).log().is_empty());
    world.assign(&[1, 2, 3]);
    world.catch_up(3);
    assert_eq!(world.node(3).log(), [(0, 1), (1, 1)]);
    world.told(1);
    world.catch_up(2);
    assert_eq!(world.told(1), "hw=2 8:1");
}

/// Kafka's KIP-101 case: a follower restarts with an old high watermark, becomes the leader, and
/// keeps what was acknowledged.
#[test]
fn a_restarted_follower_leads_with_all_that_was_acknowledged() {
    let mut world = World::new();
    for answer in 1..=3 {
        world.produce(1, answer, Acks::All, "record");
        world.node(1).commit();
        world.catch_up(2);
        world.catch_up(3);
    }
    assert!(world.told(1).ends_with("3:2"));
    let disk = world.node(2).disk.after_power_cut(3);
    world.nodes.insert(2, Node::new(2, disk));
    world.elect(2, &[2, 3]);
    assert_eq!(world.node(2).log().len(), 3);
    world.catch_up(3);
    world.catch_up(1);
    assert!(world.told(2).ends_with("hw=3"));
    assert_eq!(world.node(1).log(), [(0, 1), (1, 1), (2, 1)]);
}

#[test]
fn answers_of_another_epoch_or_position_change_nothing() {
    let mut world = World::new();
    world.produce(1, 7, Acks::Leader, "one");
    let stale = ReplicaAppend {
        partition: TIP,
        leader_epoch: LeaderEpoch(0),
        fetch_offset: Offset(0),
        fetched: Fetched::Records {
            records: world.node(1).bytes(Offset(0)),
            high_watermark: Offset(1),
            log_start: Offset(0),
        },
    };
    let late =
        ReplicaAppend { leader_epoch: LeaderEpoch(1), fetch_offset: Offset(5), ..stale.clone() };
    world.node(2).command(Command::ReplicaAppend { appends: vec![stale], answer: 99 }, 0);
    assert_eq!(world.told(2), "the partition is not followed here in that epoch");
    world.node(2).command(Command::ReplicaAppend { appends: vec![late], answer: 99 }, 0);
    assert_eq!(world.told(2), "");
    assert!(world.node(2).log().is_empty());
}

#[test]
fn damaged_batches_are_refused() {
    let mut world = World::new();
    world.produce(1, 7, Acks::Leader, "one");
    let mut records = BytesMut::from(&world.node(1).bytes(Offset(0))[..]);
    let last = records.len() - 1;
    records[last] ^= 1;
    let fetched = Fetched::Records {
        records: records.freeze(),
        high_watermark: Offset(0),
        log_start: Offset(0),
    };
    let leader_epoch = LeaderEpoch(1);
    let append = ReplicaAppend { partition: TIP, leader_epoch, fetch_offset: Offset(0), fetched };
    world.node(2).command(Command::ReplicaAppend { appends: vec![append], answer: 99 }, 0);
    assert!(world.told(2).starts_with("the leader's answer is damaged"));
    assert!(world.node(2).log().is_empty());
    world.catch_up(2);
    assert_eq!(world.node(2).log(), [(0, 1)]);
}

#[test]
fn many_roles_come_in_one_command() {
    let mut node = Node::new(1, SimDisk::new(9));
    let tip = |index| TopicIdPartition { topic_id: TopicId(8), partition: PartitionIndex(index) };
    let config = Arc::new(LogConfig::default());
    let count = 300;
    let logs = (0..count).map(|index| NewLog { partition: tip(index), config: config.clone() });
    node.command(Command::Create { logs: logs.collect(), answer: NOBODY }, 0);
    let role = |index| PartitionRole::alone(tip(index), BrokerId(1), LeaderEpoch(0));
    let roles = (0..count).map(role).collect();
    node.command(Command::SetRoles { roles, answer: NOBODY }, 0);
    let is_led = |index| node.core.role(&tip(index)).unwrap().name == RoleName::Leader;
    assert!((0..count).all(is_led));
}

/// A replica is made for a partition to which nothing is written. It says how far it is before its leader
/// has heard of it, which refuses that; nothing else makes it speak, and so it says it again while it is
/// not in sync.
#[test]
fn a_replica_of_an_idle_partition_is_heard_though_it_spoke_too_early() {
    let mut world = World::new();
    world.elect(1, &[1, 2]);
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.fetch(3);
    world.node(3).commit();
    world.fetch(3);
    world.node(3).progress.clear();
    assert_eq!(world.grant(), "", "what it said is lost");
    world.tick(1_000);
    assert!(world.node(2).progress.is_empty(), "who is in sync need not");
    world.tell(3);
    assert_eq!(world.grant(), "1,2,3");
}

/// Records are deleted up to within a batch while a follower is away whose log ends before. It drops its
/// log and begins where its leader's begins; the leader answers with the whole batch, which begins
/// before. An empty log begins with that batch, and its own start follows once the batch is committed
/// here.
#[test]
fn a_log_is_fetched_anew_from_within_a_batch() {
    let mut world = World::new();
    world.elect(1, &[1, 2]);
    world.produce(1, 7, Acks::All, "one");
    let now_ms = world.now_ms;
    let five = batch_of(&["a", "b", "c", "d", "e"]);
    let items = vec![AppendItem { partition: TIP, batch: five, epoch: None }];
    let origin = AppendOrigin::Leader;
    let command =
        Command::Append { items, origin, acks: Acks::Leader, deadline_ms: 10_000, answer: 8 };
    world.node(1).command(command, now_ms);
    world.node(1).commit();
    world.catch_up(2);
    assert_eq!(world.node(1).core.high_watermark(&TIP), Some(Offset(6)));
    // Offset 3 is the third of the five.
    let before = Some(Offset(3));
    let command =
        Command::DeleteRecords { partition: TIP, before, deadline_ms: 10_000, answer: NOBODY };
    world.node(1).command(command, now_ms);
    world.fetch(3);
    assert_eq!(world.node(3).position.unwrap().fetch_offset, Offset(3), "it was out of range");
    world.fetch(3);
    assert_eq!(world.node(3).log(), [(1, 2)], "what came was taken: {}", world.told(3));
    world.node(3).commit();
    let reader = world.node(3).core.reader(&TIP).unwrap();
    assert_eq!((reader.log_start(), reader.log_end()), (Offset(3), Offset(6)));
    assert_eq!(world.node(3).core.high_watermark(&TIP), Some(Offset(6)));
    world.tell(3);
    assert_eq!(world.grant(), "1,2,3");
}

/// What was deleted comes back with no next leader: it is answered when all in-sync replicas have deleted it.
#[test]
fn a_deletion_waits_for_the_replicas_in_sync() {
    let mut world = World::new();
    world.elect(1, &[1, 2]);
    for (answer, value) in [(7, "one"), (8, "two")] {
        world.produce(1, answer, Acks::All, value);
    }
    world.node(1).commit();
    world.catch_up(2);
    world.told(1);
    let delete = |before, answer, deadline_ms| Command::DeleteRecords {
        partition: TIP,
        before: Some(Offset(before)),
        deadline_ms,
        answer,
    };
    let now_ms = world.now_ms;
    world.node(1).command(delete(1, 9, now_ms + 10_000), now_ms);
    assert_eq!(world.told(1), "");
    // It is told along with what the leader sends, and tells it back by itself.
    world.fetch(2);
    assert_eq!(world.node(2).core.reader(&TIP).unwrap().log_start(), Offset(1));
    world.tell(2);
    assert_eq!(world.told(1), "9:start=1");
    // Nobody tells of this one.
    world.node(1).command(delete(2, 10, now_ms + 50), now_ms);
    world.tick(100);
    assert_eq!(world.told(1), format!("10:start={}", DeleteRecordsError::TimedOut));
    // Whoever leads no more cannot know.
    let now_ms = world.now_ms;
    world.node(1).command(delete(2, 11, now_ms + 10_000), now_ms);
    world.elect(2, &[1, 2]);
    assert_eq!(world.told(1), format!("11:start={}", DeleteRecordsError::NotLeader));
}
