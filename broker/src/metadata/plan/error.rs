//! Why a wish for a topic is refused; the messages are Kafka's where it has one.

use varve_protocol::error_code::ErrorCode;

use super::super::topic_name::InvalidTopicName;
use crate::topic_config::AlterError;

/// Why a topic is not created, extended or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The name breaks Kafka's rules.
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// Another topic has the same name in metrics, where `.` is `_`.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collision {
        /// The new name.
        name: String,
        /// The other topic's.
        existing: String,
    },
    /// The name is taken.
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// The name is the broker's own.
    #[error("Creation of internal topic {0} is prohibited.")]
    Prohibited(String),
    /// The topic is the broker's own and stays.
    #[error("Topic {0} is kept by the broker for itself and cannot be deleted.")]
    Internal(String),
    /// A name came twice in one request.
    #[error("Duplicate topic name.")]
    DuplicateName,
    /// An id came twice in one request.
    #[error("Duplicate topic id.")]
    DuplicateId,
    /// A count of partitions below 1.
    #[error("Number of partitions was set to an invalid non-positive value.")]
    NoPartitions,
    /// More new partitions than one request may ask for.
    #[error("Excessively large number of partitions per request.")]
    TooManyNewPartitions,
    /// More partitions than a topic may have.
    #[error("A topic may have {0} partitions at most.")]
    TooManyTopicPartitions(usize),
    /// More partitions than the cluster may have.
    #[error(
        "The cluster may have {partitions_max} partitions at most and has {partition_count}; \
         delete topics, or raise limits.partitions_max."
    )]
    TooManyPartitions {
        /// How many there are.
        partition_count: usize,
        /// How many there may be.
        partitions_max: usize,
    },
    /// A replication factor below 1.
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    NoReplicas,
    /// More replicas than brokers.
    #[error(
        "Unable to replicate the partition {replication_factor} time(s): The target replication \
         factor of {replication_factor} cannot be reached because only {broker_count} broker(s) \
         are registered."
    )]
    TooFewBrokers {
        /// What was asked for.
        replication_factor: usize,
        /// What there is.
        broker_count: usize,
    },
    /// Manual replicas and a replication factor.
    #[error(
        "A manual partition assignment was specified, but replication factor was not set to -1."
    )]
    AssignmentAndReplicationFactor,
    /// Manual replicas and a count of partitions.
    #[error("A manual partition assignment was specified, but numPartitions was not set to -1.")]
    AssignmentAndPartitionCount,
    /// Manual replicas for partitions that are not 0, 1, 2 …
    #[error("partitions should be a consecutive 0-based integer sequence")]
    AssignmentNotConsecutive,
    /// Manual replicas for a partition twice.
    #[error("Found multiple manual partition assignments for partition {0}")]
    AssignmentTwice(i32),
    /// Manual replicas that are none.
    #[error("The manual partition assignment includes an empty replica list.")]
    AssignmentEmpty,
    /// Manual replicas on a broker that does not exist.
    #[error(
        "The manual partition assignment includes broker {0}, but no such broker is registered."
    )]
    AssignmentUnknownBroker(i32),
    /// Manual replicas with a broker twice.
    #[error("The manual partition assignment includes the broker {0} more than once.")]
    AssignmentBrokerTwice(i32),
    /// Manual replicas, not equally many for each partition.
    #[error(
        "The manual partition assignment includes a partition with {found} replica(s), but this \
         is not consistent with previous partitions, which have {expected} replica(s)."
    )]
    AssignmentUneven {
        /// This partition's.
        found: usize,
        /// The others'.
        expected: usize,
    },
    /// Manual replicas for another number of partitions than are added.
    #[error(
        "Attempted to add {added} additional partition(s), but only {assigned} assignment(s) were \
         specified."
    )]
    AssignmentCount {
        /// How many partitions are to be added.
        added: usize,
        /// How many have replicas assigned.
        assigned: usize,
    },
    /// The topic has as many partitions already.
    #[error("Topic already has {0} partition(s).")]
    SamePartitionCount(usize),
    /// The topic has more partitions already.
    #[error(
        "The topic {name} currently has {current} partition(s); {wanted} would not be an increase."
    )]
    FewerPartitions {
        /// The topic.
        name: String,
        /// How many it has.
        current: usize,
        /// How many were asked for.
        wanted: i32,
    },
    /// A configuration value without a value.
    #[error("Null value not supported for topic configs: {0}")]
    NullConfig(String),
    /// A configuration that is refused.
    #[error(transparent)]
    Config(AlterError),
    /// No topic has this name.
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// No topic has this id.
    #[error("This server does not host this topic ID.")]
    UnknownTopicId,
    /// Both a name and an id were given.
    #[error("You may not specify both topic name and topic id.")]
    NameAndId,
    /// Neither a name nor an id was given.
    #[error("You must specify topic name or topic id.")]
    NeitherNameNorId,
    /// The partitions exist in the metadata, but their logs could not be made.
    #[error(
        "The log of a new partition could not be made; it is tried again from time to time: {0}"
    )]
    Storage(String),
    /// The metadata log did not take the change.
    #[error("{0}")]
    Unavailable(String),
    /// The controller, another broker, refused it.
    #[error("{message}")]
    ByController {
        /// Its word for it.
        code: ErrorCode,
        /// Its words.
        message: String,
    },
    /// The client gave no time.
    #[error("The request's timeout had passed before it was served.")]
    TimedOut,
}

impl TopicError {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidName(_) | Self::Collision { .. } => ErrorCode::InvalidTopicException,
            Self::Exists(_) => ErrorCode::TopicAlreadyExists,
            Self::Prohibited(_)
            | Self::Internal(_)
            | Self::DuplicateName
            | Self::DuplicateId
            | Self::AssignmentAndReplicationFactor
            | Self::AssignmentAndPartitionCount
            | Self::NameAndId
            | Self::NeitherNameNorId => ErrorCode::InvalidRequest,
            Self::NoPartitions | Self::SamePartitionCount(_) | Self::FewerPartitions { .. } => {
                ErrorCode::InvalidPartitions
            }
            Self::TooManyNewPartitions
            | Self::TooManyTopicPartitions(_)
            | Self::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
            Self::NoReplicas | Self::TooFewBrokers { .. } => ErrorCode::InvalidReplicationFactor,
            Self::AssignmentNotConsecutive
            | Self::AssignmentTwice(_)
            | Self::AssignmentEmpty
            | Self::AssignmentUnknownBroker(_)
            | Self::AssignmentBrokerTwice(_)
            | Self::AssignmentUneven { .. }
            | Self::AssignmentCount { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::NullConfig(_) => ErrorCode::InvalidConfig,
            Self::Config(error) => error.code(),
            Self::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::Storage(_) | Self::Unavailable(_) => ErrorCode::KafkaStorageError,
            Self::ByController { code, .. } => *code,
            Self::TimedOut => ErrorCode::RequestTimedOut,
        }
    }
}
