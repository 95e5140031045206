//! What a log shard is told, and what it says.

use std::sync::Arc;

use thiserror::Error;
use varve_protocol::records::ValidatedBatch;
use varve_protocol::vocabulary::{
    Acks, BrokerId, LeaderEpoch, Offset, TimestampMs, TopicIdPartition,
};
use varve_storage::config::LogConfig;
use varve_storage::{
    AppendError, AppendOrigin, DirectoryFailed, LogSetError, ProducerSummary, Rot, TruncateError,
};

use super::replica::{
    DurableProgress, FetchPosition, FollowerProgress, IsrAnswer, PartitionRole, ProposedIsr,
    ReplicaAppend, ReplicaAppendError,
};

/// A batch for a partition of the shard.
#[derive(Debug)]
pub(crate) struct AppendItem {
    pub(crate) partition: TopicIdPartition,
    pub(crate) batch: ValidatedBatch,
    /// The batch is meant for this epoch only; any, if there is none.
    pub(crate) epoch: Option<LeaderEpoch>,
}

/// A log to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewLog {
    pub(crate) partition: TopicIdPartition,
    pub(crate) config: Arc<LogConfig>,
}

/// What a shard is told. `A` is where its answer goes, and opaque to the shard.
#[derive(Debug)]
pub(crate) enum Command<A> {
    /// Appends batches, in their order; one answer for all of them.
    Append {
        items: Vec<AppendItem>,
        origin: AppendOrigin,
        acks: Acks,
        /// Milliseconds of the monotonic clock.
        deadline_ms: i64,
        answer: A,
    },
    /// Makes logs. One that exists already is no error.
    Create { logs: Vec<NewLog>, answer: A },
    /// Deletes logs. One that does not exist is no error.
    Delete { partitions: Vec<TopicIdPartition>, answer: A },
    /// Changes logs' settings.
    SetConfig { configs: Vec<(TopicIdPartition, Arc<LogConfig>)>, answer: A },
    /// Moves a log's start up to an offset; none means the high watermark.
    DeleteRecords {
        partition: TopicIdPartition,
        before: Option<Offset>,
        /// Milliseconds of the monotonic clock.
        deadline_ms: i64,
        answer: A,
    },
    /// Tells the idempotent producers that a log remembers.
    DescribeProducers { partition: TopicIdPartition, answer: A },
    /// Tells what the metadata says of partitions. What is older than what is known changes nothing.
    SetRoles { roles: Vec<PartitionRole>, answer: A },
    /// Takes what leaders answered to this broker's fetches.
    ReplicaAppend { appends: Vec<ReplicaAppend>, answer: A },
    /// A follower tells how far it is. Not answered.
    FollowerProgress { follower: BrokerId, broker_epoch: i64, progress: Vec<FollowerProgress> },
    /// Tells how far behind the followers of the partitions are that are led here.
    DescribeFollowers { answer: A },
    /// A reader met damage. Not answered.
    RotSeen { rot: Box<Rot> },
    /// The controller answered proposals. Not answered.
    IsrAnswers { answers: Vec<IsrAnswer> },
}

/// What answers a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// In the order of the items.
    Appended(Vec<Result<AppendAnswer, ProduceError>>),
    /// In the order of the logs.
    LogsChanged(Vec<Result<(), LogSetError>>),
    /// Where the log begins now.
    RecordsDeleted(Result<Offset, DeleteRecordsError>),
    /// None if there is no such log.
    Producers(Option<Vec<ProducerSummary>>),
    /// Every follower of every partition that is led here.
    Followers(Vec<FollowerLag>),
    /// In the order of the appends: from where to fetch next.
    ReplicaAppended(Vec<Result<FetchPosition, ReplicaAppendError>>),
}

/// How far behind its leader a follower is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FollowerLag {
    pub(crate) partition: TopicIdPartition,
    pub(crate) follower: BrokerId,
    /// Records that the leader has and the follower has not, or has not told of.
    pub(crate) records: u64,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendAnswer {
    /// Offset of the first record; of the first time, if the batch is a repetition.
    pub base_offset: Offset,
    /// The time that all records got, if the topic's timestamps are those of the append.
    pub log_append_time: Option<TimestampMs>,
    /// Where the log begins.
    pub log_start: Offset,
}

/// Why a batch is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProduceError {
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A write or sync failed after it was appended; whether it is durable is not known.
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
    /// Fewer replicas are in sync than the topic demands.
    #[error("fewer replicas are in sync than min.insync.replicas demands, or in fewer racks")]
    NotEnoughReplicas,
    /// It is in the log, but replicas fell out of sync before enough of them had it.
    #[error("the batch was appended, but replicas fell out of sync before enough of them had it")]
    NotEnoughReplicasAfterAppend,
    /// This broker does not lead the partition, or does not any more.
    #[error("this broker is not the partition's leader")]
    NotLeader,
    /// It is not acknowledged within the request's timeout; it may be later.
    #[error("the batch was not acknowledged in time")]
    TimedOut,
    /// The partition was deleted meanwhile.
    #[error("the partition was deleted")]
    Deleted,
    /// The broker ends.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

/// Why records are not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeleteRecordsError {
    /// The shard has no such log.
    #[error("the partition has no log here")]
    UnknownPartition,
    /// The offset is past the high watermark.
    #[error("offset {offset} is past the high watermark {high_watermark}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The highest that would do.
        high_watermark: Offset,
    },
    /// This broker does not lead the partition.
    #[error("this broker is not the partition's leader")]
    NotLeader,
    /// The log did not take it.
    #[error(transparent)]
    Truncate(#[from] TruncateError),
    /// The leader has deleted them, but not every in-sync replica within the request's timeout.
    #[error("not every in-sync replica has deleted the records in time")]
    TimedOut,
    /// The broker ends.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

/// What the shard's owner has to do.
#[derive(Debug)]
pub(crate) enum Effect<A> {
    /// Answer whoever sent a command.
    Answer { to: A, outcome: Outcome },
    /// Consumers may read up to here: publish it, then wake who waits for it.
    HighWatermark { partition: TopicIdPartition, high_watermark: Offset },
    /// A partition can be used now.
    Opened { partition: TopicIdPartition },
    /// A partition's settings are others now.
    Configured { partition: TopicIdPartition, config: Arc<LogConfig> },
    /// A partition is gone.
    Closed { partition: TopicIdPartition },
    /// A partition's role is another: publish it and wake who waits.
    RoleChanged { partition: TopicIdPartition },
    /// A leader's log has grown: mark the outboxes of its followers.
    Appended { partition: TopicIdPartition },
    /// A partition is followed from here on.
    Follow(FetchPosition),
    /// A partition is not followed any more.
    Unfollow { partition: TopicIdPartition },
    /// To be told to the leader.
    FollowerDurable(DurableProgress),
    /// To be asked of the controller.
    ProposeIsr(ProposedIsr),
    /// Damage was found in a log that is open: to be counted.
    RotFound,
    /// A log was cut before damage, and the rest is fetched anew: to be counted.
    RotCut,
}
