//! What a quorum is made from, what its steps give and what it says of itself.

use bytes::Bytes;
use thiserror::Error;
use varve_protocol::vocabulary::BrokerId;

use super::entry::{HardState, LogEntry, MalformedBytes, Membership, QuorumSnapshot};

/// How a quorum is set up.
#[derive(Clone, Debug)]
pub struct QuorumOptions {
    /// This broker.
    pub id: BrokerId,
    /// Those who vote as long as the log says nothing else; the same on every broker.
    pub voters: Vec<BrokerId>,
    /// A leader that is silent for so many ticks, to twice as many, is given up.
    pub election_ticks: usize,
    /// Between two heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// Decides the spread of elections; the same seed gives the same run.
    pub seed: u64,
}

/// What lay on the disk.
#[derive(Clone, Debug, Default)]
pub struct RecoveredQuorum {
    /// The hard state; none in a log of before there was a quorum.
    pub hard_state: Option<HardState>,
    /// The newest snapshot.
    pub snapshot: Option<QuorumSnapshot>,
    /// The entries after it.
    pub entries: Vec<LogEntry>,
}

/// What a step begins with.
#[derive(Debug, Default)]
pub struct QuorumStep {
    /// Messages that may leave before anything is durable.
    pub messages: Vec<(BrokerId, Bytes)>,
    /// What must be durable before [`Quorum::on_persisted`](super::Quorum::on_persisted) is called.
    pub persist: Option<Persist>,
    /// The last round of [`Quorum::confirm`](super::Quorum::confirm) in which a majority has answered:
    /// this broker led after that call.
    pub confirmed: Option<u64>,
}

/// What is to be written and synced, in this order: the snapshot, then the entries, then the hard
/// state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// A leader's snapshot; it replaces all entries.
    pub snapshot: Option<QuorumSnapshot>,
    /// New entries. Entries at or behind the first of them are void before it is written.
    pub entries: Vec<LogEntry>,
    /// The hard state.
    pub hard_state: Option<HardState>,
    /// The hard state is worth a sync of its own: what it says is committed has changed the members, by
    /// whom elections are counted, or it ends an abstention. Otherwise how much is committed is not.
    pub is_kept: bool,
}

/// What a step ends with.
#[derive(Debug, Default)]
pub struct QuorumDone {
    /// Messages that may leave now.
    pub messages: Vec<(BrokerId, Bytes)>,
    /// A state that replaces what was applied.
    pub snapshot: Option<QuorumSnapshot>,
    /// Entries to apply, in order.
    pub committed: Vec<LogEntry>,
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumRole {
    /// The term.
    pub term: u64,
    /// Its leader, if it is known.
    pub leader: Option<BrokerId>,
    /// Whether that is this broker.
    pub is_leader: bool,
}

/// How far the quorum is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    /// Term and leader.
    pub role: QuorumRole,
    /// The last committed entry.
    pub commit: u64,
    /// The last entry that was handed out to be applied.
    pub applied: u64,
    /// The last entry.
    pub last: u64,
    /// Who takes part.
    pub membership: Membership,
    /// Who voted at the beginning of the log.
    pub first_voters: Vec<BrokerId>,
    /// On the leader: the last entry that each member is known to have.
    pub matched: Vec<(BrokerId, u64)>,
}

/// A proposal that was taken. It is decided when an entry of this index is committed: taken if its
/// term is this one, void otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposed {
    /// The term.
    pub term: u64,
    /// The place.
    pub index: u64,
}

/// Why a proposal is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// This broker does not lead.
    #[error("this broker does not lead the quorum")]
    NotLeader,
    /// Too much waits to be committed, or leadership is being handed over.
    #[error("the quorum takes no proposals right now")]
    Busy,
    /// Another membership change is under way.
    #[error("another change of the quorum's members is under way")]
    MembershipPending,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// It does not decode.
    #[error("a malformed message: {0}")]
    Malformed(#[from] MalformedBytes),
    /// It is for another broker.
    #[error("a message for another broker")]
    Misdirected,
    /// Its sender is not who it says.
    #[error("a message in another broker's name")]
    Forged,
    /// No broker sends such a message to another.
    #[error("a message that brokers do not send to each other")]
    Local,
    /// It contradicts what is known here: its sender, or this broker, has lost a part of its log.
    #[error("a message that contradicts this broker's log: {0}")]
    Contradiction(&'static str),
}
