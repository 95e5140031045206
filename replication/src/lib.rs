//! A partition's positions, progress and in-sync replicas, as values.
//!
//! Everything here is sans-IO: inputs are methods named `on_*` that take `now` where time matters,
//! outputs are [`Effect`]s that the owner drains. A replica set of one runs the same code as one of
//! three: appended → durable → high watermark → answer.
//!
//! Source: Kafka's replication with KIP-101 (leader epochs), KIP-497 (ISR changes committed by the
//! controller) and KIP-966's "maximal ISR"; the quorum arithmetic in the manner of etcd raft.
#![forbid(unsafe_code)]

mod high_watermark;
mod isr;
mod leader;
mod positions;
mod progress;

pub use high_watermark::choose_high_watermark;
pub use isr::{InSyncReplicas, IsrProposal, StaleIsr};
pub use leader::{Durability, Effect, FetchRefused, FollowerFetch, LeaderOptions, LeaderReplica};
pub use positions::Positions;
pub use progress::Progress;
