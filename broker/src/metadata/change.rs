//! Wishes to the controller and what became of them.
//!
//! A change goes to whoever is the controller; today that is this process. Each holds any number of
//! items, which are judged one by one and made durable together.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, TopicId, TopicIdPartition};

use super::plan::{
    AlteredPartition, BrokerRegistration, ConfigChange, ConfigError, Election, ElectionRefused,
    IsrChange, NewPartitions, NewTopic, ProducerIdBlock, Reassignment, ReassignmentRefused,
    RegisterRefused, RemovalRefused, TopicError, TopicSelector,
};
use super::store::AppendError;
use super::topic_image::TopicImage;
use super::voters::{VoterRefused, VoterWish};
use crate::topic_config::ConfigMap;

/// A wish to the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataChange {
    /// Give the cluster its id, if it has none yet.
    EnsureClusterId,
    /// A broker that is a cluster by itself has started.
    RegisterBroker(BrokerRegistration),
    /// One broker of several has started.
    RegisterMember(BrokerRegistration),
    /// A broker is dead.
    FenceBroker {
        /// Which.
        id: BrokerId,
        /// Of its registration.
        epoch: i64,
        /// How that is known.
        why: &'static str,
    },
    /// A broker that counts as dead is alive.
    UnfenceBroker {
        /// Which.
        id: BrokerId,
        /// Of its registration.
        epoch: i64,
    },
    /// A broker is about to end in order.
    ShutDownBroker {
        /// Which.
        id: BrokerId,
        /// Of its registration.
        epoch: i64,
    },
    /// A broker never comes back.
    RemoveBroker(BrokerId),
    /// Every partition is to be led by its preferred replica, where that can be.
    PreferLeaders,
    /// A leader wants other in-sync replicas.
    AlterPartitions {
        /// The leader.
        leader: BrokerId,
        /// Of its registration.
        epoch: i64,
        /// Its wishes.
        changes: Vec<IsrChange>,
    },
    /// Elect leaders.
    ElectLeaders {
        /// How.
        election: Election,
        /// Of which partitions.
        partitions: Vec<TopicIdPartition>,
    },
    /// Move replicas, or stop moving them.
    Reassign(Vec<Reassignment>),
    /// Create topics, each under a fresh id.
    CreateTopics {
        /// Which.
        topics: Vec<NewTopic>,
        /// Only say whether it could be done.
        validate_only: bool,
    },
    /// Delete topics.
    DeleteTopics(Vec<TopicSelector>),
    /// Add partitions to topics.
    CreatePartitions {
        /// To which, and how many.
        topics: Vec<NewPartitions>,
        /// Only say whether it could be done.
        validate_only: bool,
    },
    /// Change configuration values.
    AlterConfigs {
        /// Whose and which.
        changes: Vec<ConfigChange>,
        /// Only say whether it could be done.
        validate_only: bool,
    },
    /// Take the next block of producer ids for a broker.
    AllocateProducerIds(BrokerId),
    /// A broker is to vote in the quorum, or not to.
    ChangeVoter(VoterWish),
}

/// What became of a [`MetadataChange`], item by item in the order of the wish. Whatever succeeded is
/// durable, published in the image, and its logs are ready.
#[derive(Debug, Clone)]
pub enum Applied {
    /// Of changes that are told by the image alone.
    Done,
    /// Of [`MetadataChange::ChangeVoter`].
    ChangedVoter(Result<(), VoterRefused>),
    /// Of [`MetadataChange::RegisterMember`]: the broker's epoch.
    Registered(Result<i64, RegisterRefused>),
    /// Of [`MetadataChange::AlterPartitions`].
    AlteredPartitions(Vec<Result<AlteredPartition, ErrorCode>>),
    /// Of [`MetadataChange::RemoveBroker`].
    BrokerRemoved(Result<(), RemovalRefused>),
    /// Of [`MetadataChange::ElectLeaders`].
    ElectLeaders(Vec<Result<(), ElectionRefused>>),
    /// Of [`MetadataChange::Reassign`].
    Reassigned(Vec<Result<(), ReassignmentRefused>>),
    /// Of [`MetadataChange::CreateTopics`].
    CreateTopics(Vec<Result<CreatedTopic, TopicError>>),
    /// Of [`MetadataChange::DeleteTopics`]: the topics as they were.
    DeleteTopics(Vec<Result<Arc<TopicImage>, TopicError>>),
    /// Of [`MetadataChange::CreatePartitions`]: the topics' ids.
    CreatePartitions(Vec<Result<TopicId, TopicError>>),
    /// Of [`MetadataChange::AlterConfigs`].
    AlterConfigs(Vec<Result<(), ConfigError>>),
    /// Of [`MetadataChange::AllocateProducerIds`].
    ProducerIds(ProducerIdBlock),
}

/// A topic that was created, or could have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; that of a topic which was only validated is never used.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
    /// Its own configuration values.
    pub configs: ConfigMap,
}

/// Why a change as a whole was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The metadata log failed and takes no more changes until the broker is restarted.
    #[error("the metadata log failed, the broker must be restarted: {0}")]
    StoreFailed(String),
    /// There is no room for the change, and nothing has changed.
    #[error("the disk is full, the metadata cannot be changed; free some space and try again")]
    DiskFull,
    /// As many changes as may wait do so already, and nothing has changed.
    #[error("too many metadata changes wait; nothing was changed, try again")]
    Busy,
    /// The disk was full when the change was under way.
    #[error(
        "the disk filled up while the change was made: whether it was made is not known; free some \
         space, look, and try again"
    )]
    Uncertain,
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    ShuttingDown,
    /// Another broker decides, or nobody does at present. A change that was under way when this
    /// broker ceased to decide may still be made.
    #[error("this broker is not the controller")]
    NotController,
    /// There are no producer ids left.
    #[error("all producer ids have been handed out")]
    ProducerIdsExhausted,
}

impl From<AppendError> for ChangeError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::DiskFull,
            AppendError::Failed(reason) => Self::StoreFailed(reason),
        }
    }
}

impl ChangeError {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::StoreFailed(_) | Self::DiskFull => ErrorCode::KafkaStorageError,
            // Clients try it again after a while.
            Self::Busy => ErrorCode::ThrottlingQuotaExceeded,
            Self::Uncertain => ErrorCode::RequestTimedOut,
            Self::ShuttingDown => ErrorCode::CoordinatorNotAvailable,
            Self::NotController => ErrorCode::NotController,
            Self::ProducerIdsExhausted => ErrorCode::UnknownServerError,
        }
    }
}
