//! Between our own words and those of the raft crate, which keeps membership changes as protobuf
//! inside its entries: those bytes are made and read here, in this process, and nowhere else.

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType};
use varve_protocol::vocabulary::BrokerId;

use super::entry::{LogEntry, Membership, MembershipChange, Payload};
use super::raft_ids::{broker_id, raft_id};

/// An entry as the raft crate takes it.
pub(super) fn raft_entry(entry: &LogEntry) -> Entry {
    let mut out = Entry { index: entry.index, term: entry.term, ..Entry::default() };
    match &entry.payload {
        Payload::Empty => {}
        Payload::Data(data) => out.data = data.clone(),
        Payload::Membership(change) => {
            out.set_entry_type(EntryType::EntryConfChange);
            let bytes = conf_change(*change).write_to_bytes();
            out.data = bytes.expect("a message without required fields is whole").into();
        }
    }
    out
}

/// An entry of the raft crate in our own words.
///
/// # Panics
/// When a membership change holds bytes that [`raft_entry`] or a proposal of this process did not
/// make.
pub(super) fn entry_of(entry: &Entry) -> LogEntry {
    let payload = match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => Payload::Empty,
        EntryType::EntryNormal => Payload::Data(entry.data.clone()),
        EntryType::EntryConfChange => Payload::Membership(change_of(&entry.data)),
        EntryType::EntryConfChangeV2 => panic!("joint membership changes are never proposed"),
    };
    LogEntry { index: entry.index, term: entry.term, payload }
}

/// A membership change as the raft crate takes it.
pub(super) fn conf_change(change: MembershipChange) -> ConfChange {
    let (kind, broker) = match change {
        MembershipChange::AddVoter(broker) => (ConfChangeType::AddNode, broker),
        MembershipChange::AddLearner(broker) => (ConfChangeType::AddLearnerNode, broker),
        MembershipChange::Remove(broker) => (ConfChangeType::RemoveNode, broker),
    };
    let mut out = ConfChange::default();
    out.set_change_type(kind);
    out.node_id = raft_id(broker);
    out
}

fn change_of(bytes: &[u8]) -> MembershipChange {
    let mut change = ConfChange::default();
    change.merge_from_bytes(bytes).expect("this process made these bytes");
    let broker = broker_id(change.node_id).unwrap_or(BrokerId(0));
    match change.get_change_type() {
        ConfChangeType::AddNode => MembershipChange::AddVoter(broker),
        ConfChangeType::AddLearnerNode => MembershipChange::AddLearner(broker),
        ConfChangeType::RemoveNode => MembershipChange::Remove(broker),
    }
}

/// A membership as the raft crate takes it.
pub(super) fn conf_state(membership: &Membership) -> ConfState {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| raft_id(*broker)).collect();
    ConfState {
        voters: ids(&membership.voters),
        learners: ids(&membership.learners),
        ..ConfState::default()
    }
}

/// A membership of the raft crate in our own words.
pub(super) fn membership_of(state: &ConfState) -> Membership {
    let brokers = |ids: &[u64]| {
        let mut brokers: Vec<BrokerId> = ids.iter().filter_map(|id| broker_id(*id)).collect();
        brokers.sort_unstable();
        brokers
    };
    Membership { voters: brokers(&state.voters), learners: brokers(&state.learners) }
}
