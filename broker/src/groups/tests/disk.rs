//! The coordinator over a log shard over a simulated disk, whose power goes off at any sync.
//!
//! What was answered is there afterwards: committed offsets never go back (B1), deleted groups stay
//! deleted, a generation whose assignment was given out is the group's generation or an earlier one
//! of it. What was under way may be there or not. Checkpoints, rolls and compaction run all the while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{
    Acks, BrokerId, LeaderEpoch, PartitionIndex, TimestampMs, TopicId, TopicIdPartition,
};
use varve_storage::config::{CleanupPolicy, LogConfig, ShardId, ShardOptions};
use varve_storage::{AppendOrigin, LogShard, SimDisk};

use crate::groups::batch::{Operation, OperationBatch};
use crate::groups::load::load;
use crate::groups::{
    Answer, AppendId, Commit, CommitOffset, Coordinator, Effect, GroupSettings, Join, Millis, Now,
    Protocol, StateName, Sync, Token,
};
use crate::shard::{
    self, AppendItem, Command, CoreSettings, NewLog, Outcome, PartitionRole, ShardCore,
};

const PARTITION: TopicIdPartition =
    TopicIdPartition { topic_id: TopicId(7), partition: PartitionIndex(0) };
const GROUPS: u64 = 3;

/// splitmix64: the test's only randomness.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }
}

/// What a register holds, and what it may hold after a power cut.
#[derive(Debug, Default)]
struct Register {
    answered: Option<i64>,
    under_way: Vec<Option<i64>>,
}

#[derive(Debug)]
enum Asked {
    Commit(u64, i64),
    Delete(u64),
    Join(u64),
    Sync(u64, i32),
}

struct World {
    disk: SimDisk,
    shard: ShardCore<SimDisk, Vec<AppendId>>,
    core: Coordinator,
    settings: Arc<GroupSettings>,
    now_ms: i64,
    token: u64,
    asked: BTreeMap<Token, Asked>,
    queue: VecDeque<Operation>,
    in_flight: bool,
    /// A broken broker: it takes an append for durable when it has been written.
    is_sabotaged: bool,
    coverage: Coverage,
    registers: BTreeMap<u64, Register>,
    /// The last generation of a group that was told its assignment.
    synced: BTreeMap<u64, i32>,
    joined: BTreeMap<u64, (String, i32)>,
}

fn options() -> ShardOptions {
    ShardOptions {
        shard_count: 1,
        journal_file_bytes: 64 << 10,
        checkpoint_bytes_max: 8 << 10,
        checkpoint_interval_ms: 500,
        log_config: log_config(),
        ..ShardOptions::default()
    }
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 4 << 10,
        cleanup: CleanupPolicy::COMPACT,
        min_cleanable_dirty_ratio: 0.01,
        delete_retention_ms: 2_000,
        ..LogConfig::default()
    }
}

impl World {
    fn new(seed: u64, is_sabotaged: bool) -> Self {
        let disk = SimDisk::new(seed);
        let settings =
            Arc::new(GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() });
        let now_ms = 1_000_000;
        let mut shard = open(&disk, now_ms);
        let log = NewLog { partition: PARTITION, config: Arc::new(log_config()) };
        shard.on_command(Command::Create { logs: vec![log], answer: Vec::new() }, at(now_ms));
        lead(&mut shard, now_ms);
        shard.take_effects().for_each(drop);
        let mut world = Self {
            core: Coordinator::new(Arc::clone(&settings)),
            disk,
            shard,
            settings,
            now_ms,
            token: 0,
            asked: BTreeMap::new(),
            queue: VecDeque::new(),
            in_flight: false,
            is_sabotaged,
            coverage: Coverage::default(),
            registers: BTreeMap::new(),
            synced: BTreeMap::new(),
            joined: BTreeMap::new(),
        };
        world.take_over();
        world
    }

    fn now(&self) -> Now {
        Now { monotonic: Millis(self.now_ms), wall: TimestampMs(self.now_ms) }
    }

    fn ask(&mut self, what: Asked) -> Token {
        self.token += 1;
        self.asked.insert(Token(self.token), what);
        Token(self.token)
    }

    fn step(&mut self, draw: &mut Draw) {
        self.now_ms += 10;
        let group = draw.below(GROUPS);
        match draw.below(16) {
            0..=5 => self.commit(group),
            6 => {
                let register = self.registers.entry(group).or_default();
                register.under_way.push(None);
                let token = self.ask(Asked::Delete(group));
                self.core.on_delete_group(self.now(), &name(group), token);
            }
            7..=8 => self.member(GROUPS + group),
            9 => self.maintain(),
            _ => self.commit_shard(),
        }
        self.pump();
    }

    fn commit(&mut self, group: u64) {
        let offset = i64::try_from(self.token).unwrap() + 1;
        self.registers.entry(group).or_default().under_way.push(Some(offset));
        let token = self.ask(Asked::Commit(group, offset));
        let commit = Commit {
            group_id: name(group),
            member_id: String::new(),
            instance_id: None,
            generation: -1,
            offsets: vec![CommitOffset {
                topic: "t".to_owned(),
                topic_id: TopicId(1),
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: "x".repeat(usize::try_from(offset % 300).unwrap()),
            }],
            retention_ms: None,
            knows_group_id_not_found: true,
        };
        self.core.on_commit(self.now(), commit, token);
    }

    /// A group of one member, which does its next step.
    fn member(&mut self, group: u64) {
        if let Some((member_id, generation)) = self.joined.remove(&group) {
            let token = self.ask(Asked::Sync(group, generation));
            let sync = Sync {
                group_id: name(group),
                member_id: member_id.clone(),
                instance_id: None,
                generation,
                protocol_type: None,
                protocol_name: None,
                assignments: vec![(member_id, generation.to_string().into())],
            };
            self.core.on_sync(self.now(), sync, token);
            return;
        }
        let token = self.ask(Asked::Join(group));
        let join = Join {
            group_id: name(group),
            member_id: String::new(),
            new_member_id: format!("i-{}", token.0),
            instance_id: Some("i".to_owned()),
            protocol_type: "connect".to_owned(),
            protocols: vec![Protocol {
                // Another protocol each time, so that each return makes a generation.
                name: token.0.to_string(),
                metadata: bytes::Bytes::new(),
            }],
            session_timeout_ms: 1_800_000,
            rebalance_timeout_ms: 60_000,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            requires_known_member_id: true,
            supports_skipping_assignment: true,
            reason: None,
        };
        self.core.on_join(self.now(), join, token);
    }

    /// Carries out what the core asks for, and lets the next append begin.
    fn pump(&mut self) {
        loop {
            while let Some(effect) = self.core.poll_effect() {
                match effect {
                    Effect::Append { id, records } => {
                        self.queue.push_back(Operation::encode(id, &records));
                    }
                    Effect::Answer { token, answer } => self.on_answer(token, answer),
                    Effect::Event(_) => {}
                }
            }
            if !self.in_flight && !self.queue.is_empty() {
                self.append();
            }
            let outcomes: Vec<_> = self.shard.take_effects().collect();
            if outcomes.is_empty() {
                return;
            }
            for effect in outcomes {
                if let shard::Effect::Answer { to, outcome: Outcome::Appended(results) } = effect {
                    self.in_flight = false;
                    let is_ok = results.iter().all(Result::is_ok);
                    let result = if is_ok { Ok(()) } else { Err(ErrorCode::KafkaStorageError) };
                    for id in to {
                        self.core.on_appended(self.now(), id, result);
                    }
                }
            }
        }
    }

    fn append(&mut self) {
        let mut batch = OperationBatch::new();
        while let Some(next) = self.queue.pop_front() {
            batch.push(next);
        }
        let built = batch.build(self.now().wall).unwrap();
        let items = vec![AppendItem { partition: PARTITION, batch: built, epoch: None }];
        self.in_flight = true;
        let command = Command::Append {
            items,
            origin: AppendOrigin::Coordinator,
            acks: Acks::All,
            deadline_ms: i64::MAX,
            answer: batch.ids(),
        };
        self.shard.on_command(command, at(self.now_ms));
        if self.is_sabotaged && !self.disk.is_off() {
            for id in batch.ids() {
                self.core.on_appended(self.now(), id, Ok(()));
            }
        }
    }

    fn commit_shard(&mut self) {
        if let Some(job) = self.shard.poll_commit() {
            let done = job.run();
            self.shard.on_committed(done);
        }
    }

    fn maintain(&mut self) {
        for job in self.shard.poll_maintenance(at(self.now_ms)) {
            // The power may have gone off.
            let _ = self.shard.on_maintained(job.run());
        }
    }

    fn on_answer(&mut self, token: Token, answer: Answer) {
        // What is answered after the power went off reaches nobody.
        let Some(asked) = self.asked.remove(&token) else { return };
        match (asked, answer) {
            (Asked::Commit(group, offset), Answer::Commit(ErrorCode::None)) => {
                self.coverage.commits += 1;
                self.settle(group, Some(offset));
            }
            (Asked::Delete(group), Answer::Delete(ErrorCode::None)) => {
                self.coverage.deletions += 1;
                self.settle(group, None);
            }
            (Asked::Join(group), Answer::Join(answer)) if answer.error == ErrorCode::None => {
                let synced = self.synced.get(&group).copied().unwrap_or(0);
                assert!(answer.generation > synced, "{} then {}", synced, answer.generation);
                self.joined.insert(group, (answer.member_id, answer.generation));
            }
            (Asked::Sync(group, generation), Answer::Sync(answer))
                if answer.error == ErrorCode::None =>
            {
                assert_eq!(answer.assignment, generation.to_string());
                self.coverage.syncs += 1;
                self.synced.insert(group, generation);
            }
            _ => {}
        }
    }

    /// An operation was answered: it, and nothing that came before it, is the state.
    fn settle(&mut self, group: u64, value: Option<i64>) {
        let register = self.registers.get_mut(&group).unwrap();
        register.answered = value;
        let at = register.under_way.iter().position(|other| *other == value);
        register.under_way.drain(..=at.expect("it was under way"));
    }

    fn crash(&mut self, seed: u64) {
        self.disk = self.disk.after_power_cut(seed);
        self.shard = open(&self.disk, self.now_ms);
        self.shard.take_effects().for_each(drop);
        self.queue.clear();
        self.asked.clear();
        self.joined.clear();
        self.in_flight = false;
        self.core = Coordinator::new(Arc::clone(&self.settings));
        self.take_over();
        self.check();
    }

    fn take_over(&mut self) {
        let reader = self.shard.reader(&PARTITION).expect("the log is there");
        let replay = load(&reader, reader.durable_end()).expect("the log can be read");
        self.core.on_elected();
        self.core.on_loaded(self.now(), replay, |_, _| true);
        self.pump();
    }

    fn check(&mut self) {
        for (group, register) in &mut self.registers {
            let found = self.core.group(&name(*group)).unwrap();
            let offset = found.and_then(|group| group.offsets().get("t", 0)).map(|it| it.offset);
            let is_allowed = offset == register.answered || register.under_way.contains(&offset);
            assert!(is_allowed, "group {group}: found {offset:?}, expected {register:?}");
            if !register.under_way.is_empty() {
                let is_lost = offset == register.answered;
                self.coverage.lost += u64::from(is_lost);
                self.coverage.kept += u64::from(!is_lost);
            }
            *register = Register { answered: offset, under_way: Vec::new() };
        }
        for (group, generation) in &self.synced {
            let found = self.core.group(&name(*group)).unwrap().expect("it has members");
            assert!(found.generation() >= *generation, "{group}: {generation}");
            if found.generation() == *generation {
                assert_eq!(found.state(), StateName::Stable);
                let assignment = &found.members().next().unwrap().assignment;
                assert_eq!(*assignment, generation.to_string());
            }
        }
    }
}

fn at(now_ms: i64) -> shard::Now {
    shard::Now { wall: TimestampMs(now_ms), monotonic_ms: now_ms }
}

fn name(group: u64) -> String {
    format!("group-{group}")
}

fn open(disk: &SimDisk, now_ms: i64) -> ShardCore<SimDisk, Vec<AppendId>> {
    let (mut logs, _) = LogShard::open(disk.clone(), ShardId(0), options(), TimestampMs(now_ms))
        .expect("the shard recovers");
    if let Some(log) = logs.log_mut(&PARTITION) {
        log.set_config(log_config());
    }
    let settings = CoreSettings { broker: BrokerId(1), lag_ms_max: 30_000 };
    let mut shard = ShardCore::new(settings, logs);
    lead(&mut shard, now_ms);
    shard.take_effects().for_each(drop);
    shard
}

fn lead(shard: &mut ShardCore<SimDisk, Vec<AppendId>>, now_ms: i64) {
    let roles = vec![PartitionRole::alone(PARTITION, BrokerId(1), LeaderEpoch(0))];
    shard.on_command(Command::SetRoles { roles, answer: Vec::new() }, at(now_ms));
}

/// What a run came across; a run that came across nothing proves nothing.
#[derive(Debug, Default)]
struct Coverage {
    commits: u64,
    deletions: u64,
    syncs: u64,
    lost: u64,
    kept: u64,
}

#[track_caller]
fn check(seed: u64, is_sabotaged: bool) -> Coverage {
    let mut draw = Draw(seed);
    let mut world = World::new(seed, is_sabotaged);
    for _ in 0..6 {
        world.disk.power_cut_at_sync(draw.below(60));
        for _ in 0..2_000 {
            world.step(&mut draw);
            if world.disk.is_off() {
                break;
            }
        }
        world.crash(draw.below(u64::MAX));
    }
    world.coverage
}

#[test]
fn what_was_answered_survives_power_cuts() {
    let (from, count) = match std::env::var("GROUPS_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (0, 60),
    };
    let mut total = Coverage::default();
    for seed in from..from + count {
        eprintln!("GROUPS_SEED={seed} cargo test -p varve-broker --lib groups::tests::disk");
        let run = check(seed, false);
        total.commits += run.commits;
        total.deletions += run.deletions;
        total.syncs += run.syncs;
        total.lost += run.lost;
        total.kept += run.kept;
    }
    eprintln!("{total:?}");
    if count > 1 {
        let Coverage { commits, deletions, syncs, lost, kept } = total;
        for seen in [commits, deletions, syncs, lost, kept] {
            assert!(seen > 0, "every case comes up: {total:?}");
        }
    }
}

#[test]
#[should_panic(expected = "expected Register")]
fn an_answer_before_the_sync_is_caught() {
    for seed in 0..20 {
        check(seed, true);
    }
}
