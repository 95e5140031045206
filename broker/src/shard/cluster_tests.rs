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

mod acknowledging;
mod deletions;
mod epochs;
mod following;
mod rot;

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
