//! Brokers: addresses, connections, and what is known of the cluster.
//!
//! IO is in `connection` (one ordered stream of requests), `connector` with `transport`, `tls` and `quic` (what
//! carries it, `dial` for others to say what) and `cluster` (which one to use); the rest are values.

mod address;
mod backoff;
mod cluster;
mod connection;
mod connector;
mod dial;
mod handshake;
mod metadata;
#[cfg(feature = "quic")]
mod quic;
#[cfg(feature = "tls")]
mod tls;
mod transport;

pub(crate) use backoff::{Backoff, Jitter};
pub(crate) use cluster::{Cluster, Lane, Target};
pub(crate) use connection::{Connection, PendingResponse, PendingWrite};
pub use dial::{Dial, Dialing, Stream};
#[cfg(feature = "simulation")]
pub(crate) use metadata::PartitionMetadata;
#[cfg(test)]
pub(crate) use metadata::test_topic;
pub(crate) use metadata::{LeaderHint, MetadataCache, TopicMetadata};
