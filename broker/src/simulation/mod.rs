//! One broker without threads, sockets and clocks: the real cores, put together as a value.
//!
//! The simulator in `varve-tests` steps it, and so does `varve-test`, the cluster in memory for tests
//! of clients; both share the [`network`] between such brokers and the source of [`random`] numbers.
//! Everything that decides is the code that a broker runs: the metadata's member, planner, finisher
//! and liveness; the shard with its partitions, logs and replicas; the plans and sessions of
//! replication; the coordinators of groups; the handlers of what the metadata decides. What is
//! written anew here is only what a broker leaves to its tasks: when to speak, when to wait, when to
//! ask again.
//!
//! ```text
//! on_time, on_packet, on_connected, produce … ──► SteppedBroker ──► poll_output: packets, answers,
//!                                                                  work that takes time
//! ```
//!
//! No command uses it, so that the linker leaves it out of the binary. It is no feature: builds of
//! the broker alone and along with its tests are the same, and done once.

mod broker;
mod following;
mod leading;
mod membership;
pub mod network;
mod options;
mod questions;
pub mod random;
mod seats;
mod shard;
pub mod trace;
mod view;
mod wire;
mod wishes;
mod witness;

pub use crate::handlers::error_table::{batch_error, produce_error};
pub use broker::{Served, SteppedBroker};
pub use options::{BrokerOptions, StartError, Work};
pub use questions::{ClusterAnswer, ClusterQuestion};
pub use seats::{GroupAnswer, GroupRequest};
pub use view::{CoordinatorView, GroupView, MetadataView, ReplicaView};
pub use wire::{ConnectionId, Lane, Output, Packet};
pub use witness::{LogWitness, WitnessedEntry};
