//! Replication over the wire: what carries records from leaders' logs to followers' shards.
//!
//! Shards decide what their replicas do; here it is only carried (see `shard`'s words).
//!
//! - Leader: `session` (what one follower's shard wants and has been told; a value), `outbox` (which of
//!   its partitions have grown), `serve` (reads them and answers).
//! - Follower: `plan` (what to ask next; a value), `fetcher` (one task and one connection for each
//!   leader and own shard), `carrier` (hands the shards' wishes to the fetchers).
//! - `isr_proposer`: leaders' wishes for other in-sync sets, asked of the controller.
//!
//! ```text
//! leader's shard ─ mark ─► outbox ─► serve: slices of the log ─ sendfile ─► fetcher
//!       ▲                                                                     │ replica_append
//!       │ follower_progress                                          follower's shard
//!       └───────────── ReplicaProgress ◄── fetcher ◄── on_follower_durable ───┘
//! ```
//!
//! There is no timer on a record's way: the outbox wakes the waiting fetch, the appended answer wakes
//! the next fetch, the group commit wakes the progress message.

mod carrier;
mod fetcher;
pub(crate) mod isr_proposer;
mod outbox;
pub(crate) mod plan;
pub(crate) mod serve;
pub(crate) mod session;
mod throttle;

#[cfg(test)]
mod tests;

pub(crate) use carrier::ReplicaCarrier;
pub(crate) use isr_proposer::{IsrController, IsrWishes, propose};
pub(crate) use serve::LeaderSession;
pub(crate) use throttle::{FetchLimits, ReplicationThrottle};
