//! The logs that belong to the partitions of this broker, as the metadata sees them.

use std::future::Future;
use std::pin::Pin;

use varve_protocol::vocabulary::TopicIdPartition;
use varve_storage::LogConfig;

use crate::shard::PartitionRole;

/// A future that the host answers with.
pub type HostFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever owns the logs of this broker.
pub trait PartitionHost: Send + Sync + 'static {
    /// Makes the logs, and answers for each in order. A log that exists is no error. On success the
    /// partition can be written to and read.
    fn create(&self, logs: Vec<HostedLog>) -> HostFuture<'_, Vec<Result<(), HostError>>>;

    /// Removes logs with all that is in them. One that does not exist is no error.
    fn delete(
        &self,
        partitions: Vec<TopicIdPartition>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>>;

    /// Changes the settings of logs.
    fn set_config(
        &self,
        configs: Vec<(TopicIdPartition, LogConfig)>,
    ) -> HostFuture<'_, Vec<Result<(), HostError>>>;

    /// Tells the roles of partitions that lie here: whether this broker leads or follows, and
    /// whom. What is older than what is known changes nothing.
    fn set_roles(&self, roles: Vec<PartitionRole>) -> HostFuture<'_, Vec<Result<(), HostError>>>;

    /// All logs that exist.
    fn list(&self) -> Vec<TopicIdPartition>;
}

/// A log that this broker is to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct HostedLog {
    /// Of which partition.
    pub partition: TopicIdPartition,
    /// Its settings.
    pub config: LogConfig,
}

/// Why a log could not be made, removed or configured; the host has logged the details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);
