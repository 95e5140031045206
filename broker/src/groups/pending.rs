//! What waits for an append to be durable.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;

use super::ids::{GroupId, MemberId, Token};
use super::member::Member;
use super::offsets::{Committed, Positions};

/// The continuation of an append.
#[derive(Debug)]
pub(super) enum Pending {
    /// Offsets become visible and the request is answered.
    Commit { group: GroupId, offsets: Vec<(String, i32, Committed)>, token: Token },
    /// The join phase goes on: generations up to a stride above this one may be given out.
    Reserve { group: GroupId, generation: i32 },
    /// The group becomes stable with these assignments.
    Assignment { group: GroupId, generation: i32, assignments: BTreeMap<MemberId, Bytes> },
    /// A static member has been replaced.
    Replacement(Box<Replacement>),
    /// A group without members has been noted.
    Emptied { group: GroupId, generation: i32 },
    /// The group is forgotten.
    DeleteGroup { group: GroupId, token: Option<Token> },
    /// These offsets are forgotten.
    RemoveOffsets { group: GroupId, offsets: Positions, token: Option<Token> },
}

/// A static member that came back under a new member id.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) group: GroupId,
    pub(super) generation: i32,
    /// The member as it was, restored when the append fails.
    pub(super) old: Member,
    pub(super) new_id: MemberId,
    pub(super) token: Token,
    /// The leader before the replacement; versions without `skip_assignment` are told that one, so
    /// that a returning leader does not assign anew.
    pub(super) old_leader: String,
    pub(super) supports_skipping_assignment: bool,
}

/// What a commit is answered when its append failed, as Kafka maps it.
pub(super) fn commit_error(append: ErrorCode) -> ErrorCode {
    match append {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::InvalidCommitOffsetSize,
        other => other,
    }
}

/// What members are answered when their group's metadata could not be stored, as Kafka maps it.
pub(super) fn metadata_error(append: ErrorCode) -> ErrorCode {
    match commit_error(append) {
        ErrorCode::InvalidCommitOffsetSize => ErrorCode::UnknownServerError,
        other => other,
    }
}
