//! A producer, consumer and admin client for varve and any broker that speaks Kafka's protocol.
#![forbid(unsafe_code)]

mod admin;
mod client;
mod clock;
mod config;
mod consumer;
mod error;
mod net;
mod producer;
mod record;
mod spawn;

pub use admin::{
    Admin, BrokerDescription, ClusterDescription, CommittedOffset, ConfigChange, ConfigEntry,
    ConfigOperation, ConfigResource, ConfigSource, ConfigSynonym, ConfigType, CreatedTopic,
    GroupDescription, GroupListing, ListedOffset, LogDirDescription, LogDirPartition,
    MemberDescription, NewPartitions, NewTopic, OffsetSpec, PartitionDescription, PerSubject,
    TopicDescription, TopicListing,
};
pub use client::{Client, ClientBuilder};
pub use config::{
    AssignmentStrategy, ClientConfig, CommitPolicy, ConfigError, ConsumerConfig, IsolationLevel,
    OffsetReset, ProducerConfig,
};
pub use error::{
    AdminError, CommitError, ConnectError, ConsumeError, ErrorContext, FenceReason, ProduceError,
    RequestError, TryEnqueueError,
};
pub use producer::{Delivery, Producer, ProducerBuilder, ProducerStats, Reservation};
pub use record::{ConsumerRecord, ProducerRecord, RecordMetadata, Topic, TopicPartition};
pub use varve_protocol::ErrorCode;
pub use varve_protocol::records::{Compression, Header, TimestampType};
pub use varve_protocol::vocabulary::{Acks, TopicId};
