//! What a message may say, given this broker's log. The raft crate ends the process where a log
//! contradicts another; a message that would lead to that is refused instead, since who sends it may
//! have lost its disk, or may not be who it says.

use raft::eraftpb::{ConfState, Message, MessageType};
use raft::{Raft, Storage};

/// # Errors
/// What is wrong with it.
pub(super) fn check_message<S: Storage>(
    raft: &Raft<S>,
    message: &Message,
) -> Result<(), &'static str> {
    match message.msg_type {
        MessageType::MsgHeartbeat if message.commit > raft.raft_log.last_index() => {
            Err("more is committed than this broker has")
        }
        MessageType::MsgAppend => check_entries(raft, message),
        MessageType::MsgSnapshot => {
            check_members(message.get_snapshot().get_metadata().get_conf_state())
        }
        MessageType::MsgAppendResponse if message.term == raft.term => {
            let last = raft.raft_log.last_index();
            if message.index > last || message.reject_hint > last {
                return Err("a follower has more than its leader");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Messages by which brokers elect a leader.
pub(super) fn is_for_election(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgRequestVote
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgTimeoutNow
    )
}

fn check_entries<S: Storage>(raft: &Raft<S>, message: &Message) -> Result<(), &'static str> {
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in &message.entries {
        if Some(entry.index) != index.checked_add(1) {
            return Err("its entries do not follow each other");
        }
        if entry.term < term || entry.term > message.term {
            return Err("the terms of its entries fall, or are later than its own");
        }
        (index, term) = (entry.index, entry.term);
        let is_committed = entry.index <= raft.raft_log.committed;
        // What a snapshot stands for has no terms any more.
        if is_committed && raft.raft_log.term(entry.index).is_ok_and(|own| own != entry.term) {
            return Err("it has another entry where one is committed");
        }
    }
    Ok(())
}

fn check_members(members: &ConfState) -> Result<(), &'static str> {
    let mut all: Vec<u64> = members.voters.iter().chain(&members.learners).copied().collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    if members.voters.is_empty() || all.len() != count || all.first() == Some(&0) {
        return Err("a snapshot of a quorum that cannot be");
    }
    Ok(())
}

/// The kinds of message that go from one broker to another.
pub(super) fn is_between_brokers(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgAppend
            | MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgSnapshot
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgTimeoutNow
    )
}
