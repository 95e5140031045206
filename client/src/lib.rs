//! A producer, consumer and admin client for varve and any broker that speaks Kafka's protocol.
//!
//! Pure Rust on tokio. Works with varve, Apache Kafka (2.1 and later) and brokers compatible with it.
//!
//! ```
//! use std::time::Duration;
//! use varve_client::{Client, CommitPolicy, OffsetReset, ProducerRecord};
//!
//! # varve_test::run(async {
//! # let cluster = varve_test::TestCluster::start(1).await;
//! # #[cfg(any())]
//! let client = Client::connect("localhost:9092").await?;
//! # let client: Client = cluster.client().await;
//!
//! let producer = client.producer().linger(Duration::from_millis(5)).build().await?;
//! let written = producer.send(ProducerRecord::new("orders", "hello").key("user-1")).await?;
//! println!("{}@{}", written.partition, written.offset);
//! producer.close().await?;
//!
//! let mut consumer = client
//!     .consumer("billing")
//!     .subscribe(["orders"])
//!     .auto_offset_reset(OffsetReset::Earliest)
//!     .commit(CommitPolicy::Marked { every: Duration::from_secs(5) })
//!     .build()
//!     .await?;
//! while let Some(record) = consumer.recv().await? {
//!     println!("{:?}", record.value_str());
//!     consumer.mark(&record);
//! #   assert_eq!((record.key_str(), record.value_str()), (Some("user-1"), Some("hello")));
//! #   break;
//! }
//! consumer.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Producing
//! [`Producer`] batches records by partition and sends them as an idempotent producer: retries neither duplicate nor
//! reorder. [`Producer::send`] waits for the acknowledgement, [`Producer::enqueue`] for room in the buffer only, and
//! [`Producer::try_enqueue`] for nothing. A [`ProduceError`] says by
//! [`possibly_written`](ProduceError::possibly_written) whether sending the record again may duplicate it.
//!
//! # Consuming
//! [`Consumer`] reads ahead and shares partitions with its group, which may have Java members: strategies and their
//! bytes are Kafka's. Records are processed at least once: [`Consumer::mark`] them when they are done, in any order;
//! what is committed is everything up to the first that is not. [`Consumer::run`] does that for many records at once. A
//! consumer is a [`Stream`](futures_core::Stream), too.
//!
//! # Administration
//! [`Admin`] creates, describes, alters and deletes topics, configuration, groups and offsets.
//!
//! # Configuration
//! Builders have a method for each setting; `property("linger.ms", "5")` takes Kafka's names, and the
//! configuration structs read whole `.properties` files and are serde types.
//!
//! # Transports
//! `Client::connect("tls://host:9093")` and `Client::connect("quic://host:9092")` verify brokers by the system's CAs, or
//! by those of [`ClientBuilder::ca_file`]; [`ClientBuilder::client_certificate`] is shown to brokers that demand one. Over
//! QUIC each producer, consumer and partition group has a stream of its own on one connection to each broker.
//!
//! [`ClientBuilder::dial_with`] makes connections by any other way that gives streams.
//!
//! # Testing
//! The crate `varve-test` is a cluster in memory with virtual time, for tests of what uses this client: with crashes, power cuts
//! and partitions, in ten lines, the same for the same seed. The example `testing` shows it.
//!
//! Features: `tls` (default), `quic` (brings `tls`), `json` (records from and to JSON), `simulation` (producer and consumer without their
//! IO, for simulators).
#![forbid(unsafe_code)]
#![allow(
    clippy::needless_update,
    reason = "messages gain fields with Kafka's versions; what this client does not set keeps its default"
)]

mod admin;
mod client;
mod clock;
mod config;
mod consumer;
mod error;
mod net;
mod producer;
mod record;
mod sabotage;
mod spawn;
mod surroundings;
mod watch;

/// The cores of this crate, to be stepped by whoever simulates what they meet.
#[cfg(feature = "simulation")]
pub mod simulation {
    pub use crate::consumer::simulation::{
        Fetch, FetchName, Fetched, Lack, LackName, Question, SteppedConsumer,
    };
    pub use crate::producer::simulation::{
        BatchName, Departure, DueNow, Outcome, Reply, SteppedProducer,
    };
    pub use crate::sabotage::Sabotage;
    #[cfg(feature = "sabotage")]
    pub use crate::sabotage::set as set_sabotage;
}

pub use admin::{
    Admin, BrokerDescription, ClusterDescription, CommittedOffset, ConfigChange, ConfigEntry,
    ConfigOperation, ConfigResource, ConfigSource, ConfigSynonym, ConfigType, CreatedTopic,
    ElectionType, GroupDescription, GroupListing, ListedOffset, LogDirDescription, LogDirPartition,
    MemberDescription, NewPartitions, NewTopic, OffsetSpec, PartitionDescription, PerSubject,
    QuorumDescription, QuorumMember, Reassignment, TopicDescription, TopicListing,
};
pub use client::{Client, ClientBuilder};
pub use config::{
    AssignmentStrategy, ClientConfig, CommitPolicy, ConfigError, ConsumerConfig, IsolationLevel,
    OffsetReset, ProducerConfig, TlsConfig, Transport,
};
pub use consumer::{
    CommitReport, Concurrency, Consumer, ConsumerBuilder, ConsumerHandle, Event, Events, RunError,
};
pub use error::{
    AdminError, CommitError, ConnectError, ConsumeError, ErrorContext, FenceReason, ProduceError,
    RequestError, TryEnqueueError,
};
pub use net::{Dial, Dialing, Stream};
pub use producer::{Delivery, Producer, ProducerBuilder, ProducerStats, Reservation};
pub use record::{
    ConsumerRecord, PartitionBounds, ProducerRecord, RecordMetadata, Topic, TopicPartition,
};
pub use varve_protocol::ErrorCode;
pub use varve_protocol::records::{Attributes, Compression, Header, TimestampType};
pub use varve_protocol::vocabulary::{Acks, TopicId};
