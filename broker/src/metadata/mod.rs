//! The cluster's metadata: a log of records, the image that they add up to, and the controller.
//!
//! - [`record`], `codec`: facts and their bytes. [`image`]: the value that they add up to.
//! - [`plan`]: the controller's decisions, pure. `placement`: who gets replicas.
//! - [`store`]: the log on the disk. `node`: this broker's member of the quorum, stepped by `writer`'s
//!   thread. `finisher`: what follows once a change is committed.
//! - [`handle`]: the door for everybody else. [`start`]: from files to a running broker's metadata.
//!
//! Every broker has the log and applies it; the quorum's leader is the controller and decides changes.
//! The source of the shape is Kafka's KRaft (KIP-500, KIP-631).

mod broker_image;
mod change;
mod codec;
mod controller;
mod delta;
mod departed;
mod diff;
mod finisher;
pub mod handle;
mod heard;
mod host;
pub mod image;
mod liveness;
mod node;
mod placement;
pub mod plan;
mod planning;
mod quorum_metrics;
pub mod record;
mod replica_changes;
mod roles;
pub mod start;
pub mod store;
mod topic_image;
mod topic_name;
mod voters;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use broker_image::{BrokerImage, Endpoint};
pub use change::{Applied, ChangeError, CreatedTopic, MetadataChange};
pub use codec::{DecodeError, decode_batch, encode_batch};
pub use controller::ControllerGateway;
pub use delta::Delta;
pub use finisher::{HostReady, MetadataFinisher};
pub use handle::{EnsureTopicError, InternalTopic, MetadataHandle, MetadataUpdate, config_layers};
pub use host::{HostError, HostFuture, HostedLog, PartitionHost};
pub use image::{ApplyError, MetadataImage};
pub use liveness::{Heartbeat, HeartbeatAnswer};
pub use node::{IdSource, QuorumTransport};
pub use plan::{
    AlteredPartition, BrokerRegistration, ConfigChange, ConfigEdits, ConfigError, ConfigResource,
    Election, ElectionRefused, IsrChange, MetadataLimits, NewPartitions, NewTopic, PlanSettings,
    ProducerIdBlock, Reassignment, ReassignmentRefused, RegisterRefused, RemovalRefused,
    ReplicaAssignment, TopicError, TopicSelector, leads_nothing_movable,
};
pub(crate) use replica_changes::count_replica_changes;
pub use start::{
    KAFKA_LISTENER, MetadataOptions, NoTransport, OpenedMetadata, QUORUM_TICK, ReconcileError,
    Reconciled, StartedMetadata, reconcile,
};
pub use store::{AppendError, LogOwner, METADATA_DIRECTORY, MetadataStore, OpenError};
pub use topic_image::{PartitionImage, TopicImage};
pub use topic_name::{
    CONSUMER_OFFSETS, InvalidTopicName, TRANSACTION_STATE, check_topic_name, is_internal_topic,
};
pub use voters::{VoterRefused, VoterWish, plan_voter};
pub use writer::MetadataWriter;
