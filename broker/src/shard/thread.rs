//! The threads of a log shard: one that steps the core, one that syncs.
//!
//! The shard's thread takes what has come as one batch, steps the core, starts the next commit, and
//! only then publishes and answers: while the commit runs on the sync thread, appends go on, and
//! what they add is the commit after. Maintenance runs on the runtime's blocking threads.
//!
//! A panic in either thread ends the process: the state of the logs is not known any more, and a
//! restart finds out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use varve_protocol::vocabulary::TopicIdPartition;
use varve_storage::{
    CommitDone, CommitJob, DirectoryFailed, MaintenanceDone, MaintenanceTally, RealDisk,
};

use super::command::{Command, Effect, Outcome};
use super::core::{Now, ShardCore};
use super::handle::{AnswerTo, PartitionHandle, Partitions};
use super::replica::{
    DurableProgress, FetchPosition, ProposedIsr, ReplicaAppendError, ReplicaEvents,
};
use super::stamps::AppendStamps;
use crate::clock;
use crate::metrics::{CrcSource, Metrics};
use crate::spawn::{self, AbortOnPanic};
use crate::ticker::{Ticker, Woken};

/// Messages that a shard takes in one step.
const BATCH_MAX: usize = 512;
/// Between two looks at deadlines.
const TICK: Duration = Duration::from_millis(100);
/// Between two turns of maintenance.
const MAINTENANCE_MS: i64 = 1_000;

/// What a shard's thread is sent.
#[derive(Debug)]
pub(crate) enum Message {
    /// From a handler.
    Command(Command<AnswerTo>),
    /// An append, whose times are measured.
    Append(Command<AnswerTo>, Arc<AppendStamps>),
    /// From the sync thread.
    Committed(CommitDone),
    /// From a blocking thread.
    Maintained(Box<MaintenanceDone<RealDisk>>),
    /// Commit what there is, write a checkpoint, end.
    Close(oneshot::Sender<()>),
}

/// What the shell around a core needs.
#[derive(Debug)]
pub(super) struct ShardShell {
    pub(super) number: usize,
    pub(super) core: ShardCore<RealDisk, AnswerTo>,
    pub(super) queue: mpsc::Receiver<Message>,
    /// For those who answer to this shard.
    pub(super) own_queue: mpsc::Sender<Message>,
    pub(super) partitions: Partitions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) sync: std_mpsc::SyncSender<CommitJob<RealDisk>>,
    pub(super) handles: HashMap<TopicIdPartition, PartitionHandle>,
    /// Pieces of maintenance that have not come back.
    pub(super) maintenance_jobs: usize,
    pub(super) maintained_ms: i64,
    pub(super) has_failed: bool,
}

impl ShardShell {
    /// Steps the core until it is told to close or nobody is left who could send.
    pub(super) fn run(mut self) {
        let _abort = AbortOnPanic("log shard");
        let mut ticker = Ticker::new(TICK);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut moved = Vec::new();
        self.deliver(&mut moved);
        while let Woken::Up { has_ticked } =
            ticker.recv_many(&mut self.queue, &mut batch, BATCH_MAX)
        {
            let now = now();
            let mut close = None;
            for message in batch.drain(..) {
                match message {
                    Message::Command(command) => self.on_command(command, now),
                    Message::Append(command, stamps) => self.on_append(command, &stamps, now),
                    Message::Committed(done) => self.on_committed(done),
                    Message::Maintained(done) => self.on_maintained(*done),
                    Message::Close(closed) => close = Some(closed),
                }
            }
            if has_ticked {
                self.on_tick(now);
            }
            self.commit();
            self.deliver(&mut moved);
            if self.core.is_maintenance_due() {
                self.maintain(now);
            }
            if let Some(closed) = close {
                self.close(closed);
                return;
            }
        }
    }

    fn on_command(&mut self, command: Command<AnswerTo>, now: Now) {
        if !matches!(command, Command::ReplicaAppend { .. }) {
            return self.core.on_command(command, now);
        }
        let began = clock::now();
        self.core.on_command(command, now);
        self.metrics.storage.append_duration.observe(began.elapsed());
    }

    fn on_append(&mut self, command: Command<AnswerTo>, stamps: &AppendStamps, now: Now) {
        let taken = clock::now();
        self.core.on_command(command, now);
        let appended = clock::now();
        self.metrics.storage.append_duration.observe(appended - taken);
        stamps.note(taken, appended);
    }

    fn commit(&mut self) {
        if let Some(job) = self.core.poll_commit() {
            // One commit is out at a time, so the channel has room; the sync thread ends only
            // after this one.
            self.sync.send(job).expect("the sync thread lives as long as the shard");
        }
    }

    fn on_committed(&mut self, done: CommitDone) {
        self.core.on_committed(done);
        if let Some(failed) = self.core.failure() {
            self.note_failure(&failed);
        }
    }

    fn on_maintained(&mut self, done: MaintenanceDone<RealDisk>) {
        self.maintenance_jobs -= 1;
        let MaintenanceTally { segments_deleted, compaction_runs, bytes_reclaimed } = done.tally();
        let storage = &self.metrics.storage;
        storage.segments_deleted.add(segments_deleted);
        storage.compaction_runs.add(compaction_runs);
        storage.compaction_bytes_reclaimed.add(bytes_reclaimed);
        if let Err(failed) = self.core.on_maintained(done) {
            self.note_failure(&failed);
        }
    }

    fn note_failure(&mut self, failed: &DirectoryFailed) {
        if !self.has_failed {
            self.has_failed = true;
            self.metrics.storage.failed_directories.set(1);
            tracing::error!(shard = self.number, %failed, "no more records are taken; what was \
                acknowledged is on the disk and can still be read");
        }
    }

    fn on_tick(&mut self, now: Now) {
        self.core.on_tick(now);
        if now.monotonic_ms - self.maintained_ms >= MAINTENANCE_MS {
            self.maintain(now);
        }
    }

    fn maintain(&mut self, now: Now) {
        self.maintained_ms = now.monotonic_ms;
        for job in self.core.poll_maintenance(now) {
            self.maintenance_jobs += 1;
            let queue = self.own_queue.clone();
            spawn::blocking_on(&self.runtime, move || {
                let done = job.run();
                // An error means that the shard has ended.
                let _ = queue.blocking_send(Message::Maintained(Box::new(done)));
            });
        }
    }

    /// Publishes, answers, wakes: in this order, so that who is woken sees all of it.
    pub(super) fn deliver(&mut self, moved: &mut Vec<PartitionHandle>) {
        let effects: Vec<_> = self.core.take_effects().collect();
        let mut answers = Vec::new();
        let mut grown: Vec<PartitionHandle> = Vec::new();
        let mut carried = Carried::default();
        for effect in effects {
            match effect {
                Effect::HighWatermark { partition, high_watermark } => {
                    if let Some(handle) = self.handles.get(&partition) {
                        handle.publish_high_watermark(high_watermark);
                        moved.push(handle.clone());
                    }
                }
                Effect::Answer { to, outcome } => {
                    if let Outcome::ReplicaAppended(results) = &outcome {
                        self.count_damaged(results);
                    }
                    answers.push((to, outcome));
                }
                Effect::Opened { partition } => self.open(partition),
                Effect::Configured { partition, config } => {
                    if let Some(handle) = self.handles.get(&partition) {
                        handle.publish_config(config);
                    }
                }
                Effect::Closed { partition } => {
                    self.partitions.remove(&partition);
                    // Who waits for it looks again, and finds that it is gone.
                    moved.extend(self.handles.remove(&partition));
                }
                Effect::RoleChanged { partition } => {
                    if let (Some(handle), Some(role)) =
                        (self.handles.get(&partition), self.core.role(&partition))
                    {
                        handle.publish_role(role);
                        grown.push(handle.clone());
                        moved.push(handle.clone());
                    }
                }
                Effect::Appended { partition } => {
                    grown.extend(self.handles.get(&partition).cloned())
                }
                Effect::Follow(position) => carried.follow.push(position),
                Effect::Unfollow { partition } => carried.unfollow.push(partition),
                Effect::FollowerDurable(progress) => carried.durable.push(progress),
                Effect::ProposeIsr(proposal) => carried.proposals.push(proposal),
                Effect::RotFound => self.metrics.storage.crc_failed(CrcSource::Disk, 1),
                Effect::RotCut => self.metrics.storage.logs_repaired.add(1),
            }
        }
        for handle in grown {
            handle.mark_outboxes();
        }
        carried.hand_over(self.number, self.partitions.events());
        for (to, outcome) in answers {
            // Whoever asked may be gone.
            let _ = to.send(outcome);
        }
        for handle in moved.drain(..) {
            handle.wake();
        }
    }

    fn count_damaged(&self, results: &[Result<FetchPosition, ReplicaAppendError>]) {
        let is_damaged =
            |result: &&Result<_, _>| matches!(result, Err(ReplicaAppendError::Damaged(_)));
        let damaged = results.iter().filter(is_damaged).count();
        if damaged > 0 {
            self.metrics.storage.crc_failed(CrcSource::Replica, damaged as u64);
        }
    }

    fn open(&mut self, partition: TopicIdPartition) {
        let core = &self.core;
        let (Some(reader), Some(config), Some(role), Some(high_watermark)) = (
            core.reader(&partition),
            core.config(&partition),
            core.role(&partition),
            core.high_watermark(&partition),
        ) else {
            // It was deleted in the same step.
            return;
        };
        let queue = self.own_queue.clone();
        let handle =
            PartitionHandle::new(reader, (role, high_watermark), config, queue, self.number);
        self.handles.insert(partition, handle.clone());
        self.partitions.insert(handle);
    }

    /// Waits for the commits that are under way or due, then closes the logs.
    fn close(mut self, closed: oneshot::Sender<()>) {
        loop {
            self.commit();
            let mut moved = Vec::new();
            self.deliver(&mut moved);
            if !self.core.is_commit_in_flight() && self.maintenance_jobs == 0 {
                break;
            }
            let now = now();
            match self.queue.blocking_recv() {
                Some(Message::Committed(done)) => self.on_committed(done),
                Some(Message::Maintained(done)) => self.on_maintained(*done),
                Some(Message::Command(command) | Message::Append(command, _)) => {
                    self.core.on_command(command, now);
                }
                Some(Message::Close(_)) => {}
                None => break,
            }
        }
        let mut logs = self.core.into_logs();
        if let Err(failed) = logs.close() {
            tracing::error!(shard = self.number, %failed, "the last checkpoint was not written; \
                the next start takes longer");
        }
        // Whoever asked may be gone.
        let _ = closed.send(());
    }
}

/// What one step has for those who carry replication.
#[derive(Default)]
struct Carried {
    unfollow: Vec<TopicIdPartition>,
    follow: Vec<FetchPosition>,
    durable: Vec<DurableProgress>,
    proposals: Vec<ProposedIsr>,
}

impl Carried {
    /// Who was unfollowed and followed again within one step is followed.
    fn hand_over(self, shard: usize, events: Option<&Arc<dyn ReplicaEvents>>) {
        let Some(events) = events else { return };
        if !self.unfollow.is_empty() {
            events.on_unfollow(shard, self.unfollow);
        }
        if !self.follow.is_empty() {
            events.on_follow(shard, self.follow);
        }
        if !self.durable.is_empty() {
            events.on_follower_durable(shard, self.durable);
        }
        if !self.proposals.is_empty() {
            events.on_isr_proposals(self.proposals);
        }
    }
}

/// The sync thread's body: runs commits until the shard's end of the channel is gone.
pub(super) fn run_commits(
    jobs: &std_mpsc::Receiver<CommitJob<RealDisk>>,
    queue: &mpsc::Sender<Message>,
    metrics: &Metrics,
) {
    let _abort = AbortOnPanic("sync");
    while let Ok(job) = jobs.recv() {
        let began = clock::now();
        let log_count = job.log_count();
        let done = job.run();
        metrics.storage.fsync_duration.observe(began.elapsed());
        metrics.storage.committed_partitions.add(log_count as u64);
        if queue.blocking_send(Message::Committed(done)).is_err() {
            return;
        }
    }
}

fn now() -> Now {
    Now { wall: clock::wall(), monotonic_ms: clock::monotonic_ms() }
}
