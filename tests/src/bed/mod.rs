//! The fault bed: real broker processes, each on a host of its own (a network namespace and a disk that the bed makes), clients
//! that write down all that they do and see, faults of all kinds, and the [judge](crate::judge) after each.
//!
//! ```text
//! enclosure ─┬─ network ── hosts ── brokers          round: fault strikes, holds, is healed
//!            └─ crew of clients ── scribe ─ history     └─► within a bound: all replicas in sync, all clients go on,
//!                                                           everything answered, read whole, judged
//! ```
//! A *life* is a cluster and its history; a life has some rounds, at the end of which the replicas' bytes are compared and the
//! history's file is read back and judged once more.
//!
//! What a machine cannot do is left out and named. What goes wrong in the bed itself is a panic, after which nothing is left
//! ([`enclosure`]).

pub mod clients;
pub mod disk;
pub mod enclosure;
mod fault;
mod faults;
pub mod fleet;
pub mod host;
mod life;
pub mod network;
mod payload;
mod plan;
mod round;
mod scribe;
mod table;
pub mod tool;

pub use fault::Fault;
pub use plan::{Plan, run};
pub use round::Round;
pub use scribe::{Ack, Scribe};
pub use table::table;
