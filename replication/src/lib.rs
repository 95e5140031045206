//! A partition's positions, progress and in-sync replicas, as values.
//!
//! Everything here is sans-IO: inputs are methods named `on_*` that take `now` where time matters,
//! outputs are [`Effect`]s that the owner drains. A replica set of one runs the same code as one of
//! three: appended → durable → high watermark → answer. [`Replica`] holds what a broker is to a
//! partition: a [`LeaderReplica`], a [`FollowerReplica`], or neither.
//!
//! Source: Kafka's replication with KIP-101 (leader epochs), KIP-497 (ISR changes committed by the
//! controller), KIP-903 (broker epochs in ISR changes), KIP-966 (nothing is committed below
//! `min.insync.replicas`); the quorum arithmetic in the manner of etcd raft.
#![forbid(unsafe_code)]

mod assignment;
mod election;
mod follower;
mod high_watermark;
mod isr;
mod leader;
mod placement;
mod positions;
mod progress;
pub mod quorum;
mod replica;
pub mod sabotage;

#[cfg(test)]
mod model;
#[cfg(all(fuzzing, not(test)))]
pub mod model;

pub use assignment::{AckRule, Assignment, Domain};
pub use election::{choose_leader, choose_unclean_leader, eligible_after};
pub use follower::{FollowerReplica, FollowerStep, LeaderNews, NewsRefused};
pub use high_watermark::choose_high_watermark;
pub use isr::{InSyncReplicas, IsrProposal, StaleIsr};
pub use leader::{
    Durability, Effect, FetchRefused, FollowerFetch, IsrWish, LeaderOptions, LeaderReplica,
};
pub use placement::{Candidate, choose_replicas};
pub use positions::Positions;
pub use progress::Progress;
pub use replica::{Replica, ReplicaSettings, Role, RoleChange};
