//! What a coordinator asks of the world, and the answers that it gives late.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TimestampMs;

use super::ids::{AppendId, GroupId, MemberId, Token};
use super::pending::Pending;
use super::records::CoordinatorRecord;
use super::settings::GroupSettings;
use super::timers::{Millis, Timers};

/// The two clocks at one moment: durations are measured on the monotonic one, so that a jump of
/// the wall clock expires nobody; records carry the wall clock's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub monotonic: Millis,
    /// The wall clock.
    pub wall: TimestampMs,
}

/// One thing that the core asks for. Effects are carried out in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer the request that came with this token.
    Answer {
        /// Which request.
        token: Token,
        /// What to say.
        answer: Answer,
    },
    /// Append these records, as one batch, to the coordinator's partition, and report with
    /// `on_appended` when they are durable as `acks=all` promises it, or have failed.
    Append {
        /// Which append.
        id: AppendId,
        /// What to append.
        records: Vec<CoordinatorRecord>,
    },
    /// Something worth a log line or a count.
    Event(GroupEvent),
}

/// A late answer, by kind of request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To JoinGroup.
    Join(JoinAnswer),
    /// To SyncGroup.
    Sync(SyncAnswer),
    /// To OffsetCommit, for all partitions that the core was given.
    Commit(ErrorCode),
    /// To DeleteGroups or OffsetDelete, for the whole of what the core was asked.
    Delete(ErrorCode),
}

/// What JoinGroup is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinAnswer {
    /// Success or reason.
    pub error: ErrorCode,
    /// The generation, or −1.
    pub generation: i32,
    /// The kind of group.
    pub protocol_type: Option<String>,
    /// The protocol that the vote chose.
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// Whether the leader may leave the assignment as it is.
    pub skip_assignment: bool,
    /// The asking member's id.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its static instance id.
    pub group_instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// What SyncGroup is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncAnswer {
    /// Success or reason.
    pub error: ErrorCode,
    /// The kind of group.
    pub protocol_type: Option<String>,
    /// The chosen protocol.
    pub protocol_name: Option<String>,
    /// The leader's bytes for this member, as they came.
    pub assignment: Bytes,
}

impl SyncAnswer {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

/// Why a rebalance begins, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceCause {
    /// A member came.
    Joined,
    /// A member asked for it, or came back with other subscriptions.
    JoinedAgain,
    /// A member left in order.
    Left,
    /// A member was not heard of in time.
    Expired,
    /// Members did not ask for their assignment in time.
    NotSynced,
    /// A static member came back as another process, with other subscriptions.
    Replaced,
    /// The assignment could not be stored.
    NotStored,
}

impl RebalanceCause {
    /// All causes.
    pub const ALL: [Self; 7] = [
        Self::Joined,
        Self::JoinedAgain,
        Self::Left,
        Self::Expired,
        Self::NotSynced,
        Self::Replaced,
        Self::NotStored,
    ];

    /// A word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::JoinedAgain => "joined_again",
            Self::Left => "left",
            Self::Expired => "expired",
            Self::NotSynced => "not_synced",
            Self::Replaced => "replaced",
            Self::NotStored => "not_stored",
        }
    }
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// A join phase began.
    RebalanceStarted {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// An assignment is stored and given out.
    RebalanceCompleted {
        /// Which group.
        group: GroupId,
        /// Its generation.
        generation: i32,
        /// How many members it has.
        members: usize,
    },
    /// The last member went.
    GroupEmptied {
        /// Which group.
        group: GroupId,
        /// Its generation.
        generation: i32,
    },
    /// A member was not heard of in time.
    MemberExpired {
        /// Which group.
        group: GroupId,
        /// Which member.
        member: MemberId,
    },
    /// Offsets were committed.
    OffsetsCommitted {
        /// How many partitions.
        count: usize,
    },
    /// Offsets outlived their retention.
    OffsetsExpired {
        /// Which group.
        group: GroupId,
        /// How many partitions.
        count: usize,
    },
}

/// Where inputs leave what they decide: effects, deadlines, and appends under way.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) effects: VecDeque<Effect>,
    pub(super) timers: Timers,
    /// Invariant: keys are below `next_append`; they leave in order.
    pub(super) appends: BTreeMap<AppendId, Pending>,
    next_append: u64,
}

/// One input being worked on.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a GroupSettings,
    pub(super) out: &'a mut Outbox,
}

impl Step<'_> {
    pub(super) fn join(&mut self, token: Token, answer: JoinAnswer) {
        self.answer(token, Answer::Join(answer));
    }

    pub(super) fn sync(&mut self, token: Token, answer: SyncAnswer) {
        self.answer(token, Answer::Sync(answer));
    }

    pub(super) fn answer(&mut self, token: Token, answer: Answer) {
        self.out.effects.push_back(Effect::Answer { token, answer });
    }

    pub(super) fn event(&mut self, event: GroupEvent) {
        self.out.effects.push_back(Effect::Event(event));
    }

    /// Asks for an append; `pending` is what its completion continues.
    pub(super) fn append(&mut self, pending: Pending, records: Vec<CoordinatorRecord>) -> AppendId {
        assert!(!records.is_empty(), "an append carries records");
        let id = AppendId(self.out.next_append);
        self.out.next_append += 1;
        self.out.appends.insert(id, pending);
        self.out.effects.push_back(Effect::Append { id, records });
        id
    }
}
