//! A log shard as a value: the logs that one thread owns, the partitions over them, and the
//! requests that wait for them.
//!
//! Inputs are `on_*` with the time as an argument, work for other threads is `poll_*`, effects are
//! drained. Nothing here blocks but what storage says does (deletions), so that a simulator can
//! step it over a simulated disk.
//!
//! ```text
//! on_command(Append) ─► log append ─► partition.on_appended ──┐
//! poll_commit ─► CommitJob ─► on_committed ─► on_durable ─────┴─► high watermark ─► answers
//! ```

mod deletions;
mod replicas;
mod rot;

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_protocol::vocabulary::{Acks, BrokerId, Offset, TimestampMs, TopicIdPartition};
use varve_replication::sabotage::{self, Sabotage};
use varve_replication::{IsrWish, LeaderReplica};
use varve_storage::config::LogConfig;
use varve_storage::{
    AppendError, AppendOrigin, CommitDone, CommitJob, DirectoryFailed, Disk, Log, LogReader,
    LogSetError, LogShard, MaintenanceDone, MaintenanceJob,
};

use super::command::{AppendAnswer, AppendItem, Command, Effect, NewLog, Outcome, ProduceError};
use super::replica::{ProposedIsr, RoleView};
use super::requests::Requests;
use crate::partition::{Partition, RecoveredLog, WaitingAppend, Wish};
use deletions::Deletion;

/// Between two looks at who lags.
const FOLLOWERS_JUDGED_MS: i64 = 500;
/// Between two times that a follower which is not in sync says how far it is.
const TOLD_AGAIN_MS: i64 = 1_000;

/// The time of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For records and retention.
    pub(crate) wall: TimestampMs,
    /// For deadlines.
    pub(crate) monotonic_ms: i64,
}

/// A log shard. `A` is where answers go.
#[derive(Debug)]
pub(crate) struct ShardCore<D: Disk, A> {
    settings: CoreSettings,
    logs: LogShard<D>,
    partitions: BTreeMap<TopicIdPartition, Partition>,
    requests: Requests<A>,
    /// Bounded by the requests that are being served.
    deletions: Vec<Deletion<A>>,
    effects: Vec<Effect<A>>,
    followers_judged_ms: i64,
    told_again_ms: i64,
}

/// What does not change while a shard runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreSettings {
    pub(crate) broker: BrokerId,
    /// A follower that was not caught up for so long leaves the ISR (`replica.lag.time.max.ms`).
    pub(crate) lag_ms_max: i64,
}

impl<D: Disk, A> ShardCore<D, A> {
    /// Takes over recovered logs. Their partitions wait for the metadata's word.
    pub(crate) fn new(settings: CoreSettings, logs: LogShard<D>) -> Self {
        let mut core = Self {
            settings,
            partitions: BTreeMap::new(),
            requests: Requests::default(),
            deletions: Vec::new(),
            effects: Vec::new(),
            followers_judged_ms: i64::MIN,
            told_again_ms: i64::MIN,
            logs,
        };
        let opened: Vec<_> =
            core.logs.logs().map(|log| (log.partition(), core.take_over(log))).collect();
        for (tip, partition) in opened {
            core.partitions.insert(tip, partition);
            core.effects.push(Effect::Opened { partition: tip });
        }
        core
    }

    fn take_over(&self, log: &Log<D>) -> Partition {
        let recovered = RecoveredLog {
            log_start: log.log_start(),
            high_watermark: log.recovered_high_watermark(),
            durable_end: log.durable_end(),
            log_end: log.log_end(),
        };
        let CoreSettings { broker, lag_ms_max } = self.settings;
        Partition::new(broker, lag_ms_max, log.config(), recovered)
    }

    /// What has to be done for the outside, in order.
    pub(crate) fn take_effects(&mut self) -> std::vec::Drain<'_, Effect<A>> {
        self.effects.drain(..)
    }

    /// A reader of a partition's log.
    pub(crate) fn reader(&self, partition: &TopicIdPartition) -> Option<LogReader<D>> {
        Some(self.logs.log(partition)?.reader())
    }

    /// The settings of a partition's log.
    pub(crate) fn config(&self, partition: &TopicIdPartition) -> Option<Arc<LogConfig>> {
        Some(Arc::new(self.logs.log(partition)?.config().clone()))
    }

    /// All partitions.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = TopicIdPartition> + '_ {
        self.partitions.keys().copied()
    }

    /// A partition's replica, to be looked at.
    pub(crate) fn partition(&self, partition: &TopicIdPartition) -> Option<&Partition> {
        self.partitions.get(partition)
    }

    /// What this broker is to a partition.
    pub(crate) fn role(&self, partition: &TopicIdPartition) -> Option<RoleView> {
        Some(self.partitions.get(partition)?.view())
    }

    /// A partition's high watermark.
    pub(crate) fn high_watermark(&self, partition: &TopicIdPartition) -> Option<Offset> {
        Some(self.partitions.get(partition)?.high_watermark())
    }

    /// Why nothing can be written any more, if that is so.
    pub(crate) fn failure(&self) -> Option<DirectoryFailed> {
        self.logs.failure()
    }

    /// Takes one command.
    pub(crate) fn on_command(&mut self, command: Command<A>, now: Now) {
        match command {
            Command::Append { items, origin, acks, deadline_ms, answer } => {
                self.on_append(items, origin, acks, deadline_ms, answer, now);
            }
            Command::Create { logs, answer } => {
                let results = logs.into_iter().map(|log| self.create(log)).collect();
                self.answer(answer, Outcome::LogsChanged(results));
            }
            Command::Delete { partitions, answer } => {
                let results = self.delete(&partitions);
                self.answer(answer, Outcome::LogsChanged(results));
            }
            Command::SetConfig { configs, answer } => {
                let change = |(tip, config)| self.set_config(tip, config);
                let results = configs.into_iter().map(change).collect();
                self.answer(answer, Outcome::LogsChanged(results));
            }
            Command::DeleteRecords { partition, before, deadline_ms, answer } => {
                self.on_delete_records(&partition, before, deadline_ms, answer);
            }
            Command::DescribeProducers { partition, answer } => {
                let producers = self.logs.log(&partition).map(varve_storage::Log::producers);
                self.answer(answer, Outcome::Producers(producers));
            }
            Command::SetRoles { roles, answer } => self.on_set_roles(roles, answer, now),
            Command::ReplicaAppend { appends, answer } => {
                self.on_replica_append(appends, answer, now);
            }
            Command::FollowerProgress { follower, broker_epoch, progress } => {
                self.on_follower_progress(follower, broker_epoch, progress, now);
            }
            Command::DescribeFollowers { answer } => {
                let lags = self.follower_lags();
                self.answer(answer, Outcome::Followers(lags));
            }
            Command::RotSeen { rot } => self.on_rot_seen(&rot, now),
            Command::IsrAnswers { answers } => self.on_isr_answers(answers, now),
        }
        self.settle_deletions(now.monotonic_ms);
    }

    /// What was appended since the last commit, to be made durable; none while one is under way.
    pub(crate) fn poll_commit(&mut self) -> Option<CommitJob<D>> {
        self.logs.take_commit()
    }

    /// Whether a commit is on its way.
    pub(crate) fn is_commit_in_flight(&self) -> bool {
        self.logs.is_commit_in_flight()
    }

    /// A commit has run.
    pub(crate) fn on_committed(&mut self, done: CommitDone) {
        match self.logs.finish_commit(done) {
            Ok(durable) => {
                for (tip, durable_end) in durable {
                    if let Some(partition) = self.partitions.get_mut(&tip) {
                        partition.on_durable(durable_end);
                        // A failure closes the directory's latch, and is answered by what comes next.
                        let _ = self.follow_log_start(&tip);
                        self.tell_durable(&tip);
                        self.advance(&tip);
                    }
                }
            }
            Err(failed) => self.fail_all(&failed),
        }
    }

    /// Whether [`Self::poll_maintenance`] should be called before its next regular turn.
    pub(crate) fn is_maintenance_due(&self) -> bool {
        self.logs.is_maintenance_due()
    }

    /// Work off the append path; to be asked for about once a second.
    pub(crate) fn poll_maintenance(&mut self, now: Now) -> Vec<MaintenanceJob<D>> {
        for (tip, partition) in &self.partitions {
            if let Some(log) = self.logs.log_mut(tip) {
                log.set_cleanup_limit(partition.high_watermark());
                log.note_high_watermark(partition.high_watermark());
            }
        }
        let jobs = self.logs.maintain(now.wall);
        // Retention may have moved logs' starts.
        for (tip, partition) in &mut self.partitions {
            if let Some(log) = self.logs.log(tip) {
                partition.on_log_start(log.log_start());
            }
        }
        jobs
    }

    /// A piece of maintenance has run.
    ///
    /// # Errors
    /// [`DirectoryFailed`] when its writes failed.
    pub(crate) fn on_maintained(
        &mut self,
        done: MaintenanceDone<D>,
    ) -> Result<(), DirectoryFailed> {
        self.logs.finish_maintenance(done)
    }

    /// Time passes: requests whose deadline is over are answered.
    pub(crate) fn on_tick(&mut self, now: Now) {
        for (to, results) in self.requests.take_expired(now.monotonic_ms) {
            self.answer(to, Outcome::Appended(results));
        }
        self.settle_deletions(now.monotonic_ms);
        if now.monotonic_ms.saturating_sub(self.followers_judged_ms) >= FOLLOWERS_JUDGED_MS {
            self.followers_judged_ms = now.monotonic_ms;
            self.judge_followers(now);
            self.repair_all(now);
        }
        if now.monotonic_ms.saturating_sub(self.told_again_ms) >= TOLD_AGAIN_MS {
            self.told_again_ms = now.monotonic_ms;
            self.tell_again();
        }
    }

    /// Gives the logs back, to be closed in order.
    pub(crate) fn into_logs(self) -> LogShard<D> {
        self.logs
    }

    fn answer(&mut self, to: A, outcome: Outcome) {
        self.effects.push(Effect::Answer { to, outcome });
    }

    fn on_append(
        &mut self,
        items: Vec<AppendItem>,
        origin: AppendOrigin,
        acks: Acks,
        deadline_ms: i64,
        answer: A,
        now: Now,
    ) {
        let request = self.requests.open(items.len(), deadline_ms, answer);
        for (index, item) in items.into_iter().enumerate() {
            match self.append(item, origin, acks, now) {
                Ok(Progress::Done(appended)) => self.decide(request, index, Ok(appended)),
                Ok(Progress::Waits { partition, until, answer }) => {
                    let waiting = WaitingAppend { until, request, index, answer };
                    let partition = self.partitions.get_mut(&partition);
                    partition.expect("it was just appended to").waiting.push(waiting);
                }
                Err(error) => self.decide(request, index, Err(error)),
            }
        }
    }

    fn append(
        &mut self,
        item: AppendItem,
        origin: AppendOrigin,
        acks: Acks,
        now: Now,
    ) -> Result<Progress, ProduceError> {
        let AppendItem { partition: tip, batch, epoch } = item;
        let partition = self.partitions.get_mut(&tip).ok_or(AppendError::UnknownPartition)?;
        let leader = partition.leader_mut().ok_or(ProduceError::NotLeader)?;
        if epoch.is_some_and(|epoch| epoch != leader.epoch()) {
            return Err(ProduceError::NotLeader);
        }
        if acks == Acks::All && leader.is_under_min_in_sync() {
            return Err(ProduceError::NotEnoughReplicas);
        }
        let appended = self.logs.append(&tip, &batch, leader.epoch(), origin, now.wall)?;
        let log_end = self.logs.log(&tip).expect("it was just appended to").log_end();
        leader.on_appended(log_end);
        let until = appended.last_offset + 1;
        let is_committed = partition.high_watermark() >= until;
        if partition.has_followers() && !appended.duplicate {
            self.effects.push(Effect::Appended { partition: tip });
        }
        self.advance(&tip);
        let answer = AppendAnswer {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            log_start: appended.log_start,
        };
        let is_rash = sabotage::is_on(Sabotage::AcknowledgeBeforeReplicating);
        if acks != Acks::All || is_committed || is_rash {
            return Ok(Progress::Done(answer));
        }
        Ok(Progress::Waits { partition: tip, until, answer })
    }

    /// Carries out what a partition's replica wants: publishes its high watermark if it has moved, and
    /// answers who waited for it.
    fn advance(&mut self, tip: &TopicIdPartition) {
        while let Some(partition) = self.partitions.get_mut(tip)
            && let Some(wish) = partition.poll_wish()
        {
            match wish {
                Wish::HighWatermark(high_watermark) => {
                    self.effects.push(Effect::HighWatermark { partition: *tip, high_watermark });
                    self.answer_reached(tip, high_watermark);
                }
                Wish::ProposeIsr(IsrWish { isr, partition_epoch }) => {
                    let leader_epoch = partition.view().leader_epoch;
                    let proposal =
                        ProposedIsr { partition: *tip, leader_epoch, partition_epoch, isr };
                    self.effects.push(Effect::ProposeIsr(proposal));
                }
            }
        }
    }

    fn answer_reached(&mut self, tip: &TopicIdPartition, high_watermark: Offset) {
        while let Some(partition) = self.partitions.get_mut(tip)
            && let Some(reached) = partition.waiting.pop_reached(high_watermark)
        {
            let is_short = partition.leader().is_some_and(LeaderReplica::is_under_min_in_sync);
            let result = match is_short {
                true => Err(ProduceError::NotEnoughReplicasAfterAppend),
                false => Ok(reached.answer),
            };
            self.decide(reached.request, reached.index, result);
        }
    }

    fn decide(&mut self, request: u64, index: usize, result: Result<AppendAnswer, ProduceError>) {
        if let Some((to, results)) = self.requests.decide(request, index, result) {
            self.answer(to, Outcome::Appended(results));
        }
    }

    fn fail_all(&mut self, failed: &DirectoryFailed) {
        let tips: Vec<_> = self.partitions.keys().copied().collect();
        for tip in tips {
            self.answer_waiting(&tip, &failed.clone().into());
        }
    }

    fn create(&mut self, new: NewLog) -> Result<(), LogSetError> {
        let tip = new.partition;
        match self.logs.create_log(tip, new.config) {
            Ok(_) => {}
            Err(LogSetError::Exists) => return Ok(()),
            Err(error) => return Err(error),
        }
        let partition = self.take_over(self.logs.log(&tip).expect("it was just made"));
        self.partitions.insert(tip, partition);
        self.effects.push(Effect::Opened { partition: tip });
        Ok(())
    }

    fn delete(&mut self, tips: &[TopicIdPartition]) -> Vec<Result<(), LogSetError>> {
        for tip in tips {
            if let Some(mut partition) = self.partitions.remove(tip) {
                self.effects.push(Effect::Closed { partition: *tip });
                if partition.follower().is_some() {
                    self.effects.push(Effect::Unfollow { partition: *tip });
                }
                while let Some(waiting) = partition.waiting.pop() {
                    self.decide(waiting.request, waiting.index, Err(ProduceError::Deleted));
                }
            }
        }
        let unknown_is_done = |result| match result {
            Err(LogSetError::Unknown) => Ok(()),
            other => other,
        };
        self.logs.delete_logs(tips).into_iter().map(unknown_is_done).collect()
    }

    fn set_config(
        &mut self,
        tip: TopicIdPartition,
        config: Arc<LogConfig>,
    ) -> Result<(), LogSetError> {
        let log = self.logs.log_mut(&tip).ok_or(LogSetError::Unknown)?;
        log.set_config(Arc::clone(&config));
        if let Some(partition) = self.partitions.get_mut(&tip) {
            partition.on_config(&config);
        }
        self.effects.push(Effect::Configured { partition: tip, config });
        self.advance(&tip);
        Ok(())
    }
}

/// What became of one batch.
enum Progress {
    Done(AppendAnswer),
    Waits { partition: TopicIdPartition, until: Offset, answer: AppendAnswer },
}
