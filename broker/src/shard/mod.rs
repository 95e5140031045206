//! Log shards: OS threads that own partitions, and the handles by which everybody else uses them.
//!
//! - `core`: a shard as a value, stepped by the thread or by a simulator.
//! - `thread`: the shell around it. `handle`: the way in for handlers. `watch`: long polls.
//!
//! ```text
//! handlers ── bounded queue ──► shard thread ── CommitJob ──► sync thread
//!     ▲                            │   ▲                           │
//!     └── oneshot, high watermark ─┘   └──────── CommitDone ───────┘
//! ```

mod append;
mod command;
mod core;
mod deletion;
mod handle;
mod outboxes;
mod replica;
mod requests;
mod stamps;
mod start;
mod thread;
mod watch;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod tests;

pub(crate) use append::{StartedAppend, start_append};
pub(crate) use command::FollowerLag;
pub use command::{AppendAnswer, DeleteRecordsError, ProduceError};
pub(crate) use deletion::StartedDeletion;
pub use handle::{AttachedOutbox, PartitionHandle, Partitions, Watching};
pub use replica::{
    DurableProgress, FetchPosition, Fetched, FollowerProgress, IsrAnswer, IsrVerdict, Outbox,
    PartitionRole, ProposedIsr, ReplicaAppend, ReplicaAppendError, ReplicaEvents, ReplicaPlace,
    RoleName, RoleView,
};
pub use start::ShardError;
pub(crate) use start::{ShardSettings, Shards};
pub use watch::Waiter;

pub(crate) use self::core::{CoreSettings, Now, ShardCore};
pub(crate) use command::{AppendItem, Command, Effect, NewLog, Outcome};
