//! The shard of a stepped broker, and what the metadata's finisher tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::vocabulary::{BrokerId, PartitionIndex, TopicIdPartition};
use varve_storage::{
    CommitJob, LogConfig, LogSetError, LogShard, MaintenanceJob, ReadError, Rot, SimDisk,
};

use super::view::ReplicaView;
use crate::groups::AppendId;
use crate::metadata::{HostError, HostFuture, HostedLog, PartitionHost};
use crate::shard::{Command, CoreSettings, Effect, NewLog, Now, Outcome, PartitionRole, ShardCore};

/// Read for damage at once.
const SCRUB_BYTES: usize = 1 << 20;

/// Where a shard's answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// To whoever changes logs or roles.
    Host,
    /// To a producer.
    Client(u64),
    /// To the fetcher of this leader's records.
    Fetcher(BrokerId, Vec<TopicIdPartition>),
    /// To the coordinator of a partition: which append, and what it holds.
    Seat(PartitionIndex, u64, Vec<AppendId>),
    /// To whoever wants records deleted.
    Deleter(u64),
}

pub(super) type ShardEffect = Effect<Token>;

/// The shard, shared by the broker and the finisher.
#[derive(Clone, Debug)]
pub(super) struct SteppedShard {
    /// Guards all of it; one thread steps a broker.
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    core: ShardCore<SimDisk, Token>,
    now: Now,
    effects: Vec<ShardEffect>,
    /// Counts what was done to the core.
    version: u64,
    /// By partition: when its log was made anew, as of `version`.
    births: BTreeMap<TopicIdPartition, u64>,
    /// The replicas that were given a role, as they were right after.
    glimpses: Vec<(TopicIdPartition, ReplicaView)>,
}

impl State {
    /// A log that an earlier run made is as old as the shard.
    fn birth(&self, tip: &TopicIdPartition) -> u64 {
        self.births.get(tip).copied().unwrap_or(0)
    }

    fn view(&self, tip: &TopicIdPartition) -> Option<ReplicaView> {
        ReplicaView::of(&self.core, tip, self.birth(tip))
    }
}

impl SteppedShard {
    pub(super) fn new(settings: CoreSettings, logs: LogShard<SimDisk>, now: Now) -> Self {
        let core = ShardCore::new(settings, logs);
        Self {
            state: Arc::new(Mutex::new(State {
                core,
                now,
                effects: Vec::new(),
                version: 1,
                births: BTreeMap::new(),
                glimpses: Vec::new(),
            })),
        }
    }

    pub(super) fn set_now(&self, now: Now) {
        self.state.lock().now = now;
    }

    pub(super) fn command(&self, command: Command<Token>) {
        let mut state = self.state.lock();
        state.version += 1;
        let now = state.now;
        state.core.on_command(command, now);
    }

    pub(super) fn tick(&self) {
        let mut state = self.state.lock();
        state.version += 1;
        let now = state.now;
        state.core.on_tick(now);
    }

    pub(super) fn poll_commit(&self) -> Option<CommitJob<SimDisk>> {
        self.state.lock().core.poll_commit()
    }

    pub(super) fn poll_maintenance(&self) -> Vec<MaintenanceJob<SimDisk>> {
        let mut state = self.state.lock();
        state.version += 1;
        let now = state.now;
        state.core.poll_maintenance(now)
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut ShardCore<SimDisk, Token>) -> T) -> T {
        look(&mut self.state.lock().core)
    }

    /// Reads all logs for damage, as `broker::scrub` does in a task of its own.
    pub(super) fn scrub(&self) {
        let state = self.state.lock();
        let tips: Vec<_> = state.core.partitions().collect();
        let found = tips.iter().filter_map(|tip| rot_of(&state.core, tip));
        let found: Vec<_> = found.collect();
        drop(state);
        self.on_rot(found);
    }

    /// Readers have met damage.
    pub(super) fn on_rot(&self, found: Vec<Rot>) {
        for rot in found {
            self.command(Command::RotSeen { rot: Box::new(rot) });
        }
    }

    /// A commit or a piece of maintenance comes back.
    pub(super) fn on_done<T>(&self, take: impl FnOnce(&mut ShardCore<SimDisk, Token>) -> T) -> T {
        let mut state = self.state.lock();
        state.version += 1;
        take(&mut state.core)
    }

    pub(super) fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// A replica.
    pub(super) fn replica(&self, tip: &TopicIdPartition) -> Option<ReplicaView> {
        self.state.lock().view(tip)
    }

    /// A replica, unless it is as it was `known`.
    pub(super) fn replica_news(
        &self,
        tip: &TopicIdPartition,
        known: Option<&ReplicaView>,
    ) -> Option<ReplicaView> {
        let state = self.state.lock();
        let is_still = |known: &ReplicaView| known.is_still(&state.core, tip, state.birth(tip));
        if known.is_some_and(is_still) { None } else { state.view(tip) }
    }

    /// What replicas were, right after they were given their roles, since this was asked last.
    pub(super) fn take_glimpses(&self) -> Vec<(TopicIdPartition, ReplicaView)> {
        std::mem::take(&mut self.state.lock().glimpses)
    }

    /// What the shard wants, in order.
    pub(super) fn take_effects(&self) -> Vec<ShardEffect> {
        let mut state = self.state.lock();
        let mut effects = std::mem::take(&mut state.effects);
        effects.extend(state.core.take_effects());
        effects
    }

    /// Has a change made, and takes its answer out of what the shard wants.
    fn change(&self, command: Command<Token>) -> Vec<Result<(), HostError>> {
        let mut state = self.state.lock();
        state.version += 1;
        let now = state.now;
        let before: Vec<_> = state.core.take_effects().collect();
        state.effects.extend(before);
        state.core.on_command(command, now);
        let mut changed = Vec::new();
        let effects: Vec<_> = state.core.take_effects().collect();
        for effect in effects {
            match effect {
                Effect::Answer { to: Token::Host, outcome: Outcome::LogsChanged(results) } => {
                    changed = results;
                }
                other => state.effects.push(other),
            }
        }
        let to_host =
            |result: Result<(), LogSetError>| result.map_err(|error| HostError(error.to_string()));
        changed.into_iter().map(to_host).collect()
    }
}

/// The first damage in a log.
fn rot_of(core: &ShardCore<SimDisk, Token>, tip: &TopicIdPartition) -> Option<Rot> {
    let reader = core.reader(tip)?;
    let mut from = reader.log_start();
    loop {
        match reader.scrub(from, SCRUB_BYTES) {
            Ok(Some((next, _))) => from = next,
            Ok(None) => return None,
            Err(ReadError::Rotten(rot)) => return Some(*rot),
            // A failed disk is seen by the world.
            Err(_) => return None,
        }
    }
}

impl PartitionHost for SteppedShard {
    fn create(&self, logs: Vec<HostedLog>) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        {
            let mut state = self.state.lock();
            let (born, known) = (state.version + 1, state.core.partitions().collect::<Vec<_>>());
            let new = logs.iter().map(|log| log.partition).filter(|tip| !known.contains(tip));
            state.births.extend(new.map(|tip| (tip, born)));
        }
        let new = |log: HostedLog| NewLog { partition: log.partition, config: log.config.into() };
        let logs = logs.into_iter().map(new).collect();
        Box::pin(async move { self.change(Command::Create { logs, answer: Token::Host }) })
    }

    fn delete(
        &self,
        partitions: Vec<TopicIdPartition>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move { self.change(Command::Delete { partitions, answer: Token::Host }) })
    }

    fn set_config(
        &self,
        configs: Vec<(TopicIdPartition, LogConfig)>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        let configs = configs.into_iter().map(|(name, config)| (name, config.into())).collect();
        Box::pin(async move { self.change(Command::SetConfig { configs, answer: Token::Host }) })
    }

    fn set_roles(&self, roles: Vec<PartitionRole>) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move {
            let names: Vec<_> = roles.iter().map(|role| role.partition).collect();
            let changed = self.change(Command::SetRoles { roles, answer: Token::Host });
            let mut state = self.state.lock();
            let glimpses = names.iter().filter_map(|tip| Some((*tip, state.view(tip)?)));
            let glimpses: Vec<_> = glimpses.collect();
            state.glimpses.extend(glimpses);
            changed
        })
    }

    fn list(&self) -> Vec<TopicIdPartition> {
        self.state.lock().core.partitions().collect()
    }
}
