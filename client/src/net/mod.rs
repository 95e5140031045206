//! Brokers: addresses, connections, and what is known of the cluster.
//!
//! IO is in `connection` (one socket) and `cluster` (which socket); the rest are values.

mod address;
mod backoff;
mod cluster;
mod connection;
mod handshake;
mod metadata;

pub(crate) use backoff::{Backoff, Jitter};
pub(crate) use cluster::{Cluster, Lane, Target};
pub(crate) use connection::{Connection, PendingResponse};
#[cfg(test)]
pub(crate) use metadata::test_topic;
pub(crate) use metadata::{LeaderHint, MetadataCache, TopicMetadata};
