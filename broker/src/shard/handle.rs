//! A partition as the rest of the broker sees it, and all of them together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use varve_protocol::records::ValidatedBatch;
use varve_protocol::vocabulary::{Acks, BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use varve_storage::config::LogConfig;
use varve_storage::{AppendOrigin, LogSetError, ProducerSummary, ReadError, RealDisk, shard_of};

use super::append::start_append;
use super::command::{AppendAnswer, Command, FollowerLag, NewLog, Outcome, ProduceError};
use super::outboxes::Outboxes;
use super::replica::{
    FetchPosition, FollowerProgress, IsrAnswer, Outbox, PartitionRole, ReplicaAppend,
    ReplicaAppendError, ReplicaEvents, RoleName, RoleView,
};
use super::thread::Message;
use super::watch::{Waiter, Watch};
use crate::metadata::{HostError, HostFuture, HostedLog, PartitionHost};
use crate::metrics::{Metrics, TopicMetrics};

/// Where a shard's answer goes.
pub(super) type AnswerTo = oneshot::Sender<Outcome>;

/// How long an internal append may take; it has no client that says.
const INTERNAL_TIMEOUT: Duration = Duration::from_secs(30);

/// One partition that lies on this broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PartitionHandle {
    shared: Arc<PartitionShared>,
}

#[derive(Debug)]
struct PartitionShared {
    partition: TopicIdPartition,
    role: ArcSwap<RoleView>,
    high_watermark: AtomicI64,
    config: ArcSwap<LogConfig>,
    reader: varve_storage::LogReader<RealDisk>,
    watch: Watch,
    outboxes: Outboxes,
    queue: mpsc::Sender<Message>,
    /// The shard's number.
    shard: usize,
    metrics: OnceLock<Arc<TopicMetrics>>,
}

impl PartitionHandle {
    pub(super) fn new(
        reader: varve_storage::LogReader<RealDisk>,
        (role, high_watermark): (RoleView, Offset),
        config: Arc<LogConfig>,
        queue: mpsc::Sender<Message>,
        shard: usize,
    ) -> Self {
        let shared = PartitionShared {
            partition: reader.partition(),
            role: ArcSwap::from_pointee(role),
            high_watermark: AtomicI64::new(high_watermark.0),
            config: ArcSwap::new(config),
            reader,
            watch: Watch::default(),
            outboxes: Outboxes::default(),
            queue,
            shard,
            metrics: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Which partition this is.
    #[must_use]
    pub fn partition(&self) -> TopicIdPartition {
        self.shared.partition
    }

    /// What this broker is to it, and who leads.
    #[must_use]
    pub fn role(&self) -> Arc<RoleView> {
        self.shared.role.load_full()
    }

    /// Whether this broker leads it.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.shared.role.load().name == RoleName::Leader
    }

    /// Who leads it, as far as is known here.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        self.shared.role.load().leader
    }

    /// The leader's epoch.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.shared.role.load().leader_epoch
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.shared.reader.log_end()
    }

    /// Everything below is on this broker's disk.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.shared.reader.durable_end()
    }

    /// The shard that owns it.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shared.shard
    }

    /// Whether both are the same log, opened once.
    pub(crate) fn is_same(&self, other: &PartitionHandle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Marks `outbox` at `slot` whenever the log grows or the role changes, until the result is
    /// dropped.
    #[must_use]
    pub fn attach_outbox(&self, outbox: Arc<dyn Outbox>, slot: u32) -> AttachedOutbox {
        let key = self.shared.outboxes.add(outbox, slot);
        AttachedOutbox { shared: Arc::clone(&self.shared), key }
    }

    /// Consumers read up to here.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        Offset(self.shared.high_watermark.load(Ordering::SeqCst))
    }

    /// Whether the high watermark speaks for all that earlier leaders committed (KIP-207): it has
    /// reached the start of this leader's epoch.
    #[must_use]
    pub fn is_high_watermark_current(&self) -> bool {
        self.high_watermark() >= self.shared.role.load().epoch_start
    }

    /// `read_committed` consumers read up to here; the high watermark as long as there are no
    /// transactions.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.shared.reader.log_start()
    }

    /// Reads the log without its shard.
    #[must_use]
    pub fn reader(&self) -> &varve_storage::LogReader<RealDisk> {
        &self.shared.reader
    }

    /// Tells the shard of damage that a read met; whoever reads tells it. Never waits: if the queue is
    /// full, the next read tells it again.
    pub(crate) fn report(&self, error: &ReadError) {
        if let ReadError::Rotten(rot) = error {
            let command = Command::RotSeen { rot: rot.clone() };
            // An error means that the queue is full, or that the broker ends.
            let _ = self.shared.queue.try_send(Message::Command(command));
        }
    }

    /// The log's settings.
    #[must_use]
    pub fn config(&self) -> Arc<LogConfig> {
        self.shared.config.load_full()
    }

    /// The series of the partition's topic, whose name the caller knows.
    #[must_use]
    pub fn metrics(&self, metrics: &Metrics, topic: &str) -> &TopicMetrics {
        self.shared.metrics.get_or_init(|| metrics.topics.topic(topic))
    }

    /// As [`Self::metrics`], where the name has to be looked for first; none if the topic is gone.
    pub(crate) fn known_metrics(
        &self,
        metrics: &Metrics,
        topic: impl FnOnce() -> Option<Arc<str>>,
    ) -> Option<&TopicMetrics> {
        if let Some(known) = self.shared.metrics.get() {
            return Some(known);
        }
        Some(self.metrics(metrics, &topic()?))
    }

    /// Appends one batch in the leader epoch `epoch`, and returns when `acks` is satisfied.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn append(
        &self,
        batch: ValidatedBatch,
        epoch: LeaderEpoch,
        origin: AppendOrigin,
        acks: Acks,
    ) -> Result<AppendAnswer, ProduceError> {
        let batches = vec![(self.clone(), batch)];
        let started = start_append(batches, Some(epoch), origin, acks, INTERNAL_TIMEOUT);
        let mut results = started.wait().await;
        results.pop().expect("one batch has one result")
    }

    /// The idempotent producers that the log remembers; none if the log is gone or the broker
    /// ends.
    pub(crate) async fn producers(&self) -> Option<Vec<ProducerSummary>> {
        let (answer, answered) = oneshot::channel();
        let command = Command::DescribeProducers { partition: self.shared.partition, answer };
        self.shared.queue.send(Message::Command(command)).await.ok()?;
        match answered.await.ok()? {
            Outcome::Producers(producers) => producers,
            other => unreachable!("describing producers was answered with {other:?}"),
        }
    }

    /// Wakes `waiter` whenever the high watermark moves, until the result is dropped.
    #[must_use]
    pub fn watch(&self, waiter: &Arc<Waiter>) -> Watching {
        self.shared.watch.add(waiter);
        Watching { shared: Arc::clone(&self.shared), waiter: Arc::clone(waiter) }
    }

    /// The way to its shard.
    pub(super) fn queue(&self) -> &mpsc::Sender<Message> {
        &self.shared.queue
    }

    pub(super) fn publish_high_watermark(&self, high_watermark: Offset) {
        self.shared.high_watermark.store(high_watermark.0, Ordering::SeqCst);
    }

    pub(super) fn publish_config(&self, config: Arc<LogConfig>) {
        self.shared.config.store(config);
    }

    pub(super) fn publish_role(&self, role: RoleView) {
        self.shared.role.store(Arc::new(role));
    }

    pub(super) fn wake(&self) {
        self.shared.watch.wake();
    }

    pub(super) fn mark_outboxes(&self) {
        self.shared.outboxes.mark();
    }
}

/// An outbox's place in a partition; dropping it gives it up.
#[derive(Debug)]
pub struct AttachedOutbox {
    shared: Arc<PartitionShared>,
    key: u64,
}

impl Drop for AttachedOutbox {
    fn drop(&mut self) {
        self.shared.outboxes.remove(self.key);
    }
}

/// A waiter's place in a partition; dropping it gives it up.
#[derive(Debug)]
pub struct Watching {
    shared: Arc<PartitionShared>,
    waiter: Arc<Waiter>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.watch.remove(&self.waiter);
    }
}

/// The partitions of this broker. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Partitions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Guards the map; held for a lookup, or while a partition opens or closes.
    handles: RwLock<HashMap<TopicIdPartition, PartitionHandle>>,
    /// By the shard's number.
    queues: Vec<mpsc::Sender<Message>>,
    /// Who carries replication; nobody in a cluster of one.
    events: OnceLock<Arc<dyn ReplicaEvents>>,
}

impl Partitions {
    pub(super) fn new(queues: Vec<mpsc::Sender<Message>>) -> Self {
        let handles = RwLock::default();
        Self { inner: Arc::new(Inner { handles, queues, events: OnceLock::new() }) }
    }

    /// One partition, if this broker has it.
    #[must_use]
    pub fn get(&self, partition: &TopicIdPartition) -> Option<PartitionHandle> {
        self.inner.handles.read().get(partition).cloned()
    }

    /// All partitions, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<PartitionHandle> {
        self.inner.handles.read().values().cloned().collect()
    }

    /// The names of all partitions, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<TopicIdPartition> {
        self.inner.handles.read().keys().copied().collect()
    }

    /// How many partitions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.handles.read().len()
    }

    /// Makes logs; one that exists is no error. They can be written and read on return.
    pub(crate) async fn create(&self, logs: Vec<HostedLog>) -> Vec<Result<(), LogSetError>> {
        let new = logs
            .into_iter()
            .map(|log| NewLog { partition: log.partition, config: Arc::new(log.config) });
        self.change(
            new.collect(),
            |log| log.partition,
            |logs, answer| Command::Create { logs, answer },
        )
        .await
    }

    /// Deletes logs with all that is in them; one that does not exist is no error.
    pub(crate) async fn delete(
        &self,
        partitions: Vec<TopicIdPartition>,
    ) -> Vec<Result<(), LogSetError>> {
        self.change(
            partitions,
            |partition| *partition,
            |partitions, answer| Command::Delete { partitions, answer },
        )
        .await
    }

    /// Changes logs' settings.
    pub(crate) async fn set_config(
        &self,
        configs: Vec<(TopicIdPartition, LogConfig)>,
    ) -> Vec<Result<(), LogSetError>> {
        let configs = configs.into_iter().map(|(name, config)| (name, Arc::new(config)));
        self.change(
            configs.collect(),
            |(name, _)| *name,
            |configs, answer| Command::SetConfig { configs, answer },
        )
        .await
    }

    /// Says who carries replication. To be called once, before the first `set_roles`.
    pub fn set_events(&self, events: Arc<dyn ReplicaEvents>) {
        let first = self.inner.events.set(events).is_ok();
        assert!(first, "replication is carried by one");
    }

    pub(super) fn events(&self) -> Option<&Arc<dyn ReplicaEvents>> {
        self.inner.events.get()
    }

    /// How many shards there are.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.inner.queues.len()
    }

    /// The shard that owns a partition, whether it is here or not.
    #[must_use]
    pub fn shard_of(&self, partition: &TopicIdPartition) -> usize {
        let count = u32::try_from(self.inner.queues.len());
        shard_of(partition, count.expect("the configuration bounds shards")).0 as usize
    }

    /// Tells the shards what the metadata says of partitions that lie here. On return it is so.
    pub(crate) async fn set_roles(
        &self,
        roles: Vec<PartitionRole>,
    ) -> Vec<Result<(), LogSetError>> {
        self.change(
            roles,
            |role| role.partition,
            |roles, answer| Command::SetRoles { roles, answer },
        )
        .await
    }

    /// Hands a shard what leaders answered to its fetches, and says from where to fetch next, in the
    /// order of `appends`. They must all be the shard's. Returns when it is appended, not when it is
    /// durable.
    pub(crate) async fn replica_append(
        &self,
        shard: usize,
        appends: Vec<ReplicaAppend>,
    ) -> Vec<Result<FetchPosition, ReplicaAppendError>> {
        let count = appends.len();
        let (answer, answered) = oneshot::channel();
        let command = Command::ReplicaAppend { appends, answer };
        // If the shard has ended, the answer's other end is gone with the command.
        let _ = self.inner.queues[shard].send(Message::Command(command)).await;
        match answered.await {
            Ok(Outcome::ReplicaAppended(results)) => results,
            Ok(other) => unreachable!("a replica's append was answered with {other:?}"),
            Err(_) => vec![Err(ReplicaAppendError::ShuttingDown); count],
        }
    }

    /// Hands the shards what a follower says of its progress. Never waits: what finds a full queue is
    /// dropped, and the follower says it again when it sees that it was not heard.
    pub(crate) fn follower_progress(
        &self,
        follower: BrokerId,
        broker_epoch: i64,
        progress: Vec<FollowerProgress>,
    ) {
        for (queue, progress) in self.by_shard(progress, |progress| progress.partition) {
            let command = Command::FollowerProgress { follower, broker_epoch, progress };
            // An error means that the queue is full, or that the broker ends.
            let _ = queue.try_send(Message::Command(command));
        }
    }

    /// How far behind the followers are of all partitions that are led here.
    pub(crate) async fn follower_lags(&self) -> Vec<FollowerLag> {
        let mut lags = Vec::new();
        for queue in &self.inner.queues {
            let (answer, answered) = oneshot::channel();
            // If the shard has ended, the answer's other end is gone with the command.
            let _ = queue.send(Message::Command(Command::DescribeFollowers { answer })).await;
            if let Ok(Outcome::Followers(found)) = answered.await {
                lags.extend(found);
            }
        }
        lags
    }

    /// Hands the shards what became of their proposals.
    pub(crate) async fn isr_answered(&self, answers: Vec<IsrAnswer>) {
        for (queue, answers) in self.by_shard(answers, |answer| answer.partition) {
            let command = Command::IsrAnswers { answers };
            // An error means that the broker ends.
            let _ = queue.send(Message::Command(command)).await;
        }
    }

    /// Divides items among the shards that own them; shards without any are left out.
    fn by_shard<T>(
        &self,
        items: Vec<T>,
        partition_of: impl Fn(&T) -> TopicIdPartition,
    ) -> impl Iterator<Item = (&mpsc::Sender<Message>, Vec<T>)> {
        let mut parts: Vec<Vec<T>> =
            std::iter::repeat_with(Vec::new).take(self.inner.queues.len()).collect();
        for item in items {
            parts[self.shard_of(&partition_of(&item))].push(item);
        }
        self.inner.queues.iter().zip(parts).filter(|(_, part)| !part.is_empty())
    }

    pub(super) fn insert(&self, handle: PartitionHandle) {
        self.inner.handles.write().insert(handle.partition(), handle);
    }

    pub(super) fn remove(&self, partition: &TopicIdPartition) {
        self.inner.handles.write().remove(partition);
    }

    /// Sends each shard its part of `items`, and puts the answers back into the items' order.
    async fn change<T>(
        &self,
        items: Vec<T>,
        partition_of: impl Fn(&T) -> TopicIdPartition,
        command: impl Fn(Vec<T>, AnswerTo) -> Command<AnswerTo>,
    ) -> Vec<Result<(), LogSetError>> {
        let queues = &self.inner.queues;
        let shard_count = u32::try_from(queues.len()).expect("the configuration bounds shards");
        let mut by_shard: Vec<(Vec<T>, Vec<usize>)> =
            std::iter::repeat_with(Default::default).take(queues.len()).collect();
        let count = items.len();
        for (index, item) in items.into_iter().enumerate() {
            let shard = shard_of(&partition_of(&item), shard_count).0 as usize;
            by_shard[shard].0.push(item);
            by_shard[shard].1.push(index);
        }
        let mut parts = Vec::new();
        for (queue, (items, indexes)) in queues.iter().zip(by_shard) {
            if !items.is_empty() {
                let (answer, answered) = oneshot::channel();
                // If the shard has ended, the answer's other end is gone with the command.
                let _ = queue.send(Message::Command(command(items, answer))).await;
                parts.push((answered, indexes));
            }
        }
        let mut results = vec![Err(LogSetError::Unknown); count];
        for (answered, indexes) in parts {
            if let Ok(Outcome::LogsChanged(changed)) = answered.await {
                for (index, result) in indexes.into_iter().zip(changed) {
                    results[index] = result;
                }
            }
        }
        results
    }
}

impl PartitionHost for Partitions {
    fn create(&self, logs: Vec<HostedLog>) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move { host_errors(Partitions::create(self, logs).await) })
    }

    fn delete(
        &self,
        partitions: Vec<TopicIdPartition>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move { host_errors(Partitions::delete(self, partitions).await) })
    }

    fn set_config(
        &self,
        configs: Vec<(TopicIdPartition, LogConfig)>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move { host_errors(Partitions::set_config(self, configs).await) })
    }

    fn set_roles(&self, roles: Vec<PartitionRole>) -> HostFuture<'_, Vec<Result<(), HostError>>> {
        Box::pin(async move { host_errors(Partitions::set_roles(self, roles).await) })
    }

    fn list(&self) -> Vec<TopicIdPartition> {
        Partitions::list(self)
    }
}

fn host_errors(results: Vec<Result<(), LogSetError>>) -> Vec<Result<(), HostError>> {
    let to_host =
        |result: Result<(), LogSetError>| result.map_err(|error| HostError(error.to_string()));
    results.into_iter().map(to_host).collect()
}
