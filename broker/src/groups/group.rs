//! One group: its state, its members, the vote for a protocol.
//!
//! What the requests do to it stands in `join`, `sync`, `membership` and `commit`; this file holds
//! the value and what must stay true of it. Source: Kafka's classic group protocol (KIP-62, 345,
//! 394), `ClassicGroup`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TimestampMs;

use super::effect::{JoinAnswer, JoinedMember, Now, RebalanceCause, Step, SyncAnswer};
use super::ids::{AppendId, GroupId, MemberId, Token};
use super::member::{Member, Protocol, Session};
use super::offsets::Offsets;
use super::records::{CoordinatorRecord, GroupMetadata, MemberMetadata};
use super::subscription;
use super::timers::{Millis, Timer};

/// How many generations may be given out above the last one that the log knows.
///
/// JoinGroup answers with a new generation before anything of it is stored. A coordinator that
/// loads the group therefore goes on a whole stride above the stored generation, so that none is
/// ever given out twice (invariant B3).
pub(super) const GENERATION_STRIDE: i32 = 64;

/// Where a group stands.
///
/// ```text
///             first join                        all joined, or the rebalance timeout
///   Empty ────────────────► PreparingRebalance ──────────────────► CompletingRebalance
///     ▲ │                     ▲    │    ▲  ▲                          │           │
///     │ │ all members gone    │    │    │  └──────────────────────────┘           │ leader's assignment
///     │ └─────────────────────┼────┘    │   join, leave, expiry, failed append     │ is durable
///     │  delete, expiry       │         │                                          ▼
///     ▼                       │         └───────────────────────────────────── Stable
///   Dead                      └ join or leave of a member, expiry, leader's rejoin
/// ```
#[derive(Debug)]
pub(super) enum State {
    /// Nobody is in it; it may hold offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance(JoinPhase),
    /// The generation is made; the leader's assignment is awaited.
    CompletingRebalance {
        /// Who has not asked for its assignment.
        sync: SyncPhase,
        /// The append that stores the assignment.
        storing: Option<AppendId>,
    },
    /// Everybody has an assignment.
    Stable(SyncPhase),
    /// Its end is being written.
    Dead,
}

/// The join phase.
#[derive(Debug)]
pub(super) struct JoinPhase {
    /// The phase ends then, or the initial delay is looked at again.
    pub(super) deadline: Option<Millis>,
    /// Set in the first rebalance of an empty group, which waits for more members.
    pub(super) initial: Option<InitialDelay>,
    /// The phase is over and waits for the generation's reservation.
    pub(super) reserving: bool,
}

/// The initial delay of an empty group.
#[derive(Debug)]
pub(super) struct InitialDelay {
    pub(super) delay_ms: i64,
    pub(super) remaining_ms: i64,
    pub(super) member_added: bool,
}

/// Who still has to call SyncGroup in this generation, and until when.
#[derive(Debug, Default)]
pub(super) struct SyncPhase {
    pub(super) unsynced: BTreeSet<MemberId>,
    pub(super) deadline: Option<Millis>,
}

/// A state's name, as DescribeGroups and ListGroups spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateName {
    /// `Empty`
    Empty,
    /// `PreparingRebalance`
    PreparingRebalance,
    /// `CompletingRebalance`
    CompletingRebalance,
    /// `Stable`
    Stable,
    /// `Dead`
    Dead,
}

impl StateName {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Empty,
        Self::PreparingRebalance,
        Self::CompletingRebalance,
        Self::Stable,
        Self::Dead,
    ];

    /// The wire's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// Somebody who was given a member id and has not joined with it yet (KIP-394).
#[derive(Debug, Default)]
pub(super) struct PendingMember {
    pub(super) session: Session,
}

/// A classic group.
#[derive(Debug)]
pub struct Group {
    pub(super) id: GroupId,
    pub(super) state: State,
    pub(super) generation: i32,
    /// The highest generation that the log holds; `None` when the log does not know the group.
    pub(super) persisted_generation: Option<i32>,
    /// The next generation is at least this.
    pub(super) generation_floor: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    /// Invariant: a member whenever there are members.
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    /// Instance id to member id. Invariant: the members with instance ids, each once.
    pub(super) static_members: BTreeMap<String, MemberId>,
    pub(super) pending_members: BTreeMap<MemberId, PendingMember>,
    /// How many members support a protocol.
    supported: BTreeMap<String, usize>,
    /// Topics that the members subscribe to, where that can be known.
    pub(super) subscribed: Option<BTreeSet<String>>,
    /// Since when it is in its state, by the wall clock.
    pub(super) state_since: Option<TimestampMs>,
    pub(super) offsets: Offsets,
    /// How many rebalances began while this coordinator had the group.
    pub(super) rebalances: BTreeMap<RebalanceCause, u64>,
    next_seniority: u64,
}

impl Group {
    /// A group that nobody knows of.
    pub(super) fn new(id: GroupId, now: Now) -> Self {
        Self {
            id,
            state: State::Empty,
            generation: 0,
            persisted_generation: None,
            generation_floor: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            supported: BTreeMap::new(),
            subscribed: None,
            state_since: Some(now.wall),
            offsets: Offsets::default(),
            rebalances: BTreeMap::new(),
            next_seniority: 0,
        }
    }

    /// Its state's name.
    #[must_use]
    pub fn state(&self) -> StateName {
        match self.state {
            State::Empty => StateName::Empty,
            State::PreparingRebalance(_) => StateName::PreparingRebalance,
            State::CompletingRebalance { .. } => StateName::CompletingRebalance,
            State::Stable(_) => StateName::Stable,
            State::Dead => StateName::Dead,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The present generation.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The kind of group; `None` when it only holds offsets.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The chosen protocol.
    #[must_use]
    pub fn protocol_name(&self) -> Option<&str> {
        self.protocol_name.as_deref()
    }

    /// The members, ordered by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// Its committed offsets.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// How many rebalances began while this coordinator had the group, by their cause.
    #[must_use]
    pub fn rebalances(&self) -> &BTreeMap<RebalanceCause, u64> {
        &self.rebalances
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead)
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    pub(super) fn transition(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_since = Some(now.wall);
    }

    /// How long a rebalance waits: the longest that any member asks for.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|member| i64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    /// Whether everybody, and everybody announced, has joined.
    pub(super) fn all_joined(&self) -> bool {
        self.pending_members.is_empty()
            && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    pub(super) fn awaiting_join_count(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    /// The member check that every request makes.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(owner) if **owner != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether somebody with these protocols can be in this group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if matches!(self.state, State::Empty) {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.is_candidate(&protocol.name))
    }

    fn is_candidate(&self, protocol: &str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol with the most votes among those that all members support. Each member votes for
    /// its first; a tie goes to the one that the leader likes better.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|protocol| self.is_candidate(&protocol.name));
            if let Some(choice) = choice {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader))?;
        leader
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .find(|name| votes.get(name) == Some(&most))
            .map(str::to_owned)
    }

    pub(super) fn add_member(&mut self, mut member: Member) {
        if self.members.is_empty() {
            self.supported.clear();
        }
        member.seniority = self.next_seniority;
        self.next_seniority += 1;
        for protocol in &member.protocols {
            *self.supported.entry(protocol.name.clone()).or_default() += 1;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.pending_members.remove(&member.id);
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        let earlier = self.members.insert(member.id.clone(), member);
        assert!(earlier.is_none(), "a member joins once");
    }

    /// Takes a member out; what it waits for is answered with UNKNOWN_MEMBER_ID, so that a client
    /// that is still there joins anew.
    pub(super) fn remove_member(&mut self, step: &mut Step<'_>, member_id: &str) -> bool {
        self.pending_members.remove(member_id);
        let Some(member) = self.take_member(member_id) else { return false };
        if let Some(token) = member.awaiting_join {
            step.join(token, JoinAnswer::error(ErrorCode::UnknownMemberId, ""));
        }
        if let Some(token) = member.awaiting_sync {
            step.sync(token, SyncAnswer::error(ErrorCode::UnknownMemberId));
        }
        if let State::CompletingRebalance { sync, .. } | State::Stable(sync) = &mut self.state {
            sync.unsynced.remove(&member.id);
        }
        true
    }

    /// Takes a member out and keeps its waiting tokens.
    pub(super) fn take_member(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.forget_protocols(&member.protocols);
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(&member.id)
        {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.eldest(|_| true);
        }
        Some(member)
    }

    fn forget_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supported.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
    }

    /// What a joining member brings replaces what it brought before.
    pub(super) fn update_member(
        &mut self,
        member_id: &str,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let member = self.members.get_mut(member_id).expect("the caller has found the member");
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let earlier = std::mem::replace(&mut member.protocols, protocols.clone());
        self.forget_protocols(&earlier);
        for protocol in protocols {
            *self.supported.entry(protocol.name).or_default() += 1;
        }
    }

    /// Makes the request the one that the member waits with. An earlier one, of a connection that
    /// the client has given up, is told to try again.
    pub(super) fn await_join(&mut self, step: &mut Step<'_>, member_id: &str, token: Token) {
        let member = self.members.get_mut(member_id).expect("the caller has found the member");
        if let Some(earlier) = member.awaiting_join.replace(token) {
            step.join(earlier, JoinAnswer::error(ErrorCode::RebalanceInProgress, member_id));
        }
    }

    /// As [`Group::await_join`], for SyncGroup.
    pub(super) fn await_sync(&mut self, step: &mut Step<'_>, member_id: &str, token: Token) {
        let member = self.members.get_mut(member_id).expect("the caller has found the member");
        if let Some(earlier) = member.awaiting_sync.replace(token) {
            step.sync(earlier, SyncAnswer::error(ErrorCode::RebalanceInProgress));
        }
    }

    fn eldest(&self, wanted: impl Fn(&Member) -> bool) -> Option<MemberId> {
        self.members
            .values()
            .filter(|member| wanted(member))
            .min_by_key(|member| member.seniority)
            .map(|member| member.id.clone())
    }

    /// Makes sure that the leader has joined; false when nobody has.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |member: &Member| member.awaiting_join.is_some();
        let present = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if present.is_some_and(has_joined) {
            return true;
        }
        match self.eldest(has_joined) {
            Some(leader) => {
                self.leader = Some(leader);
                true
            }
            None => false,
        }
    }

    /// The member list for the leader.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        self.members.values().map(|member| member.joined(protocol)).collect()
    }

    /// What a member of the present generation is told; the list goes to the leader only.
    pub(super) fn join_answer(&self, member_id: &str) -> JoinAnswer {
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if self.is_leader(member_id) { self.joined_members() } else { Vec::new() },
        }
    }

    pub(super) fn sync_answer(&self, assignment: Bytes) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment,
        }
    }

    /// Starts a member's session anew.
    pub(super) fn extend_session(&mut self, step: &mut Step<'_>, member_id: &str, ms: i64) {
        let deadline = step.now.monotonic.after(ms);
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(at) = member.session.extend(deadline) {
            step.out.timers.arm(at, Timer::Session(self.id.clone(), member.id.clone()));
        }
    }

    /// Starts a member's session anew with its own timeout.
    pub(super) fn heard_of(&mut self, step: &mut Step<'_>, member_id: &str) {
        let Some(member) = self.members.get(member_id) else { return };
        let timeout = i64::from(member.session_timeout_ms);
        self.extend_session(step, member_id, timeout);
    }

    /// The union of the members' subscriptions; `None` when this is not a group of consumers, or
    /// somebody's metadata cannot be read.
    pub(super) fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(subscription::CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().is_some_and(|topics| topics.contains(topic))
    }

    /// The group as it is stored, with these assignments; members that are not in them have none.
    pub(super) fn metadata_record(
        &self,
        assignments: &BTreeMap<MemberId, Bytes>,
    ) -> CoordinatorRecord {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: assignments.get(&member.id).cloned().unwrap_or_default(),
        });
        self.record(members.collect())
    }

    /// The group as it is stored when nobody is in its generation.
    pub(super) fn empty_record(&self) -> CoordinatorRecord {
        self.record(Vec::new())
    }

    fn record(&self, members: Vec<MemberMetadata>) -> CoordinatorRecord {
        let is_empty = members.is_empty();
        CoordinatorRecord::GroupMetadata {
            group: self.id.to_string(),
            value: Some(GroupMetadata {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation: self.generation,
                protocol: if is_empty { None } else { self.protocol_name.clone() },
                leader: if is_empty { None } else { self.leader.as_deref().map(str::to_owned) },
                state_since: self.state_since,
                members,
            }),
        }
    }

    /// Checks what must be true between two inputs.
    ///
    /// # Panics
    /// When a bug has broken it.
    pub fn assert_invariants(&self) {
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "a leader is a member");
        if let Some(leader) = &self.leader {
            assert!(self.members.contains_key(leader), "the leader is a member");
        }
        for (instance_id, member_id) in &self.static_members {
            let member = self.members.get(member_id);
            assert_eq!(
                member.and_then(|member| member.instance_id.as_deref()),
                Some(instance_id.as_str()),
                "an instance id belongs to a member"
            );
        }
        if matches!(self.state, State::Empty | State::Dead) {
            assert!(self.members.is_empty(), "nobody is in an empty group");
        } else {
            assert!(!self.members.is_empty(), "somebody is in a group that is not empty");
        }
        for member in self.members.values() {
            let is_preparing = matches!(self.state, State::PreparingRebalance(_));
            assert!(!is_preparing || member.awaiting_sync.is_none(), "a rebalance ends waiting");
            for protocol in &member.protocols {
                assert!(self.supported.contains_key(&protocol.name), "protocols are counted");
            }
        }
    }
}
