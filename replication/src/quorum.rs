//! The metadata quorum as a value: Raft, by the `raft` crate, over a log that its owner keeps.
//!
//! The owner tells it what happened (`on_tick`, `on_message`, `on_peer_lost`, `propose`), and then
//! drains it:
//!
//! ```text
//! while let Some(step) = quorum.poll() {
//!     send(step.messages);                  // a leader's entries may leave before they are durable
//!     write_and_sync(step.persist);         // entries, vote, snapshot
//!     let done = quorum.on_persisted();
//!     send(done.messages);                  // promises leave only now
//!     apply(done.snapshot, done.committed);
//! }
//! ```
//!
//! Nothing here has a clock, a file, a socket or chance: the same inputs and seed give the same
//! outputs. Sources: Ongaro's Raft with its pre-vote (§9.6 of the thesis) and leader leases by
//! check-quorum (§6.2), as TiKV's crate implements them.

mod convert;
mod entry;
mod guard;
mod message;
mod node;
mod raft_ids;
mod step;
mod store;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use entry::{
    HardState, LogEntry, MalformedBytes, Membership, MembershipChange, Payload, QuorumSnapshot,
};
pub use node::Quorum;
pub use vocabulary::{
    MessageError, Persist, ProposeError, Proposed, QuorumDone, QuorumOptions, QuorumRole,
    QuorumStatus, QuorumStep, RecoveredQuorum,
};
