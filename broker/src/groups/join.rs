//! JoinGroup, and the join phase up to the new generation.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;

use super::effect::{GroupEvent, JoinAnswer, RebalanceCause, Step};
use super::group::{GENERATION_STRIDE, Group, InitialDelay, JoinPhase, State, SyncPhase};
use super::ids::{MemberId, Token};
use super::member::{Member, Protocol, Session};
use super::pending::{Pending, Replacement, metadata_error};
use super::subscription;
use super::timers::{Millis, Timer};

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct Join {
    /// The group's id.
    pub group_id: String,
    /// The member's id, or empty.
    pub member_id: String,
    /// The id that the member gets if it has none: client id or instance id, `-`, and something
    /// that nobody can guess.
    pub new_member_id: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
    /// `consumer`, `connect`, …
    pub protocol_type: String,
    /// What the member supports, in order of preference; of equal names only the first counts.
    pub protocols: Vec<Protocol>,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// The connection's client id.
    pub client_id: String,
    /// The connection's address.
    pub client_host: String,
    /// Whether a new member must come again with the id that it is given (v4 and later, KIP-394).
    pub requires_known_member_id: bool,
    /// Whether the version has `skip_assignment` (v9 and later, KIP-814).
    pub supports_skipping_assignment: bool,
    /// Why it joins, for the log.
    pub reason: Option<String>,
}

impl Group {
    /// A member asks to be in the next generation.
    pub(super) fn on_join(&mut self, step: &mut Step<'_>, join: Join, token: Token) {
        if !self.accepts(&join.member_id, step.settings.members_max) {
            self.remove_member(step, &join.member_id);
            step.join(token, JoinAnswer::error(ErrorCode::GroupMaxSizeReached, ""));
            self.maybe_complete_join(step);
        } else if self.is_dead() {
            let error = ErrorCode::CoordinatorNotAvailable;
            step.join(token, JoinAnswer::error(error, &join.member_id));
        } else if !self.supports(&join.protocol_type, &join.protocols) {
            let error = ErrorCode::InconsistentGroupProtocol;
            step.join(token, JoinAnswer::error(error, &join.member_id));
        } else if join.member_id.is_empty() {
            self.join_new(step, join, token);
        } else if self.pending_members.contains_key(join.member_id.as_str()) {
            let member_id = join.member_id.clone();
            self.add_and_rebalance(step, join, member_id, token);
        } else {
            self.join_known(step, join, token);
        }
    }

    /// Whether there is room. While members are joining again those that wait count, so that a
    /// group above a lowered limit loses the last that come; otherwise those that are in it.
    fn accepts(&self, member_id: &str, members_max: usize) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance(_) => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.members.len() < members_max
                    || self.awaiting_join_count() < members_max
            }
            State::CompletingRebalance { .. } | State::Stable(_) => {
                member.is_some() || self.members.len() < members_max
            }
        }
    }

    fn join_new(&mut self, step: &mut Step<'_>, join: Join, token: Token) {
        let new_id = join.new_member_id.clone();
        let known = join.instance_id.as_ref().and_then(|id| self.static_members.get(id)).cloned();
        if let Some(old_id) = known {
            self.replace_static(step, join, &old_id, new_id.into(), token);
        } else if join.instance_id.is_some() || !join.requires_known_member_id {
            self.add_and_rebalance(step, join, new_id, token);
        } else if self.pending_members.len() >= step.settings.members_max {
            step.join(token, JoinAnswer::error(ErrorCode::GroupMaxSizeReached, ""));
        } else {
            let deadline = step.now.monotonic.after(i64::from(join.session_timeout_ms));
            let id: MemberId = new_id.as_str().into();
            let pending = self.pending_members.entry(id.clone()).or_default();
            if let Some(at) = pending.session.extend(deadline) {
                step.out.timers.arm(at, Timer::Session(self.id.clone(), id));
            }
            step.join(token, JoinAnswer::error(ErrorCode::MemberIdRequired, &new_id));
        }
    }

    fn join_known(&mut self, step: &mut Step<'_>, join: Join, token: Token) {
        let member_id = join.member_id.as_str();
        if let Err(error) = self.validate_member(member_id, join.instance_id.as_deref()) {
            step.join(token, JoinAnswer::error(error, member_id));
            return;
        }
        let is_unchanged = self.members[member_id].matches(&join.protocols);
        match self.state {
            State::PreparingRebalance(_) => self.update_and_rebalance(step, join, token),
            // The answer to its first join may have been lost.
            State::CompletingRebalance { .. } if is_unchanged => {
                let answer = self.join_answer(member_id);
                step.join(token, answer);
            }
            // A leader joins again when something has changed that only it can see.
            State::Stable(_) if is_unchanged && !self.is_leader(member_id) => {
                let answer = self.join_answer(member_id);
                step.join(token, answer);
            }
            State::CompletingRebalance { .. } | State::Stable(_) => {
                self.update_and_rebalance(step, join, token);
            }
            State::Empty | State::Dead => {
                step.join(token, JoinAnswer::error(ErrorCode::UnknownMemberId, member_id));
            }
        }
    }

    fn add_and_rebalance(&mut self, step: &mut Step<'_>, join: Join, id: String, token: Token) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        let id: MemberId = id.into();
        let reason = format!("member {id} joins{}", told(join.reason.as_deref()));
        self.add_member(Member {
            id: id.clone(),
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
            seniority: 0,
            session: Session::default(),
        });
        if let State::PreparingRebalance(JoinPhase { initial: Some(initial), .. }) = &mut self.state
        {
            initial.member_added = true;
        }
        self.extend_session(step, &id, step.settings.new_member_timeout_ms);
        self.rebalance(step, RebalanceCause::Joined, &reason);
    }

    fn update_and_rebalance(&mut self, step: &mut Step<'_>, join: Join, token: Token) {
        let id = join.member_id.as_str();
        let reason = format!("member {id} joins again{}", told(join.reason.as_deref()));
        let rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.update_member(id, join.protocols, rebalance_timeout_ms, join.session_timeout_ms);
        self.await_join(step, id, token);
        self.rebalance(step, RebalanceCause::JoinedAgain, &reason);
    }

    /// Begins a rebalance, or goes on with the one under way.
    pub(super) fn rebalance(&mut self, step: &mut Step<'_>, cause: RebalanceCause, reason: &str) {
        match self.state {
            State::PreparingRebalance(_) => self.maybe_complete_join(step),
            State::Dead => {}
            State::Empty | State::CompletingRebalance { .. } | State::Stable(_) => {
                self.prepare_rebalance(step, cause, reason);
            }
        }
    }

    pub(super) fn prepare_rebalance(
        &mut self,
        step: &mut Step<'_>,
        cause: RebalanceCause,
        reason: &str,
    ) {
        if matches!(self.state, State::CompletingRebalance { .. }) {
            self.reset_assignments(step, ErrorCode::RebalanceInProgress);
        }
        let delay_ms = step.settings.initial_rebalance_delay_ms;
        let is_initial = matches!(self.state, State::Empty) && delay_ms > 0;
        let initial = is_initial.then(|| InitialDelay {
            delay_ms,
            remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
            member_added: false,
        });
        let phase = JoinPhase { deadline: None, initial, reserving: false };
        let was_empty = matches!(self.state, State::Empty);
        self.transition(State::PreparingRebalance(phase), step.now);
        *self.rebalances.entry(cause).or_default() += 1;
        let event =
            GroupEvent::RebalanceStarted { group: self.id.clone(), reason: reason.to_owned() };
        step.event(event);
        if is_initial {
            self.arm_join(step, delay_ms);
        } else if was_empty || self.members.is_empty() || self.all_joined() {
            self.complete_join(step);
        } else {
            self.arm_join(step, self.rebalance_timeout_ms());
        }
    }

    fn arm_join(&mut self, step: &mut Step<'_>, ms: i64) {
        let deadline = step.now.monotonic.after(ms);
        if let State::PreparingRebalance(phase) = &mut self.state {
            phase.deadline = Some(deadline);
            step.out.timers.arm(deadline, Timer::Join(self.id.clone()));
        }
    }

    /// Ends the join phase when nobody is missing. The initial delay runs its time.
    pub(super) fn maybe_complete_join(&mut self, step: &mut Step<'_>) {
        if let State::PreparingRebalance(JoinPhase { initial: None, .. }) = self.state
            && self.all_joined()
        {
            self.complete_join(step);
        }
    }

    /// The join phase's timer came due.
    pub(super) fn on_join_timer(&mut self, step: &mut Step<'_>, entry: Millis) {
        let State::PreparingRebalance(phase) = &mut self.state else { return };
        if phase.deadline != Some(entry) {
            return;
        }
        if let Some(initial) = &mut phase.initial
            && initial.member_added
            && initial.remaining_ms > 0
        {
            initial.member_added = false;
            let elapsed_ms = initial.delay_ms;
            initial.delay_ms = step.settings.initial_rebalance_delay_ms.min(initial.remaining_ms);
            initial.remaining_ms = (initial.remaining_ms - elapsed_ms).max(0);
            let delay_ms = initial.delay_ms;
            self.arm_join(step, delay_ms);
            return;
        }
        self.complete_join(step);
    }

    /// Makes the new generation of those who have joined.
    pub(super) fn complete_join(&mut self, step: &mut Step<'_>) {
        assert!(matches!(self.state, State::PreparingRebalance(_)), "only a join phase completes");
        self.drop_absent_members(step);
        if self.members.is_empty() {
            self.become_empty(step);
            return;
        }
        if let State::PreparingRebalance(phase) = &mut self.state {
            phase.initial = None;
        }
        if !self.elect_joined_leader() {
            // Only static members are left, none of them here; their sessions decide.
            self.arm_join(step, self.rebalance_timeout_ms().max(1));
            return;
        }
        let next = self.next_generation();
        if !self.is_reserved(next) {
            self.reserve_generation(step);
            return;
        }
        self.generation = next;
        self.protocol_name = self.choose_protocol();
        assert!(self.protocol_name.is_some(), "members that were let in share a protocol");
        self.subscribed = self.compute_subscribed();
        let deadline = step.now.monotonic.after(self.rebalance_timeout_ms());
        let unsynced = self.members.keys().cloned().collect();
        let sync = SyncPhase { unsynced, deadline: Some(deadline) };
        self.transition(State::CompletingRebalance { sync, storing: None }, step.now);
        step.out.timers.arm(deadline, Timer::Sync(self.id.clone()));
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.join_answer(&id);
            let member = self.members.get_mut(&id).expect("listed above");
            member.is_new = false;
            if let Some(token) = member.awaiting_join.take() {
                step.join(token, answer);
            }
            self.heard_of(step, &id);
        }
    }

    /// Dynamic members that have not come back are out; static ones have their session.
    fn drop_absent_members(&mut self, step: &mut Step<'_>) {
        let absent: Vec<MemberId> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in absent {
            self.remove_member(step, &id);
        }
    }

    fn become_empty(&mut self, step: &mut Step<'_>) {
        self.generation = self.next_generation();
        self.protocol_name = None;
        self.subscribed = self.compute_subscribed();
        self.transition(State::Empty, step.now);
        let (group, generation) = (self.id.clone(), self.generation);
        step.event(GroupEvent::GroupEmptied { group: group.clone(), generation });
        let record = self.empty_record();
        step.append(Pending::Emptied { group, generation }, vec![record]);
    }

    fn next_generation(&self) -> i32 {
        // After two thousand million generations they start again, as Kafka's counter would not.
        self.generation.checked_add(1).unwrap_or(1).max(self.generation_floor)
    }

    fn is_reserved(&self, generation: i32) -> bool {
        self.persisted_generation.is_some_and(|persisted| {
            i64::from(generation) < i64::from(persisted) + i64::from(GENERATION_STRIDE)
        })
    }

    /// Writes the group down, before a generation is given out that a reload could give out again.
    /// This is also how the log first hears of a group.
    fn reserve_generation(&mut self, step: &mut Step<'_>) {
        let next = self.next_generation();
        let State::PreparingRebalance(phase) = &mut self.state else { return };
        phase.deadline = None;
        if std::mem::replace(&mut phase.reserving, true) {
            return;
        }
        let generation = next - 1;
        let mut record = self.empty_record();
        if let super::records::CoordinatorRecord::GroupMetadata { value: Some(value), .. } =
            &mut record
        {
            value.generation = generation;
        }
        step.append(Pending::Reserve { group: self.id.clone(), generation }, vec![record]);
    }

    /// The reservation is durable, or has failed.
    pub(super) fn on_reserved(
        &mut self,
        step: &mut Step<'_>,
        generation: i32,
        result: Result<(), ErrorCode>,
    ) {
        if result.is_ok() {
            self.persisted_generation = self.persisted_generation.max(Some(generation));
        }
        let State::PreparingRebalance(phase) = &mut self.state else { return };
        if !std::mem::replace(&mut phase.reserving, false) {
            return;
        }
        match result {
            Ok(()) => self.complete_join(step),
            Err(error) => self.fail_join(step, metadata_error(error)),
        }
    }

    /// Nobody can be let in: those who wait are told so, and those who were new are out.
    fn fail_join(&mut self, step: &mut Step<'_>, error: ErrorCode) {
        let waiting: Vec<(MemberId, bool)> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_some())
            .map(|member| (member.id.clone(), member.is_new))
            .collect();
        for (id, is_new) in waiting {
            let member = self.members.get_mut(&id).expect("listed above");
            if let Some(token) = member.awaiting_join.take() {
                let id = if is_new { "" } else { &id };
                step.join(token, JoinAnswer::error(error, id));
            }
            if is_new {
                self.take_member(&id);
            } else {
                self.heard_of(step, &id);
            }
        }
        if self.members.is_empty() {
            self.protocol_name = None;
            self.subscribed = self.compute_subscribed();
            self.transition(State::Empty, step.now);
        } else {
            self.arm_join(step, self.rebalance_timeout_ms().max(1));
        }
    }

    /// A static member is back without its member id: it gets a new one, whoever holds the old one
    /// is fenced, and the group goes on if nothing else has changed (KIP-345).
    fn replace_static(
        &mut self,
        step: &mut Step<'_>,
        join: Join,
        old_id: &str,
        new_id: MemberId,
        token: Token,
    ) {
        let old_leader = self.leader.as_deref().unwrap_or_default().to_owned();
        let old_protocol = self.protocol_name.clone();
        let old = self.rename_static(step, old_id, &new_id);
        let topics_change = self.topics_change(&old, &join.protocols);
        let reason =
            format!("static member {new_id} replaces {old_id}{}", told(join.reason.as_deref()));
        self.update_member(
            &new_id,
            join.protocols,
            join.rebalance_timeout_ms,
            join.session_timeout_ms,
        );
        self.heard_of(step, &new_id);
        self.await_join(step, &new_id, token);
        match self.state {
            State::Stable(_) if !topics_change && self.choose_protocol() == old_protocol => {
                let assignments: BTreeMap<MemberId, Bytes> = self
                    .members
                    .values()
                    .map(|member| (member.id.clone(), member.assignment.clone()))
                    .collect();
                let record = self.metadata_record(&assignments);
                let replacement = Replacement {
                    group: self.id.clone(),
                    generation: self.generation,
                    old,
                    new_id,
                    token,
                    old_leader,
                    supports_skipping_assignment: join.supports_skipping_assignment,
                };
                step.append(Pending::Replacement(Box::new(replacement)), vec![record]);
            }
            // In the middle of a rebalance the leader may already know the old id.
            State::CompletingRebalance { .. } | State::Stable(_) => {
                self.prepare_rebalance(step, RebalanceCause::Replaced, &reason);
            }
            State::PreparingRebalance(_) => self.maybe_complete_join(step),
            State::Empty | State::Dead => unreachable!("a group with a member is neither"),
        }
    }

    /// Whether a returning static member subscribes to other topics than before. Kafka looks only
    /// at the protocol's name and leaves such a member with its old partitions.
    fn topics_change(&self, old: &Member, protocols: &[Protocol]) -> bool {
        if self.protocol_type.as_deref() != Some(subscription::CONSUMER) {
            return false;
        }
        let Some(name) = self.protocol_name.as_deref() else { return false };
        let Some(new) = protocols.iter().find(|protocol| protocol.name == name) else {
            return true;
        };
        let before = subscription::subscribed_topics(&old.metadata(name));
        let after = subscription::subscribed_topics(&new.metadata);
        before.is_some() && after.is_some() && before != after
    }

    /// Moves a static member to a new id and fences whoever waits under the old one. Returns the
    /// member as it was, without its waiting requests.
    fn rename_static(&mut self, step: &mut Step<'_>, old_id: &str, new_id: &MemberId) -> Member {
        let was_leader = self.is_leader(old_id);
        let mut old = self.take_member(old_id).expect("a static id names a member");
        if let Some(token) = old.awaiting_join.take() {
            step.join(token, JoinAnswer::error(ErrorCode::FencedInstanceId, old_id));
        }
        if let Some(token) = old.awaiting_sync.take() {
            step.sync(token, super::effect::SyncAnswer::error(ErrorCode::FencedInstanceId));
        }
        let mut renamed = old.clone();
        renamed.id = new_id.clone();
        renamed.session = Session::default();
        self.add_member(renamed);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        if let State::CompletingRebalance { sync, .. } | State::Stable(sync) = &mut self.state
            && sync.unsynced.remove(old_id)
        {
            sync.unsynced.insert(new_id.clone());
        }
        old
    }

    /// The replacement of a static member is durable, or has failed.
    pub(super) fn on_replaced(
        &mut self,
        step: &mut Step<'_>,
        replacement: Replacement,
        result: Result<(), ErrorCode>,
    ) {
        let Replacement { generation, old, new_id, token, old_leader, .. } = replacement;
        let is_waiting =
            self.members.get(&new_id).is_some_and(|member| member.awaiting_join == Some(token));
        // A rebalance that began meanwhile has taken the request over.
        if !matches!(self.state, State::Stable(_)) || self.generation != generation || !is_waiting {
            return;
        }
        let member = self.members.get_mut(&new_id).expect("found above");
        member.awaiting_join = None;
        match result {
            Ok(()) => {
                let is_leader = self.is_leader(&new_id);
                let mut answer = self.join_answer(&new_id);
                if replacement.supports_skipping_assignment {
                    answer.skip_assignment = is_leader;
                } else {
                    answer.members = Vec::new();
                    answer.leader = old_leader;
                }
                step.join(token, answer);
            }
            Err(error) => {
                let mut answer = JoinAnswer::error(metadata_error(error), "");
                answer.generation = self.generation;
                answer.leader = old_leader;
                step.join(token, answer);
                let old_id = old.id.clone();
                self.rename_static(step, &new_id, &old_id);
                let (rebalance_ms, session_ms) = (old.rebalance_timeout_ms, old.session_timeout_ms);
                self.update_member(&old_id, old.protocols, rebalance_ms, session_ms);
                self.heard_of(step, &old_id);
            }
        }
    }
}

fn told(reason: Option<&str>) -> String {
    match reason {
        Some(reason) if !reason.is_empty() => format!(" ({reason})"),
        _ => String::new(),
    }
}
